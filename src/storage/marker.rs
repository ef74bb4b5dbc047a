//! The marker: a hidden file beside an unfinished download that records which files btsync made, so that a later run resumes
//! those and no others. Pure: bytes ↔ values; `lock.rs` reads and writes the file.
//!
//! The marker names files by path and by an identity that no later file of that path has (`snapshot.rs`). A file that the user
//! puts in place of an unfinished one therefore stays the user's, and a copy of a marker proves nothing. Existing files that
//! btsync writes to are named too, so that no other torrent writes to them; they stay the user's.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use sha1::{Digest, Sha1};

use crate::metainfo::is_own_file;
use crate::storage::ownership::OwnershipClaim;
use crate::storage::snapshot::{FileSnapshot, is_permanent};
use crate::types::InfoHash;
use crate::util::cold_sort;
use crate::util::hex::hex;

/// The first word of a marker; it contains the version of the format.
pub(super) const MAGIC: &str = "btsync-marker-2";
/// Explains the marker to a user who opens it.
const NOTE: &str = "# btsync is downloading this torrent, or was stopped before it was complete. The same command resumes it and then\n\
                    # removes this file. `existed` names files that existed before, and complete files: they belong to the user.\n";
/// A longer file is not a marker: a torrent with as many files as fit into 32 MiB of metainfo needs less.
pub(super) const MAX_MARKER_SIZE: u64 = 128 << 20;

/// The name of a torrent's marker, relative to the download folder.
pub fn marker_name(info_hash: &InfoHash) -> PathBuf {
    PathBuf::from(format!(".{info_hash}.btsync"))
}

/// The info hash of the torrent whose marker has this name; `None` if it is not a marker's name.
pub(super) fn marker_info_hash(name: &str) -> Option<InfoHash> {
    let hash = name.strip_prefix('.')?.strip_suffix(".btsync")?;
    InfoHash::from_hex(hash)
}

/// Whether btsync reserves this name in a download folder for its own files, or a file system may take it for such a name.
pub fn is_reserved(name: &Path) -> bool {
    name.to_str().is_some_and(is_own_file)
}

/// The content of a marker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marker {
    /// The user's files: those that existed before, and those that are complete.
    pub user_files: Vec<PathBuf>,
    /// The unfinished files that btsync made or was allowed to overwrite: hash of the path → identity of the file.
    pub created: HashMap<u64, u64>,
    /// The existing files that btsync writes to, in the same form.
    pub used_existing: HashMap<u64, u64>,
    /// The complete ones of these files, in the same form: they are the user's, and btsync gives them their final names.
    pub completed: HashMap<u64, u64>,
    /// The latest change time (ctime) that each complete file can have unless another program has changed it since, in nanoseconds
    /// since 1970; by the hash of the path. Files that an earlier version recorded have none.
    pub completed_at: HashMap<u64, i64>,
    /// Files that another program changed while btsync wrote to them, in the same form: btsync has refused to continue them.
    pub refused: HashMap<u64, u64>,
    /// Unfinished files of `created` that another program has changed, in the same form: one of their pieces must verify.
    pub edited: HashMap<u64, u64>,
    /// btsync ran until this time at least, in nanoseconds since 1970, on a clock that was set back since; 0 if it was not.
    pub ran_until: i64,
    /// No file of `created` was last written to before this time, in nanoseconds since 1970; 0 if that is not known.
    pub earliest_write: i64,
    /// Whether the process that wrote the marker has ended properly, so that it wrote to no file after the marker.
    pub has_stopped: bool,
    /// The modification times (mtime) with which that process left the files that btsync made, in nanoseconds since 1970; by the
    /// hash of the path.
    pub mtimes_at_stop: HashMap<u64, i64>,
    /// The marker's own modification time (mtime) when it was read, in nanoseconds since 1970; 0 if it was not read.
    pub modified_at: i64,
}

/// What happens to files while a download runs. btsync appends it to the marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MarkerNote {
    /// The file with this hash of its path and this identity is complete, and was last changed at this time (ctime).
    Completed(u64, u64, i64),
    /// Another program has changed the file.
    Refused(u64, u64),
    /// Another program has changed the unfinished file, and btsync has not written to it since.
    Edited(u64, u64),
    /// btsync ran at this time, and the clock was set back then.
    RanUntil(i64),
    /// btsync leaves the file with this hash of its path, with this modification time.
    Left(u64, i64),
    /// btsync no longer writes to any file.
    Stopped,
}

