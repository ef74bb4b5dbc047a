//! Accepts incoming connections: one socket for both address families if the system has IPv6, and one thread that passes each
//! connection to the handshaker, which it owns. The threads of the UDP sockets give it incoming uTP connections through a queue, so
//! that the limits on pending handshakes hold for both transports together.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;
use socket2::Socket;

use crate::client::IncomingHandshaker;
use crate::net::address_filter::AddressFilter;
use crate::udp::AcceptUtp;
use crate::util::atomics::Flag;
use crate::util::descriptors::is_kept_free;

/// The pause after a failed accept; the usual cause is a lack of file descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(200);

/// Incoming uTP connections that wait for the thread; each holds two descriptors.
const MAX_WAITING_UTP: usize = 16;

/// The listening socket, if TCP is on, and the thread.
pub struct Listener {
    /// The port that we listen on.
    pub port: u16,
    tcp: Option<Socket>,
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
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let waker = Arc::new(ListenWaker { event, is_closing: Flag::default() });
        let (utp, incoming_utp) = bounded(MAX_WAITING_UTP);
        let sources = IncomingSources { tcp: accepting, utp: incoming_utp, waker: waker.clone() };
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
            waker.notify();
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

/// The IPv4 address that a dual-stack socket shows as `::ffff:a.b.c.d`.
fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}
