//! The state that main and a torrent's handles share, and the handle itself.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::ThreadId;
use std::time::Instant;

use crossbeam_channel::Sender;
use parking_lot::{Condvar, Mutex};

use crate::metainfo::Metainfo;
use crate::peer::{Peer, PeerEvent, RunControl, StopReason, Throttle, TorrentCommand, TorrentContext, TorrentMessage};
use crate::storage::{CheckProgress, FileSpec, StopCheck as _, Storage};
use crate::strategy::picker;
use crate::strategy::rate_limiter::Limits;
use crate::torrent::config::SeedGoal;
use crate::torrent::events::{Events, FileView, PeerView, PieceState, Snapshot, Stage};
use crate::torrent::peer_entry::KeptConnections;
use crate::torrent::peer_search::PeerSearch;
use crate::torrent::{Outcome, PendingCompletion, TorrentError};
use crate::types::{Bitfield, InfoHash, PieceIndex};
use crate::wire::client_name::client_name;

/// How the torrent ended, once it has.
#[derive(Default)]
struct TorrentEnd {
    state: Mutex<EndState>,
    changed: Condvar,
}

/// Whether and how the torrent ended.
#[derive(Default)]
enum EndState {
    #[default]
    Running,
    Ended(TorrentResult),
    Panicked,
}

type TorrentResult = Result<Outcome, Arc<TorrentError>>;

/// Ends the torrent when it is dropped, whether it has a result or not.
pub(crate) struct EndGuard<'a>(&'a TorrentInner);

impl EndGuard<'_> {
    /// The torrent has ended like this.
    pub fn set(&self, result: TorrentResult) {
        *self.0.end.state.lock() = EndState::Ended(result);
    }
}

impl Drop for EndGuard<'_> {
    fn drop(&mut self) {
        let mut state = self.0.end.state.lock();
        if matches!(*state, EndState::Running) {
            *state = EndState::Panicked;
        }
        self.0.end.changed.notify_all();
    }
}

/// How much of a magnet link's metadata has arrived, for display.
#[derive(Default)]
pub(crate) struct MetadataProgress {
    received: AtomicUsize,
    total: AtomicUsize,
}

