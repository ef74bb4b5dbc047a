//! Copies a file to another file system: its data without the holes, its mode, owner and times.

use std::fs::{File, FileTimes};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, SeekFrom};
use rustix::io::Errno;

use crate::storage::data_files::FileJobError;
use crate::storage::data_files::folders::{failed, lookup, remove};
use crate::storage::download_mark;
use crate::storage::error::Operation;
use crate::storage::file_rights::take_over_rights;
use crate::storage::open::Root;
use crate::storage::snapshot::FileSnapshot;
use crate::storage::stop_check::StopCheck;

/// The number of bytes that are copied or compared at once.
const COPY_CHUNK: u64 = 1 << 20;

/// Copies the file `from` to the temporary name `to`, and waits until the disk has the copy. Replaces a copy of that name that a
/// killed process left behind. If it returns [`FileJobError::Stopped`], the copy stays; otherwise a failed copy is removed. Returns
/// the copy's metadata.
pub(super) fn copy(
    (source, from): (&Root, &Path),
    (target, to): (&Root, &Path),
    seen: &FileSnapshot,
    stop: &dyn StopCheck,
) -> Result<FileSnapshot, FileJobError> {
    if let Some(leftover) = lookup(target, to)? {
        if !leftover.is_file() {
            return Err(FileJobError::NotAFile(target.path().join(to)));
        }
        remove(target, to)?;
    }
    let open_failed = failed(source, from, Operation::Open);
    let original = source.open_own(from, OFlags::RDONLY).map_err(|errno| open_failed(errno.into()))?;
    let make_failed = failed(target, to, Operation::Write);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
    let made = target.open_own(to, flags).map_err(|errno| make_failed(errno.into()))?;
    let copied = fill(&original, &made, (from, seen), stop).map_err(|error| {
        if error.kind() == io::ErrorKind::Interrupted { FileJobError::Stopped } else { make_failed(error) }
    });
    let copied = copied.and_then(|is_unchanged| {
        let changed = || FileJobError::Changed(source.path().join(from));
        if is_unchanged { made.metadata().map_err(&make_failed) } else { Err(changed()) }
    });
    if !matches!(copied, Ok(_) | Err(FileJobError::Stopped))
        && let Err(error) = remove(target, to)
    {
        log::warn!("{error}");
    }
    copied.map(|found| FileSnapshot::of(&found))
}

/// Fills the copy. Returns whether the original stayed as it was `seen`.
fn fill(original: &File, copy: &File, (name, seen): (&Path, &FileSnapshot), stop: &dyn StopCheck) -> io::Result<bool> {
    let found = original.metadata()?;
    if !seen.is_untouched(&found) {
        return Ok(false);
    }
    download_mark::set_download_mark(copy, name);
    // Before the content, so that nobody can read it meanwhile who could not read the original.
    take_over_rights(copy, original, &found)?;
    copy.set_len(seen.size)?;
    let mut buffer = vec![0; COPY_CHUNK as usize];
    let mut at = 0;
    while let Some((begin, end)) = next_data(original, at, seen.size)? {
        at = begin;
        while at < end {
            if stop.is_stopped() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let length = (end - at).min(COPY_CHUNK);
            let part = buffer.get_mut(..length as usize).unwrap_or_default();
            original.read_exact_at(part, at)?;
            copy.write_all_at(part, at)?;
            at += length;
        }
    }
    copy.set_times(FileTimes::new().set_accessed(found.accessed()?).set_modified(found.modified()?))?;
    copy.sync_all()?;
    Ok(seen.is_untouched(&original.metadata()?))
}

/// The next run of data from `at` on; everything, if the file system does not know its holes.
fn next_data(file: &File, at: u64, size: u64) -> io::Result<Option<(u64, u64)>> {
    if at >= size {
        return Ok(None);
    }
    match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(begin) if begin >= size => Ok(None),
        Ok(begin) => Ok(Some((begin, rustix::fs::seek(file, SeekFrom::Hole(begin))?.min(size)))),
        Err(Errno::NXIO) => Ok(None),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(Some((at, size))),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether two files have the same bytes.
pub(super) fn have_same_content(
    (source, from): (&Root, &Path),
    (target, to): (&Root, &Path),
    stop: &dyn StopCheck,
) -> Result<bool, FileJobError> {
    let open = |root: &Root, name: &Path| {
        root.open_own(name, OFlags::RDONLY).map_err(|errno| failed(root, name, Operation::Open)(errno.into()))
    };
    let (ours, theirs) = (open(source, from)?, open(target, to)?);
    let read_failed = failed(target, to, Operation::Read);
    let size = |file: &File| file.metadata().map(|found| found.len()).map_err(&read_failed);
    let (length, mut at) = (size(&ours)?, 0);
    if length != size(&theirs)? {
        return Ok(false);
    }
    let mut buffers = [vec![0; COPY_CHUNK as usize], vec![0; COPY_CHUNK as usize]];
    while at < length {
        if stop.is_stopped() {
            return Err(FileJobError::Stopped);
        }
        let part = (length - at).min(COPY_CHUNK);
        for (file, buffer) in [&ours, &theirs].into_iter().zip(&mut buffers) {
            let buffer = buffer.get_mut(..part as usize).unwrap_or_default();
            file.read_exact_at(buffer, at).map_err(&read_failed)?;
        }
        let [ours, theirs] = &buffers;
        if ours.get(..part as usize) != theirs.get(..part as usize) {
            return Ok(false);
        }
        at += part;
    }
    Ok(true)
}

/// The temporary name of a copy: the same for each attempt, so that a restarted job replaces what a killed one left behind.
pub(super) fn temporary_name(to: &Path, info_hash: &impl std::fmt::Display, file: usize) -> PathBuf {
    to.with_file_name(format!(".{info_hash}.{file}.btsync-move"))
}
