//! Gives datagrams to their connections, and opens incoming connections.

use std::net::SocketAddr;

use crate::utp::connection::{UtpConnection, UtpPhase};
use crate::utp::endpoint::UtpEndpoint;
use crate::utp::packet::{PacketKind, UtpPacket, parse};
use crate::utp::{UtpKey, UtpTime};

impl UtpEndpoint {
    /// Handles a received datagram. One of another protocol does nothing.
    pub fn receive(&mut self, now: UtpTime, from: SocketAddr, datagram: &[u8]) {
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
                connection.receive(now, &packet, &self.config);
                self.settle(slot);
            }
            None if packet.header.kind == PacketKind::Syn => self.accept(now, from, &packet),
            None => self.resets.answer(now, from, &packet),
        }
    }

    /// Opens a connection for a SYN. Its sender's address may be forged, so the answer is one packet of the SYN's size, and the
    /// connection is reported only when another packet has proved the address.
    fn accept(&mut self, now: UtpTime, from: SocketAddr, syn: &UtpPacket<'_>) {
        if !self.is_accepting || self.table.len() >= self.config.max_connections {
            return;
        }
        let table = &self.table;
        let is_half_open = |key: &UtpKey| table.get(*key).is_some_and(|other| other.phase() == UtpPhase::HalfOpen);
        self.half_open.retain(is_half_open);
        let is_same_ip = |key: &&UtpKey| self.table.get(**key).is_some_and(|other| other.addr.ip() == from.ip());
        if self.half_open.iter().filter(is_same_ip).count() >= self.config.max_half_open_per_ip {
            return;
        }
        if self.half_open.len() >= self.config.max_half_open
            && let Some(oldest) = self.half_open.pop_front()
        {
            self.table.remove(oldest.slot);
            self.deadlines.forget(oldest.slot);
        }
        let secrets = self.draw_secrets();
        let key = self.table.insert(UtpConnection::accepting(now, from, &syn.header, secrets, &self.config));
        self.half_open.push_back(key);
        self.settle(key.slot);
    }
}
