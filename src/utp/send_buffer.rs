//! The sending half of a stream: written bytes, the packets made of them, and which of those are lost.
//!
//! A packet keeps its bytes and its sequence number when it is sent again. Each transmission also has a number that counts up, as the
//! packet numbers of QUIC do (RFC 9002): a packet is lost if one that was sent at least three transmissions later has arrived. So a
//! lost retransmission is noticed, too.

mod losses;

use std::collections::VecDeque;

use crate::utp::UtpTime;
use crate::utp::byte_ring::ByteRing;
use crate::utp::seq_nr::SeqNr;

/// The most packets that are sent and not acknowledged. libtorrent and libutp keep about a thousand after a gap.
pub const MAX_PACKETS: usize = 900;
/// The reordering threshold (RFC 9002: kPacketThreshold), in transmissions. Each spurious loss raises it by one,
const REORDERING: u64 = 3;
/// up to this.
const MAX_REORDERING: u64 = 50;

/// What the sender knows about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PacketStatus {
    InFlight,
    Arrived,
    Lost,
}

/// A packet that was sent and is not yet acknowledged cumulatively.
#[derive(Clone, Copy, Debug)]
struct SentPacket {
    /// Where its bytes begin in the stream.
    start: u64,
    /// The number of its last transmission.
    transmission: u64,
    sent_at: UtpTime,
    len: u32,
    transmissions: u8,
    status: PacketStatus,
    is_fin: bool,
    /// Whether it is padded to try a larger datagram. Says nothing about congestion when it is lost.
    is_mtu_probe: bool,
}

/// What an acknowledgement has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AckOutcome {
    /// The bytes of packets that have arrived.
    pub bytes: usize,
    /// The packets that have arrived.
    pub packets: usize,
    /// The time since the newest packet among them was sent, if it was sent only once.
    pub round_trip: Option<u64>,
    /// Whether the probe of a larger datagram has arrived.
    pub is_mtu_probe_acked: bool,
    /// Whether a loss was spurious: the packet was reordered, and has arrived.
    pub is_spurious_loss: bool,
}

/// What has turned out to be lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LossOutcome {
    /// The newest transmission among those that are lost; probes do not count.
    pub newest_lost: Option<u64>,
    /// Whether the probe of a larger datagram is lost.
    pub is_mtu_probe_lost: bool,
}

/// A packet to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutgoingPacket {
    /// Its number.
    pub seq: SeqNr,
    /// Its place in [`SendBuffer::copy_payload`].
    pub start: u64,
    /// The length of its payload.
    pub len: usize,
    /// Whether it ends the stream.
    pub is_fin: bool,
}

/// The sending half of a stream.
#[derive(Debug)]
pub struct SendBuffer {
    ring: ByteRing,
    /// The place of the ring's first byte in the stream.
    base: u64,
    /// Where the bytes begin of which no packet was made.
    unsent: u64,
    packets: VecDeque<SentPacket>,
    /// The number of the first of them, or else of the next packet.
    first: SeqNr,
    in_flight: usize,
    /// A FIN has no bytes, but is a packet.
    in_flight_packets: usize,
    lost_bytes: usize,
    lost_packets: usize,
    next_transmission: u64,
    /// The newest transmission that is known to have arrived.
    newest_arrived: Option<u64>,
    reordering: u64,
    /// The number of the last packet that was smaller than the datagrams allow.
    last_small: Option<SeqNr>,
    is_fin_queued: bool,
    is_fin_sent: bool,
}

impl SendBuffer {
    /// A stream whose first packet has the number `first`.
    pub fn new(first: SeqNr) -> SendBuffer {
        SendBuffer {
            ring: ByteRing::default(),
            base: 0,
            unsent: 0,
            packets: VecDeque::new(),
            first,
            in_flight: 0,
            in_flight_packets: 0,
            lost_bytes: 0,
            lost_packets: 0,
            next_transmission: 0,
            newest_arrived: None,
            reordering: REORDERING,
            last_small: None,
            is_fin_queued: false,
            is_fin_sent: false,
        }
    }

