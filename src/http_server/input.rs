//! The bytes that a client has sent and that are not parsed yet. Pure.

use crate::http_server::body::BodyDecoder;
use crate::http_server::head::{self, RequestError};

const LONG_TARGET: RequestError = RequestError { status: 414, why: "the request line is too long" };
const LARGE_HEAD: RequestError = RequestError { status: 431, why: "the headers are too large" };

/// Splits a stream of bytes into heads and bodies.
#[derive(Debug, Default)]
pub(super) struct InputBuffer {
    bytes: Vec<u8>,
    /// The search for the end of a head goes on from this byte.
    searched: usize,
}

impl InputBuffer {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Adds received bytes.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Gives memory back while a connection is idle.
    pub(super) fn release(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = Vec::new();
        }
    }

    /// Takes a complete head of `limit` bytes at most; `None` if it has not arrived yet.
    pub(super) fn next_head(&mut self, limit: usize) -> Result<Option<Vec<u8>>, RequestError> {
        // Some old clients send an empty line after a body.
        let empty = self.bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        if empty > 0 {
            self.bytes.drain(..empty);
        }
        let end = head::find_end(&self.bytes, self.searched);
        if end.unwrap_or(self.bytes.len()) > limit {
            let is_long_line = !self.bytes.iter().take(limit).any(|&byte| byte == b'\n');
            return Err(if is_long_line { LONG_TARGET } else { LARGE_HEAD });
        }
        let Some(end) = end else {
            // The end may straddle two reads.
            self.searched = self.bytes.len().saturating_sub(3);
            return Ok(None);
        };
        self.searched = 0;
        let is_all = end == self.bytes.len();
        Ok(Some(if is_all { std::mem::take(&mut self.bytes) } else { self.bytes.drain(..end).collect() }))
    }

    /// Decodes the bytes that belong to a body, and removes them here.
    pub(super) fn decode_body(&mut self, decoder: &mut BodyDecoder, body: &mut Vec<u8>) -> Result<(), RequestError> {
        let used = decoder.decode(&self.bytes, body)?;
        self.bytes.drain(..used);
        Ok(())
    }
}

/// The requests that a connection would read from these bytes, each with its body, and the status with which it would refuse the
/// next one. The bytes arrive in pieces of `step` bytes. For fuzz targets.
#[cfg(feature = "internals")]
pub fn requests_in(
    bytes: &[u8],
    step: usize,
    max_head: usize,
    max_body: usize,
) -> (Vec<crate::http_server::Request>, Option<u16>) {
    use crate::http_server::request::{ClientAddress, Request};

    let (mut input, mut pieces) = (InputBuffer::default(), bytes.chunks(step.max(1)));
    let mut requests = Vec::new();
    let mut read = || -> Result<(), RequestError> {
        loop {
            let Some(raw) = input.next_head(max_head)? else {
                let Some(piece) = pieces.next() else { return Ok(()) };
                input.extend(piece);
                continue;
            };
            let parsed = head::parse(raw, ClientAddress::Unix)?;
            let (mut decoder, mut body) = (BodyDecoder::new(parsed.framing, max_body)?, Vec::new());
            loop {
                input.decode_body(&mut decoder, &mut body)?;
                if decoder.is_done() {
                    break;
                }
                let Some(piece) = pieces.next() else { return Ok(()) };
                input.extend(piece);
            }
            requests.push(Request::new(parsed.head, body));
        }
    };
    let refused = read().err().map(|refusal| refusal.status);
    (requests, refused)
}
