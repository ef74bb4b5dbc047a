//! Output to a reader that may stop reading: a queue bounded in bytes, and a thread that writes it. A caller never waits: a text for
//! which there is no room is dropped and counted, and once there is room again a notice says how many were dropped. When a write
//! fails, such as at the end of a pipe's reader, nothing more is queued, and an action set by [`OutputQueue::on_failure`] runs.

use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, OnceLock};
use std::thread;

use crossbeam_channel::{Sender, bounded};
use parking_lot::{Condvar, Mutex};

use crate::cli::stop::{NoMessages, StopSignal};

/// Written in one go at most.
const CHUNK: usize = 64 * 1024;
/// The thread only copies bytes, so a small stack is enough.
const STACK_SIZE: usize = 128 * 1024;

/// Makes the notice of so many texts that were lost; empty where none is wanted.
type LossNotice = dyn Fn(u64) -> String + Send + Sync;

/// Clones share the queue and the thread.
#[derive(Clone)]
pub struct OutputQueue(Arc<OutputQueueInner>);

struct OutputQueueInner {
    state: Mutex<OutputQueueState>,
    changed: Condvar,
    max_bytes: usize,
    notice: Box<LossNotice>,
    /// Set if no thread could be started: the caller then writes, and waits for the reader.
    direct: Mutex<Option<Box<dyn Write + Send>>>,
    /// Why nothing can be written any more.
    failure: OnceLock<io::Error>,
}

#[derive(Default)]
struct OutputQueueState {
    queued: Vec<u8>,
    /// Bytes that the thread has taken and not written yet.
    in_flight: usize,
    /// Texts that were dropped since the last notice.
    lost: u64,
    /// The reader is gone: nothing is queued any more.
    is_closed: bool,
    /// Threads that wait until all is written: disconnected then.
    waiters: Vec<Sender<NoMessages>>,
    /// What to do once when a write fails.
    on_failure: Option<FailureAction>,
}

/// Runs once.
type FailureAction = Box<dyn FnOnce() + Send>;

impl OutputQueue {
    /// A way to `out` on which at most `max_bytes` bytes wait.
    pub fn new(
        out: Box<dyn Write + Send>,
        max_bytes: usize,
        notice: impl Fn(u64) -> String + Send + Sync + 'static,
    ) -> OutputQueue {
        let (state, changed, direct) = (Mutex::default(), Condvar::new(), Mutex::new(Some(out)));
        let failure = OnceLock::new();
        let shared =
            Arc::new(OutputQueueInner { state, changed, max_bytes, notice: Box::new(notice), direct, failure });
        let (ours, (ready, begun)) = (shared.clone(), bounded(1));
        let work = move || {
            let out = ours.direct.lock().take();
            let _ = ready.send(());
            if let Some(out) = out {
                ours.write(out);
            }
        };
        // The process may end while it waits for a reader: nobody joins it.
        if thread::Builder::new().name("out".to_owned()).stack_size(STACK_SIZE).spawn(work).is_ok() {
            let _ = begun.recv();
        }
        OutputQueue(shared)
    }

    /// Has `action` run once when a write fails; at once where one has failed. It runs in any thread, and must not wait.
    pub fn on_failure(&self, action: impl FnOnce() + Send + 'static) {
        let mut state = self.0.state.lock();
        if state.is_closed {
            drop(state);
            return action();
        }
        state.on_failure = Some(Box::new(action));
    }

    /// Why nothing can be written any more.
    pub fn failure(&self) -> Option<&io::Error> {
        self.0.failure.get()
    }

    /// Queues a text; false if the queue is full and the text was dropped.
    pub fn push(&self, text: &str) -> bool {
        self.enqueue(text, false)
    }

    /// The same for one that must not be lost, such as the last one.
    pub fn push_always(&self, text: &str) {
        self.enqueue(text, true);
    }

    fn enqueue(&self, text: &str, always: bool) -> bool {
        if let Some(out) = self.0.direct.lock().as_mut() {
            if self.0.failure.get().is_none()
                && let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush())
            {
                self.0.fail(error);
            }
            return true;
        }
        let mut state = self.0.state.lock();
        if state.is_closed {
            return true;
        }
        // Once something is lost, more is, until there is room again: one notice and not many.
        let full = state.queued.len() + state.in_flight;
        let room = if state.lost > 0 { full <= self.0.max_bytes / 2 } else { full + text.len() <= self.0.max_bytes };
        if !room && !always {
            state.lost += 1;
            return false;
        }
        let lost = mem::take(&mut state.lost);
        if lost > 0 {
            state.queued.extend_from_slice((self.0.notice)(lost).as_bytes());
        }
        state.queued.extend_from_slice(text.as_bytes());
        self.0.changed.notify_one();
        true
    }

    /// Counts texts that were dropped before they came here.
    pub fn count_dropped(&self, count: u64) {
        self.0.state.lock().lost += count;
    }

    /// Waits until all is written, or nobody reads any more; not for long where `stop` says that the process is to end.
    pub fn finish(&self, stop: &StopSignal) {
        let (waits, done) = bounded(0);
        {
            let mut state = self.0.state.lock();
            if state.is_closed {
                return;
            }
            let lost = mem::take(&mut state.lost);
            if lost > 0 {
                let notice = (self.0.notice)(lost);
                state.queued.extend_from_slice(notice.as_bytes());
            }
            state.waiters.push(waits);
            self.0.changed.notify_one();
        }
        if self.0.direct.lock().is_none() && !stop.wait(&done) {
            log::debug!("nobody reads what was still to be said");
        }
    }
}

impl OutputQueueInner {
    /// Writes what comes, until nobody reads any more.
    fn write(&self, mut out: Box<dyn Write + Send>) {
        loop {
            let chunk = {
                let mut state = self.state.lock();
                while state.queued.is_empty() {
                    state.waiters.clear();
                    self.changed.wait(&mut state);
                }
                let rest = if state.queued.len() > CHUNK { state.queued.split_off(CHUNK) } else { Vec::new() };
                let chunk = mem::replace(&mut state.queued, rest);
                state.in_flight = chunk.len();
                chunk
            };
            let written = out.write_all(&chunk).and_then(|()| out.flush());
            self.state.lock().in_flight = 0;
            if let Err(error) = written {
                return self.fail(error);
            }
        }
    }

    /// A write failed: nothing is queued any more, and nobody waits.
    fn fail(&self, error: io::Error) {
        let _ = self.failure.set(error);
        let before =
            mem::replace(&mut *self.state.lock(), OutputQueueState { is_closed: true, ..OutputQueueState::default() });
        before.on_failure.into_iter().for_each(|action| action());
    }
}

/// Returns an error if a text was dropped; never blocks.
impl Write for OutputQueue {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.push(&String::from_utf8_lossy(bytes)) { Ok(bytes.len()) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
