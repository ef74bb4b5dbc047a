//! The guard against request forgery: a resolver that looks at what a name stands for, so that neither a name nor a second
//! look-up hides a local address. What it refuses never gets a connection.

use std::net::{IpAddr, SocketAddr};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use crate::net::is_private;

/// Resolves names and leaves out the addresses that it refuses.
#[derive(Debug)]
pub(super) struct Guard {
    inner: DefaultResolver,
    refuses: fn(IpAddr) -> bool,
}

/// All of the host's addresses are refused.
#[derive(Debug, thiserror::Error)]
#[error("a local address")]
struct Refused;

impl Guard {
    /// Refuses the addresses for which `refuses` is true.
    pub(super) fn refusing(refuses: fn(IpAddr) -> bool) -> Guard {
        Guard { inner: DefaultResolver::default(), refuses }
    }

    /// The address, where the host is one already: the look-up of a name costs a thread.
    fn literal(&self, uri: &Uri) -> Option<ResolvedSocketAddrs> {
        let host = uri.host()?.trim_matches(['[', ']']).parse().ok()?;
        let port = uri.port_u16().or(match uri.scheme_str()? {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        })?;
        let mut addrs = self.empty();
        addrs.push(SocketAddr::new(host, port));
        Some(addrs)
    }
}

impl Resolver for Guard {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let all = match self.literal(uri) {
            Some(addr) => addr,
            None => match self.inner.resolve(uri, config, timeout) {
                Err(ureq::Error::Io(_)) => return Err(ureq::Error::HostNotFound),
                other => other?,
            },
        };
        // The user's own proxy may be anywhere.
        let is_proxy = config.proxy().is_some_and(|p| uri.host() == p.uri().host() && uri.port() == p.uri().port());
        if is_proxy {
            return Ok(all);
        }
        let mut allowed = self.empty();
        for &addr in all.iter().filter(|a| !(self.refuses)(a.ip())) {
            allowed.push(addr);
        }
        if allowed.is_empty() { Err(ureq::Error::Other(Box::new(Refused))) } else { Ok(allowed) }
    }
}

/// Whether the request ended because [`Guard`] refused the host.
pub(super) fn is_refusal(error: &ureq::Error) -> bool {
    matches!(error, ureq::Error::Other(e) if e.is::<Refused>())
}

/// Whether an address belongs to this machine or a network around it rather than to the internet.
pub(in crate::sources) fn is_local(ip: IpAddr) -> bool {
    let reserved = |ip| matches!(ip, IpAddr::V4(ip) if ip.octets()[0] >= 224);
    is_private(ip) || ip.to_canonical().is_multicast() || reserved(ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_not_looked_up() {
        let guard = Guard::refusing(is_local);
        let literal = |url: &str| guard.literal(&url.parse().unwrap()).map(|addrs| addrs[0].to_string());
        assert_eq!(literal("http://192.0.2.1/announce").as_deref(), Some("192.0.2.1:80"));
        assert_eq!(literal("https://[2001:db8::1]:6969/announce").as_deref(), Some("[2001:db8::1]:6969"));
        assert_eq!(literal("http://tracker.example/announce"), None);
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
