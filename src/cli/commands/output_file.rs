//! Writes an output file atomically, for `create` and `edit`.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::cli::exit::{Exit, Failure};
use crate::util::atomic_file::{self, WriteFailure, WriteMode};
use crate::util::printable_text::printable;

/// Writes the file. With `may_overwrite` it replaces an existing file and keeps its permissions and owner; a pipe or a device is
/// written to directly.
pub(crate) fn write(output: &Path, bytes: &[u8], may_overwrite: bool) -> Result<(), Failure> {
    write_as(output, bytes, if may_overwrite { WriteMode::Replace } else { WriteMode::CreateNew })
}

/// Gives an existing file another content. It keeps its permissions, owner and extended attributes.
pub(crate) fn edit(file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    write_as(file, bytes, WriteMode::Edit)
}

fn write_as(output: &Path, bytes: &[u8], mode: WriteMode) -> Result<(), Failure> {
    let is_new = mode == WriteMode::CreateNew;
    if let Some(found) = fs::metadata(output).ok().filter(|found| !is_new && !found.is_dir()) {
        if !found.is_file() {
            return atomic_file::write_into(output, bytes).map_err(|error| write_failure(output, &error, Exit::FileIo));
        }
        if leads_to_open_file(output) {
            let path = printable(&output.to_string_lossy());
            return Err(Failure::new(
                Exit::FileExists,
                format!("{path}: leads to a file that is open; use the path of the file itself"),
            ));
        }
    }
    atomic_file::write(output, bytes, mode).map_err(|failed| match failed {
        WriteFailure::Move(error) if is_new && error.kind() == io::ErrorKind::AlreadyExists => exists_failure(output),
        WriteFailure::Create(error) => write_failure(output, &error, Exit::CreateFile),
        WriteFailure::Write(error) => write_failure(output, &error, Exit::FileIo),
        WriteFailure::Move(error) => write_failure(output, &error, Exit::FileRename),
    })
}

/// Whether the path leads to a file that a process has open, as /dev/stdout does.
fn leads_to_open_file(output: &Path) -> bool {
    let mut path = output.to_owned();
    // Linux follows at most 40 symbolic links.
    for _ in 0..40 {
        let full = std::path::absolute(&path).unwrap_or_else(|_| path.clone());
        if full.starts_with("/proc") || full.starts_with("/dev/fd") {
            return true;
        }
        let Ok(target) = fs::read_link(&path) else { return false };
        path = path.parent().unwrap_or(Path::new("")).join(target);
    }
    false
}

/// Rejects a pipe or device, which cannot be edited in place. Folders and missing files fail later, when they are read.
pub(crate) fn check_not_special(path: &Path) -> Result<(), Failure> {
    match fs::metadata(path) {
        Ok(found) if !found.is_file() && !found.is_dir() => {
            let path = printable(&path.to_string_lossy());
            let message = format!(
                "{path}: not a regular file, so it cannot be edited in place; use -o FILE, or -o - for standard output"
            );
            Err(Failure::new(Exit::BadOption, message))
        }
        _ => Ok(()),
    }
}

/// Locks the file until the result is dropped, so that no other btsync edits it meanwhile. `None` if the file system has no
/// locks.
pub(crate) fn lock(path: &Path) -> io::Result<Option<File>> {
    loop {
        let file = File::open(path)?;
        match rustix::fs::flock(&file, FlockOperation::LockExclusive) {
            Ok(()) => {}
            Err(Errno::INTR) => continue,
            Err(_) => return Ok(None),
        }
        // The previous holder of the lock may have replaced the file.
        let (held, now) = (file.metadata()?, fs::metadata(path)?);
        if (held.dev(), held.ino()) == (now.dev(), now.ino()) {
            return Ok(Some(file));
        }
    }
}

/// Fails if the output exists, unless `may_overwrite` is set.
pub(crate) fn check_free(output: &Path, may_overwrite: bool) -> Result<(), Failure> {
    if !may_overwrite && fs::symlink_metadata(output).is_ok() { Err(exists_failure(output)) } else { Ok(()) }
}

fn exists_failure(output: &Path) -> Failure {
    let path = printable(&output.to_string_lossy());
    Failure::new(Exit::FileExists, format!("{path}: already exists; --force overwrites it"))
}

fn write_failure(output: &Path, error: &io::Error, code: Exit) -> Failure {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    let code = if matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge) { Exit::DiskFull } else { code };
    Failure::new(code, format!("{}: cannot be written: {error}", printable(&output.to_string_lossy())))
}
