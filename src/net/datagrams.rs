//! UDP sockets that answer from the address that was asked (`IP_PKTINFO`). If the system chose the source address of an answer, then
//! on a machine with several addresses, the sender of the query might not recognise it.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};

/// The most bytes that the kernel merges into one message.
pub const MAX_MESSAGE: usize = 1 << 16;

/// A bound UDP socket, which neither blocks nor fragments.
#[derive(Debug)]
pub struct DatagramSocket {
    socket: UdpSocket,
    state: UdpSocketState,
}

/// Datagrams to send.
#[derive(Clone, Copy, Debug)]
pub struct OutgoingDatagrams<'a> {
    /// The address of ours that they come from; `None` lets the system choose.
    pub from: Option<IpAddr>,
    /// Where they go.
    pub to: SocketAddr,
    /// Their bytes.
    pub bytes: &'a [u8],
    /// The length of each but the last, if there are several.
    pub segment: Option<usize>,
}

impl DatagramSocket {
    /// Prepares a bound socket.
    ///
    /// # Errors
    /// If the system does not support that.
    pub fn from_socket(socket: UdpSocket) -> io::Result<DatagramSocket> {
        let state = UdpSocketState::new((&socket).into())?;
        Ok(DatagramSocket { socket, state })
    }

    /// The socket itself.
    pub fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// What the system can do with it.
    pub fn state(&self) -> &UdpSocketState {
        &self.state
    }

    /// Receives into the buffers, and returns how many were used. Each may have many datagrams of one length.
    ///
    /// # Errors
    /// Those of the socket; `WouldBlock` if nothing has arrived.
    pub fn receive(&self, buffers: &mut [IoSliceMut<'_>], messages: &mut [RecvMeta]) -> io::Result<usize> {
        self.state.recv((&self.socket).into(), buffers, messages)
    }

    /// Sends datagrams. If the system cannot send from that address, it chooses one.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn send(&mut self, datagrams: &OutgoingDatagrams<'_>) -> io::Result<()> {
        let mut message = Transmit {
            destination: datagrams.to,
            ecn: None,
            contents: datagrams.bytes,
            segment_size: datagrams.segment,
            src_ip: datagrams.from,
        };
        let mut result = self.state.try_send((&self.socket).into(), &message);
        if result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NetworkUnreachable) {
            // Possibly an ICMP message about an earlier datagram; this one was not sent.
            result = self.state.try_send((&self.socket).into(), &message);
        }
        let Some(kind) = result.as_ref().err().filter(|_| message.src_ip.is_some()).map(io::Error::kind) else {
            return result;
        };
        // The address is that of a broadcast, or no longer ours.
        match kind {
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable => {}
            // Without GSO, several datagrams are invalid, too.
            io::ErrorKind::InvalidInput if message.segment_size.is_none() => {
                // The old state has concluded from the error that there is no GSO.
                self.state = UdpSocketState::new((&self.socket).into())?;
            }
            _ => return result,
        }
        message.src_ip = None;
        self.state.try_send((&self.socket).into(), &message)
    }
}

/// A [`DatagramSocket`] that is read datagram by datagram.
#[derive(Debug)]
pub struct AnsweringSocket {
    socket: DatagramSocket,
    /// The last message, whose first `used` bytes have been returned.
    buffer: Vec<u8>,
    message: RecvMeta,
    used: usize,
}

/// A received datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivedDatagram<'a> {
    /// Its sender.
    pub from: SocketAddr,
    /// The address of ours that it was sent to, which is the one to answer from.
    pub to: Option<IpAddr>,
    /// Its bytes.
    pub bytes: &'a [u8],
}

impl AnsweringSocket {
    /// Prepares a bound socket.
    ///
    /// # Errors
    /// If the system does not support that.
    pub fn from_socket(socket: UdpSocket) -> io::Result<AnsweringSocket> {
        let socket = DatagramSocket::from_socket(socket)?;
        Ok(AnsweringSocket { socket, buffer: vec![0; MAX_MESSAGE], message: RecvMeta::default(), used: 0 })
    }

