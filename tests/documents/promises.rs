//! Checks claims of the documents about the source: the tests that docs/RELIABILITY.md names exist, imports follow the layers of
//! ARCHITECTURE.md, and a comment at each unbounded channel says what bounds it.

use std::path::{Path, PathBuf};

/// The library's modules from the lowest layer up, as in ARCHITECTURE.md. Each may import only from itself and those before it.
const ORDER: [&str; 15] = [
    "util",
    "types",
    "net",
    "bencode",
    "metainfo",
    "wire",
    "mse",
    "strategy",
    "storage",
    "pieces",
    "discovery",
    "tracker_server",
    "peer",
    "client",
    "torrent",
];

/// All source files below src.
fn sources() -> Vec<PathBuf> {
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

/// Includes imports in test code.
#[test]
fn imports_point_down() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let place = |module: &str| ORDER.iter().position(|name| *name == module);
    let mut count = 0;
    for file in sources() {
        let below = file.strip_prefix(&root).expect("a file of src");
        let module = below.iter().next().and_then(|name| name.to_str()).expect("UTF-8").trim_end_matches(".rs");
        if module == "cli" || module == "main" {
            continue;
        }
        let Some(own) = place(module.trim_end_matches("_tests")) else {
            assert!(module == "lib", "{module} has no floor: give it one here and in ARCHITECTURE.md");
            continue;
        };
        let text = std::fs::read_to_string(&file).expect("a source file");
        assert!(!text.contains("crate::{"), "{}: one line for each module", file.display());
        for path in text.split("crate::").skip(1) {
            let name = path.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default();
            let other = place(name).unwrap_or_else(|| panic!("{}: crate::{name} has no floor", file.display()));
            // The tests of the tracker client use our own tracker.
            let asks_our_tracker = name == "tracker_server" && file.ends_with("tracker/udp/tests.rs");
            assert!(other <= own || asks_our_tracker, "{}: {module} must not import from {name}", file.display());
            count += 1;
        }
    }
    assert!(count > 500, "only {count} imports were found");
}

/// The command uses the library like any other program: with `crate::` it imports only its own modules, and helpers of `util`,
/// which both targets compile.
#[test]
fn the_command_uses_the_library_from_outside() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut count = 0;
    for file in sources().iter().filter(|file| file.starts_with(root.join("cli")) || file.ends_with("src/cli.rs")) {
        let text = std::fs::read_to_string(file).expect("a source file");
        let own = text.split("crate::").skip(1).all(|path| path.starts_with("cli::") || path.starts_with("util::"));
        assert!(own, "{}: the command has no module but cli and util", file.display());
        count += text.matches("btsync::").count();
    }
    assert!(count > 50, "only {count} imports were found");
}

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

/// Strangers can fill queues, so each unbounded channel in src needs a comment on what bounds it.
#[test]
fn every_unbounded_channel_says_what_bounds_it() {
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
