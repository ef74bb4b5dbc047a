//! The sockets of local discovery: a group of each family, and the interfaces on which it is joined.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use socket2::{Domain, InterfaceIndexOrAddress, SockAddr, SockRef, Socket, Type};

use crate::net::bind::Bind;
use crate::net::interfaces::Interface;

/// Where IPv4 announces go.
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(239, 192, 152, 143);
/// Where IPv6 announces go.
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0xefc0, 0x988f);
/// The port of both.
const PORT: u16 = 6771;
/// Interfaces in use at most; Linux lets a socket join a group on twenty.
const MAX_INTERFACES: usize = 16;

/// An interface on which a group is joined, and the address that announces there come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JoinedInterface {
    /// The interface's number; 0 lets the system choose.
    pub index: u32,
    source: IpAddr,
}

/// The socket of one family in its group.
#[derive(Debug)]
pub(crate) struct Group {
    socket: UdpSocket,
    /// Sends in the place of the other, where announces must come from one address.
    sender: Option<UdpSocket>,
    addr: SocketAddr,
    /// The interface that all is tied to; 0 for none.
    only: u32,
    places: Vec<JoinedInterface>,
}

/// The groups that this machine can join, on no interface yet.
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
    /// A socket for the group, beside those of other programs.
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
        // Bound to the group itself, it hears what was sent to the group and nothing that a stranger from far away sends to us.
        socket.bind(&SockAddr::from(addr))?;
        socket.set_nonblocking(true)?;
        let only = bind.index(&socket)?;
        // What is sent from the group's own socket comes from an address of the system's choice.
        let chooses = addr.is_ipv6() && matches!(bind, Bind::Address(_));
        let sender = if chooses { Some(bind.udp(SocketAddr::new(source, 0))?) } else { None };
        let group = Group { socket: socket.into(), sender, addr, only, places: Vec::new() };
        // Other clients on this machine are neighbours, too.
        match addr {
            SocketAddr::V4(_) => SockRef::from(group.sender()).set_multicast_loop_v4(true)?,
            SocketAddr::V6(_) => SockRef::from(group.sender()).set_multicast_loop_v6(true)?,
        }
        Ok(group)
    }

    /// What hears.
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

    /// Where it is joined.
    pub fn places(&self) -> &[JoinedInterface] {
        &self.places
    }

    /// Joins the group on interfaces that are new and leaves it where there is none any more; the new ones. Where the system does not
    /// tell of its interfaces, it chooses one.
    pub fn use_interfaces(&mut self, bind: &Bind, all: Option<&[Interface]>) -> Vec<JoinedInterface> {
        let wanted = match all {
            Some(all) => places(self.addr.is_ipv4(), bind, self.only, all),
            None => bind
                .ip(self.addr.is_ipv4())
                .map(|source| JoinedInterface { index: self.only, source })
                .into_iter()
                .collect(),
        };
        let before = std::mem::take(&mut self.places);
        for place in before.iter().filter(|place| wanted.iter().all(|new| new.index != place.index)) {
            // Fails where the interface is gone.
            let _ = self.leave(place.index);
        }
        for place in wanted {
            match self.join(place.index) {
                Ok(()) => self.places.push(place),
                Err(error) => log::debug!("local discovery, {} on interface {}: {error}", self.addr, place.index),
            }
        }
        self.places.iter().filter(|place| !before.contains(place)).cloned().collect()
    }

    fn join(&self, index: u32) -> io::Result<()> {
        let socket = SockRef::from(&self.socket);
        let joined = match self.addr {
            SocketAddr::V4(_) => socket.join_multicast_v4_n(&GROUP_V4, &InterfaceIndexOrAddress::Index(index)),
            SocketAddr::V6(_) => socket.join_multicast_v6(&GROUP_V6, index),
        };
        // It may have been joined there before, and have come up again.
        joined.or_else(|error| if error.kind() == io::ErrorKind::AddrInUse { Ok(()) } else { Err(error) })
    }

    fn leave(&self, index: u32) -> io::Result<()> {
        let socket = SockRef::from(&self.socket);
        match self.addr {
            SocketAddr::V4(_) => socket.leave_multicast_v4_n(&GROUP_V4, &InterfaceIndexOrAddress::Index(index)),
            SocketAddr::V6(_) => socket.leave_multicast_v6(&GROUP_V6, index),
        }
    }

    /// Sends a datagram to the group by way of one interface.
    pub fn send(&self, place: &JoinedInterface, datagram: &[u8]) -> io::Result<()> {
        let socket = SockRef::from(self.sender());
        match place.source {
            IpAddr::V4(source) => socket.set_multicast_if_v4(&source)?,
            IpAddr::V6(_) => socket.set_multicast_if_v6(place.index)?,
        }
        self.sender().send_to(datagram, self.addr).map(drop)
    }
}

/// Where a family's group is to be joined.
fn places(v4: bool, bind: &Bind, only: u32, all: &[Interface]) -> Vec<JoinedInterface> {
    let fits = |ip: &&IpAddr| ip.is_ipv4() == v4 && !matches!(bind, Bind::Address(own) if own != *ip);
    let place = |interface: &Interface| {
        let source = *interface.addresses.iter().find(fits)?;
        Some(JoinedInterface { index: interface.index, source })
    };
    let used = all.iter().filter(|interface| interface.multicasts && (only == 0 || interface.index == only));
    used.filter_map(place).take(MAX_INTERFACES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(index: u32, multicasts: bool, addresses: &[&str]) -> Interface {
        let addresses = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        Interface { index, multicasts, is_loopback: false, addresses }
    }

    #[test]
    fn all_that_take_multicast_are_used_unless_one_is_named() {
        let all = [
            interface(1, false, &["127.0.0.1", "::1"]),
            interface(2, true, &["192.0.2.1", "192.0.2.2", "fe80::1"]),
            interface(3, true, &["fe80::2"]),
            interface(4, true, &[]),
        ];
        let used = |v4, bind: &Bind, only| {
            let places = places(v4, bind, only, &all);
            places.iter().map(|place| format!("{} {}", place.index, place.source)).collect::<Vec<_>>()
        };
        assert_eq!(used(true, &Bind::Any, 0), ["2 192.0.2.1"]);
        assert_eq!(used(false, &Bind::Any, 0), ["2 fe80::1", "3 fe80::2"]);
        assert_eq!(used(false, &Bind::Interface("x".to_owned()), 3), ["3 fe80::2"]);
        let address = Bind::Address([192, 0, 2, 2].into());
        assert_eq!(used(true, &address, 2), ["2 192.0.2.2"]);
        assert!(used(false, &address, 2).is_empty());
        let many: Vec<_> = (1..100).map(|n| interface(n, true, &["192.0.2.1"])).collect();
        assert_eq!(places(true, &Bind::Any, 0, &many).len(), MAX_INTERFACES);
    }
}
