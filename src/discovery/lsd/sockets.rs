//! The sockets of local discovery: one multicast group per address family, and the interfaces on which it is joined.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use socket2::{Domain, InterfaceIndexOrAddress, SockAddr, SockRef, Socket, Type};

use crate::net::bind::Bind;
use crate::net::interfaces::Interface;

/// The multicast group for IPv4 (BEP 14).
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(239, 192, 152, 143);
/// The multicast group for IPv6 (BEP 14).
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0xefc0, 0x988f);
/// The port of both groups.
const PORT: u16 = 6771;
/// The most interfaces used; Linux lets a socket join a group on at most twenty.
const MAX_INTERFACES: usize = 16;

/// An interface on which a group is joined, and the source address of announces there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JoinedInterface {
    /// The interface's index; 0 lets the system choose.
    pub index: u32,
    pub source: IpAddr,
}

/// The sockets of one address family.
#[derive(Debug)]
pub(crate) struct Group {
    socket: UdpSocket,
    /// Sends instead of `socket` if announces must have a given source address.
    sender: Option<UdpSocket>,
    addr: SocketAddr,
    /// The interface to which the user restricted btsync; 0 for none.
    only_interface: u32,
    joined: Vec<JoinedInterface>,
}

/// The groups of the available address families, not yet joined on any interface.
pub(crate) fn open(bind: &Bind) -> io::Result<Vec<Group>> {
    let (mut groups, mut last) = (Vec::new(), None);
    for addr in [SocketAddr::from((GROUP_V4, PORT)), SocketAddr::from((GROUP_V6, PORT))] {
        match Group::open(addr, bind) {
            Ok(group) => groups.push(group),
            Err(error) => {
                log::debug!("local discovery cannot use {addr}: {error}");
                last = Some(error);
            }
        }
    }
    last.filter(|_| groups.is_empty()).map_or(Ok(groups), Err)
}

impl Group {
    /// Opens a socket for the group, which may be shared with other programs.
    fn open(addr: SocketAddr, bind: &Bind) -> io::Result<Group> {
        let source = bind.source(addr)?;
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, None)?;
        socket.set_reuse_address(true)?;
        #[cfg(unix)]
        socket.set_reuse_port(true)?;
        bind.bind_to_interface(&socket)?;
        if addr.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // Bound to the group address, the socket receives only multicast, not datagrams that a distant host sends to our own
        // address.
        socket.bind(&SockAddr::from(addr))?;
        socket.set_nonblocking(true)?;
        let only_interface = bind.index(&socket)?;
        // For a socket bound to the group address, the system chooses the source address.
        let chooses = addr.is_ipv6() && matches!(bind, Bind::Address(_));
        let sender = if chooses { Some(bind.udp(SocketAddr::new(source, 0))?) } else { None };
        let group = Group { socket: socket.into(), sender, addr, only_interface, joined: Vec::new() };
        // Also reach other clients on this machine.
        match addr {
            SocketAddr::V4(_) => SockRef::from(group.sender()).set_multicast_loop_v4(true)?,
            SocketAddr::V6(_) => SockRef::from(group.sender()).set_multicast_loop_v6(true)?,
        }
        Ok(group)
    }

    /// The receiving socket.
    pub fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    fn sender(&self) -> &UdpSocket {
        self.sender.as_ref().unwrap_or(&self.socket)
    }

    /// The group's address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The interfaces on which the group is joined.
    pub fn joined(&self) -> &[JoinedInterface] {
        &self.joined
    }

    /// Joins the group on new interfaces and leaves it on those that are gone; returns the new ones. If `all` is `None`, the
    /// system chooses an interface.
    pub fn use_interfaces(&mut self, bind: &Bind, all: Option<&[Interface]>) -> Vec<JoinedInterface> {
        let wanted = match all {
            Some(all) => interfaces_to_join(self.addr.is_ipv4(), bind, self.only_interface, all),
            None => bind
                .ip(self.addr.is_ipv4())
                .map(|source| JoinedInterface { index: self.only_interface, source })
                .into_iter()
                .collect(),
        };
        let before = std::mem::take(&mut self.joined);
        for place in before.iter().filter(|place| wanted.iter().all(|new| new.index != place.index)) {
            // Fails if the interface is gone.
            let _ = self.leave(place.index);
        }
        for place in wanted {
            match self.join(place.index) {
                Ok(()) => self.joined.push(place),
                Err(error) => log::debug!("local discovery, {} on interface {}: {error}", self.addr, place.index),
            }
        }
        self.joined.iter().filter(|place| !before.contains(place)).cloned().collect()
    }

    fn join(&self, index: u32) -> io::Result<()> {
        let socket = SockRef::from(&self.socket);
        let joined = match self.addr {
            SocketAddr::V4(_) => socket.join_multicast_v4_n(&GROUP_V4, &InterfaceIndexOrAddress::Index(index)),
            SocketAddr::V6(_) => socket.join_multicast_v6(&GROUP_V6, index),
        };
        // The interface may have gone down and come up again, with the group still joined.
        joined.or_else(|error| if error.kind() == io::ErrorKind::AddrInUse { Ok(()) } else { Err(error) })
    }

    fn leave(&self, index: u32) -> io::Result<()> {
        let socket = SockRef::from(&self.socket);
        match self.addr {
            SocketAddr::V4(_) => socket.leave_multicast_v4_n(&GROUP_V4, &InterfaceIndexOrAddress::Index(index)),
            SocketAddr::V6(_) => socket.leave_multicast_v6(&GROUP_V6, index),
        }
    }

    /// Sends a datagram to the group on one interface.
    pub fn send(&self, place: &JoinedInterface, datagram: &[u8]) -> io::Result<()> {
        let socket = SockRef::from(self.sender());
        match place.source {
            IpAddr::V4(source) => socket.set_multicast_if_v4(&source)?,
            IpAddr::V6(_) => socket.set_multicast_if_v6(place.index)?,
        }
        self.sender().send_to(datagram, self.addr).map(drop)
    }
}

