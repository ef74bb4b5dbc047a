//! Where a byte of the torrent lies when not all of its files are wanted.
//!
//! A file that is not wanted does not appear on disk. Pieces that it shares with a wanted file are needed whole, though: to be
//! hashed, and to be given to others. So its bytes of such pieces lie in one *part file* beside the torrent's own files. Every
//! piece that holds bytes of two or more files has a slot in it, of a piece's length and in the torrent's order: the place of a
//! byte never depends on what was wanted when it was written. The part file is as sparse as the file system allows.

use std::fs::Metadata;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::storage::error::{Operation, StorageError};
use crate::storage::files::Storage;
use crate::storage::layout::{Layout, Span, Spans};
use crate::storage::ownership::{FileAction, Refusal};
use crate::storage::snapshot::{identity, is_same};
use crate::storage::survey::Survey;
use crate::types::{Bitfield, InfoHash, PieceIndex};

/// Bytes compared at once.
const COMPARE_CHUNK: usize = 64 * 1024;

/// The usual name of a torrent's part file, from the download folder on; hidden, and not to be taken for another torrent's.
pub fn part_name(info_hash: &InfoHash) -> PathBuf {
    PathBuf::from(format!(".{info_hash}.parts"))
}

/// Which files are wanted, and which of them lie in a file of their own.
#[derive(Debug, Default)]
pub(super) struct FilePlacement {
    /// One flag a file; where there is none, the file is wanted.
    wanted: Vec<bool>,
    /// Whether the file's bytes lie in a file of its own: it is wanted, or it was there before.
    own: Vec<bool>,
    /// The pieces that hold bytes of two or more files, in order: their place here is their slot.
    shared: Vec<u32>,
    /// The part file's, from the download folder on; empty where there is none.
    name: PathBuf,
    /// The bytes that the part file must have at least: what it had, and what was written.
    end: AtomicU64,
    /// The identity of the part file that was found or made; 0 where there was none.
    identity: AtomicU64,
    /// What was found is another program's, and is neither written to nor removed.
    is_foreign: AtomicBool,
    /// Files that are not written to, with the pieces whose bytes lie in the part file until they are compared; in order.
    compared: Vec<(usize, Vec<u32>)>,
    /// All of them were found to be right: they are read where they are.
    is_compared: AtomicBool,
}

/// Where a run of bytes lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Location {
    /// Padding: nowhere, and it reads as zeros.
    Pad,
    /// In an open file: the torrent's by its number, or the part file, whose number is the one behind the last.
    At {
        /// The number.
        slot: usize,
        /// Where in it the run starts.
        offset: u64,
    },
    /// In a file that is not wanted, and in no piece that is.
    Nowhere,
}

/// A run of bytes of one file that lie in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileRun {
    /// The torrent's file that they belong to.
    pub file: usize,
    pub place: Location,
    pub len: u64,
}

/// Bytes of a file that have room in the part file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PartRange {
    /// Where they start in the file.
    pub within: u64,
    /// Where they start in the part file.
    pub at: u64,
    pub len: u64,
}

impl FilePlacement {
    /// `there` says whether something of a file is on disk already, under its own name.
    fn new(layout: &Layout, wanted: &[bool], name: &Path, there: impl Fn(usize) -> bool) -> FilePlacement {
        let mut selection =
            FilePlacement { wanted: wanted.to_vec(), name: name.to_owned(), ..FilePlacement::default() };
        selection.own = (0..layout.files().len()).map(|file| selection.wants(file) || there(file)).collect();
        let mut last = None;
        for (file, spec) in layout.files().iter().enumerate() {
            let pieces = layout.pieces_of(file);
            if spec.pad || pieces.is_empty() {
                continue;
            }
            if last == Some(pieces.start) && selection.shared.last() != last.as_ref() {
                selection.shared.push(pieces.start);
            }
            last = pieces.end.checked_sub(1);
        }
        selection
    }

    pub fn wants(&self, file: usize) -> bool {
        self.wanted.get(file).copied().unwrap_or(true)
    }

    /// Whether the file's bytes lie in a file of its own.
    pub fn has_own_file(&self, file: usize) -> bool {
        self.own.get(file).copied().unwrap_or(true)
    }

    /// The file's bytes lie in the part file from now on, whatever stands under its own name.
    pub fn move_to_part_file(&mut self, file: usize) {
        if let Some(own) = self.own.get_mut(file) {
            *own = false;
        }
    }

    /// Whether this file's bytes of that piece lie in the part file, to be compared.
    fn is_in_part_file(&self, file: usize, piece: u32) -> bool {
        let pieces =
            self.compared.binary_search_by_key(&file, |(file, _)| *file).ok().and_then(|at| self.compared.get(at));
        !self.is_compared.load(Relaxed) && pieces.is_some_and(|(_, pieces)| pieces.contains(&piece))
    }

