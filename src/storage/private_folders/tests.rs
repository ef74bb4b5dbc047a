//! Names that lead to btsync's own folders.

use std::os::unix::fs::symlink;

use tempfile::{TempDir, tempdir};

use super::*;
use crate::util::state_mark::MARK;

/// A home folder with `.config/btsync` or without.
fn home(has_folder: bool) -> TempDir {
    let dir = tempdir().unwrap();
    fs::create_dir_all(dir.path().join(if has_folder { ".config/btsync" } else { "dl" })).unwrap();
    dir
}

fn seen_from(root: &Path, dir: &TempDir) -> PrivateFolders {
    PrivateFolders::new(root, &[dir.path().join(".config/btsync")])
}

#[test]
fn the_folder_and_all_above_and_below_it_are_covered_whether_it_exists_or_not() {
    for has_folder in [true, false] {
        let dir = home(has_folder);
        let mut it = seen_from(dir.path(), &dir);
        // In an order in which folders differ and come again.
        for (name, as_file, as_folder) in [
            (".config/btsync/config", true, true),
            ("dl/x/y", false, false),
            (".config/btsync/a/b/c", true, true),
            (".config/btsync", true, true),
            (".config", true, false),
            (".config/other", false, false),
            ("btsync/config", false, false),
            (".config/btsync2/config", false, false),
            (".config/btsync/config", true, true),
        ] {
            assert_eq!(it.covers_file(Path::new(name)), as_file, "{name} {has_folder}");
            assert_eq!(it.covers_link(Path::new(name)), as_file, "{name} {has_folder}");
            assert_eq!(it.covers_folder(Path::new(name)), as_folder, "{name} {has_folder}");
        }
        assert!(seen_from(&dir.path().join(".config"), &dir).covers_file(Path::new("btsync")));
        assert!(seen_from(&dir.path().join(".config/btsync/new"), &dir).covers_file(Path::new("x")));
        assert!(!PrivateFolders::new(dir.path(), &[]).covers_file(Path::new("x")));
    }
}

#[test]
fn links_are_followed_also_if_they_lead_to_nothing() {
    let (dir, name) = (home(false), Path::new("config"));
    let at = |path: &str| dir.path().join(path);
    // The configuration is in a folder of its own, which is not there yet, or will be.
    fs::create_dir(at("dot")).unwrap();
    symlink("dot", at(".config")).unwrap();
    symlink("../elsewhere/btsync", at("dot/btsync")).unwrap();
    assert!(seen_from(&at("elsewhere/btsync"), &dir).covers_file(name));
    assert!(seen_from(&at("elsewhere"), &dir).covers_file(Path::new("btsync/config")));
    assert!(!seen_from(&at("elsewhere"), &dir).covers_file(Path::new("other/config")));
    // The file is a link.
    fs::create_dir_all(at("elsewhere/btsync")).unwrap();
    symlink("../../dl/btsync.conf", at("elsewhere/btsync/config")).unwrap();
    symlink("../../dl", at("elsewhere/btsync/downloads")).unwrap();
    let mut it = seen_from(&at("dl"), &dir);
    assert!(it.covers_file(Path::new("btsync.conf")) && it.covers_file(Path::new("BTSync.Conf/x")));
    assert!(!it.covers_file(Path::new("x")), "a link to a folder says nothing of the folder");
    // A link in the download folder.
    symlink("../elsewhere", at("dl/link")).unwrap();
    symlink("../elsewhere/btsync/x", at("dl/y")).unwrap();
    assert!(it.covers_file(Path::new("link/btsync/new/x")) && it.covers_file(Path::new("y")));
    assert!(!it.covers_link(Path::new("y")), "where a link is, none is created");
}

#[test]
fn other_spellings_of_a_name_are_covered() {
    let dir = home(false);
    let mut it = seen_from(dir.path(), &dir);
    for name in [
        ".CONFIG/BTSync/config",
        ".config/bt\u{17f}ync/config",
        ".con\u{fb01}g/btsync/x",
        ".config/bt\u{200b}sync/x",
        ".config/btsync\u{200d}/x",
        ".config/\u{ad}btsync",
    ] {
        assert!(it.covers_file(Path::new(name)), "{name}");
    }
    assert!(!it.covers_file(Path::new(".config/btßync/x")));
}

