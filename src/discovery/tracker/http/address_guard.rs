//! A resolver that prevents request forgery: it filters the resolved addresses, so that neither a name nor a second lookup can
//! hide a local address. The client never connects to an address that the guard refuses.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use crate::discovery::tracker::http::bound::wait;
use crate::discovery::tracker::http::families::IpFamily;
use crate::discovery::tracker::http::proxy::{HttpRoute, place_holder};
use crate::discovery::tracker::http::url::host_and_port;
use crate::net::address_filter::AddressFilter;
use crate::net::host_names::{ResolveError, resolve};
use crate::net::networks::is_private;

/// The most addresses tried per host: the capacity of ureq's list.
const MAX_ADDRESSES: usize = 16;
/// How long a look-up is remembered.
const LOOK_UP_LIFETIME: Duration = Duration::from_secs(60);

/// Resolves names and drops the addresses that it refuses.
#[derive(Debug)]
pub(crate) struct AddressGuard {
    refuses: fn(IpAddr) -> bool,
    /// The block list, for requests that it applies to.
    block_list: Option<Arc<AddressFilter>>,
    /// The last look-up, for clients that send many requests to one host.
    last: Option<Mutex<Option<LookUp>>>,
    /// Accept only addresses of this family.
    family: Option<IpFamily>,
    names: StaticHosts,
    /// Whether a request goes through a proxy, which then resolves names.
    route: HttpRoute,
}

/// The addresses of a host.
#[derive(Debug)]
struct LookUp {
    host: String,
    port: u16,
    at: Instant,
    found: Vec<SocketAddr>,
}

/// A substitute for the system's resolver, for tests; returns no addresses for names that it does not know.
pub(crate) type StaticHosts = fn(&str) -> Vec<IpAddr>;

/// The host has no address of the requested family.
#[derive(Debug, thiserror::Error)]
#[error("no address of this family")]
pub(crate) struct NoFamily;

/// The guard refused all addresses of the host.
#[derive(Debug, thiserror::Error)]
#[error("a local address")]
struct Refused;

/// All addresses of the host are on the block list.
#[derive(Debug, thiserror::Error)]
#[error("its address is on the block list")]
struct Blocked;

impl AddressGuard {
    /// Refuses addresses for which `refuses` is true.
    pub(crate) fn refusing(refuses: fn(IpAddr) -> bool, names: StaticHosts, route: HttpRoute) -> AddressGuard {
        AddressGuard { refuses, block_list: None, last: None, family: None, names, route }
    }

    /// Accepts only addresses of one family.
    pub(crate) fn only(self, family: Option<IpFamily>) -> AddressGuard {
        AddressGuard { family, ..self }
    }

    /// Refuses the addresses on a block list too, if there is one, and then remembers the last look-up.
    pub(crate) fn blocking(self, block_list: Option<Arc<AddressFilter>>) -> AddressGuard {
        AddressGuard { last: block_list.is_some().then(Mutex::default), block_list, ..self }
    }

    fn blocks(&self, ip: IpAddr) -> bool {
        self.block_list.as_ref().is_some_and(|list| list.count_if_blocked(ip))
    }

    /// The addresses that the system's resolver finds, or found lately.
    fn look_up(&self, host: &str, port: u16, timeout: NextTimeout) -> Result<Vec<SocketAddr>, ureq::Error> {
        let Some(last) = &self.last else { return look_up(host, port, timeout) };
        let is_same = |it: &&LookUp| it.host == host && it.port == port && it.at.elapsed() < LOOK_UP_LIFETIME;
        if let Some(found) = last.lock().as_ref().filter(is_same).map(|it| it.found.clone()) {
            return Ok(found);
        }
        let found = look_up(host, port, timeout)?;
        *last.lock() = Some(LookUp { host: host.to_owned(), port, at: Instant::now(), found: found.clone() });
        Ok(found)
    }

    /// The default [`StaticHosts`]: leaves all names to the system's resolver.
    pub(crate) fn no_names(_: &str) -> Vec<IpAddr> {
        Vec::new()
    }

    /// All addresses of the host. A literal address needs no lookup, which would cost a thread.
    fn addresses(&self, uri: &Uri, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let (host, port) = host_and_port(uri).ok_or(ureq::Error::HostNotFound)?;
        let known = host.parse().map_or_else(|_| (self.names)(host), |ip| vec![ip]);
        let found = match known.as_slice() {
            [_, ..] => known.iter().map(|ip| SocketAddr::new(*ip, port)).collect(),
            [] => self.look_up(host, port, timeout)?,
        };
        let mut all = self.empty();
        for addr in found.into_iter().take(MAX_ADDRESSES) {
            all.push(addr);
        }
        Ok(all)
    }
}

