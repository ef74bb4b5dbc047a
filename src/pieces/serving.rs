//! Reads verified data for peers. Files that another program has changed since are hashed again (`storage/served_files.rs`).

use crate::hash::Sha1Stream;
use crate::pieces::PieceManager;
use crate::storage::{DoubtfulPiece, StorageError, clock, hash_range};

/// How many bytes of a piece are hashed at once.
const CHUNK: usize = 64 * 1024;

impl PieceManager {
    /// Fills `buf` with the torrent's bytes from `offset` on, which lie in verified pieces. If another program has changed
    /// one of their files since, hashes those pieces again before it returns.
    ///
    /// # Errors
    /// Those of [`Storage::read_exact_at`](crate::storage::Storage::read_exact_at); an error that names the file if a piece does
    /// not verify any more.
    pub fn read_verified(&self, offset: u64, buf: &mut [u8]) -> Result<(), StorageError> {
        self.storage.read_exact_at(offset, buf)?;
        self.check_again(&self.storage.doubtful_pieces(offset, buf.len() as u64)?)
    }

    /// Like [`PieceManager::read_verified`], but looks at the files each time, not once a second.
    ///
    /// # Errors
    /// Those of [`PieceManager::read_verified`].
    pub fn read_unchanged(&self, offset: u64, buf: &mut [u8]) -> Result<(), StorageError> {
        self.storage.read_exact_at(offset, buf)?;
        self.check_again(&self.storage.doubtful_pieces_now(offset, buf.len() as u64)?)
    }

    fn check_again(&self, doubtful: &[DoubtfulPiece]) -> Result<(), StorageError> {
        let storage = &*self.storage;
        for doubtful in doubtful.iter().copied() {
            let now = clock(); // before the first byte is read: a later change shows in a later time
            let hash = hash_range(storage, doubtful.piece, 0, Sha1Stream::new(), &mut vec![0; CHUNK])?;
            if self.hash(doubtful.piece) != Some(hash) {
                return Err(storage.refuse_served(doubtful));
            }
            storage.confirm_served(doubtful, now);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
