//! The start of a connection that we dial: by TCP or uTP, whichever connects first, or through the client's proxy.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use socket2::SockRef;

use crate::net::bind;
use crate::net::proxy::ProxyTarget;
use crate::net::proxy::state::Proxy;
use crate::net::route::Route;
use crate::peer::ContextSettings;
use crate::peer::connection::sockets::ConnectionSockets;
use crate::peer::disconnect_reason::DisconnectReason;
use crate::strategy::transport_race::TransportRace;
use crate::types::{DialMode, Transport};
use crate::udp::{PeerStream, UdpService, UtpDialError};
use crate::util::atomics::Flag;
use crate::util::os_error::reason;
use crate::utp::UtpDial;

/// How long a proxy may take to connect to a peer.
const PROXY_TIMEOUT: Duration = Duration::from_secs(10);

/// How a peer is dialled.
#[derive(Clone)]
pub struct DialPlan {
    /// The kind of handshake.
    pub mode: DialMode,
    /// How long the system has to connect.
    pub timeout: Duration,
    /// The transports that may be used.
    pub transports: DialTransports,
    /// The transport to begin with, if both may be used.
    pub first: Transport,
    /// What the uTP connection is for.
    pub utp_dial: UtpDial,
}

/// The transports that may be used for a connection.
#[derive(Clone)]
pub struct DialTransports {
    /// Whether TCP may be used.
    pub uses_tcp: bool,
    /// The sockets for uTP, if it may be used.
    pub utp: Option<Arc<UdpService>>,
}

/// A TCP socket that is to be connected to the peer or to the proxy.
pub(super) struct TcpDial {
    pub stream: Arc<PeerStream>,
    first_hop: SocketAddr,
}

/// A TCP socket for a connection to `addr`.
///
/// # Errors
/// If there is no socket, or while the proxy's name is being looked up.
pub(super) fn open_socket(route: &Route, addr: SocketAddr, sockets: &ConnectionSockets) -> io::Result<TcpDial> {
    let (socket, first_hop) = match (route.proxy(), route.direct_bind()) {
        (Some(proxy), _) => proxy.outgoing_socket()?,
        (None, Some(bind)) => (bind.outgoing_socket(addr)?, addr),
        (None, None) => return Err(io::ErrorKind::Unsupported.into()), // never happens
    };
    Ok(TcpDial { stream: sockets.add(TcpStream::from(socket).into()), first_hop })
}

/// Connects to the peer by the first of the transports that reaches it, or through the proxy. Returns the stream.
///
/// # Errors
/// Why there is no connection.
pub(super) fn connect(
    settings: &ContextSettings,
    addr: SocketAddr,
    tcp: Option<TcpDial>,
    plan: &DialPlan,
    sockets: &ConnectionSockets,
    discards_input: &Flag,
) -> Result<Arc<PeerStream>, DisconnectReason> {
    if let Some(tcp) = &tcp {
        bind::set_dscp(&tcp.stream, settings.dscp);
    }
    let stream = match (tcp, plan.transports.utp.as_ref().filter(|_| settings.route.proxy().is_none())) {
        (Some(tcp), None) => {
            connect_by_tcp(settings.route.proxy(), &tcp, addr, plan.timeout, discards_input)?;
            tcp.stream
        }
        (tcp, Some(udp)) => DialRace { addr, tcp, udp, sockets, discards_input, reason: None }.run(plan)?,
        (None, None) => return Err(DisconnectReason::Unreachable("neither TCP nor uTP".to_owned())),
    };
    sockets.keep_only(&stream);
    Ok(stream)
}

/// Connects the socket to the peer, or to the proxy and through it to the peer.
fn connect_by_tcp(
    proxy: Option<&Arc<Proxy>>,
    tcp: &TcpDial,
    addr: SocketAddr,
    timeout: Duration,
    discards_input: &Flag,
) -> Result<(), DisconnectReason> {
    let deadline = Instant::now() + PROXY_TIMEOUT.max(timeout);
    let connected = SockRef::from(&*tcp.stream).connect_timeout(&tcp.first_hop.into(), timeout);
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
    let result = proxy.shake_hands(&tcp.stream, &ProxyTarget::Addr(addr), deadline);
    if discards_input.is_set() {
        return Err(DisconnectReason::ClosedByUs); // which says nothing about the proxy
    }
    proxy.note_result(result.as_ref().err());
    result.map_err(|error| match error {
        error if error.concerns_only_target() => DisconnectReason::Unreachable(error.to_string()),
        error => DisconnectReason::Proxy(error.to_string()),
    })
}

