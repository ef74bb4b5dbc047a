//! Bencode: scanned, checked, read and written.

pub(crate) mod encode;
pub mod guard;
pub(crate) mod scan;
pub mod values;
