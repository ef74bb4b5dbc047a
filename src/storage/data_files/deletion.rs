//! Deletes those files of a torrent that btsync created or completed, and that nobody has changed since.

use std::fmt;
use std::fs::Metadata;
use std::path::{Path, PathBuf};

use crate::storage::check::check_pieces;
use crate::storage::data_files::folders::{lookup, lookup_file, parent, remove, remove_if_untouched};
use crate::storage::data_files::{FileEvidence, FileJobError};
use crate::storage::error::shown;
use crate::storage::files::Storage;
use crate::storage::layout::FileSpec;
use crate::storage::marker::Marker;
use crate::storage::resume::{PREEXISTING, ResumeData, Stamp};
use crate::storage::snapshot::{FileSnapshot, is_permanent};
use crate::storage::stop_check::StopCheck;
use crate::types::{InfoHash, PieceIndex};

/// A file that was not deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptFile {
    /// Its path.
    pub path: PathBuf,
    /// Why it was not deleted.
    pub why: String,
}

impl fmt::Display for KeptFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", shown(&self.path), self.why)
    }
}

/// What is known of a file to be deleted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Authorship {
    /// btsync created or completed it, and nobody has changed it since.
    Ours,
    /// It was complete, and has changed times or none on record: its content decides.
    NeedsCheck,
    /// Another program has changed it, or btsync never wrote to it.
    Foreign(&'static str),
}

const CHANGED: Authorship = Authorship::Foreign("another program has changed it");

impl Storage {
    /// Deletes the torrent's files that btsync created or completed and nobody has changed since, then the part file, the marker, and
    /// the torrent's links and empty folders, as far as they are btsync's. Without resume data, if everything was complete, a file counts as completed
    /// if all its pieces verify. Returns the files that stay.
    ///
    /// # Errors
    /// If the files are in a private folder, another process downloads the torrent, or the disk fails. It can be called again.
    pub fn delete_files(
        &mut self,
        info_hash: &InfoHash,
        evidence: FileEvidence<'_>,
        (private, stop): (&[PathBuf], &dyn StopCheck),
    ) -> Result<Vec<KeptFile>, FileJobError> {
        self.probe_lock(info_hash)?;
        self.check_all_not_private(private)?;
        self.marker.content = self.read_marker(info_hash)?;
        let (ours, mut kept) = self.sort_files(info_hash, evidence, stop)?;
        let mut folders = Vec::new();
        for (name, seen) in &ours {
            step(stop)?;
            match remove_if_untouched(&self.root, name, seen) {
                Ok(()) => folders.push(parent(name).to_owned()),
                Err(error) => kept.push(KeptFile { path: self.root.path().join(name), why: error.to_string() }),
            }
        }
        step(stop)?;
        kept.extend(self.delete_part_file(evidence.record)?);
        step(stop)?;
        if self.marker.content.is_some() {
            remove(&self.root, &self.marker_path(info_hash))?;
        }
        step(stop)?;
        self.remove_left_entries(folders.into_iter());
        Ok(kept)
    }

    /// Deletes the marker and the part file, unless there are unfinished files of btsync's: with the marker and the part file, a later
    /// download of the torrent continues them.
    ///
    /// # Errors
    /// If another process downloads the torrent, or the disk fails.
    pub fn delete_own_files(&mut self, info_hash: &InfoHash, record: Option<&ResumeData>) -> Result<(), FileJobError> {
        self.probe_lock(info_hash)?;
        self.marker.content = self.read_marker(info_hash)?;
        for spec in self.layout.files().iter().filter(|spec| !spec.is_pad) {
            let Some(marker) = &self.marker.content else { break };
            let found = lookup_file(&self.root, &spec.path)?.map(|found| FileSnapshot::of(&found));
            if found.is_some_and(|seen| marker.is_unfinished_file(&spec.path, seen.identity)) {
                return Ok(());
            }
        }
        self.delete_part_file(record)?;
        if self.marker.content.is_some() { remove(&self.root, &self.marker_path(info_hash)) } else { Ok(()) }
    }

    /// The files to delete, and those that stay.
    #[allow(clippy::type_complexity, reason = "two lists that are used once")]
    fn sort_files(
        &self,
        info_hash: &InfoHash,
        evidence: FileEvidence<'_>,
        stop: &dyn StopCheck,
    ) -> Result<(Vec<(PathBuf, FileSnapshot)>, Vec<KeptFile>), FileJobError> {
        let (mut found, mut kept) = (Vec::new(), Vec::new());
        for (file, spec) in self.layout.files().iter().enumerate().filter(|(_, spec)| !spec.is_pad) {
            step(stop)?;
            let keep = |why: String| KeptFile { path: self.root.path().join(&spec.path), why };
            match lookup(&self.root, &spec.path) {
                Ok(None) => {}
                Ok(Some(there)) if there.is_file() => {
                    let authorship = self.authorship(info_hash, (file, spec, &there), evidence);
                    found.push((file, FileSnapshot::of(&there), authorship));
                }
                Ok(Some(_)) => kept.push(keep("it is not a regular file".to_owned())),
                Err(error) => kept.push(keep(error.to_string())),
            }
        }
        let doubtful = found.iter().filter(|(_, _, authorship)| *authorship == Authorship::NeedsCheck);
        let pieces: Vec<PieceIndex> =
            doubtful.flat_map(|(file, _, _)| self.layout.pieces_of(*file)).map(PieceIndex).collect();
        let have = if pieces.is_empty() { None } else { Some(check_pieces(self, evidence.hashes, pieces, stop)?) };
        step(stop)?;
        let mut ours = Vec::new();
        for (file, seen, authorship) in found {
            let verifies = || have.as_ref().is_some_and(|have| self.layout.is_complete(file, have));
            let name = self.name(file).to_owned();
            match authorship {
                Authorship::Ours => ours.push((name, seen)),
                Authorship::NeedsCheck if verifies() => ours.push((name, seen)),
                Authorship::NeedsCheck => {
                    kept.push(KeptFile {
                        path: self.root.path().join(name),
                        why: "its content is not the torrent's".to_owned(),
                    });
                }
                Authorship::Foreign(why) => {
                    kept.push(KeptFile { path: self.root.path().join(name), why: why.to_owned() });
                }
            }
        }
        Ok((ours, kept))
    }

