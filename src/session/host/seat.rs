//! A session's place at its host: taken when the session begins, given up when it says goodbye, by whichever way.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::Host;
use super::door::Guest;
use crate::peer::Report;
use crate::session::{Config, SessionError};
use crate::sources::dht::{DhtService, Found};
use crate::sources::lsd::Lsd;
use crate::storage::{Layout, resolved};
use crate::types::InfoHash;

/// Callers that may wait for a session to take them: each has a descriptor.
const MAX_CALLERS: usize = 16;

/// See the module's head.
pub struct Seat {
    host: Arc<Host>,
    guest: Arc<Guest>,
    callers: Receiver<Report>,
    port: u16,
    /// What the session may have by its own configuration.
    max_peers: usize,
    /// Files that it may hold open, once they are known.
    files: usize,
    /// Connections that the host knows of.
    lines: usize,
    /// It talks to peers, or is about to.
    active: bool,
}

impl Seat {
    /// A seat for a session that takes no callers yet and does not count among those that share limits and connections.
    ///
    /// # Errors
    /// [`SessionError::Twice`] where another session of this host has the torrent.
    pub fn take(host: Arc<Host>, info_hash: InfoHash, config: &Config) -> Result<Seat, SessionError> {
        let (hand_on, callers) = bounded(MAX_CALLERS);
        let guest = host.door.register(info_hash, config.encryption, hand_on);
        let guest = guest.ok_or(SessionError::Twice { info_hash })?;
        host.add_files(0);
        Ok(Seat { host, guest, callers, port: 0, max_peers: config.max_peers, files: 0, lines: 0, active: false })
    }

    /// Takes the torrent's files, so that no other session of the host writes to them, and the descriptors that they need.
    ///
    /// # Errors
    /// [`SessionError::FileTaken`] where another torrent has one of them.
    pub fn claim(&mut self, config: &Config, layout: &Layout) -> Result<(), SessionError> {
        let files = layout.files().iter().filter(|file| !file.pad).map(|file| file.path.as_path());
        let taken = self.host.claims.lock().take(self.guest.info_hash, &resolved(&config.out_dir), files);
        taken.map_err(|path| SessionError::FileTaken { path })?;
        // Beside its own files there may be the part file.
        let files = config.max_open_files.min(layout.files().len() + 1);
        self.host.add_files(files);
        self.host.give_back_files(std::mem::replace(&mut self.files, files));
        Ok(())
    }

    /// Takes callers from now on, and has a part of limits and connections; the port.
    ///
    /// # Errors
    /// Where the host does not listen yet and cannot.
    pub fn listen(&mut self) -> Result<u16, SessionError> {
        self.port = self.host.listen()?;
        if !self.active {
            self.active = true;
            self.host.throttle.enter();
        }
        self.guest.set_open(true);
        Ok(self.port)
    }

    /// The port on which the host listens; 0 before the session does.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether incoming connections are closed for now, those that wait already included.
    pub fn hold(&self, hold: bool) {
        self.guest.set_open(!hold);
        if hold {
            self.callers.try_iter().for_each(drop);
        }
    }

    /// Incoming connections that the session has yet to accept.
    pub fn callers(&self) -> &Receiver<Report> {
        &self.callers
    }

    /// Nobody is let in any more; the port is free again where it was this session's alone.
    pub fn close(&self) {
        self.guest.set_open(false);
        if !self.host.lasting {
            self.host.end_listening();
        }
    }

    /// The session has so many connections now, those that are being made included.
    pub fn count(&mut self, lines: usize) {
        self.host.lines.fetch_add(lines, Ordering::Relaxed);
        self.host.lines.fetch_sub(std::mem::replace(&mut self.lines, lines), Ordering::Relaxed);
    }

    /// How many it may have, as it stands with all sessions.
    pub fn room(&self) -> usize {
        self.host.room(self.lines).min(self.max_peers)
    }

    /// Its part of something of which the process should have `all` at most, and any session `least`.
    pub fn part(&self, all: usize, least: usize) -> usize {
        (all / self.host.throttle.torrents().max(1)).max(least)
    }

    /// Somebody has called us.
    pub fn note_reached(&self) {
        self.host.reached.store(true, Ordering::Relaxed);
    }

    /// Whether anybody has ever called us, for any torrent.
    pub fn is_reached(&self) -> bool {
        self.host.reached.load(Ordering::Relaxed)
    }

    /// The host's node of the DHT, which now looks for this session's peers. Never for a private torrent (BEP 27).
    pub fn search(&self, found: &Sender<Found>) -> io::Result<Option<Arc<DhtService>>> {
        self.host.search(self.guest.info_hash, self.port, found)
    }

    /// The host's local discovery, which now does the same.
    pub fn call_neighbours(&self, found: Sender<(InfoHash, SocketAddr)>) -> io::Result<Option<Arc<Lsd>>> {
        self.host.call_neighbours(self.guest.info_hash, self.port, found)
    }

    /// The session needs neither of the two any more; they end where they were there for it alone.
    pub fn end_discovery(&self) {
        if !self.host.lasting {
            self.host.end_discovery();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.guest.set_open(false);
        self.host.door.leave(&self.guest);
        self.count(0);
        self.host.give_back_files(self.files);
        if self.active {
            self.host.throttle.quit();
        }
    }
}
