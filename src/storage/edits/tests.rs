//! Edits of files while btsync downloads other parts of the torrent.

use std::fs::{self, File, Permissions};
use std::io::IoSlice;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::AtomicBool;

use tempfile::{TempDir, tempdir};

use super::*;
use crate::storage::ownership::FileAction;
use crate::storage::prepare::Allocation;
use crate::storage::{FileSpec, Layout};
use crate::types::{Bitfield, InfoHash, PieceIndex};

pub(in crate::storage) const HASH: InfoHash = InfoHash([1; 20]);

/// A download of two files of ten pieces each that has just begun. `between` runs after the last survey of existing files.
pub(in crate::storage) fn begun(dir: &TempDir, allocation: Allocation, between: impl Fn()) -> Storage {
    let spec = |path: &str| FileSpec { path: path.into(), length: 100, is_pad: false };
    let layout = Layout::new(10, vec![spec("a"), spec("b")]).unwrap();
    let mut it = Storage::new(dir.path().to_owned(), layout, 4).with_allocation(allocation);
    let no = AtomicBool::new(false);
    let mut survey = it.survey(&no).unwrap();
    let action = |file| if survey.file(file).is_some() { FileAction::Leave } else { FileAction::Create };
    let actions = [action(0), action(1)];
    it.lock(&HASH).unwrap();
    between();
    it.create_files(&actions, &mut survey, &no).unwrap();
    it.record_ownership(&HASH, &actions, &survey, false).unwrap();
    it.resize_files(&actions, &survey, &no).unwrap();
    it
}

/// Waits until the system's clock shows another time than a file has.
pub(in crate::storage) fn let_a_tick_pass(path: &Path) {
    let before = Stat::clone(&rustix::fs::stat(path).unwrap());
    let probe = tempdir().unwrap();
    let is_later = || {
        fs::write(probe.path().join("x"), "x").unwrap();
        let now = rustix::fs::stat(probe.path().join("x")).unwrap();
        (now.st_ctime, now.st_ctime_nsec) > (before.st_ctime, before.st_ctime_nsec)
    };
    while !is_later() {}
}

pub(in crate::storage) fn write(path: &Path, bytes: &[u8]) {
    let_a_tick_pass(path);
    File::options().write(true).open(path).unwrap().write_all_at(bytes, 0).unwrap();
}

fn is_edited(it: &Storage, path: &str) -> bool {
    let found = fs::metadata(it.root.path().join(path)).unwrap();
    it.read_marker(&HASH).unwrap().unwrap().is_edited(Path::new(path), identity(&found))
}

#[test]
fn a_file_that_was_cut_is_noticed_however_space_is_allocated() {
    for allocation in [Allocation::None, Allocation::Sparse] {
        let dir = tempdir().unwrap();
        let it = begun(&dir, allocation, || ());
        it.write_vectored_at(150, &[IoSlice::new(&[1; 10])]).unwrap();
        it.write_vectored_at(120, &[IoSlice::new(&[1; 10])]).unwrap();
        fs::write(dir.path().join("b"), "mine").unwrap();
        let refused = it.write_vectored_at(170, &[IoSlice::new(&[1; 10])]);
        assert!(matches!(refused, Err(StorageError::InTheWay { why: Refusal::Changed, .. })), "{refused:?}");
        assert_eq!(fs::read(dir.path().join("b")).unwrap(), b"mine");
    }
    // A file that was there before had its length, too.
    let dir = tempdir().unwrap();
    let mut it = begun(&dir, Allocation::None, || ());
    fs::write(dir.path().join("b"), [1; 60]).unwrap();
    let survey = it.survey(&AtomicBool::new(false)).unwrap();
    it.remember_times(&survey, &[]);
    fs::write(dir.path().join("b"), "mine").unwrap();
    assert!(it.write_vectored_at(170, &[IoSlice::new(&[1; 10])]).is_err());
}

