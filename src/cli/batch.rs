//! Downloads several torrents at once: each runs on its own thread, and the command's main thread schedules them.
//!
//! [`targets`](mod@targets) resolves the arguments, [`queue`] decides what starts next (pure), [`job`] runs one torrent from start to
//! end, [`watch`] watches a folder, [`shared_client`] holds what all torrents
//! share, [`rows`] and [`live_view`] draw the live view, [`reporter`] reports a torrent's events. A download of a single
//! torrent uses none of this but `targets`.

mod job;
mod live_view;
mod queue;
mod reporter;
mod rows;
mod shared_client;
mod targets;
mod watch;

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded, never, select, unbounded};
use parking_lot::Mutex;

use crate::cli::exit::{Exit, Failure};
use crate::cli::limits::LimitSignals;
use crate::cli::options::{DEFAULT_MAX_CONCURRENT, DownloadArgs};
use crate::cli::outcome;
use crate::cli::report::hook::{HookConfig, HookFailure};
use crate::cli::report::outputs::Outputs;
use crate::cli::report::sanitize;
use crate::cli::run_page::OptionalPage;
use crate::cli::settings::{Settings, descriptor_budget};
use crate::cli::signals;
use crate::cli::stop::NoMessages;
use crate::cli::terminal::keys::{KeyInput, Keyboard};
use crate::util::printable_text::printable;
use btsync::InfoHash;
use job::JobSource;
use live_view::BatchView;
use queue::{JobId, JobOutcome, JobQueue, TakenTorrents};
use shared_client::SharedClient;
use targets::NamedTorrent;
pub(crate) use targets::{Targets, targets};
use watch::{FolderWatch, WatchEvent};

/// Torrent names at the start of a line are truncated to this many columns.
const MAX_NAME_WIDTH: usize = 40;
/// The most files of the watched folder that wait for the scheduler; the thread that watches the folder waits meanwhile.
const MAX_QUEUED_WATCH_EVENTS: usize = 16;

/// A message to the scheduler on the command's main thread.
enum BatchEvent {
    /// A torrent is complete and may keep seeding.
    Complete(JobId),
    /// A torrent's thread is about to end.
    Ended(JobId, JobOutcome),
    /// The user asks to stop everything.
    Stop,
}

/// The name of a torrent that has not ended.
struct JobName {
    name: String,
    has_started: bool,
}

/// What all threads of a batch share.
struct Batch {
    client: SharedClient,
    queue: Mutex<JobQueue>,
    taken_torrents: Mutex<TakenTorrents>,
    /// The torrents that have not ended.
    names: Mutex<BTreeMap<JobId, JobName>>,
    outputs: Outputs,
    is_quiet: bool,
    hook: Option<(HookConfig, HookFailure)>,
    stop_timeout: Option<Duration>,
    page: OptionalPage,
    event_sender: Sender<BatchEvent>,
    /// Disconnected when everything must stop.
    stop: Receiver<NoMessages>,
}

impl Batch {
    fn is_stopped(&self) -> bool {
        self.stop.try_recv() == Err(TryRecvError::Disconnected)
    }

    /// Reports a failure at once, on the screen and as a JSON event.
    fn report_failure(&self, name: &str, info_hash: Option<InfoHash>, failure: &Failure) {
        self.outputs.screen.print(&format!("btsync: {}", failure.message.trim_end()));
        if let Some(json_output) = &self.outputs.json_output {
            json_output.torrent_error(self.outputs.start.elapsed(), failure, name, info_hash);
        }
    }

    /// Notes that a torrent occurs twice on the command line.
    fn report_duplicate(&self, name: &str) {
        if !self.is_quiet {
            self.outputs.screen.print(&format!("{name}: this torrent is named twice; btsync downloads it once"));
        }
    }

    fn failed(&self, name: &str, info_hash: Option<InfoHash>, failure: &Failure) -> JobOutcome {
        self.report_failure(name, info_hash, failure);
        JobOutcome::Failed(failure.code)
    }
}

