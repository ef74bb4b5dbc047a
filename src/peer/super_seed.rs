//! Super-seeding for the connections: a lock around [`SuperSeed`], and the HAVEs for the pieces that it reveals.
//!
//! Every connection calls [`TorrentContext::active_super_seed`] first; in all other torrents that costs one atomic load. The
//! lock is a leaf: nothing is sent while it is held.

use std::time::Duration;

use parking_lot::Mutex;

use crate::peer::TorrentContext;
use crate::peer::state::Peer;
use crate::strategy::super_seed::{HavesToSend, LeecherStanding, SuperSeed};
use crate::types::{BlockInfo, PeerKey, PieceIndex};
use crate::util::atomics::Flag;
use crate::util::random;

/// The super-seeding state of a torrent: which pieces have been revealed to which peers.
pub struct SuperSeeding {
    is_active: Flag,
    state: Mutex<SuperSeed>,
}

impl TorrentContext {
    /// The super-seeding state, as long as the torrent super-seeds.
    pub fn active_super_seed(&self) -> Option<&SuperSeeding> {
        self.super_seeding.get().filter(|super_seeding| super_seeding.is_active.is_set())
    }
}

impl SuperSeeding {
    /// The state for a torrent with this number of pieces and this piece length in bytes, all of which we have.
    pub fn new(pieces: u32, piece_length: u32) -> SuperSeeding {
        SuperSeeding {
            is_active: Flag::new(true),
            state: Mutex::new(SuperSeed::new(pieces, piece_length, random::u64())),
        }
    }

    /// Adds a peer from the roster that has been told of no piece yet. Returns false if the peer has to be told of all pieces
    /// at once.
    pub fn join(&self, context: &TorrentContext, key: PeerKey) -> bool {
        self.update(context, |state, now, out| state.join(key, now, out))
    }

    /// Removes a peer that is gone.
    pub fn leave(&self, context: &TorrentContext, key: PeerKey) {
        self.update(context, |state, now, out| state.leave(key, now, out));
    }

    /// The peer has these pieces.
    pub fn has(&self, context: &TorrentContext, key: PeerKey, pieces: impl Iterator<Item = PieceIndex>) {
        self.update(context, |state, now, out| state.has(key, pieces, now, out));
    }

    /// The peer was sent these blocks, which are adjacent.
    pub fn sent(&self, context: &TorrentContext, key: PeerKey, blocks: &[BlockInfo]) {
        let layout = context.pieces.storage().layout();
        self.update(context, |state, now, out| {
            for block in blocks {
                state.sent(key, (block.piece, layout.piece_size(block.piece)), block.length, now, out);
            }
        });
    }

    /// Lets the state act on the time that has passed.
    pub fn tick(&self, context: &TorrentContext) {
        let standings = context.roster.all().into_iter().map(|peer| (peer.key, standing(&peer))).collect();
        self.update(context, |state, now, out| state.tick(now, &standings, out));
    }

    /// Keeps the requests for pieces that were revealed to the peer, and moves the others to `refused`.
    pub fn retain_shown(&self, key: PeerKey, requested: &mut Vec<BlockInfo>, refused: &mut Vec<BlockInfo>) {
        let state = self.state.lock();
        if self.is_active.is_set() {
            refused.extend(requested.extract_if(.., |block| !state.is_shown(key, block.piece)));
        }
    }

    /// Changes the state, then sends the HAVEs that follow from it. If super-seeding is over, changes nothing and returns
    /// false.
    fn update(
        &self,
        context: &TorrentContext,
        update: impl FnOnce(&mut SuperSeed, Duration, &mut HavesToSend),
    ) -> bool {
        let mut shown = Vec::new();
        let over = {
            let mut state = self.state.lock();
            if !self.is_active.is_set() {
                return false;
            }
            update(&mut state, context.now(), &mut shown);
            if state.is_over() {
                self.is_active.set(false);
            }
            state.is_over()
        };
        for (key, piece) in shown {
            if let Some(peer) = context.roster.get(key) {
                peer.queue_have(piece);
            }
        }
        if over {
            self.end(context);
        }
        true
    }

    /// Other peers have enough copies: tells every peer of all pieces, and disconnects seeds, which no longer need us.
    fn end(&self, context: &TorrentContext) {
        log::info!("other peers are complete: super-seeding ends");
        for peer in context.roster.all() {
            let hidden: Vec<_> = self.state.lock().hidden(peer.key).collect();
            for piece in hidden {
                peer.queue_have(piece);
            }
            if peer.is_redundant(context) {
                peer.close();
            } else {
                peer.send_upload_only(context);
            }
        }
    }
}

fn standing(peer: &Peer) -> LeecherStanding {
    if !peer.choking.peer_interested.is_set() {
        LeecherStanding::Uninterested
    } else if peer.choking.am_choking.is_set() {
        LeecherStanding::Waiting
    } else {
        LeecherStanding::Served
    }
}
