//! Expired blocks, and the end-game.

use super::*;

#[test]
fn expired_blocks_go_first_but_not_to_the_same_peer() {
    let mut picker = picker(30, 4, &[A, B]);
    let a = picker.take(A, 6, true);
    let b = picker.take(B, 1, true);
    assert_eq!(picker.expire(A, &a[2..4]), 2);
    assert!(picker.take(A, 4, true).iter().all(|block| !a.contains(block)));
    let next = picker.take(B, 3, true);
    assert_eq!(next[..2], a[2..4]);
    assert_eq!(next[2].piece, b[0].piece);
}

#[test]
fn an_expired_block_returns_to_a_peer_that_is_alone() {
    let mut picker = picker(30, 4, &[A]);
    let a = picker.take(A, 4, true);
    picker.expire(A, &a[1..2]);
    assert_eq!(picker.take(A, 1, true), a[1..2]);
}

#[test]
fn with_nothing_else_left_a_peer_gets_its_expired_block_back() {
    let mut picker = picker(1, 4, &[A, B]);
    let a = picker.take(A, 2, true);
    picker.expire(A, &a[..1]);
    let again = picker.take(A, 9, true);
    assert_eq!((again.len(), again[2]), (3, a[0]));
}

#[test]
fn the_end_game_duplicates_few_and_cancels() {
    let mut picker = picker(1, 40, &[A, B, C, D]);
    let a = picker.take(A, 40, true);
    assert_eq!(a.len(), 40);
    let b = picker.take(B, 40, true);
    assert_eq!(b, a[..16], "the longest asked, and not too many");
    let c = picker.take(C, 20, true);
    assert_eq!(c, a[16..32], "those with the fewest requests");
    assert_eq!(picker.take(C, 8, true), a[32..]);
    let d = picker.take(D, 16, true);
    let mut cancels = Vec::new();
    assert_eq!(picker.accept(A, d[0], &mut cancels), BlockVerdict::Take);
    cancels.sort_unstable();
    assert_eq!(cancels.iter().map(|c| c.0).collect::<Vec<_>>(), [B, D]);
    assert_eq!(picker.accept(D, d[0], &mut cancels), BlockVerdict::Duplicate);
    picker.written(A, d[0]);
    assert_eq!(picker.accept(B, d[0], &mut cancels), BlockVerdict::Duplicate);
    picker.check_invariants();
}

#[test]
fn a_block_is_asked_of_three_peers_at_most() {
    let mut picker = picker(1, 1, &[A, B, C, D]);
    assert_eq!([A, B, C, D].map(|key| picker.take(key, 1, true).len()), [1, 1, 1, 0]);
    assert!(picker.take(B, 1, true).is_empty());
    assert_eq!(picker.remove_peer(B), 0, "others are still asked");
    assert_eq!(picker.take(D, 1, true).len(), 1);
}

#[test]
fn no_end_game_while_another_peer_has_an_unbegun_piece() {
    let mut picker = picker(3, 1, &[A]);
    picker.add_peer(B);
    picker.set_bitfield(B, bits(3, &[1]));
    while !picker.begun.contains_key(&PieceIndex(1)) {
        picker.take(A, 1, true);
    }
    let before = picker.order.is_exhausted();
    assert_eq!(picker.take(B, 5, true).len(), usize::from(before));
    picker.take(A, 3, true);
    assert_eq!(picker.take(B, 5, true).len(), usize::from(!before));
}

#[test]
fn slow_owners_are_relieved_first_in_the_end_game() {
    let mut picker = picker(2, 4, &[A, B, C]);
    let (a, b) = (picker.take(A, 4, true), picker.take(B, 4, false));
    let c = picker.take(C, 6, true);
    assert_eq!((&c[..4], &c[4..]), (&b[..], &a[..2]));
}
