//! Makes a connection's packets.

use crate::utp::connection::{UtpConnection, UtpPhase};
use crate::utp::packet::{HEADER, PacketKind, write_header, write_padded, write_with_sack};
use crate::utp::send_buffer::{MAX_PACKETS, OutgoingPacket};
use crate::utp::{UtpTime, UtpTransmit};

/// The most datagrams of one call: the limit of GSO in Linux.
const MAX_BATCH: usize = 64;
/// The most bytes of one call.
const MAX_BATCH_BYTES: usize = 65_507;
/// An MTU probe is sent only if this many packets can follow at once: they soon show whether it is lost.
const MIN_PACKETS_AFTER_PROBE: usize = 4;
/// A peer may stop sending at a window below this.
const STALLING_WINDOW: usize = 1500;
/// A window update is sent twice, this long apart in microseconds, in case the first is lost.
const REPEAT_WINDOW: u64 = 300_000;

/// The next packet with data or a FIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SendPlan {
    /// A lost packet again, with a payload of this size.
    Retransmit(usize),
    /// New data of this size.
    NewData(usize),
    Fin,
    /// A datagram of this size without data, to learn whether it arrives.
    MtuProbe(usize),
}

/// Why nothing can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SendBlocked {
    /// There is no data, or Nagle's algorithm holds a small packet back.
    NothingToSend,
    /// The congestion window is full.
    CongestionWindow,
    /// The peer's receive window is full, or [`MAX_PACKETS`] are unacknowledged.
    ReceiveWindow,
}

/// Datagrams that are being put together.
#[derive(Clone, Copy, Debug)]
struct SendBatch {
    start: usize,
    segment: usize,
    count: usize,
    is_mtu_probe: bool,
}

impl UtpConnection {
    /// Whether [`UtpConnection::transmit`] would return something.
    pub fn has_output(&self, now: UtpTime) -> bool {
        match self.phase {
            UtpPhase::SynSent => self.is_syn_due,
            UtpPhase::HalfOpen | UtpPhase::Lingering => self.is_ack_due,
            UtpPhase::Open => self.is_ack_due || self.plan(now).is_ok(),
            UtpPhase::Closed => false,
        }
    }

    /// Appends the next datagrams to `out`. `sack` is a buffer for a selective acknowledgement.
    pub fn transmit(&mut self, now: UtpTime, out: &mut Vec<u8>, sack: &mut Vec<u8>) -> Option<UtpTransmit> {
        let mut batch = SendBatch { start: out.len(), segment: 0, count: 0, is_mtu_probe: false };
        match self.phase {
            UtpPhase::SynSent if self.is_syn_due => {
                self.write_syn(now, out);
                (batch.segment, batch.count) = (HEADER, 1);
            }
            UtpPhase::Open => {
                self.write_data(now, out, &mut batch);
                self.write_state(now, out, sack, &mut batch);
            }
            UtpPhase::HalfOpen | UtpPhase::Lingering => self.write_state(now, out, sack, &mut batch),
            UtpPhase::SynSent | UtpPhase::Closed => {}
        }
        self.arm_timeout(now);
        self.note_limit(now);
        let SendBatch { segment, count, .. } = batch;
        (count > 0).then_some(UtpTransmit { from: self.local_ip, to: self.addr, segment, count })
    }

    fn write_syn(&mut self, now: UtpTime, out: &mut Vec<u8>) {
        let seq = self.send.acked();
        let mut header = self.header(now, PacketKind::Syn, seq);
        header.id = self.recv_id;
        write_header(out, &header);
        self.is_syn_due = false;
        self.syn_attempts += 1;
    }

    /// Appends packets with data: equally long ones, of which the last may be shorter.
    fn write_data(&mut self, now: UtpTime, out: &mut Vec<u8>, batch: &mut SendBatch) {
        if !self.send.has_in_flight() && now.since(self.last_data_sent) > self.round_trip.timeout() {
            self.ledbat.on_idle(self.payload());
            self.last_data_sent = now;
        }
        self.is_cwnd_limited = true;
        while batch.count < MAX_BATCH {
            let plan = match self.plan(now) {
                Ok(plan) => plan,
                Err(block) => {
                    self.is_cwnd_limited = block == SendBlocked::CongestionWindow;
                    break;
                }
            };
            let (size, is_mtu_probe) = match plan {
                SendPlan::Retransmit(len) | SendPlan::NewData(len) => (HEADER + len, false),
                SendPlan::Fin => (HEADER, false),
                SendPlan::MtuProbe(size) => (size, true),
            };
            let is_first = batch.count == 0;
            if !is_first && (is_mtu_probe || size > batch.segment || out.len() - batch.start + size > MAX_BATCH_BYTES) {
                break;
            }
            self.write_packet(now, plan, out);
            batch.count += 1;
            if is_first {
                (batch.segment, batch.is_mtu_probe) = (size, is_mtu_probe);
            }
            if size < batch.segment || is_mtu_probe {
                break;
            }
        }
        if batch.count > 0 {
            self.on_ack_sent();
            // A packet with data does not say what has arrived after a gap.
            self.is_ack_due &= self.receive.has_gap();
            self.last_data_sent = now;
        }
    }