/// Downloads all torrents of the command line and of the watched folder. Reports each failure when it happens.
///
/// # Errors
/// The exit code of the first torrent, in the order of the command line, that is not complete. The message is empty, as
/// every failure has been reported.
pub(crate) fn run(args: &DownloadArgs, targets: Targets, outputs: &Outputs) -> Result<(), Failure> {
    let no_signals = |e: io::Error| Failure::new(Exit::Other, format!("cannot watch for signals: {e}"));
    let settings = Settings::new(args)?.in_folder(targets.folder);
    check(&settings)?;
    let (limit, settings) = limit_concurrency(args, targets.torrents.len(), settings)?;
    let limits = settings.limits;
    let hook = args.hook(settings.unreported_folder.as_ref()).map(|hook_config| (hook_config, HookFailure::default()));
    // Bounded: two messages per running torrent, and one per request to stop.
    let ((event_sender, event_receiver), (stop_sender, stop)) = (unbounded(), bounded(0));
    // Bounds only what the scheduler has not taken yet: torrents of the watched folder that wait are not bounded.
    let (watch_sender, watch_receiver) = bounded(MAX_QUEUED_WATCH_EVENTS);
    // Owned here, so that the terminal is restored on every return path.
    let has_live_view = outputs.screen.is_terminal() && !args.quiet;
    let keyboard = if has_live_view { listen_to_keys(&event_sender).map_err(no_signals)? } else { None };
    let keys = keyboard.as_ref().map(Keyboard::keys);
    let (to_stop, asked, released) = (event_sender.clone(), outputs.stop.clone(), keys.clone());
    let stop_all = move || {
        // Restore the terminal first: a second signal exits at once, without another chance to do it.
        released.iter().for_each(KeyInput::release);
        drop(to_stop.send(BatchEvent::Stop));
        asked.set();
    };
    let _signals = signals::watch(stop_all).map_err(no_signals)?;
    let should_wait = || !outputs.stop.is_set();
    let batch = Arc::new(Batch {
        client: SharedClient::new(settings, should_wait).map_err(|error| outcome::failure(&error.into()))?,
        queue: Mutex::new(JobQueue::new(limit)),
        taken_torrents: Mutex::default(),
        names: Mutex::default(),
        outputs: outputs.clone(),
        is_quiet: args.quiet,
        hook,
        stop_timeout: args.stop_timeout,
        page: OptionalPage::start(args, &outputs.screen)?,
        event_sender: event_sender.clone(),
        stop,
    });
    let shared = batch.clone();
    stop_without_reader(outputs, &event_sender);
    let _limit_signals =
        LimitSignals::new(move |limits| shared.client.set_limits(limits), limits).map_err(no_signals)?;
    let Settings { out_dir, downloaded_torrents_folder, .. } = batch.client.settings();
    let on_event = move |event| drop(watch_sender.send(event));
    let watched = args
        .watch
        .as_deref()
        .map(|folder| FolderWatch::start(folder, (&out_dir, downloaded_torrents_folder), should_wait, on_event))
        .transpose()?;
    // If no thread can be started for the live view, the download runs without it.
    let live_view = has_live_view.then(|| BatchView::start(batch.clone(), keys).ok());
    let (waiting, threads) = (BTreeMap::new(), BTreeMap::new());
    let mut scheduler =
        BatchScheduler { batch, stop_sender: Some(stop_sender), is_watching: watched.is_some(), waiting, threads };
    scheduler.add_named(targets.torrents);
    scheduler.run(&event_receiver, watch_receiver);
    drop((watched, live_view));
    outputs.finish(scheduler.finish()) // before `_signals` is dropped
}

/// Reads the keyboard, if there is one. The batch stops when the terminal hangs up.
fn listen_to_keys(event_sender: &Sender<BatchEvent>) -> io::Result<Option<Keyboard>> {
    let hung_up = event_sender.clone();
    Keyboard::listen(move || drop(hung_up.send(BatchEvent::Stop)))
}

