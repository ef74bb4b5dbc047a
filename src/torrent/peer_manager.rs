//! Whom we know and how we come to know them: trackers, the DHT, neighbours, what peers tell; whom to call, who calls.
//!
//! The metadata stage and the download have this in common: it is made once and handed on from the one to the other, so that a
//! magnet link goes on as a download without asking anybody twice. `announcing` sends to trackers, `note_dialed` makes and ends
//! connections, `discovery` holds what finds peers beside trackers, `exchange` is peer exchange.

mod announcer;
mod connecting;
mod discovery;
mod kept_connections;
mod pex;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use crate::client::Registration;
use crate::peer::{Connection, Peer, PeerEvent, TorrentContext};
use crate::strategy::peer_list::{PeerList, PeerSource};
use crate::torrent::events::{Event, EventSender};
use crate::torrent::final_announce;
use crate::torrent::peer_search::PeerSearch;
use crate::torrent::{Config, TorrentInner, send_event};
use crate::types::{InfoHash, PeerKey};

pub use announcer::{AnnounceIdentity, Announcer, send};
pub use discovery::{Discovery, LoopEvent};
pub use kept_connections::Spare;

/// Trackers that are ignored, as many as a line names.
const MAX_TRACKERS_IN_WARNING: usize = 3;
/// Addresses that trackers named and that are kept until it is known whether the torrent is private.
const MAX_TRACKER_PEERS: usize = 500;
/// With fewer connections than this, a download asks for more peers.
const FEW_PEERS: usize = 8;
/// While peers are wanted, how the DHT stands is looked up so often, for those who watch.
const DHT_STATUS_INTERVAL: Duration = Duration::from_secs(2);

/// A peer that takes nothing of what we send for so long does not read.
const STUCK_AFTER: Duration = Duration::from_secs(10);

/// A connection as the main thread sees it.
pub struct PeerEntry {
    /// Its threads.
    pub connection: Connection,
    /// Whether the peer called us.
    pub incoming: bool,
    /// It was hung up on to make room for another, and will soon be gone.
    pub is_closing: bool,
    /// When the connection, or the attempt at one, began.
    pub since: Duration,
    /// Since when the handshake is done.
    pub handshake_done: Option<Duration>,
    /// The peer, from then on.
    pub peer: Option<Arc<Peer>>,
    /// It ends because this connection leads to the same peer.
    pub twin: Option<PeerKey>,
    /// Bytes down and up at the last two rounds, and when those were; the older first.
    pub rate_samples: [(Duration, u64, u64); 2],
    /// What had reached the peer at the last round.
    pub delivered: Delivered,
    /// What it was told of others.
    pex_differ: Option<crate::strategy::pex::PexDiffer>,
}

/// How much of what we sent has reached a peer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Delivered {
    /// Payload bytes.
    pub payload: u64,
    /// All bytes that its system has acknowledged.
    acknowledged: u64,
    /// Since when something is on its way and nothing more of it has arrived.
    stalled_since: Option<Duration>,
}

impl Delivered {
    /// A later look: so many payload bytes were handed to the kernel, `written` of them by writes that are over, and `acknowledged` bytes of
    /// all kinds arrived; where that is unknown, what was written counts.
    pub fn update(&mut self, sent_to_kernel: u64, written: u64, acknowledged: Option<u64>) {
        self.payload = match acknowledged {
            // Messages between the blocks are few.
            Some(bytes) => sent_to_kernel.min(self.payload + bytes.saturating_sub(self.acknowledged)),
            None => written.max(self.payload),
        };
        self.acknowledged = acknowledged.unwrap_or(self.acknowledged);
    }

    /// Notes at each look whether more has arrived of the `sent_to_kernel` bytes than the `before` at the last look.
    pub fn note_progress(&mut self, now: Duration, sent_to_kernel: u64, before: u64) {
        self.stalled_since = match self.stalled_since {
            _ if sent_to_kernel <= self.payload => None,
            Some(since) if self.payload == before => Some(since),
            _ => Some(now),
        };
    }

    /// Whether the peer takes nothing of what we send, and has not for so long that it is no lost packet.
    pub fn is_stuck(&self, now: Duration) -> bool {
        self.stalled_since.is_some_and(|since| now >= since + STUCK_AFTER)
    }
}

