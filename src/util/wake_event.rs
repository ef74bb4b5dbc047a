//! An event by which other threads wake a thread that waits for descriptors (eventfd).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};

/// Readable from [`WakeEvent::notify`] until [`WakeEvent::clear`].
#[derive(Debug)]
pub struct WakeEvent(OwnedFd);

impl WakeEvent {
    /// An event that has not happened.
    ///
    /// # Errors
    /// If there is no descriptor.
    pub fn new() -> io::Result<WakeEvent> {
        Ok(WakeEvent(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Wakes the thread.
    pub fn notify(&self) {
        // Fails only if the counter is at its maximum, and then the thread is awake anyway.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// Forgets all notifications. Called before the thread looks for work, so that none is left without a wake-up.
    pub fn clear(&self) {
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for WakeEvent {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    #[test]
    fn notifications_last_until_they_are_cleared() {
        let event = WakeEvent::new().expect("a descriptor");
        let is_readable = || {
            let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
            poll(&mut [PollFd::new(&event, PollFlags::IN)], Some(&at_once)) == Ok(1)
        };
        event.clear();
        assert!(!is_readable());
        event.notify();
        event.notify();
        assert!(is_readable());
        event.clear();
        assert!(!is_readable());
    }
}
