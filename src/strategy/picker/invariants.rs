//! The picker's invariants between any two calls, for tests.

use super::*;

impl Picker {
    /// Asserts the invariants.
    pub(crate) fn check_invariants(&self) {
        let (mut orphans, mut expired) = (0, 0);
        for (&piece, begun) in &self.begun {
            begun.check();
            assert!(self.unverified_wanted.has(piece) && !self.order.unbegun().has(piece), "{piece:?} is two things");
            expired += begun.expired;
            orphans += u32::from(begun.free > 0 && begun.owner.is_none());
            assert_eq!(
                begun.free > 0,
                self.free.open.get(begun.open_at) == Some(&piece) && begun.listed != ListPosition::No
            );
            if let Some(owner) = begun.owner {
                let owner = self.peer(owner).expect("the owner is connected");
                assert_eq!(owner.own.iter().filter(|&&own| own == piece).count(), usize::from(begun.free > 0));
            }
            for block in begun.blocks() {
                match block {
                    BlockState::Requested { requested_peers, .. } => {
                        assert!(requested_peers.keys().iter().all(|&k| self.peer(k).is_some()));
                    }
                    BlockState::Writing(by) | BlockState::Expired(by) => assert!(self.peer(*by).is_some()),
                    _ => {}
                }
            }
        }
        assert_eq!((self.free.orphans, self.free.expired), (orphans, expired));
        assert_eq!(self.free.open.len(), self.begun.values().filter(|begun| begun.free > 0).count());
        let pieces = self.begun.len() + self.order.unbegun().count() as usize;
        assert_eq!(pieces, self.unverified_wanted.count() as usize, "a piece is nowhere");
        assert!(self.unverified_wanted.iter().all(|piece| !self.have.has(piece)));
        assert!(
            self.order.unbegun().is_within(&self.unverified_wanted)
                && self.sequence.early.iter().all(|&piece| self.unverified_wanted.has(piece))
                && self.sequence.urgent.iter().all(|&piece| self.unverified_wanted.has(piece))
        );
        assert!(self.sequence.urgent.len() <= MAX_URGENT);
        for peer in &self.peers {
            let wanted = peer.bits.iter().filter(|&p| self.unverified_wanted.has(p)).count();
            assert_eq!(self.wanted.is_wanted(peer.wanted_until), wanted > 0);
            assert!(self.wanted.is_within(peer.key, peer.wanted_until, wanted as u64), "a bound that is too late");
            assert!(
                !peer.has_no_unbegun || !peer.bits.iter().any(|p| self.order.unbegun().has(p)),
                "a peer with `has_no_unbegun` has an unbegun piece"
            );
            assert!(peer.own.iter().all(|own| self.begun.get(own).is_some_and(|b| b.owner == Some(peer.key))));
        }
        let bytes = |bits: &Bitfield| bits.iter().map(|piece| u64::from(self.piece_size(piece))).sum::<u64>();
        assert_eq!(
            (self.bytes.missing_wanted, self.bytes.missing),
            (bytes(&self.unverified_wanted), self.geometry.total - bytes(&self.have))
        );
        assert!(self.bytes.missing_wanted <= self.bytes.missing && self.bytes.missing_wanted <= self.bytes.wanted);
        assert_eq!(self.received, self.begun.values().map(|begun| u64::from(begun.received)).sum::<u64>());
        self.parole.given_up.check();
        self.order.check(&self.peers.iter().map(|peer| (&peer.bits, peer.counts_as_seed())));
    }
}
