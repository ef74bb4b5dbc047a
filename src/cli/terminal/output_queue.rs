//! A queue for output, bounded in bytes, with a thread that writes it: the reader may stop reading without blocking the
//! caller. A text for which there is no room is dropped and counted; once there is room again, a notice says how many were
//! dropped. When a write fails, for instance because the reader closed the pipe, the queue closes and the action of
//! [`OutputQueue::on_failure`] runs.

use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, OnceLock};
use std::thread;

use crossbeam_channel::{Sender, bounded};
use parking_lot::{Condvar, Mutex};

use crate::cli::stop::{NoMessages, StopSignal};

/// The maximum number of bytes for one write.
const CHUNK: usize = 64 * 1024;
/// The thread only copies bytes, so a small stack is enough.
const STACK_SIZE: usize = 128 * 1024;

/// Formats the notice about the given number of dropped texts; an empty string writes none.
type LossNotice = dyn Fn(u64) -> String + Send + Sync;

/// A queue for one stream. Clones share the queue and the thread.
#[derive(Clone)]
pub struct OutputQueue(Arc<OutputQueueInner>);

struct OutputQueueInner {
    state: Mutex<OutputQueueState>,
    changed: Condvar,
    max_bytes: usize,
    notice: Box<LossNotice>,
    /// Set if no thread could be started: the caller then writes directly and may block.
    direct: Mutex<Option<Box<dyn Write + Send>>>,
    /// The error of the write that failed.
    failure: OnceLock<io::Error>,
}

#[derive(Default)]
struct OutputQueueState {
    queued: Vec<u8>,
    /// Bytes that the thread has taken but not written yet.
    in_flight: usize,
    /// Texts dropped since the last notice.
    lost: u64,
    /// Whether a write failed: then nothing is queued any more.
    is_closed: bool,
    /// Disconnected when all is written.
    waiters: Vec<Sender<NoMessages>>,
    /// Runs once, when a write fails.
    on_failure: Option<FailureAction>,
}

/// An action for [`OutputQueue::on_failure`].
type FailureAction = Box<dyn FnOnce() + Send>;

impl OutputQueue {
    /// Creates a queue for `out` that holds at most `max_bytes` bytes.
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
        // Nobody joins the thread: the process may end while it waits for a reader.
        if thread::Builder::new().name("out".to_owned()).stack_size(STACK_SIZE).spawn(work).is_ok() {
            let _ = begun.recv();
        }
        OutputQueue(shared)
    }

    /// Runs `action` once when a write fails, or at once if one has failed. It may run on any thread and must not block.
    pub fn on_failure(&self, action: impl FnOnce() + Send + 'static) {
        let mut state = self.0.state.lock();
        if state.is_closed {
            drop(state);
            return action();
        }
        state.on_failure = Some(Box::new(action));
    }

    /// The error of the write that failed, if any.
    pub fn failure(&self) -> Option<&io::Error> {
        self.0.failure.get()
    }

    /// Queues a text; false if the queue is full and the text was dropped.
    pub fn push(&self, text: &str) -> bool {
        self.enqueue(text, false)
    }

    /// Queues a text beyond the limit, for one that must not be dropped, such as the last one.
    pub fn push_always(&self, text: &str) {
        self.enqueue(text, true);
    }

    fn enqueue(&self, text: &str, is_always: bool) -> bool {
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
        // After a drop, wait until the queue is half empty: one notice instead of many.
        let full = state.queued.len() + state.in_flight;
        let room = if state.lost > 0 { full <= self.0.max_bytes / 2 } else { full + text.len() <= self.0.max_bytes };
        if !room && !is_always {
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

    /// Counts texts that the caller dropped before they were queued.
    pub fn count_dropped(&self, count: u64) {
        self.0.state.lock().lost += count;
    }

    /// Waits until all is written or a write has failed; once `stop` is set, only until its deadline.
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
            log::debug!("no program reads the output; the rest is lost");
        }
    }
}

impl OutputQueueInner {
    /// Runs the thread: writes queued bytes until a write fails.
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

    /// Records the error, drops the queue and wakes all waiters.
    fn fail(&self, error: io::Error) {
        let _ = self.failure.set(error);
        let before =
            mem::replace(&mut *self.state.lock(), OutputQueueState { is_closed: true, ..OutputQueueState::default() });
        before.on_failure.into_iter().for_each(|action| action());
    }
}

/// Fails with `WouldBlock` if the text was dropped; never blocks.
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
