//! Files and their disk space. `files/tests.rs` tests that files are created, truncated and extended; `placement/tests.rs`
//! tests what comes out of the part file.

use std::fs::{self, Permissions};
use std::io::{IoSlice, Write as _};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use tempfile::{TempDir, tempdir};

use super::*;
use crate::storage::{Layout, StorageErrorKind, download_mark};

const MIB: u64 = 1 << 20;

fn storage(dir: &TempDir, allocation: Allocation, files: &[(&str, u64)]) -> Storage {
    let spec = |&(path, length): &(&str, u64)| FileSpec { path: path.into(), length, is_pad: path == "pad" };
    let layout = Layout::new(1 << 20, files.iter().map(spec).collect()).unwrap();
    Storage::new(dir.path().to_owned(), layout, 4).with_allocation(allocation)
}

/// Whether the folder's file system supports preallocation.
fn can_allocate(dir: &TempDir) -> bool {
    let probe = tempfile::tempfile_in(dir.path()).unwrap();
    rustix::fs::fallocate(&probe, FallocateFlags::empty(), 0, MIB).is_ok()
}

#[test]
fn without_allocation_files_grow() {
    let dir = tempdir().unwrap();
    let it = storage(&dir, Allocation::None, &[("a", MIB), ("empty", 0), ("b", MIB)]);
    fs::write(dir.path().join("b"), vec![7; MIB as usize + 3]).unwrap();
    let prepared = it.prepare().unwrap();
    assert_eq!((prepared.found_bytes, prepared.repaired.len()), (MIB, 1), "a file that is too long is truncated");
    let len = |name: &str| fs::metadata(dir.path().join(name)).unwrap().len();
    assert_eq!(["a", "empty", "b"].map(len), [0, 0, MIB]);
    assert_eq!(it.read_exact_at(0, &mut [0]).unwrap_err().kind(), StorageErrorKind::Missing);
    assert_eq!(it.check_files_in_place().unwrap_err().kind(), StorageErrorKind::Missing);
    it.write_vectored_at(100, &[IoSlice::new(&[1; 10])]).unwrap();
    assert_eq!(len("a"), 110);
    it.prepare().unwrap();
    assert_eq!(len("a"), 110, "nor does it get its length the next time");
    it.write_vectored_at(MIB - 1, &[IoSlice::new(&[1])]).unwrap();
    it.check_files_in_place().unwrap();
    let it = storage(&dir, Allocation::Sparse, &[("a", MIB), ("empty", 0), ("b", MIB)]);
    assert_eq!(it.prepare().unwrap().found_bytes, 2 * MIB);
}

#[test]
fn falloc_allocates_missing_files_and_leaves_complete_ones_alone() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("half"), vec![7; MIB as usize]).unwrap();
    fs::write(dir.path().join("whole"), vec![7; MIB as usize]).unwrap();
    let it = storage(&dir, Allocation::Falloc, &[("new", 2 * MIB), ("pad", MIB), ("half", 2 * MIB), ("whole", MIB)]);
    let before = it.stamp(3).unwrap();
    it.prepare().unwrap();
    assert_eq!(it.stamp(3), Some(before), "the fast-resume record would not be believed");
    for name in ["new", "half"] {
        let there = fs::metadata(dir.path().join(name)).unwrap();
        assert_eq!(there.len(), 2 * MIB, "{name}");
        let room = there.blocks() * 512;
        // Without preallocation, files are sparse.
        assert_eq!(room >= 2 * MIB, can_allocate(&dir), "{name} has {room} bytes");
    }
    assert_eq!(fs::read(dir.path().join("half")).unwrap()[..MIB as usize], vec![7; MIB as usize]);
    let before: Vec<_> = (0..4).map(|file| it.stamp(file)).collect();
    if can_allocate(&dir) {
        it.prepare().unwrap();
        assert_eq!(
            (0..4).map(|file| it.stamp(file)).collect::<Vec<_>>(),
            before,
            "room that is there is not asked for"
        );
    }
    assert!(!dir.path().join("pad").exists());
}

