//! What has to be hashed or forgotten once it is decided what to do with each file: bytes may be in other places now.

use crate::storage::{self, FileAction};
use crate::torrent::TorrentError;
use crate::torrent::open_files::FileOpener;
use crate::torrent::resume_store::ResumeStore;
use crate::types::{BLOCK_SIZE, Bitfield, PieceIndex};

impl FileOpener<'_> {
    /// Forgets the blocks of an earlier run that are of no use: in pieces that are complete, in files whose bytes are in other
    /// places now, and beyond the end of a file.
    pub(crate) fn drop_useless_resumed_blocks(
        &self,
        resume_store: &mut ResumeStore,
        actions: &[FileAction],
        have: &Bitfield,
    ) {
        let layout = self.storage.layout();
        let stays = |file: usize| matches!(actions.get(file), Some(FileAction::Leave | FileAction::Continue));
        resume_store.retain_resumed_blocks(|piece, block| {
            let begin = block * BLOCK_SIZE;
            let length = u64::from(layout.piece_size(piece).saturating_sub(begin).min(BLOCK_SIZE));
            let offset = layout.offset(piece, begin);
            let mut spans = layout.spans(offset, length);
            !have.has(piece) && spans.all(|span| stays(span.file)) && self.storage.covers(offset, length)
        });
    }

    /// Hashes the missing pieces of these files, and all pieces of `ignored` files, whose bytes are in other places now.
    pub(crate) fn recheck<'b>(
        &self,
        files: impl Iterator<Item = &'b usize>,
        ignored: &[usize],
        have: &mut Bitfield,
    ) -> Result<(), TorrentError> {
        let layout = self.storage.layout();
        for piece in ignored.iter().flat_map(|file| layout.pieces_of(*file)) {
            have.clear(PieceIndex(piece));
        }
        let missing = files.flat_map(|file| layout.pieces_of(*file)).map(PieceIndex).filter(|piece| !have.has(*piece));
        let missing: Vec<PieceIndex> = missing.collect();
        if !missing.is_empty() {
            let pieces = missing.iter().copied();
            let right = storage::check_pieces(&self.storage, &self.metainfo.pieces, pieces, &*self.inner.run)?;
            missing.into_iter().filter(|piece| right.has(*piece)).for_each(|piece| _ = have.set(piece));
        }
        Ok(())
    }
}
