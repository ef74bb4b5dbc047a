//! The address book: which peers we know, whom to call next, whom to leave alone. Pure: time comes in, randomness is its own
//! seedable generator. What is known of each address is a [`Record`] of `swarm::quality`, which also says who comes first.
//!
//! `entry` is one address and who named it, `hint` what peers say of it, `room` says which addresses are taken in and which give way
//! when the book is full, `tried` remembers what was dialled.

mod entry;
mod hint;
mod room;
mod tried;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::strategy::quality::Record;
use crate::types::{Encryption, Opening, PeerKey};
use crate::util::random;
use entry::Entry;
pub use entry::Source;
use room::{MAX_KNOWN, MAX_UNVERIFIED, Ports};
use tried::Tried;

/// After so many failed calls in a row an address is forgotten.
const MAX_FAILURES: u32 = 8;
/// But not before it has failed for so long: a network that was away for some minutes does not cost us the book.
const FORGET_AFTER: Duration = Duration::from_secs(3600);
/// An address that is said to lead to a connected peer is left alone for so long.
const LINK: Duration = Duration::from_secs(120);
/// In need, addresses that failed are tried again within seconds only where no more than so many are known: a long list is not gone
/// through again and again.
const FEW: usize = 100;
/// Hosts of banned callers kept at most.
const MAX_BANNED: usize = 1000;

/// The known addresses of one torrent.
#[derive(Debug, Default)]
pub struct Book {
    rng: fastrand::Rng,
    entries: HashMap<SocketAddr, Entry>,
    /// Callers that sent wrong data; their ports mean nothing.
    banned: HashMap<IpAddr, Record>,
    /// What was dialled and has not proved to be a peer.
    tried: Tried,
    /// Our own address, as others see it.
    ours: Option<SocketAddr>,
    /// We need peers and none is connected: the pauses between connection attempts are short.
    in_need: bool,
    encryption: Encryption,
    /// We want nothing more.
    is_complete: bool,
}

impl Book {
    /// An empty book; `encryption` says which openings there are.
    pub fn new(encryption: Encryption) -> Book {
        Book { encryption, rng: random::cheap(), ..Book::default() }
    }

    /// How to begin a call to `addr`.
    pub fn opening(&self, addr: &SocketAddr) -> Opening {
        let entry = self.entries.get(addr);
        let known = entry.and_then(|entry| entry.opening.or_else(|| self.hinted_opening(entry)));
        known.unwrap_or(self.encryption.opening())
    }

    /// The call to `addr` was taken, but there was no answer to how it began: the next one begins the other way. True where that is
    /// worth a call at once; otherwise the call is `lost` like any other.
    pub fn unanswered(&mut self, addr: SocketAddr, key: PeerKey) -> bool {
        let tried = self.opening(&addr);
        let Some(other) = self.encryption.other_than(tried) else { return false };
        let Some(entry) = self.entries.get_mut(&addr).filter(|e| e.connection == Some(key)) else { return false };
        entry.opening = Some(other);
        if entry.turned {
            return false;
        }
        entry.turned = true;
        entry.connection = None;
        true
    }

    /// Enters addresses that `source` named, as far as there is room; returns how many are new. Of more than fit a random part is
    /// taken. A known address keeps the better of its sources.
    pub fn add(&mut self, addresses: &[SocketAddr], source: Source) -> usize {
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
        self.take_in(&new, source)
    }

