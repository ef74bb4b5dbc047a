//! Who has to go when callers from one address take the places that others wait for. Pure.
//!
//! An address may fill the table as long as nobody else calls: many peers behind one router, or all of them on one machine, are
//! nothing bad. When somebody from elsewhere finds no place, the address with the most callers gives one up, if it has more than
//! its fair part.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::net::Network;
use crate::types::PeerKey;

/// Somebody who called us.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// The connection.
    pub key: PeerKey,
    /// Where it comes from.
    pub host: IpAddr,
    /// Bytes that it has sent; `None` while it has not even shaken hands.
    pub given: Option<u64>,
}

/// The caller that makes room for one from `newcomer`: of the address with the most callers, if they are more than `fair` and the
/// newcomer is from elsewhere, who gave the least; of several the last to come.
pub fn surplus(newcomer: IpAddr, callers: impl Iterator<Item = Caller>, fair: usize) -> Option<PeerKey> {
    let mut hosts: HashMap<Network, Vec<Caller>> = HashMap::new();
    callers.for_each(|caller| hosts.entry(Network::host(caller.host)).or_default().push(caller));
    let (host, crowd) = hosts.into_iter().max_by_key(|(host, crowd)| (crowd.len(), *host))?;
    if crowd.len() <= fair || host == Network::host(newcomer) {
        return None;
    }
    crowd.into_iter().min_by_key(|caller| (caller.given, std::cmp::Reverse(caller.key))).map(|caller| caller.key)
}

/// The caller that makes room for one from `newcomer` where no address has more than `fair`: the first to come, as it has had the
/// most time. Nobody does where the newcomer's own address has more than that. The callers are in the order in which they came.
pub fn eldest(newcomer: IpAddr, callers: &[Caller], fair: usize) -> Option<PeerKey> {
    let neighbours = callers.iter().filter(|caller| Network::host(caller.host) == Network::host(newcomer)).count();
    callers.first().filter(|_| neighbours <= fair).map(|caller| caller.key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(key: u32, host: &str, given: Option<u64>) -> Caller {
        Caller { key: PeerKey(key), host: host.parse().expect("an address"), given }
    }

    #[test]
    fn the_first_to_come_makes_room_unless_the_newcomers_are_too_many() {
        let callers = [(7, "192.0.2.1"), (8, "192.0.2.2"), (9, "192.0.2.2")].map(|(key, host)| caller(key, host, None));
        let eldest = |newcomer: &str, fair| eldest(newcomer.parse().expect("an address"), &callers, fair);
        assert_eq!(eldest("192.0.2.3", 1), Some(PeerKey(7)));
        assert_eq!(eldest("192.0.2.2", 2), Some(PeerKey(7)));
        assert_eq!(eldest("192.0.2.2", 1), None);
        assert_eq!(super::eldest("192.0.2.2".parse().expect("an address"), &[], 1), None);
    }

    fn goes(newcomer: &str, callers: &[Caller], fair: usize) -> Option<u32> {
        surplus(newcomer.parse().expect("an address"), callers.iter().copied(), fair).map(|key| key.0)
    }

    #[test]
    fn the_crowd_gives_up_the_place_of_who_gave_least() {
        let mut callers = vec![
            caller(1, "10.0.0.1", Some(9)),
            caller(2, "10.0.0.1", Some(0)),
            caller(3, "10.0.0.1", Some(0)),
            caller(4, "10.0.0.2", None),
        ];
        assert_eq!(goes("10.0.0.3", &callers, 2), Some(3), "the last to come");
        callers.push(caller(5, "10.0.0.1", None));
        assert_eq!(goes("10.0.0.3", &callers, 2), Some(5), "who has not shaken hands");
        assert_eq!(goes("10.0.0.3", &callers, 4), None, "nobody has more than a fair part");
        assert_eq!(goes("10.0.0.1", &callers, 2), None, "they must not push each other out");
        assert_eq!(goes("10.0.0.3", &[], 0), None);
    }

    #[test]
    fn a_network_of_ipv6_is_one_household() {
        let callers: Vec<_> = (1..=4).map(|n| caller(n, &format!("2001:db8::{n}"), Some(0))).collect();
        assert_eq!(goes("2001:db8::99", &callers, 2), None);
        assert_eq!(goes("2001:db8:0:1::1", &callers, 2), Some(4));
    }
}
