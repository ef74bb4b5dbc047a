//! Writing to a socket that may take nothing for a while. The one who waits must hold no large buffer: a write waits for a moment
//! only, and what it has not taken by then is read from the disk again when the socket takes more.

use std::io::{self, IoSlice, Write};
use std::net::TcpStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::types::BlockRequest;
use crate::wire::message::PIECE_HEADER_LENGTH;

/// A write to a peer's socket waits for so long at most: long enough that a peer that reads is hardly ever waited for in another way.
pub const WRITE_STALL: Duration = Duration::from_millis(200);
/// A peer that takes nothing for so long is disconnected.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of a block that are read at once for a socket that takes little.
pub(super) const CHUNK: usize = 16 * 1024;

/// Where a write of a head and a run of blocks was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PartialWrite {
    /// Blocks that have left whole.
    pub whole: usize,
    /// Bytes of the next one that have left, its head included.
    pub begun: usize,
}

impl PartialWrite {
    /// After so many bytes of the blocks with their heads.
    pub fn after(mut bytes: usize, run: &[BlockRequest]) -> PartialWrite {
        let mut whole = 0;
        for block in run {
            let size = PIECE_HEADER_LENGTH + block.length as usize;
            if bytes < size {
                break;
            }
            (bytes, whole) = (bytes - size, whole + 1);
        }
        PartialWrite { whole, begun: bytes }
    }
}

/// Writes as much of `slices` as the socket takes before a write has waited for [`WRITE_STALL`]; how many bytes that were.
pub(super) fn write_some(mut stream: &TcpStream, mut slices: &mut [IoSlice<'_>]) -> io::Result<usize> {
    let mut written = 0;
    IoSlice::advance_slices(&mut slices, 0); // drops empty ones at the front
    while !slices.is_empty() {
        match stream.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                written += n;
                IoSlice::advance_slices(&mut slices, n);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}

/// Writes all of `bytes`, as long as the socket takes some of them now and then.
pub(super) fn write_all_or_time_out(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    loop {
        bytes = &bytes[write_some(stream, &mut [IoSlice::new(bytes)])?..];
        if bytes.is_empty() {
            return Ok(());
        }
        wait(stream)?;
    }
}

/// Waits until the socket takes something.
///
/// # Errors
/// Where it takes nothing for [`WRITE_TIMEOUT`], or cannot be asked.
pub fn wait(stream: &TcpStream) -> io::Result<()> {
    if is_writable_within(stream, WRITE_TIMEOUT)? { Ok(()) } else { Err(io::ErrorKind::TimedOut.into()) }
}

/// Whether the socket takes something within that time.
///
/// # Errors
/// Where it cannot be asked.
pub fn is_writable_within(stream: &TcpStream, time: Duration) -> io::Result<bool> {
    let timeout = Timespec::try_from(time).ok();
    loop {
        match poll(&mut [PollFd::new(stream, PollFlags::OUT)], timeout.as_ref()) {
            Ok(ready) => return Ok(ready > 0), // also where the connection is over: the next write says so
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
