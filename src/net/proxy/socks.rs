//! SOCKS 5 (RFC 1928, with user name and password by RFC 1929) and SOCKS 4a. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::net::proxy::handshake::{ProxyReply, ProxyRequest};
use crate::net::proxy::url::Credentials;
use crate::net::proxy::{ProxyError, ProxyTarget};

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const USER_AND_PASSWORD: u8 = 2;
/// The version of the exchange of user name and password.
const AUTHENTICATION_VERSION: u8 = 1;
const CONNECT: u8 = 1;
const ASSOCIATE_UDP: u8 = 3;
pub(super) const IPV4: u8 = 1;
pub(super) const NAME: u8 = 3;
pub(super) const IPV6: u8 = 4;
/// The answer of SOCKS 4 to a request that was granted.
const GRANTED: u8 = 0x5a;

/// A handshake with a SOCKS 5 proxy.
#[derive(Debug)]
pub(super) struct Socks5 {
    stage: Socks5Stage,
    credentials: Option<Credentials>,
    request: Vec<u8>,
}

/// What the proxy sends next.
#[derive(Debug)]
enum Socks5Stage {
    Method,
    Authentication,
    /// Version, result, a zero and the kind of the address.
    Reply,
    /// The length of the bound name, which a proxy may send in place of an address.
    NameLength,
    /// The address of this kind, and the port.
    Bound(u8, usize),
    Done(SocketAddr),
}

impl Socks5 {
    /// A handshake and its greeting.
    pub fn new(credentials: Option<&Credentials>, request: &ProxyRequest) -> Result<(Socks5, Vec<u8>), ProxyError> {
        // SOCKS 5 needs a password of one byte at least.
        let credentials = credentials.filter(|it| !it.user.is_empty() && !it.password.is_empty()).cloned();
        let request = match request {
            ProxyRequest::Connect(target) => [&[VERSION, CONNECT, 0][..], &encode_target(target)?].concat(),
            // Where our datagrams come from is not known yet (RFC 1928, 4).
            ProxyRequest::AssociateUdp => {
                let unknown = ProxyTarget::Addr((Ipv4Addr::UNSPECIFIED, 0).into());
                [&[VERSION, ASSOCIATE_UDP, 0][..], &encode_target(&unknown)?].concat()
            }
        };
        let greeting = match credentials {
            Some(_) => vec![VERSION, 2, NO_AUTHENTICATION, USER_AND_PASSWORD],
            None => vec![VERSION, 1, NO_AUTHENTICATION],
        };
        Ok((Socks5 { stage: Socks5Stage::Method, credentials, request }, greeting))
    }

    /// The number of bytes to read next; 0 at the end.
    pub fn wanted(&self) -> usize {
        match self.stage {
            Socks5Stage::Method | Socks5Stage::Authentication => 2,
            Socks5Stage::Reply => 4,
            Socks5Stage::NameLength => 1,
            Socks5Stage::Bound(_, length) => length + 2,
            Socks5Stage::Done(_) => 0,
        }
    }

    /// The address that the proxy has bound.
    pub fn bound(&self) -> Option<SocketAddr> {
        if let Socks5Stage::Done(bound) = self.stage { Some(bound) } else { None }
    }

    pub fn received(&mut self, bytes: &[u8]) -> ProxyReply {
        let mut answer = Vec::new();
        self.stage = match (&self.stage, bytes) {
            (Socks5Stage::Method, [VERSION, NO_AUTHENTICATION]) | (Socks5Stage::Authentication, [_, 0]) => {
                answer = std::mem::take(&mut self.request);
                Socks5Stage::Reply
            }
            (Socks5Stage::Method, [VERSION, USER_AND_PASSWORD]) => {
                answer = self.credentials.as_ref().map(authentication).ok_or(ProxyError::Malformed)?;
                Socks5Stage::Authentication
            }
            (Socks5Stage::Method, [VERSION, 0xff]) | (Socks5Stage::Authentication, [_, _]) => {
                return Err(ProxyError::Credentials);
            }
            (Socks5Stage::Reply, [VERSION, 0, _, IPV4]) => Socks5Stage::Bound(IPV4, 4),
            (Socks5Stage::Reply, [VERSION, 0, _, IPV6]) => Socks5Stage::Bound(IPV6, 16),
            (Socks5Stage::Reply, [VERSION, 0, _, NAME]) => Socks5Stage::NameLength,
            (Socks5Stage::Reply, [VERSION, failure, ..]) if *failure != 0 => return Err(reply_error(*failure)),
            (Socks5Stage::NameLength, [length]) => Socks5Stage::Bound(NAME, usize::from(*length)),
            (Socks5Stage::Bound(kind, length), bytes) if bytes.len() == length + 2 => {
                Socks5Stage::Done(decode_address(*kind, bytes).unwrap_or((Ipv4Addr::UNSPECIFIED, 0).into()))
            }
            _ => return Err(ProxyError::Malformed),
        };
        Ok(answer)
    }
}

