//! Moves a torrent's files to another folder or to other names.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;

use crate::storage::cache::clock;
use crate::storage::data_files::FileJobError;
use crate::storage::data_files::copying::{have_same_content, temporary_name};
use crate::storage::data_files::folders::{failed, lookup, lookup_file, make_folders, parent, remove_original};
use crate::storage::data_files::left_folders::remove_empty;
use crate::storage::data_files::names::{NameRelation, change_spelling, is_same_folder, relation, rename_to_new};
use crate::storage::data_files::provenance::{FileEvidence, FoundFiles};
use crate::storage::data_files::published_copy;
use crate::storage::download_mark::ReportUnmarked;
use crate::storage::error::{Operation, StorageError};
use crate::storage::files::Storage;
use crate::storage::marker::marker_name;
use crate::storage::open::Root;
use crate::storage::resume::{CLOCK_TICK, COARSE_STEP, time_step};
use crate::storage::snapshot::FileSnapshot;
use crate::storage::stop_check::StopCheck;
use crate::types::InfoHash;

/// The unit of `st_blocks`, in bytes.
const SECTOR: u64 = 512;

/// A file that was moved, and is otherwise as it was.
#[derive(Clone, Copy, Debug)]
pub struct MovedFile {
    /// Its number in the torrent; the number of files for the part file.
    pub file: usize,
    /// Before.
    pub before: FileSnapshot,
    /// Afterwards.
    pub after: FileSnapshot,
}

/// Moves the files of `source` to the names that they have in `target`.
pub(super) struct FileMover<'a> {
    pub source: &'a Storage,
    pub target: &'a Storage,
    pub info_hash: InfoHash,
    /// The files at their old place.
    pub found: FoundFiles,
    pub stop: &'a dyn StopCheck,
    /// Whether both have the same download folder, so that files only get other names.
    pub is_same_folder: bool,
    /// Whether to copy even where renaming is possible.
    pub always_copies: bool,
    /// Called before a file gets a name that a watched folder would start, if the file system cannot mark the file.
    pub report_unmarked: ReportUnmarked<'a>,
}

/// What is to be done about one file.
pub(super) struct MoveEntry {
    pub file: usize,
    pub from: PathBuf,
    pub to: PathBuf,
    pub state: EntryState,
}

/// Where a file is.
pub(super) enum EntryState {
    /// Nowhere: it was never downloaded, or its name is that of a file of the user's.
    Missing,
    /// At its new place: a killed job has moved it, or both paths lead to the same file.
    Moved,
    /// At both places: a job was killed when it had copied it or given it the second name.
    Copied(Metadata),
    /// At its old place, which is also found by the new name: the names differ only in a way that the file system ignores.
    OtherSpelling(Metadata),
    /// At its old place.
    ToMove(Metadata),
}

/// A file that this job has moved.
pub(super) struct DoneMove {
    pub file: usize,
    pub from: PathBuf,
    pub to: PathBuf,
    before: FileSnapshot,
    /// The file at its new place.
    pub after: FileSnapshot,
    began: i64,
}

impl Storage {
    /// Moves the files of this storage, with the part file and the marker, to the names that they have in `target`: in another
    /// folder, or other names in the same one. Files of the user's that only have such names stay. Overwrites nothing. If it fails,
    /// the files are where they were. If it is interrupted or killed, it can be called again. Returns the files that it has moved
    /// and nobody else has changed, ascending. Calls `report_unmarked` before a file gets a name that a watched folder would start, if
    /// the file system cannot mark it as part of a download.
    ///
    /// # Errors
    /// If a file is in the way, the old or the new place is private, a symbolic link is in the path, a file of the torrent has a name
    /// that btsync gives to no file, another process downloads the torrent, or there is too little disk space: nothing is moved then.
    /// If the disk fails.
    pub fn move_files(
        &self,
        target: &Storage,
        info_hash: InfoHash,
        evidence: FileEvidence<'_>,
        (private, report_unmarked): (&[PathBuf], ReportUnmarked<'_>),
        stop: &dyn StopCheck,
    ) -> Result<Vec<MovedFile>, FileJobError> {
        self.probe_lock(&info_hash)?;
        target.probe_lock(&info_hash)?;
        self.check_all_not_private(private)?;
        target.check_all_not_private(private)?;
        let is_same_folder = is_same_folder(&self.root, &target.root);
        let found = self.found_files(self.read_marker(&info_hash)?.as_ref(), evidence, stop)?;
        let always_copies = false;
        FileMover { source: self, target, info_hash, found, stop, is_same_folder, always_copies, report_unmarked }.run()
    }
}

impl FileMover<'_> {
    /// See [`Storage::move_files`].
    pub(super) fn run(&self) -> Result<Vec<MovedFile>, FileJobError> {
        let entries = self.checked_entries().inspect_err(|error| self.discard_copies(error))?;
        let mut done = Vec::new();
        for entry in &entries {
            if let Err(error) = self.move_entry(entry, &mut done) {
                self.discard_copies(&error);
                return Err(self.move_back(&done, error));
            }
        }
        self.finish(&entries, &done)
    }

