//! How the rest of the program reaches a thread that waits for its socket: a channel for the command, and a byte in a pipe that wakes
//! it. A datagram to itself would not do, as a socket that is tied to an interface does not reach itself.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::discovery::dht::message::Family;
use crate::discovery::dht::node::DhtStats;
use crate::discovery::dht::service::DhtCommand;

/// Commands that may wait for a thread.
const MAX_COMMANDS: usize = 1024;

/// How to reach the thread of one family.
#[derive(Debug)]
pub(crate) struct DhtLoopHandle {
    pub family: Family,
    pub commands: Sender<DhtCommand>,
    /// Where the socket is bound.
    pub bound: SocketAddr,
    wake: PipeWriter,
    pub stats: Mutex<DhtStats>,
}

impl DhtLoopHandle {
    /// Gives a command of ours and wakes the thread for it; waits for room, which the thread makes at once.
    pub fn send_command(&self, command: DhtCommand) {
        // Both fail only where the thread is gone.
        let _ = self.commands.send(command);
        let _ = (&self.wake).write(&[0]);
    }

    /// Passes an address on, where it is of this family.
    pub fn send_address(&self, addr: SocketAddr, as_what: fn(SocketAddr) -> DhtCommand) {
        let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
        if Family::of(addr.ip()) == self.family {
            // Strangers name nodes: those that are dropped here are found later anyway.
            if self.commands.try_send(as_what(addr)).is_ok() {
                let _ = (&self.wake).write(&[0]);
            }
        }
    }
}

/// The thread's end of a line.
pub(crate) struct DhtLoopInbox {
    pub socket: UdpSocket,
    pub commands: Receiver<DhtCommand>,
    woken: PipeReader,
}

impl DhtLoopInbox {
    /// Sleeps until a packet comes, a command is given or the time is up; a packet's size and sender.
    ///
    /// # Errors
    /// What the socket says; where nothing came in time, `WouldBlock`.
    pub fn receive(&mut self, buffer: &mut [u8], patience: Duration) -> io::Result<(usize, SocketAddr)> {
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN), PollFd::new(&self.woken, PollFlags::IN)];
        poll(&mut fds, Timespec::try_from(patience).ok().as_ref())?;
        let [packet, command] = fds.map(|fd| !fd.revents().is_empty());
        if command {
            // Whatever waits: all commands are carried out next.
            let _ = self.woken.read(&mut [0; 64]);
        }
        if packet { self.socket.recv_from(buffer) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }
}

/// The line to a thread that is to have this socket, and the thread's end of it.
pub(crate) fn line(family: Family, socket: UdpSocket) -> io::Result<(DhtLoopHandle, DhtLoopInbox)> {
    socket.set_nonblocking(true)?;
    let (woken, wake) = io::pipe()?;
    let (commands, receiver) = bounded(MAX_COMMANDS);
    let line = DhtLoopHandle { family, commands, bound: socket.local_addr()?, wake, stats: Mutex::default() };
    Ok((line, DhtLoopInbox { socket, commands: receiver, woken }))
}
