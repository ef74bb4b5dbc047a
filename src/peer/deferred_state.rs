//! What a peer says about pieces while the metadata of a magnet link is fetched and the number of pieces is unknown. Pure:
//! stores the shortest sequence of messages with the same meaning, which the reader handles like any others once the number is
//! known.

use std::collections::BTreeSet;

use crate::peer::connection::DisconnectReason;
use crate::types::PieceIndex;
use crate::wire::message::{self, Message};
use crate::wire::metadata::MAX_SIZE;

/// The bitfield of the largest torrent whose metadata we accept, in bytes; each piece takes 20 bytes of metadata.
pub const MAX_BITFIELD: usize = (MAX_SIZE as usize / 20).div_ceil(8);
/// At most this many HAVEs are kept of a peer that sends no bitfield.
const MAX_HAVES: usize = 16 * 1024;
/// Approximate memory of one HAVE.
const HAVE_SIZE: usize = 8;
/// At most this many allowed fast pieces are kept, as during a download.
const MAX_ALLOWED: usize = 64;

/// See the module's documentation.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug, Default)]
pub struct DeferredState {
    /// Whether both sides speak the fast extension (BEP 6).
    supports_fast: bool,
    /// Whether the peer sent `have all` (true) or `have none` (false).
    has_all: Option<bool>,
    bits: Option<Vec<u8>>,
    /// The HAVEs, if there is no bitfield to record them in.
    haves: BTreeSet<PieceIndex>,
    allowed: Vec<PieceIndex>,
    unchokes_us: bool,
    is_interested: bool,
    /// Whether there was too much to remember.
    has_forgotten: bool,
}

impl DeferredState {
    /// Nothing remembered yet.
    pub fn new(supports_fast: bool) -> DeferredState {
        DeferredState { supports_fast, ..DeferredState::default() }
    }

