//! Notices that another program has changed or replaced a file whose verified pieces btsync serves. The pieces of such a file are
//! hashed again before btsync serves them, so a new time or new permissions alone do not end a seed.

use std::collections::{HashMap, HashSet};
use std::fs::Metadata;

use parking_lot::Mutex;

use crate::storage::cache::{OpenFile, clock};
use crate::storage::changes::ctime;
use crate::storage::edits::is_on_remote;
use crate::storage::error::{Operation, StorageError};
use crate::storage::files::Storage;
use crate::storage::ownership::Refusal;
use crate::storage::placement::{FileRun, Location};
use crate::storage::resume::Stamp;
use crate::storage::snapshot::{identity, is_permanent};
use crate::storage::survey::Survey;
use crate::types::PieceIndex;
use crate::util::atomics::Flag;

/// How often to look at a file while btsync serves it, in nanoseconds.
const CHECK_INTERVAL: i64 = 1_000_000_000;

/// What the metadata of files says about their verified pieces.
#[derive(Debug, Default)]
pub(crate) struct ServedFiles {
    /// The metadata of each file before its pieces were hashed; empty while the caller vouches for the files.
    verified: Vec<Option<Stamp>>,
    /// The metadata of files that this run has completed, if their times do not show who wrote last.
    completed: Mutex<HashMap<usize, Stamp>>,
    has_doubts: Flag,
    doubts: Mutex<HashMap<usize, Doubt>>,
}

/// A file that another program has changed or replaced.
#[derive(Debug)]
struct Doubt {
    /// Its metadata since.
    stamp: Stamp,
    /// The pieces that verified again since.
    verified: HashSet<PieceIndex>,
}

/// A piece to hash before it is served, because of a file that has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoubtfulPiece {
    /// The piece.
    pub piece: PieceIndex,
    /// The file.
    pub file: usize,
    stamp: Stamp,
}

impl Storage {
    /// Remembers the files as `survey` has them, which was taken before their pieces were hashed.
    pub fn remember_verified(&mut self, survey: &Survey) {
        self.served.verified = survey.files.iter().map(|seen| seen.as_ref().map(Stamp::of_snapshot)).collect();
    }

    /// Remembers the files that this run has completed where another machine or program sets their times. Elsewhere, the times of
    /// our writes suffice.
    pub(super) fn remember_completed(&self) {
        let files = 0..if self.safeguards.times.are_remote { self.layout.files().len() } else { 0 };
        for file in files.filter(|file| self.cache.last_write_times(*file).is_some()) {
            if let Some(stamp) = self.stamp(file) {
                self.served.completed.lock().insert(file, stamp);
            }
        }
    }

    /// The pieces in a range to be served that have to be hashed first: another program may have changed their files since
    /// they were verified. Looks at each file at most once a second, and whenever it was opened. Call it after reading the range.
    ///
    /// # Errors
    /// Those of [`Storage::read_exact_at`].
    pub fn doubtful_pieces(&self, offset: u64, len: u64) -> Result<Vec<DoubtfulPiece>, StorageError> {
        self.doubtful_pieces_after(CHECK_INTERVAL, offset, len)
    }

    /// Like [`Storage::doubtful_pieces`], but looks at each file now.
    ///
    /// # Errors
    /// Those of [`Storage::read_exact_at`].
    pub fn doubtful_pieces_now(&self, offset: u64, len: u64) -> Result<Vec<DoubtfulPiece>, StorageError> {
        self.doubtful_pieces_after(0, offset, len)
    }

    fn doubtful_pieces_after(&self, interval: i64, offset: u64, len: u64) -> Result<Vec<DoubtfulPiece>, StorageError> {
        let mut doubtful = Vec::new();
        if self.served.verified.is_empty() {
            return Ok(doubtful);
        }
        for FileRun { file, location, len } in self.runs(offset, len)? {
            let Location::At { file_index, offset } = location else { continue };
            if file_index != file {
                continue; // the part file
            }
            let opened = self.handle(file, false)?;
            if opened.checked_at.get().abs_diff(clock()) >= interval.unsigned_abs() {
                self.check_served(file, &opened)?;
            }
            if self.served.has_doubts.is_set() {
                let start = self.layout.start_of(file) + offset;
                self.add_doubtful(file, start..start + len, &mut doubtful);
            }
        }
        Ok(doubtful)
    }

