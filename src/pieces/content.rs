//! Whether a file still holds nothing but what btsync wrote, although another program has set its times (`storage/touched.rs`).

use std::collections::HashSet;

use crate::pieces::PieceManager;
use crate::storage::{StorageError, check_pieces};
use crate::types::{BLOCK_SIZE, Bitfield, PieceIndex};

impl PieceManager {
    /// Whether a file holds nothing but what btsync wrote: all its verified pieces still verify, at least one of them has data in
    /// it, and nothing lies where no block has arrived. Blocks of other pieces cannot be compared; if such a piece fails later,
    /// [`PieceManager::check_not_edited`] ends the download.
    ///
    /// # Errors
    /// If the file cannot be read, or if the torrent stops meanwhile.
    pub fn is_content_ours(&self, file: usize) -> Result<bool, StorageError> {
        let layout = self.storage.layout();
        let have = self.picker.lock().have().clone();
        let pieces = || layout.pieces_of(file).map(PieceIndex);
        if !self.has_verified_data(file, &have)? || !self.still_verify(file, &have)? {
            return Ok(false);
        }
        let mut possibly_edited = HashSet::new();
        for piece in pieces().filter(|piece| !have.has(*piece)) {
            self.storage.check_running(file)?;
            if !self.has_bytes_between(file, piece, 0, layout.piece_size(piece))? {
                continue;
            }
            for block in 0..layout.piece_size(piece).div_ceil(BLOCK_SIZE) {
                // Looked up after the file was read, because the picker marks a block as being written before it is written.
                if self.has_bytes(file, piece, block)? {
                    let picker = self.picker.lock();
                    if !picker.have().has(piece) && !picker.may_be_on_disk(piece, block) {
                        return Ok(false);
                    }
                    possibly_edited.insert(piece);
                }
            }
        }
        self.possibly_edited.lock().extend(possibly_edited);
        Ok(true)
    }

    /// Called when a piece has failed verification, before it is downloaded again.
    ///
    /// # Errors
    /// [`StorageError::InTheWay`] if another program may have edited its blocks.
    pub fn check_not_edited(&self, piece: PieceIndex) -> Result<(), StorageError> {
        let may_be_edited = self.possibly_edited.lock().contains(&piece);
        may_be_edited.then(|| self.storage.refuse_touched(piece)).flatten().map_or(Ok(()), Err)
    }

    /// Whether a verified piece has data in this file. Zeros prove nothing.
    fn has_verified_data(&self, file: usize, have: &Bitfield) -> Result<bool, StorageError> {
        for piece in self.storage.layout().pieces_of(file).map(PieceIndex).filter(|piece| have.has(*piece)) {
            if self.has_bytes_between(file, piece, 0, self.storage.layout().piece_size(piece))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the pieces of a file that are in `have` still verify.
    fn still_verify(&self, file: usize, have: &Bitfield) -> Result<bool, StorageError> {
        let pieces = || self.storage.layout().pieces_of(file).map(PieceIndex).filter(|piece| have.has(*piece));
        let right = check_pieces(&self.storage, &self.hashes, pieces(), &*self.storage)?;
        self.storage.check_running(file)?;
        Ok(pieces().all(|piece| right.has(piece)))
    }

    fn has_bytes(&self, file: usize, piece: PieceIndex, block: u32) -> Result<bool, StorageError> {
        let begin = block * BLOCK_SIZE;
        let end = self.storage.layout().piece_size(piece).min(begin + BLOCK_SIZE);
        self.has_bytes_between(file, piece, begin, end)
    }

    /// Whether the part of this range of a piece that lies in the file holds data.
    fn has_bytes_between(&self, file: usize, piece: PieceIndex, begin: u32, end: u32) -> Result<bool, StorageError> {
        let layout = self.storage.layout();
        for span in layout.spans(layout.offset(piece, begin), u64::from(end - begin)).filter(|span| span.file == file) {
            if self.storage.has_bytes(file, span.offset, span.offset + span.len)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests;
