//! Keeps a torrent's resume data (`storage/resume.rs`) in a file. Main reads it once, before the check, and writes it at most
//! every 30 seconds and at the end.
//!
//! The file is replaced atomically but not synced: the system keeps what a dying process wrote, and after a system crash no
//! record is trusted. If the record cannot be read or written, the only cost is a check.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::storage::resume::{CLOCK_TICK, ClockReading, PREEXISTING, ResumeData, Stamp, is_stamp_trusted};
use crate::storage::{FileSnapshot, Layout, StopCheck, Storage, clock};
use crate::torrent::record_files::{record_path, replace};
use crate::types::{Bitfield, InfoHash, PartialPiece, PieceIndex};
use crate::util::atomic_file;
use crate::util::cold_sort;
use crate::util::descriptors::with_retry;

/// How often the record is written while pieces arrive.
const SAVE_INTERVAL: Duration = Duration::from_secs(30);
/// How much later it is written while only the number of uploaded bytes grows.
const UPLOAD_ONLY_SAVE_DELAY: Duration = Duration::from_secs(270);
/// With more files than this, examining all of them takes too long while peers wait: the record is written only at the end.
pub(crate) const MANY_FILES: usize = 20_000;
/// How long files are examined after a stop.
const LAST_LOOK: Duration = Duration::from_millis(500);
/// How many times writing a record waits for a file descriptor, a tenth of a second each time.
const TRIES: usize = 10;
/// The file that identifies the boot of a Linux system.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The resume data of one torrent in one download folder.
pub struct ResumeStore {
    path: PathBuf,
    boot: String,
    info_hash: InfoHash,
    /// The record of an earlier run.
    record: Option<ResumeData>,
    /// The files that btsync created or continued and that are not complete: their indices and identities. Also those that this run
    /// leaves alone, if nobody has touched them since the record of an earlier run.
    owned_files: Vec<(u32, u64)>,
    /// The files' metadata at the start.
    stamps_at_start: Vec<Option<Stamp>>,
    /// The same, but `None` where it proves nothing.
    baseline: Vec<Option<Stamp>>,
    /// Files that another program changed during the check.
    changed: Vec<bool>,
    /// The blocks that an earlier run received of incomplete pieces.
    resumed_blocks: Vec<PartialPiece>,
    /// How many pieces the record on disk contains, and how many blocks of other pieces.
    saved: (u32, u64),
    /// Whether the record on disk is an earlier run's, and all of it is still true.
    is_inherited: bool,
    /// Payload bytes sent in this run.
    sent: u64,
    sent_saved: u64,
    next: Duration,
    /// Whether writing a record has failed.
    has_failed: bool,
    /// When this run started, by both clocks.
    started: (ClockReading, Instant),
}

impl ResumeStore {
    /// The store for files below `out_dir`, to be created before the files are examined; records are kept in `folder`. `None`
    /// if the system does not provide the necessary information, or if `stop` becomes true.
    pub fn new(
        folder: &Path,
        info_hash: InfoHash,
        out_dir: &Path,
        storage: &Storage,
        stop: &dyn StopCheck,
    ) -> Option<ResumeStore> {
        let boot = storage.with_retry(|| fs::read_to_string(BOOT_ID)).ok()?.trim().to_owned();
        let place = fs::canonicalize(out_dir).ok()?;
        let path = record_path(folder, info_hash, &place);
        let baseline = stamps_unless(storage, stop)?;
        let changed = vec![false; baseline.len()];
        let started = (ClockReading { wall: clock(), steady: 0 }, Instant::now());
        let next = Duration::ZERO;
        let layout = storage.layout();
        let record = storage
            .with_retry(|| read(&path, ResumeData::max_encoded_size(layout)))
            .and_then(|bytes| ResumeData::decode(&bytes, layout).map_err(io::Error::other))
            .inspect_err(|error| log::debug!("{}: not used: {error}", path.display()));
        let record = record.ok().filter(|record| record.info_hash == info_hash);
        let owned_files = record.as_ref().map_or_else(Vec::new, |record| untouched_files(record, storage, &baseline));
        let stamps_at_start = baseline.clone();
        Some(ResumeStore {
            path,
            boot,
            info_hash,
            record,
            owned_files,
            stamps_at_start,
            baseline,
            changed,
            resumed_blocks: Vec::new(),
            saved: (0, 0),
            is_inherited: false,
            sent: 0,
            sent_saved: 0,
            next,
            has_failed: false,
            started,
        })
    }

