//! Odd but valid torrents, and large ones: btsync accepts them, with names that are safe on disk and on a terminal.

use std::path::PathBuf;

use crate::common::torrents::{dictionary, file, files_end, path, string, torrent_with, with_files};
use crate::common::{TestDir, btsync};
use serde_json::Value;

/// The output of `info --json` for a torrent.
fn said(temp: &TestDir, bytes: &[u8]) -> Value {
    let torrent = temp.path("odd.torrent");
    std::fs::write(&torrent, bytes).expect("a file");
    let output = btsync().args(["info", "--json"]).arg(&torrent).output().expect("the program starts");
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{}: {words}", bytes.escape_ascii());
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn odd_but_valid_torrents_are_accepted_with_safe_names() {
    let temp = TestDir::new();
    let name = |raw: &[u8]| {
        said(&temp, &torrent_with("name", Some(&string(raw))))["name"].as_str().unwrap_or_default().to_owned()
    };
    let safe: [(&[u8], &str, &str); 8] = [
        (b"\x1b]0;owned\x07.txt", "_]0;owned_~", ".txt"),
        ("gpj.\u{202e}exe".as_bytes(), "gpj~", "._exe"),
        ("csi\u{9b}2J".as_bytes(), "csi_2J~", ""),
        (b"caf\xe9", "caf_~", ""),
        (b"line\nbreak", "line_break~", ""),
        (b"CON", "CON", "CON"),
        (b"con.txt", "con.txt", ""),
        (&[b'x'; 300], "xxxx", ""),
    ];
    for (raw, start, end) in safe {
        let name = name(raw);
        assert!(name.starts_with(start) && name.ends_with(end) && name.len() <= 255, "{name}");
        assert!(!name.chars().any(char::is_control), "{name:?}");
    }

    let unsorted = torrent_with("", None).escape_ascii().to_string().replace("d4:infod", "d4:infod1:zle");
    assert_eq!(said(&temp, unsorted.replace("\\x07", "\x07").as_bytes())["total"], 30);
    assert_eq!(
        said(&temp, &torrent_with("\u{fffd}", Some(&dictionary(&[("a", b"li1ee")]))))["total"],
        30,
        "an unknown key"
    );
    assert_eq!(said(&temp, &[&*torrent_with("", None), b"\r\n"].concat())["total"], 30, "a line end");
    assert_eq!(said(&temp, &torrent_with("piece length", Some(b"i17e")))["piece_length"], 17);
    let top = [b"d8:announcele7:comment3:\x1b[m13:creation date3:now4:info", &torrent_with("", None)[7..]].concat();
    assert_eq!(said(&temp, &top)["total"], 30, "fields of wrong types that are not needed");

    let pad = dictionary(&[("attr", b"1:p"), ("length", b"i3e"), ("path", &path(&[".pad", "3"]))]);
    let files = [file(&["A"], "i5e"), pad.clone(), file(&["a"], "i5e"), pad];
    let found = said(&temp, &with_files(&files));
    assert_eq!((&found["total"], &found["files"][2]["path"]), (&16.into(), &"t/a".into()));
}

#[test]
fn a_hundred_thousand_files_and_long_paths_are_accepted() {
    let temp = TestDir::new();
    let torrent = temp.path("many.torrent");
    let entry = |n| file(&[&format!("folder {}", n % 100), &format!("file {n}.dat")], "i0e");
    let files: Vec<u8> = (0..100_000).flat_map(entry).collect();
    std::fs::write(&torrent, [b"d4:infod5:filesl", &*files, &files_end("e")].concat()).expect("a file");
    let mut info = temp.start("many", btsync().arg("info").arg(&torrent));
    info.expect_exit(0);
    assert!(info.log().contains("files       100000"));

    // A path of the greatest length, in a folder whose own path is long too.
    let part = "n".repeat(198);
    let far = vec![part.as_str(); 19];
    std::fs::write(&torrent, with_files(&[file(&far, "i1e")])).expect("a file");
    let out: PathBuf = temp.path("out").join(PathBuf::from_iter(["folder"; 100]));
    let mut download = temp.btsync("deep", &torrent, &out, crate::common::free_port(), &[]);
    download.wait_for_output("listening");
    download.terminate(7);
}
