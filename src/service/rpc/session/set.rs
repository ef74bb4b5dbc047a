//! `session_set`: changes the settings that btsync has too. It ignores the others, so that clients may send back all settings that
//! they have read. Among them are the programs that Transmission runs: a remote control cannot make btsync run a program.

use crate::client::BlockListSource;
use crate::service::rpc::call::MethodCall;
use crate::service::rpc::error::RpcError;
use crate::service::rpc::json::JsonWriter;
use crate::service::rpc::params::Params;
use crate::service::rpc::tracker_list;
use crate::service::settings::SettingsChange;
use crate::service::text_limits::MAX_PATH;
use crate::types::Encryption;

/// The highest number of minutes after midnight.
const LAST_MINUTE: i64 = 24 * 60 - 1;
/// All days of the week.
const ALL_DAYS: i64 = 127;
/// The longest queue that a setting asks for.
const MAX_QUEUE: i64 = 1_000_000;

/// Carries out the request: all of it or, if one value is not valid, nothing.
pub fn set(call: &MethodCall<'_>, _to: &mut JsonWriter) -> Result<(), RpcError> {
    let params = call.params;
    let (limits, days) = (limits(params), days(params)?);
    let change = SettingsChange {
        download_folder: params.folder("download_dir", "download directory path")?,
        incomplete_folder: params.folder("incomplete_dir", "incomplete torrents directory path")?,
        uses_incomplete_folder: params.bool("incomplete_dir_enabled"),
        renames_partial_files: params.bool("rename_partial_files"),
        starts_added: params.bool("start_added_torrents"),
        deletes_watched: params.bool("trash_original_torrent_files"),
        alternative_days: days,
        queue_downloads: params.bounded("download_queue_size", 0, MAX_QUEUE),
        queue_limits_downloads: params.bool("download_queue_enabled"),
        queue_seeds: params.bounded("seed_queue_size", 0, MAX_QUEUE),
        queue_limits_seeds: params.bool("seed_queue_enabled"),
        queue_stalled_minutes: params.bounded("queue_stalled_minutes", 0, i64::from(u16::MAX)),
        queue_ignores_stalled: params.bool("queue_stalled_enabled"),
        port: port(call)?,
        is_port_random: params.bool("peer_port_random_on_start"),
        peer_limit: params.bounded("peer_limit_global", 0, i64::from(u16::MAX)),
        peer_limit_per_torrent: params.bounded("peer_limit_per_torrent", 0, i64::from(u16::MAX)),
        uses_dht: params.bool("dht_enabled"),
        uses_lsd: params.bool("lpd_enabled"),
        uses_pex: params.bool("pex_enabled"),
        maps_port: maps_port(call),
        uses_utp: uses_utp(call),
        encryption: encryption(call)?,
        block_list_is_enabled: params.bool("blocklist_enabled"),
        block_list_url: block_list_url(params)?,
        default_trackers: params.text("default_trackers").map(tracker_list::parse).transpose()?,
        ..limits
    };
    Ok(call.control().change_settings(&change)?)
}

/// Limits on speed and seeding.
fn limits(params: &Params) -> SettingsChange {
    let kilobytes = |name| params.bounded(name, 0, i64::from(u32::MAX));
    SettingsChange {
        down_limit: kilobytes("speed_limit_down"),
        is_down_limited: params.bool("speed_limit_down_enabled"),
        up_limit: kilobytes("speed_limit_up"),
        is_up_limited: params.bool("speed_limit_up_enabled"),
        alternative_is_enabled: params.bool("alt_speed_enabled"),
        alternative_down: kilobytes("alt_speed_down"),
        alternative_up: kilobytes("alt_speed_up"),
        alternative_is_scheduled: params.bool("alt_speed_time_enabled"),
        alternative_begin: params.bounded("alt_speed_time_begin", 0, LAST_MINUTE),
        alternative_end: params.bounded("alt_speed_time_end", 0, LAST_MINUTE),
        seed_ratio: params.float("seed_ratio_limit").map(|ratio| ratio.max(0.0)),
        seed_limits_ratio: params.bool("seed_ratio_limited"),
        seed_idle_minutes: params.bounded("idle_seeding_limit", 0, i64::from(u16::MAX)),
        seed_limits_idle: params.bool("idle_seeding_limit_enabled"),
        ..SettingsChange::default()
    }
}

fn days(params: &Params) -> Result<Option<u8>, RpcError> {
    match params.int("alt_speed_time_day") {
        None => Ok(None),
        Some(days @ 0..=ALL_DAYS) => Ok(u8::try_from(days).ok()),
        Some(_) => Err(RpcError::invalid("the days of a week are a number from 0 to 127")),
    }
}

/// The port. Clients that send back all settings send the current one, which does not ask for that port if it is random.
fn port(call: &MethodCall<'_>) -> Result<Option<u16>, RpcError> {
    let Some(port) = call.params.int("peer_port") else { return Ok(None) };
    let port = u16::try_from(port).map_err(|_| RpcError::invalid("a port is a number from 0 to 65535"))?;
    Ok(Some(port).filter(|&port| port != call.control().peer_port()))
}

/// Whether the port is mapped. Clients that send back all settings send what is in force, which a proxy may decide, not the user.
fn maps_port(call: &MethodCall<'_>) -> Option<bool> {
    call.params.bool("port_forwarding_enabled").filter(|&wanted| wanted != call.control().is_port_mapping_on())
}

/// Whether uTP is used. Clients that send back all settings send what is in force, which the limit on files may decide.
fn uses_utp(call: &MethodCall<'_>) -> Option<bool> {
    call.params.bool("utp_enabled").filter(|&wanted| wanted != call.control().is_utp_on())
}

/// The URL of a block list. A remote control may not name files: the messages about a file tell what is in it.
fn block_list_url(params: &Params) -> Result<Option<String>, RpcError> {
    let Some(url) = params.text("blocklist_url") else { return Ok(None) };
    let is_url = url.is_empty() || matches!(BlockListSource::new(url), BlockListSource::Url(_));
    if !is_url || url.len() > MAX_PATH || url.contains(char::is_control) {
        return Err(RpcError::invalid("a block list is an HTTP or HTTPS URL"));
    }
    Ok(Some(url.to_owned()))
}

/// The encryption. Clients that send back all settings send the word that stands for `off` too.
fn encryption(call: &MethodCall<'_>) -> Result<Option<Encryption>, RpcError> {
    let Some(value) = call.params.value("encryption") else { return Ok(None) };
    match value.as_str() {
        Some("required") => Ok(Some(Encryption::Require)),
        Some("preferred") => Ok(Some(Encryption::Allow)),
        Some("tolerated" | "allowed") => {
            let is_off = call.control().settings().network.encryption == Encryption::Off;
            Ok(Some(Encryption::Allow).filter(|_| !is_off))
        }
        _ => Err(RpcError::invalid("must be one of \"preferred\", \"required\" or \"allowed\"")),
    }
}
