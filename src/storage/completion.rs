//! What is done when files are complete: a look whether they are all there, and what becomes of the marker (`marker.rs`): they are struck from it, as what is done to them from then on is the
//! user's doing.

use crate::storage::error::{Operation, StorageError};
use crate::storage::files::Storage;
use crate::storage::marker::{self, Marker, marker_name};
use crate::types::{Bitfield, InfoHash, PieceIndex};

impl Storage {
    /// Gives up the right to write, where all that was wanted is there. The marker goes; where it names files of which not every piece
    /// is in `have`, as this run did not want them, it stays for these alone.
    pub fn finish(&self, have: &Bitfield) {
        let mut marker = self.marker.clone().unwrap_or_default();
        self.strike_complete(&mut marker, have);
        self.release(Some(marker));
    }

    /// Looks whether every file is still where it was and as long as it must be: one that was deleted or replaced while it was open
    /// takes writes as before. For when all that is wanted is there; files that are not wanted may be missing.
    ///
    /// # Errors
    /// What the system says, or of kind `StorageErrorKind::Missing`, about the first that is not.
    pub fn check_files_in_place(&self) -> Result<(), StorageError> {
        self.confirm_unless(&|| false).map(|_| ())
    }

    /// The same; `false` where `is_over` becomes true first, as there may be very many files.
    ///
    /// # Errors
    /// As [`Storage::check_files_in_place`].
    pub fn confirm_unless(&self, is_over: &dyn Fn() -> bool) -> Result<bool, StorageError> {
        let files = self.layout.files().iter().enumerate().filter(|(_, spec)| !spec.pad);
        let wanted = files.filter(|(file, _)| self.wants(*file)).map(|(file, spec)| (file, spec.length));
        let parts = Some((self.layout.files().len(), self.selection.end())).filter(|(_, end)| *end > 0);
        for (slot, length) in wanted.chain(parts) {
            if is_over() {
                return Ok(false);
            }
            let there =
                self.root.metadata(self.name(slot)).map_err(|error| self.failed(Operation::Open, slot, error))?;
            if there.len() < length {
                return Err(self.too_short(slot));
            }
            self.check_not_replaced(slot, &there)?;
        }
        Ok(true)
    }

    /// Strikes the files that are complete from the marker of a download that was complete before it could do so itself. What is in
    /// the way is no trouble, as a complete download needs no write.
    pub fn clear_marker(&mut self, info_hash: &InfoHash, have: &Bitfield) {
        if self.is_locked() || (self.names_complete(info_hash, have) && self.lock(info_hash).is_ok()) {
            self.clear_locked(info_hash, have);
        }
    }

    /// The same with the marker that was just locked, and gives up the right to write. Until then another process may have put another
    /// marker there.
    pub(crate) fn clear_locked(&mut self, info_hash: &InfoHash, have: &Bitfield) {
        self.marker = self.read_marker(info_hash);
        if self.names_complete(info_hash, have) {
            self.finish(have);
        }
        self.lock = None;
    }

    /// Whether there is a marker that names a file that is complete, or none.
    fn names_complete(&self, info_hash: &InfoHash, have: &Bitfield) -> bool {
        match self.read_marker(info_hash) {
            Some(mut marker) => self.strike_complete(&mut marker, have) || marker.made.is_empty(),
            // An empty one could not be removed when the download was complete.
            None => self.root.metadata(&marker_name(info_hash)).is_ok_and(|found| found.is_file() && found.len() == 0),
        }
    }

    /// Whether the marker named any file of which all pieces are there.
    fn strike_complete(&self, marker: &mut Marker, have: &Bitfield) -> bool {
        let files = self.layout.files().iter().enumerate().filter(|(_, spec)| !spec.pad);
        let complete = files.filter(|(number, _)| self.layout.pieces_of(*number).all(|it| have.has(PieceIndex(it))));
        let any = complete.fold(false, |any, (_, spec)| marker.strike(&spec.path) || any);
        // The part file alone is known by its pieces.
        let parts = marker::place(self.selection.name());
        if marker.made.keys().all(|place| *place == parts) {
            marker.made.clear();
        }
        any
    }
}
