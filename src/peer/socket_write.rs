//! Writes to a socket that may take nothing for a while. A writer that waits must hold no large buffer: a write waits only
//! briefly, and bytes that the socket has not taken by then are read from disk again when it takes more.

use std::io::{self, IoSlice, Write};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::types::BlockInfo;
use crate::udp::PeerStream;
use crate::wire::message::PIECE_HEADER_LENGTH;

/// A write to a peer's socket counts as blocked after this time. Long enough that a peer that reads hardly ever makes us wait in
/// another way.
pub const WRITE_BLOCKED_AFTER: Duration = Duration::from_millis(200);
/// A peer that takes no bytes for this long is disconnected.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// How many bytes of a block are read at once for a socket that takes little.
pub(super) const CHUNK: usize = 16 * 1024;

/// Where a write of headers and blocks was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PartialWrite {
    /// The number of blocks that were sent completely.
    pub blocks_sent: usize,
    /// Bytes of the next block that were sent, including its header.
    pub bytes_of_next: usize,
}

impl PartialWrite {
    /// The position after `bytes` bytes of the blocks with their headers.
    pub fn after(mut bytes: usize, run: &[BlockInfo]) -> PartialWrite {
        let mut blocks_sent = 0;
        for block in run {
            let size = PIECE_HEADER_LENGTH + block.length as usize;
            if bytes < size {
                break;
            }
            (bytes, blocks_sent) = (bytes - size, blocks_sent + 1);
        }
        PartialWrite { blocks_sent, bytes_of_next: bytes }
    }
}

/// Writes as much of `slices` as the socket takes before a write has waited for [`WRITE_BLOCKED_AFTER`]. Returns the number of
/// bytes.
pub(super) fn write_some(mut stream: &PeerStream, mut slices: &mut [IoSlice<'_>]) -> io::Result<usize> {
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

/// Writes all of `bytes`, as long as the socket keeps taking some of them.
pub(super) fn write_all_or_time_out(stream: &PeerStream, mut bytes: &[u8]) -> io::Result<()> {
    loop {
        bytes = &bytes[write_some(stream, &mut [IoSlice::new(bytes)])?..];
        if bytes.is_empty() {
            return Ok(());
        }
        wait(stream)?;
    }
}

/// Waits until the socket takes bytes.
///
/// # Errors
/// If it takes nothing for [`WRITE_TIMEOUT`], or if polling fails.
pub fn wait(stream: &PeerStream) -> io::Result<()> {
    if is_writable_within(stream, WRITE_TIMEOUT)? { Ok(()) } else { Err(io::ErrorKind::TimedOut.into()) }
}

/// Whether the socket takes bytes within `time`.
///
/// # Errors
/// If polling fails.
pub fn is_writable_within(stream: &PeerStream, time: Duration) -> io::Result<bool> {
    let timeout = Timespec::try_from(time).ok();
    loop {
        match poll(&mut [PollFd::new(stream, PollFlags::OUT)], timeout.as_ref()) {
            Ok(ready) => return Ok(ready > 0), // also if the connection has ended: the next write reports it
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
