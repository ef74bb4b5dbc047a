//! Faults of the machine and the disk: after a crash or on a full disk, the same command resumes from the correct data on disk,
//! and never takes wrong data for correct.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use crate::common::hostile_peer::{seeding, unchoked};
use crate::common::netns::in_network_namespace;
use crate::common::payload::Payload;
use crate::common::process::{Running, without_settings};
use crate::common::seeder::{FakePeer, Gate};
use crate::common::wire::Message;
use crate::common::{PATIENCE, TestDir, btsync, free_port, until};
use btsync::storage::resume::ResumeData;
use btsync::storage::{FileSpec, Layout};
use btsync::types::{BLOCK_SIZE, PartialPiece};

/// Blocks in a piece of [`payload`].
const BLOCKS: usize = 4;

/// 3 MiB in 48 pieces of four blocks.
fn payload() -> Payload {
    Payload::single("payload.bin", (3 << 20) - 77, BLOCKS * 16 * 1024)
}

/// A download that knows only this peer.
fn download(temp: &TestDir, payload: &Payload, peer: &FakePeer, more: &[&str]) -> Running {
    let (torrent, peer) = (temp.torrent(payload, "http://127.0.0.1:9/announce"), peer.addr.to_string());
    let alone = ["--bt-exclude-tracker", "*", "--peer", &peer];
    temp.btsync("btsync", &torrent, &temp.folder("out"), free_port(), &[&alone[..], more].concat())
}

/// A seeder that serves `blocks` blocks and then none, and the gate that counts them.
fn seeder(payload: &Payload, blocks: usize) -> (FakePeer, std::sync::Arc<Gate>) {
    let gate = Gate::new(0);
    let peer = FakePeer::honest(payload, &gate);
    gate.grant(blocks);
    (peer, gate)
}

/// Runs the download to its end. It must not request anything that was correct on disk before.
fn completes_with_what_is_missing(temp: &TestDir, payload: &Payload) {
    let right = payload.right_pieces(&temp.path("out"));
    let (peer, gate) = seeder(payload, usize::MAX);
    download(temp, payload, &peer, &[]).expect_exit(0);
    payload.assert_at(&temp.path("out"));
    let lacking = (payload.pieces() - right) * BLOCKS;
    assert!(gate.served() <= lacking, "{} blocks for {lacking} that were missing", gate.served());
}

#[test]
fn a_kill_at_any_moment_costs_at_most_the_blocks_in_flight() {
    let payload = payload();
    let mut random = fastrand::Rng::with_seed(6);
    for _ in 0..3 {
        let temp = TestDir::new();
        for _ in 0..3 {
            let blocks = random.usize(1..50);
            let (peer, gate) = seeder(&payload, blocks);
            let mut killed = download(&temp, &payload, &peer, &[]);
            until("the blocks are served", || gate.served() >= blocks || !killed.is_running());
            killed.signal("KILL");
            assert_eq!(killed.end_within(PATIENCE), None);
        }
        completes_with_what_is_missing(&temp, &payload);
    }
}

#[test]
fn recorded_pieces_are_not_hashed_again_without_verify() {
    let (temp, payload) = (TestDir::new(), payload());
    let (peer, _gate) = seeder(&payload, usize::MAX);
    download(&temp, &payload, &peer, &[]).expect_exit(0);
    let mut again = download(&temp, &payload, &peer, &[]);
    again.expect_exit(0);
    assert!(!again.log().contains("checking"), "{}", again.log());
    let mut verified = download(&temp, &payload, &peer, &["--verify"]);
    verified.expect_exit(0);
    assert!(verified.log().contains("checking 3.0 MiB"), "{}", verified.log());
}

