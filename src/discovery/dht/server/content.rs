//! What a response contains beside nodes and a token: as much as fits, so that it is at most a small multiple of the query's size.

use std::time::Duration;

use crate::discovery::dht::bloom::SwarmFilters;
use crate::discovery::dht::id::NodeId;
use crate::discovery::dht::item::FoundItem;
use crate::discovery::dht::message::{
    Family, InfohashSamples, KrpcBody, KrpcMessage, KrpcResponse, MAX_PACKET, MAX_TRANSACTION, ScrapeOptions,
};
use crate::discovery::dht::server::{QueryServer, ReceivedQuery};
use crate::types::InfoHash;

/// A response is at most this many times as long as its query, whose source address may be forged. A large item may be longer, at
/// a rate of its own.
pub(super) const MAX_AMPLIFICATION: usize = 8;
/// The size of both filters of a scrape.
const FILTERS: usize = 2 * ("4:BFpe256:".len() + 256);
/// The nodes that a response contains even if a scrape's filters do not fit then.
const MIN_NODES: usize = 4;
/// The most info-hashes in a response.
const MAX_SAMPLES: usize = 20;
/// For how long the samples of info-hashes stay the same.
const SAMPLES_LIFE: Duration = Duration::from_secs(10 * 60);

impl QueryServer {
    /// Adds a torrent's peers: their filters, if requested, and as many addresses as fit.
    pub(super) fn add_peers(
        &self,
        now: Duration,
        received: ReceivedQuery<'_>,
        (info_hash, scrape): (InfoHash, ScrapeOptions),
        response: &mut KrpcResponse,
        rng: &mut fastrand::Rng,
    ) {
        if scrape.wants_filters && self.store.has(info_hash) {
            drop_nodes(received, response, FILTERS);
            if room(received, response) >= FILTERS {
                let mut filters = SwarmFilters::default();
                for peer in self.store.all(now, info_hash) {
                    if peer.is_seed { &mut filters.seeds } else { &mut filters.others }.add(peer.addr.ip());
                }
                response.filters = Some(Box::new(filters));
            }
        }
        let room = room(received, response).saturating_sub("6:valuesle".len());
        // Each peer is preceded by its length, which has one digit for IPv4 and two for IPv6, and a colon.
        let fits = room / (self.family.width() + 2 + if self.family == Family::V4 { 2 } else { 3 });
        response.values = self.store.peers(now, info_hash, scrape.wants_no_seeds, fits, rng);
    }

    /// Adds info-hashes that we store peers of. They stay the same for a while, so that it is no use to ask often.
    pub(super) fn add_samples(
        &mut self,
        now: Duration,
        received: ReceivedQuery<'_>,
        response: &mut KrpcResponse,
        rng: &mut fastrand::Rng,
    ) {
        if now >= self.samples_due {
            self.samples = self.store.sample(now, MAX_SAMPLES, rng);
            self.samples_due = now + SAMPLES_LIFE;
        }
        let (interval, count) = (SAMPLES_LIFE.as_secs() as u16, self.store.torrents() as u32);
        response.samples = Some(InfohashSamples { interval, count, samples: Vec::new() });
        let fits = room(received, response).saturating_sub("400".len()) / 20;
        if let Some(samples) = &mut response.samples {
            samples.samples = self.samples.iter().copied().take(fits).collect();
        }
    }

    /// Adds an item. One that is too large for the query is subject to a rate of its own.
    pub(super) fn add_item(
        &mut self,
        now: Duration,
        received: ReceivedQuery<'_>,
        (target, known): (NodeId, Option<i64>),
        response: &mut KrpcResponse,
    ) {
        response.item = self.items.get(now, target, known);
        let is_large = matches!(response.item, Some(FoundItem::Immutable(_) | FoundItem::Mutable(..)))
            && length(received, response) > received.size.saturating_mul(MAX_AMPLIFICATION);
        if is_large && !self.limiter.may_send_large(now, received.from.ip()) {
            response.item = None;
        }
    }
}

/// Leaves out the farthest nodes until `size` bytes more fit. Keeps a few of them if that is for other data than an item.
pub(super) fn drop_nodes(received: ReceivedQuery<'_>, response: &mut KrpcResponse, size: usize) {
    let fewest = if size > 0 { MIN_NODES } else { 0 };
    let excess = (length(received, response) + size).saturating_sub(limit(received));
    // All nodes are of our family, which is the sender's.
    let node_length = 20 + Family::of(received.from.ip()).width() + 2;
    let kept = response.nodes.len().saturating_sub(excess.div_ceil(node_length));
    response.nodes.truncate(kept.max(fewest));
}

/// How many bytes the response may have beyond its current content.
fn room(received: ReceivedQuery<'_>, response: &KrpcResponse) -> usize {
    limit(received).saturating_sub(length(received, response))
}

/// The length of the packet with this response.
fn length(received: ReceivedQuery<'_>, response: &KrpcResponse) -> usize {
    let message = KrpcMessage {
        transaction: vec![0; MAX_TRANSACTION], // the longest that is echoed
        ip: Some(received.from),
        body: KrpcBody::Response(response.clone()),
    };
    message.encode().len()
}

fn limit(received: ReceivedQuery<'_>) -> usize {
    MAX_PACKET.min(received.size.saturating_mul(MAX_AMPLIFICATION))
}
