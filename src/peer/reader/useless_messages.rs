//! Useless messages: btsync disconnects a peer that sends too many of them, or too many bytes of them.

use std::time::Duration;

use crate::peer::connection::DisconnectReason;
use crate::peer::reader::Reader;
use crate::wire::extension::OUR_METADATA_ID;
use crate::wire::message::Message;

/// How many short useless messages a peer may send without a useful one in between; the number of pieces is added, for HAVEs.
const MAX_USELESS: u32 = 10_000;
/// The most that chokes may count: each counts [`CHOKE`], and one for each request that it discards.
const MAX_CHOKES: u32 = 10_000;
const CHOKE: u32 = 10;
/// How much less the chokes count for each block that was requested. A client that chokes us every ten seconds sends several times
/// as many blocks as it discards requests.
const FORGIVEN_PER_BLOCK: u32 = 4;
/// What a lost piece counts, and one more for each of so many pieces of the torrent, because it takes work in proportion to these.
const LOSS: u32 = 20;
const PIECES_PER_LOSS_UNIT: u32 = 500;
/// The counts start anew after this time.
const SPAN: Duration = Duration::from_secs(600);
/// A long message counts as one more for each of this many bytes.
const UNIT: u64 = 1024;
/// Extension handshakes that are parsed within [`SPAN`]. A client sends one, and another when something changes.
const MAX_HANDSHAKES: u32 = 16;

/// Counts the useless messages of one peer.
pub(crate) struct UselessMessages {
    useless: u32,
    /// What chokes count: requests are picked at an unchoke and released at a choke.
    chokes: u32,
    /// What lost pieces count. No useful message makes up for them, because they cost more than it.
    losses: u32,
    handshakes: u32,
    since: Duration,
}

impl UselessMessages {
    /// A counter at zero.
    pub fn new(now: Duration) -> UselessMessages {
        UselessMessages { useless: 0, chokes: 0, losses: 0, handshakes: 0, since: now }
    }

    /// Counts `weight` short messages; false if that is too many for a torrent of `pieces` pieces.
    fn take(&mut self, now: Duration, weight: u32, pieces: u32) -> bool {
        self.start_anew_if_due(now);
        self.useless = self.useless.saturating_add(weight);
        self.useless <= MAX_USELESS.saturating_add(pieces)
    }

    /// Counts a choke or the requests that it discards; false if that is too many.
    fn take_choke(&mut self, now: Duration, weight: u32) -> bool {
        self.start_anew_if_due(now);
        self.chokes = self.chokes.saturating_add(weight);
        self.chokes <= MAX_CHOKES
    }

    /// Counts a lost piece of a torrent with `pieces` pieces; false if that is too many.
    fn take_loss(&mut self, now: Duration, pieces: u32) -> bool {
        self.start_anew_if_due(now);
        self.losses = self.losses.saturating_add(LOSS + pieces / PIECES_PER_LOSS_UNIT);
        self.losses <= MAX_USELESS.saturating_add(pieces)
    }

    fn start_anew_if_due(&mut self, now: Duration) {
        if now > self.since + SPAN {
            *self = UselessMessages::new(now);
        }
    }

    /// The peer sent blocks that were requested.
    pub fn forgive_chokes(&mut self, blocks: u32) {
        self.chokes = self.chokes.saturating_sub(blocks.saturating_mul(FORGIVEN_PER_BLOCK));
    }

    /// The peer did something useful. That is no excuse for chokes.
    pub fn reset(&mut self) {
        self.useless = 0;
    }

    /// Counts an extension handshake; returns whether to parse it.
    pub fn accepts_handshake(&mut self) -> bool {
        self.handshakes = self.handshakes.saturating_add(1);
        self.handshakes <= MAX_HANDSHAKES
    }
}

/// The weight of this many bytes, in addition to the message itself.
pub(crate) fn weight(bytes: u64) -> u32 {
    u32::try_from(bytes / UNIT).unwrap_or(u32::MAX)
}

/// The weight of a message's length. Blocks, bitfields and metadata are weighed where it is known whether they were requested.
fn weight_of(message: &Message<'_>, length: usize) -> u32 {
    match message {
        Message::Piece(..) | Message::Bitfield(_) | Message::Extended(OUR_METADATA_ID, _) => 0,
        _ => weight(length as u64),
    }
}

