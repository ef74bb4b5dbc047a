//! A `BitTorrent` client of plain threads, blocking sockets and no runtime.
//!
//! The floors, from the ground up (each imports only from those below it; ARCHITECTURE.md tells the whole story):
//! [`types`] · [`wire`], [`metainfo`], [`swarm`] (pure) · [`storage`], [`pieces`] · [`sources`], [`peer`] · [`session`] · [`cli`].

pub mod bencode;
pub mod cli;
pub(crate) mod client;
pub mod discovery;
pub mod metainfo;
pub mod mse;
pub mod net;
pub mod peer;
pub mod pieces;
pub mod storage;
pub mod strategy;
pub mod torrent;
pub mod tracker_server;
pub mod types;
pub mod util;
pub mod wire;
