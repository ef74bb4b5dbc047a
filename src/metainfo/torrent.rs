//! A torrent file that has been read and found sound: whoever holds a [`Torrent`] may trust its sums, counts and paths.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha1::{Digest, Sha1};

use crate::metainfo::decode::{self, RawInfo, RawTop};
use crate::metainfo::paths::{self, PathError};
use crate::metainfo::raw::{self, RawError};
use crate::types::{InfoHash, PieceHash, PieceIndex};

/// The largest torrent file that is read, in bytes: room for three million pieces.
pub const FILE_MAX: usize = 64 << 20;

/// The largest piece that is accepted, in bytes; nobody makes larger ones, and some buffer must hold them.
pub const PIECE_MAX: u32 = 512 << 20;

/// A torrent's metainfo (BEP 3).
#[derive(Clone, Debug, PartialEq)]
pub struct Torrent {
    /// The SHA-1 of [`Torrent::info`].
    pub info_hash: InfoHash,
    /// The bytes of the info value exactly as they stand in the file.
    pub info: Vec<u8>,
    /// Trackers by tier (BEP 12); of `announce` alone one tier of one. No tier is empty, no URL stands twice.
    pub tiers: Vec<Vec<String>>,
    /// The suggested name, made safe as a file name and for a terminal.
    pub name: String,
    /// Bytes in every piece but the last.
    pub piece_length: u32,
    /// The SHA-1 of every piece.
    pub pieces: Vec<PieceHash>,
    /// The files in the order in which their bytes follow each other.
    pub files: Vec<FileEntry>,
    /// Whether the files lie in a folder of their own.
    pub multi_file: bool,
    /// Whether peers may come from its trackers only (BEP 27).
    pub private: bool,
    /// What its maker says about it; not cleaned for a terminal.
    pub comment: Option<String>,
    /// The program that made it; not cleaned for a terminal.
    pub created_by: Option<String>,
    /// When it was made, in seconds since 1970; any number.
    pub creation_date: Option<i64>,
    /// Web seeds (BEP 19).
    pub web_seeds: Vec<String>,
}

/// One file of a torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Where it goes, from the output folder on; of checked components only. In a multi-file torrent it starts with the
    /// torrent's name.
    pub path: PathBuf,
    /// Its length in bytes.
    pub length: u64,
    /// Whether it is zeros that align the next file to a piece (BEP 47) and are never stored.
    pub pad: bool,
}

