//! File selection: btsync downloads the selected files in the requested order, and no other file ever appears on disk.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::common::hostile_peer::seeding;
use crate::common::netns::in_network_namespace;
use crate::common::payload::Payload;
use crate::common::process::Running;
use crate::common::seeder::{FakePeer, Gate, block, full_bitfield};
use crate::common::wire::{Message, id};
use crate::common::{TestDir, btsync, free_port, until};

const PIECE: usize = 32 * 1024;

/// Five files that share pieces where they meet; 14 pieces.
fn payload() -> Payload {
    let files = [
        ("one.bin", 2 * PIECE + 1000),    // 1: pieces 0 to 2
        ("sub/two.txt", 3 * PIECE),       // 2: 2 to 5
        ("sub/three.bin", 5000),          // 3: 5
        ("sub/deep/four.bin", 4 * PIECE), // 4: 5 to 9
        ("five.txt", 4 * PIECE + 7),      // 5: 9 to 13
    ];
    Payload::tree("part", &files, PIECE)
}

/// An honest seeder that records the requested pieces in the order of their first request.
struct RecordingSeeder {
    peer: FakePeer,
    asked: Arc<Mutex<Vec<u32>>>,
}

impl RecordingSeeder {
    fn start(payload: &Payload) -> RecordingSeeder {
        let asked: Arc<Mutex<Vec<u32>>> = Arc::default();
        let (note, whole, content) = (asked.clone(), payload.clone(), payload.content());
        let peer = FakePeer::new(payload.info_hash(), move |mut wire| -> io::Result<()> {
            wire.send(id::BITFIELD, &full_bitfield(whole.pieces()))?;
            wire.send(id::UNCHOKE, &[])?;
            loop {
                if let Message::Request(piece, begin, length) = wire.receive()? {
                    let mut asked = note.lock();
                    if !asked.contains(&piece) {
                        asked.push(piece);
                    }
                    drop(asked);
                    wire.send_block(piece, begin, block(&whole, &content, piece, begin, length))?;
                }
            }
        });
        RecordingSeeder { peer, asked }
    }

    fn asked(&self) -> Vec<u32> {
        self.asked.lock().clone()
    }

    fn set(&self) -> BTreeSet<u32> {
        self.asked().into_iter().collect()
    }
}

fn start(temp: &TestDir, payload: &Payload, peer: &FakePeer, more: &[&str]) -> Running {
    let (torrent, peer) = (temp.torrent(payload, "http://127.0.0.1:9/announce"), peer.addr.to_string());
    let alone = ["--bt-exclude-tracker", "*", "--peer", &peer];
    temp.btsync("btsync", &torrent, &temp.folder("out"), free_port(), &[&alone[..], more].concat())
}

/// Runs a download from its own seeder; returns the requested pieces.
fn fetch(temp: &TestDir, payload: &Payload, more: &[&str]) -> Vec<u32> {
    let recorder = RecordingSeeder::start(payload);
    start(temp, payload, &recorder.peer, more).expect_exit(0);
    recorder.asked()
}

/// All files below a folder, with paths relative to it.
fn below(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in std::fs::read_dir(&at).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(folder).expect("below").to_string_lossy().into_owned());
            }
        }
    }
    found
}

/// The visible files: those whose path does not begin with a dot.
fn seen(folder: &Path) -> Vec<String> {
    below(folder).into_iter().filter(|path| !path.starts_with('.')).collect()
}

fn assert_right(payload: &Payload, out: &Path, numbers: &[usize]) {
    for &number in numbers {
        let files = payload.paths_with_content(out);
        let (path, content) = &files[number - 1];
        assert!(std::fs::read(path).expect("a selected file") == *content, "{} is wrong", path.display());
    }
}

fn set(range: std::ops::RangeInclusive<u32>) -> BTreeSet<u32> {
    range.collect()
}

fn run(words: &[&str]) -> Output {
    btsync().args(words).output().expect("btsync")
}

#[test]
fn a_neighbour_of_selected_files_never_appears() {
    let (temp, payload) = (TestDir::new(), payload());
    let recorder = RecordingSeeder::start(&payload);
    let mut running = start(&temp, &payload, &recorder.peer, &["--select", "2"]);
    running.expect_exit(0);
    assert!(running.log().contains("1 of 5 files"), "{}", running.log());
    let out = temp.path("out");
    assert_eq!(seen(&out), ["part/sub/two.txt"]);
    assert_right(&payload, &out, &[2]);
    assert_eq!(recorder.set(), set(2..=5));
}

