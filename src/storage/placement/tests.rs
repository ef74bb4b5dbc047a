//! Selections on a real disk: which files appear, where bytes go, and that no data is lost when the selection changes.

mod part_file;

use std::collections::HashSet;
use std::fs;
use std::io::IoSlice;
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;
use sha1::{Digest, Sha1};
use tempfile::{TempDir, tempdir};

use super::*;
use crate::storage::ownership::{FileAction, Refusal};
use crate::storage::survey::Survey;
use crate::storage::{Allocation, CheckProgress, FileSpec, StorageError, StorageErrorKind, check, flaws, lengths};
use crate::types::{Bitfield, Sha1Hash};

const PARTS: &str = ".parts";

impl Storage {
    /// The pieces with a byte of a wanted file; all pieces if all files are wanted.
    pub(in crate::storage) fn wanted_pieces(&self) -> Bitfield {
        let files = self.layout.files().iter().enumerate().filter(|(_, spec)| !spec.is_pad);
        let (wanted, unwanted): (Vec<_>, Vec<_>) = files.map(|(file, _)| file).partition(|&file| self.wants(file));
        if unwanted.is_empty() {
            return Bitfield::full(self.layout.piece_count());
        }
        let mut pieces = Bitfield::new(self.layout.piece_count());
        for piece in wanted.into_iter().flat_map(|file| self.layout.pieces_of(file)) {
            pieces.set(PieceIndex(piece));
        }
        pieces
    }
}

fn file(path: &str, length: u64) -> FileSpec {
    FileSpec { path: path.into(), length, is_pad: path == "pad" }
}

/// Pieces of 10 bytes: `a` alone in 0, with `d/b` and padding in 1; `c` alone in 2; `x/d` and `x/f` in 3; `x/f` alone in 4.
fn layout() -> Layout {
    let files = [("a", 14), ("d/b", 3), ("pad", 3), ("c", 10), ("x/d", 5), ("x/e", 0), ("x/f", 8)];
    Layout::new(10, files.map(|(path, length)| file(path, length)).into()).unwrap()
}

/// Numbered bytes, but zeros in the padding.
fn payload(layout: &Layout) -> Vec<u8> {
    let pads = layout.files().iter().flat_map(|spec| (0..spec.length).map(|_| spec.is_pad));
    pads.enumerate().map(|(i, pad)| if pad { 0 } else { (i % 251) as u8 + 1 }).collect()
}

fn hashes(layout: &Layout) -> Vec<Sha1Hash> {
    payload(layout).chunks(layout.piece_length() as usize).map(|piece| Sha1::digest(piece).into()).collect()
}

fn selected(dir: &TempDir, layout: &Layout, wanted: &[bool]) -> Storage {
    let it = Storage::new(dir.path().to_owned(), layout.clone(), 2).select(wanted, Path::new(PARTS));
    it.prepare().unwrap();
    it
}

/// The flags for [`layout`]'s files if only the named ones are wanted.
fn only(names: &[&str]) -> Vec<bool> {
    layout().files().iter().map(|spec| names.iter().any(|name| spec.path == Path::new(name))).collect()
}

fn write(it: &Storage, piece: u32) {
    let bytes = payload(it.layout());
    let offset = it.layout().offset(PieceIndex(piece), 0);
    let size = it.layout().piece_size(PieceIndex(piece)) as usize;
    let piece = &bytes[offset as usize..offset as usize + size];
    let (first, second) = piece.split_at(size / 2);
    it.write_vectored_at(offset, &[IoSlice::new(first), IoSlice::new(second)]).unwrap();
}

fn write_all(it: &Storage, pieces: &[u32]) {
    for &piece in pieces {
        write(it, piece);
    }
}

fn found(it: &Storage) -> Bitfield {
    check(it, &hashes(it.layout()), 2, &CheckProgress::default(), &AtomicBool::new(false)).unwrap()
}

fn found_pieces(it: &Storage) -> Vec<u32> {
    found(it).iter().map(|piece| piece.0).collect()
}

/// The files below a folder, in order.
fn on_disk(dir: &TempDir) -> Vec<String> {
    fn walk(folder: &Path, root: &Path, names: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            names.push(path.strip_prefix(root).unwrap().display().to_string());
            if path.is_dir() {
                walk(&path, root, names);
            }
        }
    }
    let mut names = Vec::new();
    walk(dir.path(), dir.path(), &mut names);
    names.sort();
    names
}

