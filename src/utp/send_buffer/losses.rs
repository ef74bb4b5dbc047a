//! Finds out which packets are lost.

use crate::utp::UtpTime;
use crate::utp::send_buffer::{LossOutcome, PacketStatus, SendBuffer, SentPacket};

impl SendBuffer {
    /// Marks packets as lost by the reordering threshold, or by the time threshold of RFC 9002.
    pub fn detect_losses(&mut self, now: UtpTime, time_threshold: u64) -> LossOutcome {
        let mut outcome = LossOutcome::default();
        let Some(newest) = self.newest_arrived else { return outcome };
        for index in 0..self.packets.len() {
            let packet = self.packets[index];
            if packet.transmission > newest {
                // All after a packet that was sent once were sent later.
                if packet.transmissions == 1 {
                    break;
                }
                continue;
            }
            let is_late = packet.transmission + self.reordering <= newest || now.since(packet.sent_at) > time_threshold;
            if packet.status == PacketStatus::InFlight && is_late {
                self.lose(index, &mut outcome);
            }
        }
        outcome
    }

    /// The peer repeats an acknowledgement although packets after the first have arrived: that one is lost.
    pub fn lose_first(&mut self) -> LossOutcome {
        let mut outcome = LossOutcome::default();
        let is_original = |packet: &SentPacket| packet.status == PacketStatus::InFlight && packet.transmissions == 1;
        if self.packets.front().is_some_and(is_original) {
            self.lose(0, &mut outcome);
        }
        outcome
    }

    /// Nothing was heard for a while: takes the last packet on its way for lost, so that it is sent again. Probes of larger datagrams
    /// do not count.
    pub fn lose_last(&mut self) -> LossOutcome {
        let mut outcome = LossOutcome::default();
        let is_candidate = |packet: &SentPacket| packet.status == PacketStatus::InFlight && !packet.is_mtu_probe;
        if let Some(index) = self.packets.iter().rposition(is_candidate) {
            self.lose(index, &mut outcome);
        }
        outcome
    }

    /// Nothing was heard for too long: everything on its way is lost.
    pub fn lose_all(&mut self) -> LossOutcome {
        let mut outcome = LossOutcome::default();
        for index in 0..self.packets.len() {
            if self.packets[index].status == PacketStatus::InFlight {
                self.lose(index, &mut outcome);
            }
        }
        outcome
    }

    fn lose(&mut self, index: usize, outcome: &mut LossOutcome) {
        let packet = &mut self.packets[index];
        packet.status = PacketStatus::Lost;
        self.in_flight -= packet.len as usize;
        self.in_flight_packets -= 1;
        self.lost_bytes += packet.len as usize;
        self.lost_packets += 1;
        if std::mem::take(&mut packet.is_mtu_probe) {
            outcome.is_mtu_probe_lost = true;
        } else {
            outcome.newest_lost = outcome.newest_lost.max(Some(packet.transmission));
        }
    }
}
