//! The known peer addresses of a torrent: which one to dial next, and which ones to leave alone. The caller passes the time;
//! randomness comes from a seedable generator. The history of each address is a [`PeerRecord`] of `strategy::quality`, which also
//! defines the order of dialing.
//!
//! `entry` is one address and its source, `hint` what peers claim about it. `aliases` are other addresses of connected peers.
//! `capacity` decides which addresses are added, and which are displaced when the list is full. `dial_history` remembers dialed
//! addresses.

mod aliases;
mod capacity;
mod dial_history;
mod entry;
mod hint;
mod punched;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::strategy::quality::PeerRecord;
use crate::types::{DialMode, Encryption, PeerKey, Transport};
use crate::util::random;
use capacity::{MAX_KNOWN, MAX_UNVERIFIED, PortCounts};
use dial_history::DialHistory;
use entry::PeerListEntry;
pub use entry::PeerSource;
pub use punched::PunchedAddress;

/// An address is forgotten after this many failed connection attempts in a row…
const MAX_FAILURES: u32 = 8;
/// … but not before it has failed for this long, so that a network outage of some minutes does not empty the list.
const FORGET_AFTER: Duration = Duration::from_secs(3600);
/// While we need peers, failed addresses are retried within seconds only if at most this many are known, so that a long list is
/// not dialed again and again.
const SHORT_LIST: usize = 100;
/// The most banned IP addresses of incoming connections.
const MAX_BANNED: usize = 1000;

/// The known addresses of one torrent.
#[derive(Debug, Default)]
pub struct PeerList {
    rng: fastrand::Rng,
    now: Duration,
    entries: HashMap<SocketAddr, PeerListEntry>,
    /// Banned peers that connected to us, by IP address, because the port of an incoming connection says nothing.
    banned: HashMap<IpAddr, PeerRecord>,
    /// Addresses that were dialed and have not proven to be peers.
    dial_history: DialHistory,
    /// Our own address, as peers see it.
    ours: Option<SocketAddr>,
    /// Whether we need peers and none is connected or sends anything, so that the pauses between connection attempts are short.
    is_in_need: bool,
    encryption: Encryption,
    /// Whether every wanted piece is verified.
    is_complete: bool,
}

impl PeerList {
    /// An empty list. `encryption` determines how connections may be opened.
    pub fn new(encryption: Encryption) -> PeerList {
        PeerList { encryption, rng: random::fast_rng(), ..PeerList::default() }
    }

    /// How to open a connection to `addr`.
    pub fn dial_mode(&self, addr: &SocketAddr) -> DialMode {
        let entry = self.entries.get(addr);
        let known = entry.and_then(|entry| entry.dial_mode.or_else(|| self.hinted_dial_mode(entry)));
        known.unwrap_or(self.encryption.dial_mode())
    }

    /// The transport with which to begin: the one that worked last, otherwise the one that is said to work, otherwise TCP, which
    /// most peers have.
    pub fn first_transport(&self, addr: &SocketAddr) -> Transport {
        let entry = self.entries.get(addr);
        entry.map_or(Transport::Tcp, |entry| entry.transport.unwrap_or(entry.hinted_transport()))
    }

    /// Records which transport a connection to `addr` used.
    pub fn note_transport(&mut self, addr: SocketAddr, transport: Transport) {
        if let Some(entry) = self.entries.get_mut(&addr) {
            entry.transport = Some(transport);
        }
    }

    /// Records that `addr` accepted the connection but did not answer our handshake. The next attempt uses the other dial
    /// mode, and once both have failed, begins with the other transport: the port of the first may belong to another program.
    /// Returns true if that is worth an immediate attempt; otherwise the caller reports [`PeerList::disconnected`] as for any
    /// other connection.
    pub fn note_unanswered(&mut self, addr: SocketAddr, key: PeerKey) -> bool {
        let tried = self.dial_mode(&addr);
        let other = self.encryption.fallback(tried);
        let Some(entry) = self.entries.get_mut(&addr).filter(|e| e.connection == Some(key)) else { return false };
        entry.dial_mode = other.or(entry.dial_mode);
        if other.is_some() && !std::mem::replace(&mut entry.tried_other_dial_mode, true) {
            entry.connection = None;
            return true;
        }
        entry.transport = Some(entry.transport.unwrap_or(Transport::Tcp).other());
        false
    }

    /// Adds addresses from `source` as far as capacity allows, and returns how many are new. If too many are given, a random
    /// selection is added. A known address keeps the better of its sources.
    pub fn add(&mut self, addresses: &[SocketAddr], source: PeerSource) -> usize {
        let mut new = Vec::new();
        for &addr in addresses {
            match self.entries.get_mut(&addr) {
                Some(entry) => entry.add_source(addr, source, self.ours),
                None => new.push(addr),
            }
        }
        if new.is_empty() {
            return 0;
        }
        if new.len() > 1 {
            self.rng.shuffle(&mut new);
        }
        self.insert_new(&new, source)
    }

