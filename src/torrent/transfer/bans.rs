//! The conductor's part about wrong data: what to do with who sent a piece that was wrong, and with who is proven to have lied.

use crate::torrent::transfer::Transfer;
use crate::torrent::{Event, send_event};
use crate::types::{PeerKey, PieceIndex};

impl Transfer<'_> {
    /// A piece was wrong. A single sender is to blame; of several nobody is yet: that is known once the piece is right. The same
    /// goes for a piece with `restored` blocks, which peers of an earlier session sent; that speaks against no peer of this one.
    pub(crate) fn piece_failed(&mut self, piece: PieceIndex, senders: &[PeerKey], restored: bool) {
        let known: Vec<_> =
            senders.iter().filter_map(|key| self.peer_manager.address_of(*key)).map(|(addr, _)| addr).collect();
        send_event(&self.peer_manager.events, Event::PieceFailed { piece, senders: known.clone() });
        if restored {
            log::info!("{piece:?} is wrong with blocks of an earlier session, and fetched again");
        } else if senders.len() == 1 {
            self.ban(piece, senders);
        } else {
            for addr in known {
                if let Some(record) = self.peer_manager.peer_list.record(addr) {
                    record.hash_failed();
                }
            }
        }
    }

    /// These sent wrong blocks of a piece: they are hung up on and left alone, also those who have left.
    pub(crate) fn ban(&mut self, piece: PieceIndex, liars: &[PeerKey]) {
        for &key in liars {
            let now = self.shared.now();
            // It may have spoilt more than one piece; that is one offence.
            let Some((addr, incoming)) =
                self.peer_manager.address_of(key).filter(|(a, _)| !self.peer_manager.peer_list.is_banned(a, now))
            else {
                continue;
            };
            log::info!("{addr} sent wrong data and is banned");
            self.peer_manager.ban(addr, incoming, now);
            send_event(&self.peer_manager.events, Event::PeerBanned { addr, piece });
        }
    }
}
