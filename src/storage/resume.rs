//! Resume data: which pieces were verified at the last check, which blocks of other pieces were on disk, and each file's metadata
//! at that time. Pure: bytes ↔ values and the rules of trust; `torrent/resume_store.rs` reads and writes the file.
//!
//! Resume data is only a hint. It is trusted for a piece if the metadata of all its files is unchanged: size, times to the
//! nanosecond, inode. That proves something only if every change of a file changes its metadata, so a file is recorded under
//! conditions ([`is_stamp_trusted`]): its times are old enough that another change would give it new ones, and they are those of
//! our own last write, or those from before its pieces were hashed. btsync does not sync data before it writes resume data, so
//! data from another boot is not trusted: what the system had not yet written out survives our death, but not a power failure.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use crate::bencode::validate::BencodeError;
use crate::storage::layout::Layout;
use crate::storage::snapshot::{FileSnapshot, is_permanent};
use crate::types::{BLOCK_SIZE, Bitfield, InfoHash, PartialPiece, PieceIndex};

/// Marks the number of a file in [`ResumeData::owned_files`] that existed before btsync wrote to it. Earlier versions ignore such
/// entries.
pub const PREEXISTING: u32 = 1 << 31;
/// Twice the longest tick (10 ms) of the system clock, whose last tick is the time that file systems use; in nanoseconds.
pub const CLOCK_TICK: i64 = 20_000_000;
/// The coarsest steps in which a file system counts times (FAT: two seconds); in nanoseconds.
pub const COARSE_STEP: i64 = 2_000_000_000;
/// How old a time in coarse steps (FAT: two seconds) must be so that a later change of the file would get another one; in
/// nanoseconds.
pub const COARSE_SETTLING_TIME: i64 = 3_000_000_000;

/// A file's metadata; times in nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The length in bytes.
    pub size: u64,
    /// The modification time (mtime); anyone may set it.
    pub mtime: i64,
    /// The change time (ctime); nobody can set it.
    pub ctime: i64,
    /// The inode number: another file of the same name has another.
    pub inode: u64,
}

impl Stamp {
    /// Takes the stamp from a file's metadata.
    pub(crate) fn of(found: &Metadata) -> Option<Stamp> {
        let time = |seconds: i64, nanos: i64| seconds.checked_mul(1_000_000_000)?.checked_add(nanos);
        let mtime = time(found.mtime(), found.mtime_nsec())?;
        let ctime = time(found.ctime(), found.ctime_nsec())?;
        Some(Stamp { size: found.size(), mtime, ctime, inode: found.ino() })
    }

    /// Takes the stamp from a snapshot.
    pub(crate) fn of_snapshot(seen: &FileSnapshot) -> Stamp {
        Stamp { size: seen.size, mtime: seen.modified_at(), ctime: seen.changed_at(), inode: seen.inode }
    }

    /// The later of its two times.
    pub fn latest(&self) -> i64 {
        self.mtime.max(self.ctime)
    }

    /// Whether another stamp of the file shows no other content: only its name or its permissions may have changed.
    pub fn has_same_content(&self, other: &Stamp) -> bool {
        (self.size, self.mtime, self.inode) == (other.size, other.mtime, other.inode)
    }

    /// Whether a change of the file at time `clock` would give it new times, however coarse they are.
    pub fn is_settled(&self, clock: i64) -> bool {
        clock.saturating_sub(self.latest()) >= COARSE_SETTLING_TIME
    }

    /// Whether a change of the file after time `clock` shows in its change time.
    pub fn shows_changes_after(&self, clock: i64) -> bool {
        clock.saturating_sub(self.ctime) >= settling_time(self.ctime)
    }
}

/// The step in which a file system that gave a file this time counts times, as far as the time shows it; in nanoseconds.
pub fn time_step(time: i64) -> i64 {
    if time % 1_000_000_000 == 0 { COARSE_STEP } else { CLOCK_TICK }
}

/// How old a change time must be so that a later change of the file would have another one.
fn settling_time(ctime: i64) -> i64 {
    if time_step(ctime) == COARSE_STEP { COARSE_SETTLING_TIME } else { CLOCK_TICK }
}

