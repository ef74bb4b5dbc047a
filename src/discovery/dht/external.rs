//! Determines our external address from votes (BEP 42): every response contains it, but no single one is trusted. Our id depends on
//! it. Pure.

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::discovery::dht::id::NodeId;
use crate::discovery::dht::message::Family;
use crate::discovery::dht::state::DhtState;
use crate::net::networks::Network;

/// The number of recent votes considered.
const MAX_VOTES: usize = 20;
/// The votes required for an address, which must also be a majority.
const QUORUM: usize = 6;

/// The votes on our external address.
#[derive(Debug, Default)]
pub struct ExternalIp {
    /// One vote per network, the latest last, because one party may control many addresses of a network.
    votes: VecDeque<(Network, IpAddr)>,
    agreed: Option<IpAddr>,
}

impl ExternalIp {
    /// The address that the majority agrees on.
    pub fn agreed(&self) -> Option<IpAddr> {
        self.agreed
    }

    /// Records a node's vote; returns the address if a new one has been agreed on.
    pub fn vote(&mut self, voter: IpAddr, ours: IpAddr) -> Option<IpAddr> {
        let voter = Network::subnet(voter);
        self.votes.retain(|(who, _)| *who != voter);
        if self.votes.len() >= MAX_VOTES {
            self.votes.pop_front();
        }
        self.votes.push_back((voter, ours));
        let agree = self.votes.iter().filter(|(_, said)| *said == ours).count();
        if agree < QUORUM || agree * 2 <= self.votes.len() || self.agreed == Some(ours) {
            return None;
        }
        self.agreed = Some(ours);
        self.agreed
    }
}

/// Our id, which depends on our external address (BEP 42).
#[derive(Debug)]
pub(crate) struct OwnIds {
    pub(crate) id: NodeId,
    /// Our ids by external address, as in [`DhtState::ids`].
    ids: Vec<(IpAddr, NodeId)>,
    external: ExternalIp,
}

impl OwnIds {
    /// The ids of an earlier run, or a random one.
    pub fn new(state: &DhtState, family: Family, rng: &mut fastrand::Rng) -> OwnIds {
        let ids: Vec<_> = state.ids.iter().copied().filter(|(ip, _)| Family::of(*ip) == family).collect();
        let id = ids.last().map_or_else(|| NodeId::random(rng), |(_, id)| *id);
        OwnIds { id, ids, external: ExternalIp::default() }
    }

    /// Our external address, once enough nodes agree.
    pub fn external_ip(&self) -> Option<IpAddr> {
        self.external.agreed()
    }

    /// Records a vote on our external address. Once enough nodes agree on a new one, switches to an id that fits it; returns whether
    /// the id is another one now.
    pub fn vote(&mut self, voter: IpAddr, ours: IpAddr, rng: &mut fastrand::Rng) -> bool {
        let Some(ip) = self.external.vote(voter, ours) else { return false };
        let is_new = !self.id.fits(ip);
        if is_new {
            let had = self.ids.iter().rev().find(|(at, id)| *at == ip && id.fits(ip)).map(|(_, id)| *id);
            self.id = had.unwrap_or_else(|| NodeId::for_ip(ip, rng));
        }
        self.ids.retain(|(at, id)| *at != ip && *id != self.id);
        self.ids.push((ip, self.id));
        is_new
    }

    /// The ids to save for the next run.
    pub fn to_state(&self, family: Family) -> Vec<(IpAddr, NodeId)> {
        let mut ids = self.ids.clone();
        if ids.last().is_none_or(|(_, id)| *id != self.id) {
            let unknown = match family {
                Family::V4 => std::net::Ipv4Addr::UNSPECIFIED.into(),
                Family::V6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
            };
            ids.push((self.external.agreed().unwrap_or(unknown), self.id));
        }
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An address in a network of its own.
    fn ip(n: u8) -> IpAddr {
        IpAddr::from([80, 0, n, 1])
    }

    #[test]
    fn six_reports_of_different_nodes_and_the_majority() {
        let mut external = ExternalIp::default();
        for _ in 0..50 {
            assert_eq!(external.vote(ip(1), ip(200)), None, "one voter has one vote");
        }
        let mut given = None;
        for voter in 2..=6 {
            assert_eq!((given, external.vote(ip(100 + voter), ip(201))), (None, None), "attackers in the minority");
            given = external.vote(ip(voter), ip(200));
        }
        assert_eq!(given, Some(ip(200)));
        assert_eq!(external.vote(ip(7), ip(200)), None, "nothing new");
        // Our address changes: the votes for the old one expire.
        let moved = (10..40).find_map(|voter| external.vote(ip(voter), ip(222)));
        assert_eq!((moved, external.agreed()), (Some(ip(222)), Some(ip(222))));
    }

    #[test]
    fn a_network_counts_once_however_many_addresses_it_has() {
        let claim = "2001:db8:ffff::1".parse().expect("an address");
        let mut external = ExternalIp::default();
        for n in 0..200_u128 {
            // First addresses of one /64, then the /64s of one /48.
            let voter = 0x2001_0db8_0000_0000_0000_0000_0000_0000 | if n < 100 { n } else { n << 64 };
            assert_eq!(external.vote(IpAddr::V6(voter.into()), claim), None);
        }
        for last in 0..200 {
            assert_eq!(external.vote([80, 0, 0, last].into(), ip(9)), None);
        }
        assert_eq!((external.agreed(), external.votes.len()), (None, 2));
    }
}
