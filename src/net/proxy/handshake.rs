//! The handshake with a proxy as a state machine: it says what to send and how many bytes to read, so that no byte of the target is
//! taken for one of the proxy. Everything that it reads is bounded.

use std::net::{Ipv4Addr, SocketAddr};

use crate::net::proxy::http_connect::HttpConnect;
use crate::net::proxy::socks::{Socks4a, Socks5};
use crate::net::proxy::url::{ProxyKind, ProxyUrl};
use crate::net::proxy::{ProxyError, ProxyTarget};

/// What a proxy is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyRequest {
    /// A connection.
    Connect(ProxyTarget),
    /// A UDP association, which lasts as long as the connection to the proxy (SOCKS 5 only).
    AssociateUdp,
}

/// What has to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyStep {
    /// Send these bytes.
    Send(Vec<u8>),
    /// Read exactly this many bytes, at least one, and pass them to [`ProxyHandshake::received`].
    Receive(usize),
    /// The proxy has done what it was asked for. With a UDP association, datagrams go to this address; an unspecified address
    /// stands for that of the proxy.
    Done(SocketAddr),
}

/// The state of a handshake.
#[derive(Debug)]
pub struct ProxyHandshake {
    protocol: Protocol,
    /// What to send before anything else is read.
    to_send: Vec<u8>,
}

#[derive(Debug)]
enum Protocol {
    Socks5(Socks5),
    Socks4a(Socks4a),
    Http(HttpConnect),
}

/// The result of received bytes: what to send next, if anything.
pub(super) type ProxyReply = Result<Vec<u8>, ProxyError>;

impl ProxyHandshake {
    /// Begins a handshake.
    ///
    /// # Errors
    /// [`ProxyError::Unsupported`] if such a proxy cannot do this, [`ProxyError::Name`] if no host has such a name.
    pub fn new(proxy: &ProxyUrl, request: &ProxyRequest) -> Result<ProxyHandshake, ProxyError> {
        if matches!(request, ProxyRequest::Connect(target) if !target.can_exist()) {
            return Err(ProxyError::Name);
        }
        let (protocol, to_send) = match (proxy.kind, request) {
            (ProxyKind::Socks5, request) => {
                let (socks, greeting) = Socks5::new(proxy.credentials.as_ref(), request)?;
                (Protocol::Socks5(socks), greeting)
            }
            (_, ProxyRequest::AssociateUdp) => return Err(ProxyError::Unsupported("UDP")),
            (ProxyKind::Socks4a, ProxyRequest::Connect(target)) => {
                let request = Socks4a::request(proxy.credentials.as_ref(), target)?;
                (Protocol::Socks4a(Socks4a::default()), request)
            }
            (ProxyKind::Http | ProxyKind::Https, ProxyRequest::Connect(target)) => {
                let request = HttpConnect::request(proxy.credentials.as_ref(), target)?;
                (Protocol::Http(HttpConnect::default()), request)
            }
        };
        Ok(ProxyHandshake { protocol, to_send })
    }

    /// What has to be done next.
    pub fn step(&mut self) -> ProxyStep {
        if !self.to_send.is_empty() {
            return ProxyStep::Send(std::mem::take(&mut self.to_send));
        }
        let (wanted, bound) = match &self.protocol {
            Protocol::Socks5(socks) => (socks.wanted(), socks.bound()),
            Protocol::Socks4a(socks) => (socks.wanted(), None),
            Protocol::Http(http) => (http.wanted(), None),
        };
        match wanted {
            0 => ProxyStep::Done(bound.unwrap_or((Ipv4Addr::UNSPECIFIED, 0).into())),
            wanted => ProxyStep::Receive(wanted),
        }
    }

    /// Takes the bytes that [`ProxyStep::Receive`] asked for.
    ///
    /// # Errors
    /// If the proxy refuses, or its answer makes no sense.
    pub fn received(&mut self, bytes: &[u8]) -> Result<(), ProxyError> {
        self.to_send = match &mut self.protocol {
            Protocol::Socks5(socks) => socks.received(bytes)?,
            Protocol::Socks4a(socks) => socks.received(bytes)?,
            Protocol::Http(http) => http.received(bytes)?,
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests;
