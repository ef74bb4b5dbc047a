//! Metrics for Prometheus.

use std::fmt::Write as _;

use crate::http_server::Response;
use crate::service::model::{Activity, Control};

/// The format of the text.
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The metrics of a service.
pub fn response(control: &dyn Control) -> Response {
    let stats = control.stats();
    let mut text = String::new();
    let mut add = |name: &str, kind: &str, help: &str, values: &[(String, u64)]| {
        let _ = writeln!(text, "# HELP btsync_{name} {help}\n# TYPE btsync_{name} {kind}");
        for (labels, value) in values {
            let _ = writeln!(text, "btsync_{name}{labels} {value}");
        }
    };
    let plain = |value: u64| vec![(String::new(), value)];
    add("downloaded_bytes_total", "counter", "Payload bytes received.", &plain(stats.cumulative.downloaded));
    add("uploaded_bytes_total", "counter", "Payload bytes sent.", &plain(stats.cumulative.uploaded));
    add("download_bytes_per_second", "gauge", "Payload received now.", &plain(stats.down_rate));
    add("upload_bytes_per_second", "gauge", "Payload sent now.", &plain(stats.up_rate));
    let torrents = control.torrents();
    let activities = [
        ("stopped", Activity::Stopped),
        ("check_waiting", Activity::CheckWaiting),
        ("checking", Activity::Checking),
        ("download_waiting", Activity::DownloadWaiting),
        ("downloading", Activity::Downloading),
        ("seed_waiting", Activity::SeedWaiting),
        ("seeding", Activity::Seeding),
    ];
    let count = |(name, state): &(&str, Activity)| {
        let count = torrents.iter().filter(|torrent| torrent.activity == *state).count();
        (format!("{{state=\"{name}\"}}"), count as u64)
    };
    add("torrents", "gauge", "Torrents by state.", &activities.iter().map(count).collect::<Vec<_>>());
    let problems = torrents.iter().filter(|torrent| torrent.problem.is_some()).count();
    add("torrents_with_problems", "gauge", "Torrents with a problem.", &plain(problems as u64));
    let peers: usize = torrents.iter().map(|torrent| torrent.peers.connected).sum();
    add("peers", "gauge", "Connected peers.", &plain(peers as u64));
    let block_list = control.block_list();
    add("block_list_ranges", "gauge", "Ranges of addresses in the block list.", &plain(block_list.ranges as u64));
    add("block_list_hits_total", "counter", "How often an address was refused.", &plain(block_list.hits));
    Response::with_body(200, FORMAT, text).header("Cache-Control", "no-store")
}
