//! Reads what a new torrent comes from: a torrent file, a magnet link, a URL, an info-hash or a path on this machine.

use std::path::Path;

use crate::discovery::tracker::http::FetchedUrl;
use crate::metainfo::{Magnet, Metainfo, TorrentVersion};
use crate::service::messages::PreparedTorrent;
use crate::service::model::{AddSource, ControlError};
use crate::service::text_limits::check_path;
use crate::torrent::TorrentError;
use crate::types::InfoHash;
use crate::util::atomic_file::open_regular;

/// Reads the source; `fetch` fetches a URL. What the source does not say is left as in `rest`.
///
/// # Errors
/// If it cannot be read, or is no torrent that btsync accepts.
pub fn load(
    source: AddSource,
    fetch: impl FnOnce(&str) -> Result<FetchedUrl, ControlError>,
    rest: PreparedTorrent,
) -> Result<PreparedTorrent, ControlError> {
    match source {
        AddSource::Metainfo(bytes) => from_bytes(bytes, rest),
        AddSource::Name(name) => from_name(name.trim(), fetch, rest),
    }
}

fn from_name(
    name: &str,
    fetch: impl FnOnce(&str) -> Result<FetchedUrl, ControlError>,
    rest: PreparedTorrent,
) -> Result<PreparedTorrent, ControlError> {
    let is_url = ["http://", "https://"]
        .iter()
        .any(|scheme| name.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
    if Magnet::is_link(name) {
        return from_link(name, rest);
    }
    if InfoHash::from_hex(name).is_some() {
        return from_link(&format!("magnet:?xt=urn:btih:{name}"), rest);
    }
    if is_url {
        return match fetch(name)? {
            FetchedUrl::File(bytes) => from_bytes(bytes, rest),
            FetchedUrl::Link { link, .. } => from_link(&link, rest),
        };
    }
    from_path(Path::new(name), rest)
}

fn from_path(path: &Path, rest: PreparedTorrent) -> Result<PreparedTorrent, ControlError> {
    let refused = |why: String| ControlError::BadTorrent(format!("{}: {why}", path.display()));
    check_path(path)?;
    if !path.is_absolute() {
        return Err(refused("neither a link, a URL nor an absolute path".to_owned()));
    }
    let file = open_regular(path).map_err(|error| refused(error.to_string()))?;
    let file = file.ok_or_else(|| refused("not a file".to_owned()))?;
    let metainfo = Metainfo::read_from(file, path).map_err(|error| refused(error.to_string()))?;
    let bytes = metainfo.to_bytes();
    with_metainfo(metainfo, bytes, rest)
}

fn from_bytes(bytes: Vec<u8>, rest: PreparedTorrent) -> Result<PreparedTorrent, ControlError> {
    let bad = |error: &dyn std::fmt::Display| ControlError::BadTorrent(error.to_string());
    let bytes = Metainfo::unpack(bytes).map_err(|error| bad(&error))?;
    let metainfo = Metainfo::parse(&bytes).map_err(|error| bad(&error))?;
    with_metainfo(metainfo, bytes, rest)
}

fn with_metainfo(
    mut metainfo: Metainfo,
    bytes: Vec<u8>,
    rest: PreparedTorrent,
) -> Result<PreparedTorrent, ControlError> {
    if metainfo.version() == TorrentVersion::V2 {
        return Err(v2_only());
    }
    metainfo.replace_colons();
    Ok(PreparedTorrent {
        info_hash: metainfo.info_hash,
        name: metainfo.name.clone(),
        metainfo: Some((metainfo, bytes)),
        ..rest
    })
}

fn v2_only() -> ControlError {
    ControlError::BadTorrent(TorrentError::V2Only.to_string())
}

fn from_link(link: &str, rest: PreparedTorrent) -> Result<PreparedTorrent, ControlError> {
    let magnet = Magnet::parse(link).map_err(|error| ControlError::BadTorrent(error.to_string()))?;
    if !magnet.has_v1() {
        return Err(v2_only());
    }
    let name = magnet.name.clone().unwrap_or_else(|| magnet.info_hash.to_string());
    Ok(PreparedTorrent { info_hash: magnet.info_hash, name, link: Some(magnet.to_string()), ..rest })
}
