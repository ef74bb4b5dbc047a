//! The address book: which peers we know, whom to call next, whom to leave alone. Pure: time comes in, randomness is its own
//! seedable generator. What is known of each address is a [`PeerRecord`] of `swarm::quality`, which also says who comes first.
//!
//! `entry` is one address and who named it, `hint` what peers say of it, `room` says which addresses are taken in and which give way
//! when the book is full, `tried` remembers what was dialled.

mod capacity;
mod dial_history;
mod entry;
mod hint;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::strategy::quality::PeerRecord;
use crate::types::{DialMode, Encryption, PeerKey};
use crate::util::random;
use capacity::{MAX_KNOWN, MAX_UNVERIFIED, PortCounts};
use dial_history::DialHistory;
use entry::PeerListEntry;
pub use entry::PeerSource;

/// After so many failed calls in a row an address is forgotten.
const MAX_FAILURES: u32 = 8;
/// But not before it has failed for so long: a network that was away for some minutes does not cost us the book.
const FORGET_AFTER: Duration = Duration::from_secs(3600);
/// An address that is said to lead to a connected peer is left alone for so long.
const LINKED_PAUSE: Duration = Duration::from_secs(120);
/// In need, addresses that failed are tried again within seconds only where no more than so many are known: a long list is not gone
/// through again and again.
const SHORT_LIST: usize = 100;
/// Hosts of banned callers kept at most.
const MAX_BANNED: usize = 1000;

/// The known addresses of one torrent.
#[derive(Debug, Default)]
pub struct PeerList {
    rng: fastrand::Rng,
    entries: HashMap<SocketAddr, PeerListEntry>,
    /// Callers that sent wrong data; their ports mean nothing.
    banned: HashMap<IpAddr, PeerRecord>,
    /// What was dialled and has not proved to be a peer.
    tried: DialHistory,
    /// Our own address, as others see it.
    ours: Option<SocketAddr>,
    /// We need peers and none is connected: the pauses between connection attempts are short.
    in_need: bool,
    encryption: Encryption,
    /// We want nothing more.
    is_complete: bool,
}

impl PeerList {
    /// An empty book; `encryption` says which openings there are.
    pub fn new(encryption: Encryption) -> PeerList {
        PeerList { encryption, rng: random::cheap(), ..PeerList::default() }
    }

    /// How to begin a call to `addr`.
    pub fn dial_mode(&self, addr: &SocketAddr) -> DialMode {
        let entry = self.entries.get(addr);
        let known = entry.and_then(|entry| entry.dial_mode.or_else(|| self.hinted_opening(entry)));
        known.unwrap_or(self.encryption.dial_mode())
    }

    /// The call to `addr` was taken, but there was no answer to how it began: the next one begins the other way. True where that is
    /// worth a call at once; otherwise the call is `disconnected` like any other.
    pub fn note_unanswered(&mut self, addr: SocketAddr, key: PeerKey) -> bool {
        let tried = self.dial_mode(&addr);
        let Some(other) = self.encryption.fallback(tried) else { return false };
        let Some(entry) = self.entries.get_mut(&addr).filter(|e| e.connection == Some(key)) else { return false };
        entry.dial_mode = Some(other);
        if entry.tried_other_opening {
            return false;
        }
        entry.tried_other_opening = true;
        entry.connection = None;
        true
    }

