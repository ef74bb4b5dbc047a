//! The default gateways of this machine, as `/proc/net/route` and `/proc/net/ipv6_route` list them. On systems without these files
//! no gateway is known.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Route flags of the kernel: up, through a gateway, rejected.
const UP: u32 = 0x1;
const THROUGH_GATEWAY: u32 = 0x2;
const REJECT: u32 = 0x200;
/// The most lines read of a routing table.
const MAX_ROUTES: usize = 10_000;

/// A default gateway and the interface that leads to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway<A> {
    /// Its address.
    pub address: A,
    /// The name of the interface.
    pub interface: String,
}

/// A default route.
struct DefaultRoute<A> {
    /// `None` if the interface leads to everything without a gateway, as some VPNs do.
    gateway: Option<A>,
    interface: String,
    /// A longer prefix wins, then a smaller metric.
    prefix: u8,
    metric: u32,
}

/// The IPv4 gateway, of all interfaces or of the named one.
pub fn ipv4_gateway(interface: Option<&str>) -> Option<Gateway<Ipv4Addr>> {
    ipv4_in(&fs::read_to_string("/proc/net/route").ok()?, interface)
}

/// The IPv6 gateway, of all interfaces or of the named one.
pub fn ipv6_gateway(interface: Option<&str>) -> Option<Gateway<Ipv6Addr>> {
    ipv6_in(&fs::read_to_string("/proc/net/ipv6_route").ok()?, interface)
}

fn ipv4_in(table: &str, interface: Option<&str>) -> Option<Gateway<Ipv4Addr>> {
    best(table.lines().skip(1).take(MAX_ROUTES).filter_map(ipv4_route), interface)
}

fn ipv6_in(table: &str, interface: Option<&str>) -> Option<Gateway<Ipv6Addr>> {
    best(table.lines().take(MAX_ROUTES).filter_map(ipv6_route), interface)
}

/// The gateway of the route that the kernel prefers. If that route has no gateway, there is none: what another route leads to is
/// not on our way out.
fn best<A>(routes: impl Iterator<Item = DefaultRoute<A>>, interface: Option<&str>) -> Option<Gateway<A>> {
    let routes = routes.filter(|route| interface.is_none_or(|name| name == route.interface));
    let route = routes.min_by_key(|route| (u8::MAX - route.prefix, route.metric))?;
    Some(Gateway { address: route.gateway?, interface: route.interface })
}

/// A line of `/proc/net/route`. VPNs replace the default route by two halves, of which the first one counts.
fn ipv4_route(line: &str) -> Option<DefaultRoute<Ipv4Addr>> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    // Addresses are hexadecimal numbers in the order of the machine.
    let address = |at: usize| Some(u32::from_str_radix(fields.get(at)?, 16).ok()?.to_ne_bytes());
    let flags = u32::from_str_radix(fields.get(3)?, 16).ok()?;
    let prefix = match address(7)? {
        [0, 0, 0, 0] => 0,
        [128, 0, 0, 0] => 1,
        _ => return None,
    };
    if address(1)? != [0; 4] || flags & UP == 0 || flags & REJECT != 0 {
        return None;
    }
    let gateway = (flags & THROUGH_GATEWAY != 0).then_some(Ipv4Addr::from(address(2)?));
    let metric = fields.get(6)?.parse().ok()?;
    Some(DefaultRoute { gateway, interface: (*fields.first()?).to_owned(), prefix, metric })
}

