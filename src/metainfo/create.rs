//! Creates a torrent file from files on disk in three steps: scan, hash, encode.
//! [`create`] does all three. [`CreatePlan`] is the scan alone, for a caller that wants to know how much there is to hash.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::{fs, thread};

use sha1::{Digest, Sha1};

use crate::bencode::encode;
use crate::hash::sha256;
use crate::metainfo::V2_PIECES_MAX;
use crate::metainfo::create_error::{CreateError, PIECE_LENGTH_MIN};
use crate::metainfo::edit::TopLevelEditor;
use crate::metainfo::glob::Glob;
use crate::metainfo::hashing;
use crate::metainfo::source_files;
use crate::metainfo::source_files::CreateEntry;
use crate::metainfo::torrent::{PIECE_LENGTH_MAX, TORRENT_FILE_MAX, TorrentVersion};
use crate::types::{InfoHash, InfoHashV2};
use v2::RootedFile;

mod v2;

/// The largest piece length that [`choose_piece_length`] returns, in bytes; callers can ask for larger pieces.
const AUTO_PIECE_LENGTH_MAX: u32 = 16 << 20;

/// [`choose_piece_length`] doubles the piece length while there are more pieces than this.
const TARGET_PIECE_COUNT: u64 = 2000;

/// The contents of a new torrent besides its files.
#[derive(Clone, Debug, Default)]
#[cfg_attr(not(feature = "internals"), non_exhaustive)]
pub struct CreateOptions {
    /// The version of BitTorrent.
    pub version: TorrentVersion,
    /// Bytes per piece, a power of two of at least 16 KiB; `None` chooses by the total size.
    pub piece_length: Option<u32>,
    /// Trackers by tier (BEP 12).
    pub tiers: Vec<Vec<String>>,
    /// Whether peers may come only from these trackers (BEP 27).
    pub is_private: bool,
    /// A comment for the torrent's users.
    pub comment: Option<String>,
    /// Web seeds (BEP 19).
    pub web_seeds: Vec<String>,
    /// DHT bootstrap nodes (BEP 5): a host name or address, and a port.
    pub nodes: Vec<(String, u16)>,
    /// A text in the info dictionary that gives the same files another info-hash, for use with another tracker.
    pub source: Option<String>,
    /// Whether to add pad files so that every file starts at a piece boundary (BEP 47). A hybrid torrent has them in any case; one
    /// for v2 only needs none.
    pub adds_pad_files: bool,
    /// The name of the creating program.
    pub created_by: Option<String>,
    /// The creation time, in seconds since 1970.
    pub creation_date: Option<i64>,
    /// The number of hashing threads; 0 for one per core.
    pub threads: usize,
}

/// A newly created torrent.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(not(feature = "internals"), non_exhaustive)]
pub struct CreatedTorrent {
    /// The bytes of the torrent file.
    pub bytes: Vec<u8>,
    /// The info-hash, which identifies the swarm; for v2 only, the v2 hash shortened to 20 bytes.
    pub info_hash: InfoHash,
    /// The info-hash of the v2 half.
    pub info_hash_v2: Option<InfoHashV2>,
    /// Bytes per piece.
    pub piece_length: u32,
    /// The number of pieces.
    pub pieces: u32,
    /// The total size of all files in bytes, without padding.
    pub total: u64,
}

/// The files to put into a torrent.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let source = folder.path().join("photos");
/// # std::fs::create_dir(&source)?;
/// # std::fs::write(source.join("1.jpg"), "x")?;
/// use std::sync::atomic::{AtomicBool, AtomicU64};
/// use btsync::create::{CreateOptions, CreatePlan};
///
/// let mut options = CreateOptions::default();
/// options.tiers = vec![vec!["http://tracker.example/announce".to_owned()]];
/// let plan = CreatePlan::scan(&source, &[])?;
/// let created = plan.create(&options, &AtomicU64::new(0), &AtomicBool::new(false))?;
/// assert_eq!(btsync::Metainfo::from_bytes(&created.bytes)?.info_hash, created.info_hash);
/// # Ok(())
/// # }
/// ```
///
/// It is the result of a scan: the files to put into a torrent, in order.
pub struct CreatePlan {
    name: String,
    is_multi_file: bool,
    files: Vec<CreateEntry>,
    total: u64,
    notes: Vec<String>,
}

