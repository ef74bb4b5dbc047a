//! One connection and its three threads: a reader, a writer fed by a channel, and a thread that watches the deadlines of
//! requests.
//!
//! They know the piece manager and the other peers' outboxes, but not the torrent: what main, the thread that runs the torrent,
//! must know goes to it as a [`PeerEvent`].

pub mod block_receiver;
mod block_sink;
pub mod connection;
pub mod deadline;
mod deferred_state;
mod disconnect_reason;
pub mod encryption;
mod established;
pub mod extensions;
mod messages;
pub mod outbox;
mod piece_batch;
pub mod reader;
pub mod roster;
mod run_state;
pub mod send_gate;
mod shutdown;
mod socket_write;
pub mod state;
pub mod super_seed;
pub mod throttle;
pub mod uplink;
mod wake_pipe;
pub mod web_seed;
pub mod writer;

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, TrySendError, select};
use parking_lot::Mutex;

use crate::discovery::tracker::announce::AnnounceEvent;
use crate::hash::{LANE_BYTES, MAX_WIDTH};
use crate::net::networks::is_private;
use crate::net::route::Route;
use crate::pieces::PieceManager;
use crate::strategy::HostQuota;
use crate::types::{BLOCK_SIZE, Dscp, Encryption, InfoHash, PeerId, PeerKey};
use crate::util::atomics::{Amount, Counter, Flag, Gauge, Port};
use crate::util::slab::SlabPool;

pub use connection::{Connection, DialPlan, DialTransports, DisconnectReason};
pub use messages::{IncomingConnection, IncomingHandshake, PeerEvent, TorrentCommand, TorrentMessage, TrackerEvent};
pub use roster::Roster;
pub use run_state::{RunControl, RunState, StopReason};
use shutdown::ConnectionShutdown;
pub use state::{Peer, refill_for_seek};
use super_seed::SuperSeeding;
pub use throttle::{ActiveInGroup, Demand, LimitGroup, Throttle, TorrentThrottle};
pub use web_seed::{WebSeed, WebSeedRoster, WebSeedSettings};

/// A peer that sends nothing for this long is taken for dead; keep-alives come every two minutes.
pub const SILENCE_TIMEOUT: Duration = Duration::from_secs(180);

/// Messages that can wait in the channel to main. The largest, a piece of metadata, has 16 KiB.
pub const MAX_QUEUED_MESSAGES: usize = 512;

/// Size of the buffer that a reader receives into, or a writer serves from: sixteen blocks with their headers, in whole pages.
pub const SLAB: usize = (256 + 4) * 1024;

/// How many readers may hash complete pieces in a large buffer at a time.
const BATCH_SLABS: usize = 2;

/// How long the cached sum of the peers' rates stays valid, in milliseconds.
const RATE_CACHE_MS: u64 = 100;

/// What all connections of one torrent share.
pub struct TorrentContext {
    /// What is fixed before the first connection.
    pub settings: ContextSettings,
    /// Our ports, for peers.
    pub ports: OurPorts,
    /// Whether peers may ask us for hole punching, and relays may name peers to us (BEP 55).
    pub offers_hole_punch: Flag,
    /// The raw info dictionary, for peers that request it; empty until it is known.
    pub info: OnceLock<Vec<u8>>,
    /// The piece manager.
    pub pieces: PieceManager,
    /// The connected peers.
    pub roster: Roster,
    /// The web seeds that run.
    pub web_seeds: WebSeedRoster,
    /// The number of connections, including those being established.
    pub connections: Gauge,
    /// Large buffers, lent to connections that transfer blocks.
    pub slabs: SlabPool,
    /// Buffers for pieces that are hashed together.
    pub batch_slabs: SlabPool,
    /// The payload of all peers together.
    pub payload: PayloadTotals,
    /// The blocks that choked peers were sent (BEP 6).
    pub fast_quota: Mutex<HostQuota>,
    /// The pieces of the metadata that peers were sent.
    pub metadata_quota: Mutex<HostQuota>,
    /// The super-seeding state; unset in torrents that do not super-seed.
    pub super_seeding: OnceLock<SuperSeeding>,
    /// Bytes that all peers' remembered messages take beyond each peer's own allowance; see `reader/deferred.rs`.
    deferred_bytes: Amount,
    /// Ends all connections.
    shutdown: ConnectionShutdown,
    /// The channel to main.
    messages: Sender<TorrentMessage>,
}

/// The ports that we tell peers.
#[derive(Default)]
pub struct OurPorts {
    /// The TCP port that we listen on; 0 if we do not listen.
    pub tcp: Port,
    /// Our UDP port in the DHT; 0 if the DHT is off.
    pub dht: Port,
    /// The router's ports that it forwards to these two; 0 if it forwards none.
    pub mapped_tcp: Port,
    pub mapped_dht: Port,
}

