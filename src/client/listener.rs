//! Accepts incoming connections: one socket for both address families if the system has IPv6, and one thread that passes each
//! connection to the handshaker, which it owns. The threads of the UDP sockets give it incoming uTP connections through a queue, so
//! that the limits on pending handshakes hold for both transports together.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use socket2::Socket;

use crate::client::IncomingHandshaker;
use crate::net::address_filter::AddressFilter;
use crate::udp::{AcceptUtp, PeerStream};
use crate::util::atomics::Flag;
use crate::util::descriptors::is_kept_free;
use crate::util::wake_event::WakeEvent;

/// The pause after a failed accept; the usual cause is a lack of file descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(200);
/// How many TCP connections are accepted before uTP connections get their turn.
const MAX_ACCEPTS: usize = 32;
/// Incoming uTP connections that wait for the thread; each holds two descriptors.
pub const MAX_WAITING_UTP: usize = 16;

/// The listening socket, if TCP is on, and the thread.
pub struct Listener {
    /// The port that we listen on.
    pub port: u16,
    tcp: Option<Socket>,
    waker: Arc<ListenWaker>,
    utp: Sender<(PeerStream, SocketAddr)>,
    thread: Option<JoinHandle<()>>,
}

/// Wakes the thread: because it is to end, or because a uTP connection waits.
struct ListenWaker {
    event: WakeEvent,
    is_closing: Flag,
}

/// What the thread waits for.
struct IncomingSources {
    /// The listening socket; `None` if TCP is off.
    tcp: Option<Socket>,
    utp: Receiver<(PeerStream, SocketAddr)>,
    waker: Arc<ListenWaker>,
    /// After a failed accept: when to try again.
    retry_at: Option<Instant>,
    /// Whether the last accept failed.
    is_failing: bool,
}

impl Listener {
    /// Passes the connections that `tcp` accepts to `handshaker`, except those from addresses that `filter` blocks: it closes them
    /// unread. `port` is for others to read.
    ///
    /// # Errors
    /// If there is no descriptor or no thread.
    pub fn start(
        tcp: Option<Socket>,
        port: u16,
        handshaker: IncomingHandshaker,
        filter: Arc<AddressFilter>,
    ) -> io::Result<Listener> {
        let accepting = tcp.as_ref().map(Socket::try_clone).transpose()?;
        let waker = Arc::new(ListenWaker { event: WakeEvent::new()?, is_closing: Flag::default() });
        let (utp, incoming_utp) = bounded(MAX_WAITING_UTP);
        let sources = IncomingSources {
            tcp: accepting,
            utp: incoming_utp,
            waker: waker.clone(),
            retry_at: None,
            is_failing: false,
        };
        let thread = std::thread::Builder::new()
            .name("listen".into())
            .stack_size(128 * 1024)
            .spawn(move || sources.accept_all(handshaker, &filter))?;
        Ok(Listener { port, tcp, waker, utp, thread: Some(thread) })
    }

    /// Takes incoming uTP connections as long as the listener exists.
    pub fn utp_acceptor(&self) -> AcceptUtp {
        let (waker, utp) = (self.waker.clone(), self.utp.clone());
        Arc::new(move |stream, addr| {
            let is_sent = utp.try_send((stream, addr)).is_ok();
            waker.event.notify();
            is_sent
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.waker.is_closing.set(true);
        if let Some(tcp) = &self.tcp {
            let _ = tcp.shutdown(std::net::Shutdown::Both); // refuses whatever is in the queue
        }
        self.waker.event.notify();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl IncomingSources {
    fn accept_all(mut self, mut handshaker: IncomingHandshaker, filter: &AddressFilter) {
        while self.wait() {
            for (stream, addr) in self.utp.try_iter() {
                receive(&mut handshaker, stream, addr, filter);
            }
            if self.retry_at.is_none_or(|at| at <= Instant::now()) {
                self.accept_tcp(&mut handshaker, filter);
            }
        }
    }

    /// Accepts the TCP connections that wait, up to a limit.
    fn accept_tcp(&mut self, handshaker: &mut IncomingHandshaker, filter: &AddressFilter) {
        self.retry_at = None;
        let Some(tcp) = &self.tcp else { return };
        for _ in 0..MAX_ACCEPTS {
            match tcp.accept() {
                Ok((stream, addr)) => {
                    self.is_failing = false;
                    if let Some(addr) = addr.as_socket() {
                        receive(handshaker, TcpStream::from(stream).into(), addr, filter);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) => {
                }
                Err(_) if self.waker.is_closing.is_set() => return,
                Err(error) => {
                    if !std::mem::replace(&mut self.is_failing, true) {
                        log::warn!("cannot accept a connection: {error}");
                    }
                    self.retry_at = Some(Instant::now() + ACCEPT_RETRY_DELAY);
                    return;
                }
            }
        }
    }

    /// Waits for a connection, or until TCP connections are to be accepted again after a failure. Returns false if the listener
    /// ends.
    fn wait(&self) -> bool {
        let wake = PollFd::new(&self.waker.event, PollFlags::IN);
        let pause = self.retry_at.map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = pause.and_then(|pause| Timespec::try_from(pause).ok());
        let mut fds = [wake.clone(), wake];
        let mut count = 1;
        if let Some(tcp) = self.tcp.as_ref().filter(|_| pause.is_none()) {
            fds[1] = PollFd::new(tcp, PollFlags::IN);
            count = 2;
        }
        match poll(&mut fds[..count], timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => {
                log::warn!("cannot wait for connections: {error}");
                std::thread::sleep(ACCEPT_RETRY_DELAY);
            }
        }
        if !fds[0].revents().is_empty() {
            self.waker.event.clear();
        }
        !self.waker.is_closing.is_set()
    }
}

fn receive(handshaker: &mut IncomingHandshaker, stream: PeerStream, addr: SocketAddr, filter: &AddressFilter) {
    if is_kept_free(&stream) {
        log::debug!("closed a connection, because the other descriptors are for something else");
    } else if !filter.count_if_blocked(addr.ip()) {
        handshaker.receive(stream, canonical(addr));
    }
}

/// The IPv4 address that a dual-stack socket shows as `::ffff:a.b.c.d`.
fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}
