//! One non-blocking HTTP connection: reads a request, then writes the answer.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, TcpStream};

use crate::tracker_server::{MAX_REQUEST, ServerShared, request};

/// The most bytes read at once.
const READ_SIZE: usize = 4 * 1024;

/// The state of a connection.
#[derive(Debug)]
pub(crate) struct HttpConnection {
    stream: TcpStream,
    from: IpAddr,
    request: Vec<u8>,
    answer: Vec<u8>,
    /// The number of bytes of the answer written to the socket.
    sent: usize,
}

/// What a connection needs to proceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionStep {
    /// More of the request.
    Reading,
    /// Room in the send buffer.
    Writing,
    /// Nothing: the connection is finished.
    Over,
}

impl HttpConnection {
    /// A new connection on a non-blocking stream.
    pub fn new(stream: TcpStream, from: IpAddr) -> HttpConnection {
        HttpConnection { stream, from, request: Vec::new(), answer: Vec::new(), sent: 0 }
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Proceeds as far as possible without blocking.
    pub fn advance(&mut self, shared: &ServerShared) -> ConnectionStep {
        match self.try_advance(shared) {
            Ok(step) => step,
            Err(error) => {
                log::debug!("client {}: {error}", self.from);
                ConnectionStep::Over
            }
        }
    }

    fn try_advance(&mut self, shared: &ServerShared) -> io::Result<ConnectionStep> {
        let mut part = [0; READ_SIZE];
        while self.answer.is_empty() {
            let read = match self.stream.read(&mut part) {
                Ok(0) => return Ok(ConnectionStep::Over),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(ConnectionStep::Reading),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            // The end of the request may straddle two reads.
            let from = self.request.len().saturating_sub(3);
            self.request.extend_from_slice(part.get(..read).unwrap_or_default());
            let new = self.request.get(from..).unwrap_or_default();
            if new.windows(4).any(|w| w == b"\r\n\r\n") || new.windows(2).any(|w| w == b"\n\n") {
                let now = shared.started.elapsed();
                self.answer = request::respond(&self.request, self.from, now, &shared.config, &shared.registry);
                self.request = Vec::new();
            } else if self.request.len() > MAX_REQUEST {
                return Err(io::Error::other("the request is too long"));
            }
        }
        while let Some(rest) = self.answer.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(wrote) => self.sent += wrote,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(ConnectionStep::Writing),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.stream.shutdown(Shutdown::Write)?;
        Ok(ConnectionStep::Over)
    }
}
