//! Maps pieces to spans of files (BEP 3: all files, end to end, form one sequence of bytes that is split into pieces). Pure
//! arithmetic.

use std::collections::HashSet;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use thiserror::Error;

use crate::storage::error::shown;
use crate::storage::special_entries::SpecialEntries;
use crate::types::{BLOCK_SIZE, Bitfield, PieceIndex};
use crate::util::cold_sort;

/// One file of a torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSpec {
    /// The path relative to the download folder; only plain names.
    pub path: PathBuf,
    /// The length in bytes.
    pub length: u64,
    /// Whether it is padding (BEP 47): zeros that never exist on disk.
    pub is_pad: bool,
}

/// A run of bytes within one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The file, as an index into [`Layout::files`].
    pub file: usize,
    /// The start of the run within the file, in bytes.
    pub offset: u64,
    /// The length of the run in bytes; never 0.
    pub len: u64,
}

/// Why a list of files is not a valid layout.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// The piece length is 0.
    #[error("the piece length is zero")]
    NoPieceLength,
    /// More bytes or pieces than can be addressed.
    #[error("the total size of the files is too large")]
    TooLarge,
    /// A path that is empty, absolute, or contains `.` or `..`.
    #[error("the path of file {number} contains a name that is not plain")]
    Path {
        /// The file's index.
        number: usize,
    },
    /// A path that btsync reserves for a marker or a part file, of this torrent or another.
    #[error("a file cannot be saved as {}: btsync reserves that name for itself", shown(.path))]
    Reserved {
        /// The path that was asked for.
        path: PathBuf,
    },
    /// The number of no file, or of padding.
    #[error("there is no file {number}")]
    NoFile {
        /// The number, from 0.
        number: usize,
    },
    /// Two files that cannot both exist.
    #[error("a file cannot be saved as {}: it conflicts with {}", shown(.path), shown(.other))]
    Taken {
        /// The path that was asked for.
        path: PathBuf,
        /// The other file's path: the same, or one of the two would have to be a folder.
        other: PathBuf,
    },
}

/// Maps each byte of a torrent to a file.
#[derive(Clone, Debug)]
pub struct Layout {
    piece_length: u32,
    pieces: u32,
    total: u64,
    files: Vec<FileSpec>,
    /// Each file's start in the torrent; as long as `files`, never decreasing.
    starts: Vec<u64>,
    /// The executable files, in order.
    executable: Vec<usize>,
    special_entries: SpecialEntries,
    /// The final names of files that have other names until the torrent is complete; in order of their numbers.
    final_names: Vec<(usize, PathBuf)>,
    /// Files that are complete under names that btsync never creates, in order.
    read_only: Vec<usize>,
}

impl Layout {
    /// The layout of `files`, in the torrent's order, with pieces of `piece_length` bytes.
    ///
    /// # Errors
    /// If the piece length is 0, the total exceeds the range of file offsets or piece indexes, or a path could lead outside of
    /// the download folder (padding has no path).
    pub fn new(piece_length: u32, files: Vec<FileSpec>) -> Result<Layout, LayoutError> {
        if piece_length == 0 {
            return Err(LayoutError::NoPieceLength);
        }
        let mut starts = Vec::with_capacity(files.len());
        let mut total = 0u64;
        for (number, file) in files.iter().enumerate() {
            if !file.is_pad && !plain(&file.path) {
                return Err(LayoutError::Path { number });
            }
            starts.push(total);
            total = total.checked_add(file.length).ok_or(LayoutError::TooLarge)?;
        }
        let pieces = u32::try_from(total.div_ceil(u64::from(piece_length))).map_err(|_| LayoutError::TooLarge)?;
        // The kernel's file offsets are signed.
        i64::try_from(total).map_err(|_| LayoutError::TooLarge)?;
        let (executable, special_entries, final_names, read_only) =
            (Vec::new(), SpecialEntries::default(), Vec::new(), Vec::new());
        Ok(Layout { piece_length, pieces, total, files, starts, executable, special_entries, final_names, read_only })
    }

    /// Adds links and folders; drops those whose path is not made of plain names.
    #[must_use]
    pub fn with_special_entries(mut self, mut special_entries: SpecialEntries) -> Layout {
        special_entries.links.retain(|(link, target)| plain(link) && plain(target));
        special_entries.folders.retain(|folder| plain(folder));
        self.special_entries = special_entries;
        self
    }

