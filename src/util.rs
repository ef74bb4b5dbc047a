//! Helpers that every other module may use: atomic file writes, atomics, aligned buffers, base64, hexadecimal digits, file
//! descriptors, files that other programs may replace at any moment, texts for system errors, printable text, random numbers. They know nothing of BitTorrent. The library and the command each compile
//! them: they are no part of the library's public face.

pub mod atomic_file;
pub mod atomics;
pub mod base64;
pub mod cold_sort;
pub mod descriptors;
pub mod exact_names;
pub mod gzip;
pub mod hex;
pub mod memory;
pub mod os_error;
pub mod paths;
pub mod printable_text;
pub mod random;
pub mod redact;
pub mod secrets;
pub mod slab;
pub mod state_mark;
pub mod units;
pub mod wake_event;
pub mod zip;
