//! Files that stop being btsync's while it still downloads others of the torrent: complete files are the user's, and so are those
//! that another program has changed meanwhile. From then on, notes after the marker's checksum (`marker.rs`) say so; appending
//! them leaves the marker in place, so no other process can take the lock in between. Also distinguishes partly downloaded pieces
//! from other programs' data.

use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::Ordering;

use rustix::fs::{OFlags, Stat, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};

use crate::storage::error::StorageError;
use crate::storage::files::Storage;
use crate::storage::layout::Span;
use crate::storage::lock::Lock;
use crate::storage::marker::{self, Marker, MarkerNote, marker_name};
use crate::storage::ownership::Refusal;
use crate::storage::prepare::Allocation;
use crate::storage::snapshot::FileSnapshot;
use crate::storage::survey::{DecisionInput, PAGE};
use crate::types::{BLOCK_SIZE, Bitfield, InfoHash, PieceIndex};

/// How often a writing process updates the marker's time, in nanoseconds.
pub(super) const TOUCH_INTERVAL: i64 = 10_000_000_000;
/// A file modified this long after the marker was not modified by a killed process of ours; the margin allows for file systems
/// that count in steps of two seconds.
const TOUCH_SLACK: i64 = TOUCH_INTERVAL + 3_000_000_000;
impl Storage {
    /// Records in the marker which of btsync's files have all their pieces in `have`: from now on these are the user's.
    pub fn record_complete_files(&self, have: &Bitfield) {
        let Some(marker) = &self.marker else { return };
        let mut recorded_complete = self.recorded_complete.lock();
        let mut notes = Vec::new();
        for (number, spec) in self.layout.files().iter().enumerate().filter(|(_, spec)| !spec.pad) {
            let path_hash = marker::path_hash(&spec.path);
            let is_named = marker.made.get(&path_hash).or_else(|| marker.used_existing.get(&path_hash));
            let Some(identity) = is_named.filter(|_| !recorded_complete.contains(&number)) else { continue };
            if self.layout.pieces_of(number).all(|piece| have.has(PieceIndex(piece))) {
                notes.push(MarkerNote::Done(path_hash, *identity));
                recorded_complete.insert(number);
            }
        }
        self.append(&notes);
    }

    /// Like [`Storage::record_complete_files`], in the marker that was read, before it is rewritten.
    pub fn record_found_complete(&mut self, have: &Bitfield) {
        let Some(marker) = &mut self.marker else { return };
        let files = self.layout.files().iter().enumerate().filter(|(_, spec)| !spec.pad);
        let complete = files.filter(|(number, _)| self.layout.pieces_of(*number).all(|it| have.has(PieceIndex(it))));
        for (_, spec) in complete {
            let path_hash = marker::path_hash(&spec.path);
            if let Some(identity) = marker.made.get(&path_hash).copied() {
                marker.apply(MarkerNote::Done(path_hash, identity));
            }
        }
    }

    /// Records that another program has changed a file, so that no later run continues it either. Returns the error to report.
    pub(super) fn record_refusal(&self, slot: usize, why: Refusal) -> StorageError {
        let identity = self.writable.as_ref().and_then(|files| files.get(slot).copied().flatten());
        if let Some((spec, identity)) = self.layout.files().get(slot).zip(identity) {
            self.append(&[MarkerNote::Refused(marker::path_hash(&spec.path), identity)]);
        }
        self.in_the_way(slot, why)
    }

    /// Appends notes to the marker. If that fails, only they are lost.
    pub(super) fn append(&self, notes: &[MarkerNote]) {
        let Some(lock) = self.lock.as_ref().filter(|_| !notes.is_empty()) else { return };
        let lines: String = notes.iter().map(|note| note.line()).collect();
        if let Err(error) = lock.append(&self.root, lines.as_bytes()) {
            log::debug!("the marker is not added to: {error}");
        }
    }

    /// Checks that a file to be written still has the length that btsync gave it, so that btsync never overwrites other programs'
    /// data and never writes past the file's end.
    ///
    /// # Errors
    /// [`StorageError::InTheWay`] if it has not.
    pub(super) fn check_length(&self, slot: usize, found: &Stat) -> Result<(), StorageError> {
        let Some(spec) = self.layout.files().get(slot).filter(|_| self.writable.is_some()) else { return Ok(()) };
        let size = u64::try_from(found.st_size).unwrap_or_default();
        let has_length =
            self.has_lengths.load(Ordering::Relaxed) && self.allocation != Allocation::None && self.wants(slot);
        let is_cut = has_length && size < spec.length;
        if size > spec.length || is_cut { Err(self.record_refusal(slot, Refusal::Changed)) } else { Ok(()) }
    }

