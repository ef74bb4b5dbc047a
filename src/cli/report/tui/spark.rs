//! A sparkline: the rate of each of the last seconds as a row of bars. Pure.

use std::collections::VecDeque;
use std::time::Duration;

/// The number of seconds to keep.
const MAX_SAMPLES: usize = 180;
/// The interval between two samples.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// The rate of a counter in each second.
#[derive(Default)]
pub struct Sparkline {
    /// Bytes per second, the newest last.
    samples: VecDeque<f64>,
    last: Option<(Duration, u64)>,
}

impl Sparkline {
    /// Adds a sample: the counter's value at the time `at`.
    pub fn update(&mut self, at: Duration, count: u64) {
        let Some((then, before)) = self.last else {
            self.last = Some((at, count));
            return;
        };
        let passed = at.saturating_sub(then);
        if passed < SAMPLE_INTERVAL {
            return;
        }
        // After a pause of the process, all missed seconds get the average rate.
        let rate = count.saturating_sub(before) as f64 / passed.as_secs_f64();
        for _ in 0..(passed.as_secs() as usize).min(MAX_SAMPLES) {
            self.samples.push_back(rate);
        }
        while self.samples.len() > MAX_SAMPLES {
            self.samples.pop_front();
        }
        self.last = Some((at, count));
    }

    /// Whether all rates are 0.
    pub fn is_empty(&self) -> bool {
        self.samples.iter().all(|&rate| rate <= 0.0)
    }

    /// The highest rate of the last `width` seconds, in bytes per second.
    pub fn peak(&self, width: usize) -> f64 {
        self.samples.iter().rev().take(width).copied().fold(0.0, f64::max)
    }

    /// Draws the last `width` seconds, the newest on the right, scaled to the highest of them.
    pub fn paint(&self, width: usize, uses_unicode: bool) -> String {
        const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        const ASCII: [char; 9] = [' ', '.', '.', ':', '-', '=', '+', '*', '#'];
        let peak = self.peak(width);
        let bars = if uses_unicode { BLOCKS } else { ASCII };
        let bar = |rate: f64| {
            // Any rate above 0 is visible.
            let height = if rate > 0.0 && peak > 0.0 { (rate / peak * 8.0).round().clamp(1.0, 8.0) } else { 0.0 };
            bars.get(height as usize).copied().unwrap_or(' ')
        };
        let shown = self.samples.len().min(width);
        let blank = std::iter::repeat_n(' ', width - shown);
        blank.chain(self.samples.iter().skip(self.samples.len() - shown).map(|&rate| bar(rate))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spark(counts: &[u64]) -> Sparkline {
        let mut spark = Sparkline::default();
        for (s, &count) in counts.iter().enumerate() {
            spark.update(Duration::from_secs(s as u64), count);
        }
        spark
    }

    #[test]
    fn each_second_has_its_bar() {
        let spark = spark(&[0, 800, 1200, 1200, 1201]);
        assert_eq!(spark.paint(6, true), "  █▄ ▁");
        assert_eq!(spark.paint(6, false), "  #- .");
        assert_eq!(spark.paint(2, true), " █", "the height is that of what is seen");
        assert!((spark.peak(4) - 800.0).abs() < 1e-9 && (spark.peak(1) - 1.0).abs() < 1e-9);
        assert_eq!(spark.paint(0, true), "");
    }

    #[test]
    fn missed_samples_are_spread_and_bounded() {
        let mut spark = spark(&[0, 10]);
        spark.update(Duration::from_millis(1500), 12);
        assert_eq!(spark.paint(3, true), "  █", "half a second is too soon");
        spark.update(Duration::from_secs(4), 40);
        assert_eq!(spark.paint(5, true), " ████");
        spark.update(Duration::from_secs(1_000_000), 41);
        assert_eq!(spark.samples.len(), MAX_SAMPLES);
    }

    #[test]
    fn nothing_is_nothing() {
        assert!(Sparkline::default().is_empty() && spark(&[0, 0, 0]).is_empty() && !spark(&[0, 1]).is_empty());
        assert_eq!(spark(&[0, 0, 0]).paint(4, true), "    ");
    }
}
