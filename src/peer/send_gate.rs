//! When a writer may write its next blocks: once few bytes of the previous ones wait in the kernel and, while we download, once
//! few of them are unacknowledged.

use std::io;
use std::time::{Duration, Instant};

use crate::peer::TorrentContext;
use crate::peer::socket_write::{WRITE_TIMEOUT, is_writable_within, wait};
use crate::peer::state::Peer;
use crate::strategy::window::{SendWindow, WindowGrant};
use crate::types::Transport;
use crate::udp::PeerStream;
use crate::util::slab::PooledSlab;

/// The room that one connection has for blocks.
pub struct SendGate {
    /// Whether the kernel has figures about the connection.
    is_tcp: bool,
    /// Whether there is room.
    is_ready: bool,
    /// How long the kernel made us wait for it.
    waited: Duration,
    /// While we download: the limit on unacknowledged bytes, how many may be sent now, and until when to wait if none may.
    window: SendWindow,
    max_bytes: u64,
    check_again_at: Option<Instant>,
    /// While the window is full: the number of acknowledged bytes, and since when it has been the same.
    acknowledged_unchanged: Option<(u64, Instant)>,
}

impl SendGate {
    /// The gate of a connection's writer.
    pub fn new(stream: &PeerStream) -> SendGate {
        SendGate {
            is_tcp: stream.transport() == Transport::Tcp,
            is_ready: false,
            waited: Duration::ZERO,
            window: SendWindow::default(),
            max_bytes: u64::MAX,
            check_again_at: None,
            acknowledged_unchanged: None,
        }
    }

    /// Whether blocks may be written.
    pub fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// How many bytes of blocks may be written; a single block may exceed it.
    pub fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// Until when there is no need to check again; `None` if the writer may check now.
    pub fn pending_deadline(&self, now: impl FnOnce() -> Instant) -> Option<Instant> {
        self.check_again_at.filter(|deadline| now() < *deadline)
    }

    /// The same, but also if that time has passed.
    pub fn deadline(&self) -> Option<Instant> {
        self.check_again_at
    }

    /// Blocks are written now; returns how long the kernel made us wait.
    pub fn close(&mut self) -> Duration {
        self.is_ready = false;
        std::mem::take(&mut self.waited)
    }

    /// Checks whether there is room. If too many bytes are unacknowledged, the writer has to check again later. For room in the
    /// kernel, this waits, since a message that arrives meanwhile would wait behind the same bytes anyway; the slab is returned
    /// for that time.
    ///
    /// # Errors
    /// If the peer has taken nothing for as long as a write may take.
    pub fn wait_for_room(
        &mut self,
        context: &TorrentContext,
        peer: &Peer,
        stream: &PeerStream,
        slab: &mut Option<PooledSlab>,
    ) -> io::Result<()> {
        (self.check_again_at, self.max_bytes) = (None, u64::MAX);
        let uplink = &context.settings.throttle.client.uplink;
        if self.is_tcp
            && uplink.is_downloading()
            && let Some(figures) = uplink.figures(stream)
        {
            peer.requesting.pipeline.lock().set_tcp_rtt(figures.rtt);
            match self.window.ask(context.now(), figures) {
                WindowGrant::Go(bytes) => self.max_bytes = bytes,
                WindowGrant::Wait(pause) => {
                    let now = Instant::now();
                    self.check_again_at = Some(now + pause);
                    return self.note_full(figures.acknowledged, now);
                }
            }
        }
        self.acknowledged_unchanged = None;
        self.wait_writable(stream, slab)
    }

    /// The window is full, with this many bytes acknowledged. Fails if that number has not grown for [`WRITE_TIMEOUT`].
    fn note_full(&mut self, acknowledged: u64, now: Instant) -> io::Result<()> {
        let same = self.acknowledged_unchanged.filter(|(before, _)| *before == acknowledged);
        let (_, since) = *self.acknowledged_unchanged.insert(same.unwrap_or((acknowledged, now)));
        if now.duration_since(since) < WRITE_TIMEOUT { Ok(()) } else { Err(io::ErrorKind::TimedOut.into()) }
    }

    /// Waits until few of the written bytes are left in the kernel. A blocking write would not wait for that: the kernel fills
    /// up the last of its 64 KiB buffers, whatever `TCP_NOTSENT_LOWAT` says.
    fn wait_writable(&mut self, stream: &PeerStream, slab: &mut Option<PooledSlab>) -> io::Result<()> {
        let begun = Instant::now();
        if !is_writable_within(stream, Duration::ZERO)? {
            *slab = None;
            wait(stream)?;
        }
        (self.is_ready, self.waited) = (true, begun.elapsed());
        Ok(())
    }
}
