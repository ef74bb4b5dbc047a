//! What happened, told to whoever listens: a channel of events for what is worth a line, and a snapshot to poll for the rest.
//! Nobody below knows who listens; a listener that is gone costs nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::types::PieceIndex;

/// Events about peers and trackers that may wait for the listener; the others are few, and are never lost.
const MAX_QUEUED: usize = 4096;

/// Something worth telling, in the order in which it happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Files that are there are about to be hashed.
    CheckStarted {
        /// Bytes to look at.
        bytes: u64,
    },
    /// The check is over.
    Checked {
        /// Bytes in wanted pieces that are right.
        have: u64,
        /// Bytes of all pieces that are wanted.
        total: u64,
    },
    /// A file on disk did not fit the torrent and was put right, for example cut to its length.
    Repaired {
        /// What was done to which file, fit for a person.
        what: String,
    },
    /// Something about a file on disk that the user should know.
    Note {
        /// One line, fit for a person.
        what: String,
    },
    /// We listen for peers.
    Listening {
        /// The TCP port.
        port: u16,
    },
    /// The metadata of a magnet link is there; the download begins.
    Metadata {
        /// The torrent's name, fit for a terminal.
        name: String,
        /// Bytes of the whole torrent.
        total: u64,
    },
    /// Only some of the torrent's files are wanted.
    Selected {
        /// How many.
        files: usize,
        /// Of so many.
        of: usize,
        /// Bytes of the pieces that have bytes of them.
        bytes: u64,
    },
    /// The .torrent of a magnet link was to be kept.
    TorrentSaved {
        /// What came of it, fit for a person.
        what: String,
    },
    /// A peer sent metadata that does not have the right hash, and is banned.
    MetadataRefused {
        /// The other end.
        addr: SocketAddr,
    },
    /// There is no tracker that we can ask: peers must call us, or be named by hand.
    NoTracker {
        /// URLs of kinds that are not supported, without credentials or query.
        unsupported: Vec<String>,
    },
    /// A tracker answered.
    Announced {
        /// Its URL, without credentials or query.
        tracker: String,
        /// How many peers it named.
        peers: usize,
        /// Until it wants to hear from us again.
        interval: Duration,
        /// Its warning message, cleaned of control characters.
        warning: Option<String>,
    },
    /// A tracker did not answer, or refused.
    AnnounceFailed {
        /// Its URL, without credentials or query.
        tracker: String,
        /// One line: why.
        reason: String,
        /// Until we try again; `None` where another tracker's turn comes first.
        retry: Option<Duration>,
    },
    /// A handshake succeeded.
    PeerConnected {
        /// The other end.
        addr: SocketAddr,
        /// Whether it called us.
        incoming: bool,
    },
    /// A connection that was made, and told of by [`Event::PeerConnected`], ended.
    PeerDisconnected {
        /// The other end.
        addr: SocketAddr,
        /// One line: why.
        reason: String,
    },
    /// A connection never came about.
    PeerFailed {
        /// The other end.
        addr: SocketAddr,
        /// One line: why.
        reason: String,
    },
    /// A piece's hash was wrong; it was thrown away and will be fetched again.
    PieceFailed {
        /// Which.
        piece: PieceIndex,
        /// Who sent blocks of it.
        senders: Vec<SocketAddr>,
    },
    /// It sent wrong data, as is proven now: it is left alone for a while.
    PeerBanned {
        /// The other end.
        addr: SocketAddr,
        /// The piece that it spoilt.
        piece: PieceIndex,
    },
    /// So many events about peers and trackers were dropped because the listener did not read.
    EventsDropped {
        /// How many.
        count: u64,
    },
    /// All pieces that are wanted are there and verified.
    Completed,
    /// The session tells trackers that it stops, and closes its connections.
    Stopping,
}

