//! When a writer may write its next blocks: once little of the last ones waits in the kernel, and while we download, once little of them
//! is unacknowledged.

use std::io;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::peer::TorrentContext;
use crate::peer::state::Peer;
use crate::peer::writer::{WRITE_TIMEOUT, is_writable_within, wait};
use crate::storage::PooledSlab;
use crate::strategy::window::{Window, WindowGrant};

/// One connection's room for blocks.
pub struct SendGate {
    /// There is some; how long the kernel let us wait for it.
    ready: bool,
    waited: Duration,
    /// How much may be unacknowledged while we download, what of that is left, and when to look again where nothing is.
    window: Window,
    max_bytes: u64,
    held_until: Option<Instant>,
    /// How many bytes were acknowledged at the last look at a full window, and since when they have been.
    stalled: Option<(u64, Instant)>,
}

impl Default for SendGate {
    fn default() -> SendGate {
        let (window, waited) = (Window::default(), Duration::ZERO);
        SendGate { ready: false, waited, window, max_bytes: u64::MAX, held_until: None, stalled: None }
    }
}

impl SendGate {
    /// Whether blocks may be written.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// How many bytes of blocks; one block may be more.
    pub fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// Until when there is no need to look; `None` where there is.
    pub fn waits_until(&self, now: impl FnOnce() -> Instant) -> Option<Instant> {
        self.held_until.filter(|until| now() < *until)
    }

    /// The same, but also where it has passed.
    pub fn until(&self) -> Option<Instant> {
        self.held_until
    }

    /// Blocks are written now: how long the kernel let us wait.
    pub fn spend(&mut self) -> Duration {
        self.ready = false;
        std::mem::take(&mut self.waited)
    }

    /// Looks whether there is room. Where too much is unacknowledged the writer is to look again later; for room in
    /// the kernel it waits here, as a message that comes meanwhile would wait behind the same bytes; the slab is given back meanwhile.
    ///
    /// # Errors
    /// Where the peer has taken nothing for the time that a write may take.
    pub fn find(
        &mut self,
        shared: &TorrentContext,
        peer: &Peer,
        stream: &TcpStream,
        slab: &mut Option<PooledSlab>,
    ) -> io::Result<()> {
        (self.held_until, self.max_bytes) = (None, u64::MAX);
        let uplink = &shared.throttle.uplink;
        if uplink.is_downloading()
            && let Some(look) = uplink.look(stream)
        {
            peer.requests.lock().set_path(look.rtt);
            match self.window.ask(shared.now(), look) {
                WindowGrant::Go(bytes) => self.max_bytes = bytes,
                WindowGrant::Wait(pause) => {
                    let now = Instant::now();
                    self.held_until = Some(now + pause);
                    return self.note(look.acknowledged, now);
                }
            }
        }
        self.stalled = None;
        self.poll(stream, slab)
    }

    /// The window is full, and so much is acknowledged.
    fn note(&mut self, acknowledged: u64, now: Instant) -> io::Result<()> {
        let same = self.stalled.filter(|(before, _)| *before == acknowledged);
        let (_, since) = *self.stalled.insert(same.unwrap_or((acknowledged, now)));
        if now.duration_since(since) < WRITE_TIMEOUT { Ok(()) } else { Err(io::ErrorKind::TimedOut.into()) }
    }

    /// Waits until little of what was written waits in the kernel. A blocking write would not: the kernel adds to the last of its
    /// buffers, of 64 KiB, whatever `TCP_NOTSENT_LOWAT` says.
    fn poll(&mut self, stream: &TcpStream, slab: &mut Option<PooledSlab>) -> io::Result<()> {
        let begun = Instant::now();
        if !is_writable_within(stream, Duration::ZERO)? {
            *slab = None;
            wait(stream)?;
        }
        (self.ready, self.waited) = (true, begun.elapsed());
        Ok(())
    }
}
