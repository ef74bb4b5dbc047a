//! A file written whole or not at all, for `create` and `edit`.

use std::fs;
use std::io;
use std::path::Path;

use crate::cli::exit::{Exit, Failure};
use crate::util::atomic_file::{self, WriteFailure, WriteMode};
use crate::util::printable_text::printable;

/// Writes the file; over another one only by `force`, whose rights and owner it then takes over.
pub(crate) fn write(output: &Path, bytes: &[u8], force: bool) -> Result<(), Failure> {
    let place = if force { WriteMode::Replace } else { WriteMode::CreateNew };
    atomic_file::write(output, bytes, place).map_err(|failed| match failed {
        WriteFailure::Move(error) if !force && error.kind() == io::ErrorKind::AlreadyExists => exists_failure(output),
        WriteFailure::Create(error) => write_failure(output, &error, Exit::CreateFile),
        WriteFailure::Write(error) => write_failure(output, &error, Exit::FileIo),
        WriteFailure::Move(error) => write_failure(output, &error, Exit::FileRename),
    })
}

/// Refuses a place that is taken, unless by `force`.
pub(crate) fn check_free(output: &Path, force: bool) -> Result<(), Failure> {
    if !force && fs::symlink_metadata(output).is_ok() { Err(exists_failure(output)) } else { Ok(()) }
}

fn exists_failure(output: &Path) -> Failure {
    let path = printable(&output.to_string_lossy());
    Failure::new(Exit::FileExists, format!("{path}: is there already; --force replaces it"))
}

fn write_failure(output: &Path, error: &io::Error, code: Exit) -> Failure {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    let code = if matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge) { Exit::DiskFull } else { code };
    Failure::new(code, format!("{}: cannot be written: {error}", printable(&output.to_string_lossy())))
}
