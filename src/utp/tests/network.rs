//! A fake network: one way from one side to the other, with a bottleneck and its queue.

use crate::util::random::Random;

/// One direction. Probabilities are per mille.
#[derive(Clone, Debug)]
pub(super) struct Link {
    /// Bytes per second through the bottleneck; 0 for no limit.
    pub(super) rate: u64,
    /// The bytes that the bottleneck's queue holds.
    pub(super) queue: u64,
    /// The time on the way without a queue, in microseconds.
    pub(super) delay: u64,
    /// Up to so much more, at random; packets overtake each other.
    pub(super) jitter: u64,
    /// Likewise, but packets stay in order.
    pub(super) wobble: u64,
    last_arrival: u64,
    pub(super) loss: u32,
    pub(super) duplication: u32,
    /// The largest datagram.
    pub(super) mtu: usize,
    /// When the bottleneck is free.
    free_at: u64,
    /// The waiting times in the queue: all, in the order of packets.
    pub(super) waits: Vec<u64>,
    pub(super) dropped: u64,
}

impl Link {
    pub(super) fn new(delay: u64) -> Link {
        Link {
            rate: 0,
            queue: u64::MAX,
            delay,
            jitter: 0,
            wobble: 0,
            last_arrival: 0,
            loss: 0,
            duplication: 0,
            mtu: 65_507,
            free_at: 0,
            waits: Vec::new(),
            dropped: 0,
        }
    }

    /// The times at which copies of a packet arrive: usually one.
    pub(super) fn carry(&mut self, now: u64, len: usize, random: &mut Random) -> Vec<u64> {
        if len > self.mtu || random.up_to(999) < self.loss {
            self.dropped += 1;
            return Vec::new();
        }
        let mut leaves = now;
        if self.rate > 0 {
            // The headers of IP and UDP.
            let bytes = len as u64 + 28;
            let wait = self.free_at.saturating_sub(now);
            if wait * self.rate / 1_000_000 + bytes > self.queue {
                self.dropped += 1;
                return Vec::new();
            }
            self.waits.push(wait);
            self.free_at = now + wait + bytes * 1_000_000 / self.rate;
            leaves = self.free_at;
        }
        let copies = if random.up_to(999) < self.duplication { 2 } else { 1 };
        if self.wobble > 0 {
            leaves = (leaves + u64::from(random.up_to(self.wobble as u32))).max(self.last_arrival);
            self.last_arrival = leaves;
        }
        let mut extra = || if self.jitter > 0 { u64::from(random.up_to(self.jitter as u32)) } else { 0 };
        (0..copies).map(|_| leaves + self.delay + extra()).collect()
    }

    /// The waiting time that this part of all packets did not exceed, per mille.
    pub(super) fn wait_at(&self, part: usize) -> u64 {
        let mut waits = self.waits.clone();
        waits.sort_unstable();
        waits.get((waits.len() * part / 1000).min(waits.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}
