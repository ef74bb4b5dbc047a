//! docs/RELIABILITY.md names the tests that hold each promise: they must exist where it says.

use std::path::Path;

#[test]
fn the_tests_that_are_named_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("docs/RELIABILITY.md")).expect("docs/RELIABILITY.md");
    let is_code = |file: &str| Path::new(file).extension().is_some_and(|kind| kind == "rs");
    let mut count = 0;
    for (file, name) in text.split('`').filter_map(|word| word.split_once("::")).filter(|(file, _)| is_code(file)) {
        let code = std::fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(code.contains(&format!("fn {name}(")), "{file} has no test {name}");
        count += 1;
    }
    assert!(count > 30, "only {count} tests were found in the document");
}
