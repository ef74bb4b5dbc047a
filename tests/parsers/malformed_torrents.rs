//! Every malformed torrent ends in one clear line and exit code 25 or 26, and takes little memory whatever its size. In a process
//! of its own, because it measures the largest of all its children. For odd but valid torrents see `odd_torrents.rs`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use crate::common::netns::alone_in_process;
use crate::common::process::Running;
use crate::common::torrents::{dictionary, file, files_end, list, path, string, torrent_with, with_files};
use crate::common::{PATIENCE, TestDir, btsync};
use nix::sys::resource::{UsageWho, getrusage};

/// The peak resident memory that a process with a malformed torrent may have, in KiB.
const MEMORY_MAX: i64 = 32 * 1024;

/// A file's content as repeated runs. This process must stay small, because a child's peak includes what it inherits.
type Parts = Vec<(Vec<u8>, usize)>;

/// An exit code, a word of the message, the file's content.
type Case = (i32, &'static str, Parts);

fn whole(bytes: impl Into<Vec<u8>>) -> Parts {
    vec![(bytes.into(), 1)]
}

/// A start, a middle repeated many times, and an end.
fn long(start: &[u8], middle: &[u8], times: usize, end: &[u8]) -> Parts {
    vec![(start.to_vec(), 1), (middle.to_vec(), times), (end.to_vec(), 1)]
}

fn no_bencode() -> Vec<Case> {
    let sound = torrent_with("", None);
    let cut = |at: usize| whole(sound.get(..at).unwrap_or_default());
    let mut cases = vec![
        (25, "the file is empty", whole("")),
        (25, "unexpected", whole("hello")),
        (25, "this is a web page, not a torrent", whole("<!DOCTYPE html><html></html>")),
        (25, "this is a web page, not a torrent", whole("\u{feff}\r\n <?xml version='1.0'?>")),
        (25, "this is a web page, not a torrent", long(b"<html>", b"x", 30 << 20, b"")),
        (25, "unexpected", whole("\u{feff}d4:infodee")),
        (25, "longer than the rest of the file", cut(sound.len() - 10)),
        (25, "ends", cut(52)),
        (25, "ends", cut(sound.len() - 1)),
        (25, "data follows the end", whole("i1ex")),
        (25, "longer than the rest of the file", whole("d4:infod6:pieces99999999:abc")),
        (25, "longer than the rest of the file", whole("d4:infod6:pieces4294967296:abc")),
        (25, "longer than the rest of the file", whole("d4:infod6:pieces18446744073709551615:abc")),
        (25, "longer than the rest of the file", whole("d4:infod6:pieces99999999999999999999999:abc")),
        (25, "length", whole("d4:infod6:pieces020:abcdefghijabcdefghijee")),
        (25, "unexpected", whole("d4:infod6:pieces-1:aee")),
        (25, "not a string", whole("di1ei2ee")),
        (25, "no value", whole("d4:infoe")),
        (25, "`info` occurs twice", whole("d4:infode4:infodee")),
        (25, "`name` occurs twice", whole(torrent_with("name", Some(b"1:a4:name1:b")))),
        (25, "`a` occurs twice", whole("d1:b0:1:a0:1:c0:1:a0:e")),
    ];
    for number in ["", "-", "-0", "00", "01", "-01", "+1", " 1", "1 ", "1.5", "0x10", "9223372036854775808"] {
        cases.push((25, "integer", whole(torrent_with("length", Some(format!("i{number}e").as_bytes())))));
    }
    cases.extend([
        (25, "nested", long(b"", b"l", 30 << 20, b"")),
        (25, "nested", long(b"d4:info", b"d1:a", 7 << 20, b"")),
        (25, "integer", long(b"d4:infod6:lengthi", b"9", 30 << 20, b"eee")),
        (25, "unexpected", long(b"", b"\0", 30 << 20, b"")),
        (25, "ends", long(b"d4:infod5:filesl", b"d6:lengthi1e4:pathl1:aee", 1 << 20, b"")),
        (25, "longer than the rest of the file", long(b"d4:infod6:pieces32000000:", b"x", 30 << 20, b"")),
        (25, "too long", long(b"d30000000:", b"k", 30_000_000, b"i1ee")),
    ]);
    // Keys that get smaller are completely unsorted.
    let keys: Vec<u8> = (0..100_000).rev().flat_map(|n| format!("7:{n:07}0:").into_bytes()).collect();
    cases.push((25, "order", whole([b"d", &*keys, b"e"].concat())));
    cases
}

fn no_torrent() -> Vec<Case> {
    let refused = |word, bytes: Vec<u8>| (26, word, whole(bytes));
    let mut cases = vec![
        refused("no dictionary", "i1e".into()),
        refused("no dictionary", "le".into()),
        refused("no dictionary", "de".into()),
        refused("no dictionary", "d4:infoi1ee".into()),
        refused("no dictionary", "ld4:infodeee".into()),
        refused("`pieces` is missing", "d4:infodee".into()),
        refused(
            "`file tree` is missing",
            dictionary(&[("info", &dictionary(&[("meta version", b"i2e"), ("piece length", b"i16384e")]))]),
        ),
        (26, "too large", long(b"d1:a33000000:", b"x", 33 << 20, b"")),
        (26, "no dictionary", long(b"d1:al", b"le", 15 << 20, b"ee")),
    ];
    let wrong: [(&str, &str, Option<&[u8]>); 14] = [
        ("pieces", "`pieces` is missing", None),
        ("pieces", "`pieces` is not a string", Some(b"le")),
        ("pieces", "not a multiple of 20", Some(b"3:abc")),
        ("pieces", "1 piece hashes, but its files need 2", Some(b"20:abcdefghijabcdefghij")),
        ("piece length", "`piece length` is missing", None),
        ("piece length", "`piece length` is not an integer", Some(b"2:16")),
        ("piece length", "the piece length 0", Some(b"i0e")),
        ("piece length", "the piece length -16", Some(b"i-16e")),
        ("piece length", "the piece length 4294967312", Some(b"i4294967312e")),
        ("name", "the component `..`", Some(b"2:..")),
        ("length", "neither", None),
        ("length", "`length` is not an integer", Some(b"2:30")),
        ("length", "negative", Some(b"i-30e")),
        ("length", "piece hashes", Some(b"i9223372036854775807e")),
    ];
    cases.extend(wrong.into_iter().map(|(key, word, value)| refused(word, torrent_with(key, value))));
    let link =
        |target: &[&str]| dictionary(&[("attr", b"1:l"), ("path", &path(&["x"])), ("symlink path", &path(target))]);
    let deep = vec!["a"; 101];
    let part = "n".repeat(250);
    let far = vec![part.as_str(); 17];
    let bad_files: Vec<(&str, Vec<Vec<u8>>)> = vec![
        ("no files", vec![]),
        ("`files` is not a list of dictionaries", vec![b"i1e".to_vec()]),
        ("`path` is missing", vec![dictionary(&[("length", b"i1e")])]),
        ("`path` is not a list", vec![dictionary(&[("length", b"i1e"), ("path", b"1:a")])]),
        ("a component of a file's path is not a string", vec![dictionary(&[("length", b"i1e"), ("path", b"li5ee")])]),
        ("the component `..`", vec![file(&["..", "..", "etc", "passwd"], "i1e")]),
        ("folders deep", vec![file(&deep, "i1e")]),
        ("longer than", vec![file(&far, "i1e")]),
        ("`length` is missing", vec![dictionary(&[("path", &path(&["a"]))])]),
        ("`length` is not an integer", vec![file(&["a"], "1:1")]),
        ("negative", vec![file(&["a"], "i-1e"), file(&["b"], "i2e")]),
        ("total size of its files", vec![file(&["a"], "i9223372036854775807e"), file(&["b"], "i1e")]),
        ("total size of its files", [["a"], ["b"], ["c"]].map(|name| file(&name, "i9223372036854775807e")).to_vec()),
        ("leads out", vec![file(&["a"], "i1e"), link(&["..", "..", "etc"])]),
        ("leads out", vec![file(&["a"], "i1e"), link(&["/etc/passwd"])]),
    ];
    cases.extend(bad_files.into_iter().map(|(word, files)| refused(word, with_files(&files))));
    cases
}

/// The error is at the end of a large, otherwise valid torrent.
fn no_torrent_and_large() -> Vec<Case> {
    vec![
        (26, "1500000 piece hashes, but", pieces("i30e", MANY * 20, b"")),
        (26, "not a multiple of 20", pieces("i30e", MANY * 20 + 1, b"x")),
        (26, "longer than", long(b"d4:infod5:filesld6:lengthi1e4:pathl30000000:", b"n", 30_000_000, &files_end("eee"))),
        (26, "no dictionary", long(b"d7:comment30000000:", b"c", 30_000_000, b"e")),
        (26, "no dictionary", long(b"d13:announce-listl", &list(&[&string("http://t/a")]), 2_000_000, b"ee")),
    ]
}

/// Number of piece hashes; together they have 30 MB.
const MANY: usize = 1_500_000;

/// A torrent with [`MANY`] hashes.
fn pieces(length: &str, bytes: usize, end: &[u8]) -> Parts {
    let head = format!("d4:infod6:length{length}4:name1:a12:piece lengthi16e6:pieces{bytes}:");
    long(head.as_bytes(), &[7; 20], MANY, &[end, b"ee"].concat())
}

/// Writes a torrent of 24 MB with 700,000 files, plus the file `last`.
fn write_files(to: &Path, last: &[&str]) {
    let names = (0..700_000).map(|n| file(&[&format!("d{}", n % 7), &format!("f{n:05}")], "i0e"));
    write_list(to, names, last);
}

/// Writes a torrent of 31 MB with 95,000 files at the greatest allowed depth, plus the file `last`.
fn write_deep(to: &Path, last: &[&str]) {
    let names = (0..95_000).map(|n| file(&[&["a"; 99][..], &[&format!("f{n:05}")]].concat(), "i0e"));
    write_list(to, names, last);
}

fn write_list(to: &Path, files: impl Iterator<Item = Vec<u8>>, last: &[&str]) {
    let mut out = BufWriter::new(File::create(to).expect("a file"));
    out.write_all(b"d4:infod5:filesl").expect("room on the disk");
    for file in files {
        out.write_all(&file).expect("room on the disk");
    }
    out.write_all(&file(last, "i0e")).and_then(|()| out.write_all(&files_end("e"))).expect("room on the disk");
    out.flush().expect("room on the disk");
}

fn write(to: &Path, parts: &Parts) {
    let mut out = BufWriter::new(File::create(to).expect("a file"));
    for (bytes, times) in parts {
        // In larger chunks, because most runs repeat a single byte.
        let run = bytes.repeat((1 << 16) / bytes.len().max(1) + 1);
        let mut left = bytes.len() * times;
        while left > 0 {
            let count = left.min(run.len());
            out.write_all(&run[..count]).expect("room on the disk");
            left -= count;
        }
    }
    out.flush().expect("room on the disk");
}

/// The largest peak memory of all child processes waited for, in KiB.
fn peak() -> i64 {
    getrusage(UsageWho::RUSAGE_CHILDREN).expect("the children's usage").max_rss()
}

/// Both commands must end with this code and one line, and leave no file behind.
fn is_refused(temp: &TestDir, torrent: &Path, code: i32, word: &str) {
    let out = temp.path("out");
    for (name, args) in [("info", vec![Path::new("info"), torrent]), ("download", vec![torrent, &out])] {
        let mut ended: Running = temp.start(name, btsync().env_remove("RUST_LOG").args(args));
        let found = ended.end_within(PATIENCE);
        let said = ended.log();
        assert_eq!(found, Some(code), "{name}, {word}: {said:?}");
        assert_eq!(said.lines().count(), 1, "{name}, {word}: {said:?}");
        assert!(said.starts_with("btsync: ") && said.contains(word), "{name}, {word}: {said:?}");
        assert!(said.len() < 500 && !said.trim_end().chars().any(char::is_control), "{name}, {word}: {said:?}");
        assert!(!out.exists(), "{name}, {word}: something was made");
        assert!(peak() <= MEMORY_MAX, "{name}, {word}: {} KiB", peak());
    }
}

#[test]
fn malformed_torrents_end_in_one_line_and_take_no_memory() {
    alone_in_process("malformed_torrents_end_in_one_line_and_take_no_memory", || {
        let temp = TestDir::new();
        let torrent = temp.path("bad.torrent");
        // One after the other, because the measured peak is the largest so far.
        for cases in [no_bencode, no_torrent, no_torrent_and_large] {
            for (code, word, parts) in cases() {
                write(&torrent, &parts);
                drop(parts);
                is_refused(&temp, &torrent, code, word);
            }
        }
        write_files(&torrent, &["..", "x"]);
        is_refused(&temp, &torrent, 26, "the component `..`");
        write_deep(&torrent, &["a", ".."]);
        is_refused(&temp, &torrent, 26, "the component `..`");
        is_refused(&temp, Path::new("/dev/zero"), 25, "unexpected");
        is_refused(&temp, Path::new("/dev/null"), 25, "the file is empty");
        is_refused(&temp, &temp.folder("folder.torrent"), 15, "is a folder");

        // From a pipe, which can be read only once.
        write(&torrent, &pieces("i30e", MANY * 20, b""));
        let piped = "cat bad.torrent | \"$BTSYNC\" info /dev/stdin";
        let mut shell = std::process::Command::new("sh");
        shell.current_dir(temp.path("")).env("BTSYNC", env!("CARGO_BIN_EXE_btsync")).args(["-c", piped]);
        let mut ended = temp.start("piped", &mut shell);
        ended.expect_exit(26);
        assert!(ended.log().contains("piece hashes") && peak() <= MEMORY_MAX, "{}: {} KiB", ended.log(), peak());

        // With the matching length the torrent is valid. This case also shows that the measurement works.
        write(&torrent, &pieces(&format!("i{}e", MANY * 16), MANY * 20, b""));
        temp.start("large", btsync().arg("info").arg(&torrent)).expect_exit(0);
        assert!(peak() > MEMORY_MAX, "{} KiB", peak());
        assert!(peak() < 3 * 32 * 1024, "{} KiB for 30 MB", peak());

        // btsync lists a valid torrent with very many files one by one, as text and as JSON.
        write_files(&torrent, &["last"]);
        for form in [None, Some("--json")] {
            temp.start("many", btsync().arg("info").args(form).arg(&torrent)).expect_exit(0);
            assert!(peak() < 4 * 32 * 1024, "{form:?}: {} KiB for 24 MB", peak());
        }

        // The same for a torrent in which a file has the name of a folder that other files need.
        write_files(&torrent, &["d1"]);
        let mut info: Running = temp.start("moves", btsync().arg("info").arg(&torrent));
        info.expect_exit(0);
        assert!(info.log().lines().any(|line| line.ends_with("  t/d1.1")), "no t/d1.1");
        assert!(peak() < 5 * 32 * 1024, "{} KiB for 24 MB", peak());
    });
}
