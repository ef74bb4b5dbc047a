//! Processes that end with their test: killed and waited for on drop. A failing test shows their output.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{PATIENCE, until};

/// Keeps the developer's configuration file and BTSYNC_* variables away from a btsync that this command starts, directly or
/// through a shell.
pub fn without_settings(command: &mut Command) -> &mut Command {
    let ours = std::env::vars_os().map(|(name, _)| name).filter(|name| name.to_string_lossy().starts_with("BTSYNC_"));
    for name in ours {
        command.env_remove(name);
    }
    // Tests do not ask the router of this machine's network.
    command.env("BTSYNC_NO_PORT_MAPPING", "yes");
    command.env("XDG_CONFIG_HOME", "/nonexistent")
}

/// The process's peak resident memory in KiB.
pub fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the status of a running process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    line.trim().trim_end_matches(" kB").parse().expect("a number of kB")
}

/// Waits for a signalled process to end and returns its exit code. After [`PATIENCE`], kills it and panics.
pub fn wait_for_exit(child: &mut Child) -> Option<i32> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            return status.code();
        }
        if Instant::now() >= deadline {
            let _ = child.kill();
            panic!("the process outlived a signal");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Copies the program under test. Another process copies it: if this one did, a process that another test starts at the same time
/// could inherit the open copy, and a file that is open for writing cannot be executed.
pub fn copy_program(to: &Path) {
    let copied = Command::new("cp").arg(super::btsync().get_program()).arg(to).status();
    assert!(copied.expect("cp").success(), "room for the program");
}

/// A started program.
pub struct Running {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts it; standard output and standard error go to `dir/NAME.log`.
    pub fn start(name: &str, command: &mut Command, dir: &Path) -> Running {
        let log = dir.join(format!("{name}.log"));
        let out = File::create(&log).expect("a log file");
        let err = out.try_clone().expect("a second handle of the log file");
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Running { name: name.into(), child, log }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The output so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Whether it is still running.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_none()
    }

    /// Sends a signal, named as in kill(1).
    pub fn signal(&self, signal: &str) {
        let kill = format!("kill -{signal} {}", self.pid());
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("sh").success(), "{kill} failed");
    }

    /// Waits for its end. Returns the exit code, or `None` if a signal ended it; panics after `patience`.
    pub fn end_within(&mut self, patience: Duration) -> Option<i32> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return status.code();
            }
            assert!(Instant::now() < deadline, "{} still runs after {patience:?}", self.name);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for its end and panics unless the exit code is `code`.
    pub fn expect_exit(&mut self, code: i32) {
        assert_eq!(self.end_within(PATIENCE), Some(code), "exit code of {}", self.name);
    }

    /// Sends SIGTERM and panics unless it ends with this exit code.
    pub fn terminate(&mut self, code: i32) {
        self.signal("TERM");
        assert_eq!(self.end_within(PATIENCE), Some(code), "exit code of {} after SIGTERM", self.name);
    }

    /// Waits until the output contains `text`; panics if the program ends before that.
    pub fn wait_for_output(&mut self, text: &str) {
        until(&format!("{} says {text:?}", self.name), || {
            let over = !self.is_running();
            let said = self.log().contains(text);
            assert!(said || !over, "{} ended without saying {text:?}", self.name);
            said
        });
    }

    /// The peak resident memory in KiB.
    pub fn peak_memory(&self) -> u64 {
        peak_memory(self.pid())
    }

    /// Bytes that the process has read from files and sockets.
    pub fn bytes_read(&self) -> u64 {
        let io = std::fs::read_to_string(format!("/proc/{}/io", self.pid())).expect("the figures of a running process");
        let line = io.lines().find_map(|line| line.strip_prefix("rchar: ")).expect("rchar");
        line.parse().expect("a number of bytes")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if the process has already ended, and then nothing remains to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let skip = log.chars().count().saturating_sub(6_000);
            eprintln!("--- {} said:\n{}\n---", self.name, log.chars().skip(skip).collect::<String>());
        }
    }
}
