//! IP addresses as networks: which addresses belong to one subscriber, and which are not on the public internet. One subscriber
//! has many addresses, so every limit "per address" counts by [`Network`]. Pure.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The network around an address, as a key to count by. Only compare networks of the same prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network {
    /// The first address; an IPv4 one as `::ffff:a.b.c.d`, so that no IPv6 network equals it.
    first: u128,
}

impl Network {
    /// The network with the first `v4` or `v6` bits of an address.
    pub fn of(ip: IpAddr, v4: u32, v6: u32) -> Network {
        let (bits, kept) = match ip.to_canonical() {
            IpAddr::V4(ip) => (ip.to_ipv6_mapped().to_bits(), 96 + v4.min(32)),
            IpAddr::V6(ip) => (ip.to_bits(), v6.min(128)),
        };
        let mask = u128::MAX.checked_shl(128 - kept).unwrap_or_default();
        Network { first: bits & mask }
    }

    /// The minimum that a subscriber has: one IPv4 address, or an IPv6 /64.
    pub fn host(ip: IpAddr) -> Network {
        Network::of(ip, 32, 64)
    }

    /// What a subscriber often has: one IPv4 address, or an IPv6 /56.
    pub fn site(ip: IpAddr) -> Network {
        Network::of(ip, 32, 56)
    }

    /// What one attacker may have in bulk: an IPv4 /24, or an IPv6 /48.
    pub fn subnet(ip: IpAddr) -> Network {
        Network::of(ip, 24, 48)
    }

    /// The subnet of a public address; the host of a private one, as all users may be in one private subnet.
    pub fn public_subnet(ip: IpAddr) -> Network {
        if is_private(ip) { Network::host(ip) } else { Network::subnet(ip) }
    }
}

/// The networks to count by, each inside the one before. A count by [`Network::host`] alone lets one user with a subnet displace
/// everybody else.
pub const NETWORK_LEVELS: [fn(IpAddr) -> Network; 3] = [Network::subnet, Network::site, Network::host];

/// The items of the network that uses the most: of the subnet that uses the most, then of its site and of its host that use the
/// most. Private addresses count by host only, as all users may be in one private subnet. Items without an address count as one
/// host.
pub fn heaviest_users<T>(
    items: impl IntoIterator<Item = T>,
    ip: impl Fn(&T) -> Option<IpAddr>,
    used: impl Fn(&T) -> usize,
) -> Vec<T> {
    let mut left: Vec<T> = items.into_iter().collect();
    for level in NETWORK_LEVELS {
        let network = |item: &T| ip(item).map(|ip| if is_private(ip) { Network::host(ip) } else { level(ip) });
        let mut sums: HashMap<Option<Network>, usize> = HashMap::new();
        for item in &left {
            *sums.entry(network(item)).or_default() += used(item);
        }
        let most = sums.values().copied().max();
        left.retain(|item| sums.get(&network(item)).copied() == most);
    }
    left
}

/// Whether an address belongs to this machine or to a private network, directly or as an embedded IPv4 address.
pub fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_private_v4(ip),
        IpAddr::V6(ip) => is_private_v6(ip),
    }
}

/// Whether to accept the address `named` of a peer or node from a sender at `from`. Nobody outside of a private network knows its
/// addresses: such an address is a mistake, or meant to make us connect to one of the user's devices.
pub fn may_name_address(from: IpAddr, named: IpAddr) -> bool {
    if is_loopback(named) { is_loopback(from) } else { is_private(from) || !is_private(named) }
}

fn is_loopback(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_loopback() || embedded_ipv4(ip).iter().flatten().any(Ipv4Addr::is_loopback),
    }
}

fn is_private_v4(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    let carrier_nat = a == 100 && b & 0xc0 == 64;
    a == 0 || ip.is_loopback() || ip.is_private() || ip.is_link_local() || carrier_nat
}

fn is_private_v6(ip: Ipv6Addr) -> bool {
    let site_local = ip.segments()[0] & 0xffc0 == 0xfec0; // deprecated by RFC 3879, and still routed within some sites
    let local_translation = matches!(ip.segments(), [0x64, 0xff9b, 1, ..]); // RFC 8215
    ip.is_loopback()
        || ip.is_unspecified()
        || ip.is_unique_local()
        || ip.is_unicast_link_local()
        || site_local
        || local_translation
        || embedded_ipv4(ip).into_iter().flatten().any(is_private_v4)
}

