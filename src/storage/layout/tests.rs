//! Layouts, their spans and their pieces.

use super::*;
use proptest::prelude::*;

fn layout(piece_length: u32, lengths: &[u64]) -> Layout {
    let files = lengths.iter().enumerate();
    let files = files.map(|(i, &length)| FileSpec { path: format!("f{i}").into(), length, is_pad: false }).collect();
    Layout::new(piece_length, files).unwrap()
}

#[test]
fn the_last_piece_is_short_and_none_follows() {
    let it = layout(10, &[7, 0, 16]);
    assert_eq!((it.total(), it.piece_count()), (23, 3));
    let sizes: Vec<u32> = (0..5).map(|p| it.piece_size(PieceIndex(p))).collect();
    assert_eq!(sizes, [10, 10, 3, 0, 0]);
    assert_eq!(it.piece_size(PieceIndex(u32::MAX)), 0);
    assert_eq!(layout(10, &[20]).piece_size(PieceIndex(1)), 10);
    assert_eq!(layout(10, &[0]).piece_count(), 0);
}

#[test]
fn layouts_beyond_the_largest_offset_and_unsafe_paths_are_refused() {
    let file = |path: &str, length| FileSpec { path: path.into(), length, is_pad: false };
    let new = |piece_length, files| Layout::new(piece_length, files).map(|_| ()).unwrap_err();
    assert_eq!(new(0, vec![]), LayoutError::NoPieceLength);
    assert_eq!(new(1 << 20, vec![file("a", u64::MAX), file("b", 1)]), LayoutError::TooLarge);
    assert_eq!(new(u32::MAX, vec![file("a", 1 << 63)]), LayoutError::TooLarge);
    assert_eq!(new(1, vec![file("a", 1 << 32)]), LayoutError::TooLarge);
    for path in ["", "/etc/x", "../x", "a/../../x", "."] {
        assert_eq!(new(1, vec![file("ok", 1), file(path, 1)]), LayoutError::Path { number: 1 }, "{path}");
    }
}

#[test]
fn a_file_goes_elsewhere_unless_another_is_in_the_way() {
    let file = |path: &str, pad| FileSpec { path: path.into(), length: 4, is_pad: pad };
    let files = vec![file("d/a", false), file("d/b", false), file("pad", true), file("e/f/c", false)];
    let mut it = Layout::new(4, files).unwrap();
    let rename = |it: &mut Layout, file, path: &str| it.rename_all(&[(file, PathBuf::from(path))]);
    assert_eq!(rename(&mut it, 0, "pad"), Ok(()), "padding is never there");
    assert_eq!(rename(&mut it, 0, "d/new/"), Ok(()));
    assert_eq!(rename(&mut it, 0, "d/new"), Ok(()), "nobody is in its own way");
    for path in ["", "/x", "../x", "d/../../x", "."] {
        assert_eq!(rename(&mut it, 0, path), Err(LayoutError::Path { number: 0 }), "{path}");
    }
    for (path, other) in [("d/b", "d/b"), ("d/./b", "d/b"), ("d/b/x", "d/b"), ("e", "e/f/c"), ("e/f", "e/f/c")] {
        let taken = rename(&mut it, 0, path);
        let (path, other) = (PathBuf::from(path).components().collect(), PathBuf::from(other));
        assert_eq!(taken, Err(LayoutError::Taken { path, other }));
    }
    assert_eq!(rename(&mut it, 2, "x"), Err(LayoutError::NoFile { number: 2 }));
    assert_eq!(rename(&mut it, 4, "x"), Err(LayoutError::NoFile { number: 4 }));
    let paths: Vec<_> = it.files().iter().map(|file| file.path.to_str().unwrap()).collect();
    assert_eq!(paths, ["d/new", "d/b", "pad", "e/f/c"]);
    let taken = rename(&mut it, 0, "e").unwrap_err();
    assert_eq!(taken.to_string(), "a file cannot be saved as e: it conflicts with e/f/c");
    let swapped = [(0, PathBuf::from("d/b")), (1, PathBuf::from("d/new"))];
    assert_eq!(it.rename_all(&swapped), Ok(()), "only the paths afterwards count");
    assert!(it.rename_all(&[(0, PathBuf::from("x")), (1, PathBuf::from("x/y"))]).is_err());
    assert_eq!(it.files()[0].path, Path::new("d/b"), "it stays as it was");
}

#[test]
fn very_many_files_go_elsewhere_in_a_moment() {
    let files = (0..50_000).map(|n| FileSpec { path: format!("d/{n}").into(), length: 1, is_pad: false }).collect();
    let mut it = Layout::new(4, files).unwrap();
    let renamed: Vec<(u32, PathBuf)> = (0..50_000).map(|n| (n, format!("e/{n}").into())).collect();
    assert_eq!(it.rename_all(&renamed), Ok(()));
    assert_eq!(it.files()[7].path, Path::new("e/7"));
}

proptest! {
    #[test]
    fn spans_equal_a_walk_byte_by_byte(
        lengths in proptest::collection::vec(prop_oneof![Just(0u64), 1u64..12], 0..10),
        offset in 0u64..80,
        len in 0u64..80,
    ) {
        let it = layout(4, &lengths);
        let bytes = lengths.iter().enumerate().flat_map(|(file, &length)| (0..length).map(move |at| (file, at)));
        let model: Vec<(usize, u64)> = bytes.skip(offset as usize).take(len as usize).collect();
        let spans: Vec<Span> = it.spans(offset, len).collect();
        let walked: Vec<(usize, u64)> =
            spans.iter().flat_map(|s| (s.offset..s.offset + s.len).map(|at| (s.file, at))).collect();
        prop_assert_eq!(walked, model);
        // The fewest possible spans: one per file, none empty.
        prop_assert!(spans.windows(2).all(|two| two[0].file < two[1].file));
        prop_assert!(spans.iter().all(|s| s.len > 0));
    }

    #[test]
    fn pieces_tile_the_torrent(lengths in proptest::collection::vec(0u64..50, 0..6), piece_length in 1u32..20) {
        let it = layout(piece_length, &lengths);
        let mut at = 0;
        for piece in (0..it.piece_count()).map(PieceIndex) {
            prop_assert_eq!(it.offset(piece, 0), at);
            prop_assert!(it.piece_size(piece) > 0);
            at += u64::from(it.piece_size(piece));
        }
        prop_assert_eq!(at, it.total());
    }
}

#[test]
fn blocks_of_padding_at_the_end_of_a_piece_are_known() {
    let (block, file) = (u64::from(BLOCK_SIZE), |length, pad| FileSpec { path: "x".into(), length, is_pad: pad });
    let layout = |files: &[(u64, bool)]| {
        let files = files.iter().map(|(length, pad)| file(*length, *pad)).collect();
        Layout::new(4 * BLOCK_SIZE, files).unwrap().padding()
    };
    assert_eq!(layout(&[(1, false), (4 * block - 1, true), (5, false)]), [(PieceIndex(0), 3)]);
    assert_eq!(layout(&[(block, false), (3 * block, true)]), [(PieceIndex(0), 3)]);
    assert_eq!(layout(&[(3 * block + 1, false), (block - 1, true), (5, false)]), [], "a part of a block");
    assert_eq!(layout(&[(1, false), (2 * block, true), (4 * block, false)]), [], "not at the end");
    assert_eq!(layout(&[(1, false), (8 * block - 1, true)]), [(PieceIndex(0), 3), (PieceIndex(1), 4)]);
}
