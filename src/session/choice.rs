//! What of a torrent is wanted, in which order it comes and where it goes: the user's words made into flags for the storage and
//! a plan for the picker. Pure.

use std::collections::HashSet;

use super::{Config, SessionError, layout};
use crate::metainfo::{SelectError, Torrent};
use crate::storage::{FileSpec, Layout, LayoutError, is_reserved};
use crate::swarm::picker::Plan;
use crate::types::{Bitfield, PieceIndex};

/// See the module's head.
pub struct Choice {
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

impl Choice {
    /// What the configuration makes of this torrent.
    ///
    /// # Errors
    /// Where the choice matches nothing, a file is given a place that it cannot have, or the files do not lie as the pieces say.
    pub fn new(torrent: &Torrent, config: &Config) -> Result<Choice, SessionError> {
        let mut layout = layout(torrent)?;
        for (number, path) in &config.places {
            let file = usize::try_from(*number).unwrap_or(usize::MAX);
            if torrent.files.get(file).is_none_or(|file| file.pad) {
                return Err(SelectError::NoMatch((u64::from(*number) + 1).to_string()).into());
            }
            layout.rename(file, path).map_err(SessionError::Place)?;
        }
        // A torrent must not bring its own marker, or that of another.
        let top = |spec: &FileSpec| spec.path.components().next().is_some_and(|name| is_reserved(name.as_ref()));
        if let Some((number, spec)) = layout.files().iter().enumerate().find(|(_, spec)| !spec.pad && top(spec)) {
            let error = LayoutError::Reserved { path: spec.path.clone() };
            let is_users = config.places.iter().any(|(place, _)| u32::try_from(number) == Ok(*place));
            return Err(if is_users { SessionError::Place(error) } else { error.into() });
        }
        let wanted = config.files.choose(&torrent.files, torrent.multi_file)?;
        let shown = |(file, wanted): (&crate::metainfo::FileEntry, &bool)| (!file.pad).then_some(*wanted);
        let shown: Vec<bool> = torrent.files.iter().zip(&wanted).filter_map(shown).collect();
        let files = (shown.iter().filter(|wanted| **wanted).count(), shown.len());
        let plan = plan(&layout, &wanted, config);
        let bytes = plan.wanted.iter().map(|piece| u64::from(layout.piece_size(piece))).sum();
        Ok(Choice { layout, wanted, plan, files, bytes })
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
