//! Binds all sockets to an interface or address (`--interface`). Fails closed: if the interface is gone, or has no address of a
//! family, no packet of that family leaves the machine.
//!
//! A socket that is only bound to an address sends through whatever interface the routes select, and over IPv6 continues to do so
//! when the address is gone. So sockets are also bound to the interface that has the address.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::str::FromStr;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::types::Dscp;

use crate::net::interfaces::interfaces;

/// The maximum length of an interface's name in bytes (`IFNAMSIZ` without the final zero).
const MAX_NAME: usize = 15;

/// What sockets are bound to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Bind {
    /// Nothing: the system chooses.
    #[default]
    Any,
    /// This address, on the interface that has it; the other family is not used at all.
    Address(IpAddr),
    /// This network interface, by name.
    Interface(String),
}

/// The text is neither an address nor a possible interface name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an address of this machine or the name of an interface, such as 192.0.2.7 or wg0")]
pub struct BindError;

impl FromStr for Bind {
    type Err = BindError;

    fn from_str(text: &str) -> Result<Bind, BindError> {
        if let Ok(ip) = text.parse() {
            return Ok(Bind::Address(ip));
        }
        let fits = |c: char| !c.is_whitespace() && !c.is_control() && c != '/' && c != ':';
        let named = !text.is_empty() && text.len() <= MAX_NAME && text.chars().all(fits);
        if named { Ok(Bind::Interface(text.to_owned())) } else { Err(BindError) }
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bind::Any => f.write_str("any interface"),
            Bind::Address(ip) => ip.fmt(f),
            Bind::Interface(name) => f.write_str(name),
        }
    }
}

impl Bind {
    /// The address to bind a socket of this family to; `None` if the family must not be used.
    pub fn ip(&self, is_v4: bool) -> Option<IpAddr> {
        match self {
            Bind::Address(ip) => (ip.is_ipv4() == is_v4).then_some(*ip),
            _ if is_v4 => Some(Ipv4Addr::UNSPECIFIED.into()),
            _ => Some(Ipv6Addr::UNSPECIFIED.into()),
        }
    }

    /// Binds a new socket to the named interface, or to the one that has the address now.
    ///
    /// # Errors
    /// If there is no such interface or address, or the system does not permit it.
    pub(crate) fn bind_to_interface(&self, socket: &Socket) -> io::Result<()> {
        match self {
            Bind::Any => Ok(()),
            Bind::Interface(name) => socket.bind_device(Some(name.as_bytes())),
            Bind::Address(ip) => match interface_with(*ip)? {
                0 => Ok(()),
                index => {
                    let name = rustix::net::netdevice::index_to_name(socket, index)?;
                    socket.bind_device(Some(name.as_bytes()))
                }
            },
        }
    }

    /// The index of the interface for multicast groups that `socket` joins; 0 for any interface.
    ///
    /// # Errors
    /// If there is no such interface or address.
    pub(crate) fn index(&self, socket: &Socket) -> io::Result<u32> {
        match self {
            Bind::Any => Ok(0),
            Bind::Interface(name) => Ok(rustix::net::netdevice::name_to_index(socket, name)?),
            Bind::Address(ip) => interface_with(*ip),
        }
    }

