//! A response as a handler builds it.

use std::borrow::Cow;
use std::fmt;
use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use crate::http_server::range::{RequestedRange, requested_range};
use crate::http_server::request::RequestHead;
use crate::http_server::source::BodySource;

/// A response: status, headers, body. The server adds `Content-Length` or `Transfer-Encoding`, and `Connection`.
#[derive(Debug)]
pub struct Response {
    status: u16,
    headers: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    pub(super) body: ResponseBody,
    pub(super) closes: bool,
}

/// The body of a response.
pub enum ResponseBody {
    /// Bytes in memory.
    Bytes(Cow<'static, [u8]>),
    /// Bytes that several responses share.
    Shared(Arc<[u8]>),
    /// Produced while it is sent.
    Source {
        /// The producer.
        source: Box<dyn BodySource>,
        /// How many bytes it produces, if that is known.
        length: Option<u64>,
    },
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ResponseBody::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            ResponseBody::Shared(bytes) => write!(f, "{} shared bytes", bytes.len()),
            ResponseBody::Source { length, .. } => write!(f, "a source of {length:?} bytes"),
        }
    }
}

impl From<Vec<u8>> for ResponseBody {
    fn from(bytes: Vec<u8>) -> ResponseBody {
        ResponseBody::Bytes(bytes.into())
    }
}

impl From<String> for ResponseBody {
    fn from(text: String) -> ResponseBody {
        text.into_bytes().into()
    }
}

impl From<&'static str> for ResponseBody {
    fn from(text: &'static str) -> ResponseBody {
        text.as_bytes().into()
    }
}

impl From<&'static [u8]> for ResponseBody {
    fn from(bytes: &'static [u8]) -> ResponseBody {
        ResponseBody::Bytes(bytes.into())
    }
}

impl From<Arc<[u8]>> for ResponseBody {
    fn from(bytes: Arc<[u8]>) -> ResponseBody {
        ResponseBody::Shared(bytes)
    }
}

impl Response {
    /// A response without headers and body.
    pub fn new(status: u16) -> Response {
        Response { status, headers: Vec::new(), body: ResponseBody::Bytes(Cow::Borrowed(&[])), closes: false }
    }

    /// A response with a body of this type.
    pub fn with_body(status: u16, content_type: &'static str, body: impl Into<ResponseBody>) -> Response {
        let mut response = Response::new(status).header("Content-Type", content_type);
        response.body = body.into();
        response
    }

    /// A line of text.
    pub fn text(status: u16, text: impl Into<ResponseBody>) -> Response {
        Response::with_body(status, "text/plain; charset=utf-8", text)
    }

    /// Server-sent events, until the source or the connection ends: an [`EventSubscription`](crate::http_server::EventSubscription),
    /// with what else the client is to get.
    pub fn events(source: impl BodySource + 'static) -> Response {
        let body = ResponseBody::Source { source: Box::new(source), length: None };
        Response::with_body(200, "text/event-stream", body)
            .header("Cache-Control", "no-store")
            // Otherwise some reverse proxies collect events before they pass them on.
            .header("X-Accel-Buffering", "no")
    }

    /// A representation of this length, or the range of it that the request wants: 200, 206 or 416. `body` gets the bytes to send.
    pub fn ranged(
        head: &RequestHead,
        length: u64,
        content_type: &'static str,
        body: impl FnOnce(Range<u64>) -> ResponseBody,
    ) -> Response {
        match requested_range(head, length) {
            RequestedRange::Whole => {
                Response::with_body(200, content_type, body(0..length)).header("Accept-Ranges", "bytes")
            }
            RequestedRange::Part(range) => {
                let position = format!("bytes {}-{}/{length}", range.start, range.end.saturating_sub(1));
                Response::with_body(206, content_type, body(range))
                    .header("Accept-Ranges", "bytes")
                    .header("Content-Range", position)
            }
            RequestedRange::Unsatisfiable => {
                Response::text(416, "no such range\n").header("Content-Range", format!("bytes */{length}"))
            }
        }
    }

    /// The client already has the current representation (see [`has_current`](crate::http_server::has_current)).
    pub fn not_modified(etag: impl Into<Cow<'static, str>>) -> Response {
        Response::new(304).header("ETag", etag)
    }

    /// A redirect with this status to this place.
    pub fn redirect(status: u16, location: impl Into<Cow<'static, str>>) -> Response {
        Response::text(status, "see the Location header\n").header("Location", location)
    }

