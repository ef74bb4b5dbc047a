//! Names: typing errors at the prompt, and the names that a torrent gives to files, by the real program.

mod common;

use std::fs;
use std::path::Path;
use std::process::Output;

use common::fleet::{Swarm, code, fleet, stderr};
use common::payload::Payload;
use common::talker::Talker;
use common::{Stage, btsync};
use serde_json::Value;

#[test]
fn of_several_names_a_bad_one_is_found_before_anything_begins() {
    let stage = Stage::new();
    let swarm = Swarm::new(&stage, "one", usize::MAX);
    fs::write(stage.path("text.torrent"), "hello").expect("a file");
    stage.folder("folder.torrent");
    for (bad, expected) in [("text.torrent", 25), ("missing.torrent", 15), ("folder.torrent", 15)] {
        for names in [["one.torrent", bad], [bad, "one.torrent"]] {
            let output = fleet(&stage).args(names).arg("out").output().expect("btsync runs");
            let said = stderr(&output);
            assert_eq!((code(&output), said.lines().count()), (Some(expected), 1), "{said}");
            assert!(said.contains(bad) && said.contains("nothing was started"), "{said}");
        }
    }
    assert!(!swarm.has_begun() && !stage.path("out").exists());
}

#[test]
fn a_misspelt_command_begins_nothing() {
    let stage = Stage::new();
    let swarm = Swarm::new(&stage, "one", usize::MAX);
    let cases = [
        ("verfy", "`verify`"),
        ("creat", "`create`"),
        ("veriyf", "`verify`"),
        ("sed", "`--seed`"),
        ("seed", "`--seed`"),
        ("inof", "`info`"),
    ];
    for (word, meant) in cases {
        for names in [&[word, "one.torrent"][..], &[word, "one.torrent", "out"], &[word, "out"], &[word]] {
            let output = fleet(&stage).args(names).output().expect("btsync runs");
            let said = stderr(&output);
            assert_eq!((code(&output), said.lines().count()), (Some(28), 1), "{names:?}: {said}");
            assert!(said.contains("did you mean") && said.contains(meant), "{said}");
        }
    }
    assert!(!swarm.has_begun() && !stage.path("out").exists() && !stage.path("one").exists());
    // A file is a file, whatever its name.
    fs::copy(&swarm.torrent, stage.path("verfy")).expect("a copy");
    let output = fleet(&stage).args(["verfy", "out"]).output().expect("btsync runs");
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    swarm.is_at(&stage.path("out"));
}

/// What `info --json` says of a file of `testdata/torrents`.
fn info(name: &str) -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/torrents").join(name);
    let output = btsync().args(["info", "--json"]).arg(file).output().expect("the program starts");
    assert_eq!(code(&output), Some(0), "{name}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn odd_torrents_that_are_out_there_are_read() {
    let stored: [(&str, &[&str]); 13] = [
        ("slash_in_name_multi", &["Acme OS R1_beta6 (x86_64)/a.img", "Acme OS R1_beta6 (x86_64)/b.txt"]),
        ("backslash_in_path", &["d/a_b.txt"]),
        ("path_empty_first", &["d/a"]),
        ("path_empty_last_zero", &["d/a"]),
        ("name_empty_multi", &["name_empty_multi/x"]),
        ("dup_path", &["d/a.txt", "d/a.1.txt"]),
        ("dup_path_zero", &["d/a", "d/e", "d/e.1"]),
        ("file_and_dir", &["d/a.1", "d/a/b"]),
        ("files_and_length", &["d/a"]),
        ("bitcomet_pad", &["d/a", "d/b"]),
        ("trailing_junk", &["a"]),
        ("trailing_nul", &["a"]),
        ("gbk_encoding", &["____~c9c9b83a.txt"]),
    ];
    for (name, expected) in stored {
        let said = info(&format!("{name}.torrent"));
        let files = said["files"].as_array().expect("files").iter().filter(|file| file["pad"] != true);
        let paths: Vec<&str> = files.map(|file| file["path"].as_str().expect("a path")).collect();
        assert_eq!(paths, expected, "{name}");
    }
}

