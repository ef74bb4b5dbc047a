//! Validates a parsed info dictionary: its name, lengths and files.

use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::metainfo::decode::{DecodedFile, EntryKind, Field, FileList, FileSink, FileTree, Info};
use crate::metainfo::error::MetainfoError;
use crate::metainfo::paths::{self, PathError};
use crate::metainfo::torrent::{FileEntry, PIECE_LENGTH_MAX, RareFields, SpecialEntry, TorrentVersion};
use crate::metainfo::unique_paths;
use crate::types::BLOCK_SIZE;

/// A torrent's name in its several forms.
#[derive(Default)]
pub(crate) struct Name {
    pub safe: String,
    /// The safe name with its leading dot, if it has one and is not reserved for btsync's own files.
    pub hidden: Option<String>,
    /// The name as in the torrent, if it differs from `safe` and can exist on a disk.
    pub original: Option<PathBuf>,
    pub is_utf8: bool,
}

impl Name {
    /// Derives the forms of a name; `None` if the name is empty or `.`.
    pub fn of(bytes: &[u8]) -> Result<Option<Name>, PathError> {
        let Some(raw) = Some(bytes).filter(|raw| !matches!(*raw, b"" | b".")) else { return Ok(None) };
        let dotted = paths::safe_component(raw)?;
        let safe = paths::without_leading_dot(&dotted);
        let is_own = paths::is_reserved_name(&dotted);
        let (safe, hidden) = match safe {
            Some(safe) => (safe, (!is_own).then_some(dotted)),
            None => (dotted, None),
        };
        let is_other = raw != safe.as_bytes() && paths::can_exist(raw) && !is_own;
        let original = is_other.then(|| PathBuf::from(OsStr::from_bytes(raw)));
        Ok(Some(Name { safe, hidden, original, is_utf8: std::str::from_utf8(raw).is_ok() }))
    }
}

/// The validated fields of `info`.
pub(crate) struct CheckedInfo {
    pub version: TorrentVersion,
    /// `None` if the torrent has none.
    pub name: Option<Name>,
    /// The name as in the torrent; empty if it has none.
    pub raw_name: Vec<u8>,
    pub piece_length: u32,
    /// The position of the piece hashes in the input.
    pub pieces: Range<usize>,
    /// The length of a single file.
    pub length: u64,
    pub is_executable: bool,
    /// The files of a multi-file torrent.
    pub files: Option<FileList>,
    pub is_private: bool,
    /// The files of the v2 half, and their position in the input.
    pub tree: Option<(FileTree, Range<usize>)>,
}

impl CheckedInfo {
    pub fn check(info: Info) -> Result<CheckedInfo, MetainfoError> {
        let version = version_of(&info)?;
        let pieces = match version {
            TorrentVersion::V2 => 0..0,
            TorrentVersion::V1 | TorrentVersion::Hybrid => info.pieces.need("pieces", "a string")?,
        };
        let piece_length = piece_length(info.piece_length, version)?;
        let raw_name = match (info.name_utf8, info.name) {
            (Field::Is(name), _) if !name.is_empty() => name,
            (_, Field::Is(name)) => name,
            (_, Field::TooLong) => return Err(PathError::TooLong.into()),
            _ => Vec::new(),
        };
        let name = Name::of(&raw_name)?;
        let is_private = info.private.ok().is_some_and(|p| p != 0);
        let is_executable = info.attr.ok().is_some_and(|attr| attr.contains(&b'x'));
        let name_length = name.as_ref().map_or(paths::NAME_MAX, |name| name.safe.len());
        let tree = match version {
            TorrentVersion::V1 => None,
            TorrentVersion::V2 | TorrentVersion::Hybrid => {
                let tree = info.file_tree.need("file tree", "a dictionary")?;
                let list = check_path_lengths(name_length, tree.list)?;
                list.sum.ok_or(MetainfoError::TooBig)?;
                Some((FileTree { list, ..tree }, info.file_tree_range))
            }
        };
        let (files, length) = match version {
            TorrentVersion::V2 => (None, 0),
            TorrentVersion::V1 | TorrentVersion::Hybrid => v1_files(info.files, info.length, name_length)?,
        };
        if version != TorrentVersion::V2 {
            let total = files.as_ref().map_or(Some(length), |files| files.sum).ok_or(MetainfoError::TooBig)?;
            check_piece_count(pieces.len(), total, piece_length)?;
        }
        Ok(CheckedInfo {
            version,
            name,
            raw_name,
            piece_length,
            pieces,
            length,
            is_executable,
            files,
            is_private,
            tree,
        })
    }
}

