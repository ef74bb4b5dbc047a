//! Names from strangers, made fit for a disk and for a terminal. What could lead out of the folder is refused; what is merely
//! awkward gets a safe form, told apart from its neighbours by a few digits of the hash of what it was.

use sha1::{Digest, Sha1};

use crate::types::hex;

/// The bytes that a name may have; what the common file systems allow.
pub const NAME_MAX: usize = 255;

/// The folders and the file that a path within a torrent may name, at most.
pub const DEPTH_MAX: usize = 100;

/// The bytes that a whole path within a torrent may have, its name included: what the system takes in one go, with some room.
pub const PATH_MAX: usize = 4000;

/// The longest ending, dot included, that shortening a name keeps, in bytes.
const ENDING_MAX: usize = 16;

/// Why a name or path is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A component is empty, or there is none.
    #[error("a file's path has an empty part")]
    Empty,
    /// A component is `.` or `..`.
    #[error("a file's path climbs: it has a part `{0}`")]
    Climbs(&'static str),
    /// A component has a `/`, a `\` or a NUL in it.
    #[error("`{0}` is no file name: it contains a separator or NUL")]
    Separator(String),
    /// There are too many components.
    #[error("a file's path is more than {DEPTH_MAX} folders deep")]
    TooDeep,
    /// The path is longer than [`PATH_MAX`], or a part of it is absurdly long.
    #[error("a file's path is longer than {PATH_MAX} bytes")]
    TooLong,
    /// A component is not a string.
    #[error("a part of a file's path is not a string")]
    NotText,
    /// Two files share a path, or a file lies where another needs a folder.
    #[error("two files of the torrent want the path `{0}`")]
    Collision(String),
}

/// Checks one component of a path and gives the name to use on disk: the same one where that is possible. Bytes that are
/// not UTF-8, control characters and those that reorder text become `_`; names over [`NAME_MAX`] bytes are shortened before
/// their ending; either adds `~` and 8 digits of the original's SHA-1.
///
/// # Errors
/// Where the component is empty, climbs, or has a separator or NUL in it.
pub fn safe_component(bytes: &[u8]) -> Result<String, PathError> {
    match bytes {
        b"" => return Err(PathError::Empty),
        b"." => return Err(PathError::Climbs(".")),
        b".." => return Err(PathError::Climbs("..")),
        _ if bytes.iter().any(|b| matches!(b, b'/' | b'\\' | 0)) => {
            let text: String = String::from_utf8_lossy(bytes).chars().take(80).collect();
            return Err(PathError::Separator(printable(&text)));
        }
        _ => {}
    }
    let lossy: String = bytes
        .utf8_chunks()
        .flat_map(|chunk| chunk.valid().chars().chain((!chunk.invalid().is_empty()).then_some('_')))
        .map(|c| if is_unprintable(c) { '_' } else { c })
        .collect();
    if lossy.as_bytes() != bytes || lossy.len() > NAME_MAX {
        return Ok(marked(&lossy, bytes));
    }
    Ok(lossy)
}

/// Appends what [`safe_component`] makes of `bytes`; sooner where they are fine as they are, as nearly all are.
pub(super) fn push_safe(path: &mut String, bytes: &[u8]) -> Result<(), PathError> {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b' ' | b'-' | b'_');
    match std::str::from_utf8(bytes) {
        Ok(name) if (1..=NAME_MAX).contains(&name.len()) && bytes.iter().all(plain) => path.push_str(name),
        _ => path.push_str(&safe_component(bytes)?),
    }
    Ok(())
}

/// Text from a stranger, fit for one line of a terminal or a log: line ends and tabs become spaces; other control characters,
/// those that reorder the text around them, and those that nobody can see are left out.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if matches!(c, ' '..='~') {
            out.push(c);
            continue;
        }
        let around = [out.chars().next_back(), chars.peek().copied()];
        match c {
            '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' => out.push(' '),
            // Arabic, Indic scripts and emoji cannot be written without them; between other characters they hide.
            '\u{200c}' | '\u{200d}' if !around.iter().all(|c| c.is_some_and(takes_joiner)) => {}
            _ if deceives(c) => {}
            _ => out.push(c),
        }
    }
    out
}

fn takes_joiner(c: char) -> bool {
    !c.is_ascii() && !deceives(c) && !matches!(c, '\u{200c}' | '\u{200d}' | '\u{2028}' | '\u{2029}')
}

/// The start of a path, to stand in a message.
pub(super) fn brief(path: &str) -> String {
    const LONGEST: usize = 160;
    let cut = path.chars().nth(LONGEST).map_or("", |_| "...");
    path.chars().take(LONGEST).chain(cut.chars()).collect()
}

