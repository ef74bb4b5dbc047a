//! Tests of whole swarms of btsync, as processes and through the library.

#[path = "../common/mod.rs"]
mod common;

mod dormant;
mod fast;
mod library;
mod limits;
mod loopback;
mod lost_pieces;
mod order;
mod pause;
mod reopen;
mod several;
mod super_seed;
mod utp;
mod views;