/// The files of the v1 half, or the length of its single file. If there are files, `length` is ignored.
fn v1_files(
    files: Field<FileList>,
    length: Field<i64>,
    name_length: usize,
) -> Result<(Option<FileList>, u64), MetainfoError> {
    match files {
        Field::Is(files) if files.entries > 0 || !length.is_present() => {
            Ok((Some(check_path_lengths(name_length, files)?), 0))
        }
        Field::Missing if !length.is_present() => Err(MetainfoError::NoLength),
        Field::Missing | Field::Is(_) => Ok((None, single(length)?)),
        files if matches!(length, Field::Is(_)) => {
            drop(files);
            Ok((None, single(length)?))
        }
        files => Err(files.need("files", "a list").map_or_else(|error| error, |_| MetainfoError::NoFiles)),
    }
}

fn check_piece_count(hash_bytes: usize, total: u64, piece_length: u32) -> Result<(), MetainfoError> {
    if !hash_bytes.is_multiple_of(20) {
        return Err(MetainfoError::PiecesLength(hash_bytes));
    }
    let (found, expected) = (hash_bytes as u64 / 20, total.div_ceil(u64::from(piece_length)));
    if found == expected { Ok(()) } else { Err(MetainfoError::PieceCount { found, expected }) }
}

/// Which halves the torrent has. Newer versions are refused before anything else (BEP 52).
fn version_of(info: &Info) -> Result<TorrentVersion, MetainfoError> {
    match info.meta_version {
        Field::Is(version @ 3..) => Err(MetainfoError::UnknownVersion(version)),
        Field::Is(2) if info.pieces.is_present() => Ok(TorrentVersion::Hybrid),
        Field::Is(2) => Ok(TorrentVersion::V2),
        _ if info.file_tree.is_present() => Err(MetainfoError::Missing("meta version")),
        _ => Ok(TorrentVersion::V1),
    }
}

fn piece_length(claimed: Field<i64>, version: TorrentVersion) -> Result<u32, MetainfoError> {
    let claimed = claimed.need("piece length", "an integer")?;
    let is_allowed = |length: &u32| match version {
        TorrentVersion::V1 => *length > 0,
        TorrentVersion::V2 | TorrentVersion::Hybrid => length.is_power_of_two() && *length >= BLOCK_SIZE,
    };
    let length = u32::try_from(claimed).ok().filter(|length| *length <= PIECE_LENGTH_MAX).filter(is_allowed);
    length.ok_or(MetainfoError::PieceLength(claimed))
}

/// The length of a single-file torrent.
fn single(length: Field<i64>) -> Result<u64, MetainfoError> {
    u64::try_from(length.need("length", "an integer")?).map_err(|_| MetainfoError::NegativeLength)
}

/// The file list, if its paths stay within the limit below a torrent name of `name` bytes.
fn check_path_lengths(name: usize, mut files: FileList) -> Result<FileList, MetainfoError> {
    if let Some(error) = files.error.take() {
        return Err(error);
    }
    if files.count == 0 {
        return Err(MetainfoError::NoFiles);
    }
    if name + 1 + files.longest > paths::PATH_MAX {
        return Err(PathError::TooLong.into());
    }
    Ok(files)
}

/// The entries with their final paths. A multi-file torrent's files go into a folder with the torrent's name.
pub(crate) fn entries(name: &str, length: u64, is_executable: bool, files: Option<FileList>) -> Vec<FileEntry> {
    let Some(files) = files else { return vec![FileEntry { is_executable, ..FileEntry::new(name, length) }] };
    let FileSink::Collect(mut kept) = files.sink else { return Vec::new() };
    let moved = unique_paths::make_paths_unique(&mut kept);
    if moved > 0 {
        log::warn!("number of the torrent's files that get another name because they share a path: {moved}");
    }
    let dangling_links = unique_paths::dangling_links(&kept);
    if !dangling_links.is_empty() {
        log::warn!(
            "number of the torrent's symbolic links that btsync does not create because they lead to none of its files: {}",
            dangling_links.len()
        );
    }
    for link in dangling_links {
        kept.get_mut(link).into_iter().for_each(|file| file.kind = EntryKind::Pad);
    }
    let path = |path: &str| Path::new(name).join(path);
    let entry = |file: DecodedFile| {
        let special_entry = match &file.kind {
            EntryKind::Link(target) => Some(SpecialEntry::Link(path(target))),
            EntryKind::Folder => Some(SpecialEntry::Folder),
            _ => None,
        };
        let original = file.original.map(|raw| PathBuf::from(OsStr::from_bytes(&raw)));
        let is_rare = original.is_some() || special_entry.is_some();
        FileEntry {
            is_virtual: !matches!(file.kind, EntryKind::File | EntryKind::Executable),
            is_executable: file.kind == EntryKind::Executable,
            rare: is_rare.then(|| Box::new(RareFields { original, special_entry })),
            ..FileEntry::new(path(&file.path), file.length)
        }
    };
    kept.into_iter().map(entry).collect()
}
