//! Gives datagrams to their connections, and opens incoming connections.

use std::net::{IpAddr, SocketAddr};

use crate::utp::connection::{UtpConnection, UtpPhase};
use crate::utp::endpoint::UtpEndpoint;
use crate::utp::endpoint::half_open::HalfOpenPlace;
use crate::utp::packet::{PacketKind, UtpPacket, parse};
use crate::utp::{UtpKey, UtpTime};

impl UtpEndpoint {
    /// Handles a datagram that arrived at the address `to` of ours; answers come from there. One of another protocol does nothing.
    pub fn receive(&mut self, now: UtpTime, from: SocketAddr, to: Option<IpAddr>, datagram: &[u8]) {
        let Some(packet) = parse(datagram) else { return };
        self.now = now;
        let id = packet.header.id;
        let found = match packet.header.kind {
            PacketKind::Syn => self.table.find(from, id.wrapping_add(1)),
            PacketKind::Reset => self.table.find(from, id).or_else(|| self.table.find_by_send_id(from, id)),
            _ => self.table.find(from, id),
        };
        match found.and_then(|slot| Some((slot, self.table.get_slot_mut(slot)?))) {
            Some((slot, connection)) => {
                let config = &self.config;
                let is_short = self.buffered >= config.max_buffered;
                connection.set_receive_buffer(if is_short { config.min_receive_buffer } else { config.receive_buffer });
                let was_half_open = connection.phase() == UtpPhase::HalfOpen;
                connection.receive(now, &packet, config);
                if was_half_open && connection.phase() != UtpPhase::HalfOpen {
                    self.half_open.remove(from.ip());
                }
                self.process_signals(slot);
            }
            None if packet.header.kind == PacketKind::Syn => self.accept(now, from, to, &packet),
            None => self.resets.answer(now, from, to, &packet),
        }
    }

    /// Opens a connection for a SYN. Its sender's address may be forged, so the answer is one packet of the SYN's size, and the
    /// connection is reported only when another packet has proved the address.
    fn accept(&mut self, now: UtpTime, from: SocketAddr, to: Option<IpAddr>, syn: &UtpPacket<'_>) {
        if !self.is_accepting || self.table.len() >= self.config.max_connections / 4 * 3 {
            return;
        }
        let is_half_open = |key: UtpKey| self.table.get(key).is_some_and(|other| other.phase() == UtpPhase::HalfOpen);
        match self.half_open.place(now, from.ip(), &self.config, is_half_open) {
            HalfOpenPlace::Free => {}
            HalfOpenPlace::InsteadOf(other) => self.forget(other.slot),
            HalfOpenPlace::Denied => return,
        }
        let initial = self.random_initial_values();
        let mut connection = UtpConnection::accepting(now, from, &syn.header, initial, &self.config);
        connection.local_ip = to;
        let key = self.table.insert(connection);
        let is_half_open = |key: UtpKey| self.table.get(key).is_some_and(|other| other.phase() == UtpPhase::HalfOpen);
        self.half_open.add(now, key, from.ip(), is_half_open);
        self.process_signals(key.slot);
    }
}