#[test]
fn with_falloc_a_disk_that_is_too_small_is_said_before_a_file_is_made() {
    let dir = tempdir().unwrap();
    let files = [("a", MIB), ("b", 1 << 60)];
    let full = storage(&dir, Allocation::Falloc, &files[..1]).check_disk_space(1 << 60).unwrap_err();
    let layout = |files: &[(&str, u64)]| {
        let spec = |&(path, length): &(&str, u64)| FileSpec { path: path.into(), length, is_pad: false };
        Layout::new(1 << 31, files.iter().map(spec).collect()).unwrap()
    };
    let new = || Storage::new(dir.path().to_owned(), layout(&files), 4).with_allocation(Allocation::Falloc);
    let error = new().prepare().unwrap_err();
    assert_eq!((error.kind(), full.kind()), (StorageErrorKind::DiskFull, StorageErrorKind::DiskFull));
    assert!(error.to_string().starts_with("not enough disk space in "), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    // Only wanted files need space.
    let it = new().select(&[true, false], Path::new(".parts"));
    it.prepare().unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_stop_is_heard_before_the_first_file() {
    let dir = tempdir().unwrap();
    for allocation in [Allocation::None, Allocation::Sparse, Allocation::Falloc] {
        let it = storage(&dir, allocation, &[("a", MIB)]);
        assert_eq!(it.prepare_until(&AtomicBool::new(true)).unwrap(), PreparedFiles::default());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "{allocation:?}");
    }
}

#[test]
fn only_data_is_copied_out_of_a_part_file() {
    let dir = tempdir().unwrap();
    // Both files share a piece of 32 MiB.
    let spec = |path: &str, length| FileSpec { path: path.into(), length, is_pad: false };
    let layout = Layout::new(32 << 20, vec![spec("a", MIB), spec("b", 31 * MIB)]).unwrap();
    let new =
        |wanted: &[bool]| Storage::new(dir.path().to_owned(), layout.clone(), 4).select(wanted, Path::new(".parts"));
    let it = new(&[true, false]);
    it.prepare().unwrap();
    let bytes: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8 + 1).collect();
    for at in [MIB, 20 * MIB] {
        it.write_vectored_at(at, &[IoSlice::new(&bytes)]).unwrap();
    }
    assert_eq!(fs::metadata(dir.path().join(".parts")).unwrap().len(), 20 * MIB + 300_000);
    let it = new(&[true, true]);
    assert_eq!(it.prepare().unwrap().found_bytes, MIB, "a");
    assert!(!dir.path().join(".parts").exists());
    for at in [MIB, 20 * MIB] {
        let mut back = vec![0; bytes.len()];
        it.read_exact_at(at, &mut back).unwrap();
        assert!(back == bytes, "at {at}");
    }
    let b = fs::metadata(dir.path().join("b")).unwrap();
    assert_eq!(b.len(), 31 * MIB);
    assert!(b.blocks() * 512 < 8 * MIB, "the holes took {} bytes", b.blocks() * 512);
}

/// Another program appends data between the survey and the moment at which the file gets its length.
#[test]
fn data_appended_since_the_survey_is_not_truncated() {
    for allocation in [Allocation::None, Allocation::Sparse, Allocation::Falloc] {
        // Existing length and length in the torrent: to be extended, only allocated, or truncated.
        for (found, length) in [(MIB / 2, MIB), (MIB, MIB), (MIB + 5, MIB)] {
            let dir = tempdir().unwrap();
            let path = dir.path().join("log");
            fs::write(&path, vec![7; found as usize]).unwrap();
            let it = storage(&dir, allocation, &[("log", length)]);
            let survey = it.survey(&AtomicBool::new(false)).unwrap();
            let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
            file.write_all(&vec![8; MIB as usize]).unwrap();
            let settled = it.resize_files(&[FileAction::Continue], &survey, &AtomicBool::new(false));
            let is_touched = found > length
                || allocation == Allocation::Falloc
                || (found < length && allocation != Allocation::None);
            let is_refused = matches!(settled, Err(StorageError::InTheWay { why: Refusal::Changed, .. }));
            let had_room = found == length && allocation == Allocation::Falloc;
            assert!(is_refused == is_touched || had_room, "{allocation:?}, {found}: {settled:?}");
            let expected = [vec![7; found as usize], vec![8; MIB as usize]].concat();
            assert!(fs::read(&path).unwrap() == expected, "{allocation:?}, {found}");
        }
    }
}

