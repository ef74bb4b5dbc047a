//! Tells the torrent's files from files of the user's that only have their names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::path::Path;

use crate::storage::check::check_pieces;
use crate::storage::data_files::FileJobError;
use crate::storage::data_files::folders::lookup_file;
use crate::storage::files::Storage;
use crate::storage::layout::FileSpec;
use crate::storage::marker::Marker;
use crate::storage::resume::{PREEXISTING, ResumeData, Stamp};
use crate::storage::snapshot::FileSnapshot;
use crate::storage::stop_check::StopCheck;
use crate::types::{PieceIndex, Sha1Hash};

/// What is known of a torrent whose files are to be moved.
#[derive(Clone, Copy, Debug)]
pub struct FileEvidence<'a> {
    /// Its resume data.
    pub record: Option<&'a ResumeData>,
    /// Whether every wanted piece was verified.
    pub was_complete: bool,
    /// The hashes of its pieces.
    pub hashes: &'a [Sha1Hash],
}

/// The torrent's files before a move, by their numbers in the torrent; the number of files stands for the part file.
#[derive(Debug, Default)]
pub(super) struct FoundFiles {
    /// All that exist.
    pub seen: BTreeMap<usize, FileSnapshot>,
    /// Those of the user's, which stay.
    pub foreign: BTreeSet<usize>,
}

impl FoundFiles {
    /// Whether a file is the one that was seen, and nobody has written to it since.
    pub fn is_unchanged(&self, file: usize, now: &Metadata) -> bool {
        let is_it = |seen: &FileSnapshot| seen.has_same_identity_and_size(now) && seen.has_same_size_and_mtime(now);
        self.seen.get(&file).is_some_and(is_it)
    }
}

/// Whether a file belongs to the torrent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Provenance {
    /// The marker or the resume data names it.
    Torrent,
    /// It has the right length: its content decides.
    NeedsCheck,
    /// It only has the name.
    Foreign,
}

impl Storage {
    /// The files on disk. Those belong to the user, the one with the part file's name among them, that neither the marker nor the
    /// resume data names as files that btsync wrote or verified, and of whose pieces no more verify than do not.
    pub(super) fn found_files(
        &self,
        marker: Option<&Marker>,
        evidence: FileEvidence<'_>,
        stop: &dyn StopCheck,
    ) -> Result<FoundFiles, FileJobError> {
        let (mut seen, mut foreign, mut doubtful) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
        for (file, spec) in self.layout.files().iter().enumerate().filter(|(_, spec)| !spec.is_pad) {
            if stop.is_stopped() {
                return Err(FileJobError::Stopped);
            }
            // Whatever else is in its place, the move itself refuses it.
            let Some(found) = lookup_file(&self.root, &spec.path)? else { continue };
            seen.insert(file, FileSnapshot::of(&found));
            match self.provenance(marker, (file, spec, &found), evidence) {
                Provenance::Torrent => {}
                Provenance::NeedsCheck => doubtful.push(file),
                Provenance::Foreign => _ = foreign.insert(file),
            }
        }
        let part_file = lookup_file(&self.root, self.placement.name())?;
        let has_name = !self.placement.name().as_os_str().is_empty();
        if let Some(found) = part_file.filter(|_| has_name).map(|found| FileSnapshot::of(&found)) {
            seen.insert(self.layout.files().len(), found);
            if !self.is_own_part_file(marker, evidence.record, &found) {
                foreign.insert(self.layout.files().len());
            }
        }
        self.add_unverified(&mut foreign, &doubtful, evidence.hashes, stop)?;
        // btsync has only read such a file, and the torrent would not be complete without it.
        let files = self.layout.files().iter().enumerate();
        let is_original = |file: usize, name: &Path| {
            self.layout.is_read_only(file)
                && !foreign.contains(&file)
                && lookup_file(&self.root, name).is_ok_and(|it| it.is_some())
        };
        match files.map(|(file, spec)| (file, &spec.path)).find(|(file, name)| is_original(*file, name)) {
            Some((_, name)) => Err(FileJobError::OriginalName(self.root.path().join(name))),
            None => Ok(FoundFiles { seen, foreign }),
        }
    }

    /// Adds those of the doubtful files of which no more pieces verify than do not.
    fn add_unverified(
        &self,
        foreign: &mut BTreeSet<usize>,
        doubtful: &[usize],
        hashes: &[Sha1Hash],
        stop: &dyn StopCheck,
    ) -> Result<(), FileJobError> {
        if doubtful.is_empty() {
            return Ok(());
        }
        let pieces = doubtful.iter().flat_map(|file| self.layout.pieces_of(*file)).map(PieceIndex);
        let have = check_pieces(self, hashes, pieces, stop)?;
        if stop.is_stopped() {
            return Err(FileJobError::Stopped);
        }
        let is_foreign = |file: &usize| {
            let pieces = self.layout.pieces_of(*file).map(PieceIndex);
            let (all, right) = pieces.fold((0, 0), |(all, right), piece| (all + 1, right + u32::from(have.has(piece))));
            right * 2 <= all
        };
        foreign.extend(doubtful.iter().copied().filter(is_foreign));
        Ok(())
    }

    /// Whether the marker or the resume data says that btsync made the file that was `seen` under the part file's name.
    pub(super) fn is_own_part_file(
        &self,
        marker: Option<&Marker>,
        record: Option<&ResumeData>,
        seen: &FileSnapshot,
    ) -> bool {
        let number = u32::try_from(self.layout.files().len()).unwrap_or(u32::MAX);
        let owned = record.and_then(|record| record.owned_files.as_ref());
        marker.is_some_and(|marker| marker.is_created_file(self.placement.name(), seen.identity))
            || owned.is_some_and(|owned| owned.binary_search(&(number, seen.identity)).is_ok())
    }

    fn provenance(
        &self,
        marker: Option<&Marker>,
        (file, spec, found): (usize, &FileSpec, &Metadata),
        FileEvidence { record, was_complete, .. }: FileEvidence<'_>,
    ) -> Provenance {
        let seen = FileSnapshot::of(found);
        let number = u32::try_from(file).unwrap_or(u32::MAX);
        if let Some(marker) = marker {
            if marker.is_refused(&spec.path, seen.identity) {
                return Provenance::Foreign;
            }
            if marker.is_created_file(&spec.path, seen.identity) || marker.is_used_existing(&spec.path, seen.identity) {
                return Provenance::Torrent;
            }
        }
        if let Some(record) = record {
            let is_as_recorded = record.stamp(number).is_some_and(|stamp| Some(stamp) == Stamp::of(found));
            let is_owned = |owned: &Vec<(u32, u64)>| {
                [number, number | PREEXISTING]
                    .iter()
                    .any(|number| owned.binary_search(&(*number, seen.identity)).is_ok())
            };
            if record.owned_files.as_ref().is_some_and(is_owned) {
                return Provenance::Torrent;
            }
            // The pieces of an unwanted file may have been verified in the part file.
            let is_verified = spec.length > 0 && self.wants(file) && self.layout.is_complete(file, &record.have);
            if is_as_recorded && is_verified {
                return Provenance::Torrent;
            }
        }
        match spec.length {
            // An empty file has no content to lose.
            0 if found.len() == 0 && self.wants(file) && (was_complete || record.is_some() || marker.is_some()) => {
                Provenance::Torrent
            }
            length if length > 0 && length == found.len() => Provenance::NeedsCheck,
            _ => Provenance::Foreign,
        }
    }
}
