//! Blocks of unfinished pieces in the record.

use super::*;

/// A folder with the file `a` of six blocks, in pieces of three.
fn fixture_of_blocks() -> StoreFixture {
    let dir = tempfile::tempdir().expect("a folder");
    let file = FileSpec { path: "a".into(), length: u64::from(6 * BLOCK_SIZE), is_pad: false };
    let layout = Layout::new(3 * BLOCK_SIZE, vec![file]).expect("a layout");
    let storage = Storage::new(dir.path().join("out"), layout, 4);
    storage.prepare().expect("a file");
    StoreFixture { dir, storage }
}

/// The second piece of [`fixture_of_blocks`], with these of its blocks.
fn second_piece(blocks: &[u32]) -> Vec<PartialPiece> {
    let mut partial = PartialPiece::new(PieceIndex(1), 3);
    for block in blocks {
        partial.set(*block);
    }
    vec![partial]
}

#[test]
fn blocks_of_unfinished_pieces_are_restored_until_their_file_changes() {
    let fixture = fixture_of_blocks();
    let write = |block: u32| {
        let bytes = vec![7; BLOCK_SIZE as usize];
        fixture.storage.write_vectored_at(u64::from(block * BLOCK_SIZE), &[IoSlice::new(&bytes)]).expect("room");
    };
    let resumed_blocks = || {
        let mut resume_store = fixture.resume_store();
        assert_eq!(resume_store.load_trusted_pieces(&fixture.storage).count(), 0);
        resume_store.resumed_blocks().to_vec()
    };
    let resume_store = fixture.resume_store();
    write(3);
    write(5);
    // Even without a complete piece.
    resume_store.finish(&fixture.storage, (Bitfield::new(2), second_piece(&[0, 2])), |_| false);
    assert_eq!(resumed_blocks(), second_piece(&[0, 2]));
    // They stay in the record of a run that is killed before it receives anything, and make no new record necessary.
    let mut resume_store = fixture.resume_store();
    resume_store.load_trusted_pieces(&fixture.storage);
    assert_eq!((resume_store.due((0, 2)), resume_store.due((0, 3))), (None, Some(Duration::ZERO)));
    resume_store.set_owned_files(vec![(0, 9)], &fixture.storage, &Bitfield::new(2));
    assert_eq!(fixture.decoded().partial, second_piece(&[0, 2]));
    assert_eq!(resumed_blocks(), second_piece(&[0, 2]));
    resume_store.retain_resumed_blocks(|piece, block| piece == PieceIndex(1) && block == 2);
    assert_eq!(resume_store.resumed_blocks(), second_piece(&[2]));
    // A run that is killed later has written to the file, and its record contains the file's earlier metadata.
    write(4);
    assert_eq!(resumed_blocks(), []);
}
