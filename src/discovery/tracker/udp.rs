//! The UDP tracker client (BEP 15, 41): the sockets for `exchange`, which has the protocol's logic without I/O; [`packet`]
//! encodes and decodes the datagrams.
//!
//! If a host has addresses of both families, the client sends to one of each at once, because a tracker returns only peers of the
//! family used. If an address does not respond, it tries the family's next address as well. All this happens on the caller's
//! thread, which waits for all sockets together until the deadline.
//! The sockets are connected, so that the system drops datagrams from other senders and reports an unreachable port.

mod exchange;
pub mod packet;
mod proxied;
mod url;

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::discovery::tracker::announce::{Announce, AnnounceEvent, AnnounceResponse, ScrapeCounts};
use crate::discovery::tracker::error::TrackerError;
use crate::discovery::tracker::http::is_local;
use crate::net::bind::Bind;
use crate::net::host_names::{ResolveError, resolve};
use crate::net::route::Route;
use crate::types::InfoHash;
use crate::util::os_error::reason;
use crate::util::printable_text::printable;
use crate::util::random::Random;
use exchange::{ConnectionId, Exchange, Reply, TrackerQuery};
use url::UdpUrl;

/// After this time without a response, during which the request was repeated, the client also tries the family's next address.
const SILENT_AFTER: Duration = Duration::from_secs(6);
/// The most addresses tried per family.
const MAX_ADDRESSES: usize = 4;
/// How long the client waits for other addresses once one has responded.
const GRACE: Duration = Duration::from_secs(if cfg!(test) { 5 } else { 1 });
/// The longest response read, in bytes: more addresses than any tracker sends.
const MAX_PACKET: usize = 16 * 1024;
/// The most datagrams received from one socket before the others are served.
const MAX_DATAGRAMS_PER_TURN: usize = 32;
/// The most connection ids kept. Each keeps a socket open, because some trackers tie an id to a port.
const MAX_CONNECTION_IDS: usize = 8;

/// A client for UDP trackers; cheap to clone, and clones share their connection ids.
#[derive(Clone, Debug)]
pub struct UdpTracker {
    start: Instant,
    connections: Arc<Mutex<HashMap<SocketAddr, (UdpSocket, ConnectionId)>>>,
    /// Whether an address is local rather than public.
    is_local: fn(IpAddr) -> bool,
    route: Route,
    /// The user's own URLs, which may have any local address.
    trusted: Arc<HashSet<String>>,
}

/// An exchange and its socket.
struct UdpExchange<'a> {
    addr: SocketAddr,
    socket: UdpSocket,
    exchange: Exchange<'a>,
    result: Option<Result<Reply, TrackerError>>,
}

/// The attempts at the addresses of one family, until one responds.
struct FamilyAttempts<'a> {
    /// Addresses not tried yet, the next one last.
    rest: Vec<SocketAddr>,
    exchanges: Vec<UdpExchange<'a>>,
    /// When to try the next address although another may still respond.
    next_at: Duration,
    /// The errors of addresses to which no socket could be opened.
    failures: Vec<TrackerError>,
}

impl<'a> FamilyAttempts<'a> {
    fn new(addresses: &[SocketAddr]) -> FamilyAttempts<'a> {
        let rest = addresses.iter().take(MAX_ADDRESSES).rev().copied().collect();
        FamilyAttempts { rest, exchanges: Vec::new(), next_at: Duration::ZERO, failures: Vec::new() }
    }

    /// Exchanges without a result.
    fn waiting(&self) -> impl Iterator<Item = &UdpExchange<'a>> {
        self.exchanges.iter().filter(|exchange| exchange.result.is_none())
    }

    fn has_reply(&self) -> bool {
        self.exchanges.iter().any(|exchange| matches!(exchange.result, Some(Ok(_))))
    }

    /// Whether no further result can be expected.
    fn is_over(&self) -> bool {
        self.has_reply() || (self.rest.is_empty() && self.waiting().next().is_none())
    }
}

