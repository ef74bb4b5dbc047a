//! Recognises the files of an unfinished download that has other inode numbers now (it was moved to another disk, or the file
//! system does not keep them), or whose permissions were changed after a kill. Such a file is not known by its identity. It counts as
//! btsync's if the marker names its path, it was last written to while btsync ran, it has a length that btsync gives to files, and
//! the contents of all files of the torrent together are those of an unfinished download.
//!
//! A marker beside the user's own files proves nothing, even if a stranger's archive brought it and it names any times: a file that
//! was moved got its times after it was written, together with the marker.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::path::Path;

use crate::storage::cache::clock;
use crate::storage::decision::DecisionInput;
use crate::storage::error::StorageError;
use crate::storage::files::Storage;
use crate::storage::lock::is_write_action;
use crate::storage::marker::{self, Marker};
use crate::storage::marker_notes::latest_run_time;
use crate::storage::ownership::FileAction;
use crate::storage::prepare::Allocation;
use crate::storage::resume::time_step;
use crate::storage::snapshot::{FileSnapshot, is_permanent};
use crate::storage::survey::Survey;
use crate::types::{BLOCK_SIZE, Bitfield, InfoHash, PieceIndex, Sha1Hash};

/// How much time may lie between moving the marker and moving a file of the download, in nanoseconds.
const MOVE_TIME: u64 = 24 * 3600 * 1_000_000_000;

/// What the pieces of all files that the marker names say together. Only examined if a file would be refused otherwise.
pub(super) struct EarlierRun {
    zeros: Sha1Hash,
    pieces: OnceCell<RunPieces>,
}

/// The pieces of the files that the marker names.
#[derive(Debug, Default)]
struct RunPieces {
    /// How many verify, without pieces of zeros.
    verified: usize,
    /// Those that lack no data and do not verify.
    wrong: HashSet<u32>,
}

impl EarlierRun {
    /// `zeros`: the hash of a full-length piece of zeros.
    pub fn new(zeros: Sha1Hash) -> EarlierRun {
        EarlierRun { zeros, pieces: OnceCell::new() }
    }
}

impl Storage {
    /// Whether this file looks as an earlier run left it, and the other files of the torrent do not contradict that. Of the
    /// pieces in files that the marker names, at least one verifies; more verify than fail with data; none that fails lies in
    /// this file.
    pub(super) fn fits_earlier_run(
        &self,
        number: usize,
        seen: &FileSnapshot,
        input: &DecisionInput<'_>,
        run: &EarlierRun,
    ) -> Result<bool, StorageError> {
        if !(input.of_earlier_run)(number, seen) {
            return Ok(false);
        }
        if run.pieces.get().is_none() {
            let _ = run.pieces.set(self.run_pieces(input, run.zeros)?);
        }
        let Some(RunPieces { verified, wrong }) = run.pieces.get() else { return Ok(false) };
        let is_right = |piece: u32| !wrong.contains(&piece);
        Ok(*verified > wrong.len() && self.layout.pieces_of(number).all(is_right))
    }

