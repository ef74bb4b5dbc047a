//! Names for incomplete files (`--incomplete-suffix`): each file has a suffix until all wanted files are complete, and then gets
//! its final name.
//!
//! A process may die between any two renames. A file that has its final name is complete; one with the suffix is found by that
//! name, and the next run that finds everything complete renames it.

use std::collections::HashSet;
use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use crate::storage::error::{Operation, StorageError};
use crate::storage::exact_files;
use crate::storage::files::Storage;
use crate::storage::layout::{FileSpec, Layout};
use crate::storage::marker::is_reserved;
use crate::storage::open::{Root, file_name};
use crate::storage::ownership::{FileAction, Refusal};
use crate::storage::snapshot::{FileSnapshot, identity};
use crate::storage::survey::Survey;
use crate::util::descriptors::is_shortage;
use crate::util::paths::is_watched_name;

/// The maximum length of a name in bytes on common file systems.
const NAME_MAX: usize = 255;

impl Layout {
    /// Appends `suffix` to the names of unfinished files: those for which `is_unfinished` returns `true`, given the file's
    /// number, its final path and its path with the suffix. A file keeps its name if the new one would be too long, is taken by
    /// another file or folder, is reserved for btsync's own files, or would make a watched folder start it.
    #[must_use]
    pub fn with_incomplete_suffix(
        mut self,
        suffix: &str,
        is_unfinished: impl Fn(usize, &Path, &Path) -> bool,
    ) -> Layout {
        let ends = |path: &&Path| path.as_os_str().as_encoded_bytes().ends_with(suffix.as_bytes());
        let paths = self.files().iter().filter(|spec| !spec.is_pad).map(|spec| spec.path.as_path());
        let taken: HashSet<PathBuf> = paths.flat_map(Path::ancestors).filter(ends).map(Path::to_owned).collect();
        let files = self.files().iter().enumerate().filter(|(_, spec)| !spec.is_pad && spec.length > 0);
        let named = files.filter_map(|(file, spec)| {
            let mut name: OsString = spec.path.file_name()?.to_owned();
            name.push(suffix);
            let path = spec.path.with_file_name(&name);
            let is_free = name.len() <= NAME_MAX && !taken.contains(&path) && !is_reserved(name.as_ref());
            let fits = is_free && !is_watched_name(&path) && !self.is_read_only(file);
            (fits && is_unfinished(file, &spec.path, &path)).then_some((file, path))
        });
        let named: Vec<(usize, PathBuf)> = named.collect();
        for (file, path) in named {
            let own = self.files().get(file).map(|spec| spec.path.clone()).unwrap_or_default();
            if self.redirect(file, &path).is_ok() {
                self.set_final_name(file, own);
            }
        }
        self
    }
}

impl Storage {
    /// Gives the wanted files their final names. Call it once all wanted files are complete.
    ///
    /// # Errors
    /// If a file cannot be renamed, such as when another file has that name by now; if it is not the file that btsync has
    /// written.
    pub fn apply_final_names(&self) -> Result<(), StorageError> {
        self.apply_final_names_until(&|| false).map(|_| ())
    }

    /// Like [`Storage::apply_final_names`], but returns `false` early if `is_over` becomes true. A later call continues there.
    ///
    /// # Errors
    /// As [`Storage::apply_final_names`].
    pub fn apply_final_names_until(&self, is_over: &dyn Fn() -> bool) -> Result<bool, StorageError> {
        for (file, own) in self.layout.final_names() {
            if is_over() {
                return Ok(false);
            }
            // An earlier call may have renamed this file and then found no descriptor for the next one.
            if *file < self.renamed_up_to.get() || !self.wants(*file) {
                continue;
            }
            let seen = self.check_incomplete_file(*file)?;
            // The rename changes the file's ctime, so it must count as a write of ours.
            let _writing = self.cache.writing(*file);
            self.rename_to_final(*file, own, seen)?;
            self.renamed_up_to.set(file + 1);
        }
        self.renamed_up_to.set(self.layout.files().len());
        Ok(true)
    }

