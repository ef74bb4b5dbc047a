//! The peers of a torrent: how we find them (trackers, the DHT, local discovery, peer exchange), which ones we dial,
//! and which connections we accept.
//!
//! It is created once and passed from the metadata phase to the download, so that a magnet link's download does not start its
//! search anew. `announcer` contacts trackers, `block_list` applies the block list, `connecting` opens and closes connections,
//! `accepting` accepts them, `discovery` runs the DHT and local service discovery, `pex` is peer exchange, `hole_punch` connects
//! peers behind routers, and `shut_down` ends everything.

mod accepting;
mod announcer;
mod block_list;
mod connecting;
mod discovery;
mod handover;
mod hole_punch;
mod pex;
mod port_mapping;
mod shut_down;
mod stop_timeout;
mod tracker_views;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use crate::client::Registration;
use crate::peer::{ActiveInGroup, PeerEvent, StopReason, TorrentCommand, TorrentContext, TorrentMessage, TrackerEvent};
use crate::strategy::hole_punch::HolePunch;
use crate::strategy::peer_list::{PeerList, PeerSource};
use crate::torrent::connection_entry::{ConnectionAddress, ConnectionEntry};
use crate::torrent::events::{Event, EventSender};
use crate::torrent::peer_search::PeerSearchStats;
use crate::torrent::{TorrentConfig, TorrentInner, send_event};
use crate::types::{InfoHash, PeerKey};

pub use announcer::Announcer;
pub use discovery::{Discovery, LoopEvent};
use stop_timeout::{ReceivedData, StopTimeout};

/// How many ignored trackers a warning names.
const MAX_TRACKERS_IN_WARNING: usize = 3;
/// At most this many addresses from trackers are kept until it is known whether the torrent is private.
const MAX_TRACKER_PEERS: usize = 500;
/// With fewer connections than this, a download needs more peers.
const FEW_PEERS: usize = 8;
/// If no peer has been reached for this long, trackers of later tiers are asked too.
const UNREACHED: Duration = Duration::from_secs(30);
/// While nothing arrives for this long, addresses that failed are dialled again soon, as if no peer were connected.
const STALLED_AFTER: Duration = Duration::from_secs(10);
/// While peers are needed, how often the DHT's figures are updated for display.
const DHT_STATUS_INTERVAL: Duration = Duration::from_secs(2);

/// See the module's documentation.
pub struct PeerManager<'a> {
    pub inner: &'a TorrentInner,
    pub config: Arc<TorrentConfig>,
    pub events: EventSender,
    pub peer_list: PeerList,
    pub connections: HashMap<PeerKey, ConnectionEntry>,
    /// Ended connections and whether they were incoming; the latest last.
    ended_connections: VecDeque<(PeerKey, ConnectionAddress)>,
    next: DueTimes,
    hole_punch: HolePunch,
    /// Limits evictions of connections that may belong to honest peers.
    eviction_limiter: crate::strategy::eviction::EvictionLimiter,
    pub announcer: Announcer,
    pub discovery: Discovery,
    /// Our registration with the client, which shares the port, the DHT, the limits and the number of connections.
    pub registration: Registration,
    /// Whether only trackers may provide peers (BEP 27).
    is_private: bool,
    /// Whether everything wanted is complete, so that no more peers are needed.
    pub is_complete: bool,
    /// Peers from trackers, kept as long as the torrent may turn out to be private.
    tracker_peers: Vec<SocketAddr>,
    stop_timeout: StopTimeout,
    /// The version of the block list that was applied to the connections.
    block_list_version: u64,
    /// Which change of the router's answer was applied last.
    mapping_version: usize,
    /// The torrent counts among those that share rate limits.
    active_in_group: ActiveInGroup,
}

/// When the peer manager does what again; times of the torrent's clock.
#[derive(Default)]
struct DueTimes {
    dial: Duration,
    /// When to ask trackers of later tiers, while no peer has been reached.
    further_trackers: Option<Duration>,
    /// The next peer exchange.
    pex: Duration,
    /// Until when no connection is accepted, because there are no descriptors.
    descriptors_short_until: Duration,
    /// Until when not to warn again that an incoming connection cannot be served.
    accept_warning: Duration,
}

