//! File selection: which of a torrent's files to download, by number, pattern or folder, or by a magnet link's `so=` (BEP 53).
//! Pure.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::metainfo::glob::{Glob, GlobError};
use crate::metainfo::torrent::FileEntry;

/// The largest number in a list, and the upper end of an open range such as `12-`.
const LAST: u32 = u32::MAX - 1;

/// One part of the user's file selection: numbers from 1 such as `1-5,8,12-` (pad files count, as in BEP 53), or a pattern, see
/// [`Glob`], that matches files or a folder above them. The pattern may omit the folder with the torrent's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePattern {
    text: String,
    what: PatternKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum PatternKind {
    Numbers(Vec<RangeInclusive<u32>>),
    Paths { glob: Glob, is_deep: bool },
}

/// Why a file selection cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SelectError {
    /// The text is neither a list of numbers nor a valid pattern.
    #[error("'{text}': {reason}")]
    FilePattern {
        /// The text as given.
        text: String,
        /// What is wrong with it, in one line.
        reason: String,
    },
    /// A range is malformed, too large or empty, or begins with 0.
    #[error("'{0}' selects no file: file numbers begin at 1")]
    Range(String),
    /// No file of the torrent matches this pattern or number.
    #[error("no file of the torrent matches '{0}'")]
    NoMatch(String),
    /// All selected files are excluded, or a link selects only files that do not exist.
    #[error("no file is left to download: every selected file is excluded or does not exist in the torrent")]
    Nothing,
}

impl FromStr for FilePattern {
    type Err = SelectError;

    fn from_str(text: &str) -> Result<FilePattern, SelectError> {
        let is_list = text.starts_with(|c: char| c.is_ascii_digit())
            && text.chars().all(|c| c.is_ascii_digit() || matches!(c, ',' | '-' | ' '));
        let what = if is_list {
            let ranges = text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(range);
            PatternKind::Numbers(ranges.collect::<Option<_>>().ok_or_else(|| SelectError::Range(text.to_owned()))?)
        } else {
            // `./8` is a file name, not a number.
            let named = text.strip_prefix("./").unwrap_or(text);
            let bad = |error: GlobError| SelectError::FilePattern { text: text.to_owned(), reason: error.to_string() };
            let glob = named.parse().map_err(bad)?;
            PatternKind::Paths { glob, is_deep: named.trim_end_matches('/').contains('/') }
        };
        Ok(FilePattern { text: text.to_owned(), what })
    }
}

/// Parses `8`, `1-5` or `12-`.
fn range(text: &str) -> Option<RangeInclusive<u32>> {
    let number = |text: &str| text.trim().parse::<u32>().ok().filter(|n| (1..=LAST).contains(n));
    let (from, to) = match text.split_once('-') {
        None => (number(text)?, number(text)?),
        Some((from, "")) => (number(from)?, LAST),
        Some((from, to)) => (number(from)?, number(to)?),
    };
    (from <= to).then_some(from..=to)
}

impl FilePattern {
    fn matches(&self, number: u32, path: &[String], is_in_folder: bool) -> bool {
        match &self.what {
            PatternKind::Numbers(ranges) => ranges.iter().any(|range| range.contains(&number)),
            PatternKind::Paths { glob, is_deep } => {
                // The folder with the torrent's name does not count: a torrent named `x.mkv` must not match `*.mkv` as a whole.
                let below = path.get(usize::from(is_in_folder)..).unwrap_or_default();
                let any = |path: &[String], from: usize| (from..=path.len()).any(|end| glob.matches(&path[..end]));
                any(below, 1) || (*is_deep && is_in_folder && any(path, 2))
            }
        }
    }
}

/// The user's or a magnet link's file selection; the default selects all files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// The files to download; all if empty.
    pub select: Vec<FilePattern>,
    /// The files not to download, even if they are selected.
    pub exclude: Vec<FilePattern>,
    /// The file indexes from a magnet link (BEP 53), counted from 0; used only if `select` is empty.
    pub magnet_indexes: Option<Vec<RangeInclusive<u32>>>,
}

impl Selection {
    /// Whether every file is selected.
    pub fn is_all(&self) -> bool {
        self.select.is_empty() && self.exclude.is_empty() && self.magnet_indexes.is_none()
    }

