//! One torrent from start to end. `Session::run` reads as the story of a download: look at what is on disk, listen, announce,
//! fetch, seed if asked, say goodbye. It runs on the caller's thread; a [`Handle`] watches and stops
//! it from others.

mod book;
mod choice;
mod conductor;
mod config;
mod contacts;
mod descriptors;
mod events;
mod goodbye;
mod handle;
mod host;
mod keeper;
mod listener;
mod metadata;
mod search;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::bind::Bind;
use crate::metainfo::{Magnet, SelectError, Torrent, TorrentError};
use crate::peer::reveal::Reveal;
use crate::peer::{Report, Shared, Terms};
use crate::pieces::PieceManager;
use crate::storage::{self, FileSpec, Layout, LayoutError, Storage, StorageError};
use crate::swarm::picker::Plan;
use crate::types::{Bitfield, InfoHash, PeerId};
use choice::Choice;
use contacts::Contacts;
use handle::Inner;
use host::Seat;
use keeper::Keeper;

pub use crate::swarm::limiter::Limits;
pub use config::{Config, DhtSettings, SeedGoal};
pub use events::{Event, FileView, PeerView, PieceState, Snapshot, Stage};
pub use handle::Handle;
pub use host::Host;
pub use search::{Search, TrackerState};

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All that is wanted is there, and seeding is done where it was asked for.
    Completed,
    /// Stopped before all that is wanted was there.
    Stopped,
    /// All that is wanted was there; stopped while seeding.
    StoppedWhole,
    /// Nothing came for as long as the configuration says.
    TimedOut,
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
    /// What the swarm gave for a magnet link has the right hash, and is no torrent that we accept.
    #[error("the link's metadata: {0}")]
    Metadata(TorrentError),
    /// The choice of files cannot be kept to.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// A file cannot lie where the user wants it.
    #[error("{0}")]
    Place(LayoutError),
    /// Nothing can be tied to the interface or address that all is to be tied to.
    #[error("cannot use the interface {bind}: {error}")]
    Interface {
        /// The interface or address.
        bind: Bind,
        /// What the system said.
        error: io::Error,
    },
    /// No port to listen on.
    #[error("cannot listen on port {ports}: {error}; choose another with --listen-port")]
    Listen {
        /// Those that were tried.
        ports: String,
        /// What the system said of the last one.
        error: io::Error,
    },
    /// Another session of the same host has this torrent.
    #[error("the torrent {info_hash} is under way already")]
    Twice {
        /// Its swarm.
        info_hash: InfoHash,
    },
}

/// What a session is to fetch.
#[derive(Clone, Debug)]
pub enum Source {
    /// All that a .torrent says.
    Torrent(Box<Torrent>),
    /// Where to find the rest of it.
    Magnet(Box<Magnet>),
}

impl From<Torrent> for Source {
    fn from(torrent: Torrent) -> Source {
        Source::Torrent(Box::new(torrent))
    }
}

impl From<Magnet> for Source {
    fn from(magnet: Magnet) -> Source {
        Source::Magnet(Box::new(magnet))
    }
}

/// A torrent that is about to be downloaded or seeded.
pub struct Session {
    source: Source,
    config: Config,
    inner: Arc<Inner>,
    events: Sender<Event>,
    listeners: Receiver<Event>,
    reports: Receiver<Report>,
    host: Arc<Host>,
}

impl Session {
    /// A session that has not begun, and that will be by itself.
    pub fn new(source: impl Into<Source>, config: Config) -> Session {
        let host = Host::for_one(&config);
        Session::at(host, source.into(), config)
    }

    /// A session that has not begun, and that will share port, DHT, local discovery, limits and the number of connections with
    /// the others on `host`. What the host took from its own configuration counts in place of what `config` says of it; but
    /// without `dht` or `lsd` in `config` the session takes no part in these, and `max_peers` there bounds the session alone.
    pub fn on(host: &Arc<Host>, source: impl Into<Source>, mut config: Config) -> Session {
        config.bind = host.bind().clone();
        Session::at(host.clone(), source.into(), config)
    }