#[test]
fn places_do_not_depend_on_the_selection() {
    let layout = layout();
    let runs = |wanted: &[bool], offset, len| {
        let placement = FilePlacement::new(&layout, wanted, Path::new(PARTS), |_| false);
        FileRuns::new(&layout, &placement, offset, len).map(|run| (run.file, run.location, run.len)).collect::<Vec<_>>()
    };
    let (own, part_file) =
        (|file_index, offset| Location::At { file_index, offset }, |offset| Location::At { file_index: 7, offset });
    let of_b = (1, part_file(4), 3);
    assert_eq!(
        runs(&only(&["c", "x/d"]), 0, 43),
        [
            (0, Location::Nowhere, 10),
            (0, part_file(0), 4),
            of_b,
            (2, Location::Pad, 3),
            (3, own(3, 0), 10),
            (4, own(4, 0), 5),
            (6, part_file(15), 5),
            (6, Location::Nowhere, 3)
        ]
    );
    assert_eq!(runs(&only(&["a"]), 12, 6), [(0, own(0, 12), 2), of_b, (2, Location::Pad, 1)]);
    assert_eq!(runs(&[], 12, 6), [(0, own(0, 12), 2), (1, own(1, 0), 3), (2, Location::Pad, 1)]);
    assert_eq!(runs(&only(&["x/f"]), 33, 9), [(4, part_file(13), 2), (6, own(6, 0), 7)]);
}

#[test]
fn unwanted_files_do_not_appear() {
    let dir = tempdir().unwrap();
    let it = selected(&dir, &layout(), &only(&["a", "c"]));
    assert_eq!(on_disk(&dir), ["a", "c"]);
    let wanted = it.wanted_pieces();
    assert_eq!(wanted.iter().map(|piece| piece.0).collect::<Vec<_>>(), [0, 1, 2]);
    assert!((0..7).all(|file| it.wants(file) == [0, 3].contains(&file)));
    it.check_files_in_place().unwrap();
    write_all(&it, &[0, 2]);
    assert_eq!(on_disk(&dir), ["a", "c"], "before anything needs it there is no part file");
    write(&it, 1);
    assert_eq!(on_disk(&dir), [PARTS, "a", "c"]);
    assert_eq!(fs::read(dir.path().join(PARTS)).unwrap()[4..], payload(it.layout())[14..17]);
    it.check_files_in_place().unwrap();
    it.sync().unwrap();
    assert_eq!(found_pieces(&it), [0, 1, 2]);
    let outside = it.write_vectored_at(38, &[IoSlice::new(&[1; 4])]).unwrap_err();
    assert_eq!(outside.kind(), StorageErrorKind::Missing);
    for missing in [it.read_exact_at(41, &mut [0]).unwrap_err(), it.has_data(41, 1).unwrap_err()] {
        assert_eq!(missing.kind(), StorageErrorKind::Missing);
        assert!(missing.to_string().contains("x/f"), "{missing}");
    }
}

#[test]
fn the_part_file_must_stay_where_it_is() {
    let dir = tempdir().unwrap();
    let it = selected(&dir, &layout(), &only(&["a"]));
    write_all(&it, &[0, 1]);
    it.check_files_in_place().unwrap();
    fs::write(dir.path().join(PARTS), [1; 6]).unwrap();
    assert_eq!(it.check_files_in_place().unwrap_err().kind(), StorageErrorKind::Missing);
    fs::remove_file(dir.path().join(PARTS)).unwrap();
    assert_eq!(it.check_files_in_place().unwrap_err().kind(), StorageErrorKind::Missing);
    it.close();
    let gone = it.write_vectored_at(14, &[IoSlice::new(&[1])]).unwrap_err();
    assert_eq!(gone.kind(), StorageErrorKind::Missing, "its content would be lost in silence");
    // The next run downloads one piece again.
    let it = selected(&dir, &layout(), &only(&["a"]));
    assert_eq!(found_pieces(&it), [0]);
    write(&it, 1);
    assert_eq!(found_pieces(&it), [0, 1]);
}

#[test]
fn files_that_are_selected_later_get_their_bytes_from_the_part_file() {
    let dir = tempdir().unwrap();
    let it = selected(&dir, &layout(), &only(&["a", "x/d"]));
    write_all(&it, &[0, 1, 3]);
    assert_eq!(on_disk(&dir), [PARTS, "a", "x", "x/d"]);
    let it = selected(&dir, &layout(), &only(&["a", "d/b", "x/d"]));
    assert_eq!(on_disk(&dir), [PARTS, "a", "d", "d/b", "x", "x/d"], "x/f needs the part file still");
    assert_eq!(fs::read(dir.path().join("d/b")).unwrap(), payload(it.layout())[14..17]);
    assert_eq!(found_pieces(&it), [0, 1, 3]);
    let it = selected(&dir, &layout(), &only(&["d/b", "x/f", "x/d"]));
    assert!(!dir.path().join(PARTS).exists(), "a has a file of its own, c shares with nobody");
    assert_eq!(found_pieces(&it), [0, 1, 3], "nor is a lost, which is not wanted any more");
    write(&it, 4);
    assert_eq!(fs::read(dir.path().join("x/f")).unwrap(), payload(it.layout())[35..]);
}

