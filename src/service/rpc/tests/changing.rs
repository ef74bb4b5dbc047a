//! Methods that change torrents and settings.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::fake::{Asked, Fake};
use super::{arguments, error, legacy_result, result};
use crate::service::model::{FileIndexes, LimitMode, Priority, QueueMove, TorrentChange};
use crate::service::settings::SettingsChange;
use crate::types::Encryption;

/// The change of torrents that a request asks for.
fn change(params: &Value) -> TorrentChange {
    let fake = Fake::new(3);
    result(&fake, "torrent_set", params);
    fake.change().1
}

/// The change of settings that a request asks for.
fn settings_change(fake: &Fake, params: &Value) -> SettingsChange {
    arguments(fake, "session-set", params);
    match &fake.asked()[..] {
        [Asked::Settings(change)] => (**change).clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_setting_of_a_torrent_can_be_changed() {
    let found = change(&json!({
        "ids": [1, 3], "bandwidth_priority": -1, "download_limit": 100, "download_limited": true, "group": "slow",
        "honors_session_limits": false, "labels": ["a"], "location": "/srv/other", "peer_limit": 7, "queue_position": 2,
        "seed_idle_limit": 5, "seed_idle_mode": 1, "seed_ratio_limit": 1.5, "seed_ratio_mode": 2,
        "sequential_download": true, "upload_limit": 50, "upload_limited": false,
    }));
    let expected = TorrentChange {
        bandwidth_priority: Some(Priority::Low),
        down_limit: Some(100),
        is_down_limited: Some(true),
        group: Some("slow".to_owned()),
        honors_session_limits: Some(false),
        labels: Some(vec!["a".to_owned()]),
        folder: Some(PathBuf::from("/srv/other")),
        peer_limit: Some(7),
        queue_position: Some(2),
        seed_idle_minutes: Some(5),
        seed_idle_mode: Some(LimitMode::Own),
        seed_ratio: Some(1.5),
        seed_ratio_mode: Some(LimitMode::Unlimited),
        is_sequential: Some(true),
        up_limit: Some(50),
        is_up_limited: Some(false),
        ..TorrentChange::default()
    };
    assert_eq!(found, expected);
    assert_eq!(change(&json!({"ids": 1, "seed_ratio_mode": 3, "bandwidth_priority": 2})), TorrentChange::default());
    assert_eq!(change(&json!({"ids": 1, "labels": []})).labels, Some(Vec::new()));
}

#[test]
fn an_empty_list_of_files_means_all() {
    let found = change(&json!({"ids": 1, "files_unwanted": [], "files_wanted": [0, 2], "priority_high": []}));
    assert_eq!((found.unwanted, found.wanted), (FileIndexes::All, FileIndexes::Some(vec![0, 2])));
    assert_eq!((found.priority_high, found.priority_low), (FileIndexes::All, FileIndexes::None));
    let fake = Fake::new(3);
    for params in [
        json!({"ids": 1, "files_wanted": [3]}),
        json!({"ids": [1, 2], "files_wanted": [0]}),
        json!({"ids": 1, "priority_low": [-1]}),
    ] {
        assert_eq!(error(&fake, "torrent_set", &params).0, 6);
        assert_eq!(legacy_result(&fake, "torrent-set", &params), "file index out of range");
    }
    assert!(fake.asked().is_empty());
}

#[test]
fn trackers_are_set_by_text_or_by_lists() {
    let list = "http://a.example/1\r\nhttp://b.example/2\n\n\n  udp://c.example:3  \n";
    let tiers =
        vec![vec!["http://a.example/1".to_owned(), "http://b.example/2".into()], vec!["udp://c.example:3".into()]];
    assert_eq!(change(&json!({"ids": 1, "tracker_list": list})).trackers, Some(tiers));
    assert_eq!(change(&json!({"ids": 1, "tracker_list": ""})).trackers, Some(Vec::new()));
    let fake = Fake::new(1);
    for list in
        ["nonsense", "ftp://a.example", "http://", "http:///x", "http://a.example/\nhttp://a.example/", "http://a b/"]
    {
        assert_eq!(error(&fake, "torrent_set", &json!({"ids": 1, "tracker_list": list})), (2, String::new()), "{list}");
        assert_eq!(legacy_result(&fake, "torrent-set", &json!({"trackerList": list})), "Invalid tracker list");
    }
    let found = change(&json!({
        "ids": 1, "tracker_add": ["http://new.example/"], "tracker_remove": [1, "x"],
        "tracker_replace": [2, "http://other.example/", 0],
    }));
    assert_eq!((found.add_trackers, found.remove_trackers), (vec!["http://new.example/".to_owned()], vec![1]));
    assert_eq!(found.replace_trackers, [(2, "http://other.example/".to_owned())]);
    for params in [
        json!({"ids": 1, "trackerAdd": []}),
        json!({"ids": 1, "trackerAdd": ["nonsense"]}),
        json!({"ids": 1, "trackerAdd": ["udp://192.0.2.9:6969/announce"]}),
        json!({"ids": 1, "trackerRemove": [99]}),
        json!({"ids": 1, "trackerReplace": [0]}),
    ] {
        assert_eq!(legacy_result(&fake, "torrent-set", &params), "error setting announce list", "{params}");
    }
    assert!(fake.asked().is_empty());
}

#[test]
fn actions_reach_the_torrents() {
    let fake = Fake::new(3);
    for (method, expected) in [
        ("torrent-start", "Start([1], false)"),
        ("torrent-start-now", "Start([1], true)"),
        ("torrent-stop", "Stop([1])"),
        ("torrent-verify", "Verify([1])"),
        ("torrent-reannounce", "Reannounce([1])"),
        ("torrent-remove", "Remove([1], false)"),
        ("queue-move-top", "Queue([1], Top)"),
        ("queue-move-up", "Queue([1], Up)"),
        ("queue-move-down", "Queue([1], Down)"),
        ("queue-move-bottom", "Queue([1], Bottom)"),
    ] {
        assert_eq!(arguments(&fake, method, &json!({"ids": [1]})), json!({}));
        assert_eq!(format!("{:?}", fake.asked()), format!("[{expected}]"));
        assert_eq!(result(&fake, &method.replace('-', "_"), &json!({"ids": [1]})), json!({}));
        assert_eq!(format!("{:?}", fake.asked()), format!("[{expected}]"));
        assert_eq!(result(&fake, &method.replace('-', "_"), &json!({"ids": [99]})), json!({}));
        assert!(fake.asked().is_empty());
    }
    assert!(matches!(QueueMove::Top, QueueMove::Top));
    result(&fake, "session_close", &json!({}));
    assert!(matches!(&fake.asked()[..], [Asked::ShutDown]));
    result(&fake, "btsync_overwrite", &json!({"id": 3}));
    assert!(matches!(&fake.asked()[..], [Asked::Overwrite(3)]));
    assert_eq!(error(&fake, "btsync_overwrite", &json!({})).0, -32602);
}

#[test]
fn a_torrent_is_moved_or_only_looked_for_elsewhere() {
    let fake = Fake::new(3);
    arguments(&fake, "torrent-set-location", &json!({"ids": [1], "location": "/srv/b", "move": true}));
    result(&fake, "torrent_set_location", &json!({"ids": [2], "location": "/srv/b"}));
    let asked = fake.asked();
    assert!(matches!(&asked[0], Asked::SetFolder(ids, folder, true) if *ids == [1] && folder == Path::new("/srv/b")));
    assert!(matches!(&asked[1], Asked::SetFolder(ids, _, false) if *ids == [2]));
    assert_eq!(legacy_result(&fake, "torrent-set-location", &json!({"ids": 1})), "no location");
    for location in ["srv", ""] {
        let params = json!({"ids": 1, "location": location});
        assert_eq!(legacy_result(&fake, "torrent-set-location", &params), "new location path is not absolute");
    }
}

#[test]
fn one_torrents_path_is_renamed() {
    let mut fake = Fake::new(3);
    let params = json!({"ids": [3], "path": "Torrent/a", "name": "b"});
    let renamed = arguments(&fake, "torrent-rename-path", &params);
    assert_eq!(renamed, json!({"id": 3, "name": "b", "path": "Torrent/a"}));
    assert!(matches!(&fake.asked()[..], [Asked::Rename(3, path, name)] if path == "Torrent/a" && name == "b"));
    let two = json!({"ids": [1, 2], "path": "a", "name": "b"});
    assert_eq!(legacy_result(&fake, "torrent-rename-path", &two), "torrent-rename-path requires 1 torrent");
    assert_eq!(error(&fake, "torrent_rename_path", &two).1, "torrent_rename_path requires 1 torrent");
    fake.failure = Some(crate::service::model::ControlError::Invalid("no such path".to_owned()));
    assert_eq!(error(&fake, "torrent_rename_path", &params), (-32602, "no such path".to_owned()));
}

#[test]
fn every_setting_of_the_session_that_btsync_has_can_be_changed() {
    let fake = Fake::new(0);
    let change = settings_change(
        &fake,
        &json!({
            "alt-speed-down": 1, "alt-speed-enabled": true, "alt-speed-time-begin": 60, "alt-speed-time-day": 62,
            "alt-speed-time-enabled": true, "alt-speed-time-end": 5000, "alt-speed-up": 2, "default-trackers": "udp://t.example:1",
            "dht-enabled": false, "download-dir": "/srv/a", "download-queue-enabled": false, "download-queue-size": 3,
            "encryption": "required", "idle-seeding-limit": 4, "idle-seeding-limit-enabled": true, "incomplete-dir": "/srv/i",
            "incomplete-dir-enabled": true, "lpd-enabled": false, "peer-limit-global": 5, "peer-limit-per-torrent": 6,
            "peer-port": 7000, "peer-port-random-on-start": true, "pex-enabled": false, "queue-stalled-enabled": false,
            "queue-stalled-minutes": 8, "rename-partial-files": false, "seed-queue-enabled": true, "seed-queue-size": 9,
            "seedRatioLimit": 1.25, "seedRatioLimited": true, "speed-limit-down": 10, "speed-limit-down-enabled": true,
            "speed-limit-up": 11, "speed-limit-up-enabled": false, "start-added-torrents": false,
            "port-forwarding-enabled": false, "utp-enabled": false,
            "trash-original-torrent-files": true,
        }),
    );
    let expected = SettingsChange {
        block_list_is_enabled: None,
        block_list_url: None,
        download_folder: Some("/srv/a".into()),
        incomplete_folder: Some("/srv/i".into()),
        uses_incomplete_folder: Some(true),
        renames_partial_files: Some(false),
        starts_added: Some(false),
        deletes_watched: Some(true),
        down_limit: Some(10),
        is_down_limited: Some(true),
        up_limit: Some(11),
        is_up_limited: Some(false),
        alternative_is_enabled: Some(true),
        alternative_down: Some(1),
        alternative_up: Some(2),
        alternative_is_scheduled: Some(true),
        alternative_begin: Some(60),
        alternative_end: Some(1439),
        alternative_days: Some(62),
        queue_downloads: Some(3),
        queue_limits_downloads: Some(false),
        queue_seeds: Some(9),
        queue_limits_seeds: Some(true),
        queue_stalled_minutes: Some(8),
        queue_ignores_stalled: Some(false),
        seed_ratio: Some(1.25),
        seed_limits_ratio: Some(true),
        seed_idle_minutes: Some(4),
        seed_limits_idle: Some(true),
        port: Some(7000),
        is_port_random: Some(true),
        peer_limit: Some(5),
        peer_limit_per_torrent: Some(6),
        uses_dht: Some(false),
        uses_lsd: Some(false),
        uses_pex: Some(false),
        maps_port: Some(false),
        uses_utp: Some(false),
        encryption: Some(Encryption::Require),
        default_trackers: Some(vec![vec!["udp://t.example:1".to_owned()]]),
    };
    assert_eq!(change, expected);
}

#[test]
fn the_block_list_is_a_url() {
    let fake = Fake::new(0);
    let change =
        settings_change(&fake, &json!({"blocklist-enabled": true, "blocklist-url": "https://h.example/list.gz"}));
    let url = Some("https://h.example/list.gz".to_owned());
    assert_eq!((change.block_list_is_enabled, change.block_list_url), (Some(true), url));
}

/// Programs and what btsync does not have cannot be set, and a client may send back all that it has read.
#[test]
fn other_settings_are_ignored() {
    let mut fake = Fake::new(0);
    let ignored = json!({
        "script-torrent-done-enabled": true, "script-torrent-done-filename": "/bin/sh", "script-torrent-added-enabled": true,
        "script-torrent-added-filename": "/bin/sh", "script-torrent-done-seeding-filename": "/bin/sh",
        "cache-size-mb": 100, "utp-enabled": true, "tcp-enabled": false, "nope": 1,
        "rpc-version": 3, "version": "1", "session-id": "x", "config-dir": "/etc", "units": {}, "peer-port": 51413,
    });
    assert_eq!(settings_change(&fake, &ignored), SettingsChange::default());
    fake.settings.network.encryption = Encryption::Off;
    fake.settings.incomplete_folder = "/srv/incomplete".into();
    let all = arguments(&fake, "session-get", &json!({}));
    let change = settings_change(&fake, &all);
    assert_eq!((change.encryption, change.port), (None, None));
    assert_eq!(change.download_folder, Some(PathBuf::from("/srv/downloads")));
}

#[test]
fn a_setting_that_is_not_valid_changes_nothing() {
    let fake = Fake::new(0);
    for (params, code) in [
        (json!({"download_dir": "x"}), 3),
        (json!({"incomplete_dir": "x", "dht_enabled": true}), 3),
        (json!({"encryption": "yes"}), -32602),
        (json!({"encryption": 1}), -32602),
        (json!({"peer_port": 70000}), -32602),
        (json!({"alt_speed_time_day": 128}), -32602),
        (json!({"default_trackers": "x"}), 2),
        (json!({"blocklist_url": "/etc/passwd"}), -32602),
    ] {
        assert_eq!(error(&fake, "session_set", &params).0, code, "{params}");
    }
    assert!(fake.asked().is_empty());
}

#[test]
fn a_group_is_created_or_changed() {
    let mut fake = Fake::new(0);
    arguments(&fake, "group-set", &json!({"name": " slow ", "speed-limit-down": 5, "speed-limit-down-enabled": true}));
    let [Asked::Group(group)] = &fake.asked()[..] else { panic!() };
    assert_eq!((group.name.as_str(), group.down_limit.kilobytes, group.down_limit.is_enabled), ("slow", 5, true));
    assert!(group.honors_session_limits);
    fake.groups.push(group.clone());
    result(&fake, "group_set", &json!({"name": "slow", "honors_session_limits": false}));
    let [Asked::Group(group)] = &fake.asked()[..] else { panic!() };
    assert_eq!((group.down_limit.kilobytes, group.honors_session_limits), (5, false));
    assert_eq!(legacy_result(&fake, "group-set", &json!({"name": " "})), "No group name given");
}
