//! Decides which of the existing files are ours, by the marker, the resume data and their pieces.

use crate::metainfo::printable;
use crate::storage::{DecisionInput, FileAction, FileSnapshot, OwnershipClaim, StorageError, StorageErrorKind, Survey};
use crate::torrent::open_files::FileOpener;
use crate::torrent::replaced_files::{self, ReplacedFile};
use crate::torrent::resume_store::ResumeStore;
use crate::torrent::{Event, TorrentError, send_event};
use crate::types::{Bitfield, PieceIndex};

impl FileOpener<'_> {
    /// What to do with each file and with the part file. If all files are left alone, `Continue` means that the part file is ours and
    /// no longer needed.
    pub(crate) fn decide(
        &self,
        survey: &Survey,
        have: &Bitfield,
        resume_store: Option<&ResumeStore>,
    ) -> Result<(Vec<FileAction>, FileAction), TorrentError> {
        let storage = &self.storage;
        let ours = |file: usize, seen: &FileSnapshot| self.is_ours(file, seen, resume_store);
        let input = DecisionInput {
            survey,
            hashes: &self.metainfo.pieces,
            have,
            wanted: self.wanted,
            ours: &ours,
            claim: &|file: usize, seen: &FileSnapshot| self.claim_of(file, seen, resume_store),
            of_earlier_run: &|file: usize, seen: &FileSnapshot| self.is_of_earlier_run(file, seen),
            vouched: &|file, piece| resume_store.is_some_and(|resume_store| resume_store.has_verified(file, piece)),
            may_overwrite: self.may_overwrite,
            stop: &*self.inner.run,
        };
        let mut actions = storage.decide(&input).map_err(|error| self.or_in_use_error(error, survey))?;
        self.keep_complete_files(&mut actions, survey, have, resume_store)?;
        let leaves_all = actions.iter().all(|action| *action == FileAction::Leave);
        if leaves_all && (survey.part_file.is_none() || storage.uses_part_file()) {
            return Ok((actions, FileAction::Leave));
        }
        let owns_part_file = survey.part_file.as_ref().is_some_and(|seen| self.owns_part_file(seen, resume_store));
        let part_file_action = match storage.decide_part_file(&input, &actions, owns_part_file) {
            // It is only in question whether it may be removed.
            Err(_) if leaves_all => FileAction::Leave,
            result => result?,
        };
        if !input.may_overwrite {
            storage.keep_shared_files(&mut actions);
        }
        Ok((actions, part_file_action))
    }

    /// Whether the part file is ours by the marker or the resume data.
    fn owns_part_file(&self, seen: &FileSnapshot, resume_store: Option<&ResumeStore>) -> bool {
        let named = self.storage.marker.content.as_ref().zip(self.storage.part_file_stamp());
        let is_marked = named.is_some_and(|(marker, (name, _))| {
            marker.proves(name, seen.identity)
                || self.storage.may_be_of_earlier_run(&self.metainfo.info_hash, name, seen)
        });
        is_marked || resume_store.is_some_and(|resume_store| resume_store.is_part_file_unchanged(&self.storage, seen))
    }

    /// Whether the resume data says that the file is as btsync left it, and not complete.
    fn is_ours(&self, file: usize, seen: &FileSnapshot, resume_store: Option<&ResumeStore>) -> bool {
        let path = self.storage.layout().files().get(file).map(|spec| spec.path.as_path());
        let marker = self.storage.marker.content.as_ref().zip(path);
        let is_refused = marker.is_some_and(|(marker, path)| marker.is_refused(path, seen.identity));
        !is_refused && resume_store.is_some_and(|resume_store| resume_store.is_untouched(&self.storage, file, seen))
    }

    fn is_of_earlier_run(&self, file: usize, seen: &FileSnapshot) -> bool {
        self.storage.is_of_earlier_run(&self.metainfo.info_hash, file, seen)
    }

    /// What the marker or the resume data claims about a file that they do not prove to be as btsync left it.
    fn claim_of(&self, file: usize, seen: &FileSnapshot, resume_store: Option<&ResumeStore>) -> OwnershipClaim {
        let path = self.storage.layout().files().get(file).map(|spec| spec.path.as_path());
        let Some((marker, path)) = self.storage.marker.content.as_ref().zip(path) else {
            return recorded_claim(file, seen, resume_store);
        };
        if marker.is_refused(path, seen.identity) {
            return OwnershipClaim::Refused;
        }
        let (is_made, is_done) = (marker.proves(path, seen.identity), marker.is_completed_file(path, seen.identity));
        // After a crash of the system, what was complete may be in part again.
        let may_have_crashed = || resume_store.is_none_or(ResumeStore::may_have_crashed);
        let was_complete =
            || resume_store.is_some_and(|resume_store| resume_store.was_complete(self.storage.layout(), file));
        let may_be_ours = if is_done {
            may_have_crashed() && marker.is_completed_and_unchanged(path, seen)
        } else {
            is_made && (!was_complete() || may_have_crashed())
        };
        if may_be_ours {
            let is_as_recorded = resume_store.is_some_and(|resume_store| resume_store.is_as_recorded(file));
            let is_newer = marker.is_edited(path, seen.identity)
                || marker.is_changed_after_stop(path, seen)
                || self.storage.is_newer_than_marker(&self.metainfo.info_hash, marker, seen, is_as_recorded);
            // If it is newer, only a piece that verifies shows that the file is still btsync's.
            return if is_newer { OwnershipClaim::StartedHere } else { OwnershipClaim::MadeButChanged };
        }
        if is_made || is_done || marker.is_used_existing(path, seen.identity) {
            return OwnershipClaim::None;
        }
        match marker.claims(path, seen.identity) {
            OwnershipClaim::None => recorded_claim(file, seen, resume_store),
            claim => claim,
        }
    }

    /// Of btsync's files that this run does not write to, records in the marker those that another program may have changed: the
    /// marker gets a new time, which would otherwise hide the change.
    pub(crate) fn record_doubts(
        &mut self,
        actions: &[FileAction],
        survey: &Survey,
        resume_store: Option<&ResumeStore>,
    ) {
        let Some(marker) = &self.storage.marker.content else { return };
        let is_doubtful = |file: usize, action: FileAction, seen: &FileSnapshot| match action {
            FileAction::Compare => true,
            FileAction::Leave => {
                !self.is_ours(file, seen, resume_store)
                    && self.claim_of(file, seen, resume_store) == OwnershipClaim::StartedHere
            }
            _ => false,
        };
        let files = self.storage.layout().files().iter().zip(actions).enumerate();
        let doubtful = files.filter_map(|(file, (spec, action))| {
            let seen = survey.file(file).filter(|seen| marker.is_unfinished_file(&spec.path, seen.identity))?;
            is_doubtful(file, *action, seen).then_some((file, *seen))
        });
        let doubtful: Vec<(usize, FileSnapshot)> = doubtful.collect();
        for (file, seen) in &doubtful {
            self.storage.record_doubt(*file, seen);
        }
    }

    /// If the file in the way belongs to another torrent's unfinished download, returns that as the error.
    fn or_in_use_error(&self, error: StorageError, survey: &Survey) -> StorageError {
        if error.kind() != StorageErrorKind::Exists {
            return error;
        }
        let all = vec![FileAction::Continue; self.storage.layout().files().len()];
        let others = self.storage.check_other_downloads(&self.metainfo.info_hash, &all, survey, false);
        let is_reason = |other: &StorageError| match (other, &error) {
            (StorageError::InTheWay { path, .. }, StorageError::InTheWay { path: refused, .. }) => path == refused,
            _ => other.kind() == StorageErrorKind::InUse,
        };
        others.err().filter(is_reason).unwrap_or(error)
    }

    /// Reports what the download replaces in files that contain pieces of the torrent and are not its own unfinished ones: the
    /// user may have changed a complete file on purpose.
    pub(crate) fn report_replaced(
        &self,
        actions: &[FileAction],
        survey: &Survey,
        have: &Bitfield,
        resume_store: Option<&ResumeStore>,
    ) {
        let layout = self.storage.layout();
        let replaced = layout.files().iter().enumerate().filter_map(|(file, spec)| {
            let writes = matches!(actions.get(file), Some(FileAction::Continue | FileAction::Copy));
            let is_ours = |seen: &FileSnapshot| {
                self.is_ours(file, seen, resume_store)
                    || self.claim_of(file, seen, resume_store) != OwnershipClaim::None
                    || self.is_of_earlier_run(file, seen)
            };
            survey.file(file).filter(|seen| writes && !is_ours(seen))?;
            let pieces = layout.pieces_of(file);
            let (total_pieces, all) = (pieces.len(), pieces.map(PieceIndex));
            let pieces = all.clone().filter(|piece| self.wanted.has(*piece) && !have.has(*piece)).count();
            let is_known = pieces > 0 && all.clone().any(|piece| have.has(piece));
            is_known.then(|| ReplacedFile { name: printable(&spec.path.to_string_lossy()), pieces, total_pieces })
        });
        for what in replaced_files::lines(replaced) {
            send_event(self.events, Event::Note { what });
        }
    }
}

fn recorded_claim(file: usize, seen: &FileSnapshot, resume_store: Option<&ResumeStore>) -> OwnershipClaim {
    if resume_store.is_some_and(|resume_store| resume_store.was_started(file, seen)) {
        OwnershipClaim::StartedHere
    } else {
        OwnershipClaim::None
    }
}