    /// Whether an earlier run wrote to this file and did not complete it, and nothing has touched it since.
    pub fn is_untouched(&self, storage: &Storage, file: usize, seen: &FileSnapshot) -> bool {
        let now = self.stamps_at_start.get(file).copied().flatten();
        self.record.as_ref().is_some_and(|record| record.is_untouched(storage.layout(), file, seen, now))
    }

    /// The same for the part file.
    pub fn is_part_file_unchanged(&self, storage: &Storage, seen: &FileSnapshot) -> bool {
        let record = self.record.as_ref().zip(storage.part_file_stamp());
        record.is_some_and(|(record, (_, now))| record.is_part_file_unchanged(storage.layout(), seen.identity, now))
    }

    /// Whether an earlier run made this very file and did not complete it, whatever happened to it since.
    pub fn was_started(&self, file: usize, seen: &FileSnapshot) -> bool {
        self.record.as_ref().is_some_and(|record| record.was_started(file, seen))
    }

    /// Whether the file has the length, the modification time and the inode that the record has of it.
    pub fn is_as_recorded(&self, file: usize) -> bool {
        let stamp = self.record.as_ref().and_then(|record| record.stamp(u32::try_from(file).ok()?));
        let now = self.stamps_at_start.get(file).copied().flatten();
        stamp.zip(now).is_some_and(|(stamp, now)| stamp.has_same_content(&now))
    }

    /// Whether an earlier run had all pieces of the file.
    pub fn was_complete(&self, layout: &Layout, file: usize) -> bool {
        self.record.as_ref().is_some_and(|record| layout.is_complete(file, &record.have))
    }

    /// Whether the system may have crashed or been restarted since the record was written.
    pub fn may_have_crashed(&self) -> bool {
        self.record.as_ref().is_none_or(|record| record.boot != self.boot)
    }

    /// Whether an earlier run verified the file's bytes in this piece, and the file's metadata is the same as then.
    pub fn has_verified(&self, file: usize, piece: PieceIndex) -> bool {
        let Some(record) = self.record.as_ref().filter(|record| record.have.has(piece)) else { return false };
        let number = u32::try_from(file).unwrap_or(u32::MAX);
        let baseline = record.stamp(number);
        baseline.is_some() && baseline == self.stamps_at_start.get(file).copied().flatten()
    }

    /// Records which files this run writes to, by index and identity. Writes the record at once, in case this process is killed.
    pub fn set_owned_files(&mut self, owned_files: Vec<(u32, u64)>, storage: &Storage, have: &Bitfield) {
        let index = |(number, _): &(u32, u64)| number & !PREEXISTING;
        let written: HashSet<u32> = owned_files.iter().map(index).collect();
        self.owned_files.retain(|earlier| !written.contains(&index(earlier)));
        self.owned_files.extend(owned_files);
        cold_sort::sort(&mut self.owned_files);
        if self.baseline.len() <= MANY_FILES {
            let partial = self.resumed_blocks.clone();
            self.write(&stamps(storage), storage, (have.clone(), partial));
        }
    }

    /// The blocks that an earlier run received of incomplete pieces; known after [`ResumeStore::load_trusted_pieces`].
    pub fn resumed_blocks(&self) -> &[PartialPiece] {
        &self.resumed_blocks
    }

    /// Keeps only those of these blocks for whose piece and index `keep` returns true.
    pub fn retain_resumed_blocks(&mut self, mut keep: impl FnMut(PieceIndex, u32) -> bool) {
        for partial in &mut self.resumed_blocks {
            let piece = partial.piece;
            partial.retain(|block| keep(piece, block));
        }
        self.resumed_blocks.retain(|partial| partial.count() > 0);
    }

    /// Everything wanted is complete: no complete file is ours to write to any more, which is recorded at once. The record is due
    /// again once the last writes can be told from later ones.
    pub fn drop_complete_files(&mut self, storage: &Storage, progress: (Bitfield, Vec<PartialPiece>), now: Duration) {
        let (layout, have) = (storage.layout(), &progress.0);
        let is_part_file = |file: usize| file == layout.files().len();
        self.owned_files.retain(|(number, _)| {
            let file = (number & !PREEXISTING) as usize;
            is_part_file(file) || !layout.is_complete(file, have)
        });
        if self.baseline.len() <= MANY_FILES {
            self.save(storage, progress, now);
            self.saved = (0, 0);
        }
    }

    /// The pieces that need not be hashed. Call it before the check.
    pub fn load_trusted_pieces(&mut self, storage: &Storage) -> Bitfield {
        let layout = storage.layout();
        let Some(mut record) = self.record.clone().filter(|record| record.boot == self.boot) else {
            return Bitfield::new(layout.piece_count());
        };
        record.drop_future_stamps(clock());
        let trusted_pieces = record.trusted_pieces(layout, &self.baseline);
        self.resumed_blocks = record.trusted_blocks(layout, &self.baseline);
        self.forget_unsettled(&record);
        self.is_inherited = trusted_pieces == record.have && self.resumed_blocks == record.partial;
        self.saved = if self.is_inherited { (trusted_pieces.count(), blocks_in(&self.resumed_blocks)) } else { (0, 0) };
        trusted_pieces
    }

