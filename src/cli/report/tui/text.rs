//! Truncates, pads and wraps text by terminal columns; some characters take two. Pure.

use console::{Alignment, measure_text_width, pad_str, truncate_str};

use crate::cli::report::status::StatusItem;

/// Truncates a name to the width and marks it with "...".
pub fn shorten(name: &str, width: usize) -> String {
    truncate_str(name, width, if width > 3 { "..." } else { "" }).into_owned()
}

/// Truncates a name in the middle, as names in a series differ at their ends.
pub fn shorten_middle(name: &str, width: usize) -> String {
    if measure_text_width(name) <= width || width < 7 {
        return shorten(name, width);
    }
    let room = (width - 3) / 2;
    let (mut taken, mut from) = (0, name.len());
    for (at, character) in name.char_indices().rev() {
        taken += measure_text_width(character.encode_utf8(&mut [0; 4]));
        if taken > room {
            break;
        }
        from = at;
    }
    let end = name.get(from..).unwrap_or_default();
    let begin = truncate_str(name, width - 3 - measure_text_width(end), "");
    format!("{begin}...{end}")
}

/// Pads or truncates the text to exactly `width` columns, left-aligned.
pub fn pad_right(text: &str, width: usize) -> String {
    pad_str(&shorten(text, width), width, Alignment::Left, None).into_owned()
}

/// Pads the text to `width` columns, right-aligned. Never truncates it, as a truncated number is wrong.
pub fn pad_left(text: &str, width: usize) -> String {
    pad_str(text, width, Alignment::Right, None).into_owned()
}

/// Joins as many items as fit, in their order; those with the highest rank are left out first.
pub fn fit_items(items: &[StatusItem], width: usize) -> String {
    let line = |limit: u8| {
        let kept: Vec<&str> = items.iter().filter(|(rank, _)| *rank <= limit).map(|(_, text)| text.as_str()).collect();
        kept.join("  ")
    };
    let most = items.iter().map(|(rank, _)| *rank).max().unwrap_or_default();
    let fits = |line: &String| measure_text_width(line) <= width;
    (0..=most).rev().map(line).find(fits).unwrap_or_else(|| shorten(&line(0), width))
}

/// Wraps the text into at most `most` lines of at most `width` columns, between words where possible.
pub fn wrap(text: &str, width: usize, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let full = lines.len() >= most;
        match lines.last_mut() {
            Some(line) if measure_text_width(line) + 1 + measure_text_width(word) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            Some(line) if full => {
                line.push_str(" ...");
                *line = shorten(line, width);
                break;
            }
            None if full => break,
            _ => lines.push(shorten(word, width)),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrow_terminal_loses_the_least_important_items_first() {
        let all: Vec<StatusItem> =
            [(0, "45.2%"), (5, "1/2 MiB"), (1, "down 9 B/s")].map(|(rank, text)| (rank, text.to_owned())).to_vec();
        assert_eq!(fit_items(&all, 80), "45.2%  1/2 MiB  down 9 B/s");
        assert_eq!(fit_items(&all, 26), "45.2%  1/2 MiB  down 9 B/s");
        assert_eq!(fit_items(&all, 25), "45.2%  down 9 B/s");
        assert_eq!(fit_items(&all, 16), "45.2%");
        assert_eq!(fit_items(&all, 1), "4");
        assert_eq!(fit_items(&[], 1), "");
    }

    #[test]
    fn long_names_are_marked_where_they_were_cut() {
        assert_eq!(shorten("debian.iso", 10), "debian.iso");
        assert_eq!(shorten("debian.iso", 9), "debian...");
        assert_eq!(shorten("漢字漢字", 7), "漢字...");
        assert_eq!(shorten("debian.iso", 2), "de");
        assert_eq!((pad_right("漢字", 6), pad_left("9%", 4)), ("漢字  ".to_owned(), "  9%".to_owned()));
    }

    #[test]
    fn names_of_a_series_are_told_apart_by_their_ends() {
        assert_eq!(shorten_middle("show.s01e01.iso", 15), "show.s01e01.iso");
        assert_eq!(shorten_middle("show.s01e01.iso", 14), "show.s...1.iso");
        assert_eq!(shorten_middle("show.s01e01.iso", 7), "sh...so");
        assert_eq!(shorten_middle("show.s01e01.iso", 6), "sho...");
        assert_eq!(shorten_middle("漢字漢字漢字", 9), "漢字...字");
        for width in 0..13 {
            assert!(measure_text_width(&shorten_middle("漢字漢字漢字", width)) <= width, "{width}");
        }
    }

    #[test]
    fn words_are_wrapped_between_them() {
        assert_eq!(wrap("one two three", 7, 9), ["one two", "three"]);
        assert_eq!(wrap("one two three four", 8, 2), ["one two", "three..."]);
        assert_eq!(wrap("antidisestablishment", 8, 2), ["antid..."]);
        assert_eq!(wrap("漢字 漢字", 8, 2), ["漢字", "漢字"]);
        assert!(wrap("a b", 9, 0).is_empty() && wrap("", 9, 9).is_empty());
    }
}
