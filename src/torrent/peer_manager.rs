//! Whom we know and how we come to know them: trackers, the DHT, neighbours, what peers tell; whom to call, who calls.
//!
//! The metadata stage and the download have this in common: it is made once and handed on from the one to the other, so that a
//! magnet link goes on as a download without asking anybody twice. `announcing` sends to trackers, `calling` makes and ends
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

use crate::client::Seat;
use crate::peer::{Connection, Peer, Report, Shared};
use crate::strategy::peer_list::{Book, Source};
use crate::torrent::events::{Event, Teller};
use crate::torrent::final_announce;
use crate::torrent::peer_search::Search;
use crate::torrent::{Config, Inner, tell};
use crate::types::{InfoHash, PeerKey};

pub use announcer::{Announcer, Identity, send};
pub use discovery::{Discovery, News};
pub use kept_connections::Spare;

/// Trackers that are ignored, as many as a line names.
const MAX_TOLD: usize = 3;
/// Addresses that trackers named and that are kept until it is known whether the torrent is private.
const MAX_NAMED: usize = 500;
/// With fewer connections than this, a download asks for more peers.
const FEW_PEERS: usize = 8;
/// While peers are wanted, how the DHT stands is looked up so often, for those who watch.
const LOOK: Duration = Duration::from_secs(2);

/// A peer that takes nothing of what we send for so long does not read.
const STUCK: Duration = Duration::from_secs(10);

/// A connection as the main thread sees it.
pub struct Line {
    /// Its threads.
    pub connection: Connection,
    /// Whether the peer called us.
    pub incoming: bool,
    /// It was hung up on to make room for another, and will soon be gone.
    pub going: bool,
    /// When the connection, or the attempt at one, began.
    pub since: Duration,
    /// Since when the handshake is done.
    pub ready: Option<Duration>,
    /// The peer, from then on.
    pub peer: Option<Arc<Peer>>,
    /// It ends because this connection leads to the same peer.
    pub twin: Option<PeerKey>,
    /// Bytes down and up at the last two rounds, and when those were; the older first.
    pub seen: [(Duration, u64, u64); 2],
    /// What had reached the peer at the last round.
    pub arrived: Arrived,
    /// What it was told of others.
    told: Option<crate::strategy::pex::PexDiffer>,
}

/// How much of what we sent has reached a peer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arrived {
    /// Payload bytes.
    pub payload: u64,
    /// All bytes that its system has acknowledged.
    acknowledged: u64,
    /// Since when something is on its way and nothing more of it has arrived.
    waits: Option<Duration>,
}

impl Arrived {
    /// A later look: so many payload bytes were handed to the kernel, `written` of them by writes that are over, and `acknowledged` bytes of
    /// all kinds arrived; where that is unknown, what was written counts.
    pub fn update(&mut self, handed: u64, written: u64, acknowledged: Option<u64>) {
        self.payload = match acknowledged {
            // Messages between the blocks are few.
            Some(bytes) => handed.min(self.payload + bytes.saturating_sub(self.acknowledged)),
            None => written.max(self.payload),
        };
        self.acknowledged = acknowledged.unwrap_or(self.acknowledged);
    }

    /// Notes at each look whether more has arrived of the `handed` bytes than the `before` at the last look.
    pub fn note_growth(&mut self, now: Duration, handed: u64, before: u64) {
        self.waits = match self.waits {
            _ if handed <= self.payload => None,
            Some(since) if self.payload == before => Some(since),
            _ => Some(now),
        };
    }

    /// Whether the peer takes nothing of what we send, and has not for so long that it is no lost packet.
    pub fn is_stuck(&self, now: Duration) -> bool {
        self.waits.is_some_and(|since| now >= since + STUCK)
    }
}

/// See the module's head.
pub struct Contacts<'a> {
    pub inner: &'a Inner,
    pub config: &'a Config,
    pub events: Teller,
    pub book: Book,
    pub lines: HashMap<PeerKey, Line>,
    /// Who was connected, and whether it had called us; the last to leave last.
    left: VecDeque<(PeerKey, SocketAddr, bool)>,
    next_call: Duration,
    /// Who was evicted without having moved a block.
    churn: crate::strategy::eviction::Churn,
    /// Until when nobody is let in, as there are no descriptors.
    short_until: Duration,
    /// Until when it is not worth another warning that a caller cannot be served.
    next_complaint: Duration,
    next_exchange: Duration,
    pub announcer: Announcer,
    pub discovery: Discovery,
    /// Our place among those who share the port, the DHT, the limits and the number of connections.
    pub seat: Seat,
    /// Trackers alone may name peers (BEP 27).
    private: bool,
    /// Nobody needs more peers: all is there.
    pub content: bool,
    /// Whom trackers named, as long as the torrent may turn out to be private.
    named: Vec<SocketAddr>,
    /// Bytes and pieces of metadata that have come, since when there were no more, and at which stage.
    came: (u64, usize),
    came_at: Duration,
    fetching: bool,
}

