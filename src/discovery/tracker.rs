//! The tracker client: announces and scrapes over HTTP and UDP. [`tiers`] and [`schedule`] decide which tracker to announce to,
//! and when.

pub mod announce;
pub(crate) mod announce_path;
pub mod client;
pub mod dormant;
pub mod error;
pub mod http;

pub mod schedule;
pub mod tiers;
pub mod udp;
