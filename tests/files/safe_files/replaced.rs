//! Files that the user or another program replaces or writes to while btsync runs.

#![allow(clippy::wildcard_imports, reason = "the fixtures of the module above")]

use super::*;

#[test]
fn a_file_that_the_user_put_in_the_place_of_ours_is_the_users() {
    let test = DownloadTest::single(8);
    let running = test.begun(8);
    kill(running);
    assert!(test.marker().exists());
    // Deleted and created again by another program; the new inode may have the same number.
    fs::remove_file(test.file()).expect("the file");
    fs::write(test.file(), vec![b'x'; 20 * PIECE - 77]).expect("room");
    test.refuses(13, &["payload.bin"]);
}

#[test]
fn a_file_that_is_replaced_while_it_comes_is_not_written_to() {
    let files: Vec<(String, usize)> = (0..200).map(|n| (format!("{n:03}"), PIECE)).collect();
    let files: Vec<(&str, usize)> = files.iter().map(|(name, size)| (name.as_str(), *size)).collect();
    let test = DownloadTest::new(Payload::tree("many", &files, PIECE), 8);
    let mut running = test.begun(8);
    let last = test.out.join("many/199");
    for (path, _) in test.payload.paths_with_content(&test.out) {
        if fs::read(&path).expect("a file").iter().all(|byte| *byte == 0) {
            fs::remove_file(&path).expect("a file");
            fs::write(&path, "mine").expect("room");
        }
    }
    test.gate.open();
    running.expect_exit(13);
    let mine = test
        .payload
        .paths_with_content(&test.out)
        .into_iter()
        .filter(|(path, _)| fs::read(path).expect("it") == b"mine");
    assert!(mine.count() > 100, "{}", last.display());
}

/// A file system in user space may assign new inode numbers at any time, and has no creation times.
#[test]
fn a_file_that_replaces_ours_is_the_users_even_if_inode_numbers_do_not_last() {
    const TEST: &str = "a_file_that_replaces_ours_is_the_users_even_if_inode_numbers_do_not_last";
    if !has_case_fs(TEST) {
        return;
    }
    in_network_namespace(TEST, &[], || {
        for blocks in [0, 8] {
            let test = DownloadTest::single(0);
            let _mounted = case_fs::mount(&test.temp, &test.out, &test.temp.folder("backing"), 9_000_000);
            let mine = test.out.join("mine");
            fs::write(&mine, vec![b'x'; 20 * PIECE - 77]).expect("room");
            let old = File::options().write(true).open(&mine).expect("the file");
            old.set_modified(std::time::UNIX_EPOCH).expect("a time");
            drop(old);
            let mut running = test.start("begun", &[]);
            until("it is made", || fs::metadata(test.marker()).is_ok_and(|marker| marker.len() > 0));
            test.gate.grant(blocks);
            until("some is there", || test.payload.right_pieces(&test.out) == blocks / 4);
            fs::rename(&mine, test.file()).expect("the user's file");
            test.gate.open();
            running.expect_exit(13);
            assert!(fs::read(test.file()).expect("it").iter().all(|byte| *byte == b'x'), "{blocks}");
            case_fs::unmount(&test.out);
        }
    });
}

/// The same with more files than btsync keeps open; the replaced file is a closed one.
#[test]
fn a_file_that_replaces_one_of_very_many_is_the_users_even_if_inode_numbers_do_not_last() {
    const TEST: &str = "a_file_that_replaces_one_of_very_many_is_the_users_even_if_inode_numbers_do_not_last";
    if !has_case_fs(TEST) {
        return;
    }
    in_network_namespace(TEST, &[], || {
        let files: Vec<(String, usize)> = (0..80).map(|n| (format!("{n:02}"), PIECE)).collect();
        let files: Vec<(&str, usize)> = files.iter().map(|(name, size)| (name.as_str(), *size)).collect();
        for is_moved in [true, false] {
            let test = DownloadTest::new(Payload::tree("many", &files, PIECE), 0);
            let _mounted = case_fs::mount(&test.temp, &test.out, &test.temp.folder("backing"), 9_000_000);
            let mut running = test.start("begun", &[]);
            until("it is made", || fs::metadata(test.marker()).is_ok_and(|marker| marker.len() > 0));
            running.wait_for_output("listening");
            let last = test.out.join("many/79");
            if is_moved {
                let mine = test.out.join("mine");
                fs::write(&mine, vec![b'x'; PIECE]).expect("room");
                fs::rename(&mine, &last).expect("the user's file");
            }
            test.gate.open();
            running.expect_exit(if is_moved { 13 } else { 0 });
            let there = fs::read(&last).expect("it");
            assert_eq!(there.iter().all(|byte| *byte == b'x'), is_moved);
            case_fs::unmount(&test.out);
        }
    });
}

#[test]
fn an_edit_of_verified_data_during_the_run_is_not_reported_as_complete() {
    let files: Vec<(String, usize)> = (0..20).map(|n| (format!("{n:02}"), PIECE)).collect();
    let files: Vec<(&str, usize)> = files.iter().map(|(name, size)| (name.as_str(), *size)).collect();
    let test = DownloadTest::new(Payload::tree("many", &files, PIECE), 8);
    let mut running = test.begun(8);
    let there = test.payload.paths_with_content(&test.out).into_iter();
    let mut right = there.filter(|(path, content)| fs::read(path).expect("a file") == *content);
    let (path, _) = right.next().expect("two of them");
    let file = File::options().write(true).open(&path).expect("it");
    let now = std::time::SystemTime::now();
    while file.metadata().expect("it").modified().expect("a time") <= now {
        file.write_all_at(b"mine", 0).expect("room");
    }
    test.gate.open();
    running.expect_exit(13);
    assert!(running.log().contains("another program is writing to it"), "{}", running.log());
    assert!(fs::read(path).expect("it").starts_with(b"mine") && test.marker().exists());
}

