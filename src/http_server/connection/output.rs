//! The bytes that wait to be sent on a connection.

use std::collections::VecDeque;
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use crate::http_server::response::BodyBytes;

/// The most bytes sent before other connections have their turn.
const MAX_SENT_PER_TURN: usize = 1024 * 1024;

/// How an attempt to send ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// There is nothing left.
    All,
    /// The socket takes no more.
    Blocked,
    /// Other connections are due.
    TurnOver,
}

/// A queue of bytes, of which the first part may have been sent.
#[derive(Default)]
pub(super) struct Output {
    queue: VecDeque<BodyBytes>,
    /// How much of the first part has been sent.
    offset: usize,
    length: usize,
}

impl Output {
    /// The number of bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn push(&mut self, bytes: BodyBytes) {
        let length = bytes.as_ref().len();
        if length > 0 {
            self.length += length;
            self.queue.push_back(bytes);
        }
    }

    /// Adds a chunk of a chunked body.
    pub(super) fn push_chunk(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            let mut framed = format!("{:x}\r\n", bytes.len()).into_bytes();
            framed.reserve_exact(bytes.len() + 2);
            framed.extend_from_slice(bytes);
            framed.extend_from_slice(b"\r\n");
            self.push(BodyBytes::Owned(framed));
        }
    }

    /// Sends as much as the socket takes.
    pub(super) fn send(&mut self, socket: impl AsFd) -> Result<Sent, Errno> {
        let mut turn = 0;
        while let Some(first) = self.queue.front() {
            let rest = first.as_ref().get(self.offset..).unwrap_or_default();
            let more = if self.queue.len() > 1 { SendFlags::MORE } else { SendFlags::empty() };
            let sent = match send(&socket, rest, SendFlags::NOSIGNAL | more) {
                Ok(sent) => sent,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Ok(Sent::Blocked),
                Err(error) => return Err(error),
            };
            turn += sent;
            self.offset += sent;
            self.length -= sent;
            if sent == rest.len() {
                self.queue.pop_front();
                self.offset = 0;
            } else if turn >= MAX_SENT_PER_TURN {
                return Ok(Sent::TurnOver);
            }
        }
        Ok(Sent::All)
    }
}
