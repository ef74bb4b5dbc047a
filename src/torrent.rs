//! One torrent from start to end. `Session::run` reads as the story of a download: look at what is on disk, listen, announce,
//! fetch, seed if asked, say goodbye. It runs on the caller's thread; a [`Handle`] watches and stops
//! it from others. Sessions that run side by side share a [`Host`].

mod brought;
pub(crate) mod config;
mod events;
mod final_announce;
mod handle;
mod link_source;
mod metadata_phase;
mod open_files;
mod original_names;
mod peer_manager;
mod peer_search;
mod pending;
mod phases;
mod record_folders;
mod replaced;
mod resume_store;
mod save_torrent;
mod transfer;
mod wanted;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::{Receiver, bounded};

use crate::client::Seat;
use crate::metainfo::{Magnet, SelectError, Torrent, TorrentError};
use crate::peer::{MAX_REPORTS, Report};
use crate::storage::{LayoutError, StorageError};
use crate::types::{InfoHash, PeerId};
use handle::Inner;
use phases::Run;

pub use crate::client::{ClientConfig, ClientError, DhtSettings};
pub use crate::client::{Host, Turn};
pub use crate::strategy::rate_limiter::Limits;
pub(crate) use brought::is_brought;
pub use config::{Config, SeedGoal};
use events::Teller;
pub use events::{Event, FileView, PeerView, PieceState, Snapshot, Stage};
pub use handle::Handle;
pub(crate) use open_files::layout;
pub(crate) use original_names::as_found;
pub use peer_search::{Search, TrackerState};
pub use pending::PendingCompletion;
pub(crate) use save_torrent::keep_torrent;

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
    /// The client refused the torrent, or cannot listen.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl SessionError {
    /// Whether there was no descriptor to listen: another try may succeed.
    pub fn is_shortage(&self) -> bool {
        matches!(self, SessionError::Client(error) if error.is_shortage())
    }
}

/// What a session is to fetch.
#[derive(Clone, Debug)]
pub enum Source {
    /// All that a .torrent says.
    Torrent(Box<Torrent>),
    /// Where to find the rest of it.
    Magnet(Box<Magnet>),
}

impl Source {
    /// Whose content it is.
    pub fn info_hash(&self) -> InfoHash {
        match self {
            Source::Torrent(torrent) => torrent.info_hash,
            Source::Magnet(magnet) => magnet.info_hash,
        }
    }
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
    events: Teller,
    listeners: Receiver<Event>,
    reports: Receiver<Report>,
    host: Arc<Host>,
    turn: Turn,
}

impl Session {
    /// A session that has not begun, and that will be by itself.
    pub fn new(source: impl Into<Source>, config: Config) -> Session {
        let host = Host::for_one(&config.client());
        Session::at(host, source.into(), config)
    }

    /// A session that has not begun, and that will share port, DHT, local discovery, limits and the number of connections with
    /// the others on `host`. What the host took from its own configuration counts in place of what `config` says of it; but
    /// without `dht` or `lsd` in `config` the session takes no part in these, and `max_peers` there bounds the session alone.
    pub fn on(host: &Arc<Host>, source: impl Into<Source>, mut config: Config) -> Session {
        config.bind = host.bind().clone();
        Session::at(host.clone(), source.into(), config)
    }

    fn at(host: Arc<Host>, mut source: Source, mut config: Config) -> Session {
        if let (Source::Torrent(torrent), true) = (&mut source, config.allow_hidden) {
            torrent.keep_hidden();
        }
        let (to_main, reports) = bounded(MAX_REPORTS);
        let (events, listeners) = events::channel();
        let (info_hash, nickname) = match &source {
            Source::Torrent(torrent) => (torrent.info_hash, torrent.name.clone()),
            Source::Magnet(magnet) => {
                (magnet.info_hash, magnet.name.clone().unwrap_or_else(|| magnet.info_hash.to_string()))
            }
        };
        let inner = Inner::new(info_hash, nickname, config.seed, host.throttle(), to_main);
        if let Source::Torrent(torrent) = &source {
            let _ = inner.known_as.set((torrent.name.clone(), torrent.total()));
            // Its files and the part file: what is set aside for more is missing for peers, and that of each of several torrents.
            config.max_open_files = config.max_open_files.min(torrent.files.len() + 1);
            config.nodes.extend(torrent.nodes.iter().map(|(host, port)| {
                if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
            }));
        }
        let turn = host.turn(&inner.nickname, false);
        Session { source, config, inner: Arc::new(inner), events, listeners, reports, host, turn }
    }

    /// The same session in a turn that its host gave before, and not in the order in which sessions are made.
    #[must_use]
    pub fn in_turn(self, turn: Turn) -> Session {
        Session { turn, ..self }
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
        let Session { source, config, inner, events, listeners, reports, host, turn } = self;
        drop(listeners); // nobody listens but whoever asked to
        let _ = inner.main.set(std::thread::current().id());
        let at = Arc::downgrade(&host); // it is to end with the session where it has no other
        let seat = Some(Seat::take(host, turn, inner.info_hash, config.encryption, config.max_peers)?);
        let last_words = events.clone();
        let peer_id = config.peer_id_prefix.map_or_else(PeerId::ours, PeerId::with_prefix);
        let mut run = Run { inner: &inner, config: &config, events, reports, peer_id, seat };
        let ended = match source {
            Source::Torrent(torrent) => run.download(&torrent, None),
            Source::Magnet(magnet) => match run.find_out(&magnet).inspect_err(|_| last_words.finish())? {
                Some((torrent, before)) => run.download(&torrent, Some(before)),
                None if inner.torrent.get().is_some() => Ok(Outcome::Completed),
                None => Ok(Outcome::Stopped),
            },
        };
        last_words.finish();
        match ended {
            Ok(Outcome::Stopped) if inner.timed_out.load(Ordering::Acquire) => Ok(Outcome::TimedOut),
            Err(error) => {
                at.upgrade().iter().for_each(|host| host.failed(inner.info_hash));
                Err(error)
            }
            ended => ended,
        }
    }
}

/// Tells whoever listens.
fn tell(events: &Teller, event: Event) {
    events.tell(event);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torrent_of_few_files_keeps_no_room_for_many() {
        let bytes = b"d4:infod6:lengthi1e4:name1:x12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee";
        let torrent = Torrent::parse(bytes).expect("a torrent");
        let open = |most| {
            let config = Config { max_open_files: most, ..Config::new("out") };
            Session::new(torrent.clone(), config).config.max_open_files
        };
        assert_eq!([open(128), open(1)], [2, 1]);
    }
}
