//! What a torrent's dictionary says, checked: its name, its sums, its files.

use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::metainfo::decode::{File as RawFile, Files, Found, Info, Kind, Sink};
use crate::metainfo::distinct;
use crate::metainfo::paths::{self, PathError};
use crate::metainfo::torrent::error::TorrentError;
use crate::metainfo::torrent::{FileEntry, Makes, PIECE_MAX, Rare};

/// A torrent's name.
#[derive(Default)]
pub(super) struct Name {
    pub safe: String,
    /// With its dot, where it begins with one.
    pub hidden: Option<String>,
    /// As it stands in the torrent, where that is another one and can exist.
    pub original: Option<PathBuf>,
    pub is_utf8: bool,
}

impl Name {
    /// What a name becomes; `None` where it says nothing.
    pub fn of(bytes: &[u8]) -> Result<Option<Name>, PathError> {
        let Some(raw) = Some(bytes).filter(|raw| !matches!(*raw, b"" | b".")) else { return Ok(None) };
        let dotted = paths::safe_component(raw)?;
        let safe = paths::without_dot(&dotted);
        let is_own = paths::is_our_own(&dotted);
        let (safe, hidden) = match safe {
            Some(safe) => (safe, (!is_own).then_some(dotted)),
            None => (dotted, None),
        };
        let is_other = raw != safe.as_bytes() && paths::can_exist(raw) && !is_own;
        let original = is_other.then(|| PathBuf::from(OsStr::from_bytes(raw)));
        Ok(Some(Name { safe, hidden, original, is_utf8: std::str::from_utf8(raw).is_ok() }))
    }
}

/// The parts of `info`, checked.
pub(super) struct Sound {
    /// `None` where it has none.
    pub name: Option<Name>,
    pub piece_length: u32,
    /// Where the hashes lie.
    pub pieces: Range<usize>,
    /// Of a single file.
    pub length: u64,
    pub executable: bool,
    /// Of many.
    pub files: Option<Files>,
    pub private: bool,
}

impl Sound {
    pub fn check(info: Info) -> Result<Sound, TorrentError> {
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
        let name = match (info.name_utf8, info.name) {
            (Found::Is(name), _) if !name.is_empty() => Name::of(&name)?,
            (_, Found::Is(name)) => Name::of(&name)?,
            (_, Found::TooLong) => return Err(PathError::TooLong.into()),
            _ => None,
        };
        let length = name.as_ref().map_or(paths::NAME_MAX, |name| name.safe.len());
        // Where there are files, what else is said of a length does not matter.
        let (files, single) = match info.files {
            Found::Is(files) if files.entries > 0 || !info.length.is_there() => (Some(below(length, files)?), 0),
            Found::Missing if !info.length.is_there() => return Err(TorrentError::NoLength),
            Found::Missing | Found::Is(_) => (None, single(info.length)?),
            files if matches!(info.length, Found::Is(_)) => {
                drop(files);
                (None, single(info.length)?)
            }
            files => return Err(files.need("files", "a list").map_or_else(|error| error, |_| TorrentError::NoFiles)),
        };
        let total = files.as_ref().map_or(Some(single), |files| files.sum).ok_or(TorrentError::TooBig)?;
        if !pieces.len().is_multiple_of(20) {
            return Err(TorrentError::PiecesLength(pieces.len()));
        }
        let (found, expected) = (pieces.len() as u64 / 20, total.div_ceil(u64::from(piece_length)));
        if found != expected {
            return Err(TorrentError::PieceCount { found, expected });
        }
        let executable = info.attr.ok().is_some_and(|attr| attr.contains(&b'x'));
        let private = info.private.ok().is_some_and(|p| p != 0);
        Ok(Sound { name, piece_length, pieces, length: single, executable, files, private })
    }
}

/// The length of a single file.
fn single(length: Found<i64>) -> Result<u64, TorrentError> {
    u64::try_from(length.need("length", "an integer")?).map_err(|_| TorrentError::NegativeLength)
}

/// The files, if they may lie in a folder whose name has so many bytes.
fn below(name: usize, mut files: Files) -> Result<Files, TorrentError> {
    if let Some(error) = files.error.take() {
        return Err(error);
    }
    if files.count == 0 {
        return Err(TorrentError::NoFiles);
    }
    if name + 1 + files.longest > paths::PATH_MAX {
        return Err(PathError::TooLong.into());
    }
    Ok(files)
}

/// The files as they go to the disk; those of a torrent of many lie in a folder of their own.
pub(super) fn entries(name: &str, length: u64, executable: bool, files: Option<Files>) -> Vec<FileEntry> {
    let Some(files) = files else { return vec![FileEntry { executable, ..FileEntry::new(name, length) }] };
    let Sink::Keep(mut kept) = files.sink else { return Vec::new() };
    let moved = distinct::settle(&mut kept);
    if moved > 0 {
        log::warn!("entries of the torrent that share a path and were given another name: {moved}");
    }
    let dangling = distinct::dangling(&kept);
    if !dangling.is_empty() {
        log::warn!(
            "symbolic links in the torrent that lead to none of its files, and are not made: {}",
            dangling.len()
        );
    }
    for link in dangling {
        kept.get_mut(link).into_iter().for_each(|file| file.kind = Kind::Pad);
    }
    let path = |path: &str| Path::new(name).join(path);
    let entry = |file: RawFile| {
        let makes = match &file.kind {
            Kind::Link(target) => Some(Makes::Link(path(target))),
            Kind::Folder => Some(Makes::Folder),
            _ => None,
        };
        let original = file.original.map(|raw| PathBuf::from(OsStr::from_bytes(&raw)));
        let is_rare = original.is_some() || makes.is_some();
        FileEntry {
            pad: !matches!(file.kind, Kind::File | Kind::Executable),
            executable: file.kind == Kind::Executable,
            rare: is_rare.then(|| Box::new(Rare { original, makes })),
            ..FileEntry::new(path(&file.path), file.length)
        }
    };
    kept.into_iter().map(entry).collect()
}
