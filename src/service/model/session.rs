//! Sums over all torrents, and bandwidth groups.

use serde::{Deserialize, Serialize};

use crate::service::rate_limit::RateLimit;

/// The sums of the service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionStats {
    /// Torrents that transfer or check.
    pub active_torrents: usize,
    /// Stopped torrents.
    pub paused_torrents: usize,
    /// All torrents.
    pub torrents: usize,
    /// Bytes per second received now.
    pub down_rate: u64,
    /// Bytes per second sent now.
    pub up_rate: u64,
    /// Since the service was first used.
    pub cumulative: SessionSums,
    /// Since it started.
    pub current: SessionSums,
}

/// Sums of a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionSums {
    /// Payload bytes received.
    pub downloaded: u64,
    /// Payload bytes sent.
    pub uploaded: u64,
    /// Torrents added.
    pub files_added: u64,
    /// Starts of the service.
    pub sessions: u64,
    /// Seconds that it ran.
    pub seconds: u64,
}

/// A bandwidth group: limits that several torrents share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BandwidthGroup {
    /// Its name.
    pub name: String,
    /// The download limit.
    pub down_limit: RateLimit,
    /// The upload limit.
    pub up_limit: RateLimit,
    /// Whether the session's limits apply too.
    pub honors_session_limits: bool,
}

impl Default for BandwidthGroup {
    fn default() -> BandwidthGroup {
        let (down_limit, up_limit) = (RateLimit::default(), RateLimit::default());
        BandwidthGroup { name: String::new(), down_limit, up_limit, honors_session_limits: true }
    }
}

/// The state of the block list, for display.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockListView {
    /// Whether a list is in force or to be loaded.
    pub is_enabled: bool,
    /// The URL; that of the option without its secrets. Empty for a file.
    pub url: String,
    /// The number of ranges that are blocked.
    pub ranges: usize,
    /// How often an address was refused.
    pub hits: u64,
}
