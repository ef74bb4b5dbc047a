//! Files that are not written to, beside files that are downloaded.

use std::fs;
use std::io::IoSlice;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use sha1::{Digest, Sha1};
use tempfile::{TempDir, tempdir};

use super::*;
use crate::storage::{FileSpec, Layout, StorageErrorKind};

const PIECE: usize = 10;
/// One piece of its own for each of `a` and `c`, and two for `b`, which shares one piece with each of them.
const FILES: [(&str, usize); 3] = [("a", 15), ("b", 30), ("c", 15)];

fn content() -> Vec<u8> {
    (1..=60).collect()
}

fn hashes() -> Vec<Sha1Hash> {
    content().chunks(PIECE).map(|piece| Sha1::digest(piece).into()).collect()
}

/// `b` exists with this content, and is compared in both shared pieces. All other files are downloaded.
fn compared(b: &[u8], wants_b: bool) -> (TempDir, Storage) {
    let (dir, no) = (tempdir().unwrap(), AtomicBool::new(false));
    fs::write(dir.path().join("b"), b).unwrap();
    let spec = |(path, length): (&str, usize)| FileSpec { path: path.into(), length: length as u64, is_pad: false };
    let layout = Layout::new(PIECE as u32, FILES.map(spec).into()).unwrap();
    let it = Storage::new(dir.path().to_owned(), layout, 4);
    let mut it = it.select(&[true, wants_b, true], Path::new(".parts"));
    let (actions, mut survey) =
        ([FileAction::Create, FileAction::Compare, FileAction::Create], it.survey(&no).unwrap());
    it.create_part_file(FileAction::Create, &mut survey).unwrap();
    it.create_files(&actions, &mut survey, &no).unwrap();
    let mut have = Bitfield::new(6);
    for piece in [2, 3] {
        have.set(PieceIndex(piece));
    }
    it.redirect_to_part_file(&actions, &survey, (&have, &Bitfield::full(6)));
    it.resize_files(&actions, &survey, &no).unwrap();
    (dir, it)
}

fn download(it: &Storage) {
    let content = content();
    for range in [0..20, 40..60] {
        it.write_vectored_at(range.start as u64, &[IoSlice::new(&content[range])]).unwrap();
    }
}

#[test]
fn a_file_that_is_equal_is_read_in_place_and_was_not_written_to() {
    for wants_b in [true, false] {
        let (dir, it) = compared(&content()[15..45], wants_b);
        download(&it);
        assert!(it.stamp(1).is_none() && dir.path().join(".parts").exists());
        it.compare_undecided().unwrap();
        assert!(it.stamp(1).is_some() && !dir.path().join(".parts").exists());
        assert_eq!(fs::read(dir.path().join("b")).unwrap(), &content()[15..45]);
    }
}

#[test]
fn a_file_that_differs_ends_the_download_only_if_it_is_wanted() {
    let right = content()[15..45].to_vec();
    let cases = [("the start", [vec![0; 5], right[5..].to_vec()].concat()), ("shorter", right[..28].to_vec())];
    for (name, b) in cases {
        if b.len() == right.len() {
            let (_dir, it) = compared(&b, true);
            download(&it);
            assert_eq!(it.compare_undecided().unwrap_err().kind(), StorageErrorKind::Exists, "{name}");
        }
        let (dir, it) = compared(&b, false);
        download(&it);
        for _ in 0..2 {
            it.compare_undecided().unwrap();
            assert_eq!(fs::read(dir.path().join("b")).unwrap(), b, "{name}");
            // Peers get the torrent's bytes, and the resume data does not vouch for the file.
            let mut all = [0; 20];
            it.read_exact_at(0, &mut all).unwrap();
            assert_eq!(all, content()[..20], "{name}");
            assert!(it.stamp(1).is_none() && it.uses_part_file(), "{name}");
        }
    }
}

/// The rest of the shared pieces came out of the part file of an earlier run.
#[test]
fn what_verifies_without_the_part_file_is_read_in_place() {
    for wants_b in [true, false] {
        let mut b = content()[15..45].to_vec();
        b[29] = 0;
        let (dir, mut it) = compared(&b, wants_b);
        fs::write(dir.path().join("a"), &content()[..15]).unwrap();
        fs::write(dir.path().join("c"), &content()[45..]).unwrap();
        assert_eq!(it.verify_compared(&hashes(), &AtomicBool::new(false)).unwrap(), [PieceIndex(1)]);
        it.write_vectored_at(40, &[IoSlice::new(&content()[40..50])]).unwrap();
        assert_eq!(it.compare_undecided().is_err(), wants_b, "the other piece differs");
        let mut piece = [0; 10];
        it.read_exact_at(10, &mut piece).unwrap();
        assert_eq!(piece, content()[10..20]);
        assert_eq!(fs::read(dir.path().join("b")).unwrap(), b);
    }
}

/// Nothing is downloaded for such a piece, so there is nothing to compare it with.
#[test]
fn pieces_that_are_not_wanted_are_not_compared() {
    let (dir, mut it) = compared(&content()[15..45], true);
    let mut wanted = Bitfield::full(6);
    wanted.clear(PieceIndex(4));
    it.placement.compared.clear();
    let (survey, none) = (it.survey(&AtomicBool::new(false)).unwrap(), Bitfield::new(6));
    it.redirect_to_part_file(&[FileAction::Leave, FileAction::Compare, FileAction::Leave], &survey, (&none, &wanted));
    it.write_vectored_at(0, &[IoSlice::new(&content()[..20])]).unwrap();
    it.compare_undecided().unwrap();
    assert!(!dir.path().join(".parts").exists());
}
