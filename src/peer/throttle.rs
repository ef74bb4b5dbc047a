//! Where bytes meet the limits on what is received and sent: one [`RateLimiter`] for all connections, those of all torrents of a host,
//! asked under a short lock and only where there is a limit. Without one, a read or a run of blocks costs the look at an atomic.
//!
//! A reader asks only once there is something to receive, so that nobody who is silent holds a part of the limit, and says to
//! the peer's requests that it is we who are late. A writer goes on with messages while its blocks wait.

use std::io::{self, Read};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use crate::peer::state::Peer;
use crate::peer::uplink::Uplink;
use crate::peer::{SLAB, TorrentContext};
use crate::storage::{PooledSlab, SlabPool};
use crate::strategy::rate_limiter::{Direction, Grant, Limits, RateLimiter};
use crate::types::PeerKey;

/// Who has more than so many bytes for us is let send as much as there is room for.
const SMALL_RECEIVE: usize = 1024;

/// So many writers may hold a slab at the same time. The others send block by block, so that peers that ask for much and read nothing
/// take no more memory than this.
pub const UPLOAD_SLABS: usize = 32;
/// Slabs that are kept for later.
const IDLE_SLABS: usize = 8;

/// The limiter, the clock by which it is asked, and the names of those who ask it.
pub struct Throttle {
    limiter: Mutex<RateLimiter>,
    /// The limits in bytes per second, 0 for none: whether the limiter must be asked at all.
    down: AtomicU64,
    up: AtomicU64,
    started: Instant,
    /// Torrents whose peers are talked to.
    torrents: AtomicU32,
    next_key: AtomicU32,
    /// Buffers for what is sent.
    slabs: SlabPool,
    /// What writers look at before they send a block.
    pub uplink: Uplink,
}

