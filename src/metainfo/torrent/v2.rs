//! The v2 half of a torrent (BEP 52): which file has which tree of hashes, and whether it describes the same files as the v1 half.

use std::ops::Range;

use crate::hash::merkle;
use crate::metainfo::V2_PIECES_MAX;
use crate::metainfo::decode::{DecodedFile, DecodedPath, EntryKind};
use crate::metainfo::error::MetainfoError;
use crate::metainfo::paths;
use crate::metainfo::torrent::FileEntry;
use crate::types::{BLOCK_SIZE, PieceIndex, Sha256Hash};

/// The hashes of a torrent's v2 half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct V2Hashes {
    piece_length: u32,
    files: Vec<FileRoot>,
    /// The known piece layers, one after the other.
    layers: Vec<Sha256Hash>,
}

/// The tree of a file with data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRoot {
    /// The file, as an index into [`Metainfo::files`](crate::metainfo::Metainfo::files).
    pub file: u32,
    /// The length of the file in bytes; not 0.
    pub length: u64,
    /// The hash at the top of the tree.
    pub root: Sha256Hash,
    /// The pieces of the file, which have data of no other file.
    pub pieces: Range<u32>,
    /// Where in `V2Hashes::layers` the hashes of the pieces begin, if there are several pieces and their hashes are known.
    pub(super) layer: Option<u32>,
}

impl V2Hashes {
    /// The hashes of these files, whose roots are in the same order, without piece layers.
    pub(super) fn new(
        piece_length: u32,
        files: &[FileEntry],
        roots: Vec<Sha256Hash>,
    ) -> Result<V2Hashes, MetainfoError> {
        let with_data = (0..).zip(files).filter(|(_, file)| !file.is_virtual && file.length > 0);
        let (mut first, mut trees) = (0_u64, Vec::with_capacity(roots.len()));
        for ((file, entry), root) in with_data.zip(roots) {
            let end = first.saturating_add(entry.length.div_ceil(u64::from(piece_length)));
            if end > u64::from(V2_PIECES_MAX) {
                return Err(MetainfoError::TooManyPieces);
            }
            trees.push(FileRoot { file, length: entry.length, root, pieces: first as u32..end as u32, layer: None });
            first = end;
        }
        Ok(V2Hashes { piece_length, files: trees, layers: Vec::new() })
    }

    /// The files with data, in order.
    pub fn files(&self) -> &[FileRoot] {
        &self.files
    }

    pub(super) fn files_mut(&mut self) -> (&mut [FileRoot], &mut Vec<Sha256Hash>) {
        (&mut self.files, &mut self.layers)
    }

    /// The number of pieces.
    pub fn piece_count(&self) -> u32 {
        self.files.last().map_or(0, |file| file.pieces.end)
    }

    /// The file that has this piece.
    pub fn file_of(&self, piece: PieceIndex) -> Option<&FileRoot> {
        let index = self.files.partition_point(|file| file.pieces.end <= piece.0);
        self.files.get(index).filter(|file| file.pieces.contains(&piece.0))
    }

    /// The hashes of a file's pieces; `None` if they are not known. For a file of one piece, that is its root.
    pub fn layer<'a>(&'a self, file: &'a FileRoot) -> Option<&'a [Sha256Hash]> {
        if file.pieces.len() == 1 {
            return Some(std::slice::from_ref(&file.root));
        }
        let start = file.layer? as usize;
        self.layers.get(start..start + file.pieces.len())
    }

    /// The length of the data in a piece; 0 if there is no such piece.
    pub fn data_length(&self, piece: PieceIndex) -> u32 {
        self.file_of(piece).map_or(0, |file| file.data_length(piece, self.piece_length))
    }

    /// The hash of one of the file's pieces, from the hashes of its blocks.
    pub fn piece_hash(&self, file: &FileRoot, leaves: Vec<Sha256Hash>) -> Sha256Hash {
        let width = if file.pieces.len() == 1 { leaves.len().next_power_of_two() } else { self.blocks_per_piece() };
        merkle::root(leaves, 0, width)
    }

