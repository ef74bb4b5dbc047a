//! What other threads tell the thread of the connections, and how they wake it.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, eventfd};

use crate::http::response::Response;
use crate::http::source::{BodySource, Pulled};
use crate::util::atomics::Flag;

/// A message about the connection with this number.
pub(super) enum Letter {
    /// A handler's response.
    Answered(u64, Response),
    /// What a source has produced; the source comes back with it.
    Pulled(u64, Box<dyn BodySource>, io::Result<(Pulled, Vec<u8>)>),
    /// A pending source has more.
    Woken(u64),
}

/// The queue of letters. Bounded: for each connection at most one answer or pull, and one wake-up.
pub(super) struct Mailbox {
    letters: Mutex<Vec<Letter>>,
    event: OwnedFd,
    stopping: Flag,
}

impl Mailbox {
    pub(super) fn new() -> io::Result<Mailbox> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Mailbox { letters: Mutex::default(), event, stopping: Flag::default() })
    }

    /// Adds a letter.
    pub(super) fn send(&self, letter: Letter) {
        let is_first = {
            let mut letters = self.letters.lock();
            letters.push(letter);
            letters.len() == 1
        };
        if is_first {
            self.ring();
        }
    }

    /// Takes all letters.
    pub(super) fn take(&self) -> Vec<Letter> {
        // Emptied before the letters are taken, so that none is left without a wake-up.
        let _ = rustix::io::read(&self.event, &mut [0; 8]);
        std::mem::take(&mut self.letters.lock())
    }

    /// Asks the thread of the connections to end.
    pub(super) fn stop(&self) {
        self.stopping.set(true);
        self.ring();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.is_set()
    }

    fn ring(&self) {
        // Fails only if the counter is at its maximum, and then the thread is awake anyway.
        let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
    }
}

impl AsFd for Mailbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

/// Tells the server that a pending [`BodySource`] has more. Cheap to clone and to call, from any thread, under any lock.
#[derive(Clone)]
pub struct Waker {
    inner: Arc<WakerInner>,
}

struct WakerInner {
    mailbox: Arc<Mailbox>,
    key: u64,
    is_woken: Flag,
}

impl Waker {
    pub(super) fn new(mailbox: &Arc<Mailbox>, key: u64) -> Waker {
        Waker { inner: Arc::new(WakerInner { mailbox: Arc::clone(mailbox), key, is_woken: Flag::default() }) }
    }

    /// Makes the server ask the source again. Does nothing if it is going to do so, or if the connection is gone.
    pub fn wake(&self) {
        if !self.inner.is_woken.swap(true) {
            self.inner.mailbox.send(Letter::Woken(self.inner.key));
        }
    }

    /// From now on, [`Waker::wake`] sends a letter again. Called before each pull, so that no wake-up during the pull is lost.
    pub(super) fn arm(&self) {
        self.inner.is_woken.set(false);
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waker").field("key", &self.inner.key).finish_non_exhaustive()
    }
}
