//! Options that go by another client's name, and what a misspelt one was most likely meant to be.

/// Other clients' names for options of ours.
const ALIASES: [(&str, &str); 7] = [
    ("--check-integrity", "--verify"),
    ("--bind", "--interface"),
    ("--select-file", "--select"),
    ("--index-out", "--out"),
    ("--show-files", "--list"),
    ("--max-overall-download-limit", "--max-download-limit"),
    ("--max-overall-upload-limit", "--max-upload-limit"),
];

/// The name of an option as we have it.
pub(super) fn ours(name: &str) -> &str {
    ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, ours)| ours)
}

/// The one of `names` that `word` was most likely meant to be; `None` where nothing is near.
pub(super) fn nearest<'a>(word: &str, names: &'a [String]) -> Option<&'a str> {
    let limit = (word.len() / 3).max(1);
    let near = names.iter().map(|name| (distance(word, name), name.as_str())).min();
    near.filter(|&(far, _)| far <= limit).map(|(_, name)| name)
}

/// How many letters to insert, take away or change (Levenshtein) to come from `a` to `b`.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let (mut diagonal, mut left) = (i, i + 1);
        for (cell, y) in row.iter_mut().skip(1).zip(b.chars()) {
            let best = (diagonal + usize::from(x != y)).min(left + 1).min(*cell + 1);
            diagonal = std::mem::replace(cell, best);
            left = best;
        }
        if let Some(cell) = row.first_mut() {
            *cell = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_levenshtein() {
        let pairs =
            [("", "", 0), ("abc", "abc", 0), ("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3), ("ab", "ba", 2)];
        for (a, b, far) in pairs {
            assert_eq!(distance(a, b), far, "{a} {b}");
        }
    }
}