impl OurPorts {
    /// The TCP port that trackers are told.
    pub fn announced(&self) -> u16 {
        or_own(self.mapped_tcp.get(), self.tcp.get())
    }

    /// The TCP port that a peer is told. The router's port is of no use within our network and over IPv6.
    pub fn tcp_for(&self, peer: IpAddr) -> u16 {
        if is_behind_router(peer) { self.announced() } else { self.tcp.get() }
    }

    /// The same for our node of the DHT; 0 if the DHT is off.
    pub fn dht_for(&self, peer: IpAddr) -> u16 {
        let own = self.dht.get();
        if own != 0 && is_behind_router(peer) { or_own(self.mapped_dht.get(), own) } else { own }
    }
}

fn or_own(mapped: u16, own: u16) -> u16 {
    if mapped == 0 { own } else { mapped }
}

/// Whether a peer reaches us through the router's address.
fn is_behind_router(peer: IpAddr) -> bool {
    peer.to_canonical().is_ipv4() && !is_private(peer)
}

/// The payload that a torrent has moved, all peers together.
#[derive(Default)]
pub struct PayloadTotals {
    /// Bytes received.
    pub downloaded: Counter,
    /// Bytes sent.
    pub uploaded: Counter,
    /// Bytes received per second, and when this sum was computed, in milliseconds of the torrent's clock.
    download_rate: Counter,
    download_rate_updated_at: Counter,
    /// What was moved before, if the torrent's files have been opened again.
    earlier: OnceLock<PayloadSums>,
}

/// Payload bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PayloadSums {
    /// Bytes received.
    pub downloaded: u64,
    /// Bytes sent.
    pub uploaded: u64,
}

impl PayloadTotals {
    /// The torrent has moved this before, since it started.
    pub fn continue_from(&self, earlier: PayloadSums) {
        let _ = self.earlier.set(earlier);
    }

    /// What the torrent has moved since it started.
    pub fn run_totals(&self) -> PayloadSums {
        let earlier = self.earlier.get().copied().unwrap_or_default();
        PayloadSums {
            downloaded: earlier.downloaded.saturating_add(self.downloaded.get()),
            uploaded: earlier.uploaded.saturating_add(self.uploaded.get()),
        }
    }
}

/// What is fixed before the first connection.
#[derive(Clone)]
pub struct ContextSettings {
    /// The torrent's info-hash.
    pub info_hash: InfoHash,
    /// Our peer id.
    pub peer_id: PeerId,
    /// The encryption policy of this torrent's connections.
    pub encryption: Encryption,
    /// Whether we exchange peers with our peers (BEP 11); false in private torrents.
    pub uses_pex: bool,
    /// Whether these connections only fetch the metadata, so that no blocks can be requested yet.
    pub is_fetching_metadata: bool,
    /// How our connections leave the machine.
    pub route: Route,
    /// The DSCP class of our packets.
    pub dscp: Dscp,
    /// The client name that we send to peers (BEP 10).
    pub client_name: String,
    /// When the torrent started: the origin of [`TorrentContext::now`].
    pub started: Instant,
    /// The rate limits that apply to the torrent.
    pub throttle: Arc<TorrentThrottle>,
    /// Whether the torrent runs, is paused or has to stop; its handles own it.
    pub run: Arc<RunControl>,
}

impl ContextSettings {
    /// The name and version of this client.
    pub const CLIENT_NAME: &str = concat!("btsync ", env!("CARGO_PKG_VERSION"));

    /// Those of a torrent that connects to nobody.
    #[cfg(test)]
    pub fn unconnected() -> ContextSettings {
        ContextSettings {
            client_name: ContextSettings::CLIENT_NAME.to_owned(),
            info_hash: InfoHash([0; 20]),
            peer_id: PeerId([0; 20]),
            encryption: Encryption::Off,
            uses_pex: false,
            is_fetching_metadata: false,
            route: Route::default(),
            dscp: Dscp::NONE,
            started: Instant::now(),
            throttle: Arc::default(),
            run: Arc::default(),
        }
    }
}

impl TorrentContext {
    /// The shared context of a torrent that starts now.
    pub fn new(
        settings: ContextSettings,
        pieces: PieceManager,
        messages: Sender<TorrentMessage>,
    ) -> Arc<TorrentContext> {
        Arc::new(TorrentContext {
            shutdown: ConnectionShutdown::new(settings.is_fetching_metadata),
            settings,
            ports: OurPorts::default(),
            offers_hole_punch: Flag::default(),
            info: OnceLock::new(),
            pieces,
            roster: Roster::default(),
            web_seeds: WebSeedRoster::default(),
            connections: Gauge::default(),
            slabs: SlabPool::new(SLAB, 8),
            batch_slabs: SlabPool::new(MAX_WIDTH * LANE_BYTES, BATCH_SLABS),
            payload: PayloadTotals::default(),
            fast_quota: Mutex::default(),
            metadata_quota: Mutex::default(),
            super_seeding: OnceLock::new(),
            deferred_bytes: Amount::default(),
            messages,
        })
    }

