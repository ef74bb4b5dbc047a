//! The state that main and a torrent's handles share.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::thread::ThreadId;
use std::time::Instant;

use crossbeam_channel::Sender;
use parking_lot::{Condvar, Mutex};

use crate::metainfo::Metainfo;
use crate::peer::{PeerEvent, RunControl, Throttle, TorrentContext, TorrentMessage, TorrentThrottle};
use crate::storage::{CheckProgress, StopCheck as _, Storage};
use crate::strategy::peer_list::PeerSource;
use crate::torrent::config::{SeedGoal, TorrentConfig};
use crate::torrent::events::Events;
use crate::torrent::kept_connections::KeptConnections;
use crate::torrent::peer_search::PeerSearchStats;
use crate::torrent::piece_order::OrderSettings;
use crate::torrent::reopening::ReopenRequests;
use crate::torrent::streams::StreamRegistry;
use crate::torrent::views::{Stage, TrackerView};
use crate::torrent::{Outcome, TorrentError};
use crate::types::{Bitfield, InfoHash, PeerKey};
use crate::util::atomics::{Amount, Counter, Flag, SharedByte};

/// How often main waits for a descriptor, a tenth of a second each time, while the torrent ends.
const MAX_WAITS_AT_END: usize = 10;

/// How the torrent ended, once it has.
#[derive(Default)]
struct TorrentEnd {
    state: Mutex<EndState>,
    changed: Condvar,
}

/// Whether and how the torrent ended.
#[derive(Default)]
enum EndState {
    #[default]
    Running,
    Ended(TorrentResult),
    Panicked,
}

pub(crate) type TorrentResult = Result<Outcome, Arc<TorrentError>>;

/// Ends the torrent when it is dropped, whether it has a result or not.
pub(crate) struct EndGuard<'a>(&'a TorrentInner);

impl EndGuard<'_> {
    /// The torrent has ended like this.
    pub fn set(&self, result: TorrentResult) {
        *self.0.end.state.lock() = EndState::Ended(result);
    }
}

impl Drop for EndGuard<'_> {
    fn drop(&mut self) {
        self.0.streams.end();
        let mut state = self.0.end.state.lock();
        if matches!(*state, EndState::Running) {
            *state = EndState::Panicked;
        }
        self.0.end.changed.notify_all();
    }
}

/// How much of a magnet link's metadata has arrived, for display.
#[derive(Default)]
pub(crate) struct MetadataProgress {
    received: Amount,
    total: Amount,
}

impl MetadataProgress {
    /// Sets the numbers of pieces: those that have arrived, and all, which is 0 while it is unknown.
    pub fn set(&self, received: usize, total: usize) {
        self.received.set(received);
        self.total.set(total);
    }

    /// The numbers of pieces, as in [`MetadataProgress::set`].
    pub fn get(&self) -> (usize, usize) {
        (self.received.get(), self.total.get())
    }
}

/// A value that becomes known while a torrent runs, and changes when its files are opened again.
pub(crate) struct Latest<T>(Mutex<Option<T>>);

impl<T> Default for Latest<T> {
    fn default() -> Latest<T> {
        Latest(Mutex::new(None))
    }
}

impl<T: Clone> Latest<T> {
    /// Sets the value.
    pub fn set(&self, value: T) {
        *self.0.lock() = Some(value);
    }

    /// The value, once it is known.
    pub fn get(&self) -> Option<T> {
        self.0.lock().clone()
    }
}

/// What becomes known of a torrent while it runs.
#[derive(Default)]
pub(crate) struct TorrentFacts {
    /// The torrent's name and size.
    pub name_and_size: OnceLock<(String, u64)>,
    /// See [`TorrentHandle::content_path`](crate::torrent::TorrentHandle::content_path); empty if there is no such path.
    pub content_path: Latest<PathBuf>,
    /// The metadata of a magnet link, if nothing else was asked for.
    pub metainfo: OnceLock<Metainfo>,
    /// The pieces that the last check found complete.
    pub found_pieces: Latest<Bitfield>,
    /// The bytes of the wanted pieces, and of those among them that the last check found complete.
    pub wanted_bytes: Latest<(u64, u64)>,
}

