//! What is resumed, and whose a complete file is afterwards.

#![allow(clippy::wildcard_imports, reason = "the fixtures of the module above")]

use super::*;

#[test]
fn the_marker_or_the_resume_data_alone_is_enough_to_resume() {
    for lost in ["marker", "cache"] {
        let files = [("a", 5 * PIECE), ("b", 5 * PIECE)];
        let test = DownloadTest::new(Payload::tree("two", &files, PIECE), 6);
        let mut running = test.start("begun", &["--sequential"]);
        until("a piece and a half are there", || test.gate.served() == 6 && test.payload.right_pieces(&test.out) == 1);
        until("the half is", || fs::read(test.out.join("two/a")).expect("a")[PIECE..].iter().any(|byte| *byte != 0));
        if lost == "marker" {
            // The resume data describes the files at the stop, and nobody has changed them since.
            running.terminate(7);
            fs::remove_file(test.marker()).expect("a marker");
        } else {
            // Data of an unfinished piece, in a file in which no piece verifies.
            let b = File::options().write(true).open(test.out.join("two/b")).expect("b");
            b.write_all_at(&[7; 1000], 0).expect("room");
            kill(running);
            fs::remove_dir_all(test.temp.path("cache")).expect("a cache");
        }
        test.completes(&[]);
    }
}

/// A move to another disk copies files with their times. No file of the partial piece has a piece of its own.
#[test]
fn an_unfinished_download_that_was_moved_to_another_disk_is_resumed() {
    for killed in [false, true] {
        let names: Vec<String> = (0..30).map(|n| format!("n{n:02}")).collect();
        let mut files: Vec<(&str, usize)> = vec![("a", PIECE)];
        files.extend(names.iter().map(|name| (name.as_str(), 4000)));
        let test = DownloadTest::new(Payload::tree("many", &files, PIECE), 6);
        let mut running = test.start("begun", &["--sequential"]);
        until("a piece is there", || test.gate.served() == 6 && test.payload.right_pieces(&test.out) == 1);
        let first = test.out.join("many/n00");
        until("and small files", || fs::read(&first).expect("a file").iter().any(|byte| *byte != 0));
        if killed {
            kill(running);
        } else {
            running.terminate(7);
        }
        let old = test.temp.path("old");
        fs::rename(&test.out, &old).expect("a new name");
        let copied = Command::new("cp").args(["-a", "old", "out"]).current_dir(test.temp.path("")).status();
        assert!(copied.expect("cp").success());
        fs::remove_dir_all(test.temp.path("cache")).expect("a cache");
        let said = test.completes(&[]);
        assert!(!said.contains("replaces"), "{said}");
    }
}

#[test]
fn where_both_are_lost_or_the_record_is_out_of_date_the_pieces_tell() {
    for both in [true, false] {
        let test = DownloadTest::single(8);
        let running = test.begun(8);
        kill(running);
        fs::remove_file(test.marker()).expect("a marker");
        if both {
            fs::remove_dir_all(test.temp.path("cache")).expect("a cache");
        }
        test.completes(&[]);
    }
}

/// Resume data of the unfinished download survives its completion by another process that did not know of the data.
#[test]
fn a_record_from_before_the_completion_makes_nothing_ours() {
    for killed in [false, true] {
        let test = DownloadTest::single(8);
        let mut running = test.begun(8);
        if killed {
            kill(running);
        } else {
            running.terminate(7);
        }
        test.gate.open();
        let mut elsewhere = test.command(&[]);
        elsewhere.env("XDG_CACHE_HOME", test.temp.path("another"));
        test.temp.start("elsewhere", &mut elsewhere).expect_exit(0);
        assert!(!test.marker().exists());
        overwrite_as_user(&test.file());
        test.refuses(13, &["payload.bin"]);
    }
}

#[test]
fn a_process_that_is_killed_after_the_completion_leaves_nothing_that_makes_the_file_ours() {
    let test = DownloadTest::single(8);
    let running = test.start("seeds", &["--seed"]);
    until("some is there", || test.payload.right_pieces(&test.out) == 2);
    test.gate.open();
    until("it is complete", || !test.marker().exists() && test.payload.difference(&test.out).is_none());
    kill(running);
    overwrite_as_user(&test.file());
    test.refuses(13, &["payload.bin"]);
}

#[test]
fn a_file_that_is_complete_is_the_users_while_others_of_the_torrent_are_not() {
    let test = DownloadTest::new(Payload::tree("two", &[("a", 5 * PIECE), ("b", 5 * PIECE)], PIECE), 8);
    kill(test.begun(8));
    test.gate.open();
    for _ in 0..2 {
        test.start("a", &["--select", "a"]).expect_exit(0);
        assert!(test.marker().exists(), "for the other file");
    }
    overwrite_as_user(&test.out.join("two/a"));
    test.refuses(13, &["two/a"]);
}

