//! The address book: which peers we know, whom to call next, whom never again. Pure: time and randomness come in.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::types::PeerKey;

/// Addresses kept at most.
const MAX_KNOWN: usize = 3000;
/// The pause after a first failed call; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(15);
/// The longest pause between two calls.
const LONGEST_PAUSE: Duration = Duration::from_secs(1800);
/// After so many failed calls in a row an address is forgotten.
const MAX_FAILURES: u32 = 8;

/// What is known of one address.
#[derive(Debug, Default)]
struct Entry {
    failures: u32,
    not_before: Duration,
    connection: Option<PeerKey>,
    /// Whether it is not to be called: ourselves, or an offender.
    shunned: bool,
}

/// The known addresses of one torrent.
#[derive(Debug, Default)]
pub struct Book {
    entries: HashMap<SocketAddr, Entry>,
    /// Addresses of callers that sent wrong data; their ports mean nothing.
    banned: Vec<IpAddr>,
}

impl Book {
    /// Enters addresses that a source named; returns how many are new.
    pub fn add(&mut self, addresses: &[SocketAddr]) -> usize {
        let before = self.entries.len();
        for addr in addresses {
            if self.entries.len() >= MAX_KNOWN {
                break;
            }
            if addr.port() != 0 && !addr.ip().is_unspecified() && !addr.ip().is_multicast() {
                self.entries.entry(*addr).or_default();
            }
        }
        self.entries.len() - before
    }

    /// How many addresses are known.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whom to call now: up to `n`, those who failed least first.
    pub fn callable(&self, now: Duration, n: usize) -> Vec<SocketAddr> {
        let mut ready: Vec<_> =
            self.entries.iter().filter(|(addr, e)| self.is_callable(addr, e) && e.not_before <= now).collect();
        ready.sort_by_key(|(_, e)| e.failures);
        ready.into_iter().take(n).map(|(addr, _)| *addr).collect()
    }

    /// When the next address may be called, if there is one.
    pub fn next_call(&self) -> Option<Duration> {
        self.entries.iter().filter(|(addr, e)| self.is_callable(addr, e)).map(|(_, e)| e.not_before).min()
    }

    fn is_callable(&self, addr: &SocketAddr, entry: &Entry) -> bool {
        entry.connection.is_none() && !entry.shunned && !self.banned.contains(&addr.ip())
    }

    /// A call to `addr` has begun.
    pub fn calling(&mut self, addr: SocketAddr, key: PeerKey) {
        self.entries.entry(addr).or_default().connection = Some(key);
    }

    /// The call succeeded.
    pub fn reached(&mut self, addr: SocketAddr) {
        if let Some(entry) = self.entries.get_mut(&addr) {
            entry.failures = 0;
        }
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
        entry.failures = if worked { 1 } else { entry.failures + 1 };
        if entry.failures > MAX_FAILURES {
            self.entries.remove(&addr);
            return;
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << (entry.failures - 1).min(16)).min(LONGEST_PAUSE);
        entry.not_before = now + pause.mul_f64(0.75 + 0.5 * fastrand::f64());
    }

    /// Never call `addr` again.
    pub fn shun(&mut self, addr: SocketAddr) {
        if self.entries.len() < MAX_KNOWN || self.entries.contains_key(&addr) {
            self.entries.entry(addr).or_default().shunned = true;
        }
    }

    /// `addr` sent wrong data. A caller's port says nothing, so its whole address is turned away; a loopback address may be
    /// many peers and is not.
    pub fn ban(&mut self, addr: SocketAddr, incoming: bool) {
        if !incoming {
            self.shun(addr);
        } else if !addr.ip().is_loopback() && !self.banned.contains(&addr.ip()) {
            self.banned.push(addr.ip());
        }
    }

    /// Whether a caller is to be turned away.
    pub fn refuses(&self, addr: &SocketAddr) -> bool {
        self.banned.contains(&addr.ip()) || self.entries.get(addr).is_some_and(|e| e.shunned)
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
        assert!(pauses.windows(2).all(|p| p[0] < p[1]) || pauses.iter().any(|p| *p > LONGEST_PAUSE / 2));
        assert_eq!(book.len(), 0);
    }

    #[test]
    fn offenders_are_neither_called_nor_let_in() {
        let mut book = Book::default();
        book.add(&[addr(1)]);
        book.ban(addr(1), false);
        assert!(book.callable(Duration::ZERO, 9).is_empty() && book.refuses(&addr(1)));
        let caller = SocketAddr::from(([10, 0, 0, 9], 50_000));
        book.ban(caller, true);
        assert!(book.refuses(&SocketAddr::from(([10, 0, 0, 9], 50_001))));
    }

    #[test]
    fn the_book_is_bounded() {
        let mut book = Book::default();
        let many: Vec<_> = (0..5000u16).map(|n| SocketAddr::from(([10, 1, (n >> 8) as u8, n as u8], 1))).collect();
        book.add(&many);
        assert_eq!(book.len(), MAX_KNOWN);
    }
}
