//! One uTP connection of a UDP thread: the thread's end of a pair of connected sockets, whose other end its owner uses like a TCP
//! connection. Bytes wait in the endpoint while the pair is full, and in the pair while the endpoint takes no more, so either side
//! slows the other down.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send, sockopt};

use crate::udp::peer_stream::UtpLink;
use crate::utp::{UtpCloseReason, UtpEndpoint, UtpKey, UtpTime};

/// The requested `SO_SNDBUF` of each socket. Linux doubles it, so about 256 KiB wait in each direction.
const PAIR_BUFFER: usize = 128 * 1024;
/// How many bytes are read from a pair at once.
pub(super) const CHUNK: usize = 64 * 1024;
/// The byte that the owner gets when the peer has accepted the connection. Any other byte is a [`UtpCloseReason`] plus 1.
const CONNECTED: u8 = 0;

/// See the module's documentation.
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub(super) struct SocketBridge {
    key: UtpKey,
    pair: UnixStream,
    /// Where the thread tells the owner how the connection sends.
    pub(super) link: Arc<UtpLink>,
    /// Whether the connection is established.
    is_connected: bool,
    /// Whether there may be more to read from the owner.
    wants_input: bool,
    /// Whether there is more for the owner than the pair takes.
    wants_output: bool,
    /// Whether the peer has finished, or the connection has ended.
    is_finished: bool,
    /// Whether the connection has ended.
    is_closed: bool,
    /// Whether the owner was told that nothing more comes.
    is_shut: bool,
    /// What the thread waits for; `None` while it does not wait for the pair.
    pub(super) watched: Option<EventFlags>,
}

/// Whether a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BridgeState {
    Open,
    /// The thread forgets the connection; its key was given up.
    Over,
}

/// What a stream works with when it has a turn.
pub(super) struct BridgeTurn<'a> {
    pub endpoint: &'a mut UtpEndpoint,
    pub now: UtpTime,
    /// A buffer for what the owner has written.
    pub chunk: &'a mut [u8],
}

/// Creates both ends of a pair: the owner's, and the thread's.
///
/// # Errors
/// If there is no descriptor.
pub(super) fn pair() -> io::Result<(TcpStream, UnixStream)> {
    let (theirs, ours) = UnixStream::pair()?;
    for end in [&theirs, &ours] {
        sockopt::set_socket_send_buffer_size(end, PAIR_BUFFER)?;
    }
    // Reading, writing, polling and shutting down are the same for both kinds of sockets.
    Ok((TcpStream::from(OwnedFd::from(theirs)), ours))
}

/// Why a uTP connection could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UtpDialError {
    /// Nobody listens there, or a router cannot reach the host.
    #[error("refused")]
    Refused,
    /// The peer has reset the connection.
    #[error("reset")]
    Reset,
    /// The peer has not answered.
    #[error("no answer")]
    NoAnswer,
    /// Our side has given up, for want of something, or because the address is blocked.
    #[error("closed")]
    ClosedByUs,
}

impl UtpDialError {
    /// Whether somebody has answered, so that the other transport need not wait long.
    pub fn is_refusal(self) -> bool {
        matches!(self, UtpDialError::Refused | UtpDialError::Reset)
    }
}

/// Reads the result of [`UdpService::connect`](crate::udp::UdpService::connect), once the stream is readable.
///
/// # Errors
/// Why there is no connection.
pub(super) fn read_outcome(stream: &TcpStream) -> Result<(), UtpDialError> {
    let mut outcome = [0];
    match recv(stream, &mut outcome, RecvFlags::DONTWAIT) {
        Ok((_, 1)) if outcome == [CONNECTED] => Ok(()),
        Ok((_, 1)) if outcome == [UtpCloseReason::Refused as u8 + 1] => Err(UtpDialError::Refused),
        Ok((_, 1)) if outcome == [UtpCloseReason::Reset as u8 + 1] => Err(UtpDialError::Reset),
        Ok((_, 1)) => Err(UtpDialError::NoAnswer),
        Ok(_) | Err(_) => Err(UtpDialError::ClosedByUs),
    }
}

