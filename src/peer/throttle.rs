//! Where bytes meet the rate limits: one [`LimitGroup`] for all connections of all torrents of a client, behind a short lock that
//! is taken only if there is a limit. A torrent may have limits of its own, and share others with some torrents
//! ([`TorrentThrottle`]). Without a limit, a read or a run of blocks costs two atomic loads.
//!
//! A reader asks only once there are bytes to receive, so that silent peers take no part of the limit. It then tells the peer's
//! request pipeline that the delay is ours. A writer goes on sending messages while its blocks wait.

mod limit_group;
mod torrent_throttle;

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use crate::peer::state::Peer;
use crate::peer::uplink::UplinkState;
use crate::peer::{SLAB, TorrentContext};
use crate::strategy::rate_limiter::{Direction, FlowId, Grant, Limits};
use crate::types::PeerKey;
use crate::udp::PeerStream;
use crate::util::atomics::Counter;
use crate::util::slab::{PooledSlab, SlabPool};

pub use limit_group::LimitGroup;
use torrent_throttle::LevelGrants;
pub use torrent_throttle::{ActiveInGroup, Demand, TorrentThrottle};

/// If at least this many bytes wait in the socket, a reader asks the limiter for as many as it has room for.
const SMALL_RECEIVE: usize = 1024;

/// At most this many writers hold a slab at the same time. The others send block by block, so that peers that request much and
/// read nothing take no more memory than this.
pub const UPLOAD_SLABS: usize = 32;
/// Slabs that are kept for reuse.
const IDLE_SLABS: usize = 8;

/// What the connections of a client share to send and receive: its limits, the keys of the connections, buffers, and the state of
/// the uplink.
pub struct Throttle {
    limits: LimitGroup,
    next_key: Counter,
    /// Buffers for the blocks to send.
    slabs: SlabPool,
    /// What writers check before they send a block.
    pub uplink: UplinkState,
}

impl Default for Throttle {
    fn default() -> Throttle {
        Throttle::new(Limits::default())
    }
}

impl Throttle {
    /// A throttle with these limits.
    pub fn new(limits: Limits) -> Throttle {
        Throttle {
            limits: LimitGroup::new(limits),
            next_key: Counter::default(),
            slabs: SlabPool::new(SLAB, IDLE_SLABS),
            uplink: UplinkState::default(),
        }
    }

    /// The limits of all torrents together, and the number of torrents that transfer data.
    pub fn limit_group(&self) -> &LimitGroup {
        &self.limits
    }

    /// A key for a connection, unique among all torrents, as the limiters have to tell all connections apart.
    pub fn new_key(&self) -> PeerKey {
        PeerKey(self.next_key.next() as u32)
    }

    /// A buffer to send many blocks at once, unless [`UPLOAD_SLABS`] of them are in use.
    pub fn upload_slab(&self) -> Option<PooledSlab> {
        self.slabs.take_within(UPLOAD_SLABS)
    }
}

/// Receives into `buffer` what the limits allow; 0 bytes if either side has ended the connection.
///
/// # Errors
/// If the socket fails.
pub fn read(context: &TorrentContext, peer: &Peer, mut stream: &PeerStream, buffer: &mut [u8]) -> io::Result<usize> {
    let throttle = &*context.settings.throttle;
    if throttle.limit(Direction::Down) == 0 {
        return stream.read(buffer);
    }
    let want = match stream.peek(&mut [0; SMALL_RECEIVE])? {
        0 => return Ok(0),
        SMALL_RECEIVE => buffer.len(),
        // A short message need not wait until a whole block's share is granted.
        little => little.min(buffer.len()),
    };
    let after_pause = || peer.requesting.pipeline.lock().note_rate_limited(context.now());
    let is_over = || peer.is_closed() || context.are_connections_ending();
    let receive = |part: &mut [u8]| stream.read(part);
    read_granted(throttle, peer.flow(), &mut buffer[..want], is_over, after_pause, receive).unwrap_or(Ok(0))
}

