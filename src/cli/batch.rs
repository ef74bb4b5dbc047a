//! Several torrents at once: each has a session on a thread of its own, and the command's own thread says whose turn it is.
//!
//! [`list`] sorts out what was named, [`queue`] (pure) says who begins, [`job`] runs one from its name to its end, [`fetch`] gets what
//! is named by URL, [`watch`] sees what appears in a folder, [`ground`] is what the sessions share, [`rows`] and [`board`] show
//! them on a terminal, [`teller`] tells what happens there. Where only one torrent is named none of this takes part.

pub(crate) mod fetch;
mod job;
mod queue;
mod reporter;
mod rows;
mod screen;
mod shared_client;
mod sources;
mod watch;

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded, unbounded};
use parking_lot::Mutex;

use crate::cli::commands::download;
use crate::cli::exit::{Exit, Failure};
use crate::cli::limits::Switch;
use crate::cli::options::DownloadArgs;
use crate::cli::outcome;
use crate::cli::report::clean;
use crate::cli::report::hook::{HookFailure, HookOrder};
use crate::cli::signals;
use crate::cli::stop::Never;
use crate::cli::terminal::keys::{Keyboard, Keys};
use crate::cli::terminal::outputs::Outputs;
use crate::metainfo::printable;
use crate::torrent::Config;
use crate::types::InfoHash;
use job::What;
use queue::{Claims, End, Job, Queue};
use screen::Board;
use shared_client::Ground;
pub(crate) use sources::{Targets, is_torrent_by_name, plain_name, targets, unknown_scheme};
use watch::{Sight, Watch};

/// So many download at once unless the user says otherwise.
pub(crate) const AT_ONCE: usize = 5;
/// Names are cut to so many columns where a line begins with them.
const LONGEST_NAME: usize = 40;

/// What the command's own thread is told.
enum Word {
    /// A torrent is whole, and may go on seeding.
    Whole(Job),
    /// A torrent's thread is about to end.
    Ended(Job, End),
    /// Something happened in the watched folder.
    Seen(Sight),
    /// The user wants all to end.
    Stop,
}

/// What the threads of a fleet share.
struct Fleet {
    ground: Ground,
    queue: Mutex<Queue>,
    claims: Mutex<Claims>,
    /// The names of those that have not ended, and whether they have begun.
    names: Mutex<BTreeMap<Job, (String, bool)>>,
    outputs: Outputs,
    quiet: bool,
    hook: Option<(HookOrder, HookFailure)>,
    patience: Option<Duration>,
    words: Sender<Word>,
    /// Disconnected once all is to end.
    stop: Receiver<Never>,
}

impl Fleet {
    fn is_stopped(&self) -> bool {
        self.stop.try_recv() == Err(TryRecvError::Disconnected)
    }

    /// Tells people and programs of a failure at once.
    fn tell(&self, name: &str, info_hash: Option<InfoHash>, failure: &Failure) {
        self.outputs.screen.say(&format!("btsync: {}", failure.message.trim_end()));
        if let Some(lines) = &self.outputs.lines {
            lines.error_of(self.outputs.start.elapsed(), failure, name, info_hash);
        }
    }

    /// Tells people that a torrent of the command line is named once too often.
    fn named_before(&self, name: &str) {
        if !self.quiet {
            self.outputs.screen.say(&format!("{name}: the same torrent was named before: it is fetched once"));
        }
    }

    fn failed(&self, name: &str, info_hash: Option<InfoHash>, failure: &Failure) -> End {
        self.tell(name, info_hash, failure);
        End::Failed(failure.code)
    }
}

