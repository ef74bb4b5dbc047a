//! A session that runs: from a link to its metadata, and from a torrent to its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::Receiver;

use crate::client::ClientError;
use crate::client::Seat;
use crate::metainfo::{Magnet, Torrent};
use crate::peer::super_seed::Reveal;
use crate::peer::{Report, Shared, Terms};
use crate::pieces::PieceManager;
use crate::storage::{Layout, Storage};
use crate::torrent::events::Teller;
use crate::torrent::handle::Inner;
use crate::torrent::metadata_phase;
use crate::torrent::open_files::{Opened, open};
use crate::torrent::peer_manager::Contacts;
use crate::torrent::resume_store::Keeper;
use crate::torrent::transfer::Conductor;
use crate::torrent::{Config, Event, Outcome, PendingCompletion, SessionError, Stage, keep_torrent, link_source, tell};
use crate::types::{Bitfield, InfoHash, PeerId};
use crate::util::descriptors::patiently;
use crate::util::os_error::reason;

/// A session that runs.
pub(crate) struct Run<'a> {
    pub inner: &'a Arc<Inner>,
    pub config: &'a Config,
    pub events: Teller,
    pub reports: Receiver<Report>,
    pub peer_id: PeerId,
    /// Its place at the host, until the contacts have it.
    pub seat: Option<Seat>,
}

/// What a magnet link's download goes on with: the contacts made while its metadata was fetched.
pub(crate) struct Before<'a> {
    contacts: Contacts<'a>,
    shared: Arc<Shared>,
}

impl<'a> Run<'a> {
    /// Fetches the metadata of a magnet link; `None` where somebody said stop before it was there. With it comes what there was
    /// before the download.
    pub fn find_out(&mut self, magnet: &Magnet) -> Result<Option<(Torrent, Before<'a>)>, SessionError> {
        let layout = Layout::new(1, Vec::new())?;
        let nothing = Arc::new(Storage::new(self.config.out_dir.clone(), layout, 1));
        let pieces = PieceManager::new(nothing, Vec::new(), Bitfield::new(0));
        let shared = self.shared(magnet.info_hash, self.config.pex, true, pieces);
        let tiers: Vec<Vec<String>> = magnet.trackers.iter().map(|url| vec![url.clone()]).collect();
        let mut contacts = self.contacts(&shared, &tiers, false)?;
        self.publish(&shared, &contacts);
        link_source::ask(magnet, self.config, &shared);
        let Some(info) = metadata_phase::fetch(&mut contacts, &shared, &self.reports) else {
            self.inner.enter(Stage::Stopping);
            tell(&self.events, Event::Stopping);
            contacts.leave(&shared, &self.reports, || {});
            return Ok(None);
        };
        contacts.hold_callers(true);
        let mut torrent = match Torrent::from_info(&info, tiers, magnet.web_seeds.clone()) {
            Ok(torrent) => torrent,
            Err(error) => {
                contacts.leave(&shared, &self.reports, || {});
                return Err(SessionError::Metadata(error));
            }
        };
        if self.config.allow_hidden {
            torrent.keep_hidden();
        }
        contacts.settle(torrent.private, shared.now());
        let (name, total) = (torrent.name.clone(), torrent.total());
        let _ = self.inner.known_as.set((name.clone(), total));
        tell(&self.events, Event::Metadata { name, total });
        if let Some(path) = &self.config.save_torrent {
            let what = keep_torrent(path, &torrent, &torrent.to_bytes(), self.config.overwrite);
            tell(&self.events, Event::TorrentSaved { what });
        }
        if self.config.metadata_only {
            contacts.leave(&shared, &self.reports, || {});
            let _ = self.inner.torrent.set(torrent);
            return Ok(None);
        }
        Ok(Some((torrent, Before { contacts, shared })))
    }

