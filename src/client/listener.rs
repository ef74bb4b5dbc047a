//! Accepts incoming connections: one socket for both address families if the system has IPv6, and one thread that passes each
//! connection to the handshaker, which it owns.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::client::IncomingHandshaker;
use crate::net::address_filter::AddressFilter;
use crate::net::bind::Bind;
use crate::util::atomics::Flag;
use crate::util::descriptors::{is_kept_free, is_shortage};

/// Connections that the kernel queues until we accept them.
const BACKLOG: i32 = 128;
/// The pause after a failed accept; the usual cause is a lack of file descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(200);

/// The listening socket and its thread.
pub struct Listener {
    /// The port that we listen on.
    pub port: u16,
    socket: Socket,
    closing: Arc<Flag>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Listens on the first free port of `ports` (0 lets the system choose), and passes connections to `handshaker`, except
    /// those from addresses that `filter` blocks: it closes them unread.
    ///
    /// # Errors
    /// If none of the ports is free, or the interface does not exist.
    pub fn start(
        ports: RangeInclusive<u16>,
        to: &Bind,
        handshaker: IncomingHandshaker,
        filter: Arc<AddressFilter>,
    ) -> io::Result<Listener> {
        let mut result = Err(io::Error::from(io::ErrorKind::AddrInUse));
        for port in ports {
            result = bind(port, to);
            if result.is_ok() {
                break;
            }
        }
        let socket = result?;
        let port = socket.local_addr()?.as_socket().map_or(0, |addr| addr.port());
        let accepts = socket.try_clone()?;
        let closing = Arc::new(Flag::default());
        let flag = closing.clone();
        let thread = std::thread::Builder::new()
            .name("listen".into())
            .stack_size(128 * 1024)
            .spawn(move || accept(&accepts, &flag, handshaker, &filter))?;
        Ok(Listener { port, socket, closing, thread: Some(thread) })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.closing.set(true);
        let _ = self.socket.shutdown(std::net::Shutdown::Both); // wakes the thread from accept
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn bind(port: u16, to: &Bind) -> io::Result<Socket> {
    if let Bind::Address(ip) = to {
        return open(SocketAddr::new(*ip, port), to);
    }
    open((Ipv6Addr::UNSPECIFIED, port).into(), to).or_else(|error| {
        if error.kind() == io::ErrorKind::AddrInUse || is_shortage(&error) {
            return Err(error);
        }
        open((Ipv4Addr::UNSPECIFIED, port).into(), to)
    })
}

fn open(addr: SocketAddr, to: &Bind) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    to.bind_to_interface(&socket)?;
    socket.set_reuse_address(true)?; // so that a port we used a moment ago is free
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

fn accept(socket: &Socket, closing: &Flag, mut handshaker: IncomingHandshaker, filter: &AddressFilter) {
    let mut failing = false;
    loop {
        let accepted = socket.accept();
        if closing.is_set() {
            return;
        }
        match accepted {
            Ok((stream, addr)) => {
                failing = false;
                if is_kept_free(&stream) {
                    log::debug!("closed a connection, because the other descriptors are for something else");
                } else if let Some(addr) = addr.as_socket().filter(|addr| !filter.count_if_blocked(addr.ip())) {
                    handshaker.receive(stream.into(), canonical(addr));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    log::warn!("cannot accept a connection: {error}");
                }
                std::thread::sleep(ACCEPT_RETRY_DELAY);
            }
        }
    }
}

/// The IPv4 address that a dual-stack socket shows as `::ffff:a.b.c.d`.
fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}
