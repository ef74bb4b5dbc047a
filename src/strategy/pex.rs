//! Peer exchange (BEP 11) on one connection: which peers to announce to it, and which of its announcements to accept. The time is
//! a [`Duration`] since some start.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::net::networks::{is_private, may_name_address};
use crate::wire::pex::{MAX_PEERS, PexFlags, PexMessage};

/// The shortest time between two messages.
pub const INTERVAL: Duration = Duration::from_secs(60);
/// How many messages may be early: clocks differ, and some clients send a second one soon.
const BURST: u32 = 3;
/// A peer that sends more early messages than this is disconnected.
const MAX_EARLY: u32 = 10;
/// The most addresses accepted from one connection in its lifetime, each IP address once.
const MAX_TAKEN: usize = 500;

/// The peers that were announced to one connection.
#[derive(Debug)]
pub struct PexDiffer {
    announced: HashSet<SocketAddr>,
    due: Duration,
}

impl PexDiffer {
    /// Nothing was sent yet. The first message may be sent at `first`, preferably after a while, when there are peers to
    /// announce.
    pub fn new(first: Duration) -> PexDiffer {
        PexDiffer { announced: HashSet::new(), due: first }
    }

    /// When the next message may be sent.
    #[cfg(any(test, feature = "internals"))]
    pub fn next_due(&self) -> Duration {
        self.due
    }

    /// The message for the peer at `to`, if one is due and there is a change. `connected` are the peers with a complete
    /// handshake, at the addresses where they accept connections. `to` itself is never announced.
    pub fn message(
        &mut self,
        now: Duration,
        to: SocketAddr,
        connected: &HashMap<SocketAddr, PexFlags>,
    ) -> Option<PexMessage> {
        if now < self.due {
            return None;
        }
        let new = connected.iter().filter(|(addr, _)| **addr != to && !self.announced.contains(addr));
        let added: Vec<(SocketAddr, PexFlags)> = new.take(MAX_PEERS).map(|(addr, flags)| (*addr, *flags)).collect();
        let gone = self.announced.iter().copied().filter(|addr| !connected.contains_key(addr));
        let dropped: Vec<SocketAddr> = gone.take(MAX_PEERS).collect();
        if added.is_empty() && dropped.is_empty() {
            return None;
        }
        self.announced.retain(|addr| !dropped.contains(addr));
        self.announced.extend(added.iter().map(|(addr, _)| *addr));
        self.due = now + INTERVAL;
        Some(PexMessage { added, dropped })
    }
}

/// The peer sends too many messages; disconnect it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many peer exchange messages")]
pub struct PexFlood;

/// The messages that one peer has sent us.
#[derive(Debug)]
pub struct PexInbox {
    from: SocketAddr,
    /// How many messages may arrive now, and since when the next credit accumulates.
    credit: u32,
    since: Duration,
    early: u32,
    taken: usize,
    hosts: HashSet<IpAddr>,
}

impl PexInbox {
    /// No message has arrived yet from the peer at `from`.
    pub fn new(from: SocketAddr, now: Duration) -> PexInbox {
        PexInbox { from, credit: BURST, since: now, early: 0, taken: 0, hosts: HashSet::new() }
    }

