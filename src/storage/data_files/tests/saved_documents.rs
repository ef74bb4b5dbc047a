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
        let found = Fixture::found(&source);
        let (source, target_files, info_hash, stop) = (&source, &new, HASH, &GO_ON);
        let (is_same_folder, always_copies, report_unmarked) = (false, copies, &report as ReportUnmarked<'_>);
        FileMover {
            source,
            target: target_files,
            info_hash,
            found,
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

#[test]
fn a_document_that_is_saved_over_a_moved_file_stays_if_the_move_fails_later() {
    for copies in [false, true] {
        let mut failed = 0;
        for step in 1..30 {
            let it = Fixture::new();
            let (moved, last) = (it.new_folder().join("t/a"), it.old().join("t/d/b"));
            let has_saved = AtomicBool::new(false);
            let save = CallAt(AtomicUsize::new(step), || {
                if moved.exists() && !it.old().join("t/a").exists() && last.exists() {
                    for (content, place) in [(document(), &moved), (vec![6; 30], &last)] {
                        fs::write(it.dir.path().join("document"), content).unwrap();
                        fs::rename(it.dir.path().join("document"), place).unwrap();
                    }
                    has_saved.store(true, Ordering::Relaxed);
                }
            });
            let result = it.run(copies, &save);
            if has_saved.load(Ordering::Relaxed) {
                failed += usize::from(result.is_err());
                assert_eq!(files(&it.new_folder()).first(), Some(&("t/a".to_owned(), 5, 700)), "{step}");
                assert!(!it.old().join("t/a").exists() && fs::read(&last).unwrap() == [6; 30], "{step}");
            }
        }
        assert!(failed >= 1, "{copies}: {failed}");
    }
}

#[test]
fn a_document_that_is_saved_while_the_files_are_examined_is_not_moved() {
    let mut noticed = 0;
    for step in 1..30 {
        let it = Fixture::new();
        let (mut record, hashes) = (record(&it, true), hashes());
        // The second file is hashed after the first one has been examined.
        record.files.truncate(1);
        let has_saved = AtomicBool::new(false);
        let save = CallAt(AtomicUsize::new(step), || {
            if it.old().join("t").exists() {
                fs::write(it.dir.path().join("document"), document()).unwrap();
                fs::rename(it.dir.path().join("document"), it.old().join("t/a")).unwrap();
                has_saved.store(true, Ordering::Relaxed);
            }
        });
        let [source, target] = [it.old(), it.new_folder()].map(|folder| Fixture::storage(&folder, ["t/a", "t/d/b"]));
        let evidence = FileEvidence { record: Some(&record), was_complete: true, hashes: &hashes };
        let moved = source.move_files(&target, HASH, evidence, NOTHING, &save);
        if has_saved.load(Ordering::Relaxed) {
            noticed += usize::from(matches!(moved, Err(FileJobError::Changed(_))));
            assert_eq!(fs::read(it.old().join("t/a")).unwrap(), document(), "{step}: {moved:?}");
        }
    }
    assert!(noticed >= 2, "{noticed}");
}

#[test]
fn a_file_that_another_program_is_writing_to_is_not_moved_to_another_disk() {
    let it = Fixture::new();
    let file = it.old().join("t/d/b");
    let output = fs::File::options().append(true).open(&file).unwrap();
    let mut writer = std::process::Command::new("sleep").arg("1000").stdout(output).spawn().unwrap();
    let refused = it.run(true, &GO_ON);
    writer.kill().unwrap();
    writer.wait().unwrap();
    assert!(matches!(&refused, Err(FileJobError::OpenElsewhere(path)) if *path == file), "{refused:?}");
    assert_eq!((files(&it.old()), files(&it.new_folder())), (torrent(), Vec::new()));
    it.run(true, &GO_ON).unwrap();
    assert_eq!((files(&it.old()), files(&it.new_folder())), (Vec::new(), torrent()));
}