/// How far a torrent is, for display.
#[derive(Default)]
pub(crate) struct TorrentProgress {
    pub stage: SharedByte,
    pub metadata: MetadataProgress,
    pub check: CheckProgress,
    /// Payload bytes sent in earlier runs.
    pub uploaded_before: Counter,
}

/// What programs ask for regarding trackers.
#[derive(Default)]
pub(crate) struct TrackerRequests {
    /// The trackers by tier, in place of those of the torrent and of its configuration.
    pub tiers: Mutex<Option<Vec<Vec<String>>>>,
    /// They have been replaced, and main has not applied that yet.
    pub replaced: Flag,
    /// An announce was asked for.
    pub reannounce: Flag,
}

/// What main and the handles share about peers.
#[derive(Default)]
pub(crate) struct SharedPeers {
    /// The figures about the search for peers.
    pub search: Mutex<PeerSearchStats>,
    /// The number of known addresses.
    pub known: Amount,
    /// The source of each address that we are connected to or dial.
    pub sources: Mutex<HashMap<PeerKey, PeerSource>>,
    /// What programs see of the trackers.
    pub tracker_views: Mutex<Vec<TrackerView>>,
    /// What programs ask for regarding trackers.
    pub tracker_requests: TrackerRequests,
    /// Peers that the program added since the torrent was created, and where it has them from.
    pub added: Mutex<Vec<(SocketAddr, PeerSource)>>,
    /// Connections without threads, while the files of a magnet link are checked.
    pub kept_connections: KeptConnections,
}

/// The state that main and a torrent's handles share.
pub(crate) struct TorrentInner {
    /// The torrent's info-hash.
    pub info_hash: InfoHash,
    /// The name to display before the metadata is known.
    pub display_name: String,
    /// When to stop seeding.
    pub seed_goal: SeedGoal,
    pub started: Instant,
    /// Whether the torrent runs, is paused or has to stop.
    pub run: Arc<RunControl>,
    /// The rate limits that apply to the torrent.
    pub throttle: Arc<TorrentThrottle>,
    /// The most connections that the torrent may have.
    pub max_peers: Arc<Amount>,
    /// In which order the program wants the pieces.
    pub order: Mutex<OrderSettings>,
    /// What the program wants changed of the files.
    pub reopening: ReopenRequests,
    /// Readers that wait for pieces.
    pub streams: StreamRegistry,
    pub messages: Sender<TorrentMessage>,
    pub facts: TorrentFacts,
    pub progress: TorrentProgress,
    pub peers: SharedPeers,
    /// The context that the connections share; set while there can be connections.
    pub context: Mutex<Option<Arc<TorrentContext>>>,
    /// Main, once it runs.
    pub main_thread: OnceLock<ThreadId>,
    /// Whether the user has been warned that there are no file descriptors left.
    warned_no_descriptors: Flag,
    /// How often main has waited for a descriptor while the torrent ends.
    waits_at_end: Amount,
    /// The torrent does not tell trackers that it stops.
    pub is_quiet: Flag,
    /// The events, for handles of a torrent that the client runs.
    events: Mutex<Option<Events>>,
    end: TorrentEnd,
}

impl TorrentInner {
    /// The state of a torrent that has not started.
    pub fn new(
        info_hash: InfoHash,
        display_name: String,
        config: &TorrentConfig,
        client: Arc<Throttle>,
        messages: Sender<TorrentMessage>,
    ) -> TorrentInner {
        let throttle = TorrentThrottle::new(client);
        throttle.set(config.rates.limits);
        throttle.set_group(config.rates.group.clone());
        throttle.set_ignores_client(config.rates.ignores_client_limits);
        TorrentInner {
            info_hash,
            display_name,
            seed_goal: config.seed,
            started: Instant::now(),
            run: Arc::default(),
            throttle: Arc::new(throttle),
            max_peers: Arc::new(Amount::new(config.client.max_peers)),
            order: Mutex::new(OrderSettings {
                is_sequential: config.files.is_sequential,
                priorities: config.files.priorities.clone(),
            }),
            reopening: ReopenRequests::default(),
            streams: StreamRegistry::default(),
            messages,
            facts: TorrentFacts::default(),
            progress: TorrentProgress::default(),
            peers: SharedPeers {
                tracker_requests: TrackerRequests {
                    tiers: Mutex::new(config.search.tiers.clone()),
                    ..TrackerRequests::default()
                },
                ..SharedPeers::default()
            },
            context: Mutex::new(None),
            main_thread: OnceLock::new(),
            warned_no_descriptors: Flag::default(),
            waits_at_end: Amount::new(0),
            is_quiet: Flag::default(),
            events: Mutex::default(),
            end: TorrentEnd::default(),
        }
    }

