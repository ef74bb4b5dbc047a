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

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use sha1::{Digest, Sha1};

use crate::bencode::validate;
use crate::bencode::validate::BencodeError;
use crate::storage::layout::Layout;
use crate::storage::snapshot::{FileSnapshot, is_permanent};
use crate::types::{BLOCK_SIZE, Bitfield, InfoHash, PartialPiece, PieceIndex};

/// The format version that is written, and the only one that is read.
const VERSION: i64 = 1;
/// Bytes of a file's entry: number, size, both times, inode.
const FILE_ENTRY_LEN: usize = 36;
/// Bytes of an entry in `ours`: number, identity.
const OWNED_ENTRY_LEN: usize = 12;
/// The first byte of `blocks`: the format of its entries. Entries of another format are ignored.
const BLOCKS_FORM: u8 = 1;
/// Bytes of an entry in `blocks` before its bits: number of the piece, number of bytes that follow.
const PARTIAL_HEAD_LEN: usize = 6;
/// The maximum number of bytes besides the entries and the bitfield.
const MAX_OVERHEAD: usize = 512;
/// Marks the number of a file in `ours` that was there before btsync wrote to it. Earlier versions ignore such entries.
pub const PREEXISTING: u32 = 1 << 31;
/// The length of the SHA-1 in front.
const CHECKSUM_LEN: usize = 20;
/// File systems use the time of the system clock's last tick, and ticks are at most 10 ms apart; in nanoseconds.
pub const CLOCK_TICK: i64 = 20_000_000;
/// The coarsest steps in which a file system counts times (FAT: two seconds); in nanoseconds.
pub const COARSE_STEP: i64 = 2_000_000_000;
/// Files that we did not write may have coarse times (FAT: two seconds), so these must be at least this old, in nanoseconds.
pub const COARSE_TIME: i64 = 3_000_000_000;

/// A file's metadata; times in nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The length in bytes.
    pub size: u64,
    /// The modification time (mtime); anyone may set it.
    pub modified: i64,
    /// The change time (ctime); nobody can set it.
    pub changed: i64,
    /// The inode number: another file of the same name has another.
    pub inode: u64,
}

impl Stamp {
    /// Takes the stamp from a file's metadata.
    pub(super) fn of(found: &Metadata) -> Option<Stamp> {
        let time = |seconds: i64, nanos: i64| seconds.checked_mul(1_000_000_000)?.checked_add(nanos);
        let modified = time(found.mtime(), found.mtime_nsec())?;
        let changed = time(found.ctime(), found.ctime_nsec())?;
        Some(Stamp { size: found.size(), modified, changed, inode: found.ino() })
    }

    /// The later of its two times.
    pub fn latest(&self) -> i64 {
        self.modified.max(self.changed)
    }

    /// Whether another stamp of the file shows no other content: only its name or its permissions may have changed.
    pub fn has_same_content(&self, other: &Stamp) -> bool {
        (self.size, self.modified, self.inode) == (other.size, other.modified, other.inode)
    }

    /// Whether a change of the file at time `clock` would give it new times, however coarse they are.
    pub fn is_settled(&self, clock: i64) -> bool {
        clock.saturating_sub(self.latest()) >= COARSE_TIME
    }
}

/// The step in which a file system that gave a file this time counts times, as far as the time shows it; in nanoseconds.
pub fn time_step(time: i64) -> i64 {
    if time % 1_000_000_000 == 0 { COARSE_STEP } else { CLOCK_TICK }
}

