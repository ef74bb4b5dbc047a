//! Sends commands to a thread that waits for its socket: a channel holds the command, and a byte in a pipe wakes the thread. A
//! datagram to its own socket would not work, because a socket bound to an interface cannot reach itself.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::discovery::DormantTorrentsCell;
use crate::discovery::dht::FoundPeers;
use crate::discovery::dht::message::Family;
use crate::discovery::dht::service::socket::DhtSocket;
use crate::discovery::dht::service::{DhtCommand, DhtService};
use crate::discovery::dht::stats::DhtStats;
use crate::net::datagrams::ReceivedDatagram;
use crate::types::InfoHash;

/// The most queued commands per thread.
const MAX_COMMANDS: usize = 1024;

/// The sending side: the handle to the thread of one family.
#[derive(Debug)]
pub(crate) struct DhtLoopHandle {
    pub family: Family,
    pub commands: Sender<DhtCommand>,
    /// The local address of the socket, for tests; unspecified with a proxy.
    #[cfg(any(test, feature = "internals"))]
    pub bound: SocketAddr,
    wake: PipeWriter,
    pub stats: Mutex<DhtStats>,
}

impl DhtLoopHandle {
    /// Sends a command and wakes the thread; waits for room in the queue, which the thread makes at once.
    pub fn send_command(&self, command: DhtCommand) {
        // Both fail only if the thread has exited.
        let _ = self.commands.send(command);
        let _ = (&self.wake).write(&[0]);
    }

    /// Sends a command with an address of this family; ignores other addresses.
    pub fn send_address(&self, addr: SocketAddr, to_command: fn(SocketAddr) -> DhtCommand) {
        let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
        if Family::of(addr.ip()) == self.family {
            // These addresses come from untrusted peers. If the queue is full, drop them: the DHT finds such nodes anyway.
            if self.commands.try_send(to_command(addr)).is_ok() {
                let _ = (&self.wake).write(&[0]);
            }
        }
    }
}

impl DhtService {
    /// Where peers of torrents that are only announced are reported.
    pub(crate) fn dormant(&self) -> &DormantTorrentsCell {
        &self.dormant
    }

    /// Announces that we accept connections for a torrent on `port`, once. Peers are reported only to
    /// [`DhtService::dormant`]. Without effect on a torrent that is searched for. Must not be called for a private torrent (BEP 27).
    #[doc(hidden)]
    pub fn announce_once(&self, info_hash: InfoHash, port: u16) {
        self.announce_once_with_ports(info_hash, port, port);
    }

    /// The same with a port for each address family, because a router may forward another one for IPv4. Port 0 announces nothing: it
    /// only searches.
    pub(crate) fn announce_once_with_ports(&self, info_hash: InfoHash, v4: u16, v6: u16) {
        for handle in self.handles.iter() {
            let port = announced(if handle.family == Family::V4 { v4 } else { v6 });
            handle.send_command(DhtCommand::AnnounceOnce(info_hash, port));
        }
    }

    /// Sets whether the next announces of a torrent that is searched for say that we have all pieces (BEP 33).
    pub(crate) fn set_seed(&self, info_hash: InfoHash, is_seed: bool) {
        self.handles.iter().for_each(|handle| handle.send_command(DhtCommand::SetSeed(info_hash, is_seed)));
    }

    /// Like [`DhtService::search_for`], with a port for each address family; 0 announces nothing. May be repeated when a port has
    /// changed.
    pub(crate) fn search_with_ports(&self, info_hash: InfoHash, v4: u16, v6: u16, found: &Sender<FoundPeers>) {
        for handle in self.handles.iter() {
            let port = announced(if handle.family == Family::V4 { v4 } else { v6 });
            handle.send_command(DhtCommand::Search(info_hash, port, Some(found.clone())));
        }
    }
}

/// Behind a proxy there is no port at which others reach us.
fn announced(port: u16) -> Option<u16> {
    (port != 0).then_some(port)
}

/// The receiving side: the thread's socket and its commands.
pub(crate) struct DhtLoopInbox {
    pub socket: DhtSocket,
    pub commands: Receiver<DhtCommand>,
    woken: PipeReader,
}

impl DhtLoopInbox {
    /// Waits until a packet arrives, a command is sent, the proxy ends the association or the time is up. Returns the packet.
    ///
    /// # Errors
    /// The socket's errors; `WouldBlock` if no packet arrived.
    pub fn receive<'b>(&mut self, buffer: &'b mut [u8], timeout: Duration) -> io::Result<ReceivedDatagram<'b>> {
        let none = || PollFd::new(&self.woken, PollFlags::empty());
        let (packets, end) = self.socket.poll_fds();
        let count = 1 + usize::from(packets.is_some()) + usize::from(end.is_some());
        let mut fds = [PollFd::new(&self.woken, PollFlags::IN), packets.unwrap_or_else(none), end.unwrap_or_else(none)];
        let timeout = if self.socket.has_buffered() { Duration::ZERO } else { timeout };
        poll(&mut fds[..count], Timespec::try_from(timeout).ok().as_ref())?;
        let [command, packet, has_ended] = fds.map(|fd| !fd.revents().is_empty());
        if command {
            // One read suffices for all queued commands, which run next.
            let _ = self.woken.read(&mut [0; 64]);
        }
        if has_ended {
            self.socket.end_association();
        } else if packet || self.socket.has_buffered() {
            return self.socket.receive(buffer);
        }
        Err(io::ErrorKind::WouldBlock.into())
    }
}

/// Creates both sides for a thread with this socket.
pub(crate) fn command_channel(family: Family, socket: DhtSocket) -> io::Result<(DhtLoopHandle, DhtLoopInbox)> {
    let (woken, wake) = io::pipe()?;
    let (commands, receiver) = bounded(MAX_COMMANDS);
    let handle = DhtLoopHandle {
        family,
        commands,
        #[cfg(any(test, feature = "internals"))]
        bound: socket.local_addr()?,
        wake,
        stats: Mutex::default(),
    };
    Ok((handle, DhtLoopInbox { socket, commands: receiver, woken }))
}
