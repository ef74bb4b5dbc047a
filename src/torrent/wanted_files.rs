//! Which files of a torrent are wanted, in which order and at which paths: turns the configuration into flags for the storage
//! and a plan for the picker. Pure.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::metainfo::{FileEntry, Metainfo, SelectError, SpecialEntry};
use crate::storage::{FileSpec, Layout, LayoutError, SpecialEntries, is_reserved};
use crate::strategy::picker::Plan;
use crate::torrent::{TorrentConfig, TorrentError};
use crate::types::{Bitfield, PieceIndex};

/// See the module's documentation.
pub struct WantedFiles {
    /// The torrent's layout, with the paths that the user gave.
    pub layout: Layout,
    /// For each file, including padding, whether it is wanted.
    pub wanted: Vec<bool>,
    /// The picker's plan.
    pub plan: Plan,
    /// How many files are wanted.
    pub files: FileCounts,
    /// Bytes of all wanted pieces.
    pub bytes: u64,
}

/// Numbers of files, without padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileCounts {
    /// The wanted files.
    pub wanted: usize,
    /// All files of the torrent.
    pub all: usize,
}

impl WantedFiles {
    /// Applies the configuration to this torrent.
    ///
    /// # Errors
    /// If the selection matches nothing, a file is given a path that it cannot have, or the files do not fit the pieces.
    pub fn new(metainfo: &Metainfo, config: &TorrentConfig) -> Result<WantedFiles, TorrentError> {
        let mut layout = layout(metainfo)?;
        for (number, _) in &config.files.renamed_files {
            let file = usize::try_from(*number).unwrap_or(usize::MAX);
            if metainfo.files.get(file).is_none_or(|file| file.is_virtual) {
                return Err(SelectError::NoMatch((u64::from(*number) + 1).to_string()).into());
            }
        }
        layout.rename_all(&config.files.renamed_files).map_err(TorrentError::InvalidPath)?;
        // A torrent must not contain its own marker, or that of another torrent.
        let top = |spec: &FileSpec| spec.path.components().next().is_some_and(|name| is_reserved(name.as_ref()));
        if let Some((number, spec)) = layout.files().iter().enumerate().find(|(_, spec)| !spec.is_pad && top(spec)) {
            let error = LayoutError::Reserved { path: spec.path.clone() };
            let is_users = config.files.renamed_files.iter().any(|(place, _)| u32::try_from(number) == Ok(*place));
            return Err(if is_users { TorrentError::InvalidPath(error) } else { error.into() });
        }
        let wanted = config.files.selection.choose(&metainfo.files, metainfo.is_multi_file)?;
        let shown = |(file, wanted): (&crate::metainfo::FileEntry, &bool)| (!file.is_virtual).then_some(*wanted);
        let shown: Vec<bool> = metainfo.files.iter().zip(&wanted).filter_map(shown).collect();
        let files = FileCounts { wanted: shown.iter().filter(|wanted| **wanted).count(), all: shown.len() };
        let plan = plan(&layout, &wanted, config);
        let bytes = plan.wanted.iter().map(|piece| u64::from(layout.piece_size(piece))).sum();
        Ok(WantedFiles { layout, wanted, plan, files, bytes })
    }
}

/// How the torrent's bytes are laid out in files, and which links and folders are created with them.
///
/// # Errors
/// If the torrent's lengths do not make a layout.
pub fn layout(metainfo: &Metainfo) -> Result<Layout, LayoutError> {
    let spec = |f: &FileEntry| FileSpec { path: f.path.clone(), length: f.length, is_pad: f.is_virtual };
    let layout = Layout::new(metainfo.piece_length, metainfo.files.iter().map(spec).collect())?;
    let mut special_entries = SpecialEntries::default();
    for file in &metainfo.files {
        match file.special_entry() {
            Some(SpecialEntry::Link(target)) => special_entries.links.push((file.path.clone(), target.clone())),
            Some(SpecialEntry::Folder) => special_entries.folders.push(file.path.clone()),
            None => {}
        }
    }
    let executable = metainfo.files.iter().enumerate().filter(|(_, file)| file.is_executable).map(|(number, _)| number);
    Ok(layout.with_special_entries(special_entries).with_executable(executable.collect()))
}

/// See [`TorrentHandle::content_path`](crate::torrent::TorrentHandle::content_path); empty if there is none. `placed` are the
/// files that the user gave paths.
pub(crate) fn content_path(layout: &Layout, wanted: &[bool], has_folder: bool, placed: &[(u32, PathBuf)]) -> PathBuf {
    let is_placed = |file: usize| placed.iter().any(|(number, _)| u32::try_from(file) == Ok(*number));
    let is_wanted = |file: usize| wanted.get(file).is_some_and(|wanted| *wanted);
    let files = layout.files().iter().enumerate().filter(|(file, spec)| !spec.is_pad && is_wanted(*file));
    let paths: Vec<(&Path, bool)> =
        files.filter_map(|(file, _)| Some((layout.final_name(file)?, is_placed(file)))).collect();
    let top = |path: &Path| path.iter().next().map(PathBuf::from);
    match paths.as_slice() {
        [(path, is_placed)] if *is_placed || !has_folder => path.to_path_buf(),
        [(first, _), ..] if paths.iter().all(|(path, is_placed)| !is_placed && top(path) == top(first)) => {
            top(first).unwrap_or_default()
        }
        _ => PathBuf::new(),
    }
}

/// The pieces of the wanted files, and those to download first.
fn plan(layout: &Layout, wanted: &[bool], config: &TorrentConfig) -> Plan {
    let mut plan = Plan::all(layout.piece_count());
    let pieces = || wanted.iter().enumerate().filter(|(_, wanted)| **wanted).map(|(file, _)| layout.pieces_of(file));
    if wanted.contains(&false) && !config.files.selection.is_all() {
        let mut bits = Bitfield::new(layout.piece_count());
        pieces().flatten().for_each(|piece| _ = bits.set(PieceIndex(piece)));
        plan.wanted = bits;
    }
    if config.files.prefers_first_and_last {
        let ends = pieces().filter(|pieces| !pieces.is_empty()).flat_map(|pieces| [pieces.start, pieces.end - 1]);
        let mut known = HashSet::new();
        plan.early = ends.filter(|piece| known.insert(*piece)).map(PieceIndex).collect();
    }
    plan.is_sequential = config.files.is_sequential;
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_download_folder_contains_no_file_of_others() {
        let at = |paths: &[&str], has_folder, placed: &[u32]| {
            let spec = |path: &&str| FileSpec { path: path.into(), length: 1, is_pad: false };
            let layout = Layout::new(16, paths.iter().map(spec).collect()).unwrap();
            let placed: Vec<_> = placed.iter().map(|number| (*number, PathBuf::new())).collect();
            content_path(&layout, &vec![true; paths.len()], has_folder, &placed).display().to_string()
        };
        assert_eq!(at(&["x"], false, &[]), "x");
        assert_eq!(at(&["films/y"], false, &[0]), "films/y");
        assert_eq!(at(&["t/d/a"], true, &[]), "t");
        assert_eq!(at(&["t/a", "t/d/b"], true, &[]), "t");
        assert_eq!(at(&["films/a"], true, &[0]), "films/a");
        assert_eq!(at(&["films/a", "t/b"], true, &[0]), "");
        assert_eq!(at(&["films/a", "films/b"], true, &[0, 1]), "", "the folder is the user's");
    }
}
