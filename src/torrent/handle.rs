//! The handle, which watches and controls a torrent from any thread.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::metainfo::{Metainfo, Selection};
use crate::peer::{LimitGroup, Peer, StopReason, TorrentCommand};
use crate::storage::FileSpec;
use crate::strategy::peer_list::PeerSource;
use crate::strategy::rate_limiter::{Direction, Limits};
use crate::torrent::AddOptions;
use crate::torrent::VerifiedReader;
use crate::torrent::config::{RepairScope, SeedGoal};
use crate::torrent::events::Events;
use crate::torrent::inner::TorrentInner;
use crate::torrent::peer_search::PeerSearchStats;
use crate::torrent::piece_order::FilePriority;
use crate::torrent::streams::PieceStream;
use crate::torrent::views::{FileView, PeerView, Snapshot, Stage, TrackerView};
use crate::torrent::{Outcome, TorrentError, UnreportedCompletion};
use crate::types::{InfoHash, PieceIndex, PieceState};
use crate::wire::client_name::client_name;

/// Watches and controls a torrent, from any thread.
#[derive(Clone)]
pub struct TorrentHandle(pub(crate) Arc<TorrentInner>);

impl TorrentHandle {
    /// Tells the torrent to stop; returns at once.
    pub fn stop(&self) {
        self.0.run.stop(StopReason::Requested);
        self.wake(TorrentCommand::Stop);
    }

    /// Like [`TorrentHandle::stop`], but trackers do not hear of it: the program announces the torrent itself, as a dormant seed, or
    /// starts it again at once with the same identity.
    #[doc(hidden)]
    pub fn stop_quietly(&self) {
        self.0.is_quiet.set(true);
        self.stop();
    }

    /// Waits until the torrent has ended, and returns how.
    ///
    /// # Errors
    /// What [`Torrent::run`](crate::torrent::Torrent::run) returns.
    ///
    /// # Panics
    /// If the torrent's thread panicked, which is a bug.
    pub fn wait(&self) -> Result<Outcome, Arc<TorrentError>> {
        self.0.wait_for_end()
    }

    /// How the torrent has ended; `None` while it runs.
    ///
    /// # Errors
    /// What [`Torrent::run`](crate::torrent::Torrent::run) returned.
    ///
    /// # Panics
    /// If the torrent's thread panicked, which is a bug.
    pub fn try_wait(&self) -> Option<Result<Outcome, Arc<TorrentError>>> {
        self.0.end_so_far()
    }

    /// The events of a torrent that [`Client::add`](crate::client::Client::add) started, from its start on; an event that one caller
    /// reads is gone for the others. A torrent that the program runs itself has no events here, but
    /// [`Torrent::events`](crate::torrent::Torrent::events).
    pub fn events(&self) -> Events {
        self.0.kept_events().unwrap_or_else(Events::ended)
    }

    /// Whether the completion of this download has not been reported to the user yet. `unreported_folder` is the folder of
    /// [`AddOptions::unreported_folder`](crate::torrent::AddOptions::unreported_folder), and `folder` that of the files.
    pub fn is_completion_unreported(&self, unreported_folder: &Path, folder: &Path) -> bool {
        UnreportedCompletion::new(unreported_folder, self.0.info_hash, folder).is_set()
    }

    /// Records that the completion of this download has been reported to the user; see [`TorrentHandle::is_completion_unreported`].
    pub fn mark_completion_reported(&self, unreported_folder: &Path, folder: &Path) {
        UnreportedCompletion::new(unreported_folder, self.0.info_hash, folder).clear();
    }

    /// Adds a peer to connect to.
    pub fn add_peer(&self, addr: SocketAddr) {
        self.add_found_peers(&[addr], PeerSource::User);
    }

    /// Adds peers that were found for the torrent while it did not run.
    #[doc(hidden)]
    pub fn add_found_peers(&self, peers: &[SocketAddr], source: PeerSource) {
        self.0.peers.added.lock().extend(peers.iter().map(|peer| (*peer, source)));
        self.wake(TorrentCommand::AddPeers);
    }

    /// Pauses until [`TorrentHandle::resume`]: cancels all requests and chokes all peers. Connections stay open, blocks on
    /// their way still arrive, and trackers and the DHT are still told that we are there. A check and the fetching of metadata
    /// continue.
    pub fn pause(&self) {
        self.0.run.pause();
        self.wake(TorrentCommand::PauseChanged);
    }

