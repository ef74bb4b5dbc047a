//! Evidence from real files: what their bytes say about their origin.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use tempfile::{TempDir, tempdir};

use super::*;
use crate::storage::{CheckProgress, FileSpec, Layout, Refusal, check};
use crate::types::InfoHash;
use sha1::{Digest, Sha1};

const HASH: InfoHash = InfoHash([1; 20]);
/// The piece length in bytes.
const PIECE: usize = 1000;

/// Some files of a torrent, in their own folder.
struct SurveyFixture {
    dir: TempDir,
    storage: Storage,
    hashes: Vec<Sha1Hash>,
    content: Vec<u8>,
}

impl SurveyFixture {
    /// Files of these lengths; a file named `pad` is padding. The bytes of the pieces in `zeros` are zero.
    fn new(files: &[(&str, u64)], zeros: &[usize]) -> SurveyFixture {
        SurveyFixture::with_pieces(PIECE, files, zeros)
    }

    /// The same with pieces of `size` bytes.
    fn with_pieces(size: usize, files: &[(&str, u64)], zeros: &[usize]) -> SurveyFixture {
        let dir = tempdir().unwrap();
        let spec = |&(path, length): &(&str, u64)| FileSpec { path: path.into(), length, is_pad: path == "pad" };
        let layout = Layout::new(size as u32, files.iter().map(spec).collect()).unwrap();
        let mut content: Vec<u8> = (0..layout.total() as usize).map(|at| (at % 251) as u8 + 1).collect();
        for (file, spec) in layout.files().iter().enumerate().filter(|(_, spec)| spec.is_pad) {
            let start = layout.start_of(file) as usize;
            content[start..start + spec.length as usize].fill(0);
        }
        for (_, piece) in content.chunks_mut(size).enumerate().filter(|(piece, _)| zeros.contains(piece)) {
            piece.fill(0);
        }
        let hashes = content.chunks(size).map(|piece| Sha1::digest(piece).into()).collect();
        SurveyFixture { storage: Storage::new(dir.path().to_owned(), layout, 4), dir, hashes, content }
    }

    /// The torrent's content of a file.
    fn right(&self, file: usize) -> Vec<u8> {
        let start = self.storage.layout().start_of(file) as usize;
        self.content[start..start + self.storage.layout().files()[file].length as usize].to_vec()
    }

