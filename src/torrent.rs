//! One torrent from start to end. `Torrent::run` checks what is on disk, listens, announces, downloads, seeds if configured,
//! and stops. It runs on the caller's thread; a [`TorrentHandle`] watches and controls it from other threads. Torrents in one
//! process share a [`Client`].

mod add;
mod announce;
pub(crate) mod config;
mod connection_entry;
mod downloaded_torrents;
#[cfg(any(feature = "cli", feature = "service"))]
mod event_json;
mod events;
mod final_announce;
mod handle;
#[cfg(feature = "service")]
pub(crate) mod idle_files;
mod inner;
mod kept_connections;
mod metadata_from_url;
mod metadata_phase;
mod open_files;
mod options;
mod original_names;
mod peer_manager;
mod peer_search;
mod phases;
mod piece_order;
mod record_files;
mod reopening;
mod replaced_files;
mod resume_store;
mod save_torrent;
mod streams;
mod transfer;
mod unreported_completion;
mod verification;
mod verified_reads;
mod views;
mod wanted_files;

use std::path::Path;
use std::sync::Arc;

use crossbeam_channel::{Receiver, bounded};

use crate::client::Registration;
use crate::discovery::tracker::http::host_limit::limit_nodes;
use crate::metainfo::{Magnet, MagnetError, Metainfo, MetainfoError, SelectError, TorrentVersion};
use crate::peer::{MAX_QUEUED_MESSAGES, StopReason, TorrentMessage};
use crate::storage::{LayoutError, StorageError};
use crate::types::InfoHash;
use inner::TorrentInner;
use phases::TorrentRun;

pub use crate::client::{ClaimPosition, Client};
pub use crate::client::{ClientBuilder, ClientConfig, ClientError, DhtSettings};
pub use crate::discovery::tracker::announce::TorrentIdentity;
pub use crate::strategy::peer_list::PeerSource;
pub use crate::strategy::rate_limiter::Limits;
pub use config::{RepairScope, SeedGoal, TorrentConfig};
use events::EventSender;
pub use events::{Event, Events};
pub use handle::TorrentHandle;
pub use options::AddOptions;
pub use peer_search::{PeerSearchStats, TrackerState};
pub use piece_order::FilePriority;
use save_torrent::save_torrent_file;
pub use streams::{PieceStream, StreamWaker};
use unreported_completion::UnreportedCompletion;
pub use verification::{FlawedFile, Verification, Verifier};
#[cfg(feature = "service")]
pub use verified_reads::VerifiedFile;
pub use verified_reads::VerifiedReader;
pub use views::{FileView, PeerView, Snapshot, Stage, TrackerView};

/// How a torrent's run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Everything wanted is complete, and the seed goal, if any, is reached.
    Completed,
    /// Stopped before everything wanted was complete.
    Stopped,
    /// Stopped while seeding, with everything wanted complete.
    StoppedComplete,
    /// No data arrived for as long as [`AddOptions::stop_timeout`] allows.
    TimedOut,
}

/// Why a torrent could not run or continue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TorrentError {
    /// A read or write of the files failed, or they may not be written to.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The torrent's files do not fit its pieces.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The metadata of a magnet link has the right hash, but is no torrent that btsync accepts.
    #[error("the link's metadata: {0}")]
    Metadata(MetainfoError),
    /// The torrent, or the magnet link, is for BitTorrent v2 only (BEP 52).
    #[error("btsync cannot download v2-only torrents yet")]
    V2Only,
    /// The selection of files does not fit the torrent.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// A file cannot have the path that the user chose.
    #[error("{0}")]
    InvalidPath(LayoutError),
    /// The client refused the torrent, or cannot listen.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl TorrentError {
    /// Whether there was no file descriptor to listen with; a later attempt may succeed.
    pub fn is_shortage(&self) -> bool {
        matches!(self, TorrentError::Client(error) if error.is_shortage())
    }
}

/// Where a torrent comes from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Source {
    /// A torrent file.
    Metainfo(Box<Metainfo>),
    /// A magnet link; the metadata comes from peers.
    Magnet(Box<Magnet>),
}