    /// The files to move, if nothing prevents that.
    fn checked_entries(&self) -> Result<Vec<MoveEntry>, FileJobError> {
        let entries = self.entries()?;
        self.check_marker(&entries)?;
        self.remove_leftovers(&entries)?;
        self.check_space(&entries)?;
        self.step()?;
        self.target.root.create()?;
        Ok(entries)
    }

    /// Moves what belongs to the files, and tidies up.
    fn finish(&self, entries: &[MoveEntry], done: &[DoneMove]) -> Result<Vec<MovedFile>, FileJobError> {
        // Until then, another change might not change a file's times again.
        std::thread::sleep(Duration::from_nanos(CLOCK_TICK.unsigned_abs()));
        let moved: Vec<MovedFile> = done.iter().filter_map(|done| self.moved_file(done)).collect();
        self.step()?;
        self.move_marker(|marker| {
            for entry in entries.iter().filter(|entry| !matches!(entry.state, EntryState::Missing)) {
                let known =
                    moved.binary_search_by_key(&entry.file, |moved| moved.file).ok().and_then(|at| moved.get(at));
                let known = known.map(|MovedFile { before, after, .. }| {
                    ((before.identity, after.identity), (before.changed_at(), after.changed_at()))
                });
                marker.follow_move((&entry.from, &entry.to), known);
            }
        })?;
        self.step()?;
        let moved_entries = entries.iter().filter(|entry| !matches!(entry.state, EntryState::Missing));
        let left = moved_entries.map(|entry| parent(&entry.from).to_owned());
        if self.is_same_folder {
            remove_empty(&self.source.root, left);
        } else {
            self.source.remove_left_entries(left);
            // Afterwards, because both folders may be the same one by another path.
            self.target.create_special_entries(self.stop);
        }
        Ok(moved)
    }

    /// Ends the job if it is to stop.
    pub(super) fn step(&self) -> Result<(), FileJobError> {
        if self.stop.is_stopped() { Err(FileJobError::Stopped) } else { Ok(()) }
    }

    /// The names of the marker, before and after.
    pub(super) fn marker_names(&self) -> (PathBuf, PathBuf) {
        (self.source.marker_path(&self.info_hash), self.own_folder().join(marker_name(&self.info_hash)))
    }

    /// The new folder of the marker and the part file.
    fn own_folder(&self) -> PathBuf {
        let is_top = self.source.own_folder.as_os_str().is_empty();
        if is_top { PathBuf::new() } else { self.target.torrent_folder().unwrap_or_default() }
    }

    /// The files that have other names in the target, with both names and their lengths.
    pub(super) fn names(&self) -> impl Iterator<Item = (usize, &Path, PathBuf, u64)> {
        let files = self.source.layout.files().iter().zip(self.target.layout.files()).enumerate();
        let files = files.filter(|(_, (spec, _))| !spec.is_pad);
        let mut names: Vec<(usize, &Path, PathBuf, u64)> =
            files.map(|(file, (from, to))| (file, from.path.as_path(), to.path.clone(), from.length)).collect();
        if let Some(part_file) = self.target.placement.name().file_name() {
            let to = self.own_folder().join(part_file);
            names.push((self.source.layout.files().len(), self.source.placement.name(), to, u64::MAX));
        }
        names.into_iter().filter(move |(_, from, to, _)| !self.is_same_folder || from != to)
    }