#[test]
fn files_that_are_selected_later_use_the_bytes_on_disk() {
    let (temp, payload) = (TestDir::new(), payload());
    let out = temp.path("out");
    fetch(&temp, &payload, &["--select", "2"]);
    // Piece 5 is on disk; a part of it belongs to the next files.
    let asked = fetch(&temp, &payload, &["--select=sub/deep"]);
    assert_eq!(asked.into_iter().collect::<BTreeSet<_>>(), set(6..=9));
    assert_eq!(seen(&out), ["part/sub/deep/four.bin", "part/sub/two.txt"]);
    assert_right(&payload, &out, &[2, 4]);
    // Without a selection the remaining pieces arrive, and no part file is left.
    let asked = fetch(&temp, &payload, &[]);
    assert_eq!(asked.into_iter().collect::<BTreeSet<_>>(), [0, 1, 10, 11, 12, 13].into());
    payload.assert_at(&out);
    assert_eq!(below(&out).len(), 5, "{:?}", below(&out));
    // Everything is on disk for any later selection.
    assert!(fetch(&temp, &payload, &["--select", "3"]).is_empty());
    assert_eq!(below(&out).len(), 5);
}

/// All bytes of the file are in a piece of which the part file has the rest: nothing else says that the file is right.
#[test]
fn a_file_that_shares_all_its_pieces_is_resumed_without_resume_data() {
    let (temp, payload) = (TestDir::new(), payload());
    let out = temp.path("out");
    fetch(&temp, &payload, &["--select", "3"]);
    assert_eq!(seen(&out), ["part/sub/three.bin"]);
    std::fs::remove_dir_all(temp.path("btsync-cache")).expect("the resume data");
    fetch(&temp, &payload, &[]);
    payload.assert_at(&out);
    assert_eq!(below(&out).len(), 5, "{:?}", below(&out));
}

#[test]
fn a_file_gets_its_final_name_also_if_a_run_between_did_not_want_it() {
    let (temp, payload) = (TestDir::new(), payload());
    let (out, suffix) = (temp.path("out"), ["--incomplete-suffix", ".part"]);
    let gate = Gate::new(6);
    let peer = FakePeer::honest(&payload, &gate);
    let mut running = start(&temp, &payload, &peer, &[&suffix[..], &["--sequential"]].concat());
    let first = out.join("part/one.bin.part");
    let is_there = || std::fs::read(&first).is_ok_and(|content| content == payload.content()[..content.len()]);
    until("the first file is there", || gate.served() == 6 && is_there());
    running.terminate(7);
    fetch(&temp, &payload, &[&suffix[..], &["--select", "5"]].concat());
    assert!(first.exists(), "it was not wanted");
    fetch(&temp, &payload, &suffix);
    payload.assert_at(&out);
    assert_eq!(below(&out).len(), 5, "{:?}", below(&out));
}

#[test]
fn a_part_that_is_there_already_is_counted_as_a_part() {
    let (temp, payload) = (TestDir::new(), payload());
    fetch(&temp, &payload, &["--select", "2"]);
    let recorder = RecordingSeeder::start(&payload);
    let mut running = start(&temp, &payload, &recorder.peer, &["--select", "2"]);
    running.expect_exit(0);
    // Pieces 2 to 5.
    assert!(running.log().contains("complete, 128.0 KiB, all data was already on disk"), "{}", running.log());
}

#[test]
fn patterns_and_folders_select_and_exclude() {
    let (temp, payload) = (TestDir::new(), payload());
    fetch(&temp, &payload, &["--select", "*.bin", "--select", "five.txt", "--exclude", "sub/deep"]);
    let out = temp.path("out");
    assert_eq!(seen(&out), ["part/five.txt", "part/one.bin", "part/sub/three.bin"]);
    assert_right(&payload, &out, &[1, 3, 5]);
}

#[test]
fn a_file_may_go_by_another_name() {
    let (temp, payload) = (TestDir::new(), payload());
    fetch(&temp, &payload, &["--select", "1,3", "--out", "1=renamed/uno.bin"]);
    let out = temp.path("out");
    assert_eq!(seen(&out), ["part/sub/three.bin", "renamed/uno.bin"]);
    assert!(std::fs::read(out.join("renamed/uno.bin")).expect("renamed") == payload.paths_with_content(&out)[0].1);
    // The same options again: nothing is missing.
    assert!(fetch(&temp, &payload, &["--select", "1,3", "--out", "1=renamed/uno.bin"]).is_empty());
}

