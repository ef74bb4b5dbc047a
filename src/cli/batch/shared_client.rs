//! What the sessions of this process have in common: the configuration, the host whose port, DHT, limits and connections they
//! share, and who is there to be stopped. This is the one place where sessions of a fleet are made.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::cli::batch::queue::JobId;
use crate::cli::commands::settings::Settings;
use crate::util::descriptors::{retry_while, warn_shortage_once};
use btsync::{AddOptions, Client, ClientError, Limits, OpeningOrder, Source, Torrent, TorrentHandle};

/// The common ground.
pub(crate) struct SharedClient {
    settings: Settings,
    client: Arc<Client>,
    torrents: Mutex<BTreeMap<JobId, TorrentHandle>>,
}

impl SharedClient {
    /// For sessions after this pattern; listens from now on. Waits for descriptors as long as `should_wait` says.
    ///
    /// # Errors
    /// Where no port is free, or there is no such interface.
    pub fn new(settings: Settings, mut should_wait: impl FnMut() -> bool) -> Result<SharedClient, ClientError> {
        let is_short = |started: &Result<_, ClientError>| started.as_ref().is_err_and(ClientError::is_shortage);
        let wait = || {
            warn_shortage_once();
            should_wait()
        };
        let client = retry_while(|| settings.client.build(), is_short, wait)?;
        Ok(SharedClient { settings, client, torrents: Mutex::default() })
    }

    /// What every session is told.
    pub fn settings(&self) -> Settings {
        self.settings.clone()
    }

    /// The next place in the order of the torrents, for what was named by `name`; later ones wait for those that are near.
    pub fn opening_order(&self, name: &str, is_local: bool) -> OpeningOrder {
        self.client.opening_order(name, is_local)
    }

    /// A session that has not begun.
    pub fn torrent(&self, job: JobId, source: Source, options: AddOptions, opening_order: OpeningOrder) -> Torrent {
        let torrent = self.client.prepare(source, options.opening_order(opening_order));
        self.torrents.lock().insert(job, torrent.handle());
        torrent
    }

    /// Whether a file belongs to one of the torrents.
    pub fn owns_file(&self, file: &Path) -> bool {
        self.client.owns_file(file)
    }

    /// A session is over.
    pub fn note_ended(&self, job: JobId) {
        self.torrents.lock().remove(&job);
    }

    /// Changes the limits for all together; they hold at once.
    pub fn set_limits(&self, limits: Limits) {
        self.client.set_limits(limits);
    }

    /// Asks all of them to say goodbye.
    pub fn stop(&self) {
        self.handles().iter().for_each(|(_, handle)| handle.stop());
    }

    /// All that are there, in the order in which they were named.
    pub fn handles(&self) -> Vec<(JobId, TorrentHandle)> {
        self.torrents.lock().iter().map(|(job, handle)| (*job, handle.clone())).collect()
    }
}