/// Control characters, line separators, and the characters that change the direction of text (Unicode's `Bidi_Control`).
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether a terminal is better off without it: what is unprintable, and what takes no room or none that can be seen, by which
/// two names could look the same. On a disk the latter do no harm.
pub fn deceives(c: char) -> bool {
    if matches!(c, ' '..='~') {
        return false;
    }
    is_unprintable(c)
        || matches!(
            c,
            '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        )
        || matches!(c, '\u{200b}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}')
        || matches!(c, '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// `name`, at most [`NAME_MAX`] bytes with the mark, which stands before the ending.
fn marked(name: &str, original: &[u8]) -> String {
    let digest = hex(&Sha1::digest(original));
    let mark = format!("~{}", digest.get(..8).unwrap_or_default());
    let dot = name.rfind('.').filter(|&at| at > 0 && name.len() - at <= ENDING_MAX).unwrap_or(name.len());
    let (stem, ending) = name.split_at(dot);
    let room = NAME_MAX - mark.len() - ending.len();
    let stem = stem.get(..char_boundary(stem, room)).unwrap_or_default();
    format!("{stem}{mark}{ending}")
}

/// The last boundary of a character at or before `at`; `str` itself has this only in newer compilers than ours needs.
fn char_boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    /// Letter by letter: a safe form must keep the ending as it was.
    fn ends(name: &str, ending: &str) -> bool {
        name.strip_suffix(ending).is_some()
    }

    #[test]
    fn refuses_what_could_lead_out() {
        assert_eq!(safe_component(b""), Err(PathError::Empty));
        assert_eq!(safe_component(b"."), Err(PathError::Climbs(".")));
        assert_eq!(safe_component(b".."), Err(PathError::Climbs("..")));
        for bad in [&b"a/b"[..], b"/", b"..\\x", b"\\", b"a\0b", b"\0", b"/etc", b"\xff/\xff"] {
            assert!(matches!(safe_component(bad), Err(PathError::Separator(_))), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn keeps_what_is_fine() {
        let long = "é".repeat(127);
        for good in ["a", "...", "a b.txt", ".hidden", "ünï.コード", "console", "com", "aux.c", &long] {
            assert_eq!(safe_component(good.as_bytes()).as_deref(), Ok(good));
        }
    }

    #[test]
    fn awkward_names_get_a_safe_form() {
        let name = safe_component(b"a\x1b[2J.txt").unwrap();
        assert!(name.starts_with("a_[2J~") && ends(&name, ".txt") && name.len() == 18, "{name}");
        let name = safe_component("gpj.\u{202e}exe".as_bytes()).unwrap();
        assert!(name.starts_with("gpj~") && name.ends_with("._exe"), "{name}");
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
    }

    #[test]
    fn safe_forms_of_different_bytes_differ() {
        let names = [&b"a\x01"[..], b"a\x02", b"a\xff", b"a_"];
        let safe: HashSet<_> = names.iter().map(|n| safe_component(n).unwrap()).collect();
        assert_eq!(safe.len(), names.len());
    }

    #[test]
    fn printable_leaves_one_clean_line() {
        assert_eq!(printable("a\x1b[31m\nb\u{202e}c\u{9b}\u{7f}é\t"), "a[31m bcé ");
        assert_eq!(printable("pay\u{200b}p\u{ad}al\u{feff}\u{200d}.\u{2060}com\u{3164}\u{e0041}"), "paypal.com");
        let joined = "می\u{200c}خواهم 👩\u{200d}👧 日本";
        assert_eq!(printable(joined), joined);
        assert_eq!(printable("\u{200d}é\u{200d}\u{200d}é\u{200c}"), "é\u{200d}é", "one between two, no more");
    }

    proptest! {
        #[test]
        fn a_safe_name_is_one_safe_step(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(name) = safe_component(&bytes) {
                prop_assert!(!name.is_empty() && name.len() <= NAME_MAX);
                prop_assert!(name != "." && name != ".." && !name.contains(['/', '\\', '\0']));
                prop_assert!(!name.chars().any(is_unprintable));
                prop_assert_eq!(Path::new(&name).components().count(), 1);
                let mut pushed = String::new();
                prop_assert_eq!(push_safe(&mut pushed, &bytes), Ok(()));
                prop_assert_eq!(&pushed, &name);
                prop_assert_eq!(safe_component(name.as_bytes()), Ok(name));
            }
        }
    }
}