#[test]
fn an_unwanted_file_that_is_there_is_used_and_a_foreign_one_is_left_alone() {
    let dir = tempdir().unwrap();
    fs::create_dir_all(dir.path().join("x")).unwrap();
    fs::write(dir.path().join("a"), &payload(&layout())[..14]).unwrap();
    fs::write(dir.path().join("x/d"), "too long").unwrap();
    let it = Storage::new(dir.path().to_owned(), layout(), 2).select(&only(&["d/b", "x/f"]), Path::new(PARTS));
    assert_eq!(it.prepare().unwrap().found_bytes, 14);
    assert_eq!(found_pieces(&it), [0]);
    write(&it, 1);
    assert!(!dir.path().join(PARTS).exists());
    write_all(&it, &[3, 4]);
    assert_eq!(fs::read(dir.path().join("x/d")).unwrap(), b"too long");
    assert_eq!(found_pieces(&it), [0, 1, 3, 4]);
    assert_eq!(fs::read(dir.path().join(PARTS)).unwrap()[10..15], payload(it.layout())[30..35]);
}

#[test]
fn a_stale_part_file_never_replaces_the_bytes_of_a_file() {
    let dir = tempdir().unwrap();
    let it = selected(&dir, &layout(), &only(&["a"]));
    it.write_vectored_at(10, &[IoSlice::new(&[99; 10])]).unwrap();
    drop(it);
    fs::create_dir(dir.path().join("d")).unwrap();
    fs::write(dir.path().join("d/b"), &payload(&layout())[14..16]).unwrap();
    selected(&dir, &layout(), &only(&["a", "d/b"]));
    let b = fs::read(dir.path().join("d/b")).unwrap();
    assert_eq!((&b[..2], b[2]), (&payload(&layout())[14..16], 99), "only what the file did not have");
}

#[test]
fn stamps_of_unwanted_files_are_the_part_files() {
    let dir = tempdir().unwrap();
    let it = selected(&dir, &layout(), &only(&["a", "x/d"]));
    assert!([1, 2, 3, 6].map(|file| it.stamp(file)).iter().all(Option::is_none));
    write_all(&it, &[1, 3]);
    assert!(it.stamp(1).is_some() && it.stamp(1) == it.stamp(6));
    assert_ne!(it.stamp(0), it.stamp(1));
    assert_eq!([2, 3, 5].map(|file| it.stamp(file)), [None; 3], "padding, and those that share no piece");
    assert!(
        it.last_write_times(6).is_some()
            && it.last_write_times(1) == it.last_write_times(6)
            && it.last_write_times(0) != it.last_write_times(1)
    );
}

#[test]
fn a_missing_file_does_not_spoil_the_verdict_on_its_neighbours() {
    let dir = tempdir().unwrap();
    let it = selected(&dir, &layout(), &only(&["a", "x/d"]));
    write_all(&it, &[0, 1, 3]);
    // A caller who does not know which files were wanted.
    let lengths = lengths(dir.path(), &layout()).unwrap();
    let there: Vec<bool> = lengths.iter().map(Option::is_some).collect();
    let it = Storage::new(dir.path().to_owned(), layout(), 2).select(&there, Path::new(PARTS));
    let flaws = flaws(&layout(), &lengths, &found(&it));
    assert_eq!(flaws.iter().map(|flaw| flaw.file).collect::<Vec<_>>(), [1, 3, 5, 6], "those that are not there");
    assert!(flaws.iter().all(|flaw| flaw.found.is_none() && flaw.bad.is_empty() && flaw.unknown.is_empty()));
}

#[test]
fn a_part_file_has_the_torrents_name() {
    assert_eq!(part_name(&InfoHash([0xab; 20])), Path::new(&format!(".{}.parts", "ab".repeat(20))));
}

#[test]
fn a_foreign_file_with_the_part_files_name_stays_as_it_is() {
    type MakeForeign = fn(&Path) -> std::io::Result<()>;
    let makes: [(&str, MakeForeign); 3] = [
        // The head of libtorrent's part file: number of pieces and their length, then the location of each.
        ("libtorrent", |usual| fs::write(usual, [[0, 0, 0, 5], [0, 0, 0, 10], [0xff; 4], [0; 4]].concat())),
        ("a link", |usual| std::os::unix::fs::symlink("mine", usual)),
        ("a hard link", |usual| fs::hard_link(usual.with_file_name("mine"), usual)),
    ];
    for (what, make) in makes {
        let dir = tempdir().unwrap();
        let (usual, mine) = (dir.path().join(PARTS), dir.path().join("mine"));
        fs::write(&mine, "the user's").unwrap();
        make(&usual).unwrap();
        let before = fs::read(&usual).unwrap();
        let is_kept = || fs::read(&usual).unwrap() == before && fs::read(&mine).unwrap() == b"the user's";
        let it = selected(&dir, &layout(), &only(&["a", "x/d"]));
        write_all(&it, &[0, 1, 3]);
        assert!(is_kept() && found_pieces(&it) == [0, 1, 3], "{what}");
        let it = selected(&dir, &layout(), &[true; 7]);
        assert!(is_kept() && found_pieces(&it) == [0, 1, 3], "{what}: its own was found again");
        let hidden = on_disk(&dir).into_iter().filter(|name| name.starts_with('.'));
        assert_eq!(hidden.collect::<Vec<_>>(), [PARTS], "{what}: its own is not needed any more");
    }
}

