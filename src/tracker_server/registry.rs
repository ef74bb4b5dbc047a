//! The tracker's data: which peers are in which swarm. Pure: the caller passes addresses, time and randomness;
//! [`crate::tracker_server`] adds HTTP and UDP.
//!
//! All peers are in one table, linked in the order of their last announce. The head of the list holds the peers that expire next
//! and the peer to evict when the table is full.
//! Clients are untrusted, so the peers of one network (an IPv4 address or an IPv6 /64) are limited in each swarm, where a new
//! peer evicts the network's peer with the oldest announce, and across all swarms. Those of an IPv6 /48 are limited in each swarm
//! as well (`subnets`), and a subnet that has many of all peers gives one up when the table is full (`choice`).

mod choice;
mod subnets;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::discovery::tracker::http::AnnounceEvent;
use crate::net::networks::Network;
use crate::types::{InfoHash, PeerId};
use choice::SubnetSizes;
use subnets::Subnets;

/// The null index of the tables.
const NONE: u32 = u32::MAX;

/// The capacity of a registry, and the lifetime of its peers.
#[derive(Clone, Copy, Debug)]
pub struct RegistryLimits {
    /// A peer expires when it has not announced for this long.
    pub expiry: Duration,
    /// The most peers in all swarms. Beyond this, a peer of a subnet with more than a hundredth of them is evicted, or else the peer
    /// with the oldest announce.
    pub max_peers: usize,
    /// The most peers of one network in all swarms; an announce of a further one is refused.
    pub max_per_network: usize,
    /// The most peers of one network in one swarm. Beyond this, the one of them with the oldest announce is evicted.
    pub max_per_network_in_swarm: usize,
}

/// The content of a peer's announce.
#[derive(Clone, Copy, Debug)]
pub struct AnnouncedPeer {
    /// The torrent's info-hash.
    pub info_hash: InfoHash,
    /// The peer's id.
    pub peer_id: PeerId,
    /// The address at which the peer accepts connections.
    pub addr: SocketAddr,
    /// Whether the peer has nothing left to download.
    pub is_seed: bool,
    /// The event, if any.
    pub event: Option<AnnounceEvent>,
    /// The most peers to return.
    pub numwant: usize,
    /// Whether to return only peers of the peer's own address family.
    pub wants_own_family_only: bool,
}

/// The counts of one swarm (BEP 48).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SwarmCounts {
    /// Seeds.
    pub complete: usize,
    /// Leechers.
    pub incomplete: usize,
    /// How many peers reported `completed` since the swarm was last empty.
    pub downloaded: u64,
}

/// The peer's network already has the maximum number of peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("your address already has {0} peers in all swarms, which is the limit for one address")]
pub struct NetworkFull(usize);

/// All swarms of a tracker.
#[derive(Debug)]
pub struct Registry {
    limits: RegistryLimits,
    peers: Vec<SwarmPeer>,
    free_peers: Vec<u32>,
    /// The ends of the list ordered by last announce.
    oldest: u32,
    newest: u32,
    swarms: Vec<TrackedSwarm>,
    free_swarms: Vec<u32>,
    by_hash: HashMap<InfoHash, u32>,
    /// The head of the list of each network's peers in each swarm.
    first_of_network: HashMap<(u32, Network), u32>,
    /// The number of peers of each network.
    networks: HashMap<Network, u32>,
    subnets: Subnets,
    subnet_sizes: SubnetSizes,
}

#[derive(Debug)]
struct TrackedSwarm {
    info_hash: InfoHash,
    peers: Vec<u32>,
    seeds: u32,
    downloaded: u64,
}

#[derive(Debug)]
struct SwarmPeer {
    swarm: u32,
    /// The peer's index in its swarm's `peers`.
    place: u32,
    /// The adjacent peers in the list ordered by last announce.
    older: u32,
    newer: u32,
    /// The previous and the next peer in the list of its subnet and swarm.
    subnet_links: [u32; 2],
    /// The next peer in the list of its network and swarm.
    next_of_network: u32,
    port: u16,
    is_seed: bool,
    has_completed: bool,
    ip: Ipv6Addr,
    id: PeerId,
    /// The time of the last announce, in milliseconds.
    seen: u64,
}

impl Registry {
    /// Creates an empty registry.
    pub fn new(limits: RegistryLimits) -> Registry {
        Registry {
            limits,
            peers: Vec::new(),
            free_peers: Vec::new(),
            oldest: NONE,
            newest: NONE,
            swarms: Vec::new(),
            free_swarms: Vec::new(),
            by_hash: HashMap::new(),
            first_of_network: HashMap::new(),
            networks: HashMap::new(),
            subnets: Subnets::new(),
            subnet_sizes: SubnetSizes::new(limits.max_peers),
        }
    }

