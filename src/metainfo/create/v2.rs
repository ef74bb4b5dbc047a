//! The v2 half of a new torrent (BEP 52): its file tree and its piece layers.

use crate::bencode::encode;
use crate::metainfo::source_files::CreateEntry;
use crate::metainfo::torrent::encode_layers;
use crate::metainfo::torrent::v2::layer_root;
use crate::types::{BLOCK_SIZE, Sha256Hash};

/// A file of a new torrent.
pub(super) struct RootedFile<'a> {
    entry: &'a CreateEntry,
    /// The top of its tree; `None` if the file is empty.
    root: Option<Sha256Hash>,
    /// The hashes of its pieces, if there are several.
    layer: Vec<Sha256Hash>,
}

/// The files with the roots of their trees, from the hashes of all pieces, in order.
pub(super) fn rooted(files: &[CreateEntry], piece_length: u32, hashes: Vec<Sha256Hash>) -> Vec<RootedFile<'_>> {
    let mut hashes = hashes.into_iter();
    let rooted = files.iter().map(|entry| {
        let count = entry.length.div_ceil(u64::from(piece_length)) as usize;
        let pieces: Vec<Sha256Hash> = hashes.by_ref().take(count).collect();
        match pieces.as_slice() {
            [] => RootedFile { entry, root: None, layer: Vec::new() },
            [root] => RootedFile { entry, root: Some(*root), layer: Vec::new() },
            _ => {
                let root = layer_root((piece_length / BLOCK_SIZE) as usize, pieces.clone());
                RootedFile { entry, root: Some(root), layer: pieces }
            }
        }
    });
    rooted.collect()
}

/// The same files, with padding behind every file that does not end at a piece boundary, as libtorrent arranges hybrid torrents:
/// also behind the last one, unless it is the only one.
pub(super) fn padded_behind(files: &[CreateEntry], piece_length: u32) -> Vec<CreateEntry> {
    let mut padded = Vec::with_capacity(files.len() * 2);
    for file in files {
        padded.push(file.clone());
        let length = file.length.next_multiple_of(u64::from(piece_length)) - file.length;
        if length > 0 && files.len() > 1 {
            padded.push(CreateEntry::pad(length));
        }
    }
    padded
}

/// Appends the `file tree` of files that are sorted by their paths; `name` is that of a single file.
pub(super) fn encode_tree(out: &mut Vec<u8>, name: &str, files: &[RootedFile<'_>]) {
    let mut folders: &[String] = &[];
    out.push(b'd');
    for file in files {
        let parts = file.entry.parts.as_slice();
        let (above, own) = parts.split_at(parts.len().saturating_sub(1));
        let shared = folders.iter().zip(above).take_while(|(one, other)| one == other).count();
        out.resize(out.len() + folders.len() - shared, b'e');
        for folder in &above[shared..] {
            encode::bytes(out, folder.as_bytes());
            out.push(b'd');
        }
        folders = above;
        encode::bytes(out, own.first().map_or(name, String::as_str).as_bytes());
        encode_file(out, file);
    }
    out.resize(out.len() + folders.len(), b'e');
    out.push(b'e');
}

fn encode_file(out: &mut Vec<u8>, file: &RootedFile<'_>) {
    out.push(b'd');
    encode::bytes(out, b"");
    out.push(b'd');
    encode::bytes(out, b"length");
    encode::int(out, file.entry.length);
    if let Some(root) = &file.root {
        encode::bytes(out, b"pieces root");
        encode::bytes(out, root);
    }
    out.extend_from_slice(b"ee");
}

/// The `piece layers` of the files with several pieces.
pub(super) fn encode_piece_layers(files: &[RootedFile<'_>]) -> Vec<u8> {
    let large = files.iter().filter(|file| !file.layer.is_empty());
    let mut layers: Vec<_> = large.filter_map(|file| Some((file.root.as_ref()?, file.layer.as_slice()))).collect();
    layers.sort_unstable();
    // Equal files have the same layer.
    layers.dedup();
    encode_layers(&layers)
}
