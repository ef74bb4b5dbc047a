//! Notes beside the copies that a move has made. A move publishes a complete copy under its final name and then removes the original.
//! If the process is killed in between, both exist. The note says which file is the copy, so that the job, when it is repeated,
//! removes the original. Without a note it does not: both paths may lead to one file, however alike two files look.

use std::fs::Metadata;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::storage::data_files::FileJobError;
use crate::storage::data_files::copying::{copy, temporary_name};
use crate::storage::data_files::folders::{failed, lookup_file, remove, remove_if_ours, remove_original, sync_folder};
use crate::storage::data_files::moving::{EntryState, FileMover, MoveEntry};
use crate::storage::data_files::names::rename_to_new;
use crate::storage::download_mark::{has_download_mark, permanent_identity};
use crate::storage::error::Operation;
use crate::storage::open::Root;
use crate::storage::snapshot::{FileSnapshot, identity};
use crate::util::paths::{is_watched_name, resolved};

/// The longest note in bytes.
const MAX_NOTE: u64 = 64;

/// The name of the note on the copy `to` of the torrent's file with this number.
pub(super) fn note_name(to: &Path, info_hash: &impl std::fmt::Display, file: usize) -> PathBuf {
    to.with_file_name(format!(".{info_hash}.{file}.copied.btsync-move"))
}

/// Notes that the file with this identity is a copy that this job has made.
pub(super) fn write_note(root: &Root, note: &Path, copy: u64) -> Result<(), FileJobError> {
    let write_failed = failed(root, note, Operation::Write);
    remove(root, note)?;
    let made = root.open_own(note, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL);
    let mut file = made.map_err(|errno| write_failed(errno.into()))?;
    file.write_all(text(copy).as_bytes()).and_then(|()| file.sync_all()).map_err(write_failed)
}

/// Whether a note says that `found` is a copy of this job's.
pub(super) fn is_noted(root: &Root, note: &Path, found: &Metadata) -> bool {
    let read = || {
        let mut content = String::new();
        root.open_own(note, OFlags::RDONLY).ok()?.take(MAX_NOTE).read_to_string(&mut content).ok()?;
        Some(content)
    };
    read().is_some_and(|content| content == text(identity(found)))
}

/// Removes a note or a copy that is no longer needed.
pub(super) fn discard(root: &Root, note: &Path) {
    if let Err(error) = remove(root, note) {
        log::warn!("{error}");
    }
}

fn text(identity: u64) -> String {
    format!("{identity:016x}\n")
}

impl FileMover<'_> {
    /// Moves one file to another file system, to a name that must be free.
    pub(super) fn move_by_copy(
        &self,
        (source, from): (&Root, &Path),
        (target, to, new_folder): (&Root, &Path, &OwnedFd),
        (file, seen): (usize, &FileSnapshot),
    ) -> Result<FileSnapshot, FileJobError> {
        let (temporary, note) = (temporary_name(to, &self.info_hash, file), note_name(to, &self.info_hash, file));
        let ours = copy((source, from), (target, &temporary), seen, self.stop)?;
        let published = self.publish((target, to, new_folder), (&temporary, &ours), &note);
        if let Err(error) = published {
            if !matches!(error, FileJobError::Stopped) {
                discard(target, &temporary);
                discard(target, &note);
            }
            return Err(error);
        }
        let removed = remove_original(source, from, seen).inspect_err(|_| {
            remove_if_ours(target, to, &ours).unwrap_or_else(|error| log::warn!("{error}"));
        });
        self.step()?;
        discard(target, &note);
        removed.map(|()| ours)
    }

    /// Reports a file without the mark of a download before it gets the name `to` in the target. Setting the mark here would change the
    /// file's ctime.
    pub(super) fn check_mark(&self, (root, name): (&Root, &Path), to: &Path) -> Result<(), FileJobError> {
        if is_watched_name(to) {
            let opened = root.open_own(name, OFlags::RDONLY);
            let opened = opened.map_err(|errno| failed(root, name, Operation::Open)(errno.into()))?;
            if !has_download_mark(&opened) {
                (self.report_unmarked)(resolved(&self.target.root.path().join(to)), permanent_identity(&opened));
            }
        }
        Ok(())
    }

    /// Gives a complete copy its final name.
    fn publish(
        &self,
        (target, to, new_folder): (&Root, &Path, &OwnedFd),
        (temporary, copy): (&Path, &FileSnapshot),
        note: &Path,
    ) -> Result<(), FileJobError> {
        self.step()?;
        // Only this note allows a later job to remove the original.
        write_note(target, note, copy.identity)?;
        self.check_mark((target, temporary), to)?;
        self.step()?;
        let rename_failed = failed(target, to, Operation::Rename);
        rename_to_new((new_folder, temporary), (new_folder, to)).map_err(|errno| rename_failed(errno.into()))?;
        sync_folder(new_folder);
        self.step()
    }

    /// Removes the half-made copies of a killed job, which take space, and its notes.
    pub(super) fn remove_leftovers(&self, entries: &[MoveEntry]) -> Result<(), FileJobError> {
        let target = &self.target.root;
        for entry in entries {
            let copy = temporary_name(&entry.to, &self.info_hash, entry.file);
            let note = note_name(&entry.to, &self.info_hash, entry.file);
            let names: &[PathBuf] = match entry.state {
                EntryState::ToMove(_) => &[copy, note],
                EntryState::Moved => &[note],
                _ => &[],
            };
            for name in names {
                if lookup_file(target, name)?.is_some() {
                    remove(target, name)?;
                }
            }
        }
        Ok(())
    }
}
