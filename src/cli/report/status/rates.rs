//! Smoothed rates from counters, and estimates of the time left. Pure: callers pass the time.

use std::time::Duration;

use crate::cli::report::status::{StatusItem, duration, eta, rate, ratio, size};
use btsync::{Snapshot, Stage};

/// An estimate is kept while it differs from the new one by at most this share of the time left, or by
/// 2 seconds if that is more.
const ETA_TOLERANCE: f64 = 0.15;
/// The shortest download for which an average rate is shown.
const MIN_TIMED_DOWNLOAD: Duration = Duration::from_millis(500);
/// The rate of a counter is 0 if it has not changed for this long.
const IDLE_AFTER: Duration = Duration::from_secs(3);

/// An estimate of when the download completes, in the time of the updates. It is kept while it is about right, so that the
/// time left counts down steadily.
#[derive(Clone, Debug, Default)]
pub struct EtaEstimate(Option<f64>);

impl EtaEstimate {
    /// Updates the estimate: at the time `at`, `left` bytes are left.
    pub fn update(&mut self, at: Duration, left: u64, bytes_per_second: f64) {
        let at = at.as_secs_f64();
        let fresh = left as f64 / bytes_per_second;
        let near = |over: f64| over >= at && (over - at - fresh).abs() <= (fresh * ETA_TOLERANCE).max(2.0);
        if !fresh.is_finite() {
            self.0 = None;
        } else if !self.0.is_some_and(near) {
            self.0 = Some(at + fresh);
        }
    }

    /// The time left as text.
    pub fn eta(&self, at: Duration) -> String {
        self.0.map_or_else(|| eta(f64::NAN), |over| eta((over - at.as_secs_f64()).max(0.0)))
    }
}

/// A rate from a counter: an exponential moving average.
#[derive(Clone, Debug)]
pub struct Meter {
    fade: f64,
    sum: f64,
    weight: f64,
    last: Option<(Duration, u64)>,
    /// The time when the counter last changed.
    last_change: Duration,
}

impl Meter {
    /// A meter in which the weight of a sample falls to 37 % within `fade`.
    pub fn new(fade: Duration) -> Meter {
        Meter { fade: fade.as_secs_f64(), sum: 0.0, weight: 0.0, last: None, last_change: Duration::ZERO }
    }

    /// Adds a sample: the counter's value at the time `at`.
    pub fn update(&mut self, at: Duration, count: u64) {
        let Some((then, before)) = self.last else {
            self.last = Some((at, count));
            return;
        };
        let seconds = at.saturating_sub(then).as_secs_f64();
        // A rate over a shorter interval would be noise.
        if seconds < 0.02 {
            return;
        }
        let keep = (-seconds / self.fade).exp();
        self.sum = self.sum * keep + (1.0 - keep) * count.saturating_sub(before) as f64 / seconds;
        self.weight = self.weight * keep + (1.0 - keep);
        self.last = Some((at, count));
        if count != before {
            self.last_change = at;
        }
    }

    /// The rate per second. It is 0 until there are two samples, and once the counter has not changed for some seconds, as
    /// an average would show a stopped transfer as slowing down.
    pub fn rate(&self) -> f64 {
        let still = self.last.is_some_and(|(at, _)| at.saturating_sub(self.last_change) >= IDLE_AFTER);
        if self.weight > 0.0 && !still { self.sum / self.weight } else { 0.0 }
    }
}

/// The rates of a torrent, from its snapshots.
#[derive(Clone, Debug)]
pub struct Rates {
    down: Meter,
    up: Meter,
    check: Meter,
    /// Useful bytes, smoothed over a longer time, so that the estimate of the time left is stable.
    steady: Meter,
    eta_estimate: EtaEstimate,
    check_eta_estimate: EtaEstimate,
    /// The time of the last update.
    at: Duration,
    started_at: Option<Duration>,
    completed_at: Option<Duration>,
}

impl Default for Rates {
    fn default() -> Rates {
        let quick = Meter::new(Duration::from_secs(2));
        let steady = Meter::new(Duration::from_secs(10));
        let (eta_estimate, check_eta_estimate) = <(EtaEstimate, EtaEstimate)>::default();
        let (down, up, check, at) = (quick.clone(), quick.clone(), quick, Duration::ZERO);
        Rates { down, up, check, steady, eta_estimate, check_eta_estimate, at, started_at: None, completed_at: None }
    }
}