    fn insert_new(&mut self, new: &[SocketAddr], source: PeerSource) -> usize {
        let mut ports = PortCounts::of(&self.entries, &self.dial_history);
        let mut unverified = self.entries.values().filter(|entry| !entry.source.is_verified()).count();
        let over_quota = |unverified: usize| !source.is_verified() && unverified > MAX_UNVERIFIED;
        let mut to_displace = Vec::new();
        if self.entries.len() + new.len() > MAX_KNOWN || over_quota(unverified + new.len()) {
            to_displace =
                capacity::to_displace(&self.entries, source, over_quota(unverified + new.len()), &mut self.rng);
        }
        let mut count = 0;
        for &addr in new {
            if self.entries.contains_key(&addr)
                || !capacity::is_possible(addr)
                || !ports.admit(addr, source, &self.dial_history)
            {
                continue;
            }
            if self.entries.len() >= MAX_KNOWN || over_quota(unverified + 1) {
                let Some(gone) = to_displace.pop() else { break };
                let gone = self.entries.remove(&gone);
                unverified -= usize::from(gone.is_some_and(|entry| !entry.source.is_verified()));
            }
            unverified += usize::from(!source.is_verified());
            let ours = self.ours;
            self.entry(addr).add_source(addr, source, ours);
            count += 1;
        }
        count
    }

    fn entry(&mut self, addr: SocketAddr) -> &mut PeerListEntry {
        let rng = &mut self.rng;
        self.entries.entry(addr).or_insert_with(|| PeerListEntry { priority: rng.u32(..), ..PeerListEntry::default() })
    }

    /// Forgets all addresses except banned ones and those that must not be dialed.
    pub fn forget(&mut self, now: Duration) {
        self.entries.retain(|_, entry| entry.is_never_dialed || entry.record.is_banned(now));
    }

    /// Forgets an address.
    pub fn remove(&mut self, addr: &SocketAddr) {
        self.entries.remove(addr);
    }

    /// Sets our own address. From now on BEP 40's priority orders the addresses of verified sources.
    pub fn set_ours(&mut self, ours: SocketAddr) {
        if self.ours != Some(ours) {
            self.ours = Some(ours);
            for (addr, entry) in &mut self.entries {
                entry.add_source(*addr, entry.source, self.ours);
            }
        }
    }

    /// Advances the time.
    pub fn set_time(&mut self, now: Duration) {
        self.now = now;
        self.dial_history.set_time(now);
    }

    /// Sets whether we need peers and none is connected, or none sends anything. Returns true if this changed, because the next
    /// attempts may then be due earlier or later.
    pub fn set_in_need(&mut self, is_in_need: bool) -> bool {
        std::mem::replace(&mut self.is_in_need, is_in_need) != is_in_need
    }

    /// The best source of the address.
    pub fn source(&self, addr: &SocketAddr) -> PeerSource {
        self.entries.get(addr).map_or_else(PeerSource::default, |entry| entry.source)
    }

    /// The number of known addresses.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Up to `n` addresses to dial now, the best first.
    pub fn dial_candidates(&self, now: Duration, n: usize) -> Vec<SocketAddr> {
        let ready = self.dialable().filter(|(from, _, _)| *from <= now);
        let mut ready: Vec<_> = ready.map(|(_, addr, entry)| (entry.rank(), *addr)).collect();
        if ready.len() > n {
            // Only the best need sorting.
            ready.select_nth_unstable(n);
            ready.truncate(n);
        }
        ready.sort_unstable();
        ready.into_iter().map(|(_, addr)| addr).collect()
    }

    /// When the next address may be dialed, if any.
    pub fn next_dial(&self) -> Option<Duration> {
        self.dialable().map(|(from, _, _)| from).min()
    }

    /// The addresses that may be dialed at some time, with that time. Addresses that may belong to another service are left out
    /// while any other address is known.
    fn dialable(&self) -> impl Iterator<Item = (Duration, &SocketAddr, &PeerListEntry)> {
        let others = self.entries.iter().any(|(addr, entry)| !entry.is_never_dialed && !entry.is_doubtful(addr));
        let dialable = self.entries.iter().filter(move |(addr, entry)| !others || !entry.is_doubtful(addr));
        dialable.filter_map(|(addr, entry)| self.dialable_from(addr, entry).map(|from| (from, addr, entry)))
    }

    /// When this address may be dialed, if ever.
    fn dialable_from(&self, addr: &SocketAddr, entry: &PeerListEntry) -> Option<Duration> {
        let host = self.banned.get(&addr.ip()).and_then(PeerRecord::banned_until).unwrap_or_default();
        let is_hoped_for = entry.is_trusted() || entry.source == PeerSource::MagnetLink;
        let needed = self.is_in_need && is_hoped_for && self.entries.len() <= SHORT_LIST;
        // A peer may lie about its other addresses, so a linked address is dialed now and then.
        let free = if entry.connection.is_some() { entry.alias_until } else { Some(Duration::ZERO) };
        let others = host.max(self.redundant_until(entry));
        free.filter(|_| !entry.is_never_dialed).map(|free| entry.record.dialable_from(needed).max(others).max(free))
    }

