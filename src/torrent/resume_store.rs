//! Keeps a torrent's fast-resume record (`storage/resume.rs`) in a file: read once before the check, written now and then, at most
//! every 30 seconds, and at the end. All on the main thread.
//!
//! The file is replaced in one step and not synced: what a dying process wrote is kept by the system, and after a dying system
//! no record is believed. That it cannot be read or written costs a check and nothing else.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::storage::resume::{ClockReading, ResumeData, Stamp, TICK, is_stamp_trusted};
use crate::storage::{FileSnapshot, Storage, clock};
use crate::torrent::record_files::{record_path, replace};
use crate::types::{Bitfield, InfoHash, PartialPiece, PieceIndex};
use crate::util::atomic_file;
use crate::util::descriptors::with_retry;

/// While pieces come, the record is written so often.
const SAVE_INTERVAL: Duration = Duration::from_secs(30);
/// While only the bytes sent grow, it is written so much later.
const UPLOAD_ONLY_SAVE_DELAY: Duration = Duration::from_secs(270);
/// Where there are more files, looking at each costs too much to do it while peers wait: the record is written at the end.
pub(crate) const MANY_FILES: usize = 20_000;
/// For so long files are looked at after a stop.
const LAST_LOOK: Duration = Duration::from_millis(500);
/// How often the writing of a record waits for a descriptor, a tenth of a second each time.
const TRIES: usize = 10;
/// Names the boot of a Linux system.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Keeps the record of one torrent in one folder.
pub struct ResumeStore {
    path: PathBuf,
    boot: String,
    info_hash: InfoHash,
    /// What an earlier session left.
    record: Option<ResumeData>,
    /// The files that are ours and not complete: their numbers and identities.
    ours: Vec<(u32, u64)>,
    /// How files looked at the start.
    seen: Vec<Option<Stamp>>,
    /// The same, where that says something.
    baseline: Vec<Option<Stamp>>,
    /// Files that somebody changed while they were checked.
    changed: Vec<bool>,
    /// What an earlier session received of pieces that are not complete.
    recalled: Vec<PartialPiece>,
    /// How many pieces the file on disk names, and how many blocks of other pieces.
    saved: (u32, u64),
    /// Whether that is an earlier session's, and all of it is still true.
    is_inherited: bool,
    /// Payload bytes sent: in this session, and of these in the file on disk.
    sent: u64,
    sent_saved: u64,
    next: Duration,
    /// A record could not be written.
    has_failed: bool,
    /// When this began, and an instant of then.
    started: (ClockReading, Instant),
}

impl ResumeStore {
    /// For files below `out_dir`, before they are looked at; records lie in `folder`. `None` where the system does not say
    /// what is needed, or `stop` becomes true.
    pub fn new(
        folder: &Path,
        info_hash: InfoHash,
        out_dir: &Path,
        disk: &Storage,
        stop: &AtomicBool,
    ) -> Option<ResumeStore> {
        let boot = disk.with_retry(|| fs::read_to_string(BOOT_ID)).ok()?.trim().to_owned();
        let place = fs::canonicalize(out_dir).ok()?;
        let path = record_path(folder, info_hash, &place);
        let baseline = stamps_unless(disk, stop)?;
        let changed = vec![false; baseline.len()];
        let started = (ClockReading { wall: clock(), steady: 0 }, Instant::now());
        let next = Duration::ZERO;
        let layout = disk.layout();
        let record = disk
            .with_retry(|| read(&path, ResumeData::max_encoded_size(layout)))
            .and_then(|bytes| ResumeData::decode(&bytes, layout).map_err(io::Error::other))
            .inspect_err(|error| log::debug!("{}: not used: {error}", path.display()));
        let record = record.ok().filter(|record| record.info_hash == info_hash);
        let ours = Vec::new();
        let seen = baseline.clone();
        Some(ResumeStore {
            path,
            boot,
            info_hash,
            record,
            ours,
            seen,
            baseline,
            changed,
            recalled: Vec::new(),
            saved: (0, 0),
            is_inherited: false,
            sent: 0,
            sent_saved: 0,
            next,
            has_failed: false,
            started,
        })
    }

    /// Whether an earlier session wrote to this file and did not complete it, and nobody has touched it since.
    pub fn left(&self, disk: &Storage, file: usize, seen: &FileSnapshot) -> bool {
        let now = self.seen.get(file).copied().flatten();
        self.record.as_ref().is_some_and(|record| record.left(disk.layout(), file, seen, now))
    }

    /// The same of the part file.
    pub fn is_part_file_unchanged(&self, disk: &Storage, seen: &FileSnapshot) -> bool {
        let record = self.record.as_ref().zip(disk.part_file_stamp());
        record.is_some_and(|(record, (_, now))| record.is_part_file_unchanged(disk.layout(), seen.identity, now))
    }

