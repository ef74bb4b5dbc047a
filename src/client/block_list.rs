//! Loads the block list of a client before the client listens, and again when it has changed. One thread looks whether a file has
//! another time, size or inode; a list from a URL is fetched once a day. If a later list cannot be used, the former stays in force.

use std::fs::{self, File};
use std::io::{self, Cursor};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::client::{Client, ClientError};
use crate::discovery::tracker::http::{FetchedUrl, HttpTracker};
use crate::net::address_filter::AddressFilter;
use crate::net::bind::Bind;
use crate::net::block_list::read::{BlockList, BlockListError, read};
use crate::util::os_error::reason;
use crate::util::redact::public_name;

/// How often the thread looks whether a file has changed.
const FILE_INTERVAL: Duration = Duration::from_secs(15);
/// How often a list is fetched again.
const URL_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);
/// The same after a failure.
const URL_RETRY: Duration = Duration::from_secs(60 * 60);
/// How long a fetch may take.
const URL_DEADLINE: Duration = Duration::from_secs(60);
/// The largest list that is fetched, packed or not, in bytes.
const MAX_FETCHED: u64 = 64 << 20;
/// How long the end of a client waits for the thread, which may wait for a server.
const STOP_TIMEOUT: Duration = Duration::from_millis(50);
/// The thread's stack size: it may resolve names and use TLS.
const STACK: usize = 512 * 1024;

/// Where a block list comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockListSource {
    /// A file.
    File(PathBuf),
    /// An HTTP or HTTPS URL of the user.
    Url(String),
}

impl BlockListSource {
    /// A URL if it begins like one, otherwise the path of a file.
    pub fn new(place: &str) -> BlockListSource {
        let starts_with =
            |scheme: &str| place.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
        if starts_with("http://") || starts_with("https://") {
            BlockListSource::Url(place.to_owned())
        } else {
            BlockListSource::File(place.into())
        }
    }

    /// The place without secrets.
    pub(crate) fn public_name(&self) -> String {
        match self {
            BlockListSource::File(path) => path.display().to_string(),
            BlockListSource::Url(url) => public_name(url),
        }
    }

    /// Loads the list into the filter.
    fn load(&self, bind: &Bind, filter: &AddressFilter) -> Result<(), BlockListError> {
        let list = match self {
            BlockListSource::File(path) => read(File::open(path)?)?,
            BlockListSource::Url(url) => read(Cursor::new(fetch(url, bind)?))?,
        };
        let BlockList { ranges, invalid, first_invalid } = list;
        let name = self.public_name();
        log::info!("block list {name}: {} ranges", ranges.count());
        if invalid > 0 {
            log::warn!("block list {name}: {invalid} lines are invalid and ignored; the first is line {first_invalid}");
        }
        filter.set(ranges);
        Ok(())
    }

    /// What changes with the content of a file; `None` for a URL, and while there is no such file.
    fn fingerprint(&self) -> Option<(i64, i64, u64, u64)> {
        let BlockListSource::File(path) = self else { return None };
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.mtime(), metadata.mtime_nsec(), metadata.len(), metadata.ino()))
    }
}

fn fetch(url: &str, bind: &Bind) -> Result<Vec<u8>, BlockListError> {
    let fetched = HttpTracker::bound_to(bind, None).file(url, MAX_FETCHED, URL_DEADLINE);
    match fetched.map_err(|error| io::Error::other(error.without_secrets_of(url).to_string()))? {
        FetchedUrl::File(bytes) => Ok(bytes),
        FetchedUrl::Link { .. } => Err(io::Error::other("the URL leads to a magnet link").into()),
    }
}

/// The text of an error, without the system's number.
fn block_list_reason(error: &BlockListError) -> String {
    match error {
        BlockListError::Io(error) => reason(error),
        other => other.to_string(),
    }
}

