//! Main's loop while the torrent downloads and seeds: gives out upload slots, handles the connections' events, and knows when
//! everything is done. The [`PeerManager`] decides which peers to dial.
//!
//! Main sleeps until its next deadline or the next event. It also waits for the disk: while it writes resume data, and at
//! completion, when it looks at all files, hashes what another program changed, and syncs if the user wants that.

mod bans;
mod reopening;
mod slots;
mod turnover;
mod web_seeds;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use crate::metainfo::Metainfo;
use crate::net::tcp_diag::TcpDiag;
use crate::peer::{PeerEvent, TorrentContext, TorrentMessage};
use crate::storage::{StopCheck as _, StorageError, StorageErrorKind};
use crate::strategy::choker::{Choker, ROUND as CHOKE_ROUND};
use crate::strategy::quality::Turnover;
use crate::strategy::quality::duplicates::DuplicateTrials;
use crate::torrent::peer_manager::{LoopEvent, PeerManager};
use crate::torrent::resume_store::{MANY_FILES, ResumeStore, skip_after_stop};
use crate::torrent::{Event, Outcome, Stage, send_event};
use crate::util::printable_text::printable;
pub use reopening::TransferEnd;
use web_seeds::WebSeeds;

/// Upper bound on sleep, in case a deadline is missed.
const MAX_SLEEP: Duration = Duration::from_secs(60);
/// How long to wait before another attempt if main found no descriptor.
const DESCRIPTOR_RETRY_DELAY: Duration = Duration::from_millis(200);
/// How many events are handled in a row before the deadlines are checked again.
const MAX_EVENTS_PER_TURN: usize = 1000;

/// The state of the transfer.
pub struct Transfer<'c, 'a> {
    context: &'c Arc<TorrentContext>,
    peer_manager: PeerManager<'a>,
    choker: Choker,
    next_choke: Duration,
    /// The changes of the run state ([`RunControl::changes`](crate::peer::RunControl::changes)) that have been applied.
    applied_changes: u32,
    /// When a super-seed next checks which pieces to reveal.
    next_super_seed_tick: Duration,
    /// Provides the bytes acknowledged by peers, if the system does.
    tcp_diag: Option<TcpDiag>,
    turnover: Turnover,
    duplicate_trials: DuplicateTrials,
    /// Since when everything wanted is complete.
    complete_since: Option<Duration>,
    /// The size of everything wanted, in bytes.
    total: u64,
    failure: Option<StorageError>,
    /// When to check the files of a complete download again, if there was no descriptor for that.
    finish_retry_at: Option<Duration>,
    /// The resume data, if it is enabled.
    resume_store: Option<ResumeStore>,
    web_seeds: WebSeeds,
}

impl<'c, 'a> Transfer<'c, 'a> {
    /// The transfer of a torrent that has just been checked and of which `total` bytes are wanted.
    pub fn new(
        context: &'c Arc<TorrentContext>,
        mut peer_manager: PeerManager<'a>,
        total: u64,
        resume_store: Option<ResumeStore>,
    ) -> Transfer<'c, 'a> {
        let complete = context.pieces.is_complete();
        peer_manager.inner.set_stage(if complete { Stage::Seeding } else { Stage::Downloading });
        peer_manager.is_complete = complete;
        if complete {
            send_event(&peer_manager.events, Event::Completed);
        }
        peer_manager.discovery.set_seed(context.pieces.is_seed());
        let now = context.now();
        Transfer {
            context,
            peer_manager,
            choker: Choker::default(),
            next_choke: now + CHOKE_ROUND,
            applied_changes: 0,
            next_super_seed_tick: now,
            tcp_diag: TcpDiag::open().ok(),
            turnover: Turnover::default(),
            duplicate_trials: DuplicateTrials::default(),
            complete_since: complete.then_some(now),
            total,
            failure: None,
            finish_retry_at: None,
            resume_store,
            web_seeds: WebSeeds::default(),
        }
    }

    /// Starts the web seeds of the torrent and of the user, if anything is missing.
    #[must_use]
    pub fn with_web_seeds(mut self, metainfo: &Metainfo) -> Transfer<'c, 'a> {
        if self.complete_since.is_none() {
            self.web_seeds = WebSeeds::start(self.context, metainfo, &self.peer_manager);
        }
        self
    }

