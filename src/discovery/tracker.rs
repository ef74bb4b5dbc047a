//! Trackers: announces over HTTP and UDP, tiers, and when each tracker is asked.

pub mod announce;
pub(crate) mod announce_path;
pub mod client;
pub mod http;
pub mod redact;
pub mod schedule;
pub mod tiers;
pub mod udp;
