//! How the connections of one torrent end: all their threads exit, with or without the sockets.

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use crate::peer::wake_pipe::WakePipe;
use crate::util::atomics::Flag;

/// The type of a channel that carries no message and serves only to be disconnected.
pub(crate) type ShutdownSignal = std::convert::Infallible;

/// Tells the connections of a torrent to end. It is set once and never reset.
pub struct ConnectionShutdown {
    is_set: Flag,
    /// Ends the threads of the metadata phase but keeps their connections open.
    pub(super) wake_pipe: WakePipe,
    /// Nothing is ever sent here: it is disconnected when the connections end, which wakes threads that wait to report.
    pub(super) signal: Receiver<ShutdownSignal>,
    sender: Mutex<Option<Sender<ShutdownSignal>>>,
}

impl ConnectionShutdown {
    /// Not set yet. Connections that fetch metadata can outlast their threads.
    pub fn new(is_fetching_metadata: bool) -> ConnectionShutdown {
        let (sender, signal) = bounded(0);
        ConnectionShutdown {
            is_set: Flag::default(),
            wake_pipe: if is_fetching_metadata { WakePipe::new() } else { WakePipe::default() },
            signal,
            sender: Mutex::new(Some(sender)),
        }
    }

    /// Ends all connections.
    pub fn close(&self) {
        self.is_set.set(true);
        drop(self.sender.lock().take());
    }

    /// Ends the threads of all connections. Connections that have finished their handshake stay open.
    pub fn detach(&self) {
        self.wake_pipe.wake_all();
        self.close();
    }

    /// Whether the threads of all connections have to exit.
    pub fn is_set(&self) -> bool {
        self.is_set.is_set()
    }

    /// Whether connections whose threads exit stay open.
    pub fn keeps_connections(&self) -> bool {
        self.wake_pipe.has_woken()
    }
}