impl Rates {
    /// Starts the download's clock unless it runs, so that a download that completes before the second snapshot has a
    /// duration too.
    pub fn start_clock(&mut self, at: Duration) {
        if self.started_at.is_none() {
            self.started_at = Some(at);
            // All counters were 0 before, so the first snapshot already gives a rate.
            for meter in [&mut self.down, &mut self.up, &mut self.steady] {
                meter.update(at, 0);
            }
        }
    }

    /// Adds a snapshot taken at the time `at`.
    pub fn update(&mut self, at: Duration, now: &Snapshot) {
        let (checked, all) = now.checked;
        self.check.update(at, checked);
        self.check_eta_estimate.update(at, all.saturating_sub(checked), self.check.rate());
        self.at = at;
        if matches!(now.stage, Stage::Starting | Stage::Checking) {
            return;
        }
        self.start_clock(at);
        if now.have >= now.total {
            self.completed_at.get_or_insert(at);
        }
        self.down.update(at, now.downloaded);
        self.up.update(at, now.uploaded);
        self.steady.update(at, now.downloaded.saturating_sub(now.wasted));
        self.eta_estimate.update(at, now.total.saturating_sub(now.have), self.steady.rate());
    }

    /// The download rate in bytes per second.
    pub fn down(&self) -> f64 {
        self.down.rate()
    }

    /// The upload rate in bytes per second.
    pub fn up(&self) -> f64 {
        self.up.rate()
    }

    /// The rate of the check in bytes per second.
    pub fn check(&self) -> f64 {
        self.check.rate()
    }

    /// The time since the download completed.
    pub fn seeding_time(&self) -> Duration {
        self.completed_at.map_or(Duration::ZERO, |since| self.at.saturating_sub(since))
    }

    /// The time left of the download as text.
    pub fn eta(&self) -> String {
        self.eta_estimate.eta(self.at)
    }

    /// The time left of the check as text.
    pub fn check_eta(&self) -> String {
        self.check_eta_estimate.eta(self.at)
    }

