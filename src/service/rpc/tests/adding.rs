//! `torrent_add`.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::fake::{Asked, Fake};
use super::{arguments, error, legacy_result, result};
use crate::service::model::{AddRequest, AddSource, ControlError, FileIndexes, Priority};
use crate::util::base64;

/// What the service was asked to add.
fn added(fake: &Fake, method: &str, params: &Value) -> AddRequest {
    if method.contains('-') {
        arguments(fake, method, params);
    } else {
        result(fake, method, params);
    }
    match &fake.asked()[..] {
        [Asked::Add(request)] => (**request).clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn metainfo_comes_in_base64_with_or_without_lines() {
    let fake = Fake::new(0);
    let bytes = b"d4:infod6:lengthi1eee".repeat(9);
    let text = base64::encode(&bytes);
    let lines: Vec<&str> = text.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect();
    for metainfo in [text.clone(), lines.join("\n"), lines.join("\r\n") + "\r\n", text.trim_end_matches('=').to_owned()]
    {
        let request = added(&fake, "torrent-add", &json!({"metainfo": metainfo}));
        assert!(matches!(request.source, AddSource::Metainfo(found) if found == bytes));
    }
    added(&fake, "torrent-add", &json!({"metainfo": base64::encode(b"\x1f\x8bpacked")}));
}

#[test]
fn all_parameters_are_passed_on() {
    let fake = Fake::new(0);
    let request = added(
        &fake,
        "torrent-add",
        &json!({
            "filename": " magnet:?xt=urn:btih:x ", "download-dir": "/srv/tv", "paused": true, "peer-limit": 40,
            "bandwidthPriority": 1, "files-wanted": [0, 2], "files-unwanted": [1], "priority-high": [2],
            "priority-normal": [], "priority-low": [0], "labels": ["tv", " sonarr "], "cookies": "a=b; c=d",
            "sequential_download": true, "sequential_download_from_piece": 3,
        }),
    );
    assert!(matches!(&request.source, AddSource::Name(name) if name == "magnet:?xt=urn:btih:x"));
    assert_eq!(request.folder, Some(PathBuf::from("/srv/tv")));
    assert_eq!((request.starts_paused, request.cookies.as_deref()), (Some(true), Some("a=b; c=d")));
    let change = &request.change;
    assert_eq!((change.peer_limit, change.bandwidth_priority), (Some(40), Some(Priority::High)));
    assert_eq!((&change.wanted, &change.unwanted), (&FileIndexes::Some(vec![0, 2]), &FileIndexes::Some(vec![1])));
    assert_eq!((&change.priority_high, &change.priority_normal), (&FileIndexes::Some(vec![2]), &FileIndexes::None));
    assert_eq!(change.priority_low, FileIndexes::Some(vec![0]));
    assert_eq!(change.labels, Some(vec!["tv".to_owned(), "sonarr".to_owned()]));
    assert_eq!((change.is_sequential, request.may_overwrite), (Some(true), false));
    let same = added(
        &fake,
        "torrent_add",
        &json!({
            "filename": "http://t.example/x.torrent", "download_dir": "", "files_unwanted": [],
        }),
    );
    assert_eq!((same.folder, same.starts_paused, same.cookies), (None, None, None));
    assert_eq!(same.change.unwanted, FileIndexes::None);
}

#[test]
fn a_new_torrent_is_told_from_a_known_one() {
    let fake = Fake::new(0);
    let hash = super::fake::hash(9).hex();
    let legacy = arguments(&fake, "torrent-add", &json!({"filename": "/x.torrent"}));
    assert_eq!(legacy, json!({"torrent-added": {"hashString": hash, "id": 9, "name": "Torrent 9"}}));
    let new = result(&fake, "torrent_add", &json!({"filename": "/x.torrent"}));
    assert_eq!(new, json!({"torrent_added": {"hash_string": hash, "id": 9, "name": "Torrent 9"}}));
    let legacy = arguments(&fake, "torrent-add", &json!({"filename": "/duplicate.torrent"}));
    assert_eq!(legacy, json!({"torrent-duplicate": {"hashString": hash, "id": 9, "name": "Torrent 9"}}));
    let new = result(&fake, "torrent_add", &json!({"filename": "/duplicate.torrent"}));
    assert!(new.get("torrent_duplicate").is_some());
}

#[test]
fn an_info_hash_alone_is_a_magnet_link() {
    let fake = Fake::new(0);
    for hash in ["0123456789abcdef0123456789ABCDEF01234567", "MFRGGZDFMZTWQ2LKMFRGGZDFMZTWQ2LK"] {
        let request = added(&fake, "torrent-add", &json!({"filename": hash}));
        assert!(matches!(request.source, AddSource::Name(name) if name == format!("magnet:?xt=urn:btih:{hash}")));
    }
}

#[test]
fn what_cannot_be_added_is_refused_in_transmissions_words() {
    let mut fake = Fake::new(0);
    for (params, code, text) in [
        (json!({}), -32602, "no filename or metainfo specified"),
        (json!({"metainfo": ""}), -32602, "no filename or metainfo specified"),
        (json!({"metainfo": "!"}), 4, "unrecognized info"),
        (json!({"metainfo": base64::encode(b"<html>")}), 4, "unrecognized info"),
        (json!({"filename": "relative.torrent"}), 4, "unrecognized info"),
        (json!({"filename": "ftp://t.example/x"}), 4, "unrecognized info"),
        (json!({"filename": "/x", "download_dir": "relative"}), 3, "download directory path is not absolute"),
        (json!({"filename": "/x", "labels": ["a,b"]}), -32602, "labels cannot contain comma (,) character"),
        (json!({"filename": "/x", "labels": [" "]}), -32602, "labels cannot be empty"),
        (json!({"filename": "/x", "files_wanted": [-1]}), 6, "file index out of range"),
    ] {
        assert_eq!(error(&fake, "torrent_add", &params).0, code, "{params}");
        assert_eq!(legacy_result(&fake, "torrent-add", &params), text);
    }
    assert!(fake.asked().is_empty());

    fake.failure = Some(ControlError::BadTorrent("no pieces".to_owned()));
    let metainfo = json!({"metainfo": base64::encode(b"de")});
    assert_eq!(error(&fake, "torrent_add", &metainfo), (9, "no pieces".to_owned()));
    assert_eq!(legacy_result(&fake, "torrent-add", &metainfo), "invalid or corrupt torrent file");
    let magnet = json!({"filename": "magnet:?dn=x"});
    assert_eq!(error(&fake, "torrent_add", &magnet), (4, "no pieces".to_owned()));
    assert_eq!(legacy_result(&fake, "torrent-add", &magnet), "unrecognized info");

    fake.failure = Some(ControlError::NotFetched("Couldn't fetch torrent: HTTP 404".to_owned()));
    let url = json!({"filename": "http://t.example/x"});
    assert_eq!(error(&fake, "torrent_add", &url), (8, "Couldn't fetch torrent: HTTP 404".to_owned()));
    assert_eq!(legacy_result(&fake, "torrent-add", &url), "Couldn't fetch torrent: HTTP 404");
}