#[test]
fn a_stop_leaves_a_record_and_a_change_on_disk_makes_it_worthless() {
    let (temp, payload) = (TestDir::new(), payload());
    let (peer, gate) = seeder(&payload, 100);
    let mut stopped = download(&temp, &payload, &peer, &[]);
    until("some is there", || gate.served() == 100);
    stopped.terminate(7);
    let record = record(&temp);
    let file = temp.path("out").join("payload.bin");
    let times = fs::metadata(&file).expect("the file").modified().expect("a time");
    // Corrupt the first piece and restore the file's modification time.
    let mut spoiled = fs::File::options().write(true).open(&file).expect("the file");
    spoiled.write_all(b"spoiled").expect("room");
    spoiled.set_times(fs::FileTimes::new().set_modified(times)).expect("times");
    drop(spoiled);
    completes_with_what_is_missing(&temp, &payload);
    // A truncated record counts as none.
    let bytes = fs::read(&record).expect("a record");
    fs::write(&record, &bytes[..bytes.len() / 2]).expect("room");
    let mut again = download(&temp, &payload, &peer, &[]);
    again.expect_exit(0);
    assert!(again.log().contains("checking 3.0 MiB"), "{}", again.log());
}

/// The resume data of the test folder's only download.
fn record(temp: &TestDir) -> PathBuf {
    let mut records = fs::read_dir(temp.path("btsync-cache/btsync/resume")).expect("a folder of records");
    records.next().expect("a record").expect("an entry").path()
}

fn sh(script: &str) {
    assert!(Command::new("sh").args(["-c", script]).status().expect("sh").success(), "{script}");
}

fn mount(options: &str, on: &Path) {
    sh(&format!("mount {options} tmpfs '{}'", on.display()));
}

#[test]
fn a_full_disk_ends_with_9_and_the_download_goes_on_once_there_is_space() {
    in_network_namespace("a_full_disk_ends_with_9_and_the_download_goes_on_once_there_is_space", &["mount"], || {
        let (temp, payload) = (TestDir::new(), payload());
        let out = temp.folder("out");
        mount("-t tmpfs -o size=8m", &out);
        let (peer, gate) = seeder(&payload, 50);
        let mut full = download(&temp, &payload, &peer, &[]);
        until("some is there", || gate.served() == 50 && payload.right_pieces(&out) >= 8);
        // Another program uses up the remaining space.
        sh(&format!("head -c 16m /dev/zero > '{}/ballast' 2>/dev/null || true", out.display()));
        gate.open();
        full.expect_exit(9);
        assert!(full.log().contains("no space left on device"), "{}", full.log());
        let right = payload.right_pieces(&out);
        assert!(right >= 8, "verified pieces are lost");
        // Now btsync finds the lack of space at the start.
        let served = gate.served();
        let mut refused = download(&temp, &payload, &peer, &[]);
        refused.expect_exit(9);
        assert!(refused.log().contains("not enough disk space"), "{}", refused.log());
        assert_eq!((payload.right_pieces(&out), gate.served()), (right, served));
        sh(&format!("rm '{}/ballast'", out.display()));
        completes_with_what_is_missing(&temp, &payload);
    });
}

#[test]
fn a_read_only_folder_ends_with_16_and_serves_existing_pieces() {
    in_network_namespace("a_read_only_folder_ends_with_16_and_serves_existing_pieces", &["mount"], || {
        let (temp, payload) = (TestDir::new(), payload());
        let out = temp.folder("out");
        mount("-t tmpfs -o size=8m", &out);
        let (peer, gate) = seeder(&payload, 50);
        let mut stopped = download(&temp, &payload, &peer, &[]);
        until("some is there", || gate.served() == 50);
        stopped.terminate(7);
        let right = payload.right_pieces(&out);
        sh(&format!("mount -o remount,ro '{}'", out.display()));
        gate.open();
        let mut refused = download(&temp, &payload, &peer, &[]);
        refused.expect_exit(16);
        assert!(refused.log().contains("read-only file system"), "{}", refused.log());
        assert_eq!(payload.right_pieces(&out), right);
        sh(&format!("mount -o remount,rw '{}'", out.display()));
        completes_with_what_is_missing(&temp, &payload);
    });
}

/// As in a container: overlayfs copies a file of a lower layer when it is opened for writing, and the copy is a different file.
#[test]
fn a_file_of_a_lower_layer_is_gone_on_with() {
    in_network_namespace("a_file_of_a_lower_layer_is_gone_on_with", &["mount"], || {
        let (temp, payload) = (TestDir::new(), payload());
        let layers = temp.folder("layers");
        mount("-t tmpfs -o size=32m", &layers);
        let layer = |name: &str| layers.join(name);
        for name in ["low", "up", "work"] {
            fs::create_dir(layer(name)).expect("a folder");
        }
        let mut content = payload.content();
        content[..7].copy_from_slice(b"spoiled");
        fs::write(layer("low").join("payload.bin"), content).expect("room");
        let of = |name: &str| layer(name).display().to_string();
        let options = format!("lowerdir={},upperdir={},workdir={}", of("low"), of("up"), of("work"));
        let out = temp.folder("out");
        sh(&format!("mount -t overlay -o '{options}' overlay '{}'", out.display()));
        completes_with_what_is_missing(&temp, &payload);
    });
}

