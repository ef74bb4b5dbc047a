//! How a DHT thread exchanges packets: with a socket of its own, with one that uTP uses too, or through the UDP association of a
//! SOCKS 5 proxy, which may come and go. While there is none, nothing is sent.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

use crossbeam_channel::Sender;
use rustix::event::{PollFd, PollFlags};

use crate::net::datagrams::{AnsweringSocket, ReceivedDatagram};
use crate::net::proxy::ProxyTarget;
use crate::net::proxy::connect::UdpAssociation;
use crate::udp::DhtLink;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) enum DhtSocket {
    /// A socket that exchanges packets with the nodes themselves.
    Direct(AnsweringSocket),
    /// The same with a socket that a thread of `udp` reads.
    Shared(DhtLink),
    /// Through a proxy.
    Proxied(ProxiedSocket),
}

/// The association, while there is one.
#[derive(Debug)]
pub(crate) struct ProxiedSocket {
    association: Option<Arc<UdpAssociation>>,
    /// Requests another association when one has ended.
    lost: Sender<()>,
}

impl DhtSocket {
    /// A socket of its own.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn direct(socket: UdpSocket) -> io::Result<DhtSocket> {
        Ok(DhtSocket::Direct(AnsweringSocket::from_socket(socket)?))
    }

    /// A socket without an association yet. When one has ended, this sends to `lost`.
    pub fn proxied(lost: Sender<()>) -> DhtSocket {
        DhtSocket::Proxied(ProxiedSocket { association: None, lost })
    }

    /// Its local address; unspecified with a proxy.
    #[cfg(any(test, feature = "internals"))]
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            DhtSocket::Direct(socket) => socket.local_addr(),
            DhtSocket::Shared(link) => link.local_addr(),
            DhtSocket::Proxied(_) => Ok((std::net::Ipv4Addr::UNSPECIFIED, 0).into()),
        }
    }

    /// Whether it can send and receive now.
    pub fn is_connected(&self) -> bool {
        match self {
            DhtSocket::Direct(_) | DhtSocket::Shared(_) => true,
            DhtSocket::Proxied(proxied) => proxied.association.is_some(),
        }
    }

    /// Whether packets go through a proxy, so that other nodes cannot reach us.
    pub fn is_proxied(&self) -> bool {
        matches!(self, DhtSocket::Proxied(_))
    }

    /// Uses this association from now on.
    pub fn set_association(&mut self, association: Arc<UdpAssociation>) {
        if let DhtSocket::Proxied(proxied) = self {
            proxied.association = Some(association);
        }
    }

    /// What to wait for: packets, and the end of the association.
    pub fn poll_fds(&self) -> (Option<PollFd<'_>>, Option<PollFd<'_>>) {
        match self {
            DhtSocket::Direct(socket) => (Some(PollFd::new(socket, PollFlags::IN)), None),
            DhtSocket::Shared(link) => (Some(PollFd::new(link, PollFlags::IN)), None),
            DhtSocket::Proxied(ProxiedSocket { association: Some(association), .. }) => (
                Some(PollFd::new(association.socket(), PollFlags::IN)),
                // Bytes that the proxy sends here mean nothing, and must not wake the thread again and again.
                Some(PollFd::new(association.control(), PollFlags::RDHUP)),
            ),
            DhtSocket::Proxied(_) => (None, None),
        }
    }

    /// Whether a packet waits that `poll` does not report.
    pub fn has_buffered(&self) -> bool {
        matches!(self, DhtSocket::Direct(socket) if socket.has_buffered())
    }

    /// Sends a packet to a node, if possible from this address of ours.
    ///
    /// # Errors
    /// Those of the socket; [`io::ErrorKind::NotConnected`] without an association.
    pub fn send(&mut self, from: Option<IpAddr>, to: SocketAddr, packet: &[u8]) -> io::Result<()> {
        match self {
            DhtSocket::Direct(socket) => socket.send(from, to, packet),
            DhtSocket::Shared(link) => link.send(from, to, packet),
            DhtSocket::Proxied(proxied) => proxied.send(&ProxyTarget::Addr(to), packet),
        }
    }

    /// The same to a node of which only the name is known: the proxy resolves it.
    ///
    /// # Errors
    /// Those of [`DhtSocket::send`]. Without a proxy, no name can be used.
    pub fn send_to_name(&mut self, to: &ProxyTarget, packet: &[u8]) -> io::Result<()> {
        match self {
            DhtSocket::Direct(_) | DhtSocket::Shared(_) => Err(io::ErrorKind::Unsupported.into()),
            DhtSocket::Proxied(proxied) => proxied.send(to, packet),
        }
    }

    /// Receives a packet that has arrived.
    ///
    /// # Errors
    /// Those of the socket; `WouldBlock` without a packet, and for one that has no usable header.
    pub fn receive<'b>(&mut self, buffer: &'b mut [u8]) -> io::Result<ReceivedDatagram<'b>> {
        match self {
            DhtSocket::Direct(socket) => {
                let ReceivedDatagram { from, to, bytes } = socket.receive()?;
                // What does not fit is no packet of the DHT.
                let size = bytes.len().min(buffer.len());
                let copy = buffer.get_mut(..size).unwrap_or_default();
                copy.copy_from_slice(bytes.get(..size).unwrap_or_default());
                Ok(ReceivedDatagram { from, to, bytes: copy })
            }
            DhtSocket::Shared(link) => link.receive(buffer),
            DhtSocket::Proxied(proxied) => {
                let (from, bytes) = proxied.receive(buffer)?.ok_or(io::ErrorKind::WouldBlock)?;
                Ok(ReceivedDatagram { from, to: None, bytes })
            }
        }
    }

    /// The proxy has ended the association.
    pub fn end_association(&mut self) {
        if let DhtSocket::Proxied(proxied) = self {
            proxied.end();
        }
    }
}

/// The error, which names the port if that is in use.
pub(crate) fn naming_port(error: io::Error, port: u16) -> io::Error {
    match error.kind() {
        kind @ io::ErrorKind::AddrInUse => io::Error::new(kind, format!("UDP port {port} is in use")),
        _ => error,
    }
}

impl ProxiedSocket {
    fn send(&mut self, to: &ProxyTarget, packet: &[u8]) -> io::Result<()> {
        let association = self.association.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let result = association.send_to(to, packet);
        self.check(result)
    }

    fn receive<'b>(&mut self, buffer: &'b mut [u8]) -> io::Result<Option<(SocketAddr, &'b [u8])>> {
        let association = self.association.as_ref().ok_or(io::ErrorKind::WouldBlock)?.clone();
        self.check(association.receive(buffer))
    }

    /// A relay whose port is closed has ended, though the connection to the proxy may still be open.
    fn check<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        if result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            self.end();
        }
        result
    }

    fn end(&mut self) {
        if self.association.take().is_some() {
            // One request for another association is enough.
            let _ = self.lost.try_send(());
        }
    }
}