impl MarkerNote {
    /// The note as a line with its own checksum, so that a truncated line is ignored.
    pub fn line(self) -> String {
        let text = match self {
            MarkerNote::Completed(path_hash, identity, at) => {
                format!("done {path_hash:016x} {identity:016x} {at:016x}")
            }
            MarkerNote::Refused(path_hash, identity) => format!("refused {path_hash:016x} {identity:016x}"),
            MarkerNote::Edited(path_hash, identity) => format!("edited {path_hash:016x} {identity:016x}"),
            MarkerNote::RanUntil(time) => format!("clock {time:016x}"),
            MarkerNote::Left(path_hash, time) => format!("left {path_hash:016x} {time:016x}"),
            MarkerNote::Stopped => "stopped".to_owned(),
        };
        let sum = path_hash(Path::new(&text));
        format!("{text} {sum:016x}\n")
    }

    fn read(line: &str) -> Option<MarkerNote> {
        let (text, sum) = line.rsplit_once(' ')?;
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        if number(sum)? != path_hash(Path::new(text)) {
            return None;
        }
        let mut words = text.split(' ');
        let word = words.next()?;
        let numbers: Option<Vec<u64>> = words.map(number).collect();
        match (word, numbers?.as_slice()) {
            // An earlier version did not record the time.
            ("done", [path_hash, identity]) => Some(MarkerNote::Completed(*path_hash, *identity, i64::MAX)),
            ("done", [path_hash, identity, at]) => Some(MarkerNote::Completed(*path_hash, *identity, time(*at))),
            ("refused", [path_hash, identity]) => Some(MarkerNote::Refused(*path_hash, *identity)),
            ("edited", [path_hash, identity]) => Some(MarkerNote::Edited(*path_hash, *identity)),
            ("clock", [at]) => Some(MarkerNote::RanUntil(time(*at))),
            ("left", [path_hash, at]) => Some(MarkerNote::Left(*path_hash, time(*at))),
            ("stopped", []) => Some(MarkerNote::Stopped),
            _ => None,
        }
    }
}