/// The message with user name and password; both have at most 255 bytes.
fn authentication(credentials: &Credentials) -> Vec<u8> {
    let (user, password) = (credentials.user.as_bytes(), credentials.password.as_bytes());
    [&[AUTHENTICATION_VERSION, user.len() as u8][..], user, &[password.len() as u8], password].concat()
}

/// The kind of an address, the address and the port.
pub(super) fn encode_target(target: &ProxyTarget) -> Result<Vec<u8>, ProxyError> {
    let (mut bytes, port) = match target {
        ProxyTarget::Addr(addr) => match addr.ip().to_canonical() {
            IpAddr::V4(ip) => ([&[IPV4][..], &ip.octets()].concat(), addr.port()),
            IpAddr::V6(ip) => ([&[IPV6][..], &ip.octets()].concat(), addr.port()),
        },
        ProxyTarget::Name(name, port) => {
            let length = u8::try_from(name.len()).ok().filter(|length| *length > 0);
            let length = length.ok_or(ProxyError::Name)?;
            ([&[NAME, length][..], name.as_bytes()].concat(), *port)
        }
    };
    bytes.extend(port.to_be_bytes());
    Ok(bytes)
}

/// The address of this kind, with its port behind it; `None` for a name, or if the length is wrong.
pub(super) fn decode_address(kind: u8, bytes: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = bytes.split_last_chunk::<2>()?;
    let ip = match kind {
        IPV4 => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(ip).ok()?)),
        IPV6 => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(ip).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes(*port)))
}

/// The meaning of a result other than 0.
fn reply_error(result: u8) -> ProxyError {
    match result {
        1 => ProxyError::Refused("general failure".to_owned()),
        2 => ProxyError::Refused("its rules do not allow the connection".to_owned()),
        3 => ProxyError::Target("network unreachable"),
        4 => ProxyError::Target("host unreachable"),
        5 => ProxyError::Target("connection refused"),
        6 => ProxyError::Target("connection timed out"),
        7 => ProxyError::Refused("it does not support this kind of request".to_owned()),
        8 => ProxyError::Target("the proxy does not support this kind of address"),
        other => ProxyError::Refused(format!("error {other}")),
    }
}

/// A handshake with a SOCKS 4a proxy, after the request.
#[derive(Debug, Default)]
pub(super) struct Socks4a {
    is_done: bool,
}

impl Socks4a {
    /// The request.
    pub fn request(credentials: Option<&Credentials>, target: &ProxyTarget) -> Result<Vec<u8>, ProxyError> {
        // An address of which only the last number is not 0 announces a name.
        let by_name = Ipv4Addr::new(0, 0, 0, 1);
        let (ip, port, name) = match target {
            ProxyTarget::Addr(addr) => match addr.ip().to_canonical() {
                IpAddr::V4(ip) => (ip, addr.port(), None),
                IpAddr::V6(_) => return Err(ProxyError::Target("SOCKS 4a cannot connect to IPv6 addresses")),
            },
            ProxyTarget::Name(name, port) => (by_name, *port, Some(name)),
        };
        let mut bytes = [&[4, CONNECT][..], &port.to_be_bytes(), &ip.octets()].concat();
        bytes.extend(credentials.map(|it| it.user.as_bytes()).unwrap_or_default());
        bytes.push(0);
        if let Some(name) = name {
            if name.is_empty() || name.len() > 255 || name.contains('\0') {
                return Err(ProxyError::Unsupported("a host name of this form"));
            }
            bytes.extend(name.as_bytes());
            bytes.push(0);
        }
        Ok(bytes)
    }

    /// The number of bytes to read next; 0 at the end.
    pub fn wanted(&self) -> usize {
        if self.is_done { 0 } else { 8 }
    }

    pub fn received(&mut self, bytes: &[u8]) -> ProxyReply {
        match bytes {
            [0, GRANTED, _, _, _, _, _, _] => {
                self.is_done = true;
                Ok(Vec::new())
            }
            // It does not say whether the rules or the target are the reason.
            [0, 0x5b, _, _, _, _, _, _] => Err(ProxyError::Target("rejected or failed")),
            [0, 0x5c | 0x5d, _, _, _, _, _, _] => Err(ProxyError::Credentials),
            _ => Err(ProxyError::Malformed),
        }
    }
}