    /// The files with other names, and where they are.
    fn entries(&self) -> Result<Vec<MoveEntry>, FileJobError> {
        let mut entries = Vec::new();
        for (file, from, to, length) in self.names() {
            self.step()?;
            let state = self.state((file, from), &to, length)?;
            entries.push(MoveEntry { file, from: from.to_owned(), to, state });
        }
        Ok(entries)
    }

    fn state(&self, (file, from): (usize, &Path), to: &Path, length: u64) -> Result<EntryState, FileJobError> {
        if self.found.foreign.contains(&file) {
            return Ok(EntryState::Missing);
        }
        let (source, target) = (&self.source.root, &self.target.root);
        let found = lookup(source, from)?;
        if let Some(now) = found.as_ref().filter(|now| now.is_file())
            && !self.found.is_unchanged(file, now)
        {
            return Err(FileJobError::Changed(source.path().join(from)));
        }
        let is_needed = found.is_some() || self.source.wants(file);
        let there = if is_needed { lookup(target, to)? } else { lookup_file(target, to)? };
        let in_the_way = || FileJobError::Exists(target.path().join(to));
        match (found, there) {
            (None, None) => Ok(EntryState::Missing),
            (None, Some(there)) if there.is_file() && there.len() <= length => Ok(EntryState::Moved),
            (None, Some(_)) if !is_needed => Ok(EntryState::Missing),
            (None, Some(_)) => Err(in_the_way()),
            (Some(found), _) if !found.is_file() => Err(FileJobError::NotAFile(source.path().join(from))),
            (Some(found), None) => Ok(EntryState::ToMove(found)),
            (Some(found), Some(there)) => match self.state_of_both((file, from, &found), (to, &there))? {
                Some(EntryState::ToMove(_)) | None => Err(in_the_way()),
                Some(state) => Ok(state),
            },
        }
    }

    /// The state of a file that both names lead to something; `None` if they lead to different files. A file of the same content is
    /// no reason to remove the old one: a union, a second mount of a share and a file system that ignores case show one file at
    /// two paths.
    pub(super) fn state_of_both(
        &self,
        (file, from, found): (usize, &Path, &Metadata),
        (to, there): (&Path, &Metadata),
    ) -> Result<Option<EntryState>, FileJobError> {
        let (source, target) = (&self.source.root, &self.target.root);
        match relation((source, from), (target, to))? {
            NameRelation::Same => return Ok(Some(EntryState::Moved)),
            NameRelation::OtherSpelling => return Ok(Some(EntryState::OtherSpelling(found.clone()))),
            NameRelation::Different => {}
        }
        let times = |found: &Metadata| (found.mtime(), found.mtime_nsec());
        let looks_same = there.is_file() && times(found) == times(there) && found.len() == there.len();
        if !looks_same || !have_same_content((source, from), (target, to), self.stop)? {
            return Ok(None);
        }
        let is_second_name = (found.dev(), found.ino()) == (there.dev(), there.ino()) && found.nlink() > 1;
        let note = published_copy::note_name(to, &self.info_hash, file);
        if is_second_name || published_copy::is_noted(target, &note, there) {
            return Ok(Some(EntryState::Copied(found.clone())));
        }
        log::info!("{}: is there already, so nothing is moved or removed", target.path().join(to).display());
        Ok(Some(EntryState::Moved))
    }

