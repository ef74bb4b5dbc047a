//! The first signal, and how long the process may take to end after it. Threads that wait for a reader of our output or for the user's
//! command wait no longer than that.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, select};
use parking_lot::Mutex;

/// The longest time from the first signal to the end of the process.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(1900);

/// The type of a channel that carries no message and serves only to be disconnected.
pub type NoMessages = std::convert::Infallible;

/// Set once, by the first signal; clones are the same.
#[derive(Clone, Debug)]
pub struct StopSignal {
    alive: Arc<Mutex<Option<Sender<NoMessages>>>>,
    set: Receiver<NoMessages>,
    at: Arc<OnceLock<Instant>>,
}

impl Default for StopSignal {
    fn default() -> StopSignal {
        let (alive, set) = bounded(0);
        StopSignal { alive: Arc::new(Mutex::new(Some(alive))), set, at: Arc::default() }
    }
}

impl StopSignal {
    /// The process is to end.
    pub fn set(&self) {
        let _ = self.at.set(Instant::now());
        drop(self.alive.lock().take());
    }

    /// Whether the process is to end.
    pub fn is_set(&self) -> bool {
        self.at.get().is_some()
    }

    /// Waits until something comes through `done` or it is disconnected. False where the process is to end and cannot wait any
    /// longer.
    pub fn wait<T>(&self, done: &Receiver<T>) -> bool {
        select! {
            recv(done) -> _ => return true,
            recv(self.set) -> _ => {}
        }
        let end = self.at.get().map_or_else(Instant::now, |at| *at + SHUTDOWN_TIMEOUT);
        !matches!(done.recv_deadline(end), Err(RecvTimeoutError::Timeout))
    }
}
