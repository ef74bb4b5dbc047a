//! Tests of moves that a killed process has begun, and of files that are at both places.

use super::*;

#[test]
fn a_move_that_was_killed_at_any_step_completes_when_it_is_repeated() {
    for copies in [false, true] {
        let mut kills = 0;
        loop {
            let it = Fixture::new();
            let result = it.run(copies, &KillAt(AtomicUsize::new(kills)));
            let (old, new) = (files(&it.old()), files(&it.new_folder()));
            for file in torrent() {
                assert!(old.contains(&file) || new.contains(&file), "{kills}: {file:?} is whole somewhere");
            }
            it.run(copies, &GO_ON).unwrap();
            assert_eq!(files(&it.new_folder()), torrent(), "{kills}");
            assert_eq!(files(&it.old()), [], "{kills}");
            if result.is_ok() {
                break;
            }
            assert!(matches!(result, Err(FileJobError::Stopped)), "{result:?}");
            kills += 1;
        }
        assert!(kills >= 6, "{kills} steps");
    }
}

#[test]
fn a_half_made_copy_is_replaced_and_a_complete_one_is_not_made_again() {
    // Killed after the rename of a copy: at each step, find out whether the second file is at both places.
    let mut seen = 0;
    for kill in 0..40 {
        let it = Fixture::new();
        let killed = it.run(true, &KillAt(AtomicUsize::new(kill))).is_err();
        let copied = |name: &str| fs::metadata(it.new_folder().join(name)).map(|found| found.ino()).ok();
        let before = copied("t/d/b");
        if !killed || before.is_none() || !it.old().join("t/d/b").exists() {
            continue;
        }
        seen += 1;
        fs::write(it.new_folder().join(format!("t/.{HASH}.0.btsync-move")), "half").unwrap();
        it.run(true, &GO_ON).unwrap();
        assert_eq!(files(&it.old()), []);
        assert_eq!(copied("t/d/b"), before);
        let left: Vec<_> = files(&it.new_folder()).into_iter().filter(|file| !torrent().contains(file)).collect();
        assert!(left.iter().all(|(name, ..)| *name == format!("t/.{HASH}.0.btsync-move")), "{left:?}");
    }
    assert!(seen > 0);
    let it = Fixture::new();
    fs::create_dir_all(it.new_folder().join("t")).unwrap();
    fs::write(it.new_folder().join(format!("t/.{HASH}.0.btsync-move")), "half").unwrap();
    it.run(true, &GO_ON).unwrap();
    assert_eq!(files(&it.new_folder()), torrent());
}

#[test]
fn an_equal_file_at_the_new_place_is_no_reason_to_remove_the_original() {
    // As the same file looks by way of a union or a second mount.
    for copies in [false, true] {
        let it = Fixture::new();
        let mut marker = Marker::default();
        marker.created.insert(path_hash(Path::new("t/a")), 1);
        fs::write(it.old().join(marker_name(&HASH)), marker.encode(&HASH)).unwrap();
        let status = std::process::Command::new("cp").arg("-a").args([it.old(), it.new_folder()]).status();
        assert!(status.unwrap().success());
        assert!(it.run(copies, &GO_ON).unwrap().is_empty());
        let expected = |folder: &Path| files(folder).into_iter().filter(|(name, ..)| name.starts_with("t/")).collect();
        let (old, new): (Vec<_>, Vec<_>) = (expected(&it.old()), expected(&it.new_folder()));
        assert_eq!((old, new), (torrent(), torrent()));
        let moved = Fixture::storage(&it.new_folder(), ["t/a", "t/d/b"]).read_marker(&HASH).unwrap().unwrap();
        assert!(moved.has_path(Path::new("t/a")));
    }
}

#[test]
fn a_file_that_an_interrupted_job_has_given_a_second_name_loses_the_old_one() {
    let it = Fixture::new();
    fs::create_dir_all(it.new_folder().join("t/d")).unwrap();
    fs::hard_link(it.old().join("t/d/b"), it.new_folder().join("t/d/b")).unwrap();
    fs::hard_link(it.old().join("t/a"), it.old().join("t/c")).unwrap();
    it.run(false, &GO_ON).unwrap();
    assert_eq!(files(&it.new_folder()), torrent());
    let third = [("t/c".to_owned(), 1, 3_000_000)];
    assert_eq!(files(&it.old()), third);
}

#[test]
fn a_killed_move_whose_repetition_is_refused_leaves_no_copy_and_no_note() {
    let mut half_made = 0;
    for kill in 0..40 {
        let it = Fixture::new();
        if it.run(true, &KillAt(AtomicUsize::new(kill))).is_ok() {
            break;
        }
        // A document of the user's has the name of the last file by now.
        let document = it.new_folder().join("t/d/b");
        if document.exists() {
            continue;
        }
        let is_hidden = |(name, ..): &(String, u8, usize)| name.contains("btsync-move");
        half_made += usize::from(files(&it.new_folder()).iter().any(is_hidden));
        fs::create_dir_all(document.parent().unwrap()).unwrap();
        fs::write(&document, "mine").unwrap();
        assert!(matches!(it.run(true, &GO_ON), Err(FileJobError::Exists(_))), "{kill}");
        let left = files(&it.new_folder());
        assert!(!left.iter().any(is_hidden), "{kill}: {left:?}");
        let has_original = it.old().join("t/a").exists();
        assert_eq!(left.len(), 1 + usize::from(!has_original), "{kill}: {left:?}");
    }
    assert!(half_made >= 3, "{half_made}");
}
