//! How the picker follows a plan, rule by rule.

use crate::strategy::picker::tests::{A, B, C, bits, pieces, proven};
use crate::strategy::picker::*;
use crate::types::PieceState;

/// `count` pieces of `blocks` blocks, of which only `wanted` are wanted; the peers `seeds` are seeds.
fn planned(count: u32, blocks: u32, wanted: &[u32], seeds: &[PeerKey]) -> Picker {
    let plan = Plan { wanted: bits(count, wanted), ..Plan::all(count) };
    under(plan, blocks, seeds, 7)
}

fn under(plan: Plan, blocks: u32, seeds: &[PeerKey], seed: u64) -> Picker {
    let count = plan.wanted.len();
    let mut picker =
        Picker::new(blocks * BLOCK_SIZE, u64::from(count * blocks * BLOCK_SIZE), Bitfield::new(count), seed);
    picker.set_plan(plan);
    for &seed in seeds {
        picker.add_peer(seed);
        picker.set_bitfield(seed, Bitfield::full(count));
    }
    picker.check_invariants();
    picker
}

fn indices(pieces: &[u32]) -> Vec<PieceIndex> {
    pieces.iter().copied().map(PieceIndex).collect()
}

/// Downloads and verifies the peer's next pieces.
fn fetch(picker: &mut Picker, key: PeerKey, n: usize) -> Vec<u32> {
    let asked = picker.take(key, n, true);
    for block in &asked {
        if let Some(piece) = picker.give(key, *block) {
            picker.piece_hashed(piece, true);
        }
    }
    picker.check_invariants();
    pieces(&asked)
}

#[test]
fn only_wanted_pieces_are_picked_and_counted() {
    let mut picker = planned(10, 2, &[2, 3, 7], &[A]);
    picker.add_peer(B);
    picker.set_bitfield(B, bits(10, &[0, 1, 9]));
    let size = u64::from(2 * BLOCK_SIZE);
    assert_eq!(
        (picker.missing_wanted_bytes(), picker.missing_bytes(), picker.wanted_bytes()),
        (3 * size, 10 * size, 3 * size)
    );
    assert_eq!(
        (picker.missing_wanted_blocks(), picker.is_interested_in(A), picker.is_interested_in(B)),
        (6, true, false)
    );
    assert!(picker.take(B, 9, true).is_empty());
    assert!(picker.peer_has(B, PieceIndex(8)) && !picker.is_interested_in(B));
    assert!(picker.peer_has(B, PieceIndex(7)) && picker.is_interested_in(B));
    let mut got = fetch(&mut picker, A, 100);
    got.sort_unstable();
    assert_eq!(got, [2, 3, 7]);
    assert!(picker.is_complete() && !picker.is_seed() && !picker.is_interested_in(A) && !picker.is_interested_in(B));
    assert_eq!((picker.missing_wanted_bytes(), picker.missing_bytes(), picker.wanted_bytes()), (0, 7 * size, 3 * size));
    assert!(picker.take(A, 9, true).is_empty());
    let mut states = Vec::new();
    picker.piece_states(&mut states);
    assert!(
        (0..10)
            .zip(states)
            .all(|(p, s)| s == if got.contains(&p) { PieceState::Verified } else { PieceState::Unwanted })
    );
}

#[test]
fn interest_ends_if_a_peer_has_only_unwanted_pieces() {
    let mut picker = planned(6, 1, &[0, 1], &[A]);
    picker.add_peer(B);
    picker.set_bitfield(B, bits(6, &[0, 3, 4]));
    let zero = picker.take(B, 5, true);
    assert_eq!(pieces(&zero), [0]);
    picker.give(B, zero[0]);
    let verdict = picker.piece_hashed(PieceIndex(0), true);
    assert_eq!(verdict.no_longer_wanted, [B]);
    fetch(&mut picker, A, 5);
    assert!(picker.is_complete());
}

#[test]
fn verified_pieces_stay_known_whether_wanted_or_not() {
    let mut picker = Picker::new(BLOCK_SIZE, u64::from(5 * BLOCK_SIZE), bits(5, &[0, 1]), 7);
    picker.set_plan(Plan { wanted: bits(5, &[1, 2]), ..Plan::all(5) });
    picker.check_invariants();
    assert!(picker.have().has(PieceIndex(0)) && !picker.is_complete());
    assert_eq!(
        (picker.missing_wanted_bytes(), picker.wanted_bytes()),
        (u64::from(BLOCK_SIZE), u64::from(2 * BLOCK_SIZE))
    );
    picker.add_peer(A);
    picker.set_bitfield(A, Bitfield::full(5));
    assert_eq!(fetch(&mut picker, A, 9), [2]);
    assert!(picker.is_complete() && picker.have().count() == 3);
}

