//! qBittorrent's folder `BT_backup`, as versions 4 and 5 write it: a torrent file and libtorrent's resume data for each torrent.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_bencode::value::Value;

use crate::bencode::values;
use crate::bencode::values::Dict;
use crate::metainfo::{Magnet, Metainfo};
use crate::service::import::begun::{BLOCK, ranges};
use crate::service::import::{
    FoundTorrent, chosen, count, dictionary, folder, has_extension, is_set, labels, limit, link_of, metainfo, names,
    numbers, read, record_of, record_of_link, set_paths, set_times, set_unwanted, text, texts, tiers, time,
};
use crate::service::model::LimitMode;
use crate::service::record::{DesiredState, TorrentRecord};
use crate::util::cold_sort;

/// The largest file with the order of the queue.
const MAX_QUEUE: usize = 4 << 20;
/// The lowest priority that comes before the others, in libtorrent's numbers.
const HIGH: i64 = 6;

/// The torrents of a folder `BT_backup`, or of a profile that has one, in the order of the queue. `None` if there is none.
pub fn torrents(profile: &Path) -> Option<Vec<Result<FoundTorrent, String>>> {
    let places = ["", "BT_backup", "data/BT_backup", "qBittorrent/data/BT_backup"].map(|place| profile.join(place));
    let is_backup = |folder: &Path| folder.ends_with("BT_backup") || names(folder).iter().any(|it| is_resume_data(it));
    let backup = places.into_iter().find(|place| place.is_dir() && is_backup(place))?;
    let order = read(&backup.join("queue"), MAX_QUEUE).ok().flatten().unwrap_or_default();
    let order: Vec<&str> =
        order.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok()).collect();
    let mut files: Vec<PathBuf> = names(&backup).into_iter().filter(|name| is_resume_data(name)).collect();
    cold_sort::sort_by_key(&mut files, |name| {
        let stem = name.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        order.iter().position(|line| *line == stem).unwrap_or(usize::MAX)
    });
    Some(files.into_iter().map(|name| torrent(&backup.join(name))).collect())
}

fn is_resume_data(name: &Path) -> bool {
    has_extension(name, "fastresume")
}

fn torrent(path: &Path) -> Result<FoundTorrent, String> {
    let resume = dictionary(path)?;
    let failed = |why: &str| format!("{}: {why}", path.display());
    let saved = folder(&resume, "qBt-savePath");
    let place = folder(&resume, "save_path").or_else(|| saved.clone());
    let place = place.ok_or_else(|| failed("it names no absolute folder"))?;
    let torrent_file = path.with_extension("torrent");
    let mut found = if let Some(metainfo) = metainfo(&torrent_file)? {
        let mut record = record_of(&metainfo, place);
        take_over_files(&mut record, &metainfo, &resume, saved);
        FoundTorrent { record, torrent_file: Some(torrent_file), have: owned_ranges(&metainfo, &resume) }
    } else {
        let record = record_of_link(&link(&resume).ok_or_else(|| failed("it has no info-hash"))?, place);
        FoundTorrent { record, torrent_file: None, have: Vec::new() }
    };
    take_over(&mut found.record, &resume);
    Ok(found)
}

/// The magnet link of a torrent whose metadata is unknown.
fn link(resume: &Dict) -> Option<Magnet> {
    let mut magnet = link_of(values::bytes(resume, "info-hash")?)?;
    magnet.name = text(resume, "qBt-name").or_else(|| text(resume, "name"));
    magnet.trackers = tiers(resume, "trackers").into_iter().flatten().collect();
    Some(magnet)
}

fn take_over_files(record: &mut TorrentRecord, metainfo: &Metainfo, resume: &Dict, saved: Option<PathBuf>) {
    let priorities = numbers(resume, "file_priority");
    let unwanted: Vec<bool> = priorities.iter().map(|priority| *priority == 0).collect();
    set_unwanted(record, metainfo, &unwanted);
    record.files.high = chosen(metainfo, &priorities, |priority| priority >= HIGH);
    set_paths(record, metainfo, &texts(resume, "mapped_files"));
    let is_complete = count(resume, "completed_time") > 0;
    record.final_folder = saved.filter(|saved| !is_complete && *saved != record.folder);
    let trackers = tiers(resume, "trackers");
    if !trackers.is_empty() && trackers != metainfo.tiers {
        record.trackers = Some(trackers);
    }
}