    /// Records an announce and returns random peers of the swarm: never the peer itself, and no seeds to a seed.
    ///
    /// # Errors
    /// [`NetworkFull`] if the peer is new and its network has the maximum number of peers.
    pub fn announce(
        &mut self,
        now: Duration,
        announce: &AnnouncedPeer,
        rng: &mut fastrand::Rng,
    ) -> Result<(Vec<(SocketAddr, PeerId)>, SwarmCounts), NetworkFull> {
        self.expire(now);
        let known = self.find(announce);
        if announce.event == Some(AnnounceEvent::Stopped) {
            if let Some(peer) = known {
                self.remove(peer);
            }
            return Ok((Vec::new(), self.counts(&announce.info_hash).unwrap_or_default()));
        }
        let peer = match known {
            Some(peer) => {
                self.unlink(peer);
                peer
            }
            None => self.insert(announce, rng)?,
        };
        self.link_newest(peer);
        self.update_peer(peer, now, announce);
        let swarm = self.peers[peer as usize].swarm;
        Ok((self.choose_peers(swarm, peer, announce, rng), self.swarms[swarm as usize].counts()))
    }

    /// The counts of a torrent, if it is known (BEP 48).
    pub fn counts(&self, info_hash: &InfoHash) -> Option<SwarmCounts> {
        self.by_hash.get(info_hash).map(|&swarm| self.swarms[swarm as usize].counts())
    }

    /// Like [`Registry::counts`], after removing expired peers.
    pub fn scrape(&mut self, now: Duration, info_hash: &InfoHash) -> Option<SwarmCounts> {
        self.expire(now);
        self.counts(info_hash)
    }

    /// The number of torrents and of peers.
    pub fn size(&self) -> (usize, usize) {
        (self.by_hash.len(), self.peers.len() - self.free_peers.len())
    }

    /// Removes all expired peers, and torrents without peers.
    pub fn expire(&mut self, now: Duration) {
        let expiry = self.limits.expiry.as_millis() as u64;
        while self.oldest != NONE && millis(now).saturating_sub(self.peers[self.oldest as usize].seen) >= expiry {
            self.remove(self.oldest);
        }
    }

    /// The announcing peer's index, if it is known.
    fn find(&self, announce: &AnnouncedPeer) -> Option<u32> {
        let swarm = *self.by_hash.get(&announce.info_hash)?;
        let (ip, port) = (to_ipv6_mapped(announce.addr.ip()), announce.addr.port());
        self.peers_of_network(swarm, Network::host(announce.addr.ip())).find(|&peer| {
            let SwarmPeer { ip: known, port: at, .. } = self.peers[peer as usize];
            (known, at) == (ip, port)
        })
    }

    /// A network's peers in a swarm.
    fn peers_of_network(&self, swarm: u32, network: Network) -> impl Iterator<Item = u32> {
        let first = self.first_of_network.get(&(swarm, network)).copied();
        std::iter::successors(first, |&peer| {
            Some(self.peers[peer as usize].next_of_network).filter(|&next| next != NONE)
        })
    }

    /// Evicts peers as necessary and adds a new peer to its swarm, but not yet to the list ordered by last announce.
    fn insert(&mut self, announce: &AnnouncedPeer, rng: &mut fastrand::Rng) -> Result<u32, NetworkFull> {
        let network = Network::host(announce.addr.ip());
        if let Some(&swarm) = self.by_hash.get(&announce.info_hash) {
            let count = self.peers_of_network(swarm, network).count();
            let silent = self.peers_of_network(swarm, network).min_by_key(|&peer| self.peers[peer as usize].seen);
            if let Some(silent) = silent.filter(|_| count >= self.limits.max_per_network_in_swarm) {
                self.remove(silent);
            } else if let Some(peer_to_evict) = self.peer_to_evict(swarm, to_ipv6_mapped(announce.addr.ip())) {
                self.remove(peer_to_evict);
            }
        }
        let count = self.networks.get(&network).map_or(0, |&count| count as usize);
        if count >= self.limits.max_per_network {
            return Err(NetworkFull(self.limits.max_per_network));
        }
        if self.size().1 >= self.limits.max_peers && self.oldest != NONE {
            self.remove(self.peer_to_displace(rng));
        }
        let swarm = self.swarm(announce.info_hash);
        let list = &mut self.swarms[swarm as usize].peers;
        let first = self.first_of_network.get(&(swarm, network)).copied();
        let peer = SwarmPeer {
            swarm,
            place: list.len() as u32,
            older: NONE,
            newer: NONE,
            subnet_links: [NONE; 2],
            next_of_network: first.unwrap_or(NONE),
            port: announce.addr.port(),
            is_seed: false,
            has_completed: false,
            ip: to_ipv6_mapped(announce.addr.ip()),
            id: announce.peer_id,
            seen: 0,
        };
        let index = self.free_peers.pop().unwrap_or(self.peers.len() as u32);
        match self.peers.get_mut(index as usize) {
            Some(place) => *place = peer,
            None => self.peers.push(peer),
        }
        list.push(index);
        self.first_of_network.insert((swarm, network), index);
        *self.networks.entry(network).or_default() += 1;
        self.subnet_sizes.add(announce.addr.ip());
        Ok(index)
    }