impl Source {
    /// The torrent in a file. For a torrent file in memory, see [`Metainfo::from_bytes`].
    ///
    /// # Errors
    /// If the file cannot be read or is no valid torrent.
    pub fn file(path: impl AsRef<Path>) -> Result<Source, MetainfoError> {
        Ok(Metainfo::read(path.as_ref())?.into())
    }

    /// The torrent that a magnet link names; its metadata comes from peers.
    ///
    /// # Errors
    /// If it is no magnet link of a torrent that btsync supports.
    pub fn magnet(link: &str) -> Result<Source, MagnetError> {
        Ok(Magnet::parse(link)?.into())
    }

    /// Checks that btsync can download the torrent.
    pub(crate) fn check_version(&self) -> Result<(), TorrentError> {
        let has_v1 = match self {
            Source::Metainfo(torrent) => torrent.version() != TorrentVersion::V2,
            Source::Magnet(magnet) => magnet.has_v1(),
        };
        if has_v1 { Ok(()) } else { Err(TorrentError::V2Only) }
    }

    /// The torrent's info-hash.
    pub fn info_hash(&self) -> InfoHash {
        match self {
            Source::Metainfo(torrent) => torrent.info_hash,
            Source::Magnet(magnet) => magnet.info_hash,
        }
    }
}

impl From<Metainfo> for Source {
    fn from(metainfo: Metainfo) -> Source {
        Source::Metainfo(Box::new(metainfo))
    }
}

impl From<Magnet> for Source {
    fn from(magnet: Magnet) -> Source {
        Source::Magnet(Box::new(magnet))
    }
}

/// A torrent to be downloaded or seeded; [`Torrent::run`] starts it.
pub struct Torrent {
    source: Source,
    config: TorrentConfig,
    inner: Arc<TorrentInner>,
    events: EventSender,
    event_receiver: Events,
    messages: Receiver<TorrentMessage>,
    client: Arc<Client>,
    claim_position: ClaimPosition,
}

impl Torrent {
    /// A torrent with a client of its own.
    #[doc(hidden)]
    pub fn new(source: impl Into<Source>, config: TorrentConfig) -> Torrent {
        let client = Client::for_one_torrent(&config.client);
        Torrent::on_client(client, source.into(), config)
    }

    /// A torrent on `client`, which shares the port, the DHT, local discovery, the limits and the number of connections with
    /// the client's other torrents. The client's configuration takes precedence over `config`. However, without `dht` or `lsd`
    /// in `config` the torrent does not use these, and its `max_peers` limits this torrent alone.
    #[doc(hidden)]
    pub fn with_client(client: &Arc<Client>, source: impl Into<Source>, mut config: TorrentConfig) -> Torrent {
        config.client.route = client.route().clone();
        Torrent::on_client(client.clone(), source.into(), config)
    }

    fn on_client(client: Arc<Client>, mut source: Source, mut config: TorrentConfig) -> Torrent {
        if let Source::Metainfo(torrent) = &mut source {
            config.files.change_names(torrent);
        }
        let (to_main_thread, messages) = bounded(MAX_QUEUED_MESSAGES);
        let (events, event_receiver) = events::channel();
        let (info_hash, display_name) = match &source {
            Source::Metainfo(torrent) => (torrent.info_hash, torrent.name.clone()),
            Source::Magnet(magnet) => {
                (magnet.info_hash, magnet.name.clone().unwrap_or_else(|| magnet.info_hash.to_string()))
            }
        };
        let inner = TorrentInner::new(info_hash, display_name, &config, client.throttle(), to_main_thread);
        let weak_client = Arc::downgrade(&client);
        inner.run.on_stop(move || weak_client.upgrade().iter().for_each(|client| client.wake_stopped_torrents()));
        if let Source::Metainfo(torrent) = &source {
            let _ = inner.facts.name_and_size.set((torrent.name.clone(), torrent.total()));
            // The files and the part file. Descriptors reserved beyond that would be missing for connections, once for each
            // of several torrents.
            config.files.max_open_files = config.files.max_open_files.min(torrent.files.len() + 1);
            let address = |(host, port): &(String, u16)| {
                if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
            };
            config.search.nodes.extend(limit_nodes(torrent.nodes.iter().map(address)));
        }
        let claim_position = client.claim_position(&inner.display_name, false);
        Torrent { source, config, inner: Arc::new(inner), events, event_receiver, messages, client, claim_position }
    }

