//! Another program's files under the names of unwanted files. btsync neither reads nor writes them, and keeps the bytes that it needs
//! in the part file. A later run must come to the same decision, or the pieces that they share with the user's complete download
//! no longer verify.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::OFlags;
use sha1::{Digest, Sha1};

use crate::storage::CHUNK;
use crate::storage::check::check_pieces;
use crate::storage::decision::DecisionInput;
use crate::storage::files::Storage;
use crate::storage::layout::{FileSpec, Span};
use crate::storage::marker::{self, Marker};
use crate::storage::open::Access;
use crate::storage::placement::PartRange;
use crate::storage::stop_check::StopCheck;
use crate::storage::survey::{Survey, has_data};
use crate::types::{PieceIndex, Sha1Hash};

impl Storage {
    /// Ignores unwanted files again that an earlier run ignored because another program's file has their name. The sign: the part
    /// file has other bytes for them, with which a piece verifies. If another piece verifies with the file's own bytes, btsync only
    /// takes the pieces with the sign from the part file. Leaves out files that the marker names, because their entries
    /// must stay. Returns whether there are any; then the files have to be surveyed again. To be called before the files are hashed.
    pub fn ignore_files_as_before(&mut self, survey: &Survey, hashes: &[Sha1Hash], stop: &dyn StopCheck) -> bool {
        let Some(seen) = survey.part_file.filter(|seen| seen.size > 0) else { return false };
        let Ok(part_file) = self.root.open_own(self.placement.name(), OFlags::RDONLY) else { return false };
        let is_named = |spec: &FileSpec| {
            let names = |marker: &Marker| {
                marker.has_path(&spec.path) || marker.refused.contains_key(&marker::path_hash(&spec.path))
            };
            self.marker.content.as_ref().is_some_and(names)
        };
        let files = self.layout.files().iter().enumerate().take_while(|_| !stop.is_stopped());
        let unwanted =
            files.filter(|(file, spec)| !self.wants(*file) && survey.file(*file).is_some() && !is_named(spec));
        let mut ignored: Vec<(usize, Vec<u32>)> = Vec::new();
        for (file, _) in unwanted {
            let ranges = self.placement.part_ranges(&self.layout, file).filter(|kept| kept.at < seen.size);
            // Data that cannot be read is no reason to ignore the file.
            let kept = ranges.filter(|kept| self.is_kept(file, &part_file, *kept, hashes, stop).unwrap_or(false));
            let kept: Vec<u32> = kept.map(|kept| self.piece_at(file, kept.within).0).collect();
            ignored.extend(Some((file, kept)).filter(|(_, kept)| !kept.is_empty()));
        }
        for (file, kept) in &ignored {
            let others = self.placement.shared_pieces(&self.layout, *file).filter(|piece| !kept.contains(piece));
            let others: Vec<PieceIndex> = others.map(PieceIndex).collect();
            let right = check_pieces(self, hashes, others.iter().copied(), stop);
            if right.is_ok_and(|right| others.iter().any(|piece| right.has(*piece))) {
                self.placement.compare(*file, kept.iter().copied());
            } else {
                self.placement.move_to_part_file(*file);
            }
        }
        if !ignored.is_empty() {
            self.close();
        }
        !ignored.is_empty()
    }

    /// The piece that has this byte of a file.
    fn piece_at(&self, file: usize, within: u64) -> PieceIndex {
        PieceIndex(((self.layout.start_of(file) + within) / u64::from(self.layout.piece_length())) as u32)
    }

