//! The first half of a connection's work: it reads a request and has it answered.

use std::ops::ControlFlow;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use crate::http_server::body::BodyDecoder;
use crate::http_server::connection::output::Sent;
use crate::http_server::connection::sending::busy;
use crate::http_server::connection::{
    ConnectionState, CurrentRequest, HttpConnection, IncomingBody, OVER, Progress, Step,
};
use crate::http_server::context::ServerContext;
use crate::http_server::head::{self, Framing, ParsedHead};
use crate::http_server::request::{BodyLease, Request};
use crate::http_server::response::BodyBytes;
use crate::http_server::workers::{self, HttpJob};

impl HttpConnection {
    /// Reads into the scratch buffer. Returns the number of bytes, at least one.
    pub(super) fn read(&mut self, context: &mut ServerContext) -> ControlFlow<Step, usize> {
        match recv(&self.socket, &mut *context.scratch, RecvFlags::empty()) {
            Ok((0, _)) => ControlFlow::Break(Step::Over),
            Ok((read, _)) => ControlFlow::Continue(read),
            Err(Errno::AGAIN) => ControlFlow::Break(Step::Wait(EventFlags::IN)),
            Err(Errno::INTR) => ControlFlow::Break(Step::Again),
            Err(error) => {
                log::debug!("client {}: {error}", self.client);
                ControlFlow::Break(Step::Over)
            }
        }
    }

    pub(super) fn read_head(&mut self, context: &mut ServerContext) -> Progress {
        match self.input.next_head(context.limits.head_limit()) {
            Ok(Some(raw)) => {
                self.begin_request(context, raw);
                return Progress::Continue(());
            }
            Ok(None) => {}
            Err(refusal) => {
                self.refuse(context, refusal);
                return Progress::Continue(());
            }
        }
        let read = self.read(context)?;
        if self.input.is_empty() && self.has_answered {
            self.since = context.now;
        }
        self.input.extend(context.scratch.get(..read).unwrap_or_default());
        Progress::Continue(())
    }

    /// Begins the request with this head.
    fn begin_request(&mut self, context: &mut ServerContext, raw: Vec<u8>) {
        let ParsedHead { head, framing, keeps_alive, expects_continue } = match head::parse(raw, self.client) {
            Ok(parsed) => parsed,
            Err(refusal) => return self.refuse(context, refusal),
        };
        self.request = CurrentRequest {
            keeps_alive: keeps_alive && !context.limits.keep_alive.is_zero(),
            is_head: head.is_head(),
            is_http_1_0: head.is_http_1_0,
        };
        let has_body = framing != Framing::Length(0);
        let limit = match workers::catch_panic(|| context.handler.body_limit(&head)) {
            Some(Ok(limit)) => limit,
            refused => {
                self.lingers = has_body;
                self.request.keeps_alive &= !has_body;
                let response = refused.and_then(Result::err).unwrap_or_else(workers::failed);
                return self.respond(context, response);
            }
        };
        let is_limited = limit < context.limits.max_body_bytes;
        let lease = BodyLease::new(if is_limited { &context.bodies.limited } else { &context.bodies.full });
        if !has_body {
            return self.dispatch(context, Request { head, body: Vec::new(), _lease: lease });
        }
        match BodyDecoder::new(framing, limit.min(context.limits.max_body_bytes)) {
            Ok(decoder) => {
                if expects_continue && self.input.is_empty() {
                    self.output.push(BodyBytes::Static(b"HTTP/1.1 100 Continue\r\n\r\n"));
                }
                self.since = context.now;
                self.state = ConnectionState::Body(Box::new(IncomingBody { head, decoder, body: Vec::new(), lease }));
            }
            Err(refusal) => self.refuse(context, refusal),
        }
    }

    pub(super) fn read_body(&mut self, context: &mut ServerContext) -> Progress {
        let ConnectionState::Body(incoming) = &mut self.state else { return Progress::Continue(()) };
        let before = incoming.body.len();
        let decoded = self.input.decode_body(&mut incoming.decoder, &mut incoming.body);
        incoming.lease.grow(incoming.body.len() - before);
        if let Err(refusal) = decoded {
            self.refuse(context, refusal);
            return Progress::Continue(());
        }
        if incoming.decoder.is_done() {
            if let ConnectionState::Body(incoming) = std::mem::replace(&mut self.state, ConnectionState::Handling) {
                let IncomingBody { head, body, lease, .. } = *incoming;
                self.dispatch(context, Request { head, body, _lease: lease });
            }
            return Progress::Continue(());
        }
        // Only `100 Continue` can wait to be sent here.
        let is_blocked = match self.output.send(&self.socket) {
            Ok(sent) => sent != Sent::All,
            Err(_) => return OVER,
        };
        match self.read(context) {
            ControlFlow::Continue(read) => {
                self.input.extend(context.scratch.get(..read).unwrap_or_default());
                Progress::Continue(())
            }
            ControlFlow::Break(Step::Wait(flags)) if is_blocked => Progress::Break(Step::Wait(flags | EventFlags::OUT)),
            ControlFlow::Break(step) => Progress::Break(step),
        }
    }

    /// Has a complete request answered: at once, or by a worker.
    fn dispatch(&mut self, context: &mut ServerContext, request: Request) {
        self.state = ConnectionState::Handling;
        let response = match workers::catch_panic(|| context.handler.handle_inline(&request)) {
            Some(Some(response)) => response,
            None => workers::failed(),
            Some(None) if context.pool.submit(HttpJob::Handle(self.key, request)) => return,
            Some(None) => busy("too many requests: try again later\n"),
        };
        self.respond(context, response);
    }
}
