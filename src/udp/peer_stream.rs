//! The stream of a connection to a peer: a TCP connection, or the owner's end of a uTP connection's pair together with what the UDP
//! thread knows about that connection.

use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use crate::net::link_figures::LinkFigures;
use crate::types::Transport;
use crate::util::atomics::Counter;
use crate::utp::UtpTime;
use crate::utp::send_clock::UtpFigures;

/// See the module's documentation. Everything that is written through it counts in [`PeerStream::utp_figures`].
#[derive(Debug)]
pub struct PeerStream {
    stream: TcpStream,
    utp: Option<Arc<UtpLink>>,
}

/// What the owner of a uTP connection and the UDP thread tell each other.
#[derive(Debug)]
pub(super) struct UtpLink {
    /// Bytes that the owner has written.
    written: Counter,
    /// The figures as of the last acknowledgement, or the last change of what the connection waits for.
    figures: Mutex<UtpFigures>,
    /// The start of the thread's clock.
    started: Instant,
}

impl UtpLink {
    /// A connection of the thread whose clock started then.
    pub fn new(started: Instant) -> UtpLink {
        UtpLink { written: Counter::default(), figures: Mutex::default(), started }
    }

    /// Publishes the figures.
    pub fn publish(&self, figures: UtpFigures) {
        *self.figures.lock() = figures;
    }

    fn figures(&self) -> LinkFigures {
        let figures = *self.figures.lock();
        figures.at(UtpTime(self.started.elapsed().as_micros() as u64), self.written.get())
    }
}

impl PeerStream {
    /// The owner's end of a pair.
    pub(super) fn new(pair: TcpStream, link: Arc<UtpLink>) -> PeerStream {
        PeerStream { stream: pair, utp: Some(link) }
    }

    /// What carries the connection.
    pub fn transport(&self) -> Transport {
        if self.utp.is_some() { Transport::Utp } else { Transport::Tcp }
    }

    /// What the UDP thread knows about the connection; `None` for TCP, about which the kernel has to be asked.
    pub fn utp_figures(&self) -> Option<LinkFigures> {
        self.utp.as_ref().map(|link| link.figures())
    }

    fn note_written(&self, count: usize) {
        if let Some(link) = &self.utp {
            link.written.add(count as u64);
        }
    }
}

impl From<TcpStream> for PeerStream {
    fn from(stream: TcpStream) -> PeerStream {
        PeerStream { stream, utp: None }
    }
}

impl Deref for PeerStream {
    type Target = TcpStream;

    fn deref(&self) -> &TcpStream {
        &self.stream
    }
}

impl AsFd for PeerStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Read for &PeerStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.stream).read(buffer)
    }
}

impl Write for &PeerStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&self.stream).write(bytes).inspect(|count| self.note_written(*count))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        (&self.stream).write_vectored(slices).inspect(|count| self.note_written(*count))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for PeerStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }
}

impl Write for PeerStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