/// Calls `receive` with as much of the buffer as the limits allow a web seed to fill; `None` once `is_over`.
///
/// # Errors
/// Those of `receive`.
pub fn read_web_seed<E>(
    throttle: &TorrentThrottle,
    key: PeerKey,
    buffer: &mut [u8],
    is_over: impl Fn() -> bool,
    receive: impl FnOnce(&mut [u8]) -> Result<usize, E>,
) -> Option<Result<usize, E>> {
    if throttle.limit(Direction::Down) == 0 {
        return Some(receive(buffer));
    }
    // All web seeds together count as one host.
    let flow = FlowId::new(key, IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    read_granted(throttle, flow, buffer, is_over, || {}, receive)
}

/// Waits until some bytes may be received, calls `receive` with so much of the buffer, and returns to the limiters what it leaves;
/// `None` once `is_over`.
fn read_granted<E>(
    throttle: &TorrentThrottle,
    flow: FlowId,
    buffer: &mut [u8],
    is_over: impl Fn() -> bool,
    after_pause: impl Fn(),
    receive: impl FnOnce(&mut [u8]) -> Result<usize, E>,
) -> Option<Result<usize, E>> {
    let demand = Demand { flow, direction: Direction::Down, serves_choked_peer: false };
    let mut grants = LevelGrants::default();
    let granted = loop {
        if is_over() {
            break None;
        }
        match grants.collect(throttle, demand, 1, buffer.len() as u64) {
            Grant::Go(bytes) => break Some(bytes.min(buffer.len() as u64) as usize),
            Grant::Wait(pause) => {
                std::thread::sleep(pause);
                after_pause();
            }
        }
    };
    let result = granted.map(|granted| receive(&mut buffer[..granted]));
    let received = result.as_ref().and_then(|result| result.as_ref().ok());
    grants.spend(received.map_or(0, |n| *n as u64));
    grants.give_back(throttle, Direction::Down, flow.key);
    result
}

/// A writer's share of the upload limits: what it was granted and has not used, and until when it waits for more.
#[derive(Default)]
pub struct UploadAllowance {
    granted: LevelGrants,
    deadline: Option<Instant>,
}

impl UploadAllowance {
    /// Until when no block may be sent; `None` if one may, or if asking again may help.
    pub fn pending_deadline(&self, now: impl FnOnce() -> Instant) -> Option<Instant> {
        self.deadline.filter(|deadline| now() < *deadline)
    }

    /// The same, but also if that time has passed.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// How many bytes may be sent now; unlimited without a limit. Less than `least` is of no use: it is saved up, while this
    /// returns 0 and the writer has to wait. `want` gives the number of bytes to send; it is called only if there is a limit.
    pub fn take(&mut self, throttle: &TorrentThrottle, demand: Demand, least: u64, want: impl FnOnce() -> u64) -> u64 {
        self.deadline = None;
        if !demand.serves_choked_peer && throttle.limit(Direction::Up) == 0 {
            self.granted.clear();
            return u64::MAX;
        }
        match self.granted.collect(throttle, demand, least, want()) {
            Grant::Go(bytes) => bytes,
            Grant::Wait(pause) => {
                self.deadline = Some(Instant::now() + pause);
                0
            }
        }
    }

    /// These bytes are about to be sent.
    pub fn spend(&mut self, bytes: u64) {
        self.granted.spend(bytes);
    }

    /// These bytes were not sent after all.
    pub fn refund(&mut self, bytes: u64) {
        self.granted.refund(bytes);
    }

    /// There is nothing to send: returns what is left to the limiters.
    pub fn give_back(&mut self, throttle: &TorrentThrottle, key: PeerKey) {
        self.granted.give_back(throttle, Direction::Up, key);
        self.deadline = None;
    }
}

#[cfg(test)]
mod tests;
