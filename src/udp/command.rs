//! The commands to a UDP thread: a bounded queue, and an event that wakes the thread.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::udp::dht_link::DhtForwarder;
use crate::udp::peer_stream::UtpLink;
use crate::util::atomics::Flag;
use crate::util::wake_event::WakeEvent;
use crate::utp::UtpDial;

/// The most commands that wait.
const MAX_COMMANDS: usize = 1024;

/// A command to a UDP thread.
pub(super) enum UdpCommand {
    /// Open a uTP connection; `pair` is the thread's end of the pair. Dropping it says that there is no connection.
    Connect { addr: SocketAddr, dial: UtpDial, pair: UnixStream, link: Arc<UtpLink> },
    /// Pass the packets of the DHT on.
    AttachDht(DhtForwarder),
}

struct UdpWake {
    event: WakeEvent,
    is_stopping: Flag,
}

/// The sending side.
pub(super) struct UdpSender {
    commands: Sender<UdpCommand>,
    wake: Arc<UdpWake>,
}

/// The thread's side.
pub(super) struct UdpInbox {
    commands: Receiver<UdpCommand>,
    wake: Arc<UdpWake>,
}

/// Creates both sides.
///
/// # Errors
/// If there is no descriptor.
pub(super) fn command_queue() -> io::Result<(UdpSender, UdpInbox)> {
    let wake = Arc::new(UdpWake { event: WakeEvent::new()?, is_stopping: Flag::default() });
    let (sender, commands) = bounded(MAX_COMMANDS);
    Ok((UdpSender { commands: sender, wake: wake.clone() }, UdpInbox { commands, wake }))
}

impl UdpSender {
    /// Sends a command. Returns whether there was room, and a thread.
    pub fn send(&self, command: UdpCommand) -> bool {
        let is_sent = self.commands.try_send(command).is_ok();
        self.wake.event.notify();
        is_sent
    }

    /// Asks the thread to end.
    pub fn stop(&self) {
        self.wake.is_stopping.set(true);
        self.wake.event.notify();
    }
}

impl UdpInbox {
    /// What is readable when there are commands.
    pub fn wake(&self) -> BorrowedFd<'_> {
        self.wake.event.as_fd()
    }

    /// Takes the commands.
    pub fn take(&self) -> Vec<UdpCommand> {
        self.wake.event.clear();
        self.commands.try_iter().collect()
    }

    /// Whether the thread is to end.
    pub fn is_stopping(&self) -> bool {
        self.wake.is_stopping.is_set()
    }
}
