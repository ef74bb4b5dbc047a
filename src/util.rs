//! Helpers that every other module may use: random numbers, atomic file writes, file descriptors, texts for system errors.

pub mod atomic_file;
pub mod atomics;
pub mod descriptors;
pub mod os_error;
pub mod printable_text;
pub mod random;
