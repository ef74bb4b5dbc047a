//! Reads verified bytes of the files of torrents, for HTTP: while a torrent runs, also incompletely downloaded ones.

use std::io;
use std::net::IpAddr;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::metainfo::Metainfo;
use crate::service::metainfo_summary::real_files;
use crate::service::model::{ControlError, OpenDataFile, ReadVerified};
use crate::service::record::TorrentRecord;
use crate::torrent::{StreamWaker, TorrentHandle, VerifiedFile, VerifiedReader};
use crate::util::atomic_file::open_regular;
use crate::util::os_error::reason;
use crate::util::paths::resolved;

/// Where a file lies in its torrent.
#[derive(Clone, Copy, Debug)]
struct FileSpan {
    /// The offset of its first byte.
    start: u64,
    length: u64,
    piece_length: u64,
}

impl FileSpan {
    /// The pieces from `offset` of the file to its end.
    fn pieces_from(&self, offset: u64) -> Range<u32> {
        let number = |piece: u64| u32::try_from(piece).unwrap_or(u32::MAX);
        let last = (self.start + self.length.max(1) - 1) / self.piece_length;
        number((self.start + offset) / self.piece_length)..number(last).saturating_add(1)
    }

    /// How many of `wanted` bytes from `offset` of the file on are verified, if `count` pieces from there on are.
    fn verified(&self, offset: u64, wanted: u64, count: u32) -> u64 {
        let first = (self.start + offset) / self.piece_length;
        let end = (first + u64::from(count)) * self.piece_length;
        let readable = end.saturating_sub(self.start).min(self.length).saturating_sub(offset);
        if count == 0 { 0 } else { readable.min(wanted) }
    }
}

/// Opens the file with this number among those without padding, for a reader at this address. `resume_folder`, if there is one, has
/// the resume data, which tells whether the file of a torrent that does not run is verified.
pub fn open(
    record: &TorrentRecord,
    metainfo: &Metainfo,
    (handle, resume_folder): (Option<&TorrentHandle>, Option<&Path>),
    (number, client): (u32, IpAddr),
) -> Result<OpenDataFile, ControlError> {
    let none = || ControlError::Invalid(format!("the torrent has no file {number}"));
    let index =
        usize::try_from(number).ok().and_then(|number| real_files(metainfo).get(number).copied()).ok_or_else(none)?;
    let at = usize::try_from(index).map_err(|_| none())?;
    let entry = metainfo.files.get(at).ok_or_else(none)?;
    let start = metainfo.files.iter().take(at).map(|file| file.length).sum();
    let span = FileSpan { start, length: entry.length, piece_length: u64::from(metainfo.piece_length.max(1)) };
    // A torrent that has just ended may still have a handle.
    let handle = handle.filter(|handle| handle.try_wait().is_none());
    let is_wanted = handle.is_none_or(|handle| {
        let wanted = handle.files();
        wanted.is_empty() || wanted.iter().any(|file| file.index == index)
    });
    if !is_wanted || record.files.unwanted.binary_search(&index).is_ok() {
        // Its pieces may be verified, as far as others need them, while the file itself is the user's.
        return Err(ControlError::Invalid("this file is not wanted, so btsync has not verified it".to_owned()));
    }
    let renamed = record.files.renamed.binary_search_by_key(&index, |(renamed, _)| *renamed).ok();
    let renamed = renamed.and_then(|at| record.files.renamed.get(at)).map(|(_, path)| path);
    let path = renamed.unwrap_or(&entry.path);
    let read = if let Some(handle) = handle {
        let reader = handle.verified_reader(client);
        read_running(span, reader.ok_or(ControlError::TooManyReaders)?)
    } else {
        let verified = |folder: &Path| {
            let file = open_below(&record.folder, path)?;
            Ok(record.idle(metainfo, folder).verified_file(index, file))
        };
        let unknown =
            || ControlError::Invalid("start the torrent first: this file is not known to be complete".to_owned());
        read_idle(span, resume_folder.map(verified).transpose()?.flatten().ok_or_else(unknown)?)
    };
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    Ok(OpenDataFile { name, length: entry.length, read })
}

fn open_below(folder: &Path, path: &Path) -> Result<std::fs::File, ControlError> {
    let full = folder.join(path);
    let failed = |why: String| ControlError::System(format!("{}: {why}", full.display()));
    let opened = open_regular(&full).map_err(|error| failed(reason(&error)))?;
    let file = opened.ok_or_else(|| failed("not a file".to_owned()))?;
    // A link in the torrent's folder must not show other files of the user.
    if resolved(&full).starts_with(resolved(folder)) {
        Ok(file)
    } else {
        Err(failed("outside of its folder".to_owned()))
    }
}

/// Reads through the files that the torrent's run has opened and verified, whatever has their paths by now.
fn read_running(span: FileSpan, reader: VerifiedReader) -> ReadVerified {
    Box::new(move |offset, wanted, waker| {
        let waker = waker.clone();
        let wake: StreamWaker = Arc::new(move || waker.wake());
        let length = |count| span.verified(offset, wanted, count);
        reader.read(span.pieces_from(offset), span.start + offset, length, &wake)
    })
}

fn read_idle(span: FileSpan, file: VerifiedFile) -> ReadVerified {
    Box::new(move |offset, wanted, _| {
        let readable = wanted.min(span.length.saturating_sub(offset));
        let mut bytes = vec![0; usize::try_from(readable).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_verified_pieces_can_be_read() {
        let span = FileSpan { start: 50, length: 200, piece_length: 100 };
        assert_eq!((span.pieces_from(0), span.pieces_from(50), span.pieces_from(199)), (0..3, 1..3, 2..3));
        assert_eq!(span.verified(0, 1000, 2), 150);
        assert_eq!(span.verified(40, 20, 2), 20);
        assert_eq!(span.verified(149, 10, 1), 1);
        assert_eq!(span.verified(150, 10, 0), 0);
        assert_eq!(span.verified(190, 100, 3), 10);
    }
}
