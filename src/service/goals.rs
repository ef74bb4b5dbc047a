//! When a torrent of a service has seeded enough. Pure.

use std::time::Duration;

use crate::service::model::{LimitMode, TorrentSettings};
use crate::service::settings::SeedingSettings;

/// The ratio at which seeding ends, if any.
pub fn ratio_limit(own: &TorrentSettings, session: &SeedingSettings) -> Option<f64> {
    match own.seed_ratio_mode {
        LimitMode::Session => session.limits_ratio.then_some(session.ratio),
        LimitMode::Own => Some(own.seed_ratio),
        LimitMode::Unlimited => None,
    }
}

/// The time without upload after which seeding ends, if any.
pub fn idle_limit(own: &TorrentSettings, session: &SeedingSettings) -> Option<Duration> {
    let minutes = match own.seed_idle_mode {
        LimitMode::Session => session.limits_idle.then_some(session.idle_minutes),
        LimitMode::Own => Some(own.seed_idle_minutes),
        LimitMode::Unlimited => None,
    };
    minutes.map(|minutes| Duration::from_secs(u64::from(minutes) * 60))
}

/// Whether a seeding torrent has reached its goal: `uploaded` of `size` bytes, nothing sent for `idle`.
pub fn is_reached(own: &TorrentSettings, session: &SeedingSettings, uploaded: u64, size: u64, idle: Duration) -> bool {
    let by_ratio = ratio_limit(own, session).is_some_and(|limit| size > 0 && uploaded as f64 / size as f64 >= limit);
    by_ratio || idle_limit(own, session).is_some_and(|limit| idle >= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_torrents_own_limit_comes_before_the_sessions() {
        let session = SeedingSettings { ratio: 1.0, limits_ratio: true, idle_minutes: 1, limits_idle: true };
        let mut own = TorrentSettings::default();
        let reached =
            |own: &TorrentSettings, uploaded, idle| is_reached(own, &session, uploaded, 100, Duration::from_secs(idle));
        assert!(reached(&own, 100, 0) && reached(&own, 0, 60) && !reached(&own, 99, 59));
        (own.seed_ratio_mode, own.seed_ratio) = (LimitMode::Own, 2.0);
        (own.seed_idle_mode, own.seed_idle_minutes) = (LimitMode::Own, 2);
        assert!(!reached(&own, 199, 119) && reached(&own, 200, 0) && reached(&own, 0, 120));
        (own.seed_ratio_mode, own.seed_idle_mode) = (LimitMode::Unlimited, LimitMode::Unlimited);
        assert!(!reached(&own, u64::MAX, u64::MAX / 2));
    }

    #[test]
    fn without_limits_seeding_never_ends() {
        let (own, session) = (TorrentSettings::default(), SeedingSettings::default());
        assert!(!is_reached(&own, &session, u64::MAX, 1, Duration::MAX));
        assert!(!is_reached(&own, &SeedingSettings { limits_ratio: true, ..session }, 0, 0, Duration::ZERO), "no size");
    }
}