/// Runs all that is named, and what appears in the watched folder, and tells of each failure as it happens.
///
/// # Errors
/// The exit code of the first, as they were named, that is not whole. Its message is empty where each failure has been told of.
pub(crate) fn run(args: &DownloadArgs, targets: Targets, outputs: &Outputs) -> Result<(), Failure> {
    let no_signals = |e: io::Error| Failure::new(Exit::Other, format!("cannot watch for signals: {e}"));
    let mut config = download::config(args)?;
    config.out_dir = targets.folder;
    check(&config)?;
    let (limit, config) = within_descriptors(args, targets.torrents.len(), config)?;
    let limits = config.limits;
    let hook = args.hook(config.pending.as_ref()).map(|order| (order, HookFailure::default()));
    // Bounded: a few words for each torrent, and for each file that the user puts into the watched folder.
    let ((words, heard), (alive, stop)) = (unbounded(), bounded(0));
    // Owned here, so that the terminal is left as it was however this ends.
    let looks = outputs.screen.is_terminal() && !args.quiet;
    let hung_up = words.clone();
    let listen = || Keyboard::listen(move || drop(hung_up.send(Word::Stop)));
    let keyboard = if looks { listen().map_err(no_signals)? } else { None };
    let keys = keyboard.as_ref().map(Keyboard::keys);
    let (to_stop, asked, released) = (words.clone(), outputs.stop.clone(), keys.clone());
    let stop_all = move || {
        // A second signal ends the process at once, and nobody could put the terminal right then.
        released.iter().for_each(Keys::release);
        drop(to_stop.send(Word::Stop));
        asked.set();
    };
    let _signals = signals::watch(stop_all).map_err(no_signals)?;
    let goes_on = || !outputs.stop.is_set();
    let fleet = Arc::new(Fleet {
        ground: Ground::new(config, goes_on).map_err(|error| outcome::failure(&error.into()))?,
        queue: Mutex::new(Queue::new(limit)),
        claims: Mutex::default(),
        names: Mutex::default(),
        outputs: outputs.clone(),
        quiet: args.quiet,
        hook,
        patience: args.stop_timeout,
        words: words.clone(),
        stop,
    });
    let shared = fleet.clone();
    if let Some(lines) = &outputs.lines {
        let to_stop = words.clone();
        lines.when_failed(move || drop(to_stop.send(Word::Stop)));
    }
    let _switch = Switch::new(move |limits| shared.ground.set_limits(limits), limits).map_err(no_signals)?;
    let Config { out_dir, brought, .. } = fleet.ground.config();
    let tell = move |seen| drop(words.send(Word::Seen(seen)));
    let watched =
        args.watch.as_deref().map(|folder| Watch::start(folder, (&out_dir, brought), goes_on, tell)).transpose()?;
    // A system without a thread to spare for the board still downloads.
    let board = looks.then(|| Board::start(fleet.clone(), keys).ok());
    let (waiting, threads) = (BTreeMap::new(), BTreeMap::new());
    let mut crew = Crew { fleet, alive: Some(alive), watching: watched.is_some(), waiting, threads };
    let mut names = HashSet::new();
    for named in targets.torrents {
        let is_new = names.insert(named.name.clone());
        let what = What::Named(named);
        if is_new {
            crew.add(what);
        } else {
            crew.fleet.named_before(&what.name());
        }
    }
    crew.work(&heard);
    drop((watched, board));
    outputs.conclude(crew.end()) // while signals are watched for
}

/// How many of so many torrents may run at once, and with which configuration: both within the limit on descriptors.
fn within_descriptors(args: &DownloadArgs, torrents: usize, config: Config) -> Result<(usize, Config), Failure> {
    let limit = args.max_concurrent.unwrap_or(AT_ONCE);
    // A watched folder may bring any number.
    let wanted = if args.watch.is_some() { limit } else { limit.min(torrents) };
    let budget = download::descriptor_budget(wanted)?;
    if budget.at_once < wanted {
        let at_once = budget.at_once;
        let torrents = if at_once == 1 { "torrent" } else { "torrents" };
        log::warn!("few files may be open at a time: {at_once} {torrents} at once; `ulimit -n` has the limit");
    }
    Ok((limit.min(budget.at_once), download::within(budget, config)))
}

/// Refuses what makes sense for a single torrent only.
fn check(config: &Config) -> Result<(), Failure> {
    if let Some(place) = config.save_torrent.as_ref().filter(|place| !place.is_dir()) {
        let place = printable(&place.to_string_lossy());
        return Err(Failure::new(Exit::BadOption, format!("--save-torrent {place}: for several it must be a folder")));
    }
    if !config.places.is_empty() {
        // The same file of each would go to the same place.
        return Err(Failure::new(Exit::BadOption, "--out names a file of one torrent: fetch that one by itself"));
    }
    Ok(())
}

/// The command's own thread's part: who waits, and which threads run.
struct Crew {
    fleet: Arc<Fleet>,
    /// Dropped when all is to end.
    alive: Option<Sender<Never>>,
    watching: bool,
    waiting: BTreeMap<Job, What>,
    threads: BTreeMap<Job, JoinHandle<()>>,
}

