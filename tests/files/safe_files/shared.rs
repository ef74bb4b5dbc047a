//! Part files, several processes and torrents in one folder, other users' files, and kills at any step.

#![allow(clippy::wildcard_imports, reason = "the fixtures of the module above")]

use super::*;

/// Two files that share a piece, of which only the first is wanted, and the path of the part file.
fn with_parts(blocks: usize) -> (DownloadTest, PathBuf) {
    let test = DownloadTest::new(Payload::tree("two", &[("a", 2 * PIECE + 100), ("b", 2 * PIECE)], PIECE), blocks);
    let parts = test.out.join(format!(".{}.parts", test.payload.hex()));
    (test, parts)
}

#[test]
fn a_users_file_of_the_part_files_name_is_neither_written_nor_removed() {
    let (test, parts) = with_parts(0);
    fs::write(&parts, vec![b'x'; PIECE]).expect("room");
    let before = snapshot(&test.out);
    let mut refused = test.start("refused", &["--select", "two/a"]);
    refused.expect_exit(13);
    assert!(refused.log().contains(".parts: it existed before, and too few of its pieces verify"), "{}", refused.log());
    assert_eq!(snapshot(&test.out), before);
    // The part file is not needed if everything is wanted.
    test.completes(&[]);
    assert!(fs::read(&parts).expect("it") == vec![b'x'; PIECE]);
}

#[test]
fn a_part_file_is_gone_on_with_by_the_marker_alone_the_record_alone_or_its_pieces_alone() {
    for lost in ["cache", "marker", "both"] {
        // Some blocks of the shared piece are on disk.
        let (test, parts) = with_parts(if lost == "both" { 12 } else { 10 });
        let mut running = test.start("begun", &["--select", "two/a", "--sequential"]);
        if lost == "both" {
            running.expect_exit(0);
        } else {
            until("all that was granted is there", || test.gate.served() == 10);
            let has_data = || fs::read(&parts).is_ok_and(|found| found.iter().any(|byte| *byte != 0));
            until("some is in the part file", has_data);
            if lost == "cache" { kill(running) } else { running.terminate(7) }
        }
        for (what, path) in [("cache", test.temp.path("cache")), ("marker", test.marker())] {
            if lost == "both" || lost == what {
                let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
            }
        }
        if lost == "both" {
            File::options()
                .write(true)
                .open(test.out.join("two/a"))
                .expect("a")
                .write_all_at(b"spoilt", 0)
                .expect("room");
        }
        test.gate.open();
        test.start("again", &["--select", "two/a"]).expect_exit(0);
        test.completes(&[]);
        assert!(!parts.exists(), "{lost}");
    }
}

#[test]
fn of_two_processes_with_the_same_download_the_second_ends_with_11() {
    let test = DownloadTest::single(8);
    let mut first = test.begun(8);
    let mut second = test.start("second", &[]);
    second.expect_exit(11);
    let said = second.log();
    assert!(said.lines().last().is_some_and(|line| line.contains("another process downloads the same file")), "{said}");
    test.gate.open();
    first.expect_exit(0);
    assert_eq!(test.payload.difference(&test.out), None);
    test.completes(&[]);
}

/// Another torrent with a file of the same name; its piece length differs, hence its info-hash too.
fn conflicting_torrent() -> Payload {
    Payload::single("payload.bin", 20 * PIECE - 77, PIECE / 2)
}

#[test]
fn two_torrents_do_not_write_to_one_file() {
    let test = DownloadTest::single(0);
    let running = test.start("first", &["-v"]);
    until("its files are made", || fs::metadata(test.marker()).is_ok_and(|marker| marker.len() > 0));
    let gate = Gate::new(usize::MAX);
    let peer = FakePeer::honest(&conflicting_torrent(), &gate);
    let other =
        DownloadTest { temp: TestDir::new(), payload: conflicting_torrent(), gate, peer, out: test.out.clone() };
    let mut second = other.start("second", &[]);
    second.expect_exit(11);
    assert!(second.log().contains(test.marker().file_name().unwrap().to_str().unwrap()), "{}", second.log());
    assert!(!other.marker().exists());
    // Also when the first download's data is in the way.
    test.gate.grant(8);
    until("some is there", || test.payload.right_pieces(&test.out) == 2);
    other.start("third", &[]).expect_exit(11);
    assert!(!other.marker().exists());
    kill(running);
    let mut second = other.start("second", &[]);
    second.expect_exit(13);
    assert!(second.log().contains("belongs to the unfinished download of"), "{}", second.log());
    other.completes(&["--overwrite"]);
    // The file is no longer the one that the first download created.
    overwrite_as_user(&test.file());
    test.refuses(13, &["payload.bin"]);
    fs::remove_file(test.marker()).expect("a marker");
}

