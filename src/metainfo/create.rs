//! A torrent file from files on disk: find them, hash them, write it down. [`create`] does all; [`CreatePlan`] is the first step
//! alone, for whoever wants to know how much there is to hash before it begins.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::{fs, io, thread};

use sha1::{Digest, Sha1};

use crate::bencode::encode;
use crate::metainfo::edit::TopLevelEditor;
use crate::metainfo::glob::Glob;
use crate::metainfo::hashing;
use crate::metainfo::source_files;
use crate::metainfo::source_files::CreateEntry;
use crate::metainfo::torrent::{PIECE_LENGTH_MAX, TORRENT_FILE_MAX};
use crate::types::{InfoHash, PieceHash};

/// The smallest piece that we make, in bytes: one block.
pub const PIECE_LENGTH_MIN: u32 = 16 << 10;

/// The largest piece that is chosen when nobody asks for a larger one, in bytes.
const AUTO_PIECE_LENGTH_MAX: u32 = 16 << 20;

/// With more pieces than this the next larger piece is chosen.
const TARGET_PIECE_COUNT: u64 = 2000;

/// What goes into the torrent beside the files.
#[derive(Clone, Debug, Default)]
pub struct CreateOptions {
    /// Bytes in a piece, a power of two from [`PIECE_LENGTH_MIN`] on; chosen by size where not given.
    pub piece_length: Option<u32>,
    /// Trackers by tier (BEP 12).
    pub tiers: Vec<Vec<String>>,
    /// Whether peers may come from these trackers only (BEP 27).
    pub private: bool,
    /// Words for whoever gets it.
    pub comment: Option<String>,
    /// Web seeds (BEP 19).
    pub web_seeds: Vec<String>,
    /// Nodes through which to enter the DHT (BEP 5): a host's name or address, and a port.
    pub nodes: Vec<(String, u16)>,
    /// A word that gives the same files another info-hash, for another tracker's swarm.
    pub source: Option<String>,
    /// Whether padding lets every file begin with a piece (BEP 47).
    pub pad_files: bool,
    /// The program that makes it.
    pub created_by: Option<String>,
    /// When, in seconds since 1970.
    pub creation_date: Option<i64>,
    /// Threads that hash; 0 for one on each core.
    pub threads: usize,
}

/// A torrent that has been made.
#[derive(Clone, Debug, PartialEq)]
pub struct Created {
    /// The torrent file.
    pub bytes: Vec<u8>,
    /// What names its swarm.
    pub info_hash: InfoHash,
    /// Bytes in a piece.
    pub piece_length: u32,
    /// How many pieces there are.
    pub pieces: u32,
    /// Bytes of all files together, padding aside.
    pub total: u64,
}

/// Why no torrent was made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The source, or a folder in it, cannot be opened.
    #[error("{} cannot be opened: {source}", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file's length changed while the work was going on.
    #[error("{} changed while it was being hashed", path.display())]
    Changed {
        /// Which.
        path: PathBuf,
    },
    /// The source is neither a file nor a folder.
    #[error("{} is neither a file nor a folder", path.display())]
    Kind {
        /// The source.
        path: PathBuf,
    },
    /// A name cannot stand in a torrent.
    #[error("{}: the name cannot stand in a torrent: {why}", path.display())]
    Name {
        /// What bears it.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// There is no file in the folder, or all are excluded.
    #[error("{}: there is no file in it to share", path.display())]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// The torrent file would replace what it is made of.
    #[error("{} cannot be both the source and the torrent file", path.display())]
    Output {
        /// The source.
        path: PathBuf,
    },
    /// The piece length asked for is none.
    #[error("a piece length of {0}: it must be a power of two from {PIECE_LENGTH_MIN} to {PIECE_LENGTH_MAX}")]
    PieceLength(u32),
    /// So many or such large files that no torrent holds them.
    #[error("too large for one torrent, or too many pieces; larger pieces may help")]
    TooBig,
    /// Told to stop.
    #[error("interrupted")]
    Stopped,
}

/// What a torrent will be made of: the files found, in their order.
pub struct CreatePlan {
    name: String,
    multi_file: bool,
    files: Vec<CreateEntry>,
    total: u64,
    notes: Vec<String>,
}

/// Makes a torrent of the file or folder `source`, all of it. `progress` grows by the bytes hashed; setting `stop` ends the work.
///
/// # Errors
/// Where something cannot be read or named, there is nothing to share, or `stop` was set.
pub fn create(
    source: &Path,
    options: &CreateOptions,
    progress: &AtomicU64,
    stop: &AtomicBool,
) -> Result<Created, CreateError> {
    CreatePlan::scan(source, &[])?.create(options, progress, stop)
}

/// The piece length for so many bytes: a power of two that makes 1000 to 2000 pieces, within reason.
pub fn choose_piece_length(total: u64) -> u32 {
    let mut length = PIECE_LENGTH_MIN;
    while length < AUTO_PIECE_LENGTH_MAX && total.div_ceil(u64::from(length)) > TARGET_PIECE_COUNT {
        length *= 2;
    }
    length
}

