//! The blocks that the peer waits for: which ones are sent next, and which are not sent at all.

use std::collections::HashMap;

use crate::peer::socket_write::CHUNK;
use crate::peer::writer::Writer;
use crate::peer::{Demand, SLAB};
use crate::strategy::fast_grants;
use crate::strategy::rate_limiter::Direction;
use crate::types::{BLOCK_SIZE, BlockInfo};
use crate::wire::message;

impl Writer<'_> {
    /// The peer has cancelled requests: removes those that still wait in the queue.
    pub(super) fn withdraw(&mut self, batch: Vec<BlockInfo>) {
        let mut cancels: HashMap<BlockInfo, u32> = HashMap::new();
        for block in batch {
            *cancels.entry(block).or_default() += 1;
        }
        self.drop_requests(|block| {
            let Some(count) = cancels.get_mut(block).filter(|count| **count > 0) else { return true };
            *count -= 1;
            false
        });
    }

    /// The peer is choked: drops its requests except those for its allowed fast pieces.
    pub(super) fn drop_queue(&mut self) {
        let allowed = &self.peer.choking.allowed_fast;
        self.drop_requests(|block| block.length <= BLOCK_SIZE && allowed.is_granted(block.piece));
        self.slab = None; // choked peers have no share of the buffers
    }

    /// Drops the requests that need not stay, and rejects them if the peer supports the fast extension (BEP 6).
    fn drop_requests(&mut self, mut may_stay: impl FnMut(&BlockInfo) -> bool) {
        let before = self.queue.len();
        let (peer, messages) = (self.peer, &mut self.messages);
        self.queue.retain(|block| {
            let stays = may_stay(block);
            if peer.extensions.supports_fast && !stays {
                message::write_reject(messages, *block);
            }
            stays
        });
        peer.serving.queued_requests.sub((before - self.queue.len()) as u32);
    }

    /// Takes the oldest request and the requests behind it that follow on disk, as far as the limit allows; none if it allows
    /// none.
    pub(super) fn next_run(&mut self) -> Vec<BlockInfo> {
        let Some(first) = self.queue.front().copied() else { return Vec::new() };
        if self.pending_deadline().is_some() {
            return Vec::new();
        }
        if self.is_choking && !self.take_fast_grant() {
            self.drop_requests(|_| false);
            return Vec::new();
        }
        let most = if self.is_choking { 1 } else { self.batch_size.blocks() };
        let throttle = &self.context.settings.throttle;
        let demand = Demand { flow: self.peer.flow(), direction: Direction::Up, serves_choked_peer: self.is_choking };
        let want = || self.queue.iter().take(most).map(|b| u64::from(b.length)).sum();
        let max_bytes = self.allowance.take(throttle, demand, u64::from(first.length), want);
        if max_bytes > 0 && self.slab.is_none() && !self.is_choking {
            self.slab = throttle.client.upload_slab();
        }
        let space = if self.slab.is_some() { SLAB } else { CHUNK.max(first.length as usize) };
        let max_bytes =
            max_bytes.min(self.send_gate.max_bytes().max(u64::from(first.length))).min(space as u64) as usize;
        let layout = self.context.pieces.storage().layout();
        let start = |b: &BlockInfo| layout.offset(b.piece, b.begin);
        let mut run: Vec<BlockInfo> = Vec::with_capacity(most);
        let mut bytes = 0;
        while run.len() < most
            && let Some(next) = self.queue.front().copied()
            && run.last().is_none_or(|last| start(last) + u64::from(last.length) == start(&next))
            && bytes + next.length as usize <= max_bytes
        {
            bytes += next.length as usize;
            run.push(next);
            self.queue.pop_front();
        }
        self.allowance.spend(bytes as u64);
        if run.is_empty() {
            self.give_fast_grant_back();
        }
        run
    }

    /// Whether the peer, which is choked, may have one more block.
    fn take_fast_grant(&self) -> bool {
        let most = fast_grants::grant(self.context.pieces.storage().layout().piece_length());
        let (now, ip) = (self.context.now(), self.peer.addr.ip());
        !self.context.is_paused() && self.context.fast_quota.lock().take(now, ip, most)
    }

    /// The block was not sent after all.
    pub(super) fn give_fast_grant_back(&self) {
        if self.is_choking {
            self.context.fast_quota.lock().give_back(self.peer.addr.ip());
        }
    }
}
