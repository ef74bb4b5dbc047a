//! Checks a torrent's files without a download: what `btsync verify` does. Changes nothing on disk.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::hash::Kernels;
use crate::metainfo::{Metainfo, Selection};
use crate::storage::{self, CheckProgress, Layout, Storage};
use crate::torrent::TorrentError;
use crate::torrent::original_names::layout_as_found;
use crate::torrent::wanted_files::layout;
use crate::types::{Bitfield, PieceIndex};

/// Upper limit on open files.
const MAX_OPEN_FILES: usize = 64;

/// A check of a torrent's files in a folder, against the hashes of the torrent: those of v1, v2 or both.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # std::fs::write(folder.path().join("hello"), "hello")?;
/// # let plan = btsync::create::CreatePlan::scan(&folder.path().join("hello"), &[])?;
/// # let created = plan.create(&Default::default(), &Default::default(), &Default::default())?;
/// # let metainfo = btsync::Metainfo::from_bytes(&created.bytes)?;
/// use std::sync::atomic::AtomicBool;
/// let verifier = btsync::Verifier::new(&metainfo, folder.path())?;
/// assert!(verifier.run(&AtomicBool::new(false))?.is_complete());
/// # Ok(())
/// # }
/// ```
pub struct Verifier<'a> {
    metainfo: &'a Metainfo,
    folder: PathBuf,
    layout: Layout,
    selection: Selection,
    progress: CheckProgress,
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verification {
    /// The number of pieces that were checked.
    pub pieces: u32,
    /// The number of these whose hash is right.
    pub verified: u32,
    /// The files with flaws, in the torrent's order.
    pub files: Vec<FlawedFile>,
    /// Whether `stop` ended the check early, so that the result says nothing.
    pub is_interrupted: bool,
}

impl Verification {
    /// Whether every checked piece is right, and no file is too long.
    pub fn is_complete(&self) -> bool {
        self.files.is_empty() && self.verified == self.pieces
    }
}

/// What is wrong with one file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FlawedFile {
    /// Its path below the folder.
    pub path: PathBuf,
    /// The length that it should have, in bytes.
    pub length: u64,
    /// Its length on disk in bytes; `None` if it is missing.
    pub found: Option<u64>,
    /// Its ranges in pieces whose hash is wrong, in order. If such a piece spans several files, all of them are listed. In a
    /// hybrid, a piece must have both hashes. If the torrent lacks the hashes of a file's pieces (v2), the file is right or wrong
    /// as a whole.
    pub bad: Vec<Range<u64>>,
    /// Its ranges, in order, in pieces that cannot be hashed because another part of them is missing; they may be right.
    pub unknown: Vec<Range<u64>>,
}

impl<'a> Verifier<'a> {
    /// How this processor hashes fastest: the number of pieces at once, and the instructions.
    pub fn hash_kernel() -> String {
        Kernels::chosen().fastest().to_string()
    }

    /// A check of all files of the torrent below `folder`.
    ///
    /// # Errors
    /// [`TorrentError::Layout`] if the torrent's files do not fit its pieces.
    pub fn new(metainfo: &'a Metainfo, folder: &Path) -> Result<Verifier<'a>, TorrentError> {
        let layout = layout_as_found(metainfo, &layout(metainfo)?, folder, &[]);
        let (selection, progress) = (Selection::default(), CheckProgress::default());
        Ok(Verifier { metainfo, folder: folder.to_owned(), layout, selection, progress })
    }

    /// Checks only these files.
    #[must_use]
    pub fn selection(self, selection: Selection) -> Verifier<'a> {
        Verifier { selection, ..self }
    }

    /// Files that are missing may have this suffix, as those of an unfinished download have.
    #[must_use]
    pub fn incomplete_suffix(self, suffix: &str) -> Verifier<'a> {
        let exists = |path: &Path| fs::symlink_metadata(self.folder.join(path)).is_ok();
        let layout = self.layout.with_incomplete_suffix(suffix, |_, own, other| !exists(own) && exists(other));
        Verifier { layout, ..self }
    }

    /// The bytes to hash.
    pub fn total(&self) -> u64 {
        self.layout.total()
    }

    /// The bytes hashed so far by [`Verifier::run`] on another thread.
    pub fn progress(&self) -> u64 {
        self.progress.done.get()
    }

    /// The files that have the suffix of an unfinished one, by their paths below the folder.
    pub fn unfinished(&self) -> impl Iterator<Item = &Path> {
        self.layout.final_names().iter().filter_map(|(file, _)| Some(self.layout.files().get(*file)?.path.as_path()))
    }

    /// Which files are selected, by their index.
    ///
    /// # Errors
    /// [`TorrentError::Select`] if the selection does not fit the torrent.
    pub fn selected(&self) -> Result<Vec<bool>, TorrentError> {
        Ok(self.selection.choose(&self.metainfo.files, self.metainfo.is_multi_file)?)
    }

    /// Hashes the files with one thread per core. Returns early if `stop` becomes true.
    ///
    /// # Errors
    /// [`TorrentError::Select`] if the selection does not fit the torrent, [`TorrentError::Storage`] if a file cannot be read.
    pub fn run(&self, stop: &AtomicBool) -> Result<Verification, TorrentError> {
        let wanted = self.selected()?;
        let layout = &self.layout;
        let found = storage::lengths(&self.folder, layout)?;
        // Missing files may not have been selected: the part file then has what their neighbours need of them.
        let exists: Vec<bool> = found.iter().map(Option::is_some).collect();
        let files = Storage::new(self.folder.clone(), layout.clone(), MAX_OPEN_FILES);
        let files = files.select(&exists, &storage::part_name(&self.metainfo.info_hash));
        files.allow_links_outside(stop);
        let hashes = &self.metainfo.pieces;
        let have = match self.metainfo.v2_hashes() {
            Some(v2) => storage::check_v2(&files, v2, hashes, &self.progress, stop)?,
            None => storage::check(&files, hashes, 0, &self.progress, stop)?,
        };
        let mut pieces = Bitfield::new(layout.piece_count());
        if wanted.contains(&false) {
            let files = wanted.iter().enumerate().filter(|(_, wanted)| **wanted);
            files.flat_map(|(file, _)| layout.pieces_of(file)).for_each(|piece| _ = pieces.set(PieceIndex(piece)));
        } else {
            pieces = Bitfield::full(layout.piece_count());
        }
        let verified = pieces.iter().filter(|piece| have.has(*piece)).count() as u32;
        let mut flaws = storage::flaws(layout, &found, &have);
        flaws.retain(|flaw| wanted.get(flaw.file).is_none_or(|wanted| *wanted));
        let flawed = flaws.into_iter().filter_map(|flaw| {
            let file = layout.files().get(flaw.file)?;
            let (path, length) = (file.path.clone(), file.length);
            Some(FlawedFile { path, length, found: flaw.found, bad: flaw.bad, unknown: flaw.unknown })
        });
        let is_interrupted = stop.load(Ordering::Relaxed);
        Ok(Verification { pieces: pieces.count(), verified, files: flawed.collect(), is_interrupted })
    }
}
