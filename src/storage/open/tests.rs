//! Links that appear between a check and the next one, with `openat2` and without.

use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::RenameFlags;
use tempfile::{TempDir, tempdir};

use super::*;

/// A root `out` with `out/d/a`, and `outside/a` beside it.
fn stage() -> (TempDir, Root) {
    let dir = tempdir().unwrap();
    for folder in ["out/d", "outside"] {
        fs::create_dir_all(dir.path().join(folder)).unwrap();
        fs::write(dir.path().join(folder).join("a"), folder).unwrap();
    }
    let root = Root::new(dir.path().join("out"));
    (dir, root)
}

type OpenFn = fn(&Root, &Path, OFlags) -> Result<OwnedFd, Errno>;

/// The two ways to open a name.
const WAYS: [OpenFn; 2] = [Root::open_beneath, |root, name, flags| walk(root.folder()?, name, flags | OFlags::CLOEXEC)];

#[test]
fn a_folder_that_became_a_link_after_the_look_is_not_entered() {
    for open in WAYS {
        let (dir, root) = stage();
        let out = dir.path().join("out");
        symlink("d", out.join("link")).unwrap();
        // First the link stays inside. Then its target becomes a link that does not.
        let name = root.inside(Path::new("link/a")).unwrap();
        assert_eq!(name, Path::new("d/a"));
        assert!(open(&root, &name, OFlags::RDWR).is_ok());
        fs::rename(out.join("d"), out.join("e")).unwrap();
        symlink("../outside", out.join("d")).unwrap();
        for (name, flags) in [("d/a", OFlags::RDWR), ("d/new", OFlags::RDWR | OFlags::CREATE), ("d", FOLDER)] {
            assert_eq!(open(&root, Path::new(name), flags).unwrap_err(), Errno::LOOP, "{name}");
        }
        assert!(!dir.path().join("outside/new").exists());
    }
}

#[test]
fn both_ways_say_the_same() {
    let (dir, root) = stage();
    let out = dir.path().join("out");
    symlink("nowhere", out.join("dangling")).unwrap();
    fs::create_dir(out.join("d/deep")).unwrap();
    let create = OFlags::RDWR | OFlags::CREATE;
    for (name, flags, expected) in [
        ("d/a", OFlags::RDWR, None),
        ("d", FOLDER, None),
        ("d/deep/new", create, None),
        ("d/missing", OFlags::RDWR, Some(Errno::NOENT)),
        ("missing/a", create, Some(Errno::NOENT)),
        ("d/a/x", create, Some(Errno::NOTDIR)),
        ("d/a", FOLDER, Some(Errno::NOTDIR)),
        ("d", OFlags::RDWR, Some(Errno::ISDIR)),
        ("dangling", create, Some(Errno::LOOP)),
        ("dangling/a", create, Some(Errno::LOOP)),
    ] {
        for open in WAYS {
            assert_eq!(open(&root, Path::new(name), flags).err(), expected, "{name}");
        }
    }
    for open in WAYS {
        assert!(open(&root, Path::new("../outside/a"), OFlags::RDWR).is_err());
    }
}

/// Sets the flag when dropped, also by a panic.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_folder_swapped_for_a_link_all_the_time_never_lets_us_out() {
    let (dir, root) = stage();
    let (out, outside) = (dir.path().join("out"), dir.path().join("outside"));
    symlink("../outside", out.join("link")).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let (a, b) = (out.join("d"), out.join("link"));
                rustix::fs::renameat_with(CWD, &a, CWD, &b, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let _stop = StopOnDrop(&stop);
        let (mut made, mut refused) = (0, 0);
        // Both outcomes must have occurred, or the test has tested nothing.
        for round in 0.. {
            let name = PathBuf::from(format!("d/new{round}"));
            let opened = root.open(&name, Access::New).map(drop);
            let folder = root.create_folder(&name.with_extension("folder")).map(drop);
            for result in [opened, folder] {
                match result.map_err(|error| error.kind()) {
                    Ok(()) => made += 1,
                    Err(StorageErrorKind::Escapes) => refused += 1,
                    Err(kind) => panic!("{kind:?}"),
                }
            }
            if round >= 2000 && made > 100 && refused > 100 {
                break;
            }
            assert!(round < 1_000_000, "made {made}, refused {refused}");
        }
    });
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "something was made outside");
}

