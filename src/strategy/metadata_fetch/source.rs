//! A peer that claims to have the metadata: its outstanding requests, and how it did so far.

use std::time::Duration;

use crate::strategy::metadata_fetch::{MAX_OUTSTANDING, PAUSE};

/// A peer that claims to have the metadata.
#[derive(Debug)]
pub(super) struct MetadataSource {
    pub size: u32,
    /// Whether the peer contributed to wrong metadata, and now fills an assembly alone.
    pub is_isolated: bool,
    pub in_flight: Vec<MetadataRequest>,
    /// Late requests in a row; 0 after a pause.
    pub late: u32,
    /// Unsuccessful requests since the last successful one. The fewer, the sooner the peer is asked again.
    pub misses: u32,
    /// Whether the peer has been asked for a piece since it connected.
    pub was_asked: bool,
    /// Whether the last completed request brought a piece.
    pub is_delivering: bool,
    pub paused_until: Duration,
    /// How often the assemblies that it filled alone were dropped.
    pub history: AssemblyHistory,
}

/// How often an assembly was dropped.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AssemblyHistory {
    /// At the end of its turn or later.
    pub turns: u32,
    /// Before the end of its turn, since it last completed one.
    pub drops: u32,
}

#[derive(Debug)]
pub(super) struct MetadataRequest {
    pub piece: u32,
    pub at: Duration,
    pub is_late: bool,
}

impl MetadataSource {
    pub fn is_paused(&self, now: Duration) -> bool {
        now < self.paused_until
    }

    pub fn missed(&mut self, requests: u32) {
        self.misses = self.misses.saturating_add(requests);
        self.is_delivering &= requests == 0;
    }

    pub fn pause(&mut self, now: Duration) {
        self.paused_until = now + PAUSE;
        self.late = 0;
    }

    pub fn open(&self) -> impl Iterator<Item = &MetadataRequest> {
        self.in_flight.iter().filter(|ask| !ask.is_late)
    }

    /// Whether another piece may be requested from it.
    pub fn accepts_request(&self, now: Duration) -> bool {
        !self.is_paused(now) && self.open().count() < MAX_OUTSTANDING
    }
}
