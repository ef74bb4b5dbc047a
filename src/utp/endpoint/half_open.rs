//! The incoming connections whose address is not verified yet. Anybody can open them in the name of any address, so neither may they
//! fill the table, nor may those of one sender keep others out.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use crate::net::networks::Network;
use crate::utp::{UtpConfig, UtpKey, UtpTime};

/// A host that has its limit of half-open connections gets a new one for its oldest, if that is so old, in microseconds. By then, the
/// peer's answer would have come. Somebody who guesses the number in our answer gets that many fewer guesses.
const MIN_AGE: u64 = 1_000_000;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct HalfOpen {
    /// The oldest first. Some of them are not half open any more.
    order: VecDeque<HalfOpenEntry>,
    /// How many of them each host has (an IPv4 address or an IPv6 /64), and each subnet.
    hosts: HashMap<Network, usize>,
    subnets: HashMap<Network, usize>,
    count: usize,
}

#[derive(Clone, Copy, Debug)]
struct HalfOpenEntry {
    key: UtpKey,
    ip: IpAddr,
    opened: UtpTime,
}

/// Whether there is a place for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HalfOpenPlace {
    Free,
    /// If this connection is forgotten.
    InsteadOf(UtpKey),
    Denied,
}

impl HalfOpen {
    /// The place for a connection from an address. `is_current` says whether a key is still that of a half-open connection.
    pub(super) fn place(
        &mut self,
        now: UtpTime,
        ip: IpAddr,
        config: &UtpConfig,
        is_current: impl Fn(UtpKey) -> bool,
    ) -> HalfOpenPlace {
        let of_network = |counts: &HashMap<Network, usize>, network| counts.get(&network).copied().unwrap_or_default();
        let (host, subnet) = (Network::host(ip), Network::public_subnet(ip));
        let is_host_full = of_network(&self.hosts, host) >= config.max_half_open_per_host;
        let is_subnet_full = of_network(&self.subnets, subnet) >= config.max_half_open / 4;
        if !is_host_full && !is_subnet_full && self.count < config.max_half_open {
            return HalfOpenPlace::Free;
        }
        let is_rival = |entry: &&HalfOpenEntry| {
            is_current(entry.key)
                && if is_host_full {
                    Network::host(entry.ip) == host
                } else {
                    !is_subnet_full || Network::public_subnet(entry.ip) == subnet
                }
        };
        let oldest = self.order.iter().find(is_rival).copied();
        match oldest {
            Some(entry) if !is_host_full || now.since(entry.opened) >= MIN_AGE => HalfOpenPlace::InsteadOf(entry.key),
            _ => HalfOpenPlace::Denied,
        }
    }

    /// Adds a connection. Its place was [found](HalfOpen::place) before.
    pub(super) fn add(&mut self, now: UtpTime, key: UtpKey, ip: IpAddr, is_current: impl Fn(UtpKey) -> bool) {
        if self.order.len() > 2 * self.count {
            self.order.retain(|entry| is_current(entry.key));
        }
        self.order.push_back(HalfOpenEntry { key, ip, opened: now });
        *self.hosts.entry(Network::host(ip)).or_default() += 1;
        *self.subnets.entry(Network::public_subnet(ip)).or_default() += 1;
        self.count += 1;
    }

    /// A connection with this address is not half open any more.
    pub(super) fn remove(&mut self, ip: IpAddr) {
        subtract(&mut self.hosts, Network::host(ip));
        subtract(&mut self.subnets, Network::public_subnet(ip));
        self.count -= 1;
    }
}

fn subtract(counts: &mut HashMap<Network, usize>, network: Network) {
    if let Some(count) = counts.get_mut(&network) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&network);
        }
    }
}
