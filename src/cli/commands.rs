//! The subcommands.

pub mod create;
pub mod dht;
pub mod doctor;
pub mod download;
pub mod edit;
pub mod info;
pub(crate) mod list;
pub mod magnet;
pub(crate) mod output_file;
#[cfg(feature = "service")]
pub mod serve;
#[cfg(feature = "service")]
mod systemd;
pub mod tracker;
pub mod verify;
