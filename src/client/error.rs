//! Errors of the client: why it refuses a torrent, or cannot listen.

use std::io;
use std::path::PathBuf;

use crate::metainfo::printable;
use crate::net::bind::Bind;
use crate::types::InfoHash;
use crate::util::descriptors::is_shortage;
use crate::util::os_error::reason;

/// Why the client refuses a torrent, or cannot listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No socket can be bound to the configured interface or address.
    #[error("cannot use the interface {bind}: {}", reason(.error))]
    Interface {
        /// The interface or address.
        bind: Bind,
        /// The system's error.
        error: io::Error,
    },
    /// No port to listen on is free.
    #[error("cannot listen on port {ports}: {}", reason(.error))]
    Listen {
        /// The ports that were tried.
        ports: String,
        /// The system's error for the last of them.
        error: io::Error,
    },
    /// The URL is not that of a proxy. The text has no part of it, as it may contain a password.
    #[error("not a proxy that btsync can use: {reason}")]
    Proxy {
        /// The reason.
        reason: String,
    },
    /// The block list cannot be loaded, so that nothing would be blocked.
    #[error("cannot use the block list {}: {}", printable(.place), printable(.reason))]
    BlockList {
        /// The file, or the URL without its secrets.
        place: String,
        /// The reason.
        reason: String,
    },
    /// Another torrent of the same client has a file at the same path.
    #[error(
        "two torrents would write to the same file, {}: btsync does not download {} together with {}; choose another folder for one of them",
        printable(&.path.to_string_lossy()), printable(.ours), printable(.theirs)
    )]
    FileTaken {
        /// The file's path, relative to the download folder.
        path: PathBuf,
        /// The name under which the user added the torrent.
        ours: String,
        /// The same for the other torrent.
        theirs: String,
    },
    /// The client already has this torrent.
    #[error("the torrent {info_hash} is already running")]
    DuplicateTorrent {
        /// The torrent's info-hash.
        info_hash: InfoHash,
    },
}

impl ClientError {
    /// Whether there was no file descriptor to listen with; a later attempt may succeed.
    pub fn is_shortage(&self) -> bool {
        matches!(self, ClientError::Listen { error, .. } | ClientError::Interface { error, .. } if is_shortage(error))
    }
}
