//! The operating system's error messages, worded for users: without the error number, which tells a user nothing.

use std::borrow::Cow;
use std::io;

/// How Rust's standard library appends the error number.
const NUMBER: &str = " (os error ";
/// The prefix of a resolver error.
const LOOKUP: &str = "failed to lookup address information: ";

/// The error message, to be put at the end of a sentence.
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

/// Removes the error numbers from a text that may contain error messages. Everything that a user sees passes through here, so
/// that any message may contain an error's own text.
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
        // ECONNREFUSED.
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