#[test]
fn choices_that_cannot_be_are_told() {
    let (temp, payload) = (TestDir::new(), payload());
    let torrent = temp.torrent(&payload, "http://127.0.0.1:9/announce");
    let out = temp.folder("out");
    let (torrent, out) = (torrent.to_str().expect("UTF-8"), out.to_str().expect("UTF-8"));
    for (words, said) in [
        (&["--select", "6"][..], "no file of the torrent matches '6'"),
        (&["--select", "*.avi"], "no file of the torrent matches '*.avi'"),
        (&["--exclude", "*"], "no file is left to download"),
        (&["--select", "0"], "file numbers begin at 1"),
        (&["--select", "[x"], "without `]`"),
        (&["--out", "1=../up"], "../up"),
        (&["--out", "1=/etc/up"], "/etc/up"),
        (&["--out", "9=x"], "9"),
        (&["--out", "1=part/five.txt"], "part/five.txt"),
        (&["--out", "x"], "NUMBER=PATH"),
        (&["--file-allocation", "full"], "none, sparse or falloc"),
    ] {
        let output = run(&[&[torrent, out, "--no-dht", "--no-lsd", "--bt-exclude-tracker", "*"], words].concat());
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(28), "{words:?}: {text}");
        assert!(text.contains(said) && text.lines().count() == 1, "{words:?}: {text}");
        assert!(below(Path::new(out)).is_empty());
    }
}

#[test]
fn pieces_come_in_order_where_that_is_asked_for() {
    let payload = payload();
    let asked = fetch(&TestDir::new(), &payload, &["--sequential"]);
    assert!(asked.is_sorted() && asked.len() == 14, "{asked:?}");
    let asked = fetch(&TestDir::new(), &payload, &["--select", "4,5", "--first-and-last"]);
    assert_eq!(asked[..3].iter().copied().collect::<BTreeSet<_>>(), [5, 9, 13].into(), "{asked:?}");
    assert_eq!(asked.len(), 9);
    let asked = fetch(&TestDir::new(), &payload, &["--select", "4,5", "--first-and-last", "--sequential"]);
    assert_eq!(asked[3..], [6, 7, 8, 10, 11, 12], "{asked:?}");
}

