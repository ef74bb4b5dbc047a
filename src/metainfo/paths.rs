//! Makes untrusted names safe for a file system and a terminal.
//! Names that would leave the download folder are refused. Other unsafe names are replaced by a safe form. Where different names
//! could get the same safe form, a few digits of the original name's hash keep them distinct.

use sha1::{Digest, Sha1};

use crate::util::hex::hex;
use crate::util::paths::ascii_folded;
use crate::util::printable_text::{is_deceptive, is_invisible};

/// The longest name, in bytes: the limit of common file systems.
pub const NAME_MAX: usize = 255;

/// The most components in a path within a torrent: folders plus the file name.
pub const DEPTH_MAX: usize = 100;

/// The longest path within a torrent, in bytes, including the torrent's name: somewhat below the system's limit for one path.
pub const PATH_MAX: usize = 4000;

/// The longest file extension, in bytes with its dot, that is preserved when a name is shortened.
const ENDING_MAX: usize = 16;

/// Why a name or path is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A component is empty.
    #[error("a name is empty")]
    Empty,
    /// A component is `.` or `..`. Its value is that component.
    #[error("a file's path has the component `{0}`, which is not allowed")]
    DotComponent(&'static str),
    /// The path has too many components.
    #[error("a file's path is more than {DEPTH_MAX} folders deep")]
    TooDeep,
    /// The path is longer than [`PATH_MAX`], or one component is longer than the parser reads.
    #[error("a file's path is longer than {PATH_MAX} bytes")]
    TooLong,
    /// A component is not a string.
    #[error("a component of a file's path is not a string")]
    NotText,
}

/// Checks one path component and returns the name to use on disk, unchanged if possible. Path separators become `_`. So do
/// control characters, NUL, characters that reorder text, invisible ones, and bytes that are not UTF-8; in that case, and when a name
/// over [`NAME_MAX`] bytes is shortened, the result gets `~` and 8 hexadecimal digits of the original's SHA-1 before the extension.
///
/// # Errors
/// If the component is empty, `.` or `..`.
pub fn safe_component(bytes: &[u8]) -> Result<String, PathError> {
    match bytes {
        b"" => return Err(PathError::Empty),
        b"." => return Err(PathError::DotComponent(".")),
        b".." => return Err(PathError::DotComponent("..")),
        _ => {}
    }
    let mut is_marked = false;
    let mut safe = String::with_capacity(bytes.len());
    // NUL represents bytes that are not UTF-8.
    let chunks = bytes.utf8_chunks();
    let chars = chunks.flat_map(|chunk| chunk.valid().chars().chain((!chunk.invalid().is_empty()).then_some('\0')));
    let mut chars = chars.peekable();
    while let Some(c) = chars.next() {
        let is_bad = !matches!(c, ' '..='~') && is_invisible(c, safe.chars().next_back(), chars.peek().copied());
        is_marked |= is_bad;
        safe.push(if is_bad || matches!(c, '/' | '\\') { '_' } else { c });
    }
    if is_marked || safe.len() > NAME_MAX { Ok(with_hash_suffix(&safe, bytes)) } else { Ok(safe) }
}

/// Appends the safe form of `bytes` to `path`; returns whether it equals `bytes`. Plain names, which nearly all are, take a fast
/// path.
pub(super) fn push_safe(path: &mut String, bytes: &[u8]) -> Result<bool, PathError> {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b' ' | b'-' | b'_');
    match std::str::from_utf8(bytes) {
        Ok(name) if (1..=NAME_MAX).contains(&name.len()) && bytes.iter().all(plain) => path.push_str(name),
        _ => {
            let safe = safe_component(bytes)?;
            // A later download into this folder would trust a marker file with this name.
            let bare = without_leading_dot(&safe).filter(|_| is_marker_name(&safe));
            let safe = bare.unwrap_or(safe);
            path.push_str(&safe);
            return Ok(safe.as_bytes() == bytes);
        }
    }
    Ok(true)
}

/// Whether a file system can store a name with these bytes.
pub(super) fn can_exist(bytes: &[u8]) -> bool {
    !matches!(bytes, b"" | b"." | b"..") && bytes.len() <= NAME_MAX && !bytes.iter().any(|b| matches!(b, b'/' | 0))
}

/// The safe form of a name at the top of a torrent: a hidden name gets `_` for its leading dot, so that no torrent can write to
/// `.ssh` or `.bashrc`. `None` if the name is not hidden.
pub(super) fn without_leading_dot(name: &str) -> Option<String> {
    // Some file systems ignore invisible characters.
    let rest = name.trim_start_matches(|c: char| is_deceptive(c) || c.is_whitespace()).strip_prefix('.')?;
    Some(format!("_{rest}"))
}

/// Whether a hidden name is one that btsync may use for its own files beside the download (`.INFOHASH.parts`, `.INFOHASH.btsync`
/// and others). Compares as a file system that ignores case and invisible characters would.
pub(super) fn is_reserved_name(name: &str) -> bool {
    let normalized = ascii_folded(name);
    strip_info_hash(&normalized).is_some() || (normalized.starts_with('.') && normalized.contains(".btsync"))
}

