use super::*;
use crate::strategy::picker::tests::{A, B, C, bits, pieces};
use crate::strategy::picker::{BlockVerdict, PickContext, Plan, Speed};
use crate::types::{BLOCK_SIZE, Bitfield, PieceIndex};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: u32 = 3600;

/// A source that needs `per_block` for each block.
fn at(seconds: u32, per_block: Duration) -> PickContext {
    PickContext { now: SECOND * seconds, speed: Speed::Fast, answer_time: Some(per_block), per_block }
}

fn fast(seconds: u32) -> PickContext {
    at(seconds, Duration::from_millis(10))
}

/// Pieces of eight blocks. A is a web seed, and B and C are peers.
fn picker(pieces: u32) -> Picker {
    let mut picker = Picker::new(8 * BLOCK_SIZE, u64::from(pieces * 8 * BLOCK_SIZE), Bitfield::new(pieces), 7);
    for key in [A, B, C] {
        picker.add_peer(key);
        picker.set_bitfield(key, Bitfield::full(pieces));
    }
    picker.mark_web_seed(A);
    picker
}

fn give_all(picker: &mut Picker, key: PeerKey, blocks: &[BlockInfo]) {
    for block in blocks {
        picker.give(key, *block);
    }
}

/// A has delivered one block of the doubtful piece that it holds, and B, which spoilt it too, as many as there are in a piece.
fn doubtful_piece_of(picker: &mut Picker) -> Vec<BlockInfo> {
    let other = picker.take_as(B, 8, fast(0));
    give_all(picker, B, &other);
    picker.piece_hashed(other[0].piece, true);
    let piece = PieceIndex((0..2).find(|piece| *piece != other[0].piece.0).expect("a piece"));
    picker.parole.begin(piece, &[A, B]);
    let asked = picker.take_as(A, 8, fast(1));
    assert_eq!((asked.len(), asked[0].piece), (8, piece));
    picker.give(A, asked[0]);
    assert!(picker.take_as(B, 8, fast(1)).is_empty(), "it has one sender");
    asked
}

#[test]
fn a_web_seed_that_trickles_loses_a_doubtful_piece() {
    let mut picker = picker(2);
    let asked = doubtful_piece_of(&mut picker);
    assert_eq!(picker.take_as(B, 8, fast(HOUR)).len(), 8, "B downloads the whole piece");
    assert_eq!(picker.accept(A, asked[1], &mut Vec::new()), BlockVerdict::Duplicate);
    assert!(picker.take_as(A, 8, fast(HOUR + 1)).is_empty(), "A does not get it back from a peer that delivers");
}

#[test]
fn a_peer_all_of_whose_requests_are_overdue_loses_a_doubtful_piece() {
    let mut picker = picker(2);
    picker.peers[0].is_web_seed = false;
    doubtful_piece_of(&mut picker);
    assert_eq!(picker.deadline(A), None);
    assert_eq!(picker.take_as(B, 8, fast(HOUR)).len(), 8);
}

#[test]
fn blocks_of_a_late_web_seed_come_first_and_idle_peers_pick_again_for_them() {
    let mut picker = picker(20);
    picker.set_plan(Plan { is_sequential: true, ..Plan::all(20) });
    let asked = picker.take_as(A, 12, fast(0));
    assert_eq!(pieces(&asked), [0, 1]);
    let deadline = picker.deadline(A).expect("a pick");
    assert!((SECOND * 10..SECOND * 11).contains(&deadline), "{deadline:?}");
    let mut out = Vec::new();
    picker.set_bitfield(B, bits(20, &[0, 5]));
    assert_eq!(picker.pick(B, 1000, fast(1), &mut out), Some(deadline), "an idle peer");
    assert_eq!(pieces(&out), [5]);
    let after = picker.take_as(C, 12, fast(11));
    assert!(after.iter().all(|block| asked.contains(block)) && after.len() == 12);
    assert_eq!((picker.deadline(A), picker.is_stalled(A)), (None, true));
}

#[test]
fn an_empty_pick_has_no_deadline() {
    let mut picker = picker(2);
    picker.set_bitfield(A, bits(2, &[0]));
    let asked = picker.take_as(A, 8, fast(0));
    give_all(&mut picker, A, &asked);
    picker.piece_hashed(PieceIndex(0), true);
    assert_eq!(picker.pick(A, 8, fast(1), &mut Vec::new()), None, "nobody is late");
    assert_eq!(picker.deadline(A), None);
    picker.set_bitfield(A, bits(2, &[1]));
    let asked = picker.take_as(A, 8, fast(2));
    picker.release(A, &asked);
    picker.pick_within(A, 8, fast(3), &[PieceIndex(0)], &mut Vec::new());
    assert_eq!((asked.len(), picker.deadline(A)), (8, None));
}

#[test]
fn a_slow_web_seed_on_time_keeps_its_blocks() {
    let mut picker = picker(20);
    let four_kilobytes_a_second = SECOND * 4;
    let asked = picker.take_as(A, 2, at(0, four_kilobytes_a_second));
    assert_eq!(picker.deadline(A), Some(SECOND * 30));
    assert!(picker.take_as(B, 8, fast(29)).iter().all(|block| !asked.contains(block)));
    assert!(!picker.is_stalled(A));
    give_all(&mut picker, A, &asked);
    assert!(!picker.take_as(A, 1, at(30, SECOND * 16)).is_empty());
    assert_eq!(picker.deadline(A), Some(SECOND * 60), "no pick has longer");
}

#[test]
fn a_late_web_seed_that_nobody_replaces_still_delivers() {
    let mut picker = picker(2);
    picker.remove_peer(B);
    picker.remove_peer(C);
    let asked = picker.take_as(A, 8, fast(0));
    picker.take_back_late(SECOND * 60);
    picker.check_invariants();
    assert!(picker.are_left_to(A, &asked) && picker.is_stalled(A));
    picker.give(A, asked[0]);
    assert!(!picker.are_left_to(A, &asked[..1]) && picker.are_left_to(A, &asked[..2]));
    picker.add_peer(B);
    picker.set_bitfield(B, bits(2, &[asked[0].piece.0]));
    assert_eq!(picker.take_as(B, 8, fast(61)), asked[1..]);
    assert!(!picker.are_left_to(A, &asked), "B was asked instead");
}

#[test]
fn a_web_seed_that_sends_whole_files_has_longer_for_a_piece() {
    let mut picker = picker(2);
    let (mut claimed, slow) = (Vec::new(), at(0, SECOND * 5));
    picker.pick_within(A, usize::MAX, slow, &[PieceIndex(0)], &mut claimed);
    assert_eq!((claimed.len(), picker.deadline(A)), (8, Some(Duration::from_millis(100_100))));
    picker.release(A, &claimed);
    picker.take_back_late(SECOND * 200);
    assert!(!picker.is_stalled(A), "it had nothing to deliver");
}