    /// The root of a file, from the hashes of all its pieces.
    pub fn root(&self, file: &FileRoot, layer: Vec<Sha256Hash>) -> Sha256Hash {
        if file.pieces.len() == 1 {
            return layer.first().copied().unwrap_or_default();
        }
        layer_root(self.blocks_per_piece(), layer)
    }

    fn blocks_per_piece(&self) -> usize {
        (self.piece_length / BLOCK_SIZE) as usize
    }
}

impl FileRoot {
    /// The length of the data in one of the file's pieces.
    fn data_length(&self, piece: PieceIndex, piece_length: u32) -> u32 {
        let before = u64::from(piece.0 - self.pieces.start) * u64::from(piece_length);
        (self.length - before).min(u64::from(piece_length)) as u32
    }
}

/// The root above the hashes of several pieces of this many blocks.
pub(crate) fn layer_root(blocks_per_piece: usize, layer: Vec<Sha256Hash>) -> Sha256Hash {
    let width = layer.len().next_power_of_two();
    merkle::root(layer, blocks_per_piece.ilog2() as usize, width)
}

/// Inserts padding into the files of a v2-only torrent, so that each file with data starts at a piece.
pub(super) fn with_gaps(files: Vec<DecodedFile>, piece_length: u32) -> Vec<DecodedFile> {
    let last = files.iter().rposition(|file| file.length > 0).unwrap_or(0);
    let mut padded = Vec::with_capacity(files.len() * 2);
    for (index, file) in files.into_iter().enumerate() {
        let length = file.length.next_multiple_of(u64::from(piece_length)) - file.length;
        padded.push(file);
        if length > 0 && index < last {
            padded.push(DecodedFile { path: format!(".pad/{length}"), original: None, length, kind: EntryKind::Pad });
        }
    }
    padded
}

/// The file of a single-file torrent's v1 half.
pub(super) fn single_file(name: &[u8], length: u64) -> Result<DecodedFile, MetainfoError> {
    let mut path = DecodedPath::default();
    path.push_component(name, 1)?;
    let DecodedPath { safe, original, .. } = path;
    Ok(DecodedFile { path: safe, original: original.map(Box::new), length, kind: EntryKind::File })
}

/// Checks that both halves of a hybrid torrent have the same files in the same order, and that the v1 half has each file with data
/// at the piece at which the v2 half has it.
pub(super) fn compare_halves(v1: &[DecodedFile], v2: &[DecodedFile], piece_length: u32) -> Result<(), MetainfoError> {
    let differ = |why: String| Err(MetainfoError::HalvesDiffer(why));
    let is_file = |file: &&DecodedFile| matches!(file.kind, EntryKind::File | EntryKind::Executable);
    let (mut offset, mut expected) = (0_u64, 0_u64);
    let mut others = v2.iter().filter(is_file);
    for file in v1 {
        let start = offset;
        offset += file.length;
        if !is_file(&file) {
            continue;
        }
        let path = || paths::shortened(&file.path);
        let Some(other) = others.next() else {
            return differ(format!("only the v1 half has `{}`", path()));
        };
        if (&file.path, &file.original) != (&other.path, &other.original) {
            return differ(format!("`{}` in one is `{}` in the other", path(), paths::shortened(&other.path)));
        }
        if file.length != other.length {
            return differ(format!("`{}` has {} bytes in one and {} in the other", path(), file.length, other.length));
        }
        if file.length == 0 {
            continue;
        }
        if start != expected {
            return differ(format!("in the v1 half, `{}` does not start at its piece", path()));
        }
        expected = offset.next_multiple_of(u64::from(piece_length));
    }
    if let Some(other) = others.next() {
        return differ(format!("only the v2 half has `{}`", paths::shortened(&other.path)));
    }
    // Padding at the end must not add a piece.
    if offset > expected {
        return differ("the v1 half has more pieces".to_owned());
    }
    Ok(())
}
