//! Handles a connection's packets.

use crate::utp::connection::{UtpConnection, UtpPhase};
use crate::utp::ledbat::WindowAck;
use crate::utp::packet::{HEADER, PacketKind, UtpHeader, UtpPacket};
use crate::utp::receive_buffer::{Arrival, UtpReceiveBuffer};
use crate::utp::send_buffer::{AckOutcome, LossOutcome};
use crate::utp::{UtpCloseReason, UtpConfig, UtpTime};

/// An acknowledgement that is older by more packets than this says nothing; perhaps somebody has guessed it.
const MAX_OLD_ACK: i32 = 1024;
/// The same while the peer has acknowledged fewer bytes than [`PROOF`].
const MAX_OLD_ACK_UNPROVED: i32 = 64;
/// A peer that has acknowledged so many bytes has received them.
const PROOF: u64 = 64 << 10;
/// A half-open connection accepts no packet after so many that acknowledged a wrong number.
const MAX_GUESSES: u32 = 4;
/// So many impossible acknowledgements end an open connection whose peer has not proved that it receives our packets.
const MAX_WRONG_ACKS: u32 = 32;
/// A packet with data is acknowledged at once if it is the second one, or one of the first of the connection.
const ACK_EVERY: u32 = 2;
const QUICK_ACKS: u32 = 32;
/// Otherwise after this time, in microseconds. Then more may have come, or our data carries the acknowledgement.
const ACK_DELAY: u64 = 40_000;
/// So many repeated acknowledgements mean that a packet is lost.
const DUPLICATE_ACKS: u32 = 3;
/// The largest correction of clock drift at a time, in microseconds; more is no drift.
const MAX_DRIFT: i32 = 10_000;
/// A delay that old versions of µTorrent send when they have none.
const NO_DELAY: u32 = i32::MAX as u32;

impl UtpConnection {
    /// Handles a packet.
    pub fn receive(&mut self, now: UtpTime, packet: &UtpPacket<'_>, config: &UtpConfig) {
        let header = &packet.header;
        match header.kind {
            PacketKind::Reset => return self.on_reset(header),
            PacketKind::Syn => return self.on_repeated_syn(header),
            _ => {}
        }
        match self.phase {
            UtpPhase::SynSent => {
                if !self.on_syn_answer(now, header) {
                    return;
                }
            }
            UtpPhase::HalfOpen => {
                // Only who has received our answer knows its number. Somebody who guesses gets few attempts.
                if header.ack != self.send.acked() || self.wrong_acks >= MAX_GUESSES {
                    self.wrong_acks = self.wrong_acks.saturating_add(1);
                    return;
                }
                self.wrong_acks = 0;
                (self.phase, self.phase_deadline) = (UtpPhase::Open, None);
                self.signals.incoming = true;
            }
            UtpPhase::Lingering => {
                self.is_ack_due |= header.kind != PacketKind::State;
                return;
            }
            UtpPhase::Closed => return,
            UtpPhase::Open => {}
        }
        if !self.is_plausible(header) {
            return self.on_wrong_ack();
        }
        self.note_times(now, header);
        self.on_ack(now, packet);
        if header.kind != PacketKind::State {
            self.on_data(now, packet);
        }
        self.notice_end(now, config);
        self.shorten_finish(now, config);
        self.arm_timeout(now);
        self.note_limit(now);
    }

    /// The peer has everything that we sent, and its FIN is all that we still wait for.
    fn shorten_finish(&mut self, now: UtpTime, config: &UtpConfig) {
        if self.is_released && self.phase == UtpPhase::Open && self.send.is_finished() && !self.is_fin_awaited {
            self.is_fin_awaited = true;
            self.phase_deadline = Some(now.after(config.fin_wait));
        }
    }

