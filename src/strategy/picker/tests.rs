//! One test per rule of the picker.

mod end_game;
mod plan;
mod swarm;
mod urgent;
mod web_seed;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::*;
use crate::types::PieceState;

pub(crate) const A: PeerKey = PeerKey(1);
pub(crate) const B: PeerKey = PeerKey(2);
pub(crate) const C: PeerKey = PeerKey(3);
const D: PeerKey = PeerKey(4);

impl Picker {
    pub(crate) fn take(&mut self, key: PeerKey, n: usize, fast: bool) -> Vec<BlockInfo> {
        let speed = if fast { Speed::Fast } else { Speed::Slow };
        self.take_as(key, n, proven(speed))
    }

    pub(crate) fn take_as(&mut self, key: PeerKey, n: usize, pick_context: PickContext) -> Vec<BlockInfo> {
        let mut out = Vec::new();
        self.pick(key, n, pick_context, &mut out);
        self.check_invariants();
        assert!(out.len() <= n);
        out
    }

    /// Delivers and writes the block.
    pub(crate) fn give(&mut self, key: PeerKey, block: BlockInfo) -> Option<PieceIndex> {
        assert_eq!(self.accept(key, block, &mut Vec::new()), BlockVerdict::Take, "{block:?}");
        let unverified = self.written(key, block);
        self.check_invariants();
        unverified
    }
}

/// A peer that has answered requests at once, ten seconds after the previous call of this function: all earlier requests are
/// late.
pub(crate) fn proven(speed: Speed) -> PickContext {
    static CALLS: AtomicU32 = AtomicU32::new(1);
    let now = Duration::from_secs(10) * CALLS.fetch_add(1, Ordering::Relaxed);
    PickContext { answer_time: Some(Duration::ZERO), ..PickContext::unproven(now, speed) }
}

/// `pieces` pieces of `blocks` blocks; the peers `seeds` are seeds.
fn picker(pieces: u32, blocks: u32, seeds: &[PeerKey]) -> Picker {
    let total = u64::from(pieces * blocks * BLOCK_SIZE);
    let mut picker = Picker::new(blocks * BLOCK_SIZE, total, Bitfield::new(pieces), 7);
    for &seed in seeds {
        picker.add_peer(seed);
        picker.set_bitfield(seed, Bitfield::full(pieces));
    }
    picker.check_invariants();
    picker
}

pub(crate) fn bits(len: u32, pieces: &[u32]) -> Bitfield {
    let mut bits = Bitfield::new(len);
    for &piece in pieces {
        bits.set(PieceIndex(piece));
    }
    bits
}

pub(crate) fn pieces(blocks: &[BlockInfo]) -> Vec<u32> {
    let mut pieces: Vec<u32> = blocks.iter().map(|b| b.piece.0).collect();
    pieces.dedup();
    pieces
}

#[test]
fn the_last_block_and_piece_are_short() {
    let total = u64::from(3 * BLOCK_SIZE) + 5;
    let mut picker = Picker::new(2 * BLOCK_SIZE, total, Bitfield::new(2), 1);
    picker.add_peer(A);
    picker.set_bitfield(A, Bitfield::full(2));
    assert_eq!(
        (picker.missing_wanted_bytes(), picker.piece_size(PieceIndex(1)), picker.piece_size(PieceIndex(2))),
        (total, BLOCK_SIZE + 5, 0)
    );
    let all = picker.take(A, 100, true);
    assert_eq!(all.len(), 4);
    assert!(all.contains(&BlockInfo { piece: PieceIndex(1), begin: BLOCK_SIZE, length: 5 }));
    assert_eq!(all.iter().map(|b| u64::from(b.length)).sum::<u64>(), total);
}

#[test]
fn an_own_piece_comes_in_order_and_before_a_new_one() {
    let mut picker = picker(20, 8, &[A, B]);
    let first = picker.take(A, 3, true);
    picker.take(B, 8, true);
    let more = picker.take(A, 5, true);
    let begins: Vec<u32> = first.iter().chain(&more).map(|b| b.begin / BLOCK_SIZE).collect();
    assert_eq!(begins, [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!((pieces(&first), pieces(&first)), (pieces(&more), vec![first[0].piece.0]));
    assert_ne!(pieces(&picker.take(A, 1, true)), pieces(&first));
}

#[test]
fn the_rarest_piece_comes_first_and_ties_at_random() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let mut picker = Picker::new(BLOCK_SIZE, u64::from(10 * BLOCK_SIZE), bits(10, &[0, 1, 2, 3]), seed);
        for (key, has) in [(A, bits(10, &[4, 5, 6, 7, 8])), (B, bits(10, &[4, 5, 8])), (C, bits(10, &[4, 8, 9]))] {
            picker.add_peer(key);
            picker.set_bitfield(key, has);
        }
        picker.add_peer(D);
        picker.set_bitfield(D, Bitfield::full(10));
        let order: Vec<u32> = picker.take(A, 5, true).iter().map(|b| b.piece.0).collect();
        assert_eq!(order[..2].iter().copied().collect::<std::collections::BTreeSet<_>>(), [6, 7].into());
        assert_eq!((order[2], order.len()), (5, 5));
        seen.insert(order);
    }
    assert_eq!(seen.len(), 4, "both ties fall both ways");
}

