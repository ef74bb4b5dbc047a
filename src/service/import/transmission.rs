//! The folder of Transmission's configuration: `torrents/` and `resume/`, as versions 2, 3 and 4 write them.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::bencode::values;
use crate::bencode::values::Dict;
use crate::metainfo::{Magnet, Metainfo};
use crate::service::import::begun::{BLOCK, ranges};
use crate::service::import::{
    FoundTorrent, chosen, count, dictionary, folder, has_extension, is_set, labels, limit, link_of, metainfo, names,
    numbers, read, record_of, record_of_link, set_paths, set_times, set_unwanted, text, texts, tiers, time,
};
use crate::service::model::LimitMode;
use crate::service::rate_limit::RateLimit;
use crate::service::record::{DesiredState, TorrentRecord};
use crate::util::cold_sort;

/// The largest `.magnet` file.
const MAX_MAGNET: usize = 64 << 10;

/// The torrents of a configuration folder, by the time at which they were added. `None` if it is none.
pub fn torrents(config: &Path) -> Option<Vec<Result<FoundTorrent, String>>> {
    let folder = config.join("torrents");
    if !folder.is_dir() || !config.join("resume").is_dir() {
        return None;
    }
    let files = names(&folder);
    let is_torrent = |name: &PathBuf| has_extension(name, "torrent") || has_extension(name, "magnet");
    let mut found: Vec<Result<FoundTorrent, String>> =
        files.into_iter().filter(is_torrent).map(|name| torrent(config, &name)).collect();
    cold_sort::sort_by_key(&mut found, |found| found.as_ref().map_or(i64::MAX, |found| found.record.times.added.0));
    Some(found)
}

fn torrent(config: &Path, name: &Path) -> Result<FoundTorrent, String> {
    let path = config.join("torrents").join(name);
    let resume = dictionary(&config.join("resume").join(name).with_extension("resume"))?;
    let place = folder(&resume, "destination");
    let place = place.ok_or_else(|| format!("{}: its resume file names no folder", name.display()))?;
    let magnet = link(&path)?;
    let Some(magnet) = magnet else {
        let metainfo = metainfo(&path)?.ok_or_else(|| format!("{}: is gone", name.display()))?;
        let mut record = record_of(&metainfo, place);
        take_over_files(&mut record, &metainfo, &resume);
        take_over(&mut record, &resume);
        let have = owned_ranges(&metainfo, &resume);
        return Ok(FoundTorrent { record, torrent_file: Some(path), have });
    };
    let mut record = record_of_link(&magnet, place);
    take_over(&mut record, &resume);
    Ok(FoundTorrent { record, torrent_file: None, have: Vec::new() })
}

/// The magnet link of a `.magnet` file, or of a torrent file that has nothing else.
fn link(path: &Path) -> Result<Option<Magnet>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    if has_extension(path, "magnet") {
        let bytes = read(path, MAX_MAGNET)?.unwrap_or_default();
        let link = String::from_utf8(bytes).map_err(|_| failed(&"not text"))?;
        return Magnet::parse(link.trim()).map(Some).map_err(|error| failed(&error));
    }
    let is_small = path.metadata().is_ok_and(|metadata| metadata.len() <= MAX_MAGNET as u64);
    let Some(dict) = is_small.then(|| dictionary(path).ok()).flatten() else { return Ok(None) };
    let Some(info) = values::nested(&dict, "magnet-info") else { return Ok(None) };
    let Some(mut magnet) = values::bytes(info, "info_hash").and_then(link_of) else { return Ok(None) };
    magnet.name = text(info, "display-name");
    magnet.trackers = tiers(&dict, "announce-list").into_iter().flatten().collect();
    Ok(Some(magnet))
}

fn take_over_files(record: &mut TorrentRecord, metainfo: &Metainfo, resume: &Dict) {
    let unwanted: Vec<bool> = numbers(resume, "dnd").iter().map(|value| *value != 0).collect();
    set_unwanted(record, metainfo, &unwanted);
    let priorities = numbers(resume, "priority");
    record.files.high = chosen(metainfo, &priorities, |value| value > 0);
    record.files.low = chosen(metainfo, &priorities, |value| value < 0);
    set_paths(record, metainfo, &texts(resume, "files"));
    let progress = values::nested(resume, "progress");
    let is_complete = progress.and_then(|progress| values::bytes(progress, "have")) == Some(b"all");
    if let Some(incomplete) = folder(resume, "incomplete-dir").filter(|_| !is_complete) {
        record.final_folder = Some(std::mem::replace(&mut record.folder, incomplete));
    }
}