    /// To be held while the torrent runs.
    pub fn end_guard(&self) -> EndGuard<'_> {
        EndGuard(self)
    }

    /// Waits until the torrent has ended, and returns how.
    ///
    /// # Panics
    /// If the torrent's thread panicked.
    pub fn wait_for_end(&self) -> TorrentResult {
        let mut state = self.end.state.lock();
        loop {
            match &*state {
                EndState::Ended(result) => return result.clone(),
                EndState::Panicked => panic!("the torrent's thread panicked"),
                EndState::Running => self.end.changed.wait(&mut state),
            }
        }
    }

    /// How the torrent has ended; `None` while it runs.
    ///
    /// # Panics
    /// If the torrent's thread panicked.
    pub fn end_so_far(&self) -> Option<TorrentResult> {
        match &*self.end.state.lock() {
            EndState::Ended(result) => Some(result.clone()),
            EndState::Panicked => panic!("the torrent's thread panicked"),
            EndState::Running => None,
        }
    }

    /// Keeps the events for [`TorrentHandle::events`](crate::torrent::TorrentHandle::events).
    pub fn keep_events(&self, events: Events) {
        *self.events.lock() = Some(events);
    }

    /// The events that [`TorrentInner::keep_events`] kept, if any.
    pub fn kept_events(&self) -> Option<Events> {
        self.events.lock().clone()
    }

    /// Sets the current stage.
    pub fn set_stage(&self, stage: Stage) {
        self.progress.stage.set(stage as u8);
    }

    /// A thread found no descriptor for a file: main drops a peer. Returns whether to try again. Main
    /// itself must not wait once there are peers, as no other thread drops any. While the torrent ends, its peers go too.
    pub fn wait_for_descriptor(&self) -> bool {
        if !self.warned_no_descriptors.swap(true) {
            log::warn!("no file descriptors are left: btsync disconnects peers until there are some");
        }
        self.peers.kept_connections.close_some();
        let _ = self.messages.try_send(PeerEvent::OutOfDescriptors.into());
        let checking = self.progress.stage.get() == Stage::Checking as u8;
        let is_main = self.main_thread.get() == Some(&std::thread::current().id());
        let leaving = || self.context().is_some_and(|context| context.are_connections_ending());
        let is_stopped = self.run.is_stopped();
        if is_main && (is_stopped || leaving()) {
            return self.may_wait_at_end();
        }
        !is_stopped && (checking || !(is_main || leaving()))
    }

    /// Whether main may wait once more for a descriptor while the torrent ends: for a second in all, so that it ends soon, but a
    /// complete download does not keep its marker.
    fn may_wait_at_end(&self) -> bool {
        self.waits_at_end.add_one_below(MAX_WAITS_AT_END)
    }

    /// The same storage, set up to wait for descriptors as long as the torrent runs, and to stop going through many files when it
    /// stops.
    pub fn with_descriptor_wait(self: &Arc<TorrentInner>, storage: Storage) -> Storage {
        let waits = Arc::downgrade(self);
        storage.wait_for_descriptors(move || waits.upgrade().is_some_and(|inner| inner.wait_for_descriptor()));
        let run = self.run.clone();
        storage.set_stop_check(move || run.is_stopped());
        storage
    }

    /// Applies the order in which the program wants the pieces, after `change`.
    pub fn change_order(&self, change: impl FnOnce(&mut OrderSettings)) {
        let mut order = self.order.lock();
        change(&mut order);
        if let Some(context) = self.context().filter(|context| !context.settings.is_fetching_metadata) {
            let storage = context.pieces.storage();
            context.pieces.set_sequential(order.is_sequential);
            context.pieces.set_priorities(order.piece_priorities(storage.layout(), |file| storage.wants(file)));
        }
    }

    /// The context that the connections of the current phase share.
    pub fn context(&self) -> Option<Arc<TorrentContext>> {
        self.context.lock().clone()
    }
}
