//! What peers claim about an address (PEX flags, BEP 11): whether it prefers encryption, wants nothing, or is reachable. The
//! claims are unverified, so they count only for addresses without a verified source, and only as a first guess.
//!
//! A claim that a peer wants nothing delays our first attempt, as a seed, by [`REDUNDANT_HINT_PAUSE`], however often it is
//! repeated. It does not count if the DHT or a magnet link named the address, or if we have reached it before.

use std::net::SocketAddr;
use std::time::Duration;

use crate::strategy::peer_list::PeerList;
use crate::strategy::peer_list::entry::PeerListEntry;
use crate::types::{DialMode, Transport};
use crate::wire::pex::PexFlags;

/// How long a seed does not dial an address of which a peer says that it wants nothing.
const REDUNDANT_HINT_PAUSE: Duration = Duration::from_secs(5 * 60);
/// The same for an address that said so itself.
const REDUNDANT_PAUSE: Duration = Duration::from_secs(3600);

impl PeerList {
    /// Records a peer's claims about `addr`.
    pub fn hint(&mut self, addr: SocketAddr, flags: PexFlags) {
        let now = self.now;
        if let Some(entry) = self.entries.get_mut(&addr) {
            entry.hints = flags;
            if flags.has(PexFlags::UPLOAD_ONLY) {
                entry.redundant_hint_until.get_or_insert(now + REDUNDANT_HINT_PAUSE);
            }
        }
    }

    /// Records that neither the peer at `addr` nor we need the other. Another peer may have the address later.
    pub fn note_redundant(&mut self, addr: SocketAddr, now: Duration) {
        if let Some(entry) = self.entries.get_mut(&addr) {
            entry.redundant_until = Some(now + REDUNDANT_PAUSE);
        }
    }

    /// Records that the peer at `addr` encrypted its connection to us. We then open connections to it the same way.
    pub fn was_encrypted(&mut self, addr: SocketAddr) {
        if let Some(entry) = self.entries.get_mut(&addr) {
            entry.dial_mode.get_or_insert(DialMode::Encrypted);
        }
    }

    /// Sets whether every wanted piece is verified. If so, peers that want nothing either are not dialed.
    pub fn set_complete(&mut self, is_complete: bool) {
        self.is_complete = is_complete;
    }

    /// How to open the first connection, if only peers' claims are known.
    pub(crate) fn hinted_dial_mode(&self, entry: &PeerListEntry) -> Option<DialMode> {
        let usual = self.encryption.dial_mode();
        let other = self.encryption.fallback(usual);
        other.filter(|other| *other == DialMode::Encrypted && entry.is_hinted(PexFlags::ENCRYPTION))
    }

    /// Until when a connection would probably be useless to both sides; zero if it is not.
    pub(crate) fn redundant_until(&self, entry: &PeerListEntry) -> Duration {
        let hint = entry
            .redundant_hint_until
            .filter(|_| entry.is_hinted(PexFlags::UPLOAD_ONLY) && !entry.is_proven() && !entry.is_named_outside_pex);
        let until = hint.max(entry.redundant_until).filter(|_| self.is_complete);
        until.unwrap_or_default()
    }
}

impl PeerListEntry {
    /// The transport with which to begin, if only peers' claims are known. A peer that nobody has reached is probably behind a
    /// router, where nothing but uTP may get through; to others, TCP is usually faster.
    pub(crate) fn hinted_transport(&self) -> Transport {
        let is_behind_router = self.is_hinted(PexFlags::UTP) && !self.is_hinted(PexFlags::REACHABLE);
        if is_behind_router { Transport::Utp } else { Transport::Tcp }
    }