    /// Adds a header. Characters that would end it become spaces. The server itself sends `Content-Length`, `Transfer-Encoding` and
    /// `Connection`.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Response {
        let value = value.into();
        let value = if value.contains(is_unsafe) { Cow::Owned(value.replace(is_unsafe, " ")) } else { value };
        self.headers.push((name.into(), value));
        self
    }

    /// Ends the connection after this response.
    #[must_use]
    pub fn close(mut self) -> Response {
        self.closes = true;
        self
    }

    /// Whether the header has been added.
    pub fn has_header(&self, name: &str) -> bool {
        self.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
    }

    /// The status.
    #[cfg(test)]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The body, if it is in memory; for tests of handlers.
    pub fn body_bytes(&self) -> Option<&[u8]> {
        match &self.body {
            ResponseBody::Bytes(bytes) => Some(bytes),
            ResponseBody::Shared(bytes) => Some(bytes),
            ResponseBody::Source { .. } => None,
        }
    }

    /// Whether the body comes from a source.
    pub(super) fn is_stream(&self) -> bool {
        let is_in_memory = matches!(self.body, ResponseBody::Bytes(_) | ResponseBody::Shared(_));
        !is_in_memory && self.may_have_body()
    }

    /// Whether a response with this status has a body.
    pub(super) fn may_have_body(&self) -> bool {
        !matches!(self.status, 100..=199 | 204 | 304)
    }

    /// The status line and headers, up to the empty line.
    pub(super) fn write_head(&self, framing: BodyFraming, closes: bool, extra_capacity: usize) -> Vec<u8> {
        let mut head = Vec::with_capacity(192 + extra_capacity);
        // Writing to a vector cannot fail.
        let _ = write!(head, "HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        match framing {
            BodyFraming::Length(length) if self.may_have_body() => {
                let _ = write!(head, "Content-Length: {length}\r\n");
            }
            BodyFraming::Chunked => head.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            BodyFraming::Length(_) | BodyFraming::UntilClose => {}
        }
        head.extend_from_slice(if closes { b"Connection: close\r\n\r\n" } else { b"\r\n" });
        head
    }
}

/// How the client finds the end of a response's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyFraming {
    Length(u64),
    Chunked,
    UntilClose,
}

impl ResponseBody {
    /// How the client finds the end.
    pub(super) fn framing(&self, is_http_1_0: bool) -> BodyFraming {
        let length = match self {
            ResponseBody::Bytes(bytes) => Some(bytes.len() as u64),
            ResponseBody::Shared(bytes) => Some(bytes.len() as u64),
            ResponseBody::Source { length, .. } => *length,
        };
        let unknown = if is_http_1_0 { BodyFraming::UntilClose } else { BodyFraming::Chunked };
        length.map_or(unknown, BodyFraming::Length)
    }

    /// The bytes if they are in memory, otherwise the source.
    pub(super) fn into_parts(self) -> Result<BodyBytes, Box<dyn BodySource>> {
        match self {
            ResponseBody::Bytes(Cow::Owned(bytes)) => Ok(BodyBytes::Owned(bytes)),
            ResponseBody::Bytes(Cow::Borrowed(bytes)) => Ok(BodyBytes::Static(bytes)),
            ResponseBody::Shared(bytes) => Ok(BodyBytes::Shared(bytes)),
            ResponseBody::Source { source, .. } => Err(source),
        }
    }
}

/// Bytes to send.
pub(super) enum BodyBytes {
    Owned(Vec<u8>),
    Static(&'static [u8]),
    Shared(Arc<[u8]>),
}

impl AsRef<[u8]> for BodyBytes {
    fn as_ref(&self) -> &[u8] {
        match self {
            BodyBytes::Owned(bytes) => bytes,
            BodyBytes::Static(bytes) => bytes,
            BodyBytes::Shared(bytes) => bytes,
        }
    }
}

/// Whether a character would end a header, or is no text.
fn is_unsafe(c: char) -> bool {
    c.is_control() && c != '\t'
}

/// The reason phrase of a status.
fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(response: &Response, framing: BodyFraming, closes: bool) -> String {
        String::from_utf8(response.write_head(framing, closes, 0)).unwrap()
    }

    #[test]
    fn a_head_has_what_the_body_needs() {
        let response = Response::text(200, "ab");
        let framing = response.body.framing(false);
        let expected = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 2\r\n";
        assert_eq!(head(&response, framing, false), format!("{expected}\r\n"));
        assert_eq!(head(&response, framing, true), format!("{expected}Connection: close\r\n\r\n"));
        let none = Response::not_modified("\"x\"");
        let framing = none.body.framing(false);
        assert_eq!(head(&none, framing, false), "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n");
        let events = Response::events(crate::http_server::EventBroadcast::default().subscribe());
        assert_eq!(events.body.framing(true), BodyFraming::UntilClose);
        assert!(head(&events, events.body.framing(false), false).contains("\r\nTransfer-Encoding: chunked\r\n"));
    }

    #[test]
    fn no_value_ends_its_header() {
        let response = Response::redirect(302, "/a\r\nSet-Cookie: x\0\u{85}");
        let head = head(&response, BodyFraming::Length(0), false);
        assert!(head.contains("\r\nLocation: /a  Set-Cookie: x  \r\n"), "{head}");
    }
}
