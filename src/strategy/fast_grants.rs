//! How much choked peers may have of our upload (BEP 6). The allowed fast pieces of a peer help it to its first pieces; they are no
//! way around the choker.
//!
//! Each host gets every block of its allowed fast pieces twice in ten minutes, over however many connections
//! ([`HostQuota`](crate::strategy::HostQuota), [`grant`]). All choked peers of a torrent together get what one upload slot gets
//! ([`choked_share`]).

use crate::strategy::allowed_fast::SET_SIZE;
use crate::types::BLOCK_SIZE;

/// The size of an allowed fast set in bytes: with large pieces, the set has fewer pieces, but at least one.
const MAX_SET_BYTES: u32 = 8 << 20;
/// The bytes a second for all choked peers while no peer with a slot gets any…
pub const IDLE_CHOKED_SHARE: u64 = 1 << 20;
/// … and at least. A low upload limit leaves them less.
const MIN_CHOKED_SHARE: u64 = 32 * 1024;

/// How many pieces the allowed fast set of a torrent with pieces of this size has.
pub fn set_size(piece_length: u32) -> u32 {
    SET_SIZE.min((MAX_SET_BYTES / piece_length.max(1)).max(1))
}

/// How many blocks a host may have of a torrent with pieces of this size: each block of its set once, and as many again for those
/// that get lost.
pub fn grant(piece_length: u32) -> u32 {
    2 * piece_length.div_ceil(BLOCK_SIZE).saturating_mul(set_size(piece_length))
}

/// The bytes a second that all choked peers together may have: as many as an upload slot gets on average. `rates` are those of the
/// peers with a slot, `limit` is the upload limit (0 for none) and `slots` the number of slots.
pub fn choked_share(rates: impl Iterator<Item = u64>, limit: u64, slots: usize) -> u64 {
    let (sum, count) = rates.filter(|rate| *rate > 0).fold((0, 0), |(sum, count), rate| (sum + rate, count + 1));
    let share = sum.checked_div(count).map_or(IDLE_CHOKED_SHARE, |mean: u64| mean.max(MIN_CHOKED_SHARE));
    if limit == 0 { share } else { share.min(limit / (slots as u64 + 1)).max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_pieces_make_small_sets() {
        for (piece_length, pieces) in [(16 << 10, 10), (1 << 20, 8), (8 << 20, 1), (64 << 20, 1), (0, 10)] {
            assert_eq!(set_size(piece_length), pieces);
        }
        assert_eq!([4 * BLOCK_SIZE, u32::MAX].map(grant), [80, 2 * (u32::MAX / BLOCK_SIZE + 1)]);
    }

    #[test]
    fn all_choked_peers_have_what_a_slot_has() {
        let share = |rates: &[u64], limit, slots| choked_share(rates.iter().copied(), limit, slots);
        assert_eq!(share(&[], 0, 4), IDLE_CHOKED_SHARE);
        assert_eq!(share(&[1 << 20, 3 << 20, 0], 0, 4), 2 << 20);
        assert_eq!(share(&[1000], 0, 4), MIN_CHOKED_SHARE);
        assert_eq!(share(&[50_000; 4], 200_000, 4), 40_000);
        assert_eq!(share(&[], 3, 4), 1, "a low limit leaves them little");
    }
}
