//! Moves and deletes the files of a torrent that does not run, together with its resume data.

mod claim;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use crate::metainfo::Metainfo;
use crate::storage::resume::{PREEXISTING, ResumeData, Stamp};
use crate::storage::{
    FileEvidence, FileJobError, KeptFile, Layout, LayoutError, MovedFile, Operation, ReportUnmarked, StopCheck,
    Storage, StorageError, is_reserved, part_name,
};
use crate::torrent::downloaded_torrents;
use crate::torrent::original_names::layout_as_found;
use crate::torrent::record_files::{record_path, replace};
use crate::torrent::resume_store;
use crate::torrent::verified_reads::VerifiedFile;
use crate::torrent::wanted_files::layout;
use crate::types::Bitfield;
use crate::util::atomics::Amount;
use crate::util::cold_sort;
use crate::util::descriptors::is_shortage;
use crate::util::os_error::reason;

/// How many files of a torrent may stay open.
const MAX_OPEN_FILES: usize = 4;
/// How often a job waits for a descriptor, a tenth of a second each time, before it fails.
const MAX_WAITS: usize = 50;

/// Why the files of a torrent cannot be moved or deleted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IdleFilesError {
    /// A file cannot have its path.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// See [`FileJobError`].
    #[error(transparent)]
    Job(#[from] FileJobError),
}

/// Where a torrent's files are.
#[derive(Clone, Copy, Debug)]
pub struct FilesPlace<'a> {
    /// The download folder.
    pub folder: &'a Path,
    /// Files with other paths than in the torrent.
    pub renamed: &'a [(u32, PathBuf)],
}

/// A torrent that does not run, in this process or another.
#[derive(Clone, Copy, Debug)]
pub struct IdleTorrent<'a> {
    /// Its metainfo.
    pub metainfo: &'a Metainfo,
    /// Where its files are.
    pub place: FilesPlace<'a>,
    /// The files that are not wanted, by their indexes, ascending.
    pub unwanted: &'a [u32],
    /// The suffix that unfinished files may have.
    pub suffix: &'a str,
    /// The folder of the resume data.
    pub resume_folder: &'a Path,
    /// Folders whose files are neither moved to nor deleted.
    pub private_folders: &'a [PathBuf],
    /// The folder that records the torrent files of downloads which the file system cannot mark.
    pub downloaded_torrents_folder: Option<&'a Path>,
}

