//! A connection as main sees it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::peer::{Connection, Peer};
use crate::strategy::peer_list::PunchedAddress;
use crate::strategy::pex::PexDiffer;
use crate::strategy::slow_reader::ReadingPace;
use crate::types::PeerKey;

/// A peer that accepts no byte from us for this long is considered stuck.
const STUCK_AFTER: Duration = Duration::from_secs(10);

/// A connection as main sees it.
pub struct ConnectionEntry {
    /// The connection itself, with its threads.
    pub connection: Connection,
    /// Whether the peer connected to us.
    pub is_incoming: bool,
    /// Whether it was closed to make room for another, and will end soon.
    pub is_closing: bool,
    /// When the connection, or the attempt to establish it, started.
    pub since: Duration,
    /// When the handshake was done.
    pub handshake_done: Option<Duration>,
    /// The peer's state, set from then on.
    pub peer: Option<Arc<Peer>>,
    /// The connection to the same peer because of which this one ends.
    pub duplicate: Option<PeerKey>,
    /// Time, bytes received and bytes sent at the last two rounds; the older first.
    pub rate_samples: [(Duration, u64, u64); 2],
    /// What had been delivered to the peer at the last round.
    pub delivered: DeliveryProgress,
    /// Whether the peer reads slowly what we send, as of the last round.
    pub reading_pace: ReadingPace,
    /// Whether a relay named the address (BEP 55).
    pub punch: Option<PunchedAddress>,
    /// What peer exchange has told the peer.
    pub pex_differ: Option<PexDiffer>,
}

/// The address of a connection, which may have ended.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionAddress {
    /// The peer's address.
    pub addr: SocketAddr,
    /// Whether the peer connected to us.
    pub is_incoming: bool,
}

/// How much of what we sent has been delivered to a peer.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeliveryProgress {
    /// Payload bytes delivered.
    pub payload: u64,
    /// All bytes acknowledged by the peer's TCP.
    acknowledged: u64,
    /// Since when bytes have been in transit and none has been delivered.
    undelivered_since: Option<Duration>,
}

impl DeliveryProgress {
    /// Updates the figures. `sent_to_kernel` payload bytes were handed to the kernel, `written` of them by finished writes;
    /// `acknowledged` bytes of all kinds were delivered. If that is unknown, `written` counts.
    pub fn update(&mut self, sent_to_kernel: u64, written: u64, acknowledged: Option<u64>) {
        self.payload = match acknowledged {
            // There are few messages between the blocks.
            Some(bytes) => sent_to_kernel.min(self.payload + bytes.saturating_sub(self.acknowledged)),
            None => written.max(self.payload),
        };
        self.acknowledged = acknowledged.unwrap_or(self.acknowledged);
    }

    /// Records whether more of the `sent_to_kernel` bytes has been delivered than the `before` at the last call.
    pub fn note_progress(&mut self, now: Duration, sent_to_kernel: u64, before: u64) {
        self.undelivered_since = match self.undelivered_since {
            _ if sent_to_kernel <= self.payload => None,
            Some(since) if self.payload == before => Some(since),
            _ => Some(now),
        };
    }

    /// Whether the peer has accepted no byte from us for longer than a lost packet explains.
    pub fn is_stuck(&self, now: Duration) -> bool {
        self.undelivered_since.is_some_and(|since| now >= since + STUCK_AFTER)
    }
}
