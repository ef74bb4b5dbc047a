//! Tests of deleting files.

use super::*;
use crate::storage::resume::{PREEXISTING, ResumeData, Stamp};
use crate::types::Bitfield;

fn storage(it: &Fixture) -> Storage {
    Fixture::storage(&it.old(), ["t/a", "t/d/b"])
}

/// Resume data for the files as they are.
pub(super) fn record(it: &Fixture, is_complete: bool) -> ResumeData {
    let pieces = storage(it).layout().piece_count();
    let stamp = |(number, name): (u32, &str)| Some((number, Stamp::of(&fs::metadata(it.old().join(name)).ok()?)?));
    ResumeData {
        info_hash: HASH,
        boot: "b".to_owned(),
        files: [(0, "t/a"), (1, "t/d/b")].into_iter().filter_map(stamp).collect(),
        have: if is_complete { Bitfield::full(pieces) } else { Bitfield::new(pieces) },
        owned_files: Some(Vec::new()),
        uploaded: 0,
        partial: Vec::new(),
    }
}

fn delete(it: &Fixture, record: Option<&ResumeData>, was_complete: bool) -> Vec<String> {
    let evidence = FileEvidence { record, was_complete, hashes: &hashes() };
    let kept = storage(it).delete_files(&HASH, evidence, (&[], &GO_ON)).unwrap();
    kept.iter().map(|kept| kept.path.strip_prefix(it.old()).unwrap().display().to_string()).collect()
}

#[test]
fn complete_and_unchanged_files_are_deleted_and_nothing_else_is() {
    let it = Fixture::new();
    symlink("a", it.old().join("t/link")).unwrap();
    assert_eq!(delete(&it, Some(&record(&it, true)), true), Vec::<String>::new());
    assert!(it.old().exists() && fs::read_dir(it.old()).unwrap().count() == 0, "the download folder stays, empty");
    let it = Fixture::new();
    fs::write(it.old().join("t/mine"), "mine").unwrap();
    symlink("mine", it.old().join("t/link")).unwrap();
    assert!(delete(&it, Some(&record(&it, true)), true).is_empty());
    assert_eq!(files(&it.old()), [("t/mine".to_owned(), b'm', 4)]);
    assert!(fs::symlink_metadata(it.old().join("t/link")).is_ok(), "it is not the torrent's link");
}

#[test]
fn a_file_that_was_changed_stays() {
    let it = Fixture::new();
    let record = record(&it, true);
    fs::write(it.old().join("t/d/b"), vec![5; 20_000]).unwrap();
    assert_eq!(delete(&it, Some(&record), true), ["t/d/b"]);
    assert_eq!(files(&it.old()), [("t/d/b".to_owned(), 5, 20_000)]);
}

#[test]
fn a_file_with_other_times_or_another_hard_link_is_deleted_if_its_content_is_the_torrents() {
    let it = Fixture::new();
    let record = record(&it, true);
    let touched = fs::File::options().write(true).open(it.old().join("t/a")).unwrap();
    touched.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    fs::hard_link(it.old().join("t/d/b"), it.dir.path().join("library")).unwrap();
    assert!(delete(&it, Some(&record), true).is_empty());
    assert_eq!(fs::read(it.dir.path().join("library")).unwrap(), vec![2; 20_000]);
}

#[test]
fn without_resume_data_the_content_of_a_complete_torrent_decides() {
    let it = Fixture::new();
    assert_eq!(delete(&it, None, false), ["t/a", "t/d/b"]);
    fs::write(it.old().join("t/a"), vec![6; 3_000_000]).unwrap();
    assert_eq!(delete(&it, None, true), ["t/a", "t/d/b"], "they share a piece");
    fs::write(it.old().join("t/a"), vec![1; 3_000_000]).unwrap();
    assert!(delete(&it, None, true).is_empty());
}

#[test]
fn files_that_btsync_never_completed_stay_unless_it_created_them() {
    let it = Fixture::new();
    let mut record = record(&it, false);
    let id = |name: &str| identity(&fs::metadata(it.old().join(name)).unwrap());
    assert_eq!(delete(&it, Some(&record), false), ["t/a", "t/d/b"]);
    record.owned_files = Some(vec![(0, id("t/a")), (1 | PREEXISTING, id("t/d/b"))]);
    assert_eq!(delete(&it, Some(&record), false), ["t/d/b"], "it was there before");
}

#[test]
fn a_complete_file_that_is_not_selected_stays_unless_btsync_created_it() {
    let delete = |it: &Fixture, record: Option<&ResumeData>| {
        let mut storage = storage(it).select(&[true, false], &part_name(&HASH));
        storage
            .delete_files(&HASH, FileEvidence { record, was_complete: true, hashes: &hashes() }, (&[], &GO_ON))
            .unwrap()
            .len()
    };
    for has_record in [true, false] {
        let it = Fixture::new();
        let record = record(&it, true);
        fs::hard_link(it.old().join("t/d/b"), it.dir.path().join("library")).unwrap();
        assert_eq!(delete(&it, Some(&record).filter(|_| has_record)), 1);
        assert_eq!(files(&it.old()), [("t/d/b".to_owned(), 2, 20_000)]);
    }
    let it = Fixture::new();
    let mut record = record(&it, true);
    record.owned_files = Some(vec![(1, identity(&fs::metadata(it.old().join("t/d/b")).unwrap()))]);
    assert_eq!(delete(&it, Some(&record)), 0);
    assert_eq!(files(&it.old()), []);
}

