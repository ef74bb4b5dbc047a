//! A parsed and validated torrent file: code that holds a [`Metainfo`] can trust its sums, counts and paths.

use std::fs::File;
use std::io::{self, Cursor};
use std::path::{Path, PathBuf};

use crate::bencode::encode;
pub use crate::metainfo::TORRENT_FILE_MAX;
use crate::metainfo::error::MetainfoError;
use crate::types::{InfoHash, InfoHashV2, PieceIndex, Sha1Hash};
use load::{load, named_after, rewindable, unpacked};

mod colons;
mod layers;
mod load;
pub(crate) mod v2;
mod validate;

pub(crate) use layers::encode_layers;
pub use v2::{FileRoot, V2Hashes};

/// The largest piece length accepted, in bytes. No real torrent exceeds it, and a whole piece must fit in a buffer.
pub const PIECE_LENGTH_MAX: u32 = 512 << 20;

/// A torrent's metainfo (BEP 3).
///
/// ```
/// let bytes = b"d4:infod6:lengthi1e4:name1:x12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee";
/// let metainfo = btsync::Metainfo::from_bytes(bytes)?;
/// assert_eq!((metainfo.name.as_str(), metainfo.total(), metainfo.piece_count()), ("x", 1, 1));
/// # Ok::<(), btsync::MetainfoError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(not(feature = "internals"), non_exhaustive)]
pub struct Metainfo {
    /// What identifies the swarm: the SHA-1 of [`Metainfo::info`]; for a v2-only torrent, its SHA-256 shortened to 20 bytes.
    pub info_hash: InfoHash,
    /// The SHA-256 of [`Metainfo::info`], if the torrent has a v2 half (BEP 52).
    pub info_hash_v2: Option<InfoHashV2>,
    /// The hashes of the v2 half.
    pub(crate) v2: Option<Box<V2Hashes>>,
    /// The bytes of the info dictionary exactly as in the file.
    pub info: Vec<u8>,
    /// Trackers by tier (BEP 12); one tier if the file has only `announce`. No tier is empty and no URL occurs twice.
    pub tiers: Vec<Vec<String>>,
    /// The suggested name, made safe as a file name and for a terminal, and not hidden. If the torrent has none: the name of the
    /// torrent file, or else the info-hash.
    pub name: String,
    /// The name with its leading dot, if it has one and is not reserved for btsync's own files.
    pub hidden_name: Option<String>,
    /// The name as in the torrent, if it differs from `name` and can exist on a disk.
    pub original_name: Option<PathBuf>,
    /// Bytes per piece; the last piece may be shorter.
    pub piece_length: u32,
    /// The SHA-1 of every piece; none in a v2-only torrent.
    pub pieces: Vec<Sha1Hash>,
    /// DHT bootstrap nodes (BEP 5): host and port.
    pub nodes: Vec<(String, u16)>,
    /// The files, in the order of their bytes in the torrent.
    pub files: Vec<FileEntry>,
    /// Whether the torrent has a list of files, which go into a folder with the torrent's name.
    pub is_multi_file: bool,
    /// Whether peers may come only from its trackers (BEP 27).
    pub is_private: bool,
    /// The creator's comment; not sanitized for a terminal.
    pub comment: Option<String>,
    /// The creating program; not sanitized for a terminal.
    pub created_by: Option<String>,
    /// The creation time in seconds since 1970; may be any number.
    pub creation_date: Option<i64>,
    /// Web seeds (BEP 19).
    pub web_seeds: Vec<String>,
    /// Web seeds that are scripts (BEP 17).
    pub http_seeds: Vec<String>,
}

/// Which versions of BitTorrent a torrent is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TorrentVersion {
    /// Version 1 (BEP 3).
    #[default]
    V1,
    /// Version 2 only (BEP 52).
    V2,
    /// Both: two descriptions of the same files.
    Hybrid,
}