impl Event {
    /// Whether there can be any number of these.
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

/// The session's end of the channel of events.
#[derive(Clone, Debug)]
pub(crate) struct EventSender {
    to: Sender<Event>,
    lost: Arc<AtomicU64>,
}

/// A channel of events.
pub(crate) fn channel() -> (EventSender, Receiver<Event>) {
    // Bounded: `EventSender::send_event` drops events that strangers can cause in any number.
    let (to, events) = unbounded();
    (EventSender { to, lost: Arc::default() }, events)
}

impl EventSender {
    /// Sends an event to the listener. Never waits for it.
    pub fn send_event(&self, event: Event) {
        if event.is_droppable() && self.to.len() >= MAX_QUEUED {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if self.to.len() < MAX_QUEUED {
            let count = self.lost.swap(0, Ordering::Relaxed);
            if count > 0 {
                let _ = self.to.send(Event::EventsDropped { count });
            }
        }
        let _ = self.to.send(event);
    }

    /// Sends the number of dropped events that the listener has not been told yet. To be called after the last event.
    pub fn finish(&self) {
        let count = self.lost.swap(0, Ordering::Relaxed);
        if count > 0 {
            let _ = self.to.send(Event::EventsDropped { count });
        }
    }
}

/// Where a session stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// Not yet begun.
    #[default]
    Starting,
    /// Fetching the metadata of a magnet link.
    Metadata,
    /// Hashing what is on disk.
    Checking,
    /// Fetching what is missing.
    Downloading,
    /// All there, giving to others.
    Seeding,
    /// Saying goodbye.
    Stopping,
}

impl Stage {
    /// The stage of that number, as an atomic holds it.
    pub(crate) fn from_u8(number: u8) -> Stage {
        const ALL: [Stage; 6] =
            [Stage::Starting, Stage::Metadata, Stage::Checking, Stage::Downloading, Stage::Seeding, Stage::Stopping];
        ALL[usize::from(number).min(ALL.len() - 1)]
    }
}

/// One cell of the piece map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PieceState {
    /// Nothing of it asked for.
    Missing,
    /// Not there, and no connected peer has it, although some have something.
    Unavailable,
    /// Not there, and not to be fetched.
    Unwanted,
    /// Some of it asked for or received.
    UnderWay,
    /// Whole, and its hash is right.
    Verified,
}

/// One file, as a view shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileView {
    /// Its path below the output folder.
    pub path: String,
    /// Where it lies until all that is wanted is there, where that is another path.
    pub stored_as: Option<String>,
    /// Its length in bytes.
    pub length: u64,
    /// The pieces that have bytes of it; none where it is empty.
    pub pieces: std::ops::Range<u32>,
}

/// One connected peer, as a view shows it.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct PeerView {
    /// The other end.
    pub addr: SocketAddr,
    /// Its client, by its own account: fit for a terminal.
    pub client: String,
    /// Whether it called us.
    pub incoming: bool,
    /// Whether the connection is encrypted.
    pub encrypted: bool,
    /// Whether it speaks the fast extension (BEP 6).
    pub fast: bool,
    /// Payload bytes received from it.
    pub downloaded: u64,
    /// Payload bytes sent to it.
    pub uploaded: u64,
    /// The part of the torrent that it has, 0 to 1.
    pub has: f64,
    /// Whether it chokes us.
    pub chokes_us: bool,
    /// Whether it wants something of us.
    pub interested: bool,
    /// Whether we choke it.
    pub choked: bool,
    /// Whether we want something of it.
    pub wanted: bool,
    /// Whether it owes us blocks and has sent none for a while.
    pub is_snubbing: bool,
}

/// The figures at one moment. Counters only grow; whoever wants rates polls twice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Where the session stands.
    pub stage: Stage,
    /// Bytes of the torrent, once it is checked only of those pieces that are wanted; 0 while the metadata is not there.
    pub total: u64,
    /// Pieces of metadata that are there, and of how many; both 0 while no peer has said.
    pub metadata: (usize, usize),
    /// Bytes in those pieces that are verified.
    pub have: u64,
    /// Bytes hashed so far by the check, and bytes it will hash in all.
    pub checked: (u64, u64),
    /// Payload bytes received in this session, the useless ones included.
    pub downloaded: u64,
    /// Payload bytes sent in this session.
    pub uploaded: u64,
    /// Payload bytes sent in this session and, as far as the resume data knows, in earlier ones.
    pub total_uploaded: u64,
    /// Payload bytes received in vain: duplicates, unasked ones, pieces with a wrong hash.
    pub wasted: u64,
    /// Connected peers.
    pub connected: usize,
    /// Those that gave or took payload within the last ten seconds.
    pub active: usize,
    /// Addresses known.
    pub known: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_that_is_away_costs_a_bounded_number_of_events_and_learns_how_many() {
        let (sender, events) = channel();
        let peer = || Event::PeerConnected { addr: ([192, 0, 2, 1], 1).into(), incoming: true };
        (0..MAX_QUEUED + 100).for_each(|_| sender.send_event(peer()));
        sender.send_event(Event::Completed);
        assert_eq!(events.len(), MAX_QUEUED + 1, "what matters is told all the same");
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
