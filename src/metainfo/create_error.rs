//! Why a torrent could not be created.

use std::io;
use std::path::PathBuf;

use crate::metainfo::torrent::PIECE_LENGTH_MAX;

/// The smallest piece length that btsync creates, in bytes: one block.
pub const PIECE_LENGTH_MIN: u32 = 16 << 10;

/// Why a torrent could not be created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The source, or a folder in it, cannot be opened.
    #[error("{} cannot be opened: {source}", path.display())]
    Open {
        /// The path that cannot be opened.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// The file that cannot be read.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file's length or modification time changed between the scan and the end of the hashing.
    #[error("{} changed while it was being hashed", path.display())]
    Changed {
        /// The file that changed.
        path: PathBuf,
    },
    /// The source is neither a file nor a folder.
    #[error("{} is neither a file nor a folder", path.display())]
    Kind {
        /// The source.
        path: PathBuf,
    },
    /// A file's name cannot be stored in a torrent.
    #[error("{}: the name is not allowed in a torrent: {why}", path.display())]
    Name {
        /// The file or folder with this name.
        path: PathBuf,
        /// What is wrong with the name.
        why: String,
    },
    /// The folder contains no file, or all files are excluded.
    #[error("{}: the folder contains no file to share", path.display())]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// The torrent file would overwrite its own source.
    #[error("{} cannot be both the source and the torrent file", path.display())]
    Output {
        /// The source.
        path: PathBuf,
    },
    /// The requested piece length is not valid.
    #[error("the piece length {0} is not a power of two from {PIECE_LENGTH_MIN} to {PIECE_LENGTH_MAX}")]
    PieceLength(u32),
    /// The files are too many or too large for one torrent file.
    #[error("too large for one torrent, or too many pieces; larger pieces may help")]
    TooBig,
    /// `stop` was set.
    #[error("interrupted")]
    Stopped,
}
