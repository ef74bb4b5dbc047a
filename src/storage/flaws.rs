//! Lists what is wrong with a torrent's files, byte by byte, after [`crate::storage::check`] has found the pieces that verify.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;

use crate::storage::error::{Operation, StorageError};
use crate::storage::layout::Layout;
use crate::types::{Bitfield, PieceIndex};

/// What is wrong with one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// The file, as an index into [`Layout::files`].
    pub file: usize,
    /// Its length on disk in bytes; `None` if it is missing.
    pub found: Option<u64>,
    /// Its ranges in pieces whose hash is wrong, in order. If such a piece spans several files, all of them are listed.
    pub bad: Vec<Range<u64>>,
    /// Its ranges, in order, in pieces that cannot be hashed because another part of them is missing; they may be right.
    pub unknown: Vec<Range<u64>>,
}

/// The length of each file of the layout below `root`: `None` for missing files and for padding.
///
/// # Errors
/// The system's error; [`StorageError::NotAFile`] if something else exists at a file's path.
pub fn lengths(root: &Path, layout: &Layout) -> Result<Vec<Option<u64>>, StorageError> {
    let length = |path: &Path| match fs::metadata(path) {
        Ok(found) if found.is_file() => Ok(Some(found.len())),
        Ok(_) => Err(StorageError::NotAFile { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StorageError::io(Operation::Open, path)(error)),
    };
    let files = layout.files().iter();
    files.map(|file| if file.is_pad { Ok(None) } else { length(&root.join(&file.path)) }).collect()
}

/// The files with flaws, in the torrent's order: `found` is their [`lengths`], `have` the pieces that verify. Pure.
pub fn flaws(layout: &Layout, found: &[Option<u64>], have: &Bitfield) -> Vec<Flaw> {
    let found_at = |file: usize| found.get(file).copied().flatten();
    let flaw = |file| Flaw { file, found: found_at(file), bad: Vec::new(), unknown: Vec::new() };
    let mut all: Vec<Flaw> = (0..layout.files().len()).map(flaw).collect();
    for piece in (0..layout.piece_count()).map(PieceIndex).filter(|&piece| !have.has(piece)) {
        let spans = layout.spans(layout.offset(piece, 0), u64::from(layout.piece_size(piece)));
        let spans = spans.filter(|span| layout.files().get(span.file).is_some_and(|file| !file.is_pad));
        // If some of the piece is missing, the rest can be neither right nor wrong.
        let is_unhashable =
            spans.clone().any(|span| found_at(span.file).is_none_or(|found| found < span.offset + span.len));
        for span in spans {
            let Some(flaw) = all.get_mut(span.file) else { continue };
            let end = flaw.found.unwrap_or_default().min(span.offset + span.len);
            let runs = if is_unhashable { &mut flaw.unknown } else { &mut flaw.bad };
            match runs.last_mut() {
                _ if end <= span.offset => {}
                Some(last) if last.end == span.offset => last.end = end,
                _ => runs.push(span.offset..end),
            }
        }
    }
    let wrong = |flaw: &Flaw| {
        let file = layout.files().get(flaw.file).filter(|file| !file.is_pad);
        let length = file.is_some_and(|file| flaw.found != Some(file.length));
        length || !flaw.bad.is_empty() || !flaw.unknown.is_empty()
    };
    all.retain(wrong);
    all
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::storage::FileSpec;

    /// Pieces of 10 bytes; `a` has 25, `b` none, padding to 30, `c` has 15.
    fn layout() -> Layout {
        let file = |path: &str, length, pad| FileSpec { path: PathBuf::from(path), length, is_pad: pad };
        let files = vec![file("a", 25, false), file("b", 0, false), file(".pad", 5, true), file("c", 15, false)];
        Layout::new(10, files).unwrap()
    }

    fn have(pieces: &[u32]) -> Bitfield {
        let mut have = Bitfield::new(5);
        for &piece in pieces {
            assert!(have.set(PieceIndex(piece)));
        }
        have
    }

    fn runs(ends: &[(u64, u64)]) -> Vec<Range<u64>> {
        ends.iter().map(|&(start, end)| start..end).collect()
    }

    #[test]
    fn all_is_well() {
        let found = [Some(25), Some(0), None, Some(15)];
        assert_eq!(flaws(&layout(), &found, &have(&[0, 1, 2, 3, 4])), []);
    }

    #[test]
    fn wrong_pieces_are_ranges_of_files_and_neighbours_are_one() {
        let found = [Some(25), Some(0), None, Some(15)];
        let flaws = flaws(&layout(), &found, &have(&[0, 3]));
        let bad = |file, bad: &[(u64, u64)]| Flaw { file, found: found[file], bad: runs(bad), unknown: vec![] };
        assert_eq!(flaws, [bad(0, &[(10, 25)]), bad(3, &[(10, 15)])]);
    }

    #[test]
    fn missing_short_and_long_files_are_distinguished() {
        let found = [Some(13), None, None, Some(16)];
        let flaw =
            |file, unknown: &[(u64, u64)]| Flaw { file, found: found[file], bad: vec![], unknown: runs(unknown) };
        assert_eq!(flaws(&layout(), &found, &have(&[0, 3, 4])), [flaw(0, &[(10, 13)]), flaw(1, &[]), flaw(3, &[])]);
    }

    #[test]
    fn nobody_is_blamed_for_a_missing_neighbour() {
        let file = |path: &str, length| FileSpec { path: PathBuf::from(path), length, is_pad: false };
        let layout = Layout::new(10, vec![file("a", 14), file("b", 3), file("c", 13)]).unwrap();
        let mut have = Bitfield::new(3);
        assert!(have.set(PieceIndex(0)));
        let flaws = flaws(&layout, &[Some(14), None, Some(13)], &have);
        let a = Flaw { file: 0, found: Some(14), bad: vec![], unknown: runs(&[(10, 14)]) };
        let b = Flaw { file: 1, found: None, bad: vec![], unknown: vec![] };
        let c = Flaw { file: 2, found: Some(13), bad: runs(&[(3, 13)]), unknown: runs(&[(0, 3)]) };
        assert_eq!(flaws, [a, b, c]);
    }

    #[test]
    fn lengths_are_those_of_files_and_nothing_is_made() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "12345").unwrap();
        assert_eq!(lengths(dir.path(), &layout()).unwrap(), [Some(5), None, None, None]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        fs::create_dir(dir.path().join("c")).unwrap();
        assert!(matches!(lengths(dir.path(), &layout()), Err(StorageError::NotAFile { path }) if path.ends_with("c")));
    }
}
