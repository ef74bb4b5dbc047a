//! The start of a connection that we dial: directly, or through the client's proxy.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{SockRef, Socket};

use crate::net::proxy::ProxyTarget;
use crate::net::proxy::state::Proxy;
use crate::net::route::Route;
use crate::peer::disconnect_reason::DisconnectReason;
use crate::util::atomics::Flag;
use crate::util::os_error::reason;

/// How long a proxy may take to connect to a peer.
const PROXY_TIMEOUT: Duration = Duration::from_secs(10);

/// A socket for a connection to `addr`, and the address to connect it to: the peer's, or that of the proxy.
///
/// # Errors
/// If there is no socket, or while the proxy's name is being looked up.
pub(super) fn open_socket(route: &Route, addr: SocketAddr) -> io::Result<(Socket, SocketAddr)> {
    match (route.proxy(), route.direct_bind()) {
        (Some(proxy), _) => proxy.outgoing_socket(),
        (None, Some(bind)) => Ok((bind.outgoing_socket(addr)?, addr)),
        (None, None) => Err(io::ErrorKind::Unsupported.into()), // never happens
    }
}

/// Connects the socket to the peer, or to the proxy and through it to the peer.
///
/// # Errors
/// Why there is no connection.
pub(super) fn connect(
    proxy: Option<&Arc<Proxy>>,
    stream: &TcpStream,
    first_hop: SocketAddr,
    addr: SocketAddr,
    timeout: Duration,
    discards_input: &Flag,
) -> Result<(), DisconnectReason> {
    let deadline = Instant::now() + PROXY_TIMEOUT.max(timeout);
    let connected = SockRef::from(stream).connect_timeout(&first_hop.into(), timeout);
    let Some(proxy) = proxy else {
        return connected.map_err(|e| DisconnectReason::Unreachable(reason(&e)));
    };
    if discards_input.is_set() {
        return Err(DisconnectReason::ClosedByUs);
    }
    if let Err(error) = connected {
        proxy.note_failure(&reason(&error));
        return Err(DisconnectReason::Proxy(reason(&error)));
    }
    let result = proxy.shake_hands(stream, &ProxyTarget::Addr(addr), deadline);
    if discards_input.is_set() {
        return Err(DisconnectReason::ClosedByUs); // which says nothing about the proxy
    }
    proxy.note_result(result.as_ref().err());
    result.map_err(|error| match error {
        error if error.concerns_only_target() => DisconnectReason::Unreachable(error.to_string()),
        error => DisconnectReason::Proxy(error.to_string()),
    })
}
