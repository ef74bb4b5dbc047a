//! The page in Debian's Chromium: every user story with a mock service, and those that need nothing but a service with `btsync serve`.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::common::TestDir;
use crate::common::netns::{find, in_network_namespace};
use crate::common::service::{Service, lines_with, succeeds};

const PACKAGES: &str = "tests/page/node_modules/playwright-core/package.json";

/// Runs the tests of the page and returns its lines.
fn run(temp: &TestDir, more: &[&str]) -> String {
    let mut command = Command::new("node");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page/run.mjs")).args(more);
    command.env("HOME", temp.folder("home")).env("CHROMIUM", find("chromium").expect("Chromium"));
    let log = succeeds(&mut command, temp, Duration::from_secs(600));
    assert!(!lines_with(&log, "ok ").is_empty(), "{log}");
    log
}

#[test]
fn users_of_the_page_do_what_they_came_for() {
    let name = "users_of_the_page_do_what_they_came_for";
    in_network_namespace(name, &["node", "chromium", PACKAGES], || {
        run(&TestDir::new(), &["--no-figures"]);
    });
}

#[test]
fn the_page_works_with_a_real_service() {
    in_network_namespace("the_page_works_with_a_real_service", &["node", "chromium", PACKAGES], || {
        let temp = TestDir::new();
        let service = Service::start(&temp, "service", &[]);
        run(&temp, &["--server", &service.url()]);
        assert_eq!(service.rpc("torrent_get", json!({"fields": ["id"]})), json!({"torrents": []}));
    });
}