#[test]
fn the_end_game_begins_when_nothing_wanted_is_unbegun() {
    let mut picker = planned(40, 2, &[5, 6], &[A, B]);
    let a = picker.take(A, 9, true);
    assert_eq!(a.len(), 4);
    let mut b = picker.take(B, 9, true);
    b.sort_unstable_by_key(|block| a.iter().position(|other| other == block));
    assert_eq!(b, a, "the same blocks, asked twice");
    let mut cancels = Vec::new();
    assert_eq!(picker.accept(A, a[0], &mut cancels), BlockVerdict::Take);
    assert_eq!(cancels, [(B, a[0])]);
}

#[test]
fn runs_stop_at_unwanted_pieces() {
    let wanted: Vec<u32> = (0..60).filter(|piece| piece % 10 > 2).collect();
    let mut picker = planned(60, 1, &wanted, &[A]);
    let mut got = fetch(&mut picker, A, 100);
    got.sort_unstable();
    assert_eq!(got, wanted);
}

#[test]
fn allowed_fast_picks_request_nothing_unwanted() {
    let mut picker = planned(4, 1, &[3], &[A]);
    let mut out = Vec::new();
    picker.pick_within(A, 9, proven(Speed::Fast), &indices(&[0, 1, 3]), &mut out);
    picker.check_invariants();
    assert_eq!(pieces(&out), [3]);
}

#[test]
fn requests_for_unwanted_blocks_are_removed() {
    let mut picker = planned(4, 1, &[3], &[A]);
    let block = BlockInfo { piece: PieceIndex(0), begin: 0, length: BLOCK_SIZE };
    assert_eq!(picker.accept(A, block, &mut Vec::new()), BlockVerdict::Unrequested);
    assert_eq!((picker.begun.len(), picker.missing_wanted_bytes()), (0, u64::from(BLOCK_SIZE)));
}

#[test]
fn early_pieces_come_first_in_their_order_and_before_the_rarest() {
    for (seed, is_sequential) in (0..20).flat_map(|seed| [(seed, false), (seed, true)]) {
        let early = indices(&[9, 2, 99, 5, 9, 3]);
        let plan = Plan { wanted: bits(12, &[0, 1, 2, 4, 6, 8, 9, 3, 11]), early, is_sequential };
        let mut picker = under(plan, 2, &[A], seed);
        picker.add_peer(B);
        picker.set_bitfield(B, bits(12, &[2, 3, 9]));
        // Pieces that only one peer has are rarer, and among the first four a random one would be chosen.
        assert_eq!(picker.order.holders(PieceIndex(0)), 1);
        let first = picker.take(A, 2, true);
        assert_eq!(pieces(&first), [9], "5 is not wanted, and there is no 99");
        assert_eq!(pieces(&picker.take(B, 4, true)), [2, 3], "another peer takes others");
        let next = pieces(&picker.take(A, 2, true))[0];
        assert!(if is_sequential { next == 0 } else { ![9, 2, 3, 5].contains(&next) }, "{next}");
        // The early pieces of a disconnected peer come before others.
        picker.remove_peer(B);
        assert_eq!(pieces(&picker.take(A, 4, true)), [2, 3]);
    }
}

#[test]
fn an_early_piece_that_was_wrong_is_early_again() {
    let plan = Plan { early: indices(&[6]), ..Plan::all(9) };
    let mut picker = under(plan, 1, &[A], 1);
    let six = picker.take(A, 1, true);
    assert_eq!(picker.give(A, six[0]), Some(PieceIndex(6)));
    picker.piece_hashed(PieceIndex(6), false);
    assert_eq!(fetch(&mut picker, A, 1), [6]);
    assert!(picker.sequence.early.is_empty());
    assert_eq!(fetch(&mut picker, A, 99).len(), 8);
}

#[test]
fn sequential_is_ascending_with_one_peer_and_shared_out_among_several() {
    let wanted: Vec<u32> = (3..70).filter(|piece| piece % 7 != 0).collect();
    let plan = Plan { wanted: bits(80, &wanted), early: Vec::new(), is_sequential: true };
    let mut picker = under(plan.clone(), 3, &[A], 3);
    assert_eq!(pieces(&picker.take(A, 1000, true)), wanted);

    let mut picker = under(plan, 3, &[A, B], 3);
    picker.add_peer(C);
    picker.set_bitfield(C, bits(80, &[0, 40, 41]));
    assert_eq!(pieces(&picker.take(A, 6, true)), wanted[..2], "a run for a fast peer");
    assert_eq!(pieces(&picker.take(B, 3, true)), wanted[2..3]);
    assert_eq!(pieces(&picker.take(A, 3, true)), wanted[3..4]);
    assert_eq!(pieces(&picker.take(C, 9, true)), [40, 41], "the lowest that it has");
    let freed = picker.remove_peer(A);
    assert_eq!(freed, 9);
    let next = pieces(&picker.take(B, 12, true));
    assert_eq!(next, [wanted[0], wanted[1], wanted[3], wanted[4]], "a piece that is unbegun again is the lowest");
}

