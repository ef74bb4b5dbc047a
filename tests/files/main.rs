//! Files on disk: what is written, resumed and left alone, selections, disks and permissions that fail.

#[path = "../common/mod.rs"]
mod common;

mod faults;
mod partial_seed;
mod permissions;
mod pieces_stress;
mod safe_files;
mod select;
