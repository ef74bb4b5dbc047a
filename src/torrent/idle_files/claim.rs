//! Takes over what another client knows of a torrent's files.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::storage::resume::ResumeData;
use crate::storage::{Layout, StopCheck, identity};
use crate::torrent::idle_files::{IdleFilesError, IdleTorrent};
use crate::torrent::record_files::replace;
use crate::types::{Bitfield, PieceIndex};

/// The suffix of qBittorrent's unfinished files.
const OTHER_SUFFIX: &str = ".!qB";

impl IdleTorrent<'_> {
    /// Records files on disk as unfinished ones of this torrent, as the resume data of another client says. The next run completes
    /// them, unless somebody changes them before. `have` are the ranges of the torrent's bytes that the client has, in order, and not
    /// touching each other. A file whose content contradicts that is not claimed; nor is one of two files, with and without the
    /// suffix of unfinished ones: one of them is the user's. Files that the client has completely count as complete before: if they are
    /// not now, their user has edited them.
    ///
    /// # Errors
    /// If a file cannot have its path.
    pub fn claim(&self, begun: &[u32], have: &[Range<u64>], stop: &dyn StopCheck) -> Result<(), IdleFilesError> {
        let (source, _) = self.layouts(self.place)?;
        let storage = self.storage(self.place.folder, source, &Arc::default());
        let (mut files, mut owned_files) = (Vec::new(), Vec::new());
        for number in begun.iter().copied().filter(|number| !self.is_unwanted(*number)) {
            let file = usize::try_from(number).unwrap_or(usize::MAX);
            let path = storage.layout().files().get(file).map(|spec| self.place.folder.join(&spec.path));
            let path = path.filter(|path| !self.has_second_file(path));
            let found = path.and_then(|path| fs::symlink_metadata(path).ok()).filter(fs::Metadata::is_file);
            // Before the content is read, so that a later change is noticed.
            let stamp = storage.stamp(file);
            let is_begun = || storage.has_begun_content(file, have, &self.metainfo.pieces, stop);
            if let Some((found, stamp)) = found.zip(stamp).filter(|_| is_begun()) {
                files.push((number, stamp));
                owned_files.push((number, identity(&found)));
            }
        }
        let (info_hash, have) = (self.metainfo.info_hash, pieces_of_complete_files(storage.layout(), have));
        let is_needed = !files.is_empty() || have.count() > 0;
        let Some(path) = self.record_path(self.place.folder).filter(|_| is_needed) else { return Ok(()) };
        let (boot, owned_files, partial) = (String::new(), Some(owned_files), Vec::new());
        let record = ResumeData { info_hash, boot, files, have, owned_files, uploaded: 0, partial };
        if let Err(error) = replace(&path, &record.encode(), ResumeData::is_encoded) {
            log::warn!("{}: cannot be written: {error}", path.display());
        }
        Ok(())
    }

    /// Whether a file with the suffix of unfinished files exists beside this one.
    fn has_second_file(&self, path: &Path) -> bool {
        [self.suffix, OTHER_SUFFIX].iter().any(|suffix| {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            fs::symlink_metadata(name).is_ok()
        })
    }
}

/// The pieces of those files of which all pieces are within the ranges `have`, which are in order and do not touch each other.
fn pieces_of_complete_files(layout: &Layout, have: &[Range<u64>]) -> Bitfield {
    let mut known = Bitfield::new(layout.piece_count());
    for range in have {
        let length = u64::from(layout.piece_length());
        let last = if range.end >= layout.total() { u64::from(layout.piece_count()) } else { range.end / length };
        for piece in range.start.div_ceil(length)..last {
            known.set(PieceIndex(u32::try_from(piece).unwrap_or(u32::MAX)));
        }
    }
    let mut complete = Bitfield::new(layout.piece_count());
    let files = layout.files().iter().enumerate().filter(|(_, spec)| !spec.is_pad).map(|(file, _)| file);
    for file in files.filter(|file| layout.is_complete(*file, &known)) {
        layout.pieces_of(file).for_each(|piece| _ = complete.set(PieceIndex(piece)));
    }
    complete
}