    fn at(host: Arc<Host>, source: Source, config: Config) -> Session {
        let (to_main, reports) = unbounded();
        let (events, listeners) = unbounded();
        let (info_hash, nickname) = match &source {
            Source::Torrent(torrent) => (torrent.info_hash, torrent.name.clone()),
            Source::Magnet(magnet) => {
                (magnet.info_hash, magnet.name.clone().unwrap_or_else(|| magnet.info_hash.to_string()))
            }
        };
        let inner = Inner::new(info_hash, nickname, host.throttle(), to_main);
        if let Source::Torrent(torrent) = &source {
            let _ = inner.known_as.set((torrent.name.clone(), torrent.total()));
        }
        Session { source, config, inner: Arc::new(inner), events, listeners, reports, host }
    }

    /// A handle on this session.
    pub fn handle(&self) -> Handle {
        Handle(self.inner.clone())
    }

    /// What happens, from here on. Every receiver takes events away from the others: have one.
    pub fn events(&self) -> Receiver<Event> {
        self.listeners.clone()
    }

    /// Fetches the metadata where only a link is there, downloads, then seeds as far as the configuration asks for it. Blocks until
    /// that is done or the handle says stop.
    ///
    /// # Errors
    /// Where the files cannot be read or written, no port is free, the metadata makes no torrent, or the host has the torrent
    /// already.
    pub fn run(self) -> Result<Outcome, SessionError> {
        let Session { source, config, inner, events, listeners, reports, host } = self;
        drop(listeners); // nobody listens but whoever asked to
        let seat = Some(Seat::take(host, inner.info_hash, &config, inner.reports.clone())?);
        let mut run = Run { inner: &inner, config: &config, events, reports, peer_id: PeerId::ours(), seat };
        match source {
            Source::Torrent(torrent) => run.download(&torrent, None),
            Source::Magnet(magnet) => match run.find_out(&magnet)? {
                Some((torrent, before)) => run.download(&torrent, Some(before)),
                None if inner.torrent.get().is_some() => Ok(Outcome::Completed),
                None => Ok(Outcome::Stopped),
            },
        }
        .map(|outcome| match outcome {
            Outcome::Stopped if inner.timed_out.load(Ordering::Acquire) => Outcome::TimedOut,
            other => other,
        })
    }
}

/// A session that runs.
struct Run<'a> {
    inner: &'a Arc<Inner>,
    config: &'a Config,
    events: Sender<Event>,
    reports: Receiver<Report>,
    peer_id: PeerId,
    /// Its place at the host, until the contacts have it.
    seat: Option<Seat>,
}

/// What a magnet link's download goes on with: the contacts made while its metadata was fetched.
struct Before<'a> {
    contacts: Contacts<'a>,
    shared: Arc<Shared>,
}

/// A torrent's files, as they were found.
struct Opened {
    storage: Arc<Storage>,
    plan: Plan,
    have: Bitfield,
    keeper: Option<Keeper>,
}

impl<'a> Run<'a> {
    /// Fetches the metadata of a magnet link; `None` where somebody said stop before it was there. With it comes what there was
    /// before the download.
    fn find_out(&mut self, magnet: &Magnet) -> Result<Option<(Torrent, Before<'a>)>, SessionError> {
        let layout = Layout::new(1, Vec::new())?;
        let nothing = Arc::new(Storage::new(self.config.out_dir.clone(), layout, 1));
        let pieces = PieceManager::new(nothing, Vec::new(), Bitfield::new(0));
        let shared = self.shared(magnet.info_hash, self.config.pex, true, pieces);
        let tiers: Vec<Vec<String>> = magnet.trackers.iter().map(|url| vec![url.clone()]).collect();
        let mut contacts = self.contacts(&shared, &tiers, false)?;
        self.publish(&shared, &contacts);
        let Some(info) = metadata::fetch(&mut contacts, &shared, &self.reports) else {
            self.inner.enter(Stage::Stopping);
            tell(&self.events, Event::Stopping);
            contacts.leave(&shared, &self.reports);
            return Ok(None);
        };
        contacts.hold_callers(true);
        let torrent = match Torrent::from_info(&info, tiers, magnet.web_seeds.clone()) {
            Ok(torrent) => torrent,
            Err(error) => {
                contacts.leave(&shared, &self.reports);
                return Err(SessionError::Metadata(error));
            }
        };
        contacts.settle(torrent.private, shared.now());
        let (name, total) = (torrent.name.clone(), torrent.total());
        let _ = self.inner.known_as.set((name.clone(), total));
        tell(&self.events, Event::Metadata { name, total });
        if let Some(path) = &self.config.save_torrent {
            let what = keep_torrent(path, &torrent, &torrent.to_bytes());
            tell(&self.events, Event::TorrentSaved { what });
        }
        if self.config.metadata_only {
            contacts.leave(&shared, &self.reports);
            let _ = self.inner.torrent.set(torrent);
            return Ok(None);
        }
        Ok(Some((torrent, Before { contacts, shared })))
    }

