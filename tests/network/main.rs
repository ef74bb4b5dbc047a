//! Tests of peer discovery and connections: trackers, the DHT, local discovery, block lists, proxies, anonymity, encryption, TLS, private torrents, network
//! failures.

#[path = "../common/mod.rs"]
mod common;

mod anonymous;
mod block_list;
mod descriptors;
mod dht;
mod doctor;
mod encryption;
mod faults;
mod finding;
mod hole_punching;
mod lsd;
mod port_mapping;
mod private;
mod proxy;
mod proxy_dht;
mod proxy_environment;
mod proxy_service;
mod tls;
mod tracker;
mod web_seed_addresses;
mod web_seed_habits;
mod web_seed_pace;
mod web_seeds;
mod web_servers;
