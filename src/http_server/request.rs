//! A request as a handler sees it.

use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

use crate::util::atomics::Amount;

/// Who sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAddress {
    /// A client over TCP; an IPv4 address is never given in its IPv6 form.
    Tcp(SocketAddr),
    /// A client of this machine, over a Unix socket.
    Unix,
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientAddress::Tcp(addr) => addr.fmt(f),
            ClientAddress::Unix => f.write_str("a Unix socket"),
        }
    }
}

/// A part of the head, as offsets.
pub(super) type HeadSpan = Range<u16>;

/// A request without its body.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// The bytes from the method to the empty line.
    pub(super) raw: Vec<u8>,
    pub(super) method: HeadSpan,
    pub(super) path: HeadSpan,
    pub(super) query: Option<HeadSpan>,
    pub(super) headers: Vec<(HeadSpan, HeadSpan)>,
    pub(super) client: ClientAddress,
    pub(super) is_http_1_0: bool,
}

impl RequestHead {
    fn bytes(&self, span: &HeadSpan) -> &[u8] {
        self.raw.get(usize::from(span.start)..usize::from(span.end)).unwrap_or_default()
    }

    fn text(&self, span: &HeadSpan) -> &str {
        std::str::from_utf8(self.bytes(span)).unwrap_or_default()
    }

    /// The method, as sent: methods are case-sensitive.
    pub fn method(&self) -> &str {
        self.text(&self.method)
    }

    /// Whether the client asks for a representation: GET or HEAD. The server itself leaves the body out of answers to HEAD.
    pub fn is_get_or_head(&self) -> bool {
        matches!(self.method(), "GET" | "HEAD")
    }

    /// The path, not decoded; it begins with a slash (or is `*`, for OPTIONS).
    pub fn path(&self) -> &str {
        self.text(&self.path)
    }

    /// What follows the question mark, not decoded.
    pub fn query(&self) -> Option<&str> {
        self.query.as_ref().map(|span| self.text(span))
    }

    /// The value of a header; the first one, if there are several. The case of the name does not matter.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.header_values(name).next().and_then(|value| std::str::from_utf8(value).ok())
    }

    /// All values of a header, in order.
    pub fn header_values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let of_name = move |(key, _): &&(HeadSpan, HeadSpan)| self.bytes(key).eq_ignore_ascii_case(name.as_bytes());
        self.headers.iter().filter(of_name).map(|(_, value)| self.bytes(value))
    }

    /// Who sent it.
    pub fn client(&self) -> ClientAddress {
        self.client
    }

    /// Whether it is a HEAD request.
    pub(super) fn is_head(&self) -> bool {
        self.method() == "HEAD"
    }
}

/// A complete request.
#[derive(Debug)]
pub struct Request {
    /// The request line and headers.
    pub head: RequestHead,
    /// The body, decoded if it was chunked.
    pub body: Vec<u8>,
    /// Counts the body until the request is dropped.
    pub(super) _lease: BodyLease,
}

impl Request {
    /// A request that no server has read.
    #[cfg(feature = "internals")]
    pub fn new(head: RequestHead, body: Vec<u8>) -> Request {
        Request { head, body, _lease: BodyLease::new(&Arc::default()) }
    }
}

/// The bytes of a body, counted in the total of the server until this is dropped.
#[derive(Debug)]
pub(super) struct BodyLease {
    total: Arc<Amount>,
    bytes: usize,
}

impl BodyLease {
    pub(super) fn new(total: &Arc<Amount>) -> BodyLease {
        BodyLease { total: Arc::clone(total), bytes: 0 }
    }

    /// Whether the bytes count in this amount.
    pub(super) fn is_of(&self, amount: &Arc<Amount>) -> bool {
        Arc::ptr_eq(&self.total, amount)
    }

    pub(super) fn grow(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.total.add(bytes);
    }
}

impl Drop for BodyLease {
    fn drop(&mut self) {
        self.total.sub(self.bytes);
    }
}
