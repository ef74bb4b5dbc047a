//! Requests as known clients send them.

use serde_json::{Value, json};

use super::ask;
use super::fake::{Asked, Fake};
use crate::service::model::{AddSource, LimitMode};
use crate::util::base64;

/// The response to a client's request, which must be a success.
fn replay(fake: &Fake, request: &Value) -> Value {
    let response = ask(fake, &request.to_string());
    assert_eq!(response["result"], "success", "{request}");
    response
}

/// Asks for fields, and returns the first torrent.
fn torrent(fields: &[&str]) -> Value {
    let request = json!({"method": "torrent-get", "arguments": {"fields": fields}, "tag": 4});
    let mut response = replay(&Fake::new(4), &request);
    assert_eq!(response["tag"], 4);
    response["arguments"]["torrents"][0].take()
}

/// Sonarr and Radarr read the list into an object whose members have these types.
#[test]
fn sonarr_and_radarr_read_the_list() {
    let fields = [
        "id",
        "hashString",
        "name",
        "downloadDir",
        "totalSize",
        "leftUntilDone",
        "isFinished",
        "eta",
        "status",
        "secondsDownloading",
        "secondsSeeding",
        "errorString",
        "uploadedEver",
        "downloadedEver",
        "seedRatioLimit",
        "seedRatioMode",
        "seedIdleLimit",
        "seedIdleMode",
        "fileCount",
        "file-count",
        "labels",
    ];
    let torrent = torrent(&fields);
    for name in ["hashString", "name", "downloadDir", "errorString"] {
        assert!(torrent[name].is_string(), "{name}");
    }
    for name in ["id", "eta", "status", "secondsDownloading", "secondsSeeding", "seedIdleLimit", "file-count"] {
        assert!(i32::try_from(torrent[name].as_i64().unwrap()).is_ok(), "{name}");
    }
    for name in ["totalSize", "leftUntilDone", "uploadedEver", "downloadedEver", "seedRatioMode", "seedIdleMode"] {
        assert!(torrent[name].is_i64(), "{name}");
    }
    assert!(torrent["seedRatioLimit"].is_number() && torrent["isFinished"].is_boolean());
}

#[test]
fn sonarr_and_radarr_add_and_manage() {
    let fake = Fake::new(3);
    let hash = super::fake::hash(3).hex().to_uppercase();
    let version = replay(&fake, &json!({"method": "session-get"}))["arguments"]["version"].take();
    let number: f64 = version.as_str().unwrap().split('.').take(2).collect::<Vec<_>>().join(".").parse().unwrap();
    assert!(number > 2.4, "{version}");

    replay(
        &fake,
        &json!({"method": "torrent-add", "arguments": {
            "metainfo": base64::encode(b"d4:infode"), "paused": false, "download-dir": "/srv/downloads/sonarr", "labels": ["sonarr"],
        }}),
    );
    let seeding =
        json!({"ids": [hash], "seedRatioLimit": 1.5, "seedRatioMode": 1, "seedIdleLimit": 1440, "seedIdleMode": 1});
    replay(&fake, &json!({"method": "torrent-set", "arguments": seeding}));
    replay(&fake, &json!({"method": "queue-move-top", "arguments": {"ids": [hash]}}));
    replay(&fake, &json!({"method": "torrent-remove", "arguments": {"ids": [hash], "delete-local-data": true}}));
    let asked = fake.asked();
    assert!(matches!(&asked[0], Asked::Add(request) if matches!(request.source, AddSource::Metainfo(_))));
    let Asked::Change(ids, change) = &asked[1] else { panic!() };
    assert_eq!((&ids[..], change.seed_ratio, change.seed_ratio_mode), (&[3][..], Some(1.5), Some(LimitMode::Own)));
    assert_eq!((change.seed_idle_minutes, change.seed_idle_mode), (Some(1440), Some(LimitMode::Own)));
    assert!(matches!(&asked[2], Asked::Queue(ids, _) if *ids == [3]));
    assert!(matches!(&asked[3], Asked::Remove(ids, true) if *ids == [3]));
}

