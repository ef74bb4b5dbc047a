//! The main thread's loop while a torrent is downloaded and seeded: whom we know and call is up to [`Contacts`]; it gives slots,
//! hears what connections report, and knows when all is done.
//!
//! It sleeps until the next of its appointments or the next report, and never blocks otherwise.

mod bans;
mod slots;
mod table;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use crate::net::acknowledged::Acknowledged;
use crate::peer::{Report, Shared};
use crate::storage::{StorageError, StorageErrorKind};
use crate::strategy::choker::{Choker, ROUND as CHOKE_ROUND};
use crate::strategy::quality::Turnover;
use crate::torrent::peer_manager::{Contacts, News};
use crate::torrent::resume_store::{Keeper, MANY_FILES, lateness};
use crate::torrent::{Event, Outcome, Stage, tell};

/// The main thread looks up at least so often, so that a lost appointment is no disaster.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// Between two tries where main finds no descriptor.
const SHORTAGE: Duration = Duration::from_millis(200);
/// Reports that are heard in a row before the appointments are looked at again.
const IN_A_ROW: usize = 1000;

/// The main thread's state.
pub struct Conductor<'a> {
    shared: &'a Arc<Shared>,
    contacts: Contacts<'a>,
    choker: Choker,
    next_choke: Duration,
    /// When a super-seed looks at what it has shown.
    next_reveal: Duration,
    /// Tells what has arrived of what we sent, where the system does.
    acknowledged: Option<Acknowledged>,
    turnover: Turnover,
    /// Since when all that is wanted has been there.
    whole_since: Option<Duration>,
    /// The size in bytes of what is wanted.
    total: u64,
    failure: Option<StorageError>,
    /// When to look again at the files of a complete download, where there was no descriptor for that.
    unconfirmed: Option<Duration>,
    /// Keeps the fast-resume record, where there is one.
    keeper: Option<Keeper>,
}

