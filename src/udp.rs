//! The client's UDP sockets, which uTP and the DHT share: for each address family a socket and the thread that reads it. The thread
//! owns all uTP connections of the socket (`utp` has the protocol). Each of them looks like a TCP connection to the rest of the
//! program: as one end of a pair of connected sockets.
//!
//! `event_loop` is the thread, `bridge` one connection, `socket` the exchange of many datagrams at once, `command` how other threads
//! ask for something, and `dht_link` how the DHT takes part. `docs/dev/utp.md` has the reasons.

mod bridge;
mod command;
mod dht_link;
mod event_loop;
mod peer_stream;
mod socket;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use crate::net::address_filter::AddressFilter;
use crate::net::bind::Bind;
use crate::util::random::Random;
use crate::utp::{UtpConfig, UtpDial, UtpEndpoint};
use command::{UdpCommand, UdpSender, command_queue};
use dht_link::dht_link;
use event_loop::UdpLoop;
use peer_stream::UtpLink;
use socket::BatchSocket;

pub use bridge::UtpDialError;
pub use dht_link::DhtLink;
pub use peer_stream::PeerStream;

/// The thread's stack size; its buffers are on the heap.
const STACK: usize = 256 * 1024;

/// Takes an incoming uTP connection. Returns whether anybody wants it. Must not block.
pub type AcceptUtp = Arc<dyn Fn(PeerStream, SocketAddr) -> bool + Send + Sync>;

/// Bound UDP sockets at one port, which nobody reads yet: at most one for each address family.
pub struct UdpSockets {
    port: u16,
    /// Whether it is for IPv4, and the socket.
    sockets: Vec<(bool, UdpSocket)>,
}

/// A client's UDP sockets and their threads. Dropping it closes all connections and waits for the threads.
pub struct UdpService {
    threads: Vec<UdpThread>,
}

struct UdpThread {
    is_ipv4: bool,
    commands: UdpSender,
    socket: UdpSocket,
    /// The start of its clock.
    started: Instant,
    thread: Option<JoinHandle<()>>,
}

impl UdpSockets {
    /// Binds a socket of each address family to the port. 0 lets the system choose one.
    ///
    /// # Errors
    /// If the port is in use for one family, or no socket can be bound for either.
    pub fn bind(port: u16, bind: &Bind) -> io::Result<UdpSockets> {
        let mut bound = UdpSockets { port, sockets: Vec::new() };
        let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for is_ipv4 in [true, false] {
            let Some(ip) = bind.ip(is_ipv4) else { continue };
            let result = bind.udp(SocketAddr::new(ip, bound.port));
            match result.and_then(|socket| Ok((socket.local_addr()?.port(), socket))) {
                Ok((port, socket)) => {
                    bound.port = port;
                    bound.sockets.push((is_ipv4, socket));
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
                Err(error) => {
                    log::debug!("no UDP socket at {ip}, port {}: {error}", bound.port);
                    failure = error;
                }
            }
        }
        if bound.sockets.is_empty() { Err(failure) } else { Ok(bound) }
    }

    /// The port of all sockets.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl UdpService {
    /// Starts the sockets' threads. They exchange nothing with addresses that `filter` blocks, and give incoming connections to
    /// `accept`.
    ///
    /// # Errors
    /// If no socket can be used.
    pub fn start(sockets: UdpSockets, filter: &Arc<AddressFilter>, accept: &AcceptUtp) -> io::Result<UdpService> {
        let mut service = UdpService { threads: Vec::new() };
        let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for (is_ipv4, socket) in sockets.sockets {
            match UdpThread::start(is_ipv4, socket, filter, accept) {
                Ok(thread) => service.threads.push(thread),
                Err(error) => {
                    log::info!("no uTP over {}: {error}", if is_ipv4 { "IPv4" } else { "IPv6" });
                    failure = error;
                }
            }
        }
        if service.threads.is_empty() { Err(failure) } else { Ok(service) }
    }

    /// Begins to open a uTP connection. Once the stream is readable, [`UdpService::outcome`] says whether it is open. Shutting it
    /// down before ends the attempt.
    ///
    /// # Errors
    /// If there is no socket of this address family, no descriptor, or too much else to do.
    pub fn connect(&self, addr: SocketAddr, dial: UtpDial) -> io::Result<PeerStream> {
        let of_family = self.threads.iter().find(|thread| thread.is_ipv4 == addr.is_ipv4());
        let thread = of_family.ok_or(io::ErrorKind::AddrNotAvailable)?;
        let (theirs, pair) = bridge::pair()?;
        let link = Arc::new(UtpLink::new(thread.started));
        if thread.commands.send(UdpCommand::Connect { addr, dial, pair, link: link.clone() }) {
            Ok(PeerStream::new(theirs, link))
        } else {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }

    /// Whether a connection that was being opened is open, once its stream is readable.
    ///
    /// # Errors
    /// Why it is not.
    pub fn outcome(stream: &PeerStream) -> Result<(), UtpDialError> {
        bridge::read_outcome(stream)
    }

    /// Links through which the DHT uses the sockets, one for each address family. Earlier ones receive nothing any more.
    ///
    /// # Errors
    /// If there is no descriptor.
    pub fn attach_dht(&self) -> io::Result<Vec<DhtLink>> {
        let link = |thread: &UdpThread| {
            let (sender, link) = dht_link(&thread.socket)?;
            let is_sent = thread.commands.send(UdpCommand::AttachDht(sender));
            if is_sent { Ok(link) } else { Err(io::ErrorKind::WouldBlock.into()) }
        };
        self.threads.iter().map(link).collect()
    }
}

impl UdpThread {
    fn start(
        is_ipv4: bool,
        socket: UdpSocket,
        filter: &Arc<AddressFilter>,
        accept: &AcceptUtp,
    ) -> io::Result<UdpThread> {
        let batches = BatchSocket::new(socket.try_clone()?)?;
        let (commands, inbox) = command_queue()?;
        let endpoint = UtpEndpoint::new(UtpConfig::new(!is_ipv4), Random::system());
        let started = Instant::now();
        let udp_loop = UdpLoop::new(batches, inbox, endpoint, filter.clone(), accept.clone(), started)?;
        let name = if is_ipv4 { "udp4" } else { "udp6" };
        let thread = std::thread::Builder::new().name(name.into()).stack_size(STACK).spawn(move || udp_loop.run())?;
        Ok(UdpThread { is_ipv4, commands, socket, started, thread: Some(thread) })
    }
}

impl Drop for UdpService {
    fn drop(&mut self) {
        self.threads.iter().for_each(|thread| thread.commands.stop());
        for thread in self.threads.iter_mut().filter_map(|thread| thread.thread.take()) {
            if thread.join().is_err() {
                log::error!("a UDP thread panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests;