    /// Resumes after [`TorrentHandle::pause`].
    pub fn resume(&self) {
        self.0.run.resume();
        self.wake(TorrentCommand::PauseChanged);
    }

    /// Whether the torrent was told to pause, and not to resume since.
    pub fn is_paused(&self) -> bool {
        self.0.run.is_paused()
    }

    /// Wakes main to check the state. If its channel is full, it is awake anyway.
    fn wake(&self, why: TorrentCommand) {
        let _ = self.0.messages.try_send(why.into());
    }

    /// Changes the rate limits; they apply at once. The limits belong to the client, so they change for all its torrents.
    pub fn set_limits(&self, limits: Limits) {
        self.0.throttle.client.limit_group().set(limits);
    }

    /// The client's limits in force.
    pub fn limits(&self) -> Limits {
        self.0.throttle.client.limit_group().limits()
    }

    /// Changes the rate limits of this torrent, which apply in addition to those of the client, at once.
    pub fn set_torrent_limits(&self, limits: Limits) {
        self.0.throttle.set(limits);
    }

    /// The rate limits of this torrent alone.
    pub fn torrent_limits(&self) -> Limits {
        self.0.throttle.limits()
    }

    /// Sets whether the client's rate limits do not apply to this torrent.
    pub fn ignore_client_limits(&self, ignores: bool) {
        self.0.throttle.set_ignores_client(ignores);
    }

    /// Puts the torrent under rate limits that it shares with the other torrents of the group, in place of its earlier group.
    #[doc(hidden)]
    pub fn set_limit_group(&self, group: Option<Arc<LimitGroup>>) {
        self.0.throttle.set_group(group);
    }

    /// Changes the most connections of this torrent, within those of its client. Connections beyond that are closed.
    pub fn set_max_peers(&self, max_peers: usize) {
        self.0.max_peers.set(max_peers);
        self.wake(TorrentCommand::SettingsChanged);
    }

    /// Sets whether pieces are requested in the order of the torrent. Begun pieces are completed first.
    pub fn set_sequential(&self, is_sequential: bool) {
        self.0.change_order(|order| order.is_sequential = is_sequential);
    }

    /// Sets which files are downloaded before others, in place of the earlier priorities: each file by its index from 0, counting
    /// padding. All others have the normal priority. Files that are not wanted do not count, and begun pieces are completed first.
    #[doc(hidden)]
    pub fn set_priorities(&self, priorities: Vec<(u32, FilePriority)>) {
        self.0.change_order(|order| order.priorities = priorities);
    }

    /// Waits until the piece is verified, and has it downloaded before all others meanwhile. Returns false if the time is up, the
    /// torrent has ended, there is no such piece, or too many readers wait already. A piece that is not wanted is never verified.
    pub fn wait_for_piece(&self, piece: PieceIndex, timeout: Duration) -> bool {
        PieceStream::open(&self.0, None).is_some_and(|stream| stream.wait(piece.0, timeout))
    }

    /// A reader of the torrent for an HTTP client, while the torrent downloads. If there are too many, the oldest reader of the host
    /// that has the most ends. `None` if all are the program's own.
    #[doc(hidden)]
    pub fn stream(&self, client: IpAddr) -> Option<PieceStream> {
        PieceStream::open(&self.0, Some(client))
    }

    /// A reader of the torrent's verified data for an HTTP client. If there are too many while the torrent downloads, the oldest
    /// reader of the host that has the most ends. `None` if all are the program's own.
    #[doc(hidden)]
    pub fn verified_reader(&self, client: IpAddr) -> Option<VerifiedReader> {
        VerifiedReader::open(&self.0, client)
    }

    /// The torrent's trackers, by tier; empty until it has started to look for peers. Those with URLs that btsync does not support
    /// are left out.
    #[doc(hidden)]
    pub fn trackers(&self) -> Vec<TrackerView> {
        self.0.peers.tracker_views.lock().clone()
    }

    /// Replaces the torrent's trackers by these, in tiers (BEP 12). Those that are no longer there get no further announce, and a
    /// new one is announced to at once. URLs that the torrent itself does not have count as the user's own: they may lead to any
    /// local address.
    pub fn set_trackers(&self, tiers: Vec<Vec<String>>) {
        let requests = &self.0.peers.tracker_requests;
        *requests.tiers.lock() = Some(tiers);
        requests.replaced.set(true);
        self.wake(TorrentCommand::SettingsChanged);
    }

