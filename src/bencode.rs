//! Bencode: scanning, checking, reading and writing.

pub(crate) mod encode;
pub mod guard;
pub(crate) mod scan;
mod seen_keys;
pub mod values;
