//! The reader's part of the metadata phase: remembers what the peer says about pieces for the download, within bounds.

use std::io;

use crate::mse::Rc4;
use crate::peer::deferred_state::DeferredState;
use crate::peer::reader::Reader;
use crate::peer::{DisconnectReason, SILENCE_TIMEOUT};
use crate::types::PieceIndex;
use crate::util::atomics::Amount;
use crate::wire::message::Message;

/// Bytes that each peer's messages may take: the bitfield of 131,072 pieces.
const ALLOWANCE: usize = 16 * 1024;
/// Bytes that all peers of a torrent together may take beyond that. A connection for which there is no room ends with the
/// metadata phase.
const MAX_BEYOND: usize = 16 << 20;

/// The messages remembered of one peer, and how much of the shared room they take.
pub(crate) struct DeferredMessages<'a> {
    deferred_state: DeferredState,
    /// The bytes that all peers take of the shared room.
    shared_use: &'a Amount,
    /// The bytes that this peer takes of it.
    beyond_allowance: usize,
}

impl<'a> DeferredMessages<'a> {
    /// No messages yet. `shared_use` counts the bytes in use for all peers.
    pub fn new(shared_use: &'a Amount, supports_fast: bool) -> DeferredMessages<'a> {
        DeferredMessages { deferred_state: DeferredState::new(supports_fast), shared_use, beyond_allowance: 0 }
    }

    /// Remembers a message, or gives up remembering if there is no room.
    pub fn take(&mut self, message: &Message<'_>) -> Result<(), DisconnectReason> {
        self.deferred_state.take(message)?;
        self.take_room();
        Ok(())
    }

    /// The peer has lost a piece.
    pub fn lost(&mut self, piece: PieceIndex) {
        self.deferred_state.lost(piece);
        self.take_room();
    }

    fn take_room(&mut self) {
        let beyond_allowance = self.deferred_state.size().saturating_sub(ALLOWANCE);
        if beyond_allowance > self.beyond_allowance {
            let more = beyond_allowance - self.beyond_allowance;
            if self.shared_use.add(more) + more > MAX_BEYOND {
                self.shared_use.sub(more);
                self.deferred_state.forget();
                self.take_room();
                return;
            }
        } else {
            self.shared_use.sub(self.beyond_allowance - beyond_allowance);
        }
        self.beyond_allowance = beyond_allowance;
    }
}

impl Drop for DeferredMessages<'_> {
    fn drop(&mut self) {
        self.shared_use.sub(self.beyond_allowance);
    }
}

impl Reader<'_> {
    /// Waits until there are bytes to read; false if the caller has to try again.
    pub(crate) fn wait_readable(&self) -> Result<bool, DisconnectReason> {
        match self.context.shutdown.wake_pipe.wait(self.stream, SILENCE_TIMEOUT) {
            Ok(true) => Ok(true),
            Ok(false) => Err(DisconnectReason::Kept),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(DisconnectReason::io(&error)),
        }
    }

    /// The input for the next reader: the remembered messages followed by the bytes that have not been parsed, and the cipher
    /// for what follows. `None` if not everything could be remembered.
    pub fn into_rest(self) -> Option<(Vec<u8>, Option<Rc4>)> {
        let mut early = self.deferred.deferred_state.replay()?;
        early.extend_from_slice(&self.buffer.bytes()[self.unread.clone()]);
        Some((early, self.cipher))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_for_all_is_bounded_and_given_back() {
        let shared_use = Amount::default();
        let taken = || shared_use.get();
        let (small, large) = (vec![1; ALLOWANCE], vec![1; ALLOWANCE + (1 << 17)]);
        let remember = |bits: &[u8]| {
            let mut deferred = DeferredMessages::new(&shared_use, true);
            deferred.take(&Message::Bitfield(bits)).expect("a bitfield");
            deferred
        };
        let mut all: Vec<_> = (0..MAX_BEYOND >> 17).map(|_| remember(&large)).collect();
        assert_eq!(taken(), MAX_BEYOND);
        assert!(all.iter().all(|deferred| deferred.deferred_state.replay().is_some()));
        assert!(remember(&large).deferred_state.replay().is_none(), "there is no room left");
        assert!(remember(&small).deferred_state.replay().is_some(), "everybody has a little");
        all.pop();
        assert_eq!(taken(), MAX_BEYOND - (1 << 17));
        assert!(remember(&large).deferred_state.replay().is_some());
        all.clear();
        assert_eq!(taken(), 0);
    }
}
