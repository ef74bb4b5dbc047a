//! The deadline thread of a connection: sleeps until the next deadline of the peer's requests. Without requests, it
//! sleeps until there are some, or until the picker may have blocks for a peer that got none.

use std::time::Instant;

use crate::peer::TorrentContext;
use crate::peer::outbox::WriterCommand;
use crate::peer::roster::refill_idle_peers;
use crate::peer::state::Peer;

/// Watches the deadlines until the connection ends.
pub fn watch_deadlines(context: &TorrentContext, peer: &Peer) {
    let mut requests = peer.requesting.pipeline.lock();
    while !peer.has_ended() {
        let now = context.now();
        let Some(deadline) = requests.next_deadline() else {
            peer.requesting.deadline_moved.wait(&mut requests);
            continue;
        };
        if now < deadline {
            peer.requesting.deadline_moved.wait_until(&mut requests, Instant::now() + deadline.saturating_sub(now));
            continue;
        }
        let look = requests.is_repick_due(now);
        let before = requests.is_stalled();
        let late = requests.expire(now);
        let stalled = requests.is_stalled();
        peer.rates.download_rate.set(requests.round_rate().unwrap_or_default() as u64);
        drop(requests);
        if !late.is_empty() || stalled != before {
            log::debug!("{}: {} requests timed out", peer.addr, late.len());
            peer.requesting.timed_out.add(late.len() as u32);
            context.pieces.expire(peer.key, &late, stalled);
            for block in late {
                peer.send(WriterCommand::Cancel(block));
            }
            // Other peers first: this peer would only keep the blocks from them.
            refill_idle_peers(context);
            peer.refill(context);
        } else if look {
            peer.refill(context);
        }
        requests = peer.requesting.pipeline.lock();
    }
}
