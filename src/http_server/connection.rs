//! One connection: reads a request, has it answered, sends the response, and begins again. Never blocks.

mod output;
mod receiving;
mod sending;
mod stream;

use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::net::sockopt::set_socket_linger;

use crate::http_server::body::BodyDecoder;
use crate::http_server::context::ServerContext;
use crate::http_server::head::RequestError;
use crate::http_server::input::InputBuffer;
use crate::http_server::request::{BodyLease, ClientAddress, RequestHead};
use crate::http_server::response::Response;
use crate::http_server::source::{BodySource, Pulled};
use crate::util::atomics::Amount;
use output::Output;
use stream::Stream;

/// The most steps before other connections have their turn: a client may send many requests at once.
const MAX_STEPS: usize = 32;
/// A body that arrives at this many bytes a second or faster never times out.
const MIN_BODY_RATE: u64 = 16 * 1024;
/// The least time between two heartbeats, so that the server never does nothing else.
const MIN_HEARTBEAT: Duration = Duration::from_millis(1);
/// The lowest priority of a connection to which a response is being made or sent.
pub(super) const MIN_BUSY_PRIORITY: u8 = 2;
/// How long a refused client may still send: a connection closed earlier loses the response.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// What a connection needs to proceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// One of these events, or a [`ConnectionMessage`](crate::http_server::mailbox::ConnectionMessage).
    Wait(EventFlags),
    /// Another turn, after the other connections.
    Again,
    /// Nothing: it is finished.
    Over,
}

enum ConnectionState {
    /// Waits for a request, or reads its head.
    Head,
    Body(Box<IncomingBody>),
    /// A worker has the request.
    Handling,
    Sending(Option<Stream>),
    /// Everything is sent and the client knows; what it still sends is thrown away, up to this many bytes.
    Lingering(usize),
}

/// A request whose body arrives.
struct IncomingBody {
    head: RequestHead,
    decoder: BodyDecoder,
    body: Vec<u8>,
    lease: BodyLease,
}

/// The facts about a request on which its response depends.
#[derive(Clone, Copy, Default)]
struct CurrentRequest {
    /// Whether another request may follow.
    keeps_alive: bool,
    is_head: bool,
    is_http_1_0: bool,
}

/// The state of a connection.
pub(super) struct HttpConnection {
    socket: OwnedFd,
    key: u64,
    client: ClientAddress,
    /// Bytes received and not parsed yet.
    input: InputBuffer,
    output: Output,
    state: ConnectionState,
    /// When the state began, or when the client last made progress in it.
    since: Duration,
    /// Whether the connection has answered a request.
    has_answered: bool,
    request: CurrentRequest,
    /// Whether the client may still be sending what this connection will not read.
    lingers: bool,
}

type Progress = ControlFlow<Step>;

const OVER: Progress = Progress::Break(Step::Over);
const WAIT_FOR_OTHERS: Progress = Progress::Break(Step::Wait(EventFlags::empty()));

impl HttpConnection {
    /// A new connection on a non-blocking socket.
    pub(super) fn new(socket: OwnedFd, key: u64, client: ClientAddress, now: Duration) -> HttpConnection {
        HttpConnection {
            socket,
            key,
            client,
            input: InputBuffer::default(),
            output: Output::default(),
            state: ConnectionState::Head,
            since: now,
            has_answered: false,
            request: CurrentRequest::default(),
            lingers: false,
        }
    }

    /// The number of bytes that wait to be sent.
    pub(super) fn unsent(&self) -> usize {
        self.output.len() + self.stream().map_or(0, Stream::held_bytes)
    }

    fn stream(&self) -> Option<&Stream> {
        if let ConnectionState::Sending(stream) = &self.state { stream.as_ref() } else { None }
    }

    /// The priority of this stream when one must be closed, the lowest first: browsers open a stream of events again. `None` if it is
    /// no stream.
    pub(super) fn stream_keep_priority(&self) -> Option<u8> {
        self.stream().map(|stream| u8::from(!stream.has_heartbeat()))
    }

    /// Whether the response would be a stream.
    pub(super) fn becomes_stream(&self, response: &Response) -> bool {
        matches!(self.state, ConnectionState::Handling) && !self.request.is_head && response.is_stream()
    }

    /// The number of bytes of a body that has not arrived completely; 0 if they do not count in this amount.
    pub(super) fn body_bytes(&self, amount: &Arc<Amount>) -> usize {
        match &self.state {
            ConnectionState::Body(incoming) if incoming.lease.is_of(amount) => incoming.body.len(),
            _ => 0,
        }
    }

    /// When the client last made progress.
    pub(super) fn since(&self) -> Duration {
        self.since
    }

    /// The priority of this connection when one must be closed, the lowest first.
    pub(super) fn keep_priority(&self) -> u8 {
        match &self.state {
            ConnectionState::Head if self.input.is_empty() => 0,
            ConnectionState::Lingering(_) => 0,
            ConnectionState::Head | ConnectionState::Body(_) => 1,
            ConnectionState::Sending(None) => MIN_BUSY_PRIORITY,
            ConnectionState::Handling | ConnectionState::Sending(Some(_)) => 3,
        }
    }

