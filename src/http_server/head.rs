//! Parses the head of a request: the request line, the headers, and how long the body is. Strict where two programs could
//! understand the same bytes differently. Pure.

use std::mem::MaybeUninit;

use httparse::{Error, Header, Status};

use crate::http_server::request::{ClientAddress, HeadSpan, RequestHead};

/// The most headers of a request.
const MAX_HEADERS: usize = 64;

/// Why a request is refused: the status, and a line for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestError {
    pub(super) status: u16,
    pub(super) why: &'static str,
}

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// After this many bytes.
    Length(u64),
    /// After the last chunk.
    Chunked,
}

/// A head, and what the connection must know of it.
#[derive(Debug)]
pub(super) struct ParsedHead {
    pub(super) head: RequestHead,
    pub(super) framing: Framing,
    /// Whether the client allows a further request on this connection.
    pub(super) keeps_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub(super) expects_continue: bool,
}

const NO_REQUEST: RequestError = bad("not an HTTP request");

const fn bad(why: &'static str) -> RequestError {
    RequestError { status: 400, why }
}

/// The number of bytes up to the end of the first empty line after other lines; the search begins at `from`.
pub(super) fn find_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(found) = bytes.get(at..)?.iter().position(|&byte| byte == b'\n') {
        at += found + 1;
        match bytes.get(at..) {
            Some([b'\n', ..]) => return Some(at + 1),
            Some([b'\r', b'\n', ..]) => return Some(at + 2),
            _ => {}
        }
    }
    None
}

/// Whether each line ends with CR and LF. A proxy in front of us may take a bare LF for a part of the line.
fn has_strict_lines(raw: &[u8]) -> bool {
    raw.iter().zip(raw.iter().skip(1)).all(|(before, byte)| *byte != b'\n' || *before == b'\r')
}

/// Parses a complete head, as [`find_end`] delimits it.
pub(super) fn parse(raw: Vec<u8>, client: ClientAddress) -> Result<ParsedHead, RequestError> {
    if !has_strict_lines(&raw) {
        return Err(bad("a line ends without a carriage return"));
    }
    let mut storage = [const { MaybeUninit::<Header>::uninit() }; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(&raw, &mut storage) {
        Ok(Status::Complete(length)) if length == raw.len() => {}
        Err(Error::TooManyHeaders) => return Err(RequestError { status: 431, why: "too many headers" }),
        Err(Error::Version) => return Err(RequestError { status: 505, why: "this server speaks HTTP/1.1" }),
        Ok(_) | Err(_) => return Err(NO_REQUEST),
    }
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Err(NO_REQUEST);
    };
    let is_http_1_0 = version == 0;
    let headers = &*request.headers;
    let target = own_target(method, target, headers)?;
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let span = |part: &[u8]| -> HeadSpan {
        let start = part.as_ptr().addr().saturating_sub(raw.as_ptr().addr());
        start as u16..(start + part.len()) as u16
    };
    let (method, path, query) = (span(method.as_bytes()), span(path.as_bytes()), query.map(|q| span(q.as_bytes())));
    let framing = framing(headers, is_http_1_0)?;
    let keeps_alive = !is_http_1_0 && !has_token(headers, "Connection", "close");
    let expects_continue = expects_continue(headers)? && !is_http_1_0;
    let headers =
        headers.iter().map(|header| (span(header.name.as_bytes()), span(header.value.trim_ascii()))).collect();
    let head = RequestHead { raw, method, path, query, headers, client, is_http_1_0 };
    Ok(ParsedHead { head, framing, keeps_alive, expects_continue })
}

/// The path and query of a request target. A whole URL must name the host that the header `Host` names, so that no client makes
/// the handler's check of that header look at another host than its target.
fn own_target<'a>(method: &str, target: &'a str, headers: &[Header]) -> Result<&'a str, RequestError> {
    let mut hosts = values(headers, "Host");
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(bad("more than one Host header"));
    }
    if target.starts_with('/') || (target == "*" && method == "OPTIONS") {
        return Ok(target);
    }
    let scheme = target.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("http://"));
    let rest = scheme.and(target.get(7..)).ok_or(bad("not a request target of this server"))?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if host.is_none_or(|host| authority.is_empty() || !host.eq_ignore_ascii_case(authority.as_bytes())) {
        return Err(bad("the URL and the Host header name different hosts"));
    }
    if path.starts_with('/') { Ok(path) } else { Err(bad("a URL without a path")) }
}

/// How long the body is (RFC 9112, section 6.3). Refuses everything that another program could understand differently.
fn framing(headers: &[Header], is_http_1_0: bool) -> Result<Framing, RequestError> {
    let mut encodings = values(headers, "Transfer-Encoding");
    let mut lengths = values(headers, "Content-Length");
    let (encoding, length) = (encodings.next(), lengths.next());
    match (encoding, length) {
        (Some(_), Some(_)) => Err(bad("both Content-Length and Transfer-Encoding")),
        (Some(_), None) if is_http_1_0 => Err(bad("Transfer-Encoding in HTTP/1.0")),
        (Some(encoding), None) if encodings.next().is_none() && encoding.eq_ignore_ascii_case(b"chunked") => {
            Ok(Framing::Chunked)
        }
        (Some(_), None) => Err(RequestError { status: 501, why: "the only transfer encoding here is chunked" }),
        (None, Some(_)) if lengths.next().is_some() => Err(bad("more than one Content-Length header")),
        (None, Some(length)) => {
            if length.is_empty() || !length.iter().all(u8::is_ascii_digit) {
                return Err(bad("an invalid Content-Length"));
            }
            let number = std::str::from_utf8(length).ok().and_then(|length| length.parse().ok());
            number.map(Framing::Length).ok_or(RequestError { status: 413, why: "the body is too large" })
        }
        (None, None) => Ok(Framing::Length(0)),
    }
}

fn expects_continue(headers: &[Header]) -> Result<bool, RequestError> {
    match values(headers, "Expect").next() {
        None => Ok(false),
        Some(value) if value.eq_ignore_ascii_case(b"100-continue") => Ok(true),
        Some(_) => Err(RequestError { status: 417, why: "an unknown expectation" }),
    }
}

fn values<'a>(headers: &'a [Header], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value.trim_ascii())
}

fn has_token(headers: &[Header], name: &str, token: &str) -> bool {
    let has = |value: &[u8]| value.split(|&b| b == b',').any(|t| t.trim_ascii().eq_ignore_ascii_case(token.as_bytes()));
    values(headers, name).any(has)
}

#[cfg(test)]
mod tests;
