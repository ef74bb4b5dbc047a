//! Faults that root never sees: revoked permissions, a quota, a thread limit. btsync runs as an ordinary user. It reports what
//! the system refuses and ends with the right exit code, damages no file, and the same command resumes later.

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use crate::common::netns::{installed, not_run};
use crate::common::payload::Payload;
use crate::common::process::Running;
use crate::common::seeder::{FakePeer, Gate};
use crate::common::user::{User, set_mode};
use crate::common::wire::Wire;
use crate::common::{PATIENCE, TestDir, until};

/// Blocks in a piece of these tests.
const BLOCKS: usize = 4;

/// 3 MiB in one file.
fn one_file() -> Payload {
    Payload::single("payload.bin", (3 << 20) - 77, BLOCKS * 16 * 1024)
}

/// 3 MiB in a hundred files, most of which are closed at any given time.
fn many_files() -> Payload {
    let names: Vec<String> = (0..100).map(|n| format!("f{n:02}")).collect();
    let files: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 32_000)).collect();
    Payload::tree("many", &files, BLOCKS * 16 * 1024)
}

/// A user's download that a test can disturb.
struct UserDownload {
    temp: TestDir,
    payload: Payload,
    user: User,
    out: PathBuf,
}

impl UserDownload {
    fn new(payload: Payload) -> UserDownload {
        let temp = TestDir::new();
        let user = User::of(&temp);
        let out = user.folder(&temp, "out");
        UserDownload { temp, payload, user, out }
    }

    fn download(&self, peer: &FakePeer) -> Running {
        self.user.download(&self.temp, &self.payload, &self.out, &[peer], (&[], &[]))
    }

    /// A download that has received 60 blocks and gets no more until the gate opens.
    fn begun(&self) -> (Running, FakePeer, Arc<Gate>) {
        let gate = Gate::new(0);
        let peer = FakePeer::honest(&self.payload, &gate);
        gate.grant(60);
        let running = self.download(&peer);
        until("some is there", || gate.served() == 60 && self.payload.right_pieces(&self.out) > 0);
        (running, peer, gate)
    }

    /// Runs the same command again. It must complete and request nothing that was correct on disk before.
    fn completes(&self) {
        let right = self.payload.right_pieces(&self.out);
        let gate = Gate::new(usize::MAX);
        let peer = FakePeer::honest(&self.payload, &gate);
        self.download(&peer).expect_exit(0);
        self.payload.assert_at(&self.out);
        let lacking = (self.payload.pieces() - right) * BLOCKS;
        assert!(gate.served() <= lacking, "{} blocks for {lacking} that were missing", gate.served());
    }

    /// Sets the mode of the folder, of all files below it, or of both.
    fn set_modes(&self, folder: Option<u32>, files: Option<u32>) {
        if let Some(mode) = folder {
            set_mode(&self.out, mode);
        }
        if let Some(mode) = files {
            for (path, _) in self.payload.paths_with_content(&self.out) {
                set_mode(&path, mode);
            }
        }
    }
}