    /// Announces as soon as a tracker allows: a tracker that has answered after its minimum interval, one that has not 15 seconds
    /// after its last failure. Returns how long that takes; `None` if there is no tracker to announce to.
    pub fn reannounce(&self) -> Option<Duration> {
        self.0.peers.tracker_requests.reannounce.set(true);
        self.wake(TorrentCommand::SettingsChanged);
        let views = self.0.peers.tracker_views.lock();
        let earliest = views.iter().filter_map(|view| view.earliest_announce).min()?;
        Some(earliest.duration_since(SystemTime::now()).unwrap_or_default())
    }

    /// Changes which files are wanted; see [`TorrentHandle::reopen`].
    pub fn select_files(&self, selection: Selection) {
        self.reopen(move |options| options.files(selection).repair_scope(RepairScope::Unfinished));
    }

    /// Changes what the program wants of the torrent's files, while it runs. btsync closes the connections and the files and writes
    /// the resume data, as at a stop, but trackers do not notice. Then it calls `change` with the current options, on the torrent's
    /// thread, and opens the files again as at a start. What the resume data covers is not hashed. It then connects to the same
    /// peers again.
    ///
    /// Of the options that `change` returns, the folder and those of the files count: [`AddOptions::folder`],
    /// [`AddOptions::files`], [`AddOptions::renamed_files`], [`AddOptions::overwrite`], [`AddOptions::verify`] and others. `change`
    /// may move the files. If the files cannot be opened, the torrent ends with the error. A call before the files are opened for
    /// the first time changes how they are opened; one after the torrent's end has no effect.
    pub fn reopen(&self, change: impl FnOnce(AddOptions) -> AddOptions + Send + 'static) {
        self.0.reopening.add(Box::new(change));
        self.wake(TorrentCommand::SettingsChanged);
    }

    /// When the torrent stops seeding by itself.
    pub fn seed_goal(&self) -> SeedGoal {
        self.0.seed_goal
    }

    /// The torrent's name, printable. Before the metadata is known, the name in the magnet link, or else the info-hash.
    pub fn name(&self) -> &str {
        self.0.facts.name_and_size.get().map_or(&self.0.display_name, |(name, _)| name)
    }

    /// The torrent's info-hash.
    pub fn info_hash(&self) -> InfoHash {
        self.0.info_hash
    }

    /// The metadata of a magnet link, once it is complete, if the configuration asks only for that.
    pub fn metainfo(&self) -> Option<&Metainfo> {
        self.0.facts.metainfo.get()
    }

    /// The one path below the download folder that contains everything wanted and nothing else: the only file, or the torrent's
    /// own folder if the user moved no file elsewhere. `None` if there is no such path, or before it is known.
    pub fn content_path(&self) -> Option<PathBuf> {
        self.0.facts.content_path.get().filter(|path| !path.as_os_str().is_empty())
    }

    /// The figures about the search for peers.
    pub fn peer_search(&self) -> PeerSearchStats {
        self.0.peers.search.lock().clone()
    }

    /// The torrent's figures at this moment.
    pub fn snapshot(&self) -> Snapshot {
        let inner = &*self.0;
        let stage = Stage::from_u8(inner.progress.stage.get());
        let checked = (inner.progress.check.done.get(), inner.progress.check.total.get());
        let total = inner.facts.name_and_size.get().map_or(0, |(_, total)| *total);
        // If everything was complete from the start, there are no connections that could tell.
        let (total, have) = inner.facts.wanted_bytes.get().unwrap_or((total, 0));
        let mut snapshot = Snapshot {
            stage,
            total,
            metadata: inner.progress.metadata.get(),
            have,
            checked,
            total_uploaded: inner.progress.uploaded_before.get(),
            known_peers: inner.peers.known.get(),
            ..Snapshot::default()
        };
        if let Some(context) = inner.context() {
            let now = context.now();
            let peers = context.roster.all();
            if !context.settings.is_fetching_metadata {
                let wanted = context.pieces.wanted_bytes();
                (snapshot.total, snapshot.have) =
                    (wanted, wanted.saturating_sub(context.pieces.missing_wanted_bytes()));
            }
            let totals = context.payload.run_totals();
            (snapshot.downloaded, snapshot.uploaded) = (totals.downloaded, totals.uploaded);
            snapshot.total_uploaded = snapshot.total_uploaded.saturating_add(context.payload.uploaded.get());
            snapshot.wasted = context.pieces.wasted();
            snapshot.unverified = context.pieces.unverified_bytes();
            snapshot.down_rate = peers.iter().map(|peer| peer.rate(Direction::Down, now)).sum();
            snapshot.up_rate = peers.iter().map(|peer| peer.rate(Direction::Up, now)).sum();
            snapshot.active_peers = peers.iter().filter(|p| p.is_active(now)).count();
            snapshot.connected_peers = peers.len();
            if !context.is_paused() && !context.pieces.is_complete() {
                snapshot.web_seeds = context.web_seeds.count();
                snapshot.down_rate = snapshot.down_rate.saturating_add(context.web_seeds.rate());
            }
        }
        snapshot
    }

