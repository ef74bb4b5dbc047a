//! Tests against malicious peers, trackers and torrents.

#[path = "../common/mod.rs"]
mod common;

mod addresses;
mod data;
mod http_server;
mod memory;
mod metadata;
mod peers;
