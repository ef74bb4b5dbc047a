//! Loads the block list of a client before the client listens, and again when it has changed. One thread looks whether a file has
//! another time, size or inode; a list from a URL is fetched once a day. If a later list cannot be used, the former stays in force.

mod load;

use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::client::{Client, ClientError};
use crate::net::block_list::read::BlockListError;
pub use load::BlockListSource;
use load::Fingerprint;
pub(crate) use load::{BlockListLoader, block_list_reason};

/// How often the thread looks whether a file has changed.
const FILE_INTERVAL: Duration = Duration::from_secs(15);
/// How often a list is fetched again.
const URL_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);
/// The same after a failure.
const URL_RETRY: Duration = Duration::from_secs(60 * 60);
/// How long the end of a client waits for the thread, which may wait for a server.
const STOP_TIMEOUT: Duration = Duration::from_millis(50);
/// The thread's stack size: it may resolve names and use TLS.
const STACK: usize = 512 * 1024;

impl Client {
    /// Loads the block list, unless that was done: before anything is sent to peers or received from them.
    pub(super) fn load_block_list(&self) -> Result<(), ClientError> {
        let Some(source) = &self.config.block_list else { return Ok(()) };
        if self.net.lock().block_list.is_some() {
            return Ok(());
        }
        let loader = BlockListLoader {
            source: source.clone(),
            copy: self.config.block_list_copy.clone(),
            route: self.config.route.clone(),
            filter: self.address_filter.clone(),
            is_outdated: Arc::default(),
        };
        // Without the lock, because it takes long.
        let watch = BlockListWatch::start(loader)?;
        let replaced = self.net.lock().block_list.replace(watch);
        drop(replaced);
        Ok(())
    }
}

/// Keeps the filter up to date with its source until it is dropped.
pub(crate) struct BlockListWatch {
    loader: BlockListLoader,
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
    pub fn start(loader: BlockListLoader) -> Result<BlockListWatch, ClientError> {
        let interval = interval_of(&loader.source);
        BlockListWatch::with_interval(loader, interval)
    }

    /// Starts a thread that loads the list first. If it cannot, nothing is blocked until it can.
    ///
    /// # Errors
    /// If no thread can be started.
    #[cfg(feature = "service")]
    pub fn start_later(loader: BlockListLoader) -> Result<BlockListWatch, ClientError> {
        let interval = interval_of(&loader.source);
        BlockListWatch::spawn(Reloader { loader, fingerprint: None, seen: None }, interval, Duration::ZERO)
    }

    /// A loader of the same list, which changes nothing once the watch has ended.
    #[cfg(feature = "service")]
    pub fn loader(&self) -> BlockListLoader {
        self.loader.clone()
    }

    fn with_interval(loader: BlockListLoader, interval: Duration) -> Result<BlockListWatch, ClientError> {
        // First, so that a change while the list is read is noticed.
        let fingerprint = loader.source.fingerprint();
        let is_current = loader.load_or_use_copy().map_err(|error| failure(&loader.source, &error))?;
        let pause = if is_current { interval } else { interval.min(URL_RETRY) };
        BlockListWatch::spawn(Reloader { loader, fingerprint, seen: fingerprint }, interval, pause)
    }

    fn spawn(reloader: Reloader, interval: Duration, pause: Duration) -> Result<BlockListWatch, ClientError> {
        let loader = reloader.loader.clone();
        let (stop, stopped) = bounded(0);
        let (runs, ended) = bounded(0);
        let work = move || {
            reloader.run(interval, pause, &stopped);
            drop(runs);
        };
        let thread = Builder::new().name("block-list".into()).stack_size(STACK).spawn(work);
        let thread = thread.map_err(|error| failure(&loader.source, &error.into()))?;
        Ok(BlockListWatch { loader, stop: Some(stop), ended, thread: Some(thread) })
    }
}

fn interval_of(source: &BlockListSource) -> Duration {
    if matches!(source, BlockListSource::File(_)) { FILE_INTERVAL } else { URL_INTERVAL }
}

fn failure(source: &BlockListSource, error: &BlockListError) -> ClientError {
    ClientError::BlockList { place: source.public_name(), reason: block_list_reason(error) }
}

impl Drop for BlockListWatch {
    fn drop(&mut self) {
        self.loader.is_outdated.set(true);
        drop(self.stop.take());
        // A thread that waits for a server is left behind. It no longer changes the filter.
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
    loader: BlockListLoader,
    /// That of the file that was loaded last, or could not be.
    fingerprint: Option<Fingerprint>,
    /// That of the last look.
    seen: Option<Fingerprint>,
}

impl Reloader {
    /// Looks at the list after each interval. `pause` is the time until the first look.
    fn run(mut self, interval: Duration, mut pause: Duration, stopped: &Receiver<()>) {
        while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
            pause = if self.reload_if_changed() { interval } else { interval.min(URL_RETRY) };
        }
    }

    /// Returns whether the list in force is the current one, as far as is known.
    fn reload_if_changed(&mut self) -> bool {
        let source = &self.loader.source;
        let fingerprint = source.fingerprint();
        let is_file = matches!(source, BlockListSource::File(_));
        let is_settled = std::mem::replace(&mut self.seen, fingerprint) == fingerprint;
        // A file that is gone may be about to be replaced, and another program may still write to one that has just changed.
        if is_file && (fingerprint.is_none() || fingerprint == self.fingerprint || !is_settled) {
            return true;
        }
        // Also if it cannot be used: only another change is a reason to try again.
        self.fingerprint = fingerprint;
        // The kept list serves only until a list was loaded.
        let has_list = self.loader.filter.stats().is_some();
        let loaded = if has_list { self.loader.load().map(|()| true) } else { self.loader.load_or_use_copy() };
        loaded.unwrap_or_else(|error| {
            let (name, why) = (source.public_name(), block_list_reason(&error));
            let rest = if has_list { "the former list stays in force" } else { "no address is blocked" };
            log::warn!("block list {name}: {why}; {rest}");
            false
        })
    }
}

#[cfg(test)]
pub(crate) mod test_server;
#[cfg(test)]
mod tests;
