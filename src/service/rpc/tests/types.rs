//! The JSON type of every field, as in Transmission: programs in typed languages give up the whole list for one wrong type.

use serde_json::{Value, json};

use super::fake::Fake;
use super::{arguments, result};
use crate::service::rpc::{session, torrent};

/// The types of `torrent_get`'s fields, by their names in JSON-RPC.
const TORRENT: &str = "
    activity_date int, added_date int, availability [int], bandwidth_priority int, btsync_is_moving bool,
    btsync_problem text,
    bytes_completed [int], comment text, corrupt_ever int, creator text, date_created int, desired_available int,
    done_date int, download_dir text, download_limit int, download_limited bool, downloaded_ever int, edit_date int,
    error int, error_string text, eta int, eta_idle int, file_count int, file_stats [object], files [object],
    group text, hash_string text, have_unchecked int, have_valid int, honors_session_limits bool, id int,
    is_finished bool, is_private bool, is_stalled bool, labels [text], left_until_done int, magnet_link text,
    manual_announce_time int, max_connected_peers int, metadata_percent_complete float, name text, peer_limit int,
    peers [object], peers_connected int, peers_from object, peers_getting_from_us int, peers_sending_to_us int,
    percent_complete float, percent_done float, piece_count int, piece_size int, pieces text, primary_mime_type text,
    priorities [int], queue_position int, rate_download int, rate_upload int, recheck_progress float,
    seconds_downloading int, seconds_seeding int, seed_idle_limit int, seed_idle_mode int, seed_ratio_limit float,
    seed_ratio_mode int, sequential_download bool, sequential_download_from_piece int, size_when_done int, source text,
    start_date int, status int, torrent_file text, total_size int, tracker_list text, tracker_stats [object],
    trackers [object], upload_limit int, upload_limited bool, upload_ratio float, uploaded_ever int, wanted [bool],
    webseeds [text], webseeds_ex [object], webseeds_sending_to_us int";

/// The types of `session_get`'s fields.
const SESSION: &str = "
    alt_speed_down int, alt_speed_enabled bool, alt_speed_time_begin int, alt_speed_time_day int,
    alt_speed_time_enabled bool, alt_speed_time_end int, alt_speed_up int, anti_brute_force_enabled bool,
    anti_brute_force_threshold int, blocklist_enabled bool, blocklist_size int, blocklist_url text, btsync_port_mapping text, cache_size_mib int,
    config_dir text, default_trackers text, dht_enabled bool, download_dir text, download_dir_free_space int,
    download_queue_enabled bool, download_queue_size int, encryption text, idle_seeding_limit int,
    idle_seeding_limit_enabled bool, incomplete_dir text, incomplete_dir_enabled bool, lpd_enabled bool,
    peer_limit_global int, peer_limit_per_torrent int, peer_port int, peer_port_random_on_start bool, pex_enabled bool,
    port_forwarding_enabled bool, preferred_transports [text], queue_stalled_enabled bool, queue_stalled_minutes int,
    rename_partial_files bool, reqq int, rpc_version int, rpc_version_minimum int, rpc_version_semver text,
    script_torrent_added_enabled bool, script_torrent_added_filename text, script_torrent_done_enabled bool,
    script_torrent_done_filename text, script_torrent_done_seeding_enabled bool,
    script_torrent_done_seeding_filename text, seed_queue_enabled bool, seed_queue_size int, seed_ratio_limit float,
    seed_ratio_limited bool, sequential_download bool, session_id text, speed_limit_down int,
    speed_limit_down_enabled bool, speed_limit_up int, speed_limit_up_enabled bool, start_added_torrents bool,
    tcp_enabled bool, trash_original_torrent_files bool, units object, utp_enabled bool, version text";