#[test]
fn a_file_size_limit_is_a_full_disk() {
    let (temp, payload) = (TestDir::new(), payload());
    let (peer, _gate) = seeder(&payload, usize::MAX);
    let torrent = temp.torrent(&payload, "http://127.0.0.1:9/announce");
    let mut command = Command::new("sh");
    without_settings(&mut command).args(["-c", "ulimit -f 2048; exec \"$@\"", "sh"]).arg(btsync().get_program());
    command.arg(torrent).arg(temp.folder("out")).args(["--no-dht", "--no-lsd", "--bt-exclude-tracker", "*"]);
    command.args(["--peer", &peer.addr.to_string(), "--listen-port", &free_port().to_string()]);
    let mut limited = temp.start("limited", command.env("XDG_CACHE_HOME", temp.path("btsync-cache")));
    limited.expect_exit(9);
    assert!(limited.log().contains("more than the file system or the file size limit"), "{}", limited.log());
    completes_with_what_is_missing(&temp, &payload);
}

#[test]
fn a_file_size_limit_ends_a_command_with_9_and_no_signal() {
    let temp = TestDir::new();
    fs::File::create(temp.path("data")).and_then(|file| file.set_len(16 << 20)).expect("room");
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -f 4; exec \"$@\"", "sh"]).arg(btsync().get_program()).arg("create");
    // A hash of 20 bytes for each of 1,024 pieces: more than a shell's four blocks of 512 or 1,024 bytes.
    command.arg(temp.path("data")).arg("-o").arg(temp.path("data.torrent")).args(["--piece-length", "16K"]);
    let mut limited = temp.start("limited", &mut command);
    limited.expect_exit(9);
    assert!(limited.log().contains("data.torrent: cannot be written: File too large"), "{}", limited.log());
    assert_eq!(fs::read_dir(temp.path("")).expect("the stage").count(), 2, "data and the log: nothing is left behind");
}

#[test]
fn a_disk_that_fails_after_the_metadata_came_still_tells_trackers_stopped() {
    let (temp, payload, port) = (TestDir::new(), payload(), free_port());
    let (_seeder, _addr, tracker) = seeding(&temp, &payload);
    let out = temp.folder("out");
    fs::create_dir(out.join("payload.bin")).expect("a folder in the file's place");
    let link = payload.magnet(&format!("&tr=http%3A%2F%2F127.0.0.1%3A{}%2Fannounce", tracker.port()));
    let alone = ["--no-dht", "--no-lsd"];
    let mut failed = temp.btsync_with_discovery("failed", link.as_ref(), &out, port, &alone);
    failed.expect_exit(13);
    let told = || -> Vec<String> {
        let of_failed = tracker.announces().into_iter().filter(|announce| announce.addr.port() == port);
        of_failed.map(|announce| announce.event).collect()
    };
    until("the tracker has read the last one", || told().last().is_some_and(|event| event == "stopped"));
    assert_eq!(told()[0], "started");
}

#[test]
fn a_file_that_is_removed_while_it_comes_is_missed() {
    let (temp, payload) = (TestDir::new(), payload());
    let (peer, gate) = seeder(&payload, 50);
    let mut robbed = download(&temp, &payload, &peer, &[]);
    until("some is there", || gate.served() == 50);
    fs::remove_file(temp.path("out").join("payload.bin")).expect("the file");
    gate.open();
    robbed.expect_exit(15);
    assert!(robbed.log().contains("payload.bin: no such file"), "{}", robbed.log());
    completes_with_what_is_missing(&temp, &payload);
}