impl MetadataProgress {
    /// Sets the numbers of pieces: those that have arrived, and all, which is 0 while it is unknown.
    pub fn set(&self, received: usize, total: usize) {
        self.received.store(received, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    /// The numbers of pieces, as in [`MetadataProgress::set`].
    pub fn get(&self) -> (usize, usize) {
        (self.received.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }
}

/// The state that a torrent's loop and its handles share.
pub(crate) struct TorrentInner {
    /// The torrent's info-hash.
    pub info_hash: InfoHash,
    /// The name to display before the metadata is known.
    pub display_name: String,
    /// The torrent's name and size, once they are known.
    pub name_and_size: OnceLock<(String, u64)>,
    /// See [`TorrentHandle::place`]; empty if there is no such path.
    pub content_path: OnceLock<PathBuf>,
    /// The metadata of a magnet link, if nothing else was asked for.
    pub torrent: OnceLock<Metainfo>,
    pub started: Instant,
    /// The user has been warned that there are no file descriptors left.
    pub warned_no_descriptors: AtomicBool,
    /// Main, once it runs.
    pub main_thread: OnceLock<ThreadId>,
    pub stage: AtomicU8,
    pub metadata: MetadataProgress,
    pub check: CheckProgress,
    /// The pieces that the check found complete.
    pub found_pieces: OnceLock<Bitfield>,
    /// The bytes of the wanted pieces, and of those among them that the check found complete.
    pub wanted_bytes: OnceLock<(u64, u64)>,
    /// Payload bytes sent in earlier runs.
    pub uploaded_before: AtomicU64,
    /// When to stop seeding.
    pub seed_goal: SeedGoal,
    /// Whether the torrent runs, is paused or has to stop.
    pub run: Arc<RunControl>,
    /// The context that the connections share; set while there can be connections.
    pub context: Mutex<Option<Arc<TorrentContext>>>,
    /// The rate limits of the client.
    pub throttle: Arc<Throttle>,
    pub peer_search: Mutex<PeerSearch>,
    pub known_peers: AtomicUsize,
    pub messages: Sender<TorrentMessage>,
    /// Peers that the program added since the torrent was created.
    pub added_peers: Mutex<Vec<SocketAddr>>,
    /// The events, for handles of a torrent that the client runs.
    events: Mutex<Option<Events>>,
    end: TorrentEnd,
    /// Connections without threads, while the files of a magnet link are checked.
    pub kept_connections: KeptConnections,
}

impl TorrentInner {
    /// The state of a torrent that has not started.
    pub fn new(
        info_hash: InfoHash,
        display_name: String,
        seed_goal: SeedGoal,
        throttle: Arc<Throttle>,
        messages: Sender<TorrentMessage>,
    ) -> TorrentInner {
        TorrentInner {
            info_hash,
            display_name,
            seed_goal,
            name_and_size: OnceLock::new(),
            content_path: OnceLock::new(),
            torrent: OnceLock::new(),
            started: Instant::now(),
            warned_no_descriptors: AtomicBool::new(false),
            main_thread: OnceLock::new(),
            stage: AtomicU8::new(Stage::Starting as u8),
            metadata: MetadataProgress::default(),
            check: CheckProgress::default(),
            found_pieces: OnceLock::new(),
            wanted_bytes: OnceLock::new(),
            uploaded_before: AtomicU64::new(0),
            run: Arc::default(),
            context: Mutex::new(None),
            throttle,
            peer_search: Mutex::default(),
            known_peers: AtomicUsize::new(0),
            messages,
            added_peers: Mutex::default(),
            events: Mutex::default(),
            end: TorrentEnd::default(),
            kept_connections: KeptConnections::default(),
        }
    }

    /// To be held while the torrent runs.
    pub fn end_guard(&self) -> EndGuard<'_> {
        EndGuard(self)
    }

    /// Keeps the events for [`TorrentHandle::events`].
    pub fn keep_events(&self, events: Events) {
        *self.events.lock() = Some(events);
    }

    /// Sets the current stage.
    pub fn set_stage(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Release);
    }

    /// A thread found no descriptor for a file: main drops a peer. Returns whether to try again. Main itself must not wait
    /// once there are peers, as no other thread drops any.
    pub fn wait_for_descriptor(&self) -> bool {
        if !self.warned_no_descriptors.swap(true, Ordering::Relaxed) {
            log::warn!("no descriptors are left: fewer peers, until there are some");
        }
        self.kept_connections.close_some();
        let _ = self.messages.try_send(PeerEvent::OutOfDescriptors.into());
        let checking = self.stage.load(Ordering::Acquire) == Stage::Checking as u8;
        let is_main = self.main_thread.get() == Some(&std::thread::current().id());
        let leaving = || self.context().is_some_and(|context| context.is_stopping());
        !self.run.is_stopped() && (checking || !(is_main || leaving()))
    }

    /// The same storage, set up to wait for descriptors as long as the torrent runs, and to stop going through many files when it
    /// stops.
    pub fn with_descriptor_wait(self: &Arc<TorrentInner>, storage: Storage) -> Storage {
        let waits = Arc::downgrade(self);
        storage.wait_for_descriptors(move || waits.upgrade().is_some_and(|inner| inner.wait_for_descriptor()));
        let run = self.run.clone();
        storage.halt_with(move || run.is_stopped());
        storage
    }

    /// The context that the connections of the current phase share.
    pub fn context(&self) -> Option<Arc<TorrentContext>> {
        self.context.lock().clone()
    }
}

/// Watches and controls a torrent, from any thread.
#[derive(Clone)]
pub struct TorrentHandle(pub(crate) Arc<TorrentInner>);

impl TorrentHandle {
    /// Tells the torrent to stop; returns at once.
    pub fn stop(&self) {
        self.0.run.stop(StopReason::Requested);
        self.wake(TorrentCommand::Stop);
    }

    /// Waits until the torrent has ended, and returns how.
    ///
    /// # Errors
    /// What [`Torrent::run`](crate::torrent::Torrent::run) returns.
    ///
    /// # Panics
    /// If the torrent's thread panicked, which is a bug.
    pub fn wait(&self) -> Result<Outcome, Arc<TorrentError>> {
        let mut state = self.0.end.state.lock();
        loop {
            match &*state {
                EndState::Ended(result) => return result.clone(),
                EndState::Panicked => panic!("the torrent's thread panicked"),
                EndState::Running => self.0.end.changed.wait(&mut state),
            }
        }
    }