/// Creates a torrent from the file or folder `source`, with nothing excluded. Adds the bytes hashed to `progress`; setting `stop`
/// aborts.
///
/// # Errors
/// If a file cannot be read, a name cannot be stored, there are no files, or `stop` was set.
#[cfg(any(test, feature = "internals"))]
pub fn create(
    source: &Path,
    options: &CreateOptions,
    progress: &AtomicU64,
    stop: &AtomicBool,
) -> Result<CreatedTorrent, CreateError> {
    CreatePlan::scan(source, &[])?.create(options, progress, stop)
}

/// The piece length for a torrent of `total` bytes: a power of two that gives 1000 to 2000 pieces, from [`PIECE_LENGTH_MIN`] up
/// to 16 MiB.
pub fn choose_piece_length(total: u64) -> u32 {
    let mut length = PIECE_LENGTH_MIN;
    while length < AUTO_PIECE_LENGTH_MAX && total.div_ceil(u64::from(length)) > TARGET_PIECE_COUNT {
        length *= 2;
    }
    length
}

impl CreatePlan {
    /// Finds the files below `source`, without those whose path below `source` matches a glob in `exclude`. Sorts them by their
    /// path components, byte by byte. Skips symbolic links and special files within a folder, with a note for each. Torrents
    /// cannot represent empty folders, so these are skipped, too.
    ///
    /// # Errors
    /// If a file or folder cannot be opened or a name cannot be stored, or if there are no files.
    pub fn scan(source: &Path, exclude: &[Glob]) -> Result<CreatePlan, CreateError> {
        CreatePlan::scan_without_output(source, exclude, |_| PathBuf::new())
    }

    /// Like [`CreatePlan::scan`], but skips the torrent file about to be written, whose path `output` derives from the torrent's
    /// name.
    ///
    /// # Errors
    /// Those of [`CreatePlan::scan`]; [`CreateError::Output`] if `source` itself is that file.
    pub fn scan_without_output(
        source: &Path,
        exclude: &[Glob],
        output: impl FnOnce(&str) -> PathBuf,
    ) -> Result<CreatePlan, CreateError> {
        let open = |e| CreateError::Open { path: source.to_path_buf(), source: e };
        let meta = fs::metadata(source).map_err(open)?;
        let named = match source.file_name() {
            Some(_) => source.to_path_buf(),
            None => fs::canonicalize(source).map_err(open)?,
        };
        let mut notes = Vec::new();
        let name = source_files::top_name_of(&named, &mut notes)?;
        let output = source_files::canonical_path(&output(&name));
        let files = if meta.is_file() {
            if output.is_some() && source_files::canonical_path(source) == output {
                return Err(CreateError::Output { path: source.to_path_buf() });
            }
            vec![CreateEntry::new(Vec::new(), source.to_path_buf(), &meta)]
        } else if meta.is_dir() {
            source_files::files(source, exclude, output.as_deref(), &mut notes)?
        } else {
            return Err(CreateError::Kind { path: source.to_path_buf() });
        };
        if files.is_empty() {
            return Err(CreateError::Empty { path: source.to_path_buf() });
        }
        let total = total(&files)?;
        Ok(CreatePlan { name, is_multi_file: meta.is_dir(), files, total, notes })
    }