#[test]
fn an_edit_of_an_idle_file_is_in_the_marker_when_the_run_ends() {
    let dir = tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let it = begun(&dir, Allocation::Sparse, || ());
    it.write_vectored_at(110, &[IoSlice::new(&[1; 10])]).unwrap();
    it.record_edits(false);
    assert!(!is_edited(&it, "a") && !is_edited(&it, "b"), "the last writes are btsync's");
    for name in ["a", "b"] {
        let_a_tick_pass(&at(name));
        fs::set_permissions(at(name), Permissions::from_mode(0o640)).unwrap();
    }
    it.record_edits(false);
    assert!(!is_edited(&it, "a") && !is_edited(&it, "b"), "no content was changed");
    write(&at("a"), b"mine");
    it.unlock();
    let length = fs::metadata(at(&format!(".{HASH}.btsync"))).unwrap().len();
    assert!(is_edited(&it, "a") && !is_edited(&it, "b") && it.read_marker(&HASH).unwrap().unwrap().has_stopped);
    it.unlock();
    assert_eq!(fs::metadata(at(&format!(".{HASH}.btsync"))).unwrap().len(), length);
}

#[test]
fn an_edit_is_in_the_marker_before_the_marker_gets_a_later_time() {
    let dir = tempdir().unwrap();
    let it = begun(&dir, Allocation::Sparse, || ());
    it.write_vectored_at(110, &[IoSlice::new(&[1; 10])]).unwrap();
    write(&dir.path().join("b"), b"mine");
    it.show_running(it.marker.lock.as_ref().unwrap(), crate::storage::clock() + 11_000_000_000);
    assert!(!is_edited(&it, "a") && is_edited(&it, "b"));
}

#[test]
fn a_complete_file_has_no_time_in_the_marker_if_it_was_edited_before_that_was_recorded() {
    for is_mine in [false, true] {
        let dir = tempdir().unwrap();
        let it = begun(&dir, Allocation::Sparse, || ());
        it.write_vectored_at(0, &[IoSlice::new(&[1; 100])]).unwrap();
        if is_mine {
            write(&dir.path().join("a"), b"mine");
        }
        let mut have = Bitfield::new(20);
        (0..10).for_each(|piece| _ = have.set(PieceIndex(piece)));
        it.record_complete_files(&have);
        let seen = *it.survey(&AtomicBool::new(false)).unwrap().file(0).unwrap();
        let marker = it.read_marker(&HASH).unwrap().unwrap();
        assert!(marker.is_completed_file(Path::new("a"), seen.identity));
        assert_eq!(marker.is_completed_and_unchanged(Path::new("a"), &seen), !is_mine);
    }
}

/// With thousands of files, the start takes a while after the last look at the existing ones.
#[test]
fn an_edit_between_the_last_look_and_the_end_of_the_start_is_noticed() {
    for is_mine in [false, true] {
        let dir = tempdir().unwrap();
        fs::write(dir.path().join("a"), [1; 100]).unwrap();
        let edit = || {
            if is_mine {
                write(&dir.path().join("a"), b"mine");
            }
        };
        let it = begun(&dir, Allocation::Sparse, edit);
        let found = fs::metadata(dir.path().join("a")).unwrap();
        assert_eq!(it.is_changed_since(0, &found), is_mine);
        assert!(!it.is_changed_since(1, &fs::metadata(dir.path().join("b")).unwrap()), "btsync made it");
    }
}

#[test]
fn times_of_another_machine_show_no_edit() {
    assert!([0x6969, 0xFF53_4D42, 0x6573_5546].iter().all(|kind| REMOTE.contains(kind)));
    let ext_tmpfs_btrfs_xfs_overlay = [0xEF53, 0x0102_1994, 0x9123_683E, 0x5846_5342, 0x794C_7630];
    assert!(!ext_tmpfs_btrfs_xfs_overlay.iter().any(|kind| REMOTE.contains(kind)));
    let dir = tempdir().unwrap();
    let mut it = begun(&dir, Allocation::Sparse, || ());
    it.safeguards.times.are_remote = true;
    write(&dir.path().join("a"), b"mine");
    it.record_edits(false);
    assert!(!is_edited(&it, "a"));
}

/// Also if the run completes all that it wants, which writes the marker anew.
#[test]
fn an_edit_stays_in_the_marker_of_the_unfinished_files() {
    let dir = tempdir().unwrap();
    let it = begun(&dir, Allocation::Sparse, || ());
    write(&dir.path().join("b"), b"mine");
    it.record_edits(false);
    let mut have = Bitfield::new(20);
    (0..10).for_each(|piece| _ = have.set(PieceIndex(piece)));
    it.finish(&have).unwrap();
    assert!(is_edited(&it, "b") && !is_edited(&it, "a"));
}