/// Whether a file may be recorded in resume data. Its metadata is `now` at time `clock`; `before` is its metadata before its
/// pieces were hashed, if that is known to be meaningful; `written` is when our last write to it began and ended.
pub fn is_stamp_trusted(before: Option<Stamp>, now: Stamp, written: Option<(i64, i64)>, clock: i64) -> bool {
    let ours = |time: i64| written.is_some_and(|(begin, end)| (begin.saturating_sub(CLOCK_TICK)..=end).contains(&time));
    let old_enough = clock.saturating_sub(now.latest()) >= settling_time(now.ctime);
    old_enough && (before == Some(now) || (ours(now.mtime) && ours(now.ctime)))
}

/// A moment on two clocks, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockReading {
    /// Since 1970, on the clock that file systems use and that privileged users can set.
    pub wall: i64,
    /// Since an arbitrary point, on a monotonic clock.
    pub steady: i64,
}

impl ClockReading {
    /// Whether the wall clock was set back between `earlier` and this moment. Then file times in between prove nothing: later
    /// changes may have earlier times.
    pub fn clock_went_back_since(&self, earlier: ClockReading) -> bool {
        let (wall, steady) = (self.wall.saturating_sub(earlier.wall), self.steady.saturating_sub(earlier.steady));
        wall.saturating_add(CLOCK_TICK) < steady
    }
}

/// The resume data of one torrent in one folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResumeData {
    /// The torrent's info hash.
    pub info_hash: InfoHash,
    /// Identifies the boot of the system during which it was written.
    pub boot: String,
    /// The metadata of files, by number in the torrent; files without an entry are not trusted.
    pub files: Vec<(u32, Stamp)>,
    /// The verified pieces.
    pub have: Bitfield,
    /// The incomplete files that btsync writes to: number (with [`PREEXISTING`] if the file was there before), and the identity that
    /// distinguishes each from later files of its name. Only meaningful for files whose metadata is unchanged. `None` in data written by version 0.1.0, which did not record it.
    pub owned_files: Option<Vec<(u32, u64)>>,
    /// Payload bytes uploaded in all runs so far, from which the torrent's ratio is computed.
    pub uploaded: u64,
    /// Pieces with some blocks on disk, in ascending order.
    pub partial: Vec<PartialPiece>,
}

