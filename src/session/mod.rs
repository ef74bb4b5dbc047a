//! One torrent from start to end. `Session::run` reads as the story of a download: look at what is on disk, listen, announce,
//! fetch, seed if asked, say goodbye. It runs on the caller's thread; a [`Handle`] watches and stops it from others.

mod book;
mod conductor;
mod config;
mod descriptors;
mod events;
mod goodbye;
mod listener;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam_channel::{Receiver, Sender, unbounded};
use parking_lot::Mutex;

use crate::metainfo::Torrent;
use crate::peer::reveal::Reveal;
use crate::peer::{Report, Shared};
use crate::pieces::PieceManager;
use crate::storage::{self, FileSpec, Layout, LayoutError, Progress, Storage, StorageError};
use crate::swarm::picker;
use crate::types::{Bitfield, PeerId};

pub use crate::swarm::limiter::Limits;
pub use config::{Config, SeedGoal};
pub use events::{Event, PeerView, PieceState, Snapshot, Stage};

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything is there, and seeding is done where it was asked for.
    Completed,
    /// Stopped before everything was there.
    Stopped,
    /// Everything was there; stopped while seeding.
    StoppedWhole,
}

/// Why a session could not go on.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The files.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The torrent's files do not lie as its pieces say.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// No port to listen on.
    #[error("cannot listen on port {ports}: {error}; choose another with --listen-port")]
    Listen {
        /// Those that were tried.
        ports: String,
        /// What the system said of the last one.
        error: io::Error,
    },
}

/// A torrent that is about to be downloaded or seeded.
pub struct Session {
    torrent: Torrent,
    config: Config,
    inner: Arc<Inner>,
    events: Sender<Event>,
    listeners: Receiver<Event>,
    reports: Receiver<Report>,
}

/// What a session and its handles share.
struct Inner {
    name: String,
    total: u64,
    stage: AtomicU8,
    check: Progress,
    stop: AtomicBool,
    /// There once the check is over.
    shared: OnceLock<Arc<Shared>>,
    /// Held while they are passed on, so that the last word is the one that counts.
    limits: Mutex<Limits>,
    known: std::sync::atomic::AtomicUsize,
    reports: Sender<Report>,
}

/// Watches and stops a session, from any thread.
#[derive(Clone)]
pub struct Handle(Arc<Inner>);

impl Session {
    /// A session that has not begun.
    pub fn new(torrent: Torrent, config: Config) -> Session {
        let (to_main, reports) = unbounded();
        let (events, listeners) = unbounded();
        let inner = Inner {
            name: torrent.name.clone(),
            total: torrent.total(),
            stage: AtomicU8::new(Stage::Starting as u8),
            check: Progress::default(),
            stop: AtomicBool::new(false),
            shared: OnceLock::new(),
            limits: Mutex::new(config.limits),
            known: std::sync::atomic::AtomicUsize::new(0),
            reports: to_main,
        };
        Session { torrent, config, inner: Arc::new(inner), events, listeners, reports }
    }

    /// A handle on this session.
    pub fn handle(&self) -> Handle {
        Handle(self.inner.clone())
    }

    /// What happens, from here on. Every receiver takes events away from the others: have one.
    pub fn events(&self) -> Receiver<Event> {
        self.listeners.clone()
    }

    /// Downloads, then seeds as far as the configuration asks for it. Blocks until that is done or the handle says stop.
    ///
    /// # Errors
    /// Where the files cannot be read or written, or no port is free.
    pub fn run(self) -> Result<Outcome, SessionError> {
        let Session { torrent, mut config, inner, events, listeners, reports } = self;
        drop(listeners); // nobody listens but whoever asked to
        config.max_peers = descriptors::room_for_peers(config.max_peers, config.max_open_files);
        let layout = layout(&torrent)?;
        let storage = Arc::new(Storage::new(config.out_dir.clone(), layout, config.max_open_files));
        let have = look(&inner, &storage, &torrent, &events)?;
        if inner.stop.load(Ordering::Acquire) {
            return Ok(if have.is_full() { Outcome::StoppedWhole } else { Outcome::Stopped });
        }
        if have.is_full() && !config.seed.any() {
            tell(&events, Event::Completed);
            return Ok(Outcome::Completed);
        }
        let pieces = PieceManager::new(storage.clone(), torrent.pieces.clone(), have);
        let shared = Shared::new(torrent.info_hash, PeerId::ours(), config.encryption, pieces, inner.reports.clone());
        if config.super_seed && shared.pieces.is_complete() {
            let _ = shared.reveal.set(Reveal::new(shared.pieces.count(), storage.layout().piece_length()));
        }
        {
            let limits = inner.limits.lock();
            shared.throttle.set(*limits);
            let _ = inner.shared.set(shared.clone());
        }
        let listener = listener::Listener::start(config.listen_ports.clone(), &shared).map_err(|error| {
            let ports = format!("{}-{}", config.listen_ports.start(), config.listen_ports.end());
            SessionError::Listen { ports, error }
        })?;
        shared.port.store(listener.port, Ordering::Relaxed);
        shared.metadata_size.store(u32::try_from(torrent.info.len()).unwrap_or_default(), Ordering::Relaxed);
        tell(&events, Event::Listening { port: listener.port });
        let outcome = conductor::Conductor::new(&shared, &inner, &config, &torrent, events).conduct(&reports, listener);
        storage.close();
        Ok(outcome?)
    }
}

