//! The thread that owns the torrents of a service: it carries out requests one after the other, saves what they change before
//! it answers, and starts and stops torrents so that what runs is what the records and the queue ask for.

mod active_run;
mod changes;
mod client;
mod dormant;
mod events;
mod file_operations;
mod managed_torrent;
mod queue_order;
mod reconcile;
mod requests;
mod stats;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender};
use parking_lot::Mutex;

use crate::client::{Client, ClientBuilder, ClientError, PortMapping};
use crate::discovery::tracker::announce::TorrentIdentity;
use crate::peer::LimitGroup;
use crate::service::block_list::ServiceBlockList;
use crate::service::control::ServiceControl;
use crate::service::file_jobs::FileJobs;
use crate::service::file_links::FileLinkKey;
use crate::service::manager_channel::{ManagerReceiver, manager_channel};
use crate::service::messages::{Answer, ControlRequest, ManagerMessage};
use crate::service::model::{ControlError, TorrentId};
use crate::service::options::{ServiceError, ServiceOptions};
use crate::service::permitted_folders::PermittedFolders;
use crate::service::published::{PublishedState, change_times};
use crate::service::settings::SessionSettings;
use crate::service::state_folder::{SavedState, SessionRecord, StateFolder};
use crate::service::torrent_fetcher::TorrentFetcher;
use crate::util::descriptors;
use client::{CurrentClient, start_client};
use dormant::DormantSeeds;
use managed_torrent::{ManagedState, ManagedTorrent};

/// How often the stats of running torrents are read.
const TICK: Duration = Duration::from_secs(1);
/// How often a torrent that stops is looked at.
const STOPPING_TICK: Duration = Duration::from_millis(50);
/// How long changed stats may stay unsaved. Settings and what the user wants are saved at once.
const SAVE_INTERVAL: Duration = Duration::from_secs(60);
/// The most dormant seeds whose stats are saved at a time.
const MAX_SAVED: usize = 50;
/// The longest sleep, so that the schedule of the alternative limits is followed.
const MAX_SLEEP: Duration = Duration::from_secs(20);
/// Requests and events that may wait for the manager.
const MAX_WAITING: usize = 1024;
/// Descriptors that peers leave free for HTTP clients, the state folder and the files of torrents.
const KEPT_FREE: u64 = 256;
/// The most torrents that are left out and named to users of the page.
const MAX_NOTICES: usize = 3;
/// How long the torrents may take to stop when the service ends.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// See the module's documentation.
pub struct Manager {
    control: Arc<ServiceControl>,
    state_folder: StateFolder,
    settings: SessionSettings,
    session: SessionRecord,
    /// The number of the next torrent that the saved session has.
    saved_next_id: u32,
    torrents: BTreeMap<TorrentId, ManagedTorrent>,
    client: CurrentClient,
    limits: SharedLimits,
    dormant: DormantSeeds,
    work: BackgroundWork,
    receiver: ManagerReceiver,
    clock: ManagerClock,
    private_folders: Vec<PathBuf>,
    /// Whether torrents do not use the web seeds that they name.
    ignores_web_seeds: bool,
    /// The positions of the torrents in the queue, from 0.
    queue_positions: BTreeMap<TorrentId, usize>,
    /// The rates and settings that were last sent to open pages.
    last_sent_session: Option<(u64, u64, SessionSettings)>,
    is_ending: bool,
}

/// The limits that torrents share.
#[derive(Default)]
struct SharedLimits {
    /// Those of the bandwidth groups that were used.
    groups: BTreeMap<String, Arc<LimitGroup>>,
    /// Whether the schedule asked for the alternative limits when it was last read.
    was_alt_speed_scheduled: bool,
}

/// The work of other threads, and the requests that wait for it.
#[derive(Default)]
struct BackgroundWork {
    file_jobs: FileJobs,
    /// Requests that add torrents which are just being removed, and where the answers go: one for each worker at most.
    waiting_adds: Vec<(ControlRequest, Sender<Result<Answer, ControlError>>)>,
}

/// When the manager did what it does from time to time.
struct ManagerClock {
    /// When the service started.
    started_at: Instant,
    /// When the stats of running torrents were last read.
    last_tick: Instant,
    /// When changed stats were last saved.
    last_save: Instant,
}