    /// Whether this file is still to be compared with what the part file has of it.
    pub fn is_undecided(&self, file: usize) -> bool {
        self.has_undecided() && self.compared.binary_search_by_key(&file, |(file, _)| *file).is_ok()
    }

    /// Whether files are still to be compared with what the part file has of them.
    pub fn has_undecided(&self) -> bool {
        !self.compared.is_empty() && !self.is_compared.load(Relaxed)
    }

    /// The part file's name; empty where there is none.
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// The bytes that the part file must have at least; 0 where it is not there.
    pub fn end(&self) -> u64 {
        self.end.load(Relaxed)
    }

    /// The part file was found with so many bytes.
    pub fn set_end(&self, end: u64) {
        self.end.store(end, Relaxed);
    }

    /// The part file was written up to there.
    pub fn reaches(&self, end: u64) {
        self.end.fetch_max(end, Relaxed);
    }

    /// This is the part file; `None` where there is none.
    pub fn set_identity(&self, identity: Option<u64>) {
        self.identity.store(identity.unwrap_or_default(), Relaxed);
    }

    /// Whether that file is the part file. Another one of its name is another program's.
    pub fn matches_part_file(&self, found: &Metadata) -> bool {
        let before = self.identity.load(Relaxed);
        before != 0 && is_same(before, identity(found))
    }

    /// What tells the part file from others, where it is there and btsync may write to it.
    pub fn identity(&self) -> Option<u64> {
        Some(self.identity.load(Relaxed)).filter(|identity| *identity != 0 && !self.is_foreign())
    }

    /// Whether the part file was found or made by now.
    pub fn has_part_file(&self) -> bool {
        self.identity.load(Relaxed) != 0
    }

    /// Whether the part file is where something of this file goes.
    pub fn in_parts(&self, layout: &Layout, file: usize) -> bool {
        (!self.has_own_file(file) || self.is_undecided(file)) && self.kept(layout, file).next().is_some()
    }

    /// The bytes of a file that have room in the part file: in its first and in its last piece, as others are its own.
    pub fn kept(&self, layout: &Layout, file: usize) -> impl Iterator<Item = PartRange> {
        let spec = layout.files().get(file).filter(|spec| !spec.pad);
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

    /// Says whether the part file that was found is another program's.
    pub fn set_foreign(&self, is_foreign: bool) {
        self.is_foreign.store(is_foreign, Relaxed);
    }

    /// What was last said of that.
    pub fn is_foreign(&self) -> bool {
        self.is_foreign.load(Relaxed)
    }

    /// Where each slot starts in the part file, and its piece.
    pub fn slots(&self, layout: &Layout) -> impl Iterator<Item = (u64, PieceIndex)> {
        let length = u64::from(layout.piece_length());
        self.shared.iter().enumerate().map(move |(slot, piece)| (slot as u64 * length, PieceIndex(*piece)))
    }

    /// Where a piece's slot starts in the part file.
    fn slot(&self, layout: &Layout, piece: u32) -> Option<u64> {
        let slot = self.shared.binary_search(&piece).ok()?;
        Some(slot as u64 * u64::from(layout.piece_length()))
    }
}

/// The runs of one range of the torrent, in order.
#[derive(Clone, Debug)]
pub(super) struct FileRuns<'a> {
    layout: &'a Layout,
    selection: &'a FilePlacement,
    spans: Spans<'a>,
    /// What is left of a span that lies in several places.
    rest: Option<Span>,
}

impl<'a> FileRuns<'a> {
    pub fn new(layout: &'a Layout, selection: &'a FilePlacement, offset: u64, len: u64) -> FileRuns<'a> {
        FileRuns { layout, selection, spans: layout.spans(offset, len), rest: None }
    }

    /// The first run of a span in a file of its own, where some pieces of some files lie in the part file.
    fn in_own(&mut self, span: Span) -> FileRun {
        let piece_length = u64::from(self.layout.piece_length());
        let at = self.layout.start_of(span.file) + span.offset;
        if self.selection.is_in_part_file(span.file, (at / piece_length) as u32) {
            return self.in_parts(span);
        }
        let len = span.len.min(piece_length - at % piece_length);
        if len < span.len {
            self.rest = Some(Span { offset: span.offset + len, len: span.len - len, ..span });
        }
        FileRun { file: span.file, place: Location::At { slot: span.file, offset: span.offset }, len }
    }

    /// The first run of a span in a file that has no file of its own; the rest is for later.
    fn in_parts(&mut self, span: Span) -> FileRun {
        let piece_length = u64::from(self.layout.piece_length());
        let at = self.layout.start_of(span.file) + span.offset;
        let within = at % piece_length;
        let len = span.len.min(piece_length - within);
        if len < span.len {
            self.rest = Some(Span { offset: span.offset + len, len: span.len - len, ..span });
        }
        let slot = self.selection.slot(self.layout, (at / piece_length) as u32);
        let parts = self.layout.files().len();
        let place = slot.map_or(Location::Nowhere, |slot| Location::At { slot: parts, offset: slot + within });
        FileRun { file: span.file, place, len }
    }
}

