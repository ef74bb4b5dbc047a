//! `torrent_get` and the other methods that read.

use serde_json::{Value, json};

use super::fake::Fake;
use super::{SESSION_ID, arguments, error, legacy_result, result};
use crate::http_server::MAX_WAITING_BYTES;
use crate::service::model::{Activity, BandwidthGroup, LimitMode, RateLimit, UnixTime};
use crate::service::rpc::torrent::array_fields::{flags, host_and_port, site_name};
use crate::service::rpc::torrents_event::torrents_event;
use crate::types::Encryption;
use crate::util::base64;

/// One field of the first torrent, after a change.
fn first(field: &str, change: impl FnOnce(&mut Fake)) -> Value {
    let mut fake = Fake::new(1);
    change(&mut fake);
    result(&fake, "torrent_get", &json!({"fields": [field]}))["torrents"][0][field].take()
}

#[test]
fn only_asked_details_are_fetched() {
    let fake = Fake::new(2);
    let plain = ["id", "name", "status", "eta", "percent_done", "upload_ratio", "peers_connected", "file_count"];
    result(&fake, "torrent_get", &json!({"fields": plain}));
    assert!(fake.read().is_empty());
    let files = ["files", "file_stats", "wanted", "priorities", "bytes_completed"];
    result(&fake, "torrent_get", &json!({"ids": 1, "fields": files}));
    assert_eq!(fake.read(), ["files"]);
    result(&fake, "torrent_get", &json!({"ids": 1, "fields": ["trackers", "tracker_stats", "tracker_list", "pieces"]}));
    assert_eq!(fake.read(), ["trackers", "pieces"]);
}

#[test]
fn fields_come_once_and_unknown_ones_not_at_all() {
    let fake = Fake::new(1);
    let fields = json!(["name", "id", "name", "nope", 7, "hashString", "is_finished"]);
    let torrents = result(&fake, "torrent_get", &json!({"fields": fields}));
    assert_eq!(torrents, json!({"torrents": [{"name": "Torrent 1", "id": 1, "is_finished": false}]}));
    let torrents = arguments(&fake, "torrent-get", &json!({"fields": ["hashString", "hash_string", "fileCount"]}));
    let hash = super::fake::hash(1).hex();
    assert_eq!(torrents, json!({"torrents": [{"hashString": hash, "file-count": 3}]}));
    for fields in [json!([]), json!(["nope"]), json!("name"), json!(null)] {
        assert_eq!(error(&fake, "torrent_get", &json!({"fields": fields})).1, "no fields specified");
    }
}

#[test]
fn a_table_has_the_names_in_its_first_row() {
    let fake = Fake::new(2);
    let request = json!({"fields": ["queuePosition", "id", "wanted"], "format": "table"});
    let table = arguments(&fake, "torrent-get", &request);
    assert_eq!(table, json!({"torrents": [["queuePosition", "id", "wanted"], [0, 1, [1, 0, 1]], [1, 2, []]]}));
    let request = json!({"fields": ["queue_position", "wanted"], "format": "table", "ids": [1]});
    let table = result(&fake, "torrent_get", &request);
    assert_eq!(table, json!({"torrents": [["queue_position", "wanted"], [0, [true, false, true]]]}));
    let objects = result(&fake, "torrent_get", &json!({"fields": ["id"], "format": "objects", "ids": [9]}));
    assert_eq!(objects, json!({"torrents": []}));
}

#[test]
fn removed_torrents_are_told_with_the_recently_active() {
    let fake = Fake::new(3);
    let recent = arguments(&fake, "torrent-get", &json!({"fields": ["id"], "ids": "recently-active"}));
    assert_eq!(recent, json!({"removed": [77], "torrents": [{"id": 1}]}));
    let recent = result(&fake, "torrent_get", &json!({"fields": ["id"], "ids": "recently_active"}));
    assert_eq!(recent, json!({"removed": [77], "torrents": [{"id": 1}]}));
}

