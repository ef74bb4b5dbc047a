//! `--on-download-complete`: the user's command, run by the shell once the download is complete, beside whatever seeding follows.
//! The end of the program waits for it.

use std::ffi::OsStr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::screen::Screen;
use super::voice::{Ending, Voice, clean};
use crate::session::{Event, Handle};

/// What its environment tells the command: name, folder, path (the two joined), info-hash and size of what is complete.
pub const VARIABLES: [&str; 5] = ["BTSYNC_NAME", "BTSYNC_FOLDER", "BTSYNC_PATH", "BTSYNC_INFO_HASH", "BTSYNC_TOTAL"];

/// Runs one command, once.
pub struct Hook {
    command: String,
    folder: String,
    handle: Handle,
    screen: Screen,
    running: Option<Child>,
}

impl Hook {
    /// Will run `command` when the session behind `handle` has all its files in `folder`.
    pub fn new(command: String, folder: String, handle: Handle, screen: Screen) -> Hook {
        Hook { command, folder, handle, screen, running: None }
    }

    fn start(&mut self) {
        let name = self.handle.name();
        let path = std::path::Path::new(&self.folder).join(name);
        let mut command = Command::new("sh");
        command.arg("-c").arg(&self.command).stdin(Stdio::null());
        let (info_hash, total) = (self.handle.info_hash().hex(), self.handle.snapshot().total.to_string());
        let values = [OsStr::new(name), self.folder.as_ref(), path.as_ref(), info_hash.as_ref(), total.as_ref()];
        command.envs(VARIABLES.into_iter().zip(values));
        match command.spawn() {
            Ok(child) => self.running = Some(child),
            Err(error) => self.screen.say(&format!("--on-download-complete cannot be run: {error}")),
        }
    }
}

impl Voice for Hook {
    fn period(&self) -> Duration {
        Duration::from_secs(3600)
    }

    fn event(&mut self, _: Duration, event: &Event) {
        if *event == Event::Completed && self.running.is_none() {
            self.start();
        }
    }

    fn beat(&mut self, _: Duration) {}

    fn finish(&mut self, _: Duration, _: Ending) {
        let Some(mut child) = self.running.take() else { return };
        match child.wait() {
            Ok(status) if status.success() => {}
            Ok(status) => self.screen.say(&format!("--on-download-complete '{}': {status}", clean(&self.command))),
            Err(error) => self.screen.say(&format!("--on-download-complete: {error}")),
        }
    }
}