#[test]
fn among_seeds_alone_pieces_are_taken_in_runs_that_begin_at_random() {
    let per = EXTENT / (8 * BLOCK_SIZE);
    let mut starts = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let mut picker = Picker::new(8 * BLOCK_SIZE, u64::from(8 * BLOCK_SIZE) * 400, bits(400, &[0, 1, 2, 3]), seed);
        picker.add_peer(A);
        picker.set_bitfield(A, Bitfield::full(400));
        let first = picker.take(A, 8, true)[0].piece.0;
        assert!(first == 4 || first.is_multiple_of(per), "{first}: the start of a run");
        for next in first + 1..(first + 1).next_multiple_of(per).min(400) {
            assert_eq!(pieces(&picker.take(A, 8, true)), [next]);
        }
        starts.insert(first);
    }
    assert!(starts.len() > 6, "{starts:?}");
}

#[test]
fn the_first_four_pieces_are_random_not_rarest() {
    let first = |have: Bitfield, seed| {
        let mut picker = Picker::new(BLOCK_SIZE, u64::from(100 * BLOCK_SIZE), have, seed);
        picker.add_peer(A);
        picker.set_bitfield(A, Bitfield::full(100));
        picker.add_peer(B);
        picker.set_bitfield(B, bits(100, &(0..99).collect::<Vec<_>>()));
        picker.take(A, 1, true)[0].piece.0
    };
    assert!((0..20).any(|seed| first(Bitfield::new(100), seed) != 99));
    assert!((0..20).all(|seed| first(bits(100, &[1, 2, 3, 4]), seed) == 99));
}

#[test]
fn availability_follows_have_and_leaving() {
    let mut picker = Picker::new(BLOCK_SIZE, u64::from(8 * BLOCK_SIZE), bits(8, &[0, 1, 2, 3]), 3);
    for key in [A, B, C] {
        picker.add_peer(key);
        picker.set_bitfield(key, bits(8, &[0, 1, 2, 3, 4, 5]));
        picker.check_invariants();
    }
    assert!(
        picker.peer_has(A, PieceIndex(6)) && !picker.peer_has(A, PieceIndex(6)) && !picker.peer_has(A, PieceIndex(8))
    );
    assert!(!picker.peer_is_seed(A) && picker.peer_has(A, PieceIndex(7)) && picker.peer_is_seed(A));
    picker.check_invariants();
    picker.remove_peer(B);
    picker.check_invariants();
    picker.set_bitfield(C, Bitfield::new(8));
    picker.check_invariants();
    picker.remove_peer(A);
    picker.remove_peer(A);
    picker.check_invariants();
    assert_eq!(
        (picker.peer_bitfield(A), picker.is_interested_in(C), picker.order.holders(PieceIndex(4))),
        (None, false, 0)
    );
}

#[test]
fn a_sparse_peer_among_many_pieces_finds_its_piece() {
    let mut picker = picker(20_000, 1, &[]);
    let mut most = Bitfield::full(20_000);
    most.clear(PieceIndex(8));
    for (key, has) in [(A, most), (B, bits(20_000, &[8]))] {
        picker.add_peer(key);
        picker.set_bitfield(key, has);
    }
    // One piece out of twenty thousand in a single bucket: beyond the number of probes from nearly every start.
    for (seed, any) in (0..10).flat_map(|seed| [(seed, false), (seed, true)]) {
        let found = picker.order.choose(&bits(20_000, &[8]), false, any, &mut fastrand::Rng::with_seed(seed));
        assert_eq!(found, Some(PieceIndex(8)));
    }
    assert_eq!(pieces(&picker.take(B, 9, true)), [8]);
}

#[test]
fn an_orphan_goes_to_the_next_fullest_first() {
    let mut picker = picker(30, 4, &[A, B, C]);
    let (a, b) = (picker.take(A, 4, true), picker.take(B, 4, true));
    picker.give(A, a[0]);
    for &block in &b[..3] {
        picker.give(B, block);
    }
    assert_eq!(picker.remove_peer(A), 3);
    assert_eq!(picker.release(B, &b[3..]), 1);
    let next = picker.take(C, 5, true);
    assert_eq!(next[0], b[3], "the fullest first");
    assert_eq!(next[1..4], a[1..], "then the other one");
    assert!(![a[0].piece, b[0].piece].contains(&next[4].piece));
}