/// Why a file is not a torrent that we accept. Displays as one line that does not name the file, except for `Io`.
#[derive(Debug, thiserror::Error)]
pub enum TorrentError {
    /// The file cannot be opened or read.
    #[error("{} cannot be read: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is larger than [`FILE_MAX`].
    #[error("too large for a torrent file: more than {} MiB", FILE_MAX >> 20)]
    TooLarge,
    /// It is not bencode, or nested too deeply.
    #[error("{0}")]
    Syntax(#[from] RawError),
    /// It is bencode, but its outermost value or its `info` is no dictionary.
    #[error("not a torrent: no dictionary with an `info` dictionary in it")]
    NotADict,
    /// serde could not make sense of it.
    #[error("not a torrent: {0}")]
    Decode(String),
    /// A key that must be there is not, or has the wrong type.
    #[error("not a sound torrent: `{0}` is missing or has the wrong type")]
    Missing(&'static str),
    /// A torrent of version 2 only (BEP 52).
    #[error("a torrent of version 2 only (BEP 52), which is not supported yet; a hybrid one would do")]
    V2Only,
    /// The piece length is zero, negative or larger than [`PIECE_MAX`].
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
    /// Both `length` and `files` are there.
    #[error("not a sound torrent: it has both `length` and `files`")]
    LengthAndFiles,
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
    /// A symbolic link that also claims to have a length.
    #[error("refused: `{0}` is a symbolic link with a length")]
    Symlink(String),
}

impl TorrentError {
    /// Whether it fails already as bencode, rather than as a torrent.
    pub fn is_bencode(&self) -> bool {
        matches!(self, TorrentError::Syntax(_))
    }
}

impl Torrent {
    /// Reads a torrent file.
    ///
    /// # Errors
    /// Where it cannot be read, is not bencode, or is not a sound torrent.
    pub fn read(path: &Path) -> Result<Torrent, TorrentError> {
        let io = |source| TorrentError::Io { path: path.to_path_buf(), source };
        let mut bytes = Vec::new();
        // Not by the file's length: a device or a pipe has none.
        File::open(path).map_err(io)?.take(FILE_MAX as u64 + 1).read_to_end(&mut bytes).map_err(io)?;
        Torrent::parse(&bytes)
    }

    /// Makes sense of the bytes of a torrent file.
    ///
    /// # Errors
    /// Where they are not bencode, or not a sound torrent.
    pub fn parse(bytes: &[u8]) -> Result<Torrent, TorrentError> {
        if bytes.len() > FILE_MAX {
            return Err(TorrentError::TooLarge);
        }
        let outline = raw::outline(bytes)?;
        let info = outline.info.and_then(|range| bytes.get(range)).filter(|info| info.first() == Some(&b'd'));
        let (true, Some(info)) = (outline.is_dict, info) else { return Err(TorrentError::NotADict) };
        let top: RawTop = decode::decode(bytes)?;
        let sound = Sound::check(decode::decode(info)?)?;
        let mut web_seeds = top.url_list.0;
        retain_first(&mut web_seeds, &mut HashSet::new());
        Ok(Torrent {
            info_hash: InfoHash(Sha1::digest(info).into()),
            info: info.to_vec(),
            tiers: tiers(top.announce.0, top.announce_list.0),
            name: sound.name,
            piece_length: sound.piece_length,
            pieces: sound.pieces,
            files: sound.files,
            multi_file: sound.multi_file,
            private: sound.private,
            comment: text(top.comment),
            created_by: text(top.created_by),
            creation_date: top.creation_date,
            web_seeds,
        })
    }

    /// The torrent whose info dictionary came from the swarm (BEP 9), with what its magnet link says of trackers and web seeds.
    ///
    /// # Errors
    /// Where the dictionary makes no sound torrent.
    pub fn from_info(info: &[u8], tiers: Vec<Vec<String>>, web_seeds: Vec<String>) -> Result<Torrent, TorrentError> {
        let torrent = Torrent::parse(&[b"d4:info", info, b"e"].concat())?;
        Ok(Torrent { tiers, web_seeds, ..torrent })
    }

    /// A torrent file with this info dictionary, byte for byte, and these trackers and web seeds.
    pub fn to_bytes(&self) -> Vec<u8> {
        let string = |text: &str| [format!("{}:", text.len()).as_bytes(), text.as_bytes()].concat();
        let mut out = b"d".to_vec();
        if let Some(first) = self.tiers.iter().flatten().next() {
            out.extend([&b"8:announce"[..], &string(first), b"13:announce-listl"].concat());
            for tier in self.tiers.iter().filter(|tier| !tier.is_empty()) {
                out.push(b'l');
                out.extend(tier.iter().flat_map(|url| string(url)));
                out.push(b'e');
            }
            out.push(b'e');
        }
        out.extend([&b"4:info"[..], &self.info].concat());
        if !self.web_seeds.is_empty() {
            out.extend_from_slice(b"8:url-listl");
            out.extend(self.web_seeds.iter().flat_map(|url| string(url)));
            out.push(b'e');
        }
        out.push(b'e');
        out
    }

    /// Bytes of all files together, pad files included.
    pub fn total(&self) -> u64 {
        self.files.iter().map(|file| file.length).sum()
    }

    /// How many pieces there are.
    pub fn piece_count(&self) -> u32 {
        self.pieces.len() as u32
    }

    /// The length of a piece in bytes; 0 where there is no such piece.
    pub fn piece_size(&self, piece: PieceIndex) -> u32 {
        let start = u64::from(piece.0) * u64::from(self.piece_length);
        self.total().saturating_sub(start).min(u64::from(self.piece_length)) as u32
    }
}

/// The parts of `info`, checked.
struct Sound {
    name: String,
    piece_length: u32,
    pieces: Vec<PieceHash>,
    files: Vec<FileEntry>,
    multi_file: bool,
    private: bool,
}

impl Sound {
    fn check(info: RawInfo) -> Result<Sound, TorrentError> {
        let Some(pieces) = info.pieces else {
            let v2 = info.meta_version.is_some_and(|version| version >= 2);
            return Err(if v2 { TorrentError::V2Only } else { TorrentError::Missing("pieces") });
        };
        let claimed = info.piece_length.ok_or(TorrentError::Missing("piece length"))?;
        let piece_length = u32::try_from(claimed)
            .ok()
            .filter(|length| (1..=PIECE_MAX).contains(length))
            .ok_or(TorrentError::PieceLength(claimed))?;
        let name = info.name_utf8.or(info.name).ok_or(TorrentError::Missing("name"))?;
        let name = paths::safe_component(&name)?;
        let multi_file = info.has_files;
        let files = match (info.length, info.files.0) {
            (Some(_), _) if multi_file => return Err(TorrentError::LengthAndFiles),
            (Some(length), _) => {
                let length = u64::try_from(length).map_err(|_| TorrentError::NegativeLength)?;
                vec![FileEntry { path: PathBuf::from(&name), length, pad: false }]
            }
            (None, Some(files)) => rooted(&name, files?)?,
            (None, None) if multi_file => return Err(TorrentError::Missing("files")),
            (None, None) => return Err(TorrentError::NoLength),
        };
        let pieces = hashes(&pieces, total(&files)?, piece_length)?;
        Ok(Sound { name, piece_length, pieces, files, multi_file, private: info.private.is_some_and(|p| p != 0) })
    }
}

/// The files below the torrent's own folder, no two in each other's way.
fn rooted(name: &str, files: Vec<decode::File>) -> Result<Vec<FileEntry>, TorrentError> {
    if files.is_empty() {
        return Err(TorrentError::NoFiles);
    }
    let root = Path::new(name);
    let entry = |file: decode::File| FileEntry { path: root.join(file.path), length: file.length, pad: file.pad };
    let files: Vec<FileEntry> = files.into_iter().map(entry).collect();
    // Pad files are never stored, and many share a name.
    paths::check_collisions(files.iter().filter(|file| !file.pad).map(|file| file.path.as_path()))?;
    Ok(files)
}

/// The sum of the lengths, as far as a file offset (a signed 64-bit number) can hold it.
fn total(files: &[FileEntry]) -> Result<u64, TorrentError> {
    files
        .iter()
        .try_fold(0u64, |sum, file| sum.checked_add(file.length))
        .filter(|&sum| i64::try_from(sum).is_ok())
        .ok_or(TorrentError::TooBig)
}

fn hashes(pieces: &[u8], total: u64, piece_length: u32) -> Result<Vec<PieceHash>, TorrentError> {
    let (hashes, []) = pieces.as_chunks::<20>() else { return Err(TorrentError::PiecesLength(pieces.len())) };
    let (found, expected) = (hashes.len() as u64, total.div_ceil(u64::from(piece_length)));
    if found != expected {
        return Err(TorrentError::PieceCount { found, expected });
    }
    Ok(hashes.to_vec())
}

/// The tiers of `announce-list`, or else of `announce` (BEP 12).
fn tiers(announce: Vec<String>, mut list: Vec<Vec<String>>) -> Vec<Vec<String>> {
    if list.is_empty() {
        list.extend((!announce.is_empty()).then_some(announce));
    }
    let mut seen = HashSet::new();
    for tier in &mut list {
        retain_first(tier, &mut seen);
    }
    list.retain(|tier| !tier.is_empty());
    list
}

/// Drops what has been seen before.
fn retain_first(urls: &mut Vec<String>, seen: &mut HashSet<String>) {
    urls.retain(|url| seen.insert(url.clone()));
}

fn text(bytes: Option<Vec<u8>>) -> Option<String> {
    bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).filter(|text| !text.is_empty())
}
