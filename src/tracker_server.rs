//! A small HTTP and UDP tracker in memory: tests, the demo and `btsync tracker` use it. One thread serves all HTTP connections, another
//! answers datagrams; both sleep until something comes.
//!
//! What strangers can take of it is bounded: peers by [`RegistryLimits`], connections by [`MAX_CONNECTIONS`], a
//! connection's time by `CONNECTION_TIMEOUT` and its request by `MAX_REQUEST`.

mod connection;
mod connections;
mod http;
pub mod registry;
mod request;
#[cfg(test)]
mod tests;
mod udp;

use std::io::{self, PipeWriter};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use socket2::{Domain, Socket, Type};

use crate::tracker_server::registry::{Registry, RegistryLimits};
use crate::util::descriptors::is_shortage;

/// Connections at once; beyond, one is hung up on: the oldest of the network that has most.
pub const MAX_CONNECTIONS: usize = 512;
/// A connection is hung up on after so long, answered or not.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest request, header included, in bytes.
const MAX_REQUEST: usize = 8 * 1024;
/// Connections that may wait for the thread to take them.
const BACKLOG: i32 = 1024;
/// What such a thread needs is little.
const STACK: usize = 128 * 1024;

/// How a tracker behaves.
#[derive(Clone, Copy, Debug)]
pub struct TrackerServerConfig {
    /// The pause that clients are asked for; a peer that is silent for two of them is forgotten.
    pub interval: Duration,
    /// The least pause that clients are asked for.
    pub min_interval: Duration,
    /// Peers remembered of all torrents together; beyond, the one that was silent for longest is forgotten.
    pub max_peers: usize,
    /// Peers of one IPv4 address or one IPv6 /64, of all torrents together; an announce of one more is refused.
    pub max_peers_per_network: usize,
    /// The same of one torrent; beyond, the one of them that was silent for longest is forgotten.
    pub max_peers_per_network_and_torrent: usize,
}

impl Default for TrackerServerConfig {
    fn default() -> TrackerServerConfig {
        TrackerServerConfig {
            interval: Duration::from_secs(120),
            min_interval: Duration::from_secs(60),
            max_peers: 200_000,
            max_peers_per_network: 10_000,
            max_peers_per_network_and_torrent: 32,
        }
    }
}

/// A tracker that runs until [`TrackerServer::stop`] or until it is dropped.
#[derive(Debug)]
pub struct TrackerServer {
    addr: SocketAddr,
    /// Dropped to end the threads.
    shutdown_sender: Option<PipeWriter>,
    threads: Vec<JoinHandle<()>>,
    /// Why it answers over HTTP only.
    without_udp: Option<io::Error>,
}

/// What the threads share.
#[derive(Debug)]
struct ServerShared {
    config: TrackerServerConfig,
    /// For a request and its answer.
    timeout: Duration,
    started: Instant,
    registry: Mutex<Registry>,
}

impl TrackerServer {
    /// Listens on `listen` and serves from threads of its own; `[::]` takes IPv4 clients too, port 0 is any free one.
    ///
    /// # Errors
    /// Where the address is taken or not ours, or no thread or descriptor can be had. Without the UDP port it answers over HTTP only.
    pub fn start(listen: SocketAddr, config: TrackerServerConfig) -> io::Result<TrackerServer> {
        TrackerServer::start_with_timeout(listen, config, CONNECTION_TIMEOUT)
    }

    fn start_with_timeout(
        listen: SocketAddr,
        config: TrackerServerConfig,
        timeout: Duration,
    ) -> io::Result<TrackerServer> {
        let listener = bind(listen)?;
        let addr = listener.local_addr()?;
        let limits = RegistryLimits {
            expiry: config.interval.saturating_mul(2),
            max_peers: config.max_peers,
            max_per_network: config.max_peers_per_network,
            max_per_network_in_swarm: config.max_peers_per_network_and_torrent,
        };
        let registry = Mutex::new(Registry::new(limits));
        let shared = Arc::new(ServerShared { config, timeout, started: Instant::now(), registry });
        let (shutdown_pipe, shutdown_sender) = io::pipe()?;
        let mut server =
            TrackerServer { addr, shutdown_sender: Some(shutdown_sender), threads: Vec::new(), without_udp: None };
        let for_udp = (udp::bind(addr), shutdown_pipe.try_clone()?, Arc::clone(&shared));
        let http = http::HttpServer::new(listener, shutdown_pipe, shared)?;
        server.threads.push(spawn("tracker", move || http.run())?);
        let started = match for_udp {
            (Ok(socket), shutdown_pipe, shared) => {
                spawn("tracker-udp", move || udp::serve(&socket, &shutdown_pipe, &shared))
            }
            (Err(error), ..) => Err(error),
        };
        match started {
            Ok(thread) => server.threads.push(thread),
            Err(error) if is_shortage(&error) => return Err(error),
            Err(error) => server.without_udp = Some(error),
        }
        Ok(server)
    }

    /// Where it listens, with the port that it got.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Why it does not answer over UDP, if it does not.
    pub fn without_udp(&self) -> Option<&io::Error> {
        self.without_udp.as_ref()
    }

    /// Ends all connections and waits for the threads.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.shutdown_sender = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                log::error!("a thread of the tracker panicked");
            }
        }
    }
}

impl Drop for TrackerServer {
    fn drop(&mut self) {
        self.end();
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.into()).stack_size(STACK).spawn(work)
}

fn bind(listen: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(listen), Type::STREAM, None)?;
    if listen.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // Elsewhere this option means that several may take one port.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&listen.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}
