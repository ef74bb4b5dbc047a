//! Which peers an answer names, and which one is evicted when the table is full.
//!
//! One party may have all addresses of a subnet (an IPv4 /24 or an IPv6 /48), or of several. So when the table is full, a subnet
//! that has more than its share gives up the peer. The fullest one is found among random peers: the more peers it has, the surer
//! it is among them, and no further order of all peers is needed for it. Private networks are exempt, as whole swarms may be in one.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use crate::net::networks::{Network, is_private};
use crate::tracker_server::registry::{AnnouncedPeer, Registry, SwarmPeer};
use crate::types::PeerId;

/// The most peers of a swarm examined for one answer. As seeds get no seeds, a seed in a large swarm of seeds may get no peers.
const MAX_SAMPLED: usize = 1000;
/// How many peers are examined to find a full subnet.
const EVICTION_SAMPLES: usize = 64;
/// A subnet's share of the table: this many peers, or a hundredth of the table if that is more.
const MIN_SHARE: usize = 32;
const SUBNETS_IN_TABLE: usize = 100;

/// The number of peers of each subnet in all swarms, except private ones.
#[derive(Debug)]
pub(super) struct SubnetSizes {
    sizes: HashMap<Network, u32>,
    /// How many peers a subnet may have in a full table.
    share: u32,
    /// How many subnets have more. Usually none, and then no peer needs to be examined.
    above_share: usize,
}

impl SubnetSizes {
    pub(super) fn new(max_peers: usize) -> SubnetSizes {
        let share = MIN_SHARE.max(max_peers / SUBNETS_IN_TABLE) as u32;
        SubnetSizes { sizes: HashMap::new(), share, above_share: 0 }
    }

    /// Counts a new peer.
    pub(super) fn add(&mut self, ip: IpAddr) {
        if !is_private(ip) {
            let size = self.sizes.entry(Network::subnet(ip)).or_default();
            *size += 1;
            self.above_share += usize::from(*size == self.share + 1);
        }
    }

    /// Counts a peer less.
    pub(super) fn remove(&mut self, ip: IpAddr) {
        let Some(size) = self.sizes.get_mut(&Network::subnet(ip)).filter(|_| !is_private(ip)) else { return };
        *size -= 1;
        self.above_share -= usize::from(*size == self.share);
        if *size == 0 {
            self.sizes.remove(&Network::subnet(ip));
        }
    }

    /// The size of a subnet that has more than its share.
    fn above_share(&self, ip: IpAddr) -> Option<u32> {
        let size = self.sizes.get(&Network::subnet(ip)).filter(|_| !is_private(ip));
        size.copied().filter(|size| *size > self.share)
    }

    /// Asserts that all counts are those of these peers.
    #[cfg(test)]
    pub(super) fn assert_sound(&self, peers: impl Iterator<Item = IpAddr>) {
        let counted = peers.filter(|ip| !is_private(*ip)).count();
        assert_eq!(self.sizes.values().map(|size| *size as usize).sum::<usize>(), counted);
        assert_eq!(self.sizes.values().filter(|size| **size > self.share).count(), self.above_share);
        assert!(self.sizes.values().all(|size| *size > 0));
    }
}

impl Registry {
    /// The peer to evict from the full table: of a subnet with more than its share, or else the one with the oldest announce.
    pub(super) fn peer_to_displace(&self, rng: &mut fastrand::Rng) -> u32 {
        // The table is full: none of its places is free.
        if self.subnet_sizes.above_share == 0 || !self.free_peers.is_empty() {
            return self.oldest;
        }
        let samples = (0..EVICTION_SAMPLES).map(|_| rng.u32(..self.peers.len() as u32));
        let rank = |index: u32| {
            let SwarmPeer { ip, seen, .. } = self.peers[index as usize];
            Some((self.subnet_sizes.above_share(ip.into())?, Reverse(seen), index))
        };
        samples.filter_map(rank).max().map_or(self.oldest, |(_, _, index)| index)
    }

    /// Chooses random other peers of the swarm; every peer has the same chance.
    pub(super) fn choose_peers(
        &mut self,
        swarm: u32,
        me: u32,
        announce: &AnnouncedPeer,
        rng: &mut fastrand::Rng,
    ) -> Vec<(SocketAddr, PeerId)> {
        let list = &mut self.swarms[swarm as usize].peers;
        let mut chosen = Vec::new();
        for place in 0..list.len().min(MAX_SAMPLED) {
            if chosen.len() >= announce.numwant {
                break;
            }
            // A partial Fisher-Yates shuffle, which stops once there are enough peers.
            let other = rng.usize(place..list.len());
            list.swap(place, other);
            self.peers[list[other] as usize].place = other as u32;
            let index = list[place];
            self.peers[index as usize].place = place as u32;
            let peer = &self.peers[index as usize];
            let addr = SocketAddr::new(IpAddr::from(peer.ip).to_canonical(), peer.port);
            let is_own = index == me || peer.id == announce.peer_id;
            let is_of_use = !(peer.is_seed && announce.is_seed);
            let is_reachable =
                !announce.wants_own_family_only || addr.is_ipv4() == announce.addr.ip().to_canonical().is_ipv4();
            if !is_own && is_of_use && is_reachable {
                chosen.push((addr, peer.id));
            }
        }
        chosen
    }
}