/// See the module's head.
pub struct PeerManager<'a> {
    pub inner: &'a TorrentInner,
    pub config: &'a Config,
    pub events: EventSender,
    pub peer_list: PeerList,
    pub connections: HashMap<PeerKey, PeerEntry>,
    /// Who was connected, and whether it had called us; the last to leave last.
    departed: VecDeque<(PeerKey, SocketAddr, bool)>,
    next_dial: Duration,
    /// Who was evicted without having moved a block.
    eviction_limiter: crate::strategy::eviction::EvictionLimiter,
    /// Until when nobody is let in, as there are no descriptors.
    descriptors_short_until: Duration,
    /// Until when it is not worth another warning that a caller cannot be served.
    next_accept_warning: Duration,
    next_exchange: Duration,
    pub announcer: Announcer,
    pub discovery: Discovery,
    /// Our place among those who share the port, the DHT, the limits and the number of connections.
    pub registration: Registration,
    /// Trackers alone may name peers (BEP 27).
    private: bool,
    /// Nobody needs more peers: all is there.
    pub is_complete: bool,
    /// Whom trackers named, as long as the torrent may turn out to be private.
    named: Vec<SocketAddr>,
    /// Bytes and pieces of metadata that have come, since when there were no more, and at which stage.
    last_progress: (u64, usize),
    last_progress_at: Duration,
    was_fetching_metadata: bool,
}

