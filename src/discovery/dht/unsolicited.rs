//! Recognises queries from hosts to which we had sent nothing: they prove that routers and firewalls let packets in. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::net::networks::is_private;

/// The most hosts remembered. If none of the queries until then was unsolicited, later ones count as solicited.
const MAX_HOSTS: usize = 1024;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct UnsolicitedQueries {
    /// The hosts to which we have sent packets, while that matters.
    contacted: BTreeSet<IpAddr>,
    /// There are too many of them, or an unsolicited query has arrived.
    is_decided: bool,
}

impl UnsolicitedQueries {
    /// A packet goes to `to`.
    pub fn note_sent(&mut self, to: IpAddr) {
        if self.is_decided {
            return;
        }
        self.contacted.insert(to);
        if self.contacted.len() >= MAX_HOSTS {
            self.decide();
        }
    }

    /// A query arrived from `from`. Returns whether it is the first unsolicited one from a public address.
    pub fn note_query(&mut self, from: IpAddr) -> bool {
        if self.is_decided || is_private(from) || self.contacted.contains(&from) {
            return false;
        }
        self.decide();
        true
    }

    fn decide(&mut self) {
        self.is_decided = true;
        self.contacted = BTreeSet::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(n: u16) -> IpAddr {
        let [high, low] = n.to_be_bytes();
        IpAddr::from([80, high, low, 1])
    }

    #[test]
    fn only_a_public_host_to_which_nothing_was_sent_counts() {
        let mut queries = UnsolicitedQueries::default();
        queries.note_sent(ip(1));
        assert!(!queries.note_query(ip(1)), "its packet may be let in because of ours");
        assert!(!queries.note_query([192, 168, 1, 7].into()), "no router is between us");
        assert!(queries.note_query(ip(2)));
        assert!(!queries.note_query(ip(3)) && queries.contacted.is_empty(), "one is enough");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut queries = UnsolicitedQueries::default();
        (0..2000).for_each(|n| queries.note_sent(ip(n)));
        assert!(
            queries.contacted.is_empty() && !queries.note_query(ip(3000)),
            "who knows to whom we have sent packets"
        );
    }
}
