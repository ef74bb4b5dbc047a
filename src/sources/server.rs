//! A small HTTP and UDP tracker in memory: tests, the demo and `btsync tracker` use it. One thread accepts, one short-lived
//! thread serves each connection, [`MAX_CONNECTIONS`] at once; those beyond wait in the system's queue. One more thread
//! answers datagrams.

mod request;
#[cfg(test)]
mod tests;
mod udp;

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;
use socket2::{Domain, Socket, Type};

use super::registry::{Limits, Registry};

/// Connections served at once.
pub const MAX_CONNECTIONS: usize = 64;
/// A client has so long to say what it wants, and as long to take the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The largest request, header included, in bytes.
const MAX_REQUEST: usize = 8 * 1024;
/// What such a thread needs is little.
const STACK: usize = 128 * 1024;

/// How a tracker behaves.
#[derive(Clone, Copy, Debug)]
pub struct ServerConfig {
    /// The pause that clients are asked for; a peer that is silent for two of them is forgotten.
    pub interval: Duration,
    /// The least pause that clients are asked for.
    pub min_interval: Duration,
    /// Peers remembered of one torrent.
    pub max_peers_per_torrent: usize,
    /// Torrents remembered.
    pub max_torrents: usize,
}

impl Default for ServerConfig {
    fn default() -> ServerConfig {
        ServerConfig {
            interval: Duration::from_secs(120),
            min_interval: Duration::from_secs(60),
            max_peers_per_torrent: 10_000,
            max_torrents: 1_000,
        }
    }
}

/// A tracker that runs until [`Server::stop`] or until it is dropped.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
    /// Answers datagrams, where the port was free for them.
    answerer: Option<(UdpSocket, JoinHandle<()>)>,
}

/// What the threads share.
#[derive(Debug)]
struct Shared {
    config: ServerConfig,
    /// For a request, and again for its answer.
    patience: Duration,
    started: Instant,
    registry: Mutex<Registry>,
    stop: AtomicBool,
    /// The connections under way, to be shut down at the end.
    open: Mutex<HashMap<u64, TcpStream>>,
}

impl Server {
    /// Listens on `listen` and serves from threads of its own; `[::]` takes IPv4 clients too, port 0 is any free one.
    ///
    /// # Errors
    /// Where the address is taken or not ours, or no thread can be had.
    pub fn start(listen: SocketAddr, config: ServerConfig) -> io::Result<Server> {
        Server::start_patient(listen, config, PATIENCE)
    }

    fn start_patient(listen: SocketAddr, config: ServerConfig, patience: Duration) -> io::Result<Server> {
        let listener = bind(listen)?;
        let addr = listener.local_addr()?;
        let limits = Limits {
            expiry: config.interval.saturating_mul(2),
            max_peers_per_torrent: config.max_peers_per_torrent,
            max_torrents: config.max_torrents,
        };
        let shared = Arc::new(Shared {
            config,
            patience,
            started: Instant::now(),
            registry: Mutex::new(Registry::new(limits)),
            stop: AtomicBool::new(false),
            open: Mutex::new(HashMap::new()),
        });
        let answerer = match start_udp(addr, &shared) {
            Ok(answerer) => Some(answerer),
            Err(e) => {
                log::warn!("this tracker answers over HTTP only: UDP port {}: {e}", addr.port());
                None
            }
        };
        let for_thread = Arc::clone(&shared);
        let acceptor = thread::Builder::new()
            .name("tracker".into())
            .stack_size(STACK)
            .spawn(move || accept_all(&listener, &for_thread))?;
        Ok(Server { addr, shared, acceptor: Some(acceptor), answerer })
    }

