//! Every exit code with a real cause: the whole table of `src/cli/exit.rs`. Other tests have further causes of the same codes
//! (`basics.rs`, `tools.rs`, `json.rs`, and `faults.rs` and `private.rs` in other groups).

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::netns::{installed, not_run};
use crate::common::payload::Payload;
use crate::common::process::{copy_program, without_settings};
use crate::common::seeder::{FakePeer, Gate};
use crate::common::{PORT_RANGE, TestDir, btsync};

/// A folder with `payload.bin` and `payload.torrent`, which names no tracker that answers. Each cause is prepared in it.
struct Fixture {
    temp: TestDir,
    payload: Payload,
}

/// The exit code and the text on standard error.
type RunResult = (Option<i32>, String);

impl Fixture {
    fn new() -> Fixture {
        let (temp, payload) = (TestDir::new(), Payload::single("payload.bin", 200_000, 16 * 1024));
        payload.write_files(&temp.path(""));
        fs::write(temp.path("payload.torrent"), payload.torrent("http://127.0.0.1:9/announce")).expect("a torrent");
        Fixture { temp, payload }
    }

    fn file(&self, name: &str, text: &str) {
        fs::write(self.temp.path(name), text).expect("a file");
    }

    /// Runs the program with these arguments.
    fn run(&self, line: &str) -> RunResult {
        self.end(btsync().args(line.split(' ')))
    }

    /// Runs `payload.torrent FOLDER` with further options and no way to find peers.
    fn download(&self, folder: &str, more: &str) -> RunResult {
        let no_peers = format!("--no-dht --no-lsd --bt-exclude-tracker * --listen-port {PORT_RANGE}");
        self.run(format!("payload.torrent {folder} {no_peers} {more}").trim_end())
    }

