//! How a UDP thread passes the packets of the DHT on to the DHT's thread, which waits for them as for those of a socket: as
//! datagrams with the addresses of both ends in front, through a pair of connected sockets. What the DHT's thread does not read in
//! time is lost, as in the queue of a UDP socket.

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;

use socket2::SockRef;

use crate::net::datagrams::{DatagramSocket, OutgoingDatagrams, ReceivedDatagram};
use crate::udp::socket::is_pending_icmp_error;

/// Longer packets are not DHT packets.
const MAX_PACKET: usize = 4096;

/// The UDP thread's half of the link.
pub(super) struct DhtForwarder(UnixDatagram);

/// The DHT thread's half: it receives from the UDP thread, and sends through the UDP thread's socket.
#[derive(Debug)]
pub struct DhtLink {
    received: UnixDatagram,
    socket: DatagramSocket,
}

/// Creates both ends for a socket.
///
/// # Errors
/// If there is no descriptor.
pub(super) fn dht_link(socket: &UdpSocket) -> io::Result<(DhtForwarder, DhtLink)> {
    let (sender, received) = UnixDatagram::pair()?;
    sender.set_nonblocking(true)?;
    received.set_nonblocking(true)?;
    Ok((DhtForwarder(sender), DhtLink { received, socket: DatagramSocket::from_socket(socket.try_clone()?)? }))
}

impl DhtForwarder {
    /// Passes a packet on that was sent to this address of ours, unless too many wait.
    pub fn send(&self, from: SocketAddr, to: Option<IpAddr>, packet: &[u8]) {
        if packet.len() > MAX_PACKET {
            return;
        }
        let (ip, port, ours) = (octets(from.ip()), from.port().to_be_bytes(), to.map_or([0; 16], octets));
        let parts = [IoSlice::new(&ip), IoSlice::new(&port), IoSlice::new(&ours), IoSlice::new(packet)];
        let _ = SockRef::from(&self.0).send_vectored(&parts);
    }
}

fn octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

fn ip(octets: [u8; 16]) -> IpAddr {
    IpAddr::from(Ipv6Addr::from(octets)).to_canonical()
}

impl DhtLink {
    /// The address of the UDP socket.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.socket().local_addr()
    }

    /// Receives a packet.
    ///
    /// # Errors
    /// `WouldBlock` if there is none.
    pub fn receive<'b>(&self, buffer: &'b mut [u8]) -> io::Result<ReceivedDatagram<'b>> {
        let size = self.received.recv(buffer)?;
        let message = buffer.get(..size).unwrap_or_default();
        let (sender, rest) = message.split_first_chunk::<16>().ok_or(io::ErrorKind::WouldBlock)?;
        let (port, rest) = rest.split_first_chunk::<2>().ok_or(io::ErrorKind::WouldBlock)?;
        let (ours, bytes) = rest.split_first_chunk::<16>().ok_or(io::ErrorKind::WouldBlock)?;
        let from = SocketAddr::new(ip(*sender), u16::from_be_bytes(*port));
        Ok(ReceivedDatagram { from, to: Some(ip(*ours)).filter(|ip| !ip.is_unspecified()), bytes })
    }

    /// Sends a packet, if possible from this address of ours.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn send(&mut self, from: Option<IpAddr>, to: SocketAddr, packet: &[u8]) -> io::Result<()> {
        let datagram = OutgoingDatagrams { from, to, bytes: packet, segment: None };
        match self.socket.send(&datagram) {
            // An error of an earlier datagram; this one was not sent.
            Err(error) if is_pending_icmp_error(&error) => self.socket.send(&datagram),
            result => result,
        }
    }
}

impl AsFd for DhtLink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.received.as_fd()
    }
}
