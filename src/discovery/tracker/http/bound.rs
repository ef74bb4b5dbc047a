//! Connections for the HTTP client from sockets bound to an interface or address, instead of ureq's own sockets.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, ShutdownHandle, Transport,
};
use ureq::{Error, Timeout};

use crate::discovery::tracker::http::tls::Tls;
use crate::net::bind::Bind;

/// The connect timeout if ureq sets none.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// A connector whose connections, with or without TLS, are bound to `bind`.
pub fn connector(bind: Bind) -> impl Connector {
    BoundConnector { bind }.chain(Tls)
}

/// Makes plain TCP connections.
#[derive(Debug)]
struct BoundConnector {
    bind: Bind,
}

/// A plain TCP connection.
struct BoundTransport {
    stream: Arc<TcpStream>,
    buffers: LazyBuffers,
}

impl<In: Transport> Connector<In> for BoundConnector {
    type Out = Either<In, BoundTransport>;

    fn connect(&self, details: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        if let Some(chained) = chained {
            return Ok(Some(Either::A(chained)));
        }
        let timeout = wait(details.timeout).unwrap_or(CONNECT_TIMEOUT);
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for addr in &details.addrs {
            match self.bind.connect(*addr, timeout) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    let stream = Arc::new(stream);
                    register(details, &stream)?;
                    let buffers =
                        LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
                    return Ok(Some(Either::B(BoundTransport { stream, buffers })));
                }
                Err(error) => last = error,
            }
        }
        Err(Error::Io(last))
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
        let output = &self.buffers.output()[..amount];
        (&*self.stream).write_all(output).map_err(|error| to_timeout_error(error, timeout.reason))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
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