/// The types of members of objects, by the field that has them.
const MEMBERS: [(&str, &str); 7] = [
    ("files", "begin_piece int, bytes_completed int, end_piece int, length int, name text"),
    ("file_stats", "bytes_completed int, priority int, wanted bool"),
    (
        "peers",
        "address text, bytes_to_client int, bytes_to_peer int, client_is_choked bool, client_is_interested bool,
         client_name text, flag_str text, is_downloading_from bool, is_encrypted bool, is_incoming bool,
         is_uploading_to bool, is_utp bool, peer_id text, peer_is_choked bool, peer_is_interested bool, port int,
         progress float, rate_to_client int, rate_to_peer int",
    ),
    (
        "peers_from",
        "from_cache int, from_dht int, from_incoming int, from_lpd int, from_ltep int, from_pex int, from_tracker int",
    ),
    (
        "tracker_stats",
        "announce text, announce_state int, download_count int, downloader_count int, has_announced bool,
         has_scraped bool, host text, id int, is_backup bool, last_announce_peer_count int, last_announce_result text,
         last_announce_start_time int, last_announce_succeeded bool, last_announce_time int,
         last_announce_timed_out bool, last_scrape_result text, last_scrape_start_time int, last_scrape_succeeded bool,
         last_scrape_time int, last_scrape_timed_out bool, leecher_count int, next_announce_time int,
         next_scrape_time int, scrape text, scrape_state int, seeder_count int, sitename text, tier int",
    ),
    ("trackers", "announce text, id int, scrape text, sitename text, tier int"),
    ("webseeds_ex", "download_bytes_per_second int, is_downloading bool, url text"),
];

/// Pairs of a name and a type.
fn pairs(table: &str) -> Vec<(&str, &str)> {
    table.split(',').map(|entry| entry.trim().split_once(' ').unwrap()).collect()
}

fn assert_type(name: &str, value: &Value, kind: &str) {
    let is_right = match kind {
        "int" => value.is_i64() || value.is_u64(),
        "float" => value.is_f64(),
        "bool" => value.is_boolean(),
        "text" => value.is_string(),
        "object" => value.is_object(),
        list => {
            let kind = list.trim_matches(['[', ']']);
            value
                .as_array()
                .unwrap_or_else(|| panic!("{name}: {value}"))
                .iter()
                .for_each(|item| assert_type(name, item, kind));
            true
        }
    };
    assert!(is_right, "{name} is no {kind}: {value}");
}

/// Asserts that an object has these members and no others.
fn assert_members(name: &str, object: &Value, table: &str) {
    let object = object.as_object().unwrap();
    let expected = pairs(table);
    let names: Vec<&str> = object.keys().map(String::as_str).collect();
    let expected_names: Vec<&str> = expected.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, expected_names, "{name}");
    for (member, kind) in expected {
        assert_type(&format!("{name}.{member}"), &object[member], kind);
    }
}

#[test]
fn fields_of_torrents_have_transmissions_types() {
    let names: Vec<&str> = torrent::FIELDS.iter().map(|field| field.name).collect();
    for count in [1, 2, 3, 4] {
        let fake = Fake::new(count);
        let response = result(&fake, "torrent_get", &json!({"ids": count, "fields": names}));
        let torrent = &response["torrents"][0];
        assert_members("torrent", torrent, TORRENT);
        for (field, table) in MEMBERS {
            match &torrent[field] {
                Value::Array(items) => items.iter().for_each(|item| assert_members(field, item, table)),
                object => assert_members(field, object, table),
            }
        }
    }
}

#[test]
fn fields_of_the_session_have_transmissions_types() {
    let response = result(&Fake::new(1), "session_get", &json!({}));
    assert_members("session", &response, SESSION);
    let units =
        "memory_bytes int, memory_units [text], size_bytes int, size_units [text], speed_bytes int, speed_units [text]";
    assert_members("units", &response["units"], units);
    let stats = result(&Fake::new(1), "session_stats", &json!({}));
    let counts = "active_torrent_count int, cumulative_stats object, current_stats object, download_speed int,
         paused_torrent_count int, torrent_count int, upload_speed int";
    assert_members("stats", &stats, counts);
    let sums = "downloaded_bytes int, files_added int, seconds_active int, session_count int, uploaded_bytes int";
    assert_members("sums", &stats["cumulative_stats"], sums);
}

