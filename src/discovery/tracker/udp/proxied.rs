//! Exchanges with UDP trackers through a SOCKS 5 proxy. Each has an association of its own, which ends with it. The proxy resolves the
//! tracker's name, so the tracker's address is that of its first answer.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use crate::discovery::tracker::error::TrackerError;
use crate::discovery::tracker::http::has_local_form;
use crate::discovery::tracker::udp::exchange::{Exchange, Reply, TrackerQuery};
use crate::discovery::tracker::udp::url::UdpUrl;
use crate::discovery::tracker::udp::{MAX_PACKET, UdpTracker, connect_error};
use crate::net::networks::is_private;
use crate::net::proxy::ProxyTarget;
use crate::net::proxy::connect::ProxyConnectError;
use crate::net::proxy::state::Proxy;
use crate::net::proxy::url::ProxyKind;
use crate::util::printable_text::printable;
use crate::util::random::Random;

/// The longest time that a datagram is waited for: then the association may have ended.
const MAX_WAIT: Duration = Duration::from_secs(3);
/// Never zero, which sockets take for "forever".
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// The tracker as the proxy is to reach it. A torrent must not make the proxy send packets to services of its own network.
pub(super) fn proxy_target(url: &UdpUrl<'_>, is_trusted: bool) -> Result<ProxyTarget, TrackerError> {
    let ip = url.host.parse::<IpAddr>().ok();
    if !is_trusted && ip.map_or_else(|| has_local_form(url.host), is_private) {
        return Err(TrackerError::Local);
    }
    Ok(ProxyTarget::new(url.host, url.port))
}

impl UdpTracker {
    /// Runs one exchange through the proxy.
    pub(super) fn run_through(
        &self,
        proxy: &Proxy,
        to: &ProxyTarget,
        query: TrackerQuery<'_>,
        end: Duration,
    ) -> Result<Reply, TrackerError> {
        if proxy.url().kind != ProxyKind::Socks5 {
            return Err(TrackerError::Connect("UDP does not go through this kind of proxy".to_owned()));
        }
        let deadline = Instant::now() + end.saturating_sub(self.now());
        let association = proxy.associate(deadline).map_err(|error| proxy_error(&error))?;
        // The tracker's address is not known yet.
        let nobody = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        let mut exchange = Exchange::begin(self.now(), nobody, query, None, end, Random::system());
        let mut buffer = vec![0; MAX_PACKET];
        loop {
            let now = self.now();
            if exchange.is_over(now) {
                return Err(TrackerError::Timeout);
            }
            if !association.is_open() {
                return Err(TrackerError::ProxyFailed("it ended the association".to_owned()));
            }
            if let Some(datagram) = exchange.next_datagram(now) {
                is_lost(association.send_to(to, &datagram))?;
            }
            let wait = exchange.due().saturating_sub(self.now()).clamp(SHORTEST_WAIT, MAX_WAIT);
            association.socket().set_read_timeout(Some(wait)).map_err(|error| connect_error(&error))?;
            let Some(Some((from, data))) = is_lost(association.receive(&mut buffer))? else { continue };
            if let Some(result) = exchange.receive_through_proxy(self.now(), from, data) {
                // A private address is one of the proxy's network.
                return result.map(Reply::without_private_peers);
            }
        }
    }
}

/// A full buffer, a signal and silence are like a lost packet.
fn is_lost<T>(result: io::Result<T>) -> Result<Option<T>, TrackerError> {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), WouldBlock | TimedOut | Interrupted) => Ok(None),
        Err(error) => Err(connect_error(&error)),
    }
}

fn proxy_error(error: &ProxyConnectError) -> TrackerError {
    let words = printable(&error.to_string());
    // The proxy works, but carries no datagrams.
    if error.concerns_only_target() { TrackerError::Connect(words) } else { TrackerError::ProxyFailed(words) }
}
