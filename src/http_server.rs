//! A small HTTP/1.1 server of plain threads, for the tracker and for services with a web page.
//!
//! One thread has all connections (`event_loop.rs`): it reads requests, sends responses, and never waits for a client. It calls
//! [`Handler::body_limit`] for each request head, and [`Handler::handle_inline`] for each complete request. If the latter has no
//! response, one of a few workers calls [`Handler::handle`], which may block. Files are read by the workers, a piece whenever the
//! client takes more, so that a slow client holds no worker; an event stream needs no worker at all.
//!
//! [`ServerLimits`] bounds everything that clients control: connections, streams, bytes in memory, and time.

mod body;
mod connection;
mod context;
mod event_loop;
mod events;
#[cfg(any(test, feature = "internals"))]
mod file_response;
mod head;
mod input;
mod limits;
mod listener;
mod mailbox;
mod query;
mod range;
mod request;
mod response;
mod source;
mod table;
#[cfg(test)]
mod tests;
mod workers;

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

#[cfg(test)]
pub(crate) use events::MAX_WAITING_BYTES;
pub use events::{EventBroadcast, EventSubscription, LOST_EVENT};
#[cfg(feature = "internals")]
pub use input::requests_in;
pub use limits::ServerLimits;
pub use listener::{HttpListener, ListenAddress, PRIVATE_MODE};
pub use query::QueryString;
pub use range::{RequestedRange, has_current, requested_range};
pub use request::{ClientAddress, Request, RequestHead};
pub use response::{Response, ResponseBody};
pub use source::{BodySource, Pulled, Waker};

use context::ServerContext;
use event_loop::EventLoop;
use mailbox::Mailbox;

/// A waker that wakes nothing, for tests of sources.
#[cfg(test)]
pub fn test_waker() -> Waker {
    Waker::new(&Arc::new(Mailbox::new().expect("an eventfd")), 0)
}

/// The stack of the thread of the connections; it needs little.
const STACK: usize = 256 * 1024;

/// Answers the requests of a server.
///
/// The server does not look at the header `Host`. A handler whose answers depend on the client's address or on cookies must check
/// it: a page of another site can make a browser send requests to any address under a name of that site's choice.
pub trait Handler: Send + Sync + 'static {
    /// The most bytes of a body that a request with this head may have; 0 by default. Called for every request before its body is
    /// read, on the thread of the connections: it must not block. Requests of clients that have not proved who they are should get less
    /// than [`ServerLimits::max_body_bytes`]: their bodies then take no memory from those of others.
    ///
    /// # Errors
    /// The response to a request that is refused because of its head, such as 401. If it has a body, the connection ends then.
    fn body_limit(&self, head: &RequestHead) -> Result<usize, Response> {
        let _ = head;
        Ok(0)
    }

    /// Answers a request on the thread of the connections, without blocking; `None` passes it to [`Handler::handle`].
    fn handle_inline(&self, request: &Request) -> Option<Response> {
        let _ = request;
        None
    }

    /// Answers a request on a worker; may block. A call that lasts longer than a second delays the end of the server.
    fn handle(&self, request: Request) -> Response;
}

/// A running server; stops on [`Server::stop`] or when dropped. A handler must not stop its own server.
pub struct Server {
    mailbox: Arc<Mailbox>,
    addresses: Vec<ListenAddress>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts a server on these listeners. `name` is the name of its thread; its workers are called `NAME-work`.
    ///
    /// # Errors
    /// If no thread or descriptor is available.
    pub fn start(
        name: &str,
        listeners: Vec<HttpListener>,
        limits: ServerLimits,
        handler: Arc<dyn Handler>,
    ) -> io::Result<Server> {
        let mailbox = Arc::new(Mailbox::new()?);
        let addresses = listeners.iter().map(|listener| listener.address().clone()).collect();
        let context = ServerContext::new(name, handler, limits, Arc::clone(&mailbox));
        let event_loop = EventLoop::new(name, listeners, context)?;
        let thread = thread::Builder::new().name(name.into()).stack_size(STACK).spawn(move || event_loop.run())?;
        Ok(Server { mailbox, addresses, thread: Some(thread) })
    }

    /// Where it listens, in the order of the listeners.
    pub fn addresses(&self) -> &[ListenAddress] {
        &self.addresses
    }

    /// Closes the listeners and idle connections, sends the responses that are being made for
    /// [`ServerLimits::stop_grace`] at most, and waits for all threads.
    #[cfg(any(test, feature = "internals"))]
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.mailbox.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the thread of an HTTP server panicked");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}