/// The same values under both names, except where the dialects differ on purpose.
#[test]
fn both_dialects_have_the_same_values() {
    let fake = Fake::new(3);
    let names: Vec<&str> = torrent::FIELDS.iter().map(|field| field.name).collect();
    let legacy_names: Vec<&str> = torrent::FIELDS.iter().map(|field| field.legacy_name).collect();
    let new = result(&fake, "torrent_get", &json!({"ids": 1, "fields": names}));
    let legacy = arguments(&fake, "torrent-get", &json!({"ids": 1, "fields": legacy_names}));
    let nested = ["files", "file_stats", "peers", "peers_from", "tracker_stats"];
    for field in torrent::FIELDS.iter().filter(|field| !field.is_own() && !nested.contains(&field.name)) {
        let (legacy, new) = (&legacy["torrents"][0][field.legacy_name], &new["torrents"][0][field.name]);
        if field.name == "wanted" {
            assert_eq!((legacy, new), (&json!([1, 0, 1]), &json!([true, false, true])));
        } else if new.is_f64() {
            assert_eq!(legacy.as_f64(), new.as_f64(), "{}", field.legacy_name);
        } else {
            assert_eq!(legacy, new, "{}", field.legacy_name);
        }
    }
    assert!(legacy["torrents"][0].get("btsync_problem").is_none());

    let new = result(&fake, "session_get", &json!({}));
    let legacy = arguments(&fake, "session-get", &json!({}));
    let shared: Vec<_> = session::FIELDS.iter().filter(|field| !field.is_own()).collect();
    assert_eq!(legacy.as_object().unwrap().len(), shared.len());
    for field in shared.iter().filter(|field| !["units", "seed_ratio_limit"].contains(&field.name)) {
        assert_eq!(legacy[field.legacy_name], new[field.name], "{}", field.legacy_name);
    }
    let units = ["memory-bytes", "memory-units", "size-bytes", "size-units", "speed-bytes", "speed-units"];
    assert!(legacy["units"].as_object().unwrap().keys().eq(units));
    assert_eq!(legacy["units"]["speed-units"], json!(["kB/s", "MB/s", "GB/s", "TB/s"]));
}

#[test]
fn members_have_their_legacy_names_in_the_legacy_dialect() {
    let fake = Fake::new(3);
    let fields = ["files", "fileStats", "peers", "peersFrom", "trackerStats"];
    let torrents = arguments(&fake, "torrent-get", &json!({"ids": 1, "fields": fields}));
    let torrent = &torrents["torrents"][0];
    assert_eq!(torrent["fileStats"][1], json!({"bytesCompleted": 50000, "priority": 0, "wanted": false}));
    assert_eq!(
        torrent["files"][0],
        json!({"begin_piece": 0, "bytesCompleted": 50000, "end_piece": 7, "length": 100_000, "name": "Torrent/file 0.mkv"})
    );
    let peer = torrent["peers"][0].as_object().unwrap();
    for name in
        ["clientIsChoked", "clientName", "flagStr", "isUTP", "isUploadingTo", "rateToClient", "peerIsInterested"]
    {
        assert!(peer.contains_key(name), "{name}");
    }
    let tracker = torrent["trackerStats"][0].as_object().unwrap();
    for name in ["announceState", "hasAnnounced", "lastAnnouncePeerCount", "nextScrapeTime", "seederCount", "sitename"]
    {
        assert!(tracker.contains_key(name), "{name}");
    }
    let from = ["fromCache", "fromDht", "fromIncoming", "fromLpd", "fromLtep", "fromPex", "fromTracker"];
    assert!(torrent["peersFrom"].as_object().unwrap().keys().eq(from));
}

/// Asserts that `value` has the type that the program has, and all of its members.
fn assert_like(name: &str, value: &Value, kind: &Value) {
    match kind {
        Value::String(kind) if kind == "float" => assert!(value.is_number(), "{name}: {value}"),
        Value::String(kind) => assert_type(name, value, kind),
        Value::Array(kinds) => {
            let items = value.as_array().unwrap();
            assert!(!items.is_empty(), "{name}");
            for item in items {
                assert_like(name, item, &kinds[0]);
            }
        }
        Value::Object(members) => {
            members.iter().for_each(|(member, kind)| assert_like(&format!("{name}.{member}"), &value[member], kind));
        }
        _ => panic!("{name}: {kind}"),
    }
}

/// The file has the types of all members of the answers of transmission-daemon 3.00 to requests for all fields.
#[test]
fn all_that_transmission_3_answers_is_here_with_its_types() {
    let recorded = include_str!("../../../../testdata/rpc/transmission-3.00.json");
    let recorded: Value = serde_json::from_str(recorded).unwrap();
    let fake = Fake::new(1);
    let fields: Vec<&String> = recorded["torrent"].as_object().unwrap().keys().collect();
    let torrents = arguments(&fake, "torrent-get", &json!({"fields": fields}));
    assert_like("torrent", &torrents["torrents"][0], &recorded["torrent"]);
    assert_like("session", &arguments(&fake, "session-get", &json!({})), &recorded["session"]);
    assert_like("stats", &arguments(&fake, "session-stats", &json!({})), &recorded["stats"]);
}
