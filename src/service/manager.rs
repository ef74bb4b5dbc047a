//! The thread that owns the torrents of a service: it carries out requests one after the other, saves what they change before
//! it answers, and starts and stops torrents so that what runs is what the records and the queue ask for.

mod changes;
mod client;
mod dormant;
mod events;
mod figures;
mod file_tasks;
mod managed_torrent;
mod queue_order;
mod reconcile;
mod requests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender};
use parking_lot::Mutex;

use crate::client::Client;
use crate::peer::LimitGroup;
use crate::service::board::{Board, Shared, changes_of};
use crate::service::fetches::Fetches;
use crate::service::file_jobs::FileJobs;
use crate::service::inbox::{InboxReceiver, inbox};
use crate::service::links::LinkKey;
use crate::service::messages::{Answer, ControlRequest, ManagerMessage};
use crate::service::model::{ControlError, TorrentId};
use crate::service::options::{ServiceError, ServiceOptions};
use crate::service::settings::SessionSettings;
use crate::service::state_folder::{SavedState, SessionRecord, StateFolder};
pub use changes::limits as limits_of;
use client::start_client;
use dormant::WakeRequests;
use managed_torrent::{ManagedState, ManagedTorrent};

/// How often the figures of running torrents are read.
const TICK: Duration = Duration::from_secs(1);
/// How often a torrent that stops is looked at.
const STOPPING_TICK: Duration = Duration::from_millis(50);
/// How long changed figures may stay unsaved. Settings and what the user wants are saved at once.
const SAVE_INTERVAL: Duration = Duration::from_secs(60);
/// The most dormant seeds whose figures are saved at a time.
const MAX_SAVED: usize = 50;
/// The longest sleep, so that the schedule of the alternative limits is followed.
const LONGEST_SLEEP: Duration = Duration::from_secs(20);
/// Requests and events that may wait for the manager.
const MAX_WAITING: usize = 1024;
/// The most torrents that are left out and named to users of the page.
const MAX_NOTICES: usize = 3;
/// How long the torrents may take to stop when the service ends.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// See the module's documentation.
pub struct Manager {
    shared: Arc<Shared>,
    state: StateFolder,
    settings: SessionSettings,
    session: SessionRecord,
    torrents: BTreeMap<TorrentId, ManagedTorrent>,
    /// `None` while it is replaced because its settings have changed.
    client: Option<Arc<Client>>,
    /// Whether the client must be replaced once no torrent uses it.
    replaces_client: bool,
    jobs: FileJobs,
    inbox: InboxReceiver,
    started: Instant,
    ticked: Instant,
    saved: Instant,
    /// Whether the schedule asked for the alternative limits when it was last looked at.
    was_in_span: bool,
    private_folders: Vec<PathBuf>,
    /// The positions of the torrents in the queue, from 0.
    queue_positions: BTreeMap<TorrentId, usize>,
    /// The limits of bandwidth groups that were used.
    groups: BTreeMap<String, Arc<LimitGroup>>,
    /// Dormant seeds that have to start.
    wake_requests: WakeRequests,
    /// How long a seed runs without peers.
    dormant_after: Duration,
    /// When the dormant seeds were last read.
    last_dormant_tick: Instant,
    /// When they are to be read next.
    next_dormant_tick: Instant,
    /// The rates and settings that open pages know.
    told_session: Option<(u64, u64, SessionSettings)>,
    is_ending: bool,
    /// Requests that add torrents which are just being removed, and where the answers go: one for each worker at most.
    waiting: Vec<(ControlRequest, Sender<Result<Answer, ControlError>>)>,
}

impl Manager {
    /// Opens the state folder and starts a client; no torrent runs yet.
    pub fn new(options: &ServiceOptions) -> Result<(Manager, Arc<Shared>), ServiceError> {
        let state = StateFolder::open(&options.state_folder)?;
        let SavedState { settings, mut session, records, left_out } = state.load()?;
        let mut settings = settings.unwrap_or_default();
        if settings.download_folder.as_os_str().is_empty() {
            settings.download_folder.clone_from(&options.download_folder);
        }
        if let Some(port) = options.peer_port {
            settings.network.port = port;
        }
        let mut dht = options.dht.clone();
        dht.state_file.get_or_insert_with(|| state.path().join("dht.dat"));
        let client = start_client(&settings, Some(dht.clone()), options.block_list.as_deref())?;
        let (to_manager, inbox) = inbox(MAX_WAITING);
        let shared = Arc::new(Shared {
            board: Mutex::new(Board::new(session.sums)),
            inbox: to_manager,
            fetches: Fetches::default(),
            pending: Mutex::default(),
            client: Mutex::new(Some(client.clone())),
            links: LinkKey::generate(),
            page_events: Arc::default(),
            dht,
            block_list: options.block_list.clone(),
            notices: notices(&left_out),
            state_folder: state.path().to_owned(),
            allowed_folders: [&options.allowed_folders[..], std::slice::from_ref(&options.download_folder)].concat(),
            metainfos: Mutex::default(),
        });
        session.sums.sessions += 1;
        let mut private_folders = options.private_folders.clone();
        private_folders.push(state.path().to_owned());
        let known = |record| ManagedTorrent { is_known_complete: true, ..ManagedTorrent::new(record) };
        let torrents = records.into_iter().map(|record| (record.id, known(record))).collect();
        let now = Instant::now();
        let mut manager = Manager {
            shared: shared.clone(),
            state,
            settings,
            session,
            torrents,
            client: Some(client),
            replaces_client: false,
            jobs: FileJobs::default(),
            inbox,
            started: now,
            ticked: now,
            saved: now,
            was_in_span: false,
            private_folders,
            queue_positions: BTreeMap::new(),
            groups: BTreeMap::new(),
            wake_requests: WakeRequests::default(),
            dormant_after: options.seed_dormant_after,
            last_dormant_tick: now,
            next_dormant_tick: now,
            told_session: None,
            is_ending: false,
            waiting: Vec::new(),
        };
        // Before anybody asks.
        manager.count_queue();
        manager.publish_all();
        Ok((manager, shared))
    }

