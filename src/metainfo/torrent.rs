//! A torrent file that has been read and found sound: whoever holds a [`Torrent`] may trust its sums, counts and paths.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use rustix::fs::MemfdFlags;
use sha1::{Digest, Sha1};

use crate::metainfo::decode::{Files, Found, Info, Sink, Top, Watch};
use crate::metainfo::paths::{self, PathError};
use crate::metainfo::raw::{FILE_DEPTH, RawError};
use crate::metainfo::scan::{ScanError, Scanner};
use crate::types::{InfoHash, PieceHash, PieceIndex};

/// The largest torrent file that is read, in bytes: room for one and a half million pieces, or half a million files.
pub const FILE_MAX: usize = 32 << 20;

/// What is read of a file at a time, in bytes.
const BUFFER: usize = 64 << 10;

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
    /// A symbolic link that does not lead to a path of the torrent.
    #[error("refused: the symbolic link `{0}` leads out of the torrent")]
    LinkLeaves(String),
}

impl From<ScanError> for TorrentError {
    /// The path is not known here: [`Torrent::read`] puts it in.
    fn from(error: ScanError) -> TorrentError {
        match error {
            ScanError::Raw(error) => error.into(),
            ScanError::Io(source) => TorrentError::Io { path: PathBuf::new(), source },
        }
    }
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
        let mut file = File::open(path).and_then(rewindable).map_err(io)?;
        load(&mut file).map_err(|error| match error {
            TorrentError::Io { source, .. } => io(source),
            error => error,
        })
    }

    /// Makes sense of the bytes of a torrent file.
    ///
    /// # Errors
    /// Where they are not bencode, or not a sound torrent.
    pub fn parse(bytes: &[u8]) -> Result<Torrent, TorrentError> {
        load(&mut Cursor::new(bytes))
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

/// A file that can be read more than once; of a pipe a copy outside of our memory.
fn rewindable(mut file: File) -> io::Result<File> {
    if file.stream_position().is_ok() {
        return Ok(file);
    }
    let mut copy = File::from(rustix::fs::memfd_create("torrent", MemfdFlags::CLOEXEC)?);
    io::copy(&mut file.take(FILE_MAX as u64 + 1), &mut copy)?;
    Ok(copy)
}

/// Reads it up to three times: all of it, to see whether it is sound; the files' paths, to see whether one is in another's way;
/// and `info`, to keep it. Only what is kept takes memory.
fn load(source: &mut (impl Read + Seek)) -> Result<Torrent, TorrentError> {
    let (top, info, range) = survey(source)?;
    if let Some(Files { sink: Sink::Hashes(hashes), .. }) = Sound::check(info)?.files {
        let mut part = part(source, &range)?;
        let watched = Info::read(
            &mut Scanner::new(BufReader::with_capacity(BUFFER, &mut part), FILE_DEPTH),
            Sink::Watch(Watch::new(hashes)),
        )?;
        Sound::check(watched.ok_or(TorrentError::NotADict)?)?;
    }
    let mut info = Vec::with_capacity(range.len());
    part(source, &range)?.read_to_end(&mut info).map_err(ScanError::Io)?;
    // Read from memory from here on: the file may be changed meanwhile.
    let kept = Info::read(&mut Scanner::new(info.as_slice(), FILE_DEPTH), Sink::Keep(Vec::new()))?;
    let sound = Sound::check(kept.ok_or(TorrentError::NotADict)?)?;
    let (hashes, _) = info.get(sound.pieces.clone()).unwrap_or_default().as_chunks::<20>();
    let mut web_seeds = top.url_list;
    retain_first(&mut web_seeds, &mut HashSet::new());
    Ok(Torrent {
        info_hash: InfoHash(Sha1::digest(&info).into()),
        tiers: tiers(top.announce, top.announce_list),
        piece_length: sound.piece_length,
        pieces: hashes.to_vec(),
        multi_file: sound.files.is_some(),
        private: sound.private,
        comment: text(top.comment),
        created_by: text(top.created_by),
        creation_date: top.creation_date,
        web_seeds,
        files: entries(&sound.name, sound.length, sound.files),
        name: sound.name,
        info,
    })
}

/// Reads all of it and keeps next to nothing.
fn survey(source: &mut (impl Read + Seek)) -> Result<(Top, Info, Range<usize>), TorrentError> {
    let size = source.seek(SeekFrom::End(0)).and_then(|size| source.rewind().map(|()| size)).map_err(ScanError::Io)?;
    // A device has no size.
    let reader = source.take(FILE_MAX as u64 + 1);
    let mut scanner = Scanner::new(BufReader::with_capacity(BUFFER, reader), FILE_DEPTH);
    let top = if size > FILE_MAX as u64 {
        Err(TorrentError::TooLarge)
    } else {
        Top::read(&mut scanner).map_err(TorrentError::from)
    };
    if scanner.at() > FILE_MAX {
        return Err(TorrentError::TooLarge);
    }
    let mut top = top?.ok_or(TorrentError::NotADict)?;
    let (info, range) = top.info.take().ok_or(TorrentError::NotADict)?;
    Ok((top, info, range))
}

fn part<'a, S: Read + Seek>(source: &'a mut S, range: &Range<usize>) -> Result<io::Take<&'a mut S>, TorrentError> {
    source.seek(SeekFrom::Start(range.start as u64)).map_err(ScanError::Io)?;
    Ok(source.take(range.len() as u64))
}