#[test]
fn transmission_remote_shows_list_details_files_and_peers() {
    let list = [
        "error",
        "errorString",
        "eta",
        "id",
        "isFinished",
        "leftUntilDone",
        "name",
        "peersGettingFromUs",
        "peersSendingToUs",
        "rateDownload",
        "rateUpload",
        "sizeWhenDone",
        "status",
        "uploadRatio",
    ];
    let files = ["files", "name", "priorities", "wanted"];
    let details = [
        "activityDate",
        "addedDate",
        "bandwidthPriority",
        "comment",
        "corruptEver",
        "creator",
        "dateCreated",
        "desiredAvailable",
        "doneDate",
        "downloadDir",
        "downloadedEver",
        "downloadLimit",
        "downloadLimited",
        "error",
        "errorString",
        "eta",
        "hashString",
        "haveUnchecked",
        "haveValid",
        "honorsSessionLimits",
        "id",
        "isFinished",
        "isPrivate",
        "labels",
        "leftUntilDone",
        "magnetLink",
        "name",
        "peersConnected",
        "peersGettingFromUs",
        "peersSendingToUs",
        "peer-limit",
        "pieceCount",
        "pieceSize",
        "rateDownload",
        "rateUpload",
        "recheckProgress",
        "secondsDownloading",
        "secondsSeeding",
        "seedRatioMode",
        "seedRatioLimit",
        "sizeWhenDone",
        "startDate",
        "status",
        "totalSize",
        "uploadedEver",
        "uploadLimit",
        "uploadLimited",
        "webseeds",
    ];
    for fields in [&list[..], &files, &details, &["peers"], &["pieces", "pieceCount"], &["trackerStats"]] {
        assert_eq!(torrent(fields).as_object().unwrap().len(), fields.len());
    }
    assert_eq!(torrent(&files)["wanted"], json!([1, 0, 1]));
    let fake = Fake::new(2);
    let stats = replay(&fake, &json!({"method": "session-stats", "tag": 1}))["arguments"].take();
    assert!(stats["cumulative-stats"]["uploadedBytes"].is_i64() && stats["activeTorrentCount"] == 2);
    replay(&fake, &json!({"arguments": {"ids": [1, 2]}, "method": "torrent-reannounce", "tag": 0}));
    assert!(matches!(&fake.asked()[..], [Asked::Reannounce(ids)] if ids.len() == 2));
}

#[test]
fn flood_lists_and_changes() {
    let list = [
        "hashString",
        "downloadDir",
        "name",
        "haveValid",
        "addedDate",
        "dateCreated",
        "rateDownload",
        "rateUpload",
        "downloadedEver",
        "uploadedEver",
        "eta",
        "isPrivate",
        "error",
        "errorString",
        "peersGettingFromUs",
        "peersSendingToUs",
        "status",
        "totalSize",
        "trackers",
        "labels",
    ];
    assert_eq!(torrent(&list).as_object().unwrap().len(), list.len());
    let fake = Fake::new(3);
    let hash = super::fake::hash(1).hex();
    for (method, arguments) in [
        ("torrent-get", json!({"ids": hash, "fields": ["files", "fileStats"], "format": "objects"})),
        ("torrent-set", json!({"ids": hash, "files-unwanted": [1], "priority-normal": [1]})),
        ("torrent-set", json!({"ids": [hash], "labels": []})),
        ("torrent-start-now", json!({"ids": [hash]})),
        ("torrent-set-location", json!({"ids": [hash], "location": "/srv/x", "move": true})),
        (
            "torrent-add",
            json!({"filename": "http://t.example/1", "cookies": "a=b;", "download-dir": "/srv", "paused": false}),
        ),
    ] {
        replay(&fake, &json!({"method": method, "arguments": arguments}));
    }
    assert_eq!(fake.asked().len(), 5);
}