impl Manager {
    /// Opens the state folder and starts a client; no torrent runs yet.
    pub fn new(options: &ServiceOptions) -> Result<(Manager, Arc<ServiceControl>), ServiceError> {
        descriptors::keep_free(KEPT_FREE);
        let state_folder = StateFolder::open(&options.state_folder)?;
        let SavedState { settings, mut session, records, left_out } = state_folder.load()?;
        let settings = with_options(settings.unwrap_or_default(), options);
        let base = client_builder(options, state_folder.path())?;
        let list_copy = state_folder.path().join("block-list");
        let block_list =
            ServiceBlockList::start(options.block_list.as_deref(), &settings.block_list, list_copy, base.route())?;
        let client = start_client(&settings, &base, block_list.filter())?;
        let (to_manager, receiver) = manager_channel(MAX_WAITING);
        let control = Arc::new(ServiceControl {
            published: Mutex::new(PublishedState::new(session.sums)),
            manager: to_manager,
            fetcher: TorrentFetcher::default(),
            pending: Mutex::default(),
            client: Mutex::new(Some(client.clone())),
            links: FileLinkKey::generate(),
            page_events: Arc::default(),
            base,
            block_list,
            notices: notices(&left_out),
            state_folder: state_folder.path().to_owned(),
            allowed_folders: [&options.allowed_folders[..], std::slice::from_ref(&options.download_folder)].concat(),
            metainfos: Mutex::default(),
        });
        session.sums.sessions += 1;
        let mut private_folders = options.private_folders.clone();
        private_folders.push(state_folder.path().to_owned());
        let identity = || TorrentIdentity::for_route(control.base.route(), None);
        let mut permitted = PermittedFolders::new(&control.allowed_folders);
        let mut known = |mut record| {
            let refused_folder = permitted.restrict(&mut record);
            ManagedTorrent {
                is_known_complete: refused_folder.is_none(),
                refused_folder,
                ..ManagedTorrent::new(record, identity())
            }
        };
        let torrents = records.into_iter().map(|record| (record.id, known(record))).collect();
        let now = Instant::now();
        let mut manager = Manager {
            control: control.clone(),
            state_folder,
            settings,
            session,
            saved_next_id: 0,
            torrents,
            client: CurrentClient { current: Some(client), is_outdated: false },
            limits: SharedLimits::default(),
            dormant: DormantSeeds::new(options.seed_dormant_after, now),
            work: BackgroundWork::default(),
            receiver,
            clock: ManagerClock { started_at: now, last_tick: now, last_save: now },
            private_folders,
            ignores_web_seeds: options.ignores_web_seeds,
            queue_positions: BTreeMap::new(),
            last_sent_session: None,
            is_ending: false,
        };
        // Before anybody asks.
        manager.update_queue_positions();
        manager.publish_all();
        Ok((manager, control))
    }