/// The ranges of the torrent's bytes that qBittorrent has: libtorrent's pieces, and its blocks of other pieces.
fn owned_ranges(metainfo: &Metainfo, resume: &Dict) -> Vec<Range<u64>> {
    let piece_length = u64::from(metainfo.piece_length);
    let mut have: Vec<Range<u64>> = Vec::new();
    // The lowest bit of a piece's byte says that it is there.
    let pieces = values::bytes(resume, "pieces").unwrap_or_default();
    for (piece, _) in (0_u64..).zip(pieces).filter(|(_, byte)| **byte & 1 != 0) {
        have.push(piece * piece_length..(piece + 1) * piece_length);
    }
    for unfinished in values::list(resume, "unfinished") {
        let Value::Dict(unfinished) = unfinished else { continue };
        let piece = values::int(unfinished, "piece").and_then(|piece| u64::try_from(piece).ok());
        let Some(piece) = piece.filter(|piece| *piece < u64::from(metainfo.piece_count())) else { continue };
        let start = piece * piece_length;
        let blocks = ranges(values::bytes(unfinished, "bitmask").unwrap_or_default(), BLOCK);
        let within = blocks.take_while(|block| block.start < piece_length);
        have.extend(within.map(|block| start + block.start..start + block.end.min(piece_length)));
    }
    cold_sort::sort_by_key(&mut have, |range| range.start);
    have
}

fn take_over(record: &mut TorrentRecord, resume: &Dict) {
    let (is_paused, is_managed) = (is_set(resume, "paused"), is_set(resume, "auto_managed"));
    record.desired_state = match (is_paused, is_managed) {
        (true, false) => DesiredState::Stopped,
        (false, false) => DesiredState::Forced,
        _ => DesiredState::Queued,
    };
    if let Some(name) = text(resume, "qBt-name") {
        record.name = name;
    }
    let active = time(resume, "last_upload").max(time(resume, "last_download"));
    set_times(record, time(resume, "added_time"), time(resume, "completed_time"), active);
    let (all, seeding) = (count(resume, "active_time"), count(resume, "seeding_time"));
    (record.times.downloading, record.times.seeding) = (all.saturating_sub(seeding), seeding);
    (record.sums.downloaded, record.sums.uploaded) =
        (count(resume, "total_downloaded"), count(resume, "total_uploaded"));
    let settings = &mut record.settings;
    // libtorrent writes -1 or 16777215 for no limit.
    settings.peer_limit = u16::try_from(count(resume, "max_connections")).unwrap_or(0);
    settings.labels = labels(text(resume, "qBt-category").into_iter().chain(texts(resume, "qBt-tags")));
    settings.is_sequential = is_set(resume, "sequential_download");
    settings.down_limit = limit(values::int(resume, "download_rate_limit").unwrap_or(0));
    settings.up_limit = limit(values::int(resume, "upload_rate_limit").unwrap_or(0));
    // A ratio in thousandths, -1000 for no limit, -2000 for the session's.
    match values::int(resume, "qBt-ratioLimit") {
        Some(-1000) => settings.seed_ratio_mode = LimitMode::Unlimited,
        Some(own) if own >= 0 => {
            (settings.seed_ratio_mode, settings.seed_ratio) = (LimitMode::Own, own as f64 / 1000.0);
        }
        _ => {}
    }
    match values::int(resume, "qBt-inactiveSeedingTimeLimit") {
        Some(-1) => settings.seed_idle_mode = LimitMode::Unlimited,
        Some(own) if own >= 0 => {
            settings.seed_idle_mode = LimitMode::Own;
            settings.seed_idle_minutes = u16::try_from(own).unwrap_or(u16::MAX);
        }
        _ => {}
    }
}
