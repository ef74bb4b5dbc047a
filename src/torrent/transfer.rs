//! The main thread's loop while a torrent is downloaded and seeded: whom we know and call is up to [`PeerManager`]; it gives slots,
//! hears what connections report, and knows when all is done.
//!
//! It sleeps until the next of its appointments or the next report, and never blocks otherwise.

mod bans;
mod slots;
mod turnover;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use crate::net::tcp_diag::TcpDiag;
use crate::peer::{PeerEvent, TorrentContext};
use crate::storage::{StorageError, StorageErrorKind};
use crate::strategy::choker::{Choker, ROUND as CHOKE_ROUND};
use crate::strategy::quality::Turnover;
use crate::torrent::peer_manager::{LoopEvent, PeerManager};
use crate::torrent::resume_store::{MANY_FILES, ResumeStore, lateness};
use crate::torrent::{Event, Outcome, Stage, send_event};

/// The main thread looks up at least so often, so that a lost appointment is no disaster.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// Between two tries where main finds no descriptor.
const DESCRIPTOR_RETRY_DELAY: Duration = Duration::from_millis(200);
/// Reports that are heard in a row before the appointments are looked at again.
const MAX_EVENTS_PER_TURN: usize = 1000;

/// The main thread's state.
pub struct Transfer<'a> {
    shared: &'a Arc<TorrentContext>,
    peer_manager: PeerManager<'a>,
    choker: Choker,
    next_choke: Duration,
    /// When a super-seed looks at what it has shown.
    next_reveal: Duration,
    /// Tells what has arrived of what we sent, where the system does.
    acknowledged: Option<TcpDiag>,
    turnover: Turnover,
    /// Since when all that is wanted has been there.
    complete_since: Option<Duration>,
    /// The size in bytes of what is wanted.
    total: u64,
    failure: Option<StorageError>,
    /// When to look again at the files of a complete download, where there was no descriptor for that.
    finish_retry_at: Option<Duration>,
    /// Keeps the fast-resume record, where there is one.
    resume_store: Option<ResumeStore>,
}

