//! Network namespaces for tests: transmission refuses peers in 127.0.0.0/8, and no test may contact the outside.
//!
//! A process with threads cannot move into a namespace, so the test runs itself again under `unshare`.

use std::os::unix::fs::MetadataExt;
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::TestDir;
use crate::common::process::Running;

/// Set in the process in which a test runs again, in its namespace or alone.
const INNER_RUN: &str = "BTSYNC_NETNS";

/// An address of the test's network; `host` is 1 to 10.
pub fn address(host: u8) -> String {
    format!("10.88.0.{host}")
}

/// Runs `body` in a network and mount namespace with the addresses `10.88.0.1` to `10` and `fd88::1` to `a`. `test` is the test's name,
/// `programs` are the programs it needs. A missing program fails the test under CI=true; otherwise the test is reported as not
/// run.
#[track_caller]
pub fn in_network_namespace(test: &str, programs: &[&str], body: impl FnOnce()) {
    let full_name = full_name(test, Location::caller());
    if std::env::var_os(INNER_RUN).is_some() {
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

/// Runs `body` in a process that runs no other test, for tests that measure their process. `test` is the test's name.
#[track_caller]
pub fn alone_in_process(test: &str, body: impl FnOnce()) {
    if std::env::var_os(INNER_RUN).is_some() {
        return body();
    }
    run_again(Command::new(itself()), &full_name(test, Location::caller()));
}

/// The path of this test binary.
fn itself() -> PathBuf {
    std::env::current_exe().expect("the path of this test binary")
}

/// The test's name as the test harness knows it: `dht::some_test` for a test in tests/network/dht.rs.
fn full_name(test: &str, place: &Location) -> String {
    let parts: Vec<_> = place.file().trim_end_matches(".rs").split('/').collect();
    let below = parts.iter().position(|part| *part == "tests").expect("a file below tests") + 2;
    format!("{}::{test}", parts[below..].join("::"))
}

/// Runs one test of this binary in its own process. `command` starts the binary; this function adds the arguments.
fn run_again(mut command: Command, test: &str) {
    command.args(["--exact", test, "--nocapture"]).env(INNER_RUN, "1");
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{test}, in its own process:\n{complained}{said}");
    // Repeat the inner process's reports of tests that were not run.
    for line in complained.lines().filter(|line| line.starts_with("NOT RUN")) {
        let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{line}\n").as_bytes());
    }
    // The harness succeeds without running anything when no test matches the name.
    assert!(said.contains("1 passed"), "no test named {test} ran:\n{said}");
}

/// Whether all these programs are installed. If not, reports the test as not run, or fails it under CI=true.
pub fn installed(test: &str, programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| find(program).is_none());
    if let Some(program) = missing {
        not_run(test, &format!("{program} is not installed; scripts/test-setup.sh installs it"));
    }
    missing.is_none()
}

/// Reports on standard error that a test was not run; panics under CI=true, where every test must run.
pub fn not_run(test: &str, why: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{test} cannot run: {why}");
    // Written directly: the test harness swallows what a passing test prints.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("NOT RUN: {test}: {why}\n").as_bytes());
}

/// Configures the loopback interface. The kernel takes the first address as the source where a program such as btsync does not
/// choose one. With /32 addresses the source would equal the destination, and transmission takes such a peer for itself once a
/// tracker has told it its own address.
fn bring_up() {
    let add = |host| {
        let v4 = address(host);
        // A machine without IPv6 still serves every test that does not need it.
        format!("ip addr add {v4}/24 dev lo; ip addr add fd88::{host:x}/128 dev lo nodad || true;")
    };
    let script = format!("set -e; ip link set lo up; {}", (1..=10).map(add).collect::<String>());
    let status = Command::new("sh").args(["-c", &script]).status().expect("sh");
    assert!(status.success(), "cannot set up the namespace's addresses");
}

/// Lets local discovery work between the addresses of the namespace.
pub fn allow_multicast_on_lo() {
    let script = format!("set -e; ip link set lo multicast on; ip route add 239.0.0.0/8 dev lo src {}", address(1));
    assert!(Command::new("sh").args(["-c", &script]).status().expect("sh").success(), "no multicast on lo");
}

/// A second machine: a network namespace with the addresses 10.89.0.2 and 3, behind a virtual cable. The near end of the cable is
/// the interface `near` with 10.89.0.1.
pub struct RemoteMachine(std::process::Child);

impl RemoteMachine {
    /// Creates the namespace and the cable.
    pub fn new() -> RemoteMachine {
        let child = Command::new("unshare").args(["-n", "sleep", "1000"]).spawn().expect("unshare");
        let far = RemoteMachine(child);
        // The namespace exists once it differs from ours.
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

    /// Runs `work` in the namespace on a thread of its own, so that sockets and threads it creates stay in the namespace.
    pub fn run_inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        use std::os::fd::AsFd;
        let space = std::fs::File::open(format!("/proc/{}/ns/net", self.0.id())).expect("the far side's network");
        let moved = || {
            let kind = Some(rustix::thread::LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(space.as_fd(), kind).expect("leave to go there");
            work()
        };
        std::thread::scope(|scope| scope.spawn(moved).join().expect("no panic on the far side"))
    }

    /// The id of a process in the namespace.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// A command that runs `program` in the namespace; the caller adds its arguments.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.0.id().to_string(), "-n", "--"]).arg(program);
        command
    }
}

/// A slow and lossy path to a [`RemoteMachine`], beside its cable. There the near end has 10.90.0.1 and all addresses that
/// the test has, and the far end 10.90.0.2.
pub struct SlowPath(Running);

/// The relay.
const TUN_RELAY: &str = "scripts/tun_relay.py";

impl SlowPath {
    /// The address of the near end.
    pub const NEAR: &str = "10.90.0.1";
    /// The address of the far end.
    pub const FAR: &str = "10.90.0.2";

    /// Starts the relay with these options; see its head.
    pub fn new(temp: &TestDir, far: &RemoteMachine, options: &[&str]) -> SlowPath {
        let mut command = Command::new("python3");
        command.arg(find(TUN_RELAY).expect("it is in the repository")).arg(far.pid().to_string()).args(options);
        let relay = SlowPath(temp.start("relay", &mut command));
        super::until("the relay is ready", || relay.0.log().contains("ready\n"));
        relay
    }

    /// Whether the relay can be used here; if not, reports the test as not run.
    pub fn is_possible(test: &str) -> bool {
        let tun = std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun");
        if let Err(error) = &tun {
            not_run(test, &format!("no access to /dev/net/tun: {error}"));
        }
        tun.is_ok()
    }

    /// The packets that the relay has lost on purpose.
    pub fn lost(&self) -> usize {
        let log = self.0.log();
        let counts = log.split("\"lost\": ").skip(1).filter_map(|rest| rest.split(',').next()?.parse::<usize>().ok());
        counts.sum()
    }
}

impl Drop for RemoteMachine {
    fn drop(&mut self) {
        // Both fail only if the process has already ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The search path plus the folders where Debian installs daemons, which are not in every user's path.
fn path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

/// Finds a program. A name with a slash is a path in the repository.
pub fn find(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(Path::new(env!("CARGO_MANIFEST_DIR")).join(program)).filter(|path| path.exists());
    }
    path().split(':').map(|dir| Path::new(dir).join(program)).find(|path| path.is_file())
}

/// Whether strace works; if not, reports the test as not run.
pub fn can_trace(test: &str) -> bool {
    if !installed(test, &["strace"]) {
        return false;
    }
    let traced = Command::new("strace").args(["-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success());
    if !traced {
        not_run(test, "this machine does not allow tracing a process");
    }
    traced
}
