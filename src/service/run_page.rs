//! The page and the remote control for the torrents of one run of a program, without a service: it shows them, pauses and resumes
//! them, and sets their limits. The program itself decides which torrents run.

mod run_torrent;

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;

use crate::discovery::port_mapping::status::PortMappingStatus;
use crate::http_server::Server;
use crate::service::details;
use crate::service::file_links::FileLinkKey;
use crate::service::model::{
    Activity, Control, ControlError, DataFileId, FileDetails, OpenDataFile, PeerDetails, PieceDetails, SessionStats,
    TorrentChange, TorrentId, TorrentSettings, TorrentSummary, TrackerDetails, UnixTime,
};
use crate::service::options::{ServiceError, WebOptions};
use crate::service::page_events::PageEvents;
use crate::service::rate_limit::{RateLimit, rate_limits};
use crate::service::settings::{SessionSettings, SettingsChange};
use crate::service::{file_streaming, listeners, serve_page};
use crate::strategy::rate_limiter::Limits;
use crate::torrent::TorrentHandle;
use crate::types::InfoHash;
use run_torrent::RunTorrent;

/// The most torrents on the page. Those that ended first make room.
const MAX_TORRENTS: usize = 1000;
/// How often an open page gets what has changed.
const TICK: Duration = Duration::from_secs(1);
/// Why most requests are refused.
const UNSUPPORTED: ControlError = ControlError::Unsupported("this page belongs to a single run of btsync");

/// A page with the torrents that a program adds, until it is dropped.
pub struct RunPage {
    control: Arc<RunPageControl>,
    addresses: Vec<String>,
    server: Option<Server>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl RunPage {
    /// Offers a page without torrents.
    ///
    /// # Errors
    /// If it may not or cannot listen.
    pub fn start(web: WebOptions) -> Result<RunPage, ServiceError> {
        let listeners = listeners(&web)?;
        let control = Arc::new(RunPageControl::default());
        let (server, addresses) = serve_page(web, listeners, control.clone(), control.page_events.clone())?;
        let (stop, stopped) = bounded(0);
        let publisher = control.clone();
        let thread = thread::Builder::new().name("page".to_owned()).spawn(move || publisher.publish_until(&stopped));
        let thread = Some(thread.map_err(ServiceError::Thread)?);
        Ok(RunPage { control, addresses, server: Some(server), stop: Some(stop), thread })
    }

    /// Where the page is: URLs, or `unix:` and a path.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Shows a torrent whose files are below `folder`.
    pub fn add(&self, handle: &TorrentHandle, folder: &Path) {
        let mut torrents = self.control.torrents.lock();
        let id = TorrentId(torrents.last().map_or(1, |last| last.id.0.saturating_add(1)));
        let (handle, folder) = (handle.clone(), folder.to_owned());
        let (added, settings) = (UnixTime::now(), TorrentSettings::default());
        torrents.push(RunTorrent { id, handle, folder, added, settings, summary: OnceLock::new() });
        if torrents.len() > MAX_TORRENTS {
            let ended = torrents.iter().position(|torrent| torrent.handle.try_wait().is_some());
            torrents.remove(ended.unwrap_or(0));
        }
    }
}

impl Drop for RunPage {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.control.page_events.end();
        self.server = None;
    }
}

/// [`Control`] of the torrents of one run.
#[derive(Default)]
struct RunPageControl {
    /// By number.
    torrents: Mutex<Vec<RunTorrent>>,
    page_events: Arc<PageEvents>,
    links: FileLinkKey,
}

impl RunPageControl {
    /// Sends open pages what has changed, until the page ends.
    fn publish_until(&self, stopped: &Receiver<()>) {
        while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
            if self.page_events.has_listeners() {
                let now = Instant::now();
                let all: Vec<(TorrentId, Instant)> =
                    self.torrents.lock().iter().map(|torrent| (torrent.id, now)).collect();
                self.page_events.publish_changes(self, &all, false);
            }
        }
    }

    fn of<T>(&self, id: TorrentId, read: impl FnOnce(&RunTorrent) -> T) -> Option<T> {
        self.torrents.lock().iter().find(|torrent| torrent.id == id).map(read)
    }

    fn each(&self, ids: &[TorrentId], change: impl Fn(&mut RunTorrent)) {
        self.torrents.lock().iter_mut().filter(|torrent| ids.contains(&torrent.id)).for_each(change);
    }

    /// The limits of all torrents.
    fn limits(&self) -> Limits {
        self.torrents.lock().last().map_or_else(Limits::default, |torrent| torrent.handle.limits())
    }
}

impl Control for RunPageControl {
    fn refusal(&self) -> ControlError {
        UNSUPPORTED
    }

    fn torrents(&self) -> Vec<TorrentSummary> {
        self.torrents.lock().iter().map(RunTorrent::summary).collect()
    }

    fn torrent(&self, id: TorrentId) -> Option<TorrentSummary> {
        self.of(id, RunTorrent::summary)
    }

    fn find(&self, info_hash: &InfoHash) -> Option<TorrentId> {
        self.torrents.lock().iter().find(|torrent| torrent.handle.info_hash() == *info_hash).map(|torrent| torrent.id)
    }

    fn recently_active(&self) -> Vec<TorrentId> {
        self.torrents.lock().iter().map(|torrent| torrent.id).collect()
    }

    fn files(&self, id: TorrentId) -> Vec<FileDetails> {
        let files = self.of(id, |torrent| {
            let metainfo = torrent.handle.metainfo()?;
            Some(details::files(&torrent.record(), metainfo, Some(&torrent.handle), None))
        });
        files.flatten().unwrap_or_default()
    }

