//! One torrent of a batch on its own thread: loads the torrent, claims it, and runs it with its reporters.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crossbeam_channel::Sender;

use crate::cli::batch::queue::{JobId, JobOutcome};
use crate::cli::batch::reporter::EventLineReporter;
use crate::cli::batch::targets::NamedTorrent;
use crate::cli::batch::{Batch, BatchEvent, MAX_NAME_WIDTH, watch};
use crate::cli::exit::{Exit, Failure};
use crate::cli::options::names::NameKind;
use crate::cli::outcome;
use crate::cli::report::hook::Hook;
use crate::cli::report::json::JsonReporter;
use crate::cli::report::plain::PlainReporter;
use crate::cli::report::{FinalStatus, Reporter, Reporters, run_torrent, sanitize};
use crate::cli::source::{LoadedSource, from_link, load_source};
use crate::util::printable_text::printable;
use crate::util::redact::{public_name, redacted};
use btsync::InfoHash;
use btsync::Magnet;
use btsync::{ClaimPosition, Event, TorrentHandle};

/// Where a job gets its torrent.
pub(crate) enum JobSource {
    /// A file, a magnet link or a URL from the command line or the input file.
    Named(NamedTorrent),
    /// A torrent file in the watched folder, or a link from a magnet file there.
    Watched(PathBuf, Option<Box<Magnet>>),
}

impl JobSource {
    /// The name to show until the torrent's own name is known.
    pub fn name(&self) -> String {
        let file_name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
        sanitize(&match self {
            JobSource::Named(NamedTorrent { name, .. }) => match NameKind::of(Path::new(name)) {
                NameKind::Url => public_name(name),
                NameKind::Magnet => {
                    let magnet = Magnet::parse(name).ok();
                    let known = |link: Magnet| link.name.unwrap_or_else(|| link.info_hash.to_string());
                    magnet.map_or_else(|| redacted(name), known)
                }
                NameKind::Stdin | NameKind::Path => file_name(Path::new(name)).unwrap_or_else(|| name.clone()),
            },
            JobSource::Watched(path, _) => file_name(path).unwrap_or_default(),
        })
    }

    /// Whether the torrent can be read from disk at once.
    pub fn is_local(&self) -> bool {
        match self {
            JobSource::Named(named) => Path::new(&named.name).is_file(),
            JobSource::Watched(_, link) => link.is_none(),
        }
    }
}

/// Runs a job from start to end. Every failure has been reported when it returns.
pub(crate) fn run(batch: &Batch, job: JobId, source: JobSource, claim_position: ClaimPosition) -> JobOutcome {
    let name = source.name();
    let named = matches!(source, JobSource::Named(_));
    let mut settings = batch.client.settings();
    let loaded = match source {
        JobSource::Named(named) => load_source(Path::new(&named.name), &mut settings, &batch.stop)
            .and_then(|loaded| check_unchanged(&named, loaded.source.info_hash()).map(|()| loaded)),
        JobSource::Watched(path, None) => {
            let is_ours = |file: &File| {
                batch.client.owns_file(&path)
                    || watch::is_known_output(settings.downloaded_torrents_folder.as_deref(), &path, file)
            };
            watch::reload(&path, is_ours, || !batch.is_stopped()).map(LoadedSource::from)
        }
        JobSource::Watched(_, Some(magnet)) => Ok(from_link(*magnet, &mut settings)),
    };
    let LoadedSource { source, save_event } = match loaded {
        Ok(loaded) => loaded,
        Err(failure) => return batch.failed(&name, None, &failure),
    };
    let info_hash = source.info_hash();
    if !batch.taken_torrents.lock().claim(job, info_hash, named) {
        if named {
            batch.report_duplicate(&name);
        }
        return JobOutcome::Duplicate;
    }
    let torrent = batch.client.torrent(job, source, settings.options, claim_position);
    let handle = torrent.handle();
    batch.page.add(&handle, &batch.client.settings().out_dir);
    // `stop` is announced before the torrents are stopped, so a torrent that `SharedClient::stop` misses sees it here.
    if batch.is_stopped() {
        handle.stop();
    }
    let mut reporters = reporters(batch, job, &handle);
    if let Some(event) = save_event {
        reporters.event(batch.outputs.start.elapsed(), &event);
    }
    let result = run_torrent(torrent, &mut reporters, batch.outputs.start);
    batch.client.note_ended(job);
    match outcome::command_result(result, &handle, batch.stop_timeout) {
        Ok(()) => JobOutcome::Complete,
        Err(Failure { code, message }) => {
            let name = sanitize(handle.name());
            let failure = Failure::new(code, format!("{name}: {message}"));
            batch.failed(&name, Some(info_hash), &failure)
        }
    }
}