fn look_up(host: &str, port: u16, timeout: NextTimeout) -> Result<Vec<SocketAddr>, ureq::Error> {
    let found = resolve(host, port, wait(timeout)).map_err(|error| match error {
        ResolveError::NotFound => ureq::Error::HostNotFound,
        ResolveError::TimedOut => ureq::Error::Timeout(timeout.reason),
        // Without the system's error, whose kind could be mistaken for a timeout.
        ResolveError::NoThread(_) => ureq::Error::Io(io::Error::other(error.to_string())),
    })?;
    Ok(found.into_iter().take(MAX_ADDRESSES).collect())
}

impl Resolver for AddressGuard {
    fn resolve(&self, uri: &Uri, _: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        if self.route.proxies(uri) {
            // Names are not looked up here; addresses can be checked nevertheless.
            let literal = host_and_port(uri).and_then(|(host, _)| host.parse::<IpAddr>().ok());
            if literal.is_some_and(self.refuses) {
                return Err(ureq::Error::Other(Box::new(Refused)));
            }
            if literal.is_some_and(|ip| self.blocks(ip)) {
                return Err(ureq::Error::Other(Box::new(Blocked)));
            }
            let mut none = self.empty();
            none.push(place_holder());
            return Ok(none);
        }
        let all = self.addresses(uri, timeout)?;
        let is_wanted = |addr: &&SocketAddr| self.family.is_none_or(|family| family.has(addr.ip()));
        if !all.iter().any(|addr| is_wanted(&addr)) {
            return Err(ureq::Error::Other(Box::new(NoFamily)));
        }
        let (mut allowed, mut is_blocked) = (self.empty(), false);
        for &addr in all.iter().filter(is_wanted).filter(|a| !(self.refuses)(a.ip())) {
            if self.blocks(addr.ip()) {
                is_blocked = true;
            } else {
                allowed.push(addr);
            }
        }
        match allowed.is_empty() {
            true if is_blocked => Err(ureq::Error::Other(Box::new(Blocked))),
            true => Err(ureq::Error::Other(Box::new(Refused))),
            false => Ok(allowed),
        }
    }
}

/// Whether the request failed because [`AddressGuard`] refused the host.
pub(crate) fn is_refusal(error: &ureq::Error) -> bool {
    matches!(error, ureq::Error::Other(e) if e.is::<Refused>())
}

/// Whether an address belongs to this machine or its network rather than to the internet.
pub(crate) fn is_local(ip: IpAddr) -> bool {
    // Protocol assignments (192.0.0.0/24), benchmarks (198.18.0.0/15), multicast and reserved ranges never contain trackers.
    let reserved = |ip| match ip {
        IpAddr::V4(ip) => matches!(ip.octets(), [192, 0, 0, _] | [198, 18 | 19, ..] | [224..=255, ..]),
        IpAddr::V6(ip) => ip.is_multicast(),
    };
    is_private(ip) || reserved(ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_no_tracker_has_count_as_local() {
        for ip in "127.0.0.1 10.0.0.1 192.0.0.8 198.18.0.1 198.19.9.9 224.0.0.1 255.255.255.255 ff02::1 fec0::1 2002:7f00:1::1 \
                   64:ff9b::10.0.0.1 2a00::5efe:192.168.1.1"
            .split_whitespace()
        {
            assert!(is_local(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["192.0.2.1", "198.20.0.1", "8.8.8.8", "2a00::1", "64:ff9b::8.8.8.8", "2a00::5efe:8.8.8.8"] {
            assert!(!is_local(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn local_and_public_addresses_are_told_apart() {
        let local = "0.0.0.0 127.0.0.1 127.9.9.9 10.1.2.3 172.16.0.1 172.31.255.255 192.168.1.1 169.254.169.254 100.64.0.1 \
                     255.255.255.255 224.0.0.1 :: ::1 fe80::1 fc00::1 fd12::1 ff02::1 ::ffff:127.0.0.1 64:ff9b::10.0.0.1";
        for ip in local.split_whitespace() {
            assert!(is_local(ip.parse().unwrap()), "{ip}");
        }
        for ip in
            "1.1.1.1 172.32.0.1 100.128.0.1 192.169.0.1 2001:db8::1 2a00::1 ::ffff:8.8.8.8 64:ff9b::8.8.8.8".split(' ')
        {
            assert!(!is_local(ip.parse().unwrap()), "{ip}");
        }
    }
}