impl Handle {
    /// Asks the session to say goodbye and end; returns at once.
    pub fn stop(&self) {
        self.0.stop.store(true, Ordering::Release);
        let _ = self.0.reports.send(Report::Stop);
    }

    /// Changes the limits on what is received and sent, at any time before the session's end; they hold at once.
    pub fn set_limits(&self, limits: Limits) {
        let mut current = self.0.limits.lock();
        *current = limits;
        if let Some(shared) = self.0.shared.get() {
            shared.throttle.set(limits);
        }
    }

    /// The limits in force.
    pub fn limits(&self) -> Limits {
        *self.0.limits.lock()
    }

    /// The torrent's name, fit for a terminal.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The figures of this moment.
    pub fn snapshot(&self) -> Snapshot {
        let inner = &*self.0;
        let stage = Stage::from_u8(inner.stage.load(Ordering::Acquire));
        let checked = (inner.check.done.load(Ordering::Relaxed), inner.check.total.load(Ordering::Relaxed));
        let mut snapshot = Snapshot {
            stage,
            total: inner.total,
            have: 0,
            checked,
            downloaded: 0,
            uploaded: 0,
            wasted: 0,
            connected: 0,
            active: 0,
            known: inner.known.load(Ordering::Relaxed),
        };
        if let Some(shared) = inner.shared.get() {
            let now = shared.now();
            let peers = shared.roster.all();
            snapshot.have = inner.total - shared.pieces.left();
            snapshot.downloaded = shared.downloaded.load(Ordering::Relaxed);
            snapshot.uploaded = shared.uploaded.load(Ordering::Relaxed);
            snapshot.wasted = shared.pieces.wasted();
            snapshot.active = peers.iter().filter(|p| p.is_active(now)).count();
            snapshot.connected = peers.len();
        }
        snapshot
    }

    /// The state of every piece, into `out`; empty before the check is over.
    pub fn pieces(&self, out: &mut Vec<PieceState>) {
        out.clear();
        let Some(shared) = self.0.shared.get() else { return };
        let mut progress = Vec::new();
        shared.pieces.progress(&mut progress);
        out.extend(progress.into_iter().map(|p| match p {
            picker::Progress::Missing => PieceState::Missing,
            picker::Progress::Begun => PieceState::UnderWay,
            picker::Progress::Have => PieceState::Verified,
        }));
    }

    /// The connected peers.
    pub fn peers(&self) -> Vec<PeerView> {
        let Some(shared) = self.0.shared.get() else { return Vec::new() };
        let view = |peer: Arc<crate::peer::Peer>| PeerView {
            addr: peer.addr,
            downloaded: peer.downloaded.load(Ordering::Relaxed),
            uploaded: peer.uploaded.load(Ordering::Relaxed),
            has: shared.pieces.share(peer.key),
            chokes_us: peer.peer_choking.load(Ordering::Relaxed),
            interested: peer.peer_interested.load(Ordering::Relaxed),
        };
        shared.roster.all().into_iter().map(view).collect()
    }
}

impl Inner {
    fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Release);
    }
}

/// Tells whoever listens.
fn tell(events: &Sender<Event>, event: Event) {
    let _ = events.send(event);
}

/// How the torrent's bytes lie in files.
fn layout(torrent: &Torrent) -> Result<Layout, LayoutError> {
    let spec = |f: &crate::metainfo::FileEntry| FileSpec { path: f.path.clone(), length: f.length, pad: f.pad };
    Layout::new(torrent.piece_length, torrent.files.iter().map(spec).collect())
}

/// Makes the files, and hashes what was there before: the pieces that are right. No side file is needed to resume.
fn look(inner: &Inner, disk: &Storage, torrent: &Torrent, events: &Sender<Event>) -> Result<Bitfield, StorageError> {
    inner.enter(Stage::Checking);
    let prepared = disk.prepare()?;
    for what in prepared.repaired {
        tell(events, Event::Repaired { what });
    }
    if prepared.found_bytes == 0 && torrent.total() > 0 {
        return Ok(Bitfield::new(torrent.piece_count()));
    }
    tell(events, Event::CheckStarted { bytes: torrent.total() });
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let have = storage::check(disk, &torrent.pieces, cores, &inner.check, &inner.stop)?;
    let size = |p| u64::from(torrent.piece_size(p));
    tell(events, Event::Checked { have: have.iter().map(size).sum(), total: torrent.total() });
    Ok(have)
}
