//! Limits a swarm's IPv6 peers per block. A block is a /48: it holds 65,536 subscriber networks (/64), and one party may control
//! them all. Private networks are exempt, because no host on the internet has an address there.

use std::collections::HashMap;
use std::net::Ipv6Addr;

use crate::net::networks::{Network, is_private};
use crate::tracker_server::registry::{NONE, Registry, SwarmPeer};

/// The number of peers of one block always allowed in a swarm; a larger swarm allows a quarter of its peers per block.
const MIN_PEERS_PER_BLOCK: usize = 32;
const BLOCK_SHARE: usize = 4;

/// The blocks by swarm and network prefix.
pub(crate) type AddressBlocks = HashMap<(u32, Network), AddressBlock>;

/// A block's peers in a swarm, linked in the order of their last announce.
#[derive(Debug)]
pub(crate) struct AddressBlock {
    oldest: u32,
    newest: u32,
    count: u32,
}

/// The block of an address; `None` if its peers are exempt from the limit.
fn block_of(ip: Ipv6Addr) -> Option<Network> {
    (ip.to_ipv4_mapped().is_none() && !is_private(ip.into())).then(|| Network::block(ip.into()))
}

impl Registry {
    /// If the block of `ip` is full, its peer with the oldest announce, which must be evicted to add another.
    pub(crate) fn peer_to_evict(&self, swarm: u32, ip: Ipv6Addr) -> Option<u32> {
        let block = self.address_blocks.get(&(swarm, block_of(ip)?))?;
        let most = MIN_PEERS_PER_BLOCK.max(self.swarms[swarm as usize].peers.len() / BLOCK_SHARE);
        (block.count as usize >= most).then_some(block.oldest)
    }

    /// Appends a peer to its block's list.
    pub(crate) fn add_to_block(&mut self, index: u32) {
        let SwarmPeer { swarm, ip, .. } = self.peers[index as usize];
        let Some(network) = block_of(ip) else { return };
        let new = AddressBlock { oldest: index, newest: NONE, count: 0 };
        let block = self.address_blocks.entry((swarm, network)).or_insert(new);
        let before = std::mem::replace(&mut block.newest, index);
        block.count += 1;
        self.peers[index as usize].block = [before, NONE];
        if let Some(before) = self.peers.get_mut(before as usize) {
            before.block[1] = index;
        }
    }

    /// Removes a peer from its block's list.
    pub(crate) fn remove_from_block(&mut self, index: u32) {
        let SwarmPeer { swarm, ip, block: [older, newer], .. } = self.peers[index as usize];
        let Some(network) = block_of(ip) else { return };
        if let Some(older) = self.peers.get_mut(older as usize) {
            older.block[1] = newer;
        }
        if let Some(newer) = self.peers.get_mut(newer as usize) {
            newer.block[0] = older;
        }
        let Some(block) = self.address_blocks.get_mut(&(swarm, network)) else { return };
        block.count -= 1;
        if block.count == 0 {
            self.address_blocks.remove(&(swarm, network));
            return;
        }
        if older == NONE {
            block.oldest = newer;
        }
        if newer == NONE {
            block.newest = older;
        }
    }

    /// Asserts that each peer subject to the limit is in its block's list exactly once.
    #[cfg(test)]
    pub(crate) fn assert_blocks_sound(&self) {
        for (&(swarm, network), block) in &self.address_blocks {
            let newer = |&peer: &u32| Some(self.peers[peer as usize].block[1]).filter(|&peer| peer != NONE);
            let chain: Vec<u32> = std::iter::successors(Some(block.oldest), newer).collect();
            assert_eq!((chain.len(), chain.last()), (block.count as usize, Some(&block.newest)));
            assert!(chain.is_sorted_by_key(|&peer| self.peers[peer as usize].seen));
            let is_of_it = |&peer: &u32| {
                let SwarmPeer { swarm: of, ip, .. } = self.peers[peer as usize];
                of == swarm && block_of(ip) == Some(network)
            };
            assert!(chain.iter().all(is_of_it));
        }
        let counted = self.swarms.iter().flat_map(|swarm| &swarm.peers);
        let counted = counted.filter(|&&peer| block_of(self.peers[peer as usize].ip).is_some()).count();
        assert_eq!(self.address_blocks.values().map(|block| block.count as usize).sum::<usize>(), counted);
    }
}
