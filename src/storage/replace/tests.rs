//! What happens at the moment of the exchange. `prepare/tests.rs` tests that files get replaced at all.

use std::fs;
use std::sync::atomic::AtomicBool;

use tempfile::tempdir;

use super::*;
use crate::storage::Layout;

/// Another program saves a document under the file's name between our last check and the exchange.
#[test]
fn a_file_that_replaces_another_at_the_last_moment_keeps_its_name() {
    let dir = tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let root = Root::new(dir.path().to_owned());
    fs::write(at("a"), "").unwrap();
    let seen = FileSnapshot::of(&fs::metadata(at("a")).unwrap());
    fs::write(at("copy"), "").unwrap();
    let ours = fs::metadata(at("copy")).unwrap();
    fs::write(at("document"), "precious").unwrap();
    fs::rename(at("document"), at("a")).unwrap();
    let names = (Path::new("copy"), Path::new("a"));
    let put = |seen| put_in_place(&root, names, seen, (&ours, FileAction::Copy, false)).unwrap().0;
    assert!(matches!(put(&seen), Placement::Refused));
    assert_eq!(fs::read(at("a")).unwrap(), b"precious");
    let of = |name: &str| identity(&fs::metadata(at(name)).unwrap());
    assert!(is_same(identity(&ours), of("copy")), "ours can be removed");
    // A write in place is detected, too.
    let seen = FileSnapshot::of(&fs::metadata(at("a")).unwrap());
    fs::write(at("a"), "more than that").unwrap();
    assert!(matches!(put(&seen), Placement::Refused));
    assert_eq!(fs::read(at("a")).unwrap(), b"more than that");
    let seen = FileSnapshot::of(&fs::metadata(at("a")).unwrap());
    assert!(matches!(put(&seen), Placement::Copy), "it is as it was seen");
    assert!(is_same(identity(&ours), of("a")) && !at("copy").exists());
}

/// As on a file system that cannot exchange names.
#[test]
fn a_replacing_file_keeps_its_name_if_names_cannot_be_exchanged() {
    let dir = tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let root = Root::new(dir.path().to_owned());
    for (action, is_copy) in [(FileAction::Copy, true), (FileAction::ReplaceEmpty, false)] {
        for (name, text) in [("a", ""), ("copy", "ours"), ("document", "precious")] {
            fs::write(at(name), text).unwrap();
        }
        let names = (Path::new("copy"), Path::new("a"));
        let put = |seen: &FileSnapshot| put_without_exchange(&root, names, seen, (action, false)).unwrap().0;
        let seen = FileSnapshot::of(&fs::metadata(at("a")).unwrap());
        fs::rename(at("document"), at("a")).unwrap();
        assert!(matches!(put(&seen), Placement::Refused) && at("copy").exists());
        assert_eq!(fs::read(at("a")).unwrap(), b"precious");
        let seen = FileSnapshot::of(&fs::metadata(at("a")).unwrap());
        let placed = put(&seen);
        assert_eq!((matches!(placed, Placement::Copy), at("copy").exists()), (is_copy, !is_copy));
        assert_eq!(fs::read(at("a")).unwrap(), if is_copy { &b"ours"[..] } else { b"" });
        // The target of a link stays.
        for (name, text) in [("copy", "ours"), ("target", "precious")] {
            fs::write(at(name), text).unwrap();
        }
        fs::remove_file(at("a")).unwrap();
        std::os::unix::fs::symlink("target", at("a")).unwrap();
        put(&FileSnapshot::of(&fs::metadata(at("target")).unwrap()));
        assert!(!at("a").is_symlink() && fs::read(at("target")).unwrap() == b"precious");
        let left = fs::read_dir(dir.path()).unwrap().flatten();
        assert!(!left.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with('.')), "the old file");
    }
}

#[test]
fn nothing_but_our_own_copy_is_removed_after_a_refusal() {
    let dir = tempdir().unwrap();
    let root = Root::new(dir.path().to_owned());
    for name in ["copy", "other"] {
        fs::write(dir.path().join(name), name).unwrap();
    }
    let ours = fs::metadata(dir.path().join("copy")).unwrap();
    let is_ours = |there: &Metadata| is_same(identity(&ours), identity(there));
    for name in ["copy", "other"] {
        remove_if(&root, Path::new(name), is_ours);
    }
    assert!(!dir.path().join("copy").exists() && dir.path().join("other").exists());
}

/// The copy is a different file than the one that was found, with the same length and modification time.
#[test]
fn a_copy_of_the_file_system_is_taken_for_the_file_and_nothing_else_is() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a");
    fs::write(&path, "content").unwrap();
    let layout = Layout::new(16, vec![FileSpec { path: "a".into(), length: 7, is_pad: false }]).unwrap();
    let it = Storage::new(dir.path().to_owned(), layout, 4);
    let found = it.survey(&AtomicBool::new(false)).unwrap();
    let seen = *found.file(0).unwrap();
    let copied = fs::metadata(&path).unwrap();
    assert!(FileSnapshot { identity: 1, inode: 1, ctime: (0, 0), ..seen }.has_same_size_and_mtime(&copied));
    assert!(
        !FileSnapshot { mtime: (0, 0), ..seen }.has_same_size_and_mtime(&copied)
            && !FileSnapshot { size: 6, ..seen }.has_same_size_and_mtime(&copied)
    );
    let mut other = found.clone();
    other.files = vec![Some(FileSnapshot { identity: 1, ..seen })];
    let before = other.clone();
    it.copy_up(0, &mut other);
    assert_eq!(other, before, "it was another file before it was opened already");
    let mut same = found.clone();
    it.copy_up(0, &mut same);
    assert_eq!(same, found);
}
