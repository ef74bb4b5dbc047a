//! Peers, trackers and torrents that do harm on purpose.

#[path = "../common/mod.rs"]
mod common;

mod addresses;
mod data;
mod memory;
mod metadata;
mod peers;