    fn peers(&self, id: TorrentId) -> Vec<PeerDetails> {
        self.of(id, |torrent| details::peers(&torrent.handle)).unwrap_or_default()
    }

    fn trackers(&self, id: TorrentId) -> Vec<TrackerDetails> {
        let trackers = self.of(id, |torrent| {
            details::trackers(&torrent.record(), torrent.handle.metainfo(), &torrent.handle.trackers())
        });
        trackers.unwrap_or_default()
    }

    fn pieces(&self, id: TorrentId) -> PieceDetails {
        self.of(id, |torrent| details::pieces(&torrent.record(), Some(&torrent.handle), None)).unwrap_or_default()
    }

    fn file_link(&self, file: DataFileId) -> Result<String, ControlError> {
        self.links.url(file, self.files(file.torrent).len())
    }

    fn is_file_link_valid(&self, file: DataFileId, token: &str) -> bool {
        self.links.is_valid(file, token)
    }

    fn open_file(&self, file: DataFileId, client: IpAddr) -> Result<OpenDataFile, ControlError> {
        let torrent = self.of(file.torrent, |torrent| (torrent.record(), torrent.handle.clone()));
        let (record, handle) = torrent.ok_or(ControlError::NoTorrent(file.torrent))?;
        let metainfo = handle.metainfo();
        let metainfo = metainfo.ok_or_else(|| ControlError::Invalid("its metadata is not known yet".to_owned()))?;
        file_streaming::open(&record, metainfo, (Some(&handle), None), (file.index, client))
    }

    fn start(&self, ids: &[TorrentId], _: bool) -> Result<(), ControlError> {
        self.each(ids, |torrent| torrent.handle.resume());
        Ok(())
    }

    fn stop(&self, ids: &[TorrentId]) -> Result<(), ControlError> {
        self.each(ids, |torrent| torrent.handle.pause());
        Ok(())
    }

    fn reannounce(&self, ids: &[TorrentId]) -> Result<(), ControlError> {
        self.each(ids, |torrent| {
            torrent.handle.reannounce();
        });
        Ok(())
    }

    fn change(&self, ids: &[TorrentId], change: &TorrentChange) -> Result<(), ControlError> {
        let possible = TorrentChange {
            down_limit: change.down_limit,
            is_down_limited: change.is_down_limited,
            up_limit: change.up_limit,
            is_up_limited: change.is_up_limited,
            honors_session_limits: change.honors_session_limits,
            ..TorrentChange::default()
        };
        if possible != *change {
            return Err(UNSUPPORTED);
        }
        self.each(ids, |torrent| {
            let settings = &mut torrent.settings;
            change_limit(&mut settings.down_limit, change.down_limit, change.is_down_limited);
            change_limit(&mut settings.up_limit, change.up_limit, change.is_up_limited);
            settings.honors_session_limits = change.honors_session_limits.unwrap_or(settings.honors_session_limits);
            torrent.handle.set_torrent_limits(rate_limits(settings.down_limit, settings.up_limit));
            torrent.handle.ignore_client_limits(!settings.honors_session_limits);
        });
        Ok(())
    }

    fn settings(&self) -> SessionSettings {
        let folder = self.torrents.lock().last().map(|torrent| torrent.folder.clone());
        let limits = self.limits();
        SessionSettings {
            download_folder: folder.unwrap_or_default(),
            down_limit: RateLimit::from_bytes(limits.down),
            up_limit: RateLimit::from_bytes(limits.up),
            ..SessionSettings::default()
        }
    }

    fn change_settings(&self, change: &SettingsChange) -> Result<(), ControlError> {
        let possible = SettingsChange {
            down_limit: change.down_limit,
            is_down_limited: change.is_down_limited,
            up_limit: change.up_limit,
            is_up_limited: change.is_up_limited,
            ..SettingsChange::default()
        };
        if possible != *change {
            return Err(UNSUPPORTED);
        }
        let mut settings = self.settings();
        settings.apply(change);
        let limits = settings.limits();
        // All torrents of a run share the limits of their client.
        self.torrents.lock().iter().for_each(|torrent| torrent.handle.set_limits(limits));
        Ok(())
    }

    fn stats(&self) -> SessionStats {
        let torrents = self.torrents();
        let sum = |of: fn(&TorrentSummary) -> u64| torrents.iter().map(of).sum::<u64>();
        let paused = torrents.iter().filter(|torrent| torrent.activity == Activity::Stopped).count();
        let mut stats = SessionStats {
            active_torrents: torrents.len() - paused,
            paused_torrents: paused,
            torrents: torrents.len(),
            down_rate: sum(|torrent| torrent.transfer.down_rate),
            up_rate: sum(|torrent| torrent.transfer.up_rate),
            ..SessionStats::default()
        };
        stats.current.downloaded = sum(|torrent| torrent.transfer.downloaded);
        stats.current.uploaded = sum(|torrent| torrent.transfer.uploaded);
        stats.cumulative = stats.current;
        stats
    }

    fn is_port_mapping_on(&self) -> bool {
        self.port_mapping().is_some()
    }

    fn port_mapping(&self) -> Option<PortMappingStatus> {
        self.torrents.lock().last().and_then(|torrent| torrent.handle.peer_search().port_mapping)
    }
}

fn change_limit(limit: &mut RateLimit, kilobytes: Option<u32>, is_limited: Option<bool>) {
    limit.kilobytes = kilobytes.unwrap_or(limit.kilobytes);
    limit.is_enabled = is_limited.unwrap_or(limit.is_enabled);
}
