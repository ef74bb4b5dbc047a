//! Decides which of the existing files are ours, by the marker, the resume data and their pieces.

use crate::metainfo::printable;
use crate::storage::{Claim, DecisionInput, FileAction, FileSnapshot, StorageError, StorageErrorKind, Survey};
use crate::torrent::open_files::FileOpener;
use crate::torrent::replaced::{self, ReplacedFile};
use crate::torrent::resume_store::ResumeStore;
use crate::torrent::{Event, TorrentError, send_event};
use crate::types::{Bitfield, PieceIndex};

impl FileOpener<'_> {
    /// What to do with each file and with the part file.
    pub(crate) fn decide(
        &self,
        survey: &Survey,
        have: &Bitfield,
        resume_store: Option<&ResumeStore>,
    ) -> Result<(Vec<FileAction>, FileAction), TorrentError> {
        let disk = &self.disk;
        let ours = |file: usize, seen: &FileSnapshot| self.is_ours(file, seen, resume_store);
        let input = DecisionInput {
            survey,
            hashes: &self.torrent.pieces,
            have,
            wanted: self.wanted,
            ours: &ours,
            claim: &|file: usize, seen: &FileSnapshot| self.says_of(file, seen, resume_store),
            vouched: &|file, piece| resume_store.is_some_and(|resume_store| resume_store.has_verified(file, piece)),
            overwrite: self.config.overwrite,
            stop: &self.inner.stop,
        };
        let steps = disk.decide(&input).map_err(|error| self.is_in_use(error, survey))?;
        if steps.iter().all(|step| *step == FileAction::Leave) {
            return Ok((steps, FileAction::Leave));
        }
        let has_part_file = survey.parts.as_ref().is_some_and(|seen| self.has_part_file(seen, resume_store));
        let parts = disk.decide_part_file(&input, &steps, has_part_file)?;
        Ok((steps, parts))
    }

    /// Whether the part file is ours by the marker or the resume data.
    fn has_part_file(&self, seen: &FileSnapshot, resume_store: Option<&ResumeStore>) -> bool {
        let named = self.disk.marker.as_ref().zip(self.disk.part_file_stamp());
        let is_marked = named.is_some_and(|(marker, (name, _))| marker.proves(name, seen.identity));
        is_marked || resume_store.is_some_and(|resume_store| resume_store.is_part_file_unchanged(&self.disk, seen))
    }

    /// Whether the file is ours: the marker proves that btsync created it for an unfinished download, or the resume data that
    /// it is as btsync left it.
    fn is_ours(&self, file: usize, seen: &FileSnapshot, resume_store: Option<&ResumeStore>) -> bool {
        let disk = &self.disk;
        let path = disk.layout().files().get(file).map(|spec| spec.path.as_path());
        let marked = disk.marker.as_ref().zip(path).is_some_and(|(marker, path)| marker.proves(path, seen.identity));
        marked || resume_store.is_some_and(|resume_store| resume_store.left(disk, file, seen))
    }

    /// What the marker or the resume data claims about a file that they do not prove to be ours.
    fn says_of(&self, file: usize, seen: &FileSnapshot, resume_store: Option<&ResumeStore>) -> Claim {
        let path = self.disk.layout().files().get(file).map(|spec| spec.path.as_path());
        let marked = self.disk.marker.as_ref().zip(path).map(|(marker, path)| marker.claims(path, seen.identity));
        match marked.unwrap_or_default() {
            Claim::None if resume_store.is_some_and(|resume_store| resume_store.started(file, seen)) => Claim::Begun,
            claim => claim,
        }
    }

    /// If the file in the way belongs to another torrent's unfinished download, returns that as the error.
    fn is_in_use(&self, error: StorageError, survey: &Survey) -> StorageError {
        if error.kind() != StorageErrorKind::Exists {
            return error;
        }
        let all = vec![FileAction::Continue; self.disk.layout().files().len()];
        let others = self.disk.check_other_downloads(&self.torrent.info_hash, &all, survey, false);
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
        steps: &[FileAction],
        survey: &Survey,
        have: &Bitfield,
        resume_store: Option<&ResumeStore>,
    ) {
        let layout = self.disk.layout();
        let replaced = layout.files().iter().enumerate().filter_map(|(file, spec)| {
            let writes = matches!(steps.get(file), Some(FileAction::Continue | FileAction::Copy));
            let is_ours = |seen: &FileSnapshot| {
                self.is_ours(file, seen, resume_store) || self.says_of(file, seen, resume_store) != Claim::None
            };
            survey.file(file).filter(|seen| writes && !is_ours(seen))?;
            let pieces = layout.pieces_of(file);
            let (of, all) = (pieces.len(), pieces.map(PieceIndex));
            let pieces = all.clone().filter(|piece| self.wanted.has(*piece) && !have.has(*piece)).count();
            let is_known = pieces > 0 && all.clone().any(|piece| have.has(piece));
            is_known.then(|| ReplacedFile { name: printable(&spec.path.to_string_lossy()), pieces, of })
        });
        for what in replaced::lines(replaced) {
            send_event(self.events, Event::Note { what });
        }
    }
}