    /// A marker at the new place belongs to another download, unless a killed job has already moved everything.
    fn check_marker(&self, entries: &[MoveEntry]) -> Result<(), FileJobError> {
        let (from, to) = self.marker_names();
        let is_moved = |entry: &MoveEntry| matches!(entry.state, EntryState::Moved | EntryState::Missing);
        if (self.is_same_folder && from == to) || entries.iter().all(is_moved) {
            return Ok(());
        }
        match lookup(&self.target.root, &to) {
            Ok(Some(_)) => Err(FileJobError::Exists(self.target.root.path().join(to))),
            // The move itself refuses a link or a file in the place of the marker's folder.
            Ok(None) | Err(FileJobError::Link(_) | FileJobError::Storage(StorageError::NotAFolder { .. })) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Checks the free space for those files that are on another file system.
    fn check_space(&self, entries: &[MoveEntry]) -> Result<(), FileJobError> {
        let existing = self.target.root.path().ancestors().find_map(|folder| folder.metadata().ok());
        let device = existing.map(|found| found.dev());
        let bytes = entries.iter().map(|entry| match &entry.state {
            EntryState::ToMove(found) if self.always_copies || Some(found.dev()) != device => {
                found.blocks().saturating_mul(SECTOR).min(found.len())
            }
            _ => 0,
        });
        Ok(self.target.check_disk_space(bytes.sum())?)
    }

    fn move_entry(&self, entry: &MoveEntry, done: &mut Vec<DoneMove>) -> Result<(), FileJobError> {
        self.step()?;
        let (source, target) = (&self.source.root, &self.target.root);
        let (file, from, to, began) = (entry.file, entry.from.clone(), entry.to.clone(), clock());
        match &entry.state {
            EntryState::Missing | EntryState::Moved => {}
            EntryState::Copied(found) => {
                remove_original(source, &from, &FileSnapshot::of(found))?;
                published_copy::discard(target, &published_copy::note_name(&to, &self.info_hash, file));
            }
            EntryState::OtherSpelling(found) => {
                let before = FileSnapshot::of(found);
                change_spelling(source, (&from, &to), &temporary_name(&from, &self.info_hash, file))?;
                done.push(DoneMove { file, from, to, before, after: before, began });
            }
            EntryState::ToMove(found) => {
                let before = FileSnapshot::of(found);
                let after = self.move_file((source, &from), (target, &to), (file, &before))?;
                done.push(DoneMove { file, from, to, before, after, began });
            }
        }
        Ok(())
    }

    /// Moves one file to a name that must be free. Returns the file at its new place.
    pub(super) fn move_file(
        &self,
        (source, from): (&Root, &Path),
        (target, to): (&Root, &Path),
        (file, seen): (usize, &FileSnapshot),
    ) -> Result<FileSnapshot, FileJobError> {
        let rename_failed = failed(target, to, Operation::Rename);
        let new_folder = make_folders(target, parent(to))?;
        let opened = source.own_folder(parent(from));
        let old_folder = opened.map_err(|errno| failed(source, from, Operation::Rename)(errno.into()))?;
        if !self.always_copies {
            self.check_mark((source, from), to)?;
            match rename_to_new((&old_folder, from), (&new_folder, to)) {
                Err(Errno::XDEV) => {}
                Err(errno) => return Err(rename_failed(errno.into())),
                // Another program may have saved its file in the place of ours, which is gone then.
                Ok(()) => {
                    if let Some(moved) = renamed(target, to, seen)? {
                        return Ok(moved);
                    }
                    if let Err(errno) = rename_to_new((&new_folder, to), (&old_folder, from)) {
                        log::warn!("{}: this file cannot be renamed back: {errno}", target.path().join(to).display());
                    }
                    return Err(FileJobError::Changed(source.path().join(from)));
                }
            }
        }
        self.move_by_copy((source, from), (target, to, &new_folder), (file, seen))
    }

    /// The file as it is now, unless another program may have changed it since it was moved.
    fn moved_file(&self, done: &DoneMove) -> Option<MovedFile> {
        let found = lookup_file(&self.target.root, &done.to).ok().flatten()?;
        let after = FileSnapshot::of(&found);
        let changed_at = after.changed_at();
        let is_ours = (done.began.saturating_sub(CLOCK_TICK)..=clock()).contains(&changed_at)
            // Renaming changes the times of a file on most file systems, but not on all.
            || changed_at == done.before.changed_at();
        let is_same = is_ours && done.before.has_same_size_and_mtime(&found) && time_step(changed_at) < COARSE_STEP;
        is_same.then_some(MovedFile { file: done.file, before: done.before, after })
    }
}

/// The file that was `seen` under another name, if it has this one.
fn renamed(root: &Root, name: &Path, seen: &FileSnapshot) -> Result<Option<FileSnapshot>, FileJobError> {
    let now = lookup(root, name)?.filter(|now| now.is_file() && seen.is_renamed(now));
    Ok(now.map(|now| FileSnapshot::of(&now)))
}
