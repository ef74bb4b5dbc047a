//! How a service is set up, and why it may not start.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use crate::client::{ClientError, DhtSettings, PortMapping};
use crate::service::dormancy::DEFAULT_DORMANT_AFTER;
use crate::service::state_folder::StateError;
use crate::service::web::{AccessError, PasswordHash};
use crate::types::Transports;
use crate::util::os_error::reason;

/// How a service is set up.
#[derive(Debug)]
#[cfg_attr(not(feature = "internals"), non_exhaustive)]
pub struct ServiceOptions {
    /// The folder of its state; created if it is missing.
    pub state_folder: PathBuf,
    /// The folder of new torrents, if the settings name none yet.
    pub download_folder: PathBuf,
    /// The folders below which downloads may be, beside the download folder.
    pub allowed_folders: Vec<PathBuf>,
    /// Folders of the program's own files, and single files, to which no torrent may write.
    pub private_folders: Vec<PathBuf>,
    /// How the DHT is bootstrapped.
    pub dht: DhtSettings,
    /// The TCP port for peers, in place of that of the settings.
    pub peer_port: Option<u16>,
    /// A proxy for everything but the page, as for [`ClientBuilder::proxy`](crate::client::ClientBuilder::proxy).
    pub proxy: Option<String>,
    /// Whether it hides what identifies it, as for [`ClientBuilder::anonymous`](crate::client::ClientBuilder::anonymous).
    pub is_anonymous: bool,
    /// Whether the web seeds that torrents and magnet links name are not used.
    pub ignores_web_seeds: bool,
    /// A block list: a file or a URL, as for [`ClientBuilder::block_list`](crate::client::ClientBuilder::block_list).
    pub block_list: Option<String>,
    /// Whether the router is asked to forward the port for peers. With [`PortMapping::Auto`], the saved setting of the remote control
    /// decides; otherwise this option does until the remote control changes it.
    pub port_mapping: PortMapping,
    /// The protocols that carry connections to peers, until the remote control changes it (`utp_enabled`). With `None`, the saved
    /// setting of the remote control decides, and by default both are used.
    pub transports: Option<Transports>,
    /// A folder whose torrent and magnet files are added.
    pub watch_folder: Option<PathBuf>,
    /// Folders in which other programs record the torrent and magnet files of their downloads: these are not added either. See
    /// [`AddOptions::downloaded_torrents_folder`](crate::torrent::AddOptions::downloaded_torrents_folder).
    pub downloaded_torrents_folders: Vec<PathBuf>,
    /// How long a seed without peers runs before it becomes dormant.
    #[doc(hidden)]
    pub seed_dormant_after: Duration,
    /// Its page and its remote control; `None` for a service without them.
    pub web: Option<WebOptions>,
}

/// Where the page and the remote control of a service are offered, and to whom.
#[derive(Debug, Default)]
#[cfg_attr(not(feature = "internals"), non_exhaustive)]
pub struct WebOptions {
    /// Addresses to listen on. Without a password, only loopback addresses are permitted.
    pub addresses: Vec<SocketAddr>,
    /// Paths of Unix sockets to listen on; only their owner can connect.
    pub unix_sockets: Vec<PathBuf>,
    /// Sockets that listen already, for example those that systemd passes.
    pub listeners: Vec<TcpListener>,
    /// Unix sockets that listen already. Who may connect is up to the permissions of their files.
    pub unix_listeners: Vec<UnixListener>,
    /// The password; `None` for none.
    pub password: Option<PasswordHash>,
    /// Host names under which browsers may reach the page, beside IP addresses and `localhost`.
    pub host_names: Vec<String>,
    /// The path below which a reverse proxy offers the page, such as `/btsync`.
    pub path_prefix: String,
    /// Whether `/metrics` has metrics for Prometheus.
    pub offers_metrics: bool,
}

impl ServiceOptions {
    /// A service without a page, with its state in one folder and its downloads in another.
    pub fn new(state_folder: impl Into<PathBuf>, download_folder: impl Into<PathBuf>) -> ServiceOptions {
        ServiceOptions {
            state_folder: state_folder.into(),
            download_folder: download_folder.into(),
            allowed_folders: Vec::new(),
            private_folders: Vec::new(),
            dht: DhtSettings::default(),
            peer_port: None,
            proxy: None,
            is_anonymous: false,
            ignores_web_seeds: false,
            block_list: None,
            port_mapping: PortMapping::Off,
            transports: None,
            watch_folder: None,
            downloaded_torrents_folders: Vec::new(),
            seed_dormant_after: DEFAULT_DORMANT_AFTER,
            web: None,
        }
    }
}

/// Why a service cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// Its state folder cannot be used.
    #[error("{0}")]
    State(String),
    /// It cannot listen for peers.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// It cannot listen for its page.
    #[error("cannot listen on {address}: {}", reason(source))]
    Listen {
        /// The address or path.
        address: String,
        /// The system's error.
        source: io::Error,
    },
    /// Others could reach it without a password.
    #[error(
        "cannot listen on {address}: without a password, the page may only be on loopback addresses and Unix sockets"
    )]
    NoPassword {
        /// The address.
        address: SocketAddr,
    },
    /// Its watch folder cannot be watched.
    #[error("{}: cannot be watched: {}", folder.display(), reason(source))]
    WatchFolder {
        /// The folder.
        folder: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A folder is not one of the other client's.
    #[error("{}: {why}", folder.display())]
    ImportFrom {
        /// The folder.
        folder: PathBuf,
        /// What is missing.
        why: &'static str,
    },
    /// Torrents to import are in folders that are not permitted.
    #[error("nothing is imported: torrents are in folders in which this service may not download: {}", names(.0))]
    ImportFolders(Vec<PathBuf>),
    /// A thread cannot be started.
    #[error("cannot start a thread: {}", reason(.0))]
    Thread(io::Error),
}

fn names(folders: &[PathBuf]) -> String {
    folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ")
}

impl From<StateError> for ServiceError {
    fn from(error: StateError) -> ServiceError {
        ServiceError::State(error.to_string())
    }
}

/// For `map_err`: the address at which access would be open to others.
pub(super) fn no_password(address: SocketAddr) -> impl FnOnce(AccessError) -> ServiceError {
    move |AccessError::NoPassword| ServiceError::NoPassword { address }
}
