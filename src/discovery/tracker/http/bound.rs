//! Connections for the HTTP client over sockets of our own, instead of ureq's: they are bound to an interface or address, or lead to a
//! proxy.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ureq::unversioned::transport::{Buffers, ConnectionDetails, LazyBuffers, NextTimeout, ShutdownHandle, Transport};
use ureq::{Error, Timeout};

use crate::net::bind::Bind;

/// A plain TCP connection to a server, or to a proxy that accepts whole URLs.
pub(crate) struct BoundTransport {
    stream: Arc<TcpStream>,
    buffers: LazyBuffers,
    /// What a proxy needs in each request.
    amendment: Option<Amendment>,
    /// Whether what is sent next begins a request.
    is_request_next: bool,
}

/// What a request to a proxy has in addition.
#[derive(Debug)]
pub(crate) struct Amendment {
    /// The part of the URL before the path.
    pub root: String,
    /// A header, or nothing.
    pub header: String,
}

impl BoundTransport {
    /// A transport over a connection that exists, which the agent's shutdown closes.
    pub(crate) fn new(
        details: &ConnectionDetails,
        stream: TcpStream,
        amendment: Option<Amendment>,
    ) -> Result<BoundTransport, Error> {
        let stream = Arc::new(stream);
        register(details, &stream)?;
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(BoundTransport { stream, buffers, amendment, is_request_next: true })
    }
}

/// Connects to the first of the server's addresses that answers.
pub(crate) fn connect_directly(
    bind: &Bind,
    details: &ConnectionDetails,
    timeout: Duration,
) -> Result<BoundTransport, Error> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for addr in &details.addrs {
        match bind.connect(*addr, timeout) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return BoundTransport::new(details, stream, None);
            }
            Err(error) => last = error,
        }
    }
    Err(Error::Io(last))
}

/// The request with its whole URL in the first line, and `header` after that line. Unchanged if the request target is not a path.
fn amended(request: &[u8], Amendment { root, header }: &Amendment) -> Vec<u8> {
    let path = request.iter().position(|&byte| byte == b' ').map(|at| at + 1);
    let line = request.windows(2).position(|end| end == b"\r\n").map(|at| at + 2);
    let (Some(path), Some(line)) = (path, line) else { return request.to_vec() };
    match (request.get(..path), request.get(path..line), request.get(line..)) {
        (Some(method), Some(rest_of_line), Some(rest)) if rest_of_line.starts_with(b"/") => {
            [method, root.as_bytes(), rest_of_line, header.as_bytes(), rest].concat()
        }
        _ => request.to_vec(),
    }
}

/// Lets the agent's shutdown close the socket.
pub(crate) fn register(details: &ConnectionDetails, stream: &Arc<TcpStream>) -> Result<(), Error> {
    let weak: Weak<TcpStream> = Arc::downgrade(stream);
    (details.register_shutdown)(weak as Weak<dyn ShutdownHandle>)
}

/// The time limit of a step; `None` for no limit. Never zero, which sockets do not accept as a timeout.
pub(crate) fn wait(timeout: NextTimeout) -> Option<Duration> {
    timeout.not_zero().map(|left| (*left).max(Duration::from_millis(1)))
}

/// Converts a socket's timeout error to ureq's.
pub(crate) fn to_timeout_error(error: io::Error, reason: Timeout) -> Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::Timeout(reason),
        _ => Error::Io(error),
    }
}

impl Transport for BoundTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.set_write_timeout(wait(timeout))?;
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        let begins_request = std::mem::replace(&mut self.is_request_next, false);
        let sent = match self.amendment.as_ref().filter(|_| begins_request) {
            Some(amendment) => (&*self.stream).write_all(&amended(output, amendment)),
            None => (&*self.stream).write_all(output),
        };
        sent.map_err(|error| to_timeout_error(error, timeout.reason))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.is_request_next = true; // requests have no bodies, so each is complete before its answer is read
        self.stream.set_read_timeout(wait(timeout))?;
        let input = self.buffers.input_append_buf();
        let amount = (&*self.stream).read(input).map_err(|error| to_timeout_error(error, timeout.reason))?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        // An open connection has nothing to read between two requests.
        let is_silent = || self.stream.peek(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        self.stream.set_nonblocking(true).is_ok() && is_silent() && self.stream.set_nonblocking(false).is_ok()
    }
}

impl fmt::Debug for BoundTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundTransport").field("addr", &self.stream.peer_addr().ok()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_for_a_proxy_names_its_whole_url() {
        let amendment = Amendment { root: "http://t:80".to_owned(), header: "Proxy-Authorization: x\r\n".to_owned() };
        let request = b"GET /a?b HTTP/1.1\r\nHost: t\r\n\r\n";
        let expected = b"GET http://t:80/a?b HTTP/1.1\r\nProxy-Authorization: x\r\nHost: t\r\n\r\n";
        assert_eq!(amended(request, &amendment), expected);
        for odd in [&b"GET *\r\n"[..], b"x", b"", b"CONNECT t:1 HTTP/1.1\r\n\r\n"] {
            assert_eq!(amended(odd, &amendment), odd);
        }
    }
}
