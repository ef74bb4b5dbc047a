//! `--json`: the tests check every line against docs/events.schema.json, for a download, a magnet link, a failure, a reader that
//! closes the pipe (which ends the download), and a reader that stops reading: the download continues, memory stays bounded, and
//! a signal ends the process.
//!
//! Also the options for scripts: `--stop-timeout`, `--on-download-complete`.

mod events;

use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use crate::common::extended_peer::{ExtendedPeer, size_of};
use crate::common::payload::Payload;
use crate::common::process::wait_for_exit;
use crate::common::schema;
use crate::common::seeder::{FakePeer, Gate};
use crate::common::web::{Page, WebServer};
use crate::common::{TestDir, btsync, free_port, until};
use serde_json::Value;

/// The lines of one run, each checked against the schema, and the exit code.
fn run(args: &[&std::ffi::OsStr]) -> (Vec<Value>, Option<i32>) {
    let mut command = btsync();
    command.args(args).args(["--json", "--no-dht", "--no-lsd", "--listen-port", &free_port().to_string()]);
    let output = command.stdin(Stdio::null()).output().expect("btsync runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!text.contains("(os error") && !told.contains("(os error"), "{text}{told}");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    for line in &lines {
        schema::assert_fits(line);
    }
    assert_pairs(&lines);
    (lines, output.status.code())
}

/// Like [`run`], for a download that a signal ends once it has reported a line of which `is_last` is true.
fn run_until(args: &[&std::ffi::OsStr], is_last: impl Fn(&Value) -> bool) -> Vec<Value> {
    let mut command = btsync();
    command.args(args).args(["--json", "--no-dht", "--no-lsd", "--listen-port", &free_port().to_string()]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("btsync runs");
    let mut lines = Vec::new();
    for line in BufReader::new(child.stdout.take().expect("a pipe")).lines() {
        let line: Value = serde_json::from_str(&line.expect("UTF-8")).expect("JSON");
        schema::assert_fits(&line);
        if is_last(&line) && !lines.iter().any(&is_last) {
            terminate(&child);
        }
        lines.push(line);
    }
    assert_eq!(wait_for_exit(&mut child), Some(7), "{lines:?}");
    assert_pairs(&lines);
    lines
}

/// Every disconnected peer was connected before, and at the end none is connected.
fn assert_pairs(lines: &[Value]) {
    assert!(lines.iter().all(|line| line["event"] != "lost"), "nothing is lost here");
    let mut connected = std::collections::HashMap::<&str, i32>::new();
    for line in lines.iter().filter(|line| line["event"] == "peer") {
        let count = connected.entry(line["address"].as_str().expect("an address")).or_default();
        *count += match line["state"].as_str() {
            Some("connected") => 1,
            Some("disconnected") => -1,
            _ => 0,
        };
        assert!(*count >= 0, "disconnected without having been connected: {lines:#?}");
    }
    assert!(connected.values().all(|count| *count == 0), "still connected at the end: {lines:#?}");
}

fn names(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["event"].as_str().unwrap_or_default()).collect()
}

#[test]
fn a_download_tells_its_story() {
    let (temp, payload) = (TestDir::new(), Payload::edge_cases());
    let seeder = FakePeer::honest(&payload, &Gate::new(usize::MAX));
    let torrent = temp.torrent(&payload, "");
    let out = temp.folder("out");
    let peers = [seeder.addr.port(), free_port()].map(|port| format!("--peer=127.0.0.1:{port}"));
    let (lines, code) = run(&[torrent.as_os_str(), out.as_os_str(), peers[0].as_ref(), peers[1].as_ref()]);
    assert_eq!(code, Some(0));
    let names = names(&lines);
    assert_eq!((names.first(), names.last()), (Some(&"started"), Some(&"done")), "{names:?}");
    for event in ["listening", "peer", "progress", "complete", "file_done"] {
        assert!(names.contains(&event), "no {event}: {names:?}");
    }
    let pieces = lines.iter().filter(|line| line["event"] == "piece").count();
    assert_eq!(pieces, payload.pieces(), "each piece once");
    let files: Vec<_> = lines.iter().filter(|line| line["event"] == "file_done").collect();
    assert!(files.iter().all(|file| out.join(file["path"].as_str().unwrap()).is_file()), "{files:?}");
    assert_eq!(lines.last().unwrap()["complete"], true);
    assert!(lines.iter().all(|line| line["info_hash"] == payload.hex()), "each says of which torrent it is");
    // The second time everything is already on disk.
    let (lines, code) = run(&[torrent.as_os_str(), out.as_os_str()]);
    assert_eq!(code, Some(0));
    assert!(self::names(&lines).contains(&"checked") && !self::names(&lines).contains(&"piece"), "{lines:?}");
}

/// A peer that stays for the download has one connected and one disconnected event (`run` checks both).
#[test]
fn a_magnet_link_tells_its_story() {
    let (temp, payload) = (TestDir::new(), Payload::edge_cases());
    let folder = temp.folder_with("seed", &payload);
    let port = free_port();
    let torrent = temp.torrent(&payload, "");
    let seeds = temp.btsync("seeds", &torrent, &folder, port, &["--seed", "--no-lsd"]);
    until("it listens", || seeds.log().contains("listening"));
    let out = temp.folder("out");
    let peer = format!("--peer=127.0.0.1:{port}");
    let (lines, code) = run(&[payload.magnet("").as_ref(), out.as_os_str(), peer.as_ref()]);
    assert_eq!(code, Some(0));
    let told = names(&lines);
    assert!(told.contains(&"metadata") && told.contains(&"complete"), "{told:?}");
    assert!(lines.iter().any(|line| line["state"] == "connected" && line["direction"] == "outgoing"), "{lines:?}");
    payload.assert_at(&out);
}

#[test]
fn a_failure_is_an_event_with_its_code() {
    let (lines, code) = run(&["/nowhere/x.torrent".as_ref()]);
    assert_eq!((names(&lines), code), (vec!["error"], Some(15)));
    assert_eq!(lines[0]["code"], 15);
    let (lines, code) = run(&["magnet:?xt=urn:btih:nonsense".as_ref()]);
    assert_eq!((lines[0]["code"].as_u64(), code), (Some(27), Some(27)));
}

/// User-visible messages contain no numeric system errors (`run` checks that).
#[test]
fn system_errors_are_reported_in_words() {
    let (temp, payload) = (TestDir::new(), Payload::edge_cases());
    let dead = free_port();
    let torrent = temp.torrent(&payload, &format!("http://127.0.0.1:{dead}/announce"));
    let of_tracker = |line: &Value| line["event"] == "tracker";
    let lines = run_until(&[torrent.as_os_str(), temp.folder("out").as_os_str()], of_tracker);
    let tracker = lines.iter().find(|line| of_tracker(line)).expect("a tracker was asked");
    assert_eq!(tracker["error"], "connection failed: connection refused");
    let peer = format!("--peer=127.0.0.1:{dead}");
    let has_failed = |line: &Value| line["state"] == "failed";
    let out = temp.folder("out");
    let lines = run_until(&[payload.magnet("").as_ref(), out.as_os_str(), peer.as_ref()], has_failed);
    let failed = lines.iter().find(|line| has_failed(line)).expect("the peer was dialed");
    assert_eq!(failed["reason"], "cannot connect: connection refused");
    for words in [["/dev/null/x.torrent"], ["--input-file=/nowhere"], ["--watch=/nowhere"], ["--config=/nowhere"]] {
        run(&words.map(AsRef::as_ref));
    }
}

#[test]
fn silence_ends_with_a_reason() {
    let (temp, payload) = (TestDir::new(), Payload::edge_cases());
    let torrent = temp.torrent(&payload, "");
    let (lines, code) = run(&[torrent.as_os_str(), temp.folder("out").as_os_str(), "--stop-timeout=0.3".as_ref()]);
    assert_eq!(code, Some(2), "{lines:?}");
    let last = lines.last().unwrap();
    assert_eq!((&last["event"], &last["code"]), (&"error".into(), &2.into()));
    assert!(last["message"].as_str().unwrap().contains("no peer is known"), "{last}");
    // The same for a magnet link without a peer.
    let link = format!("magnet:?xt=urn:btih:{}", payload.hex());
    let (lines, code) = run(&[link.as_ref(), temp.folder("out").as_os_str(), "--stop-timeout=0.3".as_ref()]);
    assert_eq!((code, lines.first().map(|l| &l["total"])), (Some(2), Some(&Value::Null)));
}

/// Runs btsync in the test folder with a completion command. Returns the exit code and the lines on stderr about the command.
fn run_with_hook(temp: &TestDir, args: &[&str], hook: &str) -> (Option<i32>, Vec<String>) {
    let mut command = btsync();
    command.args(args).args(["--no-dht", "--no-lsd", "--listen-port", &free_port().to_string(), "--on-complete", hook]);
    command.current_dir(temp.path("")).env("XDG_CACHE_HOME", temp.path("cache")).stdin(Stdio::null());
    let output = command.output().expect("btsync runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let of_hook = |line: &&str| line.contains("--on-download-complete");
    (output.status.code(), text.lines().filter(of_hook).map(str::to_owned).collect())
}

#[test]
fn the_users_command_runs_for_complete_downloads() {
    let (temp, payload) = (TestDir::new(), Payload::edge_cases());
    let seeder = FakePeer::honest(&payload, &Gate::new(usize::MAX));
    let torrent = temp.torrent(&payload, "").display().to_string();
    let told = temp.path("told");
    let hook = "echo \"$BTSYNC_NAME $BTSYNC_INFO_HASH $BTSYNC_TOTAL $BTSYNC_FOLDER $BTSYNC_PATH\" >> told";
    let (peer, run) = (seeder.addr.to_string(), |args: &[&str]| run_with_hook(&temp, args, hook));
    let said = || std::fs::read_to_string(&told).unwrap_or_default();
    assert_eq!(run(&[&torrent, "out", "--peer", &peer]), (Some(0), Vec::new()));
    let folder = std::fs::canonicalize(temp.path("")).expect("a folder").join("out");
    let (name, hex, size) = (&payload.name, payload.hex(), payload.content().len());
    assert_eq!(said(), format!("{name} {hex} {size} {0} {0}/{name}\n", folder.display()), "its paths are absolute");
    // A torrent that was complete from the start does not run the command.
    assert_eq!(run(&[&torrent, "out"]), (Some(0), Vec::new()));
    assert_eq!(said().lines().count(), 1, "{}", said());
    let other = temp.folder_with("other", &payload);
    assert_eq!(run(&[&torrent, other.to_str().expect("UTF-8")]), (Some(0), Vec::new()));
    assert_eq!(said().lines().count(), 1, "{}", said());
    assert_eq!(run(&[&torrent, "out", "--on-complete-always"]), (Some(0), Vec::new()));
    assert_eq!(said().lines().count(), 2, "{}", said());
}

/// The torrent's name may also be that of another file of the user.
#[test]
fn the_users_command_hears_where_the_file_is() {
    let (temp, payload) = (TestDir::new(), Payload::single("x", 5000, 16 * 1024));
    let seeder = FakePeer::honest(&payload, &Gate::new(usize::MAX));
    let torrent = temp.torrent(&payload, "").display().to_string();
    std::fs::write(temp.folder("out").join("x"), "mine").expect("a file");
    let words = [&torrent, "out", "--out", "1=y", "--peer", &seeder.addr.to_string()];
    assert_eq!(run_with_hook(&temp, &words, "mv \"$BTSYNC_PATH\" moved"), (Some(0), Vec::new()));
    assert_eq!(std::fs::read(temp.path("moved")).expect("it"), payload.content());
    assert_eq!(std::fs::read(temp.path("out/x")).expect("it"), b"mine");
}

/// With one torrent, and with two.
#[test]
fn a_command_that_fails_is_reported_once_and_in_the_exit_code() {
    let (temp, payload) = (TestDir::new(), Payload::edge_cases());
    let other = Payload::single("other.bin", 5000, 16 * 1024);
    std::fs::write(temp.path("other.torrent"), other.torrent("")).expect("a torrent file");
    other.write_files(&temp.folder("two"));
    let torrent = temp.torrent(&payload, "").display().to_string();
    for (args, out) in [(vec![torrent.as_str(), "one"], "one"), (vec![&torrent, "other.torrent", "two"], "two")] {
        let seeder = FakePeer::honest(&payload, &Gate::new(usize::MAX));
        let (code, told) = run_with_hook(&temp, &[&args[..], &["--peer", &seeder.addr.to_string()]].concat(), "exit 3");
        assert_eq!(code, Some(1), "{told:?}");
        assert_eq!(told, ["btsync: --on-download-complete 'exit 3' failed: exit status: 3"]);
        assert_eq!(payload.difference_in_content(&temp.path(out)), None);
    }
}

#[test]
fn each_command_that_fails_is_an_event_between_the_completion_and_the_end() {
    let (temp, payload) = (TestDir::new(), Payload::edge_cases());
    let other = Payload::single("other.bin", 5000, 16 * 1024);
    let torrent = temp.torrent(&payload, "");
    std::fs::write(temp.path("other.torrent"), other.torrent("")).expect("a torrent file");
    let (out, second) = (temp.folder_with("out", &payload), temp.path("other.torrent"));
    other.write_files(&out);
    let hook = ["--on-complete=sleep 0.1; exit 3", "--on-complete-always"].map(AsRef::as_ref);
    for torrents in [&[torrent.as_os_str()][..], &[torrent.as_os_str(), second.as_os_str()]] {
        let (lines, code) = run(&[torrents, &[out.as_os_str()], &hook].concat());
        assert_eq!(code, Some(1), "{lines:?}");
        for hash in [payload.hex(), other.hex()].iter().take(torrents.len()) {
            let of_torrent: Vec<_> = lines.iter().filter(|line| line["info_hash"] == **hash).cloned().collect();
            let last = &of_torrent[of_torrent.len().saturating_sub(3)..];
            assert_eq!(names(last), ["complete", "error", "done"], "{of_torrent:?}");
            assert_eq!(last[1]["code"].as_u64(), Some(1), "{last:?}");
        }
        assert_eq!(lines.iter().filter(|line| line["event"] == "error").count(), torrents.len(), "{lines:?}");
    }
}

/// btsync dies while the command runs: the next start runs it again, and the one after that does not.
#[test]
fn a_command_that_a_crash_cut_short_runs_at_the_next_start() {
    let (temp, payload) = (TestDir::new(), Payload::edge_cases());
    let seeder = FakePeer::honest(&payload, &Gate::new(usize::MAX));
    let torrent = temp.torrent(&payload, "").display().to_string();
    let hook = "echo run >> told; test -e crashed || { touch crashed; kill -9 $PPID; }";
    let (code, _) = run_with_hook(&temp, &[&torrent, "out", "--peer", &seeder.addr.to_string()], hook);
    assert_eq!(code, None, "killed");
    payload.assert_at(&temp.path("out"));
    for _ in 0..2 {
        assert_eq!(run_with_hook(&temp, &[&torrent, "out"], hook), (Some(0), Vec::new()));
        assert_eq!(std::fs::read_to_string(temp.path("told")).expect("it ran"), "run\nrun\n");
    }
}

/// For a .torrent file and a magnet link, by option and by command.
#[test]
fn a_list_is_one_event() {
    let (temp, payload) = (TestDir::new(), Payload::tree("set", &[("a.txt", 5), ("b/c.bin", 40_000)], 16 * 1024));
    let knows = ExtendedPeer::new(&payload, size_of(&payload), |_, _| Ok(false));
    let torrent = temp.torrent(&payload, "").display().to_string();
    let (link, peer) = (payload.magnet(""), knows.addr().to_string());
    let of_link = ["--list", &link, "--peer", &peer, "--select", "2"];
    for args in [&["--list", &torrent, "--select", "2"][..], &["list", &torrent, "--select", "2"], &of_link] {
        let (lines, code) = run(&args.iter().map(AsRef::as_ref).collect::<Vec<_>>());
        assert_eq!((code, lines.len()), (Some(0), 1), "{args:?}: {lines:?}");
        let list = &lines[0];
        let said = [&list["event"], &list["name"], &list["info_hash"]].map(|value| value.as_str().expect("a string"));
        assert_eq!(said, ["list", "set", &payload.hex()]);
        assert_eq!((list["selected"].as_u64(), list["bytes"].as_u64()), (Some(1), Some(40_000)));
        let file = |number: u64, path: &str, length: u64, selected: bool| serde_json::json!({ "number": number, "path": path, "length": length, "selected": selected });
        assert_eq!(
            list["files"],
            serde_json::json!([file(1, "set/a.txt", 5, false), file(2, "set/b/c.bin", 40_000, true)])
        );
    }
}

/// The outcome is reported once, in text and in events.
#[test]
fn the_end_is_told_once() {
    let (temp, payload) = (TestDir::new(), Payload::edge_cases());
    let torrent = temp.torrent(&payload, "");
    let out = temp.folder("out");
    let told = |peer: &FakePeer, more: &[&str]| {
        let mut command = btsync();
        command.arg(&torrent).arg(&out).args(["--no-dht", "--no-lsd", "--peer", &peer.addr.to_string()]).args(more);
        command.args(["--listen-port", &free_port().to_string()]).env("XDG_CACHE_HOME", temp.path("cache"));
        let output = command.stdin(Stdio::null()).output().expect("btsync runs");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let count = |text: &str, words: &str| text.matches(words).count();
    let slow = FakePeer::honest(&payload, &Gate::new(2));
    let text = told(&slow, &["--stop-timeout=0.5"]);
    assert_eq!((count(&text, "gave up at "), count(&text, "unfinished"), count(&text, " MiB)")), (1, 0, 1), "{text}");
    let gives = FakePeer::honest(&payload, &Gate::new(usize::MAX));
    let text = told(&gives, &[]);
    assert_eq!(count(&text, "complete, "), 1, "{text}");
    assert!(!text.contains("in 0.0s"), "{text}");
    let text = told(&gives, &[]);
    assert_eq!((count(&text, "are verified"), count(&text, "complete, ")), (0, 1), "{text}");
    let text = told(&gives, &["--json", "--quiet"]);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let last = &lines[lines.len().saturating_sub(2)..];
    assert_eq!(names(last), ["complete", "done"], "{text}");
}

/// A download that writes its events to `stdout`, with its own options.
fn downloads_to(temp: &TestDir, payload: &Payload, peer: &FakePeer, stdout: Stdio) -> Child {
    let mut command = btsync();
    command.arg(temp.torrent(payload, "")).arg(temp.folder("out")).current_dir(temp.path(""));
    command.args(["--json", "--no-dht", "--no-lsd", "--seed", "--peer", &peer.addr.to_string()]);
    command.args(["--listen-port", &free_port().to_string()]).stdin(Stdio::null()).stdout(stdout);
    command.stderr(Stdio::piped()).spawn().expect("btsync runs")
}

/// The exit code, and the lines that report a failure.
fn failures_of(mut child: Child) -> (Option<i32>, Vec<String>) {
    let code = wait_for_exit(&mut child);
    let mut text = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut text).expect("UTF-8");
    (code, text.lines().filter(|line| line.starts_with("btsync: ")).map(str::to_owned).collect())
}

/// As in `btsync ... --json | head -1`.
#[test]
fn a_reader_that_goes_away_ends_the_download() {
    let (temp, payload) = (TestDir::new(), Payload::edge_cases());
    let seeder = FakePeer::honest(&payload, &Gate::new(2));
    let mut child = downloads_to(&temp, &payload, &seeder, Stdio::piped());
    let mut first = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut first).expect("a line");
    assert!(first.contains("\"started\""), "{first}");
    let (code, failures) = failures_of(child);
    assert_eq!(code, Some(7), "{failures:?}");
    assert!(failures.len() == 1 && failures[0].contains("the program that read the events"), "{failures:?}");
}

/// The download is complete by then, and would seed for ever.
#[test]
fn a_reader_that_goes_away_after_the_end_of_the_download_ends_it_well() {
    let (temp, payload) = (TestDir::new(), Payload::edge_cases());
    let seeder = FakePeer::honest(&payload, &Gate::new(usize::MAX));
    let mut child = downloads_to(&temp, &payload, &seeder, Stdio::piped());
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    assert!(lines.any(|line| line.expect("a line").contains("\"complete\"")), "it completes");
    drop(lines);
    assert_eq!(failures_of(child), (Some(0), Vec::new()));
    payload.assert_at(&temp.path("out"));
}

#[test]
fn a_standard_output_that_takes_nothing_is_a_failure() {
    let (temp, payload) = (TestDir::new(), Payload::edge_cases());
    let seeder = FakePeer::honest(&payload, &Gate::new(2));
    let torrent = temp.torrent(&payload, "");
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let (code, failures) = failures_of(downloads_to(&temp, &payload, &seeder, full().into()));
    assert_eq!(code, Some(1), "{failures:?}");
    assert_eq!(failures, ["btsync: standard output cannot be written: no space left on device"]);
    for words in [&["info", "--json"][..], &["--list"], &["help", "all"], &["verify", "--json"]] {
        let mut command = btsync();
        command.args(words).stdin(Stdio::null()).stdout(full()).stderr(Stdio::piped());
        if words[0] != "help" {
            command.arg(&torrent);
        }
        let (code, failures) = failures_of(command.spawn().expect("btsync runs"));
        assert_eq!((code, failures.len()), (Some(17), 1), "{words:?}: {failures:?}");
    }
}

/// 16,384 pieces, whose events exceed the queue for a slow reader.
fn payload() -> Payload {
    Payload::single("unread.bin", 16 << 20, 1024)
}

/// A download that seeds once it is complete, and whose command then writes its process id and never ends.
fn download(temp: &TestDir, payload: &Payload, peer: &FakePeer) -> Command {
    let mut command = btsync();
    command.arg(temp.torrent(payload, "http://127.0.0.1:9/announce")).arg(temp.folder("out"));
    command.args(["--json", "--seed", "--no-dht", "--no-lsd", "--listen-port", &free_port().to_string()]);
    command.args(["--bt-exclude-tracker", "*", "--peer", &peer.addr.to_string()]);
    command.current_dir(temp.path("")).env("XDG_CACHE_HOME", temp.path("cache"));
    command.args(["--on-download-complete", "echo $$ > begun && mv begun pid && exec sleep 600 >/dev/null 2>&1"]);
    command
}

/// Kills the completion command, which outlives btsync.
fn kill_command(temp: &TestDir) {
    let pid = std::fs::read_to_string(temp.path("pid")).expect("the command's process id");
    assert!(Command::new("kill").arg(pid.trim()).status().expect("kill").success());
}

/// A full pipe, so that a writer blocks.
fn full() -> (PipeReader, PipeWriter) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut fills = writer.try_clone().expect("a second handle");
    let (told, begun) = std::sync::mpsc::channel();
    // The thread ends with the pipe's reader.
    thread::spawn(move || {
        while fills.write(&[b' '; 4096]).is_ok() {
            let _ = told.send(());
        }
    });
    // The pipe holds 16 times 4 KiB.
    begun.iter().take(16).for_each(drop);
    (reader, writer)
}

fn is_complete(pid: &Path) -> impl FnMut() -> bool {
    || pid.exists()
}

fn terminate(child: &Child) {
    let kill = Command::new("kill").arg(child.id().to_string()).status();
    assert!(kill.expect("kill").success());
}

#[test]
fn a_reader_that_pauses_is_told_how_many_events_are_lost() {
    let (temp, payload) = (TestDir::new(), payload());
    let seeder = FakePeer::honest(&payload, &Gate::new(usize::MAX));
    let mut command = download(&temp, &payload, &seeder);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("btsync");
    until("the download is complete", is_complete(&temp.path("pid")));
    let peak = crate::common::process::peak_memory(child.id());
    assert!(peak < 48 * 1024, "btsync took {peak} KiB");
    let mut out = child.stdout.take().expect("a pipe");
    let reads = thread::spawn(move || {
        let mut text = String::new();
        out.read_to_string(&mut text).map(|_| text)
    });
    kill_command(&temp);
    terminate(&child);
    assert_eq!(wait_for_exit(&mut child), Some(1), "its command was killed");
    let text = reads.join().expect("a reader").expect("UTF-8");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    lines.iter().for_each(schema::assert_fits);
    let lost: Vec<_> = lines.iter().filter(|line| line["event"] == "lost").collect();
    assert_eq!(lost.len(), 1, "one event says how many");
    let pieces = lines.iter().filter(|line| line["event"] == "piece").count() as u64;
    assert!(lost[0]["count"].as_u64().is_some_and(|lost| lost + pieces >= 16_384), "{pieces} pieces, {}", lost[0]);
    let end = &lines[lines.len().saturating_sub(2)..];
    assert_eq!(names(end), ["error", "done"], "the last lines are never lost");
    payload.assert_at(&temp.path("out"));
}

#[test]
fn a_signal_ends_a_process_despite_a_blocked_output_and_a_running_command() {
    let (temp, payload) = (TestDir::new(), payload());
    let seeder = FakePeer::honest(&payload, &Gate::new(usize::MAX));
    let ((_out, stdout), (_err, stderr)) = (full(), full());
    let mut command = download(&temp, &payload, &seeder);
    command.env("RUST_LOG", "debug").stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    let mut child = command.spawn().expect("btsync");
    drop(command); // closes its ends of the pipes
    until("the download is complete", is_complete(&temp.path("pid")));
    payload.assert_at(&temp.path("out"));
    terminate(&child);
    assert_eq!(wait_for_exit(&mut child), Some(0));
    kill_command(&temp);
}

/// The list of a .torrent file, of a URL and of a magnet link blocks on a full pipe. A signal ends the process at once.
#[test]
fn a_signal_ends_a_list_that_nobody_reads() {
    let names: Vec<String> = (0..1500).map(|n| format!("{n:0100}")).collect();
    let files: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let (temp, payload) = (TestDir::new(), Payload::tree("many", &files, 16 * 1024));
    let web = WebServer::start(&[("/x", Page::Bytes(payload.torrent("http://127.0.0.1:9/announce")))]);
    let torrent = temp.torrent(&payload, "http://127.0.0.1:9/announce");
    let knows = ExtendedPeer::new(&payload, size_of(&payload), |_, _| Ok(false));
    let peer = knows.addr().to_string();
    for what in [torrent.display().to_string(), web.url("/x"), payload.magnet("")] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let mut command = btsync();
        command.args(["--list", "--no-dht", "--no-lsd", "--listen-port", &free_port().to_string(), "--peer", &peer]);
        command.arg(&what).stdin(Stdio::null()).stdout(writer);
        let mut child = command.spawn().expect("btsync");
        drop(command);
        let waiting = || rustix::io::ioctl_fionread(&reader).expect("a number of bytes");
        // Writes that are not whole pages leave some of the pipe unused.
        until("the pipe is full", || waiting() >= 60 * 1024);
        terminate(&child);
        let status = wait_for_exit(&mut child);
        assert!(matches!(status, Some(7) | None), "{status:?}");
    }
}
