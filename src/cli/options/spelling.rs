//! Suggestions for misspelt options and commands.

use crate::cli::options::table::{COMMANDS, DOWNLOAD};

/// Commands of other programs, each with the equivalent in btsync.
const OTHER_COMMANDS: [(&str, &str); 11] = [
    ("check", "verify"),
    ("make", "create"),
    ("new", "create"),
    ("show", "info"),
    ("seed", "--seed"),
    ("version", "--version"),
    ("watch", "--watch"),
    ("add", "btsync FILE.torrent FOLDER"),
    ("download", "btsync FILE.torrent FOLDER"),
    ("get", "btsync FILE.torrent FOLDER"),
    ("start", "btsync FILE.torrent FOLDER"),
];

/// The commands to compare a misspelt one with, each with the equivalent in btsync.
fn commands() -> impl Iterator<Item = (&'static str, &'static str)> {
    let ours = COMMANDS.iter().map(|command| command.name).filter(|name| *name != DOWNLOAD);
    ours.map(|name| (name, name)).chain(OTHER_COMMANDS)
}

/// The equivalent in btsync of the command that `word` most likely means.
pub(crate) fn nearest_command(word: &str) -> Option<&'static str> {
    if word.is_empty() || !word.bytes().all(|b| b.is_ascii_alphabetic() || matches!(b, b'-' | b'_')) {
        return None;
    }
    let near = nearest(&word.to_ascii_lowercase(), commands().map(|(name, _)| name))?;
    commands().find(|(name, _)| *name == near).map(|(_, meant)| meant)
}

/// The name that `word` most likely means; `None` if none is similar.
pub(crate) fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.len() / 3).max(1);
    let near = names.map(|name| (distance(word, name), name)).min();
    near.filter(|&(far, _)| far <= limit).map(|(_, name)| name)
}

/// The edit distance between `a` and `b`: insertions, deletions, substitutions and swaps of adjacent letters
/// (Damerau-Levenshtein, no letter edited twice).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let at =
        |rows: &[Vec<usize>], i: usize, j: usize| rows.get(i).and_then(|row| row.get(j)).copied().unwrap_or(usize::MAX);
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let changed = at(&rows, i, j) + usize::from(x != y);
            let moved = (at(&rows, i, j + 1) + 1).min(row.last().map_or(usize::MAX, |left| left + 1));
            let is_swap = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            let swapped = if is_swap { at(&rows, i - 1, j - 1) + 1 } else { usize::MAX };
            row.push(changed.min(moved).min(swapped));
        }
        rows.push(row);
    }
    at(&rows, a.len(), b.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_damerau_and_levenshtein() {
        let pairs = [
            ("", "", 0),
            ("abc", "abc", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("ab", "ba", 1),
            ("verify", "veriyf", 1),
            ("abcd", "badc", 2),
        ];
        for (a, b, far) in pairs {
            assert_eq!(distance(a, b), far, "{a} {b}");
        }
    }

    #[test]
    fn a_misspelt_command_is_recognized() {
        let pairs = [
            ("verfy", Some("verify")),
            ("veriyf", Some("verify")),
            ("Verify", Some("verify")),
            ("creat", Some("create")),
            ("inof", Some("info")),
            ("sed", Some("--seed")),
            ("seed", Some("--seed")),
            ("magent", Some("magnet")),
            ("hlep", Some("help")),
            ("trakcer", Some("tracker")),
            ("downlaod", Some("btsync FILE.torrent FOLDER")),
            ("debian", None),
            ("movies", None),
            ("verfy.torrent", None),
            ("./verfy", None),
            ("a", None),
            ("", None),
        ];
        for (word, meant) in pairs {
            assert_eq!(nearest_command(word), meant, "{word}");
        }
    }
}