/// A download of two files, the first complete and the second not.
fn half_done() -> (DownloadTest, Running, PathBuf) {
    let test = DownloadTest::new(Payload::tree("two", &[("a", 5 * PIECE), ("b", 5 * PIECE)], PIECE), 24);
    let running = test.start("begun", &["--sequential"]);
    until("the first is there", || test.gate.served() == 24 && test.payload.right_pieces(&test.out) == 6);
    let a = test.out.join("two/a");
    (test, running, a)
}

#[test]
fn a_complete_file_of_a_download_that_was_stopped_or_killed_is_the_users() {
    for killed in [false, true] {
        for edit in ["rewritten", "shorter", "tagged in a library"] {
            let (test, mut running, a) = half_done();
            if killed {
                kill(running);
            } else {
                running.terminate(7);
            }
            let file = File::options().write(true).open(&a).expect("a");
            match edit {
                "rewritten" => file.write_all_at(&vec![b'x'; 5 * PIECE], 0).expect("room"),
                "shorter" => fs::write(&a, "five years of work").expect("room"),
                _ => {
                    fs::hard_link(&a, test.temp.path("library")).expect("a link");
                    file.write_all_at(b"my tags", 0).expect("room");
                }
            }
            test.refuses(13, &["two/a"]);
        }
    }
}

#[test]
fn a_document_saved_over_an_abandoned_download_is_the_users() {
    for length in [17_000, 20 * PIECE - 77, 25 * PIECE] {
        let test = DownloadTest::single(0);
        let mut running = test.start("begun", &[]);
        until("it is made", || fs::metadata(test.marker()).is_ok_and(|marker| marker.len() > 0));
        running.terminate(7);
        let made = fs::metadata(test.file()).expect("it").ino();
        fs::write(test.file(), vec![b'x'; length]).expect("room");
        assert_eq!(fs::metadata(test.file()).expect("it").ino(), made, "saved in place");
        test.refuses(13, &["payload.bin"]);
    }
}

/// Puts data into a file in place that could be of partly downloaded pieces, with a time of long ago: as `cp -p` does.
fn copy_over_keeping_the_time(path: &Path) {
    let length = fs::metadata(path).expect("the file").len() as usize;
    let mut data = vec![b'x'; length];
    data.chunks_mut(PIECE).for_each(|piece| piece[8192..12_288].fill(0));
    let file = File::options().write(true).open(path).expect("the file");
    file.write_all_at(&data, 0).expect("room");
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(300_000);
    file.set_modified(long_ago).expect("a time");
}

#[test]
fn a_users_file_that_keeps_its_time_is_the_users() {
    let test = DownloadTest::single(0);
    let mut running = test.start("begun", &[]);
    until("it is made", || fs::metadata(test.marker()).is_ok_and(|marker| marker.len() > 0));
    running.terminate(7);
    copy_over_keeping_the_time(&test.file());
    test.refuses(13, &["payload.bin", "too few of its pieces verify"]);
}

/// What makes a complete file the user's lasts longer than the resume data, and longer than runs that do not want the file.
#[test]
fn a_complete_file_that_was_changed_is_the_users_also_without_a_record_and_after_other_runs() {
    let (test, mut running, a) = half_done();
    running.terminate(7);
    copy_over_keeping_the_time(&a);
    let before = fs::metadata(test.marker()).expect("a marker").ino();
    let mut other = test.start("other", &["--select", "b"]);
    until("the marker is another", || fs::metadata(test.marker()).is_ok_and(|marker| marker.ino() != before));
    other.terminate(7);
    fs::remove_dir_all(test.temp.path("cache")).expect("the resume data");
    test.refuses(13, &["two/a"]);
}

#[test]
fn an_edit_of_a_file_that_is_yet_to_come_is_noticed_when_the_run_ends() {
    let (test, mut running, a) = half_done();
    copy_over_keeping_the_time(&a.with_file_name("b"));
    running.terminate(7);
    test.refuses(13, &["two/b"]);
}

#[test]
fn an_edit_that_keeps_the_length_is_not_overwritten_by_the_run_that_goes_on() {
    let (test, mut running, a) = half_done();
    let b = a.with_file_name("b");
    copy_over_keeping_the_time(&b);
    let edited = fs::read(&b).expect("b");
    test.gate.open();
    running.expect_exit(13);
    assert_eq!(fs::read(&b).expect("b"), edited);
    test.refuses(13, &["two/b", "changed it during the download"]);
}

/// A program that only sets the time of a file has not edited it.
#[test]
fn a_file_whose_time_another_program_sets_is_gone_on_with() {
    let (test, mut running, a) = half_done();
    for file in [&a, &a.with_file_name("b")] {
        let hour = Duration::from_secs(3600);
        let file = File::options().write(true).open(file).expect("a file");
        file.set_modified(std::time::SystemTime::now() - hour).expect("a time");
    }
    test.gate.open();
    running.expect_exit(0);
    assert_eq!(test.payload.difference(&test.out), None);
}

