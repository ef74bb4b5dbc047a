//! Main's reaction to wrong data: what to do with peers that sent blocks of a failed piece, and with those proven to have
//! lied.

use crate::torrent::connection_entry::ConnectionAddress;
use crate::torrent::transfer::Transfer;
use crate::torrent::{Event, send_event};
use crate::types::{PeerKey, PieceIndex};

impl Transfer<'_, '_> {
    /// A piece failed its hash check. A single sender is to blame. Of several senders none is blamed until the piece verifies
    /// and shows which one lied. The same goes for a piece with blocks from an earlier run's peers
    /// (`has_resumed_blocks`); it does not count against any peer of this run.
    pub(crate) fn piece_failed(&mut self, piece: PieceIndex, senders: &[PeerKey], has_resumed_blocks: bool) {
        let known: Vec<_> =
            senders.iter().filter_map(|key| self.peer_manager.address_of(*key)).map(|address| address.addr).collect();
        send_event(&self.peer_manager.events, Event::PieceFailed { piece, senders: known.clone() });
        if has_resumed_blocks {
            log::info!("{piece:?} does not verify with blocks of an earlier run, and is downloaded again");
        } else if senders.len() == 1 {
            self.ban(piece, senders);
        } else if senders.iter().any(|key| self.web_seeds.has(*key)) {
            log::info!("{piece:?} does not verify; a web seed sent a part of it");
        } else {
            for addr in known {
                if let Some(record) = self.peer_manager.peer_list.record(addr) {
                    record.hash_failed();
                }
            }
        }
    }

    /// Bans peers that sent wrong blocks of a piece, even if they have disconnected.
    pub(crate) fn ban(&mut self, piece: PieceIndex, corrupt_senders: &[PeerKey]) {
        for &key in corrupt_senders {
            if self.web_seeds.has(key) {
                self.web_seeds.piece_failed(self.context, key, piece);
                continue;
            }
            let now = self.context.now();
            // The peer may have sent wrong blocks of several pieces; that counts as one offence.
            let Some(ConnectionAddress { addr, is_incoming }) = self.peer_manager.address_of(key) else { continue };
            if self.peer_manager.peer_list.is_banned(&addr, now) {
                continue;
            }
            log::info!("{addr} sent wrong data and is banned");
            self.peer_manager.ban(addr, is_incoming, now);
            send_event(&self.peer_manager.events, Event::PeerBanned { addr, piece });
        }
    }
}
