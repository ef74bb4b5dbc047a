//! A file written whole or not at all, for `create` and `edit`: beside its place first, then moved there.

use std::fs::{self, File, Metadata};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::{Path, PathBuf};

use super::exit::{Exit, Failure};
use crate::metainfo::printable;
use crate::session;

/// Writes the file; over another one only by `force`, whose rights and owner it then takes over.
pub(super) fn write(output: &Path, bytes: &[u8], force: bool) -> Result<(), Failure> {
    let mut beside = output.as_os_str().to_owned();
    beside.push(format!(".{}.part", std::process::id()));
    let beside = PathBuf::from(beside);
    let before = fs::symlink_metadata(output).ok().filter(Metadata::is_file);
    let file = File::create_new(&beside).map_err(|e| unwritten(output, &e, Exit::CreateFile))?;
    let written = fill(file, bytes, before.as_ref())
        .map_err(|e| unwritten(output, &e, Exit::FileIo))
        .and_then(|()| place(&beside, output, force));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

/// Refuses a place that is taken, unless by `force`.
pub(super) fn is_free(output: &Path, force: bool) -> Result<(), Failure> {
    if !force && fs::symlink_metadata(output).is_ok() {
        return Err(taken(output));
    }
    Ok(())
}

fn taken(output: &Path) -> Failure {
    let path = printable(&output.to_string_lossy());
    Failure::new(Exit::FileExists, format!("{path}: is there already; --force replaces it"))
}

fn fill(mut file: File, bytes: &[u8], before: Option<&Metadata>) -> io::Result<()> {
    file.write_all(bytes)?;
    if let Some(before) = before {
        // Only root may give files away; whoever may not keeps it.
        let _ = fchown(&file, Some(before.uid()), Some(before.gid()));
        file.set_permissions(before.permissions())?;
        // What it replaces is gone for good then.
        file.sync_all()?;
    }
    Ok(())
}

/// Moves the finished file to its place.
fn place(beside: &Path, output: &Path, force: bool) -> Result<(), Failure> {
    session::place(beside, output, force).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists if !force => taken(output),
        _ => unwritten(output, &error, Exit::FileRename),
    })
}

fn unwritten(output: &Path, error: &io::Error, code: Exit) -> Failure {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    let code = if matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge) { Exit::DiskFull } else { code };
    Failure::new(code, format!("{}: cannot be written: {error}", printable(&output.to_string_lossy())))
}
