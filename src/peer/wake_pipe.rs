//! How the threads of connections end without their connections: when the metadata of a magnet link is there, the download goes on
//! with the same sockets. A reader of that stage waits for its socket and for the end of this pipe.

use std::io::{self, PipeReader, PipeWriter};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// See the module's head.
#[derive(Debug, Default)]
pub struct WakePipe {
    has_woken: AtomicBool,
    /// Nothing is ever written here: dropping the one end wakes all who poll the other.
    waker: Mutex<Option<PipeWriter>>,
    wake_end: Option<PipeReader>,
}

impl WakePipe {
    /// One for connections that may be parked. Where there is no descriptor for it, none of them will be.
    pub fn new() -> WakePipe {
        let pipe = io::pipe().inspect_err(|error| log::debug!("connections will not outlast the metadata: {error}"));
        let (wake_end, waker) = pipe.ok().unzip();
        WakePipe { has_woken: AtomicBool::new(false), waker: Mutex::new(waker), wake_end }
    }

    /// Readers end from now on.
    pub fn wake_all(&self) {
        self.has_woken.store(self.wake_end.is_some(), Ordering::Release);
        drop(self.waker.lock().take());
    }

    /// Whether readers are to end.
    pub fn has_woken(&self) -> bool {
        self.has_woken.load(Ordering::Acquire)
    }

    /// Waits until something has come through the socket, for `patience` at most; or until readers are to end, then false.
    ///
    /// # Errors
    /// Where nothing came in time.
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
        assert!(!wake_pipe.wait(&ours, LONG).unwrap(), "what has come is left for the next reader");
        assert!(WakePipe::default().wait(&ours, LONG).unwrap(), "a download reads as it likes");
    }
}
