//! Torrents for BitTorrent v2 and hybrids (BEP 52) as a shell sees them.

use std::fs;
use std::path::Path;
use std::process::Output;

use crate::common::{TestDir, btsync};
use serde_json::Value;

fn run(dir: &Path, args: &[&str]) -> Output {
    btsync().current_dir(dir).args(args).output().expect("the program runs")
}

fn printed(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

/// The program must end with this code and print exactly this line.
fn fails(dir: &Path, args: &[&str], code: i32, line: &str) {
    let output = run(dir, args);
    assert_eq!(String::from_utf8_lossy(&output.stderr), format!("btsync: {line}\n"), "{args:?}");
    assert_eq!(output.status.code(), Some(code), "{args:?}");
}

/// A folder with the folder `t` of two files, `v2.torrent` and `hybrid.torrent`; and what `create` has printed for them.
fn with_torrents() -> (TestDir, String, String) {
    let temp = TestDir::new();
    fs::create_dir(temp.path("t")).expect("a folder");
    fs::write(temp.path("t/a"), vec![7; 100_000]).expect("a file");
    fs::write(temp.path("t/b"), vec![9; 10]).expect("a file");
    let create = |version: &str| {
        let output = format!("{version}.torrent");
        let switch = format!("--{version}");
        printed(&run(&temp.path(""), &["create", "t", &switch, "--piece-length", "16K", "--no-date", "-o", &output]))
    };
    let (v2, hybrid) = (create("v2"), create("hybrid"));
    (temp, v2, hybrid)
}

#[test]
fn a_torrent_for_v2_only_is_shown_and_not_downloaded() {
    let (temp, created, _) = with_torrents();
    let dir = temp.path("");
    let info: Value = serde_json::from_str(&printed(&run(&dir, &["info", "v2.torrent", "--json"]))).expect("JSON");
    let hash = info["info_hash_v2"].as_str().expect("a hash");
    assert_eq!(created, format!("v2.torrent {hash}\n"));
    assert_eq!((hash.len(), info["info_hash"].as_str()), (64, hash.get(..40)));
    assert_eq!((&info["pieces"], info["name"].as_str()), (&8.into(), Some("t")));
    let shown = printed(&run(&dir, &["info", "v2.torrent"]));
    assert!(shown.contains(&format!("v2 hash     {hash}\nsize        97.7 KiB (100010 bytes)\n")), "{shown}");
    assert!(!shown.contains("info hash"), "{shown}");
    let link = format!("magnet:?xt=urn:btmh:1220{hash}");
    assert!(printed(&run(&dir, &["magnet", "v2.torrent"])).starts_with(&link));
    let entries: Value = serde_json::from_str(&printed(&run(&dir, &["list", "v2.torrent", "--json"]))).expect("JSON");
    assert_eq!((&entries["info_hash_v2"], &entries["files"][1]["path"]), (&hash.into(), &"t/b".into()));
    assert_eq!(printed(&run(&dir, &["edit", "v2.torrent", "--comment", "x"])), created);
    assert_eq!(printed(&run(&dir, &["verify", "v2.torrent", "."])), "");

    let message = "btsync cannot download v2-only torrents yet";
    fails(&dir, &["v2.torrent", "out"], 26, message);
    fails(&dir, &[&link, "out", "--no-dht", "--no-lsd"], 26, message);
    assert!(!temp.path("out").exists(), "nothing was created");
}

#[test]
fn a_hybrid_shows_both_hashes_and_is_complete_as_v1() {
    let (temp, _, created) = with_torrents();
    let dir = temp.path("");
    let info: Value = serde_json::from_str(&printed(&run(&dir, &["info", "hybrid.torrent", "--json"]))).expect("JSON");
    let (v1, v2) = (info["info_hash"].as_str().expect("a hash"), info["info_hash_v2"].as_str().expect("a hash"));
    assert_eq!(created, format!("hybrid.torrent {v1} {v2}\n"));
    assert_ne!(Some(v1), v2.get(..40));
    let shown = printed(&run(&dir, &["info", "hybrid.torrent"]));
    assert!(shown.contains(&format!("info hash   {v1}\nv2 hash     {v2}\n")), "{shown}");
    let link = printed(&run(&dir, &["magnet", "hybrid.torrent"]));
    assert!(link.starts_with(&format!("magnet:?xt=urn:btih:{v1}&xt=urn:btmh:1220{v2}&dn=t")), "{link}");
    let verified: Value =
        serde_json::from_str(&printed(&run(&dir, &["verify", "hybrid.torrent", ".", "--json"]))).expect("JSON");
    assert_eq!((&verified["whole"], verified["info_hash_v2"].as_str()), (&true.into(), Some(v2)));
    printed(&run(&dir, &["hybrid.torrent", ".", "--no-dht", "--no-lsd"]));
}

#[test]
fn verify_names_the_wrong_blocks() {
    let (temp, _, _) = with_torrents();
    let dir = temp.path("");
    let mut content = fs::read(temp.path("t/a")).expect("a file");
    content[40_000] ^= 1;
    content[99_999] ^= 1;
    fs::write(temp.path("t/a"), content).expect("a file");
    for torrent in ["v2.torrent", "hybrid.torrent"] {
        let output = run(&dir, &["verify", torrent, ".", "-q"]);
        assert_eq!(output.status.code(), Some(32));
        let lines = "bad     t/a: bytes 32768-49151\nbad     t/a: bytes 98304-99999\n";
        assert_eq!(String::from_utf8_lossy(&output.stdout), lines, "{torrent}");
        let line = "btsync: t: 2 of 8 pieces are wrong or missing; bad or missing files: 1\n";
        assert_eq!(String::from_utf8_lossy(&output.stderr), line, "{torrent}");
    }
}

#[test]
fn versions_exclude_each_other() {
    let (temp, ..) = with_torrents();
    let dir = temp.path("");
    for words in [["--v1", "--v2"], ["--v2", "--hybrid"], ["--v1", "--hybrid"]] {
        let args = [&["create", "t", "-o", "no.torrent"][..], &words].concat();
        fails(&dir, &args, 28, "--v1, --v2 and --hybrid cannot be combined");
    }
    printed(&run(&dir, &["create", "t", "--v1", "-o", "v1.torrent"]));
    let info: Value = serde_json::from_str(&printed(&run(&dir, &["info", "v1.torrent", "--json"]))).expect("JSON");
    assert!(info.get("info_hash_v2").is_none());
}
