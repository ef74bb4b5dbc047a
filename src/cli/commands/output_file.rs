//! A file written whole or not at all, for `create` and `edit`.

use std::fs;
use std::io;
use std::path::Path;

use crate::cli::exit::{Exit, Failure};
use crate::metainfo::printable;
use crate::util::atomic_file::{self, Failed, Place};

/// Writes the file; over another one only by `force`, whose rights and owner it then takes over.
pub(crate) fn write(output: &Path, bytes: &[u8], force: bool) -> Result<(), Failure> {
    let place = if force { Place::Any } else { Place::Free };
    atomic_file::write(output, bytes, place).map_err(|failed| match failed {
        Failed::Move(error) if !force && error.kind() == io::ErrorKind::AlreadyExists => taken(output),
        Failed::Create(error) => unwritten(output, &error, Exit::CreateFile),
        Failed::Write(error) => unwritten(output, &error, Exit::FileIo),
        Failed::Move(error) => unwritten(output, &error, Exit::FileRename),
    })
}

/// Refuses a place that is taken, unless by `force`.
pub(crate) fn is_free(output: &Path, force: bool) -> Result<(), Failure> {
    if !force && fs::symlink_metadata(output).is_ok() { Err(taken(output)) } else { Ok(()) }
}

fn taken(output: &Path) -> Failure {
    let path = printable(&output.to_string_lossy());
    Failure::new(Exit::FileExists, format!("{path}: is there already; --force replaces it"))
}

fn unwritten(output: &Path, error: &io::Error, code: Exit) -> Failure {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    let code = if matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge) { Exit::DiskFull } else { code };
    Failure::new(code, format!("{}: cannot be written: {error}", printable(&output.to_string_lossy())))
}