impl Iterator for FileRuns<'_> {
    type Item = FileRun;

    fn next(&mut self) -> Option<FileRun> {
        let span = self.rest.take().or_else(|| self.spans.next())?;
        let Span { file, offset, len } = span;
        if self.layout.files().get(file).is_some_and(|spec| spec.pad) {
            Some(FileRun { file, place: Location::Pad, len })
        } else if self.selection.has_own_file(file) {
            if self.selection.compared.is_empty() {
                return Some(FileRun { file, place: Location::At { slot: file, offset }, len });
            }
            Some(self.in_own(span))
        } else {
            Some(self.in_parts(span))
        }
    }
}

impl Storage {
    /// Only the files whose flag is set are wanted (one flag a file of the layout, padding included; a file without a flag is
    /// wanted). The others do not appear on disk: what is needed of them lies in the part file `part_name`, a plain name below
    /// the root (see [`part_name`](crate::storage::part_name)), which is made when the first such byte is written. Where something of
    /// an unwanted file is there already, under its own name and not longer than it should be, it is used as it is.
    ///
    /// To be called before [`Storage::prepare`], with the part file's name also where everything is wanted: an earlier
    /// selection may have left one. Looks at the disk, and changes nothing there.
    #[must_use]
    pub fn select(mut self, wanted: &[bool], part_name: &Path) -> Storage {
        let there = |file: usize| {
            let Some(spec) = self.layout.files().get(file).filter(|spec| !spec.pad) else { return true };
            let found = self.root.metadata(&spec.path);
            found.is_ok_and(|found| found.is_file() && found.len() > 0 && found.len() <= spec.length)
        };
        self.selection = FilePlacement::new(&self.layout, wanted, &self.part_file_name(part_name), there);
        self
    }

    /// Whether the file is wanted.
    pub fn wants(&self, file: usize) -> bool {
        self.selection.wants(file)
    }

    /// From now on the part file holds what is needed of ignored files, and those pieces of compared files that are not in `have`.
    pub fn redirect_to_part_file(&mut self, steps: &[FileAction], survey: &Survey, have: &Bitfield) {
        for (file, step) in steps.iter().enumerate() {
            match step {
                FileAction::Ignore => self.selection.move_to_part_file(file),
                FileAction::Compare => {
                    let lacking = self.layout.pieces_of(file).filter(|piece| !have.has(PieceIndex(*piece)));
                    self.selection.compared.push((file, lacking.collect()));
                }
                _ => {}
            }
        }
        if (self.selection.has_undecided() || steps.contains(&FileAction::Ignore))
            && let Some(parts) = survey.parts
        {
            self.selection.set_end(parts.size);
        }
        self.close();
    }

    /// All pieces are there: compares files that were not written to with what peers sent of them.
    ///
    /// # Errors
    /// [`StorageError::InTheWay`] with the first that differs; what the system says of one that cannot be read.
    pub fn compare_undecided(&self) -> Result<(), StorageError> {
        if !self.selection.has_undecided() {
            return Ok(());
        }
        let mut bytes = vec![0; COMPARE_CHUNK];
        let mut theirs = vec![0; COMPARE_CHUNK];
        for (file, pieces) in &self.selection.compared {
            let start = self.layout.start_of(*file);
            let kept = self.selection.kept(&self.layout, *file);
            let apart = kept.filter(|kept| {
                pieces.contains(&(((start + kept.within) / u64::from(self.layout.piece_length())) as u32))
            });
            for PartRange { within, len, .. } in apart {
                for at in (0..len).step_by(COMPARE_CHUNK) {
                    let count = (len - at).min(COMPARE_CHUNK as u64) as usize;
                    let (ours, theirs) = (&mut bytes[..count], &mut theirs[..count]);
                    self.read_exact_at(start + within + at, ours)?;
                    let own = self.handle(*file, false)?;
                    let read = own.file.read_exact_at(theirs, within + at);
                    read.map_err(|error| self.failed(Operation::Read, *file, error))?;
                    if ours != theirs {
                        return Err(self.in_the_way(*file, Refusal::Differs));
                    }
                }
            }
        }
        self.selection.is_compared.store(true, Relaxed);
        self.close();
        let mut files = 0..self.layout.files().len();
        if !files.any(|file| self.selection.in_parts(&self.layout, file)) {
            self.selection.set_end(0);
            self.remove_part_file();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
