//! Metadata that is being put together, of one claimed size. What is reserved grows with what comes, not with what is claimed.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use sha1::{Digest, Sha1};

use crate::types::{InfoHash, PeerKey};
use crate::wire::metadata::{PIECE, piece_size, pieces};

/// The pieces so far.
#[derive(Debug)]
pub(crate) struct Assembly {
    pub size: u32,
    /// The one peer that fills it; `None` where all may.
    pub alone: Option<PeerKey>,
    /// The end of its turn: until then others do not push it out.
    pub until: Duration,
    /// How often it was dropped before its turn was over.
    pub drops: u32,
    pieces: BTreeMap<u32, (PeerKey, Box<[u8]>)>,
}

impl Assembly {
    pub(crate) fn new(size: u32, alone: Option<PeerKey>, until: Duration, drops: u32) -> Assembly {
        Assembly { size, alone, until, drops, pieces: BTreeMap::new() }
    }

    /// How many pieces it needs.
    pub(crate) fn count(&self) -> usize {
        pieces(self.size) as usize
    }

    /// How many it has.
    pub(crate) fn have(&self) -> usize {
        self.pieces.len()
    }

    /// Whether it has this one.
    pub(crate) fn has(&self, piece: u32) -> bool {
        self.pieces.contains_key(&piece)
    }

    /// How many bytes it has.
    pub(crate) fn held(&self) -> usize {
        self.pieces.len() * PIECE as usize
    }

    /// Takes a piece; false where it has it already, or the piece cannot be.
    pub(crate) fn put(&mut self, piece: u32, from: PeerKey, bytes: &[u8]) -> bool {
        if piece_size(self.size, piece) != u32::try_from(bytes.len()).ok() || self.pieces.contains_key(&piece) {
            return false;
        }
        self.pieces.insert(piece, (from, bytes.into()));
        true
    }

    /// All of it, where the hash is right; otherwise who gave it.
    pub(crate) fn finish(self, info_hash: &InfoHash) -> Result<Vec<u8>, HashSet<PeerKey>> {
        let mut hash = Sha1::new();
        self.pieces.values().for_each(|(_, bytes)| hash.update(bytes));
        if hash.finalize()[..] == info_hash.0 {
            Ok(self.pieces.into_values().flat_map(|(_, bytes)| bytes).collect())
        } else {
            Err(self.pieces.into_values().map(|(from, _)| from).collect())
        }
    }
}