    /// Writes the state of every piece to `out`; empty before the check has ended.
    pub fn pieces(&self, out: &mut Vec<PieceState>) {
        out.clear();
        if let Some(context) = self.0.context() {
            context.pieces.piece_states(out);
        }
    }

    /// Writes to `out` how many of the connected peers have each piece; empty before the check has ended.
    pub fn availability(&self, out: &mut Vec<u16>) {
        out.clear();
        if let Some(context) = self.0.context() {
            context.pieces.availability(out);
        }
    }

    /// For each piece, whether it was complete at the start; empty before the check has ended.
    pub fn pieces_found(&self) -> Vec<bool> {
        let found = self.0.facts.found_pieces.get();
        found.map_or_else(Vec::new, |found| (0..found.len()).map(|piece| found.has(PieceIndex(piece))).collect())
    }

    /// Whether the check found everything wanted complete; false before it has ended.
    pub fn was_complete(&self) -> bool {
        self.0.facts.wanted_bytes.get().is_some_and(|(total, have)| have >= total)
    }

    /// The wanted files with their pieces, without padding; empty before the check has ended.
    pub fn files(&self) -> Vec<FileView> {
        let Some(context) = self.0.context() else { return Vec::new() };
        let layout = context.pieces.storage().layout();
        let storage = context.pieces.storage();
        let files = layout.files().iter().enumerate().filter(|(number, file)| !file.is_pad && storage.wants(*number));
        let view = |(number, file): (usize, &FileSpec)| FileView {
            index: number as u32,
            path: layout.final_name(number).unwrap_or(&file.path).to_string_lossy().into_owned(),
            stored_as: (!storage.has_final_names() && layout.final_name(number) != Some(&file.path))
                .then(|| file.path.to_string_lossy().into_owned()),
            length: file.length,
            pieces: layout.pieces_of(number),
        };
        files.map(view).collect()
    }

    /// Whether all files have their final names.
    pub fn has_final_names(&self) -> bool {
        self.0.context().is_none_or(|context| context.pieces.storage().has_final_names())
    }

    /// The connected peers.
    pub fn peers(&self) -> Vec<PeerView> {
        let Some(context) = self.0.context() else { return Vec::new() };
        let (now, sources) = (context.now(), self.0.peers.sources.lock().clone());
        let view = |peer: Arc<Peer>| PeerView {
            source: if peer.is_incoming { Some(PeerSource::Incoming) } else { sources.get(&peer.key).copied() },
            down_rate: peer.rate(Direction::Down, now),
            up_rate: peer.rate(Direction::Up, now),
            addr: peer.addr,
            client: client_name(&peer.id, peer.extensions.version.get().map(String::as_str)),
            is_incoming: peer.is_incoming,
            is_encrypted: peer.encrypted.is_set(),
            transport: peer.transport,
            is_hole_punched: peer.extensions.is_hole_punched.is_set(),
            supports_fast: peer.extensions.supports_fast,
            downloaded: peer.rates.downloaded.get(),
            uploaded: peer.rates.uploaded.get(),
            progress: context.pieces.fraction_of_peer(peer.key),
            peer_choking: peer.choking.peer_choking.is_set(),
            peer_interested: peer.choking.peer_interested.is_set(),
            am_choking: peer.choking.am_choking.is_set(),
            am_interested: peer.choking.am_interested.is_set(),
            is_snubbing: peer.choking.is_snubbing.is_set(),
        };
        context.roster.all().into_iter().map(view).collect()
    }
}