    /// Looks at what is there, fetches the rest, seeds.
    pub fn download(&mut self, torrent: &Torrent, mut before: Option<Before<'a>>) -> Result<Outcome, SessionError> {
        let (inner, config) = (self.inner, self.config);
        let seat = match &mut before {
            Some(before) => {
                before.contacts.lend();
                Some(&mut before.contacts.seat)
            }
            None => self.seat.as_mut(),
        };
        let Opened { storage, plan, have, keeper } = match open(inner, config, torrent, seat, &self.events) {
            Ok(opened) => opened,
            Err(error) => {
                // Whoever heard that we are there hears that we leave.
                if let Some(Before { contacts, shared }) = before {
                    inner.enter(Stage::Stopping);
                    contacts.leave(&shared, &self.reports, || {});
                }
                return Err(error);
            }
        };
        let _ = inner.found.set(have.clone());
        let uploaded = keeper.as_ref().map_or(0, Keeper::uploaded_before);
        inner.uploaded_before.store(uploaded, Ordering::Relaxed);
        let stopped = inner.stop.load(Ordering::Acquire);
        let met = plan.is_met_by(&have);
        if met && config.fsync {
            storage.sync_all()?;
        }
        if met && !config.seed.any() && before.is_none() && !stopped {
            if let Some(keeper) = keeper {
                let is_late = crate::torrent::resume_store::lateness(&inner.stop);
                keeper.finish(&storage, (have, Vec::new()), is_late);
            }
            tell(&self.events, Event::Completed);
            return Ok(Outcome::Completed);
        }
        if stopped && before.is_none() {
            return Ok(if met { Outcome::StoppedWhole } else { Outcome::Stopped });
        }
        if let Some(folder) = config.pending.as_ref().filter(|_| !met) {
            let pending = PendingCompletion::new(folder, torrent.info_hash, &config.out_dir);
            // Before the first piece can come: there must be no completion that is not remembered.
            if let Err(error) = pending.set() {
                log::warn!("after a crash the completion of this download is not told: {}", reason(&error));
            }
        }
        let pieces = PieceManager::planned(storage.clone(), torrent.pieces.clone(), have, plan);
        pieces.recall(keeper.as_ref().map_or(&[], Keeper::recalled));
        let shared = self.shared(torrent.info_hash, config.pex && !torrent.private, false, pieces);
        let _ = shared.info.set(torrent.info.clone());
        if config.super_seed && shared.pieces.is_whole() {
            let _ = shared.reveal.set(Reveal::new(shared.pieces.count(), storage.layout().piece_length()));
        }
        let mut contacts = match before {
            Some(before) => before.contacts,
            None => self.contacts(&shared, &torrent.tiers, torrent.private)?,
        };
        self.publish(&shared, &contacts);
        contacts.go_on(&shared);
        contacts.hold_callers(false);
        let outcome = Conductor::new(&shared, contacts, shared.pieces.wanted(), keeper).conduct(&self.reports);
        storage.close();
        storage.unlock();
        Ok(outcome?)
    }

    fn shared(&self, info_hash: InfoHash, pex: bool, wants_info: bool, pieces: PieceManager) -> Arc<Shared> {
        let terms = Terms {
            info_hash,
            peer_id: self.peer_id,
            encryption: self.config.encryption,
            pex,
            wants_info,
            bind: self.config.bind.clone(),
            dscp: self.config.dscp,
            client: self.config.user_agent.clone().unwrap_or_else(|| Terms::CLIENT.to_owned()),
            started: self.inner.started,
            throttle: self.inner.throttle.clone(),
        };
        Shared::new(terms, pieces, self.inner.reports.clone())
    }

    /// Listens, and begins to look for peers.
    fn contacts(
        &mut self,
        shared: &Shared,
        tiers: &[Vec<String>],
        private: bool,
    ) -> Result<Contacts<'a>, SessionError> {
        let mut seat = self.seat.take().expect("contacts are made once");
        let inner = self.inner;
        let is_short = |listens: &Result<u16, ClientError>| listens.as_ref().is_err_and(ClientError::is_shortage);
        let wait = || {
            inner.wait_for_descriptor();
            !inner.stop.load(Ordering::Acquire)
        };
        let port = patiently(|| seat.listen(), is_short, wait)?;
        tell(&self.events, Event::Listening { port });
        Ok(Contacts::new(self.inner, self.config, self.events.clone(), shared.info_hash, tiers, private, seat))
    }

    /// Connections know from now on at which ports we can be found, and handles see them.
    fn publish(&self, shared: &Arc<Shared>, contacts: &Contacts<'_>) {
        shared.port.store(contacts.port(), Ordering::Relaxed);
        let dht = if contacts.discovery.has_dht() { contacts.port() } else { 0 };
        shared.dht_port.store(dht, Ordering::Release);
        *self.inner.shared.lock() = Some(shared.clone());
        shared.paused.store(self.inner.paused.load(Ordering::Acquire), Ordering::Release);
    }
}