/// A time in a marker, in nanoseconds since 1970.
fn time(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The hash that stands for a path in a marker.
pub(super) fn path_hash(path: &Path) -> u64 {
    let digest = Sha1::digest(path.as_os_str().as_bytes());
    digest.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// What the marker said about a file before it was removed from the marker.
struct RemovedEntry {
    /// It was one of this download's files.
    was_ours: bool,
    /// btsync had made it.
    was_made: bool,
}

impl Marker {
    /// Whether the marker says that btsync made this file, or was allowed to overwrite it, and has not completed it.
    pub fn is_unfinished_file(&self, path: &Path, identity: u64) -> bool {
        self.created.get(&path_hash(path)) == Some(&identity)
    }

    /// Whether btsync made this file, or was allowed to overwrite it; complete or not.
    pub fn is_created_file(&self, path: &Path, identity: u64) -> bool {
        self.is_unfinished_file(path, identity) || self.is_completed_file(path, identity)
    }

    /// Whether the marker names this path as that of a file that btsync made or was allowed to overwrite, complete or not.
    pub fn has_path(&self, path: &Path) -> bool {
        let path_hash = path_hash(path);
        self.created.contains_key(&path_hash) || self.completed.contains_key(&path_hash)
    }

    /// Whether btsync made this file, or was allowed to overwrite it, and has completed it.
    pub fn is_completed_file(&self, path: &Path, identity: u64) -> bool {
        self.completed.get(&path_hash(path)) == Some(&identity)
    }

    /// Whether btsync completed this file and nobody has changed it since, as far as its change time (ctime) shows. A crash of the
    /// system may leave a file with an earlier time.
    pub fn is_completed_and_unchanged(&self, path: &Path, seen: &FileSnapshot) -> bool {
        let at = self.completed_at.get(&path_hash(path)).copied().unwrap_or(i64::MAX);
        self.is_completed_file(path, seen.identity)
            && seen.changed_at() <= at
            && !self.is_changed_after_stop(path, seen)
    }

    /// Whether the file has another modification time than the one with which btsync left it when it stopped. This needs no clock.
    pub fn is_changed_after_stop(&self, path: &Path, seen: &FileSnapshot) -> bool {
        self.has_stopped
            && self.mtimes_at_stop.get(&path_hash(path)).is_some_and(|left| *left != seen.modified_at().max(0))
    }

    /// Whether another program has changed this unfinished file of btsync's.
    pub fn is_edited(&self, path: &Path, identity: u64) -> bool {
        self.edited.get(&path_hash(path)) == Some(&identity)
    }

    /// Whether this file was there before and an earlier run wrote to it.
    pub fn is_used_existing(&self, path: &Path, identity: u64) -> bool {
        self.used_existing.get(&path_hash(path)) == Some(&identity)
    }

    /// Whether an earlier run refused to write to this file.
    pub fn is_refused(&self, path: &Path, identity: u64) -> bool {
        self.refused.get(&path_hash(path)) == Some(&identity)
    }

    /// Whether the marker contains anything that a later run needs.
    pub fn is_needed(&self) -> bool {
        !(self.created.is_empty() && self.completed.is_empty() && self.refused.is_empty())
    }

    /// Applies a note.
    pub(super) fn apply(&mut self, note: MarkerNote) {
        match note {
            MarkerNote::Completed(path_hash, identity, at) => {
                if [&self.created, &self.completed].iter().any(|files| files.get(&path_hash) == Some(&identity)) {
                    self.remove(path_hash);
                    self.completed.insert(path_hash, identity);
                    self.completed_at.insert(path_hash, at);
                }
                self.used_existing.remove(&path_hash);
            }
            MarkerNote::Refused(path_hash, identity) => {
                self.remove(path_hash);
                self.refused.insert(path_hash, identity);
            }
            MarkerNote::Edited(path_hash, identity) => {
                if self.created.get(&path_hash) == Some(&identity) {
                    self.edited.insert(path_hash, identity);
                }
            }
            MarkerNote::RanUntil(time) => self.ran_until = self.ran_until.max(time),
            MarkerNote::Left(path_hash, time) => _ = self.mtimes_at_stop.insert(path_hash, time),
            MarkerNote::Stopped => self.has_stopped = true,
        }
    }

    /// Removes a file from the marker. Returns what the marker said about it.
    fn remove(&mut self, path_hash: u64) -> RemovedEntry {
        let was_created = self.created.remove(&path_hash).is_some();
        let was_made = self.completed.remove(&path_hash).is_some() || was_created;
        self.completed_at.remove(&path_hash);
        self.edited.remove(&path_hash);
        RemovedEntry { was_ours: self.used_existing.remove(&path_hash).is_some() || was_made, was_made }
    }

    /// Whether the marker proves that btsync made this file. A reusable inode number proves nothing.
    pub fn proves(&self, path: &Path, identity: u64) -> bool {
        self.is_unfinished_file(path, identity) && is_permanent(identity)
    }

    /// What the marker says about a file without proving it.
    pub fn claims(&self, path: &Path, identity: u64) -> OwnershipClaim {
        match self.created.get(&path_hash(path)) {
            Some(made) if *made == identity => OwnershipClaim::MadeButReusable,
            Some(made) if !is_permanent(*made) && !is_permanent(identity) => OwnershipClaim::StartedHere,
            _ => OwnershipClaim::None,
        }
    }

    /// Whether the marker says that the download writes to this file.
    pub fn uses(&self, path: &Path, identity: u64) -> bool {
        self.is_unfinished_file(path, identity) || self.is_used_existing(path, identity)
    }

    /// Removes a complete file from the marker: later changes to it are the user's. Returns whether the marker named it.
    pub fn remove_complete(&mut self, path: &Path) -> bool {
        let path_hash = path_hash(path);
        self.refused.remove(&path_hash);
        self.mtimes_at_stop.remove(&path_hash);
        let removed = self.remove(path_hash);
        if removed.was_made {
            self.user_files.push(path.to_owned());
        }
        removed.was_ours
    }

    /// Removes the file with this identity from the marker, whatever its name. Returns whether the marker named it.
    pub(super) fn remove_identity(&mut self, identity: u64) -> bool {
        let named =
            self.created.iter().chain(&self.completed).find(|(_, named)| **named == identity && is_permanent(identity));
        let Some(path_hash) = named.map(|(path_hash, _)| *path_hash) else { return false };
        self.remove(path_hash).was_ours
    }

    /// The marker as bytes.
    pub fn encode(&self, info_hash: &InfoHash) -> Vec<u8> {
        let mut text = format!("{MAGIC} {info_hash}\n{NOTE}").into_bytes();
        for path in &self.user_files {
            text.extend_from_slice(b"existed ");
            text.extend(path.as_os_str().as_bytes().iter().map(|byte| if *byte == b'\n' { b'?' } else { *byte }));
            text.push(b'\n');
        }
        let lists = [&self.created, &self.used_existing, &self.completed, &self.refused, &self.edited];
        for (word, files) in ["made", "uses", "done", "refused", "edited"].into_iter().zip(lists) {
            let mut files: Vec<_> = files.iter().collect();
            cold_sort::sort(&mut files);
            for (path_hash, identity) in files {
                text.extend(format!("{word} {path_hash:016x} {identity:016x}\n").into_bytes());
            }
        }
        let mut times: Vec<_> = self.completed_at.iter().collect();
        cold_sort::sort(&mut times);
        for (path_hash, at) in times {
            text.extend(format!("time {path_hash:016x} {at:016x}\n").into_bytes());
        }
        if self.ran_until > 0 {
            text.extend(format!("clock {:016x}\n", self.ran_until).into_bytes());
        }
        if self.earliest_write > 0 {
            text.extend(format!("begun {:016x}\n", self.earliest_write).into_bytes());
        }
        let sum = hex(&Sha1::digest(&text));
        text.extend(format!("sum {sum}\n").into_bytes());
        text.extend(self.stop_notes().into_bytes());
        text
    }

    /// The notes of a process that has ended properly, which are not in the body.
    fn stop_notes(&self) -> String {
        let mut left: Vec<_> =
            self.mtimes_at_stop.iter().map(|(path_hash, at)| MarkerNote::Left(*path_hash, *at)).collect();
        cold_sort::sort_by_key(&mut left, |note| note.line());
        left.extend(self.has_stopped.then_some(MarkerNote::Stopped));
        left.into_iter().filter(|_| self.has_stopped).map(MarkerNote::line).collect()
    }

    /// Parses the output of [`Marker::encode`]; `None` if it is damaged or belongs to another torrent.
    pub fn decode(bytes: &[u8], info_hash: &InfoHash) -> Option<Marker> {
        // No line before the checksum begins with this word.
        let at = bytes.windows(5).position(|window| window == b"\nsum ")? + 1;
        let (body, rest) = bytes.split_at_checked(at)?;
        let (sum, notes) = rest.split_at_checked(45)?;
        if sum != format!("sum {}\n", hex(&Sha1::digest(body))).as_bytes() {
            return None;
        }
        let mut lines = body.split(|byte| *byte == b'\n');
        if lines.next()? != format!("{MAGIC} {info_hash}").as_bytes() {
            return None;
        }
        let mut marker = Marker::default();
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        for line in lines {
            if let Some(path) = line.strip_prefix(b"existed ") {
                marker.user_files.push(PathBuf::from(std::ffi::OsStr::from_bytes(path)));
                continue;
            }
            let words = std::str::from_utf8(line).unwrap_or_default();
            let mut words = words.split(' ');
            let (word, mut numbers) = (words.next().unwrap_or_default(), words.map(number));
            let mut next = || numbers.next().flatten();
            let files = match word {
                "made" => &mut marker.created,
                "uses" => &mut marker.used_existing,
                "done" => &mut marker.completed,
                "refused" => &mut marker.refused,
                "edited" => &mut marker.edited,
                "time" => {
                    marker.completed_at.insert(next()?, time(next()?));
                    continue;
                }
                "clock" => {
                    marker.ran_until = time(next()?);
                    continue;
                }
                "begun" => {
                    marker.earliest_write = time(next()?);
                    continue;
                }
                _ => continue,
            };
            files.insert(next()?, next()?);
        }
        let notes = notes.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
        notes.filter_map(MarkerNote::read).for_each(|note| marker.apply(note));
        Some(marker)
    }
}

#[cfg(test)]
mod tests;
