//! Recognises files that are not kept open (`pinned_files.rs`), if the file system may reuse inode numbers and its timestamps do
//! not come from our clock. For each file it keeps a few bytes that btsync wrote last, or the fact that there was no data. A file
//! that another program moves into its place has other bytes.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;

use crate::storage::files::Storage;
use crate::storage::lock::is_write_action;
use crate::storage::open::Access;
use crate::storage::ownership::FileAction;
use crate::storage::snapshot::is_permanent;
use crate::storage::stop_check::StopCheck;
use crate::storage::survey::{Survey, has_data};
use crate::util::atomics::Flag;

/// The length of a sample in bytes.
const LENGTH: usize = 32;
/// In a larger file, look only at this many parts of `PART` bytes, including the first and the last.
const PARTS: u64 = 16;
const PART: u64 = 256 << 10;

/// What is known about a file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sample {
    /// Nothing: a write of ours is changing the sampled bytes.
    Unknown,
    /// The file holds no data.
    Empty,
    /// The file has these bytes: offset, count, bytes.
    Bytes(u64, usize, [u8; LENGTH]),
}

/// Samples by file number; a file without a sample is not checked.
#[derive(Debug, Default)]
pub(super) struct Samples {
    files: Mutex<HashMap<usize, Sample>>,
    /// Whether there are any samples: most file systems need none.
    any: Flag,
}

impl Samples {
    fn put(&self, file_index: usize, sample: Sample) {
        self.any.set(true);
        self.files.lock().insert(file_index, sample);
    }

    fn get(&self, file_index: usize) -> Option<Sample> {
        if self.any.is_set() { self.files.lock().get(&file_index).copied() } else { None }
    }

    /// Records that a write begins. Returns whether the file has a sample.
    pub fn begin(&self, file_index: usize, offset: u64, len: u64) -> bool {
        let is_changed = |at: u64, count: usize| at < offset + len && offset < at + count as u64;
        match self.get(file_index) {
            None => return false,
            Some(Sample::Bytes(at, count, _)) if !is_changed(at, count) => {}
            Some(_) => self.put(file_index, Sample::Unknown),
        }
        true
    }

    /// Records that the first `written` bytes of `bufs` were written at `offset`.
    pub fn wrote(&self, file_index: usize, offset: u64, bufs: &[IoSlice<'_>], written: usize) {
        let mut at = 0;
        for buf in bufs {
            let buf = buf.get(..buf.len().min(written.saturating_sub(at))).unwrap_or_default();
            if let Some(first) = buf.iter().position(|byte| *byte != 0) {
                let sample = of(offset + (at + first) as u64, buf.get(first..).unwrap_or_default());
                return self.put(file_index, sample);
            }
            at += buf.len();
        }
    }

    /// Whether the file's content fits its sample. A file without one always fits.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn fits(&self, file_index: usize, file: &File) -> io::Result<bool> {
        while let Some(sample) = self.get(file_index) {
            let fits = match sample {
                Sample::Unknown => true,
                Sample::Empty => find(file, &AtomicBool::new(false))?.is_none(),
                Sample::Bytes(at, count, bytes) => {
                    let mut there = [0; LENGTH];
                    let read = file.read_exact_at(there.get_mut(..count).unwrap_or_default(), at);
                    match read {
                        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
                        read => read.map(|()| there == bytes)?,
                    }
                }
            };
            // Another thread of ours may have written meanwhile: then compare again.
            if fits || self.get(file_index) == Some(sample) {
                return Ok(fits);
            }
        }
        Ok(true)
    }

    /// Drops all samples.
    pub fn clear(&self) {
        self.files.lock().clear();
        self.any.set(false);
    }
}

fn of(at: u64, bytes: &[u8]) -> Sample {
    let count = bytes.len().min(LENGTH);
    let mut sample = [0; LENGTH];
    sample.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
    Sample::Bytes(at, count, sample)
}

/// Whether a file holds no data, as far as its parts of `PART` bytes show.
pub(super) fn seems_empty(file: &File) -> bool {
    find(file, &AtomicBool::new(false)).is_ok_and(|data| data.is_none())
}

/// The start of the first examined part of a file that has a non-zero byte.
fn find(file: &File, stop: &dyn StopCheck) -> io::Result<Option<u64>> {
    let size = file.metadata()?.len();
    for (from, upto) in parts(size) {
        if has_data(file, from, upto, stop)? {
            return Ok(Some(from));
        }
    }
    Ok(None)
}

/// The parts to examine in a file of this size.
fn parts(size: u64) -> impl Iterator<Item = (u64, u64)> {
    let (count, part) = if size <= PARTS * PART { (1, size) } else { (PARTS, PART) };
    let step = (size - part) / (count - 1).max(1);
    (0..count).map(move |number| (number * step, number * step + part))
}