/// TCP and uTP race to a peer, or uTP runs alone.
struct DialRace<'a> {
    addr: SocketAddr,
    tcp: Option<TcpDial>,
    udp: &'a UdpService,
    sockets: &'a ConnectionSockets,
    discards_input: &'a Flag,
    /// Why a transport failed: the first reason.
    reason: Option<String>,
}

impl DialRace<'_> {
    fn run(mut self, plan: &DialPlan) -> Result<Arc<PeerStream>, DisconnectReason> {
        let begun = Instant::now();
        let (first, second) = match (self.tcp.is_some(), plan.first) {
            (false, _) => (Transport::Utp, None),
            (true, Transport::Tcp) => (Transport::Tcp, Some(Transport::Utp)),
            (true, Transport::Utp) => (Transport::Utp, Some(Transport::Tcp)),
        };
        let mut race = TransportRace::new(first, second, Duration::ZERO, plan.timeout);
        let mut running: Vec<(Transport, Arc<PeerStream>)> = Vec::new();
        loop {
            while let Some(transport) = race.next_start(begun.elapsed()) {
                match self.start(transport, plan.utp_dial) {
                    Ok(stream) => running.push((transport, stream)),
                    Err(failure) => self.note_failure(&mut race, transport, failure, begun.elapsed()),
                }
            }
            if self.discards_input.is_set() {
                return Err(DisconnectReason::ClosedByUs);
            }
            if race.is_lost(begun.elapsed()) {
                let why = self.reason.unwrap_or_else(|| "no answer".to_owned());
                return Err(DisconnectReason::Unreachable(why));
            }
            let ready = wait(&running, race.next_deadline().saturating_sub(begun.elapsed()));
            for (transport, stream) in ready {
                match outcome(transport, &stream) {
                    Ok(()) => return Ok(stream),
                    Err(failure) => {
                        running.retain(|(other, _)| *other != transport);
                        self.note_failure(&mut race, transport, failure, begun.elapsed());
                    }
                }
            }
        }
    }

    fn note_failure(&mut self, race: &mut TransportRace, transport: Transport, failure: DialFailure, now: Duration) {
        if failure.is_refusal {
            race.refused(transport, now);
        } else {
            race.failed(transport, now);
        }
        self.reason.get_or_insert(failure.why);
    }

    fn start(&self, transport: Transport, utp_dial: UtpDial) -> Result<Arc<PeerStream>, DialFailure> {
        let Some(tcp) = self.tcp.as_ref().filter(|_| transport == Transport::Tcp) else {
            let stream = self.udp.connect(self.addr, utp_dial);
            return Ok(self.sockets.add(stream?));
        };
        let socket = SockRef::from(&*tcp.stream);
        socket.set_nonblocking(true)?;
        match socket.connect(&tcp.first_hop.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(tcp.stream.clone())
    }
}

/// Waits until some of the attempts have come to an end, and returns them in the order in which they began.
fn wait(running: &[(Transport, Arc<PeerStream>)], time: Duration) -> Vec<(Transport, Arc<PeerStream>)> {
    let flags = |transport| if transport == Transport::Tcp { PollFlags::OUT } else { PollFlags::IN };
    let mut fds: Vec<_> = running.iter().map(|(transport, stream)| PollFd::new(&**stream, flags(*transport))).collect();
    // After a failure, the deadline of the race ends it.
    let _ = poll(&mut fds, Timespec::try_from(time).ok().as_ref());
    let has_event: Vec<_> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
    running.iter().zip(has_event).filter(|(_, has_event)| *has_event).map(|(attempt, _)| attempt.clone()).collect()
}

/// Whether an attempt that has come to an end has succeeded.
fn outcome(transport: Transport, stream: &PeerStream) -> Result<(), DialFailure> {
    match transport {
        Transport::Tcp => {
            let failure = stream.take_error().and_then(|failure| failure.map_or(Ok(()), Err));
            Ok(failure.and_then(|()| stream.set_nonblocking(false))?)
        }
        Transport::Utp => Ok(UdpService::outcome(stream)?),
    }
}

/// Why a transport could not connect.
struct DialFailure {
    why: String,
    /// Whether the peer has refused the connection. Everything else says little about it.
    is_refusal: bool,
}

impl From<io::Error> for DialFailure {
    fn from(error: io::Error) -> DialFailure {
        let is_refusal = matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset);
        DialFailure { why: reason(&error), is_refusal }
    }
}

impl From<UtpDialError> for DialFailure {
    fn from(error: UtpDialError) -> DialFailure {
        DialFailure { why: format!("uTP: {error}"), is_refusal: error.is_refusal() }
    }
}
