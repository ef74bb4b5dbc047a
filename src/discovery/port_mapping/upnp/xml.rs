//! Splits an XML document into its tags and texts, as far as UPnP's documents need it. One pass without recursion: no entity is
//! expanded but the five of XML itself, document types are skipped, and names lose their prefix.

/// The longest text of an element, in characters; longer ones are cut.
const MAX_TEXT: usize = 1024;

/// A part of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum XmlPart<'a> {
    /// The start of an element, by its name without a prefix.
    Start(&'a str),
    /// The end of an element.
    End(&'a str),
    /// The text between two tags, trimmed; never empty.
    Text(String),
}

/// The parts of a document, in order. A document that breaks off ends where it does.
pub fn parts(document: &str) -> impl Iterator<Item = XmlPart<'_>> {
    let mut rest = document;
    let mut pending_end = None;
    std::iter::from_fn(move || {
        if let Some(name) = pending_end.take() {
            return Some(XmlPart::End(name));
        }
        loop {
            if rest.is_empty() {
                return None;
            }
            if let Some(inside) = rest.strip_prefix("<![CDATA[") {
                let (text, after) = inside.split_once("]]>")?;
                rest = after;
                if let Some(text) = non_empty(text) {
                    return Some(text);
                }
            } else if let Some(inside) = rest.strip_prefix("<!--") {
                rest = inside.split_once("-->")?.1;
            } else if let Some(inside) = rest.strip_prefix('<') {
                let (tag, after) = inside.split_once('>')?;
                rest = after;
                if tag.starts_with(['?', '!']) {
                    continue;
                }
                if let Some(name) = tag.strip_prefix('/') {
                    return Some(XmlPart::End(local_name(name)));
                }
                let name = local_name(tag);
                pending_end = tag.ends_with('/').then_some(name);
                return Some(XmlPart::Start(name));
            } else {
                let (text, after) = rest.find('<').map_or((rest, ""), |at| rest.split_at(at));
                rest = after;
                if let Some(text) = non_empty(&unescaped(text)) {
                    return Some(text);
                }
            }
        }
    })
}

/// The text of the first element with this name that has any.
pub fn text_of(document: &str, name: &str) -> Option<String> {
    let mut is_inside = false;
    for part in parts(document) {
        match part {
            XmlPart::Start(start) => is_inside = start == name,
            XmlPart::End(_) => is_inside = false,
            XmlPart::Text(text) if is_inside => return Some(text),
            XmlPart::Text(_) => {}
        }
    }
    None
}

/// Writes text so that it is no markup.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn local_name(tag: &str) -> &str {
    let name = tag.split(|c: char| c.is_ascii_whitespace() || c == '/').next().unwrap_or_default();
    name.rsplit(':').next().unwrap_or_default()
}

fn non_empty(text: &str) -> Option<XmlPart<'static>> {
    let trimmed = text.trim();
    (!trimmed.is_empty()).then(|| XmlPart::Text(trimmed.chars().take(MAX_TEXT).collect()))
}

fn unescaped(text: &str) -> String {
    // The ampersand last, so that nothing is replaced twice.
    let plain = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'");
    plain.replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_document_is_split() {
        let document = "<?xml version=\"1.0\"?><!DOCTYPE x><!-- <no> --><s:a b=\"1\"> one &amp;lt; two </s:a><c/><d><![CDATA[<3>]]></d>";
        let text = |text: &str| XmlPart::Text(text.to_owned());
        let expected = [
            XmlPart::Start("a"),
            text("one &lt; two"),
            XmlPart::End("a"),
            XmlPart::Start("c"),
            XmlPart::End("c"),
            XmlPart::Start("d"),
            text("<3>"),
            XmlPart::End("d"),
        ];
        assert_eq!(parts(document).collect::<Vec<_>>(), expected);
        assert_eq!(text_of(document, "d").as_deref(), Some("<3>"));
        assert_eq!(text_of(document, "c"), None);
        assert_eq!(text_of("<a><b>x</b>y</a>", "a"), None, "not the text after a child");
    }

    #[test]
    fn broken_documents_end_early() {
        for broken in ["<", "<a", "<a><b", "<!-- ", "<![CDATA[", "<a><![CDATA[x", "&", "</", "<>", "<:>", "< >"] {
            assert!(parts(broken).count() < 4, "{broken}");
        }
        let bomb = "<!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;\">]><x>&b;</x>";
        assert_eq!(text_of(bomb, "x").as_deref(), Some("&b;"), "nothing is expanded");
        let long = format!("<x>{}</x>", "ä".repeat(10_000));
        assert_eq!(text_of(&long, "x").map(|text| text.chars().count()), Some(MAX_TEXT));
        assert_eq!(parts(&"<a>".repeat(100_000)).count(), 100_000, "deep nesting takes no stack");
    }

    #[test]
    fn escaped_text_is_read_back() {
        let text = "a < b && c > \"d\"";
        assert_eq!(text_of(&format!("<x>{}</x>", escaped(text)), "x").as_deref(), Some(text));
    }

    proptest! {
        #[test]
        fn no_document_is_a_problem(document in "[<>/!\\[\\]&;:a-c \\-?\"ä]{0,200}") {
            prop_assert!(parts(&document).count() <= 2 * document.len());
            let _ = text_of(&document, "a");
        }
    }
}
