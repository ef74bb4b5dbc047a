//! A session's place at its host: taken when the session begins, given up when it says goodbye, by whichever way.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::client::ClientError;
use crate::client::registry::Guest;
use crate::client::{Host, Turn};
use crate::discovery::dht::{DhtService, Found};
use crate::discovery::lsd::Lsd;
use crate::peer::Report;
use crate::storage::{Layout, Trait};
use crate::strategy::dial_rate::DIALS_A_SECOND;

use crate::types::{Encryption, InfoHash};

/// Callers that may wait for a session to take them: each has a descriptor.
const MAX_CALLERS: usize = 16;

/// See the module's head.
pub struct Seat {
    host: Arc<Host>,
    turn: Turn,
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
    /// [`ClientError::Twice`] where another session of this host has the torrent.
    pub fn take(
        host: Arc<Host>,
        turn: Turn,
        info_hash: InfoHash,
        encryption: Encryption,
        max_peers: usize,
    ) -> Result<Seat, ClientError> {
        let (hand_on, callers) = bounded(MAX_CALLERS);
        let guest = host.door.register(info_hash, encryption, hand_on);
        let guest = guest.ok_or(ClientError::Twice { info_hash })?;
        host.add_files(0);
        Ok(Seat { host, turn, guest, callers, port: 0, max_peers, files: 0, lines: 0, active: false })
    }

    /// The torrent's files are these: the host's other sessions are kept from writing to them. Takes the descriptors that they need.
    pub fn claim(&mut self, out_dir: &Path, max_open_files: usize, layout: &Layout) {
        self.turn.enter(self.guest.info_hash, out_dir, layout);
        // Beside its own files there may be the part file.
        let files = max_open_files.min(layout.files().len() + 1);
        self.host.add_files(files);
        self.host.give_back_files(std::mem::replace(&mut self.files, files));
    }

    /// The files that the session has claimed are these on disk, by their numbers.
    pub fn identify(&self, files: impl Iterator<Item = (usize, Trait)>) {
        self.turn.identify(self.guest.info_hash, files);
    }

    /// Whether no other torrent writes to the files that the session has claimed.
    ///
    /// # Errors
    /// [`ClientError::FileTaken`] where one does.
    pub fn is_free(&self, layout: &Layout) -> Result<(), ClientError> {
        self.turn.is_free(self.guest.info_hash, layout)
    }

    /// The session only reads the files that it has claimed.
    ///
    /// # Errors
    /// [`ClientError::FileTaken`] where another torrent writes to one of them.
    pub fn reads(&self, layout: &Layout) -> Result<(), ClientError> {
        self.turn.read(self.guest.info_hash, layout)
    }

    /// Waits until the session may write to the files that it has claimed, as no torrent that was named before does; false where
    /// it is to stop.
    ///
    /// # Errors
    /// [`ClientError::FileTaken`] where another torrent has one of them.
    pub fn may_write(&self, layout: &Layout, stop: &AtomicBool) -> Result<bool, ClientError> {
        self.turn.write(self.guest.info_hash, layout, stop)
    }

    /// Takes callers from now on, and has a part of limits and connections; the port.
    ///
    /// # Errors
    /// Where the host does not listen yet and cannot.
    pub fn listen(&mut self) -> Result<u16, ClientError> {
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

    /// How many connections it may begin now.
    pub fn dials_allowed(&self) -> usize {
        self.host.dials.lock().allowed(self.host.began.elapsed(), DIALS_A_SECOND)
    }

    /// It has begun a connection.
    pub fn note_dial(&self) {
        self.host.dials.lock().begun();
    }

    /// In how long it may begin the next one.
    pub fn next_dial(&self) -> Duration {
        self.host.dials.lock().next().saturating_sub(self.host.began.elapsed())
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
