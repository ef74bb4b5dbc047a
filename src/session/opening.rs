//! A torrent's files before anybody is talked to: made, looked at, hashed as far as nobody vouches for them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::Sender;

use super::choice::Choice;
use super::handle::Inner;
use super::host::Seat;
use super::keeper::Keeper;
use super::{Config, Event, SessionError, Stage, tell};
use crate::metainfo::Torrent;
use crate::storage::{self, FileSpec, Layout, LayoutError, Storage, StorageError};
use crate::swarm::picker::Plan;
use crate::types::{Bitfield, PieceIndex};

/// A torrent's files, as they were found.
pub(super) struct Opened {
    pub storage: Arc<Storage>,
    pub plan: Plan,
    pub have: Bitfield,
    pub keeper: Option<Keeper>,
}

/// Opens the torrent's files, looks at what is there, and whether there is room for what is not. `seat` sees to it that they are
/// nobody else's.
pub(super) fn open(
    inner: &Inner,
    config: &Config,
    torrent: &Torrent,
    seat: Option<&mut Seat>,
    events: &Sender<Event>,
) -> Result<Opened, SessionError> {
    let Choice { layout, wanted, plan, files: (files, of), bytes } = Choice::new(torrent, config)?;
    seat.map_or(Ok(()), |seat| seat.claim(config, &layout))?;
    if files < of {
        tell(events, Event::Selected { files, of, bytes });
    }
    let storage = Storage::new(config.out_dir.clone(), layout, config.max_open_files)
        .select(&wanted, &storage::part_name(&torrent.info_hash))
        .allocate(config.allocation);
    let storage = Arc::new(storage);
    let (have, keeper) = look(inner, config, &storage, torrent, &plan.wanted, events)?;
    if !inner.stop.load(Ordering::Acquire) {
        storage.check_room_for(&have, &plan.wanted)?;
    }
    let _ = inner.wanted.set(sizes(torrent, &plan.wanted, &have));
    Ok(Opened { storage, plan, have, keeper })
}

/// How the torrent's bytes lie in files.
pub(crate) fn layout(torrent: &Torrent) -> Result<Layout, LayoutError> {
    let spec = |f: &crate::metainfo::FileEntry| FileSpec { path: f.path.clone(), length: f.length, pad: f.pad };
    Layout::new(torrent.piece_length, torrent.files.iter().map(spec).collect())
}

/// Makes the files, and hashes what was there before: the pieces that are right. What the fast-resume record vouches for is not
/// hashed; without one there is more to do, and that is all.
fn look(
    inner: &Inner,
    config: &Config,
    disk: &Storage,
    torrent: &Torrent,
    wanted: &Bitfield,
    events: &Sender<Event>,
) -> Result<(Bitfield, Option<Keeper>), StorageError> {
    inner.enter(Stage::Checking);
    let prepared = disk.prepare_unless(&inner.stop)?;
    for what in prepared.repaired {
        tell(events, Event::Repaired { what });
    }
    let nothing = Bitfield::new(torrent.piece_count());
    if inner.stop.load(Ordering::Acquire) {
        return Ok((nothing, None));
    }
    let records = config.resume.as_ref();
    let mut keeper = records.and_then(|folder| Keeper::new(folder, torrent.info_hash, &config.out_dir, disk));
    let mut known = nothing;
    match &mut keeper {
        Some(keeper) if config.verify || prepared.found_bytes == 0 => keeper.distrust(),
        Some(keeper) => known = keeper.recall(disk),
        None => {}
    }
    if prepared.found_bytes == 0 && torrent.total() > 0 {
        return Ok((known, keeper));
    }
    let size = |pieces: &Bitfield| pieces.iter().map(|piece| u64::from(torrent.piece_size(piece))).sum::<u64>();
    if !known.is_full() {
        tell(events, Event::CheckStarted { bytes: torrent.total() - size(&known) });
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        known = storage::check_rest(disk, &torrent.pieces, &known, cores, &inner.check, &inner.stop)?;
        if let Some(keeper) = &mut keeper {
            keeper.checked(disk);
        }
    }
    let (total, have) = sizes(torrent, wanted, &known);
    tell(events, Event::Checked { have, total });
    Ok((known, keeper))
}

/// The bytes of the pieces that are wanted, and of those of them that are there.
fn sizes(torrent: &Torrent, wanted: &Bitfield, have: &Bitfield) -> (u64, u64) {
    let size = |piece: PieceIndex| u64::from(torrent.piece_size(piece));
    let there = |piece: &PieceIndex| have.has(*piece);
    (wanted.iter().map(size).sum(), wanted.iter().filter(there).map(size).sum())
}