impl<'a> PeerManager<'a> {
    /// Takes a registration that listens, adds the peers from the configuration, and starts discovery as far as it is allowed.
    /// A private torrent gets peers only from its trackers (BEP 27). With `has_web_seeds`, peers are not its only source of data.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        inner: &'a TorrentInner,
        config: Arc<TorrentConfig>,
        events: EventSender,
        info_hash: InfoHash,
        tiers: &[Vec<String>],
        is_private: bool,
        has_web_seeds: bool,
        registration: Registration,
    ) -> PeerManager<'a> {
        let replaced = inner.peers.tracker_requests.tiers.lock().clone();
        let mut announcer = Announcer::new(tiers, &config, replaced);
        if is_private {
            announcer.ask_one_at_a_time();
        }
        let discovery = if is_private {
            Discovery::none()
        } else {
            Discovery::start(&config, info_hash, &registration, inner.started.elapsed())
        };
        if !announcer.unsupported().is_empty() {
            let all = announcer.unsupported();
            let more = if all.len() > MAX_TRACKERS_IN_WARNING { ", …" } else { "" };
            let named: Vec<_> = all.iter().take(MAX_TRACKERS_IN_WARNING).map(String::as_str).collect();
            log::warn!("btsync ignores trackers whose URLs are not http, https or udp: {}{more}", named.join(", "));
        }
        if announcer.is_empty()
            && config.search.peers.is_empty()
            && config.search.link_peers.is_empty()
            && config.search.web_seeds.is_empty()
            && !has_web_seeds
            && discovery.is_none()
        {
            send_event(&events, Event::NoPeerSource { unsupported: announcer.unsupported().to_vec() });
        }
        let peer_list = PeerList::new(config.connections.encryption);
        let mut peer_manager = PeerManager {
            inner,
            stop_timeout: StopTimeout::new(config.stop_timeout, inner.started.elapsed()),
            config,
            events,
            peer_list,
            connections: HashMap::new(),
            ended_connections: VecDeque::new(),
            next: DueTimes::default(),
            hole_punch: HolePunch::default(),
            eviction_limiter: crate::strategy::eviction::EvictionLimiter::default(),
            announcer,
            discovery,
            registration,
            is_private,
            is_complete: false,
            tracker_peers: Vec::new(),
            active_in_group: inner.throttle.activate(),
            block_list_version: 0,
            mapping_version: 0,
        };
        peer_manager.add_configured_peers();
        peer_manager
    }

    /// The same with another configuration of the files.
    #[must_use]
    pub fn with_config(self, config: Arc<TorrentConfig>) -> PeerManager<'a> {
        PeerManager { config, ..self }
    }

    /// The port that we listen on.
    pub fn port(&self) -> u16 {
        self.registration.port()
    }

    /// Sets whether incoming connections are refused, as they are while files are checked.
    pub fn refuse_incoming(&self, refuses: bool) {
        self.registration.refuse_incoming(refuses);
    }

    /// Applies the metadata: if the torrent is private, only its trackers provide peers from now on.
    pub fn apply_metadata(&mut self, is_private: bool, now: Duration) {
        let named = std::mem::take(&mut self.tracker_peers);
        if is_private {
            self.is_private = true;
            self.drop_kept_connections(); // their addresses may have come from any source
            self.announcer.ask_one_at_a_time();
            self.discovery.stop(&self.registration);
            self.peer_list.forget(now);
            self.add_configured_peers();
            self.add_peers(&named, PeerSource::Tracker);
        }
    }

    /// Adds the peers of the configuration, of the program and of the magnet link.
    fn add_configured_peers(&mut self) {
        let config = self.config.clone();
        self.add_peers(&config.search.peers, PeerSource::User);
        self.add_users_peers();
        self.add_peers(&config.search.link_peers, PeerSource::MagnetLink);
    }

    /// Adds the peers that the program added since the torrent was created.
    fn add_users_peers(&mut self) {
        let peers = self.inner.peers.added.lock().clone();
        let new: usize = peers.iter().map(|(peer, source)| self.add_peers(&[*peer], *source)).sum();
        if new > 0 {
            self.next.dial = Duration::ZERO;
        }
    }

    /// Adds peers from a tracker. Returns how many are new.
    fn add_tracker_peers(&mut self, peers: &[SocketAddr]) -> usize {
        if self.inner.facts.name_and_size.get().is_none() {
            let new: Vec<_> = peers.iter().filter(|peer| !self.tracker_peers.contains(peer)).copied().collect();
            self.tracker_peers.extend(new.into_iter().take(MAX_TRACKER_PEERS - self.tracker_peers.len()));
        }
        self.add_peers(peers, PeerSource::Tracker)
    }

    /// Does what is due: announces, dials, peer exchange.
    pub fn tick(&mut self, context: &Arc<TorrentContext>, now: Duration) {
        self.check_stop_timeout(context, now);
        self.apply_tracker_requests(now);
        self.peer_list.set_time(now);
        self.inner.peers.known.set(self.peer_list.len());
        self.drop_surplus();
        self.apply_block_list();
        self.apply_port_mapping(context, now);
        self.peer_list.set_complete(self.is_complete);
        let needs_peers = self.needs_peers();
        let has_reached_none =
            !self.is_complete && self.connections.values().all(|entry| entry.handshake_done.is_none());
        // A connection that brings nothing, whatever it claims, is no reason to wait for others.
        let is_stalled = !self.is_complete && now >= self.stop_timeout.last_progress() + STALLED_AFTER;
        if self.peer_list.set_in_need(has_reached_none || is_stalled) {
            self.next.dial = Duration::ZERO;
        }
        if self.next.further_trackers.is_some() != has_reached_none {
            self.next.further_trackers = has_reached_none.then(|| now + UNREACHED);
        }
        if self.next.further_trackers.is_some_and(|due| now >= due) {
            self.next.further_trackers = Some(now + UNREACHED);
            self.announcer.ask_further_trackers(now);
        }
        self.announcer.start_due(context, now, needs_peers, self.peer_list.next_dial().is_none());
        self.publish_trackers(now);
        self.dial_due(context, now);
        self.publish_proxy_failure(context);
        self.send_pex(context, now);
        self.send_rendezvous(context, now);
        let has_started = self.discovery.retry_start(&self.config, context.settings.info_hash, &self.registration, now);
        if has_started && !context.settings.route.is_anonymous() {
            context.ports.dht.set(self.port());
        }
        self.discovery.check_reachability(now, self.registration.has_had_incoming_peer());
        if needs_peers {
            let mut search = self.inner.peers.search.lock();
            search.dht_nodes = self.discovery.dht_nodes();
            search.lsd_interfaces = self.discovery.lsd_interfaces();
        }
    }

    /// When the next of these is due.
    pub fn next_due(&self, now: Duration, context: &TorrentContext) -> Duration {
        let announce = self.announcer.next_due(now);
        let dial_due = if self.can_dial() {
            self.next.dial.max(self.next.descriptors_short_until).max(now + self.registration.dial_wait())
        } else {
            Duration::MAX
        };
        let pex = if context.settings.uses_pex && !self.connections.is_empty() { self.next.pex } else { Duration::MAX };
        let look =
            if self.needs_peers() && self.discovery.has_dht() { now + DHT_STATUS_INTERVAL } else { Duration::MAX };
        let give_up = if self.is_complete { Duration::MAX } else { self.stop_timeout.due(now) };
        let stalled = self.stop_timeout.last_progress() + STALLED_AFTER;
        let stalled = if self.is_complete || stalled <= now { Duration::MAX } else { stalled };
        // Nobody is asked while no peer can be dialled.
        let punch = self.hole_punch.requests.next_due().filter(|_| self.can_dial()).unwrap_or(Duration::MAX);
        let further = self.next.further_trackers.unwrap_or(Duration::MAX);
        announce
            .min(further)
            .min(give_up)
            .min(stalled)
            .min(dial_due)
            .min(pex)
            .min(punch)
            .min(look)
            .min(self.discovery.next_due())
    }

    /// Records progress, and stops the torrent if there was none for too long.
    fn check_stop_timeout(&mut self, context: &TorrentContext, now: Duration) {
        let received = ReceivedData {
            payload: context.payload.downloaded.get(),
            metadata: self.inner.progress.metadata.get().0,
            is_fetching_metadata: context.settings.is_fetching_metadata,
        };
        // A pause does not hold up the metadata.
        let is_paused = context.is_paused() && !context.settings.is_fetching_metadata;
        if self.stop_timeout.has_passed(now, received, self.is_complete || is_paused) {
            self.inner.run.stop(StopReason::TimedOut);
        }
    }

    /// Whether more peers are needed.
    fn needs_peers(&self) -> bool {
        !self.is_complete && self.connections.len() < FEW_PEERS.min(self.registration.capacity())
    }

    /// Waits for an event until `wake`; `None` if there was none.
    pub fn wait(&mut self, messages: &Receiver<TorrentMessage>, wake: Instant) -> Option<LoopEvent> {
        self.discovery.wait(messages, &self.registration, wake)
    }

    /// Handles the events that are common to both phases; returns all others.
    pub fn handle_event(&mut self, context: &Arc<TorrentContext>, loop_event: LoopEvent) -> Option<TorrentMessage> {
        let event = match loop_event {
            LoopEvent::Dht(found) => {
                self.add_unverified_peers(&found.peers, PeerSource::Dht, |search| &mut search.dht_peers);
                return None;
            }
            LoopEvent::LocalDiscovery(addr) => {
                let new = self.add_peers(&[addr], PeerSource::LocalDiscovery);
                if let Some(record) = self.peer_list.record(addr) {
                    record.note_sign_of_life();
                }
                self.count_new_peers(new, |search| &mut search.lsd_peers);
                return None;
            }
            // The next turn of main looks at it.
            LoopEvent::PortMapping => return None,
            LoopEvent::Incoming(connection) => {
                self.accept(context, connection);
                return None;
            }
            LoopEvent::Message(TorrentMessage::Peer(event)) => event,
            LoopEvent::Message(TorrentMessage::Tracker(TrackerEvent::Announced { url, result })) => {
                self.handle_announce_result(context.now(), &url, *result);
                return None;
            }
            LoopEvent::Message(TorrentMessage::Tracker(TrackerEvent::SecondFamilyPeers { peers })) => {
                self.add_second_family_peers(context.now(), &peers);
                return None;
            }
            LoopEvent::Message(TorrentMessage::Command(TorrentCommand::AddPeers)) => {
                self.add_users_peers();
                self.next.dial = Duration::ZERO;
                return None;
            }
            // Main checks in each turn whether to stop or to pause.
            LoopEvent::Message(command @ TorrentMessage::Command(_)) => return Some(command),
        };
        match event {
            PeerEvent::Connected { key, addr, is_incoming } => self.handshake_done(context, key, addr, is_incoming),
            PeerEvent::OurAddress(ip) => {
                self.peer_list.set_ours(SocketAddr::new(ip, context.ports.tcp_for(ip)));
            }
            // The event may have been on its way when the metadata arrived.
            PeerEvent::PexPeers { .. } | PeerEvent::HolePunch { .. } if self.is_private => {}
            PeerEvent::PexPeers { key, peers } => self.add_pex_peers(context, key, &peers),
            PeerEvent::HolePunch { key, message } => self.handle_hole_punch(context, key, message),
            PeerEvent::DhtNode(addr) => self.discovery.add_node(addr),
            PeerEvent::OutOfDescriptors => self.drop_least_useful(context.now()),
            other => return Some(TorrentMessage::Peer(other)),
        }
        None
    }

    /// Adds peers from an unverified source.
    fn add_unverified_peers(
        &mut self,
        peers: &[SocketAddr],
        source: PeerSource,
        count: impl FnOnce(&mut PeerSearchStats) -> &mut usize,
    ) {
        let new = self.add_peers(peers, source);
        self.count_new_peers(new, count);
    }

    /// Counts addresses that are new, in the figure that `count` selects.
    fn count_new_peers(&mut self, new: usize, count: impl FnOnce(&mut PeerSearchStats) -> &mut usize) {
        *count(&mut self.inner.peers.search.lock()) += new;
        self.next.dial = Duration::ZERO;
    }
}
