//! Paths and names as btsync compares them.

use std::path::{Component, Path, PathBuf};

/// Whether a watched folder would take a file of this name for a torrent file or a file of magnet links. FAT and exFAT leave out dots
/// and spaces at the end of a name.
pub fn is_watched_name(name: &Path) -> bool {
    let name = name.file_name().unwrap_or_default().as_encoded_bytes();
    let end = name.iter().rposition(|byte| !b". ".contains(byte)).map_or(0, |last| last + 1);
    let name = name.get(..end).unwrap_or_default();
    let is_suffix = |known: &str| {
        let dot = name.len().checked_sub(known.len() + 1).filter(|dot| *dot > 0);
        dot.and_then(|dot| name.get(dot..)).is_some_and(|end| {
            end.split_first().is_some_and(|(dot, suffix)| *dot == b'.' && suffix.eq_ignore_ascii_case(known.as_bytes()))
        })
    };
    ["torrent", "magnet"].into_iter().any(is_suffix)
}

/// The longest path that the system follows.
const MAX_PATH: usize = 4096;
/// How many symbolic links a path may lead through, as on Linux.
const MAX_LINKS: u32 = 40;

/// The absolute path without symbolic links, for comparisons. The path need not exist: a link to nothing leads to where its target
/// would be.
pub fn resolved(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut real = PathBuf::new();
    let mut left: Vec<PathBuf> = parts(&path).collect();
    let mut links = 0;
    while let Some(part) = left.pop() {
        match part.components().next() {
            Some(Component::ParentDir) => _ = real.pop(),
            Some(Component::CurDir) | None => {}
            Some(Component::Normal(_)) if links < MAX_LINKS && real.as_os_str().len() < MAX_PATH => {
                match std::fs::read_link(real.join(&part)) {
                    Ok(target) => {
                        links += 1;
                        left.extend(parts(&target));
                    }
                    Err(_) => real.push(part),
                }
            }
            // The root of a link's target replaces the path so far.
            Some(_) => real.push(part),
        }
    }
    real
}

/// The components of a path, in reverse order.
fn parts(path: &Path) -> impl Iterator<Item = PathBuf> {
    path.components().rev().map(|part| PathBuf::from(part.as_os_str()))
}

/// The path folded to lower case, as a case-insensitive file system compares it.
pub fn folded(path: &Path) -> String {
    // The long s is in lower case, but such a file system takes it for an s.
    path.to_string_lossy().to_lowercase().replace('\u{17f}', "s")
}

/// The same without dots and spaces at the end, which FAT and exFAT leave out.
pub fn folded_without_end(path: &Path) -> String {
    folded(path).trim_end_matches(['.', ' ']).to_owned()
}

/// The ASCII characters of a name as a file system compares it that ignores case and invisible characters.
pub fn ascii_folded(name: &str) -> String {
    // Some letters have no lower case but that of their upper case, such as the long s.
    name.to_uppercase().to_lowercase().chars().filter(char::is_ascii_graphic).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_compared_without_links() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        std::fs::create_dir(real.join("a")).unwrap();
        std::os::unix::fs::symlink("a", real.join("b")).unwrap();
        assert_eq!(resolved(&dir.path().join("b/new/x")), real.join("a/new/x"));
        assert_eq!(resolved(&dir.path().join("b")), real.join("a"));
        assert_eq!(resolved(Path::new("nothing/x")), std::env::current_dir().unwrap().join("nothing/x"));
    }

    #[test]
    fn links_to_nothing_and_to_themselves_are_resolved() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        let link = |name: &str, target: &Path| std::os::unix::fs::symlink(target, real.join(name)).unwrap();
        std::fs::create_dir_all(real.join("a/b")).unwrap();
        link("c", Path::new("a/b/../nothing/./x"));
        link("d", &real.join("c/y"));
        link("loop", Path::new("loop"));
        assert_eq!(resolved(&real.join("c")), real.join("a/nothing/x"));
        assert_eq!(resolved(&real.join("d/z")), real.join("a/nothing/x/y/z"));
        assert_eq!(resolved(&real.join("loop/x")), real.join("loop/x"));
        assert_eq!(resolved(Path::new("/../x/..")), Path::new("/"));
        let long = PathBuf::from("/a".repeat(100_000));
        assert_eq!(resolved(&long), long, "the system follows no links there");
    }

    #[test]
    fn a_watched_name_may_end_in_dots_that_a_file_system_leaves_out() {
        let is = |name: &str| is_watched_name(Path::new(name));
        for name in ["a.torrent", "a.Magnet", "d/a.torrent", "a.torrent.", "a.torrent. .", "a.magnet ", "a..torrent"] {
            assert!(is(name), "{name:?}");
        }
        for name in
            ["torrent", ".torrent", "a.torrent/b", "a.torrent.x", "a.torrents", "a_torrent", "", "...", "..torrent "]
        {
            assert_eq!(is(name), name == "..torrent ", "{name:?}");
        }
        assert_eq!(folded_without_end(Path::new("W/A.torrent. .")), "w/a.torrent");
    }

    #[test]
    fn names_that_a_file_system_takes_for_one_are_folded_to_one() {
        assert_eq!(folded(Path::new("BT\u{17f}ync/É")), "btsync/é");
        assert_eq!(ascii_folded(".BT\u{200b}\u{17f}ync \u{fb01}\u{212a}é"), ".btsyncfik");
    }
}