    /// The summary of a complete download: size, duration, average rate and upload.
    pub fn summary(&self, now: &Snapshot) -> Vec<StatusItem> {
        let mut items = vec![(0, size(now.total))];
        match (self.started_at, self.completed_at) {
            (Some(started_at), Some(completed_at)) if now.downloaded > 0 => {
                let took = completed_at.saturating_sub(started_at);
                let fetched = format!("downloaded {}", size(now.downloaded));
                // The average over a shorter time means little.
                if took < MIN_TIMED_DOWNLOAD {
                    items.push((1, fetched));
                } else {
                    let speed = rate(now.downloaded as f64 / took.as_secs_f64());
                    items.push((1, format!("{fetched} in {}", duration(took))));
                    items.push((5, format!("{speed} on average")));
                }
            }
            _ if now.uploaded == 0 => items.push((1, "all data was already on disk".to_owned())),
            _ => {}
        }
        if now.uploaded > 0 {
            items.push((4, format!("sent {}", size(now.total_uploaded))));
            items.push((3, ratio(now)));
        }
        items
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::report::status::{join, seeding};
    use btsync::SeedGoal;

    #[test]
    fn a_time_left_counts_down_and_does_not_jump() {
        let s = Duration::from_secs;
        let mut eta_estimate = EtaEstimate::default();
        eta_estimate.update(s(0), 1000, 10.0);
        let over = eta_estimate.0;
        assert_eq!(over, Some(100.0));
        for (at, left, rate) in [(1, 990, 9.0), (2, 980, 11.0), (3, 970, 9.5), (50, 520, 10.0)] {
            eta_estimate.update(s(at), left, rate);
            assert_eq!(eta_estimate.0, over, "about right at {at}");
        }
        eta_estimate.update(s(51), 500, 5.0);
        assert_eq!(eta_estimate.0, Some(151.0), "half as fast is news");
        eta_estimate.update(s(160), 10, 100.0);
        assert!(eta_estimate.0.is_some_and(|over| over > 160.0), "the download is later than estimated");
        eta_estimate.update(s(161), 10, 0.0);
        assert_eq!(eta_estimate.0, None);
    }

    #[test]
    fn a_meter_finds_a_constant_rate_at_once_and_forgets_an_old_one() {
        let mut meter = Meter::new(Duration::from_secs(2));
        meter.update(Duration::ZERO, 500);
        assert!(meter.rate() < 1e-9);
        meter.update(Duration::from_secs(1), 1500);
        assert!((meter.rate() - 1000.0).abs() < 1e-6);
        for s in 2..32 {
            meter.update(Duration::from_secs(s), 1500);
        }
        assert!(meter.rate() < 1.0);
    }

    fn at_stage(stage: Stage, have: u64, downloaded: u64) -> Snapshot {
        Snapshot { stage, total: 1000, have, downloaded, ..Snapshot::default() }
    }

    #[test]
    fn the_check_does_not_count_as_download_time() {
        let mut rates = Rates::default();
        rates.update(Duration::ZERO, &at_stage(Stage::Checking, 0, 0));
        rates.update(Duration::from_secs(100), &at_stage(Stage::Downloading, 0, 0));
        rates.update(Duration::from_secs(101), &at_stage(Stage::Downloading, 100, 100));
        assert_eq!(rates.eta(), "9s");
        rates.update(Duration::from_secs(110), &at_stage(Stage::Seeding, 1000, 1000));
        rates.update(Duration::from_secs(500), &at_stage(Stage::Seeding, 1000, 1000));
        let summary = rates.summary(&at_stage(Stage::Seeding, 1000, 1000));
        assert_eq!(join(&summary), "1000 B, downloaded 1000 B in 10s, 100 B/s on average");
        let mut rates = Rates::default();
        rates.start_clock(Duration::ZERO);
        rates.update(Duration::from_millis(3), &at_stage(Stage::Seeding, 1000, 1000));
        assert_eq!(join(&rates.summary(&at_stage(Stage::Seeding, 1000, 1000))), "1000 B, downloaded 1000 B");
    }

    #[test]
    fn an_idle_transfer_has_no_rate_and_no_time_left() {
        let mut meter = Meter::new(Duration::from_secs(10));
        for s in 0..10 {
            meter.update(Duration::from_secs(s), s * 1000);
        }
        meter.update(Duration::from_secs(11), 9000);
        assert!(meter.rate() > 100.0);
        meter.update(Duration::from_secs(12), 9000);
        assert!(meter.rate() < 1e-9);
        meter.update(Duration::from_secs(13), 10_000);
        assert!(meter.rate() > 100.0);
    }

    #[test]
    fn seeding_stands_against_its_goals() {
        let (mut rates, mut now) = (Rates::default(), at_stage(Stage::Seeding, 1000, 0));
        now.total_uploaded = 420;
        rates.update(Duration::from_secs(7), &now);
        rates.update(Duration::from_secs(310), &now);
        let (none, hour) = (SeedGoal::default(), Duration::from_secs(3600));
        let both = SeedGoal { ratio: Some(2.0), time: Some(hour), ..none };
        assert_eq!(seeding(&now, &rates, none), ["ratio 0.42", "for 5m 03s"]);
        assert_eq!(seeding(&now, &rates, both), ["ratio 0.42 of 2.00", "for 5m 03s of 1h 00m"]);
        let forever = SeedGoal { is_forever: true, ..both };
        assert_eq!(seeding(&now, &rates, forever), ["ratio 0.42", "for 5m 03s"], "the others do not count");
    }

    #[test]
    fn nothing_fetched_is_said_so() {
        let mut rates = Rates::default();
        rates.update(Duration::ZERO, &at_stage(Stage::Seeding, 1000, 0));
        let mut now = at_stage(Stage::Seeding, 1000, 0);
        assert_eq!(join(&rates.summary(&now)), "1000 B, all data was already on disk");
        (now.uploaded, now.total_uploaded) = (1500, 1500);
        assert_eq!(join(&rates.summary(&now)), "1000 B, sent 1.5 KiB, ratio 1.50");
    }
}