/// Rejects a file that holds another torrent than at the start: an earlier download may have overwritten it.
fn check_unchanged(named: &NamedTorrent, found: InfoHash) -> Result<(), Failure> {
    let NamedTorrent { name, info_hash } = named;
    let path = Path::new(name);
    let is_it = match info_hash {
        Some(known) => *known == found,
        // A path was a pipe at the start.
        None => NameKind::of(path) != NameKind::Path || !path.is_file(),
    };
    let why = "not started, because this file no longer holds the torrent that it held at the start";
    if is_it { Ok(()) } else { Err(Failure::new(Exit::BadTorrent, printable(&format!("{name}: {why}")))) }
}

/// The reporters of a torrent: JSON events on stdout, text on stderr, the user's hook command, and the scheduler.
fn reporters(batch: &Batch, job: JobId, handle: &TorrentHandle) -> Reporters {
    let folder = batch.client.settings().out_dir.to_string_lossy().into_owned();
    let screen = batch.outputs.screen.clone();
    let mut reporters: Vec<Box<dyn Reporter>> = Vec::new();
    if let Some(json_output) = &batch.outputs.json_output {
        let json = JsonReporter::new(handle.clone(), json_output.clone(), folder.clone());
        reporters.push(Box::new(json.for_batch(batch.outputs.start.elapsed())));
    }
    match (batch.is_quiet, screen.is_terminal()) {
        (true, _) => {}
        (false, true) => reporters.push(Box::new(EventLineReporter::new(handle.clone(), screen.clone()))),
        (false, false) => {
            reporters.push(Box::new(PlainReporter::new(handle.clone(), screen.clone()).for_batch(MAX_NAME_WIDTH)));
        }
    }
    if let Some((hook_config, failed)) = batch.hook.clone() {
        reporters.push(Box::new(Hook::new(hook_config, &folder, handle.clone(), batch.outputs.clone(), failed)));
    }
    // Last, so that all others report the completion before the next torrent starts.
    reporters.push(Box::new(CompletionNotifier { job, event_sender: batch.event_sender.clone() }));
    Reporters::new(reporters)
}

/// Tells the scheduler when a download completes, so that the next one can start.
struct CompletionNotifier {
    job: JobId,
    event_sender: Sender<BatchEvent>,
}

impl Reporter for CompletionNotifier {
    fn period(&self) -> Duration {
        Duration::from_secs(3600)
    }

    fn event(&mut self, _: Duration, event: &Event) {
        if *event == Event::Completed {
            // Fails only if the batch has ended.
            let _ = self.event_sender.send(BatchEvent::Complete(self.job));
        }
    }

    fn refresh(&mut self, _: Duration) {}

    fn finish(&mut self, _: Duration, _: FinalStatus) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn torrents_that_are_not_loaded_have_names() {
        let name = |text: &str| JobSource::Named(NamedTorrent { name: text.to_owned(), info_hash: None }).name();
        assert_eq!(name("folder/x.torrent"), "x.torrent");
        assert_eq!(name("http://me:pw@h/x.torrent?key=1"), "http://h");
        let hash = "a".repeat(40);
        assert_eq!(name(&format!("magnet:?xt=urn:btih:{hash}&dn=x.iso")), "x.iso");
        assert_eq!(name(&format!("magnet:?xt=urn:btih:{hash}")), hash);
        assert_eq!(name("magnet:?bad\x1b[2J&tr=http://t/key"), "magnet:?…");
        assert_eq!(name(".."), "..");
    }

    #[test]
    fn a_name_stands_for_the_torrent_that_was_there_at_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let (there, gone) = (dir.path().join("x.torrent"), dir.path().join("pipe"));
        std::fs::write(&there, "").unwrap();
        let [one, other] = [1, 2].map(|byte| InfoHash([byte; 20]));
        let is = |path: &Path, info_hash| {
            let name = path.to_string_lossy().into_owned();
            check_unchanged(&NamedTorrent { name, info_hash }, one).map_err(|failure| failure.code)
        };
        assert_eq!((is(&there, Some(one)), is(&there, Some(other))), (Ok(()), Err(Exit::BadTorrent)));
        assert_eq!((is(&gone, None), is(&there, None)), (Ok(()), Err(Exit::BadTorrent)), "it was a pipe");
        assert_eq!(is(Path::new("http://h/x.torrent"), None), Ok(()));
    }
}
