//! Addresses that a relay names for hole punching (BEP 55). They are dialled at once or not at all.

use std::net::SocketAddr;
use std::time::Duration;

use crate::strategy::peer_list::capacity::{MAX_KNOWN, MAX_UNVERIFIED, PortCounts, is_possible};
use crate::strategy::peer_list::{PeerList, PeerSource};
use crate::types::PeerKey;

/// What the list knew of an address before a relay named it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PunchedAddress {
    /// Whether nobody else had named it.
    is_new: bool,
}

impl PeerList {
    /// Whether `addr`, which a relay has named, may be dialled now. If so, it is in the list, and the caller dials it at once.
    ///
    /// A router may show a peer at another port than the one that the peer told others, so as many ports of a host are allowed as a
    /// tracker may name.
    pub fn admit_punched(&mut self, addr: SocketAddr, now: Duration) -> Option<PunchedAddress> {
        if self.is_refused(&addr, now) {
            return None;
        }
        if let Some(entry) = self.entries.get(&addr) {
            return entry.connection.is_none().then_some(PunchedAddress { is_new: false });
        }
        let unverified = self.entries.values().filter(|entry| !entry.source.is_verified()).count();
        let has_room = self.entries.len() < MAX_KNOWN && unverified < MAX_UNVERIFIED;
        let mut ports = PortCounts::of(&self.entries, &self.dial_history);
        if !has_room || !is_possible(addr) || !ports.admit(addr, PeerSource::MagnetLink, &self.dial_history) {
            return None;
        }
        let ours = self.ours;
        self.entry(addr).add_source(addr, PeerSource::Pex, ours);
        Some(PunchedAddress { is_new: true })
    }

    /// Whether `addr` is our own address, as far as it is known.
    pub fn is_ours(&self, addr: SocketAddr) -> bool {
        self.ours == Some(addr)
    }

    /// Records that `addr`, which [`PeerList::admit_punched`] has admitted, is not dialled.
    pub fn withdraw_punched(&mut self, addr: SocketAddr, punched: PunchedAddress) {
        if punched.is_new {
            self.entries.remove(&addr);
        }
    }

    /// Records that connection `key`, which was dialled because of [`PeerList::admit_punched`], was never established. An address
    /// that only the relay has named is forgotten, so that it is not dialled by TCP.
    pub fn punch_failed(&mut self, addr: SocketAddr, key: PeerKey, punched: PunchedAddress) {
        let Some(entry) = self.entries.get_mut(&addr).filter(|entry| entry.connection == Some(key)) else { return };
        entry.connection = None;
        if punched.is_new && !entry.is_named_outside_pex && !entry.is_proven() && !entry.is_never_dialed {
            self.entries.remove(&addr);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::peer_list::tests::addr;

    const NOW: Duration = Duration::from_secs(1000);

    #[test]
    fn an_address_that_only_a_relay_has_named_is_dialled_once_and_forgotten() {
        let mut list = PeerList::default();
        list.set_time(NOW);
        let punched = list.admit_punched(addr(1), NOW).expect("a new address");
        list.note_dialed(addr(1), PeerKey(1));
        assert_eq!(list.admit_punched(addr(1), NOW), None, "it is being dialled");
        list.punch_failed(addr(1), PeerKey(1), punched);
        assert_eq!((list.len(), list.next_dial()), (0, None));
        assert_eq!(list.admit_punched(addr(1), NOW), None, "a moment ago");
        list.set_time(NOW * 2);
        assert!(list.admit_punched(addr(1), NOW * 2).is_some());
    }

    #[test]
    fn an_address_that_others_have_named_keeps_its_history() {
        let mut list = PeerList::default();
        list.add(&[addr(1)], PeerSource::Tracker);
        list.note_dialed(addr(1), PeerKey(1));
        list.disconnected(addr(1), PeerKey(1), NOW, false);
        let due = list.next_dial();
        let punched = list.admit_punched(addr(1), NOW).expect("it is known");
        list.note_dialed(addr(1), PeerKey(2));
        list.punch_failed(addr(1), PeerKey(2), punched);
        assert_eq!((list.len(), list.next_dial()), (1, due), "this failure says nothing new");
        list.ban(addr(1), false, NOW);
        assert_eq!(list.admit_punched(addr(1), NOW), None);
        list.never_dial(addr(2));
        assert_eq!(list.admit_punched(addr(2), NOW), None, "our own address");
    }

    #[test]
    fn few_ports_of_a_host_are_dialled() {
        let mut list = PeerList::default();
        list.set_time(NOW);
        let admitted = (5000..6000_u16).filter(|port| {
            let addr = SocketAddr::from(([80, 1, 1, 1], *port));
            let Some(punched) = list.admit_punched(addr, NOW) else { return false };
            list.note_dialed(addr, PeerKey(u32::from(*port)));
            list.punch_failed(addr, PeerKey(u32::from(*port)), punched);
            true
        });
        assert_eq!(admitted.count(), 4);
        let mut list = PeerList::default();
        for n in 0..10_000_u32 {
            let addr = SocketAddr::from(((0x5000_0000 + n * 256).to_be_bytes(), 6881));
            list.admit_punched(addr, NOW);
        }
        assert_eq!(list.len(), MAX_UNVERIFIED);
        list.withdraw_punched(addr(1), PunchedAddress { is_new: false });
        list.withdraw_punched(SocketAddr::from(([0x50, 0, 0, 0], 6881)), PunchedAddress { is_new: true });
        assert_eq!(list.len(), MAX_UNVERIFIED - 1);
    }
}
