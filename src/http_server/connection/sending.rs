//! The second half of a connection's work: it sends a response and finishes it.

use rustix::event::epoll::EventFlags;
use rustix::net::{Shutdown, shutdown};

use crate::http_server::connection::output::Sent;
use crate::http_server::connection::stream::{Stream, StreamNeed, StreamPermit};
use crate::http_server::connection::{ConnectionState, HttpConnection, OVER, Progress, Step, WAIT_FOR_OTHERS};
use crate::http_server::context::ServerContext;
use crate::http_server::head::RequestError;
use crate::http_server::input::InputBuffer;
use crate::http_server::mailbox::Waker;
use crate::http_server::response::{BodyBytes, BodyFraming, Response};

/// Bodies up to this size are sent together with their head.
const MAX_JOINED: usize = 16 * 1024;
/// How many bytes a refused client may still send.
const MAX_LINGER: usize = 8 << 20;

impl HttpConnection {
    /// Answers a request that is not served, and ends the connection after that.
    pub(super) fn refuse(&mut self, context: &mut ServerContext, refusal: RequestError) {
        log::debug!("client {}: {}: {}", self.client, refusal.status, refusal.why);
        (self.lingers, self.request.keeps_alive) = (true, false);
        self.respond(context, Response::text(refusal.status, format!("{}\n", refusal.why)));
    }

    pub(super) fn respond(&mut self, context: &mut ServerContext, response: Response) {
        self.since = context.now;
        let framing = response.body.framing(self.request.is_http_1_0);
        let framing = if response.may_have_body() { framing } else { BodyFraming::Length(0) };
        self.request.keeps_alive &= !response.closes && !context.is_stopping && framing != BodyFraming::UntilClose;
        let has_body = !self.request.is_head && response.may_have_body() && framing != BodyFraming::Length(0);
        let head = |capacity| response.write_head(framing, !self.request.keeps_alive, capacity);
        self.state = ConnectionState::Sending(None);
        if !has_body {
            return self.output.push(BodyBytes::Owned(head(0)));
        }
        let joined = response.body_bytes().filter(|bytes| bytes.len() <= MAX_JOINED);
        if let Some(bytes) = joined {
            let mut head = head(bytes.len());
            head.extend_from_slice(bytes);
            return self.output.push(BodyBytes::Owned(head));
        }
        let head = head(0);
        match response.body.into_parts() {
            Ok(bytes) => {
                self.output.push(BodyBytes::Owned(head));
                self.output.push(bytes);
            }
            Err(source) => match StreamPermit::take(&context.streams, context.limits.max_streams) {
                Some(permit) => {
                    self.output.push(BodyBytes::Owned(head));
                    let waker = Waker::new(&context.mailbox, self.key);
                    self.state = ConnectionState::Sending(Some(Stream::new(source, framing, waker, permit)));
                }
                None => self.respond(context, busy("too many streams: try again later\n")),
            },
        }
    }

    pub(super) fn send(&mut self, context: &mut ServerContext) -> Progress {
        let before = self.output.len();
        let sent = self.output.send(&self.socket);
        if self.output.len() < before {
            self.since = context.now;
        }
        match sent {
            Ok(Sent::All) => {}
            Ok(Sent::Blocked) => return Progress::Break(Step::Wait(EventFlags::OUT)),
            Ok(Sent::TurnOver) => return Progress::Break(Step::Again),
            Err(error) => {
                log::debug!("client {}: {error}", self.client);
                return OVER;
            }
        }
        let ConnectionState::Sending(Some(stream)) = &mut self.state else { return self.finish_response(context) };
        match stream.proceed(self.key, &mut self.output) {
            Ok(StreamNeed::End) => self.finish_response(context),
            Ok(StreamNeed::Sending) => Progress::Continue(()),
            Ok(StreamNeed::Return) => WAIT_FOR_OTHERS,
            Ok(StreamNeed::Wake) => Progress::Break(Step::Wait(EventFlags::RDHUP)),
            Ok(StreamNeed::Worker(job)) => {
                // The pool takes all pulls, unless there is not one thread.
                if context.pool.submit(job) { WAIT_FOR_OTHERS } else { OVER }
            }
            Err(error) => {
                log::debug!("client {}: the body ends early: {error}", self.client);
                OVER
            }
        }
    }

    pub(super) fn finish_response(&mut self, context: &ServerContext) -> Progress {
        (self.has_answered, self.since) = (true, context.now);
        let keeps_alive = std::mem::take(&mut self.request).keeps_alive;
        if keeps_alive && !context.is_stopping {
            self.input.release();
            self.state = ConnectionState::Head;
            return Progress::Continue(());
        }
        // The system resets a connection that is closed before everything is read, and the client may lose the response.
        let lingers = (self.lingers || !self.input.is_empty()) && !context.is_stopping;
        if lingers && shutdown(&self.socket, Shutdown::Write).is_ok() {
            self.input = InputBuffer::default();
            self.state = ConnectionState::Lingering(MAX_LINGER);
            return Progress::Continue(());
        }
        OVER
    }

    pub(super) fn linger(&mut self, context: &mut ServerContext) -> Progress {
        let read = self.read(context)?;
        let ConnectionState::Lingering(left) = &mut self.state else { return OVER };
        *left = left.saturating_sub(read);
        if *left == 0 { OVER } else { Progress::Continue(()) }
    }
}

/// The response if a limit is reached.
pub(super) fn busy(why: &'static str) -> Response {
    Response::text(503, why).header("Retry-After", "1")
}