#[test]
fn the_eta_is_minus_one_where_it_has_no_meaning() {
    let down = |fake: &mut Fake, rate, missing, available| {
        let transfer = &mut fake.torrents[0].transfer;
        (transfer.down_rate, transfer.missing, transfer.available) = (rate, missing, available);
    };
    assert_eq!(first("eta", |fake| down(fake, 100, 1000, 1000)), 10);
    assert_eq!(first("eta", |fake| down(fake, 100, 1000, 999)), -1);
    assert_eq!(first("eta", |fake| down(fake, 0, 1000, 1000)), -2);
    assert_eq!(first("eta", |fake| down(fake, 1, u64::MAX, u64::MAX)), i32::MAX);
    let seed = |fake: &mut Fake, mode, rate| {
        let torrent = &mut fake.torrents[0];
        (torrent.activity, torrent.settings.seed_ratio_mode, torrent.transfer.up_rate) =
            (Activity::Seeding, mode, rate);
        (torrent.transfer.wanted, torrent.transfer.uploaded) = (1000, 500);
    };
    assert_eq!(first("eta", |fake| seed(fake, LimitMode::Own, 10)), 150);
    assert_eq!(first("eta", |fake| seed(fake, LimitMode::Own, 0)), -2);
    assert_eq!(first("eta", |fake| seed(fake, LimitMode::Unlimited, 10)), -1);
    assert_eq!(first("eta", |fake| seed(fake, LimitMode::Session, 10)), -1);
    assert_eq!(first("eta", |fake| fake.torrents[0].activity = Activity::Stopped), -1);
    let limited = first("eta", |fake| {
        seed(fake, LimitMode::Session, 10);
        (fake.settings.seeding.limits_ratio, fake.settings.seeding.ratio) = (true, 1.0);
    });
    assert_eq!(limited, 50);
}

#[test]
fn idle_seeding_has_an_end() {
    let idle = |mode, rate, at| {
        first("eta_idle", |fake| {
            let torrent = &mut fake.torrents[0];
            torrent.activity = Activity::Seeding;
            torrent.transfer.up_rate = rate;
            (torrent.settings.seed_idle_mode, torrent.settings.seed_idle_minutes) = (mode, 30);
            torrent.times.active = UnixTime(at);
        })
    };
    assert_eq!(idle(LimitMode::Own, 0, 1), 0);
    assert_eq!(idle(LimitMode::Own, 0, i64::MAX / 2), 1800);
    assert_eq!(idle(LimitMode::Own, 5, 1), -1);
    assert_eq!(idle(LimitMode::Unlimited, 0, 1), -1);
    assert_eq!(idle(LimitMode::Session, 0, 1), -1);
}

#[test]
fn the_ratio_may_be_infinite_or_unknown() {
    let ratio = |uploaded, wanted| {
        first("upload_ratio", |fake| {
            (fake.torrents[0].transfer.uploaded, fake.torrents[0].transfer.wanted) = (uploaded, wanted);
        })
    };
    assert_eq!(ratio(500, 1000), 0.5);
    assert_eq!(ratio(0, 0), -1.0);
    assert_eq!(ratio(1, 0), -2.0);
}

#[test]
fn parts_of_nothing_are_whole_once_the_metadata_is_known() {
    let nothing = |has_metadata: bool| {
        first("percent_done", |fake| {
            (fake.torrents[0].transfer.wanted, fake.torrents[0].transfer.missing) = (0, 0);
            if !has_metadata {
                fake.torrents[0].metainfo = None;
            }
        })
    };
    assert_eq!((nothing(true), nothing(false)), (json!(1.0), json!(0.0)));
    assert_eq!(first("percent_done", |_| {}), 0.5);
}

