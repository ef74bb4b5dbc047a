//! Accepts incoming connections: one socket for both address families if the system has IPv6, and one thread that passes each
//! connection to the handshaker, which it owns. The threads of the UDP sockets give it incoming uTP connections through a queue, so
//! that the limits on pending handshakes hold for both transports together.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use crate::client::IncomingHandshaker;
use crate::net::address_filter::AddressFilter;
use crate::net::bind::Bind;
use crate::udp::AcceptUtp;
use crate::util::atomics::Flag;
use crate::util::descriptors::{is_kept_free, is_shortage};

/// Connections that the kernel queues until we accept them.
const BACKLOG: i32 = 128;
/// The pause after a failed accept; the usual cause is a lack of file descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(200);

/// Incoming uTP connections that wait for the thread; each holds two descriptors.
const MAX_WAITING_UTP: usize = 16;

/// The listening socket and its thread.
pub struct Listener {
    /// The port that we listen on.
    pub port: u16,
    socket: Socket,
    waker: Arc<ListenWaker>,
    utp: Sender<(TcpStream, SocketAddr)>,
    thread: Option<JoinHandle<()>>,
}

/// Wakes the thread: because it is to end, or because a uTP connection waits.
struct ListenWaker {
    event: OwnedFd,
    is_closing: Flag,
}

impl ListenWaker {
    fn notify(&self) {
        // Fails only if the counter is at its maximum, and then the thread is awake anyway.
        let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
    }
}

/// What the thread waits for.
struct IncomingSources {
    /// The listening socket; `None` if TCP is off.
    tcp: Option<Socket>,
    utp: Receiver<(TcpStream, SocketAddr)>,
    waker: Arc<ListenWaker>,
}

impl Listener {
    /// Takes the first free port of `ports` (0 lets the system choose), and passes connections to `handshaker`, except those from
    /// addresses that `filter` blocks: it closes them unread. Without `accepts_tcp`, it only keeps the port.
    ///
    /// # Errors
    /// If none of the ports is free, or the interface does not exist.
    pub fn start(
        ports: RangeInclusive<u16>,
        to: &Bind,
        accepts_tcp: bool,
        handshaker: IncomingHandshaker,
        filter: Arc<AddressFilter>,
    ) -> io::Result<Listener> {
        let mut result = Err(io::Error::from(io::ErrorKind::AddrInUse));
        for port in ports {
            result = bind(port, to, accepts_tcp);
            if result.is_ok() {
                break;
            }
        }
        let socket = result?;
        let port = socket.local_addr()?.as_socket().map_or(0, |addr| addr.port());
        socket.set_nonblocking(true)?;
        let tcp = accepts_tcp.then(|| socket.try_clone()).transpose()?;
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let waker = Arc::new(ListenWaker { event, is_closing: Flag::default() });
        let (utp, incoming_utp) = bounded(MAX_WAITING_UTP);
        let sources = IncomingSources { tcp, utp: incoming_utp, waker: waker.clone() };
        let thread = std::thread::Builder::new()
            .name("listen".into())
            .stack_size(128 * 1024)
            .spawn(move || sources.accept_all(handshaker, &filter))?;
        Ok(Listener { port, socket, waker, utp, thread: Some(thread) })
    }

    /// Takes incoming uTP connections as long as the listener exists.
    pub fn utp_acceptor(&self) -> AcceptUtp {
        let (waker, utp) = (self.waker.clone(), self.utp.clone());
        Arc::new(move |stream, addr| {
            let is_sent = utp.try_send((stream, addr)).is_ok();
            waker.notify();
            is_sent
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.waker.is_closing.set(true);
        let _ = self.socket.shutdown(std::net::Shutdown::Both); // refuses whatever is in the queue
        self.waker.notify();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl IncomingSources {
    fn accept_all(self, mut handshaker: IncomingHandshaker, filter: &AddressFilter) {
        let mut is_failing = false;
        while self.wait() {
            for (stream, addr) in self.utp.try_iter() {
                receive(&mut handshaker, stream, addr, filter);
            }
            let Some(tcp) = &self.tcp else { continue };
            match tcp.accept() {
                Ok((stream, addr)) => {
                    is_failing = false;
                    if let Some(addr) = addr.as_socket() {
                        receive(&mut handshaker, stream.into(), addr, filter);
                    }
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
                Err(_) if self.waker.is_closing.is_set() => return,
                Err(error) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        log::warn!("cannot accept a connection: {error}");
                    }
                    std::thread::sleep(ACCEPT_RETRY_DELAY);
                }
            }
        }
    }

    /// Waits for a connection. Returns false if the listener ends.
    fn wait(&self) -> bool {
        let mut fds = vec![PollFd::new(&self.waker.event, PollFlags::IN)];
        fds.extend(self.tcp.as_ref().map(|socket| PollFd::new(socket, PollFlags::IN)));
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => {
                log::warn!("cannot wait for connections: {error}");
                std::thread::sleep(ACCEPT_RETRY_DELAY);
            }
        }
        // Emptied before the queue is read, so that no connection waits without a wake-up.
        let _ = rustix::io::read(&self.waker.event, &mut [0; 8]);
        !self.waker.is_closing.is_set()
    }
}

fn receive(handshaker: &mut IncomingHandshaker, stream: TcpStream, addr: SocketAddr, filter: &AddressFilter) {
    if is_kept_free(&stream) {
        log::debug!("closed a connection, because the other descriptors are for something else");
    } else if !filter.count_if_blocked(addr.ip()) {
        handshaker.receive(stream, canonical(addr));
    }
}

fn bind(port: u16, to: &Bind, accepts_tcp: bool) -> io::Result<Socket> {
    if let Bind::Address(ip) = to {
        return open(SocketAddr::new(*ip, port), to, accepts_tcp);
    }
    open((Ipv6Addr::UNSPECIFIED, port).into(), to, accepts_tcp).or_else(|error| {
        if error.kind() == io::ErrorKind::AddrInUse || is_shortage(&error) {
            return Err(error);
        }
        open((Ipv4Addr::UNSPECIFIED, port).into(), to, accepts_tcp)
    })
}

fn open(addr: SocketAddr, to: &Bind, accepts_tcp: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    to.bind_to_interface(&socket)?;
    socket.set_reuse_address(true)?; // so that a port we used a moment ago is free
    socket.bind(&addr.into())?;
    if accepts_tcp {
        socket.listen(BACKLOG)?;
    }
    Ok(socket)
}

/// The IPv4 address that a dual-stack socket shows as `::ffff:a.b.c.d`.
fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}