    /// Sets the executable files, by number in order.
    #[must_use]
    pub fn with_executable(mut self, files: Vec<usize>) -> Layout {
        self.executable = files;
        self
    }

    /// The links and folders besides the files.
    pub fn special_entries(&self) -> &SpecialEntries {
        &self.special_entries
    }

    /// Whether a file is executable.
    pub fn is_executable(&self, file: usize) -> bool {
        self.executable.binary_search(&file).is_ok()
    }

    /// The final names of files that have other names until all wanted files are complete.
    pub fn final_names(&self) -> &[(usize, PathBuf)] {
        &self.final_names
    }

    /// The final name of a file.
    pub fn final_name(&self, file: usize) -> Option<&Path> {
        let at = self.final_names.binary_search_by_key(&file, |(file, _)| *file).ok();
        let named = at.and_then(|at| self.final_names.get(at)).map(|(_, path)| path.as_path());
        named.or_else(|| self.files.get(file).map(|spec| spec.path.as_path()))
    }

    /// Sets a file's final name. Call it in the order of the files.
    pub(super) fn set_final_name(&mut self, file: usize, path: PathBuf) {
        self.final_names.push((file, path));
    }

    /// Makes the current names of these files their final names.
    pub(super) fn forget_final_names(&mut self, is_kept: impl Fn(usize) -> bool) {
        self.final_names.retain(|(file, _)| !is_kept(*file));
    }

    /// Marks a file that must never be written, whatever happens to it. Call it in the order of the files.
    pub fn set_read_only(&mut self, file: usize) {
        self.read_only.push(file);
    }

    /// Allows changes of the files for which `stays` is false.
    #[cfg_attr(not(feature = "service"), expect(dead_code, reason = "only the service removes and moves files"))]
    pub fn retain_read_only(&mut self, stays: impl Fn(usize) -> bool) {
        self.read_only.retain(|file| stays(*file));
    }

    /// Whether the file must never be written.
    pub fn is_read_only(&self, file: usize) -> bool {
        self.read_only.binary_search(&file).is_ok()
    }

    /// Redirects a file to another path, such as one where it is already complete. Several files may share a path.
    ///
    /// # Errors
    /// If there is no such file, or the path is not made of plain names.
    pub fn redirect(&mut self, file: usize, path: &Path) -> Result<(), LayoutError> {
        let spec = self.files.get_mut(file).filter(|spec| !spec.is_pad).ok_or(LayoutError::NoFile { number: file })?;
        if !plain(path) {
            return Err(LayoutError::Path { number: file });
        }
        path.clone_into(&mut spec.path);
        Ok(())
    }

    /// Gives files other paths, by their numbers: all at once, because a torrent may have hundreds of thousands of files.
    ///
    /// # Errors
    /// If there is no such file, a path is not made of plain names, or conflicts with another file afterwards: at that path, above
    /// it or below it. The layout then stays as it was.
    pub fn rename_all(&mut self, renamed: &[(u32, PathBuf)]) -> Result<(), LayoutError> {
        if renamed.is_empty() {
            return Ok(());
        }
        let (mut files, mut changed) = (self.files.clone(), HashSet::new());
        for (number, path) in renamed {
            let file = usize::try_from(*number).unwrap_or(usize::MAX);
            let spec = files.get_mut(file).filter(|spec| !spec.is_pad);
            let spec = spec.ok_or(LayoutError::NoFile { number: file })?;
            if !plain(path) {
                return Err(LayoutError::Path { number: file });
            }
            // Normalised as it will be opened, such as without a slash at the end.
            spec.path = path.components().collect();
            changed.insert(file);
        }
        let shown = files.iter().enumerate().filter(|(_, spec)| !spec.is_pad);
        let mut paths: Vec<(&Path, usize)> = shown.map(|(file, spec)| (spec.path.as_path(), file)).collect();
        // What is below a path follows it at once.
        cold_sort::sort(&mut paths);
        let mut pairs = paths.iter().zip(paths.iter().skip(1));
        if let Some(((above, _), (below, file))) = pairs.find(|((above, _), (below, _))| below.starts_with(above)) {
            let (path, other) = if changed.contains(file) { (below, above) } else { (above, below) };
            return Err(LayoutError::Taken { path: path.to_path_buf(), other: other.to_path_buf() });
        }
        self.files = files;
        Ok(())
    }