/// Takes a sample of a file's current content.
fn sample(file: &File, stop: &dyn StopCheck) -> io::Result<Sample> {
    let Some(from) = find(file, stop)? else { return Ok(Sample::Empty) };
    let mut buf = vec![0; usize::try_from(PART).unwrap_or_default()];
    let mut at = from;
    loop {
        let count = file.read_at(&mut buf, at)?;
        let there = buf.get(..count).unwrap_or_default();
        match there.iter().position(|byte| *byte != 0) {
            Some(first) => return Ok(of(at + first as u64, there.get(first..).unwrap_or_default())),
            None if count == 0 => return Ok(Sample::Unknown),
            None => at += count as u64,
        }
    }
}

impl Storage {
    /// Whether a file may hold no data: its parts of `PART` bytes show none, or it cannot be opened.
    pub(super) fn may_be_empty(&self, file_index: usize) -> bool {
        self.root.open(self.name(file_index), Access::Read).map_or(true, |handle| seems_empty(&handle.file))
    }

    /// Takes samples of the files that btsync writes to and that nothing else distinguishes from others, or whose times have steps of
    /// seconds. `may_have_part_data`: new files may already have data from the part file. Skips the rest if `stop` becomes true.
    pub(super) fn take_samples(
        &self,
        actions: &[FileAction],
        survey: &Survey,
        may_have_part_data: bool,
        stop: &dyn StopCheck,
    ) {
        if self.safeguards.writable_identities.is_none() {
            return; // The caller vouches for the files.
        }
        for (number, action) in actions.iter().enumerate().filter(|(_, action)| is_write_action(**action)) {
            let seen = survey.file(number);
            let is_identifiable =
                seen.is_none_or(|seen| is_permanent(seen.identity)) || self.safeguards.pinned.has(number);
            // With coarse times, only a sample shows an edit in the same second as our last write.
            if (is_identifiable && !self.safeguards.times.are_coarse) || stop.is_stopped() {
                continue;
            }
            let sample = match action {
                FileAction::Create | FileAction::ReplaceEmpty if !may_have_part_data => Ok(Sample::Empty),
                _ => self
                    .root
                    .open(self.name(number), Access::Read)
                    .map_err(io::Error::other)
                    .and_then(|handle| sample(&handle.file, stop)),
            };
            match sample {
                Ok(_) if stop.is_stopped() => {}
                Ok(sample) => self.safeguards.pinned.samples.put(number, sample),
                Err(error) => log::debug!("{}: no sample: {error}", self.name(number).display()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slices<'a>(bufs: &[&'a [u8]]) -> Vec<IoSlice<'a>> {
        bufs.iter().map(|buf| IoSlice::new(buf)).collect()
    }

    #[test]
    fn a_file_is_known_by_the_bytes_that_were_written_last() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str, content: &[u8]| {
            std::fs::write(dir.path().join(name), content).unwrap();
            File::open(dir.path().join(name)).unwrap()
        };
        let samples = Samples::default();
        let fits = |file: &File| samples.fits(3, file).unwrap();
        let (empty, theirs) = (at("empty", &[0; 100]), at("theirs", &[7; 100]));
        assert!(fits(&theirs) && !samples.begin(3, 0, 10), "nothing is known of it");
        samples.put(3, Sample::Empty);
        assert!(fits(&empty) && !fits(&theirs));
        assert!(samples.begin(3, 10, 20) && fits(&theirs), "it is being written to");
        samples.wrote(3, 10, &slices(&[&[0; 8], b"\0\0ours", b"not written"]), 14);
        let ours = at("ours", &[&[0; 20][..], b"ours", &[0; 76]].concat());
        assert!(fits(&ours) && !fits(&theirs) && !fits(&empty) && !fits(&at("short", b"x")));
        assert!(samples.begin(3, 24, 9) && !fits(&theirs), "other bytes are written");
        assert!(samples.begin(3, 23, 9) && fits(&theirs), "these are");
        samples.wrote(3, 23, &slices(&[&[0; 9]]), 9);
        assert!(fits(&theirs), "zeros tell nothing");
        assert_eq!(sample(&ours, &AtomicBool::new(false)).unwrap(), of(20, &[&b"ours"[..], &[0; 76]].concat()));
        assert_eq!(sample(&empty, &AtomicBool::new(false)).unwrap(), Sample::Empty);
        samples.clear();
        assert!(!samples.begin(3, 0, 1));
    }

    #[test]
    fn the_ends_of_a_file_are_looked_at() {
        assert_eq!(parts(0).collect::<Vec<_>>(), [(0, 0)]);
        assert_eq!(parts(PARTS * PART).count(), 1);
        for size in [PARTS * PART + 1, 50 << 30] {
            let all: Vec<_> = parts(size).collect();
            assert!(all.len() == 16 && all[0] == (0, PART) && all[15].0 < size && size - all[15].1 < PARTS, "{size}");
        }
    }
}
