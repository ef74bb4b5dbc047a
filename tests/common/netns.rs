//! A network of its own for a test: transmission refuses peers in 127.0.0.0/8, and nobody outside shall be called.
//!
//! A test binary cannot move into a namespace once it has threads, so the test runs itself again under `unshare`.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Set in the process that is inside.
const INSIDE: &str = "BTSYNC_NETNS";

/// An address on the test's own network; 1 to 10.
pub fn address(host: u8) -> String {
    format!("10.88.0.{host}")
}

/// Runs `body` in a network namespace with the addresses 10.88.0.1 to 10 and their IPv6 fellows. `test` is the test's own
/// name and `programs` are those it needs: a missing one is an error under CI=true, and otherwise reported as not run.
pub fn isolated(test: &str, programs: &[&str], body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        bring_up();
        return body();
    }
    for program in ["unshare", "ip"].iter().chain(programs) {
        if find(program).is_none() {
            return not_run(test, &format!("{program} is not installed; scripts/test-setup.sh installs it"));
        }
    }
    let root = std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0);
    if !root && programs.contains(&"opentracker") {
        return not_run(test, "opentracker insists on giving up root, and without root there is nothing to give up");
    }
    let unshare: &[&str] = if root { &["-n"] } else { &["-r", "-n"] };
    if !Command::new("unshare").args(unshare).arg("true").status().is_ok_and(|status| status.success()) {
        return not_run(test, "this machine allows no network namespaces");
    }
    let itself = std::env::current_exe().expect("the path of this test binary");
    let output = Command::new("unshare")
        .args(unshare)
        .args(["--fork", "--kill-child", "--"])
        .arg(itself)
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .env("PATH", path())
        .output()
        .expect("unshare was there a moment ago");
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{test}, in its namespace:\n{complained}{said}");
    // A name that does not match runs nothing and succeeds at it.
    assert!(said.contains("1 passed"), "no test named {test} ran in the namespace:\n{said}");
}

/// Says loudly that a test was not run; where everything must run, that is a failure.
fn not_run(test: &str, why: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{test} cannot run: {why}");
    // Past the test harness, which swallows what passing tests print.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("NOT RUN: {test}: {why}\n").as_bytes());
}

/// The first address is the source of what does not choose its own, such as btsync. Were each a /32, a caller would seem to
/// call from the very address it calls, and transmission takes that for itself once a tracker has told it its own address.
fn bring_up() {
    let add = |host| {
        let v4 = address(host);
        // A machine without IPv6 serves for all tests that do not ask for it.
        format!("ip addr add {v4}/24 dev lo; ip addr add fd88::{host:x}/128 dev lo nodad || true;")
    };
    let script = format!("set -e; ip link set lo up; {}", (1..=10).map(add).collect::<String>());
    let status = Command::new("sh").args(["-c", &script]).status().expect("sh");
    assert!(status.success(), "cannot set up the namespace's addresses");
}

/// The search path, with the folders where Debian puts daemons and which not every user has.
fn path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

/// Where a program is; a name with a slash is a path in the repository.
pub fn find(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(Path::new(env!("CARGO_MANIFEST_DIR")).join(program)).filter(|path| path.exists());
    }
    path().split(':').map(|dir| Path::new(dir).join(program)).find(|path| path.is_file())
}
