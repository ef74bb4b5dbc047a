//! Which of the files that are there are ours, by the marker, the resume data and their pieces.

use crate::metainfo::printable;
use crate::storage::{Claim, Question, Seen, Step, StorageError, StorageErrorKind, Survey};
use crate::torrent::open_files::Opening;
use crate::torrent::replaced::{self, Replaced};
use crate::torrent::resume_store::Keeper;
use crate::torrent::{Event, SessionError, tell};
use crate::types::{Bitfield, PieceIndex};

impl Opening<'_> {
    /// What is to be done with each file, and with the part file.
    pub(crate) fn decide(
        &self,
        survey: &Survey,
        have: &Bitfield,
        keeper: Option<&Keeper>,
    ) -> Result<(Vec<Step>, Step), SessionError> {
        let disk = &self.disk;
        let ours = |file: usize, seen: &Seen| self.is_ours(file, seen, keeper);
        let question = Question {
            survey,
            hashes: &self.torrent.pieces,
            have,
            wanted: self.wanted,
            ours: &ours,
            claim: &|file: usize, seen: &Seen| self.says_of(file, seen, keeper),
            vouched: &|file, piece| keeper.is_some_and(|keeper| keeper.vouches(file, piece)),
            overwrite: self.config.overwrite,
            stop: &self.inner.stop,
        };
        let steps = disk.decide(&question).map_err(|error| self.is_in_use(error, survey))?;
        if steps.iter().all(|step| *step == Step::Leave) {
            return Ok((steps, Step::Leave));
        }
        let has_parts = survey.parts.as_ref().is_some_and(|seen| self.has_parts(seen, keeper));
        let parts = disk.decide_parts(&question, &steps, has_parts)?;
        Ok((steps, parts))
    }

    /// Whether the part file is ours by the marker or the resume data.
    fn has_parts(&self, seen: &Seen, keeper: Option<&Keeper>) -> bool {
        let named = self.disk.marker.as_ref().zip(self.disk.parts_stamp());
        let is_marked = named.is_some_and(|(marker, (name, _))| marker.proves(name, seen.identity));
        is_marked || keeper.is_some_and(|keeper| keeper.left_parts(&self.disk, seen))
    }

    /// Whether the marker says that btsync made the file, for a download that is not complete, or the resume data that it is as btsync
    /// left it.
    fn is_ours(&self, file: usize, seen: &Seen, keeper: Option<&Keeper>) -> bool {
        let disk = &self.disk;
        let path = disk.layout().files().get(file).map(|spec| spec.path.as_path());
        let marked = disk.marker.as_ref().zip(path).is_some_and(|(marker, path)| marker.proves(path, seen.identity));
        marked || keeper.is_some_and(|keeper| keeper.left(disk, file, seen))
    }

    /// What the marker or the resume data says of a file that it does not prove to be ours.
    fn says_of(&self, file: usize, seen: &Seen, keeper: Option<&Keeper>) -> Claim {
        let path = self.disk.layout().files().get(file).map(|spec| spec.path.as_path());
        let marked = self.disk.marker.as_ref().zip(path).map(|(marker, path)| marker.claims(path, seen.identity));
        match marked.unwrap_or_default() {
            Claim::None if keeper.is_some_and(|keeper| keeper.began(file, seen)) => Claim::Begun,
            claim => claim,
        }
    }

    /// Where the file that is in the way is another torrent's unfinished download, that is the reason.
    fn is_in_use(&self, error: StorageError, survey: &Survey) -> StorageError {
        if error.kind() != StorageErrorKind::Exists {
            return error;
        }
        let all = vec![Step::Continue; self.disk.layout().files().len()];
        let others = self.disk.heed_others(&self.torrent.info_hash, &all, survey, false);
        let is_reason = |other: &StorageError| match (other, &error) {
            (StorageError::InTheWay { path, .. }, StorageError::InTheWay { path: refused, .. }) => path == refused,
            _ => other.kind() == StorageErrorKind::InUse,
        };
        others.err().filter(is_reason).unwrap_or(error)
    }

    /// Says what the download replaces in files that hold pieces of the torrent and are not its own unfinished ones: the user
    /// may have changed a complete file on purpose.
    pub(crate) fn tell_replaced(&self, steps: &[Step], survey: &Survey, have: &Bitfield, keeper: Option<&Keeper>) {
        let layout = self.disk.layout();
        let replaced = layout.files().iter().enumerate().filter_map(|(file, spec)| {
            let writes = matches!(steps.get(file), Some(Step::Continue | Step::Copy));
            let is_ours =
                |seen: &Seen| self.is_ours(file, seen, keeper) || self.says_of(file, seen, keeper) != Claim::None;
            survey.file(file).filter(|seen| writes && !is_ours(seen))?;
            let pieces = layout.pieces_of(file);
            let (of, all) = (pieces.len(), pieces.map(PieceIndex));
            let pieces = all.clone().filter(|piece| self.wanted.has(*piece) && !have.has(*piece)).count();
            let is_known = pieces > 0 && all.clone().any(|piece| have.has(piece));
            is_known.then(|| Replaced { name: printable(&spec.path.to_string_lossy()), pieces, of })
        });
        for what in replaced::lines(replaced) {
            tell(self.events, Event::Note { what });
        }
    }
}
