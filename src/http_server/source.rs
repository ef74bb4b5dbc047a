//! Bodies that are produced while they are sent: files, events, and anything else that implements [`BodySource`].

use std::io;

pub use crate::http_server::mailbox::Waker;

/// The most bytes pulled at once.
pub(super) const PULL_SIZE: usize = 64 * 1024;

/// What a [`BodySource`] has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulled {
    /// It has appended at least one byte.
    Data,
    /// It has nothing to send now, and will call the waker when it has.
    Pending,
    /// The body is complete.
    End,
}

/// Produces the body of a response piece by piece, whenever the client can take more. It holds no thread in between.
pub trait BodySource: Send {
    /// Appends up to `max` bytes to `out`. Calls for one source never overlap.
    ///
    /// A source that returns [`Pulled::Pending`] has stored a clone of the waker and calls it when there is more; to call it too
    /// often does no harm.
    ///
    /// # Errors
    /// The server closes the connection, so that the client sees that the body is not complete.
    fn pull(&mut self, max: usize, out: &mut Vec<u8>, waker: &Waker) -> io::Result<Pulled>;

    /// Whether [`BodySource::pull`] may wait for a disk or for a lock that somebody holds for long. The server then calls it on a
    /// worker, otherwise on the thread of all connections.
    fn may_block(&self) -> bool {
        true
    }

    /// How many bytes the source keeps in memory for this client, which count like a response that waits to be sent.
    fn held_bytes(&self) -> usize {
        0
    }

    /// What to send from time to time while the source is pending, such as a comment.
    fn heartbeat(&self) -> Option<&'static [u8]> {
        None
    }
}