    /// Whether the part file has other bytes of this range than the file itself, and the piece verifies with them.
    fn is_kept(
        &self,
        file: usize,
        part_file: &File,
        kept: PartRange,
        hashes: &[Sha1Hash],
        stop: &dyn StopCheck,
    ) -> io::Result<bool> {
        let PartRange { within, at, len } = kept;
        if !has_data(part_file, at, at + len, stop)? || stop.is_stopped() {
            return Ok(false);
        }
        let own = self.root.open(self.name(file), Access::Read).map_err(io::Error::other)?;
        let (mut ours, mut theirs) = (vec![0; CHUNK], vec![0; CHUNK]);
        let mut differs = false;
        for done in (0..len).step_by(CHUNK).take_while(|_| !stop.is_stopped()) {
            let count = (len - done).min(CHUNK as u64) as usize;
            let (ours, theirs) = (&mut ours[..count], &mut theirs[..count]);
            read_or_zeros(part_file, ours, at + done)?;
            differs = read_or_zeros(&own.file, theirs, within + done)? < count || ours != theirs;
            if differs {
                break;
            }
        }
        let (begins, piece_length) = (self.layout.start_of(file) + within, u64::from(self.layout.piece_length()));
        let slot = (at - begins % piece_length, PieceIndex((begins / piece_length) as u32));
        Ok(differs && self.is_right_with(part_file, slot, hashes, stop)?)
    }

    /// Whether a piece verifies with the part file's data in its slot, which begins at this offset, and with other bytes from the
    /// torrent's own files. An unwanted file may be another program's, and its bytes in the part file zeros: tries both.
    pub(super) fn is_right_with(
        &self,
        part_file: &File,
        slot: (u64, PieceIndex),
        hashes: &[Sha1Hash],
        stop: &dyn StopCheck,
    ) -> io::Result<bool> {
        let is_right = |ignores_unwanted: bool| -> io::Result<bool> {
            let hash = self.hash_with(part_file, slot, ignores_unwanted, stop)?;
            Ok(hashes.get(slot.1.as_usize()) == Some(&hash))
        };
        Ok(is_right(false)? || is_right(true)?)
    }

    /// The SHA-1 of a piece with the part file's data. `ignores_unwanted`: takes unwanted files from the part file in any case.
    fn hash_with(
        &self,
        part_file: &File,
        (at, piece): (u64, PieceIndex),
        ignores_unwanted: bool,
        stop: &dyn StopCheck,
    ) -> io::Result<Sha1Hash> {
        let begins = self.layout.offset(piece, 0);
        let mut sha = Sha1::new();
        let mut buf = vec![0; CHUNK];
        for span in self.layout.spans(begins, u64::from(self.layout.piece_size(piece))) {
            let start = at + (self.layout.start_of(span.file) + span.offset - begins);
            let is_pad = self.layout.files().get(span.file).is_some_and(|spec| spec.is_pad);
            let is_kept = has_data(part_file, start, start + span.len, stop)?;
            let is_kept = is_kept || (ignores_unwanted && !self.wants(span.file));
            let own = if is_pad || is_kept { None } else { self.root.open(self.name(span.file), Access::Read).ok() };
            let (source, from) = own.as_ref().map_or((part_file, start), |own| (&own.file, span.offset));
            let mut done = 0;
            while done < span.len && !stop.is_stopped() {
                let room = buf.len().min(usize::try_from(span.len - done).unwrap_or(usize::MAX));
                let part = buf.get_mut(..room).unwrap_or_default();
                if is_pad {
                    part.fill(0);
                } else {
                    read_or_zeros(source, part, from + done)?;
                }
                sha.update(&*part);
                done += part.len() as u64;
            }
        }
        Ok(sha.finalize().into())
    }

    /// Whether these bytes are those of an unwanted file of another program, as far as the hashes tell: none of its pieces verifies.
    pub(super) fn is_of_other_program(&self, span: &Span, input: &DecisionInput<'_>) -> bool {
        !self.wants(span.file) && !self.layout.pieces_of(span.file).any(|piece| input.have.has(PieceIndex(piece)))
    }
}

/// Fills `buf` with a file's bytes from `at` on. Bytes past its end count as zeros. Returns how many there were.
fn read_or_zeros(file: &File, buf: &mut [u8], at: u64) -> io::Result<usize> {
    let mut count = 0;
    while count < buf.len() {
        match file.read_at(&mut buf[count..], at + count as u64) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buf[count..].fill(0);
    Ok(count)
}

#[cfg(test)]
mod tests;
