//! What the operating system says of an error, in words for people: without its number, which tells a user nothing.

use std::borrow::Cow;
use std::io;

/// How Rust's library writes the system's number behind its words.
const NUMBER: &str = " (os error ";
/// What it puts before a resolver's words.
const LOOKUP: &str = "failed to lookup address information: ";

/// The words for an error, to stand at the end of a sentence.
pub fn reason(error: &io::Error) -> String {
    let mut words = without_numbers(&error.to_string()).into_owned();
    if let Some(rest) = words.strip_prefix(LOOKUP) {
        words = rest.to_owned();
    }
    if let Some(first) = words.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    words
}

/// A text that may hold the words for errors, without their numbers. Everything that a user sees goes through here, so that an
/// error's own words can be put into any message.
pub fn without_numbers(text: &str) -> Cow<'_, str> {
    if !text.contains(NUMBER) {
        return text.into();
    }
    let mut parts = text.split(NUMBER);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.trim_start_matches('-').trim_start_matches(|c: char| c.is_ascii_digit());
        match digits.strip_prefix(')') {
            Some(rest) if !part.starts_with(')') => out.push_str(rest),
            _ => {
                out.push_str(NUMBER);
                out.push_str(part);
            }
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_in_words_alone() {
        // The system's number for a refused connection.
        assert_eq!(reason(&io::Error::from_raw_os_error(111)), "connection refused");
        assert_eq!(
            reason(&io::Error::other(format!("{LOOKUP}Name or service not known"))),
            "name or service not known"
        );
        assert_eq!(reason(&io::Error::other("")), "");
    }

    #[test]
    fn numbers_go_wherever_they_stand_and_nothing_else_does() {
        for (text, shown) in [
            ("x: No such file (os error 2)", "x: No such file"),
            ("a (os error 2); b (os error -5), c", "a; b, c"),
            ("(os error 2)", "(os error 2)"),
            ("a (os error )", "a (os error )"),
            ("a (os error 2", "a (os error 2"),
            ("a (os error x) (os error 3)", "a (os error x)"),
            ("é", "é"),
        ] {
            assert_eq!(without_numbers(text), shown);
        }
    }
}
