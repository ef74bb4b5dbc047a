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
        let around = [out.chars().next_back(), chars.peek().copied()];
        match c {
            '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' => out.push(' '),
            // Arabic, Indic scripts and emoji need joiners; between other characters they are invisible.
            '\u{200c}' | '\u{200d}' if !around.iter().all(|c| c.is_some_and(takes_joiner)) => {}
            _ if is_deceptive(c) => {}
            _ => out.push(c),
        }
    }
    out
}

fn takes_joiner(c: char) -> bool {
    !c.is_ascii() && !is_deceptive(c) && !matches!(c, '\u{200c}' | '\u{200d}' | '\u{2028}' | '\u{2029}')
}

/// Control characters, line separators, and the characters that change the direction of text (Unicode's `Bidi_Control`).
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether a terminal must not show the character: unprintable ones, and those without a visible width, with which two different
/// names could look the same. On disk the latter do no harm.
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