    /// Renames a file that was just checked (`seen`). If another program has replaced it since, its file gets its name back.
    fn rename_to_final(&self, file: usize, own: &Path, seen: Option<FileSnapshot>) -> Result<(), StorageError> {
        let name = self.name(file);
        self.root.rename_to_new(name, own).map_err(|error| self.failed(Operation::Rename, file, error))?;
        // The rename has succeeded. If no descriptor is free for this check, the one before must suffice.
        let is_it = |seen: FileSnapshot| match self.root.metadata_inside(own) {
            Ok(now) => seen.is_renamed(&now),
            Err(error) => is_shortage(&error),
        };
        if seen.is_none_or(is_it) {
            return Ok(());
        }
        if let Err(error) = self.root.rename_to_new(own, name) {
            log::warn!("{}: this file cannot be renamed back: {error}", own.display());
        }
        Err(self.in_the_way(file, Refusal::Replaced))
    }

    /// Checks that the file with an unfinished file's name is the one that btsync made, and returns its snapshot.
    fn check_incomplete_file(&self, file: usize) -> Result<Option<FileSnapshot>, StorageError> {
        let Some(writable) = &self.safeguards.writable_identities else {
            return match self.root.metadata_inside(self.name(file)) {
                Err(error) if is_shortage(&error) => Err(self.failed(Operation::Rename, file, error)),
                found => Ok(found.ok().map(|found| FileSnapshot::of(&found))),
            };
        };
        let found = self.root.metadata_inside(self.name(file));
        let found = found.map_err(|error| self.failed(Operation::Rename, file, error))?;
        self.check_not_replaced(file, &found)?;
        let is_written = writable.get(file).is_some_and(Option::is_some);
        let is_named = || {
            self.marker.content.as_ref().is_some_and(|marker| marker.is_created_file(self.name(file), identity(&found)))
        };
        let is_link =
            self.root.is_link(self.name(file)).map_err(|error| self.failed(Operation::Rename, file, error))?;
        let is_ours = (is_written || is_named()) && !is_link;
        if is_ours { Ok(Some(FileSnapshot::of(&found))) } else { Err(self.in_the_way(file, Refusal::Replaced)) }
    }

    /// Cancels the final rename of complete or possibly complete files with an unfinished file's name, unless the marker says
    /// that btsync made them. The same goes for symbolic links and for files that have other hard links or not the torrent's
    /// length. Call it after deciding what to do with each file. Returns the paths of these files.
    pub fn keep_unfinished_names(&mut self, actions: &[FileAction], survey: &Survey) -> Vec<PathBuf> {
        let is_kept = |file: usize, spec: &FileSpec| {
            let Some(seen) = survey.file(file).filter(|_| self.wants(file)) else { return false };
            let is_named =
                self.marker.content.as_ref().is_some_and(|marker| marker.is_created_file(&spec.path, seen.identity));
            let is_plain = seen.links == 1 && seen.size == spec.length && !self.root.may_be_link(&spec.path);
            let is_read = matches!(actions.get(file), Some(FileAction::Leave | FileAction::Compare));
            is_read && !(is_named && is_plain)
        };
        let unfinished =
            self.layout.final_names().iter().filter_map(|(file, _)| Some((*file, self.layout.files().get(*file)?)));
        let kept: Vec<_> = unfinished
            .filter(|(file, spec)| is_kept(*file, spec))
            .map(|(file, spec)| (file, spec.path.clone()))
            .collect();
        self.layout.forget_final_names(|file| kept.binary_search_by_key(&file, |(kept, _)| *kept).is_ok());
        kept.into_iter().map(|(_, path)| path).collect()
    }

    /// Whether all files have their final names.
    pub fn has_final_names(&self) -> bool {
        self.layout.final_names().is_empty() || self.renamed_up_to.get() >= self.layout.files().len()
    }
}

impl Root {
    /// Renames a file to a name that must be free.
    fn rename_to_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (source, target) = (self.folder_of(from)?, self.folder_of(to)?);
        Ok(exact_files::rename_to_new((source.as_fd(), file_name(from)), (target.as_fd(), file_name(to)))?)
    }
}

#[cfg(test)]
mod tests;