impl<'a> Transfer<'a> {
    /// A conductor whose torrent, of which `total` bytes are wanted, has just been checked.
    pub fn new(
        shared: &'a Arc<TorrentContext>,
        mut peer_manager: PeerManager<'a>,
        total: u64,
        resume_store: Option<ResumeStore>,
    ) -> Transfer<'a> {
        let complete = shared.pieces.is_complete();
        peer_manager.inner.set_stage(if complete { Stage::Seeding } else { Stage::Downloading });
        peer_manager.is_complete = complete;
        if complete {
            send_event(&peer_manager.events, Event::Completed);
        }
        let now = shared.now();
        Transfer {
            shared,
            peer_manager,
            choker: Choker::default(),
            next_choke: now + CHOKE_ROUND,
            next_reveal: now,
            acknowledged: TcpDiag::open().ok(),
            turnover: Turnover::default(),
            complete_since: complete.then_some(now),
            total,
            failure: None,
            finish_retry_at: None,
            resume_store,
        }
    }

    /// Downloads and seeds until the goal is reached or somebody says stop; then says goodbye.
    ///
    /// # Errors
    /// Where the disk failed.
    pub fn run(mut self, peer_events: &Receiver<PeerEvent>) -> Result<Outcome, StorageError> {
        while !self.is_over() {
            let now = self.shared.now();
            self.peer_manager.tick(self.shared, now);
            self.apply_pause();
            if self.finish_retry_at.is_some_and(|due| due <= now) {
                self.complete();
            }
            self.run_choke_round(now);
            self.super_seeding(now);
            self.save_resume_data(now);
            let wake = Instant::now() + self.sleep(now);
            if let Some(loop_event) = self.peer_manager.wait(peer_events, wake) {
                self.take(loop_event);
                // What else waits is heard before the appointments are looked at again.
                peer_events
                    .try_iter()
                    .take(MAX_EVENTS_PER_TURN)
                    .for_each(|event| self.take(LoopEvent::PeerEvent(event)));
            }
        }
        self.shut_down(peer_events)
    }

    /// Writes the fast-resume record where it is time to.
    fn save_resume_data(&mut self, now: Duration) {
        let (pieces, sent) = (&self.shared.pieces, self.shared.uploaded.load(Ordering::Relaxed));
        self.resume_store.iter_mut().for_each(|resume_store| resume_store.count_uploaded(sent));
        if let Some(resume_store) = &mut self.resume_store
            && resume_store.due(pieces.progress_count()).is_some_and(|due| due <= now)
        {
            resume_store.save(pieces.storage(), pieces.to_resume(), now);
        }
    }

    /// Whether the session was told to stop.
    fn is_stopped(&self) -> bool {
        self.peer_manager.inner.stop.load(Ordering::Acquire)
    }

    /// Whether there is nothing left to do.
    fn is_over(&self) -> bool {
        self.is_stopped() || self.failure.is_some() || self.goal_reached(self.shared.now())
    }

    /// Whether seeding is done, where the download is.
    fn goal_reached(&self, now: Duration) -> bool {
        let Some(since) = self.complete_since else { return false };
        let seed_goal = &self.peer_manager.config.seed;
        if seed_goal.forever {
            return false;
        }
        let before = self.peer_manager.inner.uploaded_before.load(Ordering::Relaxed);
        let uploaded = before.saturating_add(self.shared.uploaded.load(Ordering::Relaxed)) as f64;
        let by_time = seed_goal.time.is_some_and(|time| now >= since + time);
        let by_ratio = seed_goal.ratio.is_some_and(|ratio| uploaded >= ratio * self.total as f64);
        !seed_goal.any() || by_time || by_ratio
    }

    /// Until the next appointment.
    fn sleep(&self, now: Duration) -> Duration {
        let mut next = self.peer_manager.next_due(now, self.shared).min(now + LONGEST_SLEEP);
        if self.shared.roster.count() > 0 {
            next = next.min(self.next_choke);
            if self.shared.active_super_seed().is_some() {
                next = next.min(self.next_reveal);
            }
        }
        if let Some(due) =
            self.resume_store.as_ref().and_then(|resume_store| resume_store.due(self.shared.pieces.progress_count()))
        {
            next = next.min(due);
        }
        if let Some(since) = self.complete_since {
            if let Some(time) = self.peer_manager.config.seed.time {
                next = next.min(since + time);
            }
            if self.peer_manager.config.seed.ratio.is_some() {
                next = next.min(now + Duration::from_secs(1)); // nobody reports bytes
            }
        }
        next.min(self.finish_retry_at.unwrap_or(next)).saturating_sub(now)
    }

    /// Takes what was heard.
    fn take(&mut self, loop_event: LoopEvent) {
        if let Some(event) = self.peer_manager.handle_event(self.shared, loop_event) {
            self.handle_event(event);
        }
    }

    /// Takes one report that is about the download.
    fn handle_event(&mut self, event: PeerEvent) {
        match event {
            PeerEvent::Disconnected { key, addr, why } => self.peer_manager.gone(self.shared, key, addr, &why),
            PeerEvent::InterestChanged { key } => self.interest_changed(key),
            PeerEvent::PieceFailed { piece, senders, restored } => self.piece_failed(piece, &senders, restored),
            PeerEvent::LiarsFound { piece, senders } => self.ban(piece, &senders),
            PeerEvent::Complete => self.complete(),
            // A thread that waited for a descriptor, or went through very many files, gave up because of the stop.
            PeerEvent::Storage(error)
                if self.is_stopped() && (error.is_interrupted() || error.kind() == StorageErrorKind::TooManyFiles) => {}
            PeerEvent::Storage(error) => {
                self.failure.get_or_insert(error);
            }
            // A pause is looked at in each turn. The rest is for the contacts, or late news of the metadata stage.
            _ => {}
        }
    }

    /// The last piece that is wanted is there.
    fn complete(&mut self) {
        if self.complete_since.is_some() {
            return;
        }
        let now = self.shared.now();
        self.finish_retry_at = None;
        match self.finish_files() {
            Err(error) if error.kind() == StorageErrorKind::TooManyFiles => {
                self.peer_manager.drop_least_useful(now);
                self.finish_retry_at = Some(now + DESCRIPTOR_RETRY_DELAY);
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
        self.complete_since = Some(now);
        self.peer_manager.is_complete = true;
        if self.shared.pieces.is_seed() {
            self.peer_manager.announcer.completed(); // a partial seed has not completed the torrent (BEP 21)
        }
        self.peer_manager.inner.set_stage(Stage::Seeding);
        send_event(&self.peer_manager.events, Event::Completed);
        for peer in self.shared.roster.all() {
            if peer.is_redundant(self.shared) {
                peer.close();
            } else {
                peer.send_upload_only(self.shared);
            }
        }
    }

    /// Sees that the files are where they belong and still ours, and gives up the right to write to them; `false` where a stop comes
    /// first, and there are too many files to go on nevertheless.
    fn finish_files(&mut self) -> Result<bool, StorageError> {
        let (storage, stop) = (self.shared.pieces.storage(), &self.peer_manager.inner.stop);
        let are_many = storage.layout().files().len() > MANY_FILES;
        let is_over = || are_many && stop.load(Ordering::Relaxed);
        if !storage.confirm_unless(&is_over)? {
            return Ok(false);
        }
        storage.compare_undecided()?;
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
        if self.peer_manager.config.fsync {
            storage.sync_all()?;
            storage.confirm_lock()?;
        }
        // From here on they are read only.
        storage.close();
        let (have, partial) = self.shared.pieces.to_resume();
        // Before the marker goes: no record that outlives it is to name files that are complete.
        if let Some(resume_store) = &mut self.resume_store {
            resume_store.disown(storage, (have.clone(), partial), self.shared.now());
        }
        storage.finish(&have);
        Ok(true)
    }

    /// Goodbye to everybody.
    fn shut_down(mut self, peer_events: &Receiver<PeerEvent>) -> Result<Outcome, StorageError> {
        // The last block may have come just before the stop.
        if self.shared.pieces.is_complete() && self.failure.is_none() {
            self.complete();
        }
        let inner = self.peer_manager.inner;
        inner.set_stage(Stage::Stopping);
        send_event(&self.peer_manager.events, Event::Stopping);
        let (shared, resume_store, is_late) = (self.shared, self.resume_store, lateness(&inner.stop));
        self.peer_manager.shut_down(shared, peer_events, || {
            if let Some(mut resume_store) = resume_store {
                resume_store.count_uploaded(shared.uploaded.load(Ordering::Relaxed));
                resume_store.finish(shared.pieces.storage(), shared.pieces.to_resume(), is_late);
            }
        });
        match self.failure {
            Some(error) => Err(error),
            None if !inner.stop.load(Ordering::Acquire) => Ok(Outcome::Completed),
            // Where the last block came while we were leaving, nobody has looked at the files: the next run does.
            None if self.complete_since.is_some() => Ok(Outcome::StoppedComplete),
            None => Ok(Outcome::Stopped),
        }
    }
}
