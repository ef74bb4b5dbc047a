//! Compact addresses, as trackers, PEX and the DHT encode them: the IP address in network order, then the port (BEP 7, 11, 23,
//! 32).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The length of a compact IPv4 address with its port, in bytes.
pub const V4_LENGTH: usize = 6;
/// The length of a compact IPv6 address with its port, in bytes.
pub const V6_LENGTH: usize = 18;

/// Parses an address in network order, 4 or 16 bytes. An IPv4-mapped IPv6 address becomes IPv4.
pub fn parse_ip(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(v4).into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|v6| IpAddr::from(Ipv6Addr::from(v6)).to_canonical())
}

/// Parses a list of compact IPv4 addresses; an incomplete entry at the end is ignored.
pub fn parse_v4(bytes: &[u8]) -> impl Iterator<Item = SocketAddr> + '_ {
    entries(bytes, V4_LENGTH)
}

/// Parses a list of compact IPv6 addresses; an incomplete entry at the end is ignored.
pub fn parse_v6(bytes: &[u8]) -> impl Iterator<Item = SocketAddr> + '_ {
    entries(bytes, V6_LENGTH)
}

fn entries(bytes: &[u8], width: usize) -> impl Iterator<Item = SocketAddr> + '_ {
    bytes.chunks_exact(width).filter_map(move |entry| {
        let (address, port) = entry.split_at_checked(width - 2)?;
        Some(SocketAddr::new(parse_ip(address)?, u16::from_be_bytes(port.try_into().ok()?)))
    })
}

/// Appends one address in the form of its family.
pub fn write_addr(out: &mut Vec<u8>, addr: SocketAddr) {
    match addr.ip() {
        IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
    }
    out.extend_from_slice(&addr.port().to_be_bytes());
}

/// Whether a peer can have this address: a port other than 0, and neither unspecified, multicast nor broadcast.
pub fn is_usable(addr: SocketAddr) -> bool {
    let never = match addr.ip() {
        IpAddr::V4(ip) => ip.octets()[0] == 0 || ip.is_broadcast() || ip.is_multicast(),
        IpAddr::V6(ip) => ip.is_unspecified() || ip.is_multicast(),
    };
    addr.port() != 0 && !never
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_come_back_as_written_and_a_torn_end_is_left_out() {
        for list in [["1.2.3.4:5", "255.0.0.1:65535"], ["[2001:db8::1]:6881", "[fe80::1]:1"]] {
            let addrs = list.map(|a| a.parse::<SocketAddr>().unwrap());
            let mut bytes = Vec::new();
            for addr in addrs {
                write_addr(&mut bytes, addr);
            }
            bytes.push(7);
            let read: Vec<_> = if addrs[0].is_ipv4() { parse_v4(&bytes).collect() } else { parse_v6(&bytes).collect() };
            assert_eq!(read, addrs);
        }
        assert_eq!(parse_ip(&[1, 2, 3]), None);
        assert_eq!(parse_ip(&"::ffff:1.2.3.4".parse::<Ipv6Addr>().unwrap().octets()), "1.2.3.4".parse().ok());
    }

    #[test]
    fn impossible_addresses_are_told_apart() {
        for bad in ["1.2.3.4:0", "0.0.0.0:1", "224.0.0.1:1", "255.255.255.255:1", "[::]:1", "[ff02::1]:1"] {
            assert!(!is_usable(bad.parse().unwrap()), "{bad}");
        }
        assert!(is_usable("127.0.0.1:1".parse().unwrap()) && is_usable("[::1]:1".parse().unwrap()));
    }
}