    /// The index of the swarm with this info-hash, created if necessary.
    fn swarm(&mut self, info_hash: InfoHash) -> u32 {
        if let Some(&known) = self.by_hash.get(&info_hash) {
            return known;
        }
        let swarm = TrackedSwarm { info_hash, peers: Vec::new(), seeds: 0, downloaded: 0 };
        let index = self.free_swarms.pop().unwrap_or(self.swarms.len() as u32);
        match self.swarms.get_mut(index as usize) {
            Some(place) => *place = swarm,
            None => self.swarms.push(swarm),
        }
        self.by_hash.insert(info_hash, index);
        index
    }

    /// Updates a peer with the content of its announce.
    fn update_peer(&mut self, index: u32, now: Duration, announce: &AnnouncedPeer) {
        let peer = &mut self.peers[index as usize];
        let swarm = &mut self.swarms[peer.swarm as usize];
        if peer.id != announce.peer_id {
            (peer.id, peer.has_completed) = (announce.peer_id, false);
        }
        if announce.event == Some(AnnounceEvent::Completed) && !peer.has_completed {
            // Count each peer's completion once, even if it reports it repeatedly.
            peer.has_completed = true;
            swarm.downloaded += 1;
        }
        swarm.seeds = swarm.seeds + u32::from(announce.is_seed) - u32::from(peer.is_seed);
        (peer.is_seed, peer.seen) = (announce.is_seed, millis(now));
    }

    fn remove(&mut self, index: u32) {
        self.unlink(index);
        let SwarmPeer { swarm, place, next_of_network, is_seed, ip, .. } = self.peers[index as usize];
        let network = Network::host(ip.into());
        let before =
            self.peers_of_network(swarm, network).find(|&peer| self.peers[peer as usize].next_of_network == index);
        match (before, next_of_network) {
            (Some(before), next) => self.peers[before as usize].next_of_network = next,
            (None, NONE) => drop(self.first_of_network.remove(&(swarm, network))),
            (None, next) => drop(self.first_of_network.insert((swarm, network), next)),
        }
        if let Some(count) = self.networks.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                self.networks.remove(&network);
            }
        }
        self.subnet_sizes.remove(ip.into());
        let list = &mut self.swarms[swarm as usize];
        list.seeds -= u32::from(is_seed);
        list.peers.swap_remove(place as usize);
        if let Some(&moved) = list.peers.get(place as usize) {
            self.peers[moved as usize].place = place;
        }
        if list.peers.is_empty() {
            list.peers = Vec::new();
            self.by_hash.remove(&list.info_hash);
            self.free_swarms.push(swarm);
        }
        self.free_peers.push(index);
    }

    /// Appends a peer to the list ordered by last announce.
    fn link_newest(&mut self, index: u32) {
        self.add_to_subnet(index);
        let before = std::mem::replace(&mut self.newest, index);
        (self.peers[index as usize].older, self.peers[index as usize].newer) = (before, NONE);
        match self.peers.get_mut(before as usize) {
            Some(before) => before.newer = index,
            None => self.oldest = index,
        }
    }

    fn unlink(&mut self, index: u32) {
        self.remove_from_subnet(index);
        let SwarmPeer { older, newer, .. } = self.peers[index as usize];
        match self.peers.get_mut(older as usize) {
            Some(older) => older.newer = newer,
            None => self.oldest = newer,
        }
        match self.peers.get_mut(newer as usize) {
            Some(newer) => newer.older = older,
            None => self.newest = older,
        }
    }
}

impl TrackedSwarm {
    fn counts(&self) -> SwarmCounts {
        let complete = self.seeds as usize;
        SwarmCounts { complete, incomplete: self.peers.len() - complete, downloaded: self.downloaded }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Maps IPv4 to IPv6 addresses, so that one type holds both.
fn to_ipv6_mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

#[cfg(test)]
mod tests;