/// The ranges of the torrent's bytes that Transmission has.
fn owned_ranges(metainfo: &Metainfo, resume: &Dict) -> Vec<Range<u64>> {
    let progress = values::nested(resume, "progress");
    // Version 2 has the older name.
    let blocks = progress.and_then(|it| values::bytes(it, "blocks").or_else(|| values::bytes(it, "bitfield")));
    let has_all = progress.is_some_and(|it| values::bytes(it, "have") == Some(b"all"));
    if has_all || blocks == Some(b"all") {
        let all = 0..metainfo.total();
        return Vec::from([all]);
    }
    let Some(blocks) = blocks.filter(|blocks| *blocks != b"none") else { return Vec::new() };
    // Before version 4, a piece has whole blocks.
    let sizes = [BLOCK, u64::from(metainfo.piece_length).min(BLOCK)];
    let fits = |size: &u64| metainfo.total().div_ceil(*size).div_ceil(8) == blocks.len() as u64;
    let size = sizes.into_iter().find(fits);
    size.map_or_else(Vec::new, |size| ranges(blocks, size).collect())
}

fn take_over(record: &mut TorrentRecord, resume: &Dict) {
    record.desired_state = if is_set(resume, "paused") { DesiredState::Stopped } else { DesiredState::Queued };
    if let Some(name) = text(resume, "name") {
        record.name = name;
    }
    set_times(record, time(resume, "added-date"), time(resume, "done-date"), time(resume, "activity-date"));
    (record.times.downloading, record.times.seeding) =
        (count(resume, "downloading-time-seconds"), count(resume, "seeding-time-seconds"));
    (record.sums.downloaded, record.sums.uploaded, record.sums.wasted) =
        (count(resume, "downloaded"), count(resume, "uploaded"), count(resume, "corrupt"));
    let settings = &mut record.settings;
    settings.peer_limit = u16::try_from(count(resume, "max-peers")).unwrap_or(0);
    settings.labels = labels(texts(resume, "labels").into_iter());
    settings.group = text(resume, "group").unwrap_or_default();
    settings.is_sequential = is_set(resume, "sequentialDownload") || is_set(resume, "sequential-download");
    let speed = |key: &str| {
        let speed = values::nested(resume, key)?;
        let bytes =
            values::int(speed, "speed-Bps").or_else(|| Some(values::int(speed, "speed")?.saturating_mul(1024)))?;
        let ignores_session = values::int(speed, "use-global-speed-limit") == Some(0);
        Some((RateLimit { is_enabled: is_set(speed, "use-speed-limit"), ..limit(bytes) }, ignores_session))
    };
    for (key, own) in [("speed-limit-down", &mut settings.down_limit), ("speed-limit-up", &mut settings.up_limit)] {
        if let Some((limit, ignores_session)) = speed(key) {
            *own = limit;
            settings.honors_session_limits &= !ignores_session;
        }
    }
    let mode = |value: Option<i64>| match value {
        Some(1) => LimitMode::Own,
        Some(2) => LimitMode::Unlimited,
        _ => LimitMode::Session,
    };
    if let Some(ratio) = values::nested(resume, "ratio-limit") {
        settings.seed_ratio_mode = mode(values::int(ratio, "ratio-mode"));
        let own = text(ratio, "ratio-limit").and_then(|text| text.parse::<f64>().ok());
        settings.seed_ratio = own.filter(|own| own.is_finite() && *own >= 0.0).unwrap_or(settings.seed_ratio);
    }
    if let Some(idle) = values::nested(resume, "idle-limit") {
        settings.seed_idle_mode = mode(values::int(idle, "idle-mode"));
        settings.seed_idle_minutes =
            u16::try_from(count(idle, "idle-limit")).ok().filter(|own| *own > 0).unwrap_or(settings.seed_idle_minutes);
    }
}
