//! Finding peers and connecting to them: trackers, the DHT, local discovery, encryption, private torrents, networks that fail.

#[path = "../common/mod.rs"]
mod common;

mod dht;
mod encryption;
mod faults;
mod finding;
mod lsd;
mod private;
mod tls;
mod tracker;
