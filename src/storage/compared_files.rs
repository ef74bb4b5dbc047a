//! Existing files that btsync reads and does not write to, although some of their pieces do not verify: the bytes of these pieces
//! go to the part file. Once all pieces are complete, the files are compared with these bytes. A wanted file that differs ends the
//! download; an unwanted one stays as it is, and its bytes stay in the part file.

use std::io;
use std::os::unix::fs::FileExt;

use crate::storage::CHUNK;
use crate::storage::check::check_pieces;
use crate::storage::error::{Operation, StorageError};
use crate::storage::files::Storage;
use crate::storage::ownership::{FileAction, Refusal};
use crate::storage::placement::{ComparedFile, PartRange};
use crate::storage::stop_check::StopCheck;
use crate::storage::survey::Survey;
use crate::types::{Bitfield, PieceIndex, Sha1Hash};

impl Storage {
    /// From now on, the part file holds the needed bytes of ignored files, and those `wanted` pieces of compared files that are not
    /// in `have`.
    pub fn redirect_to_part_file(
        &mut self,
        actions: &[FileAction],
        survey: &Survey,
        (have, wanted): (&Bitfield, &Bitfield),
    ) {
        for (file, action) in actions.iter().enumerate() {
            match action {
                FileAction::Ignore => self.placement.move_to_part_file(file),
                FileAction::Compare => {
                    let shared = self.placement.shared_pieces(&self.layout, file);
                    let is_lacking = |piece: PieceIndex| wanted.has(piece) && !have.has(piece);
                    let lacking: Vec<u32> = shared.filter(|piece| is_lacking(PieceIndex(*piece))).collect();
                    self.placement.compare(file, lacking.into_iter());
                }
                _ => {}
            }
        }
        if (self.placement.has_undecided() || actions.contains(&FileAction::Ignore))
            && let Some(part_file) = survey.part_file
        {
            self.placement.set_part_file_length(part_file.size);
        }
        self.close();
    }

    /// The pieces of compared files that verify with the files' own bytes, now that other files have got their bytes out of the part
    /// file. From now on, these pieces are read in place.
    ///
    /// # Errors
    /// Those of [`check_pieces`].
    pub fn verify_compared(
        &mut self,
        hashes: &[Sha1Hash],
        stop: &dyn StopCheck,
    ) -> Result<Vec<PieceIndex>, StorageError> {
        if self.placement.compared.is_empty() {
            return Ok(Vec::new());
        }
        let mut compared = std::mem::take(&mut self.placement.compared);
        let pieces = || compared.iter().flat_map(|compared| &compared.pieces).map(|piece| PieceIndex(*piece));
        let right = check_pieces(self, hashes, pieces(), stop);
        let verified: Vec<PieceIndex> =
            right.as_ref().map_or_else(|_| Vec::new(), |right| pieces().filter(|piece| right.has(*piece)).collect());
        for compared in &mut compared {
            compared.pieces.retain(|piece| !verified.contains(&PieceIndex(*piece)));
        }
        self.placement.compared = compared;
        right.map(|_| verified)
    }

    /// Once all pieces are complete: compares the files that were not written to with the data that peers sent. An unwanted file
    /// that differs stays as it is, and its bytes stay in the part file.
    ///
    /// # Errors
    /// [`StorageError::InTheWay`] with the first wanted file that differs; the system's error for a file that cannot be read.
    pub fn compare_undecided(&self) -> Result<(), StorageError> {
        if !self.placement.has_undecided() {
            return Ok(());
        }
        for compared in self.placement.compared.iter().filter(|compared| !compared.is_equal.is_set()) {
            if self.is_equal(compared)? {
                compared.is_equal.set(true);
            } else if self.wants(compared.file) {
                return Err(self.in_the_way(compared.file, Refusal::Differs));
            }
        }
        self.close();
        if !self.uses_part_file() {
            self.placement.set_part_file_length(0);
            self.remove_part_file();
        }
        Ok(())
    }

    /// Whether a file has the bytes that the part file has for it.
    fn is_equal(&self, ComparedFile { file, pieces, .. }: &ComparedFile) -> Result<bool, StorageError> {
        let mut bytes = vec![0; CHUNK];
        let mut theirs = vec![0; CHUNK];
        let start = self.layout.start_of(*file);
        let length = u64::from(self.layout.piece_length());
        let kept = self.placement.part_ranges(&self.layout, *file);
        for PartRange { within, len, .. } in
            kept.filter(|kept| pieces.contains(&(((start + kept.within) / length) as u32)))
        {
            for at in (0..len).step_by(CHUNK) {
                let count = (len - at).min(CHUNK as u64) as usize;
                let (ours, theirs) = (&mut bytes[..count], &mut theirs[..count]);
                self.read_exact_at(start + within + at, ours)?;
                let own = self.handle(*file, false)?;
                match own.file.read_exact_at(theirs, within + at) {
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && !self.wants(*file) => {
                        return Ok(false);
                    }
                    read => read.map_err(|error| self.failed(Operation::Read, *file, error))?,
                }
                if ours != theirs {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
