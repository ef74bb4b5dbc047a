//! One connection and its three threads: a reader, a writer fed by a channel, and a thread that watches the deadlines of
//! requests.
//!
//! They know the piece manager and the other peers' outboxes, but not the torrent: what main, the thread that runs the torrent,
//! must know goes to it as a [`PeerEvent`].

pub mod block_receiver;
pub mod connection;
mod context;
pub mod deadline;
mod deferred_state;
mod disconnect_reason;
pub mod encryption;
mod established;
mod events;
pub mod fast;
pub mod outbox;
pub mod reader;
pub mod roster;
mod run_state;
pub mod send_gate;
mod shutdown;
mod stall;
pub mod state;
pub mod super_seed;
pub mod throttle;
pub mod uplink;
mod wake_pipe;
pub mod writer;

use std::time::Duration;

pub use connection::{Connection, DisconnectReason};
pub use context::{ContextSettings, TorrentContext};
pub use events::{IncomingConnection, IncomingHandshake, PeerEvent, TorrentCommand, TorrentMessage, TrackerEvent};
pub use roster::Roster;
pub use run_state::{RunControl, RunState, StopReason};
pub use state::Peer;
pub use throttle::Throttle;

/// A peer that sends nothing for this long is taken for dead; keep-alives come every two minutes.
pub const SILENCE_TIMEOUT: Duration = Duration::from_secs(180);

/// Events that can wait in the channel to main. The largest, a piece of metadata, has 16 KiB.
pub const MAX_QUEUED_EVENTS: usize = 512;

/// Size of the buffer that a reader receives into, or a writer serves from: sixteen blocks with their headers, in whole pages.
pub const SLAB: usize = (256 + 4) * 1024;
