//! Notices what other programs do to unfinished files between two writes of btsync, and records it in the marker (`marker.rs`).
//! The next run then treats such a file like one that was modified after btsync had ended.

use std::fs::Metadata;

use rustix::fs::Stat;

use crate::storage::changes::{changed, modified};
use crate::storage::error::StorageError;
use crate::storage::files::Storage;
use crate::storage::marker::{self, MarkerNote};
use crate::storage::ownership::Refusal;
use crate::storage::resume::CLOCK_TICK;
use crate::storage::snapshot::identity;
use crate::storage::survey::Survey;

/// Look at most at this many files: looking at more would keep peers waiting.
const MAX_EXAMINED: usize = 20_000;

/// File systems whose times another machine or another program sets, on a clock of its own and sometimes later than the write: NFS,
/// SMB, FUSE, 9p, Ceph, AFS. There, a time after our last write shows no edit.
const REMOTE: [i64; 7] = [0x6969, 0xFF53_4D42, 0xFE53_4D42, 0x6573_5546, 0x0102_1997, 0x00C3_6400, 0x5346_414F];

/// What is known of a file when btsync has decided what to do with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct FileTimes {
    /// The change time (ctime), in nanoseconds since 1970.
    pub changed: i64,
    /// The modification time (mtime).
    modified: i64,
}

impl Storage {
    /// Remembers the times and lengths of the files as `survey` has them: what differs later without a write of btsync's was
    /// changed by another program.
    pub(super) fn remember_times(&mut self, survey: &Survey) {
        #[allow(clippy::useless_conversion)] // the field has another type on other architectures
        let kind = |found: rustix::fs::StatFs| i64::try_from(found.f_type).ok();
        let found = self.root.folder().and_then(rustix::fs::fstatfs).ok();
        self.is_remote = found.and_then(kind).is_some_and(is_remote);
        let times = survey.files.iter().map(|seen| {
            let seen = seen.as_ref()?;
            Some(FileTimes { changed: seen.changed_at(), modified: seen.modified_at() })
        });
        self.found_at = times.collect();
        for (number, spec) in self.layout.files().iter().enumerate() {
            if let Some(seen) = survey.file(number) {
                self.cache.extend_to(number, seen.size.min(spec.length));
            }
        }
    }

    /// Checks that a file to be written still has the length that btsync gave it, so that btsync never overwrites other programs'
    /// data and never writes past the file's end. `furthest`: the end of the file's furthest byte before its length was looked at.
    ///
    /// # Errors
    /// [`StorageError::InTheWay`] if it has not.
    pub(super) fn check_length(&self, slot: usize, found: &Stat, furthest: u64) -> Result<(), StorageError> {
        let Some(spec) = self.layout.files().get(slot).filter(|_| self.writable.is_some()) else { return Ok(()) };
        let size = u64::try_from(found.st_size).unwrap_or_default();
        let is_cut = size < furthest || (self.has_full_length(slot) && size < spec.length);
        if size > spec.length || is_cut { Err(self.record_refusal(slot, Refusal::Changed)) } else { Ok(()) }
    }

    /// Records in the marker which unfinished files another program has changed since btsync last wrote to them.
    pub(super) fn record_edits(&self) {
        let Some(marker) = self.marker.as_ref().filter(|_| self.writable.is_some() && self.holds_lock()) else {
            return;
        };
        let recorded = self.recorded_edited.lock().clone();
        let mut edited = Vec::new();
        for (number, spec) in self.layout.files().iter().enumerate().filter(|(_, spec)| !spec.is_pad).take(MAX_EXAMINED)
        {
            let path_hash = marker::path_hash(&spec.path);
            let Some(made) = marker.made.get(&path_hash).filter(|_| !recorded.contains(&number)) else { continue };
            if self.is_edited_now(number, *made) {
                edited.push((number, MarkerNote::Edited(path_hash, *made)));
            }
        }
        let is_new = |(number, note): (usize, MarkerNote)| self.recorded_edited.lock().insert(number).then_some(note);
        let notes: Vec<MarkerNote> = edited.into_iter().filter_map(is_new).collect();
        self.append(&notes);
    }

    /// Records that another program has changed an unfinished file.
    pub(super) fn record_edit(&self, slot: usize) {
        let Some((spec, marker)) = self.layout.files().get(slot).zip(self.marker.as_ref()) else { return };
        let path_hash = marker::path_hash(&spec.path);
        let Some(made) = marker.made.get(&path_hash) else { return };
        let is_new = self.recorded_edited.lock().insert(slot);
        if is_new {
            self.append(&[MarkerNote::Edited(path_hash, *made)]);
        }
    }

    /// Whether another program has changed the file with this identity since our last write to it.
    fn is_edited_now(&self, slot: usize, made: u64) -> bool {
        let before = self.cache.written(slot);
        let is_quiet = || !self.cache.is_being_written(slot) && self.cache.written(slot) == before;
        let found = if is_quiet() { self.root.metadata(self.name(slot)).ok() } else { None };
        found.is_some_and(|found| identity(&found) == made && self.is_edited_since(slot, &found)) && is_quiet()
    }

    /// Whether another program has changed the content of a file since our last write to it, and not only its name or its rights.
    pub(super) fn is_edited_since(&self, slot: usize, found: &Metadata) -> bool {
        let is_ours = |time: i64| {
            let is_written = |(begin, end): (i64, i64)| (begin.saturating_sub(CLOCK_TICK)..=end).contains(&time);
            self.cache.written(slot).is_some_and(is_written)
                || self.found_at.get(slot).copied().flatten().is_some_and(|found| found.modified == time)
        };
        !self.is_remote && self.is_changed_since(slot, found) && !is_ours(modified(found))
    }

    /// The change time of a file that is complete now, for the marker; 0 if another program has changed it meanwhile.
    pub(super) fn done_at(&self, slot: usize) -> i64 {
        let found = self.root.metadata(self.name(slot)).ok();
        found.filter(|found| !self.is_edited_since(slot, found)).map_or(0, |found| changed(&found))
    }
}

/// Whether a file system of this type is one of [`REMOTE`].
fn is_remote(kind: i64) -> bool {
    REMOTE.contains(&(kind & 0xFFFF_FFFF))
}

#[cfg(test)]
mod tests;
