//! Connections as main handles them: which peers to dial, and what to record when a connection ends.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::Level;

use crate::peer::{Connection, DialPlan, DisconnectReason, Peer, TorrentContext};
use crate::strategy::dial_rate;
use crate::strategy::slow_reader::ReadingPace;
use crate::torrent::connection_entry::{ConnectionAddress, ConnectionEntry, DeliveryProgress};
use crate::torrent::events::Event;
use crate::torrent::peer_manager::PeerManager;
use crate::torrent::send_event;
use crate::types::{PeerKey, Transport};
use crate::util::cold_sort;
use crate::utp::UtpDial;

/// A connection that lasted this long was no failure.
const MIN_USEFUL_DURATION: Duration = Duration::from_secs(30);
/// The pause after a dial that failed because we had no descriptor or thread.
pub(super) const DIAL_RETRY_DELAY: Duration = Duration::from_secs(5);
/// At most this many ended connections are remembered with their addresses.
const MAX_ENDED: usize = 1000;

impl PeerManager<'_> {
    /// There is no descriptor for a file: closes the least useful connection, and opens no others for a while.
    pub fn drop_least_useful(&mut self, now: Duration) {
        self.next.descriptors_short_until = now + DIAL_RETRY_DELAY;
        self.next.dial = self.next.dial.max(self.next.descriptors_short_until);
        if self.connections.len() < 2 {
            return; // without peers there is no download
        }
        let staying = self.connections.iter_mut().filter(|(_, entry)| !entry.is_closing);
        let least =
            staying.min_by_key(|(key, entry)| (entry.handshake_done.map(|_| entry.rate_samples[1].1), Reverse(**key)));
        if let Some((_, entry)) = least {
            entry.is_closing = true;
            entry.connection.close();
        }
    }

    /// Whether another peer can be dialled at all.
    pub(crate) fn can_dial(&self) -> bool {
        self.connections.len() < self.registration.capacity() && self.half_open() < self.max_half_open()
    }

    fn max_half_open(&self) -> usize {
        // If few connections are allowed, half of them are left for incoming ones.
        self.registration
            .fair_share(dial_rate::MAX_HALF_OPEN, dial_rate::MIN_HALF_OPEN)
            .min(self.registration.capacity().div_ceil(2))
    }

    fn half_open(&self) -> usize {
        self.connections.values().filter(|l| l.handshake_done.is_none() && !l.is_incoming).count()
    }

    /// Dials the peers that are due.
    pub(crate) fn dial_due(&mut self, context: &Arc<TorrentContext>, now: Duration) {
        if now < self.next.dial.max(self.next.descriptors_short_until) || !self.can_dial() {
            return;
        }
        let allowed = self.registration.dials_allowed();
        if allowed == 0 || self.waits_for_proxy(context, now) {
            return;
        }
        let half_open = self.max_half_open().saturating_sub(self.half_open());
        let capacity = self.registration.capacity().saturating_sub(self.connections.len()).min(half_open).min(allowed);
        let mut dial_candidates = self.peer_list.dial_candidates(now, capacity + 1);
        let patience = dial_rate::connect_timeout(dial_candidates.len() > capacity);
        dial_candidates.truncate(capacity);
        let connected = context.roster.all().into_iter().filter_map(|peer| Some((peer.listen_addr()?, peer.key)));
        let connected: HashMap<_, _> = connected.collect();
        let (mut own, transports) = (None, self.registration.dial_transports());
        for addr in dial_candidates {
            if connected.get(&addr).is_some_and(|key| self.peer_list.link_to(addr, *key, now)) {
                continue; // it seems to have connected to us
            }
            if self.forget_if_blocked(addr) {
                continue;
            }
            if addr.port() == self.port()
                && own.get_or_insert_with(|| context.settings.route.own_addresses()).contains(&addr.ip())
            {
                self.peer_list.never_dial(addr);
                continue;
            }
            let key = context.new_key();
            self.peer_list.note_dialed(addr, key);
            self.registration.note_dial();
            let plan = DialPlan {
                mode: self.peer_list.dial_mode(&addr),
                timeout: patience,
                transports: transports.clone(),
                first: self.peer_list.first_transport(&addr),
                utp_dial: UtpDial::Direct,
            };
            match Connection::dial(context, key, addr, plan) {
                Ok(connection) => {
                    self.inner.peers.sources.lock().insert(key, self.peer_list.source(&addr));
                    self.add_connection(context, key, connection, false);
                }
                Err(error) => {
                    let level = if error.kind() == ErrorKind::NotConnected { Level::Debug } else { Level::Warn };
                    log::log!(level, "cannot connect to {addr}: {error}");
                    self.peer_list.dial_not_started(addr);
                    self.next.dial = now + DIAL_RETRY_DELAY;
                    return;
                }
            }
        }
        self.next.dial = self.peer_list.next_dial().unwrap_or(Duration::MAX);
    }

    /// Whether no dial may be started, because the proxy does not work. While it does not, one dial at a time tries it.
    fn waits_for_proxy(&mut self, context: &TorrentContext, now: Duration) -> bool {
        let Some(proxy) = context.settings.route.proxy() else { return false };
        match proxy.permit_dial(Instant::now()) {
            Ok(()) => false,
            Err(wait) => {
                self.next.dial = now + wait;
                true
            }
        }
    }

    /// Publishes why the proxy does not work, if it does not.
    pub(super) fn publish_proxy_failure(&self, context: &TorrentContext) {
        if let Some(proxy) = context.settings.route.proxy() {
            self.inner.peers.search.lock().proxy_failure = proxy.failure();
        }
    }

    pub(super) fn add_connection(
        &mut self,
        context: &TorrentContext,
        key: PeerKey,
        connection: Connection,
        is_incoming: bool,
    ) {
        let since = context.now();
        let rate_samples = [(since, 0, 0); 2];
        self.connections.insert(
            key,
            ConnectionEntry {
                connection,
                is_incoming,
                is_closing: false,
                since,
                handshake_done: None,
                peer: None,
                duplicate: None,
                rate_samples,
                delivered: DeliveryProgress::default(),
                reading_pace: ReadingPace::default(),
                punch: None,
                pex_differ: None,
            },
        );
        self.publish_connection_count(context);
    }

    /// Publishes the number of connections.
    pub(crate) fn publish_connection_count(&mut self, context: &TorrentContext) {
        context.connections.set(self.connections.len() as u32);
        self.registration.set_connection_count(self.connections.len());
    }

    /// Closes the connections that are too many since other torrents need their share: first those without a finished
    /// handshake, then those that gave the least, and among equals the newest.
    pub(crate) fn drop_surplus(&mut self) {
        let capacity = self.registration.capacity();
        if self.connections.len() <= capacity {
            return;
        }
        let surplus = self.connections.values().filter(|entry| !entry.is_closing).count().saturating_sub(capacity);
        let staying = self.connections.iter_mut().filter(|(_, entry)| !entry.is_closing);
        let mut staying: Vec<_> = staying
            .map(|(key, entry)| (entry.handshake_done.map(|_| entry.rate_samples[1].1), Reverse(*key), entry))
            .collect();
        cold_sort::sort_by_key(&mut staying, |(given, key, _)| (*given, *key));
        for (_, _, entry) in staying.into_iter().take(surplus) {
            log::debug!("{}: disconnected, because other torrents need the connection", entry.connection.addr);
            entry.is_closing = true;
            entry.connection.close();
        }
    }

    /// Closes a connection of little use to make room; the peer is not dialled again at once.
    pub fn drop_connection(&mut self, key: PeerKey) {
        if let Some(entry) = self.connections.get_mut(&key) {
            log::debug!("{}: disconnected to make room for another connection", entry.connection.addr);
            entry.is_closing = true;
            entry.connection.close();
        }
    }

    /// A handshake succeeded.
    pub(crate) fn handshake_done(
        &mut self,
        context: &TorrentContext,
        key: PeerKey,
        addr: SocketAddr,
        is_incoming: bool,
    ) {
        // The connection has been closed and this event is late: the connection's end would not be reported again.
        let Some(entry) = self.connections.get_mut(&key) else { return };
        entry.peer = context.roster.get(key);
        let transport = entry.peer.as_ref().map_or(Transport::Tcp, |peer| peer.transport);
        if entry.handshake_done.is_some() {
            return; // the download continues a connection of the metadata phase
        }
        entry.handshake_done = Some(context.now());
        self.inner.peers.search.lock().note_handshake(is_incoming);
        if is_incoming {
            self.registration.note_incoming_connection(addr.ip());
        }
        self.peer_list.reached(addr, context.now());
        self.peer_list.note_transport(addr, transport);
        if let Some(peer) = &entry.peer {
            self.hole_punch.requests.connected(addr);
            peer.extensions
                .is_hole_punched
                .set(transport == Transport::Utp && self.hole_punch.dials.is_through_hole(context.now(), addr));
        }
        if let Some(peer) = entry.peer.as_ref().filter(|_| !is_incoming) {
            refute_claims(context, peer);
        }
        send_event(&self.events, Event::PeerConnected { addr, is_incoming, transport });
    }

    /// A connection has ended.
    pub fn connection_ended(
        &mut self,
        context: &TorrentContext,
        key: PeerKey,
        addr: SocketAddr,
        why: &DisconnectReason,
    ) {
        let Some(entry) = self.connections.remove(&key) else { return };
        self.inner.peers.sources.lock().remove(&key);
        self.publish_connection_count(context);
        let duplicate = self.duplicate_of(&entry, why);
        entry.connection.join();
        if entry.is_incoming && matches!(why, DisconnectReason::NoThread(_)) {
            self.evict_for(context, addr, self.connections.len()); // to have room if it connects again
        }
        self.hole_punch.disconnected(key);
        let encrypted = entry.peer.as_ref().filter(|peer| peer.is_incoming && peer.encrypted.is_set());
        if let Some(addr) = encrypted.and_then(|peer| peer.listen_addr()) {
            self.peer_list.was_encrypted(addr);
        }
        if entry.handshake_done.is_some() {
            self.remember_ended(key, addr, entry.is_incoming);
        } else if !entry.is_incoming {
            self.note_failed_dial(context, addr, entry.punch.is_some(), why);
        }
        let now = context.now();
        match why {
            _ if entry.is_incoming => {} // its port means nothing
            DisconnectReason::Ourselves => self.peer_list.never_dial(addr),
            DisconnectReason::Redundant => self.peer_list.note_redundant(addr, now),
            _ => {}
        }
        let received = entry.peer.as_ref().map_or(0, |peer| peer.rates.downloaded.get());
        if let (Some(record), Some(since)) = (self.peer_list.record(addr), entry.handshake_done) {
            record.record_delivered(now, received, received / now.saturating_sub(since).as_secs().max(1));
        }
        let worked = entry.handshake_done.is_some_and(|since| now >= since + MIN_USEFUL_DURATION) || received > 0;
        if let Some(stays) = duplicate {
            self.peer_list.note_duplicate(key, stays, now);
        } else if let Some(punch) = entry.punch.filter(|_| entry.handshake_done.is_none()) {
            self.peer_list.punch_failed(addr, key, punch);
        } else {
            self.note_disconnected((key, addr), why, worked, now);
        }
        if let Some(record) = self.peer_list.record(addr).filter(|_| !entry.is_incoming) {
            if entry.is_closing {
                record.dropped();
            }
            if why.is_violation() {
                record.note_violation(now);
            }
        }
        self.next.dial = self.next.dial.min(self.peer_list.next_dial().unwrap_or(Duration::MAX));
        log::debug!("{addr}: {why}");
        let reason = why.to_string();
        send_event(
            &self.events,
            if entry.handshake_done.is_some() {
                Event::PeerDisconnected { addr, reason }
            } else {
                Event::PeerFailed { addr, reason }
            },
        );
    }

    /// Records in the peer list that the only connection to a peer has ended.
    fn note_disconnected(
        &mut self,
        (key, addr): (PeerKey, SocketAddr),
        why: &DisconnectReason,
        has_worked: bool,
        now: Duration,
    ) {
        if matches!(why, DisconnectReason::Proxy(_)) {
            self.peer_list.dial_not_started(addr);
            self.next.dial = now; // `waits_for_proxy` decides
        } else if !(*why == DisconnectReason::Unanswered && self.peer_list.note_unanswered(addr, key)) {
            self.peer_list.disconnected(addr, key, now, has_worked);
        }
    }

    /// Sends the events for connections that end without an event of their own.
    pub(crate) fn report_disconnected<'l>(&self, connections: impl Iterator<Item = &'l ConnectionEntry>, reason: &str) {
        for entry in connections.filter(|entry| entry.handshake_done.is_some()) {
            send_event(
                &self.events,
                Event::PeerDisconnected { addr: entry.connection.addr, reason: reason.to_owned() },
            );
        }
    }

    /// The other connection to the same peer as one that has ended.
    fn duplicate_of(&self, entry: &ConnectionEntry, why: &DisconnectReason) -> Option<PeerKey> {
        let named = if let DisconnectReason::Duplicate(stays) = why { Some(*stays) } else { entry.duplicate };
        let id = entry.peer.as_ref().map(|peer| peer.id);
        let same = |other: &ConnectionEntry| id.is_some() && other.peer.as_ref().map(|peer| peer.id) == id;
        let connected = |key: &PeerKey| self.connections.get(key).is_some_and(|entry| !entry.is_closing);
        named.filter(connected).or_else(|| self.connections.iter().find(|(_, entry)| same(entry)).map(|(key, _)| *key))
    }

    /// Closes a connection because `stays` leads to the same peer.
    pub fn close_duplicate(&mut self, key: PeerKey, stays: PeerKey) {
        if let Some(entry) = self.connections.get_mut(&key) {
            entry.duplicate = Some(stays);
            entry.connection.close();
        }
    }

    /// The address of a connection, even if it has ended.
    pub fn address_of(&self, key: PeerKey) -> Option<ConnectionAddress> {
        let there = self.connections.get(&key);
        let there =
            there.map(|entry| ConnectionAddress { addr: entry.connection.addr, is_incoming: entry.is_incoming });
        there.or_else(|| self.ended_connections.iter().find(|(ended, _)| *ended == key).map(|(_, address)| *address))
    }

    /// Remembers the address of a connection that has ended, in case it turns out to have sent wrong data.
    pub(super) fn remember_ended(&mut self, key: PeerKey, addr: SocketAddr, is_incoming: bool) {
        if self.ended_connections.len() >= MAX_ENDED {
            self.ended_connections.pop_front();
        }
        self.ended_connections.push_back((key, ConnectionAddress { addr, is_incoming }));
    }

    /// Bans a peer for a while, and closes all connections that the ban covers.
    pub fn ban(&mut self, addr: SocketAddr, is_incoming: bool, now: Duration) {
        self.peer_list.ban(addr, is_incoming, now);
        // The peer may have reconnected under another key.
        let covered = |a| a == addr || self.peer_list.is_banned(&a, now);
        self.connections
            .values()
            .map(|entry| &entry.connection)
            .filter(|c| covered(c.addr))
            .for_each(Connection::close);
    }
}

/// We have reached this peer: no other peer that connected to us listens at its address, whatever it said.
fn refute_claims(context: &TorrentContext, peer: &Peer) {
    for other in context.roster.all() {
        if other.is_incoming && other.id != peer.id && other.listen_addr() == Some(peer.addr) {
            other.extensions.names_false_port.set(true);
        }
    }
}
