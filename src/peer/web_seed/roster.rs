//! What the web seeds of a torrent and its connections share: rates, cancels, and what wakes an idle web seed.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::types::{BlockInfo, PeerKey};
use crate::util::atomics::Gauge;

/// The most cancels that are kept for one web seed: more than it ever requests at once.
const MAX_CANCELS: usize = 8192;

/// The web seeds of one torrent that request blocks at the moment, by key.
#[derive(Default)]
pub struct WebSeedRoster {
    active: Mutex<HashMap<PeerKey, ActiveWebSeed>>,
    /// As many as there are in `active`.
    count: Gauge,
    /// How often idle web seeds were woken.
    wakes: Mutex<u64>,
    woken: Condvar,
}

#[derive(Default)]
struct ActiveWebSeed {
    /// In bytes a second; 0 while unknown.
    rate: u64,
    /// Requested blocks that arrived from elsewhere.
    cancelled: HashSet<BlockInfo>,
}

impl WebSeedRoster {
    /// A web seed begins to request blocks.
    pub fn join(&self, key: PeerKey) {
        let mut active = self.active.lock();
        if active.insert(key, ActiveWebSeed::default()).is_none() {
            self.count.add(1);
        }
    }

    /// A web seed requests no more blocks, or none for a while.
    pub fn leave(&self, key: PeerKey) {
        let mut active = self.active.lock();
        if active.remove(&key).is_some() {
            self.count.sub(1);
        }
    }

    /// How many web seeds request blocks.
    pub fn count(&self) -> usize {
        self.count.get() as usize
    }

    /// Bytes a second from all web seeds.
    pub fn rate(&self) -> u64 {
        self.active.lock().values().map(|seed| seed.rate).fold(0, u64::saturating_add)
    }

    /// Sets how fast a web seed is, in bytes a second.
    pub fn set_rate(&self, key: PeerKey, rate: u64) {
        if let Some(seed) = self.active.lock().get_mut(&key) {
            seed.rate = rate;
        }
    }

    /// A block arrived from elsewhere that this source was asked for too. Ignored if it is no web seed.
    pub fn cancel(&self, key: PeerKey, block: BlockInfo) {
        if self.count() == 0 {
            return;
        }
        if let Some(seed) = self.active.lock().get_mut(&key)
            && seed.cancelled.len() < MAX_CANCELS
        {
            seed.cancelled.insert(block);
        }
    }

    /// Whether all these blocks of a web seed's request have arrived from elsewhere.
    pub fn are_cancelled(&self, key: PeerKey, blocks: &[BlockInfo]) -> bool {
        let active = self.active.lock();
        let Some(seed) = active.get(&key).filter(|seed| !seed.cancelled.is_empty()) else { return false };
        !blocks.is_empty() && blocks.iter().all(|block| seed.cancelled.contains(block))
    }

    /// A web seed is about to make new requests.
    pub fn forget_cancels(&self, key: PeerKey) {
        if let Some(seed) = self.active.lock().get_mut(&key) {
            seed.cancelled.clear();
        }
    }

    /// Wakes all web seeds that wait: blocks may have become free, or something changed for the torrent.
    pub fn wake(&self) {
        *self.wakes.lock() += 1;
        self.woken.notify_all();
    }

    /// The number of wakes so far, for [`WebSeedRoster::wait`].
    pub fn wakes(&self) -> u64 {
        *self.wakes.lock()
    }

    /// Waits until there have been more wakes than `seen`, or this long.
    pub fn wait(&self, seen: u64, time: Duration) {
        let deadline = Instant::now() + time;
        let mut wakes = self.wakes.lock();
        while *wakes == seen {
            if self.woken.wait_until(&mut wakes, deadline).timed_out() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{BLOCK_SIZE, PieceIndex};

    const KEY: PeerKey = PeerKey(1);

    fn block(piece: u32) -> BlockInfo {
        BlockInfo { piece: PieceIndex(piece), begin: 0, length: BLOCK_SIZE }
    }

    #[test]
    fn a_request_is_over_once_all_its_blocks_came_from_elsewhere() {
        let roster = WebSeedRoster::default();
        roster.cancel(KEY, block(0));
        roster.join(KEY);
        assert!(!roster.are_cancelled(KEY, &[block(0)]), "it was no web seed then");
        roster.cancel(KEY, block(0));
        assert!(roster.are_cancelled(KEY, &[block(0)]) && !roster.are_cancelled(KEY, &[block(0), block(1)]));
        roster.forget_cancels(KEY);
        assert!(!roster.are_cancelled(KEY, &[block(0)]));
        (0..10_000).for_each(|piece| roster.cancel(KEY, block(piece)));
        assert!(roster.are_cancelled(KEY, &[block(8191)]) && !roster.are_cancelled(KEY, &[block(8192)]));
    }

    #[test]
    fn only_active_web_seeds_have_a_rate() {
        let roster = WebSeedRoster::default();
        roster.join(KEY);
        roster.join(KEY);
        roster.set_rate(KEY, 5);
        roster.set_rate(PeerKey(2), 5);
        assert_eq!((roster.count(), roster.rate()), (1, 5));
        roster.leave(KEY);
        roster.leave(KEY);
        assert_eq!((roster.count(), roster.rate()), (0, 0));
    }

    #[test]
    fn a_wake_before_the_wait_counts() {
        let roster = WebSeedRoster::default();
        let seen = roster.wakes();
        roster.wake();
        roster.wait(seen, Duration::from_secs(3600));
        roster.wait(roster.wakes(), Duration::from_millis(1));
    }
}