#[test]
fn a_name_is_given_by_nobody_but_the_process_that_has_the_lock() {
    const SUFFIX: &str = "--incomplete-suffix=.part";
    let test = DownloadTest::new(Payload::tree("two", &[("a", 2 * PIECE), ("b", 5 * PIECE)], PIECE), 8);
    let mut first = test.start("first", &[SUFFIX, "--sequential"]);
    let content = test.payload.content();
    let is_there = || fs::read(test.out.join("two/a.part")).is_ok_and(|found| found == content[..2 * PIECE]);
    until("the first file is there", is_there);
    test.start("second", &[SUFFIX, "--select=1"]).expect_exit(11);
    assert!(is_there() && test.marker().exists());
    kill(first);
    test.start("third", &[SUFFIX, "--select=1"]).expect_exit(0);
    assert!(test.out.join("two/a").exists() && test.marker().exists(), "the other file is not complete");
    first = test.start("fourth", &[SUFFIX]);
    test.gate.open();
    first.expect_exit(0);
    assert_eq!(test.payload.difference(&test.out), None);
}

#[test]
fn two_downloads_of_one_file_by_way_of_different_folders_do_not_meet_in_it() {
    let test = DownloadTest::single(8);
    let mut first = test.begun(8);
    // The same file, as `out/payload.bin` below the test folder.
    let payload = Payload::tree("out", &[("payload.bin", 20 * PIECE - 77), ("other", PIECE)], PIECE);
    let gate = Gate::new(usize::MAX);
    let peer = FakePeer::honest(&payload, &gate);
    let second = DownloadTest { temp: TestDir::new(), payload, gate, peer, out: test.temp.path("") };
    let mut running = second.start("second", &["--overwrite"]);
    running.expect_exit(11);
    assert!(running.log().contains("payload.bin"), "{}", running.log());
    test.gate.open();
    first.expect_exit(0);
    assert_eq!(test.payload.difference(&test.out), None);
}

#[test]
fn a_process_whose_marker_goes_stops_writing() {
    for replaced in [false, true] {
        let test = DownloadTest::single(8);
        let mut running = test.begun(8);
        let before = fs::read(test.file()).expect("the file");
        fs::remove_file(test.marker()).expect("a marker");
        if replaced {
            fs::write(test.marker(), "").expect("room");
        }
        // btsync checks the marker at most every half second.
        std::thread::sleep(Duration::from_millis(600));
        test.gate.open();
        running.expect_exit(11);
        assert!(running.log().contains("was deleted or replaced"), "{}", running.log());
        assert!(fs::read(test.file()).expect("the file") == before, "it went on writing");
        if replaced {
            assert!(test.marker().exists(), "the marker is somebody else's");
        }
        test.completes(&[]);
    }
}

#[test]
fn several_processes_seed_a_complete_torrent_without_a_write_in_its_folder() {
    let test = DownloadTest::new(Payload::edge_cases(), 0);
    test.payload.write_files(&test.out);
    let before = snapshot(&test.out);
    let mut seeds: Vec<Running> = (0..3).map(|n| test.start(&format!("seed{n}"), &["--seed"])).collect();
    for seed in &mut seeds {
        seed.wait_for_output("complete");
    }
    for seed in &mut seeds {
        seed.terminate(0);
    }
    assert_eq!(snapshot(&test.out), before);
}

#[test]
fn read_only_media_are_seeded() {
    const TEST: &str = "read_only_media_are_seeded";
    in_network_namespace(TEST, &["mount"], || {
        let test = DownloadTest::new(Payload::edge_cases(), 0);
        let mount = |options: &str| {
            let line = format!("mount {options} tmpfs '{}'", test.out.display());
            assert!(Command::new("sh").args(["-c", &line]).status().expect("sh").success(), "{line}");
        };
        mount("-t tmpfs -o size=16m");
        test.payload.write_files(&test.out);
        mount("-o remount,ro");
        test.start("seed", &["--seed-time", "0"]).expect_exit(0);
        test.start("seed", &["--fsync"]).expect_exit(0);
    });
}

