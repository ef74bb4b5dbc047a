//! Bencode: scanning, checking, reading and writing.

pub(crate) mod encode;
pub(crate) mod scan;
mod seen_keys;
pub mod validate;
pub mod values;
