//! A `BitTorrent` library of plain threads and blocking sockets, without an async runtime; the `btsync` command is built on it.
//!
//! A [`Client`] has the listening port, the DHT and the limits. Give it torrents with [`Client::add`]; each runs on a thread of its
//! own, and a [`TorrentHandle`] watches and controls it:
//!
//! ```no_run
//! use btsync::{AddOptions, Client, Source};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::builder().listen_ports(6881..=6889).build()?;
//! let torrent = client.add(Source::file("debian.torrent")?, AddOptions::new("downloads"))?;
//! for event in torrent.events() {
//!     println!("{event:?}");
//! }
//! println!("{:?}: {:?}", torrent.wait()?, torrent.snapshot());
//! # Ok(())
//! # }
//! ```
//!
//! [`TorrentHandle::events`] returns the events in order; [`TorrentHandle::snapshot`] has the current figures, and
//! [`TorrentHandle::pieces`], [`TorrentHandle::files`] and [`TorrentHandle::peers`] have the details. A [`Source`] is a torrent
//! file, whose content is a [`Metainfo`], or a [`Magnet`] link. The files appear below the folder of [`AddOptions`]; existing
//! data is checked and kept, and a second call for the same folder resumes the download.
//!
//! Without a client: [`create`] makes torrent files, [`TorrentEdit`] changes them, a [`Verifier`] checks files against them. The
//! module [`tracker`] has a client for trackers and a small tracker; the module [`dht`] has a node of the distributed hash table.
//!
//! # Features
//! - `tls` (default): HTTPS trackers and URLs. Without it, they fail with an error that says so.
//! - `gzip` (default): torrent files and tracker answers that are packed with gzip. Without it, the library refuses them.
//! - `service` (default): the service for many torrents behind `btsync serve`.
//! - `cli` (default): the dependencies of the `btsync` command. Programs that use the library turn it off with
//!   `default-features = false`.
//!
//! The library logs with the `log` crate. A program needs none of these messages: errors and events have all that it must know.

// Some modules export names for each other's tests, which see them only by the feature below.
#![cfg_attr(not(feature = "internals"), allow(unused_imports))]

// Tests, benchmarks and fuzz targets see the modules by the feature `internals`, which promises no stability. A macro would hide the
// modules from rustfmt, so each is declared twice.
#[cfg(not(feature = "internals"))]
mod bencode;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod bencode;
#[cfg(not(feature = "internals"))]
mod client;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod client;
#[cfg(not(feature = "internals"))]
mod discovery;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod discovery;
#[cfg(not(feature = "internals"))]
mod hash;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod hash;
// A service uses what the tracker does not.
#[cfg(not(feature = "internals"))]
#[cfg_attr(not(feature = "service"), allow(dead_code))]
mod http_server;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod http_server;
#[cfg(not(feature = "internals"))]
mod metainfo;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod metainfo;
#[cfg(not(feature = "internals"))]
mod mse;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod mse;
#[cfg(not(feature = "internals"))]
mod net;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod net;
#[cfg(not(feature = "internals"))]
mod peer;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod peer;
#[cfg(not(feature = "internals"))]
mod pieces;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod pieces;
#[cfg(all(feature = "service", not(feature = "internals")))]
mod service;
#[cfg(all(feature = "service", feature = "internals"))]
#[doc(hidden)]
pub mod service;
#[cfg(not(feature = "internals"))]
mod storage;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod storage;
#[cfg(not(feature = "internals"))]
mod strategy;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod strategy;
#[cfg(not(feature = "internals"))]
mod torrent;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod torrent;
#[cfg(not(feature = "internals"))]
mod tracker_server;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod tracker_server;
#[cfg(not(feature = "internals"))]
mod types;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod types;
#[cfg(not(feature = "internals"))]
mod udp;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod udp;
// The command uses what the library does not.
#[cfg(not(feature = "internals"))]
#[allow(dead_code)]
mod util;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod util;
#[cfg(not(feature = "internals"))]
mod utp;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod utp;
#[cfg(not(feature = "internals"))]
mod wire;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod wire;

pub use client::{
    ClaimPosition, Client, ClientBuilder, ClientError, DhtSettings, DhtStatus, NetworkStatus, PortMapping, ProxyCheck,
};
pub use discovery::port_mapping::status::{MappingFailure, MappingProtocol, MappingState, PortMappingStatus};
pub use metainfo::{
    FileEntry, FilePattern, Magnet, MagnetError, Metainfo, MetainfoError, PeerAddress, SelectError, Selection,
    TorrentEdit, TorrentVersion,
};
pub use net::address_filter::BlockListStats;
pub use net::bind::Bind;
#[cfg(feature = "service")]
pub use service::{PasswordHash, RunPage, Service, ServiceError, ServiceOptions, WebOptions};
pub use storage::{Allocation, LayoutError, Operation, StorageError, StorageErrorKind};
pub use strategy::rate_limiter::Limits;
pub use torrent::{AddOptions, Outcome, SeedGoal, Source, Torrent, TorrentError, TorrentHandle};
pub use torrent::{Event, Events, FileView, PeerSearchStats, PeerView, Snapshot, Stage, TrackerState};
pub use torrent::{FlawedFile, Verification, Verifier};
pub use types::{Dscp, Encryption, InfoHash, InfoHashV2, PieceIndex, PieceState, Transport, Transports};

/// Creates torrent files.
pub mod create {
    pub use crate::metainfo::{CreateError, CreateOptions, CreatePlan, CreatedTorrent, Glob};
}

/// The distributed hash table (BEP 5); [`DhtSettings::start`](crate::DhtSettings::start) starts a node.
pub mod dht {
    pub use crate::discovery::dht::DhtService;
    pub use crate::discovery::dht::item::{DhtItem, ItemError, ItemKey, ItemTarget};
    pub use crate::discovery::dht::service::ItemPutResult;
}

/// A client for trackers, and a small tracker for a closed network.
pub mod tracker {
    pub use crate::discovery::tracker::announce::{Announce, AnnounceEvent, AnnounceResponse};
    pub use crate::discovery::tracker::client::TrackerClient;
    pub use crate::discovery::tracker::error::TrackerError;
    pub use crate::discovery::tracker::http::{FetchedUrl, UrlFetcher};
    pub use crate::tracker_server::{TrackerServer, TrackerServerConfig};
    pub use crate::types::PeerId;
}
