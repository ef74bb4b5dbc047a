//! The HTTP tracker: one thread with epoll serves all connections. A waiting connection costs one file descriptor and little
//! memory, and never delays another.

use std::io::{self, PipeReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

use crate::net::networks::Network;
use crate::tracker_server::connection::{ConnectionStep, HttpConnection};
use crate::tracker_server::connections::ConnectionTable;
use crate::tracker_server::{MAX_CONNECTIONS, ServerShared};

/// The keys of epoll events; connections have keys from `FIRST` on.
const LISTENER: u64 = 0;
const END: u64 = 1;
const FIRST: u64 = 2;
/// The most events fetched at once.
const EVENTS: usize = 128;
/// The most connections accepted before open connections are served.
const MAX_ACCEPTS_PER_TURN: usize = 64;
/// The pause when no file descriptor is available and there is no connection to close.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// The state of the HTTP thread.
pub(crate) struct HttpServer {
    listener: TcpListener,
    epoll: OwnedFd,
    /// Kept open for epoll. The server drops the other end to stop this thread.
    _shutdown_pipe: PipeReader,
    shared: Arc<ServerShared>,
    open: ConnectionTable<HttpConnection>,
}

impl HttpServer {
    /// Creates the server for a non-blocking listener.
    pub fn new(listener: TcpListener, shutdown_pipe: PipeReader, shared: Arc<ServerShared>) -> io::Result<HttpServer> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        epoll::add(&epoll, &shutdown_pipe, EventData::new_u64(END), EventFlags::IN)?;
        let open = ConnectionTable::new(FIRST, shared.timeout);
        Ok(HttpServer { listener, epoll, _shutdown_pipe: shutdown_pipe, shared, open })
    }

    /// Serves until the other end of the shutdown pipe is closed.
    pub fn run(mut self) {
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
        loop {
            let left = self.open.due().map(|due| due.saturating_sub(self.shared.started.elapsed()));
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return log::error!("the tracker stops: {error}"),
            }
            for event in &events {
                match event.data.u64() {
                    END => return,
                    LISTENER => self.accept(),
                    key => self.advance(key),
                }
            }
            self.open.drop_expired(self.shared.started.elapsed());
        }
    }

    /// Accepts waiting connections.
    fn accept(&mut self) {
        for _ in 0..MAX_ACCEPTS_PER_TURN {
            match self.listener.accept() {
                Ok((stream, from)) => self.add_connection(stream, from),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    log::debug!("accept: {error}");
                    let is_lack = matches!(Errno::from_io_error(&error), Some(Errno::MFILE | Errno::NFILE));
                    if is_lack && self.open.len() > 0 {
                        self.open.evict();
                    } else if is_lack {
                        // Retrying at once would busy-loop.
                        thread::sleep(ACCEPT_RETRY_DELAY);
                    }
                }
            }
        }
    }

    fn add_connection(&mut self, stream: TcpStream, from: SocketAddr) {
        let ip = from.ip().to_canonical();
        if let Err(error) = stream.set_nonblocking(true) {
            return log::debug!("client {ip}: {error}");
        }
        // Small answers are sent in one packet anyway; large ones need not wait for the client's acknowledgement.
        let _ = stream.set_nodelay(true);
        let mut connection = HttpConnection::new(stream, ip);
        // Most requests have already arrived.
        let step = connection.advance(&self.shared);
        if step == ConnectionStep::Over {
            return;
        }
        if self.open.len() >= MAX_CONNECTIONS {
            self.open.evict();
        }
        let key = self.open.add(self.shared.started.elapsed(), Network::host(ip), connection);
        let Some(connection) = self.open.get_mut(key) else { return };
        if let Err(error) = epoll::add(&self.epoll, connection.stream(), EventData::new_u64(key), flags(step)) {
            log::debug!("client {ip}: {error}");
            self.open.remove(key);
        }
    }

    fn advance(&mut self, key: u64) {
        // The connection may have been evicted since epoll reported the event.
        let Some(connection) = self.open.get_mut(key) else { return };
        let step = connection.advance(&self.shared);
        let waits = step != ConnectionStep::Over
            && epoll::modify(&self.epoll, connection.stream(), EventData::new_u64(key), flags(step)).is_ok();
        if !waits {
            self.open.remove(key);
        }
    }
}

fn flags(step: ConnectionStep) -> EventFlags {
    if step == ConnectionStep::Writing { EventFlags::OUT } else { EventFlags::IN }
}