    /// Where it listens, with the port that it got.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Ends all connections and waits for the threads.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let (acceptor, answerer) = (self.acceptor.take(), self.answerer.take());
        let Some(acceptor) = acceptor else { return };
        self.shared.stop.store(true, Ordering::SeqCst);
        for stream in self.shared.open.lock().values() {
            // An error means that it is closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
        // Wakes both threads.
        let ip = match self.addr.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let own = SocketAddr::new(ip, self.addr.port());
        let _ = TcpStream::connect_timeout(&own, PATIENCE);
        if acceptor.join().is_err() {
            log::error!("the tracker's thread panicked");
        }
        if let Some((socket, thread)) = answerer {
            // Where not even that can be sent the thread is left behind.
            let woken = socket.send_to(&[], own).is_ok();
            if woken && thread.join().is_err() {
                log::error!("the tracker's UDP thread panicked");
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

fn start_udp(addr: SocketAddr, shared: &Arc<Shared>) -> io::Result<(UdpSocket, JoinHandle<()>)> {
    let socket = udp::bind(addr)?;
    let (clone, shared) = (socket.try_clone()?, Arc::clone(shared));
    let thread = thread::Builder::new().name("tracker-udp".into()).stack_size(STACK);
    Ok((clone, thread.spawn(move || udp::serve(&socket, &shared))?))
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
    socket.listen(256)?;
    Ok(socket.into())
}

/// A connection's place among those served at once, given back when it ends, whatever ends it.
struct Place {
    key: u64,
    shared: Arc<Shared>,
    taken: Receiver<()>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.open.lock().remove(&self.key);
        let _ = self.taken.try_recv();
    }
}

fn accept_all(listener: &TcpListener, shared: &Arc<Shared>) {
    let (take, taken): (Sender<()>, Receiver<()>) = bounded(MAX_CONNECTIONS);
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    for key in 0.. {
        // Waits where all places are taken.
        if take.send(()).is_err() {
            break;
        }
        let place = Place { key, shared: Arc::clone(shared), taken: taken.clone() };
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(e) => {
                log::debug!("accept: {e}");
                // No descriptors left, most likely: trying again at once would only burn time.
                thread::sleep(Duration::from_millis(50));
                continue;
            }
        };
        if let Ok(clone) = stream.try_clone() {
            shared.open.lock().insert(key, clone);
        }
        // After the insertion, so that either this or `end` sees the stream.
        if shared.stop.load(Ordering::SeqCst) {
            break;
        }
        threads.retain(|thread| !thread.is_finished());
        let served = thread::Builder::new().name("tracker-client".into()).stack_size(STACK).spawn(move || {
            if let Err(e) = serve(&stream, &place.shared) {
                log::debug!("client: {e}");
            }
        });
        match served {
            Ok(thread) => threads.push(thread),
            Err(e) => log::warn!("no thread for a client: {e}"),
        }
    }
    for thread in threads {
        if thread.join().is_err() {
            log::error!("a client's thread panicked");
        }
    }
}

/// One request, one answer.
fn serve(mut stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    let from = stream.peer_addr()?;
    let request = read_request(stream, shared.patience)?;
    let now = shared.started.elapsed();
    let response = request::respond(&request, from.ip().to_canonical(), now, &shared.config, &shared.registry);
    stream.set_write_timeout(Some(shared.patience))?;
    stream.write_all(&response)?;
    stream.shutdown(Shutdown::Write)
}

/// Reads up to the empty line that ends a request's header, within `patience` and [`MAX_REQUEST`].
fn read_request(mut stream: &TcpStream, patience: Duration) -> io::Result<Vec<u8>> {
    let end = Instant::now() + patience;
    let mut request = Vec::new();
    let mut part = [0; 2048];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let read = match stream.read(&mut part) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            other => other?,
        };
        request.extend_from_slice(part.get(..read).unwrap_or_default());
        if request.windows(4).any(|w| w == b"\r\n\r\n") || request.windows(2).any(|w| w == b"\n\n") {
            return Ok(request);
        }
        if request.len() > MAX_REQUEST {
            return Err(io::Error::other("the request is too long"));
        }
    }
}
