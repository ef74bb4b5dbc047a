//! Which sessions callers may be for. The listener's thread and those of the lobby look, the sessions' main threads come and go.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::Sender;
use parking_lot::Mutex;

use crate::peer::{Greeting, Report};
use crate::types::{Encryption, InfoHash};

/// How long an incoming connection waits for a busy session to take it.
const PATIENCE: Duration = Duration::from_millis(100);

/// The sessions of a host, those included that do not listen yet.
#[derive(Default)]
pub struct Door {
    guests: Mutex<Vec<Arc<Guest>>>,
}

/// A session as callers find it.
pub struct Guest {
    /// Its swarm.
    pub info_hash: InfoHash,
    /// Which callers it takes.
    pub encryption: Encryption,
    /// Whether it takes any now: while files are being checked nobody has time for them.
    open: AtomicBool,
    callers: Sender<Report>,
}

impl Door {
    /// A session that takes no callers yet; `None` where there is one for the same torrent already.
    pub fn register(&self, info_hash: InfoHash, encryption: Encryption, callers: Sender<Report>) -> Option<Arc<Guest>> {
        let mut guests = self.guests.lock();
        if guests.iter().any(|guest| guest.info_hash == info_hash) {
            return None;
        }
        let guest = Arc::new(Guest { info_hash, encryption, open: AtomicBool::new(false), callers });
        guests.push(guest.clone());
        Some(guest)
    }

    /// A session is over.
    pub fn leave(&self, guest: &Arc<Guest>) {
        self.guests.lock().retain(|other| !Arc::ptr_eq(other, guest));
    }

    /// The sessions that take callers.
    pub fn open(&self) -> Vec<Arc<Guest>> {
        self.guests.lock().iter().filter(|guest| guest.is_open()).cloned().collect()
    }
}

impl Guest {
    /// Whether the session takes callers.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// From now on it does, or does not.
    pub fn set_open(&self, open: bool) {
        self.open.store(open, Ordering::Release);
    }

    /// Hands an incoming connection to its session, with the bytes received so far. If the session has too many waiting, accepting pauses
    /// for a moment; if that does not help, the connection is closed.
    pub fn receive(&self, stream: TcpStream, addr: SocketAddr, heard: Option<Box<Greeting>>) {
        if self.callers.send_timeout(Report::Incoming(stream, addr, heard), PATIENCE).is_err() {
            log::debug!("{addr}: turned away, the session has no time");
        }
    }
}
