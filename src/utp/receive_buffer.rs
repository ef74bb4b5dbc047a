//! The receiving half of a stream: puts packets in order, and knows what to acknowledge.
//!
//! Numbers count packets, not bytes, so the place of a packet's bytes is known only when all packets before it have arrived. A
//! packet in order is copied into the ring at once; one after a gap waits in a buffer of its own, which costs an allocation and a
//! second copy.

use std::collections::VecDeque;

use crate::utp::byte_ring::ByteRing;
use crate::utp::seq_nr::SeqNr;

/// How far after a gap packets are kept. A selective acknowledgement can describe 2016.
const MAX_OUT_OF_ORDER: usize = 1536;

/// What a packet was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The next one, without a gap after it.
    InOrder,
    /// After a gap, or one that fills a gap: it is acknowledged at once (RFC 5681).
    OutOfOrder,
    /// Already received.
    Duplicate,
    /// There is no space for it, or it cannot belong to the stream.
    Refused,
}

/// The receiving half of a stream.
#[derive(Debug)]
pub struct UtpReceiveBuffer {
    ring: ByteRing,
    /// The packet that continues the stream.
    next: SeqNr,
    /// The packets after that: the first is for `next + 1`.
    ahead: VecDeque<Option<Box<[u8]>>>,
    out_of_order_bytes: usize,
    /// The number of the peer's FIN.
    end: Option<SeqNr>,
    capacity: usize,
    is_discarding: bool,
}

impl UtpReceiveBuffer {
    /// The stream that starts with the packet `next`. At most `capacity` bytes are kept.
    pub fn new(next: SeqNr, capacity: usize) -> UtpReceiveBuffer {
        UtpReceiveBuffer {
            ring: ByteRing::default(),
            next,
            ahead: VecDeque::new(),
            out_of_order_bytes: 0,
            end: None,
            capacity,
            is_discarding: false,
        }
    }

    /// Takes a packet.
    pub fn accept(&mut self, seq: SeqNr, payload: &[u8], is_fin: bool) -> Arrival {
        let distance = seq.distance(self.next);
        if distance < 0 {
            return Arrival::Duplicate;
        }
        let ahead = distance as usize;
        if ahead > MAX_OUT_OF_ORDER || self.end.is_some_and(|end| seq.distance(end) > 0) {
            return Arrival::Refused;
        }
        if is_fin && self.end.is_none() && ahead >= self.ahead.len() {
            // Packets that were accepted before cannot be after the end.
            self.end = Some(seq);
        }
        if ahead > 0 {
            return self.keep_out_of_order(ahead - 1, payload);
        }
        if self.ring.len() + payload.len() > self.capacity {
            return Arrival::Refused;
        }
        let was_gap = self.has_gap();
        self.append(payload);
        while let Some(first) = self.ahead.pop_front() {
            let Some(payload) = first else { break };
            self.out_of_order_bytes -= payload.len();
            self.append(&payload);
        }
        if was_gap { Arrival::OutOfOrder } else { Arrival::InOrder }
    }

    fn keep_out_of_order(&mut self, index: usize, payload: &[u8]) -> Arrival {
        if self.ahead.get(index).is_some_and(Option::is_some) {
            return Arrival::Duplicate;
        }
        if self.is_discarding || self.ring.len() + self.out_of_order_bytes + payload.len() > self.capacity {
            return Arrival::Refused;
        }
        if self.ahead.len() <= index {
            self.ahead.resize_with(index + 1, || None);
        }
        self.ahead[index] = Some(payload.into());
        self.out_of_order_bytes += payload.len();
        Arrival::OutOfOrder
    }

    fn append(&mut self, payload: &[u8]) {
        if !self.is_discarding {
            self.ring.push(payload);
        }
        self.next = self.next.next();
    }

    /// The cumulative acknowledgement: the last packet before the first gap.
    pub fn ack(&self) -> SeqNr {
        self.next.previous()
    }

    /// How many bytes are kept at most.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Changes how many bytes are kept at most. What is kept already stays, because it was acknowledged.
    pub fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity;
    }

    /// How many bytes are kept.
    pub fn buffered(&self) -> usize {
        self.ring.len() + self.out_of_order_bytes
    }

    /// How many more bytes there is space for.
    pub fn window(&self) -> usize {
        self.capacity.saturating_sub(self.buffered())
    }

    /// Whether packets after a gap have arrived.
    pub fn has_gap(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// Whether the peer's FIN and everything before it have arrived.
    pub fn is_finished(&self) -> bool {
        self.end.is_some_and(|end| end.distance(self.next) < 0)
    }

    /// Writes which packets after the gap have arrived, as a selective acknowledgement.
    pub fn write_sack(&self, out: &mut Vec<u8>) {
        out.clear();
        out.resize(self.ahead.len().div_ceil(32) * 4, 0);
        for (bit, _) in self.ahead.iter().enumerate().filter(|(_, packet)| packet.is_some()) {
            out[bit / 8] |= 1 << (bit % 8);
        }
    }

    /// The first contiguous part of the received bytes in order.
    pub fn readable(&self) -> &[u8] {
        self.ring.front()
    }

    /// Removes the first readable bytes.
    pub fn consume(&mut self, count: usize) {
        self.ring.pop(count);
    }

    /// From now on, acknowledges data in order but forgets it, and keeps no packets after a gap.
    pub fn discard(&mut self) {
        self.is_discarding = true;
        (self.ahead, self.out_of_order_bytes) = (VecDeque::new(), 0);
        self.ring.pop(usize::MAX);
        self.ring.free();
    }

    /// Frees memory that is not in use.
    pub fn free_unused(&mut self) {
        self.ring.free();
        if self.ahead.is_empty() {
            self.ahead = VecDeque::new();
        }
    }

    /// The memory in use, in bytes.
    pub fn allocated(&self) -> usize {
        self.ring.allocated() + self.out_of_order_bytes + self.ahead.capacity() * size_of::<Option<Box<[u8]>>>()
    }
}

#[cfg(test)]
mod tests;