/// Whether a file may be recorded in resume data. Its metadata is `now` at time `clock`; `before` is its metadata before its
/// pieces were hashed, if that is known to be meaningful; `written` is when our last write to it began and ended.
pub fn is_stamp_trusted(before: Option<Stamp>, now: Stamp, written: Option<(i64, i64)>, clock: i64) -> bool {
    let ours = |time: i64| written.is_some_and(|(begin, end)| (begin.saturating_sub(CLOCK_TICK)..=end).contains(&time));
    let old_enough = clock.saturating_sub(now.latest()) >= CLOCK_TICK;
    old_enough && (before == Some(now) || (ours(now.modified) && ours(now.changed)))
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
    /// The incomplete files that btsync writes to: number (with [`PREEXISTING`] if the file was there before), and the identity that distinguishes each from later files of its name.
    /// Only meaningful for files whose metadata is unchanged. `None` in data written by version 0.1.0, which did not record it.
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

/// The resume data as stored, after its SHA-1.
#[derive(Serialize, Deserialize)]
struct StoredResumeData {
    /// Earlier versions neither write nor read this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    blocks: Option<ByteBuf>,
    boot: String,
    files: ByteBuf,
    have: ByteBuf,
    info_hash: ByteBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ours: Option<ByteBuf>,
    #[serde(default)]
    uploaded: i64,
    version: i64,
}

impl ResumeData {
    /// Whether these bytes are resume data, of any torrent.
    pub fn is_encoded(bytes: &[u8]) -> bool {
        bytes.split_at_checked(CHECKSUM_LEN).is_some_and(|(sum, body)| Sha1::digest(body).as_slice() == sum)
    }

    /// Encodes the resume data: a SHA-1, then the bencoded dictionary that it covers.
    pub fn encode(&self) -> Vec<u8> {
        let mut files = Vec::with_capacity(self.files.len() * FILE_ENTRY_LEN);
        for (number, stamp) in &self.files {
            files.extend(number.to_be_bytes());
            files.extend(stamp.size.to_be_bytes());
            files.extend(stamp.modified.to_be_bytes());
            files.extend(stamp.changed.to_be_bytes());
            files.extend(stamp.inode.to_be_bytes());
        }
        let kept = StoredResumeData {
            blocks: Some(&self.partial).filter(|partial| !partial.is_empty()).map(|partial| blocks_of(partial)),
            boot: self.boot.clone(),
            files: ByteBuf::from(files),
            have: ByteBuf::from(self.have.as_bytes()),
            info_hash: ByteBuf::from(self.info_hash.0),
            ours: self.owned_files.as_ref().map(|owned| {
                let bytes = owned
                    .iter()
                    .flat_map(|(file, identity)| [&file.to_be_bytes()[..], &identity.to_be_bytes()].concat());
                ByteBuf::from(bytes.collect::<Vec<u8>>())
            }),
            uploaded: i64::try_from(self.uploaded).unwrap_or(i64::MAX),
            version: VERSION,
        };
        // Strings and a number always encode; `decode` refuses empty data.
        let body = serde_bencode::to_bytes(&kept).unwrap_or_default();
        [Sha1::digest(&body).as_slice(), &body].concat()
    }

    /// The maximum length of this torrent's encoded resume data.
    pub fn max_encoded_size(layout: &Layout) -> usize {
        let pieces = layout.piece_count() as usize;
        // A piece of one block is never partial.
        let map = Some(layout.piece_length().div_ceil(BLOCK_SIZE)).filter(|blocks| *blocks > 1);
        let map = map.map_or(0, |blocks| PARTIAL_HEAD_LEN + blocks.div_ceil(8) as usize);
        let files = layout.files().len().saturating_mul(FILE_ENTRY_LEN + OWNED_ENTRY_LEN);
        pieces.saturating_mul(map).saturating_add(files).saturating_add(pieces.div_ceil(8) + MAX_OVERHEAD)
    }

    /// Parses the output of [`ResumeData::encode`] for a torrent of this layout. Drops partial pieces that do not fit the layout.
    ///
    /// # Errors
    /// If it is damaged, or of another version or another torrent's shape.
    pub fn decode(bytes: &[u8], layout: &Layout) -> Result<ResumeData, ResumeDataError> {
        let (files, pieces) = (layout.files().len(), layout.piece_count());
        if bytes.len() > ResumeData::max_encoded_size(layout) {
            return Err(ResumeDataError::TooLong(bytes.len()));
        }
        let (sum, body) = bytes.split_at_checked(CHECKSUM_LEN).ok_or(ResumeDataError::Checksum)?;
        if Sha1::digest(body).as_slice() != sum {
            return Err(ResumeDataError::Checksum);
        }
        validate::check(body)?;
        let kept: StoredResumeData =
            serde_bencode::from_bytes(body).map_err(|_| ResumeDataError::Field("a field is missing"))?;
        if kept.version != VERSION {
            return Err(ResumeDataError::Field("version"));
        }
        let info_hash =
            <[u8; 20]>::try_from(kept.info_hash.as_slice()).map_err(|_| ResumeDataError::Field("info-hash"))?;
        let have = Bitfield::from_wire(&kept.have, pieces).ok_or(ResumeDataError::Field("pieces"))?;
        let entries = kept.files.chunks(FILE_ENTRY_LEN).map(|entry| entry_of(entry, files));
        let files = entries.collect::<Option<_>>().ok_or(ResumeDataError::Field("files"))?;
        let owned = kept.ours.map(|owned| owned.chunks(OWNED_ENTRY_LEN).map(owned_of).collect::<Option<Vec<_>>>());
        let owned = owned.map(|owned| owned.ok_or(ResumeDataError::Field("ours"))).transpose()?;
        let uploaded = u64::try_from(kept.uploaded).unwrap_or_default();
        let partial = kept.blocks.map(|blocks| partial_of(&blocks, layout)).unwrap_or_default();
        Ok(ResumeData {
            info_hash: InfoHash(info_hash),
            boot: kept.boot,
            files,
            have,
            owned_files: owned,
            uploaded,
            partial,
        })
    }

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

/// Encodes the blocks of partial pieces.
fn blocks_of(partial: &[PartialPiece]) -> ByteBuf {
    let mut bytes = vec![BLOCKS_FORM];
    for partial in partial {
        // A piece of 4 GiB needs 32 KiB.
        let Ok(length) = u16::try_from(partial.as_bytes().len()) else { continue };
        bytes.extend(partial.piece.0.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        bytes.extend(partial.as_bytes());
    }
    ByteBuf::from(bytes)
}

/// Parses the output of [`blocks_of`]. Drops entries that do not fit the torrent or repeat a piece.
fn partial_of(bytes: &[u8], layout: &Layout) -> Vec<PartialPiece> {
    let Some((&BLOCKS_FORM, mut rest)) = bytes.split_first() else { return Vec::new() };
    let mut found: Vec<PartialPiece> = Vec::new();
    while let Some((piece, length, after)) = head_of(rest)
        && let Some((map, after)) = after.split_at_checked(length)
    {
        rest = after;
        let blocks = layout.piece_size(piece).div_ceil(BLOCK_SIZE);
        let follows = found.last().is_none_or(|last| last.piece < piece);
        if let Some(partial) = PartialPiece::from_bytes(piece, map, blocks)
            && follows
            && (1..blocks).contains(&partial.count())
        {
            found.push(partial);
        }
    }
    found
}

/// The head of an entry in `blocks`, and the bytes after it.
fn head_of(bytes: &[u8]) -> Option<(PieceIndex, usize, &[u8])> {
    let (piece, rest) = bytes.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    Some((PieceIndex(u32::from_be_bytes(*piece)), usize::from(u16::from_be_bytes(*length)), rest))
}

/// One entry in `ours`; `None` if it is truncated.
fn owned_of(entry: &[u8]) -> Option<(u32, u64)> {
    let (number, rest) = entry.split_first_chunk::<4>()?;
    let identity = <[u8; 8]>::try_from(rest).ok()?;
    Some((u32::from_be_bytes(*number), u64::from_be_bytes(identity)))
}

/// One file's entry; `None` if it is truncated or its number is out of range.
fn entry_of(entry: &[u8], files: usize) -> Option<(u32, Stamp)> {
    let (number, rest) = entry.split_first_chunk::<4>()?;
    let (size, rest) = rest.split_first_chunk::<8>()?;
    let (modified, rest) = rest.split_first_chunk::<8>()?;
    let (changed, rest) = rest.split_first_chunk::<8>()?;
    let inode = <[u8; 8]>::try_from(rest).ok()?;
    let number = u32::from_be_bytes(*number);
    let stamp = Stamp {
        size: u64::from_be_bytes(*size),
        modified: i64::from_be_bytes(*modified),
        changed: i64::from_be_bytes(*changed),
        inode: u64::from_be_bytes(inode),
    };
    ((number as usize) < files).then_some((number, stamp))
}

#[cfg(test)]
mod tests;