    /// Before the connection is closed: makes the system drop what it has not sent to a client that does not read, if there is more.
    pub(super) fn abort(&self) {
        if self.output.len() > 0 {
            let _ = set_socket_linger(&self.socket, Some(Duration::ZERO));
        }
    }

    /// Whether a response is being made or sent, and will end soon.
    pub(super) fn is_answering(&self) -> bool {
        matches!(self.state, ConnectionState::Handling | ConnectionState::Sending(None))
    }

    /// When [`HttpConnection::expire`] is due.
    pub(super) fn deadline(&self, context: &ServerContext) -> Option<Duration> {
        let limits = &context.limits;
        let time = match &self.state {
            ConnectionState::Head if self.has_answered && self.input.is_empty() => limits.keep_alive,
            ConnectionState::Head => limits.head_timeout,
            ConnectionState::Body(incoming) => {
                limits.body_timeout + Duration::from_secs(incoming.body.len() as u64 / MIN_BODY_RATE)
            }
            ConnectionState::Handling => return None,
            ConnectionState::Sending(Some(stream)) if self.output.len() == 0 => {
                if !(stream.is_pending() && stream.has_heartbeat()) {
                    return None;
                }
                limits.heartbeat.max(MIN_HEARTBEAT)
            }
            ConnectionState::Sending(Some(stream)) if !stream.has_heartbeat() => limits.stream_write_timeout,
            ConnectionState::Sending(_) => limits.write_timeout,
            ConnectionState::Lingering(_) => LINGER_TIMEOUT,
        };
        Some(self.since.saturating_add(time))
    }

    /// Proceeds after its deadline.
    pub(super) fn expire(&mut self, context: &mut ServerContext) -> Step {
        match &self.state {
            ConnectionState::Head if self.input.is_empty() => return Step::Over,
            ConnectionState::Head | ConnectionState::Body(_) => {
                self.refuse(context, RequestError { status: 408, why: "the request took too long" });
            }
            ConnectionState::Sending(Some(stream)) if self.output.len() == 0 => {
                stream.push_heartbeat(&mut self.output);
                self.since = context.now;
            }
            _ => {
                log::debug!("client {}: too slow", self.client);
                return Step::Over;
            }
        }
        self.advance(context)
    }

    /// Proceeds after an event of its socket.
    pub(super) fn on_event(&mut self, flags: EventFlags, context: &mut ServerContext) -> Step {
        let is_gone = flags.intersects(EventFlags::HUP | EventFlags::ERR);
        let is_closed = is_gone || flags.contains(EventFlags::RDHUP);
        match &self.state {
            ConnectionState::Handling if is_gone => Step::Over,
            ConnectionState::Sending(Some(stream)) if self.output.len() == 0 => {
                // A client that closes its side while it waits for events has gone away.
                if is_gone || (is_closed && stream.is_pending()) { Step::Over } else { self.advance(context) }
            }
            _ => self.advance(context),
        }
    }

    /// Sends a handler's response.
    pub(super) fn answered(&mut self, response: Response, context: &mut ServerContext) -> Step {
        if matches!(self.state, ConnectionState::Handling) {
            self.respond(context, response);
        }
        self.advance(context)
    }

    /// Takes back a source and what it has produced.
    pub(super) fn pulled(
        &mut self,
        source: Box<dyn BodySource>,
        pulled: io::Result<(Pulled, Vec<u8>)>,
        context: &mut ServerContext,
    ) -> Step {
        if let ConnectionState::Sending(Some(stream)) = &mut self.state
            && let Err(error) = stream.returned(source, pulled, &mut self.output)
        {
            log::debug!("client {}: the body ends early: {error}", self.client);
            return Step::Over;
        }
        self.since = context.now;
        self.advance(context)
    }

    /// Proceeds after its source has called the waker.
    pub(super) fn woken(&mut self, context: &mut ServerContext) -> Step {
        if let ConnectionState::Sending(Some(stream)) = &mut self.state {
            stream.wake();
        }
        self.advance(context)
    }

    /// Refuses the request that arrives because there is no memory for it.
    pub(super) fn refuse_body(&mut self, context: &mut ServerContext) -> Step {
        self.refuse(context, RequestError { status: 503, why: "too many large requests: try again later" });
        self.advance(context)
    }

    /// Proceeds as far as possible without blocking.
    pub(super) fn advance(&mut self, context: &mut ServerContext) -> Step {
        for _ in 0..MAX_STEPS {
            let progress = match self.state {
                ConnectionState::Head => self.read_head(context),
                ConnectionState::Body(_) => self.read_body(context),
                ConnectionState::Handling => WAIT_FOR_OTHERS,
                ConnectionState::Sending(_) => self.send(context),
                ConnectionState::Lingering(_) => self.linger(context),
            };
            if let Progress::Break(step) = progress {
                return step;
            }
        }
        Step::Again
    }
}

impl AsFd for HttpConnection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
