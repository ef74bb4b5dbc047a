//! Erases a piece that failed verification, so that a later run takes it for one that is still to come.

use std::io::IoSlice;

use crate::storage::error::StorageError;
use crate::storage::files::Storage;
use crate::storage::slices::MAX_SLICES;
use crate::types::{BLOCK_SIZE, PieceIndex};

const ZEROS: [u8; BLOCK_SIZE as usize] = [0; BLOCK_SIZE as usize];

impl Storage {
    /// Overwrites a piece with zeros. To be called for a piece whose blocks have all been written and that does not verify, before
    /// any of them is written again: if this process is killed, the next run would take a whole piece that does not verify for the
    /// user's data. All of its blocks, because they come again in any order and the last one may never come.
    ///
    /// # Errors
    /// Those of [`Storage::write_vectored_at`].
    pub fn erase_piece(&self, piece: PieceIndex) -> Result<(), StorageError> {
        let zeros = [IoSlice::new(&ZEROS); MAX_SLICES];
        let most = (MAX_SLICES * ZEROS.len()) as u64;
        let mut at = self.layout.offset(piece, 0);
        let end = at + u64::from(self.layout.piece_size(piece));
        while at < end {
            let length = (end - at).min(most) as usize;
            let whole = length / ZEROS.len();
            let rest = [IoSlice::new(ZEROS.get(..length % ZEROS.len()).unwrap_or_default())];
            let bufs = zeros.get(..whole).filter(|bufs| !bufs.is_empty()).unwrap_or(&rest);
            self.write_vectored_at(at, bufs)?;
            at += bufs.iter().map(|buf| buf.len() as u64).sum::<u64>();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
