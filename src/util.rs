//! Helpers below everything else: random numbers, atomic files, descriptors, errors of the system in words.

pub mod atomic_file;
pub mod descriptors;
pub mod os_error;
pub mod printable_text;
pub mod random;