/// As after a bind mount.
#[test]
fn a_folder_that_has_another_path_is_known_by_its_number() {
    let known = |dir: &TempDir, folder: &str, rest: &str| {
        let nearest = Some((id(&dir.path().join(folder)).unwrap(), rest.to_owned()));
        let private = vec![PrivatePath { path: "/elsewhere/.config/btsync".to_owned(), nearest }];
        let mut it = PrivateFolders { private, folders: Vec::new() };
        let root = it.place(resolved(dir.path()));
        it.folders.push((OsString::new(), root));
        it
    };
    let dir = home(true);
    for (folder, rest) in [(".config/btsync", ""), (".config", "btsync"), ("", ".config/btsync")] {
        let mut it = known(&dir, folder, rest);
        for name in [".config/btsync/config", ".config/btsync/x/y", ".config/btsync"] {
            assert!(it.covers_file(Path::new(name)) && it.covers_folder(Path::new(name)), "{name} {folder}");
        }
        assert!(!it.covers_file(Path::new(".config/x")) && !it.covers_file(Path::new("x/btsync/config")), "{folder}");
    }
    // Nothing of it exists yet.
    let dir = home(false);
    let mut it = known(&dir, "", ".config/btsync");
    assert!(it.covers_file(Path::new(".config")) && !it.covers_folder(Path::new(".config")));
    assert!(it.covers_file(Path::new(".config/BTSYNC/config")));
    let mut it = known(&dir, "dl", "a/b");
    assert!(it.covers_file(Path::new("dl/a/b/c")) && it.covers_file(Path::new("dl/a")));
    assert!(!it.covers_file(Path::new("a/b/c")) && !it.covers_file(Path::new("dl/b")));
    // A single file, as one named with `--config`.
    fs::write(dir.path().join("dl/conf"), "").unwrap();
    assert!(known(&dir, "dl/conf", "").covers_file(Path::new("dl/conf")));
}

/// A service's state folder, with the file that it locks.
fn state_folder(folder: &Path, lock: &[u8]) {
    for name in ["torrents", "resume"] {
        fs::create_dir_all(folder.join(name)).unwrap();
    }
    fs::write(folder.join("lock"), lock).unwrap();
}

#[test]
fn a_services_state_folder_is_covered_wherever_it_is() {
    let dir = home(true);
    let at = |path: &str| dir.path().join(path);
    state_folder(&at("bt"), MARK);
    state_folder(&at("srv/older"), b"");
    state_folder(&at("other"), b"the user's");
    fs::create_dir_all(at("dl")).unwrap();
    // A torrent could bring such a file.
    fs::write(at("dl/lock"), MARK).unwrap();
    symlink("../bt", at("dl/link")).unwrap();
    symlink("bt/torrents", at("deep")).unwrap();
    let mut it = seen_from(dir.path(), &dir);
    for (name, expected) in [
        ("bt/torrents/x.json", true),
        ("bt/new/x", true),
        ("bt", true),
        ("srv/older/settings.json", true),
        ("srv/x", false),
        ("other/torrents/x.json", false),
        ("dl/x", false),
        ("dl/link/torrents/x.json", true),
        ("deep/x.json", true),
        ("bt2/x", false),
    ] {
        assert_eq!(it.covers_file(Path::new(name)), expected, "{name}");
        assert_eq!(it.covers_folder(Path::new(name)), expected, "{name}");
    }
    assert!(PrivateFolders::new(&at("bt/torrents"), &[]).covers_file(Path::new("x.json")));
    assert!(PrivateFolders::new(&at("dl/link"), &[]).covers_link(Path::new("torrents/x.json")));
}

#[test]
fn links_to_btsyncs_own_folders_are_followed_and_other_links_to_folders_are_not() {
    let dir = home(true);
    let at = |path: &str| dir.path().join(path);
    for folder in ["state", "resume data", "downloads", "records"] {
        fs::create_dir(at(folder)).unwrap();
    }
    for (link, folder) in [("serve", "state"), ("resume", "resume data"), ("my downloads", "downloads")] {
        symlink(at(folder), at(".config/btsync").join(link)).unwrap();
    }
    symlink(at("records"), at("state/torrents")).unwrap();
    let mut it = seen_from(dir.path(), &dir);
    for (name, expected) in [("state/x", true), ("resume data/x", true), ("records/x", true), ("downloads/x", false)] {
        assert_eq!(it.covers_file(Path::new(name)), expected, "{name}");
    }
}