impl<'a> PeerManager<'a> {
    /// Has a seat that listens, knows whom the configuration names, and looks for others wherever it may. A private torrent's peers come from its
    /// trackers alone (BEP 27).
    pub fn new(
        inner: &'a TorrentInner,
        config: &'a Config,
        events: EventSender,
        info_hash: InfoHash,
        tiers: &[Vec<String>],
        private: bool,
        registration: Registration,
    ) -> PeerManager<'a> {
        let mut announcer = Announcer::new(tiers, config);
        if private {
            announcer.ask_one_at_a_time();
        }
        let discovery = if private {
            Discovery::none()
        } else {
            Discovery::start(config, info_hash, &registration, inner.started.elapsed())
        };
        if !announcer.unsupported().is_empty() {
            let all = announcer.unsupported();
            let more = if all.len() > MAX_TRACKERS_IN_WARNING { ", …" } else { "" };
            let named: Vec<_> = all.iter().take(MAX_TRACKERS_IN_WARNING).map(String::as_str).collect();
            log::warn!("trackers ignored, as they are neither http, https nor udp URLs: {}{more}", named.join(", "));
        }
        if announcer.is_empty() && config.peers.is_empty() && config.link_peers.is_empty() && discovery.is_none() {
            send_event(&events, Event::NoTracker { unsupported: announcer.unsupported().to_vec() });
        }
        let mut peer_list = PeerList::new(config.encryption);
        peer_list.add(&config.peers, PeerSource::User);
        peer_list.add(&config.link_peers, PeerSource::Link);
        PeerManager {
            inner,
            config,
            events,
            peer_list,
            connections: HashMap::new(),
            departed: VecDeque::new(),
            next_dial: Duration::ZERO,
            eviction_limiter: crate::strategy::eviction::EvictionLimiter::default(),
            descriptors_short_until: Duration::ZERO,
            next_accept_warning: Duration::ZERO,
            next_exchange: Duration::ZERO,
            announcer,
            discovery,
            registration,
            private,
            is_complete: false,
            named: Vec::new(),
            last_progress: (0, 0),
            last_progress_at: inner.started.elapsed(),
            was_fetching_metadata: false,
        }
    }

    /// The port we listen on.
    pub fn port(&self) -> u16 {
        self.registration.port()
    }

    /// Whether callers are taken at all; they are not while files are being checked.
    pub fn refuse_incoming(&self, refuse_incoming: bool) {
        self.registration.refuse_incoming(refuse_incoming);
    }

    /// The metadata is there. Where it says that the torrent is private, its trackers alone count from now on.
    pub fn apply_metadata(&mut self, private: bool, now: Duration) {
        let named = std::mem::take(&mut self.named);
        if private {
            self.private = true;
            self.drop_kept_connections(); // anybody may have named them
            self.announcer.ask_one_at_a_time();
            self.discovery.stop(&self.registration);
            self.peer_list.forget(now);
            self.peer_list.add(&self.config.peers, PeerSource::User);
            self.peer_list.add(&self.config.link_peers, PeerSource::Link);
            self.peer_list.add(&named, PeerSource::Tracker);
        }
    }

    /// A tracker named these.
    fn named(&mut self, peers: &[SocketAddr]) -> usize {
        if self.inner.name_and_size.get().is_none() {
            let new: Vec<_> = peers.iter().filter(|peer| !self.named.contains(peer)).copied().collect();
            self.named.extend(new.into_iter().take(MAX_TRACKER_PEERS - self.named.len()));
        }
        self.peer_list.add(peers, PeerSource::Tracker)
    }

    /// What is due now: announces, calls, peer exchange.
    pub fn tick(&mut self, shared: &Arc<TorrentContext>, now: Duration) {
        self.check_stop_timeout(shared, now);
        self.peer_list.set_time(now);
        self.inner.known.store(self.peer_list.len(), Ordering::Relaxed);
        self.drop_surplus();
        self.peer_list.set_complete(self.is_complete);
        let needs_peers = self.needs_peers();
        let in_need = !self.is_complete && self.connections.values().all(|entry| entry.handshake_done.is_none());
        if self.peer_list.set_in_need(in_need) {
            self.next_dial = Duration::ZERO;
        }
        self.announcer.begin(shared, now, needs_peers, self.peer_list.next_dial().is_none());
        self.dial_due(shared, now);
        self.exchange(shared, now);
        if self.discovery.retry_start(self.config, shared.info_hash, &self.registration, now) {
            shared.dht_port.store(self.port(), Ordering::Release);
        }
        self.discovery.check_reachability(now, self.registration.has_incoming_connections());
        if needs_peers {
            let mut search = self.inner.search.lock();
            search.dht_nodes = self.discovery.dht_nodes();
            search.lsd_interfaces = self.discovery.lsd_interfaces();
        }
    }

    /// The next of these appointments.
    pub fn next_due(&self, now: Duration, shared: &TorrentContext) -> Duration {
        let announce = self.announcer.next_due(now);
        let dial_due = if self.can_dial() {
            self.next_dial.max(self.descriptors_short_until).max(now + self.registration.dial_wait())
        } else {
            Duration::MAX
        };
        let exchange = if shared.pex && !self.connections.is_empty() { self.next_exchange } else { Duration::MAX };
        let look =
            if self.needs_peers() && self.discovery.has_dht() { now + DHT_STATUS_INTERVAL } else { Duration::MAX };
        let give_up = self.config.stop_timeout.filter(|_| !self.is_complete);
        let give_up = give_up.map_or(Duration::MAX, |limit| (self.last_progress_at + limit).max(now));
        announce.min(give_up).min(dial_due).min(exchange).min(look).min(self.discovery.next_due())
    }

    /// Notes whether anything came, and gives up where nothing did for too long.
    fn check_stop_timeout(&mut self, shared: &TorrentContext, now: Duration) {
        let Some(limit) = self.config.stop_timeout else { return };
        let count = (shared.downloaded.load(Ordering::Relaxed), self.inner.metadata.0.load(Ordering::Relaxed));
        if self.is_complete
            || shared.is_paused()
            || count != self.last_progress
            || shared.wants_info != self.was_fetching_metadata
        {
            (self.last_progress, self.last_progress_at, self.was_fetching_metadata) = (count, now, shared.wants_info);
        } else if now >= self.last_progress_at + limit {
            self.inner.timed_out.store(true, Ordering::Release);
            self.inner.stop.store(true, Ordering::Release);
        }
    }

    /// Whether more peers are wanted.
    fn needs_peers(&self) -> bool {
        !self.is_complete && self.connections.len() < FEW_PEERS.min(self.registration.capacity())
    }

    /// Waits for news until `wake`; `None` when nothing came, or nobody is left to tell.
    pub fn wait(&mut self, peer_events: &Receiver<PeerEvent>, wake: Instant) -> Option<LoopEvent> {
        self.discovery.wait(peer_events, self.registration.incoming_connections(), wake)
    }

    /// Takes what concerns both stages; gives back what does not.
    pub fn handle_event(&mut self, shared: &Arc<TorrentContext>, loop_event: LoopEvent) -> Option<PeerEvent> {
        let event = match loop_event {
            LoopEvent::Dht(found) => {
                self.add_unverified_peers(&found.peers, PeerSource::Dht, |search| &mut search.dht_peers);
                return None;
            }
            LoopEvent::LocalDiscovery(addr) => {
                let new = self.peer_list.add(&[addr], PeerSource::LocalDiscovery);
                if let Some(record) = self.peer_list.record(addr) {
                    record.heard();
                }
                self.count_new_peers(new, |search| &mut search.lsd_peers);
                return None;
            }
            LoopEvent::PeerEvent(event) => event,
        };
        match event {
            PeerEvent::Connected { key, addr, incoming } => self.handshake_done(shared, key, addr, incoming),
            PeerEvent::OurAddress(ip) => {
                self.peer_list.set_ours(SocketAddr::new(ip, shared.port.load(Ordering::Relaxed)));
            }
            PeerEvent::Incoming(stream, addr, heard) => self.incoming(shared, stream, addr, heard),
            PeerEvent::Announced { url, result } => self.announced(shared.now(), &url, *result),
            PeerEvent::SecondFamilyPeers { peers } => self.add_second_family_peers(shared.now(), &peers),
            // Such a report may have been on its way when the metadata came.
            PeerEvent::PexPeers(_) if self.private => {}
            PeerEvent::PexPeers(peers) => {
                let addresses: Vec<_> = peers.iter().map(|(addr, _)| *addr).collect();
                self.add_unverified_peers(&addresses, PeerSource::Pex, |search| &mut search.pex_peers);
                for (addr, flags) in peers {
                    self.peer_list.hint(addr, flags);
                }
            }
            PeerEvent::DhtNode(addr) => self.discovery.add_node(addr),
            PeerEvent::Stop => {} // the flag says it
            PeerEvent::OutOfDescriptors => self.drop_least_useful(shared.now()),
            other => return Some(other),
        }
        None
    }

    /// Somebody who may be anybody named peers.
    fn add_unverified_peers(
        &mut self,
        peers: &[SocketAddr],
        source: PeerSource,
        count: impl FnOnce(&mut PeerSearch) -> &mut usize,
    ) {
        let new = self.peer_list.add(peers, source);
        self.count_new_peers(new, count);
    }

    /// So many addresses are new, thanks to the source that `count` names.
    fn count_new_peers(&mut self, new: usize, count: impl FnOnce(&mut PeerSearch) -> &mut usize) {
        *count(&mut self.inner.search.lock()) += new;
        self.next_dial = Duration::ZERO;
    }

    /// Goodbye to trackers and peers; every thread is joined but those that wait for a silent tracker.
    pub fn shut_down(
        mut self,
        shared: &Arc<TorrentContext>,
        peer_events: &Receiver<PeerEvent>,
        meanwhile: impl FnOnce(),
    ) {
        self.take_back();
        // The peers first: nothing more is received or sent while the trackers are told.
        shared.stop();
        self.registration.close();
        self.connections.values().for_each(|entry| entry.connection.close());
        let deadline = Instant::now() + final_announce::FINAL_ANNOUNCE_TIMEOUT;
        self.finish_announces(shared, peer_events);
        let final_announces = self.announcer.final_announces(shared, deadline);
        self.report_disconnected(self.connections.values(), "btsync ends the connection");
        final_announce::close_connections(self.connections.into_values().map(|entry| entry.connection).collect());
        meanwhile();
        self.discovery.stop(&self.registration);
        drop(self.registration);
        final_announces.wait();
    }

    /// Only a tracker that has answered `started` is told `stopped`: one that is being asked gets a moment to answer, and one that
    /// is owed a `completed` hears it first.
    fn finish_announces(&mut self, shared: &Arc<TorrentContext>, peer_events: &Receiver<PeerEvent>) {
        let deadline = Instant::now() + final_announce::FINAL_ANNOUNCE_TIMEOUT / 3;
        while Instant::now() < deadline {
            if self.announcer.has_unsent_completed() {
                self.announcer.begin(shared, shared.now(), false, false);
            }
            if !self.announcer.is_busy() {
                return;
            }
            match peer_events.recv_deadline(deadline) {
                Ok(PeerEvent::Announced { url, result }) => self.announced(shared.now(), &url, *result),
                Ok(PeerEvent::Disconnected { key, addr, why }) => self.gone(shared, key, addr, &why),
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }
}