#[test]
fn pieces_are_a_bitfield_and_availability_has_all_of_them() {
    let fake = Fake::new(3);
    let fields = json!(["pieces", "availability", "piece_count"]);
    let response = result(&fake, "torrent_get", &json!({"fields": fields}));
    let torrents = &response["torrents"];
    assert_eq!(torrents[0]["pieces"], base64::encode(&[0xc0, 0, 0]));
    let availability = torrents[0]["availability"].as_array().unwrap();
    assert_eq!((availability.len(), &availability[1], &availability[2]), (20, &json!(-1), &json!(80)));
    assert_eq!(torrents[1], json!({"pieces": "", "availability": [], "piece_count": 0}));
    assert_eq!(torrents[2]["availability"].as_array().unwrap()[..3], [json!(-1), json!(-1), json!(0)]);
}

#[test]
fn the_tracker_list_has_an_empty_line_between_tiers() {
    let expected = "https://tracker.example.org/announce\nhttp://two.example.co.uk:8080/announce\n\n\
                    udp://192.0.2.9:6969/announce\n";
    assert_eq!(first("tracker_list", |_| {}), expected);
    let stats = first("tracker_stats", |_| {});
    let seen = |index: usize, member: &str| stats[index][member].clone();
    assert_eq!((seen(0, "host"), seen(1, "host")), (json!("tracker.example.org:443"), json!("two.example.co.uk:8080")));
    assert_eq!((seen(0, "sitename"), seen(2, "sitename")), (json!("example"), json!("192.0.2.9")));
    assert_eq!((seen(0, "seeder_count"), seen(1, "seeder_count")), (json!(5), json!(-1)));
    assert_eq!((seen(0, "has_scraped"), seen(1, "has_announced")), (json!(true), json!(false)));
    assert_eq!((seen(0, "announce_state"), seen(0, "next_announce_time")), (json!(1), json!(1_700_001_800)));
}

#[test]
fn a_torrent_of_a_file_has_a_magnet_link_too() {
    let link = first("magnet_link", |fake| fake.torrents[0].magnet = String::new());
    let hash = super::fake::hash(1).hex();
    let expected = format!(
        "magnet:?xt=urn:btih:{hash}&dn=Torrent%201&tr=https://tracker.example.org/announce\
         &tr=http://two.example.co.uk:8080/announce&tr=udp://192.0.2.9:6969/announce&ws=http://seed.example/"
    );
    assert_eq!(link, expected);
    assert_eq!(first("magnet_link", |_| {}), format!("magnet:?xt=urn:btih:{hash}"));
}

#[test]
fn hosts_and_sites_are_taken_from_urls() {
    for (url, host, port) in [
        ("http://t.example/announce", "t.example", 80),
        ("https://user:pw@t.example:8443/announce?x=http://y", "t.example", 8443),
        ("udp://[2001:db8::1]:6969", "[2001:db8::1]", 6969),
        ("http://[2001:db8::1]/a", "[2001:db8::1]", 80),
        ("nonsense", "nonsense", 80),
        ("", "", 80),
    ] {
        assert_eq!(host_and_port(url), (host, port), "{url}");
    }
    for (host, site) in [
        ("tracker.example.org", "example"),
        ("www.example.co.uk", "example"),
        ("co.uk", "co"),
        ("localhost", "localhost"),
        ("[::1]", "[::1]"),
        ("", ""),
    ] {
        assert_eq!(site_name(host), site);
    }
}

#[test]
fn a_peers_flags_are_transmissions_letters() {
    use crate::service::model::{Control as _, TorrentId};
    let [mut sending, mut idle] = Fake::new(1).peers(TorrentId(1)).try_into().unwrap();
    assert_eq!((flags(&sending), flags(&idle)), ("DuEHI".to_owned(), "duEHI".to_owned()));
    (sending.am_interested, sending.source, sending.up_rate, sending.is_encrypted) = (false, 'X', 1, false);
    assert_eq!(flags(&sending), "DUKXI");
    (idle.am_interested, idle.peer_interested, idle.am_choking, idle.is_incoming, idle.source) =
        (false, false, false, false, 'T');
    assert_eq!(flags(&idle), "?E");
    (idle.is_utp, idle.is_hole_punched) = (true, true);
    assert_eq!(flags(&idle), "?ETh");
}