    /// Gives the torrent a position that the client assigned earlier, instead of the order in which torrents are created.
    #[must_use]
    pub fn with_claim_position(self, claim_position: ClaimPosition) -> Torrent {
        Torrent { claim_position, ..self }
    }

    /// A handle for this torrent.
    pub fn handle(&self) -> TorrentHandle {
        TorrentHandle(self.inner.clone())
    }

    /// The torrent's events from now on. Receivers compete for events; create only one.
    pub fn events(&self) -> Events {
        self.event_receiver.clone()
    }

    /// Fetches the metadata if the source is a magnet link, downloads, then seeds as far as configured. Blocks until that is
    /// done or the handle stops it.
    ///
    /// # Errors
    /// If the files cannot be read or written, no port is free, the metadata is no valid torrent, or the client has the torrent
    /// already.
    pub fn run(self) -> Result<Outcome, Arc<TorrentError>> {
        let inner = self.inner.clone();
        // Also ends `TorrentHandle::wait` if the torrent panics.
        let end = inner.end_guard();
        let result = self.run_phases().map_err(Arc::new);
        end.set(result.clone());
        result
    }

    fn run_phases(self) -> Result<Outcome, TorrentError> {
        let Torrent { source, mut config, inner, events, event_receiver, messages, client, claim_position } = self;
        drop(event_receiver); // only the caller's receivers remain
        let _ = inner.main_thread.set(std::thread::current().id());
        source.check_version().inspect_err(|_| events.finish())?;
        // On this thread, because it may take long.
        config.search.resolve_link_hosts(&config.client.route);
        let weak_client = Arc::downgrade(&client); // weak: a client for one torrent ends with it
        let registration = Some(Registration::new(
            client,
            claim_position,
            inner.info_hash,
            config.connections.encryption,
            inner.max_peers.clone(),
        )?);
        let event_sender = events.clone();
        let identity = config.connections.identity;
        let identity = identity
            .unwrap_or_else(|| TorrentIdentity::for_route(&config.client.route, config.connections.peer_id_prefix));
        config.connections.identity = Some(identity);
        let mut run = TorrentRun { inner: &inner, config: Arc::new(config), events, messages, identity, registration };
        let ended = match source {
            Source::Metainfo(torrent) => run.download(&torrent, None),
            Source::Magnet(magnet) => match run.fetch_metadata(&magnet).inspect_err(|_| event_sender.finish())? {
                Some((torrent, kept_peers)) => run.download(&torrent, Some(kept_peers)),
                None if inner.facts.metainfo.get().is_some() => Ok(Outcome::Completed),
                None => Ok(Outcome::Stopped),
            },
        };
        event_sender.finish();
        match ended {
            Ok(Outcome::Stopped) if inner.run.state().stop_reason() == Some(StopReason::TimedOut) => {
                Ok(Outcome::TimedOut)
            }
            Err(error) => {
                weak_client.upgrade().iter().for_each(|client| client.release_torrent_files(inner.info_hash));
                Err(error)
            }
            ended => ended,
        }
    }
}

/// Sends an event to the receiver.
fn send_event(events: &EventSender, event: Event) {
    events.send_event(event);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torrent_of_few_files_keeps_no_room_for_many() {
        let bytes = b"d4:infod6:lengthi1e4:name1:x12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee";
        let torrent = Metainfo::parse(bytes).expect("a torrent");
        let open = |most| {
            let mut config = TorrentConfig::new("out");
            config.files.max_open_files = most;
            Torrent::new(torrent.clone(), config).config.files.max_open_files
        };
        assert_eq!([open(128), open(1)], [2, 1]);
    }
}
