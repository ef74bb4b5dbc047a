//! Files that got another modification time without other content (`touch`). If the content of such a file is still btsync's own,
//! the download goes on; otherwise somebody has edited it.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::storage::cache::clock;
use crate::storage::changes::{ctime, mtime};
use crate::storage::error::{Operation, StorageError};
use crate::storage::files::Storage;
use crate::storage::ownership::Refusal;
use crate::storage::resume::{CLOCK_TICK, COARSE_STEP, time_step};
use crate::storage::snapshot::FileSnapshot;
use crate::storage::stop_check::StopCheck;
use crate::storage::survey::{Survey, has_data};
use crate::types::PieceIndex;
use crate::util::atomics::Flag;

/// How often a run hashes one file because of a new time. A program that keeps setting it would stop the download otherwise.
const MAX_CHECKS: u32 = 8;

/// Returns whether a file holds nothing but what btsync wrote.
type ContentCheck = Box<dyn Fn(usize) -> Result<bool, StorageError> + Send + Sync>;

/// The files whose content is or was compared.
#[derive(Default)]
pub(super) struct TouchedFiles {
    check: OnceLock<ContentCheck>,
    /// Whether a thread is checking any file.
    is_checking: Flag,
    state: Mutex<TouchedState>,
    checked: Condvar,
}

#[derive(Default)]
struct TouchedState {
    /// The files that a thread is checking.
    checking: HashSet<usize>,
    /// How often each file was checked.
    checks: HashMap<usize, u32>,
    /// The modification time that each file had when its content was last found to be btsync's.
    confirmed: HashMap<usize, i64>,
}

impl fmt::Debug for TouchedFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TouchedFiles").field("confirmed", &self.state.lock().confirmed).finish_non_exhaustive()
    }
}

/// The mark that a thread checks a file, until dropped.
struct Checking<'a>(&'a TouchedFiles, usize);

impl Drop for Checking<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.checking.remove(&self.1);
        self.0.is_checking.set(!state.checking.is_empty());
        self.0.checked.notify_all();
    }
}

impl TouchedFiles {
    /// Whether this modification time of a file is one with which its content was found to be btsync's.
    pub fn is_confirmed(&self, file_index: usize, time: i64) -> bool {
        self.state.lock().confirmed.get(&file_index) == Some(&time)
    }

    /// Waits while another thread checks this file.
    pub fn wait(&self, file_index: usize) {
        if self.is_checking.is_set() {
            let mut state = self.state.lock();
            self.checked.wait_while(&mut state, |state| state.checking.contains(&file_index));
        }
    }

    fn may_check(&self, file_index: usize) -> bool {
        self.state.lock().checks.get(&file_index).is_none_or(|checks| *checks < MAX_CHECKS)
    }

    /// Marks that this thread checks the file; `None` if another one does.
    fn begin(&self, file_index: usize) -> Option<Checking<'_>> {
        let mut state = self.state.lock();
        if !state.checking.insert(file_index) {
            return None;
        }
        *state.checks.entry(file_index).or_default() += 1;
        self.is_checking.set(true);
        Some(Checking(self, file_index))
    }

    fn confirm(&self, file_index: usize, time: i64) {
        self.state.lock().confirmed.insert(file_index, time);
    }
}

impl Storage {
    /// Sets the function that compares the content of a file that has another modification time than btsync gave it. It returns
    /// whether the file, by its number, holds nothing but what btsync wrote. Without it, such a file counts as edited.
    pub fn set_content_check(&self, check: impl Fn(usize) -> Result<bool, StorageError> + Send + Sync + 'static) {
        let _ = self.safeguards.touched.check.set(Box::new(check));
    }

    /// Whether a file to be written, whose modification time another program has set, still holds nothing but what btsync wrote.
    /// Hashes its verified pieces for that, without a lock; other threads that write to the file wait.
    pub(super) fn is_only_touched(&self, file_index: usize, file: &File) -> Result<bool, StorageError> {
        let Some(check) = self.safeguards.touched.check.get() else { return Ok(false) };
        let failed = |error: io::Error| self.failed(Operation::Read, file_index, error);
        loop {
            self.safeguards.touched.wait(file_index);
            let found = file.metadata().map_err(failed)?;
            let times = (mtime(&found), ctime(&found));
            if self.cache.is_refused(file_index) || self.is_our_time(file_index, times.0) {
                return Ok(!self.cache.is_refused(file_index));
            }
            if !self.safeguards.touched.may_check(file_index) {
                return Ok(false);
            }
            let Some(_checking) = self.safeguards.touched.begin(file_index) else { continue };
            wait_until_past(times.1);
            if !check(file_index)? {
                self.cache.refuse(file_index);
                return Ok(false);
            }
            let later = file.metadata().map_err(failed)?;
            if (mtime(&later), ctime(&later)) == times {
                self.safeguards.touched.confirm(file_index, times.0);
                log::info!("{}: has another time and the same content", self.name(file_index).display());
                return Ok(true);
            }
        }
    }

    /// Refuses the first file of this piece whose times another program has set: its content may be edited, too. Returns the error to
    /// report.
    pub fn refuse_touched(&self, piece: PieceIndex) -> Option<StorageError> {
        let mut spans = self.layout.spans(self.layout.offset(piece, 0), u64::from(self.layout.piece_size(piece)));
        let touched = spans.find(|span| self.safeguards.touched.state.lock().confirmed.contains_key(&span.file))?;
        Some(self.record_refusal(touched.file, Refusal::Changed))
    }

    /// Checks that the torrent does not stop.
    ///
    /// # Errors
    /// If it does ([`StorageError::is_interrupted`]).
    pub fn check_running(&self, file: usize) -> Result<(), StorageError> {
        if self.is_stopped() {
            Err(self.failed(Operation::Read, file, io::ErrorKind::Interrupted.into()))
        } else {
            Ok(())
        }
    }

    /// Whether a byte in this range of a file is not zero.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn has_bytes(&self, file: usize, from: u64, upto: u64) -> Result<bool, StorageError> {
        let opened = self.handle(file, false)?;
        has_data(&opened.file, from, upto, &AtomicBool::new(false))
            .map_err(|error| self.failed(Operation::Read, file, error))
    }
}

impl Survey {
    /// If a file was changed so recently that another change might give it the same times, waits until that is over and returns
    /// `true`: then the files have to be looked at again.
    pub fn wait_until_edits_show(&self) -> bool {
        self.files.iter().flatten().map(FileSnapshot::changed_at).max().is_some_and(wait_until_past)
    }
}

/// Waits until a change of a file that has this change time (ctime) would give it another one, however coarse the times of its
/// file system are. Returns whether that took any time. Times in the future are from a clock that was set back; nobody waits for
/// them.
pub(super) fn wait_until_past(ctime: i64) -> bool {
    let rest = time_until_past(ctime, clock());
    rest.map(std::thread::sleep).is_some()
}

/// How long to wait at the time `now`.
fn time_until_past(ctime: i64, now: i64) -> Option<Duration> {
    // No file system that counts in steps of two seconds has odd ones.
    let step = match time_step(ctime) {
        CLOCK_TICK => CLOCK_TICK,
        _ if ctime % COARSE_STEP != 0 => COARSE_STEP / 2 + CLOCK_TICK,
        step => step + CLOCK_TICK,
    };
    let rest = ctime.saturating_add(step).saturating_sub(now);
    (1..=step).contains(&rest).then(|| Duration::from_nanos(rest.unsigned_abs()))
}

#[cfg(test)]
mod tests;
