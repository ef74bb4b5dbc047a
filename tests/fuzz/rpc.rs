//! Requests to the remote control.

use btsync::service::model::{
    Control, FileDetails, PeerDetails, PieceDetails, SessionStats, TorrentId, TorrentSummary, TrackerDetails,
};
use btsync::service::rpc::memory::ResponseMemory;
use btsync::service::rpc::{RpcResponse, respond};
use btsync::service::settings::SessionSettings;
use btsync::types::InfoHash;
use serde_json::Value;

/// Answers a body of the remote control. The response is JSON, and a batch has at most one response for each request.
pub fn rpc(bytes: &[u8]) -> bool {
    let response = match respond(bytes, &NoTorrents, "session", &ResponseMemory::default()) {
        RpcResponse::NoContent => return true,
        RpcResponse::Json(json) => json,
    };
    let response: Value = serde_json::from_slice(&response).expect("a response in JSON");
    let request = serde_json::from_slice::<Value>(bytes);
    if let (Value::Array(responses), Ok(Value::Array(requests))) = (&response, &request) {
        assert!((1..=requests.len()).contains(&responses.len()));
    }
    let responses = response.as_array().map_or(std::slice::from_ref(&response), Vec::as_slice);
    let mut is_accepted = request.is_ok();
    for response in responses {
        assert_ne!(response.get("result").is_some(), response.get("error").is_some(), "{response}");
        let code = response.pointer("/error/code").and_then(Value::as_i64);
        is_accepted &= !matches!(code, Some(-32700 | -32600));
    }
    is_accepted
}

/// A service without torrents that can change nothing.
struct NoTorrents;

impl Control for NoTorrents {
    fn torrents(&self) -> Vec<TorrentSummary> {
        Vec::new()
    }
    fn torrent(&self, _: TorrentId) -> Option<TorrentSummary> {
        None
    }
    fn find(&self, _: &InfoHash) -> Option<TorrentId> {
        None
    }
    fn recently_active(&self) -> Vec<TorrentId> {
        Vec::new()
    }
    fn files(&self, _: TorrentId) -> Vec<FileDetails> {
        Vec::new()
    }
    fn peers(&self, _: TorrentId) -> Vec<PeerDetails> {
        Vec::new()
    }
    fn trackers(&self, _: TorrentId) -> Vec<TrackerDetails> {
        Vec::new()
    }
    fn pieces(&self, _: TorrentId) -> PieceDetails {
        PieceDetails::default()
    }
    fn settings(&self) -> SessionSettings {
        SessionSettings::default()
    }
    fn stats(&self) -> SessionStats {
        SessionStats::default()
    }
}
