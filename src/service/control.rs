//! [`Control`] of a service: reads what the manager publishes, and passes requests to it.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::client::{Client, ClientBuilder};
use crate::discovery::port_mapping::status::PortMappingStatus;
use crate::metainfo::Metainfo;
use crate::service::block_list::ServiceBlockList;
use crate::service::details;
use crate::service::file_links::FileLinkKey;
use crate::service::file_streaming;
use crate::service::load::load;
use crate::service::manager_channel::ManagerSender;
use crate::service::messages::{Answer, ControlRequest, PreparedTorrent};
use crate::service::metainfo_summary::read_metainfo;
use crate::service::model::{
    AddRequest, AddedTorrent, BandwidthGroup, BlockListView, Control, ControlError, DataFileId, FileDetails,
    OpenDataFile, PeerDetails, PieceDetails, QueueMove, SessionStats, TorrentChange, TorrentId, TorrentSummary,
    TrackerDetails,
};
use crate::service::page_events::PageEvents;
use crate::service::published::PublishedState;
use crate::service::record::TorrentRecord;
use crate::service::renaming;
use crate::service::settings::{SessionSettings, SettingsChange};
use crate::service::state_folder::{resume_folder, torrent_file};
use crate::service::text_limits::check_path;
use crate::service::torrent_fetcher::TorrentFetcher;
use crate::torrent::{TorrentHandle, TrackerView};
use crate::types::{Bitfield, InfoHash};
use crate::util::atomics::Flag;
use crate::util::os_error::reason;
use crate::util::paths::resolved;

/// How many metainfos are kept in memory for requests for the details of torrents.
const MAX_METAINFOS: usize = 4;

/// The state that the manager shares with the threads that answer requests.
pub struct ServiceControl {
    /// What the manager publishes.
    pub published: Mutex<PublishedState>,
    /// To the manager.
    pub manager: ManagerSender,
    /// Fetches torrent files by URL.
    pub fetcher: TorrentFetcher,
    /// For each running torrent, whether the manager has yet to read its events.
    pub pending: Mutex<BTreeMap<TorrentId, Arc<Flag>>>,
    /// The client, unless it is being replaced.
    pub client: Mutex<Option<Arc<Client>>>,
    /// The key of links to files.
    pub links: FileLinkKey,
    /// The event stream of the page.
    pub page_events: Arc<PageEvents>,
    /// How each client that it starts is set up before its settings are applied.
    pub base: ClientBuilder,
    /// The block list of the clients.
    pub block_list: ServiceBlockList,
    /// What went wrong at the start, in lines for the user.
    pub notices: Vec<String>,
    /// The folder of the state.
    pub state_folder: PathBuf,
    /// The folders below which downloads may be.
    pub allowed_folders: Vec<PathBuf>,
    /// The metainfos that were used last.
    pub metainfos: Mutex<VecDeque<(InfoHash, Arc<Metainfo>)>>,
}

/// Whether downloads may be in a folder: it is one of `allowed` or below one.
pub(super) fn is_permitted(folder: &Path, allowed: &[PathBuf]) -> bool {
    if !folder.is_absolute() || folder.components().any(|part| part == std::path::Component::ParentDir) {
        return false;
    }
    let real = resolved(folder);
    allowed.iter().any(|allowed| real.starts_with(resolved(allowed)))
}

impl ServiceControl {
    /// The metainfo of a torrent, from memory or from the state folder.
    pub fn metainfo(&self, record: &TorrentRecord) -> Option<Arc<Metainfo>> {
        record.metainfo.as_ref()?;
        let known = self.metainfos.lock().iter().find(|(hash, _)| *hash == record.info_hash).map(|(_, it)| it.clone());
        if known.is_some() {
            return known;
        }
        let path = torrent_file(&self.state_folder, record.info_hash);
        let metainfo =
            Arc::new(read_metainfo(&path).inspect_err(|error| log::error!("{}: {error}", path.display())).ok()?);
        let mut metainfos = self.metainfos.lock();
        metainfos.push_front((record.info_hash, metainfo.clone()));
        metainfos.truncate(MAX_METAINFOS);
        Some(metainfo)
    }

    fn carry_out(&self, request: ControlRequest) -> Result<(), ControlError> {
        self.manager.request(request).map(drop)
    }

    fn record(&self, id: TorrentId) -> Option<(TorrentRecord, Option<TorrentHandle>)> {
        let published = self.published.lock();
        let entry = published.torrents.get(&id)?;
        Some((entry.record.clone(), entry.handle.clone()))
    }

    /// The verified pieces of an incomplete torrent that does not run, as its resume data has them.
    fn recorded_pieces(&self, record: &TorrentRecord, handle: Option<&TorrentHandle>) -> Option<Bitfield> {
        if handle.is_some() || record.progress.is_complete || record.progress.have == 0 {
            return None;
        }
        let metainfo = self.metainfo(record)?;
        record.idle(&metainfo, &resume_folder(&self.state_folder, record.info_hash)).recorded_pieces()
    }

