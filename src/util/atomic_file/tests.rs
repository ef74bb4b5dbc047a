use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

/// The folder contains this file and nothing else.
fn holds_only(folder: &Path, name: &str) {
    let names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [name]);
}

#[test]
fn private_files_and_folders_are_the_users_alone() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("a/b/c");
    private_folder(&folder).unwrap();
    private_folder(&folder).unwrap();
    for made in ["a", "a/b", "a/b/c"] {
        assert_eq!(mode(&dir.path().join(made)), 0o700, "{made}");
    }
    let file = folder.join("record");
    for bytes in ["one", "another"] {
        replace_private(&file, bytes.as_bytes(), |there| there == b"one").unwrap();
        assert_eq!((fs::read_to_string(&file).unwrap().as_str(), mode(&file)), (bytes, 0o600));
    }
    holds_only(&folder, "record");
    // A file from before such files were private becomes private.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    replace_private(&file, b"x", |there| there == b"another").unwrap();
    assert_eq!(mode(&file), 0o600);
}

#[test]
fn links_are_replaced_and_not_written_through() {
    let dir = tempfile::tempdir().unwrap();
    let (mine, link) = (dir.path().join("mine"), dir.path().join("link"));
    for dangling in [false, true] {
        if !dangling {
            fs::write(&mine, "precious").unwrap();
        }
        for private in [false, true] {
            let _ = fs::remove_file(&link);
            symlink(&mine, &link).unwrap();
            if private {
                replace_private(&link, b"new", |there| there == b"precious").unwrap();
            } else {
                assert!(write(&link, b"new", WriteMode::CreateNew).is_err(), "a link is something");
                write(&link, b"new", WriteMode::Replace).unwrap();
            }
            assert!(fs::symlink_metadata(&link).unwrap().is_file());
            assert_eq!(fs::read_to_string(&mine).ok().as_deref(), (!dangling).then_some("precious"));
        }
        let _ = fs::remove_file(&mine);
    }
}

#[test]
fn a_file_that_only_has_the_name_of_ours_stays() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("record");
    for (there, is_replaced) in [("precious", false), ("", true), ("\0\0\0", true), ("ours", true)] {
        fs::write(&file, there).unwrap();
        let replaced = replace_private(&file, b"new", |there| there == b"ours");
        assert_eq!(
            replaced.map_err(|error| error.kind()).err(),
            (!is_replaced).then_some(io::ErrorKind::AlreadyExists)
        );
        assert_eq!(fs::read_to_string(&file).unwrap(), if is_replaced { "new" } else { there });
        holds_only(dir.path(), "record");
    }
}

#[test]
fn a_pipe_in_the_place_of_a_file_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let (pipe, file) = (dir.path().join("pipe"), dir.path().join("file"));
    rustix::fs::mknodat(CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
    fs::write(&file, "x").unwrap();
    assert!(open(&pipe).is_err() && open(dir.path()).is_err() && open(Path::new("/dev/null")).is_err());
    assert!(open(&file).is_ok());
}

#[test]
fn a_pipe_is_written_into_where_somebody_reads_from_it() {
    let dir = tempfile::tempdir().unwrap();
    let (pipe, file) = (dir.path().join("pipe"), dir.path().join("file"));
    rustix::fs::mknodat(CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
    assert_eq!(write_into(&pipe, b"x").unwrap_err().kind(), io::ErrorKind::NotConnected);
    let bytes = vec![7; 300_000];
    // Open for both, the reader waits for a writer instead of seeing the end.
    let mut reader = OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let all = bytes.len();
    let read = std::thread::spawn(move || {
        let mut read = vec![0; all];
        reader.read_exact(&mut read).map(|()| read)
    });
    write_into(&pipe, &bytes).unwrap();
    assert_eq!(read.join().unwrap().unwrap(), bytes);
    fs::write(&file, "mine").unwrap();
    assert_eq!(write_into(&file, b"x").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    write_into(Path::new("/dev/null"), b"x").unwrap();
}

#[test]
fn a_file_that_is_edited_keeps_its_attributes_and_one_that_is_replaced_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "old").unwrap();
    let long = [7; 3000];
    for (name, value) in [("user.mine", &b"1"[..]), ("user.long", &long), ("user.empty", b"")] {
        if rustix::fs::setxattr(&path, name, value, XattrFlags::empty()).is_err() {
            return; // this file system has none
        }
    }
    let value = |name: &str| {
        let mut value = vec![0; 4000];
        rustix::fs::getxattr(&path, name, &mut value).map(|length| value[..length].to_vec()).ok()
    };
    write(&path, b"new", WriteMode::Edit).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    let kept = ["user.mine", "user.long", "user.empty"].map(value);
    assert_eq!(kept, [Some(b"1".to_vec()), Some(long.to_vec()), Some(Vec::new())]);
    write(&path, b"other", WriteMode::Replace).unwrap();
    assert_eq!(value("user.mine"), None);
}

#[test]
fn existing_entries_stay_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    write(&path, b"old", WriteMode::CreateNew).unwrap();
    let taken = write(&path, b"new", WriteMode::CreateNew).unwrap_err();
    assert!(matches!(&taken, WriteFailure::Move(e) if e.kind() == io::ErrorKind::AlreadyExists), "{taken:?}");
    assert_eq!(fs::read(&path).unwrap(), b"old");
    holds_only(dir.path(), "file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    write(&path, b"new", WriteMode::Replace).unwrap();
    assert_eq!((fs::read(&path).unwrap().as_slice(), mode(&path)), (&b"new"[..], 0o640));
    let folder = dir.path().join("folder");
    fs::create_dir(&folder).unwrap();
    assert!(matches!(write(&folder, b"", WriteMode::Replace), Err(WriteFailure::Move(_))));
    let nowhere = dir.path().join("missing/file");
    assert!(matches!(write(&nowhere, b"", WriteMode::Replace), Err(WriteFailure::Create(_))));
}

/// As on a file system that cannot rename without replacing.
#[test]
fn a_second_name_replaces_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let [one, other] = ["one", "other"].map(|name| dir.path().join(name));
    fs::write(&one, "1").unwrap();
    std::os::unix::fs::symlink("nowhere", &other).unwrap();
    let taken = rename_by_link(&one, &other).unwrap_err();
    assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
    assert!(other.is_symlink() && one.exists());
    fs::remove_file(&other).unwrap();
    rename_by_link(&one, &other).unwrap();
    assert!(fs::read(&other).unwrap() == b"1" && !one.exists());
}