#[test]
fn the_session_has_all_fields_or_those_that_are_asked_for() {
    let mut fake = Fake::new(1);
    let some = result(&fake, "session_get", &json!({"fields": ["session_id", "rpc_version_semver", "nope"]}));
    assert_eq!(some, json!({"session_id": SESSION_ID, "rpc_version_semver": "6.0.0"}));
    let all = arguments(&fake, "session-get", &json!({"fields": []}));
    assert_eq!((&all["rpc-version"], &all["rpc-version-minimum"]), (&json!(18), &json!(14)));
    assert_eq!(all["download-dir-free-space"], 1i64 << 40);
    assert_eq!(
        (&all["script-torrent-done-enabled"], &all["script-torrent-done-filename"]),
        (&json!(false), &json!(""))
    );
    fake.settings.default_trackers = vec![vec!["http://a/".into(), "http://b/".into()], vec!["udp://c:1".into()]];
    fake.settings.download_folder = "/elsewhere".into();
    let fields = json!(["default-trackers", "download-dir-free-space"]);
    let some = arguments(&fake, "session-get", &json!({"fields": fields}));
    assert_eq!(some, json!({"default-trackers": "http://a/\nhttp://b/\n\nudp://c:1\n", "download-dir-free-space": -1}));
    for (encryption, legacy, json_rpc) in [
        (Encryption::Allow, "preferred", "preferred"),
        (Encryption::Require, "required", "required"),
        (Encryption::Off, "tolerated", "allowed"),
    ] {
        fake.settings.network.encryption = encryption;
        assert_eq!(result(&fake, "session_get", &json!({"fields": ["encryption"]}))["encryption"], json_rpc);
        assert_eq!(arguments(&fake, "session-get", &json!({"fields": ["encryption"]}))["encryption"], legacy);
    }
}

#[test]
fn free_space_is_told_even_if_it_is_unknown() {
    let fake = Fake::new(1);
    let space = result(&fake, "free_space", &json!({"path": "/srv/x"}));
    assert_eq!(space, json!({"path": "/srv/x", "size_bytes": 1u64 << 40, "total_size": 1u64 << 41}));
    let space = arguments(&fake, "free-space", &json!({"path": "/srv/x"}));
    assert_eq!(space, json!({"path": "/srv/x", "size-bytes": 1u64 << 40, "total_size": 1u64 << 41}));
    assert_eq!(error(&fake, "free_space", &json!({})).0, -32602);
    for path in ["", "srv"] {
        assert_eq!(
            error(&fake, "free_space", &json!({"path": path})),
            (3, "directory path is not absolute".to_owned())
        );
    }
    let request = json!({"jsonrpc": "2.0", "method": "free_space", "params": {"path": "/none"}, "id": 1});
    let response = super::ask(&fake, &request.to_string());
    let data = json!({"error_string": "No such file or directory",
                      "result": {"path": "/none", "size_bytes": -1, "total_size": -1}});
    assert_eq!(response["error"], json!({"code": 5, "message": "system error", "data": data}));
    let request = json!({"method": "free-space", "arguments": {"path": "/none"}});
    let response = super::ask(&fake, &request.to_string());
    let expected = json!({"arguments": {"path": "/none", "size-bytes": -1, "total_size": -1},
                          "result": "No such file or directory"});
    assert_eq!(response, expected);
}