    /// Downloads and seeds until the seed goal is reached or the torrent is stopped, then shuts down; or until the files are to be
    /// opened again.
    ///
    /// # Errors
    /// If the disk failed.
    pub fn run(mut self, messages: &Receiver<TorrentMessage>) -> Result<TransferEnd<'a>, StorageError> {
        self.update_choked_share(&[]);
        while !self.is_over() {
            if self.must_reopen() {
                return self.suspend(messages);
            }
            let now = self.context.now();
            self.peer_manager.tick(self.context, now);
            self.apply_pause();
            if self.finish_retry_at.is_some_and(|due| due <= now) {
                self.complete();
            }
            self.run_choke_round(now);
            self.tick_super_seeding(now);
            self.save_resume_data(now);
            let wake = Instant::now() + self.time_to_next_deadline(now);
            if let Some(loop_event) = self.peer_manager.wait(messages, wake) {
                self.take(loop_event);
                // Handles all other waiting events before the deadlines are checked again.
                messages.try_iter().take(MAX_EVENTS_PER_TURN).for_each(|event| self.take(LoopEvent::Message(event)));
            }
        }
        self.shut_down(messages).map(TransferEnd::Ended)
    }

    /// Writes the resume data if it is due.
    fn save_resume_data(&mut self, now: Duration) {
        let (pieces, sent) = (&self.context.pieces, self.context.payload.uploaded.get());
        self.resume_store.iter_mut().for_each(|resume_store| resume_store.set_uploaded(sent));
        if let Some(resume_store) = &mut self.resume_store
            && resume_store.due(pieces.progress_count()).is_some_and(|due| due <= now)
        {
            let (have, partial) = pieces.to_resume();
            pieces.storage().record_complete_files(&have);
            resume_store.save(pieces.storage(), (have, partial), now);
        }
    }

    /// Whether the torrent was told to stop.
    fn is_stopped(&self) -> bool {
        self.context.settings.run.is_stopped()
    }

    /// Whether the transfer has to end.
    fn is_over(&self) -> bool {
        self.is_stopped() || self.failure.is_some() || self.goal_reached(self.context.now())
    }

    /// Whether the download is complete and the seed goal reached.
    fn goal_reached(&self, now: Duration) -> bool {
        let Some(since) = self.complete_since else { return false };
        let seed_goal = &self.peer_manager.config.seed;
        if seed_goal.is_forever {
            return false;
        }
        let before = self.peer_manager.inner.progress.uploaded_before.get();
        let uploaded = before.saturating_add(self.context.payload.uploaded.get()) as f64;
        let by_time = seed_goal.time.is_some_and(|time| now >= since + time);
        let by_ratio = seed_goal.ratio.is_some_and(|ratio| uploaded >= ratio * self.total as f64);
        !seed_goal.any() || by_time || by_ratio
    }

    /// The time until the next deadline.
    fn time_to_next_deadline(&self, now: Duration) -> Duration {
        let mut next = self.peer_manager.next_due(now, self.context).min(now + MAX_SLEEP);
        if self.context.roster.count() > 0 {
            next = next.min(self.next_choke);
            if self.context.active_super_seed().is_some() {
                next = next.min(self.next_super_seed_tick);
            }
        }
        if let Some(due) =
            self.resume_store.as_ref().and_then(|resume_store| resume_store.due(self.context.pieces.progress_count()))
        {
            next = next.min(due);
        }
        if let Some(since) = self.complete_since {
            if let Some(time) = self.peer_manager.config.seed.time {
                next = next.min(since + time);
            }
            if self.peer_manager.config.seed.ratio.is_some() {
                next = next.min(now + Duration::from_secs(1)); // no event reports uploaded bytes
            }
        }
        next.min(self.finish_retry_at.unwrap_or(next)).saturating_sub(now)
    }

    /// Handles an event.
    fn take(&mut self, loop_event: LoopEvent) {
        if let Some(TorrentMessage::Peer(event)) = self.peer_manager.handle_event(self.context, loop_event) {
            self.handle_event(event);
        }
    }

    /// Handles an event of the download.
    fn handle_event(&mut self, event: PeerEvent) {
        match event {
            PeerEvent::Disconnected { key, addr, why } => {
                self.peer_manager.connection_ended(self.context, key, addr, &why);
                if self.choker.has_slot(key) {
                    self.fill_free_slot();
                }
            }
            PeerEvent::InterestChanged { key } => self.interest_changed(key),
            PeerEvent::PieceFailed { piece, senders, has_resumed_blocks } => {
                self.piece_failed(piece, &senders, has_resumed_blocks);
            }
            PeerEvent::CorruptSendersFound { piece, senders } => self.ban(piece, &senders),
            PeerEvent::WebSeedEnded { key, why } => {
                if let Some(url) = self.web_seeds.stop_one(self.context, key) {
                    send_event(&self.peer_manager.events, Event::WebSeedEnded { url, reason: printable(&why) });
                }
            }
            PeerEvent::Complete => self.complete(),
            // A thread that waited for a descriptor, or went through very many files, gave up because of the stop.
            PeerEvent::Storage(error)
                if self.is_stopped() && (error.is_interrupted() || error.kind() == StorageErrorKind::TooManyFiles) => {}
            PeerEvent::Storage(error) => {
                self.failure.get_or_insert(error);
            }
            // Main checks for a pause in each turn. The other events are the peer manager's, or late ones of the metadata
            // phase.
            _ => {}
        }
    }

    /// The last wanted piece is verified: finishes the files and reports completion.
    fn complete(&mut self) {
        if self.complete_since.is_some() {
            return;
        }
        let now = self.context.now();
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
            // The next run finishes the files.
            Ok(false) => return,
            Ok(true) => {}
        }
        self.complete_since = Some(now);
        self.web_seeds.stop(self.context);
        self.peer_manager.is_complete = true;
        if self.context.pieces.is_seed() {
            self.peer_manager.announcer.completed(); // a partial seed has not completed the torrent (BEP 21)
            self.peer_manager.discovery.set_seed(true);
        }
        self.peer_manager.inner.set_stage(Stage::Seeding);
        send_event(&self.peer_manager.events, Event::Completed);
        for peer in self.context.roster.all() {
            if peer.is_redundant(self.context) {
                peer.close();
            } else {
                peer.send_upload_only(self.context);
            }
        }
    }

    /// Checks that the files are in place and still ours, and gives up the right to write to them. Returns false if a stop
    /// comes first and there are too many files to go on in spite of it.
    fn finish_files(&mut self) -> Result<bool, StorageError> {
        let (storage, stop) = (self.context.pieces.storage(), &*self.context.settings.run);
        let are_many = storage.layout().files().len() > MANY_FILES;
        let is_over = || are_many && stop.is_stopped();
        storage.sync_remote()?;
        if !storage.check_files_until(&is_over)? {
            return Ok(false);
        }
        storage.compare_undecided()?;
        match self.context.pieces.recheck_changed(stop) {
            _ if is_over() => return Ok(false),
            // A check that the stop cut short proves nothing.
            Err(error) if stop.is_stopped() && error.kind() == StorageErrorKind::Exists => return Ok(false),
            result => result?,
        }
        storage.confirm_lock()?;
        if !storage.apply_final_names_until(&is_over)? || !storage.check_files_until(&is_over)? {
            return Ok(false);
        }
        if self.peer_manager.config.files.syncs_data {
            storage.sync_all()?;
            storage.confirm_lock()?;
        }
        // From here on, the files are only read.
        storage.close();
        let (have, partial) = self.context.pieces.to_resume();
        // Before the marker is removed: no record that outlives it may claim complete files as ours.
        if let Some(resume_store) = &mut self.resume_store {
            resume_store.drop_complete_files(storage, (have.clone(), partial), self.context.now());
        }
        storage.finish(&have)?;
        self.peer_manager.registration.retain_incomplete_names(None);
        for what in storage.describe_longer_files_now() {
            send_event(&self.peer_manager.events, Event::Note { what });
        }
        Ok(true)
    }

    /// Shuts down: completes the files if possible, tells trackers, closes connections, and writes the resume data.
    fn shut_down(mut self, messages: &Receiver<TorrentMessage>) -> Result<Outcome, StorageError> {
        // The last block may have arrived just before the stop.
        if self.context.pieces.is_complete() && self.failure.is_none() {
            self.complete();
        }
        let inner = self.peer_manager.inner;
        inner.set_stage(Stage::Stopping);
        send_event(&self.peer_manager.events, Event::Stopping);
        self.web_seeds.stop(self.context);
        let (context, resume_store, is_late) = (self.context, self.resume_store, skip_after_stop(&*inner.run));
        let mut synced = Ok(());
        self.peer_manager.shut_down(context, messages, || {
            self.web_seeds.join();
            synced = context.pieces.storage().sync_remote();
            if !context.pieces.is_complete() {
                context.pieces.storage().record_complete_files(&context.pieces.to_resume().0);
            }
            if let Some(mut resume_store) = resume_store {
                resume_store.set_uploaded(context.payload.uploaded.get());
                resume_store.finish(context.pieces.storage(), context.pieces.to_resume(), is_late);
            }
        });
        match self.failure.or(synced.err()) {
            Some(error) => Err(error),
            None if !inner.run.is_stopped() => Ok(Outcome::Completed),
            // If the last block arrived during the shutdown, the files have not been checked: the next run does that.
            None if self.complete_since.is_some() => Ok(Outcome::StoppedComplete),
            None => Ok(Outcome::Stopped),
        }
    }
}