/// One entry of a torrent's file list: a file, or padding, a link or a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "internals"), non_exhaustive)]
pub struct FileEntry {
    /// The path below the output folder, made of safe components only. In a multi-file torrent it starts with the torrent's name.
    pub path: PathBuf,
    /// The length in bytes.
    pub length: u64,
    /// Whether the entry is not a regular file: padding (BEP 47), i.e. zeros that align the next file to a piece and are never
    /// stored, or a link or folder.
    pub is_virtual: bool,
    /// Whether the file is executable (BEP 47).
    pub is_executable: bool,
    /// Boxed because few entries have these fields, and a torrent may have half a million entries.
    rare: Option<Box<RareFields>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct RareFields {
    original: Option<PathBuf>,
    special_entry: Option<SpecialEntry>,
}

/// What an entry represents that is neither a file nor padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpecialEntry {
    /// A symbolic link to this path within the torrent (BEP 47).
    Link(PathBuf),
    /// An empty folder.
    Folder,
}

impl FileEntry {
    /// A regular file at this path.
    pub fn new(path: impl Into<PathBuf>, length: u64) -> FileEntry {
        FileEntry { path: path.into(), length, is_virtual: false, is_executable: false, rare: None }
    }

    /// The path below the torrent's name as in the torrent, if it differs from the safe path and can exist on a disk.
    pub fn original(&self) -> Option<&Path> {
        self.rare.as_ref()?.original.as_deref()
    }

    /// The link or folder to create instead of a file, if any.
    pub fn special_entry(&self) -> Option<&SpecialEntry> {
        self.rare.as_ref()?.special_entry.as_ref()
    }
}

impl Metainfo {
    /// The largest torrent file that is accepted, in bytes.
    pub const MAX_FILE_SIZE: usize = TORRENT_FILE_MAX;

    /// Parses the bytes of a torrent file, which may be gzip-compressed.
    ///
    /// # Errors
    /// If they are not bencode, or not a valid torrent.
    pub fn from_bytes(bytes: &[u8]) -> Result<Metainfo, MetainfoError> {
        let unpacked = Metainfo::unpack(bytes.to_vec());
        Metainfo::parse(&unpacked.map_err(|source| MetainfoError::Io { path: PathBuf::new(), source })?)
    }

    /// Decompresses the bytes of a torrent file if they are gzip. Returns at most [`Metainfo::MAX_FILE_SIZE`] bytes and one more,
    /// so that parsing them detects a larger file.
    ///
    /// # Errors
    /// If they begin like gzip but are malformed.
    pub fn unpack(bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        unpacked(bytes)
    }

    /// Reads a torrent file, which may be gzip-compressed.
    ///
    /// # Errors
    /// If it cannot be read, is not bencode, or is not a valid torrent.
    pub fn read(path: &Path) -> Result<Metainfo, MetainfoError> {
        let io = |source| MetainfoError::Io { path: path.to_path_buf(), source };
        Metainfo::read_from(File::open(path).map_err(io)?, path)
    }

    /// Reads a torrent file that is already open. `path` is for error messages, and names a torrent that has no name of its own.
    ///
    /// # Errors
    /// As for [`Metainfo::read`].
    pub fn read_from(file: File, path: &Path) -> Result<Metainfo, MetainfoError> {
        let io = |source| MetainfoError::Io { path: path.to_path_buf(), source };
        let there = file.metadata().map_err(io)?;
        if there.is_dir() {
            return Err(MetainfoError::Folder);
        }
        // Only a regular file's name is meaningful, not a pipe's.
        let named = there.is_file().then(|| named_after(path)).flatten();
        load(&mut rewindable(file).map_err(io)?, named).map_err(|error| match error {
            MetainfoError::Io { source, .. } => io(source),
            error => error,
        })
    }

    /// Parses the bytes of a torrent file, without decompressing them.
    ///
    /// # Errors
    /// If they are not bencode, or not a valid torrent.
    pub fn parse(bytes: &[u8]) -> Result<Metainfo, MetainfoError> {
        load(&mut Cursor::new(bytes), None)
    }

    /// Which versions of BitTorrent the torrent is for.
    pub fn version(&self) -> TorrentVersion {
        match self.info_hash_v2 {
            None => TorrentVersion::V1,
            Some(hash) if hash.truncated() == self.info_hash => TorrentVersion::V2,
            Some(_) => TorrentVersion::Hybrid,
        }
    }

