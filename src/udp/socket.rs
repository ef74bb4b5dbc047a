//! A UDP socket that exchanges many datagrams per system call (GSO, GRO, recvmmsg), as far as the system can.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};

use quinn_udp::RecvMeta;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recvfrom};

use crate::net::datagrams::{DatagramSocket, MAX_MESSAGE, OutgoingDatagrams};
use crate::utp::UtpTransmit;

/// How many messages one call receives. Each may consist of many datagrams.
const MESSAGES: usize = 16;
/// The buffers that the kernel is asked for; it may give less.
const KERNEL_BUFFER: usize = 4 << 20;
/// Pending errors that are read at once.
const MAX_ERRORS: usize = 64;

/// See the module's documentation.
pub(super) struct BatchSocket {
    socket: DatagramSocket,
    /// Pages that are never filled cost nothing.
    buffer: Vec<u8>,
    received: [RecvMeta; MESSAGES],
    /// Whether the thread waits until the socket takes datagrams.
    pub is_waiting_for_writable: bool,
}

impl BatchSocket {
    /// Prepares a bound socket: it neither blocks nor fragments, and reports ICMP errors.
    ///
    /// # Errors
    /// If the socket does not support that.
    pub fn new(socket: UdpSocket) -> io::Result<BatchSocket> {
        let socket = DatagramSocket::from_socket(socket)?;
        let (state, raw) = (socket.state(), socket.socket());
        state.enable_transport_errors(raw.into())?;
        // The default buffers are enough for a slow network.
        let _ = state.set_recv_buffer_size(raw.into(), KERNEL_BUFFER);
        let _ = state.set_send_buffer_size(raw.into(), KERNEL_BUFFER);
        Ok(BatchSocket {
            socket,
            buffer: vec![0; MESSAGES * MAX_MESSAGE],
            received: [RecvMeta::default(); MESSAGES],
            is_waiting_for_writable: false,
        })
    }

    /// The socket itself.
    pub fn socket(&self) -> &UdpSocket {
        self.socket.socket()
    }

    /// Receives what has arrived, up to a limit. [`BatchSocket::messages`] returns it. Returns whether there may be more.
    ///
    /// # Errors
    /// Those of the socket; `WouldBlock` if nothing has arrived.
    pub fn receive(&mut self) -> io::Result<bool> {
        self.received = [RecvMeta::default(); MESSAGES];
        let mut slices = self.buffer.chunks_exact_mut(MAX_MESSAGE).map(IoSliceMut::new);
        let mut buffers: [IoSliceMut<'_>; MESSAGES] =
            std::array::from_fn(|_| slices.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
        let count = self.socket.receive(&mut buffers, &mut self.received)?;
        Ok(count == MESSAGES)
    }

    /// The messages that were received last: the sender, the address of ours, and the datagrams.
    pub fn messages(&self) -> impl Iterator<Item = (SocketAddr, Option<IpAddr>, impl Iterator<Item = &[u8]>)> {
        let used = self.received.iter().zip(self.buffer.chunks_exact(MAX_MESSAGE)).filter(|(meta, _)| meta.len > 0);
        used.map(|(meta, bytes)| {
            let bytes = bytes.get(..meta.len).unwrap_or_default();
            (meta.addr, meta.dst_ip, bytes.chunks(meta.stride.max(1)))
        })
    }

    /// Sends datagrams. If the system cannot send them at once, it sends them one by one.
    ///
    /// # Errors
    /// Those of the socket. After `WouldBlock`, nothing was sent.
    pub fn send(&mut self, transmit: &UtpTransmit, bytes: &[u8]) -> io::Result<()> {
        if transmit.count <= self.socket.state().max_gso_segments() {
            match self.send_once(transmit, bytes) {
                Err(error) if transmit.count > 1 && self.socket.state().max_gso_segments() == 1 => {
                    log::debug!("the system sends datagrams one by one: {error}");
                }
                result => return result,
            }
        }
        let mut result = Ok(());
        for datagram in bytes.chunks(transmit.segment.max(1)) {
            let single = UtpTransmit { count: 1, ..*transmit };
            match self.send_once(&single, datagram) {
                // The rest is lost, as in a full queue of a router.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                other => result = result.and(other),
            }
        }
        result
    }

    fn send_once(&mut self, transmit: &UtpTransmit, bytes: &[u8]) -> io::Result<()> {
        let segment = (transmit.count > 1).then_some(transmit.segment);
        let datagrams = OutgoingDatagrams { from: transmit.from, to: transmit.to, bytes, segment };
        match self.socket.send(&datagrams) {
            // An error of an earlier datagram, which `unreachable` reports, too; this one was not sent.
            Err(error) if is_pending_icmp_error(&error) => self.socket.send(&datagrams),
            result => result,
        }
    }

    /// Takes the destinations of datagrams that ICMP errors have answered.
    pub fn unreachable(&self) -> Vec<SocketAddr> {
        let flags = RecvFlags::ERRQUEUE | RecvFlags::DONTWAIT;
        let next = || recvfrom(self.socket.socket(), &mut [0_u8; 1], flags).ok();
        let destinations = std::iter::from_fn(next).take(MAX_ERRORS);
        destinations.filter_map(|(_, _, addr)| SocketAddr::try_from(addr?).ok()).collect()
    }
}

/// What the kernel makes of ICMP messages about earlier datagrams (`icmp_err_convert` of IPv4 and IPv6), without those about their
/// size.
const ICMP_ERRORS: [Errno; 9] = [
    Errno::CONNREFUSED,
    Errno::HOSTUNREACH,
    Errno::NETUNREACH,
    Errno::HOSTDOWN,
    Errno::NONET,
    Errno::NOPROTOOPT,
    Errno::PROTO,
    Errno::OPNOTSUPP,
    Errno::ACCESS,
];

/// Whether the error may be an ICMP message about an earlier datagram. Some are also those of the datagram itself.
pub(crate) fn is_pending_icmp_error(error: &io::Error) -> bool {
    Errno::from_io_error(error).is_some_and(|errno| ICMP_ERRORS.contains(&errno))
}
