//! A `BitTorrent` client of plain threads, blocking sockets and no runtime.
//!
//! The floors, from the ground up (each imports only from those below it; ARCHITECTURE.md tells the whole story):
//! [`types`] · [`wire`], [`metainfo`], [`swarm`] (pure) · [`storage`], [`pieces`] · [`sources`], [`peer`] · [`session`] · [`cli`].

pub mod acknowledged;
pub mod atomic_file;
pub mod bind;
pub mod cli;
pub mod descriptors;
pub mod interfaces;
pub mod metainfo;
pub mod net;
pub mod peer;
pub mod pieces;
pub mod random;
pub mod reason;
pub mod session;
pub mod sources;
pub mod storage;
pub mod swarm;
pub mod types;
pub mod wire;