#[test]
fn a_signal_is_heard_while_many_files_are_made() {
    let names: Vec<String> = (0..100_000).map(|n| format!("{}/{n}", n / 1000)).collect();
    let files: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let payload = Payload::tree("many", &files, 16 * 1024);
    let (peer, _gate) = seeder(&payload, 0);
    for _ in 0..10 {
        let temp = TestDir::new();
        let mut stopped = download(&temp, &payload, &peer, &[]);
        let out = temp.path("out/many");
        let are_all_made = || out.join("99/99999").exists();
        until("some are made", || out.join("0/100").exists());
        let came_late = are_all_made();
        let pid = Pid::from_raw(stopped.pid().cast_signed()).expect("a process id");
        kill_process(pid, Signal::TERM).expect("it runs");
        stopped.expect_exit(7);
        // This thread may not have run while all of them were made. Then the attempt proves nothing.
        if !came_late {
            assert!(!are_all_made(), "all were made before anybody listened");
            return;
        }
    }
    panic!("all files were made before the signal was sent");
}

#[test]
fn a_download_with_30_descriptors_has_fewer_peers_and_completes() {
    let (temp, payload) = (TestDir::new(), payload());
    let gate = Gate::new(usize::MAX);
    let peers: Vec<_> = (0..40).map(|_| FakePeer::honest(&payload, &gate)).collect();
    gate.open();
    let mut command = Command::new("sh");
    without_settings(&mut command).args(["-c", "ulimit -n 30; exec \"$@\"", "sh"]).arg(btsync().get_program());
    command.arg(temp.torrent(&payload, "http://127.0.0.1:9/announce")).arg(temp.folder("out"));
    command.args(["--no-dht", "--no-lsd", "--bt-exclude-tracker", "*", "--listen-port", &free_port().to_string()]);
    for peer in &peers {
        command.args(["--peer", &peer.addr.to_string()]);
    }
    let mut poor = temp.start("poor", command.env("XDG_CACHE_HOME", temp.path("btsync-cache")));
    poor.expect_exit(0);
    payload.assert_at(&temp.path("out"));
}

#[test]
fn a_file_that_shrinks_while_it_is_served_ends_with_15_and_comes_back() {
    let (temp, payload) = (TestDir::new(), payload());
    let (mut seeder, addr, _tracker) = seeding(&temp, &payload);
    let mut wire = unchoked(addr, &payload);
    let file = fs::File::options().write(true).open(temp.path("seeder/payload.bin")).expect("the file");
    file.set_len(1000).expect("a shorter file");
    wire.request(40, 0, 16 * 1024).expect("a request");
    seeder.expect_exit(15);
    assert!(seeder.log().contains("payload.bin: it is shorter than the torrent says"), "{}", seeder.log());
    // btsync did not create this file, so the user may have truncated it on purpose.
    fs::rename(temp.path("seeder"), temp.path("out")).expect("the folder");
    let (peer, _gate) = self::seeder(&payload, usize::MAX);
    download(&temp, &payload, &peer, &[]).expect_exit(13);
    download(&temp, &payload, &peer, &["--overwrite"]).expect_exit(0);
    payload.assert_at(&temp.path("out"));
}

#[test]
fn a_file_that_is_edited_while_it_is_served_ends_with_15_and_one_that_is_touched_is_served() {
    let (temp, payload) = (TestDir::new(), payload());
    let (mut seeder, addr, _tracker) = seeding(&temp, &payload);
    let mut wire = unchoked(addr, &payload);
    let path = temp.path("seeder/payload.bin");
    let file = fs::File::options().write(true).open(&path).expect("the file");
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).expect("another time");
    let (piece, length) = (BLOCKS * 16 * 1024, 16 * 1024);
    wire.request(40, 0, length as u32).expect("a request");
    let block = payload.content()[40 * piece..][..length].to_vec();
    wire.receive_until(&Message::Piece(40, 0, block)).expect("the block");
    fs::write(&path, vec![7; payload.content().len()]).expect("an edit");
    // btsync looks at a file once a second while it serves it.
    while wire.request(41, 0, length as u32).and_then(|()| wire.receive()).is_ok() {}
    seeder.expect_exit(15);
    assert!(seeder.log().contains("payload.bin: another program changed it"), "{}", seeder.log());
}

/// 4 MiB in four pieces of 64 blocks.
fn large_pieces() -> Payload {
    Payload::single("large.bin", 4 << 20, 1 << 20)
}