#[test]
fn a_file_that_is_replaced_while_it_comes_is_not_told_as_complete() {
    let test = DownloadTest::single(8);
    let mut running = test.begun(8);
    let mine = test.out.join("mine");
    fs::write(&mine, vec![b'x'; 21 * PIECE]).expect("room");
    fs::rename(&mine, test.file()).expect("a name");
    test.gate.open();
    running.expect_exit(13);
    assert!(running.log().contains("another program has put another file in its place"), "{}", running.log());
    assert_eq!(fs::read(test.file()).expect("it"), vec![b'x'; 21 * PIECE]);
    assert!(test.marker().exists());
}

/// Starts btsync on a file to which another program appends zeros constantly. Returns whether btsync noticed; if it started
/// between two appends, it may resume the file as before.
fn is_left_to_its_writer() -> bool {
    let test = DownloadTest::single(0);
    test.gate.open();
    write_pieces(&test, &(0..19).collect::<Vec<_>>());
    let over = Arc::new(AtomicBool::new(false));
    let (file, stop) = (File::options().append(true).open(test.file()).expect("the file"), over.clone());
    let writer = thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            (&file).write_all(&[0; 16]).expect("room");
            thread::sleep(Duration::from_micros(100));
        }
        file.metadata().expect("the file").len()
    });
    let mut running = test.start("refused", &[]);
    let ended = running.end_within(PATIENCE);
    over.store(true, Ordering::Relaxed);
    let written = writer.join().expect("the writer");
    let said = running.log();
    if ended == Some(0) || said.contains("too long: truncated") {
        return false;
    }
    assert!(ended == Some(13) && said.contains("another program is writing to it"), "{said}");
    assert_eq!(fs::metadata(test.file()).expect("the file").len(), written, "nothing was cut");
    assert_eq!(fs::read_dir(&test.out).expect("it").count(), 1, "no marker is left behind");
    true
}

/// What btsync knows about the file is outdated before it has the lock.
#[test]
fn a_file_that_another_program_keeps_writing_to_is_left_to_it() {
    assert!((0..20).any(|_| is_left_to_its_writer()));
}

/// If the check takes less than one tick of the file system's clock, file times do not show a write.
#[test]
fn a_complete_file_that_another_program_writes_to_is_not_told_as_complete() {
    assert!((0..20).any(|_| is_refused_while_it_is_written()));
}

fn is_refused_while_it_is_written() -> bool {
    let test = DownloadTest::single(0);
    test.payload.write_files(&test.out);
    let over = Arc::new(AtomicBool::new(false));
    let (file, stop) = (File::options().write(true).open(test.file()).expect("the file"), over.clone());
    let same = test.payload.content();
    let writer = thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            file.write_all_at(&same[..1], 0).expect("room");
            thread::sleep(Duration::from_micros(100));
        }
    });
    let mut running = test.start("refused", &[]);
    let ended = running.end_within(PATIENCE);
    over.store(true, Ordering::Relaxed);
    writer.join().expect("the writer");
    let said = running.log();
    assert!(ended == Some(0) || (ended == Some(13) && said.contains("another program is writing to it")), "{said}");
    test.completes(&[]);
    ended == Some(13)
}

#[test]
fn a_copy_of_a_marker_proves_nothing_and_a_copy_of_the_folder_resumes_by_its_pieces() {
    let test = DownloadTest::single(8);
    kill(test.begun(8));
    fs::remove_dir_all(test.temp.path("cache")).expect("a cache");
    let copy = test.temp.path("copy");
    assert!(Command::new("cp").arg("-r").arg(&test.out).arg(&copy).status().expect("cp").success());
    fs::remove_dir_all(&test.out).expect("the original");
    assert!(Command::new("cp").arg("-r").arg(&copy).arg(&test.out).status().expect("cp").success());
    spoil(&test, &[17, 18, 19]);
    test.refuses(13, &["payload.bin", "too few of its pieces verify"]);
    fs::copy(copy.join("payload.bin"), test.file()).expect("a copy");
    test.completes(&[]);
}

#[test]
fn a_file_that_is_not_wanted_and_not_ours_is_left_alone() {
    let test = DownloadTest::new(Payload::tree("two", &[("a", PIECE + 100), ("b", 2 * PIECE)], PIECE), 0);
    fs::create_dir(test.out.join("two")).expect("a folder");
    let b = test.out.join("two/b");
    fs::write(&b, "mine").expect("room");
    let before = fs::metadata(&b).expect("b");
    test.gate.open();
    test.start("a", &["--select", "a"]).expect_exit(0);
    assert!(fs::read(test.out.join("two/a")).expect("a") == test.payload.paths_with_content(&test.out)[0].1);
    assert_eq!(fs::read(&b).expect("b"), b"mine");
    assert_eq!(fs::metadata(&b).expect("b").ctime_nsec(), before.ctime_nsec());
    assert!(!test.marker().exists());
    test.refuses(13, &["two/b"]);
}
