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

use crate::storage::ownership::Claim;
use crate::storage::snapshot::is_permanent;
use crate::types::{InfoHash, hex};

/// The first word of a marker; it contains the version of the format.
pub(super) const MAGIC: &str = "btsync-marker-2";
/// Explains the marker to a user who opens it.
const NOTE: &str = "# btsync is downloading this torrent, or was stopped before it was complete. The same command resumes it and then\n\
                    # removes this file. `existed` names files that were there before, and those that are complete: they are not btsync's.\n";
/// A longer file is not a marker: a torrent with as many files as fit into 32 MiB of metainfo needs less.
pub(super) const MAX_MARKER_SIZE: u64 = 128 << 20;

/// The name of a torrent's marker, relative to the download folder.
pub fn marker_name(info_hash: &InfoHash) -> PathBuf {
    PathBuf::from(format!(".{info_hash}.btsync"))
}

/// The info hash of the torrent whose marker has this name; `None` if it is not a marker's name.
pub(super) fn marker_info_hash(name: &str) -> Option<InfoHash> {
    let hash = name.strip_prefix('.')?.strip_suffix(".btsync")?;
    let byte = |at: usize| u8::from_str_radix(hash.get(at * 2..at * 2 + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..20).map(byte).collect();
    (hash.len() == 40).then_some(InfoHash(bytes?.try_into().ok()?))
}

/// Whether btsync reserves this name at the top of the download folder for a marker or a part file.
pub fn is_reserved(name: &Path) -> bool {
    let name = name.to_str().unwrap_or_default();
    let name = name.strip_suffix(".new").unwrap_or(name).to_ascii_lowercase();
    let parts = name.strip_suffix(".parts").map(|name| name.strip_suffix(".btsync").unwrap_or(name));
    marker_info_hash(&parts.map_or(name.clone(), |hash| format!("{hash}.btsync"))).is_some()
}

/// The content of a marker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marker {
    /// The files that existed before, and those that are complete.
    pub existed: Vec<PathBuf>,
    /// The files that btsync made or was allowed to overwrite: hash of the path → identity of the file.
    pub made: HashMap<u64, u64>,
    /// The existing files that btsync writes to, in the same form.
    pub used_existing: HashMap<u64, u64>,
    /// Complete files that btsync made, in the same form: they are the user's, and btsync gives them their final names.
    pub done: HashMap<u64, u64>,
    /// Files that another program changed while btsync wrote to them, in the same form: btsync has refused to continue them.
    pub refused: HashMap<u64, u64>,
    /// Whether the process that wrote the marker has ended properly, so that it wrote to no file after the marker.
    pub stopped: bool,
}

/// What happens to files while a download runs. btsync appends it to the marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MarkerNote {
    /// The file with this hash of its path and this identity is complete.
    Done(u64, u64),
    /// Another program has changed the file.
    Refused(u64, u64),
    /// btsync no longer writes to any file.
    Stopped,
}

