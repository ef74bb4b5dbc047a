//! A `BitTorrent` client of plain threads, blocking sockets and no runtime.
//!
//! The modules, from the lowest up; each imports only from those before it (ARCHITECTURE.md has the whole picture):
//! [`util`], [`types`], [`net`], [`bencode`], [`metainfo`], [`wire`], [`mse`], [`strategy`] (pure decisions), [`storage`],
//! [`pieces`], [`discovery`], [`tracker_server`], [`peer`], `client`, [`torrent`].

pub mod bencode;
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
