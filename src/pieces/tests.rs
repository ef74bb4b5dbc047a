//! The piece manager on a real storage.

use std::io::IoSlice;

use super::*;
use crate::storage::{FileSpec, Layout};
use crate::strategy::picker::Speed;

/// One piece of two blocks, in a folder that is deleted with the second value.
fn one_piece() -> (PieceManager, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = FileSpec { path: "x".into(), length: u64::from(2 * BLOCK_SIZE), is_pad: false };
    let layout = Layout::new(2 * BLOCK_SIZE, vec![file]).expect("a layout");
    let storage = Arc::new(Storage::new(folder.path().into(), layout, 4));
    storage.prepare().expect("a file");
    storage.write_vectored_at(0, &[IoSlice::new(&[1; 9])]).expect("room");
    (PieceManager::new(storage, vec![[0; 20]], Bitfield::new(1)), folder)
}

fn fetch(pieces: &PieceManager, peer: PeerKey) -> (BlockDecisions, Vec<PieceIndex>) {
    let (mut blocks, mut decisions, mut unverified_pieces) = (Vec::new(), BlockDecisions::default(), Vec::new());
    let pick_context = PickContext::unproven(Duration::ZERO, Speed::Fast);
    pieces.pick(peer, 2, pick_context, EndGameLimit { outstanding: 0, least: 2, is_proven: false }, 1.0, &mut blocks);
    assert_eq!(blocks.len(), 2);
    pieces.accept(peer, blocks.iter().copied(), &mut decisions);
    pieces.written(peer, blocks.into_iter(), &mut unverified_pieces);
    (decisions, unverified_pieces)
}

#[test]
fn every_thread_that_hashed_some_of_a_failed_piece_notices_the_failure() {
    let (pieces, _folder) = one_piece();
    let peer = PeerKey(1);
    assert_eq!(pieces.add_peer(peer), None);
    assert!(pieces.set_bitfield(peer, Bitfield::full(1)));
    let (first, unverified_pieces) = fetch(&pieces, peer);
    assert_eq!(unverified_pieces, [PieceIndex(0)]);
    assert_eq!(pieces.piece_hashed(PieceIndex(0), false).senders, [peer]);
    let (second, _) = fetch(&pieces, peer);
    assert!(second.discards > first.discards, "running hashes must be dropped");
    assert_eq!(pieces.wasted(), u64::from(2 * BLOCK_SIZE));
}

/// A torrent of one piece, `wanted` or not, and verified if `have` is set.
fn done(wanted: bool, have: bool) -> (PieceManager, tempfile::TempDir) {
    let (pieces, folder) = one_piece();
    let bits = |set: bool| if set { Bitfield::full(1) } else { Bitfield::new(1) };
    let plan = Plan { wanted: bits(wanted), ..Plan::all(1) };
    (PieceManager::with_plan(pieces.storage, pieces.hashes, bits(have), plan), folder)
}

#[test]
fn complete_is_not_seed() {
    let size = u64::from(2 * BLOCK_SIZE);
    // Wanted, verified: complete, seed, partial seed; left, missing, wanted bytes.
    for (wanted, have, is, bytes) in [
        (true, true, [true, true, false], [0, 0, size]),
        (true, false, [false, false, false], [size, size, size]),
        (false, true, [true, true, false], [0, 0, 0]),
        (false, false, [true, false, true], [0, size, 0]),
    ] {
        let (pieces, _folder) = done(wanted, have);
        assert_eq!([pieces.is_complete(), pieces.is_seed(), pieces.is_partial_seed()], is, "{wanted} {have}");
        assert_eq!(
            [pieces.missing_wanted_bytes(), pieces.missing_bytes(), pieces.wanted_bytes()],
            bytes,
            "{wanted} {have}"
        );
    }
}

#[test]
fn two_that_are_done_need_no_connection() {
    for (wanted, have, upload_only, seed, needless) in [
        (true, false, true, true, false),
        (true, true, false, false, false),
        (true, true, true, false, true),
        (true, true, false, true, true),
        (false, false, false, false, false),
        (false, false, true, false, true),
        (false, false, false, true, true),
    ] {
        let (pieces, _folder) = done(wanted, have);
        let peer = PeerKey(1);
        pieces.add_peer(peer);
        assert!(pieces.set_bitfield(peer, if seed { Bitfield::full(1) } else { Bitfield::new(1) }));
        assert_eq!(pieces.is_redundant(peer, upload_only), needless, "{wanted} {have} {upload_only} {seed}");
        assert_eq!(pieces.is_interested_in(peer), wanted && !have && seed);
        assert_eq!(pieces.has(PieceIndex(0)), have, "served whatever is wanted");
    }
}

#[test]
fn a_bitfield_takes_nothing_back() {
    let (pieces, _folder) = one_piece();
    pieces.add_peer(PeerKey(1));
    assert!(pieces.set_bitfield(PeerKey(1), Bitfield::full(1)));
    assert!(!pieces.set_bitfield(PeerKey(1), Bitfield::new(1)));
    assert!(pieces.is_interested_in(PeerKey(1)));
}