/// The same after the file was opened to set its length.
#[test]
fn data_appended_at_the_last_moment_is_not_truncated() {
    let dir = tempdir().unwrap();
    for (found, length) in [(3, MIB), (MIB, 3)] {
        let it = storage(&dir, Allocation::Sparse, &[("log", length)]);
        let path = dir.path().join("log");
        fs::write(&path, vec![7; 2 * MIB as usize]).unwrap();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        let resized = it.resize(0, &file, found, length);
        assert!(matches!(resized, Err(StorageError::InTheWay { why: Refusal::Changed, .. })), "{resized:?}");
        assert_eq!(fs::read(&path).unwrap(), vec![7; 2 * MIB as usize]);
    }
}

/// Whatever temporary name btsync might choose.
#[test]
fn files_beside_one_that_is_replaced_stay() {
    let dir = tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let beside = format!(".{:016x}.btsync-copy", crate::storage::marker::path_hash(Path::new("a")));
    for action in [FileAction::ReplaceEmpty, FileAction::Copy] {
        fs::write(at("a"), "").unwrap();
        fs::write(at(&beside), "precious").unwrap();
        let it = storage(&dir, Allocation::Sparse, &[("a", 7)]);
        let mut survey = it.survey(&AtomicBool::new(false)).unwrap();
        it.create_files(&[action], &mut survey, &AtomicBool::new(false)).unwrap();
        assert_eq!(fs::read(at(&beside)).unwrap(), b"precious", "{action:?}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "{action:?}: nothing is left behind");
    }
}

#[test]
fn a_link_is_replaced_by_a_copy_alone_and_never_written_through() {
    let dir = tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let no = AtomicBool::new(false);
    fs::write(at("notes"), "").unwrap();
    std::os::unix::fs::symlink("notes", at("a")).unwrap();
    let it = storage(&dir, Allocation::Sparse, &[("a", 7)]);
    let mut survey = it.survey(&no).unwrap();
    let made = it.create_files(&[FileAction::ReplaceEmpty], &mut survey, &no);
    assert!(matches!(made, Err(StorageError::InTheWay { why: Refusal::Changed, .. })), "{made:?}");
    assert!(at("a").is_symlink());
    fs::write(at("notes"), "longer than the torrent").unwrap();
    let mut survey = it.survey(&no).unwrap();
    it.create_files(&[FileAction::Copy], &mut survey, &no).unwrap();
    it.resize_files(&[FileAction::Copy], &survey, &no).unwrap();
    assert!(at("a").symlink_metadata().unwrap().is_file());
    assert_eq!((fs::read(at("a")).unwrap().len(), fs::read(at("notes")).unwrap().len()), (7, 23));
}

/// A watched folder must not start any of them.
#[test]
fn every_file_that_a_download_writes_to_is_marked() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a.torrent");
    let able = {
        let probe = tempfile::tempfile_in(dir.path()).unwrap();
        rustix::fs::fsetxattr(&probe, "user.btsync.test", b"1", rustix::fs::XattrFlags::empty()).is_ok()
    };
    for action in
        [FileAction::Create, FileAction::Continue, FileAction::Copy, FileAction::ReplaceEmpty, FileAction::Leave]
    {
        let _ = fs::remove_file(&path);
        if action != FileAction::Create {
            fs::write(&path, "mine").unwrap();
        }
        let it = storage(&dir, Allocation::Sparse, &[("a.torrent", 7)]);
        let mut survey = it.survey(&AtomicBool::new(false)).unwrap();
        it.create_files(&[action], &mut survey, &AtomicBool::new(false)).unwrap();
        let has_download_mark = download_mark::has_download_mark(&fs::File::open(&path).unwrap());
        assert_eq!(has_download_mark, able && action != FileAction::Leave, "{action:?}");
        let now = FileSnapshot::of(&fs::metadata(&path).unwrap());
        assert_eq!(survey.file(0), Some(&now), "{action:?}");
    }
}