    /// Looks at what is there, fetches the rest, seeds.
    fn download(&mut self, torrent: &Torrent, before: Option<Before<'a>>) -> Result<Outcome, SessionError> {
        let (inner, config) = (self.inner, self.config);
        let Opened { storage, plan, have, keeper } = match self.open(torrent) {
            Ok(opened) => opened,
            Err(error) => {
                // Whoever heard that we are there hears that we leave.
                if let Some(Before { contacts, shared }) = before {
                    inner.enter(Stage::Stopping);
                    contacts.leave(&shared, &self.reports);
                }
                return Err(error);
            }
        };
        let _ = inner.found.set(have.clone());
        let stopped = inner.stop.load(Ordering::Acquire);
        let met = plan.is_met_by(&have);
        if met && !config.seed.any() && before.is_none() && !stopped {
            if let Some(keeper) = keeper {
                keeper.finish(&storage, have);
            }
            tell(&self.events, Event::Completed);
            return Ok(Outcome::Completed);
        }
        if stopped && before.is_none() {
            return Ok(if met { Outcome::StoppedWhole } else { Outcome::Stopped });
        }
        let pieces = PieceManager::planned(storage.clone(), torrent.pieces.clone(), have, plan);
        let shared = self.shared(torrent.info_hash, config.pex && !torrent.private, false, pieces);
        let _ = shared.info.set(torrent.info.clone());
        if config.super_seed && shared.pieces.is_whole() {
            let _ = shared.reveal.set(Reveal::new(shared.pieces.count(), storage.layout().piece_length()));
        }
        let contacts = match before {
            Some(before) => before.contacts,
            None => self.contacts(&shared, &torrent.tiers, torrent.private)?,
        };
        self.publish(&shared, &contacts);
        contacts.hold_callers(false);
        let outcome =
            conductor::Conductor::new(&shared, contacts, shared.pieces.wanted(), keeper).conduct(&self.reports);
        storage.close();
        Ok(outcome?)
    }

    /// Opens the torrent's files, looks at what is there, and whether there is room for what is not.
    fn open(&self, torrent: &Torrent) -> Result<Opened, SessionError> {
        let (inner, config) = (self.inner, self.config);
        let Choice { layout, wanted, plan, files: (files, of), bytes } = Choice::new(torrent, config)?;
        if files < of {
            tell(&self.events, Event::Selected { files, of, bytes });
        }
        let storage = Storage::new(config.out_dir.clone(), layout, config.max_open_files)
            .select(&wanted, &storage::part_name(&torrent.info_hash))
            .allocate(config.allocation);
        let storage = Arc::new(storage);
        let (have, keeper) = look(inner, config, &storage, torrent, &self.events)?;
        if !inner.stop.load(Ordering::Acquire) {
            storage.check_room(storage.still_to_allocate(&have, &plan.wanted))?;
        }
        Ok(Opened { storage, plan, have, keeper })
    }

    fn shared(&self, info_hash: InfoHash, pex: bool, wants_info: bool, pieces: PieceManager) -> Arc<Shared> {
        let terms = Terms {
            info_hash,
            peer_id: self.peer_id,
            encryption: self.config.encryption,
            pex,
            wants_info,
            bind: self.config.bind.clone(),
            started: self.inner.started,
            throttle: self.inner.throttle.clone(),
        };
        Shared::new(terms, pieces, self.inner.reports.clone())
    }

