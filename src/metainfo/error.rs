//! The reasons to reject a torrent file, worded for the user.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use crate::bencode::scan::ScanError;
use crate::bencode::validate::BencodeError;
use crate::metainfo::paths::PathError;
use crate::metainfo::{TORRENT_FILE_MAX, V2_PIECES_MAX};

/// Why a file is not a valid torrent. Displays as one line that does not name the file, except for `Io`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetainfoError {
    /// The file cannot be opened or read.
    #[error("{} cannot be read: {source}", path.display())]
    Io {
        /// The file that cannot be read.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The path is a folder.
    #[error("is a folder, not a torrent file")]
    Folder,
    /// The file is empty.
    #[error("the file is empty")]
    Empty,
    /// The file is HTML.
    #[error("this is a web page, not a torrent")]
    WebPage,
    /// The file is larger than [`Metainfo::MAX_FILE_SIZE`](crate::metainfo::Metainfo::MAX_FILE_SIZE).
    #[error("too large for a torrent file: more than {} MiB", TORRENT_FILE_MAX >> 20)]
    TooLarge,
    /// The file is not bencode, or its nesting is too deep.
    #[error("{0}")]
    Syntax(Box<dyn Error + Send + Sync>),
    /// The file is bencode, but its outermost value or `info` is not a dictionary.
    #[error("not a torrent: no dictionary with an `info` dictionary in it")]
    NotADict,
    /// A required key is missing.
    #[error("not a valid torrent: `{0}` is missing")]
    Missing(&'static str),
    /// A required key has a value of the wrong type.
    #[error("not a valid torrent: `{key}` is not {kind}")]
    Mistyped {
        /// The key.
        key: &'static str,
        /// The required type.
        kind: &'static str,
    },
    /// The torrent's `meta version` is newer than 2 (BEP 52).
    #[error("a torrent of version {0}, which btsync does not know")]
    UnknownVersion(i64),
    /// An entry of a v2 torrent's `file tree` (BEP 52) is not acceptable.
    #[error("not a valid torrent: in `file tree`, `{path}` {why}")]
    FileTree {
        /// The path in the tree; `/` for the tree itself.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The torrent's `piece layers` (BEP 52) do not fit its files.
    #[error("not a valid torrent: its `piece layers` {0}")]
    PieceLayers(&'static str),
    /// The halves of a hybrid torrent (BEP 52) describe different files.
    #[error("refused: the v1 and v2 halves of the torrent describe different files: {0}")]
    HalvesDiffer(String),
    /// The metadata has the v1 hash of a magnet link, but not its v2 hash.
    #[error("it does not have the v2 hash of the link")]
    OtherV2Hash,
    /// A v2 torrent has more pieces than btsync supports.
    #[error("not a valid torrent: it has more than {V2_PIECES_MAX} pieces")]
    TooManyPieces,
    /// The piece length is zero, negative or larger than `PIECE_LENGTH_MAX`; with v2, also no power of two or less than 16 KiB.
    #[error("not a valid torrent: the piece length {0} is not allowed")]
    PieceLength(i64),
    /// The length of `pieces` is not a multiple of 20.
    #[error("not a valid torrent: `pieces` has {0} bytes, which is not a multiple of 20")]
    PiecesLength(usize),
    /// The number of piece hashes does not match the files' total length.
    #[error("not a valid torrent: it has {found} piece hashes, but its files need {expected}")]
    PieceCount {
        /// The number of hashes in `pieces`.
        found: u64,
        /// The number of pieces that the total length requires.
        expected: u64,
    },
    /// The torrent has neither `length` nor `files`.
    #[error("not a valid torrent: it has neither `length` nor `files`")]
    NoLength,
    /// The torrent has no file.
    #[error("not a valid torrent: it has no files")]
    NoFiles,
    /// A file has a negative length.
    #[error("not a valid torrent: a file has a negative length")]
    NegativeLength,
    /// The total length exceeds the largest file offset.
    #[error("not a valid torrent: the total size of its files is too large")]
    TooBig,
    /// A name or path is not acceptable.
    #[error("refused: {0}")]
    Path(Box<dyn Error + Send + Sync>),
    /// The target of a symbolic link is outside the torrent. The value is the link's path.
    #[error("refused: the symbolic link `{0}` leads out of the torrent")]
    LinkLeaves(String),
}

impl From<BencodeError> for MetainfoError {
    fn from(error: BencodeError) -> MetainfoError {
        MetainfoError::Syntax(error.into())
    }
}

impl From<PathError> for MetainfoError {
    fn from(error: PathError) -> MetainfoError {
        MetainfoError::Path(error.into())
    }
}

impl From<ScanError> for MetainfoError {
    /// Leaves the path empty, because only [`Metainfo::read`] knows it and fills it in.
    fn from(error: ScanError) -> MetainfoError {
        match error {
            ScanError::Bencode(error) => error.into(),
            ScanError::Io(source) => MetainfoError::Io { path: PathBuf::new(), source },
        }
    }
}

impl MetainfoError {
    /// Whether the input is not even bencode, as opposed to bencode that is not a torrent.
    pub fn is_not_bencode(&self) -> bool {
        matches!(self, MetainfoError::Syntax(_) | MetainfoError::Empty | MetainfoError::WebPage)
    }
}