impl IdleTorrent<'_> {
    /// Moves the files to another place. `was_complete`: every wanted piece was verified. See [`Storage::move_files`].
    ///
    /// # Errors
    /// If the files cannot be moved. They are then where they were, unless the error says otherwise.
    pub fn move_to(
        &self,
        place: FilesPlace<'_>,
        was_complete: bool,
        stop: &dyn StopCheck,
    ) -> Result<(), IdleFilesError> {
        let is_moved = self.place.folder != place.folder || self.place.renamed != place.renamed;
        let (source, target) = self.layouts(place)?;
        let waits = Arc::new(Amount::new(0));
        let [source, target] = [(self.place.folder, source), (place.folder, target)]
            .map(|(folder, layout)| self.storage(folder, layout, &waits));
        let old_path = self.record_path(self.place.folder);
        let record = self.known_record(old_path.as_deref(), &source)?;
        let stamps: Vec<Option<Stamp>> = (0..source.layout().files().len()).map(|file| source.stamp(file)).collect();
        let evidence = FileEvidence { record: record.as_ref(), was_complete, hashes: &self.metainfo.pieces };
        let report_unmarked = |path, identity| self.note_unmarked(place.folder, path, identity);
        let limits = (self.private_folders, &report_unmarked as ReportUnmarked<'_>);
        let moved = source.move_files(&target, self.metainfo.info_hash, evidence, limits, stop)?;
        // The names in the target existed only from now on.
        let target = self.storage(place.folder, target.layout().clone(), &waits);
        if let Some((mut record, new_path)) = record.zip(self.record_path(place.folder)).filter(|_| is_moved) {
            let same_names: Vec<bool> = source
                .layout()
                .files()
                .iter()
                .zip(target.layout().files())
                .map(|(from, to)| old_path.as_deref() == Some(&new_path) && from.path == to.path)
                .collect();
            follow_moves(&mut record, (&stamps, &target), &moved, &same_names);
            if let Err(error) = replace(&new_path, &record.encode(), ResumeData::is_encoded) {
                log::debug!("{}: cannot be written: {error}", new_path.display());
            }
            remove_record(old_path.filter(|old| *old != new_path));
        }
        Ok(())
    }

    /// Records a torrent file of the download that the file system cannot mark, so that no watched folder starts it.
    fn note_unmarked(&self, folder: &Path, path: PathBuf, identity: Option<u64>) {
        let Some(records) = self.downloaded_torrents_folder else { return };
        let shown = path.display().to_string();
        if let Err(error) = downloaded_torrents::note(records, self.metainfo.info_hash, folder, vec![(path, identity)])
        {
            log::warn!(
                "{shown}: cannot be recorded as part of a download, so --watch may start it: {}",
                reason(&error)
            );
        }
    }

    /// Deletes the files that btsync created or completed and nobody has changed since, and everything of btsync's own.
    /// `was_complete`: every wanted piece was verified. Returns the files that stay.
    ///
    /// # Errors
    /// If the disk fails, or the files are in a private folder.
    pub fn delete(&self, was_complete: bool, stop: &dyn StopCheck) -> Result<Vec<KeptFile>, IdleFilesError> {
        let (source, _) = self.layouts(self.place)?;
        let mut storage = self.storage(self.place.folder, source, &Arc::default());
        let path = self.record_path(self.place.folder);
        let record = self.known_record(path.as_deref(), &storage)?;
        let evidence = FileEvidence { record: record.as_ref(), was_complete, hashes: &self.metainfo.pieces };
        let limits = (self.private_folders, stop);
        let kept = storage.delete_files(&self.metainfo.info_hash, evidence, limits)?;
        remove_record(path);
        Ok(kept)
    }

    /// Deletes the resume data, and the marker and the part file unless there are unfinished files.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn forget(&self) -> Result<(), IdleFilesError> {
        let (source, _) = self.layouts(self.place)?;
        let mut storage = self.storage(self.place.folder, source, &Arc::default());
        let path = self.record_path(self.place.folder);
        let record = self.known_record(path.as_deref(), &storage)?;
        storage.delete_own_files(&self.metainfo.info_hash, record.as_ref())?;
        remove_record(path);
        Ok(())
    }

    /// Uses the resume data of the folder in which the files were before, if there is none of the torrent's folder. It says which files
    /// were complete, and nothing of the files as they are now: they are hashed.
    pub fn inherit_resume_data(&self, previous: &Path) {
        let Some(path) = self.record_path(self.place.folder).filter(|path| !path.exists()) else { return };
        // Perhaps the user has moved the folder itself.
        let place = fs::canonicalize(previous).unwrap_or_else(|_| previous.to_owned());
        let old_path = record_path(self.resume_folder, self.metainfo.info_hash, &place);
        let record = layout(self.metainfo).ok().and_then(|layout| self.read_record(&old_path, &layout).ok().flatten());
        let Some(record) = record else { return };
        let (boot, files, owned_files, partial) = (String::new(), Vec::new(), Some(Vec::new()), Vec::new());
        let record = ResumeData { boot, files, owned_files, partial, ..record };
        if let Err(error) = replace(&path, &record.encode(), ResumeData::is_encoded) {
            log::warn!("{}: cannot be written: {error}", path.display());
        }
    }

    /// The torrent's file with this number, if all its pieces were verified and nobody has changed it since.
    pub fn verified_file(&self, number: u32, opened: fs::File) -> Option<VerifiedFile> {
        if self.is_unwanted(number) {
            return None;
        }
        let layout = layout(self.metainfo).ok()?;
        let record = self.read_record(&self.record_path(self.place.folder)?, &layout).ok()??;
        let file = usize::try_from(number).ok()?;
        let length = layout.files().get(file)?.length;
        let seen = Stamp::of(&opened.metadata().ok()?)?;
        // An empty file has no pieces.
        let is_as_recorded = record.stamp(number) == Some(seen) || (length == 0 && seen.size == 0);
        let is_verified = is_as_recorded && layout.is_complete(file, &record.have);
        VerifiedFile::new(opened, seen).filter(|_| is_verified)
    }

    fn is_unwanted(&self, number: u32) -> bool {
        self.unwanted.binary_search(&number).is_ok()
    }

    /// The verified pieces, as the resume data has them. The files are not looked at.
    pub fn recorded_pieces(&self) -> Option<Bitfield> {
        let path = self.record_path(self.place.folder)?;
        self.read_record(&path, &layout(self.metainfo).ok()?).ok()?.map(|record| record.have)
    }

    /// The files in a folder, for a job that has already waited for descriptors so often.
    fn storage(&self, folder: &Path, layout: Layout, waits: &Arc<Amount>) -> Storage {
        let wanted: Vec<bool> = (0_u32..).zip(layout.files()).map(|(file, _)| !self.is_unwanted(file)).collect();
        let storage = Storage::new(folder.to_owned(), layout, MAX_OPEN_FILES);
        let waits = waits.clone();
        storage.wait_for_descriptors(move || waits.add_one_below(MAX_WAITS));
        storage.select(&wanted, &part_name(&self.metainfo.info_hash))
    }

    /// The layouts with the names that the files have on disk, and that they would have at another place.
    fn layouts(&self, place: FilesPlace<'_>) -> Result<(Layout, Layout), LayoutError> {
        let base = layout(self.metainfo)?;
        let with_names = |renamed: &[(u32, PathBuf)]| {
            let mut layout = base.clone();
            layout.rename_all(renamed)?;
            let reserved = layout
                .files()
                .iter()
                .filter(|spec| !spec.is_pad)
                .find(|spec| spec.path.components().next().is_some_and(|name| is_reserved(name.as_ref())));
            reserved.map_or(Ok(()), |spec| Err(LayoutError::Reserved { path: spec.path.clone() }))?;
            Ok(layout)
        };
        let (old, new) = (with_names(self.place.renamed)?, with_names(place.renamed)?);
        let mut as_found = layout_as_found(self.metainfo, &old, self.place.folder, self.private_folders);
        let (mut target, mut writable) = (new.clone(), HashSet::new());
        let odd =
            old.files().iter().zip(as_found.files()).enumerate().filter(|(_, (old, found))| old.path != found.path);
        for (file, (old, found)) in odd {
            if new.files().get(file).is_some_and(|new| new.path == old.path) {
                target.redirect(file, &found.path)?;
            }
            // An earlier version of the service may have created a file with a colon in its name.
            if without_colons(&found.path) == old.path {
                writable.insert(file);
            }
        }
        as_found.retain_read_only(|file| !writable.contains(&file));
        let target_names = target.clone().with_incomplete_suffix(self.suffix, |_, _, _| true);
        let exists = |folder: &Path, path: &Path| fs::symlink_metadata(folder.join(path)).is_ok();
        let is_suffixed = |file: usize, own: &Path, other: &Path| {
            let here = (exists(self.place.folder, own), exists(self.place.folder, other));
            let there = || {
                let own = target.files().get(file).is_some_and(|spec| exists(place.folder, &spec.path));
                let other = target_names.files().get(file).is_some_and(|spec| exists(place.folder, &spec.path));
                !own && other
            };
            !here.0 && (here.1 || there())
        };
        let source = as_found.with_incomplete_suffix(self.suffix, is_suffixed);
        let suffixed: Vec<usize> = source.final_names().iter().map(|(file, _)| *file).collect();
        let target =
            target.clone().with_incomplete_suffix(self.suffix, |file, _, _| suffixed.binary_search(&file).is_ok());
        Ok((source, target))
    }

    fn record_path(&self, folder: &Path) -> Option<PathBuf> {
        let place = fs::canonicalize(folder).ok()?;
        Some(record_path(self.resume_folder, self.metainfo.info_hash, &place))
    }

    /// The resume data for a job on the files of `storage`. Fails if no descriptor is free: then it is unknown whose the files are.
    fn known_record(&self, path: Option<&Path>, storage: &Storage) -> Result<Option<ResumeData>, FileJobError> {
        let Some(path) = path else { return Ok(None) };
        let read = storage.with_retry(|| self.read_record(path, storage.layout()));
        let failed = |source| StorageError::Io { operation: Operation::Open, path: path.to_owned(), source };
        Ok(read.map_err(failed)?)
    }

    /// The torrent's resume data; `None` if there is none that can be used. The only error is that no descriptor is free.
    fn read_record(&self, path: &Path, layout: &Layout) -> io::Result<Option<ResumeData>> {
        let bytes = match resume_store::read(path, ResumeData::max_encoded_size(layout)) {
            Ok(bytes) => bytes,
            Err(error) if is_shortage(&error) => return Err(error),
            Err(_) => return Ok(None),
        };
        let record = ResumeData::decode(&bytes, layout).ok();
        Ok(record.filter(|record| record.info_hash == self.metainfo.info_hash))
    }
}