    /// Forgets the metadata of files that were changed so recently that another change might not show. For metadata in the
    /// record itself, an earlier run had made sure of that.
    fn forget_unsettled(&mut self, record: &ResumeData) {
        let clock = clock();
        let mut known = vec![None; self.baseline.len()];
        for (number, stamp) in &record.files {
            if let Some(known) = known.get_mut(*number as usize) {
                *known = Some(*stamp);
            }
        }
        for (baseline, known) in self.baseline.iter_mut().zip(known) {
            *baseline = baseline.filter(|stamp| stamp.is_settled(clock) || known == Some(*stamp));
        }
    }

    /// Called instead of `load_trusted_pieces`: all pieces get hashed. The record still counts for ownership and
    /// uploads.
    pub fn skip_trusted_pieces(&mut self) {
        let clock = clock();
        self.baseline.iter_mut().for_each(|baseline| *baseline = baseline.filter(|stamp| stamp.is_settled(clock)));
    }

    /// The check has ended: files that were changed during it may differ from what the check found. If `stop` becomes true,
    /// that may be any file.
    pub fn checked(&mut self, storage: &Storage, stop: &dyn StopCheck) {
        let Some(stamps) = stamps_unless(storage, stop) else { return self.changed.fill(true) };
        for ((baseline, changed), now) in self.baseline.iter_mut().zip(&mut self.changed).zip(stamps) {
            *changed = baseline.is_some() && *baseline != now;
        }
    }

    /// A check that changes no file has found these pieces: the record no longer has others that the next run would not hash. All
    /// else in it stays, above all which files are btsync's.
    pub fn drop_failed_pieces(self, storage: &Storage, have: &Bitfield) {
        let Some(mut record) = self.record.filter(|record| record.boot == self.boot) else { return };
        let trusted = record.trusted_pieces(storage.layout(), &self.stamps_at_start);
        let failed: Vec<PieceIndex> = trusted.iter().filter(|piece| !have.has(*piece)).collect();
        if failed.is_empty() {
            return;
        }
        for piece in failed {
            record.have.clear(piece);
        }
        if let Err(error) = replace(&self.path, &record.encode(), ResumeData::is_encoded) {
            log::warn!("{}: cannot be written: {error}", self.path.display());
        }
    }

    /// Payload bytes sent in earlier runs.
    pub fn uploaded_before(&self) -> u64 {
        self.record.as_ref().map_or(0, |record| record.uploaded)
    }

    /// Sets the number of payload bytes sent in this run so far.
    pub fn set_uploaded(&mut self, bytes: u64) {
        self.sent = bytes;
    }

    /// When the record has to be written, given the number of complete pieces and of blocks of other pieces.
    pub fn due(&self, progress: (u32, u64)) -> Option<Duration> {
        let due = match (progress != self.saved, self.sent != self.sent_saved) {
            (true, _) => Some(self.next),
            (false, true) => Some(self.next + UPLOAD_ONLY_SAVE_DELAY),
            (false, false) => None,
        };
        due.filter(|_| self.baseline.len() <= MANY_FILES)
    }

    /// Writes the record with the complete pieces and the blocks of others, all of which were on disk before this call.
    pub fn save(&mut self, storage: &Storage, progress: (Bitfield, Vec<PartialPiece>), now: Duration) {
        self.next = now + SAVE_INTERVAL;
        self.write(&stamps(storage), storage, progress);
    }

    /// Writes the last record, after the last write to the files. Files for whose index `is_late` returns true are not
    /// examined, and the record leaves them out, so that the next run hashes them.
    pub fn finish(
        mut self,
        storage: &Storage,
        progress: (Bitfield, Vec<PartialPiece>),
        mut is_late: impl FnMut(usize) -> bool,
    ) {
        let unwritten = || (0..storage.layout().files().len()).all(|file| storage.last_write_times(file).is_none());
        let recorded = self.record.as_ref().and_then(|record| record.owned_files.as_deref());
        let needless = self.is_inherited && recorded.unwrap_or_default() == self.owned_files;
        let nothing_sent = self.sent == self.sent_saved;
        let count = (progress.0.count(), blocks_in(&progress.1));
        if count == (0, 0) || (needless && nothing_sent && count == self.saved && unwritten()) {
            return;
        }
        let files = 0..storage.layout().files().len();
        let stamps: Vec<_> = files.map(|file| if is_late(file) { None } else { storage.stamp(file) }).collect();
        let newest = stamps.iter().flatten().map(Stamp::latest).max().unwrap_or_default();
        if (0..CLOCK_TICK).contains(&clock().saturating_sub(newest)) {
            // Wait until a change by another program would show.
            std::thread::sleep(Duration::from_nanos(CLOCK_TICK.unsigned_abs()));
        }
        self.write(&stamps, storage, progress);
    }