/// Why bytes are not valid resume data.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResumeDataError {
    /// Longer than any resume data of this torrent.
    #[error("resume data of {0} bytes is too long")]
    TooLong(usize),
    /// Truncated or altered.
    #[error("the checksum of the resume data is wrong")]
    Checksum,
    /// Not acceptable bencode.
    #[error(transparent)]
    Bencode(#[from] BencodeError),
    /// A field is missing or invalid.
    #[error("the resume data does not fit the torrent: {0}")]
    Field(&'static str),
}

impl ResumeData {
    /// Drops the metadata of files with times after `clock`: the clock was set back since, and a change could give a file the
    /// same times again.
    pub fn drop_future_stamps(&mut self, clock: i64) {
        self.files.retain(|(_, stamp)| stamp.latest() <= clock);
    }

    /// A file's recorded metadata.
    pub fn stamp(&self, number: u32) -> Option<Stamp> {
        let at = self.files.binary_search_by_key(&number, |(listed, _)| *listed).ok()?;
        self.files.get(at).map(|(_, stamp)| *stamp)
    }

    /// Whether btsync wrote to this file, had not completed it, and nobody has touched it since (`now` is its current metadata).
    /// Another process may have completed a file whose metadata differs, and since then it is the user's. This holds across
    /// boots: a crash may lose data, but does not change the owner.
    pub fn is_untouched(&self, layout: &Layout, file: usize, seen: &FileSnapshot, now: Option<Stamp>) -> bool {
        let number = u32::try_from(file).unwrap_or(u32::MAX);
        if now.is_none() || self.stamp(number) != now {
            return false;
        }
        if let Some(owned) = &self.owned_files {
            let numbers = [number, number | PREEXISTING];
            return numbers.iter().any(|number| owned.binary_search(&(*number, seen.identity)).is_ok());
        }
        // Version 0.1.0 wrote to every wanted file; complete files may have been the user's from the start.
        let mut pieces = layout.pieces_of(file).map(PieceIndex);
        !self.have.is_full() && pieces.any(|piece| self.have.has(piece))
    }

    /// Like [`ResumeData::is_untouched`] for the part file, whose number is the number of files; its metadata is recorded for
    /// each file with bytes in it.
    pub fn is_part_file_unchanged(&self, layout: &Layout, identity: u64, now: Stamp) -> bool {
        let number = u32::try_from(layout.files().len()).unwrap_or(u32::MAX);
        let is_named = self.owned_files.as_ref().map_or(!self.have.is_full() && self.have.count() > 0, |owned| {
            owned.binary_search(&(number, identity)).is_ok()
        });
        is_named && self.files.iter().any(|(_, stamp)| *stamp == now)
    }

    /// The entries of the incomplete files that nobody has touched since, given the files' current metadata in `stamps`. Not that of
    /// the part file.
    pub fn untouched_files(&self, layout: &Layout, stamps: &[Option<Stamp>]) -> Vec<(u32, u64)> {
        let same = self.unchanged_files(stamps);
        let is_untouched = |(number, _): &&(u32, u64)| {
            let file = (number & !PREEXISTING) as usize;
            same.get(file) == Some(&true) && !layout.is_complete(file, &self.have)
        };
        self.owned_files.iter().flatten().filter(is_untouched).copied().collect()
    }

    /// Whether btsync made this very file and had not completed it, whatever happened to it since.
    pub fn was_started(&self, file: usize, seen: &FileSnapshot) -> bool {
        let entry = u32::try_from(file).map(|number| (number, seen.identity));
        let owned = self.owned_files.as_ref().zip(entry.ok());
        is_permanent(seen.identity) && owned.is_some_and(|(owned, entry)| owned.binary_search(&entry).is_ok())
    }

    /// The pieces that need not be hashed, given the files' current metadata in `stamps`.
    pub fn trusted_pieces(&self, layout: &Layout, stamps: &[Option<Stamp>]) -> Bitfield {
        let same = self.unchanged_files(stamps);
        let mut trusted_pieces = Bitfield::new(layout.piece_count());
        for piece in self.have.iter().filter(|piece| is_within(layout, *piece, 0, layout.piece_size(*piece), &same)) {
            trusted_pieces.set(piece);
        }
        trusted_pieces
    }

    /// The blocks of other pieces on disk, given the files' current metadata in `stamps`. They were never hashed.
    pub fn trusted_blocks(&self, layout: &Layout, stamps: &[Option<Stamp>]) -> Vec<PartialPiece> {
        let same = self.unchanged_files(stamps);
        let mut partial = self.partial.clone();
        for partial in &mut partial {
            let piece = partial.piece;
            partial.retain(|block| {
                let begin = block * BLOCK_SIZE;
                let length = layout.piece_size(piece).saturating_sub(begin).min(BLOCK_SIZE);
                is_within(layout, piece, begin, length, &same)
            });
        }
        partial.retain(|partial| partial.count() > 0);
        partial
    }

    /// Whether each file's metadata is unchanged.
    fn unchanged_files(&self, stamps: &[Option<Stamp>]) -> Vec<bool> {
        let mut same = vec![false; stamps.len()];
        for (number, stamp) in &self.files {
            let at = *number as usize;
            if let (Some(same), Some(Some(now))) = (same.get_mut(at), stamps.get(at)) {
                *same = now == stamp;
            }
        }
        same
    }
}

/// Whether these bytes of a piece are in files with unchanged metadata, or in padding.
fn is_within(layout: &Layout, piece: PieceIndex, begin: u32, length: u32, same: &[bool]) -> bool {
    let pad = |file: usize| layout.files().get(file).is_some_and(|file| file.is_pad);
    let mut spans = layout.spans(layout.offset(piece, begin), u64::from(length));
    spans.all(|span| pad(span.file) || same.get(span.file) == Some(&true))
}

#[cfg(test)]
mod tests;
