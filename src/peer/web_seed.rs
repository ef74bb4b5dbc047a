//! A web seed's thread: picks blocks as a peer does, requests the ranges of files that they are, and stores what arrives. See
//! `docs/dev/web-seeds.md`.
//!
//! Connecting cannot be interrupted, so meanwhile the thread keeps nothing of the torrent alive.

mod assembly;
mod body;
mod fetch;
mod picks;
mod roster;

use std::io;
use std::sync::{Arc, Weak};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;

use crate::discovery::tracker::http::{FetchInterrupter, RangedFetcher};
use crate::net::address_filter::AddressFilter;
use crate::peer::roster::refill_idle_peers;
use crate::peer::shutdown::ShutdownSignal;
use crate::peer::{PeerEvent, TorrentContext};
use crate::strategy::web_seed::{WebSeedFault, WebSeedFiles, WebSeedHealth, WebSeedKind, WebSeedStep, WebSeedUrl};
use crate::types::{Bitfield, PeerKey, PieceIndex};
use crate::util::atomics::Flag;
use crate::util::redact::public_name;

pub use roster::WebSeedRoster;

/// The stack size of the thread.
const STACK: usize = 512 * 1024;
/// The longest that an idle web seed sleeps, in case a wake is missed.
const IDLE_SLEEP: Duration = Duration::from_secs(5);
/// How often to check a thread that has not ended yet.
const JOIN_POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Why a web seed ends that has none of the files.
const HAS_NOTHING: &str = "it has no file of the torrent";

/// What a web seed's thread needs to know.
#[derive(Clone, Debug)]
pub struct WebSeedSettings {
    /// Where it is.
    pub url: WebSeedUrl,
    /// The names of the files.
    pub files: Arc<WebSeedFiles>,
    /// The user agent, instead of our own.
    pub user_agent: Option<String>,
    /// The addresses not to connect to.
    pub block_list: Arc<AddressFilter>,
}

/// The torrent's handle of a web seed.
pub struct WebSeed {
    /// The key under which its blocks are recorded.
    pub key: PeerKey,
    /// Where it is.
    pub url: WebSeedUrl,
    shared: Arc<WebSeedShared>,
    interrupter: FetchInterrupter,
    /// Disconnected when the thread has ended.
    ended: Receiver<ShutdownSignal>,
    thread: JoinHandle<()>,
}

/// What the handle of a web seed and its thread share.
#[derive(Default)]
struct WebSeedShared {
    is_stopped: Flag,
    /// Whether the thread waits for a server, and holds nothing of the torrent.
    is_asking: Flag,
    has_failed_pieces: Flag,
    /// Pieces whose data from the web seed was wrong, until its thread looks at them.
    failed_pieces: Mutex<Vec<PieceIndex>>,
}

impl WebSeed {
    /// Starts the thread.
    ///
    /// # Errors
    /// If there is no thread.
    pub fn start(context: &Arc<TorrentContext>, settings: WebSeedSettings) -> io::Result<WebSeed> {
        let (user_agent, is_from_user) = (settings.user_agent.as_deref(), settings.url.is_from_user);
        let fetcher = RangedFetcher::new(&context.settings.route, user_agent, is_from_user, &settings.block_list);
        let (key, url, interrupter) = (context.new_key(), settings.url.clone(), fetcher.interrupter());
        let (shared, (end_sender, ended)) = (Arc::<WebSeedShared>::default(), bounded(0));
        let work = WebSeedWorker {
            weak: Arc::downgrade(context),
            key,
            settings,
            shared: shared.clone(),
            fetcher,
            health: WebSeedHealth::default(),
            pieces: None,
            rate: 0,
            largest_pick: 0,
            answer_time: None,
            sent_at: None,
            sends_whole_files: false,
            deadline: Duration::MAX,
            is_late: false,
        };
        let thread =
            Builder::new().name("web seed".to_owned()).stack_size(STACK).spawn(move || run(work, end_sender))?;
        Ok(WebSeed { key, url, shared, interrupter, ended, thread })
    }

    /// A piece failed its hash because of this web seed's data.
    pub fn piece_failed(&self, context: &TorrentContext, piece: PieceIndex) {
        self.shared.failed_pieces.lock().push(piece);
        self.shared.has_failed_pieces.set(true);
        context.web_seeds.wake();
    }