    /// The address it is bound to.
    ///
    /// # Errors
    /// Those of the socket.
    #[cfg(any(test, feature = "internals"))]
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.socket.local_addr()
    }

    /// Whether a datagram waits that the system does not know of any more.
    pub fn has_buffered(&self) -> bool {
        self.used < self.message.len
    }

    /// Receives a datagram.
    ///
    /// # Errors
    /// Those of the socket; `WouldBlock` if none has arrived.
    pub fn receive(&mut self) -> io::Result<ReceivedDatagram<'_>> {
        if !self.has_buffered() {
            (self.message, self.used) = (RecvMeta::default(), 0);
            let mut message = [RecvMeta::default()];
            self.socket.receive(&mut [IoSliceMut::new(&mut self.buffer)], &mut message)?;
            [self.message] = message;
        }
        let begin = self.used;
        self.used = self.message.len.min(begin + self.message.stride.max(1));
        let bytes = self.buffer.get(begin..self.used).unwrap_or_default();
        Ok(ReceivedDatagram { from: self.message.addr, to: self.message.dst_ip, bytes })
    }

    /// Sends a datagram, if possible from this address of ours.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn send(&mut self, from: Option<IpAddr>, to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        self.socket.send(&OutgoingDatagrams { from, to, bytes, segment: None })
    }
}

impl AsFd for AnsweringSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;

    fn local(last: u8) -> IpAddr {
        Ipv4Addr::new(127, 0, 0, last).into()
    }

    fn bound(ip: IpAddr) -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind((ip, 0)).expect("a socket");
        let addr = socket.local_addr().expect("an address");
        (socket, addr)
    }

    #[test]
    fn an_answer_comes_from_the_address_that_was_asked() {
        let (server, addr) = bound(Ipv4Addr::UNSPECIFIED.into());
        let mut server = AnsweringSocket::from_socket(server).expect("a socket");
        let (client, client_addr) = bound(local(1));
        for last in [1, 7] {
            let asked = SocketAddr::new(local(last), addr.port());
            client.send_to(b"query", asked).expect("sent");
            poll(&mut [PollFd::new(&server, PollFlags::IN)], None).expect("a socket");
            let received = server.receive().expect("a datagram");
            assert_eq!(received, ReceivedDatagram { from: client_addr, to: Some(asked.ip()), bytes: b"query" });
            let to = received.to;
            server.send(to, client_addr, b"answer").expect("sent");
            let mut buffer = [0; 10];
            assert_eq!(client.recv_from(&mut buffer).expect("an answer"), (6, asked));
        }
    }

    #[test]
    fn merged_datagrams_are_returned_one_by_one() {
        let (server, addr) = bound(local(1));
        let mut server = AnsweringSocket::from_socket(server).expect("a socket");
        let mut client = DatagramSocket::from_socket(bound(local(1)).0).expect("a socket");
        let datagrams = OutgoingDatagrams { from: None, to: addr, bytes: b"onetwothreeee", segment: Some(3) };
        client.send(&datagrams).expect("a system with GSO");
        let mut received = Vec::new();
        while received.len() < 5 {
            if !server.has_buffered() {
                poll(&mut [PollFd::new(&server, PollFlags::IN)], None).expect("a socket");
            }
            received.push(server.receive().expect("a datagram").bytes.to_vec());
        }
        assert_eq!(received, [&b"one"[..], b"two", b"thr", b"eee", b"e"]);
        assert!(!server.has_buffered() && server.receive().is_err(), "no other");
    }

    #[test]
    fn an_address_that_is_not_ours_leaves_the_choice_to_the_system() {
        let (client, client_addr) = bound(local(1));
        let mut server = DatagramSocket::from_socket(bound(Ipv4Addr::UNSPECIFIED.into()).0).expect("a socket");
        let segments = server.state().max_gso_segments();
        for foreign in [[192, 0, 2, 1], [255; 4], [224, 0, 0, 1]] {
            let answer =
                OutgoingDatagrams { from: Some(foreign.into()), to: client_addr, bytes: b"answer", segment: None };
            server.send(&answer).expect("sent");
            let mut buffer = [0; 10];
            let (size, from) = client.recv_from(&mut buffer).expect("an answer");
            assert_eq!((size, from.ip()), (6, local(1)));
        }
        assert_eq!(server.state().max_gso_segments(), segments, "it still sends many datagrams at once");
    }
}
