//! Options that go by another client's name, what a misspelt one was most likely meant to be, and values without passwords.

/// Other clients' names for options of ours.
const ALIASES: [(&str, &str); 9] = [
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

/// The name of an option as we have it.
pub(super) fn ours(name: &str) -> &str {
    ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, ours)| ours)
}

/// The one of `names` that `word` was most likely meant to be; `None` where nothing is near.
pub(super) fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.len() / 3).max(1);
    let near = names.map(|name| (distance(word, name), name)).min();
    near.filter(|&(far, _)| far <= limit).map(|(_, name)| name)
}

/// The text with `***` in place of the passwords of the URLs in it (`http://name:password@host`): what is shown may be passed on.
pub(super) fn masked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        let end = after.find(|c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | ',')).unwrap_or(after.len());
        let (authority, beyond) = after.split_at(end);
        out.push_str(before);
        out.push_str("://");
        match authority.rsplit_once('@') {
            Some((user, host)) if user.contains(':') => {
                out.push_str(user.split(':').next().unwrap_or_default());
                out.push_str(":***@");
                out.push_str(host);
            }
            _ => out.push_str(authority),
        }
        rest = beyond;
    }
    out + rest
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

    #[test]
    fn passwords_are_left_out_of_urls() {
        let pairs = [
            ("http://a:secret@b/c:d@e", "http://a:***@b/c:d@e"),
            ("http://a@b/,udp://x:p@q@h:1", "http://a@b/,udp://x:***@h:1"),
            ("curl http://u:p@h now", "curl http://u:***@h now"),
            ("http://h:80/announce", "http://h:80/announce"),
            ("a:b@c", "a:b@c"),
        ];
        for (text, shown) in pairs {
            assert_eq!(masked(text), shown);
        }
    }
}
