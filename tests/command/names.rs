//! Names: misspelt arguments at the prompt, and the file names in a torrent.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::common::batch::{Swarm, code, events, offline_btsync, stderr};
use crate::common::case_fs::{self, has_case_fs};
use crate::common::extended_peer::ExtendedPeer;
use crate::common::netns::in_network_namespace;
use crate::common::payload::Payload;
use crate::common::process::without_settings;
use crate::common::torrents::{dictionary, file, list, path, string};
use crate::common::{PATIENCE, PORT_RANGE, TestDir, btsync, free_port, until};
use serde_json::Value;
use sha1::{Digest, Sha1};

#[test]
fn of_several_names_a_bad_one_is_found_before_anything_begins() {
    let temp = TestDir::new();
    let swarm = Swarm::new(&temp, "one", usize::MAX);
    fs::write(temp.path("text.torrent"), "hello").expect("a file");
    temp.folder("folder.torrent");
    for (bad, expected) in [("text.torrent", 25), ("missing.torrent", 15), ("folder.torrent", 15)] {
        for names in [["one.torrent", bad], [bad, "one.torrent"]] {
            let output = offline_btsync(&temp).args(names).arg("out").output().expect("btsync runs");
            let said = stderr(&output);
            assert_eq!((code(&output), said.lines().count()), (Some(expected), 1), "{said}");
            assert!(said.contains(bad) && said.contains("nothing was started"), "{said}");
        }
    }
    assert!(!swarm.has_announces() && !temp.path("out").exists());
}

#[test]
fn a_misspelt_command_begins_nothing() {
    let temp = TestDir::new();
    let swarm = Swarm::new(&temp, "one", usize::MAX);
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
            let output = offline_btsync(&temp).args(names).output().expect("btsync runs");
            let said = stderr(&output);
            assert_eq!((code(&output), said.lines().count()), (Some(28), 1), "{names:?}: {said}");
            assert!(said.contains("did you mean") && said.contains(meant), "{said}");
        }
    }
    assert!(!swarm.has_announces() && !temp.path("out").exists() && !temp.path("one").exists());
    // An existing file is taken as a file, whatever its name.
    fs::copy(&swarm.torrent, temp.path("verfy")).expect("a copy");
    let output = offline_btsync(&temp).args(["verfy", "out"]).output().expect("btsync runs");
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    swarm.assert_complete_in(&temp.path("out"));
}

/// The output of `info --json` for a file in `testdata/torrents`.
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
fn files_that_are_not_torrents_are_named() {
    let temp = TestDir::new();
    fs::write(temp.path("page"), "\n<!DOCTYPE html>\n<html></html>").expect("a file");
    fs::write(temp.path("empty"), "").expect("a file");
    temp.folder("folder");
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
            let mut command = if words_of[0] == name { offline_btsync(&temp) } else { btsync() };
            let output = command.args(words_of).current_dir(temp.path("")).output().expect("btsync runs");
            let said = stderr(&output);
            assert_eq!((code(&output), said.lines().count()), (Some(expected), 1), "{words_of:?}: {said}");
            assert!(said.contains(words), "{words_of:?}: {said}");
        }
    }
    assert!(!temp.path("out").exists());
}

/// Runs `create` in a folder in the test folder.
fn create(temp: &TestDir, folder: &str, words: &[&str]) -> Output {
    let output = btsync().arg("create").args(words).arg("--no-date").current_dir(temp.path(folder)).output();
    output.expect("btsync runs")
}

#[test]
fn create_leaves_its_own_output_out() {
    let temp = TestDir::new();
    let source = temp.folder("s");
    fs::write(source.join("a"), "hello").expect("a file");
    assert_eq!(code(&create(&temp, "s", &["."])), Some(0));
    let first = fs::read(source.join("s.torrent")).expect("a torrent");
    for words in [&[".", "--force"][..], &["../s", "--force"], &[".", "--force", "-o", "../s/./s.torrent"]] {
        let output = create(&temp, "s", words);
        assert_eq!(code(&output), Some(0), "{}", stderr(&output));
        assert_eq!(fs::read(source.join("s.torrent")).expect("a torrent"), first, "{words:?}");
    }
    let output =
        btsync().args(["verify", "s/s.torrent", "."]).current_dir(temp.path("")).output().expect("btsync runs");
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    assert_eq!(code(&create(&temp, "s", &["a", "-o", "a", "--force"])), Some(28), "it would replace its source");
    assert_eq!(fs::read(source.join("a")).expect("it"), b"hello");
}

