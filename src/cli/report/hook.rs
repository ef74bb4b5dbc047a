//! `--on-download-complete`: the user's command, run by the shell once the download is complete, beside whatever seeding follows.
//! The end of the program waits for it, unless a signal says that it is to end: then the command is left to itself.
//!
//! It runs at least once for each download that became complete: [`PendingCompletion`] remembers a download from its beginning until the
//! command has run, so that after a crash between the two the next start runs it. It does not run for data that was complete when
//! btsync first saw it, unless the user wants that (`--on-complete-always`).

use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};

use crate::cli::exit::{Exit, Failure};
use crate::cli::report::{FinalStatus, Reporter, clean};
use crate::cli::stop::NoMessages;
use crate::cli::terminal::outputs::Outputs;
use crate::util::descriptors::before;
use crate::util::os_error::reason;
use btsync::{Event, PendingCompletion, TorrentHandle};

/// What its environment tells the command: name, folder, path (of the only file, or of the torrent's own folder; empty where the user gave
/// its files places of their own), info-hash and size of what is complete.
pub const VARIABLES: [&str; 5] = ["BTSYNC_NAME", "BTSYNC_FOLDER", "BTSYNC_PATH", "BTSYNC_INFO_HASH", "BTSYNC_TOTAL"];

/// What the user wants to have run, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookConfig {
    /// For the shell.
    pub command: String,
    /// Also for data that was complete from the start.
    pub always: bool,
    /// Where downloads are remembered whose command has not run, if anywhere.
    pub pending: Option<PathBuf>,
}

/// Runs one command, once.
pub struct Hook {
    config: HookConfig,
    /// An absolute path.
    folder: PathBuf,
    handle: TorrentHandle,
    outputs: Outputs,
    failed: HookFailure,
    /// Disconnected when the command has ended.
    running: Option<Receiver<NoMessages>>,
}

/// How a command failed, if one did; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct HookFailure(Arc<OnceLock<Failure>>);

impl HookFailure {
    /// Tells people and programs at once that the command for this torrent failed.
    fn tell(&self, message: String, outputs: &Outputs, torrent: &TorrentHandle) {
        outputs.screen.print(&format!("btsync: {message}"));
        let failure = Failure::new(Exit::Other, message);
        if let Some(json_output) = &outputs.json_output {
            json_output.torrent_error(outputs.start.elapsed(), &failure, torrent.name(), Some(torrent.info_hash()));
        }
        let _ = self.0.set(failure);
    }

    /// The result of a command whose download went well is a failure if its hook failed.
    ///
    /// # Errors
    /// That failure without its message, as it has been told, or the one that was there.
    pub fn join(&self, result: Result<(), Failure>) -> Result<(), Failure> {
        let (Ok(()), Some(failure)) = (&result, self.0.get()) else { return result };
        Err(Failure::new(failure.code, ""))
    }
}

impl Hook {
    /// Will run the command when the session behind `handle` has all its files in `folder`; `failed` learns how that went.
    pub fn new(config: HookConfig, folder: &str, handle: TorrentHandle, outputs: Outputs, failed: HookFailure) -> Hook {
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.into());
        Hook { config, folder, handle, outputs, failed, running: None }
    }

    fn pending(&self) -> Option<PendingCompletion> {
        self.config
            .pending
            .as_ref()
            .map(|records| PendingCompletion::new(records, self.handle.info_hash(), &self.folder))
    }

    /// Whether the completion is one that the user wants to hear of.
    fn is_due(&self) -> bool {
        let pending = self.pending().is_some_and(|pending| pending.is_set());
        self.config.always || pending || !self.handle.was_complete()
    }

    fn start(&mut self) {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script(&self.config.command, before())).stdin(Stdio::null());
        // Never a path at which the user has something else.
        let path = self.handle.place().map_or_else(PathBuf::new, |place| self.folder.join(place));
        let name = self.handle.name();
        let (info_hash, total) = (self.handle.info_hash().hex(), self.handle.snapshot().total.to_string());
        let values = [OsStr::new(name), self.folder.as_ref(), path.as_ref(), info_hash.as_ref(), total.as_ref()];
        command.envs(VARIABLES.into_iter().zip(values));
        let (ends, ended) = bounded(0);
        let (outputs, failed, pending) = (self.outputs.clone(), self.failed.clone(), self.pending());
        let (shown, torrent) = (clean(&self.config.command), self.handle.clone());
        let run = move || {
            let result = command.spawn().and_then(|mut child: Child| child.wait());
            // One that a signal ended has not run, and does so at the next start.
            if result.as_ref().is_ok_and(|status| status.code().is_some()) {
                pending.iter().for_each(PendingCompletion::clear);
            }
            if let Some(why) = failure_reason(&result) {
                failed.tell(format!("--on-download-complete '{shown}' failed: {why}"), &outputs, &torrent);
            }
            drop::<crossbeam_channel::Sender<NoMessages>>(ends);
        };
        match thread::Builder::new().name("hook".to_owned()).spawn(run) {
            // The wait cannot be interrupted: where the command goes on, the thread is left behind with it.
            Ok(_) => self.running = Some(ended),
            Err(error) => {
                let message = format!("--on-download-complete cannot be run: {}", reason(&error));
                self.failed.tell(message, &self.outputs, &self.handle);
            }
        }
    }
}

/// What went wrong with a command, if anything.
fn failure_reason(result: &io::Result<ExitStatus>) -> Option<String> {
    match result {
        Ok(status) if status.success() => None,
        Ok(status) => Some(status.to_string()),
        Err(error) => Some(reason(error)),
    }
}

/// The user's command, after the limit of descriptors is what the program was started with.
fn script(command: &str, limit: Option<u64>) -> String {
    limit.map_or_else(|| command.to_owned(), |limit| format!("ulimit -Sn {limit} 2>/dev/null\n{command}"))
}

impl Reporter for Hook {
    fn period(&self) -> Duration {
        Duration::from_secs(3600)
    }

    fn event(&mut self, _: Duration, event: &Event) {
        if *event == Event::Completed && self.running.is_none() && self.is_due() {
            self.start();
        }
    }

    fn refresh(&mut self, _: Duration) {}

    fn finish(&mut self, _: Duration, _: FinalStatus) {
        let Some(ended) = self.running.take() else { return };
        if !self.outputs.stop.wait(&ended) {
            let command = clean(&self.config.command);
            self.outputs.screen.print(&format!("--on-download-complete '{command}' still runs, and is left to itself"));
        }
    }
}
