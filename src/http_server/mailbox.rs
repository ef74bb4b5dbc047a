//! The queue by which other threads wake the thread of the connections.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::http_server::response::Response;
use crate::http_server::source::{BodySource, Pulled};
use crate::util::atomics::Flag;
use crate::util::wake_event::WakeEvent;

/// A message about the connection with this number.
pub(super) enum ConnectionMessage {
    /// A handler's response.
    Answered(u64, Response),
    /// What a source has produced; the source comes back with it.
    Pulled(u64, Box<dyn BodySource>, io::Result<(Pulled, Vec<u8>)>),
    /// A pending source has more.
    Woken(u64),
}

/// The queue of messages. Bounded: for each connection at most one answer or pull, and one wake-up.
pub(super) struct Mailbox {
    messages: Mutex<Vec<ConnectionMessage>>,
    event: WakeEvent,
    stopping: Flag,
}

impl Mailbox {
    pub(super) fn new() -> io::Result<Mailbox> {
        Ok(Mailbox { messages: Mutex::default(), event: WakeEvent::new()?, stopping: Flag::default() })
    }

    /// Adds a message.
    pub(super) fn send(&self, message: ConnectionMessage) {
        let is_first = {
            let mut messages = self.messages.lock();
            messages.push(message);
            messages.len() == 1
        };
        if is_first {
            self.event.notify();
        }
    }

    /// Takes all messages.
    pub(super) fn take(&self) -> Vec<ConnectionMessage> {
        self.event.clear();
        std::mem::take(&mut self.messages.lock())
    }

    /// Asks the thread of the connections to end.
    pub(super) fn stop(&self) {
        self.stopping.set(true);
        self.event.notify();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.is_set()
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
            self.inner.mailbox.send(ConnectionMessage::Woken(self.inner.key));
        }
    }

    /// From now on, [`Waker::wake`] sends a message again. Called before each pull, so that no wake-up during the pull is lost.
    pub(super) fn arm(&self) {
        self.inner.is_woken.set(false);
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waker").field("key", &self.inner.key).finish_non_exhaustive()
    }
}
