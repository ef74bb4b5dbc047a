//! A torrent that runs: from a magnet link to its metadata, and from the check to the end of seeding.

use std::sync::Arc;

use crossbeam_channel::Receiver;

use crate::client::ClientError;
use crate::client::Registration;
use crate::discovery::tracker::announce::TorrentIdentity;
use crate::metainfo::{Magnet, Metainfo, MetainfoError};
use crate::peer::super_seed::SuperSeeding;
use crate::peer::{ContextSettings, PayloadSums, TorrentContext, TorrentMessage};
use crate::pieces::PieceManager;
use crate::storage::{Layout, StopCheck as _, Storage};
use crate::torrent::events::EventSender;
use crate::torrent::inner::TorrentInner;
use crate::torrent::metadata_phase;
use crate::torrent::open_files::{OpenedFiles, open};
use crate::torrent::peer_manager::PeerManager;
use crate::torrent::resume_store::ResumeStore;
use crate::torrent::transfer::{Transfer, TransferEnd};
use crate::torrent::wanted_files::WantedFiles;
use crate::torrent::{
    Event, Outcome, Stage, TorrentConfig, TorrentError, UnreportedCompletion, metadata_from_url, save_torrent_file,
    send_event,
};
use crate::types::{Bitfield, InfoHash};
use crate::util::descriptors::retry_while;
use crate::util::os_error::reason;

/// A torrent that runs.
pub(crate) struct TorrentRun<'a> {
    pub inner: &'a Arc<TorrentInner>,
    pub config: Arc<TorrentConfig>,
    pub events: EventSender,
    pub messages: Receiver<TorrentMessage>,
    pub identity: TorrentIdentity,
    /// The registration with the client, until the peer manager takes it.
    pub registration: Option<Registration>,
}

/// What the download of a magnet link takes over from the metadata phase: the peer manager and its connections. The same of an
/// earlier transfer, without connections, if the files are opened again.
pub(crate) struct KeptPeers<'a> {
    peer_manager: PeerManager<'a>,
    context: Arc<TorrentContext>,
}

/// How a download ended.
enum DownloadEnd<'a> {
    Ended(Outcome),
    /// The program has other wishes regarding the files.
    Reopen(Box<KeptPeers<'a>>),
}

impl<'a> TorrentRun<'a> {
    /// Fetches the metadata of a magnet link; `None` if the torrent is stopped first, or if only the metadata is wanted. Also
    /// returns the peers of the metadata phase, for the download.
    pub fn fetch_metadata(&mut self, magnet: &Magnet) -> Result<Option<(Metainfo, KeptPeers<'a>)>, TorrentError> {
        let layout = Layout::new(1, Vec::new())?;
        let nothing = Arc::new(Storage::new(self.config.out_dir.clone(), layout, 1));
        let pieces = PieceManager::new(nothing, Vec::new(), Bitfield::new(0));
        let context = self.context(magnet.info_hash, self.config.search.uses_pex, true, pieces);
        let tiers: Vec<Vec<String>> = magnet.trackers.iter().map(|url| vec![url.clone()]).collect();
        let mut peer_manager = self.peer_manager(&context, &tiers, false, false)?;
        self.publish(&context, &peer_manager);
        metadata_from_url::fetch_in_background(magnet, &self.config, &context);
        let Some(info) = metadata_phase::fetch(&mut peer_manager, &context, &self.messages) else {
            self.inner.set_stage(Stage::Stopping);
            send_event(&self.events, Event::Stopping);
            peer_manager.shut_down(&context, &self.messages, || {});
            return Ok(None);
        };
        peer_manager.refuse_incoming(true);
        let torrent = Metainfo::from_info(&info, tiers, magnet.web_seeds.clone());
        // The peers sent what the link's v1 hash names; the link may name something else by its v2 hash.
        let is_other =
            |torrent: &Metainfo| magnet.info_hash_v2.is_some() && magnet.info_hash_v2 != torrent.info_hash_v2;
        let mut torrent = match torrent
            .and_then(|torrent| if is_other(&torrent) { Err(MetainfoError::OtherV2Hash) } else { Ok(torrent) })
        {
            Ok(torrent) => torrent,
            Err(error) => {
                peer_manager.shut_down(&context, &self.messages, || {});
                return Err(TorrentError::Metadata(error));
            }
        };
        self.config.files.change_names(&mut torrent);
        peer_manager.apply_metadata(torrent.is_private, context.now());
        let (name, total) = (torrent.name.clone(), torrent.total());
        let _ = self.inner.facts.name_and_size.set((name.clone(), total));
        send_event(&self.events, Event::Metadata { name, total });
        if let Some(path) = &self.config.save_torrent {
            send_event(&self.events, save_torrent_file(path, &torrent, &torrent.to_bytes(), &self.config));
        }
        if self.config.wants_metadata_only {
            peer_manager.shut_down(&context, &self.messages, || {});
            let _ = self.inner.facts.metainfo.set(torrent);
            return Ok(None);
        }
        Ok(Some((torrent, KeptPeers { peer_manager, context })))
    }