impl MarkerNote {
    /// The note as a line with its own checksum, so that a truncated line is ignored.
    pub fn line(self) -> String {
        let text = match self {
            MarkerNote::Done(path_hash, identity) => format!("done {path_hash:016x} {identity:016x}"),
            MarkerNote::Refused(path_hash, identity) => format!("refused {path_hash:016x} {identity:016x}"),
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
        let file = words.next().and_then(number).zip(words.next().and_then(number));
        match (word, file) {
            ("done", Some((path_hash, identity))) => Some(MarkerNote::Done(path_hash, identity)),
            ("refused", Some((path_hash, identity))) => Some(MarkerNote::Refused(path_hash, identity)),
            ("stopped", None) => Some(MarkerNote::Stopped),
            _ => None,
        }
    }
}

/// The hash that stands for a path in a marker.
pub(super) fn path_hash(path: &Path) -> u64 {
    let digest = Sha1::digest(path.as_os_str().as_bytes());
    digest.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

impl Marker {
    /// Whether the marker says that btsync made this file.
    pub fn made(&self, path: &Path, identity: u64) -> bool {
        self.made.get(&path_hash(path)) == Some(&identity)
    }

    /// Whether btsync made this file, complete or not.
    pub fn has_made(&self, path: &Path, identity: u64) -> bool {
        self.made(path, identity) || self.done(path, identity)
    }

    /// Whether btsync made this file and it is complete.
    pub fn done(&self, path: &Path, identity: u64) -> bool {
        self.done.get(&path_hash(path)) == Some(&identity)
    }

    /// Whether an earlier run refused to write to this file.
    pub fn is_refused(&self, path: &Path, identity: u64) -> bool {
        self.refused.get(&path_hash(path)) == Some(&identity)
    }

    /// Whether the marker contains anything that a later run needs.
    pub fn is_needed(&self) -> bool {
        !(self.made.is_empty() && self.done.is_empty() && self.refused.is_empty())
    }

    /// Applies a note.
    pub(super) fn apply(&mut self, note: MarkerNote) {
        match note {
            MarkerNote::Done(path_hash, identity) => {
                if self.made.get(&path_hash) == Some(&identity) {
                    self.made.remove(&path_hash);
                    self.done.insert(path_hash, identity);
                }
                self.used_existing.remove(&path_hash);
            }
            MarkerNote::Refused(path_hash, identity) => {
                self.made.remove(&path_hash);
                self.done.remove(&path_hash);
                self.used_existing.remove(&path_hash);
                self.refused.insert(path_hash, identity);
            }
            MarkerNote::Stopped => self.stopped = true,
        }
    }

    /// Whether the marker proves that btsync made this file. A reusable inode number proves nothing.
    pub fn proves(&self, path: &Path, identity: u64) -> bool {
        self.made(path, identity) && is_permanent(identity)
    }

    /// What the marker says about a file without proving it.
    pub fn claims(&self, path: &Path, identity: u64) -> Claim {
        match self.made.get(&path_hash(path)) {
            Some(made) if *made == identity => Claim::MadeButReusable,
            Some(made) if !is_permanent(*made) && !is_permanent(identity) => Claim::StartedHere,
            _ => Claim::None,
        }
    }

    /// Whether the marker says that the download writes to this file.
    pub fn uses(&self, path: &Path, identity: u64) -> bool {
        self.made(path, identity) || self.used_existing.get(&path_hash(path)) == Some(&identity)
    }

    /// Removes a complete file from the marker: later changes to it are the user's. Returns whether the marker named it.
    pub fn remove_complete(&mut self, path: &Path) -> bool {
        let path_hash = path_hash(path);
        self.refused.remove(&path_hash);
        let was_made = self.made.remove(&path_hash).is_some();
        let made = self.done.remove(&path_hash).is_some() || was_made;
        if made {
            self.existed.push(path.to_owned());
        }
        self.used_existing.remove(&path_hash).is_some() || made
    }

    /// The marker as bytes.
    pub fn encode(&self, info_hash: &InfoHash) -> Vec<u8> {
        let mut text = format!("{MAGIC} {info_hash}\n{NOTE}").into_bytes();
        for path in &self.existed {
            text.extend_from_slice(b"existed ");
            text.extend(path.as_os_str().as_bytes().iter().map(|byte| if *byte == b'\n' { b'?' } else { *byte }));
            text.push(b'\n');
        }
        let lists = [&self.made, &self.used_existing, &self.done, &self.refused];
        for (word, files) in ["made", "uses", "done", "refused"].into_iter().zip(lists) {
            let mut files: Vec<_> = files.iter().collect();
            files.sort_unstable();
            for (path_hash, identity) in files {
                text.extend(format!("{word} {path_hash:016x} {identity:016x}\n").into_bytes());
            }
        }
        let sum = hex(&Sha1::digest(&text));
        text.extend(format!("sum {sum}\n").into_bytes());
        text
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
                marker.existed.push(PathBuf::from(std::ffi::OsStr::from_bytes(path)));
                continue;
            }
            let words = std::str::from_utf8(line).unwrap_or_default();
            if let Some((word @ ("made" | "uses" | "done" | "refused"), rest)) = words.split_once(' ') {
                let (path_hash, identity) = rest.split_once(' ')?;
                let files = match word {
                    "made" => &mut marker.made,
                    "uses" => &mut marker.used_existing,
                    "done" => &mut marker.done,
                    _ => &mut marker.refused,
                };
                files.insert(number(path_hash)?, number(identity)?);
            }
        }
        let notes = notes.split(|byte| *byte == b'\n').map_while(|line| std::str::from_utf8(line).ok());
        notes.map_while(MarkerNote::read).for_each(|note| marker.apply(note));
        Some(marker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HASH: InfoHash = InfoHash([0xab; 20]);

    #[test]
    fn names_are_a_markers_or_not() {
        let name = marker_name(&HASH);
        assert_eq!(marker_info_hash(name.to_str().unwrap()), Some(HASH));
        for other in ["", ".btsync", "x.btsync", ".abab.btsync", ".+b+b+b+b+b+b+b+b+b+b+b+b+b+b+b+b+b+b+b+b.parts"] {
            assert_eq!(marker_info_hash(other), None, "{other}");
        }
        let parts = crate::storage::part_name(&HASH);
        let new = format!("{}.new", name.display());
        let beside = format!("{}.parts", name.display());
        for ours in [
            name.as_path(),
            &parts,
            Path::new(&new),
            Path::new(&beside),
            Path::new(&name.display().to_string().to_uppercase()),
        ] {
            assert!(is_reserved(ours), "{}", ours.display());
        }
        let bare = format!(".{HASH}");
        for other in [".bashrc", "x", ".abab.parts", "", &bare] {
            assert!(!is_reserved(Path::new(other)), "{other}");
        }
    }

    #[test]
    fn a_file_is_the_same_only_if_it_is_the_one_that_was_made() {
        let marker = Marker { made: [(path_hash(Path::new("a")), 7)].into(), ..Marker::default() };
        assert!(marker.made(Path::new("a"), 7) && marker.uses(Path::new("a"), 7));
        assert!(!marker.made(Path::new("a"), 8), "somebody put another file there, or the folder is a copy");
        assert!(!marker.made(Path::new("b"), 7));
    }

    #[test]
    fn a_number_that_passes_is_a_claim_and_one_that_lasts_is_more() {
        let (a, passing) = (Path::new("a"), 1 << 63);
        let marker = Marker { made: [(path_hash(a), passing | 7)].into(), ..Marker::default() };
        assert!(!marker.proves(a, passing | 7));
        assert_eq!(marker.claims(a, passing | 7), Claim::MadeButReusable);
        assert_eq!(marker.claims(a, passing | 8), Claim::StartedHere, "a file system in user space counts anew");
        assert_eq!([marker.claims(a, 7), marker.claims(Path::new("b"), passing | 7)], [Claim::None; 2]);
        let lasting = Marker { made: [(path_hash(a), 7)].into(), ..Marker::default() };
        assert_eq!([lasting.claims(a, 8), lasting.claims(a, passing | 7)], [Claim::None; 2], "another file");
    }

    #[test]
    fn a_file_that_was_there_before_is_used_and_not_made_and_one_that_is_complete_is_neither() {
        let [a, b] = ["a", "b"].map(Path::new);
        let (made, used_existing) = ([(path_hash(a), 7)].into(), [(path_hash(b), 8)].into());
        let mut marker = Marker { existed: vec![b.to_owned()], made, used_existing, ..Marker::default() };
        assert!(marker.uses(b, 8) && !marker.made(b, 8) && !marker.uses(b, 9));
        assert!(marker.remove_complete(a) && marker.remove_complete(b) && !marker.remove_complete(a));
        assert_eq!(marker, Marker { existed: vec![b.to_owned(), a.to_owned()], ..Marker::default() });
    }

    #[test]
    fn notes_are_appended_and_a_note_that_was_cut_off_says_nothing() {
        let [a, b] = ["a", "b"].map(Path::new);
        let marker = Marker { made: [(path_hash(a), 7), (path_hash(b), 8)].into(), ..Marker::default() };
        let mut bytes = marker.encode(&HASH);
        bytes.extend(MarkerNote::Done(path_hash(a), 7).line().bytes());
        let length = bytes.len();
        bytes.extend(MarkerNote::Refused(path_hash(b), 8).line().bytes());
        let first = Marker::decode(&bytes[..length], &HASH).unwrap();
        assert!(first.done(a, 7) && first.has_made(a, 7) && !first.made(a, 7) && first.made(b, 8));
        for cut in length..bytes.len() - 1 {
            assert_eq!(Marker::decode(&bytes[..cut], &HASH).as_ref(), Some(&first), "{cut}");
        }
        bytes.extend(MarkerNote::Stopped.line().bytes());
        let last = Marker::decode(&bytes, &HASH).unwrap();
        assert!(
            last.is_refused(b, 8) && !last.is_refused(b, 9) && !last.has_made(b, 8) && last.stopped && last.is_needed()
        );
        assert_eq!(Marker::decode(&last.encode(&HASH), &HASH), Some(Marker { stopped: false, ..last }));
    }

    #[test]
    fn what_is_damaged_or_anothers_is_not_believed() {
        let bytes = Marker { made: [(1, 2)].into(), ..Marker::default() }.encode(&HASH);
        assert!(Marker::decode(&bytes, &HASH).is_some());
        assert_eq!(Marker::decode(&bytes, &InfoHash([1; 20])), None);
        for cut in 0..bytes.len() {
            assert_eq!(Marker::decode(&bytes[..cut], &HASH), None, "{cut}");
        }
        for at in 0..bytes.len() {
            let mut spoilt = bytes.clone();
            spoilt[at] ^= 1;
            assert_eq!(Marker::decode(&spoilt, &HASH), None, "{at}");
        }
    }

    proptest! {
        #[test]
        fn a_marker_comes_back(made: HashMap<u64, u64>, used_existing: HashMap<u64, u64>, existed in proptest::collection::vec("[^\n]{1,20}", 0..5)) {
            let existed = existed.into_iter().map(PathBuf::from).collect();
            let (done, refused) = (made.clone(), used_existing.clone());
            let marker = Marker { existed, made, used_existing, done, refused, stopped: false };
            prop_assert_eq!(Marker::decode(&marker.encode(&HASH), &HASH), Some(marker));
        }
    }
}
