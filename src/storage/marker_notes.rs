//! Files that stop being btsync's while it still downloads others of the torrent: complete files are the user's, and so are those
//! that another program has changed meanwhile. From then on, notes after the marker's checksum (`marker.rs`) say so; appending
//! them leaves the marker in place, so no other process can take the lock in between. Also distinguishes partly downloaded pieces
//! from other programs' data.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use parking_lot::Mutex;
use rustix::fs::{OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};

use crate::storage::cache::clock;
use crate::storage::decision::DecisionInput;
use crate::storage::error::StorageError;
use crate::storage::files::Storage;
use crate::storage::layout::Span;
use crate::storage::lock::{MarkerLock, is_write_action};
use crate::storage::marker::{self, Marker, MarkerNote};
use crate::storage::ownership::{FileAction, Refusal};
use crate::storage::prepare::Allocation;
use crate::storage::resume::PREEXISTING;
use crate::storage::snapshot::FileSnapshot;
use crate::storage::survey::{PAGE, Survey};
use crate::types::{BLOCK_SIZE, Bitfield, InfoHash, PieceIndex};
use crate::util::cold_sort;

/// How often a writing process updates the marker's time, in nanoseconds.
pub(super) const TOUCH_INTERVAL: i64 = 10_000_000_000;
/// A file modified this long after the marker was not modified by a killed process of ours; the margin allows for file systems
/// that count in steps of two seconds.
const TOUCH_SLACK: i64 = TOUCH_INTERVAL + 3_000_000_000;

/// The notes of this process in the marker.
#[derive(Debug, Default)]
pub(super) struct MarkerNotes {
    /// The files that the marker records as complete.
    pub complete: Mutex<HashSet<usize>>,
    /// The files that the marker records as changed by another program.
    pub edited: Mutex<HashSet<usize>>,
    /// Notes that could not be appended yet.
    pub unwritten: Mutex<Vec<MarkerNote>>,
}

impl Storage {
    /// Records in the marker which of btsync's files have all their pieces in `have`: from now on these are the user's.
    pub fn record_complete_files(&self, have: &Bitfield) {
        let Some(marker) = &self.marker.content else { return };
        let mut recorded_complete = self.marker.notes.complete.lock();
        let (mut notes, mut is_synced) = (Vec::new(), false);
        for (number, spec) in self.layout.files().iter().enumerate().filter(|(_, spec)| !spec.is_pad) {
            let path_hash = marker::path_hash(&spec.path);
            let is_named = marker.created.get(&path_hash).or_else(|| marker.used_existing.get(&path_hash));
            let Some(identity) = is_named.filter(|_| !recorded_complete.contains(&number)) else { continue };
            if self.layout.is_complete(number, have) {
                if !is_synced {
                    is_synced = true;
                    self.cache.sync_remote();
                }
                if self.cache.late_errors.has_failed(number) {
                    continue;
                }
                notes.push(MarkerNote::Completed(path_hash, *identity, self.completed_at(number)));
                recorded_complete.insert(number);
            }
        }
        self.append(&notes);
    }

    /// Like [`Storage::record_complete_files`], in the marker that was read, before it is rewritten. `survey`: the files as they
    /// were before they were hashed.
    pub fn record_found_complete(&mut self, have: &Bitfield, survey: &Survey) {
        let Some(marker) = &mut self.marker.content else { return };
        let files = self.layout.files().iter().enumerate().filter(|(_, spec)| !spec.is_pad);
        let complete = files.filter(|(number, _)| self.layout.is_complete(*number, have));
        for (number, spec) in complete {
            let path_hash = marker::path_hash(&spec.path);
            let is_named = marker.created.get(&path_hash).or_else(|| marker.completed.get(&path_hash)).copied();
            if let Some((identity, seen)) = is_named.zip(survey.file(number)) {
                marker.apply(MarkerNote::Completed(path_hash, identity, seen.changed_at()));
            }
        }
    }

    /// Records that another program has changed a file, so that no later run continues it either. Returns the error to report.
    pub(super) fn record_refusal(&self, file_index: usize, why: Refusal) -> StorageError {
        let identity =
            self.safeguards.writable_identities.as_ref().and_then(|files| files.get(file_index).copied().flatten());
        if let Some((spec, identity)) = self.layout.files().get(file_index).zip(identity) {
            self.cache.refuse(file_index);
            self.append(&[MarkerNote::Refused(marker::path_hash(&spec.path), identity)]);
        }
        self.in_the_way(file_index, why)
    }

    /// Records, in the marker that was read, that another program may have changed this file of btsync's, to which this run does
    /// not write. A later run continues it only if one of its pieces verifies.
    pub fn record_doubt(&mut self, file: usize, seen: &FileSnapshot) {
        if let Some((spec, marker)) = self.layout.files().get(file).zip(self.marker.content.as_mut()) {
            marker.apply(MarkerNote::Edited(marker::path_hash(&spec.path), seen.identity));
        }
    }