/// A payload whose name would make it a hidden file.
fn hidden(temp: &TestDir, name: &str) -> (Payload, ExtendedPeer) {
    let payload = Payload::single(name, 100_000, 16 * 1024);
    let peer = ExtendedPeer::honest(&payload, || true);
    fs::write(temp.path("x.torrent"), payload.torrent("http://127.0.0.1:9/announce")).expect("a torrent");
    (payload, peer)
}

/// Downloads `what` into `out` from this peer only.
fn download(temp: &TestDir, what: &str, peer: &ExtendedPeer, more: &[&str]) -> Output {
    let mut command = offline_btsync(temp);
    command.args([what, "out", "--bt-exclude-tracker", "*", "--peer", &peer.addr().to_string()]).args(more);
    command.output().expect("btsync runs")
}

#[test]
fn a_hidden_name_gets_a_safe_form_unless_the_user_allows_it() {
    for by_link in [false, true] {
        let temp = TestDir::new();
        let (payload, peer) = hidden(&temp, ".bashrc");
        fs::write(temp.folder("out").join(".bashrc"), "mine").expect("a file");
        let link = format!("magnet:?xt=urn:btih:{}&dn=.bashrc", payload.hex());
        let what = if by_link { link.as_str() } else { "x.torrent" };
        let output = download(&temp, what, &peer, &[]);
        assert_eq!(code(&output), Some(0), "{}", stderr(&output));
        assert_eq!(fs::read(temp.path("out/.bashrc")).expect("it"), b"mine");
        assert_eq!(fs::read(temp.path("out/_bashrc")).expect("it"), payload.content());

        fs::remove_file(temp.path("out/.bashrc")).expect("it was there");
        let output = download(&temp, what, &peer, &["--allow-hidden"]);
        assert_eq!(code(&output), Some(0), "{}", stderr(&output));
        assert_eq!(fs::read(temp.path("out/.bashrc")).expect("it"), payload.content());
    }
}

#[test]
fn no_torrent_names_a_file_of_btsync_itself() {
    let hash = "0123456789abcdef0123456789abcdef01234567";
    for name in [format!(".{hash}.parts"), format!(".{hash}.btsync"), format!(".{}.Parts", hash.to_uppercase())] {
        let temp = TestDir::new();
        let (payload, peer) = hidden(&temp, &name);
        let output = download(&temp, "x.torrent", &peer, &["--allow-hidden"]);
        assert_eq!(code(&output), Some(0), "{}", stderr(&output));
        assert!(!temp.path("out").join(&name).exists());
        assert_eq!(fs::read(temp.path("out").join(name.replacen('.', "_", 1))).expect("it"), payload.content());
    }
}

/// The content of all files below a folder, by path.
fn snapshot(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(snapshot(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).expect("a file"));
        }
    }
    found
}

#[test]
fn the_creator_of_a_torrent_seeds_the_original_and_nothing_is_written_into_it() {
    let names = [".hidden", "plain", "c\x01 d", "a\\b"];
    for name in names {
        let temp = TestDir::new();
        let source = temp.folder("home").join(name);
        fs::create_dir_all(source.join("sub\\x")).expect("a folder");
        for (file, size) in [("a\\b", 40_000), ("sub\\x/line\nbreak", 50_000), ("plain", 30_000), ("sub\\x/empty", 0)] {
            fs::write(source.join(file), vec![file.len() as u8; size]).expect("a file");
        }
        let made = create(&temp, "home", &[name, "-o", "../x.torrent", "--piece-length", "16K"]);
        assert_eq!(code(&made), Some(0), "{}", stderr(&made));
        let before = snapshot(&temp.path("home"));
        let run = |words: &[&str]| {
            let mut command = offline_btsync(&temp);
            command.args(words).args(if words[0] == "verify" { &[][..] } else { &["--bt-exclude-tracker", "*"] });
            let mut verify = btsync();
            let command = if words[0] == "verify" { verify.args(words) } else { &mut command };
            command.current_dir(temp.path("")).output().expect("btsync runs")
        };
        // The second time with resume data.
        for words in
            [&["verify", "x.torrent", "home"][..], &["x.torrent", "home"], &["x.torrent", "home", "--seed-time", "0"]]
        {
            let output = run(words);
            assert_eq!(code(&output), Some(0), "{name:?} {words:?}: {}", stderr(&output));
            assert!(snapshot(&temp.path("home")) == before, "{name:?} {words:?}: something was written");
        }
        // If a file is damaged, btsync writes the data under the safe name instead.
        let damaged = source.join("a\\b");
        fs::write(&damaged, [vec![1], vec![3; 39_999]].concat()).expect("a file");
        let before = snapshot(&temp.path("home"));
        let output = run(&["x.torrent", "home", "--stop-timeout", "0.1"]);
        assert_eq!(code(&output), Some(2), "{name:?}: {}", stderr(&output));
        let after = snapshot(&temp.path("home"));
        assert!(before.iter().all(|(path, bytes)| after.get(path) == Some(bytes)), "{name:?}: an original was changed");
        assert!(after.keys().any(|path| path.ends_with("a_b")), "{name:?}: {:?}", after.keys());
        let output = run(&["verify", "x.torrent", "home"]);
        assert_eq!(code(&output), Some(32), "{name:?}: {}", stderr(&output));
    }
}

