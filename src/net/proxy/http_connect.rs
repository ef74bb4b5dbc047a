//! Connections through an HTTP proxy (RFC 9110, CONNECT). Pure.

use crate::net::proxy::handshake::ProxyReply;
use crate::net::proxy::url::Credentials;
use crate::net::proxy::{ProxyError, ProxyTarget};

/// The longest head of a response, in bytes.
const MAX_HEAD: usize = 8 * 1024;

/// A handshake with an HTTP proxy, after the request.
#[derive(Debug, Default)]
pub(super) struct HttpConnect {
    /// The head of the response so far. It is read byte by byte, because what follows it belongs to the target.
    head: Vec<u8>,
    is_done: bool,
}

impl HttpConnect {
    /// The request.
    pub fn request(credentials: Option<&Credentials>, target: &ProxyTarget) -> Result<Vec<u8>, ProxyError> {
        if let ProxyTarget::Name(name, _) = target
            && !name.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err(ProxyError::Unsupported("a host name of this form"));
        }
        let mut text = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        if let Some(credentials) = credentials {
            text.extend(["Proxy-Authorization: ", &credentials.basic(), "\r\n"]);
        }
        text.push_str("\r\n");
        Ok(text.into_bytes())
    }

    /// The number of bytes to read next; 0 at the end.
    pub fn wanted(&self) -> usize {
        usize::from(!self.is_done)
    }

    pub fn received(&mut self, bytes: &[u8]) -> ProxyReply {
        self.head.extend_from_slice(bytes);
        if self.head.ends_with(b"\r\n\r\n") {
            self.is_done = true;
            check(&self.head)?;
        } else if self.head.len() >= MAX_HEAD {
            return Err(ProxyError::Malformed);
        }
        Ok(Vec::new())
    }
}

/// Whether the response is a success.
fn check(head: &[u8]) -> Result<(), ProxyError> {
    let line = head.split(|byte| *byte == b'\r').next().and_then(|line| std::str::from_utf8(line).ok());
    let mut words = line.unwrap_or_default().split(' ');
    let is_http = words.next().is_some_and(|version| version.starts_with("HTTP/1."));
    let status = words.next().filter(|word| word.len() == 3).and_then(|word| word.parse::<u16>().ok());
    match status.filter(|_| is_http) {
        Some(200..=299) => Ok(()),
        Some(407) => Err(ProxyError::Credentials),
        Some(502..=504) => Err(ProxyError::Target("the proxy got no connection")),
        Some(status) => Err(ProxyError::Refused(format!("HTTP status {status}"))),
        None => Err(ProxyError::Malformed),
    }
}