/// Stops the batch when nobody reads the JSON events any more.
fn stop_without_reader(outputs: &Outputs, event_sender: &Sender<BatchEvent>) {
    if let Some(json_output) = &outputs.json_output {
        let to_stop = event_sender.clone();
        json_output.on_failure(move || drop(to_stop.send(BatchEvent::Stop)));
    }
}

/// How many of `torrents` may run at once, and the settings for each, within the limit on file descriptors.
fn limit_concurrency(args: &DownloadArgs, torrents: usize, settings: Settings) -> Result<(usize, Settings), Failure> {
    let limit = args.max_concurrent.unwrap_or(DEFAULT_MAX_CONCURRENT);
    // A watched folder may add any number of torrents.
    let wanted = if args.watch.is_some() { limit } else { limit.min(torrents) };
    let budget = descriptor_budget(wanted)?;
    if budget.max_torrents < wanted {
        let at_once = budget.max_torrents;
        let torrents = if at_once == 1 { "torrent" } else { "torrents" };
        log::warn!("the limit on open files (`ulimit -n`) is low: btsync downloads {at_once} {torrents} at a time");
    }
    Ok((limit.min(budget.max_torrents), settings.limit_to_budget(budget)))
}

/// Rejects options that make sense for a single torrent only.
fn check(settings: &Settings) -> Result<(), Failure> {
    if let Some(place) = settings.save_torrent.as_ref().filter(|place| !place.is_dir()) {
        let place = printable(&place.to_string_lossy());
        return Err(Failure::new(
            Exit::BadOption,
            format!("--save-torrent {place}: with several torrents, this must be a folder"),
        ));
    }
    if settings.has_renamed_files {
        // Every torrent would save its file at the same path.
        return Err(Failure::new(
            Exit::BadOption,
            "--out is not allowed with several torrents: download that torrent by itself",
        ));
    }
    Ok(())
}

/// The scheduler on the command's main thread: the torrents that wait, and the threads of those that run.
struct BatchScheduler {
    batch: Arc<Batch>,
    /// Dropped to stop everything.
    stop_sender: Option<Sender<NoMessages>>,
    is_watching: bool,
    waiting: BTreeMap<JobId, JobSource>,
    threads: BTreeMap<JobId, JoinHandle<()>>,
}

impl BatchScheduler {
    fn add(&mut self, source: JobSource) {
        let job = self.batch.queue.lock().add();
        self.batch.names.lock().insert(job, JobName { name: source.name(), has_started: false });
        self.waiting.insert(job, source);
    }

    /// Adds the torrents of the command line and of the list, each name once.
    fn add_named(&mut self, torrents: Vec<NamedTorrent>) {
        let mut names = HashSet::new();
        for named in torrents {
            let is_new = names.insert(named.name.clone());
            let source = JobSource::Named(named);
            if is_new {
                self.add(source);
            } else {
                self.batch.report_duplicate(&source.name());
            }
        }
    }

    /// Handles events until no torrent runs, none waits, and the folder is no longer watched. Drops `watch_events` at the end, so
    /// that the thread that watches the folder does not wait for room in the queue.
    fn run(&mut self, event_receiver: &Receiver<BatchEvent>, mut watch_events: Receiver<WatchEvent>) {
        loop {
            self.start_ready();
            if self.batch.queue.lock().is_idle() && !self.is_watching {
                return;
            }
            select! {
                recv(event_receiver) -> event => match event {
                    Ok(BatchEvent::Complete(job)) => self.batch.queue.lock().mark_complete(job),
                    Ok(BatchEvent::Ended(job, end)) => self.note_ended(job, end),
                    Ok(BatchEvent::Stop) | Err(_) => self.stop(),
                },
                recv(watch_events) -> event => match event {
                    Ok(event) => self.handle_watch_event(event),
                    // No folder is watched, or no longer.
                    Err(_) => watch_events = never(),
                },
            }
        }
    }

