//! Runs btsync as an ordinary user. Root may write anywhere and is bound by neither quotas nor thread limits.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::payload::Payload;
use super::process::{Running, copy_program, without_settings};
use super::seeder::FakePeer;
use super::{TestDir, free_port};

/// Numbers the users of one test process.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A user that no other test uses, so that only its own processes count against its limits.
pub struct User {
    /// `None` when an ordinary user runs the tests; that user then takes the place of this one.
    id: Option<u32>,
    program: PathBuf,
}

impl User {
    /// Creates a user that can read the whole test folder.
    pub fn of(temp: &TestDir) -> User {
        let root = fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0);
        // Opens the test folder, and copies btsync there: the user may lack access to the build folder.
        set_mode(&temp.path(""), 0o755);
        let program = temp.path("btsync-program");
        copy_program(&program);
        let user = User {
            id: root.then(|| 50_000 + std::process::id() % 10_000 * 100 + NEXT.fetch_add(1, Ordering::Relaxed)),
            program,
        };
        user.owns(&temp.folder("btsync-cache"));
        user
    }

    /// The user id, if it differs from the user who runs the tests.
    pub fn id(&self) -> Option<u32> {
        self.id
    }

    /// Makes the user the owner of a file or folder.
    pub fn owns(&self, path: &Path) {
        if let Some(id) = self.id {
            chown(path, Some(id), Some(id)).expect("root may give files away");
        }
    }

    /// Creates a folder in the test folder that belongs to the user.
    pub fn folder(&self, temp: &TestDir, name: &str) -> PathBuf {
        let folder = temp.folder(name);
        self.owns(&folder);
        folder
    }

    /// btsync run by this user under `limits`: a program such as prlimit(1) with its arguments, or nothing.
    pub fn btsync(&self, limits: &[&str]) -> Command {
        let id = self.id.map(|id| [format!("--reuid={id}"), format!("--regid={id}"), "--clear-groups".into()]);
        let mut words: Vec<String> = id.map_or(Vec::new(), |id| [&["setpriv".to_owned()][..], &id].concat());
        words.extend(limits.iter().map(|&word| word.to_owned()));
        words.push(self.program.to_str().expect("a plain path").to_owned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env("RUST_LOG", "info");
        without_settings(&mut command); // the user cannot read the developer's files
        command
    }

    /// A download of `payload` to `out` from these peers only.
    pub fn download(
        &self,
        temp: &TestDir,
        payload: &Payload,
        out: &Path,
        peers: &[&FakePeer],
        (limits, more): (&[&str], &[&str]),
    ) -> Running {
        let mut command = self.btsync(limits);
        command.arg(temp.torrent(payload, "http://127.0.0.1:9/announce")).arg(out);
        command.args(["--no-dht", "--no-lsd", "--bt-exclude-tracker", "*", "--listen-port"]);
        command.arg(free_port().to_string()).args(more);
        for peer in peers {
            command.args(["--peer", &peer.addr.to_string()]);
        }
        temp.start("btsync", command.env("XDG_CACHE_HOME", temp.path("btsync-cache")))
    }
}

/// Sets the mode of a file or folder.
pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
}
