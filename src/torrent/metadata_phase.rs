//! The metadata phase of a magnet link (BEP 9): finds and dials peers as for a download, but requests only the info dictionary.
//! Once it is complete, the connections are kept, with what the peers have said about pieces, and the download continues with
//! them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use crate::peer::outbox::WriterCommand;
use crate::peer::{PeerEvent, TorrentCommand, TorrentContext, TorrentMessage};
use crate::storage::StopCheck as _;
use crate::strategy::metadata_fetch::{FetchOutcome, MetadataFetch};
use crate::torrent::connection_entry::ConnectionAddress;
use crate::torrent::events::Event;
use crate::torrent::peer_manager::PeerManager;
use crate::torrent::views::Stage;
use crate::torrent::{TorrentInner, send_event};
use crate::types::PeerKey;
use crate::wire::metadata::MetadataMessage;

/// Upper bound on sleep, in case a deadline is missed.
const MAX_SLEEP: Duration = Duration::from_secs(60);
/// Metadata requests to one peer that may be outstanding.
const MAX_REQUESTS_PER_PEER: u32 = 16;

/// Fetches the metadata; `None` if the torrent is stopped first.
pub fn fetch(
    peer_manager: &mut PeerManager<'_>,
    context: &Arc<TorrentContext>,
    messages: &Receiver<TorrentMessage>,
) -> Option<Vec<u8>> {
    let inner = peer_manager.inner;
    inner.set_stage(Stage::Metadata);
    let mut phase = MetadataPhase {
        peer_manager,
        context,
        inner,
        fetch: MetadataFetch::new(context.settings.info_hash),
        banned: HashSet::new(),
    };
    let info = phase.run(messages);
    if info.is_some() {
        peer_manager.detach_connections(context);
    }
    info
}

struct MetadataPhase<'a, 'b> {
    peer_manager: &'a mut PeerManager<'b>,
    context: &'a Arc<TorrentContext>,
    inner: &'a TorrentInner,
    fetch: MetadataFetch,
    /// Connections that sent wrong metadata and are about to end.
    banned: HashSet<PeerKey>,
}

impl MetadataPhase<'_, '_> {
    fn run(&mut self, messages: &Receiver<TorrentMessage>) -> Option<Vec<u8>> {
        while !self.inner.run.is_stopped() {
            let now = self.context.now();
            self.peer_manager.tick(self.context, now);
            self.send_requests(now);
            let due =
                self.fetch.next_due(now).unwrap_or(Duration::MAX).min(self.peer_manager.next_due(now, self.context));
            let wake = Instant::now() + due.saturating_sub(now).min(MAX_SLEEP);
            let Some(loop_event) = self.peer_manager.wait(messages, wake) else { continue };
            match self.peer_manager.handle_event(self.context, loop_event) {
                Some(TorrentMessage::Command(TorrentCommand::UseMetadata(info))) => return Some(info),
                Some(TorrentMessage::Peer(event)) => {
                    if let Some(info) = self.handle_event(event) {
                        return Some(info);
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// Sends the requests that are due.
    fn send_requests(&mut self, now: Duration) {
        for (key, piece) in self.fetch.requests(now) {
            let Some(peer) = self.context.roster.get(key) else { continue };
            let id = peer.extensions.metadata_id.get();
            if id != 0 && peer.requesting.outstanding_metadata.add(1) < MAX_REQUESTS_PER_PEER {
                peer.send(WriterCommand::Extended(id, MetadataMessage::Request { piece }.encode()));
            }
        }
        let (received, total) = self.fetch.progress();
        self.inner.progress.metadata.set(received, total);
    }

    /// Handles an event of this phase. Returns the info dictionary once it is complete.
    fn handle_event(&mut self, event: PeerEvent) -> Option<Vec<u8>> {
        match event {
            // An impossible size does not count as an offer.
            PeerEvent::HasMetadata { key, size } if !self.banned.contains(&key) => _ = self.fetch.add_source(key, size),
            PeerEvent::Metadata { key, piece, bytes: None, .. } => self.fetch.reject(key, piece, self.context.now()),
            PeerEvent::Metadata { key, piece, total_size, bytes: Some(bytes) } => {
                match self.fetch.data(key, piece, (total_size, &bytes), self.context.now()) {
                    FetchOutcome::Complete(info) => return Some(info),
                    FetchOutcome::CorruptSender(key) => self.ban(key),
                    FetchOutcome::Nothing | FetchOutcome::MixedFailure => {}
                }
            }
            PeerEvent::Disconnected { key, addr, why } => {
                self.fetch.remove_source(key);
                self.banned.remove(&key);
                self.peer_manager.connection_ended(self.context, key, addr, &why);
            }
            _ => {}
        }
        None
    }

    fn ban(&mut self, key: PeerKey) {
        if let Some(ConnectionAddress { addr, is_incoming }) = self.peer_manager.address_of(key) {
            log::info!("{addr} sent wrong metadata and is banned");
            self.banned.insert(key);
            self.peer_manager.ban(addr, is_incoming, self.context.now());
            send_event(&self.peer_manager.events, Event::MetadataRefused { addr });
        }
    }
}