#[test]
fn the_npm_package_lists_all_at_once() {
    let fields = [
        "id",
        "addedDate",
        "creator",
        "doneDate",
        "comment",
        "name",
        "totalSize",
        "error",
        "errorString",
        "eta",
        "etaIdle",
        "isFinished",
        "isStalled",
        "isPrivate",
        "files",
        "fileStats",
        "hashString",
        "leftUntilDone",
        "metadataPercentComplete",
        "peers",
        "peersFrom",
        "peersConnected",
        "peersGettingFromUs",
        "peersSendingToUs",
        "percentDone",
        "queuePosition",
        "rateDownload",
        "rateUpload",
        "secondsDownloading",
        "secondsSeeding",
        "recheckProgress",
        "seedRatioMode",
        "seedRatioLimit",
        "seedIdleLimit",
        "sizeWhenDone",
        "status",
        "trackers",
        "downloadDir",
        "downloadLimit",
        "downloadLimited",
        "uploadedEver",
        "downloadedEver",
        "corruptEver",
        "uploadRatio",
        "webseedsSendingToUs",
        "haveUnchecked",
        "haveValid",
        "honorsSessionLimits",
        "manualAnnounceTime",
        "activityDate",
        "desiredAvailable",
        "labels",
        "magnetLink",
        "maxConnectedPeers",
        "peer-limit",
        "priorities",
        "wanted",
        "webseeds",
    ];
    assert_eq!(torrent(&fields).as_object().unwrap().len(), fields.len());
}

#[test]
fn tremc_polls_lists_and_details() {
    let fields = [
        "id",
        "name",
        "downloadDir",
        "status",
        "trackerStats",
        "desiredAvailable",
        "rateDownload",
        "rateUpload",
        "eta",
        "uploadRatio",
        "sizeWhenDone",
        "haveValid",
        "haveUnchecked",
        "addedDate",
        "uploadedEver",
        "error",
        "errorString",
        "recheckProgress",
        "peersConnected",
        "uploadLimit",
        "downloadLimit",
        "uploadLimited",
        "downloadLimited",
        "bandwidthPriority",
        "peersSendingToUs",
        "peersGettingFromUs",
        "seedRatioLimit",
        "seedRatioMode",
        "isPrivate",
        "labels",
        "queuePosition",
        "files",
        "priorities",
        "wanted",
        "peers",
        "trackers",
        "activityDate",
        "dateCreated",
        "startDate",
        "doneDate",
        "totalSize",
        "leftUntilDone",
        "comment",
        "creator",
        "hashString",
        "pieceCount",
        "pieceSize",
        "pieces",
        "downloadedEver",
        "corruptEver",
        "peersFrom",
        "magnetLink",
        "metadataPercentComplete",
    ];
    assert_eq!(torrent(&fields).as_object().unwrap().len(), fields.len());
}

/// stig tries JSON-RPC first, and takes a response with `jsonrpc` for a server that speaks it.
#[test]
fn stig_speaks_json_rpc_first() {
    let fake = Fake::new(3);
    let response = ask(&fake, r#"{"jsonrpc": "2.0", "method": "session_get", "id": 1}"#);
    assert_eq!((&response["jsonrpc"], &response["id"]), (&json!("2.0"), &json!(1)));
    for name in ["version", "rpc_version", "rpc_version_minimum", "rpc_version_semver"] {
        assert!(!response["result"][name].is_null(), "{name}");
    }
    let request = json!({"jsonrpc": "2.0", "id": 2, "method": "torrent_get", "params": {
        "ids": [super::fake::hash(1).hex()], "fields": ["id", "name", "rate_download", "tracker_stats", "wanted"],
    }});
    assert_eq!(ask(&fake, &request.to_string())["result"]["torrents"][0]["wanted"], json!([true, false, true]));
}
