//! Methods about the session: settings, sums, folders, bandwidth groups.

mod fields;
mod groups;
mod set;

use serde_json::Value;

use crate::service::model::SessionSums;
use crate::service::rpc::Dialect;
use crate::service::rpc::call::MethodCall;
use crate::service::rpc::error::{ErrorCode, RpcError};
use crate::service::rpc::json::JsonWriter;
use crate::service::rpc::params::to_snake_case;

pub use fields::FIELDS;
pub use groups::{get as get_groups, set as set_group};
pub use set::set;

/// `session_get`: the fields that the request names, or all of them.
pub fn get(call: &MethodCall<'_>, to: &mut JsonWriter) {
    let asked: Vec<String> = call.params.texts("fields").unwrap_or_default().into_iter().map(to_snake_case).collect();
    let view = fields::SessionView { context: call.context, settings: call.control().settings() };
    let is_legacy = to.dialect() == Dialect::Legacy;
    let known = FIELDS.iter().filter(|field| !(is_legacy && field.is_own()));
    for field in known.filter(|field| asked.is_empty() || asked.iter().any(|name| name == field.name)) {
        to.either_name(field.legacy_name, field.name);
        (field.write)(to, &view);
    }
}

/// `session_stats`: what all torrents transferred. As in Transmission, each torrent is either paused or active.
pub fn get_stats(call: &MethodCall<'_>, to: &mut JsonWriter) {
    let stats = call.control().stats();
    to.either_name("activeTorrentCount", "active_torrent_count");
    to.int(stats.torrents.saturating_sub(stats.paused_torrents));
    to.either_name("cumulative-stats", "cumulative_stats");
    write_sums(to, &stats.cumulative);
    to.either_name("current-stats", "current_stats");
    write_sums(to, &stats.current);
    to.either_name("downloadSpeed", "download_speed");
    to.int(stats.down_rate);
    to.either_name("pausedTorrentCount", "paused_torrent_count");
    to.int(stats.paused_torrents);
    to.either_name("torrentCount", "torrent_count");
    to.int(stats.torrents);
    to.either_name("uploadSpeed", "upload_speed");
    to.int(stats.up_rate);
}

fn write_sums(to: &mut JsonWriter, sums: &SessionSums) {
    to.object(|to| {
        to.either_name("downloadedBytes", "downloaded_bytes");
        to.int(sums.downloaded);
        to.either_name("filesAdded", "files_added");
        to.int(sums.files_added);
        to.either_name("secondsActive", "seconds_active");
        to.int(sums.seconds);
        to.either_name("sessionCount", "session_count");
        to.int(sums.sessions);
        to.either_name("uploadedBytes", "uploaded_bytes");
        to.int(sums.uploaded);
    });
}

/// `free_space`: how much a folder's file system has left. The sizes are -1 if that is unknown.
pub fn free_space(call: &MethodCall<'_>, to: &mut JsonWriter) -> Result<(), RpcError> {
    let Some(path) = call.params.value("path").and_then(Value::as_str) else {
        return Err(RpcError::invalid("directory path argument is missing"));
    };
    let Some(folder) = call.params.folder("path", "directory path")? else {
        return Err(RpcError::new(ErrorCode::PathNotAbsolute, "directory path is not absolute"));
    };
    let space = call.control().free_space(&folder);
    let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let (free, total) = space.as_ref().map_or((-1, -1), |&(free, total)| (bytes(free), bytes(total)));
    to.name("path");
    to.string(path);
    to.either_name("size-bytes", "size_bytes");
    to.int(free);
    to.name("total_size");
    to.int(total);
    space.map(drop).map_err(|error| RpcError::new(ErrorCode::System, error.to_string()))
}

/// `port_test`: whether peers can connect to us. btsync asks no website. It knows that the port is open once a peer has connected.
pub fn test_port(call: &MethodCall<'_>, to: &mut JsonWriter) -> Result<(), RpcError> {
    if let Some(protocol) = call.params.value("ip_protocol") {
        let Some(protocol @ ("ipv4" | "ipv6")) = protocol.as_str() else {
            return Err(RpcError::invalid("invalid ip protocol string"));
        };
        to.name("ip_protocol");
        to.string(protocol);
    }
    let Some(is_open) = call.control().is_port_open() else {
        let detail = "Couldn't test port: btsync asks no website, and no peer has connected yet";
        return Err(RpcError::new(ErrorCode::Http, detail));
    };
    to.either_name("port-is-open", "port_is_open");
    to.bool(is_open);
    Ok(())
}

/// `blocklist_update`: loads the block list now.
pub fn update_blocklist(call: &MethodCall<'_>, to: &mut JsonWriter) -> Result<(), RpcError> {
    let ranges = call.control().update_block_list();
    let ranges =
        ranges.map_err(|error| RpcError::new(ErrorCode::Http, format!("Couldn't fetch blocklist: {error}")))?;
    to.either_name("blocklist-size", "blocklist_size");
    to.int(ranges);
    Ok(())
}