    /// Checks the files, downloads what is missing, and seeds. Starts again if the program changes what it wants of the files.
    pub fn download(
        &mut self,
        metainfo: &Metainfo,
        mut kept_peers: Option<KeptPeers<'a>>,
    ) -> Result<Outcome, TorrentError> {
        loop {
            let before = self.config.clone();
            let requests = self.inner.reopening.apply(&mut self.config);
            if requests > 0 {
                send_event(&self.events, Event::Reopening { requests });
            }
            if let Err(error) = WantedFiles::new(metainfo, &self.config)
                && kept_peers.as_ref().is_some_and(|kept_peers| !kept_peers.context.settings.is_fetching_metadata)
            {
                log::warn!("the files of the torrent stay as they were: {error}");
                self.config = before;
            }
            match self.open_and_transfer(metainfo, kept_peers)? {
                DownloadEnd::Ended(outcome) => return Ok(outcome),
                DownloadEnd::Reopen(kept) => kept_peers = Some(*kept),
            }
        }
    }

    fn open_and_transfer(
        &mut self,
        metainfo: &Metainfo,
        mut kept_peers: Option<KeptPeers<'a>>,
    ) -> Result<DownloadEnd<'a>, TorrentError> {
        let (inner, config) = (self.inner, self.config.clone());
        let OpenedFiles { storage, plan, have, resume_store } = match self.open_files(metainfo, &mut kept_peers) {
            Ok(opened) => opened,
            Err(error) => {
                self.leave(kept_peers);
                return Err(error);
            }
        };
        inner.facts.found_pieces.set(have.clone());
        let earlier = kept_peers.as_ref().map(|kept_peers| kept_peers.context.payload.run_totals()).unwrap_or_default();
        // Without a record, what this run has sent before its files were opened again counts.
        let uploaded = resume_store.as_ref().map_or(earlier.uploaded, ResumeStore::uploaded_before);
        inner.progress.uploaded_before.set(uploaded);
        let stopped = inner.run.is_stopped();
        let met = plan.is_met_by(&have);
        if met && config.files.syncs_data {
            storage.sync_all()?;
        }
        if met && !config.seed.any() && kept_peers.is_none() && !stopped {
            return Ok(DownloadEnd::Ended(self.complete_at_once(&storage, have, resume_store)));
        }
        if (stopped || config.files.ends_after_check) && kept_peers.is_none() {
            if let Some(resume_store) = resume_store.filter(|_| met && !stopped) {
                resume_store.finish(&storage, (have, Vec::new()), |_| false);
            }
            return Ok(DownloadEnd::Ended(if met { Outcome::StoppedComplete } else { Outcome::Stopped }));
        }
        if !met {
            // Before the first piece can arrive: no download may complete without this record.
            self.record_unreported(metainfo);
        }
        self.transfer(metainfo, OpenedFiles { storage, plan, have, resume_store }, earlier, kept_peers)
    }

    /// Downloads and seeds until the torrent ends, or its files have to be opened again. `earlier` is the payload of this run so far.
    fn transfer(
        &mut self,
        metainfo: &Metainfo,
        OpenedFiles { storage, plan, have, resume_store }: OpenedFiles,
        earlier: PayloadSums,
        kept_peers: Option<KeptPeers<'a>>,
    ) -> Result<DownloadEnd<'a>, TorrentError> {
        let pieces = PieceManager::with_plan(storage.clone(), metainfo.pieces.clone(), have, plan);
        pieces.restore(resume_store.as_ref().map_or(&[], ResumeStore::resumed_blocks));
        let context = self.transfer_context(metainfo, pieces);
        context.payload.continue_from(earlier);
        let mut peer_manager = if let Some(kept_peers) = kept_peers {
            kept_peers.peer_manager.with_config(self.config.clone())
        } else {
            let has_web_seeds = self.config.search.uses_torrent_web_seeds
                && !(metainfo.web_seeds.is_empty() && metainfo.http_seeds.is_empty());
            self.peer_manager(&context, &metainfo.tiers, metainfo.is_private, has_web_seeds)?
        };
        self.publish(&context, &peer_manager);
        self.apply_order(&context);
        peer_manager.continue_kept(&context);
        peer_manager.refuse_incoming(false);
        let ended = Transfer::new(&context, peer_manager, context.pieces.wanted_bytes(), resume_store)
            .with_web_seeds(metainfo)
            .run(&self.messages);
        storage.close();
        storage.unlock();
        Ok(match ended? {
            TransferEnd::Ended(outcome) => DownloadEnd::Ended(outcome),
            TransferEnd::Reopen(peer_manager) => {
                DownloadEnd::Reopen(Box::new(KeptPeers { peer_manager: *peer_manager, context: context.clone() }))
            }
        })
    }

    /// Checks the files and creates those that are missing, while the connections of the metadata phase wait.
    fn open_files(
        &mut self,
        metainfo: &Metainfo,
        kept_peers: &mut Option<KeptPeers<'a>>,
    ) -> Result<OpenedFiles, TorrentError> {
        let registration = match kept_peers {
            Some(kept_peers) => {
                kept_peers.peer_manager.lend();
                Some(&mut kept_peers.peer_manager.registration)
            }
            None => self.registration.as_mut(),
        };
        open(self.inner, &self.config, metainfo, registration, &self.events)
    }

    /// The context of the connections during the transfer.
    fn transfer_context(&self, metainfo: &Metainfo, pieces: PieceManager) -> Arc<TorrentContext> {
        let allows_pex = self.config.search.uses_pex && !metainfo.is_private;
        let context = self.context(metainfo.info_hash, allows_pex, false, pieces);
        let (checks, storage) = (Arc::downgrade(&context), context.pieces.storage());
        storage.set_content_check(move |file| checks.upgrade().map_or(Ok(false), |it| it.pieces.is_content_ours(file)));
        let _ = context.info.set(metainfo.info.clone());
        if self.config.super_seeds && context.pieces.is_seed() {
            let super_seeding = SuperSeeding::new(context.pieces.piece_count(), storage.layout().piece_length());
            let _ = context.super_seeding.set(super_seeding);
        }
        context
    }

    /// Tells the peers and trackers that know of us, if any, that we leave.
    fn leave(&self, kept_peers: Option<KeptPeers<'a>>) {
        let Some(KeptPeers { peer_manager, context }) = kept_peers else { return };
        self.inner.set_stage(Stage::Stopping);
        peer_manager.shut_down(&context, &self.messages, || {});
    }

    /// Ends a run that found everything on disk and need not seed.
    fn complete_at_once(&self, storage: &Storage, have: Bitfield, resume_store: Option<ResumeStore>) -> Outcome {
        if let Some(resume_store) = resume_store {
            let is_late = crate::torrent::resume_store::skip_after_stop(&*self.inner.run);
            resume_store.finish(storage, (have, Vec::new()), is_late);
        }
        send_event(&self.events, Event::Completed);
        Outcome::Completed
    }

    /// Records that the download is not complete, if the options ask for that.
    fn record_unreported(&self, metainfo: &Metainfo) {
        let Some(folder) = &self.config.records.unreported_folder else { return };
        let unreported = UnreportedCompletion::new(folder, metainfo.info_hash, &self.config.out_dir);
        if let Err(error) = unreported.set() {
            log::warn!(
                "cannot record the download as pending, so after a crash its completion is not reported: {}",
                reason(&error)
            );
        }
    }

    fn context(
        &self,
        info_hash: InfoHash,
        uses_pex: bool,
        is_fetching_metadata: bool,
        pieces: PieceManager,
    ) -> Arc<TorrentContext> {
        let terms = ContextSettings {
            info_hash,
            peer_id: self.identity.peer_id,
            encryption: self.config.connections.encryption,
            uses_pex,
            is_fetching_metadata,
            route: self.config.client.route.clone(),
            dscp: self.config.connections.dscp,
            client_name: self
                .config
                .connections
                .user_agent
                .clone()
                .unwrap_or_else(|| ContextSettings::CLIENT_NAME.to_owned()),
            started: self.inner.started,
            throttle: self.inner.throttle.clone(),
            run: self.inner.run.clone(),
        };
        TorrentContext::new(terms, pieces, self.inner.messages.clone())
    }

    /// Listens for connections, and starts to look for peers.
    fn peer_manager(
        &mut self,
        context: &TorrentContext,
        tiers: &[Vec<String>],
        is_private: bool,
        has_web_seeds: bool,
    ) -> Result<PeerManager<'a>, TorrentError> {
        let mut registration = self.registration.take().expect("the peer manager is made once");
        let inner = self.inner;
        let is_short = |listens: &Result<u16, ClientError>| listens.as_ref().is_err_and(ClientError::is_shortage);
        let wait = || {
            inner.wait_for_descriptor();
            !inner.run.is_stopped()
        };
        let port = retry_while(|| registration.listen(), is_short, wait)?;
        send_event(&self.events, Event::Listening { port });
        Ok(PeerManager::new(
            self.inner,
            self.config.clone(),
            self.events.clone(),
            context.settings.info_hash,
            tiers,
            is_private,
            has_web_seeds,
            registration,
        ))
    }

    /// Applies the order of pieces that the program wants by now, before any peer is picked for, and lets readers wait for pieces.
    fn apply_order(&self, context: &TorrentContext) {
        let inner = Arc::downgrade(self.inner);
        context.pieces.on_verified(move |piece| {
            if let Some(inner) = inner.upgrade() {
                inner.streams.piece_verified(piece);
            }
        });
        self.inner.change_order(|_| ());
        self.inner.streams.refresh(context);
    }

    /// Publishes our ports to the connections, and the shared context to handles.
    fn publish(&self, context: &Arc<TorrentContext>, peer_manager: &PeerManager<'_>) {
        context.ports.tcp.set(peer_manager.port());
        let names_dht = peer_manager.discovery.has_dht() && !context.settings.route.is_anonymous();
        let dht = if names_dht { peer_manager.port() } else { 0 };
        context.ports.dht.set(dht);
        context.offers_hole_punch.set(peer_manager.can_punch_holes(context));
        *self.inner.context.lock() = Some(context.clone());
    }
}