    /// Records that a connection attempt to `addr` has started.
    pub fn note_dialed(&mut self, addr: SocketAddr, key: PeerKey) {
        let entry = self.entry(addr);
        (entry.connection, entry.alias_until) = (Some(key), None);
        if !entry.is_proven() && entry.source != PeerSource::User {
            self.dial_history.note(addr);
        }
    }

    /// Records that all connections except those that `stays` accepts have ended, through no fault of the addresses.
    pub fn end_other_connections(&mut self, stays: impl Fn(PeerKey) -> bool) {
        for entry in self.entries.values_mut().filter(|entry| !entry.connection.is_some_and(&stays)) {
            (entry.connection, entry.alias_until) = (None, None);
        }
    }

    /// Records a successful connection.
    pub fn reached(&mut self, addr: SocketAddr, now: Duration) {
        if let Some(entry) = self.entries.get_mut(&addr) {
            entry.record.reached(now);
            entry.tried_other_dial_mode = false;
            entry.is_claimed = false;
            self.dial_history.proved(&addr);
        }
    }

    /// The record of `addr`, to note what the peer delivered and what went wrong; `None` for an unknown address.
    pub fn record(&mut self, addr: SocketAddr) -> Option<&mut PeerRecord> {
        self.entries.get_mut(&addr).map(|entry| &mut entry.record)
    }

    /// Records that the attempt to dial `addr` could not start, for a reason on our side.
    pub fn dial_not_started(&mut self, addr: SocketAddr) {
        if let Some(entry) = self.entries.get_mut(&addr) {
            entry.connection = None;
        }
    }

    /// Records that the connection to `addr` ended or was never established. The address may be dialed again after a pause that
    /// grows with each failure.
    pub fn disconnected(&mut self, addr: SocketAddr, key: PeerKey, now: Duration, has_worked: bool) {
        // The peer's other addresses may be dialed again as well.
        let aliases = self.entries.iter_mut().filter(|(other, e)| e.connection == Some(key) && **other != addr);
        aliases.for_each(|(_, entry)| (entry.connection, entry.alias_until) = (None, None));
        let Some(entry) = self.entries.get_mut(&addr).filter(|entry| entry.connection == Some(key)) else { return };
        entry.connection = None;
        entry.duplicates = if has_worked { 0 } else { entry.duplicates };
        entry.record.disconnected(now, has_worked, &mut self.rng);
        let hopeless = entry.record.pause_step() > MAX_FAILURES && entry.record.unreached_for(now) >= FORGET_AFTER;
        // A ban must outlive its connection, and addresses from the user are never given up.
        if hopeless && !entry.record.is_banned(now) && !entry.is_never_dialed && entry.source != PeerSource::User {
            self.entries.remove(&addr);
        }
    }

    /// Never dials `addr` again.
    pub fn never_dial(&mut self, addr: SocketAddr) {
        if self.entries.len() < MAX_KNOWN || self.entries.contains_key(&addr) {
            self.entry(addr).is_never_dialed = true;
        }
    }

    /// Bans `addr` for a time that grows with each ban, because the peer sent wrong data. The port of an incoming connection says
    /// nothing, so its whole IP address is banned, except a loopback address, which many peers may share.
    pub fn ban(&mut self, addr: SocketAddr, is_incoming: bool, now: Duration) {
        if !is_incoming {
            if self.entries.len() < MAX_KNOWN || self.entries.contains_key(&addr) {
                self.entry(addr).record.ban(now);
            }
        } else if !addr.ip().is_loopback() {
            if self.banned.len() >= MAX_BANNED && !self.banned.contains_key(&addr.ip()) {
                // The ban that ends first makes room.
                let first = self.banned.iter().min_by_key(|(ip, r)| (r.banned_until(), **ip)).map(|(ip, _)| *ip);
                first.map(|ip| self.banned.remove(&ip));
            }
            self.banned.entry(addr.ip()).or_default().ban(now);
        }
    }

    /// Whether an incoming connection from `addr` must be refused.
    pub fn is_refused(&self, addr: &SocketAddr, now: Duration) -> bool {
        self.is_banned(addr, now) || self.entries.get(addr).is_some_and(|entry| entry.is_never_dialed)
    }

    /// Whether the address or its whole IP address is banned.
    pub fn is_banned(&self, addr: &SocketAddr, now: Duration) -> bool {
        let host = self.banned.get(&addr.ip()).is_some_and(|r| r.is_banned(now));
        host || self.entries.get(addr).is_some_and(|entry| entry.record.is_banned(now))
    }

    /// Whether `addr` comes from the user.
    pub fn is_from_user(&self, addr: &SocketAddr) -> bool {
        self.entries.get(addr).is_some_and(|entry| entry.source == PeerSource::User)
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
