//! What a request pipeline has measured.

use std::time::Duration;

/// The blocks and bytes of one round, for comparison with the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    pub(super) began: Duration,
    /// The round ends when the request with this number is answered.
    pub(super) mark: u64,
    pub(super) blocks: usize,
    pub(super) bytes: u64,
}

/// The blocks before the end of the first round.
#[derive(Clone, Copy, Debug)]
pub(super) struct FirstBlocks {
    /// When waiting for blocks began, and when the first one arrived.
    pub(super) asked: Duration,
    pub(super) came: Duration,
    pub(super) blocks: usize,
}

/// The rounds of a connection. In one round, all requests that were outstanding at its start are answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Rounds {
    /// The first blocks, until the first round ends.
    pub(super) first: Option<FirstBlocks>,
    pub(super) current: Option<Round>,
    /// Bytes per second over the last rounds, once one has ended.
    pub(super) rate: Option<f64>,
    /// Whether our own rate limit held blocks back in this round, and in the previous one.
    pub(super) was_rate_limited: [bool; 2],
}

/// The sequence numbers of requests on one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct RequestNumbers {
    /// Requests so far.
    pub(super) sent: u64,
    /// How many of them were written to the socket.
    pub(super) written: u64,
    /// The highest sequence number answered.
    pub(super) newest: u64,
}

/// How long answers take.
#[derive(Clone, Debug, Default)]
pub(super) struct AnswerTimes {
    /// The smallest age of an answered request.
    pub(super) min_age: Option<Duration>,
    /// When it was last observed.
    pub(super) min_age_seen: Duration,
    /// See [`RequestPipeline::set_tcp_rtt`](crate::strategy::pipeline::RequestPipeline::set_tcp_rtt).
    pub(super) tcp_rtt: Duration,
    /// The smoothed age of answered requests.
    pub(super) age: Option<Duration>,
    /// The smoothed time between arrivals.
    pub(super) gap: Option<Duration>,
}

/// When data arrived.
#[derive(Clone, Debug)]
pub(super) struct Arrivals {
    /// When data last arrived or waiting began; a stall restarts it.
    pub(super) progress: Duration,
    /// The same, but not restarted by a stall.
    pub(super) since: Duration,
    /// Whether no block has arrived since the unchoke.
    pub(super) awaits_first_block: bool,
    /// Bytes received of the block that is arriving.
    pub(super) partial: u64,
}

impl Default for Arrivals {
    fn default() -> Arrivals {
        Arrivals { progress: Duration::ZERO, since: Duration::ZERO, awaits_first_block: true, partial: 0 }
    }
}
