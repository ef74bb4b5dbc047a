//! A body that is produced while it is sent, as the connection sees it.

use std::io;
use std::sync::Arc;

use crate::http_server::connection::output::Output;
use crate::http_server::mailbox::Waker;
use crate::http_server::response::{BodyBytes, BodyFraming};
use crate::http_server::source::{BodySource, Pulled};
use crate::http_server::workers::{self, HttpJob};
use crate::util::atomics::Amount;

/// The state of such a body.
pub(super) struct Stream {
    /// `None` while a worker has it.
    source: Option<Box<dyn BodySource>>,
    framing: BodyFraming,
    waker: Waker,
    may_block: bool,
    heartbeat: Option<&'static [u8]>,
    phase: Phase,
    is_woken: bool,
    _permit: StreamPermit,
}

/// The source's last result.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Ready,
    Pending,
    Over,
}

/// Counts a stream while it exists.
pub(super) struct StreamPermit(Arc<Amount>);

impl StreamPermit {
    /// `None` if there are `limit` streams.
    pub(super) fn take(count: &Arc<Amount>, limit: usize) -> Option<StreamPermit> {
        count.add_one_below(limit).then(|| StreamPermit(Arc::clone(count)))
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.0.sub(1);
    }
}

/// What a stream needs next.
pub(super) enum StreamNeed {
    /// A worker must pull; the job is for it.
    Worker(HttpJob),
    /// The worker that has it.
    Return,
    /// A wake-up.
    Wake,
    /// The output to be sent.
    Sending,
    /// Nothing: the body is complete.
    End,
}

impl Stream {
    pub(super) fn new(source: Box<dyn BodySource>, framing: BodyFraming, waker: Waker, permit: StreamPermit) -> Stream {
        let (may_block, heartbeat) = (source.may_block(), source.heartbeat());
        Stream {
            source: Some(source),
            framing,
            waker,
            may_block,
            heartbeat,
            phase: Phase::Ready,
            is_woken: false,
            _permit: permit,
        }
    }

    /// Whether this is a stream of events, which has no end of its own.
    pub(super) fn has_heartbeat(&self) -> bool {
        self.heartbeat.is_some()
    }

    /// How many bytes the source keeps in memory.
    pub(super) fn held_bytes(&self) -> usize {
        self.source.as_ref().map_or(0, |source| source.held_bytes())
    }

    /// Whether the source has nothing to send now.
    pub(super) fn is_pending(&self) -> bool {
        self.phase == Phase::Pending && !self.is_woken
    }

    /// Notes a wake-up.
    pub(super) fn wake(&mut self) {
        self.is_woken = true;
    }

    /// Adds a heartbeat to the output.
    pub(super) fn push_heartbeat(&self, output: &mut Output) {
        self.add(self.heartbeat.unwrap_or_default().to_vec(), output);
    }

    /// Proceeds while the output is empty.
    pub(super) fn proceed(&mut self, key: u64, output: &mut Output) -> io::Result<StreamNeed> {
        if self.phase == Phase::Over {
            return Ok(StreamNeed::End);
        }
        if self.is_pending() {
            return Ok(StreamNeed::Wake);
        }
        let Some(mut source) = self.source.take() else { return Ok(StreamNeed::Return) };
        (self.phase, self.is_woken) = (Phase::Ready, false);
        if self.may_block {
            return Ok(StreamNeed::Worker(HttpJob::Pull(key, source, self.waker.clone())));
        }
        let pulled = workers::pull(&mut *source, &self.waker);
        self.returned(source, pulled, output)?;
        Ok(StreamNeed::Sending)
    }

    /// Takes the source back, and what it has produced.
    pub(super) fn returned(
        &mut self,
        source: Box<dyn BodySource>,
        pulled: io::Result<(Pulled, Vec<u8>)>,
        output: &mut Output,
    ) -> io::Result<()> {
        self.source = Some(source);
        let (pulled, mut bytes) = pulled?;
        self.phase = match pulled {
            Pulled::Data => Phase::Ready,
            Pulled::Pending => Phase::Pending,
            Pulled::End => Phase::Over,
        };
        if let BodyFraming::Length(left) = &mut self.framing {
            bytes.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= bytes.len() as u64;
            if *left == 0 {
                self.phase = Phase::Over;
            } else if self.phase == Phase::Over {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        self.add(bytes, output);
        if self.phase == Phase::Over && self.framing == BodyFraming::Chunked {
            output.push(BodyBytes::Static(b"0\r\n\r\n"));
        }
        Ok(())
    }

    fn add(&self, bytes: Vec<u8>, output: &mut Output) {
        if self.framing == BodyFraming::Chunked {
            output.push_chunk(&bytes);
        } else {
            output.push(BodyBytes::Owned(bytes));
        }
    }
}
