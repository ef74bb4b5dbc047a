//! What writers check so that our requests do not wait behind the blocks we send: whether we are downloading, and the
//! figures of a connection. One instance for all connections of a client, as they share one uplink.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::net::link_figures::LinkFigures;
use crate::net::tcp_diag::TcpDiag;
use crate::udp::PeerStream;
use crate::util::atomics::Counter;
use crate::util::descriptors::is_shortage;

/// Downloading counts as over when no block was received or requested for this long.
const DOWNLOADING_LASTS: Duration = Duration::from_secs(3);

/// See the module's documentation.
pub struct UplinkState {
    started: Instant,
    /// When a block was last received or requested, in milliseconds since `started` plus one; 0 for never.
    last_block_at: Counter,
    tcp_diag: Mutex<TcpDiagState>,
}

/// Access to the kernel's figures (Linux `sock_diag`).
#[derive(Default)]
enum TcpDiagState {
    /// Not opened yet, or no file descriptor was available.
    #[default]
    Closed,
    Open(TcpDiag),
    /// This system does not provide the figures.
    Unsupported,
}

impl Default for UplinkState {
    fn default() -> UplinkState {
        UplinkState { started: Instant::now(), last_block_at: Counter::default(), tcp_diag: Mutex::default() }
    }
}

impl UplinkState {
    /// Notes that a block was received or requested.
    pub fn note_download(&self) {
        self.last_block_at.set(self.started.elapsed().as_millis() as u64 + 1);
    }

    /// Whether we are downloading, so that requests would wait behind what we send.
    pub fn is_downloading(&self) -> bool {
        match self.last_block_at.get() {
            0 => false,
            last => self.started.elapsed().as_millis() as u64 <= last + DOWNLOADING_LASTS.as_millis() as u64,
        }
    }

    /// The figures for `stream`, if available.
    pub fn figures(&self, stream: &PeerStream) -> Option<LinkFigures> {
        if let Some(figures) = stream.utp_figures() {
            return Some(figures);
        }
        let mut tcp_diag = self.tcp_diag.lock();
        if matches!(*tcp_diag, TcpDiagState::Closed) {
            *tcp_diag = match TcpDiag::open() {
                Ok(open) => TcpDiagState::Open(open),
                Err(error) if is_shortage(&error) => TcpDiagState::Closed,
                Err(_) => TcpDiagState::Unsupported,
            };
        }
        match &*tcp_diag {
            TcpDiagState::Open(open) => open.figures(stream),
            TcpDiagState::Closed | TcpDiagState::Unsupported => None,
        }
    }
}
