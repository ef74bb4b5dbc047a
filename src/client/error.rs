//! Why the client refuses a torrent, or cannot listen.

use std::io;
use std::path::PathBuf;

use crate::metainfo::printable;
use crate::net::bind::Bind;
use crate::types::InfoHash;
use crate::util::descriptors::is_shortage;
use crate::util::os_error::reason;

/// Why the client refuses a torrent, or cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing can be tied to the interface or address that all is to be tied to.
    #[error("cannot use the interface {bind}: {}", reason(.error))]
    Interface {
        /// The interface or address.
        bind: Bind,
        /// What the system said.
        error: io::Error,
    },
    /// No port to listen on.
    #[error("cannot listen on port {ports}: {}; choose another with --listen-port", reason(.error))]
    Listen {
        /// Those that were tried.
        ports: String,
        /// What the system said of the last one.
        error: io::Error,
    },
    /// Another torrent of the same host has a file at the same place.
    #[error(
        "another torrent has a file of the same name, {}: {} is not downloaded beside {}; give it another folder",
        printable(&.path.to_string_lossy()), printable(.ours), printable(.theirs)
    )]
    FileTaken {
        /// Where, from the download folder on.
        path: PathBuf,
        /// What the torrent was named by.
        ours: String,
        /// The same of the other one.
        theirs: String,
    },
    /// Another session of the same host has this torrent.
    #[error("the torrent {info_hash} is under way already")]
    DuplicateTorrent {
        /// Its swarm.
        info_hash: InfoHash,
    },
}

impl ClientError {
    /// Whether there was no file descriptor to listen with: a later attempt may succeed.
    pub fn is_shortage(&self) -> bool {
        matches!(self, ClientError::Listen { error, .. } | ClientError::Interface { error, .. } if is_shortage(error))
    }
}
