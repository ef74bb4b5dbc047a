//! `torrent_set`: changes settings, files and trackers of torrents.

use serde_json::Value;

use crate::service::model::{FileIndexes, LimitMode, Priority, TorrentChange, TorrentSummary};
use crate::service::rpc::call::MethodCall;
use crate::service::rpc::error::{ErrorCode, RpcError};
use crate::service::rpc::json::JsonWriter;
use crate::service::rpc::params::{Params, to_int};
use crate::service::rpc::tracker_list::{self, is_tracker};
use crate::service::trackers::check_counts;

/// Carries out the request: all of it or, if one value is not valid, nothing.
pub fn set(call: &MethodCall<'_>, _to: &mut JsonWriter) -> Result<(), RpcError> {
    let params = call.params;
    let change = TorrentChange {
        group: params.text("group").map(str::to_owned),
        honors_session_limits: params.bool("honors_session_limits"),
        seed_idle_minutes: params.bounded("seed_idle_limit", 0, i64::from(u16::MAX)),
        seed_idle_mode: params.int("seed_idle_mode").and_then(limit_mode),
        seed_ratio: params.float("seed_ratio_limit").map(|ratio| ratio.max(0.0)),
        seed_ratio_mode: params.int("seed_ratio_mode").and_then(limit_mode),
        down_limit: params.bounded("download_limit", 0, i64::from(u32::MAX)),
        is_down_limited: params.bool("download_limited"),
        up_limit: params.bounded("upload_limit", 0, i64::from(u32::MAX)),
        is_up_limited: params.bool("upload_limited"),
        queue_position: params.bounded("queue_position", 0, i64::from(i32::MAX)),
        folder: params.folder("location", "new location path")?,
        trackers: params.text("tracker_list").map(tracker_list::parse).transpose()?,
        add_trackers: added_trackers(params),
        remove_trackers: removed_trackers(params),
        replace_trackers: replaced_trackers(params),
        ..common(params, &FileIndexes::All)?
    };
    check_counts(&change)?;
    let torrents = call.selection().summaries(call.control());
    if torrents.is_empty() {
        return Ok(());
    }
    check_indexes(&change, &torrents)?;
    check_trackers(call, &change, &torrents)?;
    let ids: Vec<_> = torrents.iter().map(|torrent| torrent.id).collect();
    Ok(call.control().change(&ids, &change)?)
}

/// The changes that `torrent_add` can make too. `empty` is what an empty list of files means.
pub fn common(params: &Params, empty: &FileIndexes) -> Result<TorrentChange, RpcError> {
    let files = |name| params.files(name, empty.clone());
    Ok(TorrentChange {
        bandwidth_priority: params.int("bandwidth_priority").and_then(priority),
        peer_limit: params.bounded("peer_limit", 0, i64::from(u16::MAX)),
        is_sequential: params.bool("sequential_download"),
        labels: params.texts("labels").map(|labels| labels.into_iter().map(label).collect()).transpose()?,
        wanted: files("files_wanted")?,
        unwanted: files("files_unwanted")?,
        priority_high: files("priority_high")?,
        priority_normal: files("priority_normal")?,
        priority_low: files("priority_low")?,
        ..TorrentChange::default()
    })
}

fn label(text: &str) -> Result<String, RpcError> {
    match text.trim() {
        "" => Err(RpcError::invalid("labels cannot be empty")),
        label if label.contains(',') => Err(RpcError::invalid("labels cannot contain comma (,) character")),
        label => Ok(label.to_owned()),
    }
}

fn priority(number: i64) -> Option<Priority> {
    [Priority::Low, Priority::Normal, Priority::High].into_iter().find(|priority| *priority as i64 == number)
}

fn limit_mode(number: i64) -> Option<LimitMode> {
    [LimitMode::Session, LimitMode::Own, LimitMode::Unlimited].into_iter().find(|mode| *mode as i64 == number)
}

/// Checks the indexes of files against each torrent.
fn check_indexes(change: &TorrentChange, torrents: &[TorrentSummary]) -> Result<(), RpcError> {
    let lists =
        [&change.wanted, &change.unwanted, &change.priority_high, &change.priority_normal, &change.priority_low];
    let highest = lists.into_iter().filter_map(|indexes| match indexes {
        FileIndexes::Some(indexes) => indexes.iter().max().copied(),
        FileIndexes::None | FileIndexes::All => None,
    });
    let fewest = torrents.iter().map(|torrent| torrent.metainfo.as_ref().map_or(0, |metainfo| metainfo.files)).min();
    match highest.max() {
        Some(index) if index as usize >= fewest.unwrap_or(0) => Err(ErrorCode::FileIndexOutOfRange.into()),
        _ => Ok(()),
    }
}

/// Refuses the older parameters for trackers if they would change nothing.
fn check_trackers(call: &MethodCall<'_>, change: &TorrentChange, torrents: &[TorrentSummary]) -> Result<(), RpcError> {
    let names = ["tracker_add", "tracker_remove", "tracker_replace"];
    if !names.iter().any(|name| call.params.list(name).is_some()) {
        return Ok(());
    }
    let would_change = torrents.iter().any(|torrent| {
        let trackers = call.control().trackers(torrent.id);
        let has_url = |url: &str| trackers.iter().any(|tracker| tracker.announce == url);
        let has_id = |id: u32| trackers.iter().any(|tracker| tracker.id == id);
        change.add_trackers.iter().any(|url| !has_url(url))
            || change.remove_trackers.iter().any(|&id| has_id(id))
            || change.replace_trackers.iter().any(|(id, url)| has_id(*id) && !has_url(url))
    });
    if would_change { Ok(()) } else { Err(ErrorCode::SetAnnounceList.into()) }
}

/// The URLs to add. What is no URL of a tracker is left out.
fn added_trackers(params: &Params) -> Vec<String> {
    let urls = params.texts("tracker_add").unwrap_or_default();
    urls.into_iter().map(str::trim).filter(|url| is_tracker(url)).map(str::to_owned).collect()
}

fn removed_trackers(params: &Params) -> Vec<u32> {
    let ids = params.list("tracker_remove").unwrap_or_default();
    ids.iter().filter_map(to_int).filter_map(|id| u32::try_from(id).ok()).collect()
}

/// Pairs of a tracker's number and its new URL, in one flat list.
fn replaced_trackers(params: &Params) -> Vec<(u32, String)> {
    let list = params.list("tracker_replace").unwrap_or_default();
    let pairs = list.chunks_exact(2).filter_map(|pair| match pair {
        [id, Value::String(url)] => Some((u32::try_from(to_int(id)?).ok()?, url.trim().to_owned())),
        _ => None,
    });
    pairs.filter(|(_, url)| is_tracker(url)).collect()
}