#[test]
fn slow_peers_share_a_piece_and_a_fast_one_does_not_join() {
    let mut picker = picker(30, 8, &[A, B, C]);
    let a = picker.take(A, 2, false);
    let b = picker.take(B, 2, false);
    assert_eq!((a[0].piece, b[0].begin), (b[0].piece, 2 * BLOCK_SIZE));
    assert_ne!(picker.take(C, 2, true)[0].piece, a[0].piece);
}

#[test]
fn a_peer_without_a_new_piece_helps_from_the_end() {
    let mut picker = picker(1, 8, &[A, B]);
    let a = picker.take(A, 2, true);
    let b: Vec<u32> = picker.take(B, 3, true).iter().map(|b| b.begin / BLOCK_SIZE).collect();
    assert_eq!(b, [7, 6, 5]);
    assert_eq!(picker.take(A, 3, true).iter().map(|b| b.begin / BLOCK_SIZE).collect::<Vec<_>>(), [2, 3, 4]);
    assert_eq!(a.len(), 2);
}

#[test]
fn open_pieces_are_bounded() {
    let mut picker = picker(400, 4, &[A]);
    for key in (10..200).map(PeerKey) {
        // Each peer begins a piece and disconnects, so that its piece stays open.
        picker.add_peer(key);
        picker.set_bitfield(key, Bitfield::full(400));
        let asked = picker.take(key, 2, true);
        picker.give(key, asked[0]);
        picker.remove_peer(key);
        // Eight, two for each of the two peers, and the one just begun.
        assert!(picker.free.open.len() <= 13, "{}", picker.free.open.len());
    }
}

#[test]
fn late_blocks_are_welcome_and_strangers_are_not() {
    let mut picker = picker(4, 4, &[A, B]);
    let a = picker.take(A, 4, true);
    let cancels = &mut Vec::new();
    assert_eq!(picker.accept(B, a[0], cancels), BlockVerdict::Unrequested);
    picker.expire(A, &a[..2]);
    assert_eq!(picker.take(B, 1, true), a[..1]);
    assert_eq!(picker.accept(A, a[0], cancels), BlockVerdict::Take, "asked of B by now");
    assert_eq!(*cancels, [(B, a[0])]);
    assert_eq!(picker.accept(A, a[1], cancels), BlockVerdict::Take);
    assert_eq!(picker.accept(A, a[1], cancels), BlockVerdict::Duplicate);
    picker.check_invariants();
    assert_eq!(picker.written(B, a[0]), None, "not B's to write");
    // Released, and unbegun again by then.
    let mut picker = self::picker(4, 4, &[A]);
    let a = picker.take(A, 2, true);
    assert_eq!(picker.release(A, &a), 2);
    assert_eq!((picker.begun.len(), picker.accept(A, a[1], cancels)), (0, BlockVerdict::Take));
    picker.check_invariants();
}

#[test]
fn a_verified_piece_reports_its_senders_and_the_peers_without_wanted_pieces() {
    let mut picker = picker(2, 2, &[A]);
    picker.add_peer(B);
    picker.add_peer(C);
    picker.set_bitfield(C, bits(2, &[0]));
    let all = picker.take(A, 4, true);
    let zero: Vec<_> = all.iter().copied().filter(|b| b.piece.0 == 0).collect();
    assert_eq!(picker.give(A, zero[0]), None);
    assert_eq!(picker.piece_hashed(PieceIndex(0), true), PieceVerdict::default(), "a block is missing");
    assert_eq!(picker.give(A, zero[1]), Some(PieceIndex(0)));
    assert!(picker.is_interested_in(C));
    let verdict = picker.piece_hashed(PieceIndex(0), true);
    picker.check_invariants();
    assert_eq!(verdict, PieceVerdict { no_longer_wanted: vec![C], senders: vec![A], restored: 0 });
    assert_eq!(picker.accept(A, zero[0], &mut Vec::new()), BlockVerdict::Duplicate);
    assert!(
        picker.have().has(PieceIndex(0))
            && !picker.is_complete()
            && picker.missing_wanted_bytes() == u64::from(2 * BLOCK_SIZE)
    );
    let mut states = vec![PieceState::Missing; 9];
    picker.piece_states(&mut states);
    assert_eq!(states, [PieceState::Verified, PieceState::InProgress]);
    picker.remove_peer(A);
    picker.piece_states(&mut states);
    assert_eq!(states, [PieceState::Verified, PieceState::Unavailable], "C has the other piece alone");
    picker.remove_peer(C);
    picker.piece_states(&mut states);
    assert_eq!(states, [PieceState::Verified, PieceState::Missing], "nobody has anything");
}

