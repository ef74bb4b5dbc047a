//! Requests to the remote control.

use std::path::{Path, PathBuf};

use btsync::service::model::{
    AddRequest, Added, BandwidthGroup, Control, ControlError, FileDetails, OpenTorrentFile, PeerDetails, PieceDetails,
    QueueMove, SessionStats, TorrentChange, TorrentFileId, TorrentId, TorrentSummary, TrackerDetails,
};
use btsync::service::rpc::memory::ResponseMemory;
use btsync::service::rpc::{RpcResponse, respond};
use btsync::service::settings::{SessionSettings, SettingsChange};
use btsync::types::InfoHash;
use serde_json::Value;

const REFUSED: ControlError = ControlError::Unsupported("a service without torrents");

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
    fn recently_removed(&self) -> Vec<TorrentId> {
        Vec::new()
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
    fn file_link(&self, _: TorrentFileId) -> Result<String, ControlError> {
        Err(REFUSED)
    }
    fn is_link_valid(&self, _: TorrentFileId, _: &str) -> bool {
        false
    }
    fn open_file(&self, _: TorrentFileId) -> Result<OpenTorrentFile, ControlError> {
        Err(REFUSED)
    }
    fn add(&self, _: AddRequest) -> Result<Added, ControlError> {
        Err(REFUSED)
    }
    fn start(&self, _: &[TorrentId], _: bool) -> Result<(), ControlError> {
        Err(REFUSED)
    }
    fn stop(&self, _: &[TorrentId]) -> Result<(), ControlError> {
        Err(REFUSED)
    }
    fn verify(&self, _: &[TorrentId]) -> Result<(), ControlError> {
        Err(REFUSED)
    }
    fn reannounce(&self, _: &[TorrentId]) -> Result<(), ControlError> {
        Err(REFUSED)
    }
    fn remove(&self, _: &[TorrentId], _: bool) -> Result<(), ControlError> {
        Err(REFUSED)
    }
    fn change(&self, _: &[TorrentId], _: &TorrentChange) -> Result<(), ControlError> {
        Err(REFUSED)
    }
    fn set_folder(&self, _: &[TorrentId], _: &Path, _: bool) -> Result<(), ControlError> {
        Err(REFUSED)
    }
    fn rename(&self, _: TorrentId, _: &str, _: &str) -> Result<(), ControlError> {
        Err(REFUSED)
    }
    fn overwrite(&self, _: TorrentId) -> Result<(), ControlError> {
        Err(REFUSED)
    }
    fn move_in_queue(&self, _: &[TorrentId], _: QueueMove) -> Result<(), ControlError> {
        Err(REFUSED)
    }
    fn settings(&self) -> SessionSettings {
        SessionSettings::default()
    }
    fn change_settings(&self, _: &SettingsChange) -> Result<(), ControlError> {
        Err(REFUSED)
    }
    fn stats(&self) -> SessionStats {
        SessionStats::default()
    }
    fn free_space(&self, _: &Path) -> Result<(u64, u64), ControlError> {
        Err(REFUSED)
    }
    fn is_port_open(&self) -> Option<bool> {
        None
    }
    fn peer_port(&self) -> u16 {
        0
    }
    fn groups(&self) -> Vec<BandwidthGroup> {
        Vec::new()
    }
    fn set_group(&self, _: BandwidthGroup) -> Result<(), ControlError> {
        Err(REFUSED)
    }
    fn state_folder(&self) -> PathBuf {
        PathBuf::default()
    }
    fn shut_down(&self) {}
}
