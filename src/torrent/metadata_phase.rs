//! The metadata stage of a magnet link (BEP 9): peers are found and called as for a download, but all that is asked of them is
//! the info dictionary. When it is there the connections are kept, with what peers have said of pieces, and the download goes on with
//! them.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use crate::peer::outbox::Out;
use crate::peer::{Report, Shared};
use crate::strategy::metadata_fetch::{Fetched, MetadataFetch};
use crate::torrent::events::{Event, Stage};
use crate::torrent::peer_manager::Contacts;
use crate::torrent::{Inner, tell};
use crate::types::PeerKey;
use crate::wire::metadata::MetadataMessage;

/// The main thread looks up at least so often.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// Pieces of metadata that one peer may owe us.
const MAX_OWED: u32 = 16;

/// Fetches the metadata, until it is there or somebody says stop; then `None`.
pub fn fetch(contacts: &mut Contacts<'_>, shared: &Arc<Shared>, reports: &Receiver<Report>) -> Option<Vec<u8>> {
    let inner = contacts.inner;
    inner.enter(Stage::Metadata);
    let mut seeker =
        Seeker { contacts, shared, inner, fetch: MetadataFetch::new(shared.info_hash), liars: HashSet::new() };
    let info = seeker.seek(reports);
    if info.is_some() {
        contacts.park(shared);
    }
    info
}

struct Seeker<'a, 'b> {
    contacts: &'a mut Contacts<'b>,
    shared: &'a Arc<Shared>,
    inner: &'a Inner,
    fetch: MetadataFetch,
    /// Connections that lied and are about to end.
    liars: HashSet<PeerKey>,
}

impl Seeker<'_, '_> {
    fn seek(&mut self, reports: &Receiver<Report>) -> Option<Vec<u8>> {
        while !self.inner.stop.load(Ordering::Acquire) {
            let now = self.shared.now();
            self.contacts.tick(self.shared, now);
            self.ask(now);
            let due = self.fetch.next_due(now).unwrap_or(Duration::MAX).min(self.contacts.next_due(now, self.shared));
            let wake = Instant::now() + due.saturating_sub(now).min(LONGEST_SLEEP);
            let Some(news) = self.contacts.wait(reports, wake) else { continue };
            if let Some(report) = self.contacts.hear(self.shared, news)
                && let Some(info) = self.hear(report)
            {
                return Some(info);
            }
        }
        None
    }

    /// Sends the requests that are due.
    fn ask(&mut self, now: Duration) {
        for (key, piece) in self.fetch.requests(now) {
            let Some(peer) = self.shared.roster.get(key) else { continue };
            let id = peer.metadata_id.load(Ordering::Acquire);
            if id != 0 && peer.asked_metadata.fetch_add(1, Ordering::AcqRel) < MAX_OWED {
                peer.send(Out::Extended(id, MetadataMessage::Request { piece }.encode()));
            }
        }
        let (have, of) = self.fetch.progress();
        self.inner.metadata.0.store(have, Ordering::Relaxed);
        self.inner.metadata.1.store(of, Ordering::Relaxed);
    }

    /// Takes a report that concerns this stage; the info dictionary, once it is whole.
    fn hear(&mut self, report: Report) -> Option<Vec<u8>> {
        match report {
            // A size that cannot be is no offer.
            Report::HasMetadata { key, size } if !self.liars.contains(&key) => _ = self.fetch.offer(key, size),
            Report::Metadata { key, piece, bytes: None, .. } => self.fetch.reject(key, piece, self.shared.now()),
            Report::Metadata { key, piece, total_size, bytes: Some(bytes) } => {
                match self.fetch.data(key, piece, (total_size, &bytes), self.shared.now()) {
                    Fetched::Whole(info) => return Some(info),
                    Fetched::Liar(key) => self.ban(key),
                    Fetched::Nothing | Fetched::Doubtful => {}
                }
            }
            Report::Info(info) => return Some(info),
            Report::Gone { key, addr, why } => {
                self.fetch.gone(key);
                self.liars.remove(&key);
                self.contacts.gone(self.shared, key, addr, &why);
            }
            _ => {}
        }
        None
    }

    fn ban(&mut self, key: PeerKey) {
        if let Some((addr, incoming)) = self.contacts.whereabouts(key) {
            log::info!("{addr} sent wrong metadata and is banned");
            self.liars.insert(key);
            self.contacts.ban(addr, incoming, self.shared.now());
            tell(&self.contacts.events, Event::MetadataRefused { addr });
        }
    }
}
