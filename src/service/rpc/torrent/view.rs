//! A torrent as the fields of `torrent_get` see it.

use std::cell::OnceCell;

use crate::service::model::{
    FileDetails, MetainfoSummary, PeerDetails, PieceDetails, Priority, TorrentSummary, TrackerDetails, UnixTime,
};
use crate::service::rpc::Context;
use crate::service::settings::SessionSettings;

/// What the torrents of one request share.
pub struct RequestCache<'a> {
    context: &'a Context<'a>,
    settings: OnceCell<SessionSettings>,
}

impl<'a> RequestCache<'a> {
    pub fn new(context: &'a Context<'a>) -> RequestCache<'a> {
        RequestCache { context, settings: OnceCell::new() }
    }
}

/// One torrent. Files, peers, trackers and pieces are fetched when a field needs them.
pub struct TorrentView<'a> {
    pub summary: &'a TorrentSummary,
    cache: &'a RequestCache<'a>,
    files: OnceCell<Vec<FileDetails>>,
    trackers: OnceCell<Vec<TrackerDetails>>,
    pieces: OnceCell<PieceDetails>,
}

impl<'a> TorrentView<'a> {
    pub fn new(summary: &'a TorrentSummary, cache: &'a RequestCache<'a>) -> TorrentView<'a> {
        let (files, trackers, pieces) = (OnceCell::new(), OnceCell::new(), OnceCell::new());
        TorrentView { summary, cache, files, trackers, pieces }
    }

    pub fn files(&self) -> &[FileDetails] {
        self.files.get_or_init(|| self.cache.context.control.files(self.summary.id))
    }

    pub fn trackers(&self) -> &[TrackerDetails] {
        self.trackers.get_or_init(|| self.cache.context.control.trackers(self.summary.id))
    }

    pub fn pieces(&self) -> &PieceDetails {
        self.pieces.get_or_init(|| self.cache.context.control.pieces(self.summary.id))
    }

    pub fn peers(&self) -> Vec<PeerDetails> {
        self.cache.context.control.peers(self.summary.id)
    }

    pub fn metainfo(&self) -> Option<&MetainfoSummary> {
        self.summary.metainfo.as_ref()
    }

    /// A text of the metainfo; empty while that is unknown.
    pub fn metainfo_text(&self, of: impl Fn(&MetainfoSummary) -> &str) -> &str {
        self.metainfo().map_or("", of)
    }

    pub fn web_seeds(&self) -> &[String] {
        self.metainfo().map_or(&[], |metainfo| &metainfo.web_seeds)
    }

    /// The settings of the session.
    pub fn settings(&self) -> &SessionSettings {
        self.cache.settings.get_or_init(|| self.cache.context.control.settings())
    }

    /// The time of the request.
    pub fn now(&self) -> UnixTime {
        self.cache.context.now
    }
}

/// A priority as Transmission's number.
pub fn priority(priority: Priority) -> i8 {
    priority as i8
}
