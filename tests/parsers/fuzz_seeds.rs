//! The fuzz targets over their seeds and over everything that fuzzing ever found: `testdata/fuzz/<target>/`. What the fuzzer
//! does for minutes with a nightly compiler (`make fuzz`), this repeats in a moment with a stable one.

use std::path::Path;

use crate::fuzz::{TARGETS, Target};

fn seeds(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/fuzz").join(name);
    let entries = folder.read_dir().unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.map(|path| (path.display().to_string(), std::fs::read(&path).expect("a seed"))).collect()
}

/// Seeds that are there to be refused; of what fuzzing found nothing is expected.
const REFUSED: [&str; 6] = ["http_tracker/failure", "mse/call", "mse/key", "mse/raw", "resume/old", "resume/strange"];

/// Runs a target, and says which input it failed on; whether it was accepted.
fn run(target: Target, what: &str, bytes: &[u8]) -> bool {
    let ended = std::panic::catch_unwind(|| target(bytes));
    ended.unwrap_or_else(|_| panic!("{what} breaks a promise: see above"))
}

#[test]
fn every_seed_passes_and_is_accepted_unless_it_is_to_be_refused() {
    for (name, target) in TARGETS {
        let seeds = seeds(name);
        assert!(!seeds.is_empty(), "{name} has no seeds");
        for (path, bytes) in &seeds {
            let accepted = run(target, path, bytes);
            if !path.contains("/found-") {
                let refused = REFUSED.iter().any(|refused| path.ends_with(refused));
                assert_ne!(accepted, refused, "{path}: {}", if accepted { "accepted" } else { "refused" });
            }
        }
    }
}

/// Every seed cut short, and with bytes changed at random: the same every time.
#[test]
fn seeds_that_are_cut_or_changed_pass_too() {
    let mut rng = fastrand::Rng::with_seed(0xb7);
    for (name, target) in TARGETS {
        for (path, bytes) in seeds(name).iter().filter(|(_, bytes)| !bytes.is_empty()) {
            for round in 0..40 {
                let mut changed = bytes.clone();
                changed.truncate(rng.usize(1..=bytes.len()));
                for _ in 0..rng.usize(0..4) {
                    let at = rng.usize(..changed.len());
                    changed[at] = rng.u8(..);
                }
                run(target, &format!("{path}, changed, round {round}"), &changed);
            }
        }
    }
}

#[test]
fn every_target_has_a_binary_of_its_name() {
    let manifest = include_str!("../../fuzz/Cargo.toml");
    for (name, _) in TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in fuzz/Cargo.toml");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
}