#[test]
fn the_port_is_open_closed_or_unknown() {
    let mut fake = Fake::new(1);
    assert_eq!(arguments(&fake, "port-test", &json!({})), json!({"port-is-open": true}));
    let both = result(&fake, "port_test", &json!({"ip_protocol": "ipv6"}));
    assert_eq!(both, json!({"ip_protocol": "ipv6", "port_is_open": true}));
    assert_eq!(error(&fake, "port_test", &json!({"ip_protocol": "x"})).0, -32602);
    fake.is_port_open = None;
    assert!(legacy_result(&fake, "port-test", &json!({})).starts_with("Couldn't test port"));
    assert_eq!(error(&fake, "port_test", &json!({})).0, 8);
    assert!(legacy_result(&fake, "blocklist-update", &json!({})).starts_with("Couldn't fetch blocklist"));
}

#[test]
fn groups_are_read_by_name() {
    let mut fake = Fake::new(1);
    for name in ["slow", "fast"] {
        let down_limit = RateLimit { kilobytes: 10, is_enabled: true };
        fake.groups.push(BandwidthGroup { name: name.to_owned(), down_limit, ..BandwidthGroup::default() });
    }
    assert_eq!(result(&fake, "group_get", &json!({}))["group"].as_array().unwrap().len(), 2);
    let expected = json!({"group": [{
        "honors_session_limits": true, "name": "fast", "speed_limit_down": 10, "speed_limit_down_enabled": true,
        "speed_limit_up": 0, "speed_limit_up_enabled": false,
    }]});
    assert_eq!(result(&fake, "group_get", &json!({"name": "fast"})), expected);
    assert_eq!(result(&fake, "group_get", &json!({"name": ["fast", "nope"]})), expected);
    let legacy = arguments(&fake, "group-get", &json!({"group": "slow"}));
    assert_eq!((&legacy["group"][0]["name"], &legacy["group"][0]["speed-limit-down"]), (&json!("slow"), &json!(10)));
}

#[test]
fn the_page_gets_pieces_and_files_in_little_space() {
    let fake = Fake::new(3);
    let pieces = result(&fake, "btsync_pieces", &json!({"id": 1}));
    let states = base64::decode(pieces["states"].as_str().unwrap()).unwrap();
    assert_eq!(states[..7], [2, 2, 0, 0, 0, 1, 0]);
    let availability = base64::decode(pieces["availability"].as_str().unwrap()).unwrap();
    assert_eq!((availability[1], availability[6], availability[7]), (40, 240, 255));
    assert_eq!(pieces["piece_count"], 20);
    let unknown = result(&fake, "btsync_pieces", &json!({"id": super::fake::hash(2).hex()}));
    assert_eq!(unknown, json!({"availability": "", "piece_count": 0, "states": ""}));
    let files = result(&fake, "btsync_files", &json!({"id": 1}));
    assert_eq!(files["name"][2], "Torrent/file 2.mkv");
    assert_eq!(files["wanted"], json!([true, false, true]));
    assert_eq!(files["priority"], json!([0, 0, 1]));
    for params in [json!({}), json!({"id": 9}), json!({"id": [1, 2]}), json!({"id": "recently_active"})] {
        assert_eq!(error(&fake, "btsync_files", &params), (-32602, "id must name one torrent".to_owned()));
    }
    assert_eq!(first("btsync_problem", |_| {}), "none");
    assert_eq!(first("btsync_is_moving", |_| {}), false);
    let moving = result(&Fake::new(4), "torrent_get", &json!({"ids": 4, "fields": ["btsync_is_moving"]}));
    assert_eq!(moving["torrents"][0], json!({"btsync_is_moving": true}));
    let blocked = result(&Fake::new(4), "torrent_get", &json!({"ids": 4, "fields": ["btsync_problem", "error"]}));
    assert_eq!(blocked["torrents"][0], json!({"btsync_problem": "files_in_the_way", "error": 3}));
}

#[test]
fn an_event_may_have_three_thousand_torrents() {
    let length = torrents_event(&Fake::new(3000), None, &[], UnixTime(0)).len();
    assert!(length < MAX_WAITING_BYTES, "{length} bytes");
}
