//! Fields of the picker that belong together.

use std::collections::HashSet;
use std::time::Duration;

use crate::strategy::picker::choose::RankedBlock;
use crate::strategy::picker::{PickContext, PickerPeer, PiecePriorities, Speed};
use crate::types::{Bitfield, PeerKey, PieceIndex};

/// Sizes in bytes.
pub(super) struct PickerBytes {
    /// Of the pieces that are wanted and not verified.
    pub(super) missing_wanted: u64,
    /// Of all unverified pieces.
    pub(super) missing: u64,
    /// Of all wanted pieces.
    pub(super) wanted: u64,
}

/// The order of pieces that the plan and the user prescribe.
#[derive(Default)]
pub(super) struct PieceSequence {
    /// Lacking pieces that somebody waits for, most urgent first. They come before those of `early`.
    pub(super) urgent: Vec<PieceIndex>,
    /// Lacking pieces that come before all others.
    pub(super) early: Vec<PieceIndex>,
    /// Which of the rest come before others.
    pub(super) priorities: Option<PiecePriorities>,
    /// Whether the rest is picked in ascending order within each priority.
    pub(super) is_sequential: bool,
}

/// Where blocks of begun pieces can be requested.
#[derive(Default)]
pub(super) struct FreeBlocks {
    /// Begun pieces with free blocks, unordered.
    pub(super) open: Vec<PieceIndex>,
    /// How many of them have no owner.
    pub(super) orphans: u32,
    /// The number of expired blocks in all begun pieces.
    pub(super) expired: u32,
}

/// Buffers that are kept between calls to avoid allocations.
#[derive(Default)]
pub(super) struct PickBuffers {
    pub(super) duplicates: Vec<RankedBlock>,
    pub(super) touched: Vec<PieceIndex>,
}

impl PickerPeer {
    /// A peer that has just connected. `bits` is empty, unless the torrent has no piece.
    pub(super) fn new(key: PeerKey, bits: Bitfield) -> PickerPeer {
        PickerPeer {
            key,
            bits,
            wanted_until: 0,
            has_no_unbegun: false,
            pick_context: PickContext::unproven(Duration::ZERO, Speed::Fast),
            last: None,
            own: Vec::new(),
            taken_back: HashSet::new(),
            sent_blocks: 0,
            is_serving: false,
            is_web_seed: false,
            has_lost_piece: false,
        }
    }

    /// Whether the order counts it as a seed, and not piece by piece.
    pub(super) fn counts_as_seed(&self) -> bool {
        self.bits.is_full() && !self.has_lost_piece
    }
}
