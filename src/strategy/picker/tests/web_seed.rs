//! The picks of web seeds.

use super::*;

/// The runs of adjacent pieces in a pick of whole pieces.
fn runs_of(picked: &[BlockInfo]) -> Vec<(u32, u32)> {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for block in picked {
        match runs.last_mut() {
            Some((_, last)) if *last == block.piece.0 || *last + 1 == block.piece.0 => *last = block.piece.0,
            _ => runs.push((block.piece.0, block.piece.0)),
        }
    }
    runs
}

#[test]
fn a_web_seed_gets_adjacent_pieces() {
    let mut picker = picker(1000, 16, &[A]);
    picker.mark_web_seed(A);
    let all: Vec<_> = (0..10).map(|_| runs_of(&picker.take(A, 100 * 16, true))).collect();
    let requests: usize = all.iter().map(Vec::len).sum();
    assert!(requests <= 12, "{all:?}");
}

#[test]
fn a_web_seed_gets_what_follows_the_rarest_piece_if_there_are_leechers() {
    let mut picker = picker(1000, 16, &[A]);
    picker.mark_web_seed(A);
    picker.add_peer(B);
    let mut bits = Bitfield::full(1000);
    bits.clear(PieceIndex(500));
    picker.set_bitfield(B, bits);
    // The first pieces are random.
    let first = picker.take(A, 4 * 16, true);
    for piece in first.iter().filter_map(|&block| picker.give(A, block)).collect::<Vec<_>>() {
        picker.piece_hashed(piece, true);
    }
    let next = picker.take(A, 100 * 16, true);
    assert_eq!(next[0].piece, PieceIndex(500), "the rarest piece");
    assert!(runs_of(&next).len() <= 4, "{:?}", runs_of(&next));
}