    /// The events of a torrent that [`Client::add`](crate::client::Client::add) started, from its start on; an event that one caller
    /// reads is gone for the others. A torrent that the program runs itself has no events here, but
    /// [`Torrent::events`](crate::torrent::Torrent::events).
    pub fn events(&self) -> Events {
        self.0.events.lock().clone().unwrap_or_else(Events::ended)
    }

    /// Whether the completion of this download is still to be announced, as `records`, the folder of
    /// [`AddOptions::pending`](crate::torrent::AddOptions::pending), says; `folder` is that of the files.
    pub fn is_completion_pending(&self, records: &Path, folder: &Path) -> bool {
        PendingCompletion::new(records, self.0.info_hash, folder).is_set()
    }

    /// The completion of this download has been announced; see [`TorrentHandle::is_completion_pending`].
    pub fn clear_pending_completion(&self, records: &Path, folder: &Path) {
        PendingCompletion::new(records, self.0.info_hash, folder).clear();
    }

    /// Adds a peer to connect to.
    pub fn add_peer(&self, addr: SocketAddr) {
        self.0.added_peers.lock().push(addr);
        self.wake(TorrentCommand::AddPeers);
    }

    /// Pauses until [`TorrentHandle::resume`]: cancels all requests and chokes all peers. Connections stay open, blocks on
    /// their way still arrive, and trackers and the DHT are still told that we are there. A check and the fetching of metadata
    /// continue.
    pub fn pause(&self) {
        self.0.run.pause();
        self.wake(TorrentCommand::Pause);
    }

    /// Resumes after [`TorrentHandle::pause`].
    pub fn resume(&self) {
        self.0.run.resume();
        self.wake(TorrentCommand::Pause);
    }

    /// Whether the torrent was told to pause, and not to resume since.
    pub fn is_paused(&self) -> bool {
        self.0.run.is_paused()
    }

    /// Wakes the torrent's thread to check its state. If its channel is full, it is awake anyway.
    fn wake(&self, why: TorrentCommand) {
        let _ = self.0.messages.try_send(why.into());
    }

    /// Changes the rate limits; they apply at once. The limits belong to the client, so they change for all its torrents.
    pub fn set_limits(&self, limits: Limits) {
        self.0.throttle.set(limits);
    }

    /// The limits in force.
    pub fn limits(&self) -> Limits {
        self.0.throttle.limits()
    }

    /// When the torrent stops seeding by itself.
    pub fn seed_goal(&self) -> SeedGoal {
        self.0.seed_goal
    }

    /// The torrent's name, printable. Before the metadata is known, the name in the magnet link, or else the info-hash.
    pub fn name(&self) -> &str {
        self.0.name_and_size.get().map_or(&self.0.display_name, |(name, _)| name)
    }

    /// The torrent's info-hash.
    pub fn info_hash(&self) -> InfoHash {
        self.0.info_hash
    }

    /// The metadata of a magnet link, once it is complete, if the configuration asks only for that.
    pub fn metainfo(&self) -> Option<&Metainfo> {
        self.0.torrent.get()
    }

    /// The one path below the download folder that contains everything wanted and nothing else: the only file, or the torrent's
    /// own folder if the user moved no file elsewhere. `None` if there is no such path, or before it is known.
    pub fn place(&self) -> Option<&Path> {
        self.0.content_path.get().map(PathBuf::as_path).filter(|place| !place.as_os_str().is_empty())
    }

    /// The figures about the search for peers.
    pub fn search(&self) -> PeerSearch {
        self.0.peer_search.lock().clone()
    }

