//! Formats sizes, rates and times for the user, and the items of a status line. Pure. [`rates`] turns counters into smoothed
//! rates.

mod rates;

use std::time::Duration;

use crate::util::units::UNITS;
use btsync::{SeedGoal, Snapshot, Stage};

pub use crate::util::units::{count, size};
pub use rates::{EtaEstimate, Meter, Rates};

/// The name of a stage that has no text of its own, because a later version of the library adds it.
pub fn stage_name(stage: Stage) -> String {
    format!("{stage:?}").to_ascii_lowercase()
}

/// The number of metadata pieces received and in all; a question mark while the number is unknown.
pub fn metadata_pieces((have, of): (usize, usize)) -> String {
    if of == 0 { "0/?".to_owned() } else { format!("{have}/{of}") }
}

/// Formats a rate in bytes per second: "92.1 MiB/s".
pub fn rate(bytes_per_second: f64) -> String {
    size(bytes_per_second.max(0.0).round() as u64) + "/s"
}

/// Formats a part of a total in the unit of the total: "460.1/700.0 MiB". Rounds the part down, so that it never looks
/// complete.
pub fn part_of_total(have: u64, total: u64) -> String {
    let whole = size(total);
    let (number, unit) = whole.split_once(' ').unwrap_or((&whole, "B"));
    let power = UNITS.iter().position(|name| *name == unit).unwrap_or_default();
    if power == 0 {
        return format!("{have}/{total} B");
    }
    let tenths = (have as f64 * 10.0 / (1u64 << (10 * power)) as f64).floor();
    format!("{:.1}/{number} {unit}", tenths / 10.0)
}

/// Formats a percentage: "45.2%"; "100.0%" only if complete.
pub fn percent(have: u64, total: u64) -> String {
    if have >= total {
        return "100.0%".to_owned();
    }
    let tenths = (u128::from(have) * 1000 / u128::from(total.max(1))) as u64;
    format!("{}.{}%", tenths / 10, tenths % 10)
}

/// Formats a duration in at most two units: "0.4s", "42s", "3m 05s", "2h 07m", "4d 3h".
pub fn duration(time: Duration) -> String {
    let s = time.as_secs();
    match s {
        0..10 => format!("{:.1}s", time.as_secs_f64().min(9.9)),
        10..60 => format!("{s}s"),
        60..3600 => format!("{}m {:02}s", s / 60, s % 60),
        3600..86_400 => format!("{}h {:02}m", s / 3600, s / 60 % 60),
        _ => format!("{}d {}h", s / 86_400, s / 3600 % 24),
    }
}

/// Formats the time left with a plausible precision: seconds below one minute, then steps of 5 seconds, minutes from 10
/// minutes on; "-" if unknown.
pub fn eta(seconds: f64) -> String {
    let seconds = seconds.ceil();
    match seconds {
        0.0..60.0 => format!("{seconds}s"),
        60.0..600.0 => duration(Duration::from_secs((seconds as u64).next_multiple_of(5))),
        600.0..3570.0 => format!("{}m", (seconds / 60.0).round()),
        3570.0..8_640_000.0 => duration(Duration::from_secs(seconds as u64)),
        _ => "-".to_owned(),
    }
}

/// A text and its rank: if space is short, texts with the highest rank are left out first.
pub type StatusItem = (u8, String);

/// The share ratio: bytes uploaded in all runs, divided by [`Snapshot::total`].
pub fn ratio(now: &Snapshot) -> String {
    format!("ratio {:.2}", now.total_uploaded as f64 / now.total.max(1) as f64)
}

/// The progress, rate and time left of work that reads and hashes.
pub fn hashing(what: &str, (done, all): (u64, u64), bytes_per_second: f64, eta: &str) -> Vec<StatusItem> {
    let speed = rate(bytes_per_second);
    vec![
        (0, format!("{what} {}", percent(done, all))),
        (3, part_of_total(done, all)),
        (2, speed),
        (1, format!("eta {eta}")),
    ]
}

/// The ratio and the seeding time, each with its goal: "ratio 0.42 of 2.00", "for 5m 03s of 1h 00m".
pub fn seeding(now: &Snapshot, rates: &Rates, goal: SeedGoal) -> [String; 2] {
    let goal = if goal.is_forever { SeedGoal::default() } else { goal };
    let of = |goal: Option<String>| goal.map_or_else(String::new, |goal| format!(" of {goal}"));
    [
        format!("{}{}", ratio(now), of(goal.ratio.map(|goal| format!("{goal:.2}")))),
        format!("for {}{}", duration(rates.seeding_time()), of(goal.time.map(duration))),
    ]
}

/// Joins items into one line.
pub fn join(items: &[StatusItem]) -> String {
    items.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join(", ")
}

/// The active and connected peers, and the web seeds if there are any.
pub(crate) fn peers_and_web_seeds(now: &Snapshot) -> String {
    let peers = format!("peers {}/{}", now.active_peers, now.connected_peers);
    if now.web_seeds > 0 { format!("{peers} web {}", now.web_seeds) } else { peers }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_the_unit_that_fits() {
        let pairs = [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_048_575, "1.0 MiB"), (1 << 30, "1.0 GiB")];
        for (bytes, text) in pairs {
            assert_eq!(size(bytes), text);
        }
        assert!(size(u64::MAX).ends_with(" TiB"));
        assert_eq!((rate(0.4), rate(96_573_849.6)), ("0 B/s".to_owned(), "92.1 MiB/s".to_owned()));
    }

    #[test]
    fn a_part_is_in_the_unit_of_the_whole_and_never_looks_whole() {
        assert_eq!(part_of_total(0, 5_000_000), "0.0/4.8 MiB");
        assert_eq!(part_of_total(482_449_818, 1 << 30), "0.4/1.0 GiB");
        assert_eq!(part_of_total(482_449_818, 700 << 20), "460.1/700.0 MiB");
        assert_eq!(part_of_total((1 << 30) - 1, 1 << 30), "0.9/1.0 GiB");
        assert_eq!(part_of_total((1 << 20) - 1, (1 << 20) - 1), "0.9/1.0 MiB");
        assert_eq!((part_of_total(5, 900), part_of_total(5, 9000)), ("5/900 B".to_owned(), "0.0/8.8 KiB".to_owned()));
        assert_eq!(part_of_total(0, 20 << 30), "0.0/20.0 GiB");
        assert_eq!(part_of_total(0, 0), "0/0 B");
        assert!(part_of_total(1, u64::MAX).ends_with(" TiB"));
    }

    #[test]
    fn a_hundred_percent_means_all() {
        assert_eq!(percent(999_999, 1_000_000), "99.9%");
        assert_eq!((percent(0, 0), percent(7, 7), percent(0, 3)), ("100.0%".into(), "100.0%".into(), "0.0%".into()));
        assert_eq!(percent(u64::MAX - 1, u64::MAX), "99.9%");
    }

    #[test]
    fn times_have_two_units_at_most() {
        let pairs = [(12, "12s"), (185, "3m 05s"), (7620, "2h 07m"), (356_400, "4d 3h")];
        for (s, text) in pairs {
            assert_eq!(duration(Duration::from_secs(s)), text);
        }
        assert_eq!(duration(Duration::from_millis(400)), "0.4s");
        let pairs = [
            (5.3, "6s"),
            (f64::INFINITY, "-"),
            (f64::NAN, "-"),
            (181.0, "3m 05s"),
            (1234.0, "21m"),
            (7621.0, "2h 07m"),
            (1e12, "-"),
        ];
        for (s, text) in pairs {
            assert_eq!(eta(s), text);
        }
    }
}
