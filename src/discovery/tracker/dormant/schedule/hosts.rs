//! The hosts of trackers: how many announces to each are under way, and which do not answer. Pure.

use std::collections::HashMap;
use std::time::Duration;

use crate::discovery::tracker::error::TrackerError;
use crate::discovery::tracker::http::url::host;
use crate::discovery::tracker::tiers::backoff;

/// The most announces to a host under way.
const MAX_IN_FLIGHT: u32 = 2;
/// The most hosts that are remembered. Beyond that, those without an announce under way are forgotten.
const MAX_HOSTS: usize = 4096;

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Hosts(HashMap<Box<str>, HostState>);

#[derive(Default)]
struct HostState {
    in_flight: u32,
    /// Consecutive failures to reach it.
    failures: u32,
    /// Until when it is left alone.
    down_until: Duration,
}

impl Hosts {
    /// Until when the host of this URL is left alone, if it is.
    pub fn down_until(&self, url: &str, now: Duration) -> Option<Duration> {
        self.0.get(host(url)).map(|state| state.down_until).filter(|until| *until > now)
    }

    /// Whether another announce to the host may start.
    pub fn may_ask(&self, url: &str, now: Duration) -> bool {
        self.0.get(host(url)).is_none_or(|state| {
            // A host that failed is tried by one announce at a time.
            let most = if state.failures > 0 { 1 } else { MAX_IN_FLIGHT };
            state.in_flight < most && state.down_until <= now
        })
    }

    /// An announce to the host has started.
    pub fn asked(&mut self, url: &str) {
        if self.0.len() >= MAX_HOSTS {
            self.0.retain(|_, state| state.in_flight > 0);
        }
        self.0.entry(host(url).into()).or_default().in_flight += 1;
    }

    /// It has ended. Only a host that could not be reached is left alone: one that refuses a torrent may accept others.
    pub fn finished(&mut self, url: &str, error: Option<&TrackerError>, now: Duration, rng: &mut fastrand::Rng) {
        let Some(state) = self.0.get_mut(host(url)) else { return };
        state.in_flight = state.in_flight.saturating_sub(1);
        if error.is_some_and(is_unreachable) {
            state.down_until = now.saturating_add(backoff(state.failures, 0.9 + 0.2 * rng.f64()));
            state.failures = (state.failures + 1).min(16);
        } else {
            (state.failures, state.down_until) = (0, Duration::ZERO);
        }
    }
}

/// Whether the error says that the host cannot be reached at present.
fn is_unreachable(error: &TrackerError) -> bool {
    match error {
        TrackerError::Timeout | TrackerError::NameLookup { .. } | TrackerError::Connect(_) | TrackerError::Tls(_) => {
            true
        }
        TrackerError::Http(status) => *status >= 500 || *status == 429,
        TrackerError::Later { why, .. } => is_unreachable(why),
        _ => false,
    }
}
