//! What the torrents of a batch share: the settings, the client (port, DHT, limits, connections), and their handles. All
//! torrents of a batch are created here.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::cli::batch::queue::JobId;
use crate::cli::settings::Settings;
use crate::util::descriptors::{retry_while, warn_shortage_once};
use btsync::{AddOptions, ClaimPosition, Client, ClientError, Limits, Source, Torrent, TorrentHandle};

/// The client of a batch and the handles of its torrents.
pub(crate) struct SharedClient {
    settings: Settings,
    client: Arc<Client>,
    torrents: Mutex<BTreeMap<JobId, TorrentHandle>>,
}

impl SharedClient {
    /// Creates the client, which listens from now on. If the process is out of descriptors, waits as long as `should_wait`
    /// returns true.
    ///
    /// # Errors
    /// No port is free, or the network interface does not exist.
    pub fn new(settings: Settings, mut should_wait: impl FnMut() -> bool) -> Result<SharedClient, ClientError> {
        let is_short = |started: &Result<_, ClientError>| started.as_ref().is_err_and(ClientError::is_shortage);
        let wait = || {
            warn_shortage_once();
            should_wait()
        };
        let client = retry_while(|| settings.client.build(), is_short, wait)?;
        Ok(SharedClient { settings, client, torrents: Mutex::default() })
    }

    /// The settings of every torrent.
    pub fn settings(&self) -> Settings {
        self.settings.clone()
    }

    /// The next position in the claim order, for a torrent added as `name`. Later torrents wait for it if it is local.
    pub fn claim_position(&self, name: &str, is_local: bool) -> ClaimPosition {
        self.client.claim_position(name, is_local)
    }

    /// Adds a torrent without starting it.
    pub fn torrent(&self, job: JobId, source: Source, options: AddOptions, claim_position: ClaimPosition) -> Torrent {
        let torrent = self.client.prepare(source, options.claim_position(claim_position));
        self.torrents.lock().insert(job, torrent.handle());
        torrent
    }

    /// Whether the file belongs to one of the torrents.
    pub fn owns_file(&self, file: &Path) -> bool {
        self.client.owns_file(file)
    }

    /// Forgets a torrent that has ended.
    pub fn note_ended(&self, job: JobId) {
        self.torrents.lock().remove(&job);
    }

    /// Changes the limits for all torrents together, with immediate effect.
    pub fn set_limits(&self, limits: Limits) {
        self.client.set_limits(limits);
    }

    /// Asks all torrents to stop.
    pub fn stop(&self) {
        self.handles().iter().for_each(|(_, handle)| handle.stop());
    }

    /// All torrents, in the order of the command line.
    pub fn handles(&self) -> Vec<(JobId, TorrentHandle)> {
        self.torrents.lock().iter().map(|(job, handle)| (*job, handle.clone())).collect()
    }
}