    /// Remembers a message; ignores messages that are not about pieces.
    ///
    /// # Errors
    /// If the message is wrong whatever the number of pieces is.
    pub fn take(&mut self, message: &Message<'_>) -> Result<(), DisconnectReason> {
        match message {
            fast if fast.is_fast() && !self.supports_fast => {
                return Err(DisconnectReason::ProtocolViolation(
                    "a message of the fast extension, which was not negotiated",
                ));
            }
            Message::Choke | Message::Unchoke => self.unchokes_us = *message == Message::Unchoke,
            Message::Interested | Message::NotInterested => self.is_interested = *message == Message::Interested,
            Message::HaveAll | Message::HaveNone if self.has_announced_pieces() => {
                return Err(DisconnectReason::ProtocolViolation("a late have-all or have-none"));
            }
            Message::HaveAll | Message::HaveNone => self.has_all = Some(*message == Message::HaveAll),
            Message::Bitfield(bits) => self.bitfield(bits)?,
            Message::Have(piece) => self.have(*piece)?,
            Message::AllowedFast(piece) if self.allowed.len() < MAX_ALLOWED && !self.allowed.contains(piece) => {
                self.allowed.push(*piece);
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether the peer has announced which pieces it has.
    fn has_announced_pieces(&self) -> bool {
        self.has_all.is_some() || self.bits.is_some() || !self.haves.is_empty() || self.has_forgotten
    }

    fn bitfield(&mut self, bits: &[u8]) -> Result<(), DisconnectReason> {
        if bits.len() > MAX_BITFIELD || self.bits.as_ref().is_some_and(|before| before.len() != bits.len()) {
            return Err(DisconnectReason::ProtocolViolation("a bitfield that fits no torrent"));
        }
        let has = |piece: &PieceIndex| bits.get(piece.as_usize() / 8).is_some_and(|byte| byte & mask(*piece) != 0);
        let before = self.bits.iter().flatten();
        if before.zip(bits).any(|(before, now)| before & !now != 0) || !self.haves.iter().all(has) {
            return Err(DisconnectReason::ProtocolViolation("a bitfield that takes pieces back"));
        }
        self.haves.clear();
        if !self.has_forgotten {
            self.bits = Some(bits.to_vec());
        }
        Ok(())
    }

    fn have(&mut self, piece: PieceIndex) -> Result<(), DisconnectReason> {
        if piece.as_usize() >= 8 * MAX_BITFIELD {
            return Err(DisconnectReason::ProtocolViolation("a HAVE beyond the last piece"));
        }
        match &mut self.bits {
            Some(bits) => match bits.get_mut(piece.as_usize() / 8) {
                Some(byte) => *byte |= mask(piece),
                None => return Err(DisconnectReason::ProtocolViolation("a HAVE beyond the last piece")),
            },
            None if self.has_forgotten => {}
            None if self.haves.len() < MAX_HAVES => _ = self.haves.insert(piece),
            None => self.forget(),
        }
        Ok(())
    }

    /// The peer has lost a piece (BEP 54).
    pub fn lost(&mut self, piece: PieceIndex) {
        self.haves.remove(&piece);
        if let Some(byte) = self.bits.as_mut().and_then(|bits| bits.get_mut(piece.as_usize() / 8)) {
            *byte &= !mask(piece);
        }
        if self.has_all == Some(true) {
            self.forget(); // all but one can be said only once the number of pieces is known
        }
    }

    /// The approximate number of bytes remembered.
    pub fn size(&self) -> usize {
        self.bits.as_ref().map_or(0, Vec::len) + HAVE_SIZE * self.haves.len()
    }

    /// Forgets everything, because there is no room for it.
    pub fn forget(&mut self) {
        (self.bits, self.has_forgotten) = (None, true);
        self.haves.clear();
    }

    /// Everything as messages, in an order in which a peer may send them; `None` if something was forgotten.
    pub fn replay(&self) -> Option<Vec<u8>> {
        if self.has_forgotten {
            return None;
        }
        let mut bytes = Vec::with_capacity(self.bits.as_ref().map_or(0, Vec::len) + 16 + 9 * self.haves.len());
        if let Some(all) = self.has_all {
            message::write_have_all_or_none(&mut bytes, all);
        }
        if let Some(bits) = &self.bits {
            message::write_bitfield(&mut bytes, bits);
        }
        for &piece in &self.haves {
            message::write_have(&mut bytes, piece);
        }
        for &piece in &self.allowed {
            message::write_allowed_fast(&mut bytes, piece);
        }
        if self.is_interested {
            message::write_interested(&mut bytes, true);
        }
        if self.unchokes_us {
            message::write_choke(&mut bytes, false);
        }
        Some(bytes)
    }
}

/// The piece's bit in its byte of a bitfield.
fn mask(piece: PieceIndex) -> u8 {
    0x80 >> (piece.0 % 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(number: u32) -> PieceIndex {
        PieceIndex(number)
    }

    /// The messages that a replay gives, or the reason if one of `messages` ends the connection.
    fn replayed(fast: bool, messages: &[Message<'_>]) -> Result<Vec<String>, DisconnectReason> {
        let mut deferred_state = DeferredState::new(fast);
        messages.iter().try_for_each(|message| deferred_state.take(message))?;
        let bytes = deferred_state.replay().expect("it is little");
        let (mut rest, mut said) = (&bytes[..], Vec::new());
        while let Some((message, length)) = message::parse(rest).expect("sound frames") {
            said.push(format!("{message:?}"));
            rest = &rest[length..];
        }
        assert!(rest.is_empty());
        Ok(said)
    }

    fn said(messages: &[Message<'_>]) -> Vec<String> {
        messages.iter().map(|message| format!("{message:?}")).collect()
    }

    #[test]
    fn the_last_word_of_each_kind_counts_and_haves_go_into_the_bitfield() {
        use Message::{AllowedFast, Bitfield, Choke, Extended, Have, Interested, NotInterested, Suggest, Unchoke};
        assert_eq!(replayed(true, &[]), Ok(Vec::new()));
        let messages = [
            Bitfield(&[0b1000_0000, 0]),
            Unchoke,
            Have(piece(1)),
            Choke,
            AllowedFast(piece(9)),
            AllowedFast(piece(9)),
            Suggest(piece(3)),
            Interested,
            Extended(0, b"de"),
            NotInterested,
            Interested,
            Have(piece(15)),
            Unchoke,
        ];
        let left = [Bitfield(&[0b1100_0000, 1]), AllowedFast(piece(9)), Interested, Unchoke];
        assert_eq!(replayed(true, &messages), Ok(said(&left)));
        let messages = [Have(piece(7)), Have(piece(2)), Have(piece(7)), Unchoke, Choke];
        assert_eq!(replayed(false, &messages), Ok(said(&[Have(piece(2)), Have(piece(7))])));
        // aria2 sends a bitfield instead of many HAVEs.
        let messages = [Have(piece(7)), Bitfield(&[0b0000_0011]), Bitfield(&[0b0001_0011])];
        assert_eq!(replayed(false, &messages), Ok(said(&[Bitfield(&[0b0001_0011])])));
        let messages = [Message::HaveNone, Have(piece(1))];
        assert_eq!(replayed(true, &messages), Ok(said(&messages)));
    }

    #[test]
    fn a_lost_piece_is_forgotten() {
        let replay = |messages: &[Message<'_>]| {
            let mut deferred_state = DeferredState::new(true);
            for message in messages {
                deferred_state.take(message).expect("a sound message");
            }
            for number in [1, 5, u32::MAX] {
                deferred_state.lost(piece(number));
            }
            deferred_state.replay()
        };
        let bytes = |messages: &[Message<'_>]| {
            let mut deferred_state = DeferredState::new(true);
            for message in messages {
                deferred_state.take(message).expect("a sound message");
            }
            deferred_state.replay()
        };
        assert_eq!(replay(&[Message::Bitfield(&[0b1100_0101])]), bytes(&[Message::Bitfield(&[0b1000_0001])]));
        assert_eq!(replay(&[Message::Have(piece(1)), Message::Have(piece(2))]), bytes(&[Message::Have(piece(2))]));
        assert_eq!(replay(&[Message::HaveAll]), None, "there is no message for it");
        assert_eq!(replay(&[Message::HaveNone]), bytes(&[Message::HaveNone]));
    }

    #[test]
    fn contradictory_messages_end_the_connection_as_in_a_download() {
        use Message::{AllowedFast, Bitfield, Have, HaveAll, HaveNone};
        let long = vec![0; MAX_BITFIELD + 1];
        let wrong: [&[Message<'_>]; 9] = [
            &[HaveAll, HaveNone],
            &[Have(piece(1)), HaveAll],
            &[Bitfield(&[0]), HaveNone],
            &[Bitfield(&[1]), Bitfield(&[2])],
            &[Bitfield(&[1]), Bitfield(&[1, 0])],
            &[Bitfield(&[1]), Have(piece(8))],
            &[Have(piece(8)), Bitfield(&[0xff])],
            &[Have(piece(u32::MAX))],
            &[Bitfield(&long)],
        ];
        for messages in wrong {
            assert!(matches!(replayed(true, messages), Err(DisconnectReason::ProtocolViolation(_))), "{messages:?}");
        }
        assert!(replayed(false, &[AllowedFast(piece(1))]).is_err() && replayed(false, &[HaveAll]).is_err());
    }

    #[test]
    fn remembered_messages_are_bounded_and_complete_or_forgotten() {
        let mut deferred_state = DeferredState::new(true);
        for number in 0..MAX_HAVES as u32 {
            deferred_state.take(&Message::Have(piece(number))).expect("a piece");
            deferred_state.take(&Message::AllowedFast(piece(number))).expect("a piece");
        }
        assert_eq!(deferred_state.size(), HAVE_SIZE * MAX_HAVES);
        assert_eq!(deferred_state.replay().map(|bytes| bytes.len()), Some(9 * (MAX_HAVES + MAX_ALLOWED)));
        deferred_state.take(&Message::Have(piece(MAX_HAVES as u32))).expect("a piece");
        assert_eq!((deferred_state.size(), deferred_state.replay()), (0, None));
        deferred_state.take(&Message::Bitfield(&[1; 5000])).expect("a bitfield");
        assert_eq!((deferred_state.size(), deferred_state.replay()), (0, None), "there was more before");
        deferred_state.take(&Message::Have(piece(7))).expect("a piece");
        assert_eq!(deferred_state.size(), 0, "nothing is collected that is not replayed");
    }
}
