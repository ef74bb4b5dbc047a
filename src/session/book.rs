//! The address book: which peers we know, whom to call next, whom to leave alone. Pure: time comes in, randomness is its own
//! seedable generator. What is known of each address is a [`Record`] of `swarm::quality`, which also says who comes first.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::swarm::quality::{Rank, Record, canonical_priority};
use crate::types::{Encryption, Opening, PeerKey};

/// Addresses kept at most.
const MAX_KNOWN: usize = 3000;
/// With so many, no more are kept of what anybody may claim: the rest is for trackers, neighbours and the user.
const MAX_WITH_HEARSAY: usize = 2000;
/// After so many failed calls in a row an address is forgotten.
const MAX_FAILURES: u32 = 8;
/// Hosts of banned callers kept at most.
const MAX_BANNED: usize = 1000;

/// What is known of one address.
#[derive(Debug, Default)]
struct Entry {
    record: Record,
    /// BEP 40's, or by chance as long as our own address is not known.
    priority: u32,
    /// Named by peers or the DHT alone: called after those whom a tracker named.
    hearsay: bool,
    connection: Option<PeerKey>,
    /// How to begin the next call: what worked, or what has not been tried; `None` while nothing is known.
    opening: Option<Opening>,
    /// The other opening has been tried at once, without a pause, since the address was last reached.
    turned: bool,
    /// Whether it is never to be called: ourselves, or one that has nothing for us, nor we for it.
    shunned: bool,
}

impl Entry {
    fn rank(&self) -> Rank {
        self.record.rank(u64::from(!self.hearsay) << 32 | u64::from(self.priority))
    }
}

/// The known addresses of one torrent.
#[derive(Debug, Default)]
pub struct Book {
    rng: fastrand::Rng,
    entries: HashMap<SocketAddr, Entry>,
    /// Callers that sent wrong data; their ports mean nothing.
    banned: HashMap<IpAddr, Record>,
    /// Our own address, as others see it.
    ours: Option<SocketAddr>,
    encryption: Encryption,
}

impl Book {
    /// An empty book; `encryption` says which openings there are.
    pub fn new(encryption: Encryption) -> Book {
        Book { encryption, ..Book::default() }
    }