#[test]
fn an_edit_of_an_unfinished_file_is_not_forgotten_by_a_run_that_does_not_want_the_file() {
    let test = DownloadTest::new(Payload::tree("two", &[("a", 5 * PIECE), ("b", 5 * PIECE)], PIECE), 8);
    let mut running = test.start("begun", &["--sequential"]);
    until("two pieces are there", || test.gate.served() == 8 && test.payload.right_pieces(&test.out) == 2);
    running.terminate(7);
    copy_over_keeping_the_time(&test.out.join("two/b"));
    let before = fs::metadata(test.marker()).expect("a marker").ino();
    let mut other = test.start("other", &["--select", "a"]);
    until("the marker is another", || fs::metadata(test.marker()).is_ok_and(|marker| marker.ino() != before));
    other.terminate(7);
    test.refuses(13, &["two/b"]);
}

#[test]
fn a_file_that_one_run_refused_is_refused_by_the_next() {
    let (test, mut running, a) = half_done();
    let file = File::options().write(true).open(&a).expect("a");
    let now = std::time::SystemTime::now();
    while file.metadata().expect("a").modified().expect("a time") <= now {
        file.write_all_at(b"mine", 0).expect("room");
    }
    test.gate.open();
    running.expect_exit(13);
    test.refuses(13, &["two/a", "changed it during the download"]);
    let mut given = test.start("given", &["--overwrite"]);
    given.expect_exit(0);
    assert_eq!(test.payload.difference(&test.out), None);
}

#[test]
fn a_document_saved_over_a_file_that_is_yet_to_come_is_not_written_to() {
    let (test, mut running, a) = half_done();
    let b = a.with_file_name("b");
    fs::write(&b, vec![b'x'; 9 * PIECE]).expect("room");
    test.gate.open();
    running.expect_exit(13);
    assert_eq!(fs::read(&b).expect("b"), vec![b'x'; 9 * PIECE]);
    test.refuses(13, &["two/b"]);
}

#[test]
fn data_appended_to_a_complete_file_during_the_run_stays_and_is_reported() {
    let (test, mut running, a) = half_done();
    File::options().append(true).open(&a).and_then(|mut file| file.write_all(b"my notes")).expect("room");
    test.gate.open();
    running.expect_exit(0);
    assert!(running.log().contains("a is 8 bytes longer than the torrent says"), "{}", running.log());
    assert!(fs::read(&a).expect("a").ends_with(b"my notes"));
}

#[test]
fn a_file_that_our_own_output_goes_to_is_not_written_to() {
    let test = DownloadTest::single(0);
    let log = File::create(test.file()).expect("a file");
    let output = test.command(&["--stop-timeout", "20"]).stdout(log).output().expect("btsync runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(13) && said.contains("btsync's input or output is redirected to it"),
        "{said}"
    );
}

/// A disk image, say: one piece is right, and the others look partly downloaded.
fn copy_blocks_of_zeros(test: &DownloadTest) {
    let mut data = vec![b'x'; test.payload.content().len()];
    data.chunks_mut(PIECE).for_each(|piece| piece[..PIECE / 4].fill(0));
    data[..PIECE].copy_from_slice(&test.payload.content()[..PIECE]);
    File::options().write(true).open(test.file()).and_then(|file| file.write_all_at(&data, 0)).expect("room");
}

#[test]
fn a_file_that_was_there_before_stays_the_users_however_often_it_is_gone_on_with() {
    type Edit = fn(&DownloadTest);
    let edits: [(Edit, &str); 4] = [
        (|test| copy_blocks_of_zeros(test), "too few of its pieces verify"),
        (|test| overwrite_as_user(&test.file()), "longer"),
        (|test| spoil(test, &(0..12).collect::<Vec<_>>()), "too few of its pieces verify"),
        (|test| fs::hard_link(test.file(), test.temp.path("backup")).expect("a link"), "hard links"),
    ];
    for (edit, words) in edits {
        let test = DownloadTest::single(0);
        test.payload.write_files(&test.out);
        spoil(&test, &[3]);
        let mut running = test.start("begun", &[]);
        until("it is marked", || fs::metadata(test.marker()).is_ok_and(|marker| marker.len() > 0));
        running.terminate(7);
        edit(&test);
        test.refuses(13, &["payload.bin", words]);
    }
}

/// An earlier download created the file but wrote no data; then another torrent completes a file at the same place.
#[test]
fn a_file_that_another_torrent_completed_meanwhile_is_not_ours_even_through_another_folder() {
    let test = DownloadTest::new(Payload::of("payload.bin", &vec![b'x'; 20 * PIECE - 77], PIECE), 0);
    let running = test.start("first", &[]);
    until("its files are made", || fs::metadata(test.marker()).is_ok_and(|marker| marker.len() > 0));
    kill(running);
    // The same file, as `out/payload.bin` below the test folder.
    let payload = Payload::tree("out", &[("payload.bin", 20 * PIECE - 77)], PIECE);
    let gate = Gate::new(usize::MAX);
    let peer = FakePeer::honest(&payload, &gate);
    let second = DownloadTest { temp: TestDir::new(), payload, gate, peer, out: test.temp.path("") };
    second.start("second", &[]).expect_exit(0);
    assert_eq!(second.payload.difference(&second.out), None);
    test.refuses(13, &["payload.bin"]);
}