/// Whether a name is that of a download's marker file (`.INFOHASH.btsync`), which lists the files that btsync may write to. Such
/// names are replaced at any depth: a torrent that brought another download's marker could make btsync overwrite the user's
/// files.
fn is_marker_name(name: &str) -> bool {
    strip_info_hash(&ascii_folded(name)).is_some_and(|rest| rest.starts_with(".btsync"))
}

/// Whether this is the name of a file that btsync has beside a download: a marker, a part file or a new one of these, or a copy that
/// was to replace a file.
pub fn is_own_file(name: &str) -> bool {
    let folded = ascii_folded(name);
    let is_copy =
        |name: &str| name.starts_with('.') && (name.ends_with(".btsync-copy") || name.ends_with(".btsync-move"));
    strip_info_hash(&folded)
        .is_some_and(|rest| matches!(rest.strip_suffix(".new").unwrap_or(rest), ".btsync" | ".parts" | ".btsync.parts"))
        || is_copy(&folded)
}

/// If a name begins with a dot and the 40 digits of an info-hash, the rest of it.
fn strip_info_hash(normalized: &str) -> Option<&str> {
    let (hash, rest) = normalized.strip_prefix('.')?.split_at_checked(40)?;
    hash.bytes().all(|b| b.is_ascii_hexdigit()).then_some(rest)
}

/// The start of a path, short enough for a message.
pub(super) fn shortened(path: &str) -> String {
    const LONGEST: usize = 160;
    let cut = path.chars().nth(LONGEST).map_or("", |_| "...");
    path.chars().take(LONGEST).chain(cut.chars()).collect()
}

/// `name` with a hash of `original` before its extension, shortened to [`NAME_MAX`] bytes.
fn with_hash_suffix(name: &str, original: &[u8]) -> String {
    let digest = hex(&Sha1::digest(original));
    let mark = format!("~{}", digest.get(..8).unwrap_or_default());
    let dot = name.rfind('.').filter(|&at| at > 0 && name.len() - at <= ENDING_MAX).unwrap_or(name.len());
    let (stem, ending) = name.split_at(dot);
    let room = NAME_MAX - mark.len() - ending.len();
    let stem = stem.get(..char_boundary(stem, room)).unwrap_or_default();
    // At the end, a joiner would be invisible.
    let stem = stem.trim_end_matches(['\u{200c}', '\u{200d}']);
    format!("{stem}{mark}{ending}")
}

