//! A torrent file from files on disk: find them, hash them, write it down. [`create`] does all; [`Plan`] is the first step
//! alone, for whoever wants to know how much there is to hash before it begins.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::{fs, thread};

use sha1::{Digest, Sha1};

use crate::metainfo::hashing::{self, Input};
use crate::metainfo::torrent::{FILE_MAX, PIECE_MAX};
use crate::metainfo::{encode, paths};
use crate::types::{InfoHash, PieceHash};

/// The smallest piece that we make, in bytes: one block.
pub const PIECE_MIN: u32 = 16 << 10;

/// The largest piece that is chosen when nobody asks for a larger one, in bytes.
const PIECE_CHOSEN_MAX: u32 = 16 << 20;

/// With more pieces than this the next larger piece is chosen.
const PIECES_AIM: u64 = 2000;

/// What goes into the torrent beside the files.
#[derive(Clone, Debug, Default)]
pub struct CreateOptions {
    /// Bytes in a piece, a power of two from [`PIECE_MIN`] on; chosen by size where not given.
    pub piece_length: Option<u32>,
    /// Trackers by tier (BEP 12).
    pub tiers: Vec<Vec<String>>,
    /// Whether peers may come from these trackers only (BEP 27).
    pub private: bool,
    /// Words for whoever gets it.
    pub comment: Option<String>,
    /// Web seeds (BEP 19).
    pub web_seeds: Vec<String>,
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
    /// Bytes of all files together.
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
    /// There is no file in the folder.
    #[error("{}: there is no file in it", path.display())]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// The piece length asked for is none.
    #[error("a piece length of {0}: it must be a power of two from {PIECE_MIN} to {PIECE_MAX}")]
    PieceLength(u32),
    /// So many or such large files that no torrent holds them.
    #[error("too large for one torrent, or too many pieces; larger pieces may help")]
    TooBig,
    /// Told to stop.
    #[error("interrupted")]
    Stopped,
}

/// What a torrent will be made of: the files found, in their order.
pub struct Plan {
    name: String,
    multi_file: bool,
    files: Vec<Input>,
    /// For each file its path below `name`.
    parts: Vec<Vec<String>>,
    total: u64,
}

/// Makes a torrent of the file or folder `source`. `progress` grows by the bytes hashed; setting `stop` ends the work.
///
/// # Errors
/// Where something cannot be read or named, there is nothing to share, or `stop` was set.
pub fn create(
    source: &Path,
    options: &CreateOptions,
    progress: &AtomicU64,
    stop: &AtomicBool,
) -> Result<Created, CreateError> {
    Plan::scan(source)?.create(options, progress, stop)
}

/// The piece length for so many bytes: a power of two that makes 1000 to 2000 pieces, within reason.
pub fn choose_piece_length(total: u64) -> u32 {
    let mut length = PIECE_MIN;
    while length < PIECE_CHOSEN_MAX && total.div_ceil(u64::from(length)) > PIECES_AIM {
        length *= 2;
    }
    length
}

impl Plan {
    /// Finds the files, in the order of their names' bytes. Links within a folder and what is no regular file are left out
    /// with a warning; an empty folder leaves no trace.
    ///
    /// # Errors
    /// Where something cannot be opened or named, or there is no file.
    pub fn scan(source: &Path) -> Result<Plan, CreateError> {
        let open = |e| CreateError::Open { path: source.to_path_buf(), source: e };
        let meta = fs::metadata(source).map_err(open)?;
        let named = match source.file_name() {
            Some(_) => source.to_path_buf(),
            None => fs::canonicalize(source).map_err(open)?,
        };
        let name = name_of(&named)?;
        let mut found = Vec::new();
        if meta.is_file() {
            found.push((Vec::new(), Input { path: source.to_path_buf(), length: meta.len() }));
        } else if meta.is_dir() {
            walk(source, &mut found)?;
            found.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        } else {
            return Err(CreateError::Kind { path: source.to_path_buf() });
        }
        if found.is_empty() {
            return Err(CreateError::Empty { path: source.to_path_buf() });
        }
        let (parts, files): (Vec<_>, Vec<Input>) = found.into_iter().unzip();
        let total = files
            .iter()
            .try_fold(0u64, |sum, file| sum.checked_add(file.length))
            .filter(|&sum| i64::try_from(sum).is_ok())
            .ok_or(CreateError::TooBig)?;
        Ok(Plan { name, multi_file: meta.is_dir(), files, parts, total })
    }