/// A line of `/proc/net/ipv6_route`. The default route is `::/0`, or `2000::/3` of some VPNs.
fn ipv6_route(line: &str) -> Option<DefaultRoute<Ipv6Addr>> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let number = |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok();
    let address = |at: usize| u128::from_str_radix(fields.get(at)?, 16).ok().map(Ipv6Addr::from);
    let (prefix, flags) = (u8::try_from(number(1)?).ok()?, number(8)?);
    let is_default = (address(0)? == Ipv6Addr::UNSPECIFIED && prefix == 0)
        || (address(0)? == Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0) && prefix <= 3);
    if !is_default || flags & UP == 0 || flags & REJECT != 0 {
        return None;
    }
    let gateway = (flags & THROUGH_GATEWAY != 0).then_some(address(4)?);
    Some(DefaultRoute { gateway, interface: (*fields.get(9)?).to_owned(), prefix, metric: number(5)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n";

    fn hex(ip: &str) -> String {
        let octets = ip.parse::<Ipv4Addr>().expect("an address").octets();
        format!("{:08X}", u32::from_ne_bytes(octets))
    }

    fn route(interface: &str, to: &str, gateway: &str, flags: u32, metric: u32, mask: &str) -> String {
        let (to, gateway, mask) = (hex(to), hex(gateway), hex(mask));
        format!("{interface}\t{to}\t{gateway}\t{flags:04X}\t0\t0\t{metric}\t{mask}\t0\t0\t0\n")
    }

    fn gateway(address: &str, interface: &str) -> Gateway<Ipv4Addr> {
        Gateway { address: address.parse().expect("an address"), interface: interface.to_owned() }
    }

    #[test]
    fn the_preferred_default_route_has_the_gateway() {
        let lan = route("eth0", "192.168.1.0", "0.0.0.0", 1, 0, "255.255.255.0");
        let wired = route("eth0", "0.0.0.0", "192.168.1.1", 3, 100, "0.0.0.0");
        let wireless = route("wlan0", "0.0.0.0", "192.168.2.1", 3, 600, "0.0.0.0");
        let table = [HEAD, &lan, &wireless, &wired].concat();
        assert_eq!(ipv4_in(&table, None), Some(gateway("192.168.1.1", "eth0")));
        assert_eq!(ipv4_in(&table, Some("wlan0")), Some(gateway("192.168.2.1", "wlan0")));
        assert_eq!(ipv4_in(&table, Some("wg0")), None);
        let halves = route("tun0", "0.0.0.0", "10.8.0.1", 3, 0, "128.0.0.0");
        assert_eq!(ipv4_in(&(table.clone() + &halves), None), Some(gateway("10.8.0.1", "tun0")));
        let without_gateway = route("wg0", "0.0.0.0", "0.0.0.0", 1, 0, "0.0.0.0");
        assert_eq!(ipv4_in(&(table + &without_gateway), None), None, "the router is not on the way out");
        for other in [
            route("eth0", "0.0.0.0", "192.168.1.1", 2, 0, "0.0.0.0"),
            route("eth0", "0.0.0.0", "192.168.1.1", 0x203, 0, "0.0.0.0"),
        ] {
            assert_eq!(ipv4_in(&[HEAD, &other].concat(), None), None, "it is down, or rejects");
        }
    }

    #[test]
    fn ipv6_routes_are_read() {
        let none = "0".repeat(32);
        let near = "fe800000000000000000000000000001";
        let line = |to: &str, prefix: u32, via: &str, metric: u32, flags: u32, interface: &str| {
            format!("{to} {prefix:02x} {none} 00 {via} {metric:08x} 00000003 00000000 {flags:08x} {interface:>8}\n")
        };
        let table = line(&none, 0, near, 1024, 3, "eth0") + &line(&none, 0, &none, u32::MAX, 0x200, "lo");
        let found = Gateway { address: "fe80::1".parse().expect("an address"), interface: "eth0".to_owned() };
        assert_eq!(ipv6_in(&table, None), Some(found.clone()));
        let of_vpn = line(&format!("2{}", "0".repeat(31)), 3, &none, 50, 1, "wg0");
        assert_eq!(ipv6_in(&(table.clone() + &of_vpn), None), None);
        assert_eq!(ipv6_in(&(table + &of_vpn), Some("eth0")), Some(found));
    }

    #[test]
    fn odd_lines_are_ignored() {
        for text in ["", "\n\n", "x y z", "eth0 0 0 0 0 0 0", &format!("{HEAD}eth0\tzz\t00\t3\t0\t0\t0\t0\t0\t0\t0")] {
            assert_eq!(ipv4_in(text, None), None, "{text}");
            assert_eq!(ipv6_in(text, None), None, "{text}");
        }
    }
}
