//! The commands that work on torrent files without a network (`verify`, `magnet`, `edit`, `create` and `info`) as a shell sees
//! them: what they print and write, and each of their exit codes with a real cause.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::common::batch::gzipped;
use crate::common::bencode::{bytes, dict, int, list};
use crate::common::netns::not_run;
use crate::common::payload::Payload;
use crate::common::process::Running;
use crate::common::{PORT_RANGE, TestDir, btsync, until};
use serde_json::{Value, json};

fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = btsync();
    command.current_dir(dir).args(args).stdin(Stdio::null()).env_remove("SOURCE_DATE_EPOCH");
    command
}

fn run(dir: &Path, args: &[&str]) -> Output {
    command(dir, args).output().expect("the program runs")
}

/// Runs the program with this file as standard input.
fn run_from(dir: &Path, args: &[&str], stdin: &Path) -> Output {
    command(dir, args).stdin(File::open(stdin).expect("a file to read")).output().expect("the program runs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

/// The output of a successful run.
fn printed(output: &Output) -> &str {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// The program must end with this code and print one line that contains `word`.
fn fails(dir: &Path, args: &[&str], code: i32, word: &str) {
    let output = run(dir, args);
    let words = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {words}");
    assert_eq!(words.lines().count(), 1, "{args:?}: {words}");
    assert!(words.starts_with("btsync: ") && words.contains(word), "{args:?}: {words}");
    assert!(output.stdout.is_empty(), "{args:?}");
}

/// Five files in 13 pieces of 16 KiB, most of which span files.
fn five_files() -> Payload {
    Payload::tree("t", &[("a", 100_000), ("b", 50_000), ("c", 40_000), ("e", 0), ("f", 10_000)], 16_384)
}

/// A test folder with the five files below `all`, and `x.torrent`.
fn with_five_files() -> (TestDir, Payload) {
    let (temp, payload) = (TestDir::new(), five_files());
    temp.folder_with("all", &payload);
    fs::write(temp.path("x.torrent"), payload.torrent("http://a/announce")).expect("a torrent file");
    (temp, payload)
}

/// Every entry of a folder with its length and times of its last change.
fn state(dir: &Path) -> Vec<String> {
    let listed = Command::new("find").arg(dir).args(["-printf", "%p %s %T@ %C@\n"]).output().expect("find runs");
    let mut lines: Vec<String> = text(&listed.stdout).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn verify_names_flaws_and_changes_nothing() {
    let (temp, payload) = with_five_files();
    let dir = temp.path("");
    let whole = run(&dir, &["verify", "x.torrent", "all"]);
    assert_eq!((printed(&whole), text(&whole.stderr)), ("", "t: complete, 13 pieces\n"));
    let whole = run_from(&dir.join("all"), &["verify", "-", "--json", "-q"], &dir.join("x.torrent"));
    let expected = json!({"info_hash": payload.hex(), "name": "t", "whole": true, "pieces": 13, "verified": 13, "files": [],
            "unfinished": []});
    assert_eq!(serde_json::from_str::<Value>(printed(&whole)).expect("JSON"), expected);
    assert!(whole.stderr.is_empty());

    let at = |name: &str| dir.join("all/t").join(name);
    let a = File::options().write(true).open(at("a")).expect("a");
    a.write_at(b"\xff\xff", 20_000).expect("two wrong bytes");
    fs::remove_file(at("c")).expect("c");
    fs::remove_file(at("e")).expect("e");
    File::options().write(true).open(at("f")).and_then(|f| f.set_len(10_001)).expect("f");
    let before = state(&dir);
    let flawed = run(&dir, &["verify", "x.torrent", "all"]);
    let lines = "bad     t/a: bytes 16384-32767\nunknown t/b: bytes 47456-49999\nmissing t/c\nmissing t/e\n\
                 long    t/f: 10001 bytes instead of 10000\nunknown t/f: bytes 0-6607\n";
    assert_eq!((flawed.status.code(), text(&flawed.stdout)), (Some(32), lines));
    let line = "btsync: t: 4 of 13 pieces are wrong or missing; bad or missing files: 5\n";
    assert_eq!(text(&flawed.stderr), line);

    let flawed = run(&dir, &["verify", "x.torrent", "all", "--json"]);
    let found: Value = serde_json::from_slice(&flawed.stdout).expect("JSON");
    let flaw = |path: &str, length: u64, found: Option<u64>, bad: Value, unknown: Value| json!({"path": path, "length": length, "found": found, "bad": bad, "unknown": unknown});
    let run_of = |offset: u64, length: u64| json!([{"offset": offset, "length": length}]);
    let files = [
        flaw("t/a", 100_000, Some(100_000), run_of(16_384, 16_384), json!([])),
        flaw("t/b", 50_000, Some(50_000), json!([]), run_of(47_456, 2_544)),
        flaw("t/c", 40_000, None, json!([]), json!([])),
        flaw("t/e", 0, None, json!([]), json!([])),
        flaw("t/f", 10_000, Some(10_001), json!([]), run_of(0, 6_608)),
    ];
    assert_eq!((flawed.status.code(), &found["files"]), (Some(32), &json!(files)));
    assert_eq!((&found["whole"], &found["verified"]), (&json!(false), &json!(9)));
    assert_eq!(state(&dir), before, "nothing is made, cut or written");
}

#[test]
fn verify_looks_only_at_the_files_that_are_selected() {
    let (temp, _payload) = with_five_files();
    let dir = temp.path("");
    fs::remove_file(dir.join("all/t/c")).expect("c");
    // `b` shares its last piece with `c`, and `f` its first.
    for (words, code, lines) in [
        (&["--select", "a"][..], 0, ""),
        (&["--exclude", "b", "--exclude=c", "--exclude", "e"], 32, "unknown t/f: bytes 0-6607\n"),
        (&["--select", "b"], 32, "unknown t/b: bytes 47456-49999\n"),
        (&["--select", "c"], 32, "missing t/c\n"),
    ] {
        let seen = run(&dir, &[&["verify", "x.torrent", "all"], words].concat());
        assert_eq!((seen.status.code(), text(&seen.stdout)), (Some(code), lines), "{words:?}: {}", text(&seen.stderr));
    }
    let none = run(&dir, &["verify", "x.torrent", "all", "--select", "nothing"]);
    assert_eq!(none.status.code(), Some(28), "{}", text(&none.stderr));
}

#[test]
fn verify_finds_short_files_and_refuses_other_entries() {
    let (temp, _) = with_five_files();
    let dir = temp.path("");
    File::options().write(true).open(dir.join("all/t/a")).and_then(|a| a.set_len(70_000)).expect("a cut file");
    fs::remove_file(dir.join("all/t/f")).expect("a file of the payload");
    let flawed = run(&dir, &["verify", "x.torrent", "all"]);
    let lines = "short   t/a: 70000 of 100000 bytes\nunknown t/a: bytes 65536-69999\nunknown t/b: bytes 0-14687\n\
                 unknown t/c: bytes 30224-39999\nmissing t/f\n";
    assert_eq!((flawed.status.code(), text(&flawed.stdout)), (Some(32), lines), "{}", text(&flawed.stderr));
    // In an empty folder every file is missing, and `verify` creates none.
    let empty = temp.folder("empty");
    let output = run(&dir, &["verify", "x.torrent", "empty"]);
    assert_eq!((output.status.code(), text(&output.stdout).lines().count()), (Some(32), 5));
    assert_eq!(fs::read_dir(empty).expect("a folder").count(), 0);
    fs::create_dir(dir.join("all/t/f")).expect("a folder");
    fails(&dir, &["verify", "x.torrent", "all"], 13, "t/f");
    fs::write(dir.join("empty/t"), "").expect("a file");
    fails(&dir, &["verify", "x.torrent", "empty"], 13, "empty/t");
}

#[test]
fn verify_reads_through_the_users_own_links_out_of_the_folder() {
    let (temp, payload) = with_five_files();
    let dir = temp.path("");
    let (_, right) = payload.paths_with_content(&dir).swap_remove(0);
    fs::write(dir.join("outside"), right).expect("a file outside");
    fs::remove_file(dir.join("all/t/a")).expect("a file of the payload");
    symlink(dir.join("outside"), dir.join("all/t/a")).expect("a link");
    let before = state(&dir);
    let whole = run(&dir, &["verify", "x.torrent", "all"]);
    assert_eq!((printed(&whole), text(&whole.stderr)), ("", "t: complete, 13 pieces\n"));
    assert_eq!(state(&dir), before, "nothing is made, cut or written");
}

#[test]
fn unreadable_torrents_have_their_exit_codes() {
    let (temp, _) = with_five_files();
    let dir = temp.path("");
    fs::write(dir.join("text"), "<html>").expect("a file");
    fs::write(dir.join("other"), "d3:onei1ee").expect("a file");
    for args in [&["info"][..], &["verify"], &["magnet"], &["edit", "--no-comment"]] {
        for (file, code) in [("none", 15), ("text", 25), ("other", 26)] {
            fails(&dir, &[args, &[file]].concat(), code, file);
        }
        let piped = run_from(&dir, &[args, &["-"]].concat(), &dir.join("text"));
        let code = if args[0] == "edit" { 28 } else { 25 };
        assert_eq!(piped.status.code(), Some(code), "{args:?}: {}", text(&piped.stderr));
    }
    fails(&dir, &["verify", "x.torrent", "nowhere"], 15, "nowhere");
    fails(&dir, &["verify", "x.torrent", "text"], 15, "not a folder");
    fails(&dir, &["create", "nowhere"], 15, "nowhere");
    fails(&dir, &["create", "/dev/null"], 1, "/dev/null");
    fails(&dir, &["create", "all", "--exclude", "*"], 1, "no file");
}

#[test]
fn wrong_words_end_with_28() {
    let (temp, _) = with_five_files();
    let dir = temp.path("");
    let lines = "verify|verify x.torrent all more|verify x.torrent --jsn|magnet x.torrent --peer here|magnet|edit x.torrent\
                 |edit x.torrent -a ws://a|edit x.torrent --remove-announce http://b|edit x.torrent --comment a --no-comment\
                 |create all --exclude [|create all --node here|create all -a ,|create all --piece-length 17K";
    for line in lines.split('|') {
        fails(&dir, &line.split_whitespace().collect::<Vec<_>>(), 28, "");
    }
    let output = command(&dir, &["create", "all"]).env("SOURCE_DATE_EPOCH", "soon").output().expect("the program runs");
    assert_eq!(output.status.code(), Some(28));
    assert!(text(&output.stderr).contains("SOURCE_DATE_EPOCH") && !dir.join("all.torrent").exists());
}

#[test]
fn magnet_prints_the_link() {
    let (temp, payload) = with_five_files();
    let dir = temp.path("");
    let link = format!("magnet:?xt=urn:btih:{}&dn=t", payload.hex());
    assert_eq!(printed(&run(&dir, &["magnet", "x.torrent"])), format!("{link}&tr=http://a/announce\n"));
    let args = ["magnet", "-", "--no-trackers", "--peer", "192.0.2.7:6881", "--peer=[2001:db8::7]:1"];
    let with_peers = format!("{link}&x.pe=192.0.2.7:6881&x.pe=%5B2001:db8::7%5D:1\n");
    assert_eq!(printed(&run_from(&dir, &args, &dir.join("x.torrent"))), with_peers);
}

/// A torrent with unknown keys, inside and outside of its info dictionary.
fn strange() -> Vec<u8> {
    let info = [
        ("length", int(1)),
        ("name", bytes(b"x")),
        ("piece length", int(16_384)),
        ("pieces", bytes(&[7; 20])),
        ("zz", list([int(1), bytes(b"\xff")])),
    ];
    let top = [("announce", bytes(b"http://old/")), ("comment", bytes(b"old")), ("info", dict(info)), ("qq", list([]))];
    dict(top)
}

#[test]
fn edit_unpacks_compressed_torrents() {
    let (temp, payload) = (TestDir::new(), five_files());
    let dir = temp.folder("x");
    let plain = payload.torrent("http://a/");
    let packed = gzipped(&temp, &plain);
    fs::write(dir.join("x.torrent"), &packed).expect("a file");
    printed(&run(&dir, &["edit", "x.torrent", "-o", "y.torrent", "--comment", "new"]));
    assert!(fs::read(dir.join("x.torrent")).expect("a file") == packed, "left as it was");
    printed(&run(&dir, &["edit", "x.torrent", "--comment", "new"]));
    let edited = fs::read(dir.join("x.torrent")).expect("a file");
    assert!(edited.starts_with(b"d8:announce9:http://a/7:comment3:new"), "{}", edited.escape_ascii());
    assert!(edited == fs::read(dir.join("y.torrent")).expect("a file"));
    let back = printed(&run(&dir, &["edit", "x.torrent", "--no-comment"])).to_owned();
    assert!(back.contains(&payload.hex()) && fs::read(dir.join("x.torrent")).expect("a file") == plain);
    fs::write(dir.join("broken.torrent"), &packed[..packed.len() / 2]).expect("a file");
    fails(&dir, &["edit", "broken.torrent", "--no-comment"], 26, "cannot be unpacked");
    assert_eq!(fs::read(dir.join("broken.torrent")).expect("a file").len(), packed.len() / 2);
}

#[test]
fn edit_in_place_refuses_a_file_with_data_after_the_torrent() {
    let (temp, payload) = (TestDir::new(), five_files());
    let dir = temp.folder("x");
    let (plain, notes) = (payload.torrent("http://a/"), b"my notes".to_vec());
    let members = [gzipped(&temp, &plain), gzipped(&temp, &notes)].concat();
    for bytes in [[&plain[..], &notes].concat(), members] {
        fs::write(dir.join("x.torrent"), &bytes).expect("a file");
        fails(&dir, &["edit", "x.torrent", "--comment", "new"], 26, "8 bytes follow the torrent");
        assert!(fs::read(dir.join("x.torrent")).expect("a file") == bytes, "left as it was");
        printed(&run(&dir, &["edit", "x.torrent", "--comment", "new", "-o", "y.torrent", "--force"]));
        assert!(fs::read(dir.join("x.torrent")).expect("a file") == bytes);
    }
    fs::write(dir.join("x.torrent"), [&plain[..], b"\n"].concat()).expect("a file");
    printed(&run(&dir, &["edit", "x.torrent", "--no-comment"]));
    assert!(fs::read(dir.join("x.torrent")).expect("a file") == plain);
}

#[test]
fn edit_changes_only_the_named_keys() {
    let temp = TestDir::new();
    let dir = temp.path("");
    let file = dir.join("x.torrent");
    fs::write(&file, strange()).expect("a torrent file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("its rights");
    symlink("x.torrent", dir.join("link")).expect("a link");
    let hash = |name: &str| {
        let output = run(&dir, &["info", name, "--json"]);
        let info: Value = serde_json::from_str(printed(&output)).expect("JSON");
        (info["info_hash"].as_str().expect("a hash").to_owned(), info)
    };
    let (before, _) = hash("x.torrent");
    let args = ["edit", "link", "-a", "http://a/,http://b/", "--add-announce", "udp://c:1", "--comment", "new"];
    let output = run(&dir, &[&args[..], &["--web-seed", "http://w/"]].concat());
    assert_eq!(printed(&output), format!("link {before}\n"));
    let (after, info) = hash("x.torrent");
    assert_eq!(after, before);
    let said = (&info["trackers"], &info["comment"], &info["web_seeds"]);
    let trackers = json!([["http://a/", "http://b/"], ["udp://c:1"]]);
    assert_eq!(said, (&trackers, &json!("new"), &json!(["http://w/"])));
    assert_eq!(fs::metadata(&file).expect("the file").permissions().mode() & 0o777, 0o640);
    assert!(dir.join("link").is_symlink());

    // Edited back: every byte is as before.
    let back = ["edit", "x.torrent", "-a", "http://old/", "--comment", "old", "--no-web-seed", "-o", "y.torrent"];
    assert_eq!(printed(&run(&dir, &back)), format!("y.torrent {before}\n"));
    assert_eq!(fs::read(dir.join("y.torrent")).expect("the file"), strange());
    let piped = run_from(&dir, &["edit", "-", "-o", "-", "--remove-announce=http://old/"], &dir.join("y.torrent"));
    let without = dict([("comment", bytes(b"old"))]);
    assert!(piped.stdout.starts_with(&without[..without.len() - 1]) && piped.stderr.is_empty(), "{piped:?}");
    assert_eq!(fs::read_dir(&dir).expect("the folder").count(), 3, "nothing is left behind");
}

#[test]
fn pipes_and_devices_are_written_into_and_never_replaced() {
    let (temp, _) = with_five_files();
    let dir = temp.path("");
    let pipe = dir.join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).expect("a pipe");
    symlink("/proc/self/fd/1", dir.join("stdout")).expect("a link");
    symlink("/dev/null", dir.join("null")).expect("a link");
    let kind = |name: &str| fs::symlink_metadata(dir.join(name)).expect("it").file_type();
    for args in [&["create", "all"][..], &["edit", "x.torrent", "--comment", "new"]] {
        let to = |output| [args, &["-o", output, "--force"]].concat();
        printed(&run(&dir, &to("null")));
        fails(&dir, &to("pipe"), 17, "no program reads from it");
        let mut reader = File::options().read(true).write(true).open(&pipe).expect("the pipe");
        printed(&run(&dir, &to("pipe")));
        let mut read = vec![0; 1 << 16];
        let count = reader.read(&mut read).expect("bytes written to the pipe");
        drop(reader);
        assert!(count > 100 && read.starts_with(b"d") && read[count - 1] == b'e');
        let said = File::create(dir.join("said")).expect("a file");
        let output = command(&dir, &to("stdout")).stdout(said).output().expect("the program runs");
        assert_eq!(output.status.code(), Some(13), "{output:?}");
        assert!(kind("null").is_symlink() && kind("stdout").is_symlink() && !kind("pipe").is_file());
    }
    fails(&dir, &["edit", "pipe", "--comment", "x"], 28, "-o FILE");
    fails(&dir, &["edit", "/dev/null", "--comment", "x"], 28, "-o FILE");
}

#[test]
fn edits_of_one_file_at_once_lose_nothing() {
    let (temp, _) = with_five_files();
    let dir = temp.path("");
    let urls: Vec<String> = (0..8).map(|number| format!("http://h{number}/announce")).collect();
    let edit =
        |url: &String| command(&dir, &["edit", "x.torrent", "--add-announce", url]).stdout(Stdio::null()).spawn();
    let edits: Vec<_> = urls.iter().map(|url| edit(url).expect("the program runs")).collect();
    for mut edit in edits {
        assert!(edit.wait().expect("it ends").success());
    }
    let info = run(&dir, &["info", "x.torrent"]);
    assert!(urls.iter().all(|url| printed(&info).contains(url)), "{}", printed(&info));
}

/// Such as the mark of a torrent file that a download contained.
#[test]
fn edit_in_place_keeps_what_the_file_system_knows_of_the_file() {
    let (temp, _) = with_five_files();
    let (dir, file) = (temp.path(""), temp.path("x.torrent"));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("permissions");
    fs::hard_link(&file, dir.join("y.torrent")).expect("a link");
    let before = fs::read(&file).expect("the torrent");
    let has_attributes = rustix::fs::setxattr(&file, "user.mine", b"1", rustix::fs::XattrFlags::empty()).is_ok();
    printed(&run(&dir, &["edit", "x.torrent", "--comment", "new"]));
    assert_ne!(fs::read(&file).expect("the torrent"), before);
    assert_eq!(fs::metadata(&file).expect("it").permissions().mode() & 0o777, 0o640);
    assert_eq!(rustix::fs::getxattr(&file, "user.mine", &mut [0; 1]).is_ok(), has_attributes);
    assert_eq!(fs::read(dir.join("y.torrent")).expect("the other name"), before, "as the documents say");
}

#[test]
fn unwritable_outputs_have_their_exit_codes() {
    let (temp, _) = with_five_files();
    let dir = temp.path("");
    let before = fs::read(dir.join("x.torrent")).expect("the torrent");
    for args in [&["edit", "x.torrent", "--no-announce"][..], &["create", "all"]] {
        fails(&dir, &[args, &["-o", "x.torrent.none/y"]].concat(), 16, "y");
        fails(&dir, &[args, &["-o", "all"]].concat(), 13, "--force");
        fails(&dir, &[args, &["-o", "all", "--force"]].concat(), 14, "all");
    }
    fails(&dir, &["create", "all", "-o", "x.torrent"], 13, "--force");
    assert_eq!(fs::read(dir.join("x.torrent")).expect("the torrent"), before);
    let full = File::options().write(true).open("/dev/full").expect("/dev/full");
    let output = command(&dir, &["edit", "x.torrent", "--no-announce", "-o", "-"]).stdout(full).output();
    assert_eq!(output.expect("the program runs").status.code(), Some(17));
    assert_eq!(fs::read_dir(&dir).expect("the folder").count(), 2, "nothing is left behind");
}

#[test]
fn a_full_disk_ends_create_and_edit_with_9() {
    let temp = TestDir::new();
    let (dir, disk) = (temp.path(""), temp.folder("disk"));
    // A thousand pieces: 20 KB of hashes.
    File::create(dir.join("zeros")).and_then(|file| file.set_len(16 << 20)).expect("a sparse file");
    printed(&run(&dir, &["create", "zeros", "--piece-length", "16K"]));
    // Root needs no user namespace; other users do.
    let found = [&["-m"][..], &["-r", "-m"]]
        .into_iter()
        .find(|args| Command::new("unshare").args(*args).arg("true").status().is_ok_and(|status| status.success()));
    let Some(args) = found else {
        return not_run("a_full_disk_ends_create_and_edit_with_9", "this machine allows no mount namespaces");
    };
    let mount = "mount -t tmpfs -o size=8k none disk && ";
    for words in ["create zeros --piece-length 16K -o disk/x", "edit zeros.torrent --comment x -o disk/x"] {
        let script = format!("{mount} {{ \"$0\" {words}; code=$?; ls disk; exit $code; }}");
        let mut inside = Command::new("unshare");
        inside.args(args).args(["sh", "-c", &script, env!("CARGO_BIN_EXE_btsync")]);
        let output = inside.current_dir(&dir).output().expect("unshare runs");
        let listed = (output.status.code(), text(&output.stdout));
        assert_eq!(listed, (Some(9), ""), "{words}: {}", text(&output.stderr));
    }
    assert_eq!(fs::read_dir(disk).expect("the folder").count(), 0);
}

/// Waits until the process handles signals.
fn is_ready(running: &Running) {
    until("signals are watched", || {
        let tasks = fs::read_dir(format!("/proc/{}/task", running.pid())).expect("its threads");
        let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        tasks.flatten().any(|task| name(task).trim() == "signals")
    });
}

#[test]
fn a_signal_ends_create_and_verify_with_7() {
    let temp = TestDir::new();
    let dir = temp.path("");
    // A byte in each piece, so that none is a hole that need not be read. The file is larger than the program ever reads.
    let (piece, pieces) = (512u64 << 20, 256u64);
    let vast = File::create(dir.join("vast")).expect("a sparse file");
    (0..pieces).for_each(|at| vast.write_all_at(b"x", at * piece).expect("a byte"));
    vast.set_len(pieces * piece).expect("its length");
    let info = [
        ("length", int(pieces * piece)),
        ("name", bytes(b"vast")),
        ("piece length", int(piece)),
        ("pieces", bytes(&vec![7; 20 * pieces as usize])),
    ];
    fs::write(dir.join("vast.torrent"), dict([("info", dict(info))])).expect("a torrent file");
    for (signal, args) in [("INT", &["verify", "vast.torrent"][..]), ("TERM", &["create", "vast", "-o", "new"])] {
        let mut running = temp.start(args[0], &mut command(&dir, args));
        is_ready(&running);
        running.signal(signal);
        running.expect_exit(7);
        assert!(running.log().contains("interrupted"), "{}", running.log());
    }
    assert!(!dir.join("new").exists());
    // A file that changes while the program reads it.
    let mut running = temp.start("changing", &mut command(&dir, &["create", "vast", "-o", "new"]));
    until("it reads the file", || running.bytes_read() > 32 << 20);
    vast.set_len(1).expect("a shorter file");
    running.expect_exit(17);
    assert!(running.log().contains("changed") && !dir.join("new").exists(), "{}", running.log());
}

#[test]
fn the_same_files_make_the_same_torrent() {
    let temp = TestDir::new();
    let contents = |name: &str| format!("the content of {name}");
    let names = ["b", "a.b", "a/x", "B", "ä"];
    for (folder, order) in [("one", names.to_vec()), ("other", names.into_iter().rev().collect())] {
        for name in order {
            let path = temp.folder(folder).join("t").join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, contents(name)).expect("a file");
        }
    }
    let make = |folder: &str, epoch: &str, more: &[&str]| {
        let args = [&["create", "t", "-o", "x.torrent", "--force"], more].concat();
        let output = command(&temp.path(folder), &args).env("SOURCE_DATE_EPOCH", epoch).output();
        printed(&output.expect("the program runs"));
        fs::read(temp.path(folder).join("x.torrent")).expect("the torrent")
    };
    assert_eq!(make("one", "86400", &[]), make("other", "86400", &[]));
    assert_ne!(make("one", "86400", &[]), make("one", "86401", &[]));
    assert_eq!(make("one", "1", &["--no-date"]), make("other", "2", &["--no-date"]));
}

#[test]
fn create_reports_skipped_files_and_probable_mistakes() {
    let (temp, _) = with_five_files();
    let dir = temp.path("");
    symlink("a", dir.join("all/t/link")).expect("a link");
    let args = ["create", "all/t", "-o", "y", "--exclude", "[bc]", "--exclude=e", "--source", "x", "--pad-files"];
    let output = run(&dir, &[&args[..], &["-a", "udp://a:1", "--node", "dht.example:6881"]].concat());
    assert!(printed(&output).starts_with("y "));
    let words = text(&output.stderr);
    assert!(
        words.starts_with("all/t/link is left out: a symbolic link\nhint: ") && words.lines().count() == 2,
        "{words}"
    );
    let info: Value = serde_json::from_str(printed(&run(&dir, &["info", "y", "--json"]))).expect("JSON");
    let pad = json!({"path": "t/.pad/14688", "length": 14_688, "pad": true});
    let files = json!([{"path": "t/a", "length": 100_000}, pad, {"path": "t/f", "length": 10_000}]);
    assert_eq!(info["files"], files);
    // `verify` ignores the content of padding files.
    printed(&run(&dir, &["verify", "y", "all"]));
    let made = fs::read(dir.join("y")).expect("the torrent");
    assert!(made.ends_with(b"6:source1:xe5:nodesll11:dht.examplei6881eeee"), "{}", made.escape_ascii());
}

#[test]
fn a_torrent_comes_from_standard_input() {
    let (temp, payload) = with_five_files();
    let dir = temp.path("");
    let info: Value =
        serde_json::from_str(printed(&run_from(&dir, &["info", "-", "--json"], &dir.join("x.torrent")))).expect("JSON");
    assert_eq!(info["info_hash"], json!(payload.hex()));
    let args = ["-", "all", "--bt-exclude-tracker", "*", "--no-dht", "--no-lsd", "--listen-port", PORT_RANGE];
    // From a pipe, and from a file.
    let mut cat = Command::new("cat").arg(dir.join("x.torrent")).stdout(Stdio::piped()).spawn().expect("cat");
    let pipe = cat.stdout.take().expect("its output");
    let piped = command(&dir, &args).stdin(pipe).output().expect("the program runs");
    assert!(cat.wait().is_ok_and(|status| status.success()));
    assert_eq!(piped.status.code(), Some(0), "{}", text(&piped.stderr));
    assert!(text(&piped.stderr).contains("already on disk"), "{}", text(&piped.stderr));
}
