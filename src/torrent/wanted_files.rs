//! What of a torrent is wanted, in which order it comes and where it goes: the user's words made into flags for the storage and
//! a plan for the picker. Pure.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::metainfo::{Metainfo, SelectError};
use crate::storage::{FileSpec, Layout, LayoutError, is_reserved};
use crate::strategy::picker::Plan;
use crate::torrent::{Config, TorrentError, layout};
use crate::types::{Bitfield, PieceIndex};

/// See the module's head.
pub struct WantedFiles {
    /// Where each byte lies, with the names that the user gave.
    pub layout: Layout,
    /// A flag a file, padding included.
    pub wanted: Vec<bool>,
    /// What the picker is to do.
    pub plan: Plan,
    /// Files that are wanted, and all; without padding.
    pub files: (usize, usize),
    /// Bytes of all pieces that are wanted.
    pub bytes: u64,
}

impl WantedFiles {
    /// What the configuration makes of this torrent.
    ///
    /// # Errors
    /// Where the choice matches nothing, a file is given a place that it cannot have, or the files do not lie as the pieces say.
    pub fn new(torrent: &Metainfo, config: &Config) -> Result<WantedFiles, TorrentError> {
        let mut layout = layout(torrent)?;
        for (number, path) in &config.places {
            let file = usize::try_from(*number).unwrap_or(usize::MAX);
            if torrent.files.get(file).is_none_or(|file| file.pad) {
                return Err(SelectError::NoMatch((u64::from(*number) + 1).to_string()).into());
            }
            layout.rename(file, path).map_err(TorrentError::InvalidPath)?;
        }
        // A torrent must not bring its own marker, or that of another.
        let top = |spec: &FileSpec| spec.path.components().next().is_some_and(|name| is_reserved(name.as_ref()));
        if let Some((number, spec)) = layout.files().iter().enumerate().find(|(_, spec)| !spec.pad && top(spec)) {
            let error = LayoutError::Reserved { path: spec.path.clone() };
            let is_users = config.places.iter().any(|(place, _)| u32::try_from(number) == Ok(*place));
            return Err(if is_users { TorrentError::InvalidPath(error) } else { error.into() });
        }
        let wanted = config.files.choose(&torrent.files, torrent.multi_file)?;
        let shown = |(file, wanted): (&crate::metainfo::FileEntry, &bool)| (!file.pad).then_some(*wanted);
        let shown: Vec<bool> = torrent.files.iter().zip(&wanted).filter_map(shown).collect();
        let files = (shown.iter().filter(|wanted| **wanted).count(), shown.len());
        let plan = plan(&layout, &wanted, config);
        let bytes = plan.wanted.iter().map(|piece| u64::from(layout.piece_size(piece))).sum();
        Ok(WantedFiles { layout, wanted, plan, files, bytes })
    }
}

/// See [`TorrentHandle::place`](crate::torrent::Handle::place); empty where there is none. `placed` are the files to which the user gave places.
pub(crate) fn place(layout: &Layout, wanted: &[bool], has_folder: bool, placed: &[(u32, PathBuf)]) -> PathBuf {
    let is_placed = |file: usize| placed.iter().any(|(number, _)| u32::try_from(file) == Ok(*number));
    let is_wanted = |file: usize| wanted.get(file).is_some_and(|wanted| *wanted);
    let files = layout.files().iter().enumerate().filter(|(file, spec)| !spec.pad && is_wanted(*file));
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

/// The pieces of wanted files, and those that come first.
fn plan(layout: &Layout, wanted: &[bool], config: &Config) -> Plan {
    let mut plan = Plan::all(layout.piece_count());
    let pieces = || wanted.iter().enumerate().filter(|(_, wanted)| **wanted).map(|(file, _)| layout.pieces_of(file));
    if wanted.contains(&false) && !config.files.is_all() {
        let mut bits = Bitfield::new(layout.piece_count());
        pieces().flatten().for_each(|piece| _ = bits.set(PieceIndex(piece)));
        plan.wanted = bits;
    }
    if config.first_and_last {
        let ends = pieces().filter(|pieces| !pieces.is_empty()).flat_map(|pieces| [pieces.start, pieces.end - 1]);
        let mut known = HashSet::new();
        plan.early = ends.filter(|piece| known.insert(*piece)).map(PieceIndex).collect();
    }
    plan.sequential = config.sequential;
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_a_download_has_nothing_of_anybody_else() {
        let at = |paths: &[&str], has_folder, placed: &[u32]| {
            let spec = |path: &&str| FileSpec { path: path.into(), length: 1, pad: false };
            let layout = Layout::new(16, paths.iter().map(spec).collect()).unwrap();
            let placed: Vec<_> = placed.iter().map(|number| (*number, PathBuf::new())).collect();
            place(&layout, &vec![true; paths.len()], has_folder, &placed).display().to_string()
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