impl UdpTracker {
    /// Creates a client.
    pub fn new() -> UdpTracker {
        UdpTracker::with(is_local)
    }

    /// Sets the user's own URLs, which may have a local address with any path.
    #[must_use]
    pub fn with_trusted_urls(self, urls: Arc<HashSet<String>>) -> UdpTracker {
        UdpTracker { trusted: urls, ..self }
    }

    /// Creates a client whose datagrams take this route.
    pub fn on_route(route: &Route) -> UdpTracker {
        UdpTracker { route: route.clone(), ..UdpTracker::new() }
    }

    /// A client that takes the addresses named by `is_local` for those of this machine or network.
    pub(crate) fn with(is_local: fn(IpAddr) -> bool) -> UdpTracker {
        UdpTracker {
            start: Instant::now(),
            connections: Arc::default(),
            is_local,
            route: Route::default(),
            trusted: Arc::default(),
        }
    }

    /// Announces to the tracker at `url` and waits for its response; in total, including name lookup, at most `deadline`.
    ///
    /// # Errors
    /// If the tracker does not respond or refuses; see [`TrackerError`]. Error messages do not contain a URL's query.
    pub fn announce(&self, url: &str, a: &Announce, deadline: Duration) -> Result<AnnounceResponse, TrackerError> {
        let end = self.now().saturating_add(deadline);
        let target = UdpUrl::parse(url)?;
        let query = TrackerQuery::Announce(a, target.data);
        if let Some(proxy) = self.route.proxy() {
            let to = proxied::proxy_target(&target, self.trusted.contains(url))?;
            return match self.run_through(proxy, &to, query, end)? {
                Reply::Announced(answer) => Ok(answer),
                Reply::Scraped(_) => Err(TrackerError::Timeout),
            };
        }
        let addresses = self.addresses(&target, self.trusted.contains(url), end)?;
        let replies = self.run_exchanges(&addresses, query, end)?;
        if a.event == Some(AnnounceEvent::Stopped) {
            self.connections.lock().retain(|addr, _| !addresses.iter().flatten().any(|asked| asked == addr));
        }
        let answers = replies.into_iter().filter_map(|reply| match reply {
            Reply::Announced(answer) => Some(answer),
            Reply::Scraped(_) => None,
        });
        answers.reduce(AnnounceResponse::merged).ok_or(TrackerError::Timeout)
    }

