//! A network of its own for a test: transmission refuses peers in 127.0.0.0/8, and nobody outside shall be called.
//!
//! A test binary cannot move into a namespace once it has threads, so the test runs itself again under `unshare`.

use std::os::unix::fs::MetadataExt;
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Set in the process in which a test runs again: inside its namespace, or alone.
const INSIDE: &str = "BTSYNC_NETNS";

/// An address on the test's own network; 1 to 10.
pub fn address(host: u8) -> String {
    format!("10.88.0.{host}")
}

/// Runs `body` in a network and mount namespace with the addresses 10.88.0.1 to 10 and their IPv6 fellows. `test` is the test's own
/// name and `programs` are those it needs: a missing one is an error under CI=true, and otherwise reported as not run.
#[track_caller]
pub fn isolated(test: &str, programs: &[&str], body: impl FnOnce()) {
    let full_name = full_name(test, Location::caller());
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
    let unshare: &[&str] = if root { &["-n", "-m"] } else { &["-r", "-n", "-m"] };
    if !Command::new("unshare").args(unshare).arg("true").status().is_ok_and(|status| status.success()) {
        return not_run(test, "this machine allows no network namespaces");
    }
    let mut command = Command::new("unshare");
    command.args(unshare).args(["--fork", "--kill-child", "--"]).arg(itself()).env("PATH", path());
    run_again(command, &full_name);
}

/// Runs `body` in a process that runs no other test, for a test that measures its process. `test` is the test's own name.
#[track_caller]
pub fn alone_in_process(test: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    run_again(Command::new(itself()), &full_name(test, Location::caller()));
}

/// The path of this test binary.
fn itself() -> PathBuf {
    std::env::current_exe().expect("the path of this test binary")
}

/// The name of a test with its modules, as the test harness knows it: `dht::some_test` for a test in tests/network/dht.rs.
fn full_name(test: &str, place: &Location) -> String {
    let parts: Vec<_> = place.file().trim_end_matches(".rs").split('/').collect();
    let below = parts.iter().position(|part| *part == "tests").expect("a file below tests") + 2;
    format!("{}::{test}", parts[below..].join("::"))
}

/// Runs one test of this binary in a process of its own: `command` starts the binary, to which arguments are added.
fn run_again(mut command: Command, test: &str) {
    command.args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{test}, in its own process:\n{complained}{said}");
    // What was not run in there is said out here.
    for line in complained.lines().filter(|line| line.starts_with("NOT RUN")) {
        let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{line}\n").as_bytes());
    }
    // A name that does not match runs nothing and succeeds at it.
    assert!(said.contains("1 passed"), "no test named {test} ran:\n{said}");
}

/// Whether all these programs are there; where not, the test is reported as not run, or as failed under CI=true.
pub fn installed(test: &str, programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| find(program).is_none());
    if let Some(program) = missing {
        not_run(test, &format!("{program} is not installed; scripts/test-setup.sh installs it"));
    }
    missing.is_none()
}

/// Says loudly that a test was not run; where everything must run, that is a failure.
pub fn not_run(test: &str, why: &str) {
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

/// Lets local discovery work among the addresses of the namespace.
pub fn allow_multicast_on_lo() {
    let script = format!("set -e; ip link set lo multicast on; ip route add 239.0.0.0/8 dev lo src {}", address(1));
    assert!(Command::new("sh").args(["-c", &script]).status().expect("sh").success(), "no multicast on lo");
}

/// Another machine: a network namespace at the other end of a cable, whose near end is the interface `near` with 10.89.0.1. It
/// has the addresses 10.89.0.2 and 3.
pub struct FarSide(std::process::Child);

impl FarSide {
    /// Lays the cable.
    pub fn new() -> FarSide {
        let child = Command::new("unshare").args(["-n", "sleep", "1000"]).spawn().expect("unshare");
        let far = FarSide(child);
        // It has a namespace of its own as soon as it can be told from ours.
        let own = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        super::until("the far side is there", || own(&far.0.id().to_string()) != own("self"));
        let (pid, inside) = (far.0.id(), format!("nsenter -t {} -n", far.0.id()));
        let script = format!(
            "set -e; ip link add near type veth peer name far; ip link set far netns {pid}
            ip addr add 10.89.0.1/24 dev near; ip link set near up
            {inside} ip addr add 10.89.0.2/24 dev far; {inside} ip addr add 10.89.0.3/24 dev far
            {inside} ip link set lo up; {inside} ip link set far up"
        );
        assert!(Command::new("sh").args(["-c", &script]).status().expect("sh").success(), "no cable");
        far
    }

    /// Does something there, on a thread that does not come back: what it starts stays there.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        use std::os::fd::AsFd;
        let space = std::fs::File::open(format!("/proc/{}/ns/net", self.0.id())).expect("the far side's network");
        let moved = || {
            let kind = Some(rustix::thread::LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(space.as_fd(), kind).expect("leave to go there");
            work()
        };
        std::thread::scope(|scope| scope.spawn(moved).join().expect("no panic on the far side"))
    }

    /// A process that is there.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// A command that runs there; its arguments follow.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.0.id().to_string(), "-n", "--"]).arg(program);
        command
    }
}

impl Drop for FarSide {
    fn drop(&mut self) {
        // Both fail only where it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
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