    fn take_in(&mut self, new: &[SocketAddr], source: Source) -> usize {
        let mut ports = Ports::of(&self.entries, &self.tried);
        let mut unverified = self.entries.values().filter(|entry| !entry.source.is_verified()).count();
        let over_quota = |unverified: usize| !source.is_verified() && unverified > MAX_UNVERIFIED;
        let mut giving_way = Vec::new();
        if self.entries.len() + new.len() > MAX_KNOWN || over_quota(unverified + new.len()) {
            giving_way = room::giving_way(&self.entries, source, over_quota(unverified + new.len()), &mut self.rng);
        }
        let mut count = 0;
        for &addr in new {
            if self.entries.contains_key(&addr) || !room::is_possible(addr) || !ports.admit(addr, source, &self.tried) {
                continue;
            }
            if self.entries.len() >= MAX_KNOWN || over_quota(unverified + 1) {
                let Some(gone) = giving_way.pop() else { break };
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

    fn entry(&mut self, addr: SocketAddr) -> &mut Entry {
        let rng = &mut self.rng;
        self.entries.entry(addr).or_insert_with(|| Entry { priority: rng.u32(..), ..Entry::default() })
    }

    /// Forgets all addresses but those that are not to be called.
    pub fn forget(&mut self, now: Duration) {
        self.entries.retain(|_, entry| entry.shunned || entry.record.is_banned(now));
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
    pub fn callable(&self, now: Duration, n: usize) -> Vec<SocketAddr> {
        let ready = self.calls().filter(|(from, _, _)| *from <= now);
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
    pub fn next_call(&self) -> Option<Duration> {
        self.calls().map(|(from, _, _)| from).min()
    }

    /// The addresses that may be called some time, and when. Those that may belong to another service are left out while anything
    /// else is known.
    fn calls(&self) -> impl Iterator<Item = (Duration, &SocketAddr, &Entry)> {
        let others = self.entries.iter().any(|(addr, entry)| !entry.shunned && !entry.is_doubtful(addr));
        let calls = self.entries.iter().filter(move |(addr, entry)| !others || !entry.is_doubtful(addr));
        calls.filter_map(|(addr, entry)| self.callable_from(addr, entry).map(|from| (from, addr, entry)))
    }

    /// When that one may be called, if ever.
    fn callable_from(&self, addr: &SocketAddr, entry: &Entry) -> Option<Duration> {
        let host = self.banned.get(&addr.ip()).and_then(Record::banned_until).unwrap_or_default();
        let is_hoped_for = entry.is_trusted() || entry.source == Source::Link;
        let needed = self.in_need && is_hoped_for && self.entries.len() <= FEW;
        // A peer may lie about having several addresses, so the address is tried now and then.
        let linked = entry.linked.map(|since| since + LINK);
        let free = if entry.connection.is_some() { linked } else { Some(Duration::ZERO) };
        let wanted = !entry.shunned && !self.is_needless(entry);
        free.filter(|_| wanted).map(|free| entry.record.callable_from(needed).max(host).max(free))
    }

    /// A call to `addr` has begun.
    pub fn calling(&mut self, addr: SocketAddr, key: PeerKey) {
        let entry = self.entry(addr);
        (entry.connection, entry.linked) = (Some(key), None);
        if !entry.is_proven() && entry.source != Source::User {
            self.tried.note(addr);
        }
    }

    /// `addr` leads to the peer of connection `key`: it is not called while that lasts.
    pub fn leads_to(&mut self, addr: SocketAddr, key: PeerKey, now: Duration) {
        if let Some(entry) = self.entries.get_mut(&addr) {
            (entry.connection, entry.linked) = (Some(key), Some(now));
        }
    }

    /// Connection `key` led to the same peer as connection `stays`: its addresses are not called while that lasts.
    pub fn merged(&mut self, key: PeerKey, stays: PeerKey, now: Duration) {
        for entry in self.entries.values_mut().filter(|entry| entry.connection == Some(key)) {
            (entry.connection, entry.linked) = (Some(stays), Some(now));
        }
    }

    /// All connections but those that `stays` names are over, and no address is to blame.
    pub fn end_others(&mut self, stays: impl Fn(PeerKey) -> bool) {
        for entry in self.entries.values_mut().filter(|entry| !entry.connection.is_some_and(&stays)) {
            (entry.connection, entry.linked) = (None, None);
        }
    }

    /// The call succeeded.
    pub fn reached(&mut self, addr: SocketAddr, now: Duration) {
        if let Some(entry) = self.entries.get_mut(&addr) {
            entry.record.reached(now);
            entry.turned = false;
            self.tried.proved(&addr);
        }
    }

    /// What is known of `addr`, to note what it gave and what went wrong; `None` for a stranger.
    pub fn record(&mut self, addr: SocketAddr) -> Option<&mut Record> {
        self.entries.get_mut(&addr).map(|entry| &mut entry.record)
    }

    /// The call to `addr` could not even begin, for a reason of ours.
    pub fn not_called(&mut self, addr: SocketAddr) {
        if let Some(entry) = self.entries.get_mut(&addr) {
            entry.connection = None;
        }
    }

    /// The connection to `addr` is over, or never came about; it may be called again after a pause that grows with each failure.
    pub fn lost(&mut self, addr: SocketAddr, key: PeerKey, now: Duration, worked: bool) {
        // Other addresses of the same peer may be called again as well.
        let aliases = self.entries.iter_mut().filter(|(other, e)| e.connection == Some(key) && **other != addr);
        aliases.for_each(|(_, entry)| (entry.connection, entry.linked) = (None, None));
        let Some(entry) = self.entries.get_mut(&addr).filter(|entry| entry.connection == Some(key)) else { return };
        entry.connection = None;
        entry.record.lost(now, worked, &mut self.rng);
        let hopeless = entry.record.failures() > MAX_FAILURES && entry.record.failing_for(now) >= FORGET_AFTER;
        // A ban must outlive its connection, and the user's own addresses are never given up.
        if hopeless && !entry.record.is_banned(now) && !entry.shunned && entry.source != Source::User {
            self.entries.remove(&addr);
        }
    }

    /// Never call `addr` again.
    pub fn shun(&mut self, addr: SocketAddr) {
        if self.entries.len() < MAX_KNOWN || self.entries.contains_key(&addr) {
            self.entry(addr).shunned = true;
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
    pub fn refuses(&self, addr: &SocketAddr, now: Duration) -> bool {
        self.is_banned(addr, now) || self.entries.get(addr).is_some_and(|entry| entry.shunned)
    }

    /// Whether the address or its host is banned.
    pub fn is_banned(&self, addr: &SocketAddr, now: Duration) -> bool {
        let host = self.banned.get(&addr.ip()).is_some_and(|r| r.is_banned(now));
        host || self.entries.get(addr).is_some_and(|entry| entry.record.is_banned(now))
    }

    /// Whether the user named `addr`.
    pub fn is_users(&self, addr: &SocketAddr) -> bool {
        self.entries.get(addr).is_some_and(|entry| entry.source == Source::User)
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