    /// Serves until it is told to shut down, then stops all torrents.
    pub fn run(mut self) {
        self.reconcile();
        loop {
            match self.receiver.messages.recv_timeout(self.sleep()) {
                Ok(message) => self.handle(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => self.is_ending = true,
            }
            // A batch of messages costs one look at the torrents.
            while !self.is_ending()
                && let Ok(message) = self.receiver.messages.try_recv()
            {
                self.handle(message);
            }
            if self.is_ending() {
                break;
            }
            self.tick();
        }
        self.stop_all();
    }

    /// Whether the service ends: the request for it waits behind no other message.
    fn is_ending(&mut self) -> bool {
        self.is_ending |= self.receiver.is_ending.is_set();
        self.is_ending
    }

    fn handle(&mut self, message: ManagerMessage) {
        match message {
            ManagerMessage::Request(request, reply) if self.waits_for_removal(&request) => {
                self.work.waiting_adds.push((request, reply));
            }
            ManagerMessage::Request(request, reply) => {
                if matches!(request, ControlRequest::Change(..) | ControlRequest::ChangeSettings(_)) {
                    self.dormant.read_soon(); // their goals may have changed
                }
                let answer = self.carry_out(request);
                let answer = answer.and_then(|answer| self.sync_state().map(|()| answer));
                self.reconcile();
                // The sender may ask for them next.
                self.publish_stats();
                let _ = reply.try_send(answer);
            }
            ManagerMessage::TorrentEvents(id) => self.drain_events(id),
            // `apply_dormancy` reads them at the end of the turn.
            ManagerMessage::WakeRequested => {}
            ManagerMessage::FileJobDone(id, result) => {
                self.finish_file_job(id, result);
                for (request, reply) in std::mem::take(&mut self.work.waiting_adds) {
                    self.handle(ManagerMessage::Request(request, reply));
                }
            }
            ManagerMessage::ShutDown => self.is_ending = true,
        }
    }

    /// Whether a request adds a torrent that is just being removed.
    fn waits_for_removal(&self, request: &ControlRequest) -> bool {
        let ControlRequest::Add(new) = request else { return false };
        let is_it =
            |torrent: &ManagedTorrent| torrent.record.removal.is_some() && torrent.record.info_hash == new.info_hash;
        !self.is_ending && self.torrents.values().any(is_it)
    }

    fn sleep(&self) -> Duration {
        if self.torrents.values().any(ManagedTorrent::is_stopping) {
            return STOPPING_TICK;
        }
        if self.torrents.values().any(ManagedTorrent::is_active) || self.control.page_events.has_listeners() {
            return TICK.saturating_sub(self.clock.last_tick.elapsed());
        }
        MAX_SLEEP
    }

    /// Reads stats, follows the schedule, and starts and stops torrents, as far as that is due.
    fn tick(&mut self) {
        self.collect_ended();
        self.tick_dormant();
        if self.clock.last_tick.elapsed() >= TICK {
            let elapsed = self.clock.last_tick.elapsed();
            self.clock.last_tick = Instant::now();
            self.drain_all_events();
            self.read_stats(elapsed);
            self.follow_schedule();
            self.publish_stats();
            self.publish_page_events();
        }
        self.reconcile();
        self.apply_dormancy();
        if self.clock.last_save.elapsed() >= SAVE_INTERVAL {
            self.save_stats(MAX_SAVED);
        }
    }

    /// Sends open pages what has changed.
    fn publish_page_events(&mut self) {
        let page_events = self.control.page_events.clone();
        if !page_events.has_listeners() {
            return;
        }
        let (changed, stats) = {
            let published = self.control.published.lock();
            (change_times(&published), (published.stats.down_rate, published.stats.up_rate, published.settings.clone()))
        };
        let has_session_changed = self.last_sent_session.as_ref() != Some(&stats);
        self.last_sent_session = Some(stats);
        page_events.publish_changes(&*self.control, &changed, has_session_changed);
    }

    /// Stops all torrents and saves everything.
    fn stop_all(&mut self) {
        // Those who wait for an answer need not wait for the torrents.
        self.receiver.alive = None;
        let ids: Vec<TorrentId> = self.torrents.keys().copied().collect();
        for id in ids {
            self.stop_run(id);
            self.end_dormancy(id);
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        while self.torrents.values().any(|torrent| torrent.handle().is_some()) && Instant::now() < deadline {
            self.collect_ended();
            std::thread::sleep(STOPPING_TICK);
        }
        let going_dormant: Vec<TorrentId> = self
            .torrents
            .iter()
            .filter(|(_, torrent)| matches!(torrent.state, ManagedState::Dormant(_)))
            .map(|(id, _)| *id)
            .collect();
        for id in going_dormant {
            self.end_dormancy(id);
        }
        self.save_stats(usize::MAX);
        self.work.file_jobs.stop();
    }
}

/// The saved settings with those that the options set.
fn with_options(mut settings: SessionSettings, options: &ServiceOptions) -> SessionSettings {
    if settings.download_folder.as_os_str().is_empty() {
        settings.download_folder.clone_from(&options.download_folder);
    }
    if let Some(port) = options.peer_port {
        settings.network.port = port;
    }
    if !matches!(options.port_mapping, PortMapping::Auto { .. }) {
        settings.network.maps_port = None; // the option decides
    }
    if options.transports.is_some() {
        settings.network.uses_utp = None; // likewise
    }
    settings
}

/// The builder of each of the service's clients, without what the settings decide.
fn client_builder(options: &ServiceOptions, state_folder: &Path) -> Result<ClientBuilder, ClientError> {
    let mut dht = options.dht.clone();
    dht.state_file.get_or_insert_with(|| state_folder.join("dht.dat"));
    let base = Client::builder().proxy(options.proxy.as_deref())?.dht(Some(dht));
    let base = base.transports(options.transports.unwrap_or_default());
    Ok(base.port_mapping(options.port_mapping).anonymous(options.is_anonymous))
}

/// What to tell users about torrents that are left out. The log has all of them.
fn notices(left_out: &[String]) -> Vec<String> {
    let more = left_out.len().saturating_sub(MAX_NOTICES);
    let more = (more > 0).then(|| format!("{more} more torrents are left out: see the log"));
    left_out.iter().take(MAX_NOTICES).map(|torrent| format!("A torrent is left out: {torrent}")).chain(more).collect()
}
