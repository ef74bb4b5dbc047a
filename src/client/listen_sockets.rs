//! Binds the sockets that peers connect to, at the first port of a range that is free for both transports and for the DHT.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use socket2::{Domain, Protocol, Socket, Type};

use crate::net::bind::Bind;
use crate::types::{Transport, Transports};
use crate::udp::UdpSockets;
use crate::util::descriptors::is_shortage;

/// Connections that the kernel queues until we accept them.
const BACKLOG: i32 = 128;
/// How often the system may choose a port that then proves to be in use for UDP.
const MAX_CHOICES: usize = 8;

/// Sockets at one port. At least one of them is there.
pub(super) struct ListenSockets {
    pub port: u16,
    /// One for both address families, if the system has IPv6. It neither blocks nor is inherited.
    pub tcp: Option<Socket>,
    pub udp: Option<UdpSockets>,
}

impl ListenSockets {
    /// Takes the first port of `ports` that is free for all `transports`, and with `uses_dht` also for UDP, where the DHT will have
    /// sockets of its own if there is no uTP. 0 lets the system choose. If there is no such port, one that is free for TCP will do,
    /// unless uTP is all that is wanted.
    ///
    /// # Errors
    /// If no port is free, or the interface does not exist.
    pub fn bind(
        ports: &RangeInclusive<u16>,
        to: &Bind,
        transports: Transports,
        uses_dht: bool,
    ) -> io::Result<ListenSockets> {
        let has_utp = transports.includes(Transport::Utp);
        let mut failure = io::Error::from(io::ErrorKind::AddrInUse);
        let mut without_udp = None;
        let choices = if *ports == (0..=0) { MAX_CHOICES } else { 1 };
        for port in std::iter::repeat_n(ports.clone(), choices).flatten() {
            let mut sockets = ListenSockets { port, tcp: None, udp: None };
            let result = sockets.add(to, transports.includes(Transport::Tcp), has_utp || uses_dht);
            match result {
                Ok(()) => {
                    sockets.udp = sockets.udp.filter(|_| has_utp);
                    return Ok(sockets);
                }
                Err(error) => failure = error,
            }
            if sockets.tcp.is_some() && without_udp.is_none() {
                log::debug!("no UDP at port {}: {failure}", sockets.port);
                without_udp = Some(sockets);
            }
        }
        without_udp.inspect(|_| log::info!("no UDP: {failure}")).ok_or(failure)
    }

    fn add(&mut self, to: &Bind, has_tcp: bool, has_udp: bool) -> io::Result<()> {
        if has_tcp {
            let socket = listen(self.port, to)?;
            self.port = socket.local_addr()?.as_socket().map_or(0, |addr| addr.port());
            self.tcp = Some(socket);
        }
        if has_udp {
            let sockets = UdpSockets::bind(self.port, to)?;
            self.port = sockets.port();
            self.udp = Some(sockets);
        }
        Ok(())
    }
}

fn listen(port: u16, to: &Bind) -> io::Result<Socket> {
    if let Bind::Address(ip) = to {
        return open(SocketAddr::new(*ip, port), to);
    }
    open((Ipv6Addr::UNSPECIFIED, port).into(), to).or_else(|error| {
        if error.kind() == io::ErrorKind::AddrInUse || is_shortage(&error) {
            return Err(error);
        }
        open((Ipv4Addr::UNSPECIFIED, port).into(), to)
    })
}

fn open(addr: SocketAddr, to: &Bind) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    to.bind_to_interface(&socket)?;
    socket.set_reuse_address(true)?; // so that a port we used a moment ago is free
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    fn here() -> Bind {
        Bind::Address(Ipv4Addr::new(127, 0, 9, 7).into())
    }

    fn bind(ports: RangeInclusive<u16>, transports: Transports) -> io::Result<ListenSockets> {
        ListenSockets::bind(&ports, &here(), transports, false)
    }

    /// A UDP socket at a port with a neighbour, both free for TCP.
    fn occupied() -> (UdpSocket, u16) {
        let found = std::iter::repeat_with(|| UdpSocket::bind("127.0.9.7:0").expect("a port"));
        let ports = found.map(|socket| (socket.local_addr().expect("an address").port(), socket));
        let (port, socket) = ports.take(50).find(|(port, _)| *port < u16::MAX).expect("a port below the last");
        (socket, port)
    }

    #[test]
    fn a_port_that_is_in_use_for_udp_is_passed_over() {
        let (_socket, port) = occupied();
        for transports in [Transports::Both, Transports::Utp] {
            let sockets = bind(port..=port + 1, transports).expect("a port");
            assert_eq!((sockets.port, sockets.udp.is_some()), (port + 1, true), "{transports:?}");
        }
    }

    #[test]
    fn the_dht_needs_a_port_that_is_free_for_udp() {
        let (_socket, port) = occupied();
        let bind =
            |uses_dht| ListenSockets::bind(&(port..=port + 1), &here(), Transports::Tcp, uses_dht).expect("a port");
        let sockets = bind(true);
        assert_eq!((sockets.port, sockets.udp.is_none()), (port + 1, true), "the DHT binds its own");
        UdpSocket::bind(("127.0.9.7", sockets.port)).expect("the port is free for it");
        assert_eq!(bind(false).port, port);
    }

    #[test]
    fn without_a_port_for_both_tcp_will_do() {
        let (_socket, port) = occupied();
        let sockets = bind(port..=port, Transports::Both).expect("a port");
        assert_eq!((sockets.port, sockets.tcp.is_some(), sockets.udp.is_none()), (port, true, true));
        drop(sockets);
        assert_eq!(bind(port..=port, Transports::Utp).err().map(|error| error.kind()), Some(io::ErrorKind::AddrInUse));
    }

    #[test]
    fn two_clients_without_tcp_have_ports_of_their_own() {
        let first = bind(0..=0, Transports::Utp).expect("a port");
        assert!(first.tcp.is_none());
        assert!(bind(first.port..=first.port, Transports::Utp).is_err());
        assert_ne!(bind(0..=0, Transports::Utp).expect("a port").port, first.port);
    }
}
