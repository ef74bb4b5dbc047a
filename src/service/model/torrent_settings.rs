//! The settings of one torrent that its user may change at any time.

use serde::{Deserialize, Serialize};

use crate::service::rate_limit::RateLimit;

/// The priority of a file among the files of its torrent, or of a torrent's share of the bandwidth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// After the others.
    Low = -1,
    /// As most.
    #[default]
    Normal = 0,
    /// Before the others.
    High = 1,
}

/// A limit on seeding: the session's, one of the torrent's own, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitMode {
    /// The session's limit.
    #[default]
    Session = 0,
    /// The torrent's own limit.
    Own = 1,
    /// No limit.
    Unlimited = 2,
}

/// The settings of one torrent that its user may change at any time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TorrentSettings {
    /// The download limit in KB/s (1,000 bytes), and whether it is in force.
    pub down_limit: RateLimit,
    /// The upload limit.
    pub up_limit: RateLimit,
    /// Whether the session's limits apply too.
    pub honors_session_limits: bool,
    /// Its share of the bandwidth.
    pub bandwidth_priority: Priority,
    /// The most connections.
    pub peer_limit: u16,
    /// Which ratio ends seeding.
    pub seed_ratio_mode: LimitMode,
    /// Uploaded bytes / size at which seeding ends.
    pub seed_ratio: f64,
    /// Which idle time ends seeding.
    pub seed_idle_mode: LimitMode,
    /// Minutes without upload after which seeding ends.
    pub seed_idle_minutes: u16,
    /// Whether pieces are requested in the order of the torrent.
    #[serde(rename = "sequential")]
    pub is_sequential: bool,
    /// The user's words for the torrent; at most 64, of 128 bytes each.
    pub labels: Vec<String>,
    /// The bandwidth group, or an empty string.
    pub group: String,
}

impl Default for TorrentSettings {
    fn default() -> TorrentSettings {
        TorrentSettings {
            down_limit: RateLimit::default(),
            up_limit: RateLimit::default(),
            honors_session_limits: true,
            bandwidth_priority: Priority::Normal,
            peer_limit: 50,
            seed_ratio_mode: LimitMode::Session,
            seed_ratio: 2.0,
            seed_idle_mode: LimitMode::Session,
            seed_idle_minutes: 30,
            is_sequential: false,
            labels: Vec::new(),
            group: String::new(),
        }
    }
}