impl<'a> Conductor<'a> {
    /// A conductor whose torrent, of which `total` bytes are wanted, has just been checked.
    pub fn new(
        shared: &'a Arc<Shared>,
        mut contacts: Contacts<'a>,
        total: u64,
        keeper: Option<Keeper>,
    ) -> Conductor<'a> {
        let whole = shared.pieces.is_complete();
        contacts.inner.enter(if whole { Stage::Seeding } else { Stage::Downloading });
        contacts.content = whole;
        if whole {
            tell(&contacts.events, Event::Completed);
        }
        let now = shared.now();
        Conductor {
            shared,
            contacts,
            choker: Choker::default(),
            next_choke: now + CHOKE_ROUND,
            next_reveal: now,
            acknowledged: Acknowledged::open().ok(),
            turnover: Turnover::default(),
            whole_since: whole.then_some(now),
            total,
            failure: None,
            unconfirmed: None,
            keeper,
        }
    }

    /// Downloads and seeds until the goal is reached or somebody says stop; then says goodbye.
    ///
    /// # Errors
    /// Where the disk failed.
    pub fn conduct(mut self, reports: &Receiver<Report>) -> Result<Outcome, StorageError> {
        while !self.is_over() {
            let now = self.shared.now();
            self.contacts.tick(self.shared, now);
            self.pause();
            if self.unconfirmed.is_some_and(|due| due <= now) {
                self.whole();
            }
            self.choke(now);
            self.reveal(now);
            self.keep(now);
            let wake = Instant::now() + self.sleep(now);
            if let Some(news) = self.contacts.wait(reports, wake) {
                self.take(news);
                // What else waits is heard before the appointments are looked at again.
                reports.try_iter().take(IN_A_ROW).for_each(|report| self.take(News::Report(report)));
            }
        }
        self.leave(reports)
    }

    /// Writes the fast-resume record where it is time to.
    fn keep(&mut self, now: Duration) {
        let (pieces, sent) = (&self.shared.pieces, self.shared.uploaded.load(Ordering::Relaxed));
        self.keeper.iter_mut().for_each(|keeper| keeper.count_uploaded(sent));
        if let Some(keeper) = &mut self.keeper
            && keeper.due(pieces.progress_count()).is_some_and(|due| due <= now)
        {
            keeper.save(pieces.storage(), pieces.to_resume(), now);
        }
    }

    /// Whether the session was told to stop.
    fn is_stopped(&self) -> bool {
        self.contacts.inner.stop.load(Ordering::Acquire)
    }

    /// Whether there is nothing left to do.
    fn is_over(&self) -> bool {
        self.is_stopped() || self.failure.is_some() || self.goal_reached(self.shared.now())
    }

    /// Whether seeding is done, where the download is.
    fn goal_reached(&self, now: Duration) -> bool {
        let Some(since) = self.whole_since else { return false };
        let goal = &self.contacts.config.seed;
        if goal.forever {
            return false;
        }
        let before = self.contacts.inner.uploaded_before.load(Ordering::Relaxed);
        let uploaded = before.saturating_add(self.shared.uploaded.load(Ordering::Relaxed)) as f64;
        let by_time = goal.time.is_some_and(|time| now >= since + time);
        let by_ratio = goal.ratio.is_some_and(|ratio| uploaded >= ratio * self.total as f64);
        !goal.any() || by_time || by_ratio
    }

    /// Until the next appointment.
    fn sleep(&self, now: Duration) -> Duration {
        let mut next = self.contacts.next_due(now, self.shared).min(now + LONGEST_SLEEP);
        if self.shared.roster.count() > 0 {
            next = next.min(self.next_choke);
            if self.shared.revealing().is_some() {
                next = next.min(self.next_reveal);
            }
        }
        if let Some(due) = self.keeper.as_ref().and_then(|keeper| keeper.due(self.shared.pieces.progress_count())) {
            next = next.min(due);
        }
        if let Some(since) = self.whole_since {
            if let Some(time) = self.contacts.config.seed.time {
                next = next.min(since + time);
            }
            if self.contacts.config.seed.ratio.is_some() {
                next = next.min(now + Duration::from_secs(1)); // nobody reports bytes
            }
        }
        next.min(self.unconfirmed.unwrap_or(next)).saturating_sub(now)
    }

    /// Takes what was heard.
    fn take(&mut self, news: News) {
        if let Some(report) = self.contacts.hear(self.shared, news) {
            self.hear(report);
        }
    }

    /// Takes one report that is about the download.
    fn hear(&mut self, report: Report) {
        match report {
            Report::Gone { key, addr, why } => self.contacts.gone(self.shared, key, addr, &why),
            Report::Interest { key } => self.interest(key),
            Report::Failed { piece, senders, recalled } => self.failed_piece(piece, &senders, recalled),
            Report::Liars { piece, senders } => self.ban(piece, &senders),
            Report::Whole => self.whole(),
            // A thread that waited for a descriptor, or went through very many files, gave up because of the stop.
            Report::Storage(error)
                if self.is_stopped() && (error.is_interrupted() || error.kind() == StorageErrorKind::TooManyFiles) => {}
            Report::Storage(error) => {
                self.failure.get_or_insert(error);
            }
            // A pause is looked at in each turn. The rest is for the contacts, or late news of the metadata stage.
            _ => {}
        }
    }

    /// The last piece that is wanted is there.
    fn whole(&mut self) {
        if self.whole_since.is_some() {
            return;
        }
        let now = self.shared.now();
        self.unconfirmed = None;
        match self.finish_files() {
            Err(error) if error.kind() == StorageErrorKind::TooManyFiles => {
                self.contacts.give_up_one(now);
                self.unconfirmed = Some(now + SHORTAGE);
                return;
            }
            Err(error) => {
                self.failure.get_or_insert(error);
                return;
            }
            // The next run does it.
            Ok(false) => return,
            Ok(true) => {}
        }
        self.whole_since = Some(now);
        self.contacts.content = true;
        if self.shared.pieces.is_whole() {
            self.contacts.announcer.completed(); // a partial seed has not completed the torrent (BEP 21)
        }
        self.contacts.inner.enter(Stage::Seeding);
        tell(&self.contacts.events, Event::Completed);
        for peer in self.shared.roster.all() {
            if peer.is_needless(self.shared) {
                peer.close();
            } else {
                peer.send_upload_only(self.shared);
            }
        }
    }

    /// Sees that the files are where they belong and still ours, and gives up the right to write to them; `false` where a stop comes
    /// first, and there are too many files to go on nevertheless.
    fn finish_files(&mut self) -> Result<bool, StorageError> {
        let (storage, stop) = (self.shared.pieces.storage(), &self.contacts.inner.stop);
        let are_many = storage.layout().files().len() > MANY_FILES;
        let is_over = || are_many && stop.load(Ordering::Relaxed);
        if !storage.confirm_unless(&is_over)? {
            return Ok(false);
        }
        storage.compare()?;
        match self.shared.pieces.recheck_changed(stop) {
            _ if is_over() => return Ok(false),
            // What a stop has cut short proves nothing.
            Err(error) if stop.load(Ordering::Relaxed) && error.kind() == StorageErrorKind::Exists => return Ok(false),
            result => result?,
        }
        storage.confirm_lock()?;
        if !storage.take_final_names_unless(&is_over)? || !storage.confirm_unless(&is_over)? {
            return Ok(false);
        }
        if self.contacts.config.fsync {
            storage.sync_all()?;
            storage.confirm_lock()?;
        }
        // From here on they are read only.
        storage.close();
        let (have, partial) = self.shared.pieces.to_resume();
        // Before the marker goes: no record that outlives it is to name files that are complete.
        if let Some(keeper) = &mut self.keeper {
            keeper.disown(storage, (have.clone(), partial), self.shared.now());
        }
        storage.finish(&have);
        Ok(true)
    }

    /// Goodbye to everybody.
    fn leave(mut self, reports: &Receiver<Report>) -> Result<Outcome, StorageError> {
        // The last block may have come just before the stop.
        if self.shared.pieces.is_complete() && self.failure.is_none() {
            self.whole();
        }
        let inner = self.contacts.inner;
        inner.enter(Stage::Stopping);
        tell(&self.contacts.events, Event::Stopping);
        let (shared, keeper, is_late) = (self.shared, self.keeper, lateness(&inner.stop));
        self.contacts.leave(shared, reports, || {
            if let Some(mut keeper) = keeper {
                keeper.count_uploaded(shared.uploaded.load(Ordering::Relaxed));
                keeper.finish(shared.pieces.storage(), shared.pieces.to_resume(), is_late);
            }
        });
        match self.failure {
            Some(error) => Err(error),
            None if !inner.stop.load(Ordering::Acquire) => Ok(Outcome::Completed),
            // Where the last block came while we were leaving, nobody has looked at the files: the next run does.
            None if self.whole_since.is_some() => Ok(Outcome::StoppedWhole),
            None => Ok(Outcome::Stopped),
        }
    }
}