/// A torrent's files, and its runs: one flag per file that is wanted, and one per piece that the run writes.
#[derive(Debug)]
struct SelectionRuns {
    layout: Layout,
    runs: Vec<(Allocation, Vec<bool>, Vec<bool>)>,
}

fn selection_runs() -> impl Strategy<Value = SelectionRuns> {
    let length = prop_oneof![1 => Just(0u64), 3 => 1u64..20, 1 => 20u64..90];
    let files = proptest::collection::vec((length, prop::bool::weighted(0.2), 0u8..3), 1..9);
    let allocation = prop_oneof![Just(Allocation::None), Just(Allocation::Sparse), Just(Allocation::Falloc)];
    let flags = |most| proptest::collection::vec(any::<bool>(), most);
    let runs = proptest::collection::vec((allocation, flags(9), flags(40)), 1..5);
    (files, 1u32..40, runs).prop_map(|(files, piece_length, runs)| {
        let spec = |(i, (length, pad, folder)): (usize, (u64, bool, u8))| FileSpec {
            path: format!("d{folder}/{i}").into(),
            length,
            is_pad: pad,
        };
        let files = files.into_iter().enumerate().map(spec).collect();
        SelectionRuns { layout: Layout::new(piece_length, files).unwrap(), runs }
    })
}

/// One run: it finds the earlier data, reads back what it writes, and files that were never wanted do not exist on disk.
fn check_run(dir: &TempDir, selection: &SelectionRuns, run: usize, have: &mut Bitfield, ever: &mut HashSet<PathBuf>) {
    let (allocation, wanted, writes) = &selection.runs[run];
    let layout = &selection.layout;
    let it = Storage::new(dir.path().to_owned(), layout.clone(), 2);
    let it = it.with_allocation(*allocation).select(wanted, Path::new(PARTS));
    it.prepare().unwrap();
    let there = found(&it);
    assert!(have.is_within(&there), "lost: {have:?} -> {there:?}");
    let bytes = payload(layout);
    let wanted = it.wanted_pieces();
    for piece in wanted.iter().filter(|piece| writes.get(piece.as_usize()).copied().unwrap_or(true)) {
        write(&it, piece.0);
        have.set(piece);
    }
    for piece in have.iter() {
        let offset = layout.offset(piece, 0);
        let mut back = vec![0; layout.piece_size(piece) as usize];
        it.read_exact_at(offset, &mut back).unwrap();
        assert_eq!(back, bytes[offset as usize..offset as usize + back.len()]);
    }
    if wanted.is_within(have) {
        it.check_files_in_place().unwrap();
    }
    for (file, spec) in layout.files().iter().enumerate() {
        if it.wants(file) && !spec.is_pad {
            ever.insert(spec.path.clone());
            let length = fs::metadata(dir.path().join(&spec.path)).unwrap().len();
            assert!(length == spec.length || (*allocation == Allocation::None && length < spec.length));
        }
    }
    let folders: HashSet<_> = ever.iter().filter_map(|path| path.parent()).collect();
    for name in on_disk(dir) {
        let path = Path::new(&name);
        assert!(ever.contains(path) || folders.contains(path) || name == PARTS, "{name} was never wanted");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn nothing_is_lost_between_selections_and_nothing_unwanted_appears(mut selection in selection_runs()) {
        let dir = tempdir().unwrap();
        selection.runs.push((Allocation::Sparse, Vec::new(), Vec::new()));
        let mut have = Bitfield::new(selection.layout.piece_count());
        let mut ever = HashSet::new();
        for run in 0..selection.runs.len() {
            check_run(&dir, &selection, run, &mut have, &mut ever);
        }
        prop_assert!(have.is_full() && !dir.path().join(PARTS).exists());
        let bytes = payload(&selection.layout);
        for (file, spec) in selection.layout.files().iter().enumerate().filter(|(_, spec)| !spec.is_pad) {
            let start = selection.layout.start_of(file) as usize;
            prop_assert_eq!(&fs::read(dir.path().join(&spec.path)).unwrap(), &bytes[start..start + spec.length as usize]);
        }
    }
}
