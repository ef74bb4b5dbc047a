//! Tests of btsync against other clients, each downloading from the other.

#[path = "../common/mod.rs"]
mod common;

mod encryption;
mod transfers;
mod utp;
mod v2;
