//! How the rest of the program reaches a thread that is blocked in its socket: a channel, and a datagram that wakes it.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crossbeam_channel::{Receiver, Sender, unbounded};
use parking_lot::Mutex;

use super::Command;
use crate::sources::dht::message::Family;
use crate::sources::dht::node::DhtStats;

/// How to reach the thread of one family.
#[derive(Debug)]
pub(super) struct Line {
    pub family: Family,
    pub commands: Sender<Command>,
    pub socket: UdpSocket,
    /// Where the socket reaches itself.
    itself: SocketAddr,
    pub stats: Mutex<DhtStats>,
}

impl Line {
    /// Gives a command and wakes the thread for it.
    pub fn tell(&self, command: Command) {
        // Both fail only where the thread is gone or the network is; then it looks around by itself.
        let _ = self.commands.send(command);
        let _ = self.socket.send_to(&[], self.itself);
    }

    /// Passes an address on, where it is of this family.
    pub fn introduce(&self, addr: SocketAddr, as_what: fn(SocketAddr) -> Command) {
        let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
        if Family::of(addr.ip()) == self.family {
            self.tell(as_what(addr));
        }
    }
}

/// The line to a thread that is to have this socket, and the thread's end of it.
pub(super) fn line(family: Family, socket: UdpSocket) -> io::Result<(Line, UdpSocket, Receiver<Command>)> {
    let mut itself = socket.local_addr()?;
    if itself.ip().is_unspecified() {
        itself.set_ip(match family {
            Family::V4 => Ipv4Addr::LOCALHOST.into(),
            Family::V6 => Ipv6Addr::LOCALHOST.into(),
        });
    }
    let (commands, receiver) = unbounded();
    let line = Line { family, commands, socket: socket.try_clone()?, itself, stats: Mutex::default() };
    Ok((line, socket, receiver))
}