#[test]
fn files_of_another_user_are_seeded() {
    const TEST: &str = "files_of_another_user_are_seeded";
    if !installed(TEST, &["setpriv"]) {
        return;
    }
    let test = DownloadTest::single(0);
    let user = User::of(&test.temp);
    if user.id().is_none() {
        return not_run(TEST, "it takes root to have a second user");
    }
    test.payload.write_files(&test.out);
    fs::set_permissions(test.file(), Permissions::from_mode(0o444)).expect("a mode");
    user.download(&test.temp, &test.payload, &test.out, &[&test.peer], (&[], &[])).expect_exit(0);
}

/// The download under strace with these options.
fn traced(test: &DownloadTest, options: &[&str], more: &[&str]) -> Running {
    let command = test.command(more);
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o"]).arg(test.temp.path("trace")).args(options).arg(command.get_program());
    strace.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => strace.env(name, value),
            None => strace.env_remove(name),
        };
    }
    test.temp.start("traced", &mut strace)
}

#[test]
fn a_kill_at_any_step_of_the_start_is_resumed_from() {
    const TEST: &str = "a_kill_at_any_step_of_the_start_is_resumed_from";
    if !can_trace(TEST) {
        return;
    }
    let mut killed = 0;
    // The system calls that change something; strace kills btsync at the first, second or third call of a kind.
    for call in ["mkdirat", "flock", "ftruncate", "renameat", "unlinkat", "pwritev", "fallocate"] {
        for nth in 1..4 {
            let test =
                DownloadTest::new(Payload::tree("tree", &[("a/1", 3 * PIECE), ("b/2", 100_000), ("c", 0)], PIECE), 0);
            test.gate.open();
            let kill = format!("inject={call}:signal=SIGKILL:when={nth}");
            let mut running =
                traced(&test, &["-e", &format!("trace={call}"), "-e", &kill], &["--file-allocation", "sparse"]);
            let ended = running.end_within(PATIENCE);
            assert!(ended != Some(13) && ended != Some(11), "{call} {nth}: {}", running.log());
            killed += usize::from(ended != Some(0));
            if nth == 2 {
                let _ = fs::remove_dir_all(test.temp.path("cache"));
            }
            test.completes(&[]);
            assert_eq!(fs::read_dir(&test.out).expect("it").count(), 1, "{call} {nth}: something was left behind");
        }
    }
    assert!(killed >= 10, "only {killed} were killed");
}

#[test]
fn a_file_system_without_locks_is_warned_of_and_used() {
    const TEST: &str = "a_file_system_without_locks_is_warned_of_and_used";
    if !can_trace(TEST) {
        return;
    }
    let test = DownloadTest::single(0);
    test.gate.open();
    let mut running = traced(&test, &["-e", "trace=flock", "-e", "inject=flock:error=ENOLCK"], &[]);
    running.expect_exit(0);
    assert!(running.log().contains("this file system does not support locks"), "{}", running.log());
    assert_eq!(test.payload.difference(&test.out), None);
}

#[test]
fn with_fsync_everything_is_on_the_disk_before_btsync_ends() {
    const TEST: &str = "with_fsync_everything_is_on_the_disk_before_btsync_ends";
    if !can_trace(TEST) {
        return;
    }
    let synced = |more: &[&str]| {
        let test = DownloadTest::new(Payload::tree("tree", &[("a/1", 100_000), ("a/2", 70_000), ("b", 0)], PIECE), 0);
        test.gate.open();
        traced(&test, &["-y", "-e", "trace=fsync,fdatasync"], more).expect_exit(0);
        fs::read_to_string(test.temp.path("trace")).expect("a trace")
    };
    let trace = synced(&["--fsync"]);
    let names = ["/out/tree/a/1>", "/out/tree/a/2>", "/out/tree/b>", "/out/tree/a>", "/out/tree>", "/out>", "</>"];
    for name in names {
        assert!(trace.lines().any(|line| line.contains(name) && line.contains("= 0")), "{name}: {trace}");
    }
    assert!(!synced(&[]).contains("/out/"), "btsync synced without --fsync");
}
