//! What the sessions of this process have in common: the configuration, the host whose port, DHT, limits and connections they
//! share, and who is there to be stopped. This is the one place where sessions of a fleet are made.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::cli::batch::queue::Job;
use crate::torrent::{ClientError, Config, Handle, Host, Limits, Session, Source, Turn};
use crate::util::descriptors::{patiently, tell_once};

/// The common ground.
pub(crate) struct Ground {
    config: Config,
    host: Arc<Host>,
    sessions: Mutex<BTreeMap<Job, Handle>>,
}

impl Ground {
    /// For sessions after this pattern; listens from now on. Waits for descriptors as long as `go_on` says.
    ///
    /// # Errors
    /// Where no port is free, or there is no such interface.
    pub fn new(config: Config, mut go_on: impl FnMut() -> bool) -> Result<Ground, ClientError> {
        let is_short = |started: &Result<_, ClientError>| started.as_ref().is_err_and(ClientError::is_shortage);
        let wait = || {
            tell_once();
            go_on()
        };
        let host = patiently(|| Host::start(&config.client()), is_short, wait)?;
        Ok(Ground { config, host, sessions: Mutex::default() })
    }

    /// What every session is told.
    pub fn config(&self) -> Config {
        self.config.clone()
    }

    /// The next place in the order of the torrents, for what was named by `name`; later ones wait for those that are near.
    pub fn turn(&self, name: &str, is_near: bool) -> Turn {
        self.host.turn(name, is_near)
    }

    /// A session that has not begun.
    pub fn session(&self, job: Job, source: Source, config: Config, turn: Turn) -> Session {
        let session = Session::on(&self.host, source, config).in_turn(turn);
        self.sessions.lock().insert(job, session.handle());
        session
    }

    /// Whether a file belongs to one of the torrents.
    pub fn owns(&self, file: &Path) -> bool {
        self.host.owns(file)
    }

    /// A session is over.
    pub fn ended(&self, job: Job) {
        self.sessions.lock().remove(&job);
    }

    /// Changes the limits for all together; they hold at once.
    pub fn set_limits(&self, limits: Limits) {
        self.host.set_limits(limits);
    }

    /// Asks all of them to say goodbye.
    pub fn stop(&self) {
        self.handles().iter().for_each(|(_, handle)| handle.stop());
    }

    /// All that are there, in the order in which they were named.
    pub fn handles(&self) -> Vec<(Job, Handle)> {
        self.sessions.lock().iter().map(|(job, handle)| (*job, handle.clone())).collect()
    }
}
