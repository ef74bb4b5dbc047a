//! Proxies. `url` is the user's setting, `handshake` asks a proxy for a connection or a UDP association (`socks`: SOCKS 5 and 4a,
//! `http_connect`: HTTP), `udp` wraps datagrams, and `environment` says which proxy an HTTP request needs, if any; all of these are
//! pure. `connect` does what they say with sockets, and `state` is a proxy as a client's torrents share it.

pub mod connect;
pub mod environment;
pub mod handshake;
mod http_connect;
pub mod no_proxy;
mod socks;
pub mod state;
pub mod udp;
pub mod url;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Where a connection through a proxy leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyTarget {
    /// An address.
    Addr(SocketAddr),
    /// A host name, which the proxy resolves, and a port.
    Name(String, u16),
}

impl ProxyTarget {
    /// The host of a URL, without brackets.
    pub fn new(host: &str, port: u16) -> ProxyTarget {
        match host.parse::<IpAddr>() {
            Ok(ip) => ProxyTarget::Addr(SocketAddr::new(ip.to_canonical(), port)),
            Err(_) => ProxyTarget::Name(host.to_owned(), port),
        }
    }

    /// Whether a host can have this name: the limits of the DNS.
    fn can_exist(&self) -> bool {
        let ProxyTarget::Name(name, _) = self else { return true };
        let name = name.strip_suffix('.').unwrap_or(name);
        name.len() <= 253 && name.split('.').all(|label| matches!(label.len(), 1..=63))
    }
}

impl fmt::Display for ProxyTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProxyTarget::Addr(addr) => addr.fmt(f),
            ProxyTarget::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// Why a proxy does not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// The proxy could not reach the target; another target may work.
    #[error("the proxy cannot reach the host: {0}")]
    Target(&'static str),
    /// The proxy refused.
    #[error("the proxy refused: {0}")]
    Refused(String),
    /// It wants a user name and a password, or others.
    #[error("the proxy does not accept the user name and password")]
    Credentials,
    /// The answer is not that of such a proxy.
    #[error("the answer is not that of a proxy of this kind")]
    Malformed,
    /// No host has such a name. The proxy was not asked, because some disconnect then.
    #[error("no host has such a name")]
    Name,
    /// This kind of proxy cannot do it.
    #[error("this kind of proxy cannot do this: {0}")]
    Unsupported(&'static str),
}

impl ProxyError {
    /// Whether the proxy works, and only this target cannot be reached. Many proxies refuse for all kinds of reasons.
    pub fn concerns_only_target(&self) -> bool {
        matches!(self, ProxyError::Target(_) | ProxyError::Refused(_) | ProxyError::Name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_left_to_the_proxy() {
        assert_eq!(ProxyTarget::new("tracker.example", 443), ProxyTarget::Name("tracker.example".to_owned(), 443));
        assert_eq!(ProxyTarget::new("2001:db8::1", 8).to_string(), "[2001:db8::1]:8");
        assert_eq!(ProxyTarget::new("::ffff:192.0.2.1", 80).to_string(), "192.0.2.1:80");
    }
}
