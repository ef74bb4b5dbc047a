//! Takes over the torrents of another client from its folder of state, so that its users can move to a service: their files,
//! folders, choices and stats. Each torrent's files are hashed before it runs here for the first time.

mod begun;
mod qbittorrent;
#[cfg(test)]
mod tests;
mod transmission;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use serde_bencode::value::Value;

use crate::bencode::values::{self, Dict};
use crate::metainfo::torrent::TORRENT_FILE_MAX;
use crate::metainfo::{Magnet, Metainfo, TorrentVersion};
use crate::service::control::is_permitted;
use crate::service::import::begun::{begun_files, merged};
use crate::service::metainfo_summary::{real_files, summarize, wanted_bytes};
use crate::service::model::{TorrentId, UnixTime};
use crate::service::options::{ServiceError, ServiceOptions};
use crate::service::rate_limit::KILOBYTE;
use crate::service::rate_limit::RateLimit;
use crate::service::record::{QUEUE_STEP, RecordTimes, TorrentRecord};
use crate::service::state_folder::{SavedState, StateFolder};
use crate::service::text_limits::{MAX_LABEL, MAX_LABELS, MAX_NAME, check_group, check_path};
use crate::service::trackers::keep_trackers;
use crate::torrent::TorrentError;
use crate::types::InfoHash;
use crate::util::atomic_file::{open_regular, read_at_most};
use crate::util::atomics::Flag;
use crate::util::os_error::reason;
use crate::util::printable_text::printable;

pub use qbittorrent::torrents as of_qbittorrent;
pub use transmission::torrents as of_transmission;

/// The most torrents that are taken over.
const MAX_TORRENTS: usize = 20_000;
/// The largest file with the state of one torrent.
const MAX_RESUME_FILE: usize = 32 << 20;

/// A torrent of the other client.
#[derive(Debug)]
pub struct FoundTorrent {
    /// Its record, without a number.
    record: TorrentRecord,
    /// Its torrent file; `None` for a magnet link whose metadata is unknown.
    torrent_file: Option<PathBuf>,
    /// The ranges of its bytes that the other client has, in order.
    have: Vec<Range<u64>>,
}

/// What became of each torrent: one line for the user, or why it was not taken over.
pub type Lines = Vec<Result<String, String>>;

/// Adds torrents to a state folder that no service uses. Those that are there already stay as they are.
///
/// # Errors
/// If the state folder cannot be used, or torrents are in folders that `options` do not permit; then none is added.
pub fn import(options: &ServiceOptions, found: Vec<Result<FoundTorrent, String>>) -> Result<Lines, ServiceError> {
    check_folders(options, &found)?;
    let state = StateFolder::open(&options.state_folder)?;
    let SavedState { settings, mut session, records, .. } = state.load()?;
    let mut known: HashSet<InfoHash> = records.iter().map(|record| record.info_hash).collect();
    let mut number = records.iter().map(|record| record.queue_number).max().unwrap_or(0);
    let peer_limit = settings.unwrap_or_default().network.peer_limit_per_torrent;
    let mut lines = Vec::new();
    for torrent in found {
        let line = torrent.and_then(|FoundTorrent { mut record, torrent_file, have }| {
            let name = limit_texts(&mut record)?;
            if !known.insert(record.info_hash) {
                return Ok(format!("{name}: is there already"));
            }
            number = number.saturating_add(QUEUE_STEP);
            (record.id, record.queue_number) = (TorrentId(session.next_id), number);
            if record.settings.peer_limit == 0 {
                record.settings.peer_limit = peer_limit;
            }
            if let Some(path) = torrent_file {
                let bytes = read(&path, TORRENT_FILE_MAX)?.ok_or_else(|| format!("{name}: its file is gone"))?;
                state.save_torrent(record.info_hash, &bytes).map_err(|error| error.to_string())?;
                let metainfo = keep_names(&mut record, &bytes)?;
                claim(&record, &metainfo, (have, &state.resume_folder(record.info_hash)))?;
            }
            if let Err(error) = state.save_record(&record) {
                let _ = state.remove(record.id, record.info_hash);
                return Err(format!("{name}: {error}"));
            }
            session.next_id = session.next_id.saturating_add(1);
            session.sums.files_added += 1;
            Ok(format!("{name}: imported"))
        });
        lines.push(line);
    }
    state.save_session(&session)?;
    state.sync()?;
    Ok(lines)
}