    /// Records that this process no longer writes to any file, and how it leaves them.
    pub(super) fn record_stop(&self) {
        self.wait_until_edits_show();
        self.record_edits(true);
        // The notes so far need less space than those below.
        self.append(&[]);
        let mut notes = self.left_notes();
        notes.push(MarkerNote::Stopped);
        self.append(&notes);
    }

    /// Updates the marker's time now and then to show that this process is running. Edits of unfinished files by other programs
    /// are recorded first; if that fails, the marker keeps its time.
    pub(super) fn show_running(&self, lock: &MarkerLock, now: i64) {
        let Some(before) = lock.take_touch(now) else { return };
        self.record_edits(false);
        let clock = (now < before).then(|| MarkerNote::RanUntil(before.saturating_add(TOUCH_INTERVAL)));
        if self.append(clock.as_slice()) {
            lock.touch_marker();
        }
    }

    /// For a new marker: the latest time at which btsync ran according to a clock that was set back since, as the marker before
    /// or the change times of the files show; 0 if it was not.
    pub(super) fn ran_until(&self, actions: &[FileAction], survey: &Survey) -> i64 {
        let files = actions.iter().enumerate().filter(|(_, action)| is_write_action(**action));
        let times = files.filter_map(|(number, _)| survey.file(number)).map(FileSnapshot::changed_at);
        let latest = times.chain(self.marker.content.as_ref().map(|marker| marker.ran_until)).max().unwrap_or_default();
        // Files that were just created may have a time of the same tick.
        if latest > clock().saturating_add(TOUCH_INTERVAL) { latest } else { 0 }
    }

    /// The files that may be written to, for the resume data: number and identity. The part file's number is the number of files;
    /// [`PREEXISTING`] marks files that were there before.
    pub fn writable_files(&self) -> Vec<(u32, u64)> {
        let writable = self.safeguards.writable_identities.iter().flatten().enumerate();
        let part_file = self.placement.identity().map(|identity| (self.layout.files().len() as u32, identity));
        let entry =
            |number: usize| number as u32 | if self.safeguards.pinned.is_preexisting(number) { PREEXISTING } else { 0 };
        let files = writable.filter_map(|(number, identity)| Some((entry(number), (*identity)?)));
        let mut files: Vec<_> = files.chain(part_file).collect();
        cold_sort::sort(&mut files);
        files
    }

    /// Whether this process still holds the lock.
    pub(super) fn holds_lock(&self) -> bool {
        self.marker.lock.as_ref().is_some_and(|lock| lock.file.lock().is_some())
    }

    /// Appends notes to the marker, and first those that could not be appended before. Returns whether all are in the marker now;
    /// otherwise the next call tries again.
    pub(super) fn append(&self, notes: &[MarkerNote]) -> bool {
        let Some(lock) = self.marker.lock.as_ref() else { return true };
        let mut unwritten = self.marker.notes.unwritten.lock();
        // Several threads may refuse the same file.
        if !matches!(notes, [note] if unwritten.contains(note)) {
            unwritten.extend_from_slice(notes);
        }
        if unwritten.is_empty() {
            return true;
        }
        let lines: String = unwritten.iter().map(|note| note.line()).collect();
        let is_edit = |note: &MarkerNote| matches!(note, MarkerNote::Edited(..) | MarkerNote::Refused(..));
        let has_edits = unwritten.iter().any(is_edit);
        match lock.append(&self.root, lines.as_bytes(), has_edits) {
            Ok(()) => unwritten.clear(),
            Err(error) => log::debug!("cannot append to the marker: {error}"),
        }
        unwritten.is_empty()
    }

    /// Whether a file was changed after btsync was last known to run, according to the marker's time. Anyone can set a file's
    /// modification time, so the change time counts too, unless the resume data shows that the content `is_as_recorded`: then
    /// only its name or its permissions may have changed.
    pub fn is_newer_than_marker(
        &self,
        info_hash: &InfoHash,
        marker: &Marker,
        seen: &FileSnapshot,
        is_as_recorded: bool,
    ) -> bool {
        let found = match self.root.metadata(&self.marker_path(info_hash)) {
            Ok(found) => found,
            // An edit that cannot be excluded counts as one.
            Err(error) => return error.kind() != io::ErrorKind::NotFound,
        };
        let ran_until = latest_run_time(marker.has_stopped, marker.ran_until, &FileSnapshot::of(&found));
        let changed_at = Some(seen.changed_at()).filter(|_| !is_as_recorded);
        is_later([Some(seen.modified_at()), changed_at], ran_until, clock())
    }

