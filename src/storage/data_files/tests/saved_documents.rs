//! Documents that another program saves under the names of the files while they are moved or deleted.

use parking_lot::Mutex;

use super::deletion::record;
use super::*;
use crate::storage::has_download_mark;

/// A document of the user's.
fn document() -> Vec<u8> {
    vec![5; 700]
}

#[test]
fn a_move_that_a_new_document_stops_leaves_no_copy_behind() {
    let mut stopped = 0;
    for step in 1..30 {
        let it = Fixture::new();
        let target = it.new_folder().join("t/d/b");
        let save = CallAt(AtomicUsize::new(step), || {
            if target.parent().is_some_and(Path::exists) && !target.exists() {
                fs::write(&target, document()).unwrap();
            }
        });
        if let Err(error) = it.run(true, &save) {
            stopped += 1;
            assert!(matches!(error, FileJobError::Exists(_)), "{step}: {error}");
            assert_eq!(files(&it.old()), torrent(), "{step}");
            assert_eq!(files(&it.new_folder()), [("t/d/b".to_owned(), 5, 700)], "{step}");
        }
    }
    assert!(stopped >= 2, "{stopped}");
}

#[test]
fn a_document_that_is_saved_over_the_copy_stays_if_the_move_fails() {
    let mut failed = 0;
    for step in 1..30 {
        let it = Fixture::new();
        let (original, target) = (it.old().join("t/d/b"), it.new_folder().join("t/d/b"));
        let saved = AtomicBool::new(false);
        let save = CallAt(AtomicUsize::new(step), || {
            if target.exists() && original.exists() {
                fs::write(it.dir.path().join("document"), document()).unwrap();
                fs::rename(it.dir.path().join("document"), &target).unwrap();
                // The original changes, too, so that the move fails.
                fs::write(&original, vec![3; 20_000]).unwrap();
                saved.store(true, Ordering::Relaxed);
            }
        });
        let moved = it.run(true, &save);
        if saved.load(Ordering::Relaxed) {
            failed += usize::from(moved.is_err());
            assert_eq!(files(&it.new_folder()).last(), Some(&("t/d/b".to_owned(), 5, 700)), "{step}");
            assert_eq!(fs::read(&original).unwrap(), vec![3; 20_000], "{step}");
        }
    }
    assert!(failed >= 1, "{failed}");
}

#[test]
fn a_document_that_is_saved_during_a_removal_stays() {
    let mut kept = 0;
    for step in 1..20 {
        let (it, hashes) = (Fixture::new(), hashes());
        let (file, record) = (it.old().join("t/d/b"), record(&it, true));
        fs::write(it.dir.path().join("document"), document()).unwrap();
        let save = CallAt(AtomicUsize::new(step), || {
            if file.exists() {
                fs::rename(it.dir.path().join("document"), &file).unwrap();
            }
        });
        let evidence = FileEvidence { record: Some(&record), was_complete: true, hashes: &hashes };
        let mut storage = Fixture::storage(&it.old(), ["t/a", "t/d/b"]);
        storage.delete_files(&HASH, evidence, (&[], &save)).unwrap();
        let is_saved = !it.dir.path().join("document").exists();
        let expected = [("t/d/b".to_owned(), 5, 700)];
        assert_eq!(files(&it.old()), expected[..usize::from(is_saved)], "{step}");
        kept += usize::from(is_saved);
    }
    assert!(kept >= 2, "{kept}");
}

/// A watched folder must not start a torrent file that a move brings there, also where files cannot be marked.
#[test]
fn a_torrent_file_that_a_move_brings_is_marked_or_reported_before_it_has_its_name() {
    for copies in [false, true] {
        let it = Fixture::new();
        let target = it.new_folder().join("t/d/b.torrent");
        let reported = Mutex::new(Vec::new());
        let report = |path, _| {
            assert!(!target.exists());
            reported.lock().push(path);
        };
        let names = ["t/a", "t/d/b.torrent"];
        let (source, new) = (Fixture::storage(&it.old(), ["t/a", "t/d/b"]), Fixture::storage(&it.new_folder(), names));
        let (source, target_files, info_hash, foreign, stop) = (&source, &new, HASH, BTreeSet::new(), &GO_ON);
        let (is_same_folder, always_copies, report_unmarked) = (false, copies, &report as ReportUnmarked<'_>);
        FileMover {
            source,
            target: target_files,
            info_hash,
            foreign,
            stop,
            is_same_folder,
            always_copies,
            report_unmarked,
        }
        .run()
        .unwrap();
        let is_marked = has_download_mark(&fs::File::open(&target).unwrap());
        let real = it.dir.path().canonicalize().unwrap().join("new/t/d/b.torrent");
        assert_eq!(*reported.lock(), if is_marked { vec![] } else { vec![real] }, "{copies}");
    }
}