impl Crew {
    fn add(&mut self, what: What) {
        let job = self.fleet.queue.lock().add();
        self.fleet.names.lock().insert(job, (what.name(), false));
        self.waiting.insert(job, what);
    }

    /// Until nothing runs, and nothing will.
    fn work(&mut self, heard: &Receiver<Word>) {
        loop {
            self.begin();
            if self.fleet.queue.lock().is_idle() && !self.watching {
                return;
            }
            match heard.recv() {
                Ok(Word::Whole(job)) => self.fleet.queue.lock().is_whole(job),
                Ok(Word::Ended(job, end)) => self.ended(job, end),
                Ok(Word::Seen(Sight::File(path, found))) => self.seen(&path, found),
                Ok(Word::Seen(Sight::Gone(why))) => {
                    self.watching = false;
                    let why = format!("--watch: {why}: nothing new is begun");
                    self.fleet.tell("--watch", None, &Failure::new(Exit::OpenExisting, why));
                }
                Ok(Word::Stop) | Err(_) => self.stop(),
            }
        }
    }

    /// Begins those whose turn it is.
    fn begin(&mut self) {
        loop {
            let Some(job) = self.fleet.queue.lock().begin() else { return };
            let Some(what) = self.waiting.remove(&job) else { continue };
            let name = what.name();
            self.fleet.names.lock().insert(job, (name.clone(), true));
            let fleet = self.fleet.clone();
            // Here, as the threads come in any order.
            let turn = fleet.ground.turn(&name, what.is_near());
            let run = move || {
                let end = catch_unwind(AssertUnwindSafe(|| job::run(&fleet, job, what, turn)));
                // The reason is on stderr already.
                let end = end.unwrap_or(End::Failed(Exit::Other));
                let _ = fleet.words.send(Word::Ended(job, end));
            };
            match thread::Builder::new().name("torrent".to_owned()).spawn(run) {
                Ok(thread) => drop(self.threads.insert(job, thread)),
                Err(error) => {
                    let failure = Failure::new(Exit::Other, format!("{name}: no thread to run it: {error}"));
                    let end = self.fleet.failed(&name, None, &failure);
                    self.ended(job, end);
                }
            }
        }
    }

    fn ended(&mut self, job: Job, end: End) {
        if let Some(thread) = self.threads.remove(&job) {
            let _ = thread.join();
        }
        self.fleet.ground.ended(job);
        self.fleet.names.lock().remove(&job);
        if matches!(end, End::Failed(_)) {
            self.fleet.claims.lock().release(job);
        }
        self.fleet.queue.lock().ended(job, end);
    }

    /// A file in the watched folder. One that makes no sense may do so when it is written to the end.
    fn seen(&mut self, path: &Path, found: Result<watch::Found, Failure>) {
        match found {
            _ if self.fleet.is_stopped() => {}
            _ if self.fleet.ground.owns(path) => {
                log::info!("{}: part of a download, not begun", printable(&path.to_string_lossy()));
            }
            Ok(found) => found.into_iter().for_each(|link| self.add(What::Seen(path.to_owned(), link))),
            Err(Failure { code, message }) => {
                let name = clean(&path.file_name().unwrap_or_default().to_string_lossy());
                let told = Failure::new(code, format!("{message}; it is looked at again when it changes"));
                self.fleet.tell(&name, None, &told);
            }
        }
    }

    fn stop(&mut self) {
        // In this order: a session that is made meanwhile is either found here or finds out itself.
        self.alive = None;
        self.watching = false;
        self.fleet.queue.lock().close();
        self.fleet.ground.stop();
    }

    /// What has become of it all.
    fn end(self) -> Result<(), Failure> {
        let queue = self.fleet.queue.lock();
        let (counts, code) = (queue.counts(), queue.verdict());
        drop(queue);
        let unbegun = if counts.waiting > 0 { format!(", {} not begun", counts.waiting) } else { String::new() };
        let failed = if counts.failed > 0 { format!(", {} not", counts.failed) } else { String::new() };
        let whole = counts.whole + counts.seeding;
        if !self.fleet.quiet {
            let noun = if whole == 1 { "torrent is" } else { "torrents are" };
            self.fleet.outputs.screen.say(&format!("{whole} {noun} whole{failed}{unbegun}"));
        }
        let result = if code == Exit::Done { Ok(()) } else { Err(Failure::new(code, "")) };
        match &self.fleet.hook {
            Some((_, failed)) => failed.join(result),
            None => result,
        }
    }
}
