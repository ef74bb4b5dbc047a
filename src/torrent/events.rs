//! Reports what happens to a torrent: a channel of events for what is worth a line, and a snapshot to poll for everything else.
//! The torrent does not wait for a receiver and does not need one.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use parking_lot::Mutex;

use crate::discovery::port_mapping::status::PortMappingStatus;
use crate::discovery::tracker::error::TrackerError;
use crate::types::{PieceIndex, Transport};
use crate::util::atomics::Counter;

/// Events about peers and trackers that can wait for the receiver. Other events are few and never dropped.
const MAX_QUEUED: usize = 4096;

/// Something that happened, in order.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The check of existing files starts.
    CheckStarted {
        /// Bytes to check.
        bytes: u64,
    },
    /// The check has ended.
    Checked {
        /// Bytes of the wanted pieces that verified.
        have: u64,
        /// Bytes of all wanted pieces.
        total: u64,
    },
    /// A file on disk did not fit the torrent and was repaired, for example truncated.
    Repaired {
        /// What was done to which file, printable.
        what: String,
    },
    /// Something about a file on disk that the user should know.
    Note {
        /// One line, printable.
        what: String,
    },
    /// The torrent listens for peers.
    Listening {
        /// The TCP port.
        port: u16,
    },
    /// The router was asked to forward our port.
    PortMapping {
        /// What it said.
        status: PortMappingStatus,
    },
    /// The metadata of a magnet link is complete; the download starts, unless only the metadata is wanted.
    Metadata {
        /// The torrent's name, printable.
        name: String,
        /// Bytes of the whole torrent.
        total: u64,
    },
    /// Only some of the torrent's files are wanted.
    Selected {
        /// The number of wanted files.
        files: usize,
        /// The number of all files.
        total_files: usize,
        /// Bytes of the pieces that contain parts of the wanted files.
        bytes: u64,
    },
    /// The torrent file of a magnet link or URL has been saved.
    TorrentSaved {
        /// The file.
        path: PathBuf,
        /// Whether btsync wrote it; otherwise it has this torrent already.
        is_new: bool,
    },
    /// The torrent file of a magnet link or URL could not be saved. The torrent itself goes on.
    TorrentNotSaved {
        /// The file.
        path: PathBuf,
        /// The reason, in one line.
        reason: String,
        /// Whether another file is there, which [`AddOptions::overwrite`](crate::torrent::AddOptions::overwrite) would replace.
        is_overwritable: bool,
    },
    /// A peer sent metadata with the wrong hash, and is banned.
    MetadataRefused {
        /// The peer's address.
        addr: SocketAddr,
    },
    /// There is no source of peers: no tracker that we can use, no peer that the user or the magnet link names, neither DHT nor
    /// local discovery. Peers must connect to us.
    NoPeerSource {
        /// Unsupported tracker URLs, without credentials or query.
        unsupported: Vec<String>,
    },
    /// A tracker answered.
    Announced {
        /// Its URL, without credentials or query.
        tracker: String,
        /// The number of peers in the answer.
        peers: usize,
        /// Until the next regular announce.
        interval: Duration,
        /// The tracker's warning, printable.
        warning: Option<String>,
    },
    /// A tracker did not answer, or refused.
    AnnounceFailed {
        /// Its URL, without credentials or query.
        tracker: String,
        /// The reason.
        error: TrackerError,
        /// Until the next attempt; `None` if another tracker is tried first.
        retry: Option<Duration>,
    },
    /// A peer finished its handshake.
    PeerConnected {
        /// The peer's address.
        addr: SocketAddr,
        /// Whether the peer connected to us.
        is_incoming: bool,
        /// What carries the connection.
        transport: Transport,
    },
    /// A connection that [`Event::PeerConnected`] reported has ended.
    PeerDisconnected {
        /// The peer's address.
        addr: SocketAddr,
        /// The reason, in one line.
        reason: String,
    },
    /// A connection could not be established.
    PeerFailed {
        /// The peer's address.
        addr: SocketAddr,
        /// The reason, in one line.
        reason: String,
    },
    /// A piece failed its hash check; btsync discards it and downloads it again.
    PieceFailed {
        /// The piece.
        piece: PieceIndex,
        /// The peers that sent blocks of it.
        senders: Vec<SocketAddr>,
    },
    /// A peer is proven to have sent wrong data, and is banned for a while.
    PeerBanned {
        /// The peer's address.
        addr: SocketAddr,
        /// The piece with the wrong data.
        piece: PieceIndex,
    },
    /// btsync does not use a web seed any more, in this run of the torrent.
    WebSeedEnded {
        /// Its URL, without credentials, path and query.
        url: String,
        /// The reason, in one line.
        reason: String,
    },
    /// Events about peers and trackers were dropped because the receiver did not read them.
    EventsDropped {
        /// The number of dropped events.
        count: u64,
    },
    /// The torrent has closed its files and opens them again, as [`TorrentHandle::reopen`](crate::torrent::TorrentHandle::reopen)
    /// requested. Earlier events are about the files as they were before.
    Reopening {
        /// How many calls this fulfils.
        requests: usize,
    },
    /// All wanted pieces are verified.
    Completed,
    /// The torrent tells trackers that it stops, and closes its connections.
    Stopping,
}

