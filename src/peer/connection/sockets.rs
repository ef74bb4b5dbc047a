//! The sockets of a connection: one, or two while TCP and uTP race to open it. Main may close them at any time.

use std::net::Shutdown;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::udp::PeerStream;

/// See the module's documentation.
#[derive(Default)]
pub(super) struct ConnectionSockets(Mutex<SocketsState>);

#[derive(Default)]
struct SocketsState {
    streams: Vec<Arc<PeerStream>>,
    is_closed: bool,
}

impl ConnectionSockets {
    /// Adds a socket. If the connection was closed meanwhile, it is shut down.
    pub fn add(&self, stream: PeerStream) -> Arc<PeerStream> {
        let stream = Arc::new(stream);
        let mut state = self.0.lock();
        if state.is_closed {
            let _ = stream.shutdown(Shutdown::Both);
        }
        state.streams.push(stream.clone());
        stream
    }

    /// Shuts down all sockets but this one, and forgets them.
    pub fn keep_only(&self, winner: &Arc<PeerStream>) {
        self.0.lock().streams.retain(|stream| {
            let wins = Arc::ptr_eq(stream, winner);
            if !wins {
                let _ = stream.shutdown(Shutdown::Both);
            }
            wins
        });
    }

    /// The first socket.
    pub fn first(&self) -> Option<Arc<PeerStream>> {
        self.0.lock().streams.first().cloned()
    }

    /// Shuts down all sockets, and those that are added later.
    pub fn close(&self) {
        let mut state = self.0.lock();
        state.is_closed = true;
        for stream in &state.streams {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpStream;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    /// Two connected sockets.
    fn pair() -> (PeerStream, UnixStream) {
        let (one, other) = UnixStream::pair().expect("a pair");
        other.set_nonblocking(true).expect("a socket that does not block");
        (TcpStream::from(OwnedFd::from(one)).into(), other)
    }

    fn has_ended(other: &mut UnixStream) -> bool {
        other.read(&mut [0]).is_ok_and(|count| count == 0)
    }

    #[test]
    fn the_loser_is_closed_and_the_winner_stays() {
        let (mut pairs, sockets) =
            ([pair(), pair()].map(|(one, other)| (Some(one), other)), ConnectionSockets::default());
        let streams = pairs.each_mut().map(|(one, _)| sockets.add(one.take().expect("a stream")));
        sockets.keep_only(&streams[1]);
        assert!(has_ended(&mut pairs[0].1) && !has_ended(&mut pairs[1].1));
        assert!(Arc::ptr_eq(&sockets.first().expect("the winner"), &streams[1]));
    }

    #[test]
    fn close_ends_all_sockets_and_later_ones() {
        let (sockets, (first, mut theirs), (later, mut late)) = (ConnectionSockets::default(), pair(), pair());
        let _first = sockets.add(first);
        sockets.close();
        let _later = sockets.add(later);
        assert!(has_ended(&mut theirs) && has_ended(&mut late));
    }
}