/// The process must end with this code, and the last line must give the reason.
fn is_refused(running: &mut Running, code: i32, words: &str) {
    running.expect_exit(code);
    let said = running.log();
    let last = said.lines().last().unwrap_or_default();
    assert!(last.starts_with("btsync: ") && last.contains(words), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn a_folder_that_may_not_be_written_is_refused_until_it_may() {
    if !installed("a_folder_that_may_not_be_written_is_refused_until_it_may", &["setpriv"]) {
        return;
    }
    let test = UserDownload::new(one_file());
    let peer = FakePeer::honest(&test.payload, &Gate::new(0));
    test.set_modes(Some(0o555), None);
    is_refused(&mut test.download(&peer), 16, "payload.bin: permission denied");
    assert_eq!(fs::read_dir(&test.out).expect("the folder").count(), 0);
    // A folder that cannot be created.
    let below = test.out.join("below");
    let mut refused = test.user.download(&test.temp, &test.payload, &below, &[&peer], (&[], &[]));
    is_refused(&mut refused, 18, "below: permission denied");
    test.set_modes(Some(0o755), None);
    test.completes();
}

/// Only the torrent's own folder is writable: the marker is there.
#[test]
fn a_killed_download_in_a_folder_of_its_own_resumes_where_the_one_above_is_not_writable() {
    if !installed("a_killed_download_in_a_folder_of_its_own_resumes_where_the_one_above_is_not_writable", &["setpriv"])
    {
        return;
    }
    let test = UserDownload::new(many_files());
    let own = test.user.folder(&test.temp, "out/many");
    test.set_modes(Some(0o555), None);
    let (mut running, peer, _) = test.begun();
    running.signal("KILL");
    running.end_within(PATIENCE);
    drop(peer);
    let names =
        |folder: &PathBuf| fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    let hidden = |name: &std::ffi::OsString| name.as_encoded_bytes().starts_with(b".");
    assert_eq!((names(&test.out).count(), names(&own).filter(hidden).count()), (1, 1), "the marker is in the folder");
    // The resume data does not help.
    fs::remove_dir_all(test.temp.path("btsync-cache")).expect("a cache");
    test.user.folder(&test.temp, "btsync-cache");
    test.completes();
    assert_eq!((names(&test.out).count(), names(&own).filter(hidden).count()), (1, 0), "nothing is left behind");
}

/// An empty file of this owner where the download goes.
fn with_empty_file(mode: u32) -> (UserDownload, PathBuf, (u64, u64)) {
    let test = UserDownload::new(one_file());
    let path = test.out.join("payload.bin");
    fs::write(&path, "").expect("a file");
    test.user.owns(&path);
    set_mode(&path, mode);
    let id = id(&path);
    (test, path, id)
}

/// A file's device and inode.
fn id(path: &Path) -> (u64, u64) {
    let found = fs::metadata(path).expect("a file");
    (found.dev(), found.ino())
}

#[test]
fn an_empty_file_that_may_not_be_written_is_not_replaced() {
    if !installed("an_empty_file_that_may_not_be_written_is_not_replaced", &["setpriv"]) {
        return;
    }
    let (test, path, before) = with_empty_file(0o444);
    let peer = FakePeer::honest(&test.payload, &Gate::new(0));
    is_refused(&mut test.download(&peer), 16, "payload.bin: permission denied");
    assert_eq!(id(&path), before);
    set_mode(&path, 0o644);
    test.completes();
    assert_ne!(id(&path), before, "another download may have made the empty one");
}

#[test]
fn an_empty_file_of_another_user_is_left_alone() {
    if !installed("an_empty_file_of_another_user_is_left_alone", &["setpriv"]) {
        return;
    }
    let (test, path, before) = with_empty_file(0o666);
    if test.user.id().is_none() {
        return not_run("an_empty_file_of_another_user_is_left_alone", "only root may give files away");
    }
    chown(&path, Some(0), None).expect("root may");
    let peer = FakePeer::honest(&test.payload, &Gate::new(0));
    is_refused(&mut test.download(&peer), 13, "payload.bin: it belongs to another user");
    assert_eq!((id(&path), fs::metadata(&path).expect("it").len()), (before, 0));
}

#[test]
fn data_that_a_program_outside_of_the_container_appends_to_an_empty_file_is_not_lost() {
    const TEST: &str = "data_that_a_program_outside_of_the_container_appends_to_an_empty_file_is_not_lost";
    if !installed(TEST, &["setpriv", "unshare"]) {
        return;
    }
    let (test, path, before) = with_empty_file(0o644);
    let container = ["unshare", "--user", "--map-current-user", "--pid", "--fork", "--mount-proc"];
    let command = ["--reuid=65534", "--clear-groups", "--"];
    if !Command::new("setpriv").args(command).args(container).arg("true").status().is_ok_and(|status| status.success())
    {
        return not_run(TEST, "this user may not create a namespace");
    }
    let mut log = fs::OpenOptions::new().append(true).open(&path).expect("the file");
    let peer = FakePeer::honest(&test.payload, &Gate::new(usize::MAX));
    test.user.download(&test.temp, &test.payload, &test.out, &[&peer], (&container, &[])).expect_exit(0);
    log.write_all(b"a line").expect("to be written");
    assert_eq!(id(&path), before);
    assert_eq!(fs::read(&path).expect("it"), [&test.payload.content()[..], b"a line"].concat());
}

#[test]
fn files_that_became_read_only_end_the_download_when_they_are_opened() {
    if !installed("files_that_became_read_only_end_the_download_when_they_are_opened", &["setpriv"]) {
        return;
    }
    let test = UserDownload::new(many_files());
    let (mut running, _peer, gate) = test.begun();
    test.set_modes(None, Some(0o444));
    gate.open();
    is_refused(&mut running, 16, "permission denied");
    let right = test.payload.right_pieces(&test.out);
    assert!(right > 0);
    // Once more while the files are still read-only; the data on disk stays.
    let peer = FakePeer::honest(&test.payload, &gate);
    is_refused(&mut test.download(&peer), 16, "permission denied");
    assert!(test.payload.right_pieces(&test.out) >= right);
    test.set_modes(None, Some(0o644));
    test.completes();
}

#[test]
fn a_file_that_is_open_is_written_to_its_end_whatever_its_mode_becomes() {
    if !installed("a_file_that_is_open_is_written_to_its_end_whatever_its_mode_becomes", &["setpriv"]) {
        return;
    }
    let test = UserDownload::new(one_file());
    let (mut running, _peer, gate) = test.begun();
    test.set_modes(Some(0o555), Some(0o444));
    gate.open();
    running.expect_exit(0);
    assert_eq!(test.payload.difference(&test.out), None);
    // btsync cannot remove the marker, so it empties it; the next run removes it. A complete file need not be writable.
    test.set_modes(Some(0o755), None);
    test.completes();
    test.set_modes(None, Some(0o644));
}

#[test]
fn a_folder_that_may_not_be_entered_any_more_is_no_success() {
    if !installed("a_folder_that_may_not_be_entered_any_more_is_no_success", &["setpriv"]) {
        return;
    }
    for payload in [one_file(), many_files()] {
        let test = UserDownload::new(payload);
        let (mut running, _peer, gate) = test.begun();
        test.set_modes(Some(0), None);
        gate.open();
        is_refused(&mut running, 16, "permission denied");
        test.set_modes(Some(0o755), None);
        test.completes();
    }
}

#[test]
fn a_quota_that_is_used_up_is_a_full_disk() {
    const TEST: &str = "a_quota_that_is_used_up_is_a_full_disk";
    if !installed(TEST, &["setpriv", "strace"]) {
        return;
    }
    if !Command::new("strace").args(["-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success()) {
        return not_run(TEST, "this machine lets nobody trace a process");
    }
    // Few kernels support quotas on a file system that a test can mount, so strace injects the error.
    let quota = ["-e", "trace=pwritev", "-e", "inject=pwritev:error=EDQUOT:when=6+"];
    let limits = [&["strace", "-f", "-qq", "-o", "/dev/null"][..], &quota].concat();
    let test = UserDownload::new(one_file());
    let peer = FakePeer::honest(&test.payload, &Gate::new(usize::MAX));
    let mut right = 0;
    for _ in 0..2 {
        let mut full = test.user.download(&test.temp, &test.payload, &test.out, &[&peer], (&limits, &[]));
        is_refused(&mut full, 9, "payload.bin: disk quota exceeded");
        let now = test.payload.right_pieces(&test.out);
        assert!(now > right, "{now} pieces after {right}");
        right = now;
    }
    test.completes();
}

/// A download from 20 peers by a user with a thread limit, which gives up if nothing has come for `patience` seconds. If it does not
/// complete, it must complete later without the limit.
fn with_threads(test_name: &str, threads: usize, patience: &str, code: impl FnOnce(i32) -> bool) {
    if !installed(test_name, &["setpriv", "prlimit"]) {
        return;
    }
    let test = UserDownload::new(one_file());
    if test.user.id().is_none() {
        return not_run(test_name, "the limit counts all that a user runs, so it takes a user of its own");
    }
    let gate = Gate::new(usize::MAX);
    let peers: Vec<_> = (0..20).map(|_| FakePeer::honest(&test.payload, &gate)).collect();
    let limit = format!("--nproc={threads}");
    // Resolving the name takes a thread.
    let given_up = ["--stop-timeout", patience, "--bt-tracker", "http://localhost:9/announce"];
    let all: Vec<&FakePeer> = peers.iter().collect();
    let limits = (&["prlimit", &limit][..], &given_up[..]);
    let mut running = test.user.download(&test.temp, &test.payload, &test.out, &all, limits);
    let ended = running.end_within(crate::common::PATIENCE);
    let said = running.log();
    assert!(ended.is_some_and(code), "{threads} threads: {ended:?}: {said}");
    assert!(!said.contains("panicked"), "{threads} threads: {said}");
    if ended == Some(0) {
        test.payload.assert_at(&test.out);
    } else {
        assert!(said.lines().last().is_some_and(|last| last.starts_with("btsync: ")), "{threads} threads: {said}");
        test.completes();
    }
}

#[test]
fn where_threads_run_out_fewer_peers_are_served() {
    for threads in [12, 14, 30] {
        with_threads("where_threads_run_out_fewer_peers_are_served", threads, "60", |code| code == 0);
    }
}

#[test]
fn without_any_thread_btsync_says_so() {
    // From the main thread alone to one too few for a single peer. btsync must report that nothing arrives, too.
    for threads in 1..8 {
        let known = |code| matches!(code, 0 | 1 | 2 | 6);
        with_threads("without_any_thread_btsync_says_so", threads, "3", known);
    }
}

/// Silent incoming connections use up all threads that a seed may have. Another peer is served all the same, and the silent ones
/// do not fill the log.
#[test]
fn where_threads_run_out_silent_connections_keep_nobody_out() {
    const TEST: &str = "where_threads_run_out_silent_connections_keep_nobody_out";
    if !installed(TEST, &["setpriv", "prlimit"]) {
        return;
    }
    let test = UserDownload::new(one_file());
    if test.user.id().is_none() {
        return not_run(TEST, "the limit counts all that a user runs, so it takes a user of its own");
    }
    test.payload.write_files(&test.out);
    let limits = (&["prlimit", "--nproc=24"][..], &["--seed"][..]);
    let running = test.user.download(&test.temp, &test.payload, &test.out, &[], limits);
    let port = || running.log().split_once("listening on port ")?.1.lines().next()?.parse().ok();
    until("it listens", || port().is_some());
    let addr = SocketAddr::from(([127, 0, 0, 1], port().expect("a port")));
    let begun = Instant::now();
    let silent: Vec<_> = (0..300).filter_map(|_| TcpStream::connect(addr).ok()).collect();
    until("it has no more threads", || running.log().contains("cannot handle the incoming connection from"));
    until("another connection is served", || {
        Wire::connect_and_handshake(addr, test.payload.info_hash()).is_ok_and(|mut wire| wire.receive().is_ok())
    });
    // Handshakes time out after ten seconds, so that may have made room instead. On a machine this slow, the test proves nothing.
    let still = silent.iter().filter(|stream| {
        let silence = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0]));
        silence.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    });
    assert!(still.count() > 0 || begun.elapsed().as_secs() >= 30, "not all of the silent connections were ended");
    let complaints = running.log().matches("cannot handle the incoming connection from").count() as u64;
    let most = 1 + begun.elapsed().as_secs() / 5;
    assert!(complaints <= most, "{complaints} lines about connections");
}
