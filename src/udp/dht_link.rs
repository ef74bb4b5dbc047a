//! How a UDP thread passes the packets of the DHT on to the DHT's thread, which waits for them as for those of a socket: as
//! datagrams with the sender's address in front, through a pair of connected sockets. What the DHT's thread does not read in time is
//! lost, as in the queue of a UDP socket.

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;

use socket2::SockRef;

use crate::udp::socket::is_earlier_error;

/// A longer packet is none of the DHT.
const MAX_PACKET: usize = 4096;

/// The end of the UDP thread.
pub(super) struct DhtSender(UnixDatagram);

/// The end of the DHT's thread: it receives from the UDP thread, and sends through the same socket as that.
#[derive(Debug)]
pub struct DhtLink {
    received: UnixDatagram,
    socket: UdpSocket,
}

/// Creates both ends for a socket.
///
/// # Errors
/// If there is no descriptor.
pub(super) fn dht_link(socket: &UdpSocket) -> io::Result<(DhtSender, DhtLink)> {
    let (sender, received) = UnixDatagram::pair()?;
    sender.set_nonblocking(true)?;
    received.set_nonblocking(true)?;
    Ok((DhtSender(sender), DhtLink { received, socket: socket.try_clone()? }))
}

impl DhtSender {
    /// Passes a packet on, unless too many wait.
    pub fn send(&self, from: SocketAddr, packet: &[u8]) {
        if packet.len() > MAX_PACKET {
            return;
        }
        let ip = match from.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let (ip, port) = (ip.octets(), from.port().to_be_bytes());
        let parts = [IoSlice::new(&ip), IoSlice::new(&port), IoSlice::new(packet)];
        let _ = SockRef::from(&self.0).send_vectored(&parts);
    }
}

impl DhtLink {
    /// The address of the UDP socket.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Receives a packet, and its sender.
    ///
    /// # Errors
    /// `WouldBlock` if there is none.
    pub fn receive<'b>(&self, buffer: &'b mut [u8]) -> io::Result<(SocketAddr, &'b [u8])> {
        let size = self.received.recv(buffer)?;
        let message = buffer.get(..size).unwrap_or_default();
        let (ip, rest) = message.split_first_chunk::<16>().ok_or(io::ErrorKind::WouldBlock)?;
        let (port, packet) = rest.split_first_chunk::<2>().ok_or(io::ErrorKind::WouldBlock)?;
        let ip = IpAddr::from(Ipv6Addr::from(*ip)).to_canonical();
        Ok((SocketAddr::new(ip, u16::from_be_bytes(*port)), packet))
    }

    /// Sends a packet.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn send_to(&self, to: SocketAddr, packet: &[u8]) -> io::Result<()> {
        match self.socket.send_to(packet, to) {
            // An error of an earlier datagram; this one was not sent.
            Err(error) if is_earlier_error(&error) => self.socket.send_to(packet, to).map(drop),
            result => result.map(drop),
        }
    }
}

impl AsFd for DhtLink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.received.as_fd()
    }
}