    fn write(&self, file: usize, bytes: &[u8]) {
        let path = self.dir.path().join(self.storage.name(file));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn decide(&self, overwrite: bool) -> Result<Vec<FileAction>, StorageError> {
        self.decide_claimed(overwrite, OwnershipClaim::None)
    }

    fn decide_claimed(&self, may_overwrite: bool, claim: OwnershipClaim) -> Result<Vec<FileAction>, StorageError> {
        let stop = AtomicBool::new(false);
        let survey = self.storage.survey(&stop)?;
        let have = check(&self.storage, &self.hashes, 1, &CheckProgress::default(), &stop)?;
        let wanted = Bitfield::full(self.storage.layout().piece_count());
        let (survey, have, hashes) = (&survey, &have, &self.hashes);
        let (ours, vouched) = (&|_: usize, _: &FileSnapshot| false, &|_: usize, _: PieceIndex| false);
        let (wanted, claim, stop) = (&wanted, &|_: usize, _: &FileSnapshot| claim, &stop);
        let of_earlier_run = &|number, seen: &FileSnapshot| self.storage.is_of_earlier_run(&HASH, number, seen);
        let input =
            DecisionInput { survey, hashes, have, wanted, ours, claim, of_earlier_run, vouched, may_overwrite, stop };
        self.storage.decide(&input)
    }

    fn refused(&self) -> (Refusal, usize) {
        match self.decide(false) {
            Err(StorageError::InTheWay { why, more, .. }) => (why, more),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_file_of_another_client_is_known_by_its_pieces() {
    let place = SurveyFixture::new(&[("a", 5000), ("b", 3000)], &[]);
    let mut half = place.right(0);
    half[2000..].fill(0);
    place.write(0, &half);
    assert_eq!(place.decide(false).unwrap(), [FileAction::Continue, FileAction::Create]);
    half[2000] = 9;
    place.write(0, &half);
    assert_eq!(place.decide(false).unwrap(), [FileAction::Continue, FileAction::Create], "two are right, one is wrong");
    half[3000] = 9;
    place.write(0, &half);
    assert_eq!(place.refused(), (Refusal::Foreign, 0));
    place.write(1, b"mine");
    assert_eq!(place.refused(), (Refusal::Foreign, 1));
    assert_eq!(place.decide(true).unwrap(), [FileAction::Continue; 2]);
}

#[test]
fn pieces_with_holes_count_against_a_file_like_others() {
    const BLOCK_SIZE: usize = 16 * 1024;
    let place = SurveyFixture::with_pieces(4 * BLOCK_SIZE, &[("a", 16 * BLOCK_SIZE as u64)], &[]);
    let (path, right) = (place.dir.path().join("a"), place.right(0));
    // The first pieces are right; each other piece has one block of foreign data, as a disk image may have; the rest are holes.
    let write = |pieces: usize| {
        place.storage.close();
        let _ = fs::remove_file(&path);
        let file = File::create_new(&path).unwrap();
        file.set_len(16 * BLOCK_SIZE as u64).unwrap();
        file.write_all_at(&right[..pieces * 4 * BLOCK_SIZE], 0).unwrap();
        for piece in pieces..4 {
            file.write_all_at(&[b'x'; BLOCK_SIZE], (piece * 4 * BLOCK_SIZE) as u64).unwrap();
        }
    };
    for pieces in [0, 1, 2] {
        write(pieces);
        assert_eq!(place.refused(), (Refusal::Foreign, 0), "{pieces}");
    }
    write(3);
    assert_eq!(place.decide(false).unwrap(), [FileAction::Continue]);
    write(1);
    let claimed = |claim| place.decide_claimed(false, claim).ok();
    assert_eq!(
        [OwnershipClaim::MadeButReusable, OwnershipClaim::StartedHere].map(claimed),
        [Some(vec![FileAction::Continue]), Some(vec![FileAction::Continue])]
    );
    // The user has written data of their own into all of it, from the second piece on.
    let file = File::options().write(true).open(&path).unwrap();
    (4..16).for_each(|block| file.write_all_at(b"x", (block * BLOCK_SIZE) as u64).unwrap());
    assert_eq!(
        [OwnershipClaim::MadeButReusable, OwnershipClaim::StartedHere].map(claimed),
        [Some(vec![FileAction::Continue]), None]
    );
    file.write_all_at(&vec![b'x'; 11 * BLOCK_SIZE], (5 * BLOCK_SIZE) as u64).unwrap();
    assert_eq!(claimed(OwnershipClaim::MadeButReusable), None, "nothing is missing, so it has come from elsewhere");
    file.write_all_at(&[0; 4096], (15 * BLOCK_SIZE) as u64).unwrap();
    assert_eq!(claimed(OwnershipClaim::MadeButReusable), None, "two pieces of four");
    write(0);
    assert_eq!([OwnershipClaim::MadeButReusable, OwnershipClaim::StartedHere].map(claimed), [None, None]);
}

#[test]
fn pieces_of_zeros_are_neither_right_nor_wrong() {
    // The torrent has zeros in its first four pieces, and so has the user's file, except for one byte in the last.
    let place = SurveyFixture::new(&[("a", 5000)], &[0, 1, 2, 3]);
    let mut mine = vec![0; 5000];
    mine[4500] = 7;
    place.write(0, &mine);
    assert_eq!(place.refused(), (Refusal::Foreign, 0));
    mine[4500] = 0;
    place.write(0, &mine);
    assert_eq!(place.decide(false).unwrap(), [FileAction::ReplaceEmpty], "it holds nothing");
}

#[test]
fn padding_and_a_few_known_bytes_prove_nothing_for_a_file_that_goes_on() {
    // Anyone who knows how a file begins can make a first piece of any length that verifies.
    let place = SurveyFixture::new(&[("pad", 990), ("a", 2010)], &[]);
    let mut mine = place.right(1);
    mine[10..].fill(b'x');
    place.write(1, &mine);
    assert_eq!(place.refused(), (Refusal::Foreign, 0));
    place.write(1, &mine[..500]);
    assert_eq!(place.refused(), (Refusal::Foreign, 0));
}

#[test]
fn a_missing_neighbour_is_no_evidence_against_a_file() {
    let place = SurveyFixture::new(&[("a", 1500), ("b", 1500)], &[]);
    place.write(0, &place.right(0));
    assert_eq!(
        place.decide(false).unwrap(),
        [FileAction::Compare, FileAction::Create],
        "its first piece is right, the other unknown: nothing is written to it before the other is known"
    );
    place.write(1, &[5; 1500]);
    assert_eq!(place.refused(), (Refusal::Foreign, 1), "of what can be hashed, as much is wrong");
}

#[test]
fn a_file_in_one_piece_with_a_missing_one_has_no_evidence_at_all() {
    let place = SurveyFixture::new(&[("a", 500), ("b", 500)], &[]);
    place.write(0, &place.right(0));
    assert_eq!(place.refused(), (Refusal::Foreign, 0));
}

#[test]
fn where_some_of_the_torrent_is_here_a_file_that_cannot_be_hashed_is_compared() {
    let place = SurveyFixture::new(&[("a", 2500), ("b", 300), ("c", 2200)], &[]);
    place.write(1, &place.right(1));
    assert_eq!(place.refused(), (Refusal::Foreign, 0), "nothing of the torrent verifies");
    place.write(2, &place.right(2));
    assert_eq!(place.decide(false).unwrap(), [FileAction::Create, FileAction::Compare, FileAction::Compare]);
    // The same if the missing file was created without data, or if the file has other hard links.
    place.write(0, &[0; 2500]);
    fs::hard_link(place.dir.path().join("b"), place.dir.path().join("other")).unwrap();
    assert_eq!(place.decide(false).unwrap(), [FileAction::ReplaceEmpty, FileAction::Compare, FileAction::Compare]);
    assert_eq!(place.decide(true).unwrap(), [FileAction::ReplaceEmpty, FileAction::Copy, FileAction::Continue]);
    place.write(1, &place.right(1)[..299]);
    assert_eq!(place.refused(), (Refusal::Linked, 0), "it is short, so it cannot be right");
    place.write(1, &place.right(1));
    place.write(0, &[3; 2500]);
    assert_eq!(place.refused().1, 1, "the piece can be hashed, and is wrong");
}

#[test]
fn data_in_a_file_that_must_be_empty_is_refused() {
    let place = SurveyFixture::new(&[("a", 1000), ("e", 0)], &[]);
    place.write(0, &place.right(0));
    place.write(1, b"thesis");
    assert_eq!(place.refused(), (Refusal::Longer, 0));
    place.write(1, &[0; 9]);
    assert_eq!(place.decide(false).unwrap(), [FileAction::Leave, FileAction::ReplaceEmpty], "zeros are nobody's");
    place.write(1, b"");
    assert_eq!(place.decide(false).unwrap(), [FileAction::Leave; 2]);
}

#[test]
fn longer_files_are_complete_or_in_the_way() {
    let place = SurveyFixture::new(&[("a", 3000)], &[]);
    let mut long = place.right(0);
    long.extend(b"appended");
    place.write(0, &long);
    assert_eq!(place.decide(false).unwrap(), [FileAction::Leave]);
    long[0] = 0;
    place.write(0, &long);
    assert_eq!(place.refused(), (Refusal::Longer, 0));
    long[3000..].fill(0);
    place.write(0, &long);
    assert_eq!(place.decide(false).unwrap(), [FileAction::Continue], "the surplus is nothing, and most is right");
}

#[test]
fn linked_files_are_complete_or_in_the_way() {
    let place = SurveyFixture::new(&[("a", 3000)], &[]);
    place.write(0, &place.right(0));
    fs::hard_link(place.dir.path().join("a"), place.dir.path().join("other")).unwrap();
    assert_eq!(place.decide(false).unwrap(), [FileAction::Leave]);
    place.write(0, &place.right(0)[..2500]);
    assert_eq!(place.refused(), (Refusal::Linked, 0));
    assert_eq!(place.decide(true).unwrap(), [FileAction::Copy]);
}

#[test]
fn a_survey_changes_nothing_and_sees_every_change() {
    let place = SurveyFixture::new(&[("d/a", 10), ("d/b", 0), ("f/c", 10)], &[]);
    let stop = AtomicBool::new(false);
    let survey = || place.storage.survey(&stop).unwrap();
    let before = survey();
    assert_eq!((before.files.clone(), before.bytes), (vec![None; 3], 0));
    assert!(place.storage.has_missing_files(&before));
    assert_eq!(fs::read_dir(place.dir.path()).unwrap().count(), 0);
    place.write(2, &[1; 12]);
    let after = survey();
    assert_eq!((after.bytes, after.files[2].unwrap().size), (10, 12));
    fs::write(place.dir.path().join("f/c"), [1; 12]).unwrap();
    place.write(0, &[1; 9]);
    assert_ne!(survey(), after);
    assert!(place.storage.has_missing_files(&survey()), "one is short");
    assert_eq!(place.storage.survey(&AtomicBool::new(true)).unwrap().bytes, 0);
}

/// The file was complete a moment ago, and was edited during the check.
#[test]
fn a_file_under_the_name_that_its_maker_gave_it_is_only_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut layout = Layout::new(50, vec![FileSpec { path: "_rc".into(), length: 200, is_pad: false }]).unwrap();
    layout.redirect(0, Path::new(".rc")).unwrap();
    layout.set_read_only(0);
    let named = layout.clone().with_incomplete_suffix(".part", |_, _, _| true);
    assert_eq!(named.files()[0].path, Path::new(".rc"), "it is never made, and so has no other name");
    let (it, no) = (Storage::new(dir.path().to_owned(), layout, 4), AtomicBool::new(false));
    let hashes = [Sha1Hash::from([1; 20]); 4];
    let decide = |have: &Bitfield, may_overwrite| {
        let survey = it.survey(&no).unwrap();
        let (wanted, ours, vouched) =
            (Bitfield::full(4), |_: usize, _: &FileSnapshot| true, |_: usize, _: PieceIndex| false);
        let (wanted, hashes, survey, stop) = (&wanted, &hashes[..], &survey, &no);
        {
            let claim = &|_: usize, _: &FileSnapshot| OwnershipClaim::None;
            it.decide(&DecisionInput {
                survey,
                hashes,
                have,
                wanted,
                ours: &ours,
                claim,
                of_earlier_run: &|_, _| false,
                vouched: &vouched,
                may_overwrite,
                stop,
            })
        }
    };
    let mut have = Bitfield::full(4);
    have.clear(PieceIndex(3));
    for is_there in [true, false] {
        let file = dir.path().join(".rc");
        let made = if is_there { std::fs::write(file, [7; 200]) } else { std::fs::remove_file(file) };
        made.unwrap();
        for may_overwrite in [false, true] {
            match decide(&have, may_overwrite) {
                Err(StorageError::InTheWay { why: Refusal::Changed, .. }) => assert!(!is_there),
                decided => assert_eq!((decided.unwrap(), is_there), (vec![FileAction::Compare], true), "read only"),
            }
        }
        assert_eq!(decide(&Bitfield::full(4), true).is_ok(), is_there);
    }
}

/// After a kill, all blocks of a piece may be on disk but the torrent's last one, which has less than a page.
#[test]
fn a_piece_that_lacks_only_a_short_last_block_is_partial() {
    const BLOCK: usize = BLOCK_SIZE as usize;
    let length = BLOCK + 200;
    for files in [&[("a", length as u64)][..], &[("a", BLOCK as u64 + 100), ("b", 100)]] {
        let place = SurveyFixture::with_pieces(2 * BLOCK, files, &[]);
        let without = |missing: std::ops::Range<usize>| {
            let mut content = place.content.clone();
            content[missing].fill(0);
            for (file, (_, length)) in files.iter().enumerate() {
                let start = place.storage.layout().start_of(file) as usize;
                place.write(file, &content[start..start + *length as usize]);
            }
            place.decide_claimed(false, OwnershipClaim::MadeButChanged).is_ok()
        };
        assert!(without(BLOCK..length), "{files:?}: the last block has not arrived");
        // A failing system may lose the end of a file, but not a part of a page.
        assert_eq!(without(BLOCK..length - 1), files.len() > 1, "{files:?}: btsync wrote no such block");
        assert!(!without(10..20), "{files:?}");
    }
}