    /// Enters addresses that `source` named, as far as there is room; returns how many are new. Of more than fit a random part is
    /// taken. A known address keeps the better of its sources.
    pub fn add(&mut self, addresses: &[SocketAddr], source: PeerSource) -> usize {
        let mut new = Vec::new();
        for &addr in addresses {
            match self.entries.get_mut(&addr) {
                Some(entry) => entry.name_by(addr, source, self.ours),
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
        let mut ports = PortCounts::of(&self.entries, &self.tried);
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
                || !ports.admit(addr, source, &self.tried)
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
            self.entry(addr).name_by(addr, source, ours);
            count += 1;
        }
        count
    }

    fn entry(&mut self, addr: SocketAddr) -> &mut PeerListEntry {
        let rng = &mut self.rng;
        self.entries.entry(addr).or_insert_with(|| PeerListEntry { priority: rng.u32(..), ..PeerListEntry::default() })
    }

    /// Forgets all addresses but those that are not to be called.
    pub fn forget(&mut self, now: Duration) {
        self.entries.retain(|_, entry| entry.is_never_dialed || entry.record.is_banned(now));
    }

    /// Our own address has become known: from now on BEP 40's priority decides among the addresses of verified sources.
    pub fn set_ours(&mut self, ours: SocketAddr) {
        if self.ours != Some(ours) {
            self.ours = Some(ours);
            for (addr, entry) in &mut self.entries {
                entry.name_by(*addr, entry.source, self.ours);
            }
        }
    }

    /// The clock goes on.
    pub fn set_time(&mut self, now: Duration) {
        self.tried.set_time(now);
    }

    /// Whether we need peers and none is connected. True where that is news, as calls may then be due sooner or later.
    pub fn set_in_need(&mut self, in_need: bool) -> bool {
        std::mem::replace(&mut self.in_need, in_need) != in_need
    }

    /// How many addresses are known.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whom to call now: up to `n`, the best first.
    pub fn dial_candidates(&self, now: Duration, n: usize) -> Vec<SocketAddr> {
        let ready = self.dialable().filter(|(from, _, _)| *from <= now);
        let mut ready: Vec<_> = ready.map(|(_, addr, entry)| (entry.rank(), *addr)).collect();
        if ready.len() > n {
            // Only the best are needed in order.
            ready.select_nth_unstable(n);
            ready.truncate(n);
        }
        ready.sort_unstable();
        ready.into_iter().map(|(_, addr)| addr).collect()
    }

    /// When the next address may be called, if there is one.
    pub fn next_dial(&self) -> Option<Duration> {
        self.dialable().map(|(from, _, _)| from).min()
    }

    /// The addresses that may be called some time, and when. Those that may belong to another service are left out while anything
    /// else is known.
    fn dialable(&self) -> impl Iterator<Item = (Duration, &SocketAddr, &PeerListEntry)> {
        let others = self.entries.iter().any(|(addr, entry)| !entry.is_never_dialed && !entry.is_doubtful(addr));
        let dialable = self.entries.iter().filter(move |(addr, entry)| !others || !entry.is_doubtful(addr));
        dialable.filter_map(|(addr, entry)| self.dialable_from(addr, entry).map(|from| (from, addr, entry)))
    }

    /// When that one may be called, if ever.
    fn dialable_from(&self, addr: &SocketAddr, entry: &PeerListEntry) -> Option<Duration> {
        let host = self.banned.get(&addr.ip()).and_then(PeerRecord::banned_until).unwrap_or_default();
        let is_hoped_for = entry.is_trusted() || entry.source == PeerSource::Link;
        let needed = self.in_need && is_hoped_for && self.entries.len() <= SHORT_LIST;
        // A peer may lie about having several addresses, so the address is tried now and then.
        let linked = entry.linked.map(|since| since + LINKED_PAUSE);
        let free = if entry.connection.is_some() { linked } else { Some(Duration::ZERO) };
        let wanted = !entry.is_never_dialed && !self.is_redundant(entry);
        free.filter(|_| wanted).map(|free| entry.record.dialable_from(needed).max(host).max(free))
    }

    /// A call to `addr` has begun.
    pub fn note_dialed(&mut self, addr: SocketAddr, key: PeerKey) {
        let entry = self.entry(addr);
        (entry.connection, entry.linked) = (Some(key), None);
        if !entry.is_proven() && entry.source != PeerSource::User {
            self.tried.note(addr);
        }
    }

    /// `addr` leads to the peer of connection `key`: it is not called while that lasts.
    pub fn link_to(&mut self, addr: SocketAddr, key: PeerKey, now: Duration) {
        if let Some(entry) = self.entries.get_mut(&addr) {
            (entry.connection, entry.linked) = (Some(key), Some(now));
        }
    }

    /// Connection `key` led to the same peer as connection `stays`: its addresses are not called while that lasts.
    pub fn note_duplicate(&mut self, key: PeerKey, stays: PeerKey, now: Duration) {
        for entry in self.entries.values_mut().filter(|entry| entry.connection == Some(key)) {
            (entry.connection, entry.linked) = (Some(stays), Some(now));
        }
    }

    /// All connections but those that `stays` names are over, and no address is to blame.
    pub fn end_other_connections(&mut self, stays: impl Fn(PeerKey) -> bool) {
        for entry in self.entries.values_mut().filter(|entry| !entry.connection.is_some_and(&stays)) {
            (entry.connection, entry.linked) = (None, None);
        }
    }

    /// The call succeeded.
    pub fn reached(&mut self, addr: SocketAddr, now: Duration) {
        if let Some(entry) = self.entries.get_mut(&addr) {
            entry.record.reached(now);
            entry.tried_other_opening = false;
            self.tried.proved(&addr);
        }
    }

    /// What is known of `addr`, to note what it gave and what went wrong; `None` for a stranger.
    pub fn record(&mut self, addr: SocketAddr) -> Option<&mut PeerRecord> {
        self.entries.get_mut(&addr).map(|entry| &mut entry.record)
    }

    /// The call to `addr` could not even begin, for a reason of ours.
    pub fn dial_not_started(&mut self, addr: SocketAddr) {
        if let Some(entry) = self.entries.get_mut(&addr) {
            entry.connection = None;
        }
    }

    /// The connection to `addr` is over, or never came about; it may be called again after a pause that grows with each failure.
    pub fn disconnected(&mut self, addr: SocketAddr, key: PeerKey, now: Duration, worked: bool) {
        // Other addresses of the same peer may be called again as well.
        let aliases = self.entries.iter_mut().filter(|(other, e)| e.connection == Some(key) && **other != addr);
        aliases.for_each(|(_, entry)| (entry.connection, entry.linked) = (None, None));
        let Some(entry) = self.entries.get_mut(&addr).filter(|entry| entry.connection == Some(key)) else { return };
        entry.connection = None;
        entry.record.disconnected(now, worked, &mut self.rng);
        let hopeless = entry.record.failures() > MAX_FAILURES && entry.record.failing_for(now) >= FORGET_AFTER;
        // A ban must outlive its connection, and the user's own addresses are never given up.
        if hopeless && !entry.record.is_banned(now) && !entry.is_never_dialed && entry.source != PeerSource::User {
            self.entries.remove(&addr);
        }
    }

    /// Never call `addr` again.
    pub fn never_dial(&mut self, addr: SocketAddr) {
        if self.entries.len() < MAX_KNOWN || self.entries.contains_key(&addr) {
            self.entry(addr).is_never_dialed = true;
        }
    }

    /// `addr` sent wrong data: it is left alone for a while, longer each time. A caller's port says nothing, so its whole host is
    /// turned away; a loopback address may be many peers and is not.
    pub fn ban(&mut self, addr: SocketAddr, incoming: bool, now: Duration) {
        if !incoming {
            if self.entries.len() < MAX_KNOWN || self.entries.contains_key(&addr) {
                self.entry(addr).record.ban(now);
            }
        } else if !addr.ip().is_loopback() {
            if self.banned.len() >= MAX_BANNED && !self.banned.contains_key(&addr.ip()) {
                // Whose ban ends first makes room.
                let first = self.banned.iter().min_by_key(|(ip, r)| (r.banned_until(), **ip)).map(|(ip, _)| *ip);
                first.map(|ip| self.banned.remove(&ip));
            }
            self.banned.entry(addr.ip()).or_default().ban(now);
        }
    }

    /// Whether a caller is to be turned away.
    pub fn is_refused(&self, addr: &SocketAddr, now: Duration) -> bool {
        self.is_banned(addr, now) || self.entries.get(addr).is_some_and(|entry| entry.is_never_dialed)
    }

    /// Whether the address or its host is banned.
    pub fn is_banned(&self, addr: &SocketAddr, now: Duration) -> bool {
        let host = self.banned.get(&addr.ip()).is_some_and(|r| r.is_banned(now));
        host || self.entries.get(addr).is_some_and(|entry| entry.record.is_banned(now))
    }

    /// Whether the user named `addr`.
    pub fn is_from_user(&self, addr: &SocketAddr) -> bool {
        self.entries.get(addr).is_some_and(|entry| entry.source == PeerSource::User)
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
