//! Why a file is no torrent, in words for a person.

use std::io;
use std::path::PathBuf;

use crate::bencode::guard::BencodeError;
use crate::bencode::scan::ScanError;
use crate::metainfo::paths::PathError;
use crate::metainfo::torrent::TORRENT_FILE_MAX;

/// Why a file is not a torrent that we accept. Displays as one line that does not name the file, except for `Io`.
#[derive(Debug, thiserror::Error)]
pub enum MetainfoError {
    /// The file cannot be opened or read.
    #[error("{} cannot be read: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is a folder.
    #[error("is a folder, not a torrent file")]
    Folder,
    /// It has no bytes.
    #[error("the file is empty")]
    Empty,
    /// It is HTML.
    #[error("this is a web page, not a torrent")]
    WebPage,
    /// It is larger than [`TORRENT_FILE_MAX`].
    #[error("too large for a torrent file: more than {} MiB", TORRENT_FILE_MAX >> 20)]
    TooLarge,
    /// It is not bencode, or nested too deeply.
    #[error("{0}")]
    Syntax(#[from] BencodeError),
    /// It is bencode, but its outermost value or its `info` is no dictionary.
    #[error("not a torrent: no dictionary with an `info` dictionary in it")]
    NotADict,
    /// A key that must be there is not.
    #[error("not a sound torrent: `{0}` is missing")]
    Missing(&'static str),
    /// A key that is needed has a value of the wrong type.
    #[error("not a sound torrent: `{key}` is not {kind}")]
    Mistyped {
        /// Which key.
        key: &'static str,
        /// What its value must be.
        kind: &'static str,
    },
    /// A torrent of version 2 only (BEP 52).
    #[error("a torrent of version 2 only (BEP 52), which is not supported yet; a hybrid one would do")]
    V2Only,
    /// The piece length is zero, negative or larger than `PIECE_LENGTH_MAX`.
    #[error("not a sound torrent: a piece length of {0}")]
    PieceLength(i64),
    /// The length of `pieces` is no multiple of 20.
    #[error("not a sound torrent: `pieces` has {0} bytes, no multiple of 20")]
    PiecesLength(usize),
    /// There are more or fewer hashes than the files' lengths call for.
    #[error("not a sound torrent: {found} piece hashes where its files need {expected}")]
    PieceCount {
        /// Hashes in `pieces`.
        found: u64,
        /// Pieces that the total length makes.
        expected: u64,
    },
    /// Neither `length` nor `files` is there.
    #[error("not a sound torrent: it has neither `length` nor `files`")]
    NoLength,
    /// It names no file.
    #[error("not a sound torrent: it has no files")]
    NoFiles,
    /// A file has a negative length.
    #[error("not a sound torrent: a file of negative length")]
    NegativeLength,
    /// The sum of the lengths is beyond what a file offset can hold.
    #[error("not a sound torrent: its files are larger together than any disk")]
    TooBig,
    /// A name or path is refused.
    #[error("refused: {0}")]
    Path(#[from] PathError),
    /// A symbolic link that climbs out of the torrent.
    #[error("refused: the symbolic link `{0}` leads out of the torrent")]
    LinkLeaves(String),
}

impl From<ScanError> for MetainfoError {
    /// The path is not known here: [`Metainfo::read`] puts it in.
    fn from(error: ScanError) -> MetainfoError {
        match error {
            ScanError::Raw(error) => error.into(),
            ScanError::Io(source) => MetainfoError::Io { path: PathBuf::new(), source },
        }
    }
}

impl MetainfoError {
    /// Whether it fails already as bencode, rather than as a torrent.
    pub fn is_bencode(&self) -> bool {
        matches!(self, MetainfoError::Syntax(_) | MetainfoError::Empty | MetainfoError::WebPage)
    }
}
