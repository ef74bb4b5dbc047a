//! Rate limits as users set them: in kilobytes per second, and without being in force.

use serde::{Deserialize, Serialize};

use crate::strategy::rate_limiter::Limits;

/// A rate limit that can be set without being in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    /// The limit in KB/s (1,000 bytes per second).
    pub kilobytes: u32,
    /// Whether it is in force.
    #[serde(rename = "enabled")]
    pub is_enabled: bool,
}

/// Bytes in Transmission's kilobyte.
pub const KILOBYTE: u64 = 1000;

impl RateLimit {
    /// A limit of this many bytes per second, in whole kilobytes; 0 for none.
    pub fn from_bytes(bytes: u64) -> RateLimit {
        RateLimit { kilobytes: u32::try_from(bytes.div_ceil(KILOBYTE)).unwrap_or(u32::MAX), is_enabled: bytes > 0 }
    }

    /// The limit in bytes per second: 0 for none, and at least 1 if a limit is in force.
    pub fn bytes(self) -> u64 {
        if self.is_enabled { (u64::from(self.kilobytes) * KILOBYTE).max(1) } else { 0 }
    }
}

/// The limits of both directions.
pub fn rate_limits(down: RateLimit, up: RateLimit) -> Limits {
    Limits { down: down.bytes(), up: up.bytes() }
}
