//! Notices what other programs do to unfinished files between two writes of btsync, and records it in the marker (`marker.rs`).
//! The next run then treats such a file like one that was modified after btsync had ended.

use std::fs::{File, Metadata};
use std::os::fd::AsFd;
use std::sync::atomic::AtomicBool;

use rustix::fs::Stat;

use crate::storage::cache::WriteGuard;
use crate::storage::changes::{ctime, mtime};
use crate::storage::error::StorageError;
use crate::storage::files::Storage;
use crate::storage::fs_limits::{FUSE, file_system_type};
use crate::storage::layout::FileSpec;
use crate::storage::marker::{self, MarkerNote};
use crate::storage::open::Access;
use crate::storage::ownership::{FileAction, Refusal};
use crate::storage::resume::{CLOCK_TICK, COARSE_STEP, time_step};
use crate::storage::samples::seems_empty;
use crate::storage::snapshot::{identity, nanos};
use crate::storage::survey::{Survey, has_data};
use crate::storage::touched::wait_until_past;
use crate::util::atomics::Time;

/// Look at most at this many files: looking at more would keep peers waiting.
const MAX_EXAMINED: usize = 20_000;

/// The `statfs` types of file systems whose times another machine or another program sets, on a clock of its own and sometimes later
/// than the write. There, a time after our last write shows no edit.
const REMOTE: [u32; 14] = [
    0x6969,      // NFS
    0xFF53_4D42, // CIFS
    0xFE53_4D42, // SMB2
    FUSE,
    0x0102_1997, // 9p
    0x00C3_6400, // Ceph
    0x5346_414F, // OpenAFS
    0x6B41_4653, // kAFS
    0x786F_4256, // VirtualBox
    0xBACB_ACBC, // VMware
    0x00C0_FFEE, // HGFS
    0x0BD0_0BD0, // Lustre
    0x4750_4653, // GPFS
    0x7375_7245, // Coda
];

/// What is known of a file when btsync has decided what to do with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct FileTimes {
    /// The change time (ctime), in nanoseconds since 1970.
    pub ctime: i64,
    /// The modification time (mtime).
    mtime: i64,
    /// Whether btsync had just created the file, without data.
    is_new: bool,
}

/// What is known of the times of the files, so that edits are noticed.
#[derive(Debug, Default)]
pub(super) struct KnownTimes {
    /// The times of each file when btsync decided what to do with it; `None` for missing files.
    pub initial: Vec<Option<FileTimes>>,
    /// When all files had got their length, in nanoseconds since 1970.
    pub sized_at: Time,
    /// Whether another machine or program sets the times.
    pub are_remote: bool,
    /// Whether the times have steps of seconds, so that an edit may have the time of our last write.
    pub are_coarse: bool,
}

