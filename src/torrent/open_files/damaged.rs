//! Existing files that were complete before and are not now: their user has changed them, so pieces of them are downloaded again
//! only if the user asks for it.

use crate::storage::{FileAction, FileSnapshot, Refusal, StorageError, Survey};
use crate::torrent::config::RepairScope;
use crate::torrent::open_files::FileOpener;
use crate::torrent::resume_store::ResumeStore;
use crate::types::{Bitfield, PieceIndex};

impl FileOpener<'_> {
    /// Checks that all wanted files that were complete still are. Only pieces whose parts of other files exist count.
    ///
    /// # Errors
    /// [`StorageError::InTheWay`] with the first file that is not, unless its pieces may be downloaded again.
    pub(super) fn check_not_damaged(
        &self,
        survey: &Survey,
        have: &Bitfield,
        resume_store: Option<&ResumeStore>,
    ) -> Result<(), StorageError> {
        if self.repair_scope() == RepairScope::Any || self.is_stopped() || self.wanted.is_within(have) {
            return Ok(());
        }
        let files = self.storage.layout().files().iter().enumerate().filter(|(_, spec)| !spec.is_pad);
        let is_damaged = |file: &usize| {
            let exists = survey.file(*file).is_some() && self.was_complete(*file, resume_store);
            exists
                && self.lost_pieces(*file, have, resume_store).any(|piece| self.has_other_parts(piece, *file, survey))
        };
        let mut damaged = files.map(|(file, _)| file).filter(is_damaged);
        let Some(first) = damaged.next() else { return Ok(()) };
        let mut error = self.storage.in_the_way(first, Refusal::Damaged);
        if let StorageError::InTheWay { more, .. } = &mut error {
            *more = damaged.count();
        }
        Err(error)
    }

    /// Has files that were complete read and compared, instead of written to: of some of their pieces, another file's part is
    /// missing.
    ///
    /// # Errors
    /// [`StorageError::InTheWay`] if such a file has another length than the torrent says.
    pub(super) fn keep_complete_files(
        &self,
        actions: &mut [FileAction],
        survey: &Survey,
        have: &Bitfield,
        resume_store: Option<&ResumeStore>,
    ) -> Result<(), StorageError> {
        if self.repair_scope() == RepairScope::Any {
            return Ok(());
        }
        for (file, (action, spec)) in actions.iter_mut().zip(self.storage.layout().files()).enumerate() {
            let writes = matches!(action, FileAction::Continue | FileAction::Copy | FileAction::ReplaceEmpty);
            let Some(FileSnapshot { size, .. }) = survey.file(file).filter(|_| writes) else { continue };
            if self.was_complete(file, resume_store) && self.lost_pieces(file, have, resume_store).next().is_some() {
                if *size != spec.length {
                    return Err(self.storage.in_the_way(file, Refusal::Damaged));
                }
                *action = FileAction::Compare;
            }
        }
        Ok(())
    }

    fn repair_scope(&self) -> RepairScope {
        if self.may_overwrite { RepairScope::Any } else { self.config.files.repair_scope }
    }

    fn was_complete(&self, file: usize, resume_store: Option<&ResumeStore>) -> bool {
        match self.repair_scope() {
            RepairScope::Any => false,
            RepairScope::Unfinished => resume_store.is_some_and(|it| it.was_complete(self.storage.layout(), file)),
            RepairScope::Nothing => true,
        }
    }

    /// The wanted pieces of a file that do not verify. Leaves out those of a file that nobody has touched since they were verified:
    /// the disk has lost them, for example in a power failure.
    fn lost_pieces<'b>(
        &'b self,
        file: usize,
        have: &'b Bitfield,
        resume_store: Option<&'b ResumeStore>,
    ) -> impl Iterator<Item = PieceIndex> + 'b {
        let is_vouched = move |piece| resume_store.is_some_and(|resume_store| resume_store.has_verified(file, piece));
        let pieces = self.storage.layout().pieces_of(file).map(PieceIndex);
        pieces.filter(move |piece| self.wanted.has(*piece) && !have.has(*piece) && !is_vouched(*piece))
    }

    /// Whether the other files' parts of a piece exist.
    fn has_other_parts(&self, piece: PieceIndex, file: usize, survey: &Survey) -> bool {
        let layout = self.storage.layout();
        let is_pad = |file: usize| layout.files().get(file).is_some_and(|spec| spec.is_pad);
        let mut others = layout.spans(layout.offset(piece, 0), u64::from(layout.piece_size(piece)));
        others.all(|span| {
            let is_there = || survey.file(span.file).is_some_and(|seen| seen.size >= span.offset + span.len);
            span.file == file || is_pad(span.file) || is_there()
        })
    }
}