    /// How to begin a call to `addr`.
    pub fn opening(&self, addr: &SocketAddr) -> Opening {
        self.entries.get(addr).and_then(|e| e.opening).unwrap_or(self.encryption.opening())
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

    /// Enters addresses that a tracker, a neighbour or the user named; returns how many are new.
    pub fn add(&mut self, addresses: &[SocketAddr]) -> usize {
        self.enter(addresses, MAX_KNOWN, |entry, _| entry.hearsay = false)
    }

    /// Enters addresses that peers or the DHT named, which may be anybody's; returns how many are new.
    pub fn add_hearsay(&mut self, addresses: &[SocketAddr]) -> usize {
        self.enter(addresses, MAX_WITH_HEARSAY, |entry, new| entry.hearsay |= new)
    }

    fn enter(&mut self, addresses: &[SocketAddr], most: usize, note: impl Fn(&mut Entry, bool)) -> usize {
        let before = self.entries.len();
        for addr in addresses {
            let new = !self.entries.contains_key(addr);
            if new && self.entries.len() >= most {
                continue;
            }
            if addr.port() != 0 && !addr.ip().is_unspecified() && !addr.ip().is_multicast() {
                note(self.entry(*addr), new);
            }
        }
        self.entries.len() - before
    }

    fn entry(&mut self, addr: SocketAddr) -> &mut Entry {
        let (ours, rng) = (self.ours, &mut self.rng);
        self.entries.entry(addr).or_insert_with(|| Entry {
            priority: ours.map_or_else(|| rng.u32(..), |ours| canonical_priority(ours, addr)),
            ..Entry::default()
        })
    }

    /// Forgets all addresses but those that are not to be called.
    pub fn forget(&mut self, now: Duration) {
        self.entries.retain(|_, entry| entry.shunned || entry.record.is_banned(now));
    }

    /// Our own address has become known: from now on BEP 40's priority decides among strangers.
    pub fn set_ours(&mut self, ours: SocketAddr) {
        if self.ours != Some(ours) {
            self.ours = Some(ours);
            for (addr, entry) in &mut self.entries {
                entry.priority = canonical_priority(ours, *addr);
            }
        }
    }

    /// How many addresses are known.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whom to call now: up to `n`, the best first.
    pub fn callable(&self, now: Duration, n: usize) -> Vec<SocketAddr> {
        let ready = self.entries.iter().filter_map(|(addr, e)| self.callable_from(addr, e).map(|from| (from, addr, e)));
        let mut ready: Vec<_> = ready.filter(|(from, _, _)| *from <= now).collect();
        ready.sort_by_cached_key(|(_, addr, e)| (e.rank(), **addr));
        ready.into_iter().take(n).map(|(_, addr, _)| *addr).collect()
    }

    /// When the next address may be called, if there is one.
    pub fn next_call(&self) -> Option<Duration> {
        self.entries.iter().filter_map(|(addr, e)| self.callable_from(addr, e)).min()
    }

    /// When that one may be called, if ever.
    fn callable_from(&self, addr: &SocketAddr, entry: &Entry) -> Option<Duration> {
        let host = self.banned.get(&addr.ip()).and_then(Record::banned_until).unwrap_or_default();
        (entry.connection.is_none() && !entry.shunned).then(|| entry.record.callable_from().max(host))
    }

    /// A call to `addr` has begun.
    pub fn calling(&mut self, addr: SocketAddr, key: PeerKey) {
        self.entry(addr).connection = Some(key);
    }

    /// The call succeeded.
    pub fn reached(&mut self, addr: SocketAddr, now: Duration) {
        if let Some(entry) = self.entries.get_mut(&addr) {
            entry.record.reached(now);
            entry.turned = false;
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
        let Some(entry) = self.entries.get_mut(&addr) else { return };
        if entry.connection != Some(key) {
            return;
        }
        entry.connection = None;
        entry.record.lost(now, worked, &mut self.rng);
        // A ban must outlive its connection.
        if entry.record.failures() > MAX_FAILURES && !entry.record.is_banned(now) && !entry.shunned {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(n: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, n], 6881))
    }

    #[test]
    fn a_failed_call_is_repeated_later_and_later_and_then_no_more() {
        let mut book = Book::default();
        assert_eq!(book.add(&[addr(1), addr(1), SocketAddr::from(([10, 0, 0, 2], 0))]), 1);
        let mut now = Duration::ZERO;
        let mut pauses = Vec::new();
        for n in 0..=MAX_FAILURES {
            assert_eq!(book.callable(now, 9), [addr(1)]);
            book.calling(addr(1), PeerKey(n));
            assert!(book.callable(now, 9).is_empty());
            book.lost(addr(1), PeerKey(n), now, false);
            assert!(book.callable(now, 9).is_empty());
            if let Some(next) = book.next_call() {
                pauses.push(next.saturating_sub(now));
                now = next;
            }
        }
        assert_eq!(pauses.len(), MAX_FAILURES as usize);
        // Each is twice the last one give or take a quarter, until the longest is reached.
        assert!(pauses[..6].windows(2).all(|p| p[0] < p[1]), "{pauses:?}");
        assert_eq!(book.len(), 0);
    }

    #[test]
    fn offenders_are_neither_called_nor_let_in_until_their_ban_ends() {
        let (mut book, now, later) = (Book::default(), Duration::from_secs(1), Duration::from_secs(3601));
        book.add(&[addr(1), addr(9)]);
        book.ban(addr(1), false, now);
        assert_eq!(book.callable(now, 9), [addr(9)]);
        assert!(book.refuses(&addr(1), now) && !book.refuses(&addr(1), later));
        let caller = SocketAddr::from(([10, 0, 0, 9], 50_000));
        book.ban(caller, true, now);
        assert!(book.refuses(&SocketAddr::from(([10, 0, 0, 9], 50_001)), now));
        assert!(book.callable(now, 9).is_empty() && book.next_call() == Some(later));
        assert!(!book.refuses(&caller, later) && book.callable(later, 9).len() == 2);
        book.forget(now);
        assert!(book.len() == 1 && book.refuses(&addr(1), now) && book.refuses(&caller, now));
        book.ban(SocketAddr::from(([127, 0, 0, 1], 5)), true, now);
        assert!(!book.refuses(&SocketAddr::from(([127, 0, 0, 1], 6)), now));
    }

    #[test]
    fn good_givers_are_called_first_then_by_priority() {
        let (mut book, now) = (Book::default(), Duration::from_secs(100));
        let all: Vec<_> = (1..=50).map(|n| SocketAddr::from(([n, 7, 7, 7], 1))).collect();
        book.add(&all);
        let ours = SocketAddr::from(([200, 1, 2, 3], 6881));
        book.set_ours(ours);
        book.record(all[7]).expect("known").gave(now, 1 << 20, 1 << 20);
        book.record(all[8]).expect("known").hash_failed();
        let order = book.callable(now, 50);
        assert_eq!((order[0], order[49]), (all[7], all[8]));
        assert!(order[1..49].is_sorted_by_key(|a| std::cmp::Reverse(canonical_priority(ours, *a))));
    }

    #[test]
    fn bans_are_bounded() {
        let mut book = Book::default();
        for n in 0..5000u16 {
            let ip = [10, 1, (n >> 8) as u8, n as u8];
            book.ban(SocketAddr::from((ip, 1)), true, Duration::from_secs(n.into()));
        }
        assert_eq!(book.banned.len(), MAX_BANNED);
        assert!(book.refuses(&SocketAddr::from(([10, 1, 19, 135], 7)), Duration::from_secs(5000)));
    }

    #[test]
    fn who_does_not_answer_is_called_the_other_way_once_at_once_and_then_after_pauses() {
        let mut book = Book::new(Encryption::Prefer);
        book.add(&[addr(1)]);
        let now = Duration::from_secs(5);
        assert_eq!(book.opening(&addr(1)), Opening::Plain);
        book.calling(addr(1), PeerKey(1));
        assert!(!book.unanswered(addr(1), PeerKey(9)), "that is another connection");
        assert!(book.unanswered(addr(1), PeerKey(1)));
        assert_eq!((book.callable(now, 9), book.opening(&addr(1))), (vec![addr(1)], Opening::Encrypted));
        book.calling(addr(1), PeerKey(2));
        assert!(!book.unanswered(addr(1), PeerKey(2)), "both ways have been tried");
        book.lost(addr(1), PeerKey(2), now, false);
        assert_eq!((book.callable(now, 9), book.opening(&addr(1))), (vec![], Opening::Plain));

        // What worked is remembered, and after that the other way is worth a try again.
        book.calling(addr(1), PeerKey(3));
        assert!(!book.unanswered(addr(1), PeerKey(3)));
        book.lost(addr(1), PeerKey(3), now, false);
        book.calling(addr(1), PeerKey(4));
        book.reached(addr(1), now);
        book.lost(addr(1), PeerKey(4), now, true);
        assert_eq!(book.opening(&addr(1)), Opening::Encrypted);
        book.calling(addr(1), PeerKey(5));
        assert!(book.unanswered(addr(1), PeerKey(5)));
    }

    #[test]
    fn with_one_opening_there_is_no_other() {
        for (encryption, opening) in [(Encryption::Off, Opening::Plain), (Encryption::Require, Opening::Encrypted)] {
            let mut book = Book::new(encryption);
            book.add(&[addr(1)]);
            book.calling(addr(1), PeerKey(1));
            assert!(!book.unanswered(addr(1), PeerKey(1)));
            assert_eq!(book.opening(&addr(1)), opening);
        }
    }

    #[test]
    fn hearsay_comes_last_and_leaves_room_for_what_trackers_say() {
        let (mut book, now) = (Book::default(), Duration::from_secs(1));
        let claimed: Vec<_> = (0..5000u16).map(|n| SocketAddr::from(([10, 2, (n >> 8) as u8, n as u8], 1))).collect();
        assert_eq!(book.add_hearsay(&claimed), MAX_WITH_HEARSAY);
        assert_eq!(book.add(&[addr(1), claimed[7]]), 1);
        let mut first = book.callable(now, 2);
        first.sort_unstable();
        assert_eq!(first, [addr(1), claimed[7]], "a tracker vouches for it now");
        book.add_hearsay(&[addr(1)]);
        assert!(book.callable(now, 2).contains(&addr(1)));
    }

    #[test]
    fn the_book_is_bounded() {
        let mut book = Book::default();
        let many: Vec<_> = (0..5000u16).map(|n| SocketAddr::from(([10, 1, (n >> 8) as u8, n as u8], 1))).collect();
        book.add(&many);
        assert_eq!(book.len(), MAX_KNOWN);
    }
}
