//! Maps the torrent's bytes to files and the part file if not all files are wanted.
//!
//! An unwanted file does not appear on disk. But pieces that it shares with a wanted file are needed as a whole, to hash them and
//! to upload them. So its bytes of such pieces are stored in one *part file* beside the torrent's own files. Every piece with
//! bytes of two or more files has a slot in it, as long as a piece, in the torrent's order: the position of a byte never depends
//! on which files were wanted when it was written. The part file is as sparse as the file system allows.

use std::fs::Metadata;
use std::path::{Path, PathBuf};

use crate::storage::files::Storage;
use crate::storage::layout::{Layout, Span, Spans};
use crate::storage::snapshot::{identity, is_same};
use crate::types::{InfoHash, PieceIndex};
use crate::util::atomics::{Counter, Flag};
use crate::util::cold_sort;

/// The default name of a torrent's part file, relative to the download folder: hidden, and distinct for each torrent.
pub fn part_name(info_hash: &InfoHash) -> PathBuf {
    PathBuf::from(format!(".{info_hash}.parts"))
}

/// Which files are wanted, and which of them have their own file on disk.
#[derive(Debug, Default)]
pub(super) struct FilePlacement {
    /// One flag per file; a file without a flag is wanted.
    wanted: Vec<bool>,
    /// Whether the file's bytes are in its own file: it is wanted, or existed before.
    own: Vec<bool>,
    /// The pieces with bytes of two or more files, in order; the index here is the slot.
    shared: Vec<u32>,
    /// The part file's path relative to the download folder; empty if there is none.
    name: PathBuf,
    /// The minimum length of the part file: its length when found, and the furthest byte written.
    part_file_length: Counter,
    /// The identity of the part file that was found or created; 0 if there is none.
    identity: Counter,
    /// Whether the file found belongs to another program: btsync never writes to it or removes it.
    is_foreign: Flag,
    /// Files that are not written to and whose bytes of some pieces are in the part file; in order.
    pub(super) compared: Vec<ComparedFile>,
}

/// A file that is not written to.
#[derive(Debug)]
pub(super) struct ComparedFile {
    pub file: usize,
    /// The pieces whose bytes are in the part file; in order.
    pub pieces: Vec<u32>,
    /// Whether the file has the same bytes: from then on it is read in place.
    pub is_equal: Flag,
}

/// Where a run of bytes is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Location {
    /// Padding: nowhere; reads as zeros.
    Pad,
    /// In an open file: a file of the torrent by its number, or the part file, whose number is the number of files.
    At {
        /// The file's number.
        file_index: usize,
        /// The start of the run in that file.
        offset: u64,
    },
    /// In an unwanted file, outside of all pieces that it shares.
    Nowhere,
}

/// A run of bytes of one file with one location.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileRun {
    /// The torrent's file that the bytes belong to.
    pub file: usize,
    pub location: Location,
    pub len: u64,
}

/// Bytes of a file that have room in the part file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PartRange {
    /// Their start in the file.
    pub within: u64,
    /// Their start in the part file.
    pub at: u64,
    pub len: u64,
}

impl FilePlacement {
    /// `there` says whether a file already has data on disk under its own name.
    fn new(layout: &Layout, wanted: &[bool], name: &Path, there: impl Fn(usize) -> bool) -> FilePlacement {
        let mut placement =
            FilePlacement { wanted: wanted.to_vec(), name: name.to_owned(), ..FilePlacement::default() };
        placement.own = (0..layout.files().len()).map(|file| placement.wants(file) || there(file)).collect();
        let mut last = None;
        for (file, spec) in layout.files().iter().enumerate() {
            let pieces = layout.pieces_of(file);
            if spec.is_pad || pieces.is_empty() {
                continue;
            }
            if last == Some(pieces.start) && placement.shared.last() != last.as_ref() {
                placement.shared.push(pieces.start);
            }
            last = pieces.end.checked_sub(1);
        }
        placement
    }

    pub fn wants(&self, file: usize) -> bool {
        self.wanted.get(file).copied().unwrap_or(true)
    }

    /// Whether the file's bytes are in its own file.
    pub fn has_own_file(&self, file: usize) -> bool {
        self.own.get(file).copied().unwrap_or(true)
    }

    /// From now on, the file's bytes are in the part file, whatever exists under its own name.
    pub fn move_to_part_file(&mut self, file: usize) {
        if let Some(own) = self.own.get_mut(file) {
            *own = false;
        }
        self.compared.retain(|compared| compared.file != file);
    }

