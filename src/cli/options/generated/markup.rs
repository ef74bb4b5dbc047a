//! The markup of paragraphs in the option table: `` `literal` ``, `_VALUE_`, `*word*` (a value that is typed literally) and
//! `{SECTION}` of the manual. A blank line starts a new paragraph.

use crate::cli::options::table::OptionDoc;

/// A part of a paragraph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MarkupPart<'a> {
    /// Plain text, including the spaces around it.
    Text(&'a str),
    /// An option, a file or other text that is typed.
    Literal(&'a str),
    /// The placeholder of a value.
    Value(&'a str),
    /// One of the values of an option.
    Word(&'a str),
    /// A section of the manual.
    Section(&'a str),
}

/// Splits a paragraph into its parts.
pub(super) fn parts<'a>(text: &'a str) -> Vec<MarkupPart<'a>> {
    let (mut parts, mut rest, mut plain) = (Vec::new(), text, 0);
    while let Some(next) = rest.get(plain..).and_then(|after| after.chars().next()) {
        let begins_word = rest[..plain].chars().next_back().is_none_or(|before| matches!(before, ' ' | '('));
        let (end, part): (char, fn(&'a str) -> MarkupPart<'a>) = match next {
            '`' => ('`', MarkupPart::Literal),
            '{' => ('}', MarkupPart::Section),
            '_' if begins_word => ('_', MarkupPart::Value),
            '*' if begins_word => ('*', MarkupPart::Word),
            _ => {
                plain += next.len_utf8();
                continue;
            }
        };
        let (inner, after) = rest[plain + 1..].split_once(end).unwrap_or_else(|| panic!("{next} has no end: {text}"));
        if plain > 0 {
            parts.push(MarkupPart::Text(&rest[..plain]));
        }
        parts.push(part(inner));
        (rest, plain) = (after, 0);
    }
    if !rest.is_empty() {
        parts.push(MarkupPart::Text(rest));
    }
    parts
}

/// The paragraphs about an option. Adds its default and that it can be repeated, unless the text says so.
pub(super) fn paragraphs(option: &OptionDoc, with_default: bool) -> Vec<String> {
    let mut paragraphs: Vec<_> = option.entry.manual.split("\n\n").map(str::to_owned).collect();
    let text = option.entry.manual;
    if let Some(first) = paragraphs.first_mut() {
        if let Some(default) = option.entry.default.filter(|_| with_default && !text.contains("default")) {
            first.push_str(" The default is *");
            first.push_str(default);
            first.push_str("*.");
        }
        if option.repeats && !text.contains("epeat") {
            first.push_str(" Can be repeated.");
        }
    }
    paragraphs
}

#[test]
fn parts_are_told_apart() {
    let text = "Use `--out`, _N_ (or *off*); see {FILES}. snake_case, 2*3";
    let expected = [
        MarkupPart::Text("Use "),
        MarkupPart::Literal("--out"),
        MarkupPart::Text(", "),
        MarkupPart::Value("N"),
        MarkupPart::Text(" (or "),
        MarkupPart::Word("off"),
        MarkupPart::Text("); see "),
        MarkupPart::Section("FILES"),
        MarkupPart::Text(". snake_case, 2*3"),
    ];
    assert_eq!(parts(text), expected);
    assert_eq!(parts("`_`"), [MarkupPart::Literal("_")]);
}
