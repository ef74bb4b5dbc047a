//! The btsync of this build as a child process, and what the system says of it.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A running btsync; killed when dropped. What it says on stderr is kept until its end.
pub struct Btsync(Child);

impl Btsync {
    /// Starts it, listening on `port`. It says errors only.
    ///
    /// # Errors
    /// Where there is no such program.
    pub fn start<S: AsRef<OsStr>>(port: u16, args: impl IntoIterator<Item = S>) -> io::Result<Btsync> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_btsync"));
        command.args(args).args(["--no-config", "--quiet", "--listen-port", &port.to_string()]);
        Ok(Btsync(command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?))
    }

    /// Waits for its end, which must have this exit code.
    ///
    /// # Errors
    /// Another exit code, with what it said; what the system says.
    pub fn wait(&mut self, code: i32) -> io::Result<()> {
        let mut said = String::new();
        if let Some(mut stderr) = self.0.stderr.take() {
            stderr.read_to_string(&mut said)?;
        }
        let status = self.0.wait()?;
        if status.code() == Some(code) {
            return Ok(());
        }
        Err(io::Error::other(format!("btsync ended with {status} in place of {code}: {said}")))
    }

    /// Asks it to stop, as Ctrl-C does, and waits for its end.
    ///
    /// # Errors
    /// As for `wait`.
    pub fn stop(&mut self, code: i32) -> io::Result<()> {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        self.wait(code)
    }

    /// Names it for `peak_kib` and `cpu_of`, also after its end.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Btsync {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that is free now.
///
/// # Errors
/// Where the system has none.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// The most memory that a process ever held, in KiB, while it lives.
pub fn peak_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The CPU time of a process so far, and of its children that have been waited for; to a hundredth of a second.
pub fn cpu_of(pid: u32) -> Option<(Duration, Duration)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may hold anything: state first, user and system time as the 12th and 13th, children's behind.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let time = |at| Some(Duration::from_millis((ticks(at)? + ticks(at + 1)?) * 1000 / tick_rate()));
    Some((time(11)?, time(13)?))
}

fn tick_rate() -> u64 {
    rustix::param::clock_ticks_per_second().max(1)
}
