//! Ends the threads of connections without closing the connections: once the metadata of a magnet link is complete, the
//! download continues on the same sockets. A reader of the metadata phase waits for its socket and for the end of this pipe.

use std::io::{self, PipeReader, PipeWriter};
use std::net::TcpStream;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::util::atomics::Flag;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct WakePipe {
    has_woken: Flag,
    /// Nothing is ever written here: dropping this end wakes every thread that polls the other.
    waker: Mutex<Option<PipeWriter>>,
    wake_end: Option<PipeReader>,
}

impl WakePipe {
    /// A pipe for connections that can outlast the metadata phase. If no file descriptor is available, none of them does.
    pub fn new() -> WakePipe {
        let pipe =
            io::pipe().inspect_err(|error| log::debug!("connections will not outlast the metadata phase: {error}"));
        let (wake_end, waker) = pipe.ok().unzip();
        WakePipe { has_woken: Flag::new(false), waker: Mutex::new(waker), wake_end }
    }

    /// Tells all readers to end, now and from now on.
    pub fn wake_all(&self) {
        self.has_woken.set(self.wake_end.is_some());
        drop(self.waker.lock().take());
    }

    /// Whether readers have to end.
    pub fn has_woken(&self) -> bool {
        self.has_woken.is_set()
    }

    /// Waits for at most `patience` until the socket has bytes to read. Returns false if readers have to end.
    ///
    /// # Errors
    /// If no bytes arrive in time.
    pub fn wait(&self, stream: &TcpStream, patience: Duration) -> io::Result<bool> {
        let Some(wake_end) = &self.wake_end else { return Ok(true) };
        let timeout = Timespec::try_from(patience).ok();
        let mut fds = [PollFd::new(stream, PollFlags::IN), PollFd::new(wake_end, PollFlags::IN)];
        match poll(&mut fds, timeout.as_ref()) {
            _ if self.has_woken() => Ok(false),
            Ok(0) => Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => Ok(true),
            Err(Errno::INTR) => Err(io::ErrorKind::Interrupted.into()),
            Err(errno) => Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_reader_wakes_for_its_socket_and_for_the_end_of_the_stage() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (ours, _) = listener.accept().unwrap();
        let wake_pipe = WakePipe::new();
        assert_eq!(wake_pipe.wait(&ours, Duration::ZERO).unwrap_err().kind(), io::ErrorKind::TimedOut);
        theirs.write_all(&[1]).unwrap();
        assert!(wake_pipe.wait(&ours, LONG).unwrap());
        let (quiet, _other) = (TcpStream::connect(listener.local_addr().unwrap()).unwrap(), listener.accept().unwrap());
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| wake_pipe.wait(&quiet, LONG).unwrap());
            wake_pipe.wake_all();
            assert!(!waits.join().unwrap() && wake_pipe.has_woken());
        });
        assert!(!wake_pipe.wait(&ours, LONG).unwrap(), "received bytes are left for the next reader");
        assert!(WakePipe::default().wait(&ours, LONG).unwrap(), "a download reads as it likes");
    }
}