#[test]
fn links_and_executable_files_are_created() {
    let temp = TestDir::new();
    let hash: [u8; 20] = Sha1::digest(b"#!/bin/sh\n").into();
    let entry = |attr: &str, name: &str, more: (&str, &[u8])| {
        dictionary(&[("attr", &string(attr)), more, ("path", &path(&["bin", name]))])
    };
    let run = entry("x", "run", ("length", b"i10e"));
    let link =
        dictionary(&[("attr", &string("l")), ("path", &path(&["link"])), ("symlink path", &path(&["bin", "run"]))]);
    let files = list(&[&run, &link, &file(&["empty", ""], "i0e")]);
    let info = dictionary(&[
        ("files", &files),
        ("name", &string("t")),
        ("piece length", b"i16384e"),
        ("pieces", &string(hash)),
    ]);
    let torrent = temp.path("x.torrent");
    fs::write(&torrent, dictionary(&[("info", &info)])).expect("a torrent");
    let seed = temp.folder("seed/t/bin");
    fs::write(seed.join("run"), "#!/bin/sh\n").expect("a file");
    let port = free_port();
    let mut seeder = temp.btsync("seed", &torrent, &temp.path("seed"), port, &["--seed"]);
    seeder.wait_for_output("listening");
    let peer = format!("127.0.0.1:{port}");
    temp.btsync("get", &torrent, &temp.path("out"), free_port(), &["--peer", &peer]).expect_exit(0);
    let at = |name: &str| temp.path("out/t").join(name);
    let mode = |path: PathBuf| fs::metadata(path).expect("it").permissions().mode();
    assert!(mode(at("bin/run")) & 0o100 != 0);
    assert_eq!(fs::read_link(at("link")).expect("a link"), Path::new("bin/run"));
    assert!(at("empty").is_dir());
    // Existing files stay unchanged.
    assert!(mode(seed.join("run")) & 0o111 == 0 && !temp.path("seed/t/link").is_symlink());
    seeder.terminate(0);
}

#[test]
fn no_link_of_a_torrent_becomes_the_configuration() {
    let temp = TestDir::new();
    let link =
        dictionary(&[("attr", &string("l")), ("path", &path(&["btsync", "config"])), ("symlink path", &path(&["x"]))]);
    let info = dictionary(&[
        ("files", &list(&[&file(&["x"], "i1e"), &link])),
        ("name", &string("config")),
        ("piece length", b"i16384e"),
        ("pieces", &string([7; 20])),
    ]);
    fs::write(temp.path("x.torrent"), dictionary(&[("info", &info)])).expect("a torrent");
    let mut command = offline_btsync(&temp);
    command.args(["x.torrent", ".", "--overwrite", "--stop-timeout", "1"]).env("XDG_CONFIG_HOME", temp.path("config"));
    let output = command.output().expect("btsync runs");
    assert_eq!(code(&output), Some(13), "{}", stderr(&output));
    assert!(stderr(&output).contains("btsync's own files or folders"), "{}", stderr(&output));
    assert!(!temp.path("config").exists(), "nothing is created");
}

#[test]
fn a_file_beyond_the_limit_of_the_process_is_reported_before_anything_is_made() {
    let temp = TestDir::new();
    let (_payload, peer) = hidden(&temp, "large");
    for allocation in ["none", "sparse", "falloc"] {
        let mut shell = Command::new("sh");
        shell.args(["-c", "ulimit -f 64; exec \"$@\"", "sh"]).arg(btsync().get_program());
        shell.args(["x.torrent", "out", "--no-dht", "--no-lsd", "-p", PORT_RANGE, "--file-allocation", allocation]);
        shell.args(["--bt-exclude-tracker", "*", "--peer", &peer.addr().to_string()]).current_dir(temp.path(""));
        let output = without_settings(&mut shell).env("XDG_CACHE_HOME", temp.path("cache")).output().expect("it runs");
        let said = stderr(&output);
        assert_eq!(code(&output), Some(9), "{allocation}: {said}");
        assert!(said.contains("large") && said.contains("ulimit -f"), "{allocation}: {said}");
    }
    assert!(snapshot(&temp.path("")).keys().all(|path| !path.ends_with("out/large")), "a file was made");
}