    /// Appends bytes to the stream.
    pub fn write(&mut self, bytes: &[u8]) {
        self.ring.push(bytes);
    }

    /// Ends the stream after everything that is written.
    pub fn finish(&mut self) {
        self.is_fin_queued = true;
    }

    /// Whether the stream has been ended.
    pub fn is_ending(&self) -> bool {
        self.is_fin_queued
    }

    /// Whether the end of the stream has arrived, and everything before it.
    pub fn is_finished(&self) -> bool {
        self.is_fin_sent && self.packets.is_empty()
    }

    /// The bytes that are written and not acknowledged.
    pub fn unacked_bytes(&self) -> usize {
        self.ring.len()
    }

    /// How many bytes are acknowledged without a gap.
    pub fn acknowledged(&self) -> u64 {
        self.base
    }

    /// The bytes of which no packet was made.
    pub fn unsent(&self) -> usize {
        (self.base + self.ring.len() as u64 - self.unsent) as usize
    }

    /// Whether the end of the stream is to be sent now.
    pub fn is_fin_next(&self) -> bool {
        self.is_fin_queued && !self.is_fin_sent && self.unsent() == 0
    }

    /// The bytes on their way.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// How many packets are on their way.
    pub fn in_flight_packets(&self) -> usize {
        self.in_flight_packets
    }

    /// Whether packets are on their way.
    pub fn has_in_flight(&self) -> bool {
        self.in_flight_packets > 0
    }

    /// The bytes that the peer has not received, as far as we know.
    pub fn outstanding(&self) -> usize {
        self.in_flight + self.lost_bytes
    }

    /// How many packets are lost and not sent again.
    pub fn lost_packets(&self) -> usize {
        self.lost_packets
    }

    /// How many packets are not acknowledged without a gap.
    pub fn packets(&self) -> usize {
        self.packets.len()
    }

    /// The number of the next new packet.
    pub fn next_seq(&self) -> SeqNr {
        self.first.plus(self.packets.len() as u16)
    }

    /// The last number that is acknowledged without a gap.
    pub fn acked(&self) -> SeqNr {
        self.first.previous()
    }

    /// The number of the next transmission.
    pub fn next_transmission(&self) -> u64 {
        self.next_transmission
    }

    /// Whether a packet that was smaller than it could be is not acknowledged. Another one then waits for more data.
    pub fn has_small_in_flight(&self) -> bool {
        self.last_small.is_some_and(|seq| seq.distance(self.first) >= 0)
    }

    /// The length of the first lost packet.
    pub fn lost_len(&self) -> Option<usize> {
        self.first_lost().map(|index| self.packets[index].len as usize)
    }

    fn first_lost(&self) -> Option<usize> {
        if self.lost_packets == 0 {
            return None;
        }
        self.packets.iter().position(|packet| packet.status == PacketStatus::Lost)
    }

    /// Sends the first lost packet again.
    pub fn retransmit(&mut self, now: UtpTime) -> Option<OutgoingPacket> {
        let index = self.first_lost()?;
        let packet = &mut self.packets[index];
        packet.status = PacketStatus::InFlight;
        packet.sent_at = now;
        packet.transmission = self.next_transmission;
        packet.transmissions = packet.transmissions.saturating_add(1);
        self.next_transmission += 1;
        self.lost_packets -= 1;
        self.lost_bytes -= packet.len as usize;
        self.in_flight += packet.len as usize;
        self.in_flight_packets += 1;
        let (start, len, is_fin) = (packet.start, packet.len as usize, packet.is_fin);
        Some(OutgoingPacket { seq: self.first.plus(index as u16), start, len, is_fin })
    }