    /// The hashes of the v2 half.
    pub(crate) fn v2_hashes(&self) -> Option<&V2Hashes> {
        self.v2.as_deref()
    }

    /// Restores the leading dot of a hidden name, in the paths of all files too.
    pub fn restore_hidden_name(&mut self) {
        let Some(hidden) = self.hidden_name.take() else { return };
        for file in &mut self.files {
            file.path = renamed(&file.path, &hidden);
            if let Some(SpecialEntry::Link(target)) = file.rare.as_mut().and_then(|rare| rare.special_entry.as_mut()) {
                *target = renamed(target, &hidden);
            }
        }
        self.name = hidden;
    }

    /// Other paths below the output folder where a complete copy of a file may exist: under its creator's original names, or
    /// under the hidden name.
    pub fn alternative_paths(&self, file: &FileEntry) -> Vec<PathBuf> {
        let below = file.path.strip_prefix(&self.name).ok().filter(|below| !below.as_os_str().is_empty());
        let name = self.original_name.as_deref().unwrap_or(Path::new(&self.name));
        let at = |name: &Path, below: Option<&Path>| below.map_or_else(|| name.to_owned(), |below| name.join(below));
        let mut places = vec![at(name, file.original().or(below))];
        places.extend(self.hidden_name.as_ref().map(|hidden| at(Path::new(hidden), below)));
        places.retain(|place| *place != file.path);
        places.dedup();
        places
    }

    /// Builds a torrent from an info dictionary that peers sent (BEP 9), with the trackers and web seeds of the magnet link.
    ///
    /// # Errors
    /// If the dictionary is not that of a valid torrent.
    pub fn from_info(info: &[u8], tiers: Vec<Vec<String>>, web_seeds: Vec<String>) -> Result<Metainfo, MetainfoError> {
        let torrent = Metainfo::parse(&[b"d4:info", info, b"e"].concat())?;
        Ok(Metainfo { tiers, web_seeds, ..torrent })
    }

    /// Encodes a torrent file with this info dictionary, byte for byte, and these trackers and web seeds.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = b"d".to_vec();
        if let Some(first) = self.tiers.iter().flatten().next() {
            let tiers: Vec<_> = self.tiers.iter().filter(|tier| !tier.is_empty()).collect();
            encode::bytes(&mut out, b"announce");
            encode::bytes(&mut out, first.as_bytes());
            encode::bytes(&mut out, b"announce-list");
            encode::list(&mut out, &tiers, |out, tier| encode::strings(out, tier));
        }
        if !self.http_seeds.is_empty() {
            encode::bytes(&mut out, b"httpseeds");
            encode::strings(&mut out, &self.http_seeds);
        }
        encode::bytes(&mut out, b"info");
        out.extend_from_slice(&self.info);
        if let Some(layers) = self.v2.as_ref().and_then(|v2| v2.layers_to_bytes()) {
            encode::bytes(&mut out, b"piece layers");
            out.extend_from_slice(&layers);
        }
        if !self.web_seeds.is_empty() {
            encode::bytes(&mut out, b"url-list");
            encode::strings(&mut out, &self.web_seeds);
        }
        out.push(b'e');
        out
    }

    /// The total size of all files in bytes, pad files included; in a v2-only torrent, the gaps between files too.
    pub fn total(&self) -> u64 {
        self.files.iter().map(|file| file.length).sum()
    }

    /// The number of pieces.
    pub fn piece_count(&self) -> u32 {
        self.v2.as_ref().map_or(self.pieces.len() as u32, |v2| v2.piece_count())
    }

    /// The length of a piece in bytes; 0 if the index is out of range.
    pub fn piece_size(&self, piece: PieceIndex) -> u32 {
        let start = u64::from(piece.0) * u64::from(self.piece_length);
        self.total().saturating_sub(start).min(u64::from(self.piece_length)) as u32
    }
}

/// The path with its first component replaced.
fn renamed(path: &Path, name: &str) -> PathBuf {
    let below: PathBuf = path.iter().skip(1).collect();
    if below.as_os_str().is_empty() { PathBuf::from(name) } else { Path::new(name).join(below) }
}