    /// From now on, the file's bytes of these pieces are in the part file too, until they have been compared.
    pub fn compare(&mut self, file: usize, pieces: impl Iterator<Item = u32>) {
        let at = match self.compared.binary_search_by_key(&file, |compared| compared.file) {
            Ok(at) => at,
            Err(at) => {
                self.compared.insert(at, ComparedFile { file, pieces: Vec::new(), is_equal: Flag::default() });
                at
            }
        };
        if let Some(compared) = self.compared.get_mut(at) {
            compared.pieces.extend(pieces);
            cold_sort::sort(&mut compared.pieces);
            compared.pieces.dedup();
        }
    }

    /// The file's entry among those that must still be compared with their bytes in the part file.
    fn undecided(&self, file: usize) -> Option<&ComparedFile> {
        let at = self.compared.binary_search_by_key(&file, |compared| compared.file).ok()?;
        self.compared.get(at).filter(|compared| !compared.is_equal.is_set())
    }

    /// Whether this file's bytes of that piece are in the part file, to be compared.
    fn is_in_part_file(&self, file: usize, piece: u32) -> bool {
        self.undecided(file).is_some_and(|compared| compared.pieces.contains(&piece))
    }

    /// Whether this file must still be compared with its bytes in the part file, or differs from them.
    pub fn is_undecided(&self, file: usize) -> bool {
        self.undecided(file).is_some()
    }

    /// Whether any file must still be compared with its bytes in the part file, or differs from them.
    pub fn has_undecided(&self) -> bool {
        self.compared.iter().any(|compared| !compared.is_equal.is_set())
    }

    /// The part file's name; empty if there is none.
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// The minimum length of the part file; 0 if there is none.
    pub fn part_file_length(&self) -> u64 {
        self.part_file_length.get()
    }

    /// Sets the length that the part file was found with.
    pub fn set_part_file_length(&self, end: u64) {
        self.part_file_length.set(end);
    }

    /// Records that the part file was written up to `end`.
    pub fn extend_part_file_to(&self, end: u64) {
        self.part_file_length.raise(end);
    }

    /// Sets the part file's identity; `None` if there is no part file.
    pub fn set_identity(&self, identity: Option<u64>) {
        self.identity.set(identity.unwrap_or_default());
    }

    /// Whether `found` is the part file. Another file of its name belongs to another program.
    pub fn matches_part_file(&self, found: &Metadata) -> bool {
        let before = self.identity.get();
        before != 0 && is_same(before, identity(found))
    }

    /// The part file's identity, if it exists and btsync may write to it.
    pub fn identity(&self) -> Option<u64> {
        Some(self.identity.get()).filter(|identity| *identity != 0 && !self.is_foreign())
    }

    /// Whether the part file has been found or created.
    pub fn has_part_file(&self) -> bool {
        self.identity.get() != 0
    }

    /// Whether bytes of this file go to the part file.
    pub fn uses_part_file(&self, layout: &Layout, file: usize) -> bool {
        (!self.has_own_file(file) || self.is_undecided(file)) && self.part_ranges(layout, file).next().is_some()
    }

    /// The pieces of a file for whose bytes the part file has room.
    pub fn shared_pieces(&self, layout: &Layout, file: usize) -> impl Iterator<Item = u32> {
        let (start, length) = (layout.start_of(file), u64::from(layout.piece_length()));
        self.part_ranges(layout, file).map(move |kept| ((start + kept.within) / length) as u32)
    }

    /// The bytes of a file that have room in the part file: those in its first and its last piece, because it shares no others.
    pub fn part_ranges(&self, layout: &Layout, file: usize) -> impl Iterator<Item = PartRange> {
        let spec = layout.files().get(file).filter(|spec| !spec.is_pad);
        let pieces = spec.map_or(0..0, |_| layout.pieces_of(file));
        let start = layout.start_of(file);
        let end = start + spec.map_or(0, |spec| spec.length);
        let first = (!pieces.is_empty()).then_some(pieces.start);
        let last = pieces.end.checked_sub(1).filter(|last| *last > pieces.start);
        first.into_iter().chain(last).filter_map(move |piece| {
            let slot = self.slot(layout, piece)?;
            let begins = layout.offset(PieceIndex(piece), 0);
            let from = begins.max(start);
            let upto = (begins + u64::from(layout.piece_length())).min(end);
            Some(PartRange { within: from - start, at: slot + (from - begins), len: upto - from })
        })
    }

    /// Sets whether the part file that was found belongs to another program.
    pub fn set_foreign(&self, is_foreign: bool) {
        self.is_foreign.set(is_foreign);
    }

    /// Whether the part file belongs to another program.
    pub fn is_foreign(&self) -> bool {
        self.is_foreign.is_set()
    }

