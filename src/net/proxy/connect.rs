//! Handshakes with proxies over sockets that are connected to them, and UDP associations.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::time::Instant;

use crate::net::bind::Bind;
use crate::net::networks::is_private;
use crate::net::proxy::handshake::{ProxyHandshake, ProxyRequest, ProxyStep};
use crate::net::proxy::url::{ProxyKind, ProxyUrl};
use crate::net::proxy::{ProxyError, ProxyTarget, udp};

/// The proxy has been silent since the request.
pub const NO_ANSWER: &str = "no answer in time";
/// It closed the connection after the request.
pub const CLOSED: &str = "the proxy closed the connection";

/// Why there is no connection through a proxy.
#[derive(Debug, thiserror::Error)]
pub enum ProxyConnectError {
    /// The connection to the proxy failed.
    #[error("the connection to the proxy failed: {0}")]
    Io(#[from] io::Error),
    /// The proxy refused, or could not reach the target.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
}

impl ProxyConnectError {
    /// Whether the proxy works, and only this target cannot be reached.
    pub fn concerns_only_target(&self) -> bool {
        matches!(self, ProxyConnectError::Proxy(error) if error.concerns_only_target())
    }
}

/// Asks the proxy at the other end of `stream` for what `request` says, until `deadline`. Afterwards the stream leads to the target.
/// Changes the stream's timeouts.
///
/// # Errors
/// See [`ProxyConnectError`]. The stream is of no use then.
pub fn shake_hands(
    stream: &TcpStream,
    proxy: &ProxyUrl,
    request: &ProxyRequest,
    deadline: Instant,
) -> Result<SocketAddr, ProxyConnectError> {
    let send = |bytes: &[u8]| {
        stream.set_write_timeout(Some(time_left(deadline)?))?;
        (&*stream).write_all(bytes)
    };
    run_handshake(proxy, request, send, |bytes| read_until(stream, bytes, deadline))
}

/// The same over any connection, with functions that send and receive all of the given bytes.
///
/// # Errors
/// See [`ProxyConnectError`].
pub fn run_handshake(
    proxy: &ProxyUrl,
    request: &ProxyRequest,
    mut send: impl FnMut(&[u8]) -> io::Result<()>,
    mut receive: impl FnMut(&mut [u8]) -> io::Result<()>,
) -> Result<SocketAddr, ProxyConnectError> {
    let mut handshake = ProxyHandshake::new(proxy, request)?;
    // The first answer of a SOCKS 5 proxy comes before it connects to the target; that of others only afterwards.
    let mut waits_for_target = proxy.kind != ProxyKind::Socks5;
    loop {
        match handshake.step() {
            ProxyStep::Send(bytes) => send(&bytes)?,
            ProxyStep::Receive(count) => {
                let mut bytes = vec![0; count];
                receive(&mut bytes).map_err(|error| match error.kind() {
                    io::ErrorKind::TimedOut if waits_for_target => ProxyError::Target(NO_ANSWER).into(),
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset if waits_for_target => {
                        ProxyError::Target(CLOSED).into()
                    }
                    _ => ProxyConnectError::Io(error),
                })?;
                handshake.received(&bytes)?;
                waits_for_target = true;
            }
            ProxyStep::Done(bound) => return Ok(bound),
        }
    }
}

/// Fills `bytes`, however slowly they come.
fn read_until(mut stream: &TcpStream, bytes: &mut [u8], deadline: Instant) -> io::Result<()> {
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        stream.set_read_timeout(Some(time_left(deadline)?))?;
        match stream.read(rest) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // What the system calls a timeout here.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Never zero, which sockets take for "forever".
fn time_left(deadline: Instant) -> io::Result<std::time::Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// A UDP socket whose datagrams a SOCKS 5 proxy carries, for as long as the connection to the proxy lasts.
#[derive(Debug)]
pub struct UdpAssociation {
    /// Its end ends the association.
    control: TcpStream,
    /// Connected to the relay, so that nothing else is received.
    socket: UdpSocket,
}

impl UdpAssociation {
    /// Asks the proxy at the other end of `control` for an association.
    ///
    /// # Errors
    /// See [`ProxyConnectError`]. A relay at another host is refused: datagrams to it would bypass the proxy's host.
    pub fn start(
        control: TcpStream,
        proxy: &ProxyUrl,
        bind: &Bind,
        deadline: Instant,
    ) -> Result<UdpAssociation, ProxyConnectError> {
        let relay = shake_hands(&control, proxy, &ProxyRequest::AssociateUdp, deadline)?;
        let proxy_ip = control.peer_addr()?.ip();
        let relay = relay_address(relay, proxy_ip)?;
        let socket = bind.udp(SocketAddr::new(bind.source(relay)?, 0))?;
        socket.connect(relay)?;
        control.set_nonblocking(true)?;
        Ok(UdpAssociation { control, socket })
    }

    /// The socket, to wait for datagrams.
    pub fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// The connection to the proxy, whose end ends the association.
    pub fn control(&self) -> &TcpStream {
        &self.control
    }

    /// Sends a datagram.
    ///
    /// # Errors
    /// Those of the socket; the name of a target that is too long.
    pub fn send_to(&self, target: &ProxyTarget, data: &[u8]) -> io::Result<()> {
        let wrapped = udp::wrap(target, data).map_err(io::Error::other)?;
        self.socket.send(&wrapped).map(drop)
    }

    /// Receives a datagram with `buffer`; `None` for one that is malformed.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<(SocketAddr, &'a [u8])>> {
        let length = self.socket.recv(buffer)?;
        Ok(udp::unwrap(buffer.get(..length).unwrap_or_default()))
    }

    /// Whether the proxy has not ended the association, as far as is known.
    pub fn is_open(&self) -> bool {
        match self.control.peek(&mut [0]) {
            Ok(read) => read > 0,
            Err(error) => matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        }
    }
}

impl Drop for UdpAssociation {
    fn drop(&mut self) {
        let _ = self.control.shutdown(Shutdown::Both);
    }
}

/// Where to send datagrams: always to the proxy's host. An unspecified address stands for it, and so does a private address that a
/// proxy with a public one names: it does not know that its own address is translated. docs/dev/proxy.md has the reasons.
fn relay_address(relay: SocketAddr, proxy: IpAddr) -> Result<SocketAddr, ProxyError> {
    let (ip, own) = (relay.ip().to_canonical(), proxy.to_canonical());
    let is_own_host = ip == own
        || ip.is_unspecified()
        || (ip.is_loopback() && own.is_loopback())
        || (is_private(ip) && !is_private(own));
    if relay.port() == 0 {
        return Err(ProxyError::Refused("it named no port for datagrams".to_owned()));
    }
    if !is_own_host {
        return Err(ProxyError::Refused(format!("it wants datagrams at another host, {ip}")));
    }
    Ok(SocketAddr::new(proxy, relay.port()))
}

#[cfg(test)]
mod tests;