#[test]
fn a_download_folder_that_is_moved_is_still_the_one() {
    let (dir, root) = stage();
    root.open(Path::new("d/a"), Access::Read).unwrap();
    fs::rename(dir.path().join("out"), dir.path().join("moved")).unwrap();
    symlink("outside", dir.path().join("out")).unwrap();
    root.open(Path::new("d/new"), Access::New).unwrap();
    assert!(dir.path().join("moved/d/new").exists());
}

#[test]
fn a_path_may_be_longer_than_the_system_takes_in_one_go_with_the_folder_before_it() {
    let dir = tempdir().unwrap();
    let far = dir.path().join(PathBuf::from_iter(["f"; 100]));
    let root = Root::new(far);
    root.create().unwrap();
    let part = "n".repeat(198);
    let name: PathBuf = std::iter::repeat_n(part.as_str(), 20).collect();
    for folder in name.ancestors().collect::<Vec<_>>().into_iter().rev().skip(1).take(19) {
        root.create_folder(folder).unwrap();
    }
    assert!(root.open(&name, Access::New).is_ok());
    assert!(root.path().as_os_str().len() + name.as_os_str().len() > 4096);
    assert!(walk(root.folder().unwrap(), &name, OFlags::RDWR | OFlags::CLOEXEC).is_ok());
}

#[test]
fn a_file_outside_is_read_once_it_is_admitted_and_no_other_in_its_place() {
    let (dir, root) = stage();
    let (name, link) = (Path::new("link"), dir.path().join("out/link"));
    symlink("../outside/a", &link).unwrap();
    let kind = |access| root.open(name, access).map(drop).unwrap_err().kind();
    assert_eq!(kind(Access::Read), StorageErrorKind::Escapes, "not before somebody has looked");
    assert_eq!(root.allow_outside(name).unwrap().len(), 7);
    assert!(root.open(name, Access::Read).is_ok_and(|handle| !handle.is_writable));
    assert_eq!(kind(Access::Write), StorageErrorKind::Escapes);
    fs::write(dir.path().join("outside/b"), "secret").unwrap();
    fs::remove_file(&link).unwrap();
    symlink("../outside/b", &link).unwrap();
    assert_eq!(kind(Access::Read), StorageErrorKind::Escapes, "the link leads elsewhere by now");
    fs::remove_file(&link).unwrap();
    symlink("../outside", &link).unwrap();
    assert!(root.allow_outside(name).is_err(), "a folder is no file");
}

#[test]
fn opening_waits_for_a_descriptor_as_long_as_one_may_become_free() {
    let root = Root::new(PathBuf::from("nowhere"));
    let tries = std::cell::Cell::new(0);
    let attempt = || {
        tries.set(tries.get() + 1);
        if tries.get() < 3 { Err(Errno::MFILE.into()) } else { Ok(()) }
    };
    assert!(root.with_retry(attempt).is_err(), "nobody says that it may wait");
    root.set_descriptor_wait(|| true);
    assert!(root.with_retry(attempt).is_ok());
    assert_eq!(tries.get(), 3);
}

/// Code that opens a file or folder without [`Root`] fails if descriptors are short: btsync then misses a lock or others'
/// markers, or the download ends.
#[test]
fn nothing_is_opened_without_waiting_for_a_descriptor() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/storage");
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.is_file());
    // A probe that cannot be created has no result, and nothing depends on it.
    let sources = files.filter(|path| !path.ends_with("fs_limits.rs"));
    for path in sources {
        let text = fs::read_to_string(&path).unwrap();
        let program = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let opens = ["File::open(", "File::options(", "OpenOptions", "read_dir(", "fs::read(", "openat(CWD"];
        for line in program.lines().filter(|line| opens.iter().any(|open| line.contains(open))) {
            assert!(
                line.contains("with_retry(") || line.contains("CWD, &self.path"),
                "{}: {}",
                path.display(),
                line.trim()
            );
        }
    }
}