    /// Returns the folder if downloads may be there.
    fn check_folder(&self, folder: &Path) -> Result<PathBuf, ControlError> {
        check_path(folder)?;
        if is_permitted(folder, &self.allowed_folders) {
            Ok(folder.to_owned())
        } else {
            Err(ControlError::OutsideFolders(folder.to_owned()))
        }
    }

    fn check_change(&self, change: &TorrentChange) -> Result<(), ControlError> {
        change.folder.as_deref().map_or(Ok(()), |folder| self.check_folder(folder).map(drop))
    }
}

impl Control for ServiceControl {
    fn torrents(&self) -> Vec<TorrentSummary> {
        self.published.lock().torrents.values().map(|entry| entry.summary.clone()).collect()
    }

    fn torrent(&self, id: TorrentId) -> Option<TorrentSummary> {
        self.published.lock().torrents.get(&id).map(|entry| entry.summary.clone())
    }

    fn find(&self, info_hash: &InfoHash) -> Option<TorrentId> {
        self.published.lock().find(info_hash)
    }

    fn recently_removed(&self) -> Vec<TorrentId> {
        self.published.lock().recently_removed()
    }

    fn recently_active(&self) -> Vec<TorrentId> {
        self.published.lock().recently_active()
    }

    fn files(&self, id: TorrentId) -> Vec<FileDetails> {
        let Some((record, handle)) = self.record(id) else { return Vec::new() };
        let Some(metainfo) = self.metainfo(&record) else { return Vec::new() };
        let recorded = self.recorded_pieces(&record, handle.as_ref());
        details::files(&record, &metainfo, handle.as_ref(), recorded.as_ref())
    }

    fn peers(&self, id: TorrentId) -> Vec<PeerDetails> {
        let handle = self.record(id).and_then(|(_, handle)| handle);
        handle.map_or_else(Vec::new, |handle| details::peers(&handle))
    }

    fn trackers(&self, id: TorrentId) -> Vec<TrackerDetails> {
        let Some((record, handle)) = self.record(id) else { return Vec::new() };
        let guard = self.published.lock().torrents.get(&id).and_then(|entry| entry.guard.clone());
        let views = match (handle, guard) {
            (Some(handle), _) => handle.trackers(),
            (None, Some(guard)) => guard.trackers().into_iter().map(TrackerView::from).collect(),
            (None, None) => Vec::new(),
        };
        let metainfo = if record.trackers.is_some() { None } else { self.metainfo(&record) };
        details::trackers(&record, metainfo.as_deref(), &views)
    }

    fn pieces(&self, id: TorrentId) -> PieceDetails {
        let Some((record, handle)) = self.record(id) else { return PieceDetails::default() };
        let recorded = self.recorded_pieces(&record, handle.as_ref());
        details::pieces(&record, handle.as_ref(), recorded.as_ref())
    }

    fn file_link(&self, file: DataFileId) -> Result<String, ControlError> {
        self.links.url(file, self.files(file.torrent).len())
    }

    fn is_file_link_valid(&self, file: DataFileId, token: &str) -> bool {
        self.links.is_valid(file, token)
    }

    fn open_file(&self, file: DataFileId, client: IpAddr) -> Result<OpenDataFile, ControlError> {
        let (record, handle) = self.record(file.torrent).ok_or(ControlError::NoTorrent(file.torrent))?;
        let metainfo = self.metainfo(&record);
        let metainfo = metainfo.ok_or_else(|| ControlError::Invalid("its metadata is not known yet".to_owned()))?;
        let resume_folder = resume_folder(&self.state_folder, record.info_hash);
        file_streaming::open(&record, &metainfo, (handle.as_ref(), Some(&resume_folder)), (file.index, client))
    }

    fn add(&self, request: AddRequest) -> Result<AddedTorrent, ControlError> {
        let AddRequest { source, folder, starts_paused, mut change, cookies, may_overwrite } = request;
        let folder = folder.or_else(|| change.folder.take());
        let folder =
            self.check_folder(&folder.unwrap_or_else(|| self.published.lock().settings.download_folder.clone()))?;
        let rest = PreparedTorrent {
            info_hash: InfoHash([0; 20]),
            name: String::new(),
            metainfo: None,
            link: None,
            folder,
            starts_paused,
            change,
            may_overwrite,
        };
        let fetcher = self.base.url_fetcher(None);
        let cookies = cookies.as_deref().unwrap_or_default();
        let fetch = |url: &str| self.fetcher.fetch(fetcher.clone(), url, cookies, self.manager.ended());
        match self.manager.request(ControlRequest::Add(Box::new(load(source, fetch, rest)?)))? {
            Answer::Added(added) => Ok(added),
            Answer::Done => Err(ControlError::System("no answer".to_owned())),
        }
    }