/// A path as the service names files: see [`Metainfo::replace_colons`].
fn without_colons(path: &Path) -> PathBuf {
    PathBuf::from(path.to_string_lossy().replace(':', "_"))
}

fn remove_record(path: Option<PathBuf>) {
    let Some(path) = path.filter(|path| fs::symlink_metadata(path).is_ok()) else { return };
    if let Err(error) = fs::remove_file(&path) {
        log::debug!("{}: cannot be removed: {error}", path.display());
    }
}

/// Changes resume data so that it fits the files after a move. Files that another program may have changed meanwhile, or that a
/// killed job moved, lose their entries: the next run hashes them. `stamps` are those before the move, and `target` has the files
/// now. `same_names`: the files that have not been moved.
fn follow_moves(
    record: &mut ResumeData,
    (stamps, target): (&[Option<Stamp>], &Storage),
    moved: &[MovedFile],
    same_names: &[bool],
) {
    let files = same_names.len();
    let moved_file =
        |file: usize| moved.binary_search_by_key(&file, |moved| moved.file).ok().and_then(|at| moved.get(at));
    let stays = |file: usize| same_names.get(file) == Some(&true);
    let follow = |(number, stamp): &(u32, Stamp)| {
        let file = usize::try_from(*number).ok()?;
        let before = stamps.get(file).copied().flatten();
        let now = target.stamp(file)?;
        if stays(file) && now == *stamp {
            return Some((*number, now));
        }
        // The bytes of an unwanted file are in the part file.
        let known =
            [file, files].into_iter().filter_map(moved_file).find(|moved| Stamp::of_snapshot(&moved.after) == now)?;
        let is_same = before == Some(*stamp) && Stamp::of_snapshot(&known.before) == *stamp;
        is_same.then_some((*number, now))
    };
    record.files = record.files.iter().filter_map(follow).collect();
    if let Some(owned) = &mut record.owned_files {
        let follow = |(number, identity): &(u32, u64)| {
            let file = usize::try_from(number & !PREEXISTING).ok()?;
            let known = moved_file(file).filter(|moved| moved.before.identity == *identity);
            let is_left = stays(file) || (file == files && moved_file(files).is_none());
            known.map(|moved| (*number, moved.after.identity)).or_else(|| is_left.then_some((*number, *identity)))
        };
        *owned = owned.iter().filter_map(follow).collect();
        cold_sort::sort(owned);
    }
}

#[cfg(test)]
mod tests;