    /// Listens, and begins to look for peers.
    fn contacts(
        &mut self,
        shared: &Shared,
        tiers: &[Vec<String>],
        private: bool,
    ) -> Result<Contacts<'a>, SessionError> {
        let mut seat = self.seat.take().expect("contacts are made once");
        let port = seat.listen()?;
        tell(&self.events, Event::Listening { port });
        Ok(Contacts::new(self.inner, self.config, self.events.clone(), shared.info_hash, tiers, private, seat))
    }

    /// Connections know from now on at which ports we can be found, and handles see them.
    fn publish(&self, shared: &Arc<Shared>, contacts: &Contacts<'_>) {
        shared.port.store(contacts.port(), Ordering::Relaxed);
        let dht = if contacts.discovery.has_dht() { contacts.port() } else { 0 };
        shared.dht_port.store(dht, Ordering::Release);
        *self.inner.shared.lock() = Some(shared.clone());
        shared.paused.store(self.inner.paused.load(Ordering::Acquire), Ordering::Release);
    }
}

/// Tells whoever listens.
fn tell(events: &Sender<Event>, event: Event) {
    let _ = events.send(event);
}

/// Writes the .torrent where the user wants it, a file or a folder; what came of it, fit for a person. That it cannot be written is no
/// reason to stop.
pub(crate) fn keep_torrent(path: &Path, torrent: &Torrent, bytes: &[u8]) -> String {
    let file = if path.is_dir() { path.join(format!("{}.torrent", torrent.info_hash)) } else { path.to_owned() };
    match std::fs::write(&file, bytes) {
        Ok(()) => format!("saved as {}", file.display()),
        Err(error) => format!("cannot be saved as {}: {error}", file.display()),
    }
}

/// How the torrent's bytes lie in files.
pub(crate) fn layout(torrent: &Torrent) -> Result<Layout, LayoutError> {
    let spec = |f: &crate::metainfo::FileEntry| FileSpec { path: f.path.clone(), length: f.length, pad: f.pad };
    Layout::new(torrent.piece_length, torrent.files.iter().map(spec).collect())
}

/// Makes the files, and hashes what was there before: the pieces that are right. What the fast-resume record vouches for is not
/// hashed; without one there is more to do, and that is all.
fn look(
    inner: &Inner,
    config: &Config,
    disk: &Storage,
    torrent: &Torrent,
    events: &Sender<Event>,
) -> Result<(Bitfield, Option<Keeper>), StorageError> {
    inner.enter(Stage::Checking);
    let prepared = disk.prepare_unless(&inner.stop)?;
    for what in prepared.repaired {
        tell(events, Event::Repaired { what });
    }
    let nothing = Bitfield::new(torrent.piece_count());
    if inner.stop.load(Ordering::Acquire) {
        return Ok((nothing, None));
    }
    let records = config.resume.as_ref();
    let mut keeper = records.and_then(|folder| Keeper::new(folder, torrent.info_hash, &config.out_dir, disk));
    let mut known = nothing;
    match &mut keeper {
        Some(keeper) if config.verify || prepared.found_bytes == 0 => keeper.distrust(),
        Some(keeper) => known = keeper.recall(disk),
        None => {}
    }
    if prepared.found_bytes == 0 && torrent.total() > 0 {
        return Ok((known, keeper));
    }
    let size = |have: &Bitfield| have.iter().map(|piece| u64::from(torrent.piece_size(piece))).sum::<u64>();
    if !known.is_full() {
        tell(events, Event::CheckStarted { bytes: torrent.total() - size(&known) });
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        known = storage::check_rest(disk, &torrent.pieces, &known, cores, &inner.check, &inner.stop)?;
        if let Some(keeper) = &mut keeper {
            keeper.checked(disk);
        }
    }
    tell(events, Event::Checked { have: size(&known), total: torrent.total() });
    Ok((known, keeper))
}
