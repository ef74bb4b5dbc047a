//! One-way delay above the base delay (RFC 6817): how long packets wait in queues. The clocks of two machines differ, so only changes
//! of the measured delay mean something: the smallest one of the last minutes is that of the path without a queue.

use crate::utp::UtpTime;

/// How many minutes a minimum is remembered (RFC 6817: `BASE_HISTORY`).
const MINUTES: usize = 13;
const MINUTE: u64 = 60_000_000;

/// The smallest delay of each of the last minutes. Delays wrap around, because clocks do.
#[derive(Clone, Copy, Debug, Default)]
pub struct BaseDelay {
    minutes: [u32; MINUTES],
    /// How many of them have a value. The first is the current one.
    count: usize,
    base: u32,
    minute_began: UtpTime,
}

/// Whether a delay is smaller than another, modulo 2^32.
fn is_less(one: u32, other: u32) -> bool {
    one.wrapping_sub(other).cast_signed() < 0
}

impl BaseDelay {
    /// Adds a measurement. Returns by how much it exceeds the smallest one.
    pub fn add(&mut self, now: UtpTime, sample: u32) -> u32 {
        if self.count == 0 || now.since(self.minute_began) >= MINUTE {
            self.minutes.rotate_right(1);
            self.minutes[0] = sample;
            self.count = (self.count + 1).min(MINUTES);
            self.minute_began = now;
            self.find_base();
        } else if is_less(sample, self.minutes[0]) {
            self.minutes[0] = sample;
            if is_less(sample, self.base) {
                self.base = sample;
            }
        }
        sample.wrapping_sub(self.base)
    }

    fn find_base(&mut self) {
        let known = &self.minutes[..self.count];
        let smaller = |one: u32, other: u32| if is_less(other, one) { other } else { one };
        self.base = known.iter().copied().reduce(smaller).unwrap_or_default();
    }

    /// The smallest delay. None before the first measurement.
    pub fn base(&self) -> Option<u32> {
        (self.count > 0).then_some(self.base)
    }

    /// Corrects all delays for the drift of the clocks.
    pub fn shift(&mut self, by: u32) {
        for minute in &mut self.minutes[..self.count] {
            *minute = minute.wrapping_add(by);
        }
        self.base = self.base.wrapping_add(by);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_count_from_the_smallest_even_where_clocks_wrap() {
        for offset in [0, 5_000, u32::MAX - 100, 0x7fff_ffff, 0x8000_0000] {
            let mut history = BaseDelay::default();
            assert_eq!(history.base(), None);
            let mut add = |delay: u32| history.add(UtpTime(0), offset.wrapping_add(delay));
            assert_eq!([add(500), add(700), add(300), add(900), add(300)], [0, 200, 0, 600, 0], "{offset}");
            assert_eq!(history.base(), Some(offset.wrapping_add(300)));
            history.shift(50);
            assert_eq!(history.add(UtpTime(0), offset.wrapping_add(400)), 50);
        }
    }

    #[test]
    fn a_smallest_delay_is_forgotten_after_minutes() {
        let mut history = BaseDelay::default();
        history.add(UtpTime(0), 100);
        for minute in 1..MINUTES as u64 {
            assert_eq!(history.add(UtpTime(minute * MINUTE), 300), 200, "{minute}");
        }
        assert_eq!(history.add(UtpTime(MINUTES as u64 * MINUTE), 300), 0);
        assert_eq!(history.add(UtpTime(MINUTES as u64 * MINUTE + 1), 250), 0);
    }
}
