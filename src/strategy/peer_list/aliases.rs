//! Addresses that seem to belong to connected peers. They are not dialed for a while.
//!
//! A peer that connected to us says which port it listens on. Nothing verifies that: a stranger behind the same address may name
//! the port of another peer. So such a claim delays one attempt, and a further one only once the address was reached. A handshake
//! that shows the peer id of a connected peer says more, but an id can be copied, so such addresses are tried again too, ever less
//! often.

use std::net::SocketAddr;
use std::time::Duration;

use crate::strategy::peer_list::PeerList;
use crate::strategy::peer_list::entry::{PeerListEntry, PeerSource};
use crate::types::PeerKey;

/// How long an address is not dialed after it was linked to a connected peer. Doubles each time its handshake shows that peer's id.
pub(super) const ALIAS_PAUSE: Duration = Duration::from_secs(120);
/// The same for an address that the user gave. If the user gave the connected peer's address too, [`ALIAS_PAUSE`] applies.
pub(super) const USER_ALIAS_PAUSE: Duration = Duration::from_secs(15);
/// How often the pause doubles.
const MAX_DOUBLINGS: u32 = 4;

impl PeerList {
    /// The peer of connection `key`, which connected to us, claims to listen at `addr`. Returns whether to leave the address alone
    /// until that connection ends or a pause has passed. A claim never delays the user's addresses while we download.
    pub fn link_to(&mut self, addr: SocketAddr, key: PeerKey, now: Duration) -> bool {
        let Some(entry) = self.entries.get_mut(&addr) else { return false };
        let is_from_user = entry.source == PeerSource::User;
        if entry.is_claimed || (is_from_user && !self.is_complete) {
            return false;
        }
        let pause = if is_from_user { USER_ALIAS_PAUSE } else { ALIAS_PAUSE };
        entry.is_claimed = true;
        (entry.connection, entry.alias_until) = (Some(key), Some(now + pause));
        true
    }

    /// Records that connection `key` led to the same peer as connection `stays`. The addresses of `key` are not dialed for
    /// [`ALIAS_PAUSE`] ([`USER_ALIAS_PAUSE`]), longer each further time, or until `stays` ends.
    pub fn note_duplicate(&mut self, key: PeerKey, stays: PeerKey, now: Duration) {
        let is_dialed = |entry: &PeerListEntry| entry.connection == Some(stays) && entry.alias_until.is_none();
        let is_from_user = |entry: &PeerListEntry| entry.source == PeerSource::User;
        let stays_with_users = self.entries.values().any(|entry| is_dialed(entry) && is_from_user(entry));
        for entry in self.entries.values_mut().filter(|entry| entry.connection == Some(key)) {
            let pause = if is_from_user(entry) && !stays_with_users { USER_ALIAS_PAUSE } else { ALIAS_PAUSE };
            let pause = pause * (1 << entry.duplicates.min(MAX_DOUBLINGS));
            entry.duplicates = entry.duplicates.saturating_add(1);
            (entry.connection, entry.alias_until) = (Some(stays), Some(now + pause));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::peer_list::tests::addr;

    const SECOND: Duration = Duration::from_secs(1);

    /// A list with one address, and the time until it may be dialed.
    fn list(source: PeerSource) -> (PeerList, impl Fn(&PeerList, Duration) -> Option<Duration>) {
        let mut list = PeerList::default();
        list.add(&[addr(1)], source);
        (list, |list, now| list.next_dial().map(|at| at.saturating_sub(now)))
    }

    #[test]
    fn a_claim_delays_one_attempt_whoever_repeats_it() {
        let (mut list, wait) = list(PeerSource::Tracker);
        assert!(list.link_to(addr(1), PeerKey(1), SECOND));
        assert_eq!(wait(&list, SECOND), Some(ALIAS_PAUSE));
        assert!(!list.link_to(addr(1), PeerKey(1), SECOND + ALIAS_PAUSE), "its time has passed");
        list.disconnected(addr(9), PeerKey(1), SECOND, true);
        assert!(!list.link_to(addr(1), PeerKey(2), SECOND), "another connection makes the same claim");
        list.note_dialed(addr(1), PeerKey(3));
        list.disconnected(addr(1), PeerKey(3), SECOND, false);
        assert!(!list.link_to(addr(1), PeerKey(4), SECOND), "it was tried in vain");
        list.note_dialed(addr(1), PeerKey(5));
        list.reached(addr(1), SECOND);
        list.disconnected(addr(1), PeerKey(5), SECOND, true);
        assert!(list.link_to(addr(1), PeerKey(6), SECOND), "nobody kept us from it");
    }

    #[test]
    fn no_claim_delays_the_users_addresses_during_a_download() {
        let (mut list, wait) = list(PeerSource::User);
        assert!(!list.link_to(addr(1), PeerKey(1), SECOND));
        assert_eq!(wait(&list, SECOND), Some(Duration::ZERO));
        list.set_complete(true);
        assert!(list.link_to(addr(1), PeerKey(1), SECOND));
        assert_eq!(wait(&list, SECOND), Some(USER_ALIAS_PAUSE));
    }

    #[test]
    fn a_peer_that_we_have_already_is_tried_ever_less_often() {
        for (source, pause) in [(PeerSource::Tracker, ALIAS_PAUSE), (PeerSource::User, USER_ALIAS_PAUSE)] {
            let (mut list, wait) = list(source);
            for times in [1, 2, 4, 8, 16, 16, 16] {
                list.note_dialed(addr(1), PeerKey(2));
                list.note_duplicate(PeerKey(2), PeerKey(1), SECOND);
                assert_eq!(wait(&list, SECOND), Some(pause * times));
            }
            list.note_dialed(addr(1), PeerKey(2));
            list.disconnected(addr(1), PeerKey(2), SECOND, true);
            list.note_dialed(addr(1), PeerKey(2));
            list.note_duplicate(PeerKey(2), PeerKey(1), SECOND * 100);
            assert_eq!(wait(&list, SECOND * 100), Some(pause));
        }
    }
}