#[test]
fn a_copy_takes_no_name_of_a_file_that_has_changed_since_the_look() {
    let change: [fn(&Path); 2] = [
        |path| fs::OpenOptions::new().append(true).open(path).unwrap().write_all(b"more").unwrap(),
        |path| {
            fs::remove_file(path).unwrap();
            fs::write(path, "another one").unwrap();
        },
    ];
    for change in change {
        let dir = tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, "content").unwrap();
        fs::hard_link(&path, dir.path().join("other")).unwrap();
        let it = storage(&dir, Allocation::None, &[("a", 7)]);
        let mut survey = it.survey(&AtomicBool::new(false)).unwrap();
        change(&path);
        let before = fs::read(&path).unwrap();
        let made = it.create_files(&[FileAction::Copy], &mut survey, &AtomicBool::new(false));
        assert!(matches!(made, Err(StorageError::InTheWay { why: Refusal::Changed, .. })), "{made:?}");
        assert_eq!(fs::read(&path).unwrap(), before);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "no copy is left behind");
    }
}

/// Another download may have made the empty file, and recognises it by its inode number.
#[test]
fn an_empty_file_gives_its_name_to_a_new_one_unless_somebody_writes_to_it() {
    let dir = tempdir().unwrap();
    let (path, no) = (dir.path().join("a"), AtomicBool::new(false));
    fs::write(&path, [0; 9]).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    let old = fs::File::open(&path).unwrap();
    let it = storage(&dir, Allocation::Sparse, &[("a", 7)]);
    let before = it.survey(&no).unwrap();
    let mut survey = before.clone();
    it.create_files(&[FileAction::ReplaceEmpty], &mut survey, &no).unwrap();
    let found = fs::metadata(&path).unwrap();
    assert_ne!(found.ino(), old.metadata().unwrap().ino());
    assert_eq!((found.len(), found.mode() & 0o777, survey.file(0).unwrap().inode), (7, 0o640, found.ino()));
    let mut survey = it.survey(&no).unwrap();
    // The length stays the same.
    fs::OpenOptions::new().write(true).open(&path).unwrap().write_all(b"mine").unwrap();
    let made = it.create_files(&[FileAction::ReplaceEmpty], &mut survey, &no);
    assert!(matches!(made, Err(StorageError::InTheWay { why: Refusal::Changed, .. })), "{made:?}");
    assert_eq!(fs::read(&path).unwrap(), b"mine\0\0\0");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn no_file_in_a_folder_of_the_users_becomes_executable() {
    let dir = tempdir().unwrap();
    fs::create_dir_all(dir.path().join("bin")).unwrap();
    let spec = |path: &str| FileSpec { path: path.into(), length: 9, is_pad: false };
    let paths = ["bin/ls", "bin/new/tool", "game/run", "tool", "game/data"];
    let layout = Layout::new(16, paths.map(spec).to_vec()).unwrap().with_executable(vec![0, 1, 2, 3]);
    let prepared = Storage::new(dir.path().to_owned(), layout, 4).prepare().unwrap();
    let is_executable = |path: &str| fs::metadata(dir.path().join(path)).unwrap().mode() & 0o111 != 0;
    assert_eq!(paths.map(is_executable), [false, false, true, true, false]);
    let note = "the folder bin existed before, so bin/ls (and 1 more) is not made executable";
    assert_eq!(prepared.notes, [note]);
}
