//! Restores both places after a move that has failed.

use std::path::{Path, PathBuf};

use crate::storage::data_files::FileJobError;
use crate::storage::data_files::copying::temporary_name;
use crate::storage::data_files::folders::{lookup, lookup_file, parent, remove, remove_if_untouched};
use crate::storage::data_files::left_folders::remove_empty;
use crate::storage::data_files::moving::{DoneMove, EntryState, FileMover};
use crate::storage::data_files::names::{NameRelation, change_spelling, relation};
use crate::storage::data_files::published_copy::{is_noted, note_name};
use crate::storage::snapshot::FileSnapshot;

impl FileMover<'_> {
    /// Moves files back after a failure, unless the job was only interrupted. Returns the error to report.
    pub(super) fn move_back(&self, done: &[DoneMove], error: FileJobError) -> FileJobError {
        if matches!(error, FileJobError::Stopped) {
            return error;
        }
        let (source, target) = (&self.source.root, &self.target.root);
        let is_stuck = |done: &&DoneMove| {
            let seen = match lookup(target, &done.to) {
                Ok(Some(found)) if found.is_file() && done.after.is_renamed(&found) => FileSnapshot::of(&found),
                Ok(Some(_)) => {
                    let path = target.path().join(&done.to);
                    log::error!("{}: another program has replaced the moved file, so it stays", path.display());
                    return false;
                }
                _ => return true,
            };
            let moved = match relation((target, &done.to), (source, &done.from)) {
                Ok(NameRelation::OtherSpelling) => change_spelling(
                    source,
                    (&done.to, &done.from),
                    &temporary_name(&done.to, &self.info_hash, done.file),
                ),
                _ => self.move_file((target, &done.to), (source, &done.from), (done.file, &seen)).map(drop),
            };
            moved.inspect_err(|error| log::error!("cannot move a file back: {error}")).is_err()
        };
        let count = done.iter().rev().filter(is_stuck).count();
        remove_empty(target, done.iter().map(|done| parent(&done.to).to_owned()));
        if count == 0 {
            return error;
        }
        FileJobError::Split { source: Box::new(error), count, folder: target.path().to_owned() }
    }

    /// Removes the copies that an earlier, killed job has left in the target, unless this job is only interrupted: nobody will
    /// complete that move any more.
    pub(super) fn discard_copies(&self, error: &FileJobError) {
        if matches!(error, FileJobError::Stopped) {
            return;
        }
        for (file, from, to, _) in self.names() {
            if let Err(error) = self.discard_copy(file, from, &to) {
                log::warn!("a copy of an interrupted move may be left: {error}");
            }
        }
    }

    fn discard_copy(&self, file: usize, from: &Path, to: &Path) -> Result<(), FileJobError> {
        let (source, target) = (&self.source.root, &self.target.root);
        let [copy, note]: [PathBuf; 2] =
            [temporary_name(to, &self.info_hash, file), note_name(to, &self.info_hash, file)];
        if lookup_file(target, &note)?.is_some() {
            let both = lookup_file(source, from)?.zip(lookup_file(target, to)?);
            if let Some((original, published)) = both.filter(|(_, published)| is_noted(target, &note, published))
                && let Some(EntryState::Copied(_)) = self.state_of_both((file, from, &original), (to, &published))?
            {
                remove_if_untouched(target, to, &FileSnapshot::of(&published))?;
            }
            remove(target, &note)?;
        }
        if lookup_file(target, &copy)?.is_some() { remove(target, &copy) } else { Ok(()) }
    }
}
