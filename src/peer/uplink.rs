//! What writers look at so that our requests do not wait behind our blocks: whether we download, and what the kernel says of a
//! connection. One for all connections of a host, as they share the line.

use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::net::tcp_diag::{TcpDiag, TcpInfo};
use crate::util::descriptors::is_shortage;

/// So long after the last block or request nothing is waited for any more.
const DOWNLOADING_LASTS: Duration = Duration::from_secs(3);

/// See the module's head.
pub struct Uplink {
    started: Instant,
    /// When a block last came or was requested, in milliseconds since `started` plus one; 0 for never.
    downloaded: AtomicU64,
    kernel: Mutex<Kernel>,
}

/// The way to ask the kernel.
#[derive(Default)]
enum Kernel {
    /// Nobody has asked yet, or there was no descriptor.
    #[default]
    Closed,
    Open(TcpDiag),
    /// This system tells nothing.
    Silent,
}

impl Default for Uplink {
    fn default() -> Uplink {
        Uplink { started: Instant::now(), downloaded: AtomicU64::new(0), kernel: Mutex::default() }
    }
}

impl Uplink {
    /// A block came, or was requested.
    pub fn note_download(&self) {
        self.downloaded.store(self.started.elapsed().as_millis() as u64 + 1, Ordering::Relaxed);
    }

    /// Whether requests would have to wait behind what is sent.
    pub fn is_downloading(&self) -> bool {
        match self.downloaded.load(Ordering::Relaxed) {
            0 => false,
            last => self.started.elapsed().as_millis() as u64 <= last + DOWNLOADING_LASTS.as_millis() as u64,
        }
    }

    /// What the kernel says of `stream`.
    pub fn look(&self, stream: &TcpStream) -> Option<TcpInfo> {
        let mut kernel = self.kernel.lock();
        if matches!(*kernel, Kernel::Closed) {
            *kernel = match TcpDiag::open() {
                Ok(open) => Kernel::Open(open),
                Err(error) if is_shortage(&error) => Kernel::Closed,
                Err(_) => Kernel::Silent,
            };
        }
        match &*kernel {
            Kernel::Open(open) => open.look(stream),
            Kernel::Closed | Kernel::Silent => None,
        }
    }
}