#[test]
fn what_is_no_torrent_is_named() {
    let stage = Stage::new();
    fs::write(stage.path("page"), "\n<!DOCTYPE html>\n<html></html>").expect("a file");
    fs::write(stage.path("empty"), "").expect("a file");
    stage.folder("folder");
    for (name, expected, words) in [
        ("page", 25, "this is a web page, not a torrent"),
        ("empty", 25, "the file is empty"),
        ("folder", 15, "is a folder"),
    ] {
        let commands: [&[&str]; 6] = [
            &["info", name],
            &["magnet", name],
            &["verify", name],
            &["edit", name, "--no-comment"],
            &[name],
            &[name, "out"],
        ];
        for words_of in commands {
            let mut command = if words_of[0] == name { fleet(&stage) } else { btsync() };
            let output = command.args(words_of).current_dir(stage.path("")).output().expect("btsync runs");
            let said = stderr(&output);
            assert_eq!((code(&output), said.lines().count()), (Some(expected), 1), "{words_of:?}: {said}");
            assert!(said.contains(words), "{words_of:?}: {said}");
        }
    }
    assert!(!stage.path("out").exists());
}

/// Runs `create` in a folder of the stage.
fn create(stage: &Stage, folder: &str, words: &[&str]) -> Output {
    let output = btsync().arg("create").args(words).arg("--no-date").current_dir(stage.path(folder)).output();
    output.expect("btsync runs")
}

#[test]
fn create_leaves_its_own_output_out() {
    let stage = Stage::new();
    let source = stage.folder("s");
    fs::write(source.join("a"), "hello").expect("a file");
    assert_eq!(code(&create(&stage, "s", &["."])), Some(0));
    let first = fs::read(source.join("s.torrent")).expect("a torrent");
    for words in [&[".", "--force"][..], &["../s", "--force"], &[".", "--force", "-o", "../s/./s.torrent"]] {
        let output = create(&stage, "s", words);
        assert_eq!(code(&output), Some(0), "{}", stderr(&output));
        assert_eq!(fs::read(source.join("s.torrent")).expect("a torrent"), first, "{words:?}");
    }
    let output =
        btsync().args(["verify", "s/s.torrent", "."]).current_dir(stage.path("")).output().expect("btsync runs");
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    assert_eq!(code(&create(&stage, "s", &["a", "-o", "a", "--force"])), Some(28), "it would replace its source");
    assert_eq!(fs::read(source.join("a")).expect("it"), b"hello");
}

/// A payload whose name would hide it.
fn hidden(stage: &Stage, name: &str) -> (Payload, Talker) {
    let payload = Payload::single(name, 100_000, 16 * 1024);
    let peer = Talker::honest(&payload, || true);
    fs::write(stage.path("x.torrent"), payload.torrent("http://127.0.0.1:9/announce")).expect("a torrent");
    (payload, peer)
}

/// Downloads `what` into `out` from that peer alone.
fn download(stage: &Stage, what: &str, peer: &Talker, more: &[&str]) -> Output {
    let mut command = fleet(stage);
    command.args([what, "out", "--bt-exclude-tracker", "*", "--peer", &peer.addr().to_string()]).args(more);
    command.output().expect("btsync runs")
}

#[test]
fn a_hidden_name_gets_a_safe_form_unless_the_user_allows_it() {
    for by_link in [false, true] {
        let stage = Stage::new();
        let (payload, peer) = hidden(&stage, ".bashrc");
        fs::write(stage.folder("out").join(".bashrc"), "mine").expect("a file");
        let link = format!("magnet:?xt=urn:btih:{}&dn=.bashrc", payload.hex());
        let what = if by_link { link.as_str() } else { "x.torrent" };
        let output = download(&stage, what, &peer, &[]);
        assert_eq!(code(&output), Some(0), "{}", stderr(&output));
        assert_eq!(fs::read(stage.path("out/.bashrc")).expect("it"), b"mine");
        assert_eq!(fs::read(stage.path("out/_bashrc")).expect("it"), payload.content());

        fs::remove_file(stage.path("out/.bashrc")).expect("it was there");
        let output = download(&stage, what, &peer, &["--allow-hidden"]);
        assert_eq!(code(&output), Some(0), "{}", stderr(&output));
        assert_eq!(fs::read(stage.path("out/.bashrc")).expect("it"), payload.content());
    }
}

#[test]
fn no_torrent_names_a_file_of_btsync_itself() {
    let hash = "0123456789abcdef0123456789abcdef01234567";
    for name in [format!(".{hash}.parts"), format!(".{hash}.btsync"), format!(".{}.Parts", hash.to_uppercase())] {
        let stage = Stage::new();
        let (payload, peer) = hidden(&stage, &name);
        let output = download(&stage, "x.torrent", &peer, &["--allow-hidden"]);
        assert_eq!(code(&output), Some(0), "{}", stderr(&output));
        assert!(!stage.path("out").join(&name).exists());
        assert_eq!(fs::read(stage.path("out").join(name.replacen('.', "_", 1))).expect("it"), payload.content());
    }
}