#[test]
fn the_resume_data_tells_files_that_were_there_before() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("a"), [1; 100]).unwrap();
    let no = AtomicBool::new(false);
    let mut it = begun(&dir, Allocation::Sparse, || ());
    let survey = it.survey(&no).unwrap();
    it.record_ownership(&HASH, &[FileAction::Continue, FileAction::Create], &survey, false).unwrap();
    let numbers: Vec<u32> = it.writable_files().iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [1, crate::storage::resume::PREEXISTING]);
}

pub(in crate::storage) fn write_at(it: &Storage, offset: u64) -> Result<(), StorageError> {
    it.write_vectored_at(offset, &[IoSlice::new(&[1; 10])])
}

/// What the user puts into a file that is yet to come, or that is in part on disk, is as long as the file, or no shorter.
#[test]
fn an_edit_of_any_length_is_not_overwritten_and_ends_the_run() {
    for allocation in [Allocation::None, Allocation::Sparse] {
        for is_begun in [false, true] {
            let dir = tempdir().unwrap();
            let it = begun(&dir, allocation, || ());
            if is_begun {
                write_at(&it, 100).unwrap();
            }
            let length = if allocation == Allocation::None { 30 } else { 100 };
            let mine = vec![b'm'; length];
            write(&dir.path().join("b"), &mine);
            for _ in 0..2 {
                let refused = write_at(&it, 120);
                assert!(matches!(refused, Err(StorageError::InTheWay { why: Refusal::Changed, .. })), "{refused:?}");
            }
            assert_eq!(fs::read(dir.path().join("b")).unwrap(), mine, "{allocation:?} {is_begun}");
            write_at(&it, 0).unwrap();
            let identity = identity(&fs::metadata(dir.path().join("b")).unwrap());
            assert!(it.read_marker(&HASH).unwrap().unwrap().is_refused(Path::new("b"), identity));
        }
    }
}

#[test]
fn an_edit_that_sets_an_earlier_time_is_noticed_before_the_next_write() {
    let dir = tempdir().unwrap();
    let it = begun(&dir, Allocation::Sparse, || ());
    write_at(&it, 100).unwrap();
    write(&dir.path().join("b"), &[b'm'; 100]);
    let an_hour_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    File::options().write(true).open(dir.path().join("b")).unwrap().set_modified(an_hour_ago).unwrap();
    assert!(write_at(&it, 120).is_err());
}

/// Rights, links and names change the change time; a file without data has nothing to lose.
#[test]
fn changes_of_metadata_alone_end_no_run() {
    let dir = tempdir().unwrap();
    let it = begun(&dir, Allocation::Sparse, || ());
    write_at(&it, 0).unwrap();
    for name in ["a", "b"] {
        let at = dir.path().join(name);
        let_a_tick_pass(&at);
        fs::set_permissions(&at, Permissions::from_mode(0o640)).unwrap();
        fs::rename(&at, dir.path().join("x")).unwrap();
        fs::rename(dir.path().join("x"), &at).unwrap();
        fs::hard_link(&at, dir.path().join("x")).unwrap();
        fs::remove_file(dir.path().join("x")).unwrap();
    }
    File::options().write(true).open(dir.path().join("b")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    for offset in [10, 100, 20, 110] {
        write_at(&it, offset).unwrap();
    }
}

#[test]
fn writes_of_many_threads_are_no_edits() {
    let dir = tempdir().unwrap();
    let it = begun(&dir, Allocation::None, || ());
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..8)
            .map(|thread| {
                let it = &it;
                scope.spawn(move || (0..2000).try_for_each(|round| write_at(it, (thread * 7 + round) % 19 * 10)))
            })
            .collect();
        for writer in writers {
            writer.join().unwrap().unwrap();
        }
    });
}

/// A thread that was refused has not written: its time must not cover the edit.
#[test]
fn a_write_that_was_given_up_leaves_no_time() {
    let cache = crate::storage::cache::FileCache::new(1, 1);
    drop(cache.writing(0));
    let before = cache.last_write_times(0);
    let writing = cache.writing(0);
    let second = cache.writing(0);
    assert!(writing.was_only_writer() && !writing.is_only_writer() && second.busy_since() <= writing.began());
    writing.cancel();
    second.cancel();
    drop(second);
    assert!(writing.is_only_writer());
    drop(writing);
    assert_eq!(cache.last_write_times(0), before);
}

