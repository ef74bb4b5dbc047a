//! The reader's part of the metadata phase: remembers what the peer says about pieces for the download, within bounds.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::mse::Rc4;
use crate::peer::reader::Reader;
use crate::peer::remembered::Remembered;
use crate::peer::{DisconnectReason, SILENCE_TIMEOUT};
use crate::wire::message::Message;

/// Bytes that each peer's messages may take: the bitfield of 131,072 pieces.
const ALLOWANCE: usize = 16 * 1024;
/// Bytes that all peers of a torrent together may take beyond that. A connection for which there is no room ends with the
/// metadata phase.
const MAX_BEYOND: usize = 16 << 20;

/// The messages remembered of one peer, and how much of the shared room they take.
pub(crate) struct DeferredMessages<'a> {
    remembered: Remembered,
    /// The bytes that all peers take of the shared room.
    room: &'a AtomicUsize,
    /// The bytes that this peer takes of it.
    beyond: usize,
}

impl<'a> DeferredMessages<'a> {
    /// No messages yet. `room` counts the bytes in use for all peers.
    pub fn new(room: &'a AtomicUsize, fast: bool) -> DeferredMessages<'a> {
        DeferredMessages { remembered: Remembered::new(fast), room, beyond: 0 }
    }

    /// Remembers a message, or gives up remembering if there is no room.
    pub fn take(&mut self, message: &Message<'_>) -> Result<(), DisconnectReason> {
        self.remembered.take(message)?;
        self.take_room();
        Ok(())
    }

    fn take_room(&mut self) {
        let beyond = self.remembered.size().saturating_sub(ALLOWANCE);
        if beyond > self.beyond {
            let more = beyond - self.beyond;
            if self.room.fetch_add(more, Ordering::AcqRel) + more > MAX_BEYOND {
                self.room.fetch_sub(more, Ordering::AcqRel);
                self.remembered.forget();
                self.take_room();
                return;
            }
        } else {
            self.room.fetch_sub(self.beyond - beyond, Ordering::AcqRel);
        }
        self.beyond = beyond;
    }
}

impl Drop for DeferredMessages<'_> {
    fn drop(&mut self) {
        self.room.fetch_sub(self.beyond, Ordering::AcqRel);
    }
}

impl Reader<'_> {
    /// Waits until there are bytes to read; false if the caller has to try again.
    pub(crate) fn wait_readable(&self) -> Result<bool, DisconnectReason> {
        match self.context.wake_pipe.wait(self.stream, SILENCE_TIMEOUT) {
            Ok(true) => Ok(true),
            Ok(false) => Err(DisconnectReason::Kept),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(DisconnectReason::io(&error)),
        }
    }

    /// The input for the next reader: the remembered messages followed by the bytes that have not been parsed, and the cipher
    /// for what follows. `None` if not everything could be remembered.
    pub fn into_rest(self) -> Option<(Vec<u8>, Option<Rc4>)> {
        let mut early = self.deferred.remembered.replay()?;
        early.extend_from_slice(&self.buffer.bytes()[self.unread.clone()]);
        Some((early, self.cipher))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_for_all_is_bounded_and_given_back() {
        let room = AtomicUsize::new(0);
        let taken = || room.load(Ordering::Relaxed);
        let (small, large) = (vec![1; ALLOWANCE], vec![1; ALLOWANCE + (1 << 17)]);
        let tell = |bits: &[u8]| {
            let mut deferred = DeferredMessages::new(&room, true);
            deferred.take(&Message::Bitfield(bits)).expect("a bitfield");
            deferred
        };
        let mut all: Vec<_> = (0..MAX_BEYOND >> 17).map(|_| tell(&large)).collect();
        assert_eq!(taken(), MAX_BEYOND);
        assert!(all.iter().all(|deferred| deferred.remembered.replay().is_some()));
        assert!(tell(&large).remembered.replay().is_none(), "there is no room left");
        assert!(tell(&small).remembered.replay().is_some(), "everybody has a little");
        all.pop();
        assert_eq!(taken(), MAX_BEYOND - (1 << 17));
        assert!(tell(&large).remembered.replay().is_some());
        all.clear();
        assert_eq!(taken(), 0);
    }
}