    fn write_packet(&mut self, now: UtpTime, plan: SendPlan, out: &mut Vec<u8>) {
        let full = self.payload();
        let (packet, padding) = match plan {
            SendPlan::Retransmit(_) => {
                self.is_fast_retransmit_due = false;
                let Some(packet) = self.send.retransmit(now) else { return };
                (packet, 0)
            }
            SendPlan::NewData(_) | SendPlan::Fin => {
                let len = if let SendPlan::NewData(len) = plan { len } else { 0 };
                self.is_window_probe_due = false;
                self.tail_since = Some(now);
                (self.send.send_new(now, len, len < full && len > 0, false), 0)
            }
            SendPlan::MtuProbe(size) => {
                self.mtu.probe_sent(size);
                (self.send.send_new(now, 0, false, true), size - HEADER)
            }
        };
        let OutgoingPacket { seq, is_fin, .. } = packet;
        let header = self.header(now, if is_fin { PacketKind::Fin } else { PacketKind::Data }, seq);
        write_padded(out, &header, padding);
        self.send.copy_payload(&packet, out);
    }

    /// What can be sent next. Lost packets go before new ones.
    fn plan(&self, now: UtpTime) -> Result<SendPlan, SendBlocked> {
        let (in_flight, window) = (self.send.in_flight(), self.ledbat.window());
        let has_space = |len: usize| in_flight + len <= window || in_flight == 0;
        if let Some(len) = self.send.lost_len() {
            let may_send = self.is_fast_retransmit_due || has_space(len);
            return if may_send { Ok(SendPlan::Retransmit(len)) } else { Err(SendBlocked::CongestionWindow) };
        }
        if self.send.packets() >= MAX_PACKETS {
            return Err(SendBlocked::ReceiveWindow);
        }
        let (unsent, full) = (self.send.unsent(), self.payload());
        if unsent == 0 {
            return if self.send.is_fin_next() { Ok(SendPlan::Fin) } else { Err(SendBlocked::NothingToSend) };
        }
        let peer_space = self.peer_window.saturating_sub(self.send.outstanding());
        let mut len = unsent.min(full);
        // Nagle's algorithm: at most one small packet is unacknowledged.
        if len < full && self.send.has_small_in_flight() && !self.send.is_ending() {
            return Err(SendBlocked::NothingToSend);
        }
        if !has_space(len) {
            return Err(SendBlocked::CongestionWindow);
        }
        if let Some(size) = self.mtu.wanted_probe(now)
            && self.timeouts == 0
            && in_flight + size <= window
            && unsent >= MIN_PACKETS_AFTER_PROBE * full
        {
            return Ok(SendPlan::MtuProbe(size));
        }
        if len > peer_space && !self.is_window_probe_due {
            // Small pieces only if the peer will not have space for more soon.
            if in_flight > 0 || peer_space == 0 {
                return Err(SendBlocked::ReceiveWindow);
            }
            len = peer_space;
        }
        Ok(SendPlan::NewData(len))
    }

    /// Whether there is data that only the peer's lack of space holds back.
    pub(super) fn is_stalled(&self, now: UtpTime) -> bool {
        !self.send.has_in_flight() && self.plan(now) == Err(SendBlocked::ReceiveWindow)
    }

    /// Appends an acknowledgement if one is due, after data if it is not longer.
    fn write_state(&mut self, now: UtpTime, out: &mut Vec<u8>, sack: &mut Vec<u8>, batch: &mut SendBatch) {
        if !self.is_ack_due || batch.is_mtu_probe || batch.count == MAX_BATCH {
            return;
        }
        self.receive.write_sack(sack);
        let size = HEADER + if sack.is_empty() { 0 } else { 2 + sack.len() };
        let is_last = out.len() - batch.start < batch.segment * batch.count;
        if batch.count > 0 && (is_last || size > batch.segment || out.len() - batch.start + size > MAX_BATCH_BYTES) {
            return;
        }
        let was_full = self.advertised_window < STALLING_WINDOW;
        let seq = self.send.next_seq();
        let header = self.header(now, PacketKind::State, seq);
        write_with_sack(out, &header, sack);
        self.on_ack_sent();
        if was_full && self.advertised_window >= STALLING_WINDOW && self.phase == UtpPhase::Open {
            // If this is lost, the peer would not ask again for many seconds.
            self.delayed_ack_at = Some(now.after(REPEAT_WINDOW));
        }
        self.is_ack_due = false;
        if batch.count == 0 {
            batch.segment = size;
        }
        batch.count += 1;
    }

    fn on_ack_sent(&mut self) {
        (self.received_since_ack, self.delayed_ack_at) = (0, None);
    }
}
