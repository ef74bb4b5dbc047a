//! Helpers for several downloads in one process: independent swarms, and btsync without DHT and local discovery.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use serde_json::Value;

use super::payload::Payload;
use super::process::Running;
use super::seeder::{FakePeer, Gate};
use super::tracker::Tracker;
use super::{TestDir, btsync, free_port, schema};

/// A torrent with its own seeder and tracker.
pub struct Swarm {
    /// The torrent's content.
    pub payload: Payload,
    /// The .torrent file in the test folder.
    pub torrent: PathBuf,
    /// Limits what the seeder serves.
    pub gate: Arc<Gate>,
    /// The tracker.
    pub tracker: Tracker,
    _seeder: FakePeer,
}

impl Swarm {
    /// A swarm whose seeder serves `blocks` blocks until the test opens its gate.
    pub fn new(temp: &TestDir, name: &str, blocks: usize) -> Swarm {
        Swarm::with_payload(temp, Payload::single(name, 20 * 32 * 1024 - 77, 32 * 1024), blocks)
    }

    /// Like [`Swarm::new`], with the test's own payload.
    pub fn with_payload(temp: &TestDir, payload: Payload, blocks: usize) -> Swarm {
        let gate = Gate::new(blocks);
        let seeder = FakePeer::honest(&payload, &gate);
        let tracker = Tracker::start(&[seeder.addr]);
        let torrent = temp.path(&format!("{}.torrent", payload.name));
        fs::write(&torrent, payload.torrent(&tracker.url("127.0.0.1"))).expect("a torrent file");
        Swarm { payload, torrent, gate, tracker, _seeder: seeder }
    }

    /// The bytes of the .torrent file.
    pub fn bytes(&self) -> Vec<u8> {
        self.payload.torrent(&self.tracker.url("127.0.0.1"))
    }

    /// Panics unless `folder` holds the complete payload.
    pub fn assert_complete_in(&self, folder: &Path) {
        assert_eq!(self.payload.difference(folder), None);
    }

    /// Whether anyone has announced to the tracker.
    pub fn has_announces(&self) -> bool {
        !self.tracker.announces().is_empty()
    }

    /// Whether the tracker received an announce with the event `stopped`.
    pub fn announced_stopped(&self) -> bool {
        self.tracker.announces().iter().any(|announce| announce.event == "stopped")
    }
}

/// btsync in the test folder, with neither the DHT nor local discovery.
pub fn offline_btsync(temp: &TestDir) -> Command {
    let (mut command, port) = (btsync(), free_port());
    command.args(["--no-dht", "--no-lsd", "--listen-port", &format!("{port}-{}", port + 30)]);
    command.current_dir(temp.folder("")).env("XDG_CACHE_HOME", temp.path("cache")).stdin(Stdio::null());
    command
}

/// The exit code.
pub fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

/// Standard error as text.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The JSON events on standard output, each checked against the schema.
pub fn events(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).expect("UTF-8");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    lines.iter().for_each(schema::assert_fits);
    lines
}

/// Compresses `bytes` with the system's gzip, a program independent of btsync.
pub fn gzipped(temp: &TestDir, bytes: &[u8]) -> Vec<u8> {
    fs::write(temp.path("plain"), bytes).expect("a file");
    let output = Command::new("gzip").arg("-c").arg(temp.path("plain")).output().expect("gzip runs");
    assert!(output.status.success() && output.stdout.starts_with(b"\x1f\x8b"));
    output.stdout
}

/// Starts btsync watching the folder `in`, with `names` as further arguments.
pub fn watching(temp: &TestDir, names: &[&str]) -> Running {
    temp.start("watching", offline_btsync(temp).args(["--watch", "in"]).args(names))
}
