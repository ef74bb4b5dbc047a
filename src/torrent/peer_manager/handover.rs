//! The transition from the metadata phase to the download: the connections stay open, their threads end. Meanwhile they are lent
//! to the file check.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::peer::{DisconnectReason, TorrentContext};
use crate::strategy::peer_list::PeerSource;
use crate::torrent::connection_entry::ConnectionEntry;
use crate::torrent::events::Event;
use crate::torrent::final_announce;
use crate::torrent::kept_connections::{CLOSED_FOR_FILES, KeptState};
use crate::torrent::peer_manager::PeerManager;
use crate::torrent::send_event;
use crate::types::PeerKey;

/// How long threads have to end. A thread whose peer does not read takes longer, and then its connection ends too.
const THREAD_END_TIMEOUT: Duration = Duration::from_secs(1);

impl PeerManager<'_> {
    /// Lends the kept connections to the file check, which may close some of them for their descriptors; until
    /// [`PeerManager::take_back`].
    pub fn lend(&mut self) {
        self.inner.peers.kept_connections.0.lock().connections = std::mem::take(&mut self.connections);
    }

    /// Takes back the connections that are left.
    pub(crate) fn take_back(&mut self) {
        let KeptState { connections, ended } = std::mem::take(&mut *self.inner.peers.kept_connections.0.lock());
        self.connections.extend(connections);
        if !ended.is_empty() {
            self.peer_list.end_other_connections(|key| self.connections.contains_key(&key));
            for addr in ended {
                send_event(&self.events, Event::PeerDisconnected { addr, reason: CLOSED_FOR_FILES.to_owned() });
            }
            self.registration.set_connection_count(self.connections.len());
        }
    }

    /// The metadata is complete: ends the threads of all connections. Connections that have finished their handshake are kept
    /// for [`PeerManager::continue_kept`]. The others, and those whose messages could not all be remembered, are closed. No
    /// peer gets a bad record for it, and all may be dialled again at once; those that connected to us, at the port that they
    /// told us.
    pub fn detach_connections(&mut self, context: &Arc<TorrentContext>) {
        self.refuse_incoming(true); // nothing handles them meanwhile
        let peers = context.roster.all();
        let met: HashSet<PeerKey> = peers.iter().map(|peer| peer.key).collect();
        context.detach_connections();
        self.connections.iter().filter(|(key, _)| !met.contains(key)).for_each(|(_, entry)| entry.connection.close());
        let deadline = Instant::now() + THREAD_END_TIMEOUT;
        let is_busy = |(key, entry): (&PeerKey, &ConnectionEntry)| met.contains(key) && !entry.connection.is_finished();
        while self.connections.iter().any(is_busy) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        let over: HashMap<_, _> = self.connections.extract_if(|_, entry| !entry.connection.join_if_ended()).collect();
        self.peer_list.end_other_connections(|key| self.connections.contains_key(&key));
        let incoming_connections = peers.iter().filter(|peer| peer.is_incoming && over.contains_key(&peer.key));
        let listening: Vec<_> = incoming_connections.filter_map(|peer| peer.listen_addr()).collect();
        self.add_peers(&listening, PeerSource::Incoming);
        self.end_connections(over);
        // Their events may not have been handled yet.
        for peer in &peers {
            self.handshake_done(context, peer.key, peer.addr, peer.is_incoming);
        }
        self.connections.values_mut().for_each(|entry| entry.peer = None);
        self.next.dial = Duration::ZERO;
    }

    /// The files are to be opened again: closes all connections. As after the metadata phase, no peer gets a bad record for it, and
    /// all may be dialled again at once.
    pub(crate) fn close_for_reopening(&mut self, context: &Arc<TorrentContext>) {
        self.refuse_incoming(true); // nothing handles them meanwhile
        context.end_connections();
        let now = context.now();
        let known = |entry: &ConnectionEntry| Some((entry.peer.clone()?, entry.handshake_done?));
        let peers: Vec<_> = self.connections.values().filter_map(known).collect();
        for (peer, since) in &peers {
            self.remember_ended(peer.key, peer.addr, peer.is_incoming);
            let received = peer.rates.downloaded.get();
            if let Some(record) = self.peer_list.record(peer.addr) {
                record.record_delivered(now, received, received / now.saturating_sub(*since).as_secs().max(1));
            }
        }
        let incoming = peers.iter().filter(|(peer, _)| peer.is_incoming).filter_map(|(peer, _)| peer.listen_addr());
        let listening: Vec<_> = incoming.collect();
        self.add_peers(&listening, PeerSource::Incoming);
        self.inner.peers.sources.lock().clear();
        self.drop_kept_connections();
        self.next.dial = Duration::ZERO;
    }

    /// Closes the kept connections.
    pub(crate) fn drop_kept_connections(&mut self) {
        let connections = std::mem::take(&mut self.connections);
        self.peer_list.end_other_connections(|_| false);
        self.end_connections(connections);
    }

    fn end_connections(&mut self, connections: HashMap<PeerKey, ConnectionEntry>) {
        self.report_disconnected(connections.values(), "closed while the files are opened; btsync connects again");
        final_announce::close_connections(connections.into_values().map(|entry| entry.connection).collect());
        self.registration.set_connection_count(self.connections.len());
    }

    /// Continues the download with the connections that were kept.
    pub fn continue_kept(&mut self, context: &Arc<TorrentContext>) {
        self.take_back();
        self.publish_connection_count(context);
        let begin = |(key, entry): (&PeerKey, &mut ConnectionEntry)| {
            let error = entry.connection.continue_kept(context, *key).err()?;
            Some((*key, entry.connection.addr, error))
        };
        let failed: Vec<_> = self.connections.iter_mut().filter_map(begin).collect();
        for (key, addr, error) in failed {
            self.connection_ended(
                context,
                key,
                addr,
                &DisconnectReason::NoThread(crate::util::os_error::reason(&error)),
            );
        }
    }
}