impl Client {
    /// Loads the block list, unless that was done: before anything is sent to peers or received from them.
    pub(super) fn load_block_list(&self) -> Result<(), ClientError> {
        let Some(source) = &self.config.block_list else { return Ok(()) };
        if self.net.lock().block_list.is_some() {
            return Ok(());
        }
        // Without the lock, because it takes long.
        let watch = BlockListWatch::start(source, &self.config.bind, &self.address_filter);
        let watch = watch.map_err(|error| ClientError::BlockList {
            place: source.public_name(),
            reason: block_list_reason(&error),
        })?;
        let replaced = self.net.lock().block_list.replace(watch);
        drop(replaced);
        Ok(())
    }
}

/// Keeps the filter up to date with its source until it is dropped.
pub(crate) struct BlockListWatch {
    /// Its end ends the thread.
    stop: Option<Sender<()>>,
    /// Disconnected once the thread has ended.
    ended: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl BlockListWatch {
    /// Loads the list, and starts the thread.
    ///
    /// # Errors
    /// If the list cannot be loaded, or no thread can be started.
    pub fn start(
        source: &BlockListSource,
        bind: &Bind,
        filter: &Arc<AddressFilter>,
    ) -> Result<BlockListWatch, BlockListError> {
        let interval = if matches!(source, BlockListSource::File(_)) { FILE_INTERVAL } else { URL_INTERVAL };
        BlockListWatch::with_interval(source, bind, filter, interval)
    }

    fn with_interval(
        source: &BlockListSource,
        bind: &Bind,
        filter: &Arc<AddressFilter>,
        interval: Duration,
    ) -> Result<BlockListWatch, BlockListError> {
        // First, so that a change while the list is read is noticed.
        let fingerprint = source.fingerprint();
        source.load(bind, filter)?;
        let (stop, stopped) = bounded(0);
        let (runs, ended) = bounded(0);
        let reloader = Reloader {
            source: source.clone(),
            bind: bind.clone(),
            filter: filter.clone(),
            fingerprint,
            seen: fingerprint,
        };
        let work = move || {
            reloader.run(interval, &stopped);
            drop(runs);
        };
        let thread = Builder::new().name("block-list".into()).stack_size(STACK).spawn(work)?;
        Ok(BlockListWatch { stop: Some(stop), ended, thread: Some(thread) })
    }
}

impl Drop for BlockListWatch {
    fn drop(&mut self) {
        drop(self.stop.take());
        // A thread that waits for a server is left behind. It holds only the filter.
        let has_ended = self.ended.recv_timeout(STOP_TIMEOUT) == Err(RecvTimeoutError::Disconnected);
        if let Some(thread) = self.thread.take().filter(|_| has_ended)
            && thread.join().is_err()
        {
            log::error!("the block list's thread panicked");
        }
    }
}

/// The state of the thread.
struct Reloader {
    source: BlockListSource,
    bind: Bind,
    filter: Arc<AddressFilter>,
    /// That of the file that was loaded last, or could not be.
    fingerprint: Option<(i64, i64, u64, u64)>,
    /// That of the last look.
    seen: Option<(i64, i64, u64, u64)>,
}

impl Reloader {
    fn run(mut self, interval: Duration, stopped: &Receiver<()>) {
        let mut pause = interval;
        while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
            pause = if self.reload_if_changed() { interval } else { interval.min(URL_RETRY) };
        }
    }

    /// Returns whether the list in force is the current one, as far as is known.
    fn reload_if_changed(&mut self) -> bool {
        let fingerprint = self.source.fingerprint();
        let is_file = matches!(self.source, BlockListSource::File(_));
        let is_settled = std::mem::replace(&mut self.seen, fingerprint) == fingerprint;
        // A file that is gone may be about to be replaced, and another program may still write to one that has just changed.
        if is_file && (fingerprint.is_none() || fingerprint == self.fingerprint || !is_settled) {
            return true;
        }
        // Also if it cannot be used: only another change is a reason to try again.
        self.fingerprint = fingerprint;
        let loaded = self.source.load(&self.bind, &self.filter);
        if let Err(error) = &loaded {
            let (name, why) = (self.source.public_name(), block_list_reason(error));
            log::warn!("block list {name}: {why}; the former list stays in force");
        }
        loaded.is_ok()
    }
}

#[cfg(test)]
mod tests;
