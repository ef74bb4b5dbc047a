//! The btsync of this build as a child process, and its resource usage.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A running btsync, killed when dropped. Its stderr is kept until it exits.
pub struct Btsync(Child);

impl Btsync {
    /// Starts btsync, listening on `port` and printing errors only.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn start<S: AsRef<OsStr>>(port: u16, args: impl IntoIterator<Item = S>) -> io::Result<Btsync> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_btsync"));
        command.args(args).args(["--no-config", "--no-port-mapping", "--quiet", "--listen-port", &port.to_string()]);
        Ok(Btsync(command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?))
    }

    /// Waits until it exits, which must be with this exit code.
    ///
    /// # Errors
    /// Another exit code, with its stderr; or an error of the system.
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

    /// Asks it to stop, as Ctrl-C does, and waits until it exits.
    ///
    /// # Errors
    /// As for `wait`.
    pub fn stop(&mut self, code: i32) -> io::Result<()> {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        self.wait(code)
    }

    /// The process id for `peak_kib` and `cpu_of`, also after it has exited.
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

/// A port that is currently free.
///
/// # Errors
/// If the system has none.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// The peak memory of a running process, in KiB.
pub fn peak_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The CPU time of a process so far, and that of its children that were waited for, to a hundredth of a second.
pub fn cpu_of(pid: u32) -> Option<(Duration, Duration)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The fields follow the process name, which may contain anything: state, then user and system time as the 12th and 13th, then
    // the children's times.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let time = |at| Some(Duration::from_millis((ticks(at)? + ticks(at + 1)?) * 1000 / tick_rate()));
    Some((time(11)?, time(13)?))
}

fn tick_rate() -> u64 {
    rustix::param::clock_ticks_per_second().max(1)
}
