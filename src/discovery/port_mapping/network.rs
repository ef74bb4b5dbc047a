//! The way to the router: its address, and ours as the router sees it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};

use crate::discovery::port_mapping::natpmp::ROUTER_PORT;
use crate::discovery::port_mapping::status::MappingFailure;
use crate::net::bind::Bind;
use crate::net::gateway::{Gateway, ipv4_gateway, ipv6_gateway};
use crate::net::interfaces::interfaces;
use crate::net::networks::is_private;

/// Any public IPv6 address. Nothing is sent to it: it shows which of our addresses the system would use.
const PUBLIC_V6: SocketAddr =
    SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), ROUTER_PORT, 0, 0));

/// The gateway of one address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouterPath {
    gateway: IpAddr,
    /// The index of the interface, for link-local addresses.
    scope: u32,
    /// Our address.
    pub client: IpAddr,
}

impl RouterPath {
    /// The gateway's address.
    pub fn gateway(&self) -> IpAddr {
        self.gateway
    }

    /// A port of the gateway.
    pub fn router(&self, port: u16) -> SocketAddr {
        match self.gateway {
            IpAddr::V4(ip) => SocketAddr::new(ip.into(), port),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, self.scope).into(),
        }
    }

    /// The index of the interface that leads to the gateway; 0 if it is unknown.
    pub fn scope(&self) -> u32 {
        self.scope
    }
}

/// The gateways of both families.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterPaths {
    /// `Err` says why the router need not or cannot be asked.
    pub ipv4: Result<RouterPath, MappingFailure>,
    /// `None` if we have no public IPv6 address.
    pub ipv6: Option<RouterPath>,
}

/// Looks the gateways up. `is_forced`: also where our address is public, so that a router in between only filters.
pub fn look_up(bind: &Bind, is_forced: bool) -> RouterPaths {
    let ipv4 = ipv4_path(bind).ok_or(MappingFailure::NoRouter);
    let ipv4 =
        ipv4.and_then(
            |path| {
                if is_forced || is_private(path.client) { Ok(path) } else { Err(MappingFailure::PublicAddress) }
            },
        );
    // A machine with a public IPv4 address is no one's at home: do not bother its gateway about IPv6.
    let ipv6 = if is_forced || ipv4.is_ok() { ipv6_path(bind) } else { None };
    RouterPaths { ipv4, ipv6 }
}

fn ipv4_path(bind: &Bind) -> Option<RouterPath> {
    let interface = interface_name(bind).ok()?;
    let listed = ipv4_gateway(interface.as_deref());
    let (gateway, name) = match (listed, interface) {
        (Some(Gateway { address, interface }), _) => (address, interface),
        // The user has named an interface without a gateway: a tunnel of a VPN, whose server has the network's first address.
        (None, Some(name)) => (first_of_network(&name)?, name),
        (None, None) => return None,
    };
    let client = bind.address_towards(SocketAddr::new(gateway.into(), ROUTER_PORT)).ok()?;
    // The gateway of a machine that is a router itself would be this machine.
    (client != IpAddr::V4(gateway)).then(|| RouterPath { gateway: gateway.into(), scope: index(&name), client })
}

fn ipv6_path(bind: &Bind) -> Option<RouterPath> {
    let Gateway { address, interface } = ipv6_gateway(interface_name(bind).ok()?.as_deref())?;
    let client = bind.address_towards(PUBLIC_V6).ok()?;
    (!is_private(client)).then(|| RouterPath { gateway: address.into(), scope: index(&interface), client })
}

/// The name of the interface to which everything is bound, if to any.
///
/// # Errors
/// If no interface has the address.
fn interface_name(bind: &Bind) -> io::Result<Option<String>> {
    match bind {
        Bind::Any => Ok(None),
        Bind::Interface(name) => Ok(Some(name.clone())),
        Bind::Address(ip) => {
            let found = interfaces()?.into_iter().find(|interface| interface.addresses.contains(ip));
            let index = found.ok_or(io::ErrorKind::AddrNotAvailable)?.index;
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            Ok(Some(rustix::net::netdevice::index_to_name(&socket, index)?))
        }
    }
}

fn index(name: &str) -> u32 {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
    socket.ok().and_then(|socket| rustix::net::netdevice::name_to_index(&socket, name).ok()).unwrap_or(0)
}

/// The first address of the /24 around our private address on an interface.
fn first_of_network(name: &str) -> Option<Ipv4Addr> {
    let index = index(name);
    let interface = interfaces().ok()?.into_iter().find(|interface| index != 0 && interface.index == index)?;
    let own = interface.addresses.into_iter().find_map(|ip| match ip {
        IpAddr::V4(ip) if is_private(ip.into()) && !ip.is_loopback() => Some(ip),
        _ => None,
    })?;
    let [a, b, c, _] = own.octets();
    Some(Ipv4Addr::new(a, b, c, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_addresses_have_no_router() {
        let paths = look_up(&Bind::Address(Ipv4Addr::LOCALHOST.into()), true);
        assert_eq!(paths, RouterPaths { ipv4: Err(MappingFailure::NoRouter), ipv6: None });
        assert!(interface_name(&Bind::Any).is_ok_and(|name| name.is_none()));
        assert!(interface_name(&Bind::Address([203, 0, 113, 77].into())).is_err(), "no such address");
    }
}
