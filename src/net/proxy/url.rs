//! The URL of a proxy: `socks5://`, `socks5h://`, `socks4a://` or `http://`, with user name and password if it needs them. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use percent_encoding::percent_decode_str;

use crate::util::base64;

/// The longest user name, password and host name that SOCKS can carry, in bytes.
const MAX_TEXT: usize = 255;

/// The protocol of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyKind {
    /// SOCKS 5 (RFC 1928). The proxy resolves names for `socks5` and `socks5h` alike.
    Socks5,
    /// SOCKS 4a: IPv4 and names only.
    Socks4a,
    /// HTTP with CONNECT.
    Http,
    /// The same in TLS. Only variables of the environment can name one.
    Https,
}

/// A user name and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user name.
    pub user: String,
    /// The password, which may be empty.
    pub password: String,
}

impl Credentials {
    /// The value of a `Proxy-Authorization` header (RFC 7617).
    pub fn basic(&self) -> String {
        format!("Basic {}", base64::encode(format!("{}:{}", self.user, self.password).as_bytes()))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// A proxy as the user names it. Its `Display` has no credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyUrl {
    /// The protocol.
    pub kind: ProxyKind,
    /// The host name or address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// What the proxy may ask for.
    pub credentials: Option<Credentials>,
}

/// Why a URL is not that of a proxy. The text has no part of the URL, which may contain a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyUrlError {
    /// Another scheme, or none.
    #[error("expected socks5://, socks5h://, socks4a:// or http://")]
    Scheme,
    /// No host, or one that is neither an address nor a name.
    #[error("expected a host after the scheme")]
    Host,
    /// No valid port.
    #[error("expected a port from 1 to 65535")]
    Port,
    /// Invalid credentials.
    #[error("expected USER:PASSWORD of at most 255 bytes each, with special characters percent-encoded")]
    Credentials,
    /// SOCKS 4a has no passwords.
    #[error("SOCKS 4a has no passwords")]
    Password,
    /// More than a host and a port.
    #[error("expected nothing after the port")]
    Rest,
}

impl FromStr for ProxyUrl {
    type Err = ProxyUrlError;

    fn from_str(text: &str) -> Result<ProxyUrl, ProxyUrlError> {
        let (scheme, rest) = text.trim().split_once("://").ok_or(ProxyUrlError::Scheme)?;
        let kind = match scheme.to_ascii_lowercase().as_str() {
            "socks5" | "socks5h" => ProxyKind::Socks5,
            "socks4a" => ProxyKind::Socks4a,
            "http" => ProxyKind::Http,
            _ => return Err(ProxyUrlError::Scheme),
        };
        let (credentials, host) = match rest.rsplit_once('@') {
            Some((credentials, host)) => (Some(parse_credentials(credentials, kind)?), host),
            None => (None, rest),
        };
        let (host, port) = split_host(host.strip_suffix('/').unwrap_or(host))?;
        Ok(ProxyUrl { kind, host, port, credentials })
    }
}

fn split_host(text: &str) -> Result<(String, u16), ProxyUrlError> {
    if text.contains(['/', '?', '#']) {
        return Err(ProxyUrlError::Rest);
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or(ProxyUrlError::Host)?;
            host.parse::<Ipv6Addr>().map_err(|_| ProxyUrlError::Host)?;
            (host, rest.strip_prefix(':').ok_or(ProxyUrlError::Port)?)
        }
        None => text.rsplit_once(':').ok_or(ProxyUrlError::Port)?,
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if host.is_empty() || host.len() > MAX_TEXT || !(host.bytes().all(is_name) || host.parse::<IpAddr>().is_ok()) {
        return Err(ProxyUrlError::Host);
    }
    // Not `+80`, which `parse` accepts.
    let port =
        Some(port).filter(|port| port.bytes().all(|byte| byte.is_ascii_digit())).and_then(|port| port.parse().ok());
    Ok((host.to_owned(), port.filter(|port| *port != 0).ok_or(ProxyUrlError::Port)?))
}

fn parse_credentials(text: &str, kind: ProxyKind) -> Result<Credentials, ProxyUrlError> {
    // Programs that show the URL without its password would take what follows these for the rest of the URL.
    if text.contains(['/', '?', '#']) {
        return Err(ProxyUrlError::Credentials);
    }
    let decoded = |text: &str| percent_decode_str(text).decode_utf8().map(std::borrow::Cow::into_owned);
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let user = decoded(user).map_err(|_| ProxyUrlError::Credentials)?;
    let password = decoded(password).map_err(|_| ProxyUrlError::Credentials)?;
    let is_bad = |text: &str| text.len() > MAX_TEXT || text.contains('\0');
    if user.is_empty() || is_bad(&user) || is_bad(&password) || (kind == ProxyKind::Http && user.contains(':')) {
        return Err(ProxyUrlError::Credentials);
    }
    if kind == ProxyKind::Socks4a && !password.is_empty() {
        return Err(ProxyUrlError::Password);
    }
    Ok(Credentials { user, password })
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.kind {
            ProxyKind::Socks5 => "socks5",
            ProxyKind::Socks4a => "socks4a",
            ProxyKind::Http => "http",
            ProxyKind::Https => "https",
        };
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{scheme}://{open}{}{close}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests;