    /// Requests the counts of `swarms` from the tracker at `url`, in the same order. UDP trackers return zeros for unknown
    /// torrents.
    ///
    /// # Errors
    /// Those of [`UdpTracker::announce`].
    pub fn scrape(
        &self,
        url: &str,
        swarms: &[InfoHash],
        deadline: Duration,
    ) -> Result<Vec<Option<ScrapeCounts>>, TrackerError> {
        let end = self.now().saturating_add(deadline);
        let target = UdpUrl::parse(url)?;
        let is_trusted = self.trusted.contains(url);
        let through = self.route.proxy().map(|proxy| Ok((proxy, proxied::proxy_target(&target, is_trusted)?)));
        let through = through.transpose()?;
        let addresses = match through {
            Some(_) => Vec::new(),
            None => self.addresses(&target, is_trusted, end)?,
        };
        let mut all = Vec::with_capacity(swarms.len());
        for part in swarms.chunks(packet::MAX_SCRAPE) {
            let query = TrackerQuery::Scrape(part);
            let replies = match &through {
                Some((proxy, to)) => vec![self.run_through(proxy, to, query, end)?],
                None => self.run_exchanges(&addresses, query, end)?,
            };
            let figures = replies.into_iter().find_map(|reply| match reply {
                Reply::Scraped(figures) => Some(figures),
                Reply::Announced(_) => None,
            });
            let mut figures = figures.unwrap_or_default().into_iter();
            all.extend(part.iter().map(|_| figures.next()));
        }
        Ok(all)
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Runs one exchange per family and returns their replies; an error if there is none.
    fn run_exchanges(
        &self,
        addresses: &[Vec<SocketAddr>],
        query: TrackerQuery,
        end: Duration,
    ) -> Result<Vec<Reply>, TrackerError> {
        let mut families: Vec<FamilyAttempts> = addresses.iter().map(|of_one| FamilyAttempts::new(of_one)).collect();
        let mut until = end;
        while families.iter().any(|family| !family.is_over()) {
            let now = self.now();
            if now >= until {
                break;
            }
            for family in &mut families {
                self.advance(family, now, query, end);
            }
            if families.iter().flat_map(FamilyAttempts::waiting).next().is_some() {
                self.wait(&mut families, until)?;
            }
            if families.iter().any(FamilyAttempts::has_reply) {
                until = until.min(self.now().saturating_add(GRACE));
            }
        }
        let (mut replies, mut failures) = (Vec::new(), Vec::new());
        for family in families {
            failures.extend(family.failures);
            for exchange in family.exchanges {
                match exchange.result {
                    Some(Ok(reply)) => {
                        let reply =
                            if (self.is_local)(exchange.addr.ip()) { reply } else { reply.without_private_peers() };
                        self.keep(exchange.addr, exchange.socket, exchange.exchange.connection());
                        replies.push(reply);
                    }
                    Some(Err(error)) => failures.push(error),
                    None => failures.push(TrackerError::Timeout),
                }
            }
        }
        // Prefer an error from the tracker itself to a failed connection to another of its addresses.
        let failure = failures.into_iter().min_by_key(|error| match error {
            TrackerError::Refused(_) => 0,
            TrackerError::Malformed(_) => 1,
            TrackerError::Timeout => 2,
            _ => 3,
        });
        if replies.is_empty() { Err(failure.unwrap_or(TrackerError::Timeout)) } else { Ok(replies) }
    }

    /// Sends due datagrams, and tries the family's next address if no exchange is in progress or the last one has been silent for
    /// too long.
    fn advance<'a>(&self, family: &mut FamilyAttempts<'a>, now: Duration, query: TrackerQuery<'a>, end: Duration) {
        family
            .exchanges
            .iter_mut()
            .filter(|exchange| exchange.result.is_none())
            .for_each(|exchange| exchange.send(now));
        while !family.is_over() && (family.waiting().next().is_none() || now >= family.next_at) {
            let Some(addr) = family.rest.pop() else { return };
            match self.open(addr, query, end) {
                Ok(mut exchange) => {
                    exchange.send(now);
                    family.exchanges.push(exchange);
                    family.next_at = now.saturating_add(SILENT_AFTER);
                }
                Err(error) => family.failures.push(connect_error(&error)),
            }
        }
    }

