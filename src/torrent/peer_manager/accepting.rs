//! Incoming connections: which ones are accepted, and which other connection ends for them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::peer::{Connection, IncomingConnection, TorrentContext};
use crate::strategy::eviction::{EvictionCandidate, HandshakeProgress, Usefulness, choose_eviction};
use crate::torrent::connection_entry::ConnectionEntry;
use crate::torrent::peer_manager::PeerManager;
use crate::torrent::peer_manager::connecting::DIAL_RETRY_DELAY;
use crate::types::PeerKey;

/// At most this many connections that were closed to make room may still have threads.
const MAX_CLOSING: usize = 24;

impl PeerManager<'_> {
    /// Accepts an incoming connection.
    pub(crate) fn accept(&mut self, context: &Arc<TorrentContext>, connection: IncomingConnection) {
        let IncomingConnection { stream, addr, handshake } = connection;
        if context.are_connections_ending()
            || context.now() < self.next.descriptors_short_until
            || self.peer_list.is_refused(&addr, context.now())
            || !(self.has_room_for_incoming() || self.evict_for(context, addr, self.registration.capacity()))
        {
            log::debug!("{addr}: incoming connection refused");
            return;
        }
        let key = context.new_key();
        match Connection::accept(context, key, stream, addr, handshake) {
            Ok(connection) => self.add_connection(context, key, connection, true),
            Err(error) => self.accept_failed(context, addr, &error),
        }
    }

    /// There is no thread or descriptor for an incoming connection, so the table is as full as it can be. Evicts a connection,
    /// so that peers that hold all threads and do nothing keep no one out. The number of log lines is limited, as strangers
    /// cause them.
    fn accept_failed(&mut self, context: &TorrentContext, addr: SocketAddr, error: &std::io::Error) {
        let now = context.now();
        let level = if now < self.next.accept_warning { log::Level::Debug } else { log::Level::Warn };
        if level == log::Level::Warn {
            self.next.accept_warning = now + DIAL_RETRY_DELAY;
        }
        log::log!(level, "cannot handle the incoming connection from {addr}: {error}");
        self.evict_for(context, addr, self.connections.len());
    }

    /// Whether there is room for an incoming connection; a quarter of the room is kept for peers that we dial.
    fn has_room_for_incoming(&self) -> bool {
        let staying = || self.connections.values().filter(|entry| !entry.is_closing);
        let capacity = self.registration.capacity();
        let most = (capacity - capacity / 4).max(1);
        staying().filter(|entry| entry.is_incoming).count() < most && staying().count() < capacity
    }

    /// Evicts the least useful connection of the network with the most connections, so that `newcomer` gets one of the
    /// `capacity` places. Returns whether it could.
    pub(super) fn evict_for(&mut self, context: &TorrentContext, newcomer: SocketAddr, capacity: usize) -> bool {
        if self.connections.values().filter(|entry| entry.is_closing).count() >= MAX_CLOSING {
            return false;
        }
        let full = self.connections.values().filter(|entry| !entry.is_closing).count() >= capacity;
        // If there are too many incoming connections, evict one of those; otherwise any that the user did not name.
        let may_end = |entry: &ConnectionEntry| {
            let may_evict_outgoing =
                full && entry.handshake_done.is_some() && !self.peer_list.is_from_user(&entry.connection.addr);
            !entry.is_closing && (entry.is_incoming || may_evict_outgoing)
        };
        let (fair, now) = ((capacity / 4).max(1), context.now());
        let connections = self.connections.iter().filter(|(_, entry)| may_end(entry));
        let candidates: Vec<_> = connections.map(|(key, entry)| eviction_candidate(*key, entry, now)).collect();
        let Some(gone) = choose_eviction(newcomer.ip(), &candidates, fair, &self.eviction_limiter, now) else {
            return false;
        };
        log::debug!("evicting a connection for {newcomer}");
        if let Some(limited) = gone.limited {
            self.eviction_limiter.note(limited, now);
        }
        self.drop_connection(gone.key);
        true
    }
}

/// The connection, as the choice of which to evict sees it.
fn eviction_candidate(key: PeerKey, entry: &ConnectionEntry, now: Duration) -> EvictionCandidate {
    let traffic = entry.peer.as_ref().map(|peer| peer.traffic()).unwrap_or_default();
    let usefulness = match &entry.peer {
        Some(_) if entry.delivered.is_stuck(now) => Usefulness::Stuck,
        Some(_) if traffic.last_block().is_some() => Usefulness::Transferred,
        Some(peer) if peer.choking.left_slot_idle.is_set() => Usefulness::LeftSlotIdle,
        _ => Usefulness::Unknown,
    };
    EvictionCandidate {
        key,
        ip: entry.connection.addr.ip(),
        handshake: match entry.handshake_done {
            Some(_) => HandshakeProgress::Done,
            None if entry.connection.has_received() => HandshakeProgress::Begun,
            None => HandshakeProgress::Silent,
        },
        since: entry.since,
        last_block: traffic.last_block().unwrap_or_default().max(entry.since),
        usefulness,
        total: traffic.total(),
        recent: traffic.recent(now),
    }
}