    fn add_doubtful(&self, file: usize, range: std::ops::Range<u64>, doubtful: &mut Vec<DoubtfulPiece>) {
        let doubts = self.served.doubts.lock();
        let Some(doubt) = doubts.get(&file) else { return };
        let length = u64::from(self.layout.piece_length());
        let pieces = (range.start / length..range.end.div_ceil(length)).map(|piece| PieceIndex(piece as u32));
        let new = pieces.filter(|piece| !doubt.verified.contains(piece));
        doubtful.extend(new.map(|piece| DoubtfulPiece { piece, file, stamp: doubt.stamp }));
    }

    /// Looks at a file and remembers whether it is as it was verified.
    fn check_served(&self, file: usize, opened: &OpenFile) -> Result<(), StorageError> {
        let before = self.cache.last_write_times(file);
        let is_busy = || self.cache.is_being_written(file) || self.cache.last_write_times(file) != before;
        let failed = |error| self.failed(Operation::Read, file, error);
        let found = if is_busy() { return Ok(()) } else { opened.file.metadata().map_err(failed)? };
        let is_doubtful = !self.is_as_verified(file, opened, &found);
        if is_busy() {
            return Ok(()); // btsync's own writes change the times
        }
        if is_doubtful || self.served.has_doubts.is_set() {
            self.set_doubt(file, Stamp::of(&found).filter(|_| is_doubtful));
        }
        // Only now: other threads rely on the doubt.
        opened.checked_at.set(clock());
        Ok(())
    }

    /// Remembers a file's metadata since another program has changed it; `None` if it is as it was verified.
    fn set_doubt(&self, file: usize, stamp: Option<Stamp>) {
        let mut doubts = self.served.doubts.lock();
        match stamp {
            None => _ = doubts.remove(&file),
            Some(stamp) if doubts.get(&file).is_some_and(|doubt| doubt.stamp == stamp) => {}
            Some(stamp) => {
                log::info!("{}: was changed, so its pieces are hashed again", self.name(file).display());
                doubts.insert(file, Doubt { stamp, verified: HashSet::new() });
            }
        }
        self.served.has_doubts.set(!doubts.is_empty());
    }

    /// Whether a file's metadata is that from before its pieces were hashed, or btsync was the last to change the file.
    fn is_as_verified(&self, file: usize, opened: &OpenFile, found: &Metadata) -> bool {
        let Some(now) = Stamp::of(found) else { return false };
        let written = self.cache.last_write_times(file);
        let completed = written.and_then(|_| self.served.completed.lock().get(&file).copied());
        let verified = completed.or(self.served.verified.get(file).copied().flatten());
        if verified == Some(now) {
            return true;
        }
        let is_remote = is_on_remote(&opened.file);
        if is_remote && written.is_some() && completed.is_none() {
            return true; // its times do not show which program wrote last
        }
        // Such file systems give files new inode numbers and change times without a reason.
        let is_vague = is_remote || !is_permanent(identity(found));
        let is_same = |before: Stamp| is_vague && (before.size, before.mtime) == (now.size, now.mtime);
        let is_last_write = |(_, end): (i64, i64)| {
            let is_it = is_vague || verified.is_none_or(|before| before.inode == now.inode);
            is_it && !is_remote && ctime(found) <= end && !self.cache.is_changed(file)
        };
        verified.is_some_and(is_same) || written.is_some_and(is_last_write)
    }

    /// Remembers that a piece verified again, unless its file may have changed without a new time since `now`, when btsync began
    /// to hash it.
    pub fn confirm_served(&self, it: DoubtfulPiece, now: i64) {
        if it.stamp.shows_changes_after(now) {
            let mut doubts = self.served.doubts.lock();
            if let Some(doubt) = doubts.get_mut(&it.file).filter(|doubt| doubt.stamp == it.stamp) {
                doubt.verified.insert(it.piece);
            }
        }
    }

    /// The error for a piece that does not verify again.
    pub fn refuse_served(&self, it: DoubtfulPiece) -> StorageError {
        let files = self.safeguards.writable_identities.as_ref().filter(|_| self.holds_lock());
        if files.is_some_and(|files| files.get(it.file).is_some_and(Option::is_some)) {
            return self.record_refusal(it.file, Refusal::Changed);
        }
        let why = "another program changed it since btsync verified it";
        self.failed(Operation::Serve, it.file, std::io::Error::new(std::io::ErrorKind::UnexpectedEof, why))
    }
}