    /// The torrent's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of bytes to hash.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Notes for the user, one line each: skipped files, and names that change when downloaded.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Hashes the files and creates the torrent. Adds the bytes hashed to `progress`; setting `stop` aborts.
    ///
    /// # Errors
    /// If a file cannot be read or has changed, the piece length is not valid, or `stop` was set.
    pub fn create(
        &self,
        options: &CreateOptions,
        progress: &AtomicU64,
        stop: &AtomicBool,
    ) -> Result<CreatedTorrent, CreateError> {
        let piece_length = options.piece_length.unwrap_or_else(|| choose_piece_length(self.total));
        if !piece_length.is_power_of_two() || !(PIECE_LENGTH_MIN..=PIECE_LENGTH_MAX).contains(&piece_length) {
            return Err(CreateError::PieceLength(piece_length));
        }
        let padded = match options.version {
            TorrentVersion::V1 if !options.adds_pad_files => None,
            TorrentVersion::V1 | TorrentVersion::V2 => Some(source_files::padded(&self.files, piece_length)),
            TorrentVersion::Hybrid => Some(v2::padded_behind(&self.files, piece_length)),
        };
        let files = padded.as_deref().unwrap_or(&self.files);
        // Fail now rather than after an hour of hashing.
        let pieces = total(files)?.div_ceil(u64::from(piece_length));
        let (hash_length, most) = match options.version {
            TorrentVersion::V1 => (20, u32::MAX),
            TorrentVersion::V2 => (32, V2_PIECES_MAX),
            TorrentVersion::Hybrid => (20 + 32, V2_PIECES_MAX),
        };
        if pieces > (TORRENT_FILE_MAX as u64 / hash_length).min(u64::from(most)) {
            return Err(CreateError::TooBig);
        }
        let threads = match options.threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let hashes = hashing::hash(files, piece_length, (options.version, threads), progress, stop)?;
        let has_v2 = options.version != TorrentVersion::V1;
        let rooted = has_v2.then(|| v2::rooted(&self.files, piece_length, hashes.v2));
        let v1 = (options.version != TorrentVersion::V2).then_some((files, hashes.v1.as_flattened()));
        let info = self.info(v1, rooted.as_deref(), piece_length, options);
        let bytes = encode_torrent(options, &info, rooted.as_deref());
        if bytes.len() > TORRENT_FILE_MAX {
            return Err(CreateError::TooBig);
        }
        let info_hash_v2 = has_v2.then(|| InfoHashV2(sha256(&info)));
        let info_hash = match info_hash_v2 {
            Some(hash) if v1.is_none() => hash.truncated(),
            _ => InfoHash(Sha1::digest(&info).into()),
        };
        Ok(CreatedTorrent { bytes, info_hash, info_hash_v2, piece_length, pieces: pieces as u32, total: self.total })
    }

    /// Encodes the info dictionary, with the files and hashes of the v1 half and the files of the v2 half.
    fn info(
        &self,
        v1: Option<(&[CreateEntry], &[u8])>,
        v2: Option<&[RootedFile<'_>]>,
        piece_length: u32,
        options: &CreateOptions,
    ) -> Vec<u8> {
        let mut out = vec![b'd'];
        if let Some(files) = v2 {
            encode::bytes(&mut out, b"file tree");
            v2::encode_tree(&mut out, &self.name, files);
        }
        if let Some((files, _)) = v1.filter(|_| self.is_multi_file) {
            encode::bytes(&mut out, b"files");
            encode::list(&mut out, files, |out, file| {
                out.push(b'd');
                if file.is_pad {
                    encode::bytes(out, b"attr");
                    encode::bytes(out, b"p");
                }
                encode::bytes(out, b"length");
                encode::int(out, file.length);
                encode::bytes(out, b"path");
                encode::strings(out, &file.parts);
                out.push(b'e');
            });
        } else if v1.is_some() {
            encode::bytes(&mut out, b"length");
            encode::int(&mut out, self.total);
        }
        if v2.is_some() {
            encode::bytes(&mut out, b"meta version");
            encode::int(&mut out, 2);
        }
        encode::bytes(&mut out, b"name");
        encode::bytes(&mut out, self.name.as_bytes());
        encode::bytes(&mut out, b"piece length");
        encode::int(&mut out, piece_length);
        if let Some((_, hashes)) = v1 {
            encode::bytes(&mut out, b"pieces");
            encode::bytes(&mut out, hashes);
        }
        if options.is_private {
            encode::bytes(&mut out, b"private");
            encode::int(&mut out, 1);
        }
        if let Some(source) = &options.source {
            encode::bytes(&mut out, b"source");
            encode::bytes(&mut out, source.as_bytes());
        }
        out.push(b'e');
        out
    }
}

/// Encodes the torrent file around an encoded info dictionary.
fn encode_torrent(options: &CreateOptions, info: &[u8], v2: Option<&[RootedFile<'_>]>) -> Vec<u8> {
    let mut top = TopLevelEditor::default();
    top.trackers(&options.tiers);
    top.comment(options.comment.as_deref());
    top.created(options.created_by.as_deref(), options.creation_date);
    top.nodes(&options.nodes);
    top.web_seeds(&options.web_seeds);
    top.info(info);
    let layers = v2.map(v2::encode_piece_layers);
    if let Some(layers) = &layers {
        top.piece_layers(layers);
    }
    top.to_bytes()
}

/// The sum of the lengths; an error if it exceeds the largest file offset (a signed 64-bit number).
fn total(files: &[CreateEntry]) -> Result<u64, CreateError> {
    let sum = files.iter().try_fold(0u64, |sum, file| sum.checked_add(file.length));
    sum.filter(|&sum| i64::try_from(sum).is_ok()).ok_or(CreateError::TooBig)
}

#[cfg(test)]
mod tests;