    /// Tells the thread to end, and closes its connection.
    pub fn stop(&self, context: &TorrentContext) {
        self.shared.is_stopped.set(true);
        context.web_seeds.wake();
        self.interrupter.clone().interrupt();
    }

    /// Joins the thread, which was told to stop. If it still connects at the deadline, it is left behind, and then ends.
    pub fn join_until(self, deadline: Instant) {
        let mut deadline = deadline;
        while self.ended.recv_deadline(deadline).is_err_and(|error| error == RecvTimeoutError::Timeout) {
            if self.shared.is_asking.is_set() {
                return;
            }
            deadline = Instant::now() + JOIN_POLL_INTERVAL; // it writes to the disk
        }
        let _ = self.thread.join();
    }
}

/// Runs the thread; `_tell` is dropped at its end, even if it panics.
fn run(mut work: WebSeedWorker, _end_sender: Sender<ShutdownSignal>) {
    let guard = WebSeedGuard { weak: work.weak.clone(), key: work.key };
    let why = work.run();
    drop(guard);
    if let (Some(why), Some(context)) = (why, work.context()) {
        log::debug!("{}: this web seed is not used any more: {why}", public_name(work.settings.url.as_str()));
        context.send_to_main(PeerEvent::WebSeedEnded { key: work.key, why });
    }
}

/// Takes the web seed out of the picker at the end.
struct WebSeedGuard {
    weak: Weak<TorrentContext>,
    key: PeerKey,
}

impl Drop for WebSeedGuard {
    fn drop(&mut self) {
        if let Some(context) = self.weak.upgrade() {
            leave(&context, self.key);
            context.settings.throttle.remove_peer(self.key);
        }
    }
}

/// The web seed requests nothing more, or nothing for a while.
fn leave(context: &TorrentContext, key: PeerKey) {
    context.web_seeds.leave(key);
    context.pieces.remove_peer(key);
    refill_idle_peers(context);
}

/// The state of the thread.
struct WebSeedWorker {
    weak: Weak<TorrentContext>,
    key: PeerKey,
    settings: WebSeedSettings,
    shared: Arc<WebSeedShared>,
    fetcher: RangedFetcher,
    health: WebSeedHealth,
    /// The pieces whose files the server has, as far as we know; `None` at first.
    pieces: Option<Bitfield>,
    /// In bytes a second; 0 while unknown.
    rate: u64,
    /// The most blocks of a pick so far.
    largest_pick: usize,
    /// How long the last response took to begin.
    answer_time: Option<Duration>,
    /// When the request was sent whose body is about to arrive.
    sent_at: Option<Instant>,
    /// Whether the server ignores ranges.
    sends_whole_files: bool,
    /// When the pick is late, or whether it has been taken back is to be checked again.
    deadline: Duration,
    /// Whether the pick is late: the picker has taken the blocks back.
    is_late: bool,
}

/// Why a request ended early.
enum FetchEnd {
    /// The torrent stops, or its disk failed.
    Stopped,
    /// The torrent is paused, or the blocks arrived from elsewhere.
    NotNeeded,
    /// The server ignored the range of a request.
    WholeFile,
    /// The request failed: for this file, or a script's request, which is for no file.
    Fault(Option<usize>, WebSeedFault),
}

impl WebSeedWorker {
    /// The torrent's context, unless the web seed has to end.
    fn context(&self) -> Option<Arc<TorrentContext>> {
        self.weak.upgrade().filter(|context| !self.must_end(context))
    }

    fn must_end(&self, context: &TorrentContext) -> bool {
        self.shared.is_stopped.is_set() || context.are_connections_ending()
    }