    /// Sleeps until a datagram arrives or an exchange is due, at most until `until`, and handles received datagrams.
    fn wait(&self, families: &mut [FamilyAttempts], until: Duration) -> Result<(), TrackerError> {
        let open = || families.iter().flat_map(FamilyAttempts::waiting);
        let next = families.iter().filter(|f| !f.is_over() && !f.rest.is_empty()).map(|f| f.next_at);
        let wake = open().map(|t| t.exchange.due()).chain(next).min().unwrap_or(until).min(until);
        let left = wake.saturating_sub(self.now());
        let mut fds: Vec<PollFd> = open().map(|t| PollFd::new(&t.socket, PollFlags::IN)).collect();
        let timeout = Timespec::try_from(left).ok();
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(connect_error(&error.into())),
        }
        let now = self.now();
        let exchanges = families.iter_mut().flat_map(|family| &mut family.exchanges);
        exchanges.filter(|t| t.result.is_none()).for_each(|t| t.receive(now));
        Ok(())
    }

    /// The addresses to try, by family. Uses local ones only if there are no others, and then only for the URL of an announce, so
    /// that a torrent cannot make btsync send packets to other local services.
    fn addresses(
        &self,
        target: &UdpUrl,
        is_trusted: bool,
        end: Duration,
    ) -> Result<Vec<Vec<SocketAddr>>, TrackerError> {
        let all = self.resolve(target, end)?;
        let public: Vec<SocketAddr> = all.iter().copied().filter(|addr| !(self.is_local)(addr.ip())).collect();
        if public.is_empty() && !is_trusted && !target.is_announce() {
            return Err(TrackerError::Local);
        }
        let chosen = if public.is_empty() { all } else { public };
        let (four, six) = chosen.into_iter().partition::<Vec<_>, _>(SocketAddr::is_ipv4);
        Ok([four, six].into_iter().filter(|family| !family.is_empty()).collect())
    }

    /// All addresses of the host, at least one.
    fn resolve(&self, target: &UdpUrl, end: Duration) -> Result<Vec<SocketAddr>, TrackerError> {
        let port = target.port;
        if let Ok(ip) = target.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip.to_canonical(), port)]);
        }
        let timeout = end.saturating_sub(self.now());
        let found = resolve(target.host, port, Some(timeout)).map_err(|error| match error {
            ResolveError::NotFound => TrackerError::NameLookup { host: printable(target.host) },
            ResolveError::TimedOut => TrackerError::Timeout,
            ResolveError::NoThread(_) => TrackerError::Connect(printable(&error.to_string())),
        })?;
        let canonical = |addr: SocketAddr| SocketAddr::new(addr.ip().to_canonical(), port);
        Ok(found.into_iter().map(canonical).collect())
    }

    /// Opens a socket for `addr`, or reuses the one with a valid connection id.
    fn open<'a>(&self, addr: SocketAddr, query: TrackerQuery<'a>, end: Duration) -> io::Result<UdpExchange<'a>> {
        let now = self.now();
        let old = {
            let mut kept = self.connections.lock();
            kept.retain(|_, (_, connection)| connection.is_fresh(now));
            kept.remove(&addr)
        };
        let (socket, connection) = match old {
            Some((socket, connection)) => (socket, Some(connection)),
            None => (connected(addr, self.route.direct_bind().ok_or(io::ErrorKind::Unsupported)?)?, None),
        };
        let exchange = Exchange::begin(now, addr, query, connection, end, Random::system());
        Ok(UdpExchange { addr, socket, exchange, result: None })
    }

    /// Keeps the connection id and its socket for the next request.
    fn keep(&self, addr: SocketAddr, socket: UdpSocket, connection: Option<ConnectionId>) {
        let mut kept = self.connections.lock();
        if let Some(connection) = connection
            && kept.len() < MAX_CONNECTION_IDS
        {
            kept.insert(addr, (socket, connection));
        }
    }
}

impl Default for UdpTracker {
    fn default() -> UdpTracker {
        UdpTracker::new()
    }
}

impl UdpExchange<'_> {
    fn send(&mut self, now: Duration) {
        let Some(datagram) = self.exchange.next_datagram(now) else { return };
        match self.socket.send(&datagram) {
            // A full send buffer is like a lost packet.
            Err(e) if !matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                self.result = Some(Err(connect_error(&e)));
            }
            _ => {}
        }
    }

    fn receive(&mut self, now: Duration) {
        let mut buffer = [0; MAX_PACKET];
        for _ in 0..MAX_DATAGRAMS_PER_TURN {
            match self.socket.recv_from(&mut buffer) {
                Ok((length, from)) => {
                    let heard = self.exchange.receive(now, from, buffer.get(..length).unwrap_or_default());
                    if heard.is_some() {
                        self.result = heard;
                        return;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) => {
                    self.result = Some(Err(connect_error(&e)));
                    return;
                }
            }
        }
    }
}

fn connected(addr: SocketAddr, bind: &Bind) -> io::Result<UdpSocket> {
    let socket = bind.udp(SocketAddr::new(bind.source(addr)?, 0))?;
    socket.connect(addr)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn connect_error(error: &io::Error) -> TrackerError {
    TrackerError::Connect(printable(&reason(error)))
}

#[cfg(test)]
mod tests;