/// The blocks of [`large_pieces`] that are correct on disk.
fn right_blocks(payload: &Payload, temp: &TestDir) -> Vec<usize> {
    let there = fs::read(temp.path("out").join(&payload.name)).unwrap_or_default();
    let content = payload.content();
    let pairs = there.chunks(BLOCK_SIZE as usize).zip(content.chunks(BLOCK_SIZE as usize)).enumerate();
    pairs.filter(|(_, (there, right))| there == right).map(|(at, _)| at).collect()
}

/// A download with 150 blocks of [`large_pieces`] on disk.
fn with_150_blocks(temp: &TestDir, payload: &Payload, more: &[&str]) -> Running {
    let (peer, gate) = seeder(payload, 150);
    let running = download(temp, payload, &peer, more);
    until("all that came is on disk", || right_blocks(payload, temp).len() == 150);
    assert_eq!(gate.served(), 150);
    running
}

/// Runs the download to its end; returns how many blocks it downloaded.
fn blocks_to_the_end(temp: &TestDir, payload: &Payload) -> usize {
    let (peer, gate) = seeder(payload, usize::MAX);
    download(temp, payload, &peer, &[]).expect_exit(0);
    payload.assert_at(&temp.path("out"));
    gate.served()
}

#[test]
fn blocks_of_unfinished_pieces_survive_a_stop() {
    for signal in ["INT", "TERM"] {
        let (temp, payload) = (TestDir::new(), large_pieces());
        let mut stopped = with_150_blocks(&temp, &payload, &[]);
        stopped.signal(signal);
        stopped.expect_exit(7);
        assert!(payload.right_pieces(&temp.path("out")) <= 2, "150 blocks are two pieces and a part of the third");
        // A run without a working peer loses none of them, however it ends.
        let silent = FakePeer::raw(|mut wire| wire.read_handshake().map(drop));
        let mut alone = download(&temp, &payload, &silent, &[]);
        alone.wait_for_output("listening");
        until("it is about to download", || silent.outcome().is_ok());
        alone.signal("KILL");
        alone.end_within(PATIENCE);
        assert_eq!(blocks_to_the_end(&temp, &payload), 256 - 150, "{signal}");
    }
}

#[test]
fn blocks_of_a_file_that_was_cut_meanwhile_are_fetched_again() {
    let (temp, payload) = (TestDir::new(), large_pieces());
    // In order, so that a piece remains: without one, a file that was changed after the stop is the user's.
    with_150_blocks(&temp, &payload, &["--sequential"]).terminate(7);
    let file = fs::File::options().write(true).open(temp.path("out").join("large.bin")).expect("the file");
    file.set_len(140 * u64::from(BLOCK_SIZE)).expect("a shorter file");
    let whole = payload.right_pieces(&temp.path("out"));
    assert_eq!(blocks_to_the_end(&temp, &payload), (4 - whole) * 64);
}

#[test]
fn blocks_that_a_record_only_pretends_cost_a_piece_and_ban_nobody() {
    let (temp, payload) = (TestDir::new(), large_pieces());
    with_150_blocks(&temp, &payload, &[]).terminate(7);
    let layout = Layout::new(1 << 20, vec![FileSpec { path: "large.bin".into(), length: 4 << 20, is_pad: false }]);
    let (layout, path) = (layout.expect("a layout"), record(&temp));
    let mut forged = ResumeData::decode(&fs::read(&path).expect("a record"), &layout).expect("ours");
    let kept: u32 = forged.partial.iter().map(PartialPiece::count).sum();
    assert_eq!((forged.have.count() * 64 + kept, forged.partial.is_empty()), (150, false));
    let partial = forged.partial.last_mut().expect("an unfinished piece");
    let missing = (0..64).find(|block| !partial.iter().any(|there| there == *block)).expect("a missing block");
    partial.set(missing);
    fs::write(&path, forged.encode()).expect("room");
    // The only peer: if btsync banned it, the download would never end.
    let (peer, gate) = seeder(&payload, usize::MAX);
    let mut deceived = download(&temp, &payload, &peer, &[]);
    deceived.expect_exit(0);
    payload.assert_at(&temp.path("out"));
    assert_eq!(gate.served(), 256 - 150 - 1 + 64, "{}", deceived.log());
}