    /// Sends the next `len` bytes as a new packet. Without bytes, it ends the stream, or is a probe.
    pub fn send_new(&mut self, now: UtpTime, len: usize, is_small: bool, is_mtu_probe: bool) -> OutgoingPacket {
        let (seq, is_fin) = (self.next_seq(), len == 0 && !is_mtu_probe);
        let start = self.unsent;
        self.packets.push_back(SentPacket {
            start,
            transmission: self.next_transmission,
            sent_at: now,
            len: len as u32,
            transmissions: 1,
            status: PacketStatus::InFlight,
            is_fin,
            is_mtu_probe,
        });
        self.next_transmission += 1;
        self.unsent += len as u64;
        self.in_flight += len;
        self.in_flight_packets += 1;
        self.is_fin_sent |= is_fin;
        if is_small {
            self.last_small = Some(seq);
        }
        OutgoingPacket { seq, start, len, is_fin }
    }

    /// Appends a packet's payload to `out`.
    pub fn copy_payload(&self, packet: &OutgoingPacket, out: &mut Vec<u8>) {
        self.ring.copy((packet.start - self.base) as usize, packet.len, out);
    }

    /// Handles an acknowledgement of all packets up to `ack` and of those in `sack`. `ack` is at most the last packet sent.
    /// An acknowledgement that follows a retransmission faster than `min_rtt` is for the original transmission.
    pub fn acknowledge(&mut self, ack: SeqNr, sack: &[u8], now: UtpTime, min_rtt: u64) -> AckOutcome {
        let mut outcome = AckOutcome::default();
        let count = usize::try_from(ack.distance(self.first) + 1).unwrap_or_default();
        for index in 0..count.min(self.packets.len()) {
            self.arrive(index, now, min_rtt, &mut outcome);
        }
        let selected = ack.plus(2).distance(self.first) as isize;
        for (at, byte) in sack.iter().enumerate().filter(|(_, byte)| **byte != 0) {
            for bit in (0..8).filter(|bit| byte & 1 << bit != 0) {
                if let Some(index) = (at * 8 + bit).checked_add_signed(selected) {
                    self.arrive(index, now, min_rtt, &mut outcome);
                }
            }
        }
        while self.packets.front().is_some_and(|packet| packet.status == PacketStatus::Arrived) {
            let Some(packet) = self.packets.pop_front() else { break };
            self.first = self.first.next();
            self.ring.pop(packet.len as usize);
            self.base += u64::from(packet.len);
        }
        if !self.has_small_in_flight() {
            self.last_small = None;
        }
        if outcome.is_spurious_loss {
            self.reordering = (self.reordering + 1).min(MAX_REORDERING);
        }
        outcome
    }

    /// Marks a packet as arrived, if it was sent and has not arrived before.
    fn arrive(&mut self, index: usize, now: UtpTime, min_rtt: u64, outcome: &mut AckOutcome) {
        let Some(packet) = self.packets.get_mut(index).filter(|packet| packet.status != PacketStatus::Arrived) else {
            return;
        };
        let len = packet.len as usize;
        if packet.status == PacketStatus::InFlight {
            (self.in_flight, self.in_flight_packets) = (self.in_flight - len, self.in_flight_packets - 1);
        } else {
            (self.lost_bytes, self.lost_packets) = (self.lost_bytes - len, self.lost_packets - 1);
        }
        let elapsed = now.since(packet.sent_at);
        outcome.is_spurious_loss |=
            packet.status == PacketStatus::Lost || (packet.transmissions > 1 && elapsed < min_rtt);
        packet.status = PacketStatus::Arrived;
        outcome.bytes += len;
        outcome.packets += 1;
        outcome.is_mtu_probe_acked |= packet.is_mtu_probe;
        if packet.transmissions == 1 {
            outcome.round_trip = Some(outcome.round_trip.map_or(elapsed, |other| other.min(elapsed)));
        }
        if packet.transmissions == 1 || elapsed >= min_rtt {
            self.newest_arrived = self.newest_arrived.max(Some(packet.transmission));
        }
    }

    /// Frees memory that is not in use.
    pub fn free_unused(&mut self) {
        self.ring.free();
        if self.packets.is_empty() {
            self.packets = VecDeque::new();
        }
    }

    /// The memory in use, in bytes.
    pub fn allocated(&self) -> usize {
        self.ring.allocated() + self.packets.capacity() * size_of::<SentPacket>()
    }
}

#[cfg(test)]
mod tests;
