//! Links and names in the documents are right.

use std::process::Command;

use crate::common::netns::installed;

#[test]
fn links_and_names_of_the_documents_are_right() {
    if !installed("links_and_names_of_the_documents_are_right", &["python3", "git"]) {
        return;
    }
    let mut check = Command::new("python3");
    let output = check.arg("scripts/check-links.py").current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("python3");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
