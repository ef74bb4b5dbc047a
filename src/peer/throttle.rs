//! Applies the rate limits: one [`RateLimiter`] for all connections of all torrents of a client, behind a short lock that is
//! taken only if there is a limit. Without a limit, a read or a run of blocks costs one atomic load.
//!
//! A reader asks only once there are bytes to receive, so that silent peers take no part of the limit. It then tells the peer's
//! request pipeline that the delay is ours. A writer goes on sending messages while its blocks wait.

use std::io::{self, Read};
use std::net::TcpStream;
use std::time::Instant;

use parking_lot::Mutex;

use crate::peer::state::Peer;
use crate::peer::uplink::UplinkState;
use crate::peer::{SLAB, TorrentContext};
use crate::strategy::rate_limiter::{Direction, Grant, Limits, RateLimiter};
use crate::types::PeerKey;
use crate::util::atomics::{Counter, Gauge};
use crate::util::slab::{PooledSlab, SlabPool};

/// If at least this many bytes wait in the socket, a reader asks the limiter for as many as it has room for.
const SMALL_RECEIVE: usize = 1024;

/// At most this many writers hold a slab at the same time. The others send block by block, so that peers that request much and
/// read nothing take no more memory than this.
pub const UPLOAD_SLABS: usize = 32;
/// Slabs that are kept for reuse.
const IDLE_SLABS: usize = 8;

/// The rate limiter with its clock, and the keys of the connections that ask it.
pub struct Throttle {
    limiter: Mutex<RateLimiter>,
    /// The limits in bytes per second, 0 for none: they tell whether the limiter must be asked at all.
    down: Counter,
    up: Counter,
    started: Instant,
    /// The number of torrents that transfer data.
    torrents: Gauge,
    next_key: Counter,
    /// Buffers for the blocks to send.
    slabs: SlabPool,
    /// What writers check before they send a block.
    pub uplink: UplinkState,
}

impl Default for Throttle {
    fn default() -> Throttle {
        let slabs = SlabPool::new(SLAB, IDLE_SLABS);
        Throttle {
            limiter: Mutex::default(),
            down: Counter::default(),
            up: Counter::default(),
            started: Instant::now(),
            torrents: Gauge::default(),
            next_key: Counter::default(),
            slabs,
            uplink: UplinkState::default(),
        }
    }
}

impl Throttle {
    /// A throttle with these limits.
    pub fn new(limits: Limits) -> Throttle {
        let throttle = Throttle::default();
        throttle.set(limits);
        throttle
    }

    /// The limits in force.
    pub fn limits(&self) -> Limits {
        self.limiter.lock().limits()
    }

    /// Another torrent starts to transfer data.
    pub fn torrent_started(&self) {
        self.torrents.add(1);
    }

    /// A torrent no longer transfers data.
    pub fn torrent_stopped(&self) {
        self.torrents.sub(1);
    }

    /// The number of torrents that share the limits.
    pub fn torrents(&self) -> usize {
        self.torrents.get() as usize
    }

    /// A key for a connection, unique among all torrents, as the limiter has to tell all connections apart.
    pub fn new_key(&self) -> PeerKey {
        PeerKey(self.next_key.next() as u32)
    }

    /// Changes the limits; a thread that waits for its turn notices within `MAX_WAIT`.
    pub fn set(&self, limits: Limits) {
        let mut limiter = self.limiter.lock();
        limiter.set(self.started.elapsed(), limits);
        self.down.set(limits.down);
        self.up.set(limits.up);
    }

    /// A buffer to send many blocks at once, unless [`UPLOAD_SLABS`] of them are in use.
    pub fn upload_slab(&self) -> Option<PooledSlab> {
        self.slabs.take_within(UPLOAD_SLABS)
    }

    /// The limit in this direction, in bytes per second; 0 for none.
    pub fn limit(&self, direction: Direction) -> u64 {
        match direction {
            Direction::Down => self.down.get(),
            Direction::Up => self.up.get(),
        }
    }