    /// An unconnected TCP socket for a connection to `addr`.
    ///
    /// # Errors
    /// If no socket can be opened, or bound as required.
    pub(crate) fn outgoing_socket(&self, addr: SocketAddr) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        self.bind_to_interface(&socket)?;
        if let Bind::Address(_) = self {
            socket.bind(&SocketAddr::new(self.source(addr)?, 0).into())?;
        }
        Ok(socket)
    }

    /// This machine's addresses at which a listening socket with this binding can be reached, as far as they are known.
    pub fn own_addresses(&self) -> Vec<IpAddr> {
        match self {
            Bind::Address(ip) => vec![*ip],
            // Other interfaces' addresses may belong to another program's socket; those of this interface are not looked up.
            Bind::Interface(_) => Vec::new(),
            Bind::Any => {
                interfaces().unwrap_or_default().into_iter().flat_map(|interface| interface.addresses).collect()
            }
        }
    }

    /// A TCP connection to `addr`, established within `timeout`.
    ///
    /// # Errors
    /// Those of `outgoing_socket` and of connecting.
    pub fn connect(&self, addr: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        let socket = self.outgoing_socket(addr)?;
        socket.connect_timeout(&addr.into(), timeout)?;
        Ok(socket.into())
    }

    /// A UDP socket at `addr`, for that address's family only.
    ///
    /// # Errors
    /// If the port is in use, or no socket can be bound as required.
    pub fn udp(&self, addr: SocketAddr) -> io::Result<UdpSocket> {
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        if addr.is_ipv6() {
            // IPv4 may have its own socket on the same port.
            socket.set_only_v6(true)?;
        }
        self.bind_to_interface(&socket)?;
        socket.bind(&addr.into())?;
        Ok(socket.into())
    }

    /// The address to bind a socket to for connections to `addr`.
    ///
    /// # Errors
    /// If its family must not be used.
    pub fn source(&self, addr: SocketAddr) -> io::Result<IpAddr> {
        let family = || io::Error::new(io::ErrorKind::AddrNotAvailable, format!("{self} cannot reach {}", addr.ip()));
        self.ip(addr.is_ipv4()).ok_or_else(family)
    }

    /// This machine's address for packets to `addr`, by the routes of the system. Sends nothing.
    ///
    /// # Errors
    /// If there is no route, or no socket can be bound as required.
    pub fn address_towards(&self, addr: SocketAddr) -> io::Result<IpAddr> {
        let socket = self.udp(SocketAddr::new(self.source(addr)?, 0))?;
        socket.connect(addr)?;
        Ok(socket.local_addr()?.ip().to_canonical())
    }
}

/// The index of the interface that has one of our addresses; 0 for loopback addresses, which belong to the whole machine or which
/// the kernel does not let out through another interface (127.0.0.0/8).
fn interface_with(ip: IpAddr) -> io::Result<u32> {
    if ip.is_loopback() {
        return Ok(0);
    }
    let found = interfaces()?.into_iter().find(|interface| interface.addresses.contains(&ip));
    let none = || io::Error::new(io::ErrorKind::AddrNotAvailable, format!("no interface has the address {ip}"));
    let interface = found.ok_or_else(none)?;
    Ok(if interface.is_loopback { 0 } else { interface.index })
}

/// Sets a DSCP class on a connection's packets, for both families because an IPv6 socket may also carry IPv4.
pub fn set_dscp(stream: &TcpStream, dscp: Dscp) {
    let socket = SockRef::from(stream);
    // One of the two fails if the socket lacks that family.
    let _ = socket.set_tos_v4(dscp.byte());
    let _ = socket.set_tclass_v6(dscp.byte());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_of_both_families_are_marked() {
        let to = |ip: &str| {
            let listener = std::net::TcpListener::bind((ip, 0)).expect("a port");
            let stream = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
            set_dscp(&stream, Dscp::LOWER_EFFORT);
            stream
        };
        assert_eq!(SockRef::from(&to("127.0.0.1")).tos_v4().expect("IPv4"), 4);
        assert_eq!(SockRef::from(&to("::1")).tclass_v6().expect("IPv6"), 4);
    }

    #[test]
    fn addresses_and_names_are_told_apart() {
        assert_eq!("10.0.0.1".parse(), Ok(Bind::Address([10, 0, 0, 1].into())));
        assert_eq!("::1".parse(), Ok(Bind::Address(Ipv6Addr::LOCALHOST.into())));
        assert_eq!("wg0".parse(), Ok(Bind::Interface("wg0".to_owned())));
        for bad in ["", "a name", "sixteen-letters-", "eth/0", "eth0:1"] {
            assert_eq!(bad.parse::<Bind>(), Err(BindError), "{bad}");
        }
    }

    #[test]
    fn a_missing_interface_or_address_is_an_error_and_no_other_is_used() {
        let to = SocketAddr::from(([127, 0, 0, 1], 9));
        assert!(Bind::Interface("no-such-one".to_owned()).outgoing_socket(to).is_err());
        assert!(Bind::Address([192, 0, 2, 77].into()).outgoing_socket(to).is_err(), "not an address of this machine");
        let six = Bind::Address(Ipv6Addr::LOCALHOST.into());
        assert!(six.outgoing_socket(to).is_err() && six.ip(true).is_none());
        assert!(Bind::Any.outgoing_socket(to).is_ok());
        assert!(six.address_towards(to).is_err());
        assert_eq!(Bind::Any.address_towards(to).ok(), Some(to.ip()));
    }
}