/// The last character boundary at or before `at`. `str::floor_char_boundary` needs a newer compiler than this crate requires.
fn char_boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    /// Compares case-sensitively: a safe form must preserve the extension exactly.
    fn ends(name: &str, ending: &str) -> bool {
        name.strip_suffix(ending).is_some()
    }

    #[test]
    fn refuses_names_that_lead_out_of_the_folder() {
        assert_eq!(safe_component(b""), Err(PathError::Empty));
        assert_eq!(safe_component(b"."), Err(PathError::DotComponent(".")));
        assert_eq!(safe_component(b".."), Err(PathError::DotComponent("..")));
    }

    #[test]
    fn separators_become_underscores() {
        let table = [
            (&b"a/b"[..], "a_b"),
            (b"/", "_"),
            (b"..\\x", ".._x"),
            (b"\\", "_"),
            (b"/etc/passwd", "_etc_passwd"),
            (b"../../x", ".._.._x"),
            ("Acme OS R1/beta6".as_bytes(), "Acme OS R1_beta6"),
        ];
        for (raw, safe) in table {
            assert_eq!(safe_component(raw).as_deref(), Ok(safe));
        }
        let nul = safe_component(b"a\0b").unwrap();
        assert!(nul.starts_with("a_b~"), "{nul}");
    }

    #[test]
    fn no_part_of_a_path_is_the_name_of_a_marker() {
        let hash = "0123456789abcdef0123456789abcdef01234567";
        let pushed = |name: &str| {
            let mut path = String::from("t/");
            push_safe(&mut path, name.as_bytes()).map(|is_same| (path, is_same))
        };
        for name in [".H.btsync", ".H.btsync.new", ".H.BTSync", ".H.bt\u{17f}ync", ".H.bt\u{fe0f}sync"] {
            let name = name.replace('H', hash);
            let (path, is_same) = pushed(&name).unwrap();
            assert!(path.starts_with("t/_0123") && !is_same, "{path}");
        }
        for name in ["\u{200b}.H.btsync", ".H.bt\u{200b}sync"] {
            let (path, _) = pushed(&name.replace('H', hash)).unwrap();
            assert!(!is_marker_name(path.strip_prefix("t/").unwrap()), "{path}");
        }
        for name in [".H.parts", ".config", "H.btsync", ".btsync"] {
            let name = name.replace('H', hash);
            assert_eq!(pushed(&name), Ok((format!("t/{name}"), true)));
        }
    }

    #[test]
    fn a_first_name_is_not_hidden_and_never_one_of_our_own() {
        let table = [
            (".ssh", Some("_ssh")),
            (".bashrc", Some("_bashrc")),
            ("...", Some("_..")),
            ("\u{200b}.ssh", Some("_ssh")),
            (" .ssh", Some("_ssh")),
            ("a.b", None),
            ("_.ssh", None),
        ];
        for (name, safe) in table {
            assert_eq!(without_leading_dot(name).as_deref(), safe, "{name}");
        }
        let hash = "0123456789abcdefABCDEF0123456789abcdef01";
        for own in [".H.parts", ".H.btsync", ".H", ".\u{200d}H.btsync", ".H.x.new", ".0123456789abcdef.BTSYNC-copy"] {
            assert!(is_reserved_name(&own.replace('H', hash)), "{own}");
        }
        for other in [".ssh", "H.parts", ".0123.parts", ".cache"] {
            assert!(!is_reserved_name(&other.replace('H', hash)), "{other}");
        }
    }

    #[test]
    fn keeps_safe_names() {
        let long = "é".repeat(127);
        let joined = ["می\u{200c}خواهم.txt", "👩\u{200d}👧.jpg", "❤\u{fe0f}"];
        for good in
            ["a", "...", "a b.txt", ".hidden", "ünï.コード", "console", "com", "aux.c", &long].into_iter().chain(joined)
        {
            assert_eq!(safe_component(good.as_bytes()).as_deref(), Ok(good));
        }
    }

    #[test]
    fn awkward_names_get_a_safe_form() {
        let name = safe_component(b"a\x1b[2J.txt").unwrap();
        assert!(name.starts_with("a_[2J~") && ends(&name, ".txt") && name.len() == 18, "{name}");
        let name = safe_component("gpj.\u{202e}exe".as_bytes()).unwrap();
        assert!(name.starts_with("gpj~") && name.ends_with("._exe"), "{name}");
        for invisible in ["a\u{200b}b", "a\u{ad}b", "a\u{3164}b", "a\u{feff}b", "a\u{200d}b", "a\u{e0041}b"] {
            let name = safe_component(invisible.as_bytes()).unwrap();
            assert!(name.starts_with("a_b~") && name.len() == 12, "{name}");
        }
        let name = safe_component("\u{200b}.ssh".as_bytes()).unwrap();
        assert!(name.starts_with("_~") && ends(&name, ".ssh"), "{name}");
        let name = safe_component("é\u{200d}".as_bytes()).unwrap();
        assert!(name.starts_with("é_~"), "{name}");
        let name = safe_component(b"caf\xe9.mp3").unwrap();
        assert!(name.starts_with("caf_~") && ends(&name, ".mp3"), "{name}");
    }

    #[test]
    fn long_names_are_shortened_and_stay_apart() {
        let mut seen = HashSet::new();
        for last in ["a", "b", "ü"] {
            let name = safe_component(format!("{}{last}.tar", "ü".repeat(200)).as_bytes()).unwrap();
            assert!(name.len() <= NAME_MAX && name.len() > NAME_MAX - 4 && ends(&name, ".tar"), "{name}");
            assert!(seen.insert(name));
        }
        let name = safe_component("x".repeat(256).as_bytes()).unwrap();
        assert_eq!(name.len(), NAME_MAX);
        let name = safe_component("é\u{200d}".repeat(60).as_bytes()).unwrap();
        assert_eq!(safe_component(name.as_bytes()), Ok(name), "no joiner is left at the end");
    }

    #[test]
    fn safe_forms_of_different_bytes_differ() {
        let names = [&b"a\x01"[..], b"a\x02", b"a\xff", b"a_"];
        let safe: HashSet<_> = names.iter().map(|n| safe_component(n).unwrap()).collect();
        assert_eq!(safe.len(), names.len());
    }

    proptest! {
        #[test]
        fn a_safe_name_of_characters_that_depend_on_each_other_is_safe(name in "[aé日\u{200c}\u{200d}\u{ad}/.\0]{1,200}") {
            if let Ok(name) = safe_component(name.as_bytes()) {
                prop_assert!(!name.chars().any(is_deceptive) && name.len() <= NAME_MAX);
                prop_assert_eq!(safe_component(name.as_bytes()), Ok(name));
            }
        }

        #[test]
        fn a_safe_name_is_one_safe_step(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(name) = safe_component(&bytes) {
                prop_assert!(!name.is_empty() && name.len() <= NAME_MAX);
                prop_assert!(name != "." && name != ".." && !name.contains(['/', '\\', '\0']));
                prop_assert!(!name.chars().any(is_deceptive));
                prop_assert_eq!(Path::new(&name).components().count(), 1);
                let mut pushed = String::new();
                prop_assert_eq!(push_safe(&mut pushed, &bytes), Ok(name.as_bytes() == bytes));
                prop_assert_eq!(&pushed, &name);
                prop_assert_eq!(safe_component(name.as_bytes()), Ok(name));
            }
        }
    }
}
