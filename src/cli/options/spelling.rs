//! Options that go by another client's name, and what a misspelt option or command was most likely meant to be.

/// Other clients' names for options of ours.
const ALIASES: [(&str, &str); 12] = [
    ("--allow-overwrite", "--overwrite"),
    ("--on-complete", "--on-download-complete"),
    ("--on-bt-download-complete", "--on-download-complete"),
    ("--check-integrity", "--verify"),
    ("--bind", "--interface"),
    ("--select-file", "--select"),
    ("--index-out", "--out"),
    ("--show-files", "--list"),
    ("--max-concurrent-downloads", "--max-concurrent"),
    ("--conf-path", "--config"),
    ("--max-overall-download-limit", "--max-download-limit"),
    ("--max-overall-upload-limit", "--max-upload-limit"),
];

/// Commands that a first word may be a misspelling of: ours, and those of other clients with our equivalent.
const COMMANDS: [(&str, &str); 19] = [
    ("create", "create"),
    ("edit", "edit"),
    ("help", "help"),
    ("info", "info"),
    ("magnet", "magnet"),
    ("tracker", "tracker"),
    ("verify", "verify"),
    ("check", "verify"),
    ("make", "create"),
    ("new", "create"),
    ("show", "info"),
    ("list", "list"),
    ("seed", "--seed"),
    ("version", "--version"),
    ("watch", "--watch"),
    ("add", "btsync FILE.torrent FOLDER"),
    ("download", "btsync FILE.torrent FOLDER"),
    ("get", "btsync FILE.torrent FOLDER"),
    ("start", "btsync FILE.torrent FOLDER"),
];

/// The command, or its equivalent here, that a first word is most likely a misspelling of.
pub(crate) fn nearest_command(word: &str) -> Option<&'static str> {
    if word.is_empty() || !word.bytes().all(|b| b.is_ascii_alphabetic() || matches!(b, b'-' | b'_')) {
        return None;
    }
    let near = nearest(&word.to_ascii_lowercase(), COMMANDS.iter().map(|(name, _)| *name))?;
    COMMANDS.iter().find(|(name, _)| *name == near).map(|(_, meant)| *meant)
}

/// The other names of an option of ours.
pub(crate) fn aliases(long: &str) -> impl Iterator<Item = &'static str> {
    ALIASES.iter().filter(move |(_, canonical_name)| *canonical_name == long).map(|(alias, _)| *alias)
}

/// The name of an option as we have it.
pub(crate) fn canonical_name(name: &str) -> &str {
    ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, canonical_name)| canonical_name)
}

/// The one of `names` that `word` was most likely meant to be; `None` where nothing is near.
pub(crate) fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.len() / 3).max(1);
    let near = names.map(|name| (distance(word, name), name)).min();
    near.filter(|&(far, _)| far <= limit).map(|(_, name)| name)
}

/// How many letters to insert, take away, change or swap with their neighbour to come from `a` to `b` (Damerau-Levenshtein, no
/// letter being edited twice).
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
