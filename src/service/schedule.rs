//! When the alternative limits are in force by the schedule. Pure, but for the local time.

use crate::service::settings::AlternativeLimits;

/// A moment of the week in local time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime {
    /// 0 is Sunday.
    pub weekday: u8,
    /// Minutes after midnight.
    pub minute: u16,
}

/// Minutes of a day.
const DAY: u16 = 24 * 60;

impl LocalTime {
    /// The local time `seconds` after the start of 1970 where clocks are `offset` seconds ahead of UTC.
    pub fn from_unix(seconds: i64, offset: i32) -> LocalTime {
        let minutes = (seconds.saturating_add(i64::from(offset))).div_euclid(60);
        let days = minutes.div_euclid(i64::from(DAY));
        // The first of January 1970 was a Thursday.
        let weekday = u8::try_from((days + 4).rem_euclid(7)).unwrap_or(0);
        LocalTime { weekday, minute: u16::try_from(minutes.rem_euclid(i64::from(DAY))).unwrap_or(0) }
    }

    /// The local time now, by `TZ` or `/etc/localtime`; UTC if neither is usable.
    pub fn now(seconds: i64) -> LocalTime {
        let zone = tz::TimeZone::local();
        let offset = zone.ok().and_then(|zone| Some(zone.find_local_time_type(seconds).ok()?.ut_offset()));
        LocalTime::from_unix(seconds, offset.unwrap_or(0))
    }
}

/// Whether the schedule, if it is on, asks for the alternative limits at this time. A span over midnight belongs to the day on
/// which it begins; a span that ends when it begins lasts all day.
pub fn is_alt_speed_scheduled(limits: &AlternativeLimits, now: LocalTime) -> bool {
    let (begin, end) = (limits.begin % DAY, limits.end % DAY);
    let has = |weekday: u8| limits.days & (1 << (weekday % 7)) != 0;
    let yesterday = (now.weekday + 6) % 7;
    if begin == end {
        return has(now.weekday);
    }
    if begin < end {
        return has(now.weekday) && (begin..end).contains(&now.minute);
    }
    (has(now.weekday) && now.minute >= begin) || (has(yesterday) && now.minute < end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(weekday: u8, hour: u16, minute: u16) -> LocalTime {
        LocalTime { weekday, minute: hour * 60 + minute }
    }

    #[test]
    fn local_times_count_from_a_thursday() {
        assert_eq!(LocalTime::from_unix(0, 0), at(4, 0, 0));
        assert_eq!(LocalTime::from_unix(0, -60), at(3, 23, 59));
        assert_eq!(LocalTime::from_unix(1_764_288_000, 3 * 3600), at(5, 3, 0), "2025-11-28");
        assert!(LocalTime::now(1_764_288_000).minute < DAY);
    }

    #[test]
    fn a_span_belongs_to_the_day_on_which_it_begins() {
        let mut limits = AlternativeLimits { begin: 9 * 60, end: 17 * 60, days: 0b010, ..AlternativeLimits::default() };
        assert!(is_alt_speed_scheduled(&limits, at(1, 9, 0)) && is_alt_speed_scheduled(&limits, at(1, 16, 59)));
        assert!(
            !is_alt_speed_scheduled(&limits, at(1, 8, 59))
                && !is_alt_speed_scheduled(&limits, at(1, 17, 0))
                && !is_alt_speed_scheduled(&limits, at(2, 9, 0))
        );
        (limits.begin, limits.end) = (22 * 60, 6 * 60);
        assert!(is_alt_speed_scheduled(&limits, at(1, 22, 0)) && is_alt_speed_scheduled(&limits, at(2, 5, 59)));
        assert!(!is_alt_speed_scheduled(&limits, at(1, 5, 59)) && !is_alt_speed_scheduled(&limits, at(2, 22, 0)));
        (limits.begin, limits.end) = (60, 60);
        assert!(is_alt_speed_scheduled(&limits, at(1, 0, 0)) && !is_alt_speed_scheduled(&limits, at(2, 0, 0)));
    }
}
