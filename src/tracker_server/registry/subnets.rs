//! Limits a swarm's IPv6 peers per subnet. A subnet is a /48: it holds 65,536 subscriber networks (/64), and one party may
//! control them all. Private networks are exempt, because no host on the internet has an address there.

use std::collections::HashMap;
use std::net::Ipv6Addr;

use crate::net::networks::{Network, is_private};
use crate::tracker_server::registry::{NONE, Registry, SwarmPeer};

/// The number of peers of one subnet always allowed in a swarm; a larger swarm allows a quarter of its peers per subnet.
const MIN_PEERS_PER_SUBNET: usize = 32;
const SUBNET_SHARE: usize = 4;

/// The subnets by swarm and network prefix.
pub(crate) type Subnets = HashMap<(u32, Network), Subnet>;

/// A subnet's peers in a swarm, linked in the order of their last announce.
#[derive(Debug)]
pub(crate) struct Subnet {
    oldest: u32,
    newest: u32,
    count: u32,
}

/// The subnet of an address; `None` if its peers are exempt from the limit.
fn subnet_of(ip: Ipv6Addr) -> Option<Network> {
    (ip.to_ipv4_mapped().is_none() && !is_private(ip.into())).then(|| Network::subnet(ip.into()))
}

impl Registry {
    /// If the subnet of `ip` is full, its peer with the oldest announce, which must be evicted to add another.
    pub(crate) fn peer_to_evict(&self, swarm: u32, ip: Ipv6Addr) -> Option<u32> {
        let subnet = self.subnets.get(&(swarm, subnet_of(ip)?))?;
        let most = MIN_PEERS_PER_SUBNET.max(self.swarms[swarm as usize].peers.len() / SUBNET_SHARE);
        (subnet.count as usize >= most).then_some(subnet.oldest)
    }

    /// Appends a peer to its subnet's list.
    pub(crate) fn add_to_subnet(&mut self, index: u32) {
        let SwarmPeer { swarm, ip, .. } = self.peers[index as usize];
        let Some(network) = subnet_of(ip) else { return };
        let new = Subnet { oldest: index, newest: NONE, count: 0 };
        let subnet = self.subnets.entry((swarm, network)).or_insert(new);
        let before = std::mem::replace(&mut subnet.newest, index);
        subnet.count += 1;
        self.peers[index as usize].subnet_links = [before, NONE];
        if let Some(before) = self.peers.get_mut(before as usize) {
            before.subnet_links[1] = index;
        }
    }

    /// Removes a peer from its subnet's list.
    pub(crate) fn remove_from_subnet(&mut self, index: u32) {
        let SwarmPeer { swarm, ip, subnet_links: [older, newer], .. } = self.peers[index as usize];
        let Some(network) = subnet_of(ip) else { return };
        if let Some(older) = self.peers.get_mut(older as usize) {
            older.subnet_links[1] = newer;
        }
        if let Some(newer) = self.peers.get_mut(newer as usize) {
            newer.subnet_links[0] = older;
        }
        let Some(subnet) = self.subnets.get_mut(&(swarm, network)) else { return };
        subnet.count -= 1;
        if subnet.count == 0 {
            self.subnets.remove(&(swarm, network));
            return;
        }
        if older == NONE {
            subnet.oldest = newer;
        }
        if newer == NONE {
            subnet.newest = older;
        }
    }

    /// Asserts that each peer subject to the limit is in its subnet's list exactly once.
    #[cfg(test)]
    pub(crate) fn assert_subnets_sound(&self) {
        for (&(swarm, network), subnet) in &self.subnets {
            let newer = |&peer: &u32| Some(self.peers[peer as usize].subnet_links[1]).filter(|&peer| peer != NONE);
            let chain: Vec<u32> = std::iter::successors(Some(subnet.oldest), newer).collect();
            assert_eq!((chain.len(), chain.last()), (subnet.count as usize, Some(&subnet.newest)));
            assert!(chain.is_sorted_by_key(|&peer| self.peers[peer as usize].seen));
            let is_of_it = |&peer: &u32| {
                let SwarmPeer { swarm: of, ip, .. } = self.peers[peer as usize];
                of == swarm && subnet_of(ip) == Some(network)
            };
            assert!(chain.iter().all(is_of_it));
        }
        let counted = self.swarms.iter().flat_map(|swarm| &swarm.peers);
        let counted = counted.filter(|&&peer| subnet_of(self.peers[peer as usize].ip).is_some()).count();
        assert_eq!(self.subnets.values().map(|subnet| subnet.count as usize).sum::<usize>(), counted);
    }
}
