//! Reads files of torrents for programs: only bytes that a run or the resume data has verified, and that nobody has changed since.

#[cfg(feature = "service")]
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::ops::Range;
#[cfg(feature = "service")]
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use parking_lot::Mutex;

#[cfg(feature = "service")]
use crate::storage::resume::Stamp;
use crate::torrent::inner::TorrentInner;
use crate::torrent::{PieceStream, StreamWaker};

/// Reads verified data of a torrent that runs, through the files that this run has opened.
pub struct VerifiedReader {
    inner: Arc<TorrentInner>,
    /// The address of the HTTP client that reads.
    client: IpAddr,
    /// Only while pieces are missing: their number is limited.
    stream: Mutex<Option<Arc<PieceStream>>>,
}

impl VerifiedReader {
    /// A reader for this HTTP client; `None` if the torrent has too many.
    pub(crate) fn open(inner: &Arc<TorrentInner>, client: IpAddr) -> Option<VerifiedReader> {
        let reader = VerifiedReader { inner: inner.clone(), client, stream: Mutex::default() };
        let is_complete = inner.context().is_some_and(|context| context.pieces.is_complete());
        (is_complete || reader.stream().is_some()).then_some(reader)
    }

    fn stream(&self) -> Option<Arc<PieceStream>> {
        let mut stream = self.stream.lock();
        if stream.is_none() {
            *stream = PieceStream::open(&self.inner, Some(self.client)).map(Arc::new);
        }
        stream.clone()
    }

    /// Reads from `offset` of the torrent on. `pieces` are the one with the first byte and those that are needed next, and `length`
    /// says how many bytes to read if so many of them are verified. If nothing can be read yet, returns nothing, and `wake` is
    /// called as soon as that may have changed. Hashes pieces again whose file another program has changed since.
    ///
    /// # Errors
    /// `NotConnected` if the torrent has ended, `ConnectionAborted` if another reader has taken the place of this one; if the disk
    /// fails, or a piece does not verify any more.
    pub fn read(
        &self,
        pieces: Range<u32>,
        offset: u64,
        length: impl Fn(u32) -> u64,
        wake: &StreamWaker,
    ) -> io::Result<Vec<u8>> {
        if self.inner.end_so_far().is_some() {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the torrent does not run"));
        }
        // One context for all: the files may be opened again meanwhile, in another folder.
        let context = self.inner.context().filter(|context| !context.settings.is_fetching_metadata);
        let complete = context.as_ref().filter(|context| context.pieces.is_complete());
        let count = match complete.map_or(0, |context| context.pieces.verified_run(pieces.clone())) {
            0 => {
                let stream = self.stream().ok_or_else(|| io::Error::other("too many readers"))?;
                stream.poll_in(context.as_deref(), pieces, wake)?
            }
            count => count,
        };
        let mut bytes = vec![0; usize::try_from(length(count)).map_err(io::Error::other)?];
        if let Some(context) = context.filter(|_| !bytes.is_empty()) {
            context.pieces.read_unchanged(offset, &mut bytes).map_err(io::Error::other)?;
        }
        Ok(bytes)
    }
}

/// A file of a torrent that does not run, which is as it was when all its pieces were verified.
#[cfg(feature = "service")]
pub struct VerifiedFile {
    file: File,
    stamp: Stamp,
}

#[cfg(feature = "service")]
impl VerifiedFile {
    /// `stamp` is the metadata of the file since its pieces were verified; `None` if it has other metadata now.
    pub(crate) fn new(file: File, stamp: Stamp) -> Option<VerifiedFile> {
        let verified = VerifiedFile { file, stamp };
        verified.check().is_ok().then_some(verified)
    }

    /// Reads bytes from this offset on.
    ///
    /// # Errors
    /// If the disk fails; `NotConnected` if the file was changed, renamed or linked since it was opened.
    pub fn read_exact_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(bytes, at)?;
        // Only now: a change before the read shows in the metadata.
        self.check()
    }

    fn check(&self) -> io::Result<()> {
        if Stamp::of(&self.file.metadata()?) == Some(self.stamp) {
            Ok(())
        } else {
            let why = "the file was changed since it was verified";
            Err(io::Error::new(io::ErrorKind::NotConnected, why))
        }
    }
}