    /// The name that the torrent will have.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes to hash.
    pub fn total(&self) -> u64 {
        self.total
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
        if !piece_length.is_power_of_two() || !(PIECE_MIN..=PIECE_MAX).contains(&piece_length) {
            return Err(CreateError::PieceLength(piece_length));
        }
        // Found out now rather than after an hour of hashing.
        let pieces = self.total.div_ceil(u64::from(piece_length));
        if pieces > (FILE_MAX / 20) as u64 {
            return Err(CreateError::TooBig);
        }
        let threads = match options.threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let hashes = hashing::hash(&self.files, piece_length, threads, progress, stop)?;
        let info = self.info(piece_length, &hashes, options.private);
        let bytes = outermost(options, &info);
        if bytes.len() > FILE_MAX {
            return Err(CreateError::TooBig);
        }
        let info_hash = InfoHash(Sha1::digest(&info).into());
        Ok(Created { bytes, info_hash, piece_length, pieces: hashes.len() as u32, total: self.total })
    }

    /// The info dictionary, bencoded.
    fn info(&self, piece_length: u32, hashes: &[PieceHash], private: bool) -> Vec<u8> {
        let mut out = vec![b'd'];
        if self.multi_file {
            encode::bytes(&mut out, b"files");
            let files: Vec<_> = self.files.iter().zip(&self.parts).collect();
            encode::list(&mut out, &files, |out, (file, parts)| {
                out.push(b'd');
                encode::bytes(out, b"length");
                encode::int(out, file.length);
                encode::bytes(out, b"path");
                encode::strings(out, parts);
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
        if private {
            encode::bytes(&mut out, b"private");
            encode::int(&mut out, 1);
        }
        out.push(b'e');
        out
    }
}

/// The whole file around an info dictionary.
fn outermost(options: &CreateOptions, info: &[u8]) -> Vec<u8> {
    let mut out = vec![b'd'];
    let tiers: Vec<&Vec<String>> = options.tiers.iter().filter(|tier| !tier.is_empty()).collect();
    if let Some(first) = tiers.first().and_then(|tier| tier.first()) {
        encode::bytes(&mut out, b"announce");
        encode::bytes(&mut out, first.as_bytes());
    }
    if tiers.iter().map(|tier| tier.len()).sum::<usize>() > 1 {
        encode::bytes(&mut out, b"announce-list");
        encode::list(&mut out, &tiers, |out, tier| encode::strings(out, tier));
    }
    for (key, value) in [("comment", &options.comment), ("created by", &options.created_by)] {
        if let Some(value) = value {
            encode::bytes(&mut out, key.as_bytes());
            encode::bytes(&mut out, value.as_bytes());
        }
    }
    if let Some(date) = options.creation_date {
        encode::bytes(&mut out, b"creation date");
        encode::int(&mut out, date);
    }
    encode::bytes(&mut out, b"info");
    out.extend_from_slice(info);
    if !options.web_seeds.is_empty() {
        encode::bytes(&mut out, b"url-list");
        encode::strings(&mut out, &options.web_seeds);
    }
    out.push(b'e');
    out
}

/// Collects the regular files below `root`, in no order.
fn walk(root: &Path, found: &mut Vec<(Vec<String>, Input)>) -> Result<(), CreateError> {
    let mut folders = vec![(root.to_path_buf(), Vec::new())];
    while let Some((folder, parts)) = folders.pop() {
        let open = |e| CreateError::Open { path: folder.clone(), source: e };
        for entry in fs::read_dir(&folder).map_err(open)? {
            let entry = entry.map_err(open)?;
            let path = entry.path();
            // Of the entry itself, not of what a link leads to: nothing outside the folder is shared by mistake.
            let meta = entry.metadata().map_err(|e| CreateError::Open { path: path.clone(), source: e })?;
            if !meta.is_file() && !meta.is_dir() {
                log::warn!("{} is left out: neither a file nor a folder", paths::printable(&path.to_string_lossy()));
                continue;
            }
            let mut parts: Vec<String> = parts.clone();
            parts.push(name_of(&path)?);
            if parts.len() > paths::DEPTH_MAX {
                return Err(CreateError::Name { path, why: paths::PathError::TooDeep.to_string() });
            }
            if meta.is_dir() {
                folders.push((path, parts));
            } else {
                found.push((parts, Input { path, length: meta.len() }));
            }
        }
    }
    Ok(())
}

/// The last component's name as it will stand in the torrent.
fn name_of(path: &Path) -> Result<String, CreateError> {
    let refused = |why: &str| CreateError::Name { path: path.to_path_buf(), why: why.to_owned() };
    let name = path.file_name().ok_or_else(|| refused("there is none"))?;
    let name = name.to_str().ok_or_else(|| refused("it is not UTF-8"))?;
    let safe = paths::safe_component(name.as_bytes()).map_err(|e| refused(&e.to_string()))?;
    if safe != name {
        log::warn!("`{}` is an awkward name, which downloads as `{safe}`", paths::printable(name));
    }
    Ok(name.to_owned())
}