#[test]
fn limits_of_the_file_system_are_reported_before_anything_is_created() {
    const TEST: &str = "limits_of_the_file_system_are_reported_before_anything_is_created";
    if !has_case_fs(TEST) {
        return;
    }
    in_network_namespace(TEST, &[], || {
        let temp = TestDir::new();
        let (out, backing) = (temp.folder("out"), temp.folder("backing"));
        let _mounted = case_fs::mount(&temp, &out, &backing, 150_000);
        let is_empty = || fs::read_dir(&backing).expect("a folder").count() == 0;
        let payload = Payload::tree("t", &[("A.txt", 40_000), ("a.TXT", 50_000), ("b", 10)], 16 * 1024);
        let peer = ExtendedPeer::honest(&payload, || true);
        fs::write(temp.path("x.torrent"), payload.torrent("http://127.0.0.1:9/announce")).expect("a torrent");
        let output = download(&temp, "x.torrent", &peer, &[]);
        let said = stderr(&output);
        assert_eq!((code(&output), said.lines().count()), (Some(13), 1), "{said}");
        assert!(said.contains("A.txt") && said.contains("a.TXT") && said.contains("ignores case"), "{said}");
        assert!(is_empty(), "{:?}", snapshot(&backing));
        for more in [&["--select", "1,3"][..], &["--out", "2=t/other"]] {
            let output = download(&temp, "x.torrent", &peer, more);
            assert_eq!(code(&output), Some(0), "{more:?}: {}", stderr(&output));
        }
        fs::remove_dir_all(out.join("t")).expect("it was there");

        let payload = Payload::single("large", 200_000, 16 * 1024);
        let peer = ExtendedPeer::honest(&payload, || true);
        fs::write(temp.path("x.torrent"), payload.torrent("http://127.0.0.1:9/announce")).expect("a torrent");
        let output = download(&temp, "x.torrent", &peer, &[]);
        let said = stderr(&output);
        assert_eq!((code(&output), said.lines().count()), (Some(9), 1), "{said}");
        assert!(said.contains("large") && is_empty(), "{said}");
    });
}

#[test]
fn data_behind_links_that_lead_out_is_verified_and_seeded_and_never_written() {
    let temp = TestDir::new();
    let (payload, _peer) = hidden(&temp, "data");
    payload.write_files(&temp.folder("store"));
    symlink("../store/data", temp.folder("out").join("data")).expect("a link");
    let run = |words: &[&str]| {
        offline_btsync(&temp).args(words).args(["--bt-exclude-tracker", "*"]).output().expect("it runs")
    };
    let verify = || btsync().args(["verify", "x.torrent", "out"]).current_dir(temp.path("")).output().expect("it runs");
    assert_eq!(code(&verify()), Some(0), "{}", stderr(&verify()));
    let output = run(&["x.torrent", "out", "--seed-time", "0.01"]);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));

    let mut wrong = payload.content();
    wrong[0] ^= 1;
    fs::write(temp.path("store/data"), &wrong).expect("a file");
    assert_eq!(code(&verify()), Some(32), "{}", stderr(&verify()));
    let output = run(&["x.torrent", "out", "--stop-timeout", "0.1"]);
    assert_eq!(code(&output), Some(16), "{}", stderr(&output));
    assert!(stderr(&output).contains("leads out of the download folder"), "{}", stderr(&output));
    assert_eq!(fs::read(temp.path("store/data")).expect("it"), wrong);
    assert!(temp.path("out/data").is_symlink());
}

