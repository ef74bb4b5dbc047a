//! Finds complete files under another name than the one btsync would write to: the name in the torrent, before it was made
//! safe. So the creator of a torrent can seed the original folder. These files are only read, never written, and those in btsync's
//! own folders are not even read.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::metainfo::Metainfo;
use crate::storage::{self, Layout, PrivateFolders, StopCheck as _, Storage, StorageError};
use crate::torrent::TorrentConfig;
use crate::torrent::inner::TorrentInner;
use crate::torrent::resume_store::ResumeStore;
use crate::types::{Bitfield, PieceIndex};

/// The indices of files, each with another path at which the file may be.
type AlternativePaths = Vec<(usize, PathBuf)>;

/// Changes the layout so that files that are complete at another path are used there. Paths that the user chose for files stay.
///
/// # Errors
/// If an existing file cannot be read.
pub(crate) fn find(
    inner: &Arc<TorrentInner>,
    config: &TorrentConfig,
    metainfo: &Metainfo,
    layout: Layout,
    wanted: &[bool],
) -> Result<Layout, StorageError> {
    let placed = config.files.renamed_files.iter().filter_map(|(number, _)| usize::try_from(*number).ok());
    let placed: HashSet<usize> = placed.collect();
    let has_length = |path: &Path, length| fs::metadata(path).is_ok_and(|it| it.is_file() && it.len() == length);
    let mut private = PrivateFolders::new(&config.out_dir, &config.records.private_folders);
    let candidates = candidates(metainfo, |file, place| {
        let length = layout.files().get(file).map(|spec| spec.length);
        let is_stopped = inner.run.is_stopped();
        !is_stopped
            && !placed.contains(&file)
            && length.is_some_and(|length| has_length(&config.out_dir.join(place), length))
            && !private.covers_file(place)
    });
    if candidates.is_empty() {
        return Ok(layout);
    }
    let have = pieces_of(inner, config, metainfo, redirected(&layout, &candidates), wanted, &candidates)?;
    let complete: AlternativePaths =
        candidates.into_iter().filter(|(file, _)| layout.is_complete(*file, &have)).collect();
    Ok(redirected(&layout, &complete))
}

/// The layout with files at another path if they exist there and not at their own, unless they are in a `private` folder.
pub fn layout_as_found(metainfo: &Metainfo, layout: &Layout, folder: &Path, private: &[PathBuf]) -> Layout {
    let is_there = |path: &Path| fs::metadata(folder.join(path)).is_ok_and(|it| it.is_file());
    let is_missing = |file: usize| layout.files().get(file).is_some_and(|spec| !is_there(&spec.path));
    let mut private = PrivateFolders::new(folder, private);
    let fits = |file: usize, place: &Path| is_there(place) && is_missing(file) && !private.covers_file(place);
    redirected(layout, &candidates(metainfo, fits))
}

/// The first path of each file, other than its own, for which `fits` is true.
fn candidates(metainfo: &Metainfo, mut fits: impl FnMut(usize, &Path) -> bool) -> AlternativePaths {
    let is_odd = metainfo.hidden_name.is_some() || metainfo.original_name.is_some();
    let files =
        metainfo.files.iter().enumerate().filter(|(_, file)| !file.is_virtual && (is_odd || file.original().is_some()));
    let place = |(number, file)| {
        let places = metainfo.alternative_paths(file);
        Some((number, places.into_iter().find(|place| fits(number, place))?))
    };
    files.filter_map(place).collect()
}

fn redirected(layout: &Layout, places: &AlternativePaths) -> Layout {
    let mut layout = layout.clone();
    for (file, place) in places {
        // A path that is not made of plain names is not used.
        if layout.redirect(*file, place).is_ok() {
            layout.set_read_only(*file);
        }
    }
    layout
}

/// The pieces of the candidates that verify, by the resume data or else by their hashes.
fn pieces_of(
    inner: &Arc<TorrentInner>,
    config: &TorrentConfig,
    metainfo: &Metainfo,
    layout: Layout,
    wanted: &[bool],
    candidates: &AlternativePaths,
) -> Result<Bitfield, StorageError> {
    let asked: Vec<u32> = candidates.iter().flat_map(|(file, _)| layout.pieces_of(*file)).collect();
    let storage = inner.with_descriptor_wait(Storage::new(config.out_dir.clone(), layout, config.files.max_open_files));
    let storage = storage.select(wanted, &storage::part_name(&metainfo.info_hash));
    storage.allow_links_outside(&*inner.run);
    let mut known = Bitfield::full(metainfo.piece_count());
    let records = config.records.resume_folder.as_ref().filter(|_| !config.files.verifies_all);
    let resume_store =
        records.and_then(|folder| ResumeStore::new(folder, metainfo.info_hash, &config.out_dir, &storage, &*inner.run));
    let vouched = resume_store.map(|mut resume_store| resume_store.load_trusted_pieces(&storage));
    for piece in asked.into_iter().map(PieceIndex) {
        if vouched.as_ref().is_none_or(|vouched| !vouched.has(piece)) {
            known.clear(piece);
        }
    }
    storage::check_rest(&storage, &metainfo.pieces, &known, 0, &storage::CheckProgress::default(), &*inner.run)
}
