//! Which files a move takes along.

use super::deletion::record;
use super::*;
use crate::storage::resume::ResumeData;

/// Moves the files, with or without the second one wanted. Returns what is in the old folder afterwards.
fn moved(it: &Fixture, record: Option<&ResumeData>, wants_second: bool) -> Vec<(String, u8, usize)> {
    let select = |storage: Storage| storage.select(&[true, wants_second], &part_name(&HASH));
    let source = select(Fixture::storage(&it.old(), ["t/a", "t/d/b"]));
    let target = select(Fixture::storage(&it.new_folder(), ["t/a", "t/d/b"]));
    let hashes = hashes();
    let evidence = FileEvidence { record, was_complete: record.is_some(), hashes: &hashes };
    source.move_files(&target, HASH, evidence, NOTHING, &GO_ON).unwrap();
    files(&it.old())
}

fn users_file() -> Vec<(String, u8, usize)> {
    vec![("t/d/b".to_owned(), 9, 20_000)]
}

#[test]
fn a_file_that_is_verified_or_ours_is_moved() {
    let it = Fixture::new();
    assert_eq!(moved(&it, Some(&record(&it, true)), true), []);
    let it = Fixture::new();
    assert_eq!(moved(&it, None, true), [], "its content is the torrent's");
    // An unfinished file that the marker names.
    let it = Fixture::new();
    fs::write(it.old().join("t/d/b"), vec![9; 5000]).unwrap();
    let mut marker = Marker::default();
    let identity = identity(&fs::metadata(it.old().join("t/d/b")).unwrap());
    marker.created.insert(path_hash(Path::new("t/d/b")), identity);
    fs::write(it.old().join(marker_name(&HASH)), marker.encode(&HASH)).unwrap();
    assert_eq!(moved(&it, None, true), []);
    // And one that only the resume data names.
    let it = Fixture::new();
    fs::write(it.old().join("t/d/b"), vec![9; 5000]).unwrap();
    let mut record = record(&it, false);
    record.owned_files = Some(vec![(1, super::identity(&fs::metadata(it.old().join("t/d/b")).unwrap()))]);
    assert_eq!(moved(&it, Some(&record), true), []);
}

#[test]
fn a_file_of_the_user_that_a_torrent_names_stays() {
    for wants_second in [true, false] {
        // Never verified.
        let it = Fixture::new();
        fs::write(it.old().join("t/d/b"), vec![9; 20_000]).unwrap();
        assert_eq!(moved(&it, None, wants_second), users_file());
        // The torrent is complete, but this file is not.
        let it = Fixture::new();
        let record = record(&it, true);
        fs::write(it.old().join("t/d/b"), vec![9; 20_000]).unwrap();
        assert_eq!(moved(&it, Some(&record), wants_second), users_file());
    }
    // The pieces of an unwanted file were verified in the part file, and the file itself is as it was.
    let it = Fixture::new();
    fs::write(it.old().join("t/d/b"), vec![9; 20_000]).unwrap();
    let record = record(&it, true);
    assert_eq!(moved(&it, Some(&record), false), users_file());
}

#[test]
fn an_empty_file_of_the_user_stays() {
    let it = Fixture::new();
    fs::write(it.old().join("t/d/b"), "").unwrap();
    assert_eq!(moved(&it, None, true), [("t/d/b".to_owned(), 0, 0)]);
}

#[test]
fn a_part_file_that_neither_the_marker_nor_the_resume_data_names_stays() {
    let parts = |it: &Fixture| it.old().join(part_name(&HASH));
    let it = Fixture::new();
    fs::write(parts(&it), "another client's").unwrap();
    let mut record = record(&it, true);
    let left = moved(&it, Some(&record), false);
    assert_eq!(left, [(part_name(&HASH).display().to_string(), b'a', 16)]);
    let it = Fixture::new();
    fs::write(parts(&it), "btsync's").unwrap();
    record.owned_files = Some(vec![(2, identity(&fs::metadata(parts(&it)).unwrap()))]);
    assert_eq!(moved(&it, Some(&record), false), []);
    assert!(it.new_folder().join(part_name(&HASH)).exists());
}

/// A name that the system refuses to look up. A lack of descriptors fails in the same way.
fn unknowable() -> String {
    "n".repeat(300)
}

#[test]
fn a_name_that_cannot_be_looked_up_is_not_taken_for_missing() {
    let it = Fixture::new();
    let root = &Fixture::storage(&it.old(), ["t/a", "t/d/b"]).root;
    symlink("d", it.old().join("t/l")).unwrap();
    let found = |name: &str| lookup_file(root, Path::new(name)).map(|found| found.is_some()).ok();
    assert_eq!([found("t/a"), found("t/none"), found("none/a")], [Some(true), Some(false), Some(false)]);
    assert_eq!([found("t/d"), found("t/l"), found("t/l/b"), found("t/a/b")], [Some(false); 4]);
    assert_eq!(found(&unknowable()), None);
    let may_be_link = |name: &str| root.may_be_link(Path::new(name));
    assert_eq!([may_be_link("t/a"), may_be_link("t/none"), may_be_link("t/l")], [false, false, true]);
    assert!(may_be_link(&unknowable()));
}

#[test]
fn no_file_is_moved_or_forgotten_while_it_is_unknown_whose_it_is() {
    let (it, hashes) = (Fixture::new(), hashes());
    let evidence = FileEvidence { record: None, was_complete: false, hashes: &hashes };
    // A file that cannot be looked up.
    let mut storage = Fixture::storage(&it.old(), ["t/a", &unknowable()]);
    assert!(storage.found_files(None, evidence, &GO_ON).is_err());
    fs::write(it.old().join(marker_name(&HASH)), Marker::default().encode(&HASH)).unwrap();
    assert!(storage.delete_own_files(&HASH, None).is_err());
    assert!(it.old().join(marker_name(&HASH)).exists());
    // A marker that cannot be read may say that a file is the user's.
    let mut storage = Fixture::storage(&it.old(), ["t/a", "t/d/b"]);
    storage.own_folder = unknowable().into();
    let target = Fixture::storage(&it.new_folder(), ["t/a", "t/d/b"]);
    assert!(storage.read_marker(&HASH).is_err());
    let seen = FileSnapshot::of(&fs::metadata(it.old().join("t/a")).unwrap());
    assert!(storage.is_newer_than_marker(&HASH, &Marker::default(), &seen, true), "it may be the user's edit");
    assert!(storage.move_files(&target, HASH, evidence, NOTHING, &GO_ON).is_err());
    assert!(storage.delete_files(&HASH, evidence, (&[], &GO_ON)).is_err());
    assert_eq!(files(&it.old()).iter().filter(|(name, ..)| name.starts_with("t/")).count(), 2);
}