    /// Whether the file has its full length, and its own part of each piece that does not verify has data in all blocks and pages.
    pub(super) fn seems_whole(
        &self,
        number: usize,
        seen: &FileSnapshot,
        input: &DecisionInput<'_>,
    ) -> Result<bool, StorageError> {
        let length = self.layout.files().get(number).map(|spec| spec.length);
        for piece in self.layout.pieces_of(number).map(PieceIndex).filter(|piece| !input.have.has(*piece)) {
            let size = self.layout.piece_size(piece);
            for begin in (0..size).step_by(BLOCK_SIZE as usize) {
                let block = u64::from(BLOCK_SIZE.min(size - begin));
                let spans = self.layout.spans(self.layout.offset(piece, begin), block);
                for own in spans.filter(|span| span.file == number) {
                    let has_data = self.has_data_in(number, own.offset, own.offset + own.len, input)?;
                    if !has_data || self.lacks_page_in(&own, seen.size, input)? {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(length == Some(seen.size))
    }

    fn run_pieces(&self, input: &DecisionInput<'_>, zeros: Sha1Hash) -> Result<RunPieces, StorageError> {
        let mut found = RunPieces::default();
        let Some(marker) = &self.marker.content else { return Ok(found) };
        let is_named = |number: usize| {
            self.layout.files().get(number).is_some_and(|spec| !spec.is_pad && marker.has_path(&spec.path))
                && input.survey.file(number).is_some()
        };
        let named: Vec<bool> = (0..self.layout.files().len()).map(is_named).collect();
        for piece in (0..self.layout.piece_count()).map(PieceIndex).take_while(|_| !input.stop.is_stopped()) {
            let (offset, size) = (self.layout.offset(piece, 0), u64::from(self.layout.piece_size(piece)));
            if !self.layout.spans(offset, size).any(|span| named.get(span.file) == Some(&true)) {
                continue;
            }
            if !input.have.has(piece) {
                if !self.is_partial(piece, input)? {
                    found.wrong.insert(piece.0);
                }
            } else if input.hashes.get(piece.as_usize()) != Some(&zeros) && self.has_data(offset, size)? {
                found.verified += 1;
            }
        }
        Ok(found)
    }

    /// Whether an earlier run may have left this unfinished file: the marker names its path, its length is one that btsync gives to
    /// files, and it was last written to while btsync ran.
    pub fn is_of_earlier_run(&self, info_hash: &InfoHash, number: usize, seen: &FileSnapshot) -> bool {
        let Some(spec) = self.layout.files().get(number) else { return false };
        // Otherwise files get their full length before any data. A torrent can be made so that any length ends with a block.
        let may_be_short = self.allocation == Allocation::None
            || self.marker.content.as_ref().is_some_and(|marker| marker.is_unfinished_file(&spec.path, seen.identity));
        let ends_with_a_block = || seen.size < spec.length && self.ends_with_a_block(number, seen.size);
        let has_length = seen.size == spec.length || (may_be_short && ends_with_a_block());
        has_length && self.may_be_of_earlier_run(info_hash, &spec.path, seen)
    }

    /// The same without the length, for the part file too.
    pub fn may_be_of_earlier_run(&self, info_hash: &InfoHash, path: &Path, seen: &FileSnapshot) -> bool {
        let Some(marker) = &self.marker.content else { return false };
        let path_hash = marker::path_hash(path);
        let Some(made) = marker.created.get(&path_hash).filter(|_| !marker.edited.contains_key(&path_hash)) else {
            return false;
        };
        self.was_written_during_run(info_hash, marker, *made, seen)
    }

    /// Adopts complete files of an unfinished download that was moved to another disk, so that they get their final names. They are
    /// the user's, as before.
    pub fn adopt_moved_files(&mut self, info_hash: &InfoHash, survey: &Survey) {
        let Some(mut marker) = self.marker.content.take() else { return };
        for (number, spec) in self.layout.files().iter().enumerate().filter(|(_, spec)| !spec.is_pad) {
            let path_hash = marker::path_hash(&spec.path);
            if let Some((made, seen)) = marker.completed.get(&path_hash).copied().zip(survey.file(number))
                && seen.size == spec.length
                && self.was_written_during_run(info_hash, &marker, made, seen)
            {
                marker.completed.insert(path_hash, seen.identity);
            }
        }
        self.marker.content = Some(marker);
    }

    /// The same for files that the marker does not call complete, and that btsync only reads: they are complete, or lack no data if
    /// they are the torrent's. Call it after deciding what to do with each file.
    pub fn adopt_moved_whole_files(
        &mut self,
        info_hash: &InfoHash,
        actions: &[FileAction],
        survey: &Survey,
        have: &Bitfield,
    ) {
        let Some(mut marker) = self.marker.content.take() else { return };
        for (number, spec) in self.layout.files().iter().enumerate().filter(|(_, spec)| !spec.is_pad) {
            let path_hash = marker::path_hash(&spec.path);
            let is_whole = match actions.get(number) {
                Some(FileAction::Leave) => self.layout.is_complete(number, have),
                Some(FileAction::Compare) => true,
                _ => false,
            };
            if is_whole
                && let Some((made, seen)) = marker.created.get(&path_hash).copied().zip(survey.file(number))
                && made != seen.identity
                && !marker.edited.contains_key(&path_hash)
                && seen.size == spec.length
                && self.was_written_during_run(info_hash, &marker, made, seen)
            {
                marker.created.remove(&path_hash);
                marker.completed.insert(path_hash, seen.identity);
                // Never to be written to: no change time is early enough.
                marker.completed_at.insert(path_hash, 0);
            }
        }
        self.marker.content = Some(marker);
    }

    /// Whether the file that the marker knows by the identity `made`, and that is `seen` now, was last written to while btsync ran.
    fn was_written_during_run(&self, info_hash: &InfoHash, marker: &Marker, made: u64, seen: &FileSnapshot) -> bool {
        let Ok(found) = self.root.metadata(&self.marker_path(info_hash)) else { return false };
        let found = FileSnapshot::of(&found);
        let is_known = made == seen.identity && is_permanent(made);
        let is_moved = made != seen.identity && (is_permanent(made) || is_permanent(seen.identity));
        // A marker that knows no file here may come from a stranger, and can name any time.
        let is_past = |at: i64| at <= clock();
        let ran_until = Some(marker.ran_until).filter(|at| is_known || is_past(*at)).unwrap_or_default();
        (!is_moved || (may_be_moved_together(&found, seen) && !self.has_needless_own_folder()))
            && marker.earliest_write > 0
            && is_not_before(seen.modified_at(), marker.earliest_write)
            && seen.modified_at() <= latest_run_time(marker.has_stopped, ran_until, &found)
    }

    /// For a new marker: the time before which no file of ours was written to; 0 if that is not known.
    pub(super) fn earliest_write(&self, actions: &[FileAction], survey: &Survey) -> i64 {
        let earlier = self.marker.content.as_ref().map_or(0, |marker| marker.earliest_write);
        let is_new =
            |action: FileAction| is_write_action(action) && !matches!(action, FileAction::Continue | FileAction::Copy);
        let files = actions.iter().enumerate().filter(|(_, action)| is_new(**action));
        let first = files.filter_map(|(number, _)| survey.file(number)).map(FileSnapshot::modified_at).min();
        if earlier > 0 { earlier } else { first.unwrap_or_default() }
    }
}

/// Whether the marker and a file may have been moved together. A move that keeps the modification times sets them once the data is
/// there, so the change times are later. A file that was written in its place has equal times.
fn may_be_moved_together(marker: &FileSnapshot, file: &FileSnapshot) -> bool {
    let keeps_time = |it: &FileSnapshot| it.modified_at() < it.changed_at();
    keeps_time(marker) && keeps_time(file) && marker.changed_at().abs_diff(file.changed_at()) <= MOVE_TIME
}

/// Whether a file's time is not before another time, as far as the file system's clock tells.
fn is_not_before(at: i64, earliest_write: i64) -> bool {
    at.saturating_add(time_step(at)) >= earliest_write
}

#[cfg(test)]
mod tests;