    /// The torrent's figures at this moment.
    pub fn snapshot(&self) -> Snapshot {
        let inner = &*self.0;
        let stage = Stage::from_u8(inner.stage.load(Ordering::Acquire));
        let checked = (inner.check.done.load(Ordering::Relaxed), inner.check.total.load(Ordering::Relaxed));
        let total = inner.name_and_size.get().map_or(0, |(_, total)| *total);
        // If everything was complete from the start, there are no connections that could tell.
        let (total, have) = inner.wanted_bytes.get().copied().unwrap_or((total, 0));
        let mut snapshot = Snapshot {
            stage,
            total,
            metadata: inner.metadata.get(),
            have,
            checked,
            total_uploaded: inner.uploaded_before.load(Ordering::Relaxed),
            known: inner.known_peers.load(Ordering::Relaxed),
            ..Snapshot::default()
        };
        if let Some(context) = inner.context() {
            let now = context.now();
            let peers = context.roster.all();
            if !context.settings.is_fetching_metadata {
                let wanted = context.pieces.wanted_bytes();
                (snapshot.total, snapshot.have) = (wanted, wanted.saturating_sub(context.pieces.left_bytes()));
            }
            snapshot.downloaded = context.payload.downloaded.get();
            snapshot.uploaded = context.payload.uploaded.get();
            snapshot.total_uploaded = snapshot.total_uploaded.saturating_add(snapshot.uploaded);
            snapshot.wasted = context.pieces.wasted();
            snapshot.active = peers.iter().filter(|p| p.is_active(now)).count();
            snapshot.connected = peers.len();
        }
        snapshot
    }

    /// Writes the state of every piece to `out`; empty before the check has ended.
    pub fn pieces(&self, out: &mut Vec<PieceState>) {
        out.clear();
        let Some(context) = self.0.context() else { return };
        let mut progress = Vec::new();
        context.pieces.progress(&mut progress);
        out.extend(progress.into_iter().map(|p| match p {
            picker::Progress::Missing => PieceState::Missing,
            picker::Progress::Unavailable => PieceState::Unavailable,
            picker::Progress::Unwanted => PieceState::Unwanted,
            picker::Progress::Begun => PieceState::InProgress,
            picker::Progress::Have => PieceState::Verified,
        }));
    }

    /// For each piece, whether it was complete at the start; empty before the check has ended.
    pub fn pieces_found(&self) -> Vec<bool> {
        let found = self.0.found_pieces.get();
        found.map_or_else(Vec::new, |found| (0..found.len()).map(|piece| found.has(PieceIndex(piece))).collect())
    }

    /// Whether the check found everything wanted complete; false before it has ended.
    pub fn was_complete(&self) -> bool {
        self.0.wanted_bytes.get().is_some_and(|(total, have)| have >= total)
    }

    /// The wanted files with their pieces, without padding; empty before the check has ended.
    pub fn files(&self) -> Vec<FileView> {
        let Some(context) = self.0.context() else { return Vec::new() };
        let layout = context.pieces.storage().layout();
        let storage = context.pieces.storage();
        let files = layout.files().iter().enumerate().filter(|(number, file)| !file.pad && storage.wants(*number));
        let view = |(number, file): (usize, &FileSpec)| FileView {
            path: layout.final_name(number).unwrap_or(&file.path).to_string_lossy().into_owned(),
            stored_as: (!storage.has_final_names() && layout.final_name(number) != Some(&file.path))
                .then(|| file.path.to_string_lossy().into_owned()),
            length: file.length,
            pieces: layout.pieces_of(number),
        };
        files.map(view).collect()
    }

    /// Whether all files have their final names.
    pub fn has_final_names(&self) -> bool {
        self.0.context().is_none_or(|context| context.pieces.storage().has_final_names())
    }

    /// The connected peers.
    pub fn peers(&self) -> Vec<PeerView> {
        let Some(context) = self.0.context() else { return Vec::new() };
        let view = |peer: Arc<Peer>| PeerView {
            addr: peer.addr,
            client: client_name(&peer.id, peer.extensions.version.get().map(String::as_str)),
            incoming: peer.incoming,
            encrypted: peer.encrypted.is_set(),
            fast: peer.extensions.supports_fast,
            downloaded: peer.rates.downloaded.get(),
            uploaded: peer.rates.uploaded.get(),
            has: context.pieces.fraction_of_peer(peer.key),
            chokes_us: peer.choking.peer_choking.is_set(),
            interested: peer.choking.peer_interested.is_set(),
            choked: peer.choking.am_choking.is_set(),
            we_are_interested: peer.choking.am_interested.is_set(),
            is_snubbing: peer.choking.is_snubbing.is_set(),
        };
        context.roster.all().into_iter().map(view).collect()
    }
}
