//! Helpers of the whole-program tests: payloads and torrents from an independent writer (so that btsync's writer does not judge
//! btsync's reader), processes that end with their test, network namespaces, a tracker, and peers with scripted behaviour.
#![allow(dead_code, reason = "each test binary includes all of it and uses its part")]

pub mod batch;
pub mod bencode;
pub mod case_fs;
pub mod extended_peer;
pub mod help;
pub mod hostile_peer;
pub mod nat;
pub mod netns;
pub mod packets;
pub mod payload;
pub mod process;
pub mod proxy;
pub mod real;
pub mod relay;
pub mod router;
pub mod schema;
pub mod seeder;
pub mod service;
pub mod tls;
pub mod tmux;
pub mod torrents;
pub mod tracker;
pub mod trickle;
pub mod user;
pub mod web;
pub mod web_seed;
pub mod wire;

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use payload::Payload;
use process::Running;

/// Timeout of a test. A test that waits this long has failed. It is long enough for a busy machine on which btsync first fails to
/// reach a peer, because the peer's thread did not run for ten seconds, and tries again half a minute later.
pub const PATIENCE: Duration = Duration::from_secs(180);
/// Ports for a btsync that takes the first free one. None of them is ever a [`free_port`].
pub const PORT_RANGE: &str = "10000-19999";

/// Polls until `done` returns true; panics with `what` after [`PATIENCE`].
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "gave up waiting until {what}");
        std::thread::sleep(Duration::from_millis(25));
    }
}

/// A free port below the ephemeral range, so that no outgoing connection takes it in the meantime. No other test gets it as long as
/// this process lives, not even one of a process that runs in parallel.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    static RESERVED: Mutex<Vec<UnixDatagram>> = Mutex::new(Vec::new());
    loop {
        // Test processes that run in parallel start at different ports.
        let start = (std::process::id() % 200) as u16 * 50;
        let port = 20_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        let is_free = || std::net::TcpListener::bind(("0.0.0.0", port)).is_ok();
        if let Some(reserved) = reserve_port(port).filter(|_| is_free()) {
            RESERVED.lock().expect("no panic").push(reserved);
            return port;
        }
    }
}

/// Reserves a port among the test processes of this network namespace; `None` if another one has it. A socket with an abstract name
/// has the same scope as a port, and the kernel removes it with its process.
fn reserve_port(port: u16) -> Option<UnixDatagram> {
    let name = SocketAddr::from_abstract_name(format!("btsync-test-port-{port}")).expect("a short name");
    UnixDatagram::bind_addr(&name).ok()
}

/// A test's temporary folder, with the torrents, folders and logs in it.
pub struct TestDir {
    dir: tempfile::TempDir,
}

impl TestDir {
    /// An empty test folder.
    pub fn new() -> TestDir {
        TestDir { dir: tempfile::tempdir().expect("a temporary folder") }
    }

    /// A path in the test folder; creates nothing.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A folder in the test folder, created if it is missing.
    pub fn folder(&self, name: &str) -> PathBuf {
        let folder = self.path(name);
        std::fs::create_dir_all(&folder).expect("a folder on the stage");
        folder
    }

    /// A folder with the payload's files.
    pub fn folder_with(&self, name: &str, payload: &Payload) -> PathBuf {
        let folder = self.folder(name);
        payload.write_files(&folder);
        folder
    }

    /// Writes a .torrent file of the payload.
    pub fn torrent(&self, payload: &Payload, announce: &str) -> PathBuf {
        // One file per announce URL: the clients of one test may use different addresses of the tracker.
        let unique = announce.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        let path = self.path(&format!("{}-{unique}.torrent", payload.hex()));
        // Another client may be reading the file that an earlier call wrote.
        let new = path.with_extension("new");
        std::fs::write(&new, payload.torrent(announce)).expect("a torrent file");
        std::fs::rename(&new, &path).expect("a torrent file");
        path
    }

    /// Starts any program; its output goes to a file in the test folder.
    pub fn start(&self, name: &str, command: &mut Command) -> Running {
        Running::start(name, command, self.dir.path())
    }

    /// Starts `btsync TORRENT OUT --listen-port PORT` and `more`, with neither the DHT nor local discovery.
    pub fn btsync(&self, name: &str, torrent: &Path, out: &Path, port: u16, more: &[&str]) -> Running {
        self.btsync_with_discovery(name, torrent.as_os_str(), out, port, &[&["--no-dht", "--no-lsd"], more].concat())
    }

    /// Like [`TestDir::btsync`] with DHT and local discovery, for a .torrent file or a magnet link.
    pub fn btsync_with_discovery(&self, name: &str, what: &OsStr, out: &Path, port: u16, more: &[&str]) -> Running {
        let mut command = btsync();
        command.arg(what).arg(out).arg("--listen-port").arg(port.to_string()).args(more);
        command.env("XDG_CACHE_HOME", self.path(&format!("{name}-cache")));
        self.start(name, &mut command)
    }
}

/// The program under test, without arguments and without the developer's configuration.
pub fn btsync() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_btsync"));
    process::without_settings(&mut command);
    command.env("RUST_LOG", std::env::var("BTSYNC_TEST_LOG").unwrap_or_else(|_| "info".into()));
    command
}