    /// The total length of all files in bytes, including padding.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The number of pieces.
    pub fn piece_count(&self) -> u32 {
        self.pieces
    }

    /// The length in bytes of every piece except perhaps the last.
    pub fn piece_length(&self) -> u32 {
        self.piece_length
    }

    /// The length of this piece in bytes: the last may be shorter; 0 if there is no such piece.
    pub fn piece_size(&self, piece: PieceIndex) -> u32 {
        let rest = self.total.saturating_sub(self.offset(piece, 0));
        u32::try_from(rest).unwrap_or(u32::MAX).min(self.piece_length)
    }

    /// The offset of byte `begin` of a piece in the torrent.
    pub fn offset(&self, piece: PieceIndex, begin: u32) -> u64 {
        u64::from(piece.0) * u64::from(self.piece_length) + u64::from(begin)
    }

    /// The pieces with bytes of this file; none if it is empty or does not exist.
    pub fn pieces_of(&self, file: usize) -> Range<u32> {
        let (Some(&start), Some(spec)) = (self.starts.get(file), self.files.get(file)) else { return 0..0 };
        let length = u64::from(self.piece_length);
        let first = (start / length) as u32;
        if spec.length == 0 { first..first } else { first..((start + spec.length - 1) / length) as u32 + 1 }
    }

    /// Whether all pieces of a file are in `have`.
    pub fn is_complete(&self, file: usize, have: &Bitfield) -> bool {
        self.pieces_of(file).all(|piece| have.has(PieceIndex(piece)))
    }

    /// The pieces that end with whole blocks of padding, and the number of those blocks: they need not be requested.
    pub fn padding(&self) -> Vec<(PieceIndex, u32)> {
        let mut padding = Vec::new();
        for (file, spec) in self.files.iter().enumerate().filter(|(_, spec)| spec.is_pad && spec.length > 0) {
            let (start, end) = (self.start_of(file), self.start_of(file) + spec.length);
            for piece in self.pieces_of(file).map(PieceIndex) {
                let (first, size) = (self.offset(piece, 0), self.piece_size(piece));
                let data = u32::try_from(start.saturating_sub(first)).unwrap_or(u32::MAX).min(size);
                let blocks = size.div_ceil(BLOCK_SIZE) - data.div_ceil(BLOCK_SIZE);
                if blocks > 0 && end >= first + u64::from(size) {
                    padding.push((piece, blocks));
                }
            }
        }
        padding
    }

    /// A file's start in the torrent, in bytes; the torrent's end if there is no such file.
    pub fn start_of(&self, file: usize) -> u64 {
        self.starts.get(file).copied().unwrap_or(self.total)
    }

    /// The files, in the torrent's order.
    pub fn files(&self) -> &[FileSpec] {
        &self.files
    }

    /// The spans of bytes `offset..offset + len` of the torrent, in order. Files of length zero have none; the part past the
    /// torrent's end is left out.
    pub fn spans(&self, offset: u64, len: u64) -> Spans<'_> {
        let end = offset.saturating_add(len).min(self.total);
        // Of several files with the same start, take the last: those before it are empty.
        let file = self.starts.partition_point(|&start| start <= offset).saturating_sub(1);
        Spans { layout: self, file, offset, end }
    }
}

/// The spans of one range, from [`Layout::spans`].
#[derive(Clone, Debug)]
pub struct Spans<'a> {
    layout: &'a Layout,
    file: usize,
    /// The next byte of the torrent.
    offset: u64,
    end: u64,
}

impl Iterator for Spans<'_> {
    type Item = Span;

    fn next(&mut self) -> Option<Span> {
        while self.offset < self.end {
            let file = self.file;
            let within = self.offset - self.layout.starts.get(file)?;
            let room = self.layout.files.get(file)?.length.saturating_sub(within);
            let len = room.min(self.end - self.offset);
            if len == room {
                self.file += 1;
            }
            self.offset += len;
            if len > 0 {
                return Some(Span { file, offset: within, len });
            }
        }
        None
    }
}

/// Whether a path is relative, not empty and only goes down.
fn plain(path: &Path) -> bool {
    let mut parts = path.components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests;