impl CreatePlan {
    /// Finds the files, in the order of their names' bytes, but for those that a glob of `exclude` matches by their path below
    /// the source. Links within a folder and what is no regular file are left out with a note; an empty folder leaves no trace.
    ///
    /// # Errors
    /// Where something cannot be opened or named, or there is no file.
    pub fn scan(source: &Path, exclude: &[Glob]) -> Result<CreatePlan, CreateError> {
        CreatePlan::scan_without_output(source, exclude, |_| PathBuf::new())
    }

    /// The same, but the file that `output` makes of the torrent's name is left out: the torrent file, which is replaced.
    ///
    /// # Errors
    /// Those of [`CreatePlan::scan`]; [`CreateError::Output`] where the source itself is that file.
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
        let output = source_files::real(&output(&name));
        let files = if meta.is_file() {
            if output.is_some() && source_files::real(source) == output {
                return Err(CreateError::Output { path: source.to_path_buf() });
            }
            vec![CreateEntry { parts: Vec::new(), path: source.to_path_buf(), length: meta.len(), pad: false }]
        } else if meta.is_dir() {
            source_files::files(source, exclude, output.as_deref(), &mut notes)?
        } else {
            return Err(CreateError::Kind { path: source.to_path_buf() });
        };
        if files.is_empty() {
            return Err(CreateError::Empty { path: source.to_path_buf() });
        }
        let total = total(&files)?;
        Ok(CreatePlan { name, multi_file: meta.is_dir(), files, total, notes })
    }

    /// The name that the torrent will have.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes to hash.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// What whoever makes the torrent should know, a line each: what was left out, which name is awkward.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Hashes the files and makes the torrent. `progress` grows by the bytes hashed; setting `stop` ends the work.
    ///
    /// # Errors
    /// Where a file cannot be read or has changed, the piece length is none, or `stop` was set.
    pub fn create(
        &self,
        options: &CreateOptions,
        progress: &AtomicU64,
        stop: &AtomicBool,
    ) -> Result<Created, CreateError> {
        let piece_length = options.piece_length.unwrap_or_else(|| choose_piece_length(self.total));
        if !piece_length.is_power_of_two() || !(PIECE_LENGTH_MIN..=PIECE_LENGTH_MAX).contains(&piece_length) {
            return Err(CreateError::PieceLength(piece_length));
        }
        let padded = options.pad_files.then(|| source_files::padded(&self.files, piece_length));
        let files = padded.as_ref().unwrap_or(&self.files);
        // Found out now rather than after an hour of hashing.
        let pieces = total(files)?.div_ceil(u64::from(piece_length));
        if pieces > (TORRENT_FILE_MAX / 20) as u64 {
            return Err(CreateError::TooBig);
        }
        let threads = match options.threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let hashes = hashing::hash(files, piece_length, threads, progress, stop)?;
        let info = self.info(files, piece_length, &hashes, options);
        let bytes = encode_torrent(options, &info);
        if bytes.len() > TORRENT_FILE_MAX {
            return Err(CreateError::TooBig);
        }
        let info_hash = InfoHash(Sha1::digest(&info).into());
        Ok(Created { bytes, info_hash, piece_length, pieces: hashes.len() as u32, total: self.total })
    }

    /// The info dictionary, bencoded.
    fn info(&self, files: &[CreateEntry], piece_length: u32, hashes: &[PieceHash], options: &CreateOptions) -> Vec<u8> {
        let mut out = vec![b'd'];
        if self.multi_file {
            encode::bytes(&mut out, b"files");
            encode::list(&mut out, files, |out, file| {
                out.push(b'd');
                if file.pad {
                    encode::bytes(out, b"attr");
                    encode::bytes(out, b"p");
                }
                encode::bytes(out, b"length");
                encode::int(out, file.length);
                encode::bytes(out, b"path");
                encode::strings(out, &file.parts);
                out.push(b'e');
            });
        } else {
            encode::bytes(&mut out, b"length");
            encode::int(&mut out, self.total);
        }
        encode::bytes(&mut out, b"name");
        encode::bytes(&mut out, self.name.as_bytes());
        encode::bytes(&mut out, b"piece length");
        encode::int(&mut out, piece_length);
        encode::bytes(&mut out, b"pieces");
        encode::bytes(&mut out, hashes.as_flattened());
        if options.private {
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

/// The whole file around an info dictionary.
fn encode_torrent(options: &CreateOptions, info: &[u8]) -> Vec<u8> {
    let mut top = TopLevelEditor::default();
    top.trackers(&options.tiers);
    top.comment(options.comment.as_deref());
    top.created(options.created_by.as_deref(), options.creation_date);
    top.nodes(&options.nodes);
    top.web_seeds(&options.web_seeds);
    top.info(info);
    top.to_bytes()
}

/// The sum of the lengths, as far as a file offset (a signed 64-bit number) can hold it.
fn total(files: &[CreateEntry]) -> Result<u64, CreateError> {
    let sum = files.iter().try_fold(0u64, |sum, file| sum.checked_add(file.length));
    sum.filter(|&sum| i64::try_from(sum).is_ok()).ok_or(CreateError::TooBig)
}
