//! Runs the fuzz targets on their seeds and on every input that fuzzing has found: `testdata/fuzz/<target>/`. Fuzzing itself
//! (`make fuzz`) takes minutes and a nightly compiler; this takes a moment on stable.

use std::path::Path;

use crate::fuzz::{TARGETS, Target};

fn seeds(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/fuzz").join(name);
    let entries = folder.read_dir().unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.map(|path| (path.display().to_string(), std::fs::read(&path).expect("a seed"))).collect()
}

/// Seeds that the parsers must refuse. Inputs found by fuzzing may be accepted or refused.
const REFUSED: [&str; 7] =
    ["http_tracker/failure", "mse/initiator", "mse/key", "mse/raw", "resume/old", "resume/strange", "rpc/broken"];

/// Runs a target and panics with the input's name if it fails. Returns whether the target accepted the input.
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

/// Every seed truncated, and with bytes changed at random, the same way in every run.
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