    /// Whether peers claim this of an address without a verified source.
    pub(crate) fn is_hinted(&self, flag: PexFlags) -> bool {
        !self.source.is_verified() && self.hints.has(flag)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::strategy::peer_list::PeerSource;
    use crate::types::{Encryption, PeerKey};

    fn addr(n: u8) -> SocketAddr {
        SocketAddr::from(([80, n, 0, 1], 6881))
    }

    /// A list with one address for each of these flags, all from `source`.
    fn peer_list(encryption: Encryption, source: PeerSource, flags: &[PexFlags]) -> PeerList {
        let mut peer_list = PeerList::new(encryption);
        for (&flags, n) in flags.iter().zip(0..) {
            peer_list.add(&[addr(n)], source);
            peer_list.hint(addr(n), flags);
        }
        peer_list
    }

    #[test]
    fn a_peer_that_is_said_to_encrypt_is_first_dialed_in_that_way() {
        use Encryption::{Allow, Off, Require};
        for (encryption, source, expected) in [
            (Allow, PeerSource::Pex, DialMode::Encrypted),
            (Allow, PeerSource::Tracker, DialMode::Plain),
            (Off, PeerSource::Pex, DialMode::Plain),
            (Require, PeerSource::Pex, DialMode::Encrypted),
        ] {
            let peer_list = peer_list(encryption, source, &[PexFlags::ENCRYPTION, PexFlags::UTP]);
            assert_eq!(peer_list.dial_mode(&addr(0)), expected, "{encryption:?} {source:?}");
            assert_eq!(peer_list.dial_mode(&addr(1)), encryption.dial_mode());
        }
    }

    #[test]
    fn utp_begins_if_a_peer_is_said_to_have_it_and_nobody_has_reached_it() {
        let flags = [PexFlags::UTP, PexFlags::UTP.with(PexFlags::REACHABLE), PexFlags::ENCRYPTION];
        let first = |list: &PeerList| [0, 1, 2].map(|n| list.first_transport(&addr(n)));
        let (tcp, utp) = (Transport::Tcp, Transport::Utp);
        let mut said = peer_list(Encryption::Allow, PeerSource::Pex, &flags);
        assert_eq!(first(&said), [utp, tcp, tcp]);
        said.note_transport(addr(0), tcp);
        said.note_transport(addr(2), utp);
        assert_eq!(first(&said), [tcp, tcp, utp], "what has worked counts more");
        assert_eq!(first(&peer_list(Encryption::Allow, PeerSource::Tracker, &flags)), [tcp; 3]);
    }

    #[test]
    fn the_result_of_a_dial_counts_more_than_hints() {
        let mut peer_list = peer_list(Encryption::Allow, PeerSource::Pex, &[PexFlags::ENCRYPTION]);
        peer_list.note_dialed(addr(0), PeerKey(1));
        assert!(peer_list.note_unanswered(addr(0), PeerKey(1)));
        assert_eq!(peer_list.dial_mode(&addr(0)), DialMode::Plain);
        peer_list.hint(addr(0), PexFlags::ENCRYPTION);
        peer_list.was_encrypted(addr(0));
        assert_eq!(peer_list.dial_mode(&addr(0)), DialMode::Plain);
        peer_list.add(&[addr(1)], PeerSource::Tracker);
        peer_list.was_encrypted(addr(1));
        assert_eq!(peer_list.dial_mode(&addr(1)), DialMode::Encrypted, "it came to us in that way");
    }

    #[test]
    fn two_that_want_nothing_are_not_connected() {
        let all = |peer_list: &PeerList| peer_list.dial_candidates(Duration::ZERO, 9).len();
        let mut said = peer_list(Encryption::Allow, PeerSource::Pex, &[PexFlags::UPLOAD_ONLY, PexFlags::ENCRYPTION]);
        assert_eq!(all(&said), 2);
        said.set_complete(true);
        assert_eq!(said.dial_candidates(Duration::ZERO, 9), [addr(1)]);
        said.note_redundant(addr(1), Duration::ZERO);
        assert_eq!(all(&said), 0);
        assert_eq!(said.dial_candidates(REDUNDANT_PAUSE, 9).len(), 2, "other peers may be there by now");
        said.set_complete(false);
        assert_eq!(all(&said), 2);
        let mut tracked = peer_list(Encryption::Allow, PeerSource::Tracker, &[PexFlags::UPLOAD_ONLY]);
        tracked.set_complete(true);
        assert_eq!(all(&tracked), 1, "a peer must not keep us from those whom a tracker names");
    }

    /// A peer says of a leecher, again and again, that it wants nothing.
    #[test]
    fn no_peer_keeps_us_from_others_for_long() {
        let from = |said: &PeerList| said.next_dial().expect("it is dialed at some time");
        let mut said = peer_list(Encryption::Allow, PeerSource::Pex, &[PexFlags::UPLOAD_ONLY]);
        said.set_complete(true);
        for second in 0..100 {
            said.set_time(Duration::from_secs(second));
            said.hint(addr(0), PexFlags::UPLOAD_ONLY);
            said.add(&[addr(0)], PeerSource::Pex);
            assert_eq!(from(&said), REDUNDANT_HINT_PAUSE);
        }
        for source in [PeerSource::Dht, PeerSource::MagnetLink] {
            let mut said = peer_list(Encryption::Allow, PeerSource::Pex, &[PexFlags::UPLOAD_ONLY]);
            said.set_complete(true);
            said.add(&[addr(0)], source);
            said.hint(addr(0), PexFlags::UPLOAD_ONLY);
            assert_eq!(from(&said), Duration::ZERO, "{source:?} names it too");
        }
        let mut said = peer_list(Encryption::Allow, PeerSource::Pex, &[PexFlags::UPLOAD_ONLY]);
        said.set_complete(true);
        said.reached(addr(0), Duration::ZERO);
        assert_eq!(from(&said), Duration::ZERO, "it has proved to be a peer");
    }

    #[test]
    fn peers_that_were_reached_come_first() {
        let mut peer_list = peer_list(Encryption::Allow, PeerSource::Pex, &[PexFlags::default(); 20]);
        peer_list.hint(addr(13), PexFlags::REACHABLE);
        assert_eq!(peer_list.dial_candidates(Duration::ZERO, 1), [addr(13)]);
        peer_list.add(&[addr(50)], PeerSource::Tracker);
        assert_eq!(peer_list.dial_candidates(Duration::ZERO, 2), [addr(50), addr(13)]);
    }
}