    fn handle_watch_event(&mut self, event: WatchEvent) {
        match event {
            WatchEvent::File(path, loaded) => self.handle_watched_file(&path, loaded),
            WatchEvent::Ended(why) => {
                self.is_watching = false;
                let why = format!("--watch: {why}: btsync starts no further torrents");
                self.batch.report_failure("--watch", None, &Failure::new(Exit::OpenExisting, why));
            }
        }
    }

    /// Starts the torrents that the queue allows to start.
    fn start_ready(&mut self) {
        loop {
            let Some(job) = self.batch.queue.lock().start_next() else { return };
            let Some(source) = self.waiting.remove(&job) else { continue };
            let name = source.name();
            self.batch.names.lock().insert(job, JobName { name: name.clone(), has_started: true });
            let batch = self.batch.clone();
            // Numbered here, as the threads may reach this point in any order.
            let claim_position = batch.client.claim_position(&name, source.is_local());
            let run = move || {
                let end = catch_unwind(AssertUnwindSafe(|| job::run(&batch, job, source, claim_position)));
                // The panic message is on stderr already.
                let end = end.unwrap_or(JobOutcome::Failed(Exit::Other));
                let _ = batch.event_sender.send(BatchEvent::Ended(job, end));
            };
            match thread::Builder::new().name("torrent".to_owned()).spawn(run) {
                Ok(thread) => drop(self.threads.insert(job, thread)),
                Err(error) => {
                    let failure = Failure::new(Exit::Other, format!("{name}: cannot start a thread: {error}"));
                    let end = self.batch.failed(&name, None, &failure);
                    self.note_ended(job, end);
                }
            }
        }
    }

    fn note_ended(&mut self, job: JobId, end: JobOutcome) {
        if let Some(thread) = self.threads.remove(&job) {
            let _ = thread.join();
        }
        self.batch.client.note_ended(job);
        self.batch.names.lock().remove(&job);
        if matches!(end, JobOutcome::Failed(_)) {
            self.batch.taken_torrents.lock().mark_failed(job);
        }
        self.batch.queue.lock().note_ended(job, end);
    }

    /// Handles a file in the watched folder. An invalid file may still be incomplete: it is read again when it changes.
    fn handle_watched_file(&mut self, path: &Path, loaded: Result<watch::WatchedSources, Failure>) {
        match loaded {
            _ if self.batch.is_stopped() => {}
            _ if self.batch.client.owns_file(path) => {
                log::info!("{}: not started, because it belongs to a download", printable(&path.to_string_lossy()));
            }
            Ok(sources) => sources.into_iter().for_each(|link| self.add(JobSource::Watched(path.to_owned(), link))),
            Err(Failure { code, message }) => {
                let name = sanitize(&path.file_name().unwrap_or_default().to_string_lossy());
                let failure = Failure::new(code, format!("{message}; btsync reads it again when it changes"));
                self.batch.report_failure(&name, None, &failure);
            }
        }
    }

    fn stop(&mut self) {
        // In this order, so that a torrent added meanwhile is either stopped by `client.stop` or sees that the batch is
        // stopped.
        self.stop_sender = None;
        self.is_watching = false;
        self.batch.queue.lock().close();
        self.batch.client.stop();
    }

    /// Prints the summary and returns the exit code of the batch.
    fn finish(self) -> Result<(), Failure> {
        let queue = self.batch.queue.lock();
        let (counts, code) = (queue.counts(), queue.exit_code());
        drop(queue);
        let not_started = if counts.waiting > 0 { format!(", {} not started", counts.waiting) } else { String::new() };
        let failed = if counts.failed > 0 { format!(", {} incomplete", counts.failed) } else { String::new() };
        let complete = counts.complete + counts.seeding;
        if !self.batch.is_quiet {
            let noun = if complete == 1 { "torrent is" } else { "torrents are" };
            self.batch.outputs.screen.print(&format!("{complete} {noun} complete{failed}{not_started}"));
        }
        let result = if code == Exit::Done { Ok(()) } else { Err(Failure::new(code, "")) };
        match &self.batch.hook {
            Some((_, failed)) => failed.apply_to(result),
            None => result,
        }
    }
}