#[test]
fn a_piece_that_was_wrong_is_next_in_sequence() {
    let mut picker = under(Plan { is_sequential: true, ..Plan::all(30) }, 1, &[A], 3);
    assert_eq!(fetch(&mut picker, A, 12).len(), 12);
    let next = picker.take(A, 2, true);
    for block in &next {
        picker.give(A, *block);
    }
    picker.piece_hashed(PieceIndex(13), true);
    picker.piece_hashed(PieceIndex(12), false);
    assert_eq!(pieces(&picker.take(A, 3, true)), [12, 14, 15]);
}

#[test]
fn a_plan_for_all_is_as_none() {
    let with = under(Plan::all(300), 2, &[A, B], 5);
    let without = Picker::new(2 * BLOCK_SIZE, u64::from(600 * BLOCK_SIZE), Bitfield::new(300), 5);
    let [with, without] = [with, without].map(|mut picker| {
        for seed in [A, B] {
            picker.add_peer(seed);
            picker.set_bitfield(seed, Bitfield::full(300));
        }
        (0..40).flat_map(|n| fetch(&mut picker, if n % 3 == 0 { B } else { A }, 8)).collect::<Vec<_>>()
    });
    assert_eq!((with.len(), &with), (160, &without));
}

#[test]
fn a_plan_may_change_and_begun_pieces_are_completed() {
    let mut picker = planned(10, 2, &[0, 1, 2, 3], &[A]);
    let first = picker.take(A, 3, true);
    let (begun, lost) = (first[0].piece, first[2]);
    picker.give(A, first[0]);
    assert_eq!(picker.release(A, &[lost]), 1);
    picker.set_plan(Plan { wanted: bits(10, &[8]), early: indices(&[8]), is_sequential: false });
    picker.check_invariants();
    assert_eq!((picker.unverified_wanted.count(), picker.wanted_bytes()), (2, u64::from(4 * BLOCK_SIZE)));
    assert_eq!(picker.accept(A, lost, &mut Vec::new()), BlockVerdict::Unrequested, "late, and no longer wanted");
    picker.give(A, first[1]);
    assert!(picker.piece_hashed(begun, true).no_longer_wanted.is_empty());
    assert_eq!(fetch(&mut picker, A, 9), [8]);
    assert!(picker.is_complete());
    picker.set_plan(Plan::all(10));
    picker.check_invariants();
    assert!(picker.is_interested_in(A) && !picker.is_complete());
    assert_eq!(fetch(&mut picker, A, 99).len(), 8);
    assert!(picker.is_seed());
}

#[test]
fn a_plan_that_makes_no_sense_wants_all() {
    let mut picker = planned(6, 1, &[1], &[A]);
    let early = indices(&[u32::MAX, 77]);
    picker.set_plan(Plan { wanted: Bitfield::new(5), early, is_sequential: true });
    picker.check_invariants();
    assert_eq!(pieces(&picker.take(A, 99, true)), [0, 1, 2, 3, 4, 5]);
    let mut nothing = planned(6, 1, &[], &[A]);
    assert!(nothing.is_complete() && !nothing.is_interested_in(A) && nothing.take(A, 9, true).is_empty());
    assert!(!Plan::all(3).is_met_by(&Bitfield::full(2)) && Plan::all(3).is_met_by(&Bitfield::full(3)));
}

#[test]
fn padding_is_never_asked_for() {
    let (key, pieces) = (PeerKey(1), 3);
    let mut picker = Picker::new(4 * BLOCK_SIZE, u64::from(pieces * 4 * BLOCK_SIZE), Bitfield::new(pieces), 7);
    // The last piece consists of padding only: one block of it is requested.
    picker.set_padding([(PieceIndex(1), 3), (PieceIndex(2), 4)]);
    picker.add_peer(key);
    picker.set_bitfield(key, Bitfield::full(pieces));
    let mut asked = Vec::new();
    picker.pick(key, 100, proven(Speed::Fast), &mut asked);
    let of = |piece| asked.iter().filter(|block| block.piece == PieceIndex(piece)).map(|block| block.begin).max();
    assert_eq!((asked.len(), of(0), of(1), of(2)), (6, Some(3 * BLOCK_SIZE), Some(0), Some(0)));
    let unasked = BlockInfo { piece: PieceIndex(1), begin: BLOCK_SIZE, length: BLOCK_SIZE };
    assert_eq!(picker.accept(key, unasked, &mut Vec::new()), BlockVerdict::Unrequested);
    for block in asked {
        assert_eq!(picker.accept(key, block, &mut Vec::new()), BlockVerdict::Take);
        if let Some(piece) = picker.written(key, block) {
            picker.piece_hashed(piece, true);
        }
        picker.check_invariants();
    }
    assert_eq!(picker.bytes.missing_wanted, 0);
}
