//! Makes text from untrusted sources safe for terminals and logs.

/// Text from an untrusted source, safe for one line of a terminal or a log: line ends and tabs become spaces; other control
/// characters, those that reorder the text around them, and invisible ones are removed.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if matches!(c, ' '..='~') {
            out.push(c);
            continue;
        }
        match c {
            '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' => out.push(' '),
            _ if is_invisible(c, out.chars().next_back(), chars.peek().copied()) => {}
            _ => out.push(c),
        }
    }
    out
}

/// Whether a terminal must not show the character between these two: it is deceptive, or a joiner where none belongs. Arabic, Indic
/// scripts and emoji need joiners; between other characters they are invisible.
pub fn is_invisible(c: char, before: Option<char>, after: Option<char>) -> bool {
    let is_joiner = |c: char| matches!(c, '\u{200c}' | '\u{200d}');
    let takes_joiner =
        |c: char| !c.is_ascii() && !is_deceptive(c) && !is_joiner(c) && !matches!(c, '\u{2028}' | '\u{2029}');
    let is_in_place = || [before, after].iter().all(|c| c.is_some_and(takes_joiner));
    is_deceptive(c) || (is_joiner(c) && !is_in_place())
}

/// Control characters, line separators, and the characters that change the direction of text (Unicode's `Bidi_Control`).
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether a terminal must not show the character: unprintable ones, and those without a visible width, with which two different
/// names could look the same.
pub fn is_deceptive(c: char) -> bool {
    if matches!(c, ' '..='~') {
        return false;
    }
    is_unprintable(c)
        || matches!(
            c,
            '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        )
        || matches!(c, '\u{200b}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}')
        || matches!(c, '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_leaves_one_clean_line() {
        assert_eq!(printable("a\x1b[31m\nb\u{202e}c\u{9b}\u{7f}é\t"), "a[31m bcé ");
        assert_eq!(printable("pay\u{200b}p\u{ad}al\u{feff}\u{200d}.\u{2060}com\u{3164}\u{e0041}"), "paypal.com");
        let joined = "می\u{200c}خواهم 👩\u{200d}👧 日本";
        assert_eq!(printable(joined), joined);
        assert_eq!(printable("\u{200d}é\u{200d}\u{200d}é\u{200c}"), "é\u{200d}é", "one between two, no more");
    }
}