#[test]
fn unfinished_files_that_the_marker_names_are_deleted_unless_another_program_changed_them() {
    for (is_edited, is_replaced) in [(false, false), (true, false), (false, true)] {
        let it = Fixture::new();
        let (marker_path, parts) = (it.old().join(marker_name(&HASH)), it.old().join(part_name(&HASH)));
        fs::write(&parts, "parts").unwrap();
        let id = |path: &Path| identity(&fs::metadata(path).unwrap());
        let mut marker = Marker::default();
        let named = ["t/a", "t/d/b"].map(|name| (path_hash(Path::new(name)), id(&it.old().join(name))));
        marker.created.extend(named);
        marker.created.insert(path_hash(&part_name(&HASH)), id(&parts));
        marker.edited.extend(is_edited.then_some(named[1]));
        fs::write(&marker_path, marker.encode(&HASH)).unwrap();
        if is_replaced {
            fs::write(it.old().join("t/d/c"), vec![2; 20_000]).unwrap();
            fs::rename(it.old().join("t/d/c"), it.old().join("t/d/b")).unwrap();
        }
        storage(&it).delete_own_files(&HASH, None).unwrap();
        assert!(marker_path.exists() && parts.exists(), "a later download continues the files");
        let kept = delete(&it, None, false);
        assert_eq!(kept.len(), usize::from(is_edited || is_replaced), "{kept:?}");
        assert!(!marker_path.exists() && !parts.exists() && !it.old().join("t/a").exists());
        assert_eq!(it.old().join("t/d/b").exists(), is_edited || is_replaced);
    }
}

#[test]
fn a_marker_without_unfinished_files_goes_with_the_torrent() {
    let it = Fixture::new();
    let (marker_path, parts) = (it.old().join(marker_name(&HASH)), it.old().join(part_name(&HASH)));
    fs::write(&parts, "parts").unwrap();
    let mut marker = Marker::default();
    marker.created.insert(path_hash(&part_name(&HASH)), identity(&fs::metadata(&parts).unwrap()));
    fs::write(&marker_path, marker.encode(&HASH)).unwrap();
    storage(&it).delete_own_files(&HASH, None).unwrap();
    assert!(!marker_path.exists() && !parts.exists());
    assert_eq!(files(&it.old()), torrent());
    fs::write(&parts, "another program's").unwrap();
    storage(&it).delete_own_files(&HASH, None).unwrap();
    assert!(parts.exists());
}

#[test]
fn a_deletion_follows_no_link_and_enters_no_private_folder() {
    let it = Fixture::new();
    let record = record(&it, true);
    let outside = it.dir.path().join("outside");
    fs::rename(it.old().join("t/d"), &outside).unwrap();
    symlink(&outside, it.old().join("t/d")).unwrap();
    assert_eq!(delete(&it, Some(&record), true), ["t/d/b"]);
    assert_eq!(files(&outside), [("b".to_owned(), 2, 20_000)]);
    let it = Fixture::new();
    let private = [it.old().join("t")];
    let refused = storage(&it).delete_files(
        &HASH,
        FileEvidence { record: None, was_complete: true, hashes: &hashes() },
        (&private, &GO_ON),
    );
    assert!(refused.is_err());
    assert_eq!(files(&it.old()), torrent());
}

#[test]
fn a_deletion_that_was_killed_at_any_step_completes_when_it_is_repeated() {
    for kills in 0.. {
        let it = Fixture::new();
        let record = record(&it, true);
        let stop = KillAt(AtomicUsize::new(kills));
        let result = storage(&it).delete_files(
            &HASH,
            FileEvidence { record: Some(&record), was_complete: true, hashes: &hashes() },
            (&[], &stop),
        );
        assert!(delete(&it, Some(&record), true).is_empty(), "{kills}");
        assert_eq!(files(&it.old()), []);
        if result.is_ok() {
            assert!(kills >= 5, "{kills} steps");
            break;
        }
    }
}

#[test]
fn folders_and_links_that_btsync_did_not_create_stay_unless_nothing_else_is_left() {
    for (moves, has_more) in [(false, true), (true, true), (false, false), (true, false)] {
        let it = Fixture::in_folders_of_the_user();
        symlink("a", it.old().join("t/link")).unwrap();
        if has_more {
            // The torrent names this folder, and no file in it.
            fs::create_dir(it.old().join("t/empty")).unwrap();
        }
        if moves {
            it.run(false, &GO_ON).unwrap();
        } else {
            assert!(delete(&it, Some(&record(&it, true)), true).is_empty());
        }
        assert_eq!(files(&it.old()), []);
        for name in ["t", "t/d", "t/empty", "t/link"] {
            assert_eq!(fs::symlink_metadata(it.old().join(name)).is_ok(), has_more, "{moves} {has_more}: {name}");
        }
    }
}