#[test]
fn the_marker_tells_how_a_run_leaves_its_files() {
    for is_mine in [false, true] {
        let dir = tempdir().unwrap();
        let it = begun(&dir, Allocation::Sparse, || ());
        write_at(&it, 100).unwrap();
        it.unlock();
        if is_mine {
            write(&dir.path().join("b"), b"mine");
        }
        // The clock was ahead while btsync ran.
        let marker_path = dir.path().join(crate::storage::marker::marker_name(&HASH));
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(3600);
        File::open(marker_path).unwrap().set_modified(later).unwrap();
        let survey = it.survey(&AtomicBool::new(false)).unwrap();
        let marker = it.read_marker(&HASH).unwrap().unwrap();
        let changed = [0, 1].map(|file| {
            let path = &it.layout.files()[file].path;
            let seen = survey.file(file).unwrap();
            assert!(!it.is_newer_than_marker(&HASH, &marker, seen, false));
            marker.is_changed_after_stop(path, seen)
        });
        assert_eq!(changed, [false, is_mine]);
    }
}

/// As if the user had saved the file in the tick of the clock in which btsync created it.
#[test]
fn an_edit_in_the_tick_of_the_creation_is_not_overwritten() {
    for allocation in [Allocation::None, Allocation::Sparse, Allocation::Falloc] {
        let dir = tempdir().unwrap();
        let it = begun(&dir, allocation, || ());
        let at = dir.path().join("b");
        let created = fs::metadata(&at).unwrap().modified().unwrap();
        let mine = vec![b'm'; 60];
        File::options().write(true).open(&at).unwrap().write_all_at(&mine, 0).unwrap();
        File::options().write(true).open(&at).unwrap().set_modified(created).unwrap();
        assert!(write_at(&it, 100).is_err());
        assert_eq!(fs::read(&at).unwrap()[..60], mine);
        write_at(&it, 0).unwrap();
        write_at(&it, 10).unwrap();
    }
}

/// The files of `begun`, as if their file system counted in seconds.
fn with_coarse_times(dir: &TempDir) -> Storage {
    let mut it = begun(dir, Allocation::Sparse, || ());
    it.safeguards.times.are_coarse = true;
    let no = AtomicBool::new(false);
    it.take_samples(&[FileAction::Create; 2], &it.survey(&no).unwrap(), false, &no);
    it
}

/// Saves other content with the time of the last write.
fn save_in_the_same_second(path: &Path) {
    let before = fs::metadata(path).unwrap().modified().unwrap();
    File::options().write(true).open(path).unwrap().write_all_at(&[b'm'; 100], 0).unwrap();
    File::options().write(true).open(path).unwrap().set_modified(before).unwrap();
}

#[test]
fn an_edit_in_the_second_of_a_write_is_not_overwritten_and_is_recorded_at_the_stop() {
    for is_begun in [false, true] {
        let dir = tempdir().unwrap();
        let it = with_coarse_times(&dir);
        if is_begun {
            write_at(&it, 100).unwrap();
            write_at(&it, 110).unwrap();
        }
        save_in_the_same_second(&dir.path().join("b"));
        assert!(write_at(&it, 120).is_err());
        assert_eq!(fs::read(dir.path().join("b")).unwrap(), [b'm'; 100]);
    }
    let dir = tempdir().unwrap();
    let it = with_coarse_times(&dir);
    write_at(&it, 0).unwrap();
    write_at(&it, 100).unwrap();
    save_in_the_same_second(&dir.path().join("b"));
    it.unlock();
    assert!(is_edited(&it, "b") && !is_edited(&it, "a"));
}

/// Otherwise an edit right after the stop could have the times that the marker has.
#[test]
fn a_stop_waits_until_an_edit_would_show() {
    let dir = tempdir().unwrap();
    let it = begun(&dir, Allocation::Sparse, || ());
    write_at(&it, 100).unwrap();
    it.unlock();
    let written = ctime(&fs::metadata(dir.path().join("b")).unwrap());
    assert!(crate::storage::clock() - written >= CLOCK_TICK);
}