    /// Whether a file was modified after btsync was last known to run, according to the marker's time.
    pub fn is_newer_than_marker(&self, info_hash: &InfoHash, marker: &Marker, seen: &FileSnapshot) -> bool {
        let Ok(found) = self.root.metadata(&marker_name(info_hash)) else { return false };
        let nanos = |(seconds, nanos): (i64, i64)| seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
        let slack = if marker.stopped { 0 } else { TOUCH_SLACK };
        nanos(seen.modified) > nanos((found.mtime(), found.mtime_nsec())).saturating_add(slack)
    }

    /// Whether a piece is only partly downloaded: a whole page of it, or its last block, is zero or missing.
    pub(super) fn is_partial(&self, piece: PieceIndex, input: &DecisionInput<'_>) -> Result<bool, StorageError> {
        let size = u64::from(self.layout.piece_size(piece));
        for span in self.layout.spans(self.layout.offset(piece, 0), size) {
            if self.layout.files().get(span.file).is_some_and(|spec| spec.pad) {
                continue;
            }
            let Some(seen) = input.survey.file(span.file) else { return Ok(true) };
            if seen.size < span.offset + span.len && self.ends_with_a_block(span.file, seen.size) {
                return Ok(true);
            }
            if self.lacks_page_in(&span, seen.size, input)? {
                return Ok(true);
            }
        }
        self.lacks_short_last_block(piece, input)
    }

    /// Whether a file that grows as blocks arrive can have this length.
    fn ends_with_a_block(&self, file: usize, size: u64) -> bool {
        let at = self.layout.start_of(file) + size;
        let within = at % u64::from(self.layout.piece_length());
        size == 0 || within.is_multiple_of(u64::from(BLOCK_SIZE))
    }

    /// Whether a page of this part of a piece is zero; if the part has less than a page, whether all of it is.
    fn lacks_page_in(&self, span: &Span, size: u64, input: &DecisionInput<'_>) -> Result<bool, StorageError> {
        let upto = (span.offset + span.len).min(size);
        if span.offset.next_multiple_of(PAGE) + PAGE > upto {
            return Ok(span.offset < upto && !self.has_data_in(span.file, span.offset, upto, input)?);
        }
        self.has_zero_page(span.file, span.offset, upto, input)
    }

    /// Whether the last block of a piece is shorter than a page and all zero, as before it arrives.
    fn lacks_short_last_block(&self, piece: PieceIndex, input: &DecisionInput<'_>) -> Result<bool, StorageError> {
        let size = self.layout.piece_size(piece);
        let last = size % BLOCK_SIZE;
        if last == 0 || u64::from(last) >= PAGE {
            return Ok(false);
        }
        for span in self.layout.spans(self.layout.offset(piece, size - last), u64::from(last)) {
            if self.layout.files().get(span.file).is_some_and(|spec| spec.pad) {
                continue;
            }
            let upto = input.survey.file(span.file).map_or(0, |seen| seen.size).min(span.offset + span.len);
            if self.has_data_in(span.file, span.offset, upto, input)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Lock {
    /// Appends lines to the marker, if it is still the one that this process locked.
    fn append(&self, root: &crate::storage::open::Root, lines: &[u8]) -> io::Result<()> {
        let file = self.file.lock();
        if file.is_none() || !self.is_in_place(root) {
            return Ok(());
        }
        // Opened again in append mode, so that each write goes to the end.
        let mut end = root.open_own(Path::new(&self.name), OFlags::WRONLY | OFlags::APPEND)?;
        end.write_all(lines)
    }

    /// Updates the marker's time to show that this process is running.
    pub(super) fn touch_marker(&self, now: i64) {
        let before = self.touched_at.load(Ordering::Relaxed);
        if now.abs_diff(before) < TOUCH_INTERVAL.unsigned_abs() {
            return;
        }
        self.touched_at.store(now, Ordering::Relaxed);
        let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        let times = Timestamps { last_access: omit, last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW } };
        if let Some(file) = &*self.file.lock()
            && let Err(error) = rustix::fs::futimens(file, &times)
        {
            log::debug!("{}: its time is not set: {error}", self.name.display());
        }
    }
}

#[cfg(test)]
mod tests;