    /// Whether an earlier session wrote to this very file and did not complete it, whatever was done to it since.
    pub fn started(&self, file: usize, seen: &FileSnapshot) -> bool {
        self.record.as_ref().is_some_and(|record| record.started(file, seen))
    }

    /// Whether an earlier session found the file's bytes in this piece right, and the file looks as it did then.
    pub fn has_verified(&self, file: usize, piece: PieceIndex) -> bool {
        let Some(record) = self.record.as_ref().filter(|record| record.have.has(piece)) else { return false };
        let number = u32::try_from(file).unwrap_or(u32::MAX);
        let baseline = record.stamp(number);
        baseline.is_some() && baseline == self.seen.get(file).copied().flatten()
    }

    /// These files are ours, by their numbers and identities: noted at once, so that a session that is killed is remembered.
    pub fn own(&mut self, ours: Vec<(u32, u64)>, disk: &Storage, have: &Bitfield) {
        self.ours = ours;
        if self.baseline.len() <= MANY_FILES {
            let partial = self.recalled.clone();
            self.write(&stamps(disk), disk, (have.clone(), partial));
        }
    }

    /// What an earlier session received of pieces that are not complete: known after [`ResumeStore::recall`].
    pub fn recalled(&self) -> &[PartialPiece] {
        &self.recalled
    }

    /// Forgets such blocks where `keep` says so of their piece and number.
    pub fn retain_recalled(&mut self, mut keep: impl FnMut(PieceIndex, u32) -> bool) {
        for partial in &mut self.recalled {
            let piece = partial.piece;
            partial.retain(|block| keep(piece, block));
        }
        self.recalled.retain(|partial| partial.count() > 0);
    }

    /// All that was wanted is there: nothing is ours to write to any more, which is noted at once. The record is due again when the
    /// last writes can be told from later ones.
    pub fn disown(&mut self, disk: &Storage, progress: (Bitfield, Vec<PartialPiece>), now: Duration) {
        self.ours.clear();
        if self.baseline.len() <= MANY_FILES {
            self.save(disk, progress, now);
            self.saved = (0, 0);
        }
    }

    /// The pieces that need not be hashed; to be asked before the check.
    pub fn recall(&mut self, disk: &Storage) -> Bitfield {
        let layout = disk.layout();
        let Some(mut record) = self.record.clone().filter(|record| record.boot == self.boot) else {
            return Bitfield::new(layout.piece_count());
        };
        record.drop_future_stamps(clock());
        let trusted_pieces = record.trusted_pieces(layout, &self.baseline);
        self.recalled = record.trusted_blocks(layout, &self.baseline);
        self.forget_unsettled(&record);
        self.is_inherited = trusted_pieces == record.have && self.recalled == record.partial;
        self.saved = if self.is_inherited { (trusted_pieces.count(), blocks_in(&self.recalled)) } else { (0, 0) };
        trusted_pieces
    }

    /// Takes back how those files looked that were changed so lately that another change would not show; what the record says
    /// of them was written with more knowledge.
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

    /// The record is not to be believed.
    pub fn distrust(&mut self) {
        let clock = clock();
        self.baseline.iter_mut().for_each(|baseline| *baseline = baseline.filter(|stamp| stamp.is_settled(clock)));
    }

    /// The check is over: what somebody changed meanwhile may not be as it was found. Where `stop` becomes true, that may be anything.
    pub fn checked(&mut self, disk: &Storage, stop: &AtomicBool) {
        let Some(stamps) = stamps_unless(disk, stop) else { return self.changed.fill(true) };
        for ((baseline, changed), now) in self.baseline.iter_mut().zip(&mut self.changed).zip(stamps) {
            *changed = baseline.is_some() && *baseline != now;
        }
    }

    /// Payload bytes sent in earlier sessions.
    pub fn uploaded_before(&self) -> u64 {
        self.record.as_ref().map_or(0, |record| record.uploaded)
    }

    /// This session has sent so many payload bytes so far.
    pub fn count_uploaded(&mut self, bytes: u64) {
        self.sent = bytes;
    }

    /// When the record should be written, where so many pieces, and so many blocks of others, are there now.
    pub fn due(&self, progress: (u32, u64)) -> Option<Duration> {
        let due = match (progress != self.saved, self.sent != self.sent_saved) {
            (true, _) => Some(self.next),
            (false, true) => Some(self.next + UPLOAD_ONLY_SAVE_DELAY),
            (false, false) => None,
        };
        due.filter(|_| self.baseline.len() <= MANY_FILES)
    }