    /// Serves until it is told to shut down, then stops all torrents.
    pub fn run(mut self) {
        self.reconcile();
        loop {
            match self.inbox.messages.recv_timeout(self.sleep()) {
                Ok(message) => self.handle(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => self.is_ending = true,
            }
            // A batch of messages costs one look at the torrents.
            while !self.is_ending()
                && let Ok(message) = self.inbox.messages.try_recv()
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
        self.is_ending |= self.inbox.is_ending.is_set();
        self.is_ending
    }

    fn handle(&mut self, message: ManagerMessage) {
        match message {
            ManagerMessage::Request(request, reply) if self.must_wait(&request) => self.waiting.push((request, reply)),
            ManagerMessage::Request(request, reply) => {
                if matches!(request, ControlRequest::Change(..) | ControlRequest::ChangeSettings(_)) {
                    self.next_dormant_tick = Instant::now(); // their goals may have changed
                }
                let answer = self.carry_out(request);
                let answer = answer.and_then(|answer| self.confirm().map(|()| answer));
                self.reconcile();
                // The sender may ask for them next.
                self.publish_stats();
                let _ = reply.try_send(answer);
            }
            ManagerMessage::Look(id) => self.drain_events(id),
            // The turn ends with a look at them.
            ManagerMessage::WakeRequested => {}
            ManagerMessage::JobDone(id, result) => {
                self.finish_job(id, result);
                for (request, reply) in std::mem::take(&mut self.waiting) {
                    self.handle(ManagerMessage::Request(request, reply));
                }
            }
            ManagerMessage::ShutDown => self.is_ending = true,
        }
    }

    /// Whether a request adds a torrent that is just being removed.
    fn must_wait(&self, request: &ControlRequest) -> bool {
        let ControlRequest::Add(new) = request else { return false };
        let is_it =
            |torrent: &ManagedTorrent| torrent.record.removal.is_some() && torrent.record.info_hash == new.info_hash;
        !self.is_ending && self.torrents.values().any(is_it)
    }

    fn sleep(&self) -> Duration {
        if self.torrents.values().any(ManagedTorrent::is_stopping) {
            return STOPPING_TICK;
        }
        if self.torrents.values().any(ManagedTorrent::is_active) || self.shared.page_events.has_listeners() {
            return TICK.saturating_sub(self.ticked.elapsed());
        }
        LONGEST_SLEEP
    }

    /// Reads figures, follows the schedule, and starts and stops torrents, as far as that is due.
    fn tick(&mut self) {
        self.collect_ended();
        self.tick_dormant();
        if self.ticked.elapsed() >= TICK {
            let elapsed = self.ticked.elapsed();
            self.ticked = Instant::now();
            self.drain_all_events();
            self.read_figures(elapsed);
            self.follow_schedule();
            self.publish_stats();
            self.tell_page();
        }
        self.reconcile();
        self.apply_dormancy();
        if self.saved.elapsed() >= SAVE_INTERVAL {
            self.save_figures(MAX_SAVED);
        }
    }

    /// Tells open pages what has changed.
    fn tell_page(&mut self) {
        let page_events = self.shared.page_events.clone();
        if !page_events.has_listeners() {
            return;
        }
        let (changed, stats) = {
            let board = self.shared.board.lock();
            (changes_of(&board), (board.stats.down_rate, board.stats.up_rate, board.settings.clone()))
        };
        let has_session_changed = self.told_session.as_ref() != Some(&stats);
        self.told_session = Some(stats);
        page_events.tell(&*self.shared, &changed, has_session_changed);
    }

    /// Stops all torrents and saves everything.
    fn stop_all(&mut self) {
        // Those who wait for an answer need not wait for the torrents.
        self.inbox.alive = None;
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
        self.save_figures(usize::MAX);
        self.jobs.stop();
    }
}

/// What to tell users about torrents that are left out. The log has all of them.
fn notices(left_out: &[String]) -> Vec<String> {
    let more = left_out.len().saturating_sub(MAX_NOTICES);
    let more = (more > 0).then(|| format!("{more} more torrents are left out: see the log"));
    left_out.iter().take(MAX_NOTICES).map(|torrent| format!("A torrent is left out: {torrent}")).chain(more).collect()
}