    /// Requests blocks until the torrent is complete or stops, or the web seed is of no use; then returns the reason.
    fn run(&mut self) -> Option<String> {
        let mut is_in_picker = false;
        loop {
            let context = self.context()?;
            let seen = context.web_seeds.wakes();
            if context.pieces.is_complete() {
                return None;
            }
            if let Err(fault) = self.leave_failed_pieces(&context) {
                return Some(fault.to_string());
            }
            if context.is_paused() {
                context.web_seeds.wait(seen, IDLE_SLEEP);
                continue;
            }
            if !is_in_picker {
                self.enter(&context);
                is_in_picker = true;
            }
            let (picked, again) = self.pick(&context);
            if picked.is_empty() {
                let until_again = again.map_or(IDLE_SLEEP, |at| at.saturating_sub(context.now()));
                context.web_seeds.wait(seen, until_again.clamp(Duration::from_millis(10), IDLE_SLEEP));
                continue;
            }
            drop(context);
            match self.fetch(picked) {
                Ok(()) | Err(FetchEnd::NotNeeded) => {}
                Err(FetchEnd::Stopped) => return None,
                Err(FetchEnd::WholeFile) => self.sends_whole_files = true,
                Err(FetchEnd::Fault(file, fault)) => {
                    let context = self.context()?;
                    match self.health.failed(context.now(), file, &fault) {
                        WebSeedStep::End => return Some(fault.to_string()),
                        WebSeedStep::WaitUntil(at) => {
                            is_in_picker = false;
                            leave(&context, self.key);
                            self.report(&fault);
                            self.wait_until(&context, at);
                        }
                        step => {
                            self.report(&fault);
                            if !self.leave_pieces(&context, &step) {
                                return Some(HAS_NOTHING.to_owned());
                            }
                            if let WebSeedStep::LeaveFile { until, .. } = step {
                                context.pieces.release(self.key, &[]); // nobody waits for it meanwhile
                                self.wait_until(&context, until);
                            }
                        }
                    }
                }
            }
        }
    }

    /// Logs a fault that may pass.
    fn report(&self, fault: &WebSeedFault) {
        log::info!("{}: {fault}", public_name(self.settings.url.as_str()));
    }

    /// Waits until this time, unless the torrent stops or is complete.
    fn wait_until(&self, context: &TorrentContext, at: Duration) {
        loop {
            let seen = context.web_seeds.wakes();
            let left = at.saturating_sub(context.now());
            if left.is_zero() || self.must_end(context) || context.pieces.is_complete() {
                return;
            }
            context.web_seeds.wait(seen, left);
        }
    }

    /// Registers with the picker.
    fn enter(&mut self, context: &TorrentContext) {
        context.web_seeds.join(self.key);
        context.web_seeds.set_rate(self.key, self.rate);
        context.pieces.add_peer(self.key);
        let all = || Bitfield::full(context.pieces.piece_count());
        context.pieces.set_web_seed_pieces(self.key, self.pieces.get_or_insert_with(all).clone());
    }

    /// Requests nothing more of files with wrong data. An error if the web seed has to end.
    fn leave_failed_pieces(&mut self, context: &TorrentContext) -> Result<(), WebSeedFault> {
        if !self.shared.has_failed_pieces.swap(false) {
            return Ok(());
        }
        let failed = std::mem::take(&mut *self.shared.failed_pieces.lock());
        let layout = context.pieces.storage().layout();
        for piece in failed {
            let spans = layout.spans(layout.offset(piece, 0), u64::from(layout.piece_size(piece)));
            let is_file = |file: &usize| layout.files().get(*file).is_some_and(|spec| !spec.is_pad);
            let files: Vec<usize> = spans.map(|span| span.file).filter(is_file).collect();
            let is_multi_file = self.settings.url.kind == WebSeedKind::Mirror && layout.files().len() > 1;
            let step = self.health.piece_failed(piece, &files, is_multi_file);
            if step == WebSeedStep::End || !self.leave_pieces(context, &step) {
                return Err(WebSeedFault::WrongData);
            }
        }
        self.report(&WebSeedFault::WrongData);
        Ok(())
    }

    /// Requests nothing more of a file or a piece. Returns whether the server has others.
    fn leave_pieces(&mut self, context: &TorrentContext, step: &WebSeedStep) -> bool {
        let pieces = match step {
            WebSeedStep::LeaveFile { file, .. } => context.pieces.storage().layout().pieces_of(*file),
            WebSeedStep::LeavePiece(piece) => piece.0..piece.0 + 1,
            WebSeedStep::WaitUntil(_) | WebSeedStep::End => return true,
        };
        let Some(known) = &mut self.pieces else { return true };
        let left: Vec<PieceIndex> = pieces.map(PieceIndex).filter(|&piece| known.clear(piece)).collect();
        context.pieces.web_seed_lost(self.key, &left);
        known.count() > 0
    }
}

#[cfg(test)]
mod tests;