    /// Processes a message and returns the accepted addresses. Each IP address is accepted once per connection, because many
    /// ports of one host could turn us into a weapon against it. Private addresses are accepted from private networks only. Early
    /// messages are ignored.
    ///
    /// # Errors
    /// [`PexFlood`] after too many early messages.
    pub fn take(&mut self, now: Duration, message: &PexMessage) -> Result<Vec<(SocketAddr, PexFlags)>, PexFlood> {
        // A tenth of the interval early is still in time.
        let earned = (now.saturating_sub(self.since).as_secs() / (INTERVAL.as_secs() * 9 / 10)) as u32;
        if earned > 0 {
            self.credit = self.credit.saturating_add(earned).min(BURST);
            self.since = now;
        }
        if self.credit == 0 {
            self.early += 1;
            return if self.early > MAX_EARLY { Err(PexFlood) } else { Ok(Vec::new()) };
        }
        self.credit -= 1;
        let mut taken = Vec::new();
        for &(addr, flags) in message.added.iter().take(MAX_PEERS) {
            let fits = self.taken < MAX_TAKEN && may_name_address(self.from.ip(), addr.ip());
            // In a private network, whose addresses only its members may announce, many peers may share an address and differ by
            // port.
            if fits && (self.hosts.insert(addr.ip()) || is_private(addr.ip())) {
                taken.push((addr, flags));
                self.taken += 1;
            }
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn addr(n: u16) -> SocketAddr {
        SocketAddr::from(([9, 9, (n >> 8) as u8, n as u8], 6881))
    }

    fn peers(range: std::ops::Range<u16>) -> HashMap<SocketAddr, PexFlags> {
        range.map(|n| (addr(n), PexFlags(n as u8))).collect()
    }

    fn message(range: std::ops::Range<u16>) -> PexMessage {
        PexMessage { added: peers(range).into_iter().collect(), dropped: Vec::new() }
    }

    #[test]
    fn the_difference_once_a_minute() {
        let mut differ = PexDiffer::new(s(5));
        let to = addr(0);
        assert_eq!(differ.message(s(4), to, &peers(0..3)), None);
        let first = differ.message(s(5), to, &peers(0..3)).unwrap();
        let announced: HashMap<_, _> = first.added.iter().copied().collect();
        assert_eq!(announced, peers(1..3), "not of itself, and with the flags");
        assert!(first.dropped.is_empty());
        assert_eq!(differ.next_due(), s(65));
        assert_eq!(differ.message(s(64), to, &peers(0..9)), None);
        assert_eq!(differ.message(s(65), to, &peers(0..3)), None, "nothing new");
        let second = differ.message(s(70), to, &peers(2..4)).unwrap();
        assert_eq!((second.added, second.dropped), (vec![(addr(3), PexFlags(3))], vec![addr(1)]));
        let third = differ.message(s(130), to, &peers(1..4)).unwrap();
        assert_eq!(third.added, [(addr(1), PexFlags(1))], "a peer that reconnects is added again");
    }

    #[test]
    fn fifty_at_a_time_until_all_are_told() {
        let mut differ = PexDiffer::new(s(0));
        let everybody = peers(1..121);
        let mut announced = HashSet::new();
        for (minute, count) in [(0, 50), (1, 50), (2, 20)] {
            let message = differ.message(s(minute * 60), addr(0), &everybody).unwrap();
            assert_eq!(message.added.len(), count);
            announced.extend(message.added.into_iter().map(|(addr, _)| addr));
        }
        assert_eq!(announced, everybody.into_keys().collect());
        let nobody = HashMap::new();
        let dropped: usize = (3..6).map(|m| differ.message(s(m * 60), addr(0), &nobody).unwrap().dropped.len()).sum();
        assert_eq!((dropped, differ.message(s(360), addr(0), &nobody)), (120, None));
    }

    #[test]
    fn floods_are_passed_over_and_then_end_the_connection() {
        let mut inbox = PexInbox::new(addr(0), s(0));
        let results: Vec<_> = (0..14).map(|n| inbox.take(s(n), &message(n as u16..n as u16 + 1))).collect();
        let taken: usize = results.iter().flatten().map(Vec::len).sum();
        assert_eq!(taken, BURST as usize);
        assert_eq!(results.iter().position(Result::is_err), Some((BURST + MAX_EARLY) as usize));
        let mut honest = PexInbox::new(addr(0), s(0));
        for n in 0..100 {
            let taken = honest.take(s(u64::from(n) * 60), &message(n..n + 1)).unwrap();
            assert_eq!(taken, [(addr(n), PexFlags(n as u8))]);
        }
    }

    #[test]
    fn each_host_once_and_no_more_than_the_bound() {
        let mut inbox = PexInbox::new(addr(0), s(0));
        let ports = (1..40).map(|port| (SocketAddr::from(([8, 8, 8, 8], port)), PexFlags(0))).collect();
        let taken = inbox.take(s(0), &PexMessage { added: ports, dropped: Vec::new() }).unwrap();
        assert_eq!(taken.len(), 1);
        let all: usize =
            (1..30).map(|n| inbox.take(s(u64::from(n) * 60), &message(n * 50..n * 50 + 50)).unwrap().len()).sum();
        assert_eq!(all + 1, MAX_TAKEN);
    }

    #[test]
    fn loopback_is_believed_from_there_only() {
        let added = [1, 2].map(|port| (SocketAddr::from(([127, 0, 0, 1], port)), PexFlags(0))).to_vec();
        let message = PexMessage { added, dropped: Vec::new() };
        assert_eq!(PexInbox::new(addr(0), s(0)).take(s(0), &message), Ok(Vec::new()));
        let near = SocketAddr::from(([127, 0, 0, 1], 9));
        assert_eq!(PexInbox::new(near, s(0)).take(s(0), &message).map(|taken| taken.len()), Ok(2));
    }

    #[test]
    fn private_addresses_are_believed_of_private_peers_only() {
        let inside = ["192.168.1.1:80", "10.0.0.1:6881", "100.64.0.1:6881", "[fd00::1]:6881", "[2002:a00:1::]:6881"];
        let added = inside.map(|addr| (addr.parse().unwrap(), PexFlags(0))).to_vec();
        let message = PexMessage { added, dropped: Vec::new() };
        assert_eq!(PexInbox::new(addr(0), s(0)).take(s(0), &message), Ok(Vec::new()));
        let near = SocketAddr::from(([192, 168, 1, 7], 9));
        assert_eq!(PexInbox::new(near, s(0)).take(s(0), &message).map(|taken| taken.len()), Ok(inside.len()));
    }
}