    /// For each of a torrent's files, whether to download it. `is_in_folder` says that all files lie in a folder with the torrent's
    /// name. Unless everything is selected, pad files are not.
    ///
    /// # Errors
    /// If one of the user's patterns matches nothing, or no file is left to download.
    pub fn choose(&self, files: &[FileEntry], is_in_folder: bool) -> Result<Vec<bool>, SelectError> {
        if self.is_all() {
            return Ok(vec![true; files.len()]);
        }
        let mut unmatched: HashSet<&str> = self.select.iter().chain(&self.exclude).map(|p| p.text.as_str()).collect();
        let mut wanted = Vec::with_capacity(files.len());
        for (number, file) in (1u32..).zip(files) {
            if file.is_virtual {
                wanted.push(false);
                continue;
            }
            let path: Vec<String> = file.path.iter().map(|name| name.to_string_lossy().into_owned()).collect();
            // Try every pattern, because each must match at least one file.
            let mut hits = |patterns: &'_ [FilePattern]| {
                patterns.iter().fold(false, |hit, pattern| {
                    let hits = pattern.matches(number, &path, is_in_folder);
                    if hits {
                        unmatched.remove(pattern.text.as_str());
                    }
                    hit | hits
                })
            };
            let (selected, excluded) = (hits(&self.select), hits(&self.exclude));
            let by_link =
                || self.magnet_indexes.as_ref().is_none_or(|link| link.iter().any(|r| r.contains(&(number - 1))));
            wanted.push(!excluded && (selected || (self.select.is_empty() && by_link())));
        }
        if let Some(pattern) = self.select.iter().chain(&self.exclude).find(|p| unmatched.contains(p.text.as_str())) {
            return Err(SelectError::NoMatch(pattern.text.clone()));
        }
        if wanted.contains(&true) { Ok(wanted) } else { Err(SelectError::Nothing) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(paths: &[&str]) -> Vec<FileEntry> {
        let file = |path: &&str| {
            let mut file = FileEntry::new(path, 1);
            file.is_virtual = path.contains(".pad");
            file
        };
        paths.iter().map(file).collect()
    }

    const SHOW: [&str; 6] = [
        "Show.mkv/S1/e1.mkv",
        "Show.mkv/S1/e1.srt",
        "Show.mkv/.pad/3",
        "Show.mkv/S2/e1.mkv",
        "Show.mkv/8",
        "Show.mkv/Extras/S1/x",
    ];

    fn chosen(select: &[&str], exclude: &[&str]) -> Result<Vec<u32>, SelectError> {
        let all = |words: &[&str]| words.iter().map(|word| word.parse()).collect::<Result<Vec<FilePattern>, _>>();
        let selection = Selection { select: all(select)?, exclude: all(exclude)?, magnet_indexes: None };
        let wanted = selection.choose(&files(&SHOW), true)?;
        Ok((1u32..).zip(wanted).filter_map(|(number, wanted)| wanted.then_some(number)).collect())
    }

    #[test]
    fn numbers_ranges_globs_and_folders() {
        assert_eq!(chosen(&["2,4-5"], &[]), Ok(vec![2, 4, 5]));
        assert_eq!(chosen(&["4-"], &[]), Ok(vec![4, 5, 6]));
        assert_eq!(chosen(&["*.mkv"], &[]), Ok(vec![1, 4]), "the torrent's own folder counts for nothing");
        assert_eq!(chosen(&["S1"], &[]), Ok(vec![1, 2, 6]), "a folder of that name anywhere");
        assert_eq!(chosen(&["/S1/"], &[]), Ok(vec![1, 2]), "at the top only");
        assert_eq!(chosen(&["S1/*.srt", "2"], &[]), Ok(vec![2]));
        assert_eq!(chosen(&["Show.mkv/S2"], &[]), Ok(vec![4]), "as it lies on disk");
        assert_eq!(chosen(&["./8"], &[]), Ok(vec![5]));
        assert_eq!(chosen(&[], &["*.mkv"]), Ok(vec![2, 5, 6]));
        assert_eq!(chosen(&["S1"], &["*.srt", "Extras"]), Ok(vec![1]));
        assert_eq!(chosen(&[], &[]), Ok(vec![1, 2, 3, 4, 5, 6]), "padding, too");
    }

    #[test]
    fn patterns_that_match_nothing_are_reported() {
        assert_eq!(chosen(&["7"], &[]), Err(SelectError::NoMatch("7".into())));
        assert_eq!(chosen(&["1"], &["*.avi"]), Err(SelectError::NoMatch("*.avi".into())));
        assert_eq!(chosen(&["1"], &["1"]), Err(SelectError::Nothing));
        assert_eq!(chosen(&["3"], &[]), Err(SelectError::NoMatch("3".into())), "padding cannot be asked for");
        for wrong in ["0", "5-1", "1-2-3", "0-4", "99999999999"] {
            assert_eq!(chosen(&[wrong], &[]), Err(SelectError::Range(wrong.into())), "{wrong}");
        }
        assert!(matches!(chosen(&["[a"], &[]), Err(SelectError::FilePattern { .. })));
    }

    #[test]
    fn a_links_choice_counts_from_0_and_the_users_own_comes_first() {
        let mut selection = Selection { magnet_indexes: Some(vec![0..=0, 3..=9]), ..Selection::default() };
        let all = files(&SHOW);
        assert_eq!(selection.choose(&all, true), Ok(vec![true, false, false, true, true, true]));
        selection.select = vec!["2".parse().unwrap()];
        assert_eq!(selection.choose(&all, true), Ok(vec![false, true, false, false, false, false]));
        let none = Selection { magnet_indexes: Some(vec![7..=9]), ..Selection::default() };
        assert_eq!(none.choose(&all, true), Err(SelectError::Nothing));
    }

    #[test]
    fn a_torrent_of_one_file_is_matched_by_its_name() {
        let one = files(&["debian.iso"]);
        let selection = Selection { select: vec!["*.iso".parse().unwrap()], ..Selection::default() };
        assert_eq!(selection.choose(&one, false), Ok(vec![true]));
    }
}