    fn end(&self, command: &mut Command) -> RunResult {
        let command = command.current_dir(self.temp.path("")).stdin(Stdio::null());
        let output = command.env("XDG_CACHE_HOME", self.temp.path("cache")).output().expect("the program starts");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// Prepares the cause, runs the program and returns how it ended.
type Cause = fn(&Fixture) -> RunResult;

/// A cause for each exit code.
const CAUSES: [(i32, Cause); 20] = [
    (0, |fixture| fixture.download(".", "")),
    (1, |fixture| fixture.run("create /dev/null")),
    (2, |fixture| fixture.download("out", "--stop-timeout 0.1")),
    (6, |fixture| {
        let taken = TcpListener::bind("[::]:0").or_else(|_| TcpListener::bind("0.0.0.0:0")).expect("a port");
        let port = taken.local_addr().expect("its address").port();
        fixture.run(&format!("payload.torrent out --no-dht --no-lsd --listen-port {port}"))
    }),
    (7, |fixture| {
        let mut command = btsync();
        command.args(["payload.torrent", "out", "--no-dht", "--no-lsd", "-p", PORT_RANGE]);
        command.current_dir(fixture.temp.path("")).env("XDG_CACHE_HOME", fixture.temp.path("cache"));
        let mut running = fixture.temp.start("stopped", &mut command);
        running.wait_for_output("listening on port");
        running.signal("TERM");
        (running.end_within(crate::common::PATIENCE), running.log())
    }),
    (9, |fixture| {
        // A shell's file size limit: 64 blocks of 512 bytes, less than the download.
        let (gate, mut shell) = (Gate::new(usize::MAX), Command::new("sh"));
        let peer = FakePeer::honest(&fixture.payload, &gate);
        shell.args(["-c", "ulimit -f 64; exec \"$@\"", "sh"]).arg(btsync().get_program());
        shell.args(["payload.torrent", "out", "--no-dht", "--no-lsd", "-p", PORT_RANGE]);
        shell.args(["--bt-exclude-tracker", "*", "--peer", &peer.addr.to_string()]);
        fixture.end(without_settings(&mut shell))
    }),
    (11, |fixture| {
        let mut first = btsync();
        first.args(["payload.torrent", "out", "--no-dht", "--no-lsd", "-p", PORT_RANGE]);
        first.current_dir(fixture.temp.path("")).env("XDG_CACHE_HOME", fixture.temp.path("cache"));
        let mut first = fixture.temp.start("first", &mut first);
        first.wait_for_output("listening on port");
        fixture.download("out", "")
    }),
    (13, |fixture| {
        fixture.temp.folder("out/payload.bin");
        fixture.download("out", "")
    }),
    (14, |fixture| {
        fixture.temp.folder("taken/within");
        fixture.run("create payload.bin -o taken --force")
    }),
    (15, |fixture| fixture.run("missing.torrent")),
    (16, |fixture| fixture.run("create payload.bin -o nowhere/x.torrent")),
    (17, |fixture| {
        let full = File::options().write(true).open("/dev/full").expect("/dev/full");
        fixture.end(btsync().args(["edit", "payload.torrent", "--comment", "x", "-o", "-"]).stdout(full))
    }),
    (18, |fixture| fixture.download("payload.bin", "")),
    // A label has 63 letters at most, so the name fails without a resolver.
    (19, |fixture| fixture.download("out", &format!("--peer {}.invalid:6881", "x".repeat(64)))),
    (25, |fixture| {
        fixture.file("text.torrent", "hello");
        fixture.run("text.torrent")
    }),
    (26, |fixture| {
        fixture.file("other.torrent", "d3:onei1ee");
        fixture.run("other.torrent")
    }),
    (27, |fixture| fixture.run("magnet:?xt=urn:btih:short")),
    (28, |fixture| fixture.run("payload.torrent --sede")),
    (32, |fixture| {
        File::options().write(true).open(fixture.temp.path("payload.bin")).expect("it").set_len(1000).expect("shorter");
        fixture.run("verify payload.torrent .")
    }),
    (33, |fixture| fixture.run("doctor payload.bin --wait 1 --interface lo --no-dht --no-port-mapping")),
];

#[test]
fn every_exit_code_has_a_real_cause() {
    for (code, cause) in CAUSES {
        let (ended, said) = cause(&Fixture::new());
        assert_eq!(ended, Some(code), "{said}");
        // The last line gives the reason; `verify` writes it to standard output.
        let reason = said.lines().next_back().is_some_and(|line| line.starts_with("btsync: "));
        assert!(reason || matches!(code, 0 | 32 | 33), "{code}: {said}");
    }
}

#[test]
fn no_exit_code_is_without_its_cause() {
    let source = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/exit.rs")).expect("the table");
    let code = |line: &str| line.trim().strip_suffix(',')?.split_once(" = ")?.1.parse().ok();
    let codes: BTreeSet<i32> = source.lines().filter_map(code).collect();
    assert!(codes.contains(&0) && codes.contains(&28), "no codes in src/cli/exit.rs: {codes:?}");
    assert_eq!(CAUSES.iter().map(|&(code, _)| code).collect::<BTreeSet<_>>(), codes);
}

/// File modes do not bind root, so the program runs as another user.
#[test]
fn denied_permissions_have_their_exit_codes() {
    const TEST: &str = "denied_permissions_have_their_exit_codes";
    if !installed(TEST, &["setpriv"]) {
        return;
    }
    let fixture = Fixture::new();
    let root = fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0);
    let nobody: &[&str] =
        if root { &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"] } else { &["env"] };
    let mode = |name: &str, mode| {
        fs::set_permissions(fixture.temp.path(name), Permissions::from_mode(mode)).expect("a mode");
    };
    // The other user may lack access to the build folder.
    copy_program(&fixture.temp.path("program"));
    mode("program", 0o755);
    let run = |words: &[&str]| {
        let mut command = Command::new(nobody[0]);
        command.args(&nobody[1..]).arg(fixture.temp.path("program")).args(words);
        command.args(["--no-dht", "--no-lsd", "-p", PORT_RANGE]);
        fixture.end(without_settings(&mut command))
    };
    fixture.temp.folder("locked");
    mode("", 0o555);
    let (code, said) = run(&["payload.torrent", "payload.bin/x"]);
    if code == Some(126) || code == Some(127) {
        return not_run(TEST, &format!("another user cannot start the program here: {said}"));
    }
    assert_eq!(code, Some(18), "{said}");
    let (code, said) = run(&["payload.torrent", "out"]);
    assert_eq!(code, Some(18), "a folder that may not be made: {said}");
    mode("locked", 0o555);
    let (code, said) = run(&["payload.torrent", "locked"]);
    assert_eq!(code, Some(16), "a file that may not be made: {said}");
    mode("payload.torrent", 0o000);
    let (code, said) = run(&["payload.torrent", "out"]);
    assert_eq!(code, Some(15), "a torrent that may not be read: {said}");
    mode("", 0o755);
}