    /// One torrent's equal share of the limit in this direction, in bytes per second; 0 for no limit.
    pub fn fair_share(&self, direction: Direction) -> u64 {
        match self.limit(direction) {
            0 => 0,
            limit => (limit / self.torrents().max(1) as u64).max(1),
        }
    }

    /// Asks for `want` bytes for the connection `key`; see [`RateLimiter::ask`].
    pub fn ask(&self, direction: Direction, key: PeerKey, want: u64) -> Grant {
        self.limiter.lock().ask(self.started.elapsed(), direction, key, want)
    }

    /// Returns `bytes` that were granted to `key` and not used.
    pub fn give_back(&self, direction: Direction, key: PeerKey, bytes: u64) {
        if bytes > 0 {
            self.limiter.lock().give_back(self.started.elapsed(), direction, key, bytes);
        }
    }

    /// Removes a connection that has ended from the limiter.
    pub fn remove_peer(&self, key: PeerKey) {
        self.limiter.lock().leave(self.started.elapsed(), key);
    }
}

/// Receives into `buffer` what the limit allows; 0 bytes if either side has ended the connection.
///
/// # Errors
/// If the socket fails.
pub fn read(context: &TorrentContext, peer: &Peer, mut stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    if context.settings.throttle.limit(Direction::Down) == 0 {
        return stream.read(buffer);
    }
    let want = match stream.peek(&mut [0; SMALL_RECEIVE])? {
        0 => return Ok(0),
        SMALL_RECEIVE => buffer.len(),
        // A short message need not wait until a whole block's share is granted.
        little => little.min(buffer.len()),
    };
    let Some(granted) = wait_for_turn(context, peer, want as u64) else { return Ok(0) };
    let result = stream.read(&mut buffer[..granted as usize]);
    let used = result.as_ref().map_or(0, |n| *n as u64);
    context.settings.throttle.give_back(Direction::Down, peer.key, granted.saturating_sub(used));
    result
}

/// Waits until some of `want` bytes may be received; `None` if the connection has ended meanwhile.
fn wait_for_turn(context: &TorrentContext, peer: &Peer, want: u64) -> Option<u64> {
    while !peer.is_closed() && !context.are_connections_ending() {
        match context.settings.throttle.ask(Direction::Down, peer.key, want) {
            Grant::Go(bytes) => return Some(bytes.min(want)),
            Grant::Wait(pause) => {
                std::thread::sleep(pause);
                peer.requesting.pipeline.lock().note_rate_limited(context.now());
            }
        }
    }
    None
}

/// A writer's share of the upload limit: what it was granted and has not used, and until when it waits for more.
#[derive(Default)]
pub struct UploadAllowance {
    granted: u64,
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
    pub fn take(&mut self, throttle: &Throttle, key: PeerKey, least: u64, want: impl FnOnce() -> u64) -> u64 {
        self.deadline = None;
        if throttle.limit(Direction::Up) == 0 {
            self.granted = 0;
            return u64::MAX;
        }
        let want = want().max(least);
        while self.granted < least {
            match throttle.ask(Direction::Up, key, want - self.granted) {
                Grant::Go(bytes) => self.granted += bytes,
                Grant::Wait(pause) => {
                    self.deadline = Some(Instant::now() + pause);
                    return 0;
                }
            }
        }
        self.granted
    }

    /// These bytes are about to be sent.
    pub fn spend(&mut self, bytes: u64) {
        self.granted = self.granted.saturating_sub(bytes);
    }

    /// These bytes were not sent after all.
    pub fn refund(&mut self, bytes: u64) {
        self.granted += bytes;
    }

    /// There is nothing to send: returns what is left to the limiter.
    pub fn give_back(&mut self, throttle: &Throttle, key: PeerKey) {
        throttle.give_back(Direction::Up, key, std::mem::take(&mut self.granted));
        self.deadline = None;
    }
}

#[cfg(test)]
mod tests;
