//! How fast we connect to others. Pure.

use std::time::Duration;

/// Connections that are being made at the same time, by all sessions of the host.
pub const HALF_OPEN: usize = 120;
/// How many of them each session may have at least.
pub const LEAST_HALF_OPEN: usize = 5;

/// How long a connection may take while other addresses wait for their turn: a lost SYN is sent again after one second, and once
/// more after three.
const HURRIED: Duration = Duration::from_secs(4);
/// How long it may take otherwise.
const PATIENT: Duration = Duration::from_secs(10);

/// How long a connection may take to come about.
pub fn connect_timeout(others_wait: bool) -> Duration {
    if others_wait { HURRIED } else { PATIENT }
}
