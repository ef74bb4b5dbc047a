//! The routing table (BEP 5): known nodes in buckets of eight, which cover smaller ranges the closer they are to our own id. Only
//! nodes that responded to us are good, and only good ones are returned to other nodes. Pure; for one family.

use std::net::SocketAddr;
use std::time::Duration;

use crate::discovery::dht::id::NodeId;
use crate::discovery::dht::message::Contact;
use crate::net::networks::{Network, is_private};

/// The size of a bucket, and the number of closest nodes that a lookup needs.
pub const K: usize = 8;
/// A node that has been silent for this long is questionable, and a bucket without changes for this long must be refreshed
/// (BEP 5).
pub const QUESTIONABLE_AFTER: Duration = Duration::from_secs(15 * 60);
/// A node is bad after this many consecutive unanswered queries: one, and one retry.
const MAX_FAILURES: u8 = 2;
/// The most nodes of one subnet (/24, IPv6 /48) in a bucket, so that a party with many addresses cannot fill it.
const MAX_PER_SUBNET: usize = 2;

/// What the table knows about one node.
#[derive(Clone, Copy, Debug)]
struct NodeEntry {
    contact: Contact,
    /// When it last responded; `None` if it comes from a saved state.
    responded: Option<Duration>,
    /// When it last queried us.
    queried: Option<Duration>,
    /// Unanswered queries since its last response.
    failures: u8,
}

impl NodeEntry {
    fn is_bad(&self) -> bool {
        self.failures >= MAX_FAILURES
    }

    fn seen(&self) -> Option<Duration> {
        self.responded.max(self.queried)
    }

    fn is_good(&self, now: Duration) -> bool {
        let fresh = |at: Option<Duration>| at.is_some_and(|at| now.saturating_sub(at) < QUESTIONABLE_AFTER);
        self.failures == 0 && self.responded.is_some() && (fresh(self.responded) || fresh(self.queried))
    }
}

#[derive(Debug, Default)]
struct KBucket {
    live: Vec<NodeEntry>,
    /// The replacement cache: nodes that responded while the bucket was full, the latest last.
    spare: Vec<NodeEntry>,
    changed: Duration,
}

/// The routing table.
#[derive(Debug)]
pub struct RoutingTable {
    own: NodeId,
    /// Bucket `i` holds the nodes that share exactly `i` bits with our id; the last one also holds those that share more.
    buckets: Vec<KBucket>,
}

impl RoutingTable {
    /// Creates an empty table around our own id.
    pub fn new(own: NodeId) -> RoutingTable {
        RoutingTable { own, buckets: vec![KBucket::default()] }
    }

    /// The number of nodes and of good nodes.
    pub fn count(&self, now: Duration) -> (usize, usize) {
        (self.live().count(), self.live().filter(|entry| entry.is_good(now)).count())
    }

    /// The number of nodes.
    pub fn len(&self) -> usize {
        self.live().count()
    }

    /// Adds a node from a saved state, which has yet to respond. It does not displace any node.
    pub fn remember(&mut self, contact: Contact) {
        let spares = self.buckets.iter().flat_map(|bucket| &bucket.spare);
        let known = self.live().chain(spares).any(|e| e.contact.id == contact.id || e.contact.addr == contact.addr);
        if contact.id != self.own && !known && self.allows(contact) {
            self.place(NodeEntry { contact, responded: None, queried: None, failures: 0 });
        }
    }

