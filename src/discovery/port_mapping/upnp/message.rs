//! HTTP/1.1 as the router's services need it: requests, and answers that are read as they arrive. Pure.

use std::net::SocketAddr;

use crate::discovery::port_mapping::upnp::RouterUrl;

/// The largest head and the largest body of an answer, in bytes.
const MAX_HEAD: usize = 8 * 1024;
const MAX_BODY: usize = 128 * 1024;
/// The most headers.
const MAX_HEADERS: usize = 64;

/// A request for a document.
pub fn get(host: SocketAddr, url: &RouterUrl) -> Vec<u8> {
    format!("GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", url.path, authority(host)).into_bytes()
}

/// A request to a service.
pub fn post(host: SocketAddr, url: &RouterUrl, action: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: text/xml; charset=\"utf-8\"\r\nSOAPAction: \"{action}\"\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        url.path,
        authority(host),
        body.len()
    )
    .into_bytes()
}

/// The address without the interface of a link-local one, which only this machine understands.
fn authority(host: SocketAddr) -> SocketAddr {
    SocketAddr::new(host.ip(), host.port())
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterAnswer {
    /// The status.
    pub status: u16,
    /// The body; what is no UTF-8 is replaced.
    pub body: String,
}

/// Why an answer is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedAnswer;

/// Whether an answer ends with its connection or before.
enum BodyLength {
    Known(usize),
    Chunked,
    UntilClose,
}

/// Reads an answer from what has arrived so far; `Ok(None)` if more has to come. `is_over`: the router has closed the connection.
///
/// # Errors
/// If it is no answer, breaks off, or is too large.
pub fn read(mut received: &[u8], is_over: bool) -> Result<Option<RouterAnswer>, MalformedAnswer> {
    let AnswerStart { status, body_length: length, body } = loop {
        match read_head(received, is_over)? {
            None => return Ok(None),
            // The real answer follows a preliminary one.
            Some(AnswerStart { status: 100..200, body, .. }) => received = body,
            Some(head) => break head,
        }
    };
    let body = match length {
        BodyLength::Known(length) => body.get(..length),
        BodyLength::Chunked => match joined_chunks(body)? {
            Some(body) => return Ok(Some(answer(status, &body))),
            None => None,
        },
        BodyLength::UntilClose if is_over => Some(body),
        BodyLength::UntilClose if body.len() > MAX_BODY => return Err(MalformedAnswer),
        BodyLength::UntilClose => None,
    };
    match body {
        Some(body) if body.len() <= MAX_BODY => Ok(Some(answer(status, body))),
        None if !is_over => Ok(None),
        _ => Err(MalformedAnswer),
    }
}

/// The head of an answer, and the part of the body that has arrived.
struct AnswerStart<'a> {
    status: u16,
    body_length: BodyLength,
    body: &'a [u8],
}

/// `Ok(None)` if more of the head has to come.
fn read_head(received: &[u8], is_over: bool) -> Result<Option<AnswerStart<'_>>, MalformedAnswer> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let length = match head.parse(received).map_err(|_| MalformedAnswer)? {
        httparse::Status::Complete(length) if length <= MAX_HEAD => length,
        httparse::Status::Partial if received.len() < MAX_HEAD && !is_over => return Ok(None),
        _ => return Err(MalformedAnswer),
    };
    let status = head.code.ok_or(MalformedAnswer)?;
    let body = received.get(length..).unwrap_or_default();
    Ok(Some(AnswerStart { status, body_length: body_length(head.headers)?, body }))
}

fn answer(status: u16, body: &[u8]) -> RouterAnswer {
    RouterAnswer { status, body: String::from_utf8_lossy(body).into_owned() }
}

