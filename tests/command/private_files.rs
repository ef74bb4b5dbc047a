//! No torrent writes to btsync's configuration, which can run commands, nor to its other files, whatever leads there.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::common::batch::{code, offline_btsync, stderr};
use crate::common::netns::in_network_namespace;
use crate::common::payload::Payload;
use crate::common::{TestDir, until};

/// Runs btsync with a torrent of this name, in the home folder. Returns the exit code and the output.
fn run(home: &TestDir, folder: &str, payload: &Payload, more: &[&str]) -> (Option<i32>, String) {
    fs::write(home.path("x.torrent"), payload.torrent("http://127.0.0.1:9/announce")).expect("a torrent");
    let mut command = offline_btsync(home);
    command.args(["x.torrent", folder, "--bt-exclude-tracker", "*", "--stop-timeout", "1"]).args(more);
    command.env("HOME", home.path(""));
    for variable in ["XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"] {
        command.env_remove(variable);
    }
    let output = command.output().expect("btsync runs");
    (code(&output), stderr(&output))
}

/// The same; the torrent must be refused, or not.
fn check(home: &TestDir, folder: &str, payload: &Payload, more: &[&str], is_refused: bool) {
    let (code, said) = run(home, folder, payload, &[&["--allow-hidden"], more].concat());
    assert_eq!(
        code == Some(13) && said.contains("one of btsync's own files or folders is there"),
        is_refused,
        "{said}"
    );
}

fn one(name: &str) -> Payload {
    Payload::single(name, 100, 16 * 1024)
}

fn tree(name: &str, path: &str) -> Payload {
    Payload::tree(name, &[(path, 100)], 16 * 1024)
}

#[test]
fn no_torrent_becomes_the_configuration_through_a_link_to_nothing() {
    // The file, its folder and the folder above, as tools that manage such files make them.
    let home = TestDir::new();
    home.folder(".config/btsync");
    symlink("../../dot/btsync.conf", home.path(".config/btsync/config")).expect("a link");
    check(&home, "dot", &one("btsync.conf"), &[], true);
    check(&home, "dot", &one("other.conf"), &[], false);
    let home = TestDir::new();
    home.folder(".config");
    symlink("../dot/btsync", home.path(".config/btsync")).expect("a link");
    check(&home, "dot", &tree("btsync", "config"), &[], true);
    check(&home, "dot", &tree("other", "config"), &[], false);
    let home = TestDir::new();
    symlink("dot/c", home.path(".config")).expect("a link");
    check(&home, "dot", &tree("c", "btsync/config"), &[], true);
}

#[test]
fn no_torrent_becomes_a_file_that_btsync_is_told_to_read() {
    let home = TestDir::new();
    home.folder("dl");
    for file in ["my.conf", "list"] {
        fs::write(home.path("dl").join(file), "").expect("room");
    }
    symlink("dl/my.conf", home.path("link")).expect("a link");
    for options in [["--config", "dl/my.conf"], ["--config", "link"]] {
        check(&home, "dl", &one("my.conf"), &options, true);
    }
    check(&home, "dl", &one("list"), &["--input-file", "dl/list"], true);
    check(&home, "dl", &one("list"), &["--block-list", "dl/list"], true);
    check(&home, "dl", &one("list"), &["--on-download-complete", "dl/list now"], true);
    check(&home, "dl", &one("list"), &["--on-download-complete", "echo dl/list"], false);
    check(&home, "dl", &one("other"), &["--config", "dl/my.conf"], false);
}

#[test]
fn no_torrent_takes_the_place_of_btsyncs_folders_or_of_a_folder_above_them() {
    for name in [".config", ".cache", ".local"] {
        check(&TestDir::new(), ".", &one(name), &[], true);
        check(&TestDir::new(), ".", &tree(name, "other"), &[], false);
    }
    check(&TestDir::new(), ".", &tree(".local", "state/btsync/x"), &[], true);
    check(&TestDir::new(), ".", &one(".conf"), &["--incomplete-suffix", "ig"], true);
    check(&TestDir::new(), ".", &one(".config"), &["--incomplete-suffix", ".part"], true);
}

#[test]
fn no_torrent_reads_btsyncs_own_files_under_its_original_name() {
    for (name, expected) in [(".config", Some(2)), (".other", Some(0))] {
        let home = TestDir::new();
        let payload = tree(name, "btsync/known");
        payload.write_files(&home.path(""));
        assert_eq!(run(&home, ".", &payload, &[]).0, expected, "{name}");
    }
}

#[test]
fn no_torrent_becomes_the_configuration_through_a_bind_mount() {
    const TEST: &str = "no_torrent_becomes_the_configuration_through_a_bind_mount";
    in_network_namespace(TEST, &["mount"], || {
        let home = TestDir::new();
        let (config, mounted) = (home.folder(".config/btsync"), home.folder("dl/x"));
        let mount = |from: &Path, to: &Path| {
            let status = Command::new("mount").arg("--bind").args([from, to]).status();
            assert!(status.expect("mount").success());
        };
        mount(&home.path(".config"), &mounted);
        until("it is mounted", || home.path("dl/x/btsync").exists());
        check(&home, "dl", &tree("x", "btsync/config"), &[], true);
        check(&home, "dl", &tree("x", "other/config"), &[], false);
        // The folder itself, and one that is not there yet.
        mount(&config, &home.folder("dl/y"));
        check(&home, "dl", &tree("y", "config"), &[], true);
        mount(&home.path(""), &home.folder("dl/z"));
        check(&home, "dl", &tree("z", ".cache/btsync/resume/x"), &[], true);
        assert_eq!(fs::read_dir(&config).expect("a folder").count(), 0);
    });
}

/// A command-line run does not know the options of a service.
#[test]
fn no_torrent_writes_into_the_state_folder_of_a_service() {
    let home = TestDir::new();
    for folder in ["bt/torrents", "bt/resume"] {
        home.folder(folder);
    }
    let mark = "This folder has the state of `btsync serve`, which locks this file.\n";
    fs::write(home.path("bt/lock"), mark).expect("a lock");
    symlink("bt", home.path("link")).expect("a link");
    let record = "torrents/0000000000000000000000000000000000000000.json";
    check(&home, ".", &tree("bt", record), &[], true);
    check(&home, ".", &tree("bt", record), &["--overwrite"], true);
    check(&home, "bt/torrents", &one("x.json"), &[], true);
    check(&home, ".", &tree("link", record), &[], true);
    check(&home, ".", &tree("bt2", record), &[], false);
    assert_eq!(fs::read_dir(home.path("bt/torrents")).expect("a folder").count(), 0);
}
