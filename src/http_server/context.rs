//! What all connections of a server share. Only the thread of the connections uses it.

use std::sync::Arc;
use std::time::Duration;

use crate::http_server::Handler;
use crate::http_server::limits::ServerLimits;
use crate::http_server::mailbox::Mailbox;
use crate::http_server::workers::WorkerPool;
use crate::util::atomics::Amount;

/// The most bytes read at once.
const READ_SIZE: usize = 16 * 1024;

/// The handler, the limits, and the counts that are compared with them.
pub(super) struct ServerContext {
    pub(super) handler: Arc<dyn Handler>,
    pub(super) limits: ServerLimits,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) pool: WorkerPool,
    /// The bytes of the request bodies in memory, until the handler has dropped the requests.
    pub(super) bodies: BodyAmounts,
    /// The number of streams.
    pub(super) streams: Arc<Amount>,
    /// The time since the start of the server.
    pub(super) now: Duration,
    /// Whether no further request is accepted.
    pub(super) is_stopping: bool,
    /// Every connection reads into it, so that an idle one needs no buffer.
    pub(super) scratch: Box<[u8]>,
}

/// The bytes of request bodies in memory. Those of unverified clients count apart, so that they take no memory from the others.
#[derive(Default)]
pub(super) struct BodyAmounts {
    /// Of requests whose bodies may be as large as all bodies together.
    pub(super) full: Arc<Amount>,
    /// Of requests for which the handler allows less.
    pub(super) limited: Arc<Amount>,
}

impl ServerContext {
    pub(super) fn new(
        name: &str,
        handler: Arc<dyn Handler>,
        limits: ServerLimits,
        mailbox: Arc<Mailbox>,
    ) -> ServerContext {
        let pool = WorkerPool::new(
            format!("{name}-work"),
            limits.workers,
            limits.max_queued_requests,
            Arc::clone(&mailbox),
            Arc::clone(&handler),
        );
        ServerContext {
            handler,
            limits,
            mailbox,
            pool,
            bodies: BodyAmounts::default(),
            streams: Arc::default(),
            now: Duration::ZERO,
            is_stopping: false,
            scratch: vec![0; READ_SIZE].into_boxed_slice(),
        }
    }
}