impl SocketBridge {
    pub fn new(key: UtpKey, pair: UnixStream, link: Arc<UtpLink>, is_connected: bool) -> SocketBridge {
        SocketBridge {
            key,
            pair,
            link,
            is_connected,
            wants_input: is_connected,
            wants_output: false,
            is_finished: false,
            is_closed: false,
            is_shut: false,
            watched: None,
        }
    }

    /// What the thread has to wait for. epoll always reports that the owner has closed its socket.
    pub fn interest(&self) -> EventFlags {
        let mut interest = EventFlags::empty();
        interest.set(EventFlags::IN, self.wants_input);
        interest.set(EventFlags::OUT, self.wants_output);
        interest
    }

    /// The peer has accepted our connection: tells the owner.
    pub fn connected(&mut self) {
        self.is_connected = true;
        self.wants_input = true;
        let _ = send(&self.pair, &[CONNECTED], SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    }

    /// The peer sends nothing more.
    pub fn finished(&mut self, turn: &mut BridgeTurn<'_>) -> BridgeState {
        self.is_finished = true;
        self.copy_to_owner(turn)
    }

    /// The connection has ended. The owner gets what was received before.
    pub fn closed(&mut self, turn: &mut BridgeTurn<'_>, reason: UtpCloseReason) -> BridgeState {
        if !self.is_connected {
            let _ = send(&self.pair, &[reason as u8 + 1], SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        }
        self.is_closed = true;
        self.wants_input = false;
        self.finished(turn)
    }

    /// Gives the owner what has arrived, as far as the pair takes it.
    pub fn copy_to_owner(&mut self, turn: &mut BridgeTurn<'_>) -> BridgeState {
        self.wants_output = false;
        loop {
            let bytes = turn.endpoint.readable(self.key);
            if bytes.is_empty() {
                break;
            }
            match send(&self.pair, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(count) => turn.endpoint.consume(self.key, count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.wants_output = true;
                    return BridgeState::Open;
                }
                // The owner reads nothing more. What it wrote before is still sent.
                Err(_) => return self.copy_rest(turn),
            }
        }
        if self.is_closed {
            return self.release(turn);
        }
        if self.is_finished && !std::mem::replace(&mut self.is_shut, true) {
            let _ = self.pair.shutdown(Shutdown::Write);
        }
        BridgeState::Open
    }

    /// Takes what the owner has written, as far as the endpoint has space.
    pub fn copy_from_owner(&mut self, turn: &mut BridgeTurn<'_>) -> BridgeState {
        if self.is_closed {
            return self.release(turn);
        }
        loop {
            let space = turn.endpoint.await_space(self.key);
            if space == 0 {
                self.wants_input = false;
                return BridgeState::Open;
            }
            let size = turn.chunk.len().min(space);
            let buffer = turn.chunk.get_mut(..size).unwrap_or_default();
            match recv(&self.pair, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return self.release(turn),
                Ok((_, count)) => {
                    turn.endpoint.write(self.key, buffer.get(..count).unwrap_or_default());
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.wants_input = true;
                    return BridgeState::Open;
                }
                Err(_) => return self.release(turn),
            }
        }
    }

    /// The owner has closed its end, or is to: takes all that it has written, which the pair bounds. A peer that has no space must not
    /// keep us from noticing the end.
    pub fn copy_rest(&mut self, turn: &mut BridgeTurn<'_>) -> BridgeState {
        if self.is_closed {
            return self.release(turn);
        }
        loop {
            match recv(&self.pair, &mut *turn.chunk, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return self.release(turn),
                Ok((_, count)) => turn.endpoint.write_rest(self.key, turn.chunk.get(..count).unwrap_or_default()),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return BridgeState::Open,
                Err(_) => return self.release(turn),
            }
        }
    }

    /// Gives the connection up. What the owner has written is still delivered, unless nobody has accepted the connection.
    fn release(&self, turn: &mut BridgeTurn<'_>) -> BridgeState {
        if self.is_connected {
            turn.endpoint.release(turn.now, self.key);
        } else {
            turn.endpoint.reset(self.key);
        }
        BridgeState::Over
    }

    /// Gives the connection up at once.
    pub fn reset(&self, endpoint: &mut UtpEndpoint) {
        endpoint.reset(self.key);
    }
}

impl AsFd for SocketBridge {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pair.as_fd()
    }
}
