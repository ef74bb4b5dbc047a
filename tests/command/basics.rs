//! The program as a shell sees it: exit codes, one line on stderr, and its reaction to a closed pipe or a signal.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::common::PORT_RANGE;

fn btsync(dir: &Path, args: &[&str]) -> Command {
    let mut command = crate::common::btsync();
    command.current_dir(dir).args(args).stdin(Stdio::null()).env_remove("RUST_LOG");
    command
}

fn run(dir: &Path, args: &[&str]) -> Output {
    btsync(dir, args).output().expect("the program starts")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The program must end with this code and print one line that contains `word`.
fn fails(dir: &Path, args: &[&str], code: i32, word: &str) {
    let output = run(dir, args);
    let words = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {words}");
    assert_eq!(words.lines().count(), 1, "{args:?}: {words}");
    assert!(words.starts_with("btsync: ") && words.contains(word), "{args:?}: {words}");
    assert!(output.stdout.is_empty(), "{args:?}");
}

/// A folder with `payload` of 100,000 bytes and `payload.torrent`, which names no tracker.
fn with_torrent() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let bytes: Vec<u8> = (0..100_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(dir.path().join("payload"), bytes).expect("the payload");
    let made = run(dir.path(), &["create", "payload", "-o", "payload.torrent"]);
    assert!(made.status.success(), "{}", stderr(&made));
    dir
}

#[test]
fn a_wrong_command_line_ends_with_28() {
    let dir = tempfile::tempdir().expect("a folder");
    fails(dir.path(), &["x.torrent", "out", "--sede"], 28, "'--seed'");
    fails(dir.path(), &["info", "x.torrent", "--jsn"], 28, "'--json'");
    fails(dir.path(), &["x.torrent", "--max-peers=many"], 28, "--max-peers");
    fails(dir.path(), &[], 28, "--help");
    fails(dir.path(), &["info"], 28, "");
}

/// The message about a URL without a host quotes it correctly.
#[test]
fn a_url_without_a_host_is_quoted_right() {
    let dir = tempfile::tempdir().expect("a folder");
    fails(dir.path(), &["http://"], 28, "'http://': a URL without a host");
    fails(dir.path(), &["udp://"], 28, "'udp://': only .torrent files, magnet links and http:// or https:// URLs are");
}

#[test]
fn every_command_that_is_suggested_has_its_help() {
    let dir = tempfile::tempdir().expect("a folder");
    for command in ["create", "edit", "help", "info", "list", "magnet", "tracker", "verify"] {
        let output = run(dir.path(), &["help", command]);
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""), "{command}");
        assert!(String::from_utf8_lossy(&output.stdout).contains(command), "{command}");
    }
}

/// A peer that accepts the connection but sends nothing still counts as known.
#[test]
fn a_peer_that_does_not_answer_is_known() {
    let dir = with_torrent();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = silent.local_addr().expect("its address").to_string();
    let words =
        ["payload.torrent", "out", "--no-dht", "--no-lsd", "-p", PORT_RANGE, "--stop-timeout=0.2", "--peer", &addr];
    let output = run(dir.path(), &words);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("the one known peer has not answered"), "{said}");
}

#[test]
fn a_torrent_that_is_none_has_its_codes() {
    let dir = tempfile::tempdir().expect("a folder");
    fails(dir.path(), &["missing.torrent", "out"], 15, "missing.torrent");
    fs::write(dir.path().join("text.torrent"), "hello").expect("a file");
    fails(dir.path(), &["text.torrent", "out"], 25, "text.torrent");
    fs::write(dir.path().join("other.torrent"), "d3:onei1ee").expect("a file");
    fails(dir.path(), &["other.torrent", "out"], 26, "other.torrent");
    assert!(!dir.path().join("out").exists(), "nothing is made for a torrent that is none");
}

#[test]
fn help_and_version_go_to_stdout() {
    let dir = tempfile::tempdir().expect("a folder");
    for args in [&["--help"][..], &["help"], &["help", "create"], &["info", "--help"], &["tracker", "-h"]] {
        let output = run(dir.path(), args);
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""), "{args:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("--"), "{args:?}");
    }
    let version = run(dir.path(), &["--version"]);
    assert_eq!(String::from_utf8_lossy(&version.stdout), concat!("btsync ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn a_closed_stdout_or_stderr_changes_no_exit_code() {
    let dir = tempfile::tempdir().expect("a folder");
    for (args, code) in [(&["--help"][..], 0), (&["help", "create"], 0), (&["--nonsense"], 28)] {
        let closed = || std::io::pipe().map(|(_, writer)| writer).expect("a pipe");
        let status = btsync(dir.path(), args).stdout(closed()).stderr(closed()).status().expect("the program starts");
        assert_eq!(status.code(), Some(code), "{args:?}");
    }
}

#[test]
fn existing_data_is_checked_and_the_download_ends() {
    let dir = with_torrent();
    let output = run(dir.path(), &["payload.torrent"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("already on disk"), "{}", stderr(&output));
    let quiet = run(dir.path(), &["payload.torrent", ".", "--quiet"]);
    assert_eq!((quiet.status.code(), stderr(&quiet).as_str()), (Some(0), ""));
}

#[test]
fn a_download_without_end_stops_with_7_and_with_0_once_it_is_whole() {
    let dir = with_torrent();
    for (folder, code) in [("elsewhere", 7), (".", 0)] {
        let args = ["payload.torrent", folder, "--seed", "--listen-port", PORT_RANGE];
        let mut child = btsync(dir.path(), &args).stderr(Stdio::piped()).spawn().expect("the program starts");
        let mut lines = BufReader::new(child.stderr.take().expect("its stderr")).lines().map_while(Result::ok);
        assert!(lines.any(|line| line.contains("listening on port")), "{folder}");
        let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill runs");
        assert!(killed.success());
        let rest: Vec<_> = lines.collect();
        assert_eq!(child.wait().expect("it ends").code(), Some(code), "{folder}: {rest:?}");
        assert_eq!(code == 7, rest.iter().any(|line| line.contains("stopped at")), "{rest:?}");
    }
}

#[test]
fn a_folder_that_cannot_be_made_ends_with_18() {
    let dir = with_torrent();
    let output = run(dir.path(), &["payload.torrent", "payload"]);
    assert_eq!(output.status.code(), Some(18), "{}", stderr(&output));
    assert!(stderr(&output).contains("payload"), "{}", stderr(&output));
}