    fn now(&self) -> ClockReading {
        let steady = i64::try_from(self.started.1.elapsed().as_nanos()).unwrap_or(i64::MAX);
        ClockReading { wall: clock(), steady }
    }

    fn write(&mut self, stamps: &[Option<Stamp>], storage: &Storage, progress: (Bitfield, Vec<PartialPiece>)) {
        let clock = clock();
        let entry = |(file, stamp): (usize, &Option<Stamp>)| {
            let changed = self.changed.get(file).copied().unwrap_or(true) || storage.is_changed(file);
            let baseline = self.baseline.get(file).copied().flatten();
            let stamp = stamp
                .filter(|now| !changed && is_stamp_trusted(baseline, *now, storage.last_write_times(file), clock))?;
            Some((file as u32, stamp))
        };
        let went_back = self.now().clock_went_back_since(self.started.0);
        let stamps = if went_back { &[] } else { stamps };
        let files = stamps.iter().enumerate().filter_map(entry).collect();
        let (have, partial) = progress;
        let saved = (have.count(), blocks_in(&partial));
        let (info_hash, boot, owned_files) = (self.info_hash, self.boot.clone(), Some(self.owned_files.clone()));
        let uploaded = self.uploaded_before().saturating_add(self.sent);
        let record = ResumeData { info_hash, boot, files, have, owned_files, uploaded, partial };
        let bytes = record.encode();
        let mut tries = 0..TRIES;
        // Main must not wait for long, as the peers hold the descriptors. The record is due again soon.
        match with_retry(
            || storage.with_retry(|| replace(&self.path, &bytes, ResumeData::is_encoded)),
            || tries.next().is_some(),
        ) {
            Ok(()) => (self.saved, self.is_inherited, self.sent_saved) = (saved, false, self.sent),
            Err(error) => {
                let is_first = !std::mem::replace(&mut self.has_failed, true);
                let level = if is_first && error.kind() == io::ErrorKind::AlreadyExists {
                    log::Level::Warn
                } else {
                    log::Level::Debug
                };
                log::log!(level, "{}: cannot be written: {error}", self.path.display());
            }
        }
    }
}

/// Decides which files the last record leaves out; to be called when writing it starts. After a stop, files that have not been
/// examined within [`LAST_LOOK`] of this call are left out. The first [`MANY_FILES`] files are always examined.
pub(crate) fn skip_after_stop(stop: &dyn StopCheck) -> impl FnMut(usize) -> bool {
    let started = Instant::now();
    move |file| file >= MANY_FILES && stop.is_stopped() && started.elapsed() > LAST_LOOK
}

/// The entries of the incomplete files and the part file that nobody has touched since this record was written.
fn untouched_files(record: &ResumeData, storage: &Storage, stamps: &[Option<Stamp>]) -> Vec<(u32, u64)> {
    let mut files = record.untouched_files(storage.layout(), stamps);
    let parts = record.owned_files.iter().flatten().find(|(number, _)| *number as usize == stamps.len());
    files.extend(parts.filter(|(_, identity)| {
        let now = storage.part_file_stamp();
        now.is_some_and(|(_, now)| record.is_part_file_unchanged(storage.layout(), *identity, now))
    }));
    cold_sort::sort(&mut files);
    files
}

/// The number of blocks of these pieces that are on disk.
fn blocks_in(partial: &[PartialPiece]) -> u64 {
    partial.iter().map(|partial| u64::from(partial.count())).sum()
}

/// The same as [`stamps`]; `None` if `stop` becomes true first, as there may be many files.
fn stamps_unless(storage: &Storage, stop: &dyn StopCheck) -> Option<Vec<Option<Stamp>>> {
    let files = 0..storage.layout().files().len();
    files.map(|file| (!stop.is_stopped()).then(|| storage.stamp(file))).collect()
}

/// The current metadata of the torrent's files.
fn stamps(storage: &Storage) -> Vec<Option<Stamp>> {
    (0..storage.layout().files().len()).map(|file| storage.stamp(file)).collect()
}

/// The file's bytes, at most one more than `most`.
pub(crate) fn read(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    atomic_file::open(path)?.take(most as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
