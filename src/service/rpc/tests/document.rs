//! `docs/rpc.md` names all that the remote control has, and nothing else.

use std::collections::BTreeSet;

use crate::service::rpc::methods::METHODS;
use crate::service::rpc::{session, torrent};

const DOCUMENT: &str = include_str!("../../../../docs/rpc.md");

/// The names in the first two columns of the table below a heading: in JSON-RPC and in the legacy dialect.
fn rows(heading: &str) -> BTreeSet<(String, String)> {
    let section = DOCUMENT.split(&format!("\n## {heading}\n")).nth(1).expect(heading);
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|line| {
        let mut cells = line.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).skip(1);
        (cells.next().unwrap(), cells.next().unwrap())
    })
    .collect()
}

fn pair(name: &str, legacy_name: &str) -> (String, String) {
    (name.to_owned(), legacy_name.to_owned())
}

#[test]
fn every_method_is_documented() {
    let own = |name: &str| name.starts_with("btsync_");
    let expected = METHODS.iter().map(|method| {
        pair(method.name, &if own(method.name) { "–".to_owned() } else { method.name.replace('_', "-") })
    });
    assert_eq!(rows("Methods"), expected.collect());
}

#[test]
fn every_field_is_documented() {
    let torrent =
        torrent::FIELDS.iter().map(|field| pair(field.name, if field.is_own() { "–" } else { field.legacy_name }));
    assert_eq!(rows("Fields of torrents"), torrent.collect());
    let session =
        session::FIELDS.iter().map(|field| pair(field.name, if field.is_own() { "–" } else { field.legacy_name }));
    assert_eq!(rows("Fields of the session"), session.collect());
}
