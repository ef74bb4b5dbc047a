//! `--on-download-complete`: the user's command, run by the shell once the download is complete, beside whatever seeding follows.
//! The end of the program waits for it, unless a signal says that it is to end: then the command is left to itself.

use std::ffi::OsStr;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crossbeam_channel::bounded;

use super::outputs::Outputs;
use super::voice::{Ending, Voice, clean};
use crate::descriptors::before;
use crate::session::{Event, Handle};

/// What its environment tells the command: name, folder, path (the two joined), info-hash and size of what is complete.
pub const VARIABLES: [&str; 5] = ["BTSYNC_NAME", "BTSYNC_FOLDER", "BTSYNC_PATH", "BTSYNC_INFO_HASH", "BTSYNC_TOTAL"];

/// Runs one command, once.
pub struct Hook {
    command: String,
    folder: String,
    handle: Handle,
    outputs: Outputs,
    running: Option<Child>,
}

impl Hook {
    /// Will run `command` when the session behind `handle` has all its files in `folder`.
    pub fn new(command: String, folder: String, handle: Handle, outputs: Outputs) -> Hook {
        Hook { command, folder, handle, outputs, running: None }
    }

    fn start(&mut self) {
        let name = self.handle.name();
        let path = std::path::Path::new(&self.folder).join(name);
        let mut command = Command::new("sh");
        command.arg("-c").arg(script(&self.command, before())).stdin(Stdio::null());
        let (info_hash, total) = (self.handle.info_hash().hex(), self.handle.snapshot().total.to_string());
        let values = [OsStr::new(name), self.folder.as_ref(), path.as_ref(), info_hash.as_ref(), total.as_ref()];
        command.envs(VARIABLES.into_iter().zip(values));
        match command.spawn() {
            Ok(child) => self.running = Some(child),
            Err(error) => self.outputs.screen.say(&format!("--on-download-complete cannot be run: {error}")),
        }
    }
}

/// The user's command, after the limit of descriptors is what the program was started with.
fn script(command: &str, limit: Option<u64>) -> String {
    limit.map_or_else(|| command.to_owned(), |limit| format!("ulimit -Sn {limit} 2>/dev/null\n{command}"))
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
        let (screen, command, (ends, ended)) = (self.outputs.screen.clone(), clean(&self.command), bounded::<()>(0));
        let wait = move || {
            match child.wait() {
                Ok(status) if status.success() => {}
                Ok(status) => screen.say(&format!("--on-download-complete '{command}': {status}")),
                Err(error) => screen.say(&format!("--on-download-complete: {error}")),
            }
            drop(ends);
        };
        // The wait cannot be interrupted: where the command goes on, the thread is left behind with it.
        let waits = thread::Builder::new().name("hook".to_owned()).spawn(wait);
        if waits.is_ok() && !self.outputs.stop.wait(&ended) {
            let command = clean(&self.command);
            self.outputs.screen.say(&format!("--on-download-complete '{command}' still runs, and is left to itself"));
        }
    }
}