/// As in `btsync x.torrent --list | head`.
#[test]
fn a_reader_that_closes_the_list_early_is_no_failure() {
    let (temp, payload) = (TestDir::new(), payload());
    let (reader, writer) = io::pipe().expect("a pipe");
    drop(reader);
    let torrent = temp.torrent(&payload, "");
    let output = btsync().arg(torrent).arg("--list").stdout(writer).output().expect("btsync runs");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn the_list_shows_numbers_sizes_and_the_choice() {
    let (temp, payload) = (TestDir::new(), payload());
    let torrent = temp.torrent(&payload, "http://127.0.0.1:9/announce");
    let output = run(&[torrent.to_str().expect("UTF-8"), "--list", "--select", "*.txt"]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 6, "{text}");
    for (line, number, chosen) in [(lines[0], "1", false), (lines[1], "2", true), (lines[4], "5", true)] {
        assert!(line.contains(number) && line.starts_with('*') == chosen, "{text}");
    }
    assert!(lines[1].ends_with("part/sub/two.txt"), "{text}");
    assert!(lines[5].contains("2 of 5 files"), "{text}");
    assert!(!temp.path("out").exists());
}

#[test]
fn a_reader_that_has_seen_enough_of_the_list_is_no_failure() {
    let (temp, payload) = (TestDir::new(), payload());
    let torrent = temp.torrent(&payload, "http://127.0.0.1:9/announce");
    let (reader, writer) = io::pipe().expect("a pipe");
    drop(reader);
    let output = btsync().arg(&torrent).arg("--list").stdout(writer).output().expect("btsync");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

/// A magnet link to a complete seeder, with further parameters.
fn link(payload: &Payload, addr: std::net::SocketAddr, more: &str) -> String {
    payload.magnet(&format!("&x.pe={addr}{more}"))
}

#[test]
fn a_link_may_be_listed_and_may_choose() {
    let (temp, payload) = (TestDir::new(), payload());
    let (_seeder, addr, _tracker) = seeding(&temp, &payload);
    let alone = ["--no-dht", "--no-lsd", "--listen-port"];
    let port = free_port().to_string();
    let output = run(&[&[link(&payload, addr, "").as_str(), "--list"][..], &alone, &[&port]].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("part/sub/deep/four.bin") && text.contains("5 of 5 files"), "{text}");

    let out = temp.folder("out");
    let (chosen, port) = (link(&payload, addr, "&so=0,2"), free_port().to_string());
    let output = run(&[&[chosen.as_str(), out.to_str().expect("UTF-8")][..], &alone, &[&port]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(seen(&out), ["part/one.bin", "part/sub/three.bin"]);
    assert_right(&payload, &out, &[1, 3]);

    let port = free_port().to_string();
    let wrong = [&[chosen.as_str(), out.to_str().expect("UTF-8"), "--select", "7"][..], &alone, &[&port]].concat();
    let output = run(&wrong);
    assert_eq!(output.status.code(), Some(28), "known once the metadata is there");
}

#[test]
fn a_part_is_given_to_others() {
    let (temp, payload) = (TestDir::new(), payload());
    let recorder = RecordingSeeder::start(&payload);
    let port = free_port();
    let torrent = temp.torrent(&payload, "http://127.0.0.1:9/announce");
    let peer = recorder.peer.addr.to_string();
    let words = ["--bt-exclude-tracker", "*", "--peer", &peer, "--select", "4", "--seed"];
    let mut seeder = temp.btsync("seeder", &torrent, &temp.folder("seeder"), port, &words);
    seeder.wait_for_output("complete");
    let partial_seed = format!("127.0.0.1:{port}");
    let words = ["--bt-exclude-tracker", "*", "--peer", &partial_seed, "--select", "4"];
    temp.btsync("leecher", &torrent, &temp.folder("leecher"), free_port(), &words).expect_exit(0);
    assert_right(&payload, &temp.path("leecher"), &[4]);
    seeder.terminate(0);
}

fn mount(options: &str, on: &Path) {
    let script = format!("mount {options} tmpfs '{}'", on.display());
    assert!(Command::new("sh").args(["-c", &script]).status().expect("sh").success(), "{script}");
}

#[test]
fn too_small_a_disk_is_told_before_anything_comes() {
    in_network_namespace("too_small_a_disk_is_told_before_anything_comes", &["mount"], || {
        let (temp, payload) = (TestDir::new(), payload());
        let out = temp.folder("out");
        mount("-t tmpfs -o size=256k", &out);
        for allocation in ["none", "sparse", "falloc"] {
            let recorder = RecordingSeeder::start(&payload);
            let mut full = start(&temp, &payload, &recorder.peer, &["--file-allocation", allocation]);
            full.expect_exit(9);
            assert!(
                full.log().contains("not enough disk space") || full.log().contains("no space"),
                "{allocation}: {}",
                full.log()
            );
            assert!(recorder.asked().is_empty(), "{allocation}");
        }
        // One file of it fits.
        assert_eq!(std::fs::read_dir(&out).expect("the folder").count(), 0, "nothing was made");
        fetch(&temp, &payload, &["--select", "2"]);
        assert_right(&payload, &out, &[2]);
    });
}

#[test]
fn files_take_their_room_as_asked() {
    for allocation in ["none", "sparse", "falloc"] {
        let (temp, payload) = (TestDir::new(), payload());
        let gate = Gate::new(0);
        let peer = FakePeer::honest(&payload, &gate);
        gate.grant(4);
        let words = ["--file-allocation", allocation, "--sequential"];
        let mut running = start(&temp, &payload, &peer, &words);
        until("some is there", || gate.served() == 4);
        let file: PathBuf = payload.paths_with_content(&temp.path("out"))[4].0.clone();
        let (size, blocks) = std::fs::metadata(&file).map_or((0, 0), |m| (m.size(), m.blocks()));
        match allocation {
            "none" => assert_eq!(size, 0),
            "sparse" => assert_eq!((size, blocks), ((4 * PIECE + 7) as u64, 0)),
            _ => assert!(size == (4 * PIECE + 7) as u64 && blocks * 512 >= size, "{size} {blocks}"),
        }
        gate.open();
        running.expect_exit(0);
        payload.assert_at(&temp.path("out"));
    }
}
