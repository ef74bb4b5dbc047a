//! The hook: runs the command of `--on-download-complete` in a shell when a download completes, while seeding goes on.
//! btsync waits for the command before it exits; after a signal it waits only until the deadline and then leaves the
//! command running.
//!
//! The command runs at least once for each download that completes. A record ([`TorrentHandle::is_completion_unreported`]) of the
//! download exists from its start until the command has run; after a crash in between, the next start runs it. It does not run
//! for data that was complete when btsync first saw it, except with `--on-complete-always`.

use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};

use crate::cli::exit::{Exit, Failure};
use crate::cli::report::outputs::Outputs;
use crate::cli::report::{FinalStatus, Reporter, sanitize};
use crate::cli::stop::NoMessages;
use crate::util::descriptors::original_limit;
use crate::util::os_error::reason;
use btsync::{Event, TorrentHandle};

/// The environment variables of the command: name, folder, path (of the only file or of the torrent's own folder; empty if
/// `--out` moved one of several files), info-hash and size.
pub const VARIABLES: [&str; 5] = ["BTSYNC_NAME", "BTSYNC_FOLDER", "BTSYNC_PATH", "BTSYNC_INFO_HASH", "BTSYNC_TOTAL"];

/// The options of the hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookConfig {
    /// The command for the shell.
    pub command: String,
    /// Whether to run it also for data that was complete at the start.
    pub runs_if_already_complete: bool,
    /// The folder that records downloads whose command has not run yet, if any.
    pub unreported_folder: Option<PathBuf>,
}

/// Runs the command of one torrent, at most once.
pub struct Hook {
    config: HookConfig,
    /// The download folder as an absolute path.
    folder: PathBuf,
    handle: TorrentHandle,
    outputs: Outputs,
    failed: HookFailure,
    /// Disconnected when the command has ended.
    running: Option<Receiver<NoMessages>>,
}

/// The failure of a hook command, if any. Clones share the state.
#[derive(Clone, Debug, Default)]
pub struct HookFailure(Arc<OnceLock<Failure>>);

impl HookFailure {
    /// Records the failure and reports it at once, on the screen and as a JSON event.
    fn report(&self, message: String, outputs: &Outputs, torrent: &TorrentHandle) {
        outputs.screen.print(&format!("btsync: {message}"));
        let failure = Failure::new(Exit::Other, message);
        if let Some(json_output) = &outputs.json_output {
            json_output.torrent_error(outputs.start.elapsed(), &failure, torrent.name(), Some(torrent.info_hash()));
        }
        let _ = self.0.set(failure);
    }

    /// Turns a success into a failure if the hook command failed.
    ///
    /// # Errors
    /// The hook's failure without its message, as it was reported, or the failure in `result`.
    pub fn apply_to(&self, result: Result<(), Failure>) -> Result<(), Failure> {
        let (Ok(()), Some(failure)) = (&result, self.0.get()) else { return result };
        Err(Failure::new(failure.code, ""))
    }
}

impl Hook {
    /// A hook for the torrent of `handle` with files in `folder`; it records a failed command in `failed`.
    pub fn new(config: HookConfig, folder: &str, handle: TorrentHandle, outputs: Outputs, failed: HookFailure) -> Hook {
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.into());
        Hook { config, folder, handle, outputs, failed, running: None }
    }

    /// Whether the command must run for this completion.
    fn is_due(&self) -> bool {
        let is_pending = |records: &PathBuf| self.handle.is_completion_unreported(records, &self.folder);
        self.config.runs_if_already_complete
            || self.config.unreported_folder.as_ref().is_some_and(is_pending)
            || !self.handle.was_complete()
    }

    fn start(&mut self) {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script(&self.config.command, original_limit())).stdin(Stdio::null());
        // Never a path of a file that does not belong to the torrent.
        let path = self.handle.content_path().map_or_else(PathBuf::new, |path| self.folder.join(path));
        let name = self.handle.name();
        let (info_hash, total) = (self.handle.info_hash().hex(), self.handle.snapshot().total.to_string());
        let values = [OsStr::new(name), self.folder.as_ref(), path.as_ref(), info_hash.as_ref(), total.as_ref()];
        command.envs(VARIABLES.into_iter().zip(values));
        let (ends, ended) = bounded(0);
        let (outputs, failed) = (self.outputs.clone(), self.failed.clone());
        let (unreported_folder, folder) = (self.config.unreported_folder.clone(), self.folder.clone());
        let (shown, torrent) = (sanitize(&self.config.command), self.handle.clone());
        let run = move || {
            let result = command.spawn().and_then(|mut child: Child| child.wait());
            // A command that was killed by a signal did not finish: keep the record, so that the next start runs it again.
            if let Some(records) = &unreported_folder
                && result.as_ref().is_ok_and(|status| status.code().is_some())
            {
                torrent.mark_completion_reported(records, &folder);
            }
            if let Some(why) = failure_reason(&result) {
                failed.report(format!("--on-download-complete '{shown}' failed: {why}"), &outputs, &torrent);
            }
            drop::<crossbeam_channel::Sender<NoMessages>>(ends);
        };
        match thread::Builder::new().name("hook".to_owned()).spawn(run) {
            // The thread cannot be interrupted: if the command runs too long, the process exits without joining it.
            Ok(_) => self.running = Some(ended),
            Err(error) => {
                let message = format!("--on-download-complete cannot be run: {}", reason(&error));
                self.failed.report(message, &self.outputs, &self.handle);
            }
        }
    }
}

/// Why the command failed, if it did.
fn failure_reason(result: &io::Result<ExitStatus>) -> Option<String> {
    match result {
        Ok(status) if status.success() => None,
        Ok(status) => Some(status.to_string()),
        Err(error) => Some(reason(error)),
    }
}

/// The command for the shell, preceded by one that restores the original limit on file descriptors.
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
            let command = sanitize(&self.config.command);
            self.outputs.screen.print(&format!(
                "--on-download-complete '{command}' is still running; btsync exits without waiting for it"
            ));
        }
    }
}
