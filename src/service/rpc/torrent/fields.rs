//! The fields of `torrent_get`. A field that means nothing to btsync has a fixed value.

use std::borrow::Cow;

use crate::metainfo::Magnet;
use crate::service::model::{Activity, LimitMode, ProblemKind};
use crate::service::rpc::json::JsonWriter;
use crate::service::rpc::torrent::array_fields;
use crate::service::rpc::torrent::view::{TorrentView, priority};

/// A field of `torrent_get`.
pub struct TorrentField {
    /// Its name in the legacy dialect.
    pub legacy_name: &'static str,
    /// Its name in JSON-RPC.
    pub name: &'static str,
    /// Writes its value.
    pub write: fn(&mut JsonWriter, &TorrentView<'_>),
}

impl TorrentField {
    /// Whether it is btsync's own, which the legacy dialect does not have.
    pub fn is_own(&self) -> bool {
        self.name.starts_with("btsync_")
    }
}

/// All fields, by their names in JSON-RPC.
pub const FIELDS: &[TorrentField] = &[
    field("activityDate", "activity_date", |to, of| to.int(of.summary.times.active.0)),
    field("addedDate", "added_date", |to, of| to.int(of.summary.times.added.0)),
    field("availability", "availability", array_fields::availability),
    field("bandwidthPriority", "bandwidth_priority", |to, of| to.int(of.summary.settings.bandwidth_priority as i8)),
    field("btsync_is_moving", "btsync_is_moving", |to, of| to.bool(of.summary.is_moving)),
    field("btsync_problem", "btsync_problem", write_problem),
    field("bytesCompleted", "bytes_completed", |to, of| to.array(of.files(), |to, file| to.int(file.have))),
    field("comment", "comment", |to, of| to.string(of.metainfo_text(|metainfo| &metainfo.comment))),
    field("corruptEver", "corrupt_ever", |to, of| to.int(of.summary.transfer.wasted)),
    field("creator", "creator", |to, of| to.string(of.metainfo_text(|metainfo| &metainfo.created_by))),
    field("dateCreated", "date_created", |to, of| to.int(of.metainfo().map_or(0, |metainfo| metainfo.created.0))),
    field("desiredAvailable", "desired_available", |to, of| to.int(of.summary.transfer.available)),
    field("doneDate", "done_date", |to, of| to.int(of.summary.times.done.0)),
    field("downloadDir", "download_dir", |to, of| to.path(&of.summary.folder)),
    field("downloadLimit", "download_limit", |to, of| to.int(of.summary.settings.down_limit.kilobytes)),
    field("downloadLimited", "download_limited", |to, of| to.bool(of.summary.settings.down_limit.is_enabled)),
    field("downloadedEver", "downloaded_ever", |to, of| to.int(of.summary.transfer.downloaded)),
    field("editDate", "edit_date", |to, of| to.int(of.summary.times.edited.0)),
    field("error", "error", write_error),
    field("errorString", "error_string", |to, of| {
        to.string(of.summary.problem.as_ref().map_or("", |problem| &problem.message));
    }),
    field("eta", "eta", write_eta),
    field("etaIdle", "eta_idle", write_eta_idle),
    field("file-count", "file_count", |to, of| to.int(of.metainfo().map_or(0, |metainfo| metainfo.files))),
    field("fileStats", "file_stats", array_fields::file_stats),
    field("files", "files", array_fields::files),
    field("group", "group", |to, of| to.string(&of.summary.settings.group)),
    field("hashString", "hash_string", |to, of| to.string(&of.summary.info_hash.hex())),
    field("haveUnchecked", "have_unchecked", |to, of| to.int(of.summary.transfer.unverified)),
    field("haveValid", "have_valid", |to, of| to.int(of.summary.transfer.verified)),
    field("honorsSessionLimits", "honors_session_limits", |to, of| {
        to.bool(of.summary.settings.honors_session_limits);
    }),
    field("id", "id", |to, of| to.int(of.summary.id.0)),
    field("isFinished", "is_finished", |to, of| to.bool(of.summary.is_finished)),
    field("isPrivate", "is_private", |to, of| to.bool(of.metainfo().is_some_and(|metainfo| metainfo.is_private))),
    field("isStalled", "is_stalled", |to, of| to.bool(of.summary.is_stalled)),
    field("labels", "labels", |to, of| to.array(&of.summary.settings.labels, |to, label| to.string(label))),
    field("leftUntilDone", "left_until_done", |to, of| to.int(of.summary.transfer.missing)),
    field("magnetLink", "magnet_link", |to, of| to.string(&magnet(of))),
    field("manualAnnounceTime", "manual_announce_time", |to, _| to.int(-1)),
    field("maxConnectedPeers", "max_connected_peers", |to, of| to.int(of.summary.settings.peer_limit)),
    field("metadataPercentComplete", "metadata_percent_complete", |to, of| to.float(of.summary.metadata_progress)),
    field("name", "name", |to, of| to.string(&of.summary.name)),
    field("peer-limit", "peer_limit", |to, of| to.int(of.summary.settings.peer_limit)),
    field("peers", "peers", |to, of| to.array(of.peers(), |to, peer| array_fields::write_peer(to, &peer))),
    field("peersConnected", "peers_connected", |to, of| to.int(of.summary.peers.connected)),
    field("peersFrom", "peers_from", write_peers_from),
    field("peersGettingFromUs", "peers_getting_from_us", |to, of| to.int(of.summary.peers.receiving)),
    field("peersSendingToUs", "peers_sending_to_us", |to, of| to.int(of.summary.peers.sending)),
    field("percentComplete", "percent_complete", |to, of| {
        let transfer = &of.summary.transfer;
        to.float(part(transfer.verified, transfer.total, of));
    }),
    field("percentDone", "percent_done", |to, of| {
        let transfer = &of.summary.transfer;
        to.float(part(transfer.wanted.saturating_sub(transfer.missing), transfer.wanted, of));
    }),
    field("pieceCount", "piece_count", |to, of| to.int(of.metainfo().map_or(0, |metainfo| metainfo.pieces))),
    field("pieceSize", "piece_size", |to, of| to.int(of.metainfo().map_or(0, |metainfo| metainfo.piece_length))),
    field("pieces", "pieces", |to, of| to.base64(if of.metainfo().is_some() { &of.pieces().have } else { &[] })),
    field("primary-mime-type", "primary_mime_type", |to, of| to.string(mime_type(of))),
    field("priorities", "priorities", |to, of| to.array(of.files(), |to, file| to.int(priority(file.priority)))),
    field("queuePosition", "queue_position", |to, of| to.int(of.summary.queue_position)),
    field("rateDownload", "rate_download", |to, of| to.int(of.summary.transfer.down_rate)),
    field("rateUpload", "rate_upload", |to, of| to.int(of.summary.transfer.up_rate)),
    field("recheckProgress", "recheck_progress", |to, of| to.float(of.summary.check_progress)),
    field("secondsDownloading", "seconds_downloading", |to, of| to.int(of.summary.times.downloading.as_secs())),
    field("secondsSeeding", "seconds_seeding", |to, of| to.int(of.summary.times.seeding.as_secs())),
    field("seedIdleLimit", "seed_idle_limit", |to, of| to.int(of.summary.settings.seed_idle_minutes)),
    field("seedIdleMode", "seed_idle_mode", |to, of| to.int(of.summary.settings.seed_idle_mode as u8)),
    field("seedRatioLimit", "seed_ratio_limit", |to, of| to.float(of.summary.settings.seed_ratio)),
    field("seedRatioMode", "seed_ratio_mode", |to, of| to.int(of.summary.settings.seed_ratio_mode as u8)),
    field("sequential_download", "sequential_download", |to, of| to.bool(of.summary.settings.is_sequential)),
    field("sequential_download_from_piece", "sequential_download_from_piece", |to, _| to.int(0)),
    field("sizeWhenDone", "size_when_done", |to, of| to.int(of.summary.transfer.wanted)),
    field("source", "source", |to, _| to.string("")),
    field("startDate", "start_date", |to, of| to.int(of.summary.times.started.0)),
    field("status", "status", |to, of| to.int(of.summary.activity as u8)),
    field("torrentFile", "torrent_file", |to, of| to.path(&of.summary.torrent_file)),
    field("totalSize", "total_size", |to, of| to.int(of.summary.transfer.total)),
    field("trackerList", "tracker_list", |to, of| to.string(&array_fields::tracker_list(of.trackers()))),
    field("trackerStats", "tracker_stats", |to, of| to.array(of.trackers(), array_fields::write_tracker_stats)),
    field("trackers", "trackers", |to, of| to.array(of.trackers(), array_fields::write_tracker)),
    field("uploadLimit", "upload_limit", |to, of| to.int(of.summary.settings.up_limit.kilobytes)),
    field("uploadLimited", "upload_limited", |to, of| to.bool(of.summary.settings.up_limit.is_enabled)),
    field("uploadRatio", "upload_ratio", write_ratio),
    field("uploadedEver", "uploaded_ever", |to, of| to.int(of.summary.transfer.uploaded)),
    field("wanted", "wanted", array_fields::wanted),
    field("webseeds", "webseeds", |to, of| to.array(of.web_seeds(), |to, url| to.string(url))),
    field("webseeds_ex", "webseeds_ex", |to, of| {
        to.array(of.web_seeds(), |to, url| array_fields::write_web_seed(to, url));
    }),
    field("webseedsSendingToUs", "webseeds_sending_to_us", |to, of| to.int(of.summary.peers.web_seeds)),
];

const fn field(
    legacy_name: &'static str,
    name: &'static str,
    write: fn(&mut JsonWriter, &TorrentView<'_>),
) -> TorrentField {
    TorrentField { legacy_name, name, write }
}

/// A part of `all`, 0 to 1. Nothing of nothing is complete once the metadata is known.
fn part(some: u64, all: u64, of: &TorrentView<'_>) -> f64 {
    match all {
        0 if of.metainfo().is_some() => 1.0,
        0 => 0.0,
        all => (some as f64 / all as f64).clamp(0.0, 1.0),
    }
}

fn mime_type<'a>(of: &'a TorrentView<'_>) -> &'a str {
    match of.metainfo_text(|metainfo| &metainfo.mime_type) {
        "" => "application/octet-stream",
        known => known,
    }
}

/// The link that the torrent was added by, or one that describes it.
fn magnet<'a>(of: &'a TorrentView<'_>) -> Cow<'a, str> {
    if !of.summary.magnet.is_empty() {
        return Cow::Borrowed(&of.summary.magnet);
    }
    let magnet = Magnet {
        info_hash: of.summary.info_hash,
        info_hash_v2: None,
        name: Some(of.summary.name.clone()),
        trackers: of.trackers().iter().map(|tracker| tracker.announce.clone()).collect(),
        web_seeds: of.web_seeds().to_vec(),
        sources: Vec::new(),
        peers: Vec::new(),
        select: None,
    };
    Cow::Owned(magnet.to_string())
}

fn write_error(to: &mut JsonWriter, of: &TorrentView<'_>) {
    to.int(match of.summary.problem.as_ref().map(|problem| problem.kind) {
        None => 0,
        Some(ProblemKind::TrackerWarning) => 1,
        Some(ProblemKind::TrackerError) => 2,
        Some(ProblemKind::Local | ProblemKind::FilesInTheWay) => 3,
    });
}

fn write_problem(to: &mut JsonWriter, of: &TorrentView<'_>) {
    to.string(match of.summary.problem.as_ref().map(|problem| problem.kind) {
        None => "none",
        Some(ProblemKind::TrackerWarning) => "tracker_warning",
        Some(ProblemKind::TrackerError) => "tracker_error",
        Some(ProblemKind::Local) => "local",
        Some(ProblemKind::FilesInTheWay) => "files_in_the_way",
    });
}

/// Uploaded bytes / wanted bytes: -1 if that has no meaning, -2 for infinity.
fn write_ratio(to: &mut JsonWriter, of: &TorrentView<'_>) {
    let transfer = &of.summary.transfer;
    to.float(match (transfer.uploaded, transfer.wanted) {
        (0, 0) => -1.0,
        (_, 0) => -2.0,
        (uploaded, wanted) => uploaded as f64 / wanted as f64,
    });
}

/// Where the connected peers are from. `fromLtep` counts peers from our own extension handshake in Transmission.
fn write_peers_from(to: &mut JsonWriter, of: &TorrentView<'_>) {
    let peers = &of.summary.peers;
    to.object(|to| {
        to.either_name("fromCache", "from_cache");
        to.int(peers.from.user);
        to.either_name("fromDht", "from_dht");
        to.int(peers.from.dht);
        to.either_name("fromIncoming", "from_incoming");
        to.int(peers.incoming);
        to.either_name("fromLpd", "from_lpd");
        to.int(peers.from.lsd);
        to.either_name("fromLtep", "from_ltep");
        to.int(0);
        to.either_name("fromPex", "from_pex");
        to.int(peers.from.pex);
        to.either_name("fromTracker", "from_tracker");
        to.int(peers.from.tracker);
    });
}

/// Seconds: to completion, or to the ratio that ends seeding. -1 if that has no meaning, -2 if nothing moves. Some clients read it
/// as 32 bits.
fn write_eta(to: &mut JsonWriter, of: &TorrentView<'_>) {
    let transfer = &of.summary.transfer;
    let seconds = |bytes: u64, rate: u64| match bytes.checked_div(rate) {
        None => -2,
        Some(seconds) => i64::from(i32::try_from(seconds).unwrap_or(i32::MAX)),
    };
    to.int(match of.summary.activity {
        Activity::Downloading if transfer.down_rate == 0 => -2,
        Activity::Downloading if transfer.missing <= transfer.available => {
            seconds(transfer.missing, transfer.down_rate)
        }
        Activity::Seeding => ratio_goal(of).map_or(-1, |ratio| {
            let goal = (ratio * transfer.wanted as f64) as u64;
            seconds(goal.saturating_sub(transfer.uploaded), transfer.up_rate)
        }),
        _ => -1,
    });
}

fn ratio_goal(of: &TorrentView<'_>) -> Option<f64> {
    let settings = &of.summary.settings;
    match settings.seed_ratio_mode {
        LimitMode::Own => Some(settings.seed_ratio),
        LimitMode::Unlimited => None,
        LimitMode::Session => {
            let seeding = &of.settings().seeding;
            seeding.limits_ratio.then_some(seeding.ratio)
        }
    }
}

/// Seconds until seeding ends because nobody downloads; -1 if it does not.
fn write_eta_idle(to: &mut JsonWriter, of: &TorrentView<'_>) {
    let settings = &of.summary.settings;
    let minutes = match settings.seed_idle_mode {
        _ if of.summary.activity != Activity::Seeding || of.summary.transfer.up_rate > 0 => None,
        LimitMode::Own => Some(settings.seed_idle_minutes),
        LimitMode::Unlimited => None,
        LimitMode::Session => {
            let seeding = &of.settings().seeding;
            seeding.limits_idle.then_some(seeding.idle_minutes)
        }
    };
    to.int(minutes.map_or(-1, |minutes| {
        let times = &of.summary.times;
        let idle = of.now().0 - times.active.0.max(times.started.0).max(times.done.0);
        (i64::from(minutes) * 60 - idle.max(0)).max(0)
    }));
}
