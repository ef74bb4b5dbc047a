//! Tests of files on disk: which files btsync writes, resumes and leaves alone, file selection, and failing disks and
//! permissions.

#[path = "../common/mod.rs"]
mod common;

mod faults;
mod partial_seed;
mod permissions;
mod pieces_stress;
mod safe_files;
mod select;