    /// Records a response. If the bucket is full, may return a questionable node in it, which the caller should ping.
    pub fn responded(&mut self, now: Duration, contact: Contact) -> Option<Contact> {
        let other_id = |e: &NodeEntry| e.contact.addr == contact.addr && e.contact.id != contact.id;
        for bucket in &mut self.buckets {
            bucket.live.retain(|e| !other_id(e));
            bucket.spare.retain(|e| !other_id(e) && e.contact.id != contact.id);
        }
        if contact.id == self.own {
            return None;
        }
        let at = self.bucket_of(contact.id);
        let bucket = self.buckets.get_mut(at)?;
        if let Some(known) = bucket.live.iter_mut().find(|e| e.contact.id == contact.id) {
            // If two addresses claim the same id, the first one keeps it until it is bad.
            if known.contact.addr == contact.addr {
                (known.responded, known.failures) = (Some(now), 0);
                bucket.changed = now;
                return None;
            } else if !known.is_bad() {
                return None;
            }
            bucket.live.retain(|e| e.contact.id != contact.id);
        }
        if !self.allows(contact) {
            return None;
        }
        let refused = self.place(NodeEntry { contact, responded: Some(now), queried: None, failures: 0 });
        let at = self.bucket_of(contact.id);
        let bucket = self.buckets.get_mut(at)?;
        let Some(entry) = refused else {
            bucket.changed = now;
            return None;
        };
        if bucket.spare.len() >= K {
            bucket.spare.remove(0);
        }
        bucket.spare.push(entry);
        let questionable = bucket.live.iter().filter(|e| !e.is_good(now));
        questionable.min_by_key(|e| e.seen()).map(|e| e.contact)
    }

    /// Records a query by a node; returns whether the node is new, would get a place and should be pinged.
    pub fn queried(&mut self, now: Duration, contact: Contact) -> bool {
        let at = self.bucket_of(contact.id);
        let Some(bucket) = self.buckets.get_mut(at) else { return false };
        if let Some(known) = bucket.live.iter_mut().find(|e| e.contact.id == contact.id) {
            if known.contact.addr == contact.addr {
                known.queried = Some(now);
            }
            return false;
        }
        let room = bucket.live.len() < K || bucket.live.iter().any(|e| !e.is_good(now));
        let splits = at + 1 == self.buckets.len() && at + 1 < NodeId::BITS;
        contact.id != self.own && (room || splits) && self.allows(contact)
    }

    /// Records an unanswered query; returns whether the node should be queried once more.
    pub fn failed(&mut self, addr: SocketAddr) -> bool {
        let holds = |bucket: &KBucket| bucket.live.iter().position(|e| e.contact.addr == addr);
        let Some((b, at)) = self.buckets.iter().enumerate().find_map(|(b, bucket)| Some((b, holds(bucket)?))) else {
            return false;
        };
        let Some(bucket) = self.buckets.get_mut(b) else { return false };
        let Some(entry) = bucket.live.get_mut(at) else { return false };
        entry.failures = entry.failures.saturating_add(1);
        if !entry.is_bad() {
            return true;
        }
        if !bucket.spare.is_empty() {
            bucket.live.remove(at);
            self.promote(b);
        }
        false
    }

    /// Fills a free place in a bucket from its replacement cache, the latest node first.
    fn promote(&mut self, b: usize) {
        let mut spares = self.buckets.get_mut(b).map(|bucket| std::mem::take(&mut bucket.spare)).unwrap_or_default();
        while let Some(spare) = spares.pop() {
            if self.allows(spare.contact) {
                self.place(spare);
                break;
            }
        }
        if let Some(bucket) = self.buckets.get_mut(b) {
            bucket.spare = spares;
        }
    }

    /// The closest nodes for our own lookups; bad ones only if there are not enough others.
    pub fn closest(&self, target: NodeId, n: usize) -> Vec<Contact> {
        let mut entries: Vec<&NodeEntry> = self.live().collect();
        entries.sort_unstable_by_key(|e| (e.is_bad(), e.contact.id.distance(target)));
        entries.into_iter().take(n).map(|e| e.contact).collect()
    }

    /// The closest [`K`] good nodes, for other nodes.
    pub fn closest_good(&self, now: Duration, target: NodeId) -> Vec<Contact> {
        let mut good: Vec<Contact> = self.live().filter(|e| e.is_good(now)).map(|e| e.contact).collect();
        good.sort_unstable_by_key(|contact| contact.id.distance(target));
        good.truncate(K);
        good
    }