impl<'a> Contacts<'a> {
    /// Has a seat that listens, knows whom the configuration names, and looks for others wherever it may. A private torrent's peers come from its
    /// trackers alone (BEP 27).
    pub fn new(
        inner: &'a Inner,
        config: &'a Config,
        events: Teller,
        info_hash: InfoHash,
        tiers: &[Vec<String>],
        private: bool,
        seat: Seat,
    ) -> Contacts<'a> {
        let mut announcer = Announcer::new(tiers, config);
        if private {
            announcer.ask_one_at_a_time();
        }
        let discovery = if private {
            Discovery::none()
        } else {
            Discovery::start(config, info_hash, &seat, inner.started.elapsed())
        };
        if !announcer.unsupported().is_empty() {
            let all = announcer.unsupported();
            let more = if all.len() > MAX_TOLD { ", …" } else { "" };
            let named: Vec<_> = all.iter().take(MAX_TOLD).map(String::as_str).collect();
            log::warn!("trackers ignored, as they are neither http, https nor udp URLs: {}{more}", named.join(", "));
        }
        if announcer.is_empty() && config.peers.is_empty() && config.link_peers.is_empty() && discovery.is_none() {
            tell(&events, Event::NoTracker { unsupported: announcer.unsupported().to_vec() });
        }
        let mut book = Book::new(config.encryption);
        book.add(&config.peers, Source::User);
        book.add(&config.link_peers, Source::Link);
        Contacts {
            inner,
            config,
            events,
            book,
            lines: HashMap::new(),
            left: VecDeque::new(),
            next_call: Duration::ZERO,
            churn: crate::strategy::eviction::Churn::default(),
            short_until: Duration::ZERO,
            next_complaint: Duration::ZERO,
            next_exchange: Duration::ZERO,
            announcer,
            discovery,
            seat,
            private,
            content: false,
            named: Vec::new(),
            came: (0, 0),
            came_at: inner.started.elapsed(),
            fetching: false,
        }
    }

    /// The port we listen on.
    pub fn port(&self) -> u16 {
        self.seat.port()
    }

    /// Whether callers are taken at all; they are not while files are being checked.
    pub fn hold_callers(&self, hold: bool) {
        self.seat.hold(hold);
    }

    /// The metadata is there. Where it says that the torrent is private, its trackers alone count from now on.
    pub fn settle(&mut self, private: bool, now: Duration) {
        let named = std::mem::take(&mut self.named);
        if private {
            self.private = true;
            self.drop_kept(); // anybody may have named them
            self.announcer.ask_one_at_a_time();
            self.discovery.stop(&self.seat);
            self.book.forget(now);
            self.book.add(&self.config.peers, Source::User);
            self.book.add(&self.config.link_peers, Source::Link);
            self.book.add(&named, Source::Tracker);
        }
    }

    /// A tracker named these.
    fn named(&mut self, peers: &[SocketAddr]) -> usize {
        if self.inner.known_as.get().is_none() {
            let new: Vec<_> = peers.iter().filter(|peer| !self.named.contains(peer)).copied().collect();
            self.named.extend(new.into_iter().take(MAX_NAMED - self.named.len()));
        }
        self.book.add(peers, Source::Tracker)
    }

    /// What is due now: announces, calls, peer exchange.
    pub fn tick(&mut self, shared: &Arc<Shared>, now: Duration) {
        self.watch(shared, now);
        self.book.set_time(now);
        self.inner.known.store(self.book.len(), Ordering::Relaxed);
        self.shed();
        self.book.set_complete(self.content);
        let hungry = self.is_hungry();
        let in_need = !self.content && self.lines.values().all(|line| line.ready.is_none());
        if self.book.set_in_need(in_need) {
            self.next_call = Duration::ZERO;
        }
        self.announcer.begin(shared, now, hungry, self.book.next_call().is_none());
        self.call(shared, now);
        self.exchange(shared, now);
        if self.discovery.begin_again(self.config, shared.info_hash, &self.seat, now) {
            shared.dht_port.store(self.port(), Ordering::Release);
        }
        self.discovery.judge(now, self.seat.is_reached());
        if hungry {
            let mut search = self.inner.search.lock();
            search.dht_nodes = self.discovery.dht_nodes();
            search.lsd_interfaces = self.discovery.lsd_interfaces();
        }
    }

    /// The next of these appointments.
    pub fn next_due(&self, now: Duration, shared: &Shared) -> Duration {
        let announce = self.announcer.next_due(now);
        let call = if self.may_call() {
            self.next_call.max(self.short_until).max(now + self.seat.next_dial())
        } else {
            Duration::MAX
        };
        let exchange = if shared.pex && !self.lines.is_empty() { self.next_exchange } else { Duration::MAX };
        let look = if self.is_hungry() && self.discovery.has_dht() { now + LOOK } else { Duration::MAX };
        let give_up = self.config.stop_timeout.filter(|_| !self.content);
        let give_up = give_up.map_or(Duration::MAX, |limit| (self.came_at + limit).max(now));
        announce.min(give_up).min(call).min(exchange).min(look).min(self.discovery.next_due())
    }

    /// Notes whether anything came, and gives up where nothing did for too long.
    fn watch(&mut self, shared: &Shared, now: Duration) {
        let Some(limit) = self.config.stop_timeout else { return };
        let count = (shared.downloaded.load(Ordering::Relaxed), self.inner.metadata.0.load(Ordering::Relaxed));
        if self.content || shared.is_paused() || count != self.came || shared.wants_info != self.fetching {
            (self.came, self.came_at, self.fetching) = (count, now, shared.wants_info);
        } else if now >= self.came_at + limit {
            self.inner.timed_out.store(true, Ordering::Release);
            self.inner.stop.store(true, Ordering::Release);
        }
    }

    /// Whether more peers are wanted.
    fn is_hungry(&self) -> bool {
        !self.content && self.lines.len() < FEW_PEERS.min(self.seat.room())
    }

    /// Waits for news until `wake`; `None` when nothing came, or nobody is left to tell.
    pub fn wait(&mut self, reports: &Receiver<Report>, wake: Instant) -> Option<News> {
        self.discovery.wait(reports, self.seat.callers(), wake)
    }

    /// Takes what concerns both stages; gives back what does not.
    pub fn hear(&mut self, shared: &Arc<Shared>, news: News) -> Option<Report> {
        let report = match news {
            News::Dht(found) => {
                self.heard_of(&found.peers, Source::Dht, |search| &mut search.dht_peers);
                return None;
            }
            News::Neighbour(addr) => {
                let new = self.book.add(&[addr], Source::Neighbour);
                if let Some(record) = self.book.record(addr) {
                    record.heard();
                }
                self.note_new(new, |search| &mut search.lsd_peers);
                return None;
            }
            News::Report(report) => report,
        };
        match report {
            Report::Ready { key, addr, incoming } => self.ready(shared, key, addr, incoming),
            Report::OurAddress(ip) => self.book.set_ours(SocketAddr::new(ip, shared.port.load(Ordering::Relaxed))),
            Report::Incoming(stream, addr, heard) => self.incoming(shared, stream, addr, heard),
            Report::Announced { url, result } => self.announced(shared.now(), &url, *result),
            Report::AlsoNamed { peers } => self.also_named(shared.now(), &peers),
            // Such a report may have been on its way when the metadata came.
            Report::Told(_) if self.private => {}
            Report::Told(peers) => {
                let addresses: Vec<_> = peers.iter().map(|(addr, _)| *addr).collect();
                self.heard_of(&addresses, Source::Pex, |search| &mut search.pex_peers);
                for (addr, flags) in peers {
                    self.book.hint(addr, flags);
                }
            }
            Report::Node(addr) => self.discovery.add_node(addr),
            Report::Stop => {} // the flag says it
            Report::Shortage => self.give_up_one(shared.now()),
            other => return Some(other),
        }
        None
    }

    /// Somebody who may be anybody named peers.
    fn heard_of(&mut self, peers: &[SocketAddr], source: Source, count: impl FnOnce(&mut Search) -> &mut usize) {
        let new = self.book.add(peers, source);
        self.note_new(new, count);
    }

    /// So many addresses are new, thanks to the source that `count` names.
    fn note_new(&mut self, new: usize, count: impl FnOnce(&mut Search) -> &mut usize) {
        *count(&mut self.inner.search.lock()) += new;
        self.next_call = Duration::ZERO;
    }

    /// Goodbye to trackers and peers; every thread is joined but those that wait for a silent tracker.
    pub fn leave(mut self, shared: &Arc<Shared>, reports: &Receiver<Report>, meanwhile: impl FnOnce()) {
        self.take_back();
        // The peers first: nothing more is received or sent while the trackers are told.
        shared.stop();
        self.seat.close();
        self.lines.values().for_each(|line| line.connection.close());
        let deadline = Instant::now() + final_announce::PATIENCE;
        self.await_announce(shared, reports);
        let farewell = self.announcer.farewell(shared, deadline);
        self.tell_gone(self.lines.values(), "btsync ends the connection");
        final_announce::to_peers(self.lines.into_values().map(|line| line.connection).collect());
        meanwhile();
        self.discovery.stop(&self.seat);
        drop(self.seat);
        farewell.wait();
    }

    /// Only a tracker that has answered `started` is told `stopped`: one that is being asked gets a moment to answer, and one that
    /// is owed a `completed` hears it first.
    fn await_announce(&mut self, shared: &Arc<Shared>, reports: &Receiver<Report>) {
        let deadline = Instant::now() + final_announce::PATIENCE / 3;
        while Instant::now() < deadline {
            if self.announcer.owes_completed() {
                self.announcer.begin(shared, shared.now(), false, false);
            }
            if !self.announcer.is_busy() {
                return;
            }
            match reports.recv_deadline(deadline) {
                Ok(Report::Announced { url, result }) => self.announced(shared.now(), &url, *result),
                Ok(Report::Gone { key, addr, why }) => self.gone(shared, key, addr, &why),
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }
}
