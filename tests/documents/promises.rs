//! Checks claims of the documents about the source: the tests that docs/RELIABILITY.md names exist, and a comment at each
//! unbounded channel says what bounds it.

use std::path::{Path, PathBuf};

/// All source files below src.
pub fn sources() -> Vec<PathBuf> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder of src") {
            let path = entry.expect("an entry").path();
            let list = if path.is_dir() { &mut folders } else { &mut files };
            list.push(path);
        }
    }
    assert!(files.len() > 100, "only {} files", files.len());
    files
}

#[test]
fn the_tests_that_are_named_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("docs/RELIABILITY.md")).expect("docs/RELIABILITY.md");
    let is_code = |file: &str| Path::new(file).extension().is_some_and(|kind| kind == "rs");
    let mut count = 0;
    for (file, name) in text.split('`').filter_map(|word| word.split_once("::")).filter(|(file, _)| is_code(file)) {
        let code = std::fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(is_test(&code, name), "{file} has no test {name}");
        count += 1;
    }
    assert!(count > 30, "only {count} tests were found in the document");
    for file in text.split('`').filter(|word| is_code(word) && !word.contains("::")) {
        assert!(root.join(file).exists(), "there is no {file}");
    }
}

/// Whether `code` has a test of that name: a function with the attribute `#[test]`. A name that ends with `…` stands for all names
/// that begin so.
fn is_test(code: &str, name: &str) -> bool {
    let start = name.strip_suffix('…').map_or_else(|| format!("fn {name}("), |start| format!("fn {start}"));
    code.match_indices(&start).any(|(at, _)| {
        let lines = code[..at].lines().rev().skip_while(|line| line.trim().is_empty());
        let mut above = lines.take_while(|line| line.trim_start().starts_with(['#', '/']));
        above.any(|line| line.trim() == "#[test]")
    })
}

/// Strangers feed queues: a channel without a bound in src needs a word on what bounds it.
#[test]
fn every_unbounded_channel_has_a_comment_about_its_bound() {
    for file in sources().iter().filter(|file| !file.to_string_lossy().ends_with("tests.rs")) {
        let text = std::fs::read_to_string(file).expect("a source file");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let lines: Vec<_> = code.lines().collect();
        for (number, line) in lines.iter().enumerate().filter(|(_, line)| line.contains("unbounded()")) {
            let said = number.checked_sub(1).is_some_and(|above| lines[above].contains("// Bounded: "));
            assert!(said, "{}: {}: what bounds this channel?", file.display(), line.trim());
        }
        assert!(!code.contains("mpsc::channel("), "{}", file.display());
    }
}
