//! The main thread's loop: it announces on the tracker's interval, calls peers, gives slots, and hears what connections report.
//!
//! It sleeps until the next of its appointments or the next report, and never blocks otherwise: a tracker request is blocking
//! I/O that cannot be interrupted, so each runs on a short-lived thread of its own whose result comes back as a report.

mod bans;
mod places;

use std::collections::{HashMap, VecDeque};
use std::net::{SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::book::Book;
use super::goodbye;
use super::listener::Listener;
use super::{Config, Event, Inner, Outcome, Stage, tell};
use crate::metainfo::Torrent;
use crate::peer::{Connection, Gone, Report, Shared};
use crate::sources::announce::{Announce, Answer, TrackerError};
use crate::sources::client::TrackerClient;
use crate::sources::http::public_name;
use crate::sources::tiers::{Job, Tiers};
use crate::storage::StorageError;
use crate::swarm::choker::{Candidate, Choker, ROUND as CHOKE_ROUND};
use crate::swarm::limiter::Direction;
use crate::swarm::quality::Turnover;
use crate::types::PeerKey;

/// Connections that are being made at the same time.
const HALF_OPEN: usize = 30;
/// A tracker has so long for everything.
const ANNOUNCE_DEADLINE: Duration = Duration::from_secs(30);
/// With fewer connections than this, a download asks its tracker for more peers.
const FEW_PEERS: usize = 8;
/// Peers asked for in an announce.
const NUMWANT: u32 = 200;
/// A connection that lasted so long was no failure.
const WORTHWHILE: Duration = Duration::from_secs(30);
/// The pause after a call that failed for want of a descriptor or a thread of ours.
const BREATHER: Duration = Duration::from_secs(5);
/// The main thread looks up at least so often, so that a lost appointment is no disaster.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// The main thread's state.
pub struct Conductor<'a> {
    shared: &'a Arc<Shared>,
    inner: &'a Inner,
    config: &'a Config,
    events: Sender<Event>,
    book: Book,
    connections: HashMap<PeerKey, Line>,
    /// Who was connected, and whether it had called us; the last to leave last.
    left: VecDeque<(PeerKey, SocketAddr, bool)>,
    tiers: Tiers,
    tracker: TrackerClient,
    key: u32,
    announcing: Option<JoinHandle<()>>,
    choker: Choker,
    next_choke: Duration,
    turnover: Turnover,
    next_call: Duration,
    /// Since when everything has been there.
    whole_since: Option<Duration>,
    /// The torrent's size in bytes.
    total: u64,
    failure: Option<StorageError>,
}

/// A connection as the main thread sees it.
struct Line {
    connection: Connection,
    incoming: bool,
    /// Since when the handshake is done.
    ready: Option<Duration>,
    /// Bytes down and up at the last two rounds, and when those were; the older first.
    seen: [(Duration, u64, u64); 2],
}