    /// Each slot's start in the part file, and its piece.
    pub fn slots(&self, layout: &Layout) -> impl Iterator<Item = (u64, PieceIndex)> {
        let length = u64::from(layout.piece_length());
        self.shared.iter().enumerate().map(move |(slot, piece)| (slot as u64 * length, PieceIndex(*piece)))
    }

    /// The start of a piece's slot in the part file.
    fn slot(&self, layout: &Layout, piece: u32) -> Option<u64> {
        let slot = self.shared.binary_search(&piece).ok()?;
        Some(slot as u64 * u64::from(layout.piece_length()))
    }
}

/// The runs of one range of the torrent, in order.
#[derive(Clone, Debug)]
pub(super) struct FileRuns<'a> {
    layout: &'a Layout,
    placement: &'a FilePlacement,
    spans: Spans<'a>,
    /// The rest of a span with several locations.
    rest: Option<Span>,
}

impl<'a> FileRuns<'a> {
    pub fn new(layout: &'a Layout, placement: &'a FilePlacement, offset: u64, len: u64) -> FileRuns<'a> {
        FileRuns { layout, placement, spans: layout.spans(offset, len), rest: None }
    }

    /// The first run of a span in a file on disk, if some pieces of some files are in the part file.
    fn next_own_run(&mut self, span: Span) -> FileRun {
        let piece_length = u64::from(self.layout.piece_length());
        let at = self.layout.start_of(span.file) + span.offset;
        if self.placement.is_in_part_file(span.file, (at / piece_length) as u32) {
            return self.next_part_run(span);
        }
        let len = span.len.min(piece_length - at % piece_length);
        if len < span.len {
            self.rest = Some(Span { offset: span.offset + len, len: span.len - len, ..span });
        }
        FileRun { file: span.file, location: Location::At { file_index: span.file, offset: span.offset }, len }
    }

    /// The first run of a span in a file without its own file on disk; keeps the rest for later.
    fn next_part_run(&mut self, span: Span) -> FileRun {
        let piece_length = u64::from(self.layout.piece_length());
        let at = self.layout.start_of(span.file) + span.offset;
        let within = at % piece_length;
        let len = span.len.min(piece_length - within);
        if len < span.len {
            self.rest = Some(Span { offset: span.offset + len, len: span.len - len, ..span });
        }
        let slot = self.placement.slot(self.layout, (at / piece_length) as u32);
        let part_file = self.layout.files().len();
        let location =
            slot.map_or(Location::Nowhere, |slot| Location::At { file_index: part_file, offset: slot + within });
        FileRun { file: span.file, location, len }
    }
}

impl Iterator for FileRuns<'_> {
    type Item = FileRun;

    fn next(&mut self) -> Option<FileRun> {
        let span = self.rest.take().or_else(|| self.spans.next())?;
        let Span { file, offset, len } = span;
        if self.layout.files().get(file).is_some_and(|spec| spec.is_pad) {
            Some(FileRun { file, location: Location::Pad, len })
        } else if self.placement.has_own_file(file) {
            if self.placement.compared.is_empty() {
                return Some(FileRun { file, location: Location::At { file_index: file, offset }, len });
            }
            Some(self.next_own_run(span))
        } else {
            Some(self.next_part_run(span))
        }
    }
}

impl Storage {
    /// Selects the files whose flag is set (one flag per file of the layout, including padding; a file without a flag is wanted).
    /// The others do not appear on disk: needed bytes of them go to the part file `part_name`, a plain name in the root folder
    /// (see [`part_name`](crate::storage::part_name)), which the first such write creates. If an unwanted file already exists
    /// under its own name, has data and is not too long, it is used as it is.
    ///
    /// Call it before [`Storage::survey`], with the part file's name even if everything is wanted: an earlier selection may have
    /// left a part file. Reads the disk, but does not change it.
    #[must_use]
    pub fn select(mut self, wanted: &[bool], part_name: &Path) -> Storage {
        let there = |file: usize| {
            let Some(spec) = self.layout.files().get(file).filter(|spec| !spec.is_pad) else { return true };
            let found = self.root.metadata(&spec.path);
            found.is_ok_and(|found| found.is_file() && found.len() > 0 && found.len() <= spec.length)
        };
        let own_folder = self.find_own_folder(part_name);
        let part_name = self.part_file_name(&own_folder.join(part_name));
        self.placement = FilePlacement::new(&self.layout, wanted, &part_name, there);
        self.own_folder = own_folder;
        self
    }

    /// Whether the file is wanted.
    pub fn wants(&self, file: usize) -> bool {
        self.placement.wants(file)
    }
}

#[cfg(test)]
mod tests;