    /// The time since the torrent started: the clock of every state machine.
    pub fn now(&self) -> Duration {
        self.settings.started.elapsed()
    }

    /// The peer's share of the total download rate, 0 to 1; an equal share while its rate is unknown.
    pub fn share_of(&self, peer: &Peer, now: Duration) -> f64 {
        self.share_of_rate(peer.rates.download_rate.get(), now)
    }

    /// The share of a source with this rate in bytes a second; an equal share if it is 0.
    pub fn share_of_rate(&self, download_rate: u64, now: Duration) -> f64 {
        let equal = 1.0 / (self.roster.count() + self.web_seeds.count()).max(1) as f64;
        if download_rate == 0 {
            return equal;
        }
        let ms = now.as_millis() as u64;
        let found = self.payload.download_rate_updated_at.get();
        if ms >= found + RATE_CACHE_MS && self.payload.download_rate_updated_at.replace(found, ms) {
            let rates = self
                .roster
                .all()
                .into_iter()
                .filter(|peer| peer.can_request())
                .map(|peer| peer.rates.download_rate.get());
            self.payload.download_rate.set(rates.sum::<u64>().saturating_add(self.web_seeds.rate()));
        }
        let all = self.payload.download_rate.get().max(download_rate);
        download_rate as f64 / all as f64
    }

    /// Bytes of the whole torrent that are still missing, for announces; one block's length while the size is unknown.
    pub fn bytes_left(&self) -> u64 {
        if self.settings.is_fetching_metadata { u64::from(BLOCK_SIZE) } else { self.pieces.missing_bytes() }
    }

    /// The event of an announce: `due` if there is one, else `paused` if we are a partial seed (BEP 21).
    pub fn announce_event(&self, due: Option<AnnounceEvent>) -> Option<AnnounceEvent> {
        due.or_else(|| self.pieces.is_partial_seed().then_some(AnnounceEvent::Paused))
    }

    /// A key for a new connection, unique in the client.
    pub fn new_key(&self) -> PeerKey {
        self.settings.throttle.client.new_key()
    }

    /// Sends a message to main. Blocks while the channel is full, which holds up the connection that causes the messages. Once
    /// the connections are ending, a message for which there is no room is dropped. Do not call this with a lock held.
    pub fn send_to_main(&self, message: impl Into<TorrentMessage>) {
        let Err(TrySendError::Full(message)) = self.messages.try_send(message.into()) else { return };
        select! {
            send(self.messages, message) -> _ => {}
            recv(self.shutdown.signal) -> _ => {}
        }
    }

    /// The same for a message that a stopping torrent still reads, such as the last one of a thread that it joins only
    /// afterwards.
    pub fn send_to_main_always(&self, message: impl Into<TorrentMessage>) {
        let _ = self.messages.send(message.into()); // fails if main has ended
    }

    /// Ends all connections, and wakes the threads that wait in [`TorrentContext::send_to_main`].
    pub fn end_connections(&self) {
        self.shutdown.close();
        self.web_seeds.wake();
    }

    /// Ends all connections' threads because the metadata is complete. Connections that have finished their handshake stay open.
    pub fn detach_connections(&self) {
        self.shutdown.detach();
    }

    /// Whether the torrent is paused: it neither requests nor serves blocks.
    pub fn is_paused(&self) -> bool {
        self.settings.run.is_paused()
    }

    /// Whether the threads of all connections have to exit: the torrent is stopping, or its metadata phase has ended.
    pub fn are_connections_ending(&self) -> bool {
        self.shutdown.is_set()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_peers_beyond_the_router_are_told_its_ports() {
        let ports = OurPorts::default();
        ports.tcp.set(6881);
        ports.mapped_dht.set(7001);
        let ip = |text: &str| text.parse().expect("an address");
        assert_eq!((ports.announced(), ports.tcp_for(ip("9.8.7.6")), ports.dht_for(ip("9.8.7.6"))), (6881, 6881, 0));
        ports.mapped_tcp.set(7000);
        ports.dht.set(6881);
        let of = |text: &str| (ports.tcp_for(ip(text)), ports.dht_for(ip(text)));
        assert_eq!((ports.announced(), of("9.8.7.6"), of("::ffff:9.8.7.6")), (7000, (7000, 7001), (7000, 7001)));
        assert_eq!((of("192.168.1.9"), of("2001:db8::1"), of("127.0.0.1")), ((6881, 6881), (6881, 6881), (6881, 6881)));
    }
}