impl Default for Throttle {
    fn default() -> Throttle {
        let (down, up) = (AtomicU64::new(0), AtomicU64::new(0));
        let (torrents, next_key) = (AtomicU32::new(0), AtomicU32::new(0));
        let slabs = SlabPool::new(SLAB, IDLE_SLABS);
        Throttle {
            limiter: Mutex::default(),
            down,
            up,
            started: Instant::now(),
            torrents,
            next_key,
            slabs,
            uplink: Uplink::default(),
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

    /// Another torrent's peers are talked to.
    pub fn enter(&self) {
        self.torrents.fetch_add(1, Ordering::Relaxed);
    }

    /// One torrent's peers no longer are.
    pub fn quit(&self) {
        self.torrents.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many torrents share the limits.
    pub fn torrents(&self) -> usize {
        self.torrents.load(Ordering::Relaxed) as usize
    }

    /// A name for a connection: who asks the limiter must be told from all others, those of other torrents included.
    pub fn new_key(&self) -> PeerKey {
        PeerKey(self.next_key.fetch_add(1, Ordering::Relaxed))
    }

    /// Changes the limits; who waits for its turn sees it within `MAX_WAIT`.
    pub fn set(&self, limits: Limits) {
        let mut limiter = self.limiter.lock();
        limiter.set(self.started.elapsed(), limits);
        self.down.store(limits.down, Ordering::Relaxed);
        self.up.store(limits.up, Ordering::Relaxed);
    }

    /// A buffer to send many blocks at once, unless [`UPLOAD_SLABS`] of them are in use.
    pub fn upload_slab(&self) -> Option<PooledSlab> {
        self.slabs.take_within(UPLOAD_SLABS)
    }

    /// The limit that way, in bytes per second; 0 for none.
    pub fn limit(&self, direction: Direction) -> u64 {
        match direction {
            Direction::Down => self.down.load(Ordering::Relaxed),
            Direction::Up => self.up.load(Ordering::Relaxed),
        }
    }

    /// What one torrent may count on: its equal part of the limit that way, in bytes per second; 0 for no limit.
    pub fn fair_share(&self, direction: Direction) -> u64 {
        match self.limit(direction) {
            0 => 0,
            limit => (limit / self.torrents().max(1) as u64).max(1),
        }
    }

    /// The peer `key` would like to move `want` bytes; see [`RateLimiter::ask`].
    pub fn ask(&self, direction: Direction, key: PeerKey, want: u64) -> Grant {
        self.limiter.lock().ask(self.started.elapsed(), direction, key, want)
    }

    /// `bytes` of what `key` was granted are not needed after all.
    pub fn give_back(&self, direction: Direction, key: PeerKey, bytes: u64) {
        if bytes > 0 {
            self.limiter.lock().give_back(self.started.elapsed(), direction, key, bytes);
        }
    }

    /// The peer's threads are gone, and its places in the lines with them.
    pub fn leave(&self, key: PeerKey) {
        self.limiter.lock().leave(self.started.elapsed(), key);
    }
}

/// Receives into `buffer` what the limit allows; 0 bytes where the connection is over, for either side.
///
/// # Errors
/// What the socket says.
pub fn read(shared: &TorrentContext, peer: &Peer, mut stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    if shared.throttle.limit(Direction::Down) == 0 {
        return stream.read(buffer);
    }
    let want = match stream.peek(&mut [0; SMALL_RECEIVE])? {
        0 => return Ok(0),
        SMALL_RECEIVE => buffer.len(),
        // A short message need not wait for the portion of a block.
        little => little.min(buffer.len()),
    };
    let Some(granted) = wait_for_turn(shared, peer, want as u64) else { return Ok(0) };
    let result = stream.read(&mut buffer[..granted as usize]);
    let used = result.as_ref().map_or(0, |n| *n as u64);
    shared.throttle.give_back(Direction::Down, peer.key, granted.saturating_sub(used));
    result
}

/// Waits until some of `want` bytes may be received; `None` when the connection has ended meanwhile.
fn wait_for_turn(shared: &TorrentContext, peer: &Peer, want: u64) -> Option<u64> {
    while !peer.is_closed() && !shared.is_stopping() {
        match shared.throttle.ask(Direction::Down, peer.key, want) {
            Grant::Go(bytes) => return Some(bytes.min(want)),
            Grant::Wait(pause) => {
                std::thread::sleep(pause);
                peer.requests.lock().held_back(shared.now());
            }
        }
    }
    None
}

/// A writer's part of the upload limit: what it was granted and has not used, and until when it waits for more.
#[derive(Default)]
pub struct UploadAllowance {
    granted: u64,
    until: Option<Instant>,
}

impl UploadAllowance {
    /// Until when no blocks may be sent; `None` where they may, or where asking may help.
    pub fn waits_until(&self, now: impl FnOnce() -> Instant) -> Option<Instant> {
        self.until.filter(|until| now() < *until)
    }

    /// The same, but also where it has passed.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }

    /// How many bytes may go now, without a limit any number. Less than `least` is of no use: it is collected, while the answer
    /// is 0 and the writer is to wait. `want` says how many there are to send; it is asked only where there is a limit.
    pub fn take(&mut self, throttle: &Throttle, key: PeerKey, least: u64, want: impl FnOnce() -> u64) -> u64 {
        self.until = None;
        if throttle.limit(Direction::Up) == 0 {
            self.granted = 0;
            return u64::MAX;
        }
        let want = want().max(least);
        while self.granted < least {
            match throttle.ask(Direction::Up, key, want - self.granted) {
                Grant::Go(bytes) => self.granted += bytes,
                Grant::Wait(pause) => {
                    self.until = Some(Instant::now() + pause);
                    return 0;
                }
            }
        }
        self.granted
    }

    /// So many bytes are about to be sent.
    pub fn spend(&mut self, bytes: u64) {
        self.granted = self.granted.saturating_sub(bytes);
    }

    /// So many bytes were not sent after all.
    pub fn refund(&mut self, bytes: u64) {
        self.granted += bytes;
    }

    /// There is nothing to send: others may have what is left.
    pub fn give_back(&mut self, throttle: &Throttle, key: PeerKey) {
        throttle.give_back(Direction::Up, key, std::mem::take(&mut self.granted));
        self.until = None;
    }
}

#[cfg(test)]
mod tests;