fn body_length(headers: &[httparse::Header<'_>]) -> Result<BodyLength, MalformedAnswer> {
    let value = |name: &str| {
        let found = headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        Some(String::from_utf8_lossy(found.value).trim().to_ascii_lowercase())
    };
    if value("transfer-encoding").is_some_and(|encoding| encoding == "chunked") {
        return Ok(BodyLength::Chunked);
    }
    let Some(length) = value("content-length") else { return Ok(BodyLength::UntilClose) };
    let length = length.parse().ok().filter(|length| *length <= MAX_BODY).ok_or(MalformedAnswer)?;
    Ok(BodyLength::Known(length))
}

/// The body of a chunked answer; `None` if chunks have yet to come.
fn joined_chunks(mut rest: &[u8]) -> Result<Option<Vec<u8>>, MalformedAnswer> {
    let mut body = Vec::new();
    loop {
        match httparse::parse_chunk_size(rest).map_err(|_| MalformedAnswer)? {
            httparse::Status::Complete((_, 0)) => return Ok(Some(body)),
            httparse::Status::Complete((start, size)) => {
                let size =
                    usize::try_from(size).ok().filter(|size| *size <= MAX_BODY - body.len()).ok_or(MalformedAnswer)?;
                let Some(chunk) = rest.get(start..start + size) else { return Ok(None) };
                body.extend(chunk);
                // The line end after the chunk.
                let Some(after) = rest.get(start + size + 2..) else { return Ok(None) };
                rest = after;
            }
            httparse::Status::Partial => return Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn body(received: &str, is_over: bool) -> Result<Option<String>, MalformedAnswer> {
        read(received.as_bytes(), is_over)
            .map(|answer| answer.map(|answer| format!("{} {}", answer.status, answer.body)))
    }

    #[test]
    fn requests_name_the_gateway() {
        let url = RouterUrl { port: 5000, path: "/x".to_owned() };
        let host = ([192, 168, 1, 1], 5000).into();
        let text = String::from_utf8(post(host, &url, "urn:y#Z", "<a/>")).expect("text");
        assert!(text.starts_with("POST /x HTTP/1.1\r\nHost: 192.168.1.1:5000\r\n"), "{text}");
        assert!(text.contains("SOAPAction: \"urn:y#Z\"\r\nContent-Length: 4\r\n") && text.ends_with("\r\n\r\n<a/>"));
        let near = std::net::SocketAddrV6::new("fe80::1".parse().expect("an address"), 80, 0, 3);
        assert!(String::from_utf8_lossy(&get(near.into(), &url)).contains("Host: [fe80::1]:80\r\n"));
    }

    #[test]
    fn answers_end_by_length_by_chunks_or_with_the_connection() {
        let known = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(body(known, false), Ok(Some("200 abc".to_owned())));
        assert_eq!(body(&format!("HTTP/1.1 100 Continue\r\n\r\n{known}"), false), Ok(Some("200 abc".to_owned())));
        let chunked = "HTTP/1.1 500 x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n";
        assert_eq!(body(chunked, false), Ok(Some("500 abc".to_owned())));
        let open = "HTTP/1.0 200 OK\r\n\r\nabc";
        assert_eq!(body(open, false), Ok(None));
        assert_eq!(body(open, true), Ok(Some("200 abc".to_owned())));
        for length in 0..known.len() {
            assert_eq!(body(&known[..length], false), Ok(None), "{length}");
            assert!(length == 0 || body(&known[..length], true).is_err(), "{length}");
        }
    }

    #[test]
    fn endless_answers_are_given_up() {
        let endless = "HTTP/1.1 200 OK\r\n\r\n".to_owned() + &"a".repeat(MAX_BODY + 1);
        assert_eq!(body(&endless, false), Err(MalformedAnswer));
        assert_eq!(body(&format!("HTTP/1.1 200 OK\r\nX: {}", "a".repeat(MAX_HEAD)), false), Err(MalformedAnswer));
        assert_eq!(body("HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n", false), Err(MalformedAnswer));
        let chunk = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n";
        assert_eq!(body(chunk, false), Err(MalformedAnswer));
        assert_eq!(body("SSH-2.0-x\r\n", false), Err(MalformedAnswer));
        let preliminary = "HTTP/1.1 100 x\r\n\r\n".repeat(10_000);
        assert_eq!(body(&preliminary, false), Ok(None), "they take no stack");
    }

    proptest! {
        #[test]
        fn no_answer_is_a_problem(received: Vec<u8>, chunks in "[0-9a-f\r\n;x]{0,60}", is_over: bool) {
            let _ = read(&received, is_over);
            let _ = read(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}").as_bytes(), is_over);
        }
    }
}
