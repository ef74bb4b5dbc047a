//! Reads the `piece layers` of a torrent file (BEP 52). All that are there must be right; the others can come from peers.

use std::collections::HashMap;

use crate::bencode::scan::{Scanner, ValueStart};
use crate::bencode::{encode, validate::FILE_DEPTH};
use crate::metainfo::error::MetainfoError;
use crate::metainfo::torrent::v2::V2Hashes;
use crate::types::Sha256Hash;

impl V2Hashes {
    /// Takes over the piece layers that this bencoded dictionary has.
    pub(super) fn read_layers(&mut self, bytes: &[u8]) -> Result<(), MetainfoError> {
        let mut found = split(bytes)?;
        let mut proved: HashMap<Sha256Hash, u32> = HashMap::new();
        let mut has_layer = vec![None; self.files().len()];
        let mut hashes = Vec::new();
        for (file, has_layer) in self.files().iter().zip(&mut has_layer).filter(|(file, _)| file.pieces.len() > 1) {
            let Some(layer) = found.get_mut(&file.root) else { continue };
            if layer.hashes.len() != file.pieces.len() {
                return Err(MetainfoError::PieceLayers("have a layer whose length does not fit its file"));
            }
            *has_layer = match proved.get(&file.root) {
                Some(start) => Some(*start),
                None if self.root(file, layer.hashes.to_vec()) == file.root => {
                    let start = hashes.len() as u32;
                    hashes.extend_from_slice(layer.hashes);
                    proved.insert(file.root, start);
                    Some(start)
                }
                None => {
                    return Err(MetainfoError::PieceLayers("have a layer that does not lead to the root of its file"));
                }
            };
            layer.is_used = true;
        }
        if found.values().any(|layer| !layer.is_used) {
            return Err(MetainfoError::PieceLayers("have a layer of no file of several pieces"));
        }
        let (files, layers) = self.files_mut();
        files.iter_mut().zip(has_layer).for_each(|(file, layer)| file.layer = layer);
        *layers = hashes;
        Ok(())
    }

    /// The known piece layers as a bencoded dictionary; `None` if there are none although files need them.
    pub(super) fn layers_to_bytes(&self) -> Option<Vec<u8>> {
        let large = || self.files().iter().filter(|file| file.pieces.len() > 1);
        let mut known: Vec<_> = large().filter_map(|file| Some((&file.root, self.layer(file)?))).collect();
        if known.is_empty() && large().next().is_some() {
            return None;
        }
        known.sort_unstable_by_key(|(root, _)| *root);
        known.dedup_by_key(|(root, _)| *root);
        Some(encode_layers(&known))
    }
}

/// The bencoded dictionary of these layers, which are sorted by root.
pub(crate) fn encode_layers(layers: &[(&Sha256Hash, &[Sha256Hash])]) -> Vec<u8> {
    let mut out = vec![b'd'];
    for (root, layer) in layers {
        encode::bytes(&mut out, *root);
        encode::bytes(&mut out, layer.as_flattened());
    }
    out.push(b'e');
    out
}

/// A layer in the bytes of the dictionary.
struct FoundLayer<'a> {
    hashes: &'a [Sha256Hash],
    /// Whether a file has it.
    is_used: bool,
}

/// The layers by their root.
fn split(bytes: &[u8]) -> Result<HashMap<Sha256Hash, FoundLayer<'_>>, MetainfoError> {
    let mut scanner = Scanner::new(bytes, FILE_DEPTH);
    let mut layers = HashMap::new();
    if scanner.value()? != ValueStart::Dict {
        return Err(MetainfoError::PieceLayers("are not a dictionary"));
    }
    while let Some(key) = scanner.key()? {
        let root = Sha256Hash::try_from(key).map_err(|_| MetainfoError::PieceLayers("have a key that is no root"))?;
        let ValueStart::Bytes(length) = scanner.value()? else {
            return Err(MetainfoError::PieceLayers("have a layer that is not a string"));
        };
        let start = scanner.position();
        scanner.skip(ValueStart::Bytes(length))?;
        let (hashes, rest) = bytes.get(start..start + length).unwrap_or_default().as_chunks();
        if !rest.is_empty() {
            return Err(MetainfoError::PieceLayers("have a layer whose length is not a multiple of 32"));
        }
        layers.insert(root, FoundLayer { hashes, is_used: false });
    }
    Ok(layers)
}
