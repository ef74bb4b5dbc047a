//! Datagrams and requests to the router, with time limits, which the end of the client interrupts.

use std::io::{self, ErrorKind, PipeReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, Socket, Type};

use crate::discovery::port_mapping::network::RouterPath;
use crate::discovery::port_mapping::status::MappingFailure;
use crate::discovery::port_mapping::upnp::message::{self, RouterAnswer};
use crate::net::bind::Bind;

/// How long each of several attempts waits for the answer to a datagram. RFC 6886 doubles the time up to a minute; btsync tries
/// the next protocol instead, and comes back later.
const WAITS: [Duration; 3] = [Duration::from_millis(250), Duration::from_millis(500), Duration::from_secs(1)];
/// The most datagrams read in search of an answer.
pub const MAX_DATAGRAMS: usize = 64;
/// The receive buffer for a datagram, in bytes; the rest of a longer one is lost.
pub const DATAGRAM: usize = 2048;
/// The time limit for a request to a service.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// How much of an answer is read at a time, and the most bytes of one.
const STEP: usize = 8 * 1024;
const MAX_RECEIVED: usize = 160 * 1024;

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub enum RequestFailure {
    /// The client ends.
    Stopped,
    /// The router is silent or refuses.
    Failed(MappingFailure),
}

impl From<MappingFailure> for RequestFailure {
    fn from(failure: MappingFailure) -> RequestFailure {
        RequestFailure::Failed(failure)
    }
}

/// The answer of the router, or why there is none.
pub type RouterResult<T> = Result<T, RequestFailure>;

/// Sends and waits.
#[derive(Debug)]
pub struct RouterIo {
    /// Where sockets are bound.
    pub bind: Bind,
    /// Its other end is dropped when the client ends. `None` while mappings are removed, which nothing interrupts.
    pub stop: Option<PipeReader>,
}

impl RouterIo {
    /// Waits until one of `fds` has something or it is `until`. Sets their events.
    ///
    /// # Errors
    /// [`RequestFailure::Stopped`] if the client ends, or nothing can be waited for.
    pub fn wait<'a>(&'a self, fds: &mut Vec<PollFd<'a>>, until: Instant) -> RouterResult<()> {
        let timeout = until.saturating_duration_since(Instant::now());
        let own = fds.len();
        fds.extend(self.stop.iter().map(|stop| PollFd::new(stop, PollFlags::IN)));
        let polled = poll(fds, Timespec::try_from(timeout).ok().as_ref());
        let has_stopped = fds.iter().skip(own).any(|fd| !fd.revents().is_empty());
        fds.truncate(own);
        match polled {
            Ok(_) | Err(rustix::io::Errno::INTR) if !has_stopped => Ok(()),
            _ => Err(RequestFailure::Stopped),
        }
    }

    /// A socket for datagrams to the router, which receives only from there.
    pub fn router_socket(&self, path: &RouterPath, port: u16) -> io::Result<UdpSocket> {
        let socket = self.bind.udp(SocketAddr::new(path.client, 0))?;
        socket.connect(path.router(port))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }

    /// Sends a datagram, again if necessary, until `read` accepts one of the router.
    pub fn ask<T>(
        &self,
        path: &RouterPath,
        port: u16,
        request: &[u8],
        mut read: impl FnMut(&[u8]) -> Option<T>,
    ) -> RouterResult<T> {
        let socket = self.router_socket(path, port).map_err(|error| silent(&error))?;
        let mut left = MAX_DATAGRAMS;
        for wait in WAITS {
            socket.send(request).map_err(|error| silent(&error))?;
            let until = Instant::now() + wait;
            while Instant::now() < until && left > 0 {
                self.wait(&mut vec![PollFd::new(&socket, PollFlags::IN)], until)?;
                let mut buffer = [0; DATAGRAM];
                match socket.recv(&mut buffer) {
                    Ok(length) => {
                        left -= 1;
                        if let Some(answer) = buffer.get(..length).and_then(&mut read) {
                            return Ok(answer);
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    // The port is closed.
                    Err(error) => return Err(silent(&error)),
                }
            }
        }
        Err(MappingFailure::Silent.into())
    }

    /// Sends a request over a connection of its own.
    pub fn request(&self, path: &RouterPath, port: u16, request: Vec<u8>) -> RouterResult<RouterAnswer> {
        let exchange = RouterExchange::start(&self.bind, path, port, request).map_err(|error| silent(&error))?;
        let mut exchanges = [exchange];
        self.run(&mut exchanges, Instant::now() + REQUEST_TIMEOUT)?;
        let [exchange] = exchanges;
        exchange.answer.ok_or(RequestFailure::Failed(MappingFailure::Silent))
    }

    /// Runs several requests at once until all have ended or it is `until`.
    pub fn run(&self, exchanges: &mut [RouterExchange], until: Instant) -> RouterResult<()> {
        while exchanges.iter().any(|exchange| !exchange.is_over) && Instant::now() < until {
            let open = || exchanges.iter().filter(|exchange| !exchange.is_over);
            let mut fds: Vec<PollFd<'_>> =
                open().map(|exchange| PollFd::new(&exchange.socket, exchange.awaited())).collect();
            self.wait(&mut fds, until)?;
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            drop(fds);
            let open = exchanges.iter_mut().filter(|exchange| !exchange.is_over);
            for (exchange, _) in open.zip(ready).filter(|(_, is_ready)| *is_ready) {
                exchange.go_on();
            }
        }
        Ok(())
    }
}

/// A request to a service and its answer, over a connection of their own.
#[derive(Debug)]
pub struct RouterExchange {
    socket: TcpStream,
    request: Vec<u8>,
    sent: usize,
    received: Vec<u8>,
    is_over: bool,
    /// The answer, once it is complete.
    pub answer: Option<RouterAnswer>,
}

impl RouterExchange {
    /// Connects to a port of the gateway, without waiting.
    pub fn start(bind: &Bind, path: &RouterPath, port: u16, request: Vec<u8>) -> io::Result<RouterExchange> {
        let to = path.router(port);
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
        bind.bind_to_interface(&socket)?;
        socket.bind(&SocketAddr::new(path.client, 0).into())?;
        socket.set_nonblocking(true)?;
        match socket.connect(&to.into()) {
            Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
                return Err(error);
            }
            _ => {}
        }
        Ok(RouterExchange {
            socket: socket.into(),
            request,
            sent: 0,
            received: Vec::new(),
            is_over: false,
            answer: None,
        })
    }

    fn awaited(&self) -> PollFlags {
        if self.sent < self.request.len() { PollFlags::OUT } else { PollFlags::IN }
    }

    /// Sends or receives what is possible now.
    fn go_on(&mut self) {
        let done = if self.sent < self.request.len() { self.send() } else { self.receive() };
        match done {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.is_over = true,
            Ok(()) => {}
        }
    }

    fn send(&mut self) -> io::Result<()> {
        let rest = self.request.get(self.sent..).unwrap_or_default();
        self.sent += self.socket.write(rest)?;
        Ok(())
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut buffer = [0; STEP];
        let count = self.socket.read(&mut buffer)?;
        self.received.extend(buffer.iter().take(count));
        match message::read(&self.received, count == 0) {
            Ok(None) if self.received.len() <= MAX_RECEIVED => {}
            read => (self.answer, self.is_over) = (read.ok().flatten(), true),
        }
        Ok(())
    }
}

fn silent(error: &io::Error) -> RequestFailure {
    log::debug!("port mapping: {error}");
    MappingFailure::Silent.into()
}