    /// A random id to look up, in a bucket without changes for 15 minutes; marks the bucket as changed.
    pub fn refresh(&mut self, now: Duration, rng: &mut fastrand::Rng) -> Option<NodeId> {
        let last = self.buckets.len().saturating_sub(1);
        let at = self.buckets.iter().position(|bucket| now.saturating_sub(bucket.changed) >= QUESTIONABLE_AFTER)?;
        self.buckets.get_mut(at)?.changed = now;
        Some(self.own.near(at, at != last, rng))
    }

    /// The earliest time at which [`RoutingTable::refresh`] has work to do.
    pub fn next_refresh(&self) -> Duration {
        self.buckets.iter().map(|bucket| bucket.changed).min().unwrap_or_default() + QUESTIONABLE_AFTER
    }

    /// Changes our own id and redistributes all nodes.
    pub fn change_own_id(&mut self, now: Duration, own: NodeId) {
        let entries: Vec<NodeEntry> = self.buckets.drain(..).flat_map(|b| b.live.into_iter().chain(b.spare)).collect();
        self.own = own;
        self.buckets = vec![KBucket { changed: now, ..KBucket::default() }];
        for entry in entries {
            if entry.contact.id != own && self.allows(entry.contact) {
                self.place(entry);
            }
        }
    }

    /// The nodes to save for the next run, good ones first.
    pub fn nodes_to_save(&self, now: Duration) -> Vec<Contact> {
        let entries = self.live().filter(|e| e.responded.is_some() && !e.is_bad());
        let (good, others): (Vec<&NodeEntry>, Vec<&NodeEntry>) = entries.partition(|e| e.is_good(now));
        good.iter().chain(&others).map(|e| e.contact).collect()
    }

    fn live(&self) -> impl Iterator<Item = &NodeEntry> {
        self.buckets.iter().flat_map(|bucket| &bucket.live)
    }

    fn bucket_of(&self, id: NodeId) -> usize {
        self.own.shared_bits(id).min(self.buckets.len().saturating_sub(1))
    }

    /// Whether the limits allow a node: one per public address (IPv6 /64) in the table, and two per subnet in a bucket.
    fn allows(&self, contact: Contact) -> bool {
        let ip = contact.addr.ip();
        if is_private(ip) {
            return true;
        }
        let bucket = self.buckets.get(self.bucket_of(contact.id));
        let near = bucket.map_or(0, |b| {
            b.live.iter().filter(|e| Network::subnet(e.contact.addr.ip()) == Network::subnet(ip)).count()
        });
        near < MAX_PER_SUBNET && self.live().all(|e| Network::host(e.contact.addr.ip()) != Network::host(ip))
    }

    /// Adds a node in a free place, that of a bad node, a new bucket, or that of a node that never responded. Returns it if there
    /// is no place.
    fn place(&mut self, entry: NodeEntry) -> Option<NodeEntry> {
        loop {
            let at = self.bucket_of(entry.contact.id);
            let last = at + 1 == self.buckets.len();
            let Some(bucket) = self.buckets.get_mut(at) else { return Some(entry) };
            if bucket.live.len() < K {
                bucket.live.push(entry);
                return None;
            }
            if let Some(bad) = bucket.live.iter_mut().find(|e| e.is_bad()) {
                *bad = entry;
                return None;
            }
            if last && at + 1 < NodeId::BITS {
                self.split(at);
                continue;
            }
            return match bucket.live.iter_mut().find(|e| e.responded.is_none()) {
                Some(unproven) if entry.responded.is_some() => {
                    *unproven = entry;
                    None
                }
                _ => Some(entry),
            };
        }
    }

    /// Splits the last bucket: nodes that share more bits with our id than its index move to a new one.
    fn split(&mut self, at: usize) {
        let Some(bucket) = self.buckets.get_mut(at) else { return };
        let own = self.own;
        let closer = |e: &mut NodeEntry| own.shared_bits(e.contact.id) > at;
        let next = KBucket {
            live: bucket.live.extract_if(.., closer).collect(),
            spare: bucket.spare.extract_if(.., closer).collect(),
            changed: bucket.changed,
        };
        self.buckets.push(next);
    }
}

#[cfg(test)]
mod tests;
