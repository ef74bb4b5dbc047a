//! RESETs: for connections that we end, and in answer to packets of connections that we do not know.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use crate::utp::packet::{HEADER, PacketKind, UtpHeader, UtpPacket, write_header};
use crate::utp::seq_nr::SeqNr;
use crate::utp::{UtpTime, UtpTransmit};

/// The most RESETs that wait to be sent.
const MAX_WAITING: usize = 256;
/// Unknown packets are answered so often per second, and so often at once after a pause.
const ANSWERS_PER_SECOND: u64 = 50;
const MAX_ANSWERS: u64 = 50;

/// RESETs that wait to be sent.
#[derive(Debug)]
pub(super) struct ResetQueue {
    /// From which address of ours, where, and what.
    waiting: VecDeque<(Option<IpAddr>, SocketAddr, UtpHeader)>,
    /// How many unknown packets may be answered, since when.
    answers: u64,
    refilled: UtpTime,
}

impl Default for ResetQueue {
    fn default() -> ResetQueue {
        ResetQueue { waiting: VecDeque::new(), answers: MAX_ANSWERS, refilled: UtpTime::default() }
    }
}

impl ResetQueue {
    /// Sends a RESET.
    pub(super) fn push(&mut self, from: Option<IpAddr>, to: SocketAddr, header: &UtpHeader) {
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back((from, to, *header));
        }
    }

    /// Answers a packet of an unknown connection, unless there were many. The answer is as small as a packet can be, and nothing
    /// answers a RESET, so the answer cannot be used against anybody.
    pub(super) fn answer(&mut self, now: UtpTime, from: SocketAddr, to: Option<IpAddr>, packet: &UtpPacket<'_>) {
        let new = now.since(self.refilled) * ANSWERS_PER_SECOND / 1_000_000;
        if new > 0 {
            (self.answers, self.refilled) = ((self.answers + new).min(MAX_ANSWERS), now);
        }
        if packet.header.kind == PacketKind::Reset || self.answers == 0 {
            return;
        }
        self.answers -= 1;
        let header = UtpHeader {
            kind: PacketKind::Reset,
            id: packet.header.id,
            timestamp: now.0 as u32,
            delay: 0,
            window: 0,
            seq: SeqNr(0),
            ack: packet.header.seq,
        };
        self.push(to, from, &header);
    }

    /// Appends the next RESET to `out`.
    pub(super) fn transmit(&mut self, out: &mut Vec<u8>) -> Option<UtpTransmit> {
        let (from, to, header) = self.waiting.pop_front()?;
        write_header(out, &header);
        Some(UtpTransmit { from, to, segment: HEADER, count: 1 })
    }
}
