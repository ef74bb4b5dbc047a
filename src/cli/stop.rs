//! The stop signal: set by the first SIGINT, SIGTERM or SIGHUP, with a deadline for the end of the process. Threads that wait for a
//! reader of the output or for the user's hook command stop waiting at that deadline.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, select};
use parking_lot::Mutex;

/// The maximum time from the first signal to the end of the process.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(1900);

/// The message type of a channel that carries no messages and is only disconnected.
pub type NoMessages = std::convert::Infallible;

/// Set once, by the first signal. Clones share the state.
#[derive(Clone, Debug)]
pub struct StopSignal {
    sender: Arc<Mutex<Option<Sender<NoMessages>>>>,
    stopped: Receiver<NoMessages>,
    stopped_at: Arc<OnceLock<Instant>>,
}

impl Default for StopSignal {
    fn default() -> StopSignal {
        let (sender, stopped) = bounded(0);
        StopSignal { sender: Arc::new(Mutex::new(Some(sender))), stopped, stopped_at: Arc::default() }
    }
}

impl StopSignal {
    /// Asks the process to end.
    pub fn set(&self) {
        let _ = self.stopped_at.set(Instant::now());
        drop(self.sender.lock().take());
    }

    /// Whether the process was asked to end.
    pub fn is_set(&self) -> bool {
        self.stopped_at.get().is_some()
    }

    /// Waits until `done` delivers a message or is disconnected. Returns false if the process was asked to end and the
    /// deadline has passed.
    pub fn wait<T>(&self, done: &Receiver<T>) -> bool {
        select! {
            recv(done) -> _ => return true,
            recv(self.stopped) -> _ => {}
        }
        let end = self.stopped_at.get().map_or_else(Instant::now, |at| *at + SHUTDOWN_TIMEOUT);
        !matches!(done.recv_deadline(end), Err(RecvTimeoutError::Timeout))
    }
}