/// Cuts the texts of a record to what the service keeps. Returns the name for a line of text.
///
/// # Errors
/// If a folder is too long.
fn limit_texts(record: &mut TorrentRecord) -> Result<String, String> {
    record.name = record.name.chars().take(MAX_NAME).collect();
    if check_group(&record.settings.group).is_err() {
        record.settings.group.clear();
    }
    let name = printable(&record.name);
    let folders = record.final_folder.iter().chain([&record.folder]).try_for_each(|folder| check_path(folder));
    if let Some(trackers) = &mut record.trackers {
        keep_trackers(trackers);
    }
    folders.map_err(|error| format!("{name}: {error}"))?;
    Ok(name)
}

/// Gives the files the names that the other client has given them. Returns the metainfo with the names that they would have here.
fn keep_names(record: &mut TorrentRecord, torrent: &[u8]) -> Result<Metainfo, String> {
    let theirs = Metainfo::parse(torrent).map_err(|error| error.to_string())?;
    if theirs.version() == TorrentVersion::V2 {
        return Err(TorrentError::V2Only.to_string());
    }
    let mut ours = theirs.clone();
    ours.replace_colons();
    let mut chosen: BTreeMap<u32, PathBuf> = record.files.renamed.drain(..).collect();
    for (index, (ours, theirs)) in
        (0_u32..).zip(ours.files.iter().zip(theirs.files)).filter(|(_, (it, _))| !it.is_virtual)
    {
        let path = chosen.remove(&index).unwrap_or(theirs.path);
        if path != ours.path {
            record.files.renamed.push((index, path));
        }
    }
    Ok(ours)
}

/// Records the files that the other client has begun as unfinished ones of the torrent, and those that it has completely. All others
/// are files like those of the user's.
fn claim(
    record: &TorrentRecord,
    metainfo: &Metainfo,
    (have, resume_folder): (Vec<Range<u64>>, &Path),
) -> Result<(), String> {
    let have = merged(have);
    let begun = begun_files(metainfo, have.iter().cloned());
    if have.is_empty() {
        return Ok(());
    }
    let torrent = record.idle(metainfo, resume_folder);
    torrent.claim(&begun, &have, &Flag::default()).map_err(|error| format!("{}: {error}", printable(&record.name)))
}

fn check_folders(options: &ServiceOptions, found: &[Result<FoundTorrent, String>]) -> Result<(), ServiceError> {
    let allowed = [&options.allowed_folders[..], std::slice::from_ref(&options.download_folder)].concat();
    let records = found.iter().flatten().map(|found| &found.record);
    let folders: BTreeSet<&PathBuf> =
        records.flat_map(|record| record.final_folder.iter().chain([&record.folder])).collect();
    let refused: Vec<PathBuf> = folders.into_iter().filter(|folder| !is_permitted(folder, &allowed)).cloned().collect();
    if refused.is_empty() { Ok(()) } else { Err(ServiceError::ImportFolders(refused)) }
}

