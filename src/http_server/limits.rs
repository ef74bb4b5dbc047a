//! What a server allows its clients: counts, times and bytes.

use std::time::Duration;

/// The limits of a [`Server`](crate::http_server::Server). All of them count what strangers control.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// The most concurrent connections. Beyond this, the server closes one of the network that has the most.
    pub max_connections: usize,
    /// The most concurrent connections of one network (an IPv4 address or an IPv6 /64; all Unix sockets together are one).
    pub max_connections_per_client: usize,
    /// The most responses that come from a [`BodySource`](crate::http_server::BodySource) at the same time: files, events. Beyond this,
    /// the server closes one of the network that has the most, the oldest stream of events first.
    pub max_streams: usize,
    /// The longest request line and headers, in bytes; 60 KiB at most.
    pub max_head: usize,
    /// The most bytes of request bodies in memory, over all connections, until the handler has dropped the requests. Bodies for which
    /// [`Handler::body_limit`](crate::http_server::Handler::body_limit) allows less than this may have half of it besides, and take
    /// nothing from the others.
    pub max_body_bytes: usize,
    /// The most bytes of responses that wait for slow readers, over all connections. Beyond this, the server closes the connection
    /// that has made no progress for the longest time.
    pub max_unsent_bytes: usize,
    /// The most threads that run [`Handler::handle`](crate::http_server::Handler::handle) and read files.
    pub workers: usize,
    /// The most requests that wait for a worker. A further one is refused with 503. A connection has one request at a time, so as many
    /// as there may be connections keep nobody out.
    pub max_queued_requests: usize,
    /// The time for a request line and headers, from the first byte or from the start of the connection.
    pub head_timeout: Duration,
    /// The time for a body. Every 16 KiB that arrive give another second.
    pub body_timeout: Duration,
    /// The time that a connection may wait for its next request. Zero: every connection ends after one response.
    pub keep_alive: Duration,
    /// How long a reader may accept no byte of a response that is in memory, or of events.
    pub write_timeout: Duration,
    /// How long a reader may accept no byte of a file: a paused video player reads nothing.
    pub stream_write_timeout: Duration,
    /// How often a silent event stream gets a comment, which shows whether the listener still exists.
    pub heartbeat: Duration,
    /// How long a stop waits for responses that are being made or sent.
    pub stop_grace: Duration,
}

impl ServerLimits {
    /// [`ServerLimits::max_head`], as far as offsets of 16 bits reach.
    pub(super) fn head_limit(&self) -> usize {
        self.max_head.min(60 * 1024)
    }
}

impl Default for ServerLimits {
    fn default() -> ServerLimits {
        ServerLimits {
            max_connections: 512,
            max_connections_per_client: 256,
            max_streams: 256,
            max_head: 8 * 1024,
            max_body_bytes: 16 << 20,
            max_unsent_bytes: 64 << 20,
            workers: 4,
            max_queued_requests: 512,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            keep_alive: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            stream_write_timeout: Duration::from_secs(600),
            heartbeat: Duration::from_secs(15),
            stop_grace: Duration::from_millis(500),
        }
    }
}
