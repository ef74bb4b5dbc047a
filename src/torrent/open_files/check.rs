//! Hashes the existing files as far as the resume data does not cover them, and reports what verifies.

use crate::storage::resume::time_step;
use crate::storage::{self, StorageError, Survey};
use crate::torrent::open_files::{FileOpener, wanted_sizes};
use crate::torrent::resume_store::ResumeStore;
use crate::torrent::{Event, TorrentError, send_event};
use crate::types::{Bitfield, PieceIndex};

impl FileOpener<'_> {
    /// Like `check`. Fails if none of the files exists although the program expects them: their disk may not be mounted, and
    /// btsync would download everything again, onto another disk.
    pub(super) fn check_existing(&mut self, survey: &Survey) -> Result<(Bitfield, Option<ResumeStore>), TorrentError> {
        let (wanted_bytes, _) = wanted_sizes(self.metainfo, self.wanted, &Bitfield::new(self.metainfo.piece_count()));
        if self.config.files.expects_files && !survey.has_files() && wanted_bytes > 0 {
            return Err(StorageError::NoFiles { path: self.config.out_dir.clone() }.into());
        }
        self.check(survey)
    }

    /// The pieces on disk that verify, which an event reports unless a stop cut the check short. Pieces that the resume data
    /// covers are not hashed; without resume data, all are.
    fn check(&mut self, survey: &Survey) -> Result<(Bitfield, Option<ResumeStore>), TorrentError> {
        let (config, storage, torrent) = (self.config, &self.storage, self.metainfo);
        let mut known = Bitfield::new(torrent.piece_count());
        self.has_hashed = false;
        if self.is_stopped() {
            return Ok((known, None));
        }
        let mut resume_store = self.resume_store();
        match &mut resume_store {
            Some(resume_store) if config.files.verifies_all || survey.bytes == 0 => resume_store.skip_trusted_pieces(),
            Some(resume_store) => known = resume_store.load_trusted_pieces(storage),
            None => {}
        }
        let size = |pieces: &Bitfield| pieces.iter().map(|piece| u64::from(torrent.piece_size(piece))).sum::<u64>();
        let has_data = survey.bytes > 0 || torrent.total() == 0;
        if has_data && !known.is_full() {
            self.has_hashed = true;
            send_event(self.events, Event::CheckStarted { bytes: torrent.total() - size(&known) });
            let (progress, run) = (&self.inner.progress.check, &*self.inner.run);
            known = storage::check_rest(storage, &torrent.pieces, &known, 0, progress, run)?;
            if let Some(resume_store) = &mut resume_store {
                resume_store.checked(storage, &*self.inner.run);
            }
        }
        self.may_overwrite = self.permits_overwriting(survey, &known);
        // Before the event: the torrent still counts as complete, so that starting it again repairs nothing either.
        self.check_not_damaged(survey, &known, resume_store.as_ref())?;
        // Otherwise pieces would seem to be missing that have only not been hashed.
        if !self.is_stopped() {
            let (total, have) = wanted_sizes(torrent, self.wanted, &known);
            send_event(self.events, Event::Checked { have, total });
        }
        Ok((known, resume_store))
    }

    /// Whether the permission to overwrite files holds: none of those that are not complete was changed after it was given, or put there.
    fn permits_overwriting(&self, survey: &Survey, have: &Bitfield) -> bool {
        let files = &self.config.files;
        let Some(permitted_at) = files.overwrite_permitted_at.filter(|_| files.may_overwrite) else {
            return files.may_overwrite;
        };
        let layout = self.storage.layout();
        // A later change may have an earlier time, as file systems count in steps.
        let is_earlier = |time: i64| time.saturating_add(time_step(time)) <= permitted_at;
        let is_missing = |piece: PieceIndex| self.wanted.has(piece) && !have.has(piece);
        let is_in_question = |file: usize| layout.pieces_of(file).map(PieceIndex).any(is_missing);
        let seen = (0..layout.files().len()).filter_map(|file| Some((file, survey.file(file)?)));
        seen.into_iter().all(|(file, seen)| is_earlier(seen.changed_at()) || !is_in_question(file))
    }

    /// The run ends after a check that found wanted pieces missing, and changes no file: the resume data no longer covers pieces
    /// that do not verify.
    pub(super) fn keep_result(&self, resume_store: Option<ResumeStore>, have: &Bitfield) {
        if let Some(resume_store) = resume_store.filter(|_| !self.is_stopped()) {
            resume_store.drop_failed_pieces(&self.storage, have);
        }
    }

    pub(super) fn resume_store(&self) -> Option<ResumeStore> {
        let records = self.config.records.resume_folder.as_ref()?;
        ResumeStore::new(records, self.metainfo.info_hash, &self.config.out_dir, &self.storage, &*self.inner.run)
    }
}