    /// A State that acknowledges our SYN opens the connection. Data that overtakes it is ignored: its place is not known.
    fn on_syn_answer(&mut self, now: UtpTime, header: &UtpHeader) -> bool {
        if header.kind != PacketKind::State || header.ack != self.send.acked() {
            return false;
        }
        if self.syn_attempts == 1 {
            self.round_trip.add(now.since(self.last_sent));
        }
        // A State has the number that the first packet with data will have.
        self.receive = UtpReceiveBuffer::new(header.seq, self.receive.capacity());
        if self.is_released {
            self.receive.discard();
        } else {
            self.signals.connected = true;
        }
        self.phase = UtpPhase::Open;
        (self.is_syn_due, self.retransmit_at) = (false, None);
        self.round_trip.reset_backoff();
        true
    }

    fn on_repeated_syn(&mut self, header: &UtpHeader) {
        // Our answer was lost, or the SYN was duplicated. One small answer does no harm.
        let is_ours = header.id == self.send_id && header.seq.distance(self.receive.ack()) <= 0;
        if is_ours && matches!(self.phase, UtpPhase::HalfOpen | UtpPhase::Open) {
            self.is_ack_due = true;
        }
    }

    /// A RESET counts if it names a packet that we have just sent: the last one that is acknowledged, one on its way, or an
    /// acknowledgement, which has the number of the next packet with data. Others may be forged.
    fn on_reset(&mut self, header: &UtpHeader) {
        let is_known = match self.phase {
            UtpPhase::SynSent => header.ack == self.send.acked(),
            _ => header.ack.distance(self.send.acked()) >= 0 && header.ack.distance(self.send.next_seq()) <= 0,
        };
        match self.phase {
            UtpPhase::HalfOpen => self.signals.is_removable |= is_known,
            UtpPhase::SynSent | UtpPhase::Open if is_known => self.close(UtpCloseReason::Reset),
            _ => {}
        }
    }

    /// Whether a packet acknowledges nothing that we have not sent, and is not too old.
    fn is_plausible(&self, header: &UtpHeader) -> bool {
        let last = self.send.next_seq().previous();
        let max_old = if self.is_proved() { MAX_OLD_ACK } else { MAX_OLD_ACK_UNPROVED };
        header.ack.distance(last) <= 0 && header.ack.distance(self.send.acked()) >= -max_old
    }

    /// Whether the peer has acknowledged so much that it cannot have guessed all the numbers.
    fn is_proved(&self) -> bool {
        self.acked_bytes >= PROOF
    }

    /// A packet acknowledges something that cannot be. A peer that receives our packets sends none of those; somebody who guesses
    /// numbers, in order to open a connection in the name of another address, sends many.
    fn on_wrong_ack(&mut self) {
        self.wrong_acks = self.wrong_acks.saturating_add(1);
        if self.wrong_acks >= MAX_WRONG_ACKS && !self.is_proved() {
            self.signals.send_reset = true;
            self.close(UtpCloseReason::Reset);
        }
    }

    /// Measures the delay of the peer's packet, and corrects the delay of ours for the drift of clocks.
    pub(super) fn note_times(&mut self, now: UtpTime, header: &UtpHeader) {
        let delay = self.timestamp(now).wrapping_sub(header.timestamp);
        // 0 says that there is no measurement.
        self.reply_delay = delay.max(1);
        let before = self.their_delay.base();
        self.their_delay.add(now, delay);
        if let (Some(before), Some(after)) = (before, self.their_delay.base()) {
            // If the peer's packets seem to become faster, its clock is faster, and ours seem to become slower.
            let fallen = before.wrapping_sub(after).cast_signed();
            if (1..MAX_DRIFT).contains(&fallen) {
                self.our_delay.shift(fallen as u32);
            }
        }
    }

