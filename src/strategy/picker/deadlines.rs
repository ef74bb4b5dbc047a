//! Deadlines of the picks of web seeds. A peer's connection notices by itself that the peer stalls (`pipeline`). A web seed's
//! thread cannot, while it waits for a connection or the head of a response, and a server that sends a byte now and then would
//! keep its blocks for ever. So the picker takes the blocks back: whoever picks next after the deadline does that.

use std::time::Duration;

use crate::strategy::picker::choose::Pick;
use crate::strategy::picker::{BlockState, Picker, pick_context};
use crate::types::{BlockInfo, PeerKey};

/// How late a pick may be, in ticks, in addition to twice the time that it should take.
const PATIENCE: u32 = 1_000;
/// The most of that time that counts, in ticks: slow web seeds get small picks.
const MAX_PICK_TIME: u32 = 2_000;
/// The same for the rest of a piece, which a web seed gets at once if it sends only whole files.
const MAX_PIECE_TIME: u32 = 12_000;

/// The deadline of each web seed's last pick, in ticks. There are few web seeds.
#[derive(Default)]
pub(super) struct PickDeadlines(Vec<(PeerKey, u32)>);

impl PickDeadlines {
    fn of(&self, key: PeerKey) -> Option<u32> {
        self.0.iter().find(|(of, _)| *of == key).map(|(_, at)| *at)
    }

    fn next(&self) -> Option<(PeerKey, u32)> {
        self.0.iter().copied().min_by_key(|(_, at)| *at)
    }

    pub(super) fn remove(&mut self, key: PeerKey) {
        self.0.retain(|(of, _)| *of != key);
    }
}

impl Picker {
    /// Sets the deadline of a web seed's pick, which has none yet.
    pub(super) fn begin_deadline(&mut self, pick: &Pick, is_piece: bool) {
        if !self.peers[pick.peer].is_web_seed || pick.is_empty() {
            return;
        }
        let now = pick.context.ticks();
        let time = pick.due().saturating_sub(now).min(if is_piece { MAX_PIECE_TIME } else { MAX_PICK_TIME });
        self.deadlines.0.push((pick.key, now.saturating_add(time).saturating_add(PATIENCE)));
    }

    /// Asks for another pick when blocks of a late web seed may become free.
    pub(super) fn look_again_at_deadline(&self, pick: &mut Pick) {
        if !pick.is_full()
            && let Some((_, at)) = self.deadlines.next()
        {
            pick.look_again_at(at);
        }
    }

    /// When the web seed's pick is late; `None` if it has none, or its blocks were taken back.
    pub fn deadline(&self, key: PeerKey) -> Option<Duration> {
        self.deadlines.of(key).map(pick_context::time_of)
    }

    /// Takes all blocks back from the web seeds that are late. These count as stalled until they pick again. Blocks that arrive
    /// in spite of that are accepted, if no other source was faster.
    pub fn take_back_late(&mut self, now: Duration) {
        let now = pick_context::ticks(now);
        while let Some((key, at)) = self.deadlines.next()
            && at <= now
        {
            self.deadlines.remove(key);
            let mut late = Vec::new();
            for (&piece, begun) in self.begun.iter().filter(|(_, begun)| begun.requested > 0) {
                let is_asked = |block: &BlockState| match block {
                    BlockState::Requested { requested_peers, .. } => requested_peers.contains(key),
                    _ => false,
                };
                let asked = begun.blocks().iter().enumerate().filter(|(_, block)| is_asked(block));
                late.extend(asked.map(|(at, _)| self.geometry.block(piece, at)));
            }
            if !late.is_empty() {
                self.expire(key, &late);
                self.mark_stalled(key);
            }
        }
    }

    /// Whether any of these blocks, which were requested from the web seed, would still be accepted from it and has not been
    /// requested from another source instead.
    pub fn are_left_to(&self, key: PeerKey, blocks: &[BlockInfo]) -> bool {
        let Some(peer) = self.peer(key) else { return false };
        blocks.iter().any(|block| {
            let Some(at) = self.geometry.block_index(block).filter(|_| !self.have.has(block.piece)) else {
                return false;
            };
            let is_accepted = peer.taken_back.contains(&(block.piece, at));
            let Some(begun) = self.begun.get(&block.piece) else { return is_accepted };
            match begun.get(at) {
                Some(BlockState::Requested { requested_peers, .. }) => requested_peers.contains(key),
                Some(BlockState::Free | BlockState::Expired(_)) => {
                    is_accepted && (begun.only_peer == Some(key) || !self.is_exclusive(block.piece, begun))
                }
                _ => false,
            }
        })
    }
}

#[cfg(test)]
mod tests;