    /// Whether btsync created or completed a file, and nobody has changed it since.
    fn authorship(
        &self,
        info_hash: &InfoHash,
        (file, spec, found): (usize, &FileSpec, &Metadata),
        FileEvidence { record, was_complete, .. }: FileEvidence<'_>,
    ) -> Authorship {
        if self.layout.is_read_only(file) {
            return Authorship::Foreign(
                "it has the name that the torrent's creator gave it, and btsync did not create it",
            );
        }
        let (seen, now) = (FileSnapshot::of(found), Stamp::of(found));
        let number = u32::try_from(file).unwrap_or(u32::MAX);
        let recorded = record.and_then(|record| record.stamp(number));
        let is_untouched = record.is_some_and(|record| record.is_untouched(&self.layout, file, &seen, now));
        if let Some(marker) = &self.marker.content {
            let is_as_recorded = recorded.zip(now).is_some_and(|(before, now)| before.has_same_content(&now));
            let is_newer = || self.is_newer_than_marker(info_hash, marker, &seen, is_as_recorded);
            if let Some(evidence) = marked(marker, &spec.path, &seen, is_newer) {
                return if evidence == CHANGED && is_untouched { Authorship::Ours } else { evidence };
            }
        }
        let was_there = record
            .and_then(|record| record.owned_files.as_ref())
            .is_some_and(|owned| owned.binary_search(&(number | PREEXISTING, seen.identity)).is_ok());
        if is_untouched && !was_there {
            return Authorship::Ours;
        }
        if !self.wants(file) {
            return Authorship::Foreign("it is not selected, and btsync has no record of having created it");
        }
        let is_complete = match record {
            Some(record) => spec.length > 0 && self.layout.is_complete(file, &record.have),
            None => spec.length > 0 && was_complete,
        };
        match is_complete {
            _ if seen.size != spec.length => Authorship::Foreign("btsync has not completed it"),
            true if now.is_some() && recorded == now => Authorship::Ours,
            // Its data stays under the other name.
            true if seen.links > 1 && recorded.zip(now).is_some_and(|(old, now)| old.has_same_content(&now)) => {
                Authorship::Ours
            }
            true => Authorship::NeedsCheck,
            // An empty file has no content to lose, if the rest of the torrent is complete.
            false if spec.length == 0 && (was_complete || record.is_some()) => Authorship::Ours,
            false => Authorship::Foreign("btsync has not completed it"),
        }
    }

    /// Deletes the part file. Returns it if it is not btsync's, or was changed.
    fn delete_part_file(&self, record: Option<&ResumeData>) -> Result<Option<KeptFile>, FileJobError> {
        let name = self.placement.name();
        if name.as_os_str().is_empty() {
            return Ok(None);
        }
        let Some(found) = lookup_file(&self.root, name)? else { return Ok(None) };
        let seen = FileSnapshot::of(&found);
        let is_ours = self.is_own_part_file(self.marker.content.as_ref(), record, &seen);
        if is_ours {
            return remove_if_untouched(&self.root, name, &seen).map(|()| None);
        }
        Ok(Some(KeptFile { path: self.root.path().join(name), why: "btsync did not create it".to_owned() }))
    }
}

/// What the marker says of a file; `None` if it does not name it.
fn marked(marker: &Marker, path: &Path, seen: &FileSnapshot, is_newer: impl FnOnce() -> bool) -> Option<Authorship> {
    if marker.is_refused(path, seen.identity) {
        return Some(Authorship::Foreign("another program changed it during the download"));
    }
    if marker.is_completed_file(path, seen.identity) {
        let is_unchanged = is_permanent(seen.identity) && marker.is_completed_and_unchanged(path, seen);
        return Some(if is_unchanged { Authorship::Ours } else { Authorship::NeedsCheck });
    }
    if !marker.proves(path, seen.identity) {
        return None;
    }
    let is_changed = marker.is_edited(path, seen.identity) || marker.is_changed_after_stop(path, seen) || is_newer();
    Some(if is_changed { CHANGED } else { Authorship::Ours })
}

fn step(stop: &dyn StopCheck) -> Result<(), FileJobError> {
    if stop.is_stopped() { Err(FileJobError::Stopped) } else { Ok(()) }
}