#[test]
fn unfinished_files_have_a_suffix_until_all_is_there_whatever_happens_meanwhile() {
    let temp = TestDir::new();
    let swarm = Swarm::new(&temp, "one", 3);
    let suffix = ["one.torrent", "out", "--incomplete-suffix", ".part", "--json"];
    let verify = || {
        let words = ["verify", "one.torrent", "out", "--incomplete-suffix", ".part"];
        btsync().args(words).current_dir(temp.path("")).output().expect("btsync runs")
    };
    let (own, unfinished) = (temp.path("out/one"), temp.path("out/one.part"));
    for run in 0..3 {
        let mut running = temp.start("killed", offline_btsync(&temp).args(suffix));
        until("blocks were served", || swarm.gate.served() == 3 * (run + 1));
        running.signal("KILL");
        running.end_within(PATIENCE);
        swarm.gate.grant(3);
        assert!(unfinished.exists() && !own.exists());
    }
    let output = verify();
    assert_eq!(code(&output), Some(32), "{}", stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("unfinished one.part\n"), "{output:?}");
    let is_marker = |path: &PathBuf| path.extension().is_some_and(|suffix| suffix == "btsync");
    let marker = snapshot(&temp.path("out")).into_keys().find(is_marker).expect("a marker");
    fs::hard_link(&marker, temp.path("kept")).expect("a second name");
    swarm.gate.open();
    let output = offline_btsync(&temp).args(suffix).output().expect("btsync runs");
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    swarm.assert_complete_in(&temp.path("out"));
    assert!(!unfinished.exists() && !marker.exists());
    let done: Vec<Value> = events(&output).into_iter().filter(|event| event["event"] == "file_done").collect();
    assert!(done.len() == 1 && done[0]["path"] == "one", "{done:?}");
    assert!(verify().stdout.is_empty());

    // A file that the user named like this keeps its name.
    fs::rename(&own, &unfinished).expect("a name");
    let output = offline_btsync(&temp).args(suffix).output().expect("btsync runs");
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    assert!(!own.exists() && unfinished.exists());

    // If the process died before it could rename the file, the marker records that the file is btsync's.
    fs::rename(temp.path("kept"), &marker).expect("a name");
    let output = offline_btsync(&temp).args(suffix).output().expect("btsync runs");
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    assert!(own.exists() && !unfinished.exists());
}

#[test]
fn a_suffix_goes_with_a_selection_another_place_and_several_torrents() {
    let temp = TestDir::new();
    let payload = Payload::tree("t", &[("a", 40_000), ("b", 50_000), ("a.part", 100), ("c", 0)], 16 * 1024);
    let peer = ExtendedPeer::honest(&payload, || true);
    fs::write(temp.path("x.torrent"), payload.torrent("http://127.0.0.1:9/announce")).expect("a torrent");
    let names = || -> Vec<String> {
        let path = |path: PathBuf| path.strip_prefix(temp.path("out")).expect("below").to_string_lossy().into_owned();
        snapshot(&temp.path("out")).into_keys().map(path).filter(|name| !name.starts_with('.')).collect()
    };
    let run = |more: &[&str]| {
        let output = download(&temp, "x.torrent", &peer, &[&["--incomplete-suffix", ".part"], more].concat());
        assert_eq!(code(&output), Some(0), "{more:?}: {}", stderr(&output));
        names()
    };
    assert_eq!(run(&["--select", "2", "--out", "2=d/e"]), ["d/e"]);
    fs::remove_dir_all(temp.path("out")).expect("it was there");
    assert_eq!(run(&["--select", "1"]), ["t/a"]);
    assert_eq!(run(&[]), ["t/a", "t/a.part", "t/b", "t/c"]);
    payload.assert_at(&temp.path("out"));

    let swarms = ["one", "two"].map(|name| Swarm::new(&temp, name, usize::MAX));
    let output =
        offline_btsync(&temp).args(["one.torrent", "two.torrent", "both", "--incomplete-suffix", "~"]).output();
    assert_eq!(code(&output.expect("btsync runs")), Some(0));
    for swarm in &swarms {
        swarm.assert_complete_in(&temp.path("both"));
    }
}

#[test]
fn padding_is_read_as_zeros_and_nobody_is_asked_for_it() {
    let temp = TestDir::new();
    let source = temp.folder("seed").join("t");
    fs::create_dir_all(&source).expect("a folder");
    for name in ["a", "b", "c"] {
        fs::write(source.join(name), vec![7; 20_000]).expect("a file");
    }
    let made = create(&temp, "seed", &["t", "-o", "../x.torrent", "--pad-files", "--piece-length", "128K"]);
    assert_eq!(code(&made), Some(0), "{}", stderr(&made));
    let (torrent, port) = (temp.path("x.torrent"), free_port());
    let mut seeder = temp.btsync("seed", &torrent, &temp.path("seed"), port, &["--seed"]);
    seeder.wait_for_output("listening");
    let mut command = offline_btsync(&temp);
    command.args(["x.torrent", "out", "--peer", &format!("127.0.0.1:{port}"), "--json"]);
    let output = command.output().expect("btsync runs");
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let downloaded = events(&output).iter().filter_map(|event| event["downloaded"].as_u64()).max();
    // Two blocks of each file; the last file has 20,000 bytes.
    assert_eq!(downloaded, Some(4 * 16_384 + 20_000));
    assert_eq!(fs::read_dir(temp.path("out/t")).expect("a folder").count(), 3);
    seeder.terminate(0);
}
