//! The conductor's part about wrong data: what to do with who sent a piece that was wrong, and with who is proven to have lied.

use std::net::SocketAddr;

use super::Conductor;
use crate::session::{Event, tell};
use crate::types::{PeerKey, PieceIndex};

/// Connections that are over and whose addresses are remembered at most.
const MAX_LEFT: usize = 1000;

impl Conductor<'_> {
    /// A piece was wrong. A single sender is to blame; of several nobody is yet: that is known once the piece is right.
    pub(super) fn failed_piece(&mut self, piece: PieceIndex, senders: &[PeerKey]) {
        let known: Vec<_> = senders.iter().filter_map(|key| self.whereabouts(*key)).map(|(addr, _)| addr).collect();
        tell(&self.events, Event::PieceFailed { piece, senders: known.clone() });
        if senders.len() == 1 {
            self.ban(piece, senders);
        } else {
            for addr in known {
                if let Some(record) = self.book.record(addr) {
                    record.hash_failed();
                }
            }
        }
    }

    /// These sent wrong blocks of a piece: they are hung up on and left alone, also those who have left.
    pub(super) fn ban(&mut self, piece: PieceIndex, liars: &[PeerKey]) {
        for &key in liars {
            let now = self.shared.now();
            // It may have spoilt more than one piece; that is one offence.
            let Some((addr, incoming)) = self.whereabouts(key).filter(|(a, _)| !self.book.is_banned(a, now)) else {
                continue;
            };
            log::info!("{addr} sent wrong data and is banned");
            self.book.ban(addr, incoming, now);
            // All that the ban covers: it may have come back under another key.
            let lines = self.connections.values().map(|line| &line.connection);
            let covered = |a| a == addr || self.book.is_banned(&a, now);
            lines.filter(|line| covered(line.addr)).for_each(crate::peer::Connection::close);
            tell(&self.events, Event::PeerBanned { addr, piece });
        }
    }

    /// The other end of a connection, also of one that is over, and whether it called us.
    fn whereabouts(&self, key: PeerKey) -> Option<(SocketAddr, bool)> {
        let there = self.connections.get(&key).map(|line| (line.connection.addr, line.incoming));
        there.or_else(|| self.left.iter().find(|left| left.0 == key).map(|&(_, addr, incoming)| (addr, incoming)))
    }

    /// A connection is over; should it be found to have lied, its address must be known.
    pub(super) fn remember(&mut self, key: PeerKey, addr: SocketAddr, incoming: bool) {
        if self.left.len() >= MAX_LEFT {
            self.left.pop_front();
        }
        self.left.push_back((key, addr, incoming));
    }
}