    fn on_ack(&mut self, now: UtpTime, packet: &UtpPacket<'_>) {
        let header = &packet.header;
        let before = self.send.acked();
        let (old_window, outstanding) = (self.peer_window, self.send.has_in_flight());
        let outcome = self.send.acknowledge(header.ack, packet.sack, now, self.round_trip.shortest() / 8 * 7);
        if header.ack.distance(before) >= 0 {
            self.peer_window = header.window as usize;
        }
        if header.delay != 0 && header.delay != NO_DELAY {
            let delay = self.our_delay.add(now, header.delay);
            if outcome.packets > 0 {
                // No packet takes longer than its round trip.
                let most = outcome.round_trip.unwrap_or(u64::MAX).min(u64::from(u32::MAX)) as u32;
                self.ledbat.add_delay(delay.min(most));
            }
        }
        if outcome.packets > 0 {
            self.on_progress(now, &outcome);
        } else if self.peer_window < self.payload() {
            // The peer is there, but has no space.
            self.timeouts = 0;
        }
        let is_duplicate = header.kind == PacketKind::State && header.ack == before && packet.sack.is_empty();
        if is_duplicate && outstanding && outcome.packets == 0 && old_window == self.peer_window {
            self.duplicate_acks += 1;
            if self.duplicate_acks == DUPLICATE_ACKS {
                let losses = self.send.lose_first();
                self.on_losses(now, losses);
            }
        }
        let time_threshold = self.round_trip.smooth() / 4 * 5;
        let losses = self.send.detect_losses(now, time_threshold);
        self.on_losses(now, losses);
        self.notice_space();
    }

    /// Packets have arrived that had not before.
    fn on_progress(&mut self, now: UtpTime, outcome: &AckOutcome) {
        if let Some(sample) = outcome.round_trip {
            self.round_trip.add(sample);
        }
        self.round_trip.reset_backoff();
        (self.timeouts, self.duplicate_acks, self.retransmit_at) = (0, 0, None);
        self.acked_bytes += outcome.bytes as u64;
        self.has_new_figures = true;
        self.tail_since = Some(now);
        if outcome.is_spurious_loss {
            self.ledbat.undo_loss();
        }
        if outcome.is_mtu_probe_acked {
            self.mtu.probe_arrived();
        }
        self.ledbat.on_ack(&WindowAck {
            now,
            bytes: outcome.bytes,
            is_cwnd_limited: self.is_cwnd_limited,
            round_trip: self.round_trip.smooth(),
            max_payload: self.payload(),
        });
    }

    /// Packets are lost. The window shrinks once for all that were sent before it shrank.
    pub(super) fn on_losses(&mut self, now: UtpTime, losses: LossOutcome) {
        if losses.is_mtu_probe_lost {
            self.mtu.probe_lost(now);
        }
        if losses.newest_lost.is_some_and(|order| order >= self.recovery_start) {
            self.ledbat.lost(now, self.payload());
            self.recovery_start = self.send.next_transmission();
            self.is_fast_retransmit_due = true;
        }
    }

    fn on_data(&mut self, now: UtpTime, packet: &UtpPacket<'_>) {
        let is_fin = packet.header.kind == PacketKind::Fin;
        let next = self.receive.ack();
        let arrival = self.receive.accept(packet.header.seq, packet.payload, is_fin);
        self.signals.readable |= self.receive.ack() != next && !self.receive.readable().is_empty();
        self.data_packets_received = self.data_packets_received.saturating_add(1);
        self.received_since_ack += 1;
        let is_urgent = arrival != Arrival::InOrder || is_fin || self.data_packets_received <= QUICK_ACKS;
        if is_urgent || self.received_since_ack >= ACK_EVERY {
            self.is_ack_due = true;
        } else if self.delayed_ack_at.is_none() {
            self.delayed_ack_at = Some(now.after(ACK_DELAY));
        }
    }

    /// Whether a stream has ended, or both have.
    fn notice_end(&mut self, now: UtpTime, config: &UtpConfig) {
        if !self.receive.is_finished() {
            return;
        }
        if !self.is_end_of_stream_reported {
            self.is_end_of_stream_reported = true;
            self.signals.finished = !self.is_released;
        }
        if self.send.is_finished() && self.phase == UtpPhase::Open {
            self.phase = UtpPhase::Lingering;
            self.phase_deadline = Some(now.after(config.linger));
            self.send.free_unused();
            if !self.is_released {
                self.signals.closed = Some(UtpCloseReason::Finished);
            }
        }
    }

    /// The payload of a full packet.
    pub(super) fn payload(&self) -> usize {
        self.mtu.size() - HEADER
    }
}
