//! Remembers addresses that were dialed and have not proven to be peers. It is separate from the peer list's entries, which other
//! addresses may displace: otherwise a source of addresses could make us dial one port of a host after another.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::net::networks::Network;
use crate::util::cold_sort;

/// How long a dialed address counts against its host.
const MEMORY: Duration = Duration::from_secs(3600);
/// How long an address that was dialed and then displaced is not added again.
const PAUSE: Duration = Duration::from_secs(120);
/// The most addresses that are remembered.
const MAX_TRIED: usize = 8192;

/// The dialed addresses; see the module documentation.
#[derive(Debug, Default)]
pub(crate) struct DialHistory {
    dialed: HashMap<SocketAddr, Duration>,
    now: Duration,
}

impl DialHistory {
    /// Advances the time.
    pub fn set_time(&mut self, now: Duration) {
        self.now = self.now.max(now);
    }

    /// Records that `addr` is dialed.
    pub fn note(&mut self, addr: SocketAddr) {
        self.dialed.insert(addr, self.now);
        if self.dialed.len() > MAX_TRIED {
            self.shrink();
        }
    }

    /// Records that `addr` is a peer, so that it does not count against its host.
    pub fn proved(&mut self, addr: &SocketAddr) {
        self.dialed.remove(addr);
    }

    /// All addresses that count against their hosts.
    pub fn all(&self) -> impl Iterator<Item = SocketAddr> {
        self.dialed.iter().filter(|(_, at)| self.since(**at) < MEMORY).map(|(addr, _)| *addr)
    }

    /// Whether `addr` counts against its host already.
    pub fn has(&self, addr: &SocketAddr) -> bool {
        self.dialed.get(addr).is_some_and(|at| self.since(*at) < MEMORY)
    }

    /// Whether `addr` was dialed so recently that it must not be added again.
    pub fn was_dialed_recently(&self, addr: &SocketAddr) -> bool {
        self.dialed.get(addr).is_some_and(|at| self.since(*at) < PAUSE)
    }

    fn since(&self, at: Duration) -> Duration {
        self.now.saturating_sub(at)
    }

    /// Forgets expired entries, and if that is not enough, a sixteenth of all: the oldest of the networks with the most entries.
    /// So a flood of addresses from a few networks displaces only itself.
    fn shrink(&mut self) {
        let all: Vec<_> = self.all().filter_map(|addr| Some((Reverse(*self.dialed.get(&addr)?), addr))).collect();
        let mut ranked = all;
        cold_sort::sort(&mut ranked);
        let mut of_subnet: HashMap<Network, usize> = HashMap::new();
        let mut ranked: Vec<_> = ranked
            .into_iter()
            .map(|(at, addr)| {
                let newer = of_subnet.entry(Network::subnet(addr.ip())).or_default();
                *newer += 1;
                (*newer, at, addr)
            })
            .collect();
        cold_sort::sort(&mut ranked);
        ranked.truncate(MAX_TRIED - MAX_TRIED / 16);
        self.dialed = ranked.into_iter().map(|(_, Reverse(at), addr)| (addr, at)).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(n: u32, port: u16) -> SocketAddr {
        SocketAddr::from(((0x1400_0000 + n).to_be_bytes(), port))
    }

    #[test]
    fn a_dialled_address_counts_for_an_hour_unless_it_proves_to_be_a_peer() {
        let mut dial_history = DialHistory::default();
        dial_history.note(addr(1, 1));
        dial_history.note(addr(1, 2));
        dial_history.proved(&addr(1, 2));
        assert!(
            dial_history.has(&addr(1, 1))
                && dial_history.was_dialed_recently(&addr(1, 1))
                && !dial_history.has(&addr(1, 2))
        );
        dial_history.set_time(PAUSE);
        assert!(dial_history.has(&addr(1, 1)) && !dial_history.was_dialed_recently(&addr(1, 1)));
        dial_history.set_time(MEMORY);
        assert!(!dial_history.has(&addr(1, 1)) && dial_history.all().next().is_none());
    }

    #[test]
    fn a_flood_from_few_networks_pushes_out_itself() {
        let mut dial_history = DialHistory::default();
        let victim = addr(0x0100_0000, 80);
        dial_history.note(victim);
        for n in 0..100_000 {
            dial_history.set_time(Duration::from_millis(n.into()));
            dial_history.note(addr(n % 5000, (n / 5000) as u16 + 1));
            assert!(dial_history.dialed.len() <= MAX_TRIED);
        }
        assert!(dial_history.has(&victim));
        assert!(dial_history.has(&addr(4999, 20)), "the newest");
    }
}
