//! Urgent pieces and priorities, rule by rule.

use std::time::Duration;

use crate::strategy::picker::tests::{A, B, C, bits, picker, pieces, proven};
use crate::strategy::picker::*;

fn urgent(picker: &mut Picker, pieces: &[u32]) {
    picker.set_urgent(pieces.iter().copied().map(PieceIndex));
    picker.check_invariants();
}

fn priorities(picker: &mut Picker, high: &[u32], low: &[u32]) {
    let count = picker.have.len();
    picker.set_priorities(Some(PiecePriorities { high: bits(count, high), low: bits(count, low) }));
}

#[test]
fn every_peer_works_on_urgent_pieces_first() {
    let mut picker = picker(20, 4, &[A, B]);
    let now = proven(Speed::Fast); // no request is late
    let own = picker.take_as(A, 1, now);
    urgent(&mut picker, &[7, 3]);
    assert_eq!(pieces(&picker.take_as(A, 2, now)), [7], "before its own piece");
    let helped = picker.take_as(B, 4, now);
    assert_eq!(pieces(&helped), [7, 3], "it helps another owner, then begins the next one");
    assert_eq!(helped[0].begin, 3 * BLOCK_SIZE, "from the end");
    let rest = picker.take_as(A, 5, now);
    assert_eq!(pieces(&rest), [3, own[0].piece.0]);
}

#[test]
fn an_urgent_block_is_requested_twice_from_a_peer_that_is_sooner() {
    let mut picker = picker(20, 2, &[A, B]);
    urgent(&mut picker, &[5]);
    let late = picker.take(A, 2, true);
    assert_eq!(pieces(&late), [5]);
    let mut again = picker.take(B, 2, true);
    again.sort_unstable_by_key(|block| block.begin);
    assert_eq!(again, late);
    let mut cancels = Vec::new();
    picker.accept(B, late[0], &mut cancels);
    assert_eq!(cancels, [(A, late[0])]);
    // Not the blocks of other pieces.
    let other = picker.take(A, 2, true);
    assert!(!pieces(&picker.take(B, 2, true)).contains(&other[0].piece.0));
}

#[test]
fn urgent_pieces_are_bounded_known_once_and_forgotten_when_verified() {
    let mut picker = picker(4 * MAX_URGENT as u32, 1, &[A]);
    urgent(&mut picker, &[9, 9, u32::MAX, 2]);
    assert_eq!(picker.sequence.urgent, [PieceIndex(9), PieceIndex(2)]);
    let block = picker.take(A, 1, true)[0];
    picker.give(A, block);
    picker.piece_hashed(block.piece, true);
    assert_eq!(picker.sequence.urgent, [PieceIndex(2)]);
    urgent(&mut picker, &[9]);
    assert!(picker.sequence.urgent.is_empty(), "it is verified");
    let all: Vec<u32> = (0..4 * MAX_URGENT as u32).collect();
    urgent(&mut picker, &all);
    assert_eq!(picker.sequence.urgent.len(), MAX_URGENT);
    picker.set_plan(Plan { wanted: bits(all.len() as u32, &[1, 3]), ..Plan::all(all.len() as u32) });
    picker.check_invariants();
    assert_eq!(picker.sequence.urgent, [PieceIndex(1), PieceIndex(3)]);
}

#[test]
fn a_peer_that_needs_long_for_a_block_holds_up_no_urgent_piece() {
    let mut picker = picker(20, 2, &[A]);
    urgent(&mut picker, &[5]);
    let very_slow = PickContext { per_block: Duration::from_secs(5), ..proven(Speed::Slow) };
    assert_ne!(pieces(&picker.take_as(A, 1, very_slow)), [5]);
}

#[test]
fn high_pieces_come_before_normal_ones_and_these_before_low_ones() {
    for sequential in [false, true] {
        let mut picker = picker(30, 1, &[A]);
        picker.add_peer(B);
        picker.set_bitfield(B, bits(30, &[20, 21, 5, 6, 1]));
        picker.add_peer(C);
        picker.set_bitfield(C, bits(30, &(0..29).collect::<Vec<_>>()));
        picker.set_sequential(sequential);
        priorities(&mut picker, &[20, 10, 6], &[0, 1, 2, 5, 20]);
        let mut of_b = pieces(&picker.take(B, 3, true));
        let (first, last) = (of_b.remove(2), of_b.remove(1));
        assert_eq!((of_b[0], last, first), if sequential { (6, 20, 21) } else { (of_b[0], 26 - of_b[0], 21) });
        let low = pieces(&picker.take(B, 9, true));
        assert!(if sequential { low == [1, 5] } else { low.len() == 2 && low.contains(&1) && low.contains(&5) });
        assert_eq!(pieces(&picker.take(A, 1, true)), [10], "29 is rarer");
        let mut rest = pieces(&picker.take(A, 24, true));
        let low = rest.split_off(rest.len() - 2);
        assert!(low.contains(&0) && low.contains(&2), "{low:?}");
        assert!(!sequential || rest.is_sorted());
        picker.set_priorities(None);
        picker.check_invariants();
    }
}

#[test]
fn priorities_change_neither_what_is_wanted_nor_what_is_begun() {
    let mut picker = picker(10, 4, &[A]);
    picker.set_plan(Plan { wanted: bits(10, &[1, 2, 3]), ..Plan::all(10) });
    let begun = picker.take(A, 2, true)[0].piece.0;
    let high: Vec<u32> = (0..10).filter(|&piece| piece != begun).collect();
    priorities(&mut picker, &high, &[begun]);
    assert_eq!(pieces(&picker.take(A, 2, true)), [begun]);
    let mut rest = pieces(&picker.take(A, 99, true));
    rest.sort_unstable();
    assert_eq!(rest, (1..4).filter(|&piece| piece != begun).collect::<Vec<_>>());
    // Those of another torrent are ignored.
    picker.set_priorities(Some(PiecePriorities { high: bits(9, &[]), low: bits(10, &[]) }));
    assert!(picker.sequence.priorities.is_none());
}

#[test]
fn a_doubtful_piece_of_low_priority_waits() {
    let mut picker = picker(6, 2, &[A, B]);
    let doubtful = picker.take(A, 1, false)[0];
    picker.give(A, doubtful);
    let other = picker.take(B, 1, false)[0];
    assert_eq!(other.piece, doubtful.piece);
    assert_eq!(picker.give(B, other), Some(doubtful.piece));
    picker.piece_hashed(doubtful.piece, false);
    let high: Vec<u32> = (0..6).filter(|&piece| piece != doubtful.piece.0).collect();
    priorities(&mut picker, &high, &[]);
    picker.add_peer(C);
    picker.set_bitfield(C, Bitfield::full(6));
    assert_ne!(pieces(&picker.take(C, 2, true)), [doubtful.piece.0]);
}
