//! Methods of btsync's own, for its page. Only JSON-RPC has them.

use crate::service::model::{DataFileId, TorrentSummary};
use crate::service::rpc::call::MethodCall;
use crate::service::rpc::error::RpcError;
use crate::service::rpc::json::JsonWriter;
use crate::service::rpc::selection::TorrentSelection;
use crate::service::rpc::torrent::array_fields::has;
use crate::service::rpc::torrent::view::priority;

/// A piece of which nothing is here.
const MISSING: u8 = 0;
/// A piece of which blocks are under way or on disk.
const BEGUN: u8 = 1;
/// A verified piece.
const VERIFIED: u8 = 2;

/// `btsync_overwrite`: starts a torrent, and lets it overwrite the files that were in the way.
pub fn overwrite(call: &MethodCall<'_>, _to: &mut JsonWriter) -> Result<(), RpcError> {
    Ok(call.control().overwrite(the_torrent(call)?.id)?)
}

/// `btsync_file_link`: a link to a file, for a player.
pub fn file_link(call: &MethodCall<'_>, to: &mut JsonWriter) -> Result<(), RpcError> {
    let torrent = the_torrent(call)?.id;
    let index = call.params.int("file_index").and_then(|index| u32::try_from(index).ok());
    let index = index.ok_or_else(|| RpcError::invalid("file_index must be the number of a file"))?;
    let url = call.control().file_link(DataFileId { torrent, index })?;
    to.name("url");
    to.string(&url);
    Ok(())
}

/// `btsync_pieces`: the state of each piece, and how many connected peers have it, a byte each.
pub fn pieces(call: &MethodCall<'_>, to: &mut JsonWriter) -> Result<(), RpcError> {
    let torrent = the_torrent(call)?;
    let pieces = call.control().pieces(torrent.id);
    let count = torrent.metainfo.as_ref().map_or(0, |metainfo| metainfo.pieces as usize);
    let mut states: Vec<u8> =
        (0..count).map(|piece| if has(&pieces.have, piece) { VERIFIED } else { MISSING }).collect();
    for &piece in &pieces.begun {
        if let Some(state) = states.get_mut(piece as usize).filter(|state| **state == MISSING) {
            *state = BEGUN;
        }
    }
    let availability: Vec<u8> =
        pieces.availability.iter().take(count).map(|&peers| u8::try_from(peers.max(0)).unwrap_or(u8::MAX)).collect();
    to.name("availability");
    to.base64(&availability);
    to.name("piece_count");
    to.int(count);
    to.name("states");
    to.base64(&states);
    Ok(())
}

/// `btsync_files`: all about the files, a list for each property. That is a third of `files` and `file_stats` together.
pub fn files(call: &MethodCall<'_>, to: &mut JsonWriter) -> Result<(), RpcError> {
    let files = call.control().files(the_torrent(call)?.id);
    to.name("begin_piece");
    to.array(&files, |to, file| to.int(file.pieces.start));
    to.name("bytes_completed");
    to.array(&files, |to, file| to.int(file.have));
    to.name("end_piece");
    to.array(&files, |to, file| to.int(file.pieces.end));
    to.name("length");
    to.array(&files, |to, file| to.int(file.length));
    to.name("name");
    to.array(&files, |to, file| to.string(&file.path));
    to.name("priority");
    to.array(&files, |to, file| to.int(priority(file.priority)));
    to.name("wanted");
    to.array(&files, |to, file| to.bool(file.is_wanted));
    Ok(())
}

/// The one torrent that `id` names, by number or info-hash.
fn the_torrent(call: &MethodCall<'_>) -> Result<TorrentSummary, RpcError> {
    let mut found = match call.selection() {
        selection @ TorrentSelection::These(_) => selection.summaries(call.control()),
        TorrentSelection::All | TorrentSelection::RecentlyActive => Vec::new(),
    };
    match (found.pop(), found.is_empty()) {
        (Some(torrent), true) => Ok(torrent),
        _ => Err(RpcError::invalid("id must name one torrent")),
    }
}