    /// Writes the record, with the pieces that are there and the blocks of others, all of which were on disk before this call.
    pub fn save(&mut self, disk: &Storage, progress: (Bitfield, Vec<PartialPiece>), now: Duration) {
        self.next = now + SAVE_INTERVAL;
        self.write(&stamps(disk), disk, progress);
    }

    /// Writes the last record; nobody writes to the files any more. Files for which `is_late` says so of their number are not looked
    /// at, and the record says nothing of them: what is in them is hashed at the next start.
    pub fn finish(
        mut self,
        disk: &Storage,
        progress: (Bitfield, Vec<PartialPiece>),
        mut is_late: impl FnMut(usize) -> bool,
    ) {
        let unwritten = || (0..disk.layout().files().len()).all(|file| disk.written(file).is_none());
        let owned =
            self.record.as_ref().is_some_and(|record| record.ours.as_ref().is_some_and(|ours| !ours.is_empty()));
        let needless = self.is_inherited && !(owned && self.ours.is_empty());
        let nothing_sent = self.sent == self.sent_saved;
        let count = (progress.0.count(), blocks_in(&progress.1));
        if count == (0, 0) || (needless && nothing_sent && count == self.saved && unwritten()) {
            return;
        }
        let files = 0..disk.layout().files().len();
        let stamps: Vec<_> = files.map(|file| if is_late(file) { None } else { disk.stamp(file) }).collect();
        let newest = stamps.iter().flatten().map(Stamp::latest).max().unwrap_or_default();
        if (0..TICK).contains(&clock().saturating_sub(newest)) {
            // Until a change by somebody else would show.
            std::thread::sleep(Duration::from_nanos(TICK.unsigned_abs()));
        }
        self.write(&stamps, disk, progress);
    }

    fn now(&self) -> ClockReading {
        let steady = i64::try_from(self.started.1.elapsed().as_nanos()).unwrap_or(i64::MAX);
        ClockReading { wall: clock(), steady }
    }

    fn write(&mut self, stamps: &[Option<Stamp>], disk: &Storage, progress: (Bitfield, Vec<PartialPiece>)) {
        let clock = clock();
        let entry = |(file, stamp): (usize, &Option<Stamp>)| {
            let changed = self.changed.get(file).copied().unwrap_or(true) || disk.is_changed(file);
            let baseline = self.baseline.get(file).copied().flatten();
            let stamp = stamp.filter(|now| !changed && is_stamp_trusted(baseline, *now, disk.written(file), clock))?;
            Some((file as u32, stamp))
        };
        let went_back = self.now().clock_went_back_since(self.started.0);
        let stamps = if went_back { &[] } else { stamps };
        let files = stamps.iter().enumerate().filter_map(entry).collect();
        let (have, partial) = progress;
        let saved = (have.count(), blocks_in(&partial));
        let (info_hash, boot, ours) = (self.info_hash, self.boot.clone(), Some(self.ours.clone()));
        let uploaded = self.uploaded_before().saturating_add(self.sent);
        let record = ResumeData { info_hash, boot, files, have, ours, uploaded, partial };
        let bytes = record.encode();
        let mut tries = 0..TRIES;
        // Main may not wait for long, as peers have the descriptors: the record is due again soon.
        match with_retry(
            || disk.with_retry(|| replace(&self.path, &bytes, ResumeData::is_encoded)),
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

/// Which files the last record does without, where its writing begins now: where `stop` is true or becomes it, those that were not
/// looked at within [`LAST_LOOK`]. A few always are.
pub(crate) fn lateness(stop: &AtomicBool) -> impl FnMut(usize) -> bool {
    let started = Instant::now();
    move |file| file >= MANY_FILES && stop.load(Ordering::Relaxed) && started.elapsed() > LAST_LOOK
}

/// How many blocks are on disk of these.
fn blocks_in(partial: &[PartialPiece]) -> u64 {
    partial.iter().map(|partial| u64::from(partial.count())).sum()
}

/// The same as [`stamps`]; `None` where `stop` becomes true first, as there may be many files.
fn stamps_unless(disk: &Storage, stop: &AtomicBool) -> Option<Vec<Option<Stamp>>> {
    let files = 0..disk.layout().files().len();
    files.map(|file| (!stop.load(Ordering::Relaxed)).then(|| disk.stamp(file))).collect()
}

/// How the torrent's files look now.
fn stamps(disk: &Storage) -> Vec<Option<Stamp>> {
    (0..disk.layout().files().len()).map(|file| disk.stamp(file)).collect()
}

/// The file's bytes, one more than `most` at most.
fn read(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    atomic_file::open(path)?.take(most as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