/// The parts of `info`, checked.
struct Sound {
    name: String,
    piece_length: u32,
    /// Where the hashes lie.
    pieces: Range<usize>,
    /// Of a single file.
    length: u64,
    /// Of many.
    files: Option<Files>,
    private: bool,
}

impl Sound {
    fn check(info: Info) -> Result<Sound, TorrentError> {
        let v2 = info.meta_version.ok().is_some_and(|version| version >= 2);
        if v2 && !info.pieces.is_there() {
            return Err(TorrentError::V2Only);
        }
        let pieces = info.pieces.need("pieces", "a string")?;
        let claimed = info.piece_length.need("piece length", "an integer")?;
        let piece_length = u32::try_from(claimed)
            .ok()
            .filter(|length| (1..=PIECE_MAX).contains(length))
            .ok_or(TorrentError::PieceLength(claimed))?;
        let name = if matches!(info.name_utf8, Found::Is(_)) { info.name_utf8 } else { info.name };
        let name = paths::safe_component(&name.need("name", "a string")?)?;
        let (total, length, files) = if info.files.is_there() {
            if info.length.is_there() {
                return Err(TorrentError::LengthAndFiles);
            }
            let files = below(&name, info.files.need("files", "a list")?)?;
            (files.sum.ok_or(TorrentError::TooBig)?, 0, Some(files))
        } else if info.length.is_there() {
            let length = info.length.need("length", "an integer")?;
            let length = u64::try_from(length).map_err(|_| TorrentError::NegativeLength)?;
            (length, length, None)
        } else {
            return Err(TorrentError::NoLength);
        };
        if !pieces.len().is_multiple_of(20) {
            return Err(TorrentError::PiecesLength(pieces.len()));
        }
        let (found, expected) = (pieces.len() as u64 / 20, total.div_ceil(u64::from(piece_length)));
        if found != expected {
            return Err(TorrentError::PieceCount { found, expected });
        }
        Ok(Sound { name, piece_length, pieces, length, files, private: info.private.ok().is_some_and(|p| p != 0) })
    }
}

/// The files, if they may lie in a folder of this name.
fn below(name: &str, mut files: Files) -> Result<Files, TorrentError> {
    if let Some(error) = files.error.take() {
        return Err(error);
    }
    if files.count == 0 {
        return Err(TorrentError::NoFiles);
    }
    if name.len() + 1 + files.longest > paths::PATH_MAX {
        return Err(PathError::TooLong.into());
    }
    Ok(files)
}

/// The files as they go to the disk; those of a torrent of many lie in a folder of their own.
fn entries(name: &str, length: u64, files: Option<Files>) -> Vec<FileEntry> {
    let Some(files) = files else { return vec![FileEntry { path: PathBuf::from(name), length, pad: false }] };
    if files.links > 0 {
        log::warn!("symbolic links in the torrent are left out: {}", files.links);
    }
    let Sink::Keep(kept) = files.sink else { return Vec::new() };
    let path = |path: &str| Path::new(name).join(path);
    kept.into_iter().map(|file| FileEntry { path: path(&file.path), length: file.length, pad: file.pad }).collect()
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