impl Storage {
    /// Remembers the times and lengths of the files as `survey` has them: what differs later without a write of btsync's was
    /// changed by another program.
    pub(super) fn remember_times(&mut self, survey: &Survey, actions: &[FileAction]) {
        self.safeguards.times.are_remote = self.root.folder().is_ok_and(is_on_remote);
        let times = survey.files.iter().enumerate().map(|(number, seen)| {
            let seen = seen.as_ref()?;
            let is_new = matches!(actions.get(number), Some(FileAction::Create | FileAction::ReplaceEmpty));
            Some(FileTimes { ctime: seen.changed_at(), mtime: seen.modified_at(), is_new })
        });
        self.safeguards.times.initial = times.collect();
        let mut seen = survey.files.iter().flatten();
        self.safeguards.times.are_coarse = seen.any(|seen| time_step(seen.changed_at()) == COARSE_STEP);
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
    pub(super) fn check_length(&self, file_index: usize, found: &Stat, furthest: u64) -> Result<(), StorageError> {
        let Some(spec) = self.layout.files().get(file_index).filter(|_| self.safeguards.writable_identities.is_some())
        else {
            return Ok(());
        };
        let size = u64::try_from(found.st_size).unwrap_or_default();
        let is_cut = size < furthest || (self.has_full_length(file_index) && size < spec.length);
        if size > spec.length || is_cut { Err(self.record_refusal(file_index, Refusal::Changed)) } else { Ok(()) }
    }

    /// Checks before a write that no other program has changed the content of the file since our last write to it. Changes of its
    /// permissions, names and links do not count, nor does a new modification time of a file that holds no data, or only what btsync
    /// wrote. `found`: the file during `writing`, which has not written yet.
    ///
    /// # Errors
    /// [`StorageError::InTheWay`] if another program has, also for all later writes.
    pub(super) fn check_not_edited(
        &self,
        file_index: usize,
        file: &File,
        found: &Stat,
        writing: &WriteGuard<'_>,
    ) -> Result<(), StorageError> {
        self.safeguards.touched.wait(file_index);
        if self.cache.is_refused(file_index) {
            return Err(self.in_the_way(file_index, Refusal::Changed));
        }
        if self.safeguards.writable_identities.is_none() || file_index >= self.layout.files().len() {
            return Ok(());
        }
        #[allow(clippy::useless_conversion)] // the fields have other types on other architectures
        let (seconds, nsec) = (i64::from(found.st_mtime), i64::try_from(found.st_mtime_nsec).unwrap_or_default());
        let time = nanos((seconds, nsec));
        let is_edited = if self.safeguards.times.are_remote {
            false
        } else if self.is_our_time(file_index, time) {
            self.has_other_content(file_index, file, found, writing)
        } else {
            self.is_edited_before(file_index, file, writing) && !self.is_only_touched(file_index, file)?
        };
        if is_edited { Err(self.record_refusal(file_index, Refusal::Changed)) } else { Ok(()) }
    }

    /// Whether a file has other content than btsync left in it although it has the time of our last write, which another program's
    /// may have too: a file in which btsync has not written yet holds data, or, where times have steps of seconds, the bytes that
    /// btsync wrote last are other ones.
    fn has_other_content(&self, file_index: usize, file: &File, found: &Stat, writing: &WriteGuard<'_>) -> bool {
        if self.safeguards.times.are_coarse
            && self.safeguards.pinned.samples.fits(file_index, file).is_ok_and(|fits| !fits)
        {
            return true;
        }
        // The system counts the blocks, so this costs nothing for a file that is empty, and for others once.
        let is_unwritten = || writing.is_only_writer() && self.cache.last_write_times(file_index).is_none();
        let is_new =
            || self.safeguards.times.initial.get(file_index).copied().flatten().is_some_and(|found| found.is_new);
        found.st_blocks > 0 && is_unwritten() && is_new() && !seems_empty(file) && is_unwritten()
    }

    /// Whether another program has changed the content of the file since our last write to it. If other threads of ours may have
    /// written meanwhile, the answer is no.
    fn is_edited_before(&self, file_index: usize, file: &File, writing: &WriteGuard<'_>) -> bool {
        let before = self.cache.last_write_times(file_index);
        let Ok(found) = file.metadata() else { return false };
        let is_before_our_writes = mtime(&found) < writing.busy_since().saturating_sub(CLOCK_TICK);
        let is_alone = || writing.is_only_writer() && self.cache.last_write_times(file_index) == before;
        // A time from before our last write was set by another program, even within the clock tick of that write.
        let is_set_back = before.is_some_and(|(begin, _)| mtime(&found) < begin.saturating_sub(2 * COARSE_STEP))
            && !self.is_our_time(file_index, mtime(&found));
        (is_set_back || self.is_edited_since(file_index, &found))
            && (is_before_our_writes || is_alone())
            && !is_on_remote(file)
            && has_data(file, 0, found.len(), &AtomicBool::new(false)).unwrap_or(true)
    }

    /// Records in the marker which unfinished files another program has changed since btsync last wrote to them. `is_at_stop`: also
    /// looks into files whose times have steps of seconds.
    pub(super) fn record_edits(&self, is_at_stop: bool) {
        let Some(marker) =
            self.marker.content.as_ref().filter(|_| self.safeguards.writable_identities.is_some() && self.holds_lock())
        else {
            return;
        };
        let recorded = self.marker.notes.edited.lock().clone();
        let mut edited = Vec::new();
        for (number, spec) in self.layout.files().iter().enumerate().filter(|(_, spec)| !spec.is_pad).take(MAX_EXAMINED)
        {
            let path_hash = marker::path_hash(&spec.path);
            let Some(made) = marker.created.get(&path_hash).filter(|_| !recorded.contains(&number)) else { continue };
            if self.is_edited_now(number, *made) || (is_at_stop && self.has_other_bytes(number)) {
                edited.push((number, MarkerNote::Edited(path_hash, *made)));
            }
        }
        let is_new =
            |(number, note): (usize, MarkerNote)| self.marker.notes.edited.lock().insert(number).then_some(note);
        let notes: Vec<MarkerNote> = edited.into_iter().filter_map(is_new).collect();
        self.append(&notes);
    }

    /// Whether another program has changed the file with this identity since our last write to it.
    fn is_edited_now(&self, file_index: usize, made: u64) -> bool {
        let before = self.cache.last_write_times(file_index);
        let is_quiet = || !self.cache.is_being_written(file_index) && self.cache.last_write_times(file_index) == before;
        let found = if is_quiet() { self.root.metadata(self.name(file_index)).ok() } else { None };
        found.is_some_and(|found| identity(&found) == made && self.is_edited_since(file_index, &found)) && is_quiet()
    }

    /// Whether the bytes that btsync wrote last are other ones, in a file that it has written to and whose times have steps of seconds.
    fn has_other_bytes(&self, file_index: usize) -> bool {
        let written = self.cache.last_write_times(file_index).filter(|_| self.safeguards.times.are_coarse);
        let opened = written.and_then(|_| self.root.open(self.name(file_index), Access::Read).ok());
        opened
            .is_some_and(|opened| self.safeguards.pinned.samples.fits(file_index, &opened.file).is_ok_and(|fits| !fits))
    }

    /// Waits until an edit by another program would give each file that btsync wrote to another time: the marker is about to say
    /// with which times btsync leaves its files.
    pub(super) fn wait_until_edits_show(&self) {
        if self.safeguards.times.are_remote || !self.holds_lock() {
            return;
        }
        let written = (0..self.layout.files().len())
            .filter_map(|file_index| Some((self.cache.last_write_times(file_index)?.1, file_index)));
        let found = written.max().and_then(|(_, file_index)| self.root.metadata(self.name(file_index)).ok());
        if let Some(found) = found {
            wait_until_past(ctime(&found));
        }
    }

    /// Whether another program has changed the content of a file since our last write to it, and not only its name or its permissions.
    pub(super) fn is_edited_since(&self, file_index: usize, found: &Metadata) -> bool {
        !self.safeguards.times.are_remote
            && self.is_changed_since(file_index, found)
            && !self.is_our_time(file_index, mtime(found))
    }

    /// Whether this modification time of a file is from our last write to it, from before btsync decided to write to it, or from a
    /// change that left its content as it was.
    pub(super) fn is_our_time(&self, file_index: usize, time: i64) -> bool {
        let step = if self.safeguards.times.are_coarse { COARSE_STEP } else { time_step(time) };
        let is_written = |(begin, end): (i64, i64)| (begin.saturating_sub(step)..=end).contains(&time);
        self.cache.last_write_times(file_index).is_some_and(is_written)
            || self.safeguards.times.initial.get(file_index).copied().flatten().is_some_and(|found| found.mtime == time)
            || self.safeguards.touched.is_confirmed(file_index, time)
    }

    /// For the marker: the modification times with which btsync leaves the files that it made.
    pub(super) fn left_notes(&self) -> Vec<MarkerNote> {
        let Some(marker) =
            self.marker.content.as_ref().filter(|_| !self.safeguards.times.are_remote && self.holds_lock())
        else {
            return Vec::new();
        };
        let files = self.layout.files().iter().enumerate().filter(|(_, spec)| !spec.is_pad).take(MAX_EXAMINED);
        let note = |(number, spec): (usize, &FileSpec)| {
            let path_hash = marker::path_hash(&spec.path);
            let ours = marker.created.get(&path_hash).or_else(|| marker.completed.get(&path_hash))?;
            let found = self.root.metadata(self.name(number)).ok().filter(|found| identity(found) == *ours)?;
            Some(MarkerNote::Left(path_hash, mtime(&found).max(0)))
        };
        files.filter_map(note).collect()
    }

    /// The change time of a file that is complete now, for the marker; 0 if another program has changed it meanwhile.
    pub(super) fn completed_at(&self, file_index: usize) -> i64 {
        let found = self.root.metadata(self.name(file_index)).ok();
        found.filter(|found| !self.is_edited_since(file_index, found)).map_or(0, |found| ctime(&found))
    }
}

/// Whether a file is on one of the file systems [`REMOTE`].
pub(super) fn is_on_remote(file: impl AsFd) -> bool {
    file_system_type(file).is_some_and(|kind| REMOTE.contains(&kind))
}

#[cfg(test)]
pub(super) mod tests;