/// The interfaces on which to join a family's group.
fn interfaces_to_join(is_v4: bool, bind: &Bind, only_interface: u32, all: &[Interface]) -> Vec<JoinedInterface> {
    let fits = |ip: &&IpAddr| ip.is_ipv4() == is_v4 && !matches!(bind, Bind::Address(own) if own != *ip);
    let place = |interface: &Interface| {
        let source = *interface.addresses.iter().find(fits)?;
        Some(JoinedInterface { index: interface.index, source })
    };
    let used = all
        .iter()
        .filter(|interface| interface.supports_multicast && (only_interface == 0 || interface.index == only_interface));
    used.filter_map(place).take(MAX_INTERFACES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(index: u32, supports_multicast: bool, addresses: &[&str]) -> Interface {
        let addresses = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        Interface { index, supports_multicast, is_loopback: false, addresses }
    }

    #[test]
    fn all_that_take_multicast_are_used_unless_one_is_named() {
        let all = [
            interface(1, false, &["127.0.0.1", "::1"]),
            interface(2, true, &["192.0.2.1", "192.0.2.2", "fe80::1"]),
            interface(3, true, &["fe80::2"]),
            interface(4, true, &[]),
        ];
        let used = |v4, bind: &Bind, only_interface| {
            let joined = interfaces_to_join(v4, bind, only_interface, &all);
            joined.iter().map(|place| format!("{} {}", place.index, place.source)).collect::<Vec<_>>()
        };
        assert_eq!(used(true, &Bind::Any, 0), ["2 192.0.2.1"]);
        assert_eq!(used(false, &Bind::Any, 0), ["2 fe80::1", "3 fe80::2"]);
        assert_eq!(used(false, &Bind::Interface("x".to_owned()), 3), ["3 fe80::2"]);
        let address = Bind::Address([192, 0, 2, 2].into());
        assert_eq!(used(true, &address, 2), ["2 192.0.2.2"]);
        assert!(used(false, &address, 2).is_empty());
        let many: Vec<_> = (1..100).map(|n| interface(n, true, &["192.0.2.1"])).collect();
        assert_eq!(interfaces_to_join(true, &Bind::Any, 0, &many).len(), MAX_INTERFACES);
    }
}
