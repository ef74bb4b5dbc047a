//! What the whole-program tests stand on: payloads and torrents made by a writer of their own (so that btsync's reader is
//! not judged by btsync's writer), processes that end with their test, a network of their own, a tracker and peers that do
//! as they are told.
#![allow(dead_code, reason = "each test binary includes all of it and uses its part")]

pub mod bencode;
pub mod fleet;
pub mod help;
pub mod netns;
pub mod payload;
pub mod process;
pub mod real;
pub mod relay;
pub mod scene;
pub mod schema;
pub mod seeder;
pub mod sippers;
pub mod talker;
pub mod tmux;
pub mod torrents;
pub mod tracker;
pub mod user;
pub mod web;
pub mod wire;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use payload::Payload;
use process::Running;

/// Long enough for a machine that is busy with something else; a test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Polls until `done` says so; panics with `what` when patience runs out.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "gave up waiting until {what}");
        std::thread::sleep(Duration::from_millis(25));
    }
}

/// A TCP port that nobody listens on, below the ephemeral range so that no outgoing connection takes it meanwhile.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        // Test processes that run side by side start at different places.
        let start = (std::process::id() % 200) as u16 * 50;
        let port = 20_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        if std::net::TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}

/// A stage for one test: a folder that goes away, and in it torrents, folders and logs.
pub struct Stage {
    dir: tempfile::TempDir,
}

impl Stage {
    /// An empty one.
    pub fn new() -> Stage {
        Stage { dir: tempfile::tempdir().expect("a temporary folder") }
    }

    /// A path on the stage; nothing is made.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A folder on the stage, made if need be.
    pub fn folder(&self, name: &str) -> PathBuf {
        let folder = self.path(name);
        std::fs::create_dir_all(&folder).expect("a folder on the stage");
        folder
    }

    /// A folder that holds the payload.
    pub fn folder_with(&self, name: &str, payload: &Payload) -> PathBuf {
        let folder = self.folder(name);
        payload.write_files(&folder);
        folder
    }

    /// A torrent file of the payload.
    pub fn torrent(&self, payload: &Payload, announce: &str) -> PathBuf {
        // One file for each announce URL: the clients of one test may ask different addresses.
        let unique = announce.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        let path = self.path(&format!("{}-{unique}.torrent", payload.hex()));
        std::fs::write(&path, payload.torrent(announce)).expect("a torrent file");
        path
    }

    /// Starts any program, its output in a file of the stage.
    pub fn start(&self, name: &str, command: &mut Command) -> Running {
        Running::start(name, command, self.dir.path())
    }

    /// Starts `btsync TORRENT OUT --listen-port PORT` and `more`, with neither the DHT nor local discovery.
    pub fn btsync(&self, name: &str, torrent: &Path, out: &Path, port: u16, more: &[&str]) -> Running {
        self.btsync_in_the_open(name, torrent.as_os_str(), out, port, &[&["--no-dht", "--no-lsd"], more].concat())
    }

    /// The same with all that finds peers, for a .torrent or a magnet link.
    pub fn btsync_in_the_open(&self, name: &str, what: &OsStr, out: &Path, port: u16, more: &[&str]) -> Running {
        let mut command = btsync();
        command.arg(what).arg(out).arg("--listen-port").arg(port.to_string()).args(more);
        command.env("XDG_CACHE_HOME", self.path(&format!("{name}-cache")));
        self.start(name, &mut command)
    }
}

/// The program under test, without arguments and with nobody's own options.
pub fn btsync() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_btsync"));
    process::without_settings(&mut command);
    command.env("RUST_LOG", std::env::var("BTSYNC_TEST_LOG").unwrap_or_else(|_| "info".into()));
    command
}