#[test]
fn a_bad_piece_is_missing_again_and_names_its_senders() {
    let mut picker = picker(1, 3, &[A, B]);
    let a = picker.take(A, 2, true);
    let b = picker.take(B, 1, true);
    picker.give(B, b[0]);
    picker.remove_peer(B);
    picker.give(A, a[0]);
    assert_eq!(picker.give(A, a[1]), Some(PieceIndex(0)));
    assert!(picker.take(A, 5, true).is_empty(), "nothing of a piece that is being hashed");
    let by = |block: BlockInfo| Some(if b.contains(&block) { B } else { A });
    let block_senders: Vec<_> = (0..3).map(|at| by(picker.geometry.block(PieceIndex(0), at))).collect();
    assert_eq!(picker.block_senders(PieceIndex(0)), block_senders);
    let verdict = picker.piece_hashed(PieceIndex(0), false);
    assert_eq!(picker.block_senders(PieceIndex(0)), []);
    picker.check_invariants();
    assert_eq!(verdict, PieceVerdict { senders: vec![B, A], ..PieceVerdict::default() });
    assert_eq!((picker.begun.len(), picker.missing_wanted_bytes()), (0, u64::from(3 * BLOCK_SIZE)));
    assert_eq!(picker.take(A, 5, true).len(), 3);
}

#[test]
fn blocks_that_a_leaving_peer_was_writing_are_free_again() {
    let mut picker = picker(1, 1, &[A, B]);
    let a = picker.take(A, 1, true);
    picker.accept(A, a[0], &mut Vec::new());
    assert!(picker.take(B, 1, true).is_empty());
    assert_eq!(picker.remove_peer(A), 1);
    assert_eq!((picker.written(A, a[0]), picker.take(B, 1, true)), (None, a));
}

#[test]
fn nonsense_is_ignored() {
    let mut picker = picker(2, 2, &[A]);
    let asked = picker.take(A, 1, true);
    let ghost = PeerKey(99);
    picker.set_bitfield(A, Bitfield::full(3));
    picker.set_bitfield(ghost, Bitfield::full(2));
    assert!(
        !picker.peer_has(ghost, PieceIndex(0))
            && !picker.peer_has(A, PieceIndex(u32::MAX))
            && !picker.is_interested_in(ghost)
    );
    assert!(picker.take(ghost, 5, true).is_empty() && picker.take(A, 0, true).is_empty());
    let cancels = &mut Vec::new();
    for (piece, begin, length) in [
        (2, 0, BLOCK_SIZE),
        (u32::MAX, 0, BLOCK_SIZE),
        (0, u32::MAX, 1),
        (0, 1, BLOCK_SIZE),
        (0, 2 * BLOCK_SIZE, BLOCK_SIZE),
        (0, 0, 5),
        (0, 0, 0),
    ] {
        let block = BlockInfo { piece: PieceIndex(piece), begin, length };
        assert_eq!(picker.accept(A, block, cancels), BlockVerdict::Unrequested);
        assert_eq!(picker.written(A, block), None);
        assert_eq!(picker.release(ghost, &[block]) + picker.expire(A, &[block]), 0);
    }
    assert_eq!(picker.accept(ghost, asked[0], cancels), BlockVerdict::Unrequested);
    assert_eq!(picker.piece_hashed(PieceIndex(9), true), PieceVerdict::default());
    picker.check_invariants();
    let mut empty = Picker::new(0, 0, Bitfield::new(5), 0);
    empty.add_peer(A);
    empty.set_bitfield(A, Bitfield::new(0));
    assert!(empty.is_complete() && empty.take(A, 4, true).is_empty());
    empty.remove_peer(A);
    empty.check_invariants();
}

#[test]
fn a_piece_that_two_peers_spoilt_is_filled_by_one_alone() {
    let mut picker = picker(1, 4, &[A, B]);
    let own = picker.take(A, 3, true);
    let help = picker.take(B, 1, true);
    for (key, block) in own.iter().map(|b| (A, *b)).chain([(B, help[0])]) {
        picker.give(key, block);
    }
    assert_eq!(picker.piece_hashed(PieceIndex(0), false).senders.len(), 2);

    let own = picker.take(A, 2, true);
    assert_eq!(own.len(), 2);
    assert!(picker.take(B, 9, true).is_empty(), "neither help nor duplicates");
    picker.give(A, own[0]);
    picker.expire(A, &own[1..]);
    let again = picker.take(B, 9, true);
    assert_eq!(again.len(), 4, "a peer that lets time run out is not waited for, and its blocks are not kept");
    assert_eq!(picker.accept(A, own[1], &mut Vec::new()), BlockVerdict::Duplicate, "nor is what comes late");
    picker.check_invariants();
    again[..3].iter().for_each(|&block| assert_eq!(picker.give(B, block), None));
    assert_eq!(picker.give(B, again[3]), Some(PieceIndex(0)));
    assert_eq!(picker.piece_hashed(PieceIndex(0), false).senders, [B]);
}
