//! How a service is set up, and why it may not start.

use std::io;
use std::path::PathBuf;

use crate::client::{ClientError, DhtSettings};
use crate::service::state_folder::StateError;

/// How a service is set up.
#[derive(Clone, Debug)]
pub struct ServiceOptions {
    /// The folder of its state; created if it is missing.
    pub state_folder: PathBuf,
    /// The folder of new torrents, if the settings name none yet.
    pub download_folder: PathBuf,
    /// The folders below which downloads may be, beside the download folder.
    pub allowed_folders: Vec<PathBuf>,
    /// Folders of the program's own files, to which no torrent may write.
    pub private_folders: Vec<PathBuf>,
    /// How the DHT is bootstrapped.
    pub dht: DhtSettings,
    /// The TCP port for peers, in place of that of the settings.
    pub peer_port: Option<u16>,
}

/// Why a service cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// Its state folder cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// It cannot listen for peers.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A thread cannot be started.
    #[error("{0}")]
    Thread(io::Error),
}