    fn start(&self, ids: &[TorrentId], is_forced: bool) -> Result<(), ControlError> {
        self.carry_out(ControlRequest::Start { ids: ids.to_owned(), is_forced })
    }

    fn stop(&self, ids: &[TorrentId]) -> Result<(), ControlError> {
        self.carry_out(ControlRequest::Stop(ids.to_owned()))
    }

    fn verify(&self, ids: &[TorrentId]) -> Result<(), ControlError> {
        self.carry_out(ControlRequest::Verify(ids.to_owned()))
    }

    fn reannounce(&self, ids: &[TorrentId]) -> Result<(), ControlError> {
        self.carry_out(ControlRequest::Reannounce(ids.to_owned()))
    }

    fn remove(&self, ids: &[TorrentId], deletes_data: bool) -> Result<(), ControlError> {
        self.carry_out(ControlRequest::Remove { ids: ids.to_owned(), deletes_data })
    }

    fn change(&self, ids: &[TorrentId], change: &TorrentChange) -> Result<(), ControlError> {
        self.check_change(change)?;
        self.carry_out(ControlRequest::Change(ids.to_owned(), Box::new(change.clone())))
    }

    fn set_folder(&self, ids: &[TorrentId], folder: &Path, moves_files: bool) -> Result<(), ControlError> {
        let folder = self.check_folder(folder)?;
        self.carry_out(ControlRequest::SetFolder { ids: ids.to_owned(), folder, moves_files })
    }

    fn rename(&self, id: TorrentId, path: &str, name: &str) -> Result<(), ControlError> {
        check_path(Path::new(path))?;
        let (record, _) = self.record(id).ok_or(ControlError::NoTorrent(id))?;
        let metainfo = self.metainfo(&record);
        let metainfo = metainfo.ok_or_else(|| ControlError::Invalid("its metadata is not known yet".to_owned()))?;
        let (files, new_name) = renaming::renamed(&record, &metainfo, path, name)?;
        self.carry_out(ControlRequest::Rename(id, files, new_name))
    }

    fn overwrite(&self, id: TorrentId) -> Result<(), ControlError> {
        self.carry_out(ControlRequest::Overwrite(id))
    }

    fn move_in_queue(&self, ids: &[TorrentId], to: QueueMove) -> Result<(), ControlError> {
        self.carry_out(ControlRequest::MoveInQueue(ids.to_owned(), to))
    }

    fn settings(&self) -> SessionSettings {
        self.published.lock().settings.clone()
    }

    fn change_settings(&self, change: &SettingsChange) -> Result<(), ControlError> {
        for folder in change.download_folder.iter().chain(&change.incomplete_folder) {
            self.check_folder(folder)?;
        }
        self.carry_out(ControlRequest::ChangeSettings(Box::new(change.clone())))
    }

    fn stats(&self) -> SessionStats {
        self.published.lock().stats
    }

    fn free_space(&self, folder: &Path) -> Result<(u64, u64), ControlError> {
        let folder = self.check_folder(folder)?;
        let mut existing = folder.as_path();
        while !existing.exists() {
            existing = existing.parent().unwrap_or(Path::new("/"));
        }
        let found = rustix::fs::statvfs(existing);
        let found = found.map_err(|error| ControlError::System(reason(&error.into())))?;
        Ok((found.f_bavail.saturating_mul(found.f_frsize), found.f_blocks.saturating_mul(found.f_frsize)))
    }

    fn block_list(&self) -> BlockListView {
        self.block_list.view()
    }

    fn update_block_list(&self) -> Result<usize, ControlError> {
        self.block_list.update().map_err(ControlError::NotFetched)
    }

    fn is_port_open(&self) -> Option<bool> {
        let client = self.client.lock().clone();
        client.is_some_and(|client| client.has_had_incoming_peer()).then_some(true)
    }

    fn is_utp_on(&self) -> bool {
        let client = self.client.lock().clone();
        client.is_some_and(|client| client.is_utp_on())
    }

    fn is_tcp_on(&self) -> bool {
        let client = self.client.lock().clone();
        client.is_none_or(|client| client.is_tcp_on())
    }

    fn is_port_mapping_on(&self) -> bool {
        let client = self.client.lock().clone();
        client.is_some_and(|client| client.is_port_mapping_on())
    }

    fn port_mapping(&self) -> Option<PortMappingStatus> {
        let client = self.client.lock().clone();
        client.and_then(|client| client.port_mapping())
    }

    fn peer_port(&self) -> u16 {
        self.published.lock().peer_port
    }

    fn groups(&self) -> Vec<BandwidthGroup> {
        self.published.lock().groups.clone()
    }

    fn set_group(&self, group: BandwidthGroup) -> Result<(), ControlError> {
        self.carry_out(ControlRequest::SetGroup(group))
    }

    fn notices(&self) -> Vec<String> {
        self.notices.clone()
    }

    fn state_folder(&self) -> PathBuf {
        self.state_folder.clone()
    }

    fn shut_down(&self) {
        self.manager.shut_down();
    }
}
