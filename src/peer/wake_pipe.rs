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
pub struct Parking {
    begun: AtomicBool,
    /// Nothing is ever written here: dropping the one end wakes all who poll the other.
    awake: Mutex<Option<PipeWriter>>,
    asleep: Option<PipeReader>,
}

impl Parking {
    /// One for connections that may be parked. Where there is no descriptor for it, none of them will be.
    pub fn new() -> Parking {
        let pipe = io::pipe().inspect_err(|error| log::debug!("connections will not outlast the metadata: {error}"));
        let (asleep, awake) = pipe.ok().unzip();
        Parking { begun: AtomicBool::new(false), awake: Mutex::new(awake), asleep }
    }

    /// Readers end from now on.
    pub fn begin(&self) {
        self.begun.store(self.asleep.is_some(), Ordering::Release);
        drop(self.awake.lock().take());
    }

    /// Whether readers are to end.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Waits until something has come through the socket, for `patience` at most; or until readers are to end, then false.
    ///
    /// # Errors
    /// Where nothing came in time.
    pub fn wait(&self, stream: &TcpStream, patience: Duration) -> io::Result<bool> {
        let Some(asleep) = &self.asleep else { return Ok(true) };
        let timeout = Timespec::try_from(patience).ok();
        let mut fds = [PollFd::new(stream, PollFlags::IN), PollFd::new(asleep, PollFlags::IN)];
        match poll(&mut fds, timeout.as_ref()) {
            _ if self.has_begun() => Ok(false),
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
        let parking = Parking::new();
        assert_eq!(parking.wait(&ours, Duration::ZERO).unwrap_err().kind(), io::ErrorKind::TimedOut);
        theirs.write_all(&[1]).unwrap();
        assert!(parking.wait(&ours, LONG).unwrap());
        let (quiet, _other) = (TcpStream::connect(listener.local_addr().unwrap()).unwrap(), listener.accept().unwrap());
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| parking.wait(&quiet, LONG).unwrap());
            parking.begin();
            assert!(!waits.join().unwrap() && parking.has_begun());
        });
        assert!(!parking.wait(&ours, LONG).unwrap(), "what has come is left for the next reader");
        assert!(Parking::default().wait(&ours, LONG).unwrap(), "a download reads as it likes");
    }
}
