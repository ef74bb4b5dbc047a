//! What peers say of an address beside that there is a peer (BEP 11): whether it prefers encryption, wants nothing, can be reached.
//! Anybody may say anything, so that it counts only for addresses that nobody better has named, and as a first guess.

use std::net::SocketAddr;

use crate::strategy::peer_list::Book;
use crate::strategy::peer_list::entry::Entry;
use crate::types::Opening;
use crate::wire::pex::Flags;

impl Book {
    /// Notes what a peer says of `addr`.
    pub fn hint(&mut self, addr: SocketAddr, flags: Flags) {
        if let Some(entry) = self.entries.get_mut(&addr) {
            entry.hints = flags;
        }
    }

    /// The peer at `addr` encrypted a connection that it made to us: we begin in the same way.
    pub fn was_encrypted(&mut self, addr: SocketAddr) {
        if let Some(entry) = self.entries.get_mut(&addr) {
            entry.opening.get_or_insert(Opening::Encrypted);
        }
    }

    /// Whether we want nothing more: then peers that want nothing either are not dialled.
    pub fn set_complete(&mut self, is_complete: bool) {
        self.is_complete = is_complete;
    }

    /// How to begin the first call, where nothing is known but what peers say.
    pub(crate) fn hinted_opening(&self, entry: &Entry) -> Option<Opening> {
        let usual = self.encryption.opening();
        let other = self.encryption.other_than(usual);
        other.filter(|other| *other == Opening::Encrypted && entry.is_hinted(Flags::ENCRYPTION))
    }

    /// Whether neither side would need the connection.
    pub(crate) fn is_needless(&self, entry: &Entry) -> bool {
        self.is_complete && entry.is_hinted(Flags::UPLOAD_ONLY)
    }
}

impl Entry {
    /// Whether a peer says so, of an address that peers alone have named.
    pub(crate) fn is_hinted(&self, flag: Flags) -> bool {
        !self.source.is_verified() && self.hints.has(flag)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::strategy::peer_list::Source;
    use crate::types::{Encryption, PeerKey};

    fn addr(n: u8) -> SocketAddr {
        SocketAddr::from(([80, n, 0, 1], 6881))
    }

    /// A book with an address for each of these flags, named by `source`.
    fn book(encryption: Encryption, source: Source, flags: &[Flags]) -> Book {
        let mut book = Book::new(encryption);
        for (&flags, n) in flags.iter().zip(0..) {
            book.add(&[addr(n)], source);
            book.hint(addr(n), flags);
        }
        book
    }

    #[test]
    fn a_peer_that_is_said_to_encrypt_is_first_called_in_that_way() {
        use Encryption::{Off, Prefer, Require};
        for (encryption, source, expected) in [
            (Prefer, Source::Pex, Opening::Encrypted),
            (Prefer, Source::Tracker, Opening::Plain),
            (Off, Source::Pex, Opening::Plain),
            (Require, Source::Pex, Opening::Encrypted),
        ] {
            let book = book(encryption, source, &[Flags::ENCRYPTION, Flags::UTP]);
            assert_eq!(book.opening(&addr(0)), expected, "{encryption:?} {source:?}");
            assert_eq!(book.opening(&addr(1)), encryption.opening());
        }
    }

    #[test]
    fn what_came_of_a_call_counts_more_than_what_is_said() {
        let mut book = book(Encryption::Prefer, Source::Pex, &[Flags::ENCRYPTION]);
        book.calling(addr(0), PeerKey(1));
        assert!(book.unanswered(addr(0), PeerKey(1)));
        assert_eq!(book.opening(&addr(0)), Opening::Plain);
        book.hint(addr(0), Flags::ENCRYPTION);
        book.was_encrypted(addr(0));
        assert_eq!(book.opening(&addr(0)), Opening::Plain);
        book.add(&[addr(1)], Source::Tracker);
        book.was_encrypted(addr(1));
        assert_eq!(book.opening(&addr(1)), Opening::Encrypted, "it came to us in that way");
    }

    #[test]
    fn two_that_want_nothing_are_not_connected() {
        let all = |book: &Book| book.callable(Duration::ZERO, 9).len();
        let mut said = book(Encryption::Prefer, Source::Pex, &[Flags::UPLOAD_ONLY, Flags::ENCRYPTION]);
        assert_eq!(all(&said), 2);
        said.set_complete(true);
        assert_eq!(said.callable(Duration::ZERO, 9), [addr(1)]);
        said.set_complete(false);
        assert_eq!(all(&said), 2);
        let mut tracked = book(Encryption::Prefer, Source::Tracker, &[Flags::UPLOAD_ONLY]);
        tracked.set_complete(true);
        assert_eq!(all(&tracked), 1, "a peer must not keep us from those whom a tracker names");
    }

    #[test]
    fn peers_that_were_reached_come_first() {
        let mut book = book(Encryption::Prefer, Source::Pex, &[Flags::default(); 20]);
        book.hint(addr(13), Flags::REACHABLE);
        assert_eq!(book.callable(Duration::ZERO, 1), [addr(13)]);
        book.add(&[addr(50)], Source::Tracker);
        assert_eq!(book.callable(Duration::ZERO, 2), [addr(50), addr(13)]);
    }
}