impl<'a> Conductor<'a> {
    /// A conductor whose torrent has just been checked.
    pub fn new(
        shared: &'a Arc<Shared>,
        inner: &'a Inner,
        config: &'a Config,
        torrent: &Torrent,
        events: Sender<Event>,
    ) -> Conductor<'a> {
        let tiers = torrent.tiers.iter().cloned().chain(config.trackers.iter().map(|url| vec![url.clone()]));
        let mut rng = fastrand::Rng::new();
        let tiers = Tiers::new(tiers.collect(), &mut rng);
        let unsupported: Vec<_> = tiers.unsupported().iter().map(|url| public_name(url)).collect();
        if tiers.is_empty() && config.peers.is_empty() {
            tell(&events, Event::NoTracker { unsupported });
        } else if !unsupported.is_empty() {
            log::info!("not asked, as their kind is not supported yet: {}", unsupported.join(", "));
        }
        let whole = shared.pieces.is_complete();
        inner.enter(if whole { Stage::Seeding } else { Stage::Downloading });
        if whole {
            tell(&events, Event::Completed);
        }
        let mut book = Book::new(config.encryption);
        book.add(&config.peers);
        Conductor {
            shared,
            inner,
            config,
            events,
            book,
            connections: HashMap::new(),
            left: VecDeque::new(),
            tiers,
            tracker: TrackerClient::new(),
            key: rng.u32(..),
            announcing: None,
            choker: Choker::default(),
            next_choke: CHOKE_ROUND,
            turnover: Turnover::default(),
            next_call: Duration::ZERO,
            whole_since: whole.then(|| shared.now()),
            total: torrent.total(),
            failure: None,
        }
    }

    /// Downloads and seeds until the goal is reached or somebody says stop; then says goodbye.
    ///
    /// # Errors
    /// Where the disk failed.
    pub fn conduct(mut self, reports: &Receiver<Report>, listener: Listener) -> Result<Outcome, StorageError> {
        while !self.is_over() {
            let now = self.shared.now();
            self.announce(now);
            self.call(now);
            self.choke(now);
            let wake = Instant::now() + self.sleep(now);
            match reports.recv_deadline(wake) {
                Ok(report) => {
                    self.hear(report);
                    // What else waits is heard before the appointments are looked at again.
                    reports.try_iter().take(1000).for_each(|report| self.hear(report));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.leave(reports, listener)
    }

    /// Whether there is nothing left to do.
    fn is_over(&self) -> bool {
        self.inner.stop.load(Ordering::Acquire) || self.failure.is_some() || self.goal_reached(self.shared.now())
    }

    /// Whether seeding is done, where the download is.
    fn goal_reached(&self, now: Duration) -> bool {
        let Some(since) = self.whole_since else { return false };
        let goal = &self.config.seed;
        if goal.forever {
            return false;
        }
        let uploaded = self.shared.uploaded.load(Ordering::Relaxed) as f64;
        let by_time = goal.time.is_some_and(|time| now >= since + time);
        let by_ratio = goal.ratio.is_some_and(|ratio| uploaded >= ratio * self.total as f64);
        !goal.any() || by_time || by_ratio
    }

    /// Until the next appointment.
    fn sleep(&self, now: Duration) -> Duration {
        let mut next = now + LONGEST_SLEEP;
        if self.announcing.is_none() {
            next = next.min(self.tiers.next_due().max(now));
        }
        if self.shared.roster.count() > 0 {
            next = next.min(self.next_choke);
        }
        if self.may_call() {
            next = next.min(self.next_call);
        }
        if let Some(since) = self.whole_since {
            if let Some(time) = self.config.seed.time {
                next = next.min(since + time);
            }
            if self.config.seed.ratio.is_some() {
                next = next.min(now + Duration::from_secs(1)); // nobody reports bytes
            }
        }
        next.saturating_sub(now)
    }

    // ---- trackers ----------------------------------------------------------------------------------------------------

    /// Sends an announce on its way where one is due.
    fn announce(&mut self, now: Duration) {
        if self.announcing.is_some() {
            return;
        }
        let hungry = self.whole_since.is_none() && self.connections.len() < FEW_PEERS.min(self.config.max_peers);
        if hungry && self.book.next_call().is_none() {
            self.tiers.want_peers(now);
        }
        let Some(job) = self.tiers.begin(now) else { return };
        let (shared, tracker) = (self.shared.clone(), self.tracker.clone());
        let (key, url) = (self.key, job.url.clone());
        let thread = std::thread::Builder::new().name("announce".into()).spawn(move || {
            let call = AssertUnwindSafe(|| send(&shared, &tracker, key, &job, ANNOUNCE_DEADLINE));
            let result = catch_unwind(call).unwrap_or_else(|_| Err(TrackerError::Other("a fault of ours".into())));
            shared.report(Report::Announced { url: job.url, result: Box::new(result) });
        });
        match thread {
            Ok(thread) => self.announcing = Some(thread),
            Err(error) => {
                log::warn!("cannot start a thread for the tracker: {error}");
                self.tiers.failed(now, &url);
            }
        }
    }

    /// A tracker answered, or did not.
    fn announced(&mut self, url: &str, result: Result<Answer, TrackerError>) {
        if let Some(thread) = self.announcing.take() {
            let _ = thread.join();
        }
        let now = self.shared.now();
        let tracker = public_name(url);
        match result {
            Ok(answer) => {
                self.tiers.answered(now, url, answer.interval, answer.min_interval, answer.tracker_id);
                let new = self.book.add(&answer.peers);
                log::debug!("{tracker}: {} peers, {new} of them new", answer.peers.len());
                self.inner.known.store(self.book.len(), Ordering::Relaxed);
                self.next_call = now;
                let (peers, interval, warning) = (answer.peers.len(), answer.interval, answer.warning);
                tell(&self.events, Event::Announced { tracker, peers, interval, warning });
            }
            Err(error) => {
                self.tiers.failed(now, url);
                let retry = self.tiers.next_due().saturating_sub(now);
                tell(&self.events, Event::AnnounceFailed { tracker, reason: error.to_string(), retry });
            }
        }
    }

    // ---- peers -------------------------------------------------------------------------------------------------------

    /// Whether another peer can be called at all.
    fn may_call(&self) -> bool {
        let half_open = self.connections.values().filter(|l| l.ready.is_none() && !l.incoming).count();
        self.connections.len() < self.config.max_peers && half_open < HALF_OPEN
    }

    /// Calls those whose turn it is.
    fn call(&mut self, now: Duration) {
        if now < self.next_call || !self.may_call() {
            return;
        }
        let half_open = self.connections.values().filter(|l| l.ready.is_none() && !l.incoming).count();
        let room = (self.config.max_peers - self.connections.len()).min(HALF_OPEN - half_open);
        for addr in self.book.callable(now, room) {
            let key = self.shared.new_key();
            self.book.calling(addr, key);
            match Connection::dial(self.shared, key, addr, self.book.opening(&addr)) {
                Ok(connection) => self.enter(key, connection, false),
                Err(error) => {
                    log::warn!("cannot call {addr}: {error}");
                    self.book.not_called(addr);
                    self.next_call = now + BREATHER;
                    return;
                }
            }
        }
        self.next_call = self.book.next_call().unwrap_or(Duration::MAX);
    }

    fn enter(&mut self, key: PeerKey, connection: Connection, incoming: bool) {
        self.connections.insert(key, Line { connection, incoming, ready: None, seen: [(self.shared.now(), 0, 0); 2] });
        self.shared.lines.store(self.connections.len() as u32, Ordering::Relaxed);
    }

    /// Somebody calls us.
    fn incoming(&mut self, stream: TcpStream, addr: SocketAddr) {
        // A quarter of the room stays for those whom we call.
        let callers = self.connections.values().filter(|line| line.incoming).count();
        let room = callers < (self.config.max_peers - self.config.max_peers / 4).max(1);
        if self.shared.is_stopping()
            || !room
            || self.connections.len() >= self.config.max_peers
            || self.book.refuses(&addr, self.shared.now())
        {
            log::debug!("{addr}: turned away");
            return;
        }
        let key = self.shared.new_key();
        match Connection::accept(self.shared, key, stream, addr) {
            Ok(connection) => self.enter(key, connection, true),
            Err(error) => log::warn!("cannot serve {addr}: {error}"),
        }
    }

    /// A connection is over.
    fn gone(&mut self, key: PeerKey, addr: SocketAddr, why: &Gone) {
        let Some(line) = self.connections.remove(&key) else { return };
        self.shared.lines.store(self.connections.len() as u32, Ordering::Relaxed);
        line.connection.join();
        if line.ready.is_some() {
            self.remember(key, addr, line.incoming);
        }
        // A caller's port means nothing; where two have everything there is nothing to call for, now or later.
        if !line.incoming && (matches!(why, Gone::Ourselves | Gone::BothWhole) || why.is_offence()) {
            self.book.shun(addr);
        }
        let now = self.shared.now();
        if let (Some(record), Some(since)) = (self.book.record(addr), line.ready) {
            let (_, received, _) = line.seen[1];
            record.gave(now, received, received / now.saturating_sub(since).as_secs().max(1));
        }
        let worked = line.ready.is_some_and(|since| now >= since + WORTHWHILE);
        if !(*why == Gone::Unanswered && self.book.unanswered(addr, key)) {
            self.book.lost(addr, key, now, worked);
        }
        self.next_call = self.next_call.min(self.book.next_call().unwrap_or(Duration::MAX));
        log::debug!("{addr}: {why}");
        tell(&self.events, Event::PeerGone { addr, reason: why.to_string() });
    }

    // ---- choking -----------------------------------------------------------------------------------------------------

    /// Gives the slots anew where it is time.
    fn choke(&mut self, now: Duration) {
        if now < self.next_choke {
            return;
        }
        self.next_choke = now + CHOKE_ROUND;
        self.note_timeouts();
        let candidates = self.candidates(now, true);
        let chosen = self.choker.round(now, self.whole_since.is_some(), &candidates);
        for candidate in &candidates {
            if let Some(peer) = self.shared.roster.get(candidate.key) {
                peer.set_choke(!chosen.contains(&candidate.key));
            }
        }
        self.turn_over(now, &candidates);
        if let Some(reveal) = self.shared.revealing() {
            reveal.tick(self.shared);
        }
    }

    /// The connected peers as the choker sees them. A round that begins is noted; the rates are those since the last but one.
    fn candidates(&mut self, now: Duration, round: bool) -> Vec<Candidate> {
        self.choker.set_upload_limit(self.shared.throttle.limit(Direction::Up));
        let mut candidates = Vec::with_capacity(self.connections.len());
        for peer in self.shared.roster.all() {
            let Some(line) = self.connections.get_mut(&peer.key) else { continue };
            let (received, sent) = (peer.downloaded.load(Ordering::Relaxed), peer.uploaded.load(Ordering::Relaxed));
            let (then, received_then, sent_then) = line.seen[0];
            let rate = |bytes: u64| (bytes as f64 / (now.saturating_sub(then).as_secs_f64()).max(1.0)) as u64;
            if round {
                line.seen = [line.seen[1], (now, received, sent)];
            }
            candidates.push(Candidate {
                key: peer.key,
                interested: peer.peer_interested.load(Ordering::Acquire),
                upload_only: peer.upload_only.load(Ordering::Acquire),
                unchoked: !peer.am_choking.load(Ordering::Acquire),
                owes: peer.am_interested.load(Ordering::Acquire) && !peer.peer_choking.load(Ordering::Acquire),
                down_rate: rate(received.saturating_sub(received_then)),
                up_rate: rate(sent.saturating_sub(sent_then)),
                received,
                sent,
                since: peer.since,
            });
        }
        // A seed takes nothing, whether it says so (BEP 21) or not.
        for candidate in &mut candidates {
            candidate.upload_only |= self.shared.pieces.is_seed(candidate.key);
        }
        candidates
    }

    /// A peer has become interested, or lost its interest: a free slot is given at once.
    fn interest(&mut self, key: PeerKey) {
        let Some(peer) = self.shared.roster.get(key) else { return };
        peer.interest_reported.store(false, Ordering::Release);
        let interested = peer.peer_interested.load(Ordering::Acquire);
        let (now, seeding) = (self.shared.now(), self.whole_since.is_some());
        let candidates = self.candidates(now, false);
        if interested && self.choker.grant_now(now, seeding, &candidates, key) {
            peer.set_choke(false);
        } else if !interested {
            peer.set_choke(true);
        }
    }

    // ---- the story ---------------------------------------------------------------------------------------------------

    /// Takes one report.
    fn hear(&mut self, report: Report) {
        match report {
            Report::Ready { key, addr, incoming } => {
                if let Some(line) = self.connections.get_mut(&key) {
                    line.ready = Some(self.shared.now());
                }
                self.book.reached(addr, self.shared.now());
                tell(&self.events, Event::PeerConnected { addr, incoming });
            }
            Report::Gone { key, addr, why } => self.gone(key, addr, &why),
            Report::Interest { key } => self.interest(key),
            Report::OurAddress(ip) => self.book.set_ours(SocketAddr::new(ip, self.shared.port.load(Ordering::Relaxed))),
            Report::Failed { piece, senders } => self.failed_piece(piece, &senders),
            Report::Liars { piece, senders } => self.ban(piece, &senders),
            Report::Whole => self.whole(),
            Report::Storage(error) => {
                self.failure.get_or_insert(error);
            }
            Report::Incoming(stream, addr) => self.incoming(stream, addr),
            Report::Announced { url, result } => self.announced(&url, *result),
            Report::Stop => {} // the flag says it
        }
    }

    /// The last piece is there.
    fn whole(&mut self) {
        if self.whole_since.is_some() {
            return;
        }
        self.whole_since = Some(self.shared.now());
        self.tiers.completed();
        self.inner.enter(Stage::Seeding);
        tell(&self.events, Event::Completed);
        for peer in self.shared.roster.all() {
            if self.shared.pieces.both_whole(peer.key) {
                peer.close();
            } else {
                peer.say_ours(self.shared, true);
            }
        }
    }

    /// Only a tracker that has answered `started` is told `stopped`: one that is being asked gets a moment to answer, and one that
    /// is owed a `completed` hears it first.
    fn await_announce(&mut self, reports: &Receiver<Report>) {
        let deadline = Instant::now() + goodbye::PATIENCE / 3;
        while Instant::now() < deadline {
            if self.announcing.is_none() && self.tiers.owes_completed() {
                self.announce(self.shared.now());
            }
            if self.announcing.is_none() {
                return;
            }
            match reports.recv_deadline(deadline) {
                Ok(report) => self.hear(report),
                Err(_) => return,
            }
        }
    }

    /// Goodbye to trackers and peers; every thread is joined but those that wait for a silent tracker.
    fn leave(mut self, reports: &Receiver<Report>, listener: Listener) -> Result<Outcome, StorageError> {
        self.inner.enter(Stage::Stopping);
        tell(&self.events, Event::Stopping);
        // The peers first: nothing more is received or sent while the trackers are told.
        self.shared.stopping.store(true, Ordering::Release);
        drop(listener);
        self.connections.values().for_each(|line| line.connection.close());
        let deadline = Instant::now() + goodbye::PATIENCE;
        self.await_announce(reports);
        let farewell = goodbye::to_trackers(self.shared, &self.tracker, self.key, self.tiers.stop_jobs(), deadline);
        goodbye::to_peers(self.connections.into_values().map(|line| line.connection).collect());
        farewell.wait();
        match self.failure {
            Some(error) => Err(error),
            None if !self.inner.stop.load(Ordering::Acquire) => Ok(Outcome::Completed),
            // The last block may have come while we were leaving.
            None if self.shared.pieces.is_complete() => Ok(Outcome::StoppedWhole),
            None => Ok(Outcome::Stopped),
        }
    }
}

/// Announces to one tracker and waits for its answer.
pub(super) fn send(
    shared: &Shared,
    tracker: &TrackerClient,
    key: u32,
    job: &Job,
    deadline: Duration,
) -> Result<Answer, TrackerError> {
    let announce = Announce {
        info_hash: shared.info_hash,
        peer_id: shared.peer_id,
        port: shared.port.load(Ordering::Relaxed),
        uploaded: shared.uploaded.load(Ordering::Relaxed),
        downloaded: shared.downloaded.load(Ordering::Relaxed),
        left: shared.pieces.left(),
        key,
        numwant: NUMWANT,
        event: job.event,
        tracker_id: job.tracker_id.as_deref(),
    };
    tracker.announce(&job.url, &announce, deadline)
}
