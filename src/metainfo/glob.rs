//! Shell-like patterns for paths within a torrent, for choosing files to download or to leave out when creating one. Pure.
//! Patterns come from the user.

/// A pattern for a path. `*` matches any characters of a name, `?` exactly one, `[a-z]` one of these and `[!a-z]` any other; `\`
/// escapes the next character. A pattern without `/` matches the last name of a path in any folder; other patterns match whole
/// paths, and in them `**` matches any number of folders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    steps: Vec<GlobPart>,
}

/// Why a text is not a valid pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    /// The text is empty, or has nothing between two `/`.
    #[error("an empty pattern, or an empty name in it")]
    Empty,
    /// A `[` without `]`, or with nothing between them.
    #[error("`[` without `]`; `\\[` is the character itself")]
    Bracket,
    /// Nothing follows the last `\`.
    #[error("nothing after the last `\\`")]
    Escape,
}

/// One component of a pattern: a name, or `**`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum GlobPart {
    Folders,
    Name(Vec<Token>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Any,
    One,
    Class { ranges: Vec<(char, char)>, is_negated: bool },
    Char(char),
}

impl std::str::FromStr for Glob {
    type Err = GlobError;

    fn from_str(text: &str) -> Result<Glob, GlobError> {
        // A trailing `/` is optional; a leading `/` anchors the pattern at the top.
        let inner = text.strip_suffix('/').unwrap_or(text);
        let (anchored, inner) = inner.strip_prefix('/').map_or((false, inner), |rest| (true, rest));
        let step = |name: &str| if name == "**" { Ok(GlobPart::Folders) } else { tokens(name).map(GlobPart::Name) };
        let mut steps = inner.split('/').map(step).collect::<Result<Vec<_>, _>>()?;
        if steps.len() == 1 && !anchored {
            steps.insert(0, GlobPart::Folders);
        }
        Ok(Glob { steps })
    }
}

impl Glob {
    /// Whether the pattern matches the path with these components.
    pub fn matches<S: AsRef<str>>(&self, path: &[S]) -> bool {
        matches_wildcards(
            &self.steps,
            path,
            |step| *step == GlobPart::Folders,
            |step, name| match step {
                GlobPart::Folders => true,
                GlobPart::Name(tokens) => {
                    let name: Vec<char> = name.as_ref().chars().collect();
                    matches_wildcards(tokens, &name, |token| *token == Token::Any, |token, c| token.fits(*c))
                }
            },
        )
    }
}

impl Token {
    fn fits(&self, c: char) -> bool {
        match self {
            Token::Any | Token::One => true,
            Token::Class { ranges, is_negated } => {
                ranges.iter().any(|&(from, to)| (from..=to).contains(&c)) != *is_negated
            }
            Token::Char(own) => *own == c,
        }
    }
}

/// Whether `pattern` matches `text`; pattern items for which `star` is true match any number of text items. Backtracking to the
/// last star suffices: letting an earlier star match more gains nothing.
fn matches_wildcards<P, T>(
    pattern: &[P],
    text: &[T],
    star: impl Fn(&P) -> bool,
    fits: impl Fn(&P, &T) -> bool,
) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while let Some(item) = text.get(t) {
        match pattern.get(p) {
            Some(part) if star(part) => {
                back = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some(part) if fits(part, item) => {
                (p, t) = (p + 1, t + 1);
                continue;
            }
            _ => {}
        }
        let Some((after, taken)) = back else { return false };
        back = Some((after, taken + 1));
        (p, t) = (after, taken + 1);
    }
    pattern.iter().skip(p).all(star)
}

fn tokens(name: &str) -> Result<Vec<Token>, GlobError> {
    let mut tokens = Vec::new();
    let mut rest = name.chars();
    while let Some(c) = rest.next() {
        tokens.push(match c {
            '*' => Token::Any,
            '?' => Token::One,
            '[' => character_class(&mut rest)?,
            '\\' => Token::Char(rest.next().ok_or(GlobError::Escape)?),
            c => Token::Char(c),
        });
    }
    if tokens.is_empty() { Err(GlobError::Empty) } else { Ok(tokens) }
}

/// Parses a character class whose `[` has been consumed.
fn character_class(rest: &mut std::str::Chars<'_>) -> Result<Token, GlobError> {
    let is_negated = rest.as_str().starts_with(['!', '^']);
    if is_negated {
        rest.next();
    }
    let mut ranges = Vec::new();
    loop {
        let from = match rest.next().ok_or(GlobError::Bracket)? {
            // A `]` right after `[` is literal.
            ']' if !ranges.is_empty() => return Ok(Token::Class { ranges, is_negated }),
            '\\' => rest.next().ok_or(GlobError::Bracket)?,
            c => c,
        };
        let mut ahead = rest.clone();
        let to = match (ahead.next(), ahead.next()) {
            (Some('-'), Some(to)) if to != ']' => {
                *rest = ahead;
                to
            }
            _ => from,
        };
        ranges.push((from, to));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(glob: &str, path: &str) -> bool {
        let glob: Glob = glob.parse().unwrap_or_else(|error| panic!("{glob}: {error}"));
        glob.matches(&path.split('/').collect::<Vec<_>>())
    }

    #[test]
    fn patterns_match_as_shells_have_it() {
        let yes = [
            ("*.tmp", "a.tmp"),
            ("*.tmp", "x/y/.tmp"),
            (".*", "d/.git"),
            ("a?c", "aéc"),
            ("*a*b*", "xxaxbxab"),
            ("[a-c]x", "bx"),
            ("[!a-c]x", "dx"),
            ("[]]", "]"),
            ("[a-]", "-"),
            (r"\*", "*"),
            (r"[\]x]", "]"),
            ("/top", "top"),
            ("dir/", "x/dir"),
            ("d/*", "d/x"),
            ("d/**", "d/x/y"),
            ("**/x", "x"),
            ("**/x", "a/b/x"),
            ("a/**/z", "a/z"),
            ("a/**/z", "a/b/c/z"),
            ("**/b/**/d", "a/b/b/c/d"),
            ("**", "a/b"),
            ("*", "a"),
        ];
        for (glob, path) in yes {
            assert!(matches(glob, path), "{glob} {path}");
        }
        let no = [
            ("*.tmp", "a.tmpx"),
            ("*.tmp", "a.tmp/b"),
            ("a?c", "ac"),
            ("[a-c]x", "dx"),
            ("[!a-c]x", "bx"),
            ("/top", "x/top"),
            ("d/*", "d/x/y"),
            ("d/*", "x/d/y"),
            ("a/**/z", "a/b/c"),
            ("**/x", "a/xx"),
            (r"\*", "a"),
            ("A", "a"),
            ("a", ""),
        ];
        for (glob, path) in no {
            assert!(!matches(glob, path), "{glob} {path}");
        }
        // Takes exponential time if every star tries every length.
        assert!(!matches(&"*a".repeat(200), &format!("{}b", "a".repeat(5000))));
    }

    #[test]
    fn nonsense_is_refused() {
        let table = [
            ("", GlobError::Empty),
            ("/", GlobError::Empty),
            ("a//b", GlobError::Empty),
            ("[a", GlobError::Bracket),
            ("[]", GlobError::Bracket),
            ("[!]", GlobError::Bracket),
            ("a\\", GlobError::Escape),
        ];
        for (text, error) in table {
            assert_eq!(text.parse::<Glob>(), Err(error), "{text}");
        }
    }
}