/// The IPv4 addresses to which a translator or a tunnel forwards packets for this address.
pub(crate) fn embedded_ipv4(ip: Ipv6Addr) -> [Option<Ipv4Addr>; 2] {
    let of = |high: u16, low: u16| Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match ip.segments() {
        // Teredo (RFC 4380): the server's address, and the client's with all bits inverted.
        [0x2001, 0, server_high, server_low, .., high, low] => [of(server_high, server_low), of(!high, !low)],
        // 6to4 (RFC 3056), NAT64 (RFC 6052), stateless translation (RFC 2765), ISATAP (RFC 5214), and the form that RFC 4291
        // deprecates.
        [0x2002, high, low, ..]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [.., 0 | 0x200, 0x5efe, high, low]
        | [0, 0, 0, 0, 0, 0, high @ 1..=0xffff, low] => [of(high, low), None],
        _ => [None, None],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn networks_hold_the_addresses_that_one_user_has() {
        let same = |of: fn(IpAddr) -> Network, a: &str, b: &str| of(ip(a)) == of(ip(b));
        assert!(!same(Network::host, "192.0.2.1", "192.0.2.2") && same(Network::host, "192.0.2.1", "::ffff:192.0.2.1"));
        assert!(same(Network::host, "2001:db8::1", "2001:db8::ffff:1"));
        assert!(!same(Network::host, "2001:db8::1", "2001:db8:0:1::1"));
        assert!(same(Network::site, "2001:db8::1", "2001:db8:0:ff::1"));
        assert!(
            !same(Network::site, "2001:db8::1", "2001:db8:0:100::1") && !same(Network::site, "192.0.2.1", "192.0.2.2")
        );
        assert!(
            same(Network::subnet, "2001:db8::1", "2001:db8:0:ffff::1")
                && same(Network::subnet, "192.0.2.1", "192.0.2.9")
        );
        assert!(
            !same(Network::subnet, "2001:db8::1", "2001:db8:1::1") && !same(Network::subnet, "192.0.2.1", "192.0.3.1")
        );
        assert_ne!(Network::of(ip("1.2.3.4"), 0, 0), Network::of(ip("::1"), 0, 0), "the families never meet");
        assert_eq!(Network::of(ip("1.2.3.4"), 0, 0), Network::of(ip("200.2.3.4"), 0, 0));
    }

    #[test]
    fn the_greatest_user_is_found_level_by_level() {
        let of = |items: &[(&str, usize)]| {
            let left = heaviest_users(items.to_vec(), |(text, _)| text.parse().ok(), |(_, used)| *used);
            left.into_iter().map(|(text, _)| text.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(of(&[("192.0.2.1", 2), ("192.0.2.2", 3), ("198.51.100.1", 4)]), ["192.0.2.2"]);
        let v6 = [("2001:db8:0:1::1", 2), ("2001:db8:0:2::1", 2), ("2001:db8:0:100::1", 3), ("2001:db8:1::1", 6)];
        assert_eq!(of(&v6), ["2001:db8:0:1::1", "2001:db8:0:2::1"]);
        assert_eq!(of(&[("192.168.0.1", 2), ("192.168.0.2", 2), ("192.0.2.1", 3)]), ["192.0.2.1"]);
        assert_eq!(of(&[("fd00::1", 2), ("fd00:0:0:1::1", 2), ("local", 1), ("local", 2)]), ["local", "local"]);
        assert!(of(&[]).is_empty());
    }

    const PRIVATE: &str = "0.0.0.0 127.0.0.1 127.9.9.9 10.1.2.3 172.16.0.1 172.31.255.255 192.168.1.1 169.254.169.254 \
        100.64.0.1 100.127.255.255 :: ::1 fe80::1 febf::1 fc00::1 fd12::1 fec0::1 feff::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 \
        64:ff9b::10.0.0.1 64:ff9b::127.0.0.1 64:ff9b:1::8.8.8.8 2002:a00:1::1 2002:7f00:1::1 2002:c0a8:101::1 \
        2001:0:a00:1::1 2001:0:4136:e378:8000:63bf:f5ff:fffe ::10.0.0.1 ::ffff:0:192.168.1.1";
    const PUBLIC: &str = "1.1.1.1 172.15.0.1 172.32.0.1 100.63.0.1 100.128.0.1 192.169.0.1 2001:db8::1 2a00::1 ::ffff:8.8.8.8 \
        64:ff9b::8.8.8.8 2002:808:808::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 ::8.8.8.8 ff00::1 fe00::1";

    #[test]
    fn private_and_public_addresses_are_told_apart() {
        for private in PRIVATE.split_whitespace() {
            assert!(is_private(ip(private)), "{private}");
        }
        for public in PUBLIC.split_whitespace() {
            assert!(!is_private(ip(public)), "{public}");
        }
    }

    #[test]
    fn nobody_names_addresses_of_a_network_that_it_is_not_in() {
        for private in PRIVATE.split_whitespace() {
            assert!(!may_name_address(ip("8.8.8.8"), ip(private)), "{private}");
            assert!(!may_name_address(ip("2a00::1"), ip(private)), "{private}");
        }
        assert!(PUBLIC.split_whitespace().all(|public| may_name_address(ip("8.8.8.8"), ip(public))));
        assert!(
            may_name_address(ip("192.168.1.7"), ip("192.168.1.8")) && may_name_address(ip("fe80::1"), ip("fd00::1"))
        );
        assert!(may_name_address(ip("127.0.0.1"), ip("127.0.0.1")) && may_name_address(ip("::1"), ip("192.168.1.8")));
        for loopback in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "64:ff9b::127.0.0.1", "2002:7f00:1::1"] {
            assert!(
                !may_name_address(ip("192.168.1.7"), ip(loopback)),
                "{loopback}: only a program on this machine knows of it"
            );
        }
    }
}
