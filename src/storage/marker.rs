//! The marker: one hidden file beside an unfinished download that says which files btsync made, so that it goes on with those
//! and with no others. Pure: bytes ↔ values; `lock.rs` reads and writes the file.
//!
//! It names files by their path and by what tells them from every later file of that name ([`Entry::identity`]). A file that
//! the user put in the place of an unfinished one is therefore nobody's but the user's. A copy of the whole folder has
//! other identities, the marker itself among them; then the path alone counts.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use sha1::{Digest, Sha1};

use crate::types::{InfoHash, hex};

/// The first word, with the version.
pub(super) const HEAD: &str = "btsync-marker-1";
/// For those who find the file and wonder.
const NOTE: &str = "# btsync is downloading this torrent, or was stopped before it was complete. The same command resumes it and then\n\
                    # removes this file. `existed` names files that were there before, which btsync does not write to.\n";
/// A marker that is longer is none of ours: a torrent of as many files as fit into 32 MiB needs a third of it.
pub(super) const LONGEST: u64 = 64 << 20;

/// The name of a torrent's marker, from the download folder on.
pub fn marker_name(info_hash: &InfoHash) -> PathBuf {
    PathBuf::from(format!(".{info_hash}.btsync"))
}

/// The torrent whose marker has this name; `None` where it is no marker's.
pub(super) fn torrent_of(name: &str) -> Option<InfoHash> {
    let hash = name.strip_prefix('.')?.strip_suffix(".btsync")?;
    let byte = |at: usize| u8::from_str_radix(hash.get(at * 2..at * 2 + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..20).map(byte).collect();
    (hash.len() == 40).then_some(InfoHash(bytes?.try_into().ok()?))
}

/// Whether a name at the top of the download folder is one that btsync keeps for itself: a marker's or a part file's.
pub fn is_reserved(name: &Path) -> bool {
    let name = name.to_str().unwrap_or_default();
    let name = name.strip_suffix(".new").unwrap_or(name).to_ascii_lowercase();
    let parts = name.strip_suffix(".parts").map(|name| name.strip_suffix(".btsync").unwrap_or(name));
    torrent_of(&parts.map_or(name.clone(), |hash| format!("{hash}.btsync"))).is_some()
}

/// What a marker says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marker {
    /// What tells the marker itself from others; see the module's head.
    pub identity: u64,
    /// The files that were there before and are not written to.
    pub existed: Vec<PathBuf>,
    /// The files that btsync made or was given: the hash of the path, and the file's identity.
    pub made: HashMap<u64, u64>,
}

/// What stands for a path in a marker.
pub(super) fn place(path: &Path) -> u64 {
    let digest = Sha1::digest(path.as_os_str().as_bytes());
    digest.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

impl Marker {
    /// Whether the marker says that btsync made this file; `here`: the marker itself is the file that it was written as.
    pub fn names(&self, path: &Path, identity: u64, here: bool) -> bool {
        self.made.get(&place(path)).is_some_and(|made| *made == identity || !here)
    }

    /// The marker as bytes.
    pub fn encode(&self, info_hash: &InfoHash) -> Vec<u8> {
        let mut text = format!("{HEAD} {info_hash}\n{NOTE}self {:016x}\n", self.identity).into_bytes();
        for path in &self.existed {
            text.extend_from_slice(b"existed ");
            text.extend(path.as_os_str().as_bytes().iter().map(|byte| if *byte == b'\n' { b'?' } else { *byte }));
            text.push(b'\n');
        }
        let mut made: Vec<_> = self.made.iter().collect();
        made.sort_unstable();
        for (place, identity) in made {
            text.extend(format!("made {place:016x} {identity:016x}\n").into_bytes());
        }
        let sum = hex(&Sha1::digest(&text));
        text.extend(format!("sum {sum}\n").into_bytes());
        text
    }

    /// Reads what [`Marker::encode`] wrote; `None` where it is damaged or another torrent's.
    pub fn decode(bytes: &[u8], info_hash: &InfoHash) -> Option<Marker> {
        let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(45)?)?;
        if sum != format!("sum {}\n", hex(&Sha1::digest(body))).as_bytes() {
            return None;
        }
        let mut lines = body.split(|byte| *byte == b'\n');
        if lines.next()? != format!("{HEAD} {info_hash}").as_bytes() {
            return None;
        }
        let mut marker = Marker::default();
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        for line in lines {
            if let Some(path) = line.strip_prefix(b"existed ") {
                marker.existed.push(PathBuf::from(std::ffi::OsStr::from_bytes(path)));
                continue;
            }
            match std::str::from_utf8(line).unwrap_or_default().split_once(' ') {
                Some(("self", identity)) => marker.identity = number(identity)?,
                Some(("made", rest)) => {
                    let (place, identity) = rest.split_once(' ')?;
                    marker.made.insert(number(place)?, number(identity)?);
                }
                _ => {}
            }
        }
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
        assert_eq!(torrent_of(name.to_str().unwrap()), Some(HASH));
        for other in ["", ".btsync", "x.btsync", ".abab.btsync", ".+b+b+b+b+b+b+b+b+b+b+b+b+b+b+b+b+b+b+b+b.parts"] {
            assert_eq!(torrent_of(other), None, "{other}");
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
        let marker = Marker { made: [(place(Path::new("a")), 7)].into(), ..Marker::default() };
        assert!(marker.names(Path::new("a"), 7, true));
        assert!(!marker.names(Path::new("a"), 8, true), "somebody put another file there");
        assert!(marker.names(Path::new("a"), 8, false), "the folder was copied");
        assert!(!marker.names(Path::new("b"), 7, false));
    }

    #[test]
    fn what_is_damaged_or_anothers_is_not_believed() {
        let bytes = Marker { identity: 3, made: [(1, 2)].into(), ..Marker::default() }.encode(&HASH);
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
        fn a_marker_comes_back(identity: u64, made: HashMap<u64, u64>, existed in proptest::collection::vec("[^\n]{1,20}", 0..5)) {
            let existed = existed.into_iter().map(PathBuf::from).collect();
            let marker = Marker { identity, existed, made };
            prop_assert_eq!(Marker::decode(&marker.encode(&HASH), &HASH), Some(marker));
        }
    }
}