impl Reader<'_> {
    /// Counts useless messages, worth `weight` short ones.
    pub(crate) fn count_useless(&mut self, weight: u32) -> Result<(), DisconnectReason> {
        let (now, pieces) = (self.context.now(), self.context.pieces.piece_count());
        if self.useless.take(now, weight, pieces) { Ok(()) } else { Err(DisconnectReason::Flood) }
    }

    /// Counts a piece that the peer has lost.
    pub(crate) fn count_loss(&mut self) -> Result<(), DisconnectReason> {
        let (now, pieces) = (self.context.now(), self.context.pieces.piece_count());
        if self.useless.take_loss(now, pieces) { Ok(()) } else { Err(DisconnectReason::Flood) }
    }

    /// Counts a choke that discards this many requests.
    pub(crate) fn count_choke(&mut self, discarded: u32) -> Result<(), DisconnectReason> {
        self.count_discarded(CHOKE.saturating_add(discarded))
    }

    /// Counts requests that a choke discarded.
    pub(crate) fn count_discarded(&mut self, requests: u32) -> Result<(), DisconnectReason> {
        if self.useless.take_choke(self.context.now(), requests) { Ok(()) } else { Err(DisconnectReason::Flood) }
    }

    /// Counts the length of a message. The message itself is counted where it is handled.
    pub(crate) fn count_length(&mut self, message: &Message<'_>, length: usize) -> Result<(), DisconnectReason> {
        match weight_of(message, length) {
            0 => Ok(()),
            weight => self.count_useless(weight),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{BLOCK_SIZE, BlockInfo, PieceIndex};

    /// How many messages of `length` bytes are accepted in a row.
    fn taken(message: &Message<'_>, length: usize, pieces: u32) -> usize {
        let mut counter = UselessMessages::new(Duration::ZERO);
        (0..1_000_000).take_while(|_| counter.take(Duration::ZERO, 1 + weight_of(message, length), pieces)).count()
    }

    #[test]
    fn long_messages_count_for_more_and_those_of_honest_clients_never_too_much() {
        let pieces = 100_000;
        assert!(taken(&Message::Have(PieceIndex(1)), 9, pieces) >= pieces as usize);
        assert_eq!(taken(&Message::Extended(0, &[]), 64 << 10, 0), 153);
        assert_eq!(taken(&Message::Unknown(99), 1 << 20, 0), 9);
        // The length of blocks and metadata is not counted here, as they may have been requested.
        let block = BlockInfo { piece: PieceIndex(0), begin: 0, length: BLOCK_SIZE };
        for wanted in [Message::Piece(block, &[]), Message::Extended(OUR_METADATA_ID, &[]), Message::Bitfield(&[])] {
            assert_eq!(weight_of(&wanted, 1 << 20), 0, "{wanted:?}");
        }
        // Peer exchange once a minute, with the most that a client sends.
        let mut counter = UselessMessages::new(Duration::ZERO);
        for minute in 0..10_000 {
            let weight = 1 + weight_of(&Message::Extended(1, &[]), 16 << 10);
            assert!(counter.take(Duration::from_secs(60) * minute, weight, 0));
        }
    }

    #[test]
    fn chokes_that_discard_requests_count_until_blocks_make_up_for_them() {
        let flaps = |discarded: u32, blocks: u32| {
            let mut counter = UselessMessages::new(Duration::ZERO);
            let accepted = |_: &u32| {
                counter.reset();
                counter.forgive_chokes(blocks);
                counter.take_choke(Duration::ZERO, CHOKE + discarded)
            };
            (0..10_000).take_while(accepted).count()
        };
        assert_eq!(flaps(1, 0), 909);
        assert_eq!(flaps(500, 0), 19);
        assert_eq!(flaps(500, 1), 19, "a block is no excuse for hundreds of requests");
        // A client that chokes us after ten seconds has answered three times as many requests as it discards.
        assert_eq!(flaps(64, 3 * 64), 10_000);
        assert_eq!(flaps(2000, 3 * 2000), 10_000);
        // Even one that never sends anything may choke us every ten seconds.
        let mut counter = UselessMessages::new(Duration::ZERO);
        assert!((0..10_000).all(|round| counter.take_choke(Duration::from_secs(10) * round, CHOKE + 8)));
    }

    #[test]
    fn lost_pieces_are_limited_whatever_the_peer_does_besides() {
        let losses = |pieces: u32| {
            let mut counter = UselessMessages::new(Duration::ZERO);
            let accepted = |_: &u32| {
                counter.reset();
                counter.take_loss(Duration::ZERO, pieces)
            };
            (0..1_000_000).take_while(accepted).count()
        };
        assert_eq!(losses(100), 505);
        assert_eq!(losses(200_000), 500);
        assert_eq!(losses(1_600_000), 500, "more pieces are no leave to cost more");
        let mut counter = UselessMessages::new(Duration::ZERO);
        assert!(
            (0..10_000).all(|second| counter.take_loss(Duration::from_secs(2) * second, 1000)),
            "a piece now and then"
        );
    }

    #[test]
    fn a_few_handshakes_are_read_in_each_span() {
        let mut counter = UselessMessages::new(Duration::ZERO);
        let read = |counter: &mut UselessMessages| (0..1000).filter(|_| counter.accepts_handshake()).count();
        assert_eq!(read(&mut counter), MAX_HANDSHAKES as usize);
        counter.reset();
        assert_eq!(read(&mut counter), 0);
        counter.take(SPAN + Duration::from_secs(1), 1, 0);
        assert_eq!(read(&mut counter), MAX_HANDSHAKES as usize);
    }
}
