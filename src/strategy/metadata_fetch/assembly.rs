//! Metadata of one claimed size that is being assembled. Memory grows with the bytes received, not with the size claimed.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use sha1::{Digest, Sha1};

use crate::types::{InfoHash, PeerKey};
use crate::wire::metadata::{PIECE, piece_size, pieces};

/// The pieces received so far.
#[derive(Debug)]
pub(crate) struct Assembly {
    pub size: u32,
    /// The only peer that fills it; `None` if all peers with this size may.
    pub only_source: Option<PeerKey>,
    /// The end of its turn, before which it is not dropped in favour of others.
    pub safe_until: Duration,
    /// How often it was dropped before its turn was over.
    pub drops: u32,
    pieces: BTreeMap<u32, (PeerKey, Box<[u8]>)>,
}

impl Assembly {
    pub(crate) fn new(size: u32, only_source: Option<PeerKey>, safe_until: Duration, drops: u32) -> Assembly {
        Assembly { size, only_source, safe_until, drops, pieces: BTreeMap::new() }
    }

    /// The number of pieces needed.
    pub(crate) fn count(&self) -> usize {
        pieces(self.size) as usize
    }

    /// The number of pieces received.
    pub(crate) fn have(&self) -> usize {
        self.pieces.len()
    }

    /// Whether this piece was received.
    pub(crate) fn has(&self, piece: u32) -> bool {
        self.pieces.contains_key(&piece)
    }

    /// The bytes received.
    pub(crate) fn held(&self) -> usize {
        self.pieces.len() * PIECE as usize
    }

    /// Stores a piece. Returns false if the assembly has it already or its length is wrong.
    pub(crate) fn put(&mut self, piece: u32, from: PeerKey, bytes: &[u8]) -> bool {
        if piece_size(self.size, piece) != u32::try_from(bytes.len()).ok() || self.pieces.contains_key(&piece) {
            return false;
        }
        self.pieces.insert(piece, (from, bytes.into()));
        true
    }

    /// Returns the metadata if its hash is right, otherwise the senders of its pieces.
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
