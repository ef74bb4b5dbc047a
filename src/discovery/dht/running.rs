//! The queries in flight and the lookups that run, each with its purpose.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::discovery::dht::lookup::Lookup;
use crate::types::InfoHash;

/// Why a query was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QueryPurpose {
    Ping,
    Lookup(u32),
    Announce,
    /// To store an item, for the request with this number.
    Put(u32),
}

/// A query in flight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PendingQuery {
    pub to: SocketAddr,
    pub sent: Duration,
    pub purpose: QueryPurpose,
    pub is_late: bool,
}

/// The purpose of a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LookupGoal {
    /// To find the nodes closest to our own id.
    Bootstrap,
    /// To refresh a bucket.
    Refresh,
    /// To find the peers of a torrent.
    Peers(InfoHash),
    /// To find an item, or the nodes to store it, for the request with this number.
    Item(u32),
}

/// The lookups that run, by their numbers.
#[derive(Debug, Default)]
pub(crate) struct RunningLookups {
    pub(crate) running: BTreeMap<u32, (Lookup, LookupGoal)>,
    pub(crate) next: u32,
}