impl Event {
    /// Whether there can be any number of such events.
    fn is_droppable(&self) -> bool {
        matches!(
            self,
            Event::MetadataRefused { .. }
                | Event::Announced { .. }
                | Event::AnnounceFailed { .. }
                | Event::PeerConnected { .. }
                | Event::PeerDisconnected { .. }
                | Event::PeerFailed { .. }
                | Event::PieceFailed { .. }
                | Event::PeerBanned { .. }
        )
    }
}

/// Is called when there is an event to read.
type Notify = Arc<dyn Fn() + Send + Sync>;

/// The torrent's end of the channel of events.
#[derive(Clone)]
pub(crate) struct EventSender {
    to: Sender<Event>,
    lost: Arc<Counter>,
    notify: Arc<Mutex<Option<Notify>>>,
}

/// The events of a torrent, in the order in which they happened; the last one is followed by the end of the iteration. A program
/// that does not read them loses those about peers and trackers beyond 4,096, which [`Event::EventsDropped`] reports. Clones
/// compete for events.
#[derive(Clone)]
pub struct Events {
    from: Receiver<Event>,
    notify: Arc<Mutex<Option<Notify>>>,
}

/// Creates a channel of events.
pub(crate) fn channel() -> (EventSender, Events) {
    // Bounded: `EventSender::send_event` drops events that peers and trackers can cause in any number.
    let (to, from) = unbounded();
    let notify: Arc<Mutex<Option<Notify>>> = Arc::default();
    (EventSender { to, lost: Arc::default(), notify: notify.clone() }, Events { from, notify })
}

impl Events {
    /// No events, and the end.
    pub(crate) fn ended() -> Events {
        channel().1
    }
}

impl EventSender {
    /// Sends an event. Never waits for the receiver.
    pub fn send_event(&self, event: Event) {
        if event.is_droppable() && self.to.len() >= MAX_QUEUED {
            self.lost.add(1);
            return;
        }
        if self.to.len() < MAX_QUEUED {
            self.report_lost();
        }
        let _ = self.to.send(event);
        self.notify();
    }

    /// Reports how many events were dropped since the last report. To be called after the last event.
    pub fn finish(&self) {
        self.report_lost();
        self.notify();
    }

    fn report_lost(&self) {
        let count = self.lost.take();
        if count > 0 {
            let _ = self.to.send(Event::EventsDropped { count });
        }
    }

    fn notify(&self) {
        let notify = self.notify.lock().clone();
        if let Some(notify) = notify {
            notify();
        }
    }
}

impl Events {
    /// Waits for the next event; `None` after the last one.
    pub fn recv(&self) -> Option<Event> {
        self.from.recv().ok()
    }

    /// Waits at most `timeout` for the next event.
    ///
    /// # Errors
    /// If there is none by then, or there will be none.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Event, RecvTimeoutError> {
        self.from.recv_timeout(timeout).map_err(|error| match error {
            crossbeam_channel::RecvTimeoutError::Timeout => RecvTimeoutError::Timeout,
            crossbeam_channel::RecvTimeoutError::Disconnected => RecvTimeoutError::Disconnected,
        })
    }

    /// All events to come; waits for each.
    pub fn iter(&self) -> impl Iterator<Item = Event> + '_ {
        self.from.iter()
    }

    /// The events that are there already; never waits.
    pub fn try_iter(&self) -> impl Iterator<Item = Event> + '_ {
        self.from.try_iter()
    }

    /// Calls `notify` whenever there is an event to read, and now if there is one already: for a program that waits for other things
    /// too. `notify` runs on the torrent's threads and must return at once; there is one at a time.
    pub fn set_notify(&self, notify: impl Fn() + Send + Sync + 'static) {
        let notify: Notify = Arc::new(notify);
        *self.notify.lock() = Some(notify.clone());
        if !self.from.is_empty() {
            notify();
        }
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.recv()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_that_is_away_costs_a_bounded_number_of_events_and_learns_how_many() {
        let (sender, events) = channel();
        let peer =
            || Event::PeerConnected { addr: ([192, 0, 2, 1], 1).into(), is_incoming: true, transport: Transport::Tcp };
        (0..MAX_QUEUED + 100).for_each(|_| sender.send_event(peer()));
        sender.send_event(Event::Completed);
        assert_eq!(events.from.len(), MAX_QUEUED + 1, "important events are kept");
        assert_eq!(events.try_iter().last(), Some(Event::Completed));
        sender.send_event(peer());
        assert_eq!(events.try_iter().collect::<Vec<_>>(), [Event::EventsDropped { count: 100 }, peer()]);
        (0..MAX_QUEUED + 7).for_each(|_| sender.send_event(peer()));
        sender.finish();
        assert_eq!(events.try_iter().last(), Some(Event::EventsDropped { count: 7 }), "also where no event follows");
        sender.finish();
        assert_eq!(events.try_iter().next(), None);
    }
}
