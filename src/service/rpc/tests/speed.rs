//! How long `torrent_get` takes for a thousand torrents of a thousand pieces. These are measurements, and assert nothing about time:
//! `cargo test --release --lib rpc::tests::speed -- --ignored --nocapture`.

use std::time::Instant;

use serde_json::json;

use super::SESSION_ID;
use super::fake::Fake;
use crate::service::rpc::memory::ResponseMemory;
use crate::service::rpc::{RpcResponse, respond, torrent};

/// What Transmission's own page polls.
const POLLED: [&str; 30] = [
    "id",
    "added_date",
    "file_count",
    "name",
    "primary_mime_type",
    "total_size",
    "error",
    "error_string",
    "eta",
    "is_finished",
    "is_stalled",
    "labels",
    "left_until_done",
    "metadata_percent_complete",
    "peers_connected",
    "peers_getting_from_us",
    "peers_sending_to_us",
    "percent_done",
    "queue_position",
    "rate_download",
    "rate_upload",
    "recheck_progress",
    "seed_ratio_mode",
    "seed_ratio_limit",
    "size_when_done",
    "status",
    "trackers",
    "download_dir",
    "uploaded_ever",
    "upload_ratio",
];

/// Carries out a request some times, and prints the time of each.
fn measure(what: &str, fields: &[&str], format: &str) {
    const TIMES: u32 = 10;
    let mut fake = Fake::new(1000);
    fake.pieces = 1000;
    for torrent in &mut fake.torrents {
        if let Some(facts) = &mut torrent.metainfo {
            facts.pieces = 1000;
        }
    }
    let params = json!({"fields": fields, "format": format});
    let request = json!({"jsonrpc": "2.0", "method": "torrent_get", "params": params, "id": 1}).to_string();
    let start = Instant::now();
    let mut bytes = 0;
    for _ in 0..TIMES {
        let RpcResponse::Json(response) = respond(request.as_bytes(), &fake, SESSION_ID, &ResponseMemory::default())
        else {
            panic!("no response")
        };
        bytes = response.len();
    }
    println!("{what}, {format}: {:?}, {bytes} bytes", start.elapsed() / TIMES);
}

#[test]
#[ignore = "a measurement"]
fn a_thousand_torrents() {
    let all: Vec<&str> = torrent::FIELDS.iter().map(|field| field.new).collect();
    for format in ["objects", "table"] {
        measure("polled fields", &POLLED, format);
        measure("all fields", &all, format);
    }
}