    /// Whether a piece is only partly downloaded: a whole page of it, or its last block, is zero or missing.
    pub(super) fn is_partial(&self, piece: PieceIndex, input: &DecisionInput<'_>) -> Result<bool, StorageError> {
        let size = u64::from(self.layout.piece_size(piece));
        for span in self.layout.spans(self.layout.offset(piece, 0), size) {
            if self.layout.files().get(span.file).is_some_and(|spec| spec.is_pad) {
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

    /// Whether a file that grows as blocks arrive can have this length. A failing system may leave it with whole pages only.
    pub(super) fn ends_with_a_block(&self, file: usize, size: u64) -> bool {
        let at = self.layout.start_of(file) + size;
        let within = at % u64::from(self.layout.piece_length());
        let may_lack_pages = self.allocation == Allocation::None && size.is_multiple_of(PAGE);
        size == 0 || within.is_multiple_of(u64::from(BLOCK_SIZE)) || may_lack_pages
    }

    /// Whether a page of the file that has bytes of this part of a piece is zero, or all of a part that has no whole page. A page
    /// may lie in two pieces, or end early with the file: a failing system loses it all the same.
    pub(super) fn lacks_page_in(
        &self,
        span: &Span,
        size: u64,
        input: &DecisionInput<'_>,
    ) -> Result<bool, StorageError> {
        let upto = (span.offset + span.len).min(size);
        let is_small = span.offset.next_multiple_of(PAGE) + PAGE > upto;
        if is_small && span.offset < upto && !self.has_data_in(span.file, span.offset, upto, input)? {
            return Ok(true);
        }
        self.has_zero_page(span.file, span.offset / PAGE..upto.div_ceil(PAGE), size, input)
    }

    /// Whether one of these pages of a file of `size` bytes is zero, as after a power failure before the page reached the disk.
    pub(super) fn has_zero_page(
        &self,
        file: usize,
        pages: Range<u64>,
        size: u64,
        input: &DecisionInput<'_>,
    ) -> Result<bool, StorageError> {
        for page in pages {
            if !self.has_data_in(file, page * PAGE, ((page + 1) * PAGE).min(size), input)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the last block of a piece is shorter than a page and all zero, as before it arrives.
    fn lacks_short_last_block(&self, piece: PieceIndex, input: &DecisionInput<'_>) -> Result<bool, StorageError> {
        let size = self.layout.piece_size(piece);
        let last = size % BLOCK_SIZE;
        if last == 0 || u64::from(last) >= PAGE {
            return Ok(false);
        }
        for span in self.layout.spans(self.layout.offset(piece, size - last), u64::from(last)) {
            if self.layout.files().get(span.file).is_some_and(|spec| spec.is_pad) {
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

/// The latest time at which an earlier run may have written to its files, given what the marker says of its end and of the clock;
/// `found`: the marker's file.
pub(super) fn latest_run_time(is_stopped: bool, ran_until: i64, found: &FileSnapshot) -> i64 {
    let slack = if is_stopped { 0 } else { TOUCH_SLACK };
    found.modified_at().saturating_add(slack).max(ran_until)
}

/// Whether one of a file's times is later than the last moment of an earlier run. Times later than `now` are from a clock that was
/// set back since, and prove nothing.
fn is_later(times: [Option<i64>; 2], ran_until: i64, now: i64) -> bool {
    times.into_iter().flatten().any(|time| time > ran_until && time <= now)
}

impl Marker {
    /// Gives the file of a marker that was read and is written again the time that it had: with a later one, changes since then
    /// would look as old as btsync's own.
    pub(super) fn restore_time(&self, file: &File) {
        let at = self.modified_at;
        if at > 0 {
            set_time(file, Timespec { tv_sec: at / 1_000_000_000, tv_nsec: at % 1_000_000_000 });
        }
    }
}

impl MarkerLock {
    /// Appends lines to the marker, if it is still the one that this process locked. If that fails, the marker keeps its content
    /// and its time. With `has_edits` (the lines record edits), it gets the earliest time instead, so that every change of a file
    /// counts as one by another program.
    fn append(&self, root: &crate::storage::open::Root, lines: &[u8], has_edits: bool) -> io::Result<()> {
        let file = self.file.lock();
        let Some(file) = file.as_ref().filter(|_| self.is_in_place(root)) else { return Ok(()) };
        let before = file.metadata()?;
        // Opened again in append mode, so that each write goes to the end.
        let end = root.open_own(Path::new(&self.name), OFlags::WRONLY | OFlags::APPEND);
        let written = end.map_err(io::Error::from).and_then(|mut end| end.write_all(lines));
        written.inspect_err(|_| {
            let _ = file.set_len(before.len());
            let time = Timespec { tv_sec: before.mtime(), tv_nsec: before.mtime_nsec() };
            set_time(file, if has_edits { Timespec { tv_sec: 0, tv_nsec: 0 } } else { time });
        })
    }

    /// If the marker's time has to be updated, notes that it is, and returns when it was updated before.
    fn take_touch(&self, now: i64) -> Option<i64> {
        let before = self.touched_at.get();
        let is_due = now.abs_diff(before) >= TOUCH_INTERVAL.unsigned_abs();
        (is_due && self.touched_at.replace(before, now)).then_some(before)
    }

    /// Sets the marker's time to show that this process is running.
    fn touch_marker(&self) {
        if let Some(file) = &*self.file.lock() {
            set_time(file, Timespec { tv_sec: 0, tv_nsec: UTIME_NOW });
        }
    }
}

/// Sets the modification time of the marker.
fn set_time(marker: &File, last_modification: Timespec) {
    let last_access = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    if let Err(error) = rustix::fs::futimens(marker, &Timestamps { last_access, last_modification }) {
        log::debug!("cannot set the marker's modification time: {error}");
    }
}

#[cfg(test)]
mod tests;