/// The content of a file; `None` if there is no such file.
fn read(path: &Path, most: usize) -> Result<Option<Vec<u8>>, String> {
    let failed = |why: &str| printable(&format!("{}: {why}", path.display()));
    let file = match open_regular(path) {
        Ok(Some(file)) => file,
        Ok(None) => return Err(failed("not a file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(&reason(&error))),
    };
    let bytes = read_at_most(file, most).map_err(|error| failed(&reason(&error)))?;
    bytes.map(Some).ok_or_else(|| failed("too large"))
}

/// The dictionary in a file of the client's.
fn dictionary(path: &Path) -> Result<Dict, String> {
    let failed = |why: &str| printable(&format!("{}: {why}", path.display()));
    let bytes = read(path, MAX_RESUME_FILE)?.ok_or_else(|| failed("is missing"))?;
    let dict = values::dictionary(&bytes).map_err(|error| failed(&error.to_string()))?;
    dict.ok_or_else(|| failed("not a dictionary"))
}

/// The metainfo in a torrent file; `None` if there is no such file.
fn metainfo(path: &Path) -> Result<Option<Metainfo>, String> {
    let Some(bytes) = read(path, TORRENT_FILE_MAX)? else { return Ok(None) };
    Metainfo::parse(&bytes).map(Some).map_err(|error| printable(&format!("{}: {error}", path.display())))
}

/// Names of the files in a folder, sorted; empty if it cannot be read.
fn names(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<PathBuf> =
        entries.map(|entry| PathBuf::from(entry.file_name())).take(MAX_TORRENTS * 4).collect();
    names.sort_unstable();
    names
}

fn has_extension(name: &Path, extension: &str) -> bool {
    name.extension().is_some_and(|it| it == extension)
}

/// The text at a key, unless it is empty or not UTF-8.
fn text(dict: &Dict, key: &str) -> Option<String> {
    let text = values::bytes(dict, key).and_then(|bytes| String::from_utf8(bytes.to_vec()).ok());
    text.filter(|text| !text.is_empty())
}

fn texts(dict: &Dict, key: &str) -> Vec<String> {
    let text = |value: &Value| match value {
        Value::Bytes(bytes) => String::from_utf8(bytes.clone()).unwrap_or_default(),
        _ => String::new(),
    };
    values::list(dict, key).iter().map(text).collect()
}

/// The trackers at a key, by tier.
fn tiers(dict: &Dict, key: &str) -> Vec<Vec<String>> {
    let url = |url: &Value| match url {
        Value::Bytes(url) => String::from_utf8(url.clone()).ok(),
        _ => None,
    };
    let tier = |tier: &Value| match tier {
        Value::List(urls) => urls.iter().filter_map(url).collect(),
        _ => Vec::new(),
    };
    values::list(dict, key).iter().map(tier).filter(|tier: &Vec<String>| !tier.is_empty()).collect()
}

/// The magnet link of an info-hash; `None` if these bytes are none.
fn link_of(info_hash: &[u8]) -> Option<Magnet> {
    let hash = <[u8; 20]>::try_from(info_hash).ok().filter(|hash| hash.iter().any(|byte| *byte != 0))?;
    Magnet::parse(&format!("magnet:?xt=urn:btih:{}", InfoHash(hash).hex())).ok()
}

fn numbers(dict: &Dict, key: &str) -> Vec<i64> {
    let number = |value: &Value| if let Value::Int(int) = value { *int } else { 0 };
    values::list(dict, key).iter().map(number).collect()
}

fn is_set(dict: &Dict, key: &str) -> bool {
    values::int(dict, key).is_some_and(|value| value != 0)
}

/// A count of bytes or seconds, 0 if there is none.
fn count(dict: &Dict, key: &str) -> u64 {
    values::int(dict, key).and_then(|value| u64::try_from(value).ok()).unwrap_or(0)
}

fn time(dict: &Dict, key: &str) -> UnixTime {
    UnixTime(values::int(dict, key).unwrap_or(0).max(0))
}

/// An absolute folder at a key.
fn folder(dict: &Dict, key: &str) -> Option<PathBuf> {
    text(dict, key).map(PathBuf::from).filter(|folder| folder.is_absolute())
}

/// A limit in bytes a second; without a positive one, it is not in force.
fn limit(bytes: i64) -> RateLimit {
    let kilobytes = u32::try_from(bytes.max(0).cast_unsigned() / KILOBYTE).unwrap_or(u32::MAX);
    RateLimit { kilobytes: if bytes > 0 { kilobytes.max(1) } else { 0 }, is_enabled: bytes > 0 }
}

/// Labels as the service accepts them.
fn labels(texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut labels: Vec<String> = Vec::new();
    for text in texts {
        let label = text.replace(',', " ");
        if !label.is_empty() && label.len() <= MAX_LABEL && labels.len() < MAX_LABELS && !labels.contains(&label) {
            labels.push(label);
        }
    }
    labels
}

/// A stopped torrent in `folder` whose files have to be hashed.
fn record_of(metainfo: &Metainfo, folder: PathBuf) -> TorrentRecord {
    let (id, now) = (TorrentId(0), UnixTime::now());
    let mut record = TorrentRecord::new(id, metainfo.info_hash, metainfo.name.clone(), folder, now);
    record.metainfo = Some(summarize(metainfo));
    (record.progress.total, record.progress.wanted) = (metainfo.total(), metainfo.total());
    record.needs_check = true;
    record.settings.peer_limit = 0;
    record
}

/// A stopped torrent of a magnet link.
fn record_of_link(magnet: &Magnet, folder: PathBuf) -> TorrentRecord {
    let name = magnet.name.clone().unwrap_or_else(|| magnet.info_hash.to_string());
    let mut record = TorrentRecord::new(TorrentId(0), magnet.info_hash, name, folder, UnixTime::now());
    record.link = Some(magnet.to_string());
    record.settings.peer_limit = 0;
    record
}

/// The indexes of files to which a list of `length` values belongs: one value for each entry, or for each without padding.
fn indexes(metainfo: &Metainfo, length: usize) -> Vec<u32> {
    let real = real_files(metainfo);
    if length == metainfo.files.len() {
        (0..u32::try_from(length).unwrap_or(u32::MAX)).collect()
    } else if length == real.len() {
        real
    } else {
        Vec::new()
    }
}

/// Takes over which files are wanted.
fn set_unwanted(record: &mut TorrentRecord, metainfo: &Metainfo, is_unwanted: &[bool]) {
    let files = indexes(metainfo, is_unwanted.len()).into_iter().zip(is_unwanted);
    record.files.unwanted = files.filter(|(_, unwanted)| **unwanted).map(|(index, _)| index).collect();
    record.progress.wanted = wanted_bytes(metainfo, &record.files.unwanted);
}

/// The indexes of the files for which `is_it` is true.
fn chosen(metainfo: &Metainfo, values: &[i64], is_it: impl Fn(i64) -> bool) -> Vec<u32> {
    let files = indexes(metainfo, values.len()).into_iter().zip(values);
    files.filter(|(_, value)| is_it(**value)).map(|(index, _)| index).collect()
}

/// Takes over other paths of files. Empty ones, and those that lead out of the folder, do not count.
fn set_paths(record: &mut TorrentRecord, metainfo: &Metainfo, paths: &[String]) {
    for (index, path) in indexes(metainfo, paths.len()).into_iter().zip(paths.iter().map(Path::new)) {
        let is_plain =
            path.components().all(|part| matches!(part, Component::Normal(_))) && !path.as_os_str().is_empty();
        let own = usize::try_from(index).ok().and_then(|at| metainfo.files.get(at)).map(|file| file.path.as_path());
        if is_plain && own.is_some_and(|own| own != path) {
            record.files.renamed.push((index, path.to_owned()));
        }
    }
}

/// Takes over times of a torrent that was added at `added`.
fn set_times(record: &mut TorrentRecord, added: UnixTime, done: UnixTime, active: UnixTime) {
    let added = if added.0 > 0 { added } else { record.times.added };
    record.times = RecordTimes { added, done, active, ..record.times };
}
