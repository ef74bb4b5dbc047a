//! Whether an existing file is one that another client has begun, as that client's resume data says: a file of the user's may have
//! taken its name since.

use std::ops::Range;

use rustix::fs::OFlags;

use crate::storage::check::check_pieces;
use crate::storage::files::Storage;
use crate::storage::stop_check::StopCheck;
use crate::storage::survey::has_data;
use crate::types::{BLOCK_SIZE, PieceIndex, Sha1Hash};

const BLOCK: u64 = BLOCK_SIZE as u64;
/// At most this many pieces of a file are hashed, spread evenly from the first to the last one that the client has.
const MAX_PIECES: usize = 64;
/// At most this many missing blocks of a file are examined.
const MAX_GAPS: usize = 8;

impl Storage {
    /// Whether a file has the content that another client says it has written: all of its complete pieces verify that are examined.
    /// A single wrong one shows that the file has changed since, and then it is treated as a file of the user's. If it has no
    /// complete piece, each of its blocks must hold data, and a block that it lacks must not. `have` are ranges of the torrent's
    /// bytes, in order, that neither overlap nor touch.
    pub fn has_begun_content(
        &self,
        file: usize,
        have: &[Range<u64>],
        hashes: &[Sha1Hash],
        stop: &dyn StopCheck,
    ) -> bool {
        let piece_length = u64::from(self.layout.piece_length());
        let has_piece = |piece: u32| {
            let start = u64::from(piece) * piece_length;
            let end = start + u64::from(self.layout.piece_size(PieceIndex(piece)));
            let range = have.get(have.partition_point(|range| range.end < end));
            range.is_some_and(|range| range.start <= start && end <= range.end)
        };
        let complete: Vec<u32> = self.layout.pieces_of(file).filter(|piece| has_piece(*piece)).collect();
        let pieces: Vec<PieceIndex> = spread(&complete).map(PieceIndex).collect();
        if !pieces.is_empty() {
            let checked = check_pieces(self, hashes, pieces.iter().copied(), stop);
            return checked.is_ok_and(|right| pieces.iter().all(|piece| right.has(*piece)));
        }
        self.has_data_only_in(file, have, stop).unwrap_or(false)
    }

    /// Whether all blocks of a file in `have` hold data, and one that is not in `have` holds none.
    fn has_data_only_in(&self, file: usize, have: &[Range<u64>], stop: &dyn StopCheck) -> std::io::Result<bool> {
        let opened = self.root.open_own(self.name(file), OFlags::RDONLY)?;
        let size = opened.metadata()?.len();
        let start = self.layout.start_of(file);
        let end = start + self.layout.files().get(file).map_or(0, |spec| spec.length);
        let (mut gap_start, mut gaps) = (start, Vec::new());
        for range in have.iter().filter(|range| range.start < end && range.end > start) {
            let mut at = range.start.max(start);
            gaps.push(gap_start..at);
            gap_start = range.end;
            while at < range.end.min(end) {
                let upto = ((at / BLOCK + 1) * BLOCK).min(range.end).min(end);
                if upto - start > size || !has_data(&opened, at - start, upto - start, stop)? {
                    return Ok(false);
                }
                at = upto;
            }
        }
        gaps.push(gap_start..end);
        // The first whole block of each gap; a client that does not allocate space ends its file with a block.
        for gap in gaps.into_iter().filter(|gap| gap.start < gap.end).take(MAX_GAPS) {
            let from = gap.start.next_multiple_of(BLOCK);
            let upto = (from + BLOCK).min(end);
            if gap.start - start == size {
                return Ok(true);
            }
            if upto <= gap.end
                && from < upto
                && upto - start <= size
                && !has_data(&opened, from - start, upto - start, stop)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// At most [`MAX_PIECES`] of these, with the first and the last.
fn spread(all: &[u32]) -> impl Iterator<Item = u32> {
    let (count, last) = (all.len().min(MAX_PIECES), all.len().saturating_sub(1));
    (0..count).filter_map(move |number| all.get(number * last / count.saturating_sub(1).max(1)).copied())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::AtomicBool;

    use sha1::{Digest as _, Sha1};

    use super::*;
    use crate::storage::{FileSpec, Layout};

    static GO_ON: AtomicBool = AtomicBool::new(false);

    #[expect(clippy::single_range_in_vec_init, reason = "the other client has one range")]
    #[test]
    fn a_file_is_begun_if_its_pieces_verify_or_if_it_has_data_where_the_client_has_blocks_only() {
        let temp = tempfile::tempdir().expect("a folder");
        let content: Vec<u8> = (0..131_072_u32).map(|at| (at % 251) as u8 + 1).collect();
        let hashes: Vec<Sha1Hash> = content.chunks(65_536).map(|piece| Sha1::digest(piece).into()).collect();
        let files = vec![FileSpec { path: "a".into(), length: 131_072, is_pad: false }];
        let layout = Layout::new(65_536, files).expect("a layout");
        let storage = Storage::new(temp.path().to_owned(), layout, 4);
        let block = 16_384;
        let begun = [&content[..65_536 + block], &vec![0; 65_536 - block]].concat();
        let users = vec![b'u'; 131_072];
        let sparse = [&content[..block], &vec![0; 131_072 - block]].concat();
        for (file, have, is_begun) in [
            (&begun[..], &[0..81_920][..], true),
            (&content, &[0..131_072], true),
            // The user's version, which begins like the torrent's file.
            (&begun, &[0..131_072], false),
            (&content[..65_536], &[0..131_072], false),
            (&users, &[0..81_920], false),
            (&sparse, &[0..16_384], true),
            (&sparse, &[16_384..32_768], false),
            (&content[..block], &[0..16_384], true),
            (&content[..=block], &[0..16_384], false),
            (&users, &[0..16_384], false),
            (&vec![0; 131_072], &[0..16_384], false),
            (&[], &[0..16_384], false),
            (&[], &[0..65_536], false),
        ] {
            fs::write(temp.path().join("a"), file).expect("written");
            assert_eq!(storage.has_begun_content(0, have, &hashes, &GO_ON), is_begun, "{have:?} {}", file.len());
        }
    }

    #[test]
    fn the_pieces_that_are_examined_are_spread_over_the_file() {
        let spread = |count: u32| spread(&(0..count).collect::<Vec<_>>()).collect::<Vec<_>>();
        assert_eq!((spread(0), spread(1), spread(3)), (vec![], vec![0], vec![0, 1, 2]));
        let some = spread(100_000);
        assert_eq!((some.len(), some.first(), some.last()), (MAX_PIECES, Some(&0), Some(&99_999)));
        assert!(some.windows(2).all(|pair| pair[1] - pair[0] >= 1_587));
    }
}
