//! No type name twice: "go to symbol" leads to one place.

use std::collections::BTreeMap;

use super::promises::sources;

/// Names that several files have on purpose: variants of one module for different features and processors, and a module's `Result`.
const SHARED: [&str; 4] = ["OptionalPage", "Result", "Tls", "Vector"];

/// The name of the type or trait that a line declares at the top level of a file.
fn declared(line: &str) -> Option<&str> {
    let line = match line.strip_prefix("pub") {
        Some(rest) => rest.trim_start_matches("(crate)").trim_start_matches("(super)").trim_start(),
        None => line,
    };
    let rest = ["struct ", "enum ", "trait ", "type "].iter().find_map(|keyword| line.strip_prefix(keyword))?;
    Some(rest.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default()).filter(|name| !name.is_empty())
}

#[test]
fn each_type_has_a_name_of_its_own() {
    let mut files: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let is_test = |path: &str| path.contains("/tests/") || path.ends_with("/tests.rs");
    for path in sources() {
        let shown = path.display().to_string();
        if path.extension().is_none_or(|extension| extension != "rs") || is_test(&shown) {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a source file");
        for name in text.lines().filter_map(declared) {
            files.entry(name.to_owned()).or_default().push(shown.clone());
        }
    }
    assert!(files.len() > 500, "only {} types", files.len());
    let twice: Vec<_> = files.iter().filter(|(name, all)| all.len() > 1 && !SHARED.contains(&name.as_str())).collect();
    assert!(twice.is_empty(), "types with the same name: {twice:?}");
}

#[test]
fn declarations_are_found() {
    for (line, name) in [
        ("pub struct Peer {", Some("Peer")),
        ("pub(crate) enum Stage<T> {", Some("Stage")),
        ("pub(super) type Run = fn();", Some("Run")),
        ("trait Wake: Send {", Some("Wake")),
        ("    struct Inner;", None),
        ("pub fn structure() {", None),
    ] {
        assert_eq!(declared(line), name, "{line}");
    }
}
