//! Disk space still to be allocated, and file systems that report their free space or do not.

use std::io::IoSlice;

use tempfile::{TempDir, tempdir};

use super::*;
use crate::storage::{Allocation, FileSpec, Layout, StorageErrorKind};

const MIB: u64 = 1 << 20;

/// 8 pieces of 1 MiB; `a` has five and a half.
fn storage(dir: &TempDir, allocation: Allocation, wanted: &[bool]) -> Storage {
    let spec = |path: &str, length| FileSpec { path: path.into(), length, is_pad: path == "pad" };
    let files = vec![spec("a", 5 * MIB + MIB / 2), spec("b", MIB), spec("pad", MIB), spec("c", MIB / 2)];
    let it = Storage::new(dir.path().to_owned(), Layout::new(1 << 20, files).unwrap(), 4);
    let it = it.with_allocation(allocation).select(wanted, Path::new(".parts"));
    it.prepare().unwrap();
    it
}

fn write(it: &Storage, pieces: &[u32]) -> Bitfield {
    let mut have = Bitfield::new(8);
    for &piece in pieces {
        it.write_vectored_at(u64::from(piece) * MIB, &[IoSlice::new(&vec![1; MIB as usize])]).unwrap();
        have.set(PieceIndex(piece));
    }
    it.sync().unwrap();
    have
}

#[test]
fn existing_data_and_padding_need_no_space() {
    let dir = tempdir().unwrap();
    let it = storage(&dir, Allocation::Sparse, &[]);
    let (all, none) = (Bitfield::full(8), Bitfield::new(8));
    assert_eq!(it.still_to_allocate(&none, &all), 7 * MIB);
    let have = write(&it, &[0, 2, 5]);
    // `a` and half of `b`; file systems round up, by much less than this.
    let near = |bytes: u64, expected: u64| expected - MIB / 4 <= bytes && bytes <= expected;
    let still = it.still_to_allocate(&have, &all);
    assert!(near(still, 4 * MIB), "{still}");
    let forgotten = it.still_to_allocate(&none, &all);
    assert!(near(forgotten, 4 * MIB), "wrong bytes on disk are overwritten: {forgotten}");
    assert_eq!(it.still_to_allocate(&all, &all), 0);
    assert_eq!(it.still_to_allocate(&have, &none), 0);
}

#[test]
fn only_wanted_pieces_need_room_and_the_part_file_counts() {
    let dir = tempdir().unwrap();
    let it = storage(&dir, Allocation::Sparse, &[false, true, true, false]);
    let none = Bitfield::new(8);
    let wanted = it.wanted_pieces();
    assert_eq!(wanted.count(), 2, "half of each is padding or another file's");
    assert_eq!(it.still_to_allocate(&none, &wanted), 3 * MIB / 2);
    let have = write(&it, &[5]);
    let still = it.still_to_allocate(&have, &wanted);
    assert!((MIB / 4..=MIB / 2).contains(&still), "{still}");
    let forgotten = it.still_to_allocate(&none, &wanted);
    assert!((MIB / 4..=MIB / 2).contains(&forgotten), "{forgotten}");
}

#[test]
fn allocated_space_is_not_needed_again() {
    let dir = tempdir().unwrap();
    let it = storage(&dir, Allocation::Falloc, &[]);
    let still = it.still_to_allocate(&Bitfield::new(8), &Bitfield::full(8));
    let has = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().blocks() > 0;
    assert_eq!(still, if ["a", "b", "c"].map(has) == [true; 3] { 0 } else { 7 * MIB });
}

#[test]
fn space_that_files_already_take_counts_if_not_all_fits() {
    let dir = tempdir().unwrap();
    let it = storage(&dir, Allocation::Sparse, &[]);
    it.check_disk_space_for(&Bitfield::new(8), &Bitfield::full(8)).unwrap();
    let (piece, count) = (1 << 31, 1 << 17);
    let total = u64::from(piece) * u64::from(count);
    let files = vec![FileSpec { path: "large".into(), length: total, is_pad: false }];
    let it = Storage::new(dir.path().to_owned(), Layout::new(piece, files).unwrap(), 4);
    std::fs::write(dir.path().join("large"), vec![1; 2 * MIB as usize]).unwrap();
    let error = it.check_disk_space_for(&Bitfield::new(count), &Bitfield::full(count)).unwrap_err();
    let StorageError::NoSpace { needed, .. } = error else { panic!("{error}") };
    assert!((total - 3 * MIB..=total - MIB).contains(&needed), "{needed} of {total}");
    it.check_disk_space_for(&Bitfield::full(count), &Bitfield::full(count)).unwrap();
}

#[test]
fn a_disk_that_is_too_small_is_refused_and_one_that_says_nothing_is_not() {
    let dir = tempdir().unwrap();
    let it = storage(&dir, Allocation::Sparse, &[]);
    it.check_disk_space(0).unwrap();
    it.check_disk_space(1).unwrap();
    let error = it.check_disk_space(u64::MAX).unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::DiskFull);
    assert!(error.to_string().starts_with(&format!("not enough disk space in {}: ", dir.path().display())), "{error}");
    let below = |root: &Path| Storage::new(root.to_owned(), it.layout().clone(), 4);
    let unmade = below(&dir.path().join("not/made")).check_disk_space(u64::MAX).unwrap_err();
    assert_eq!(unmade.kind(), StorageErrorKind::DiskFull);
    assert_eq!(below(Path::new("not-made")).check_disk_space(u64::MAX).unwrap_err().kind(), StorageErrorKind::DiskFull);
    assert_eq!(rustix::fs::statvfs("/proc").unwrap().f_blocks, 0, "it has no disk");
    below(Path::new("/proc")).check_disk_space(u64::MAX).unwrap();
}

#[test]
fn files_that_exist_need_no_inode() {
    let dir = tempdir().unwrap();
    let spec = |path: &str| FileSpec { path: path.into(), length: 9, is_pad: false };
    let layout = Layout::new(16, ["t/a", "t/u/b", "t/u/c", "d"].map(spec).to_vec()).unwrap();
    let it = Storage::new(dir.path().join("out"), layout.clone(), 4);
    let none = Bitfield::new(layout.piece_count());
    let missing = |it: &Storage, free: u64| it.lacking_inodes(&none, free);
    // Four files, the download folder, two folders and the marker.
    assert_eq!((missing(&it, 6), missing(&it, 8)), (Some(8), None));
    std::fs::create_dir_all(dir.path().join("out/t/u")).unwrap();
    std::fs::write(dir.path().join("out/t/u/b"), "").unwrap();
    assert_eq!((missing(&it, 3), missing(&it, 4)), (Some(4), None));
    it.prepare().unwrap();
    assert_eq!(missing(&it, 0), None, "nothing has to be created");
    let it = Storage::new(dir.path().join("out2"), layout, 4).select(&[false, false, false, true], Path::new(".parts"));
    assert_eq!(missing(&it, 2), Some(3));
    let error = StorageError::NoInodes { path: "/x".into(), needed: 3, free: 2 };
    assert_eq!(error.kind(), StorageErrorKind::DiskFull);
}
