//! The fields of `torrent_get` that are lists: files, pieces, peers, trackers.

use crate::service::model::{PeerDetails, TrackerDetails, UnixTime};
use crate::service::rpc::Dialect;
use crate::service::rpc::json::JsonWriter;
use crate::service::rpc::torrent::view::{TorrentView, priority};
use crate::service::rpc::tracker_list as text;

/// `files`: what does not change often.
pub fn files(to: &mut JsonWriter, of: &TorrentView<'_>) {
    to.array(of.files(), |to, file| {
        to.object(|to| {
            to.name("begin_piece");
            to.int(file.pieces.start);
            to.either_name("bytesCompleted", "bytes_completed");
            to.int(file.have);
            to.name("end_piece");
            to.int(file.pieces.end);
            to.name("length");
            to.int(file.length);
            to.name("name");
            to.string(&file.path);
        });
    });
}

/// `file_stats`: what changes.
pub fn file_stats(to: &mut JsonWriter, of: &TorrentView<'_>) {
    to.array(of.files(), |to, file| {
        to.object(|to| {
            to.either_name("bytesCompleted", "bytes_completed");
            to.int(file.have);
            to.name("priority");
            to.int(priority(file.priority));
            to.name("wanted");
            to.bool(file.is_wanted);
        });
    });
}

/// `wanted`: numbers in the legacy dialect, whose clients rely on them although the document says booleans.
pub fn wanted(to: &mut JsonWriter, of: &TorrentView<'_>) {
    to.array(of.files(), |to, file| match to.dialect() {
        Dialect::Legacy => to.int(u8::from(file.is_wanted)),
        Dialect::JsonRpc => to.bool(file.is_wanted),
    });
}

/// `availability`: for each piece the peers that have it, or -1 if we do.
pub fn availability(to: &mut JsonWriter, of: &TorrentView<'_>) {
    let pieces = of.pieces();
    let count = of.summary.metainfo.as_ref().map_or(0, |metainfo| metainfo.pieces as usize);
    let mut known = pieces.availability.iter();
    to.array(0..count, |to, piece| {
        let peers = known.next().copied().unwrap_or(0);
        to.int(if has(&pieces.have, piece) { -1 } else { peers.max(0) });
    });
}

/// Whether a bitfield has a piece.
pub fn has(bitfield: &[u8], piece: usize) -> bool {
    bitfield.get(piece / 8).is_some_and(|byte| byte & 0x80 >> (piece % 8) != 0)
}

/// An element of `webseeds_ex`. btsync does not measure the rate of each web seed.
pub fn write_web_seed(to: &mut JsonWriter, url: &str) {
    to.object(|to| {
        to.name("download_bytes_per_second");
        to.int(0);
        to.name("is_downloading");
        to.bool(false);
        to.name("url");
        to.string(url);
    });
}

/// An element of `peers`.
pub fn write_peer(to: &mut JsonWriter, peer: &PeerDetails) {
    let (is_sending, is_receiving) = (peer.down_rate > 0, peer.up_rate > 0);
    to.object(|to| {
        to.name("address");
        to.string(&peer.addr.ip().to_string());
        to.name("bytes_to_client");
        to.int(peer.downloaded);
        to.name("bytes_to_peer");
        to.int(peer.uploaded);
        write_bools(
            to,
            &[
                ("clientIsChoked", "client_is_choked", peer.peer_choking),
                ("clientIsInterested", "client_is_interested", peer.am_interested),
            ],
        );
        to.either_name("clientName", "client_name");
        to.string(&peer.client);
        to.either_name("flagStr", "flag_str");
        to.string(&flags(peer));
        write_bools(
            to,
            &[
                ("isDownloadingFrom", "is_downloading_from", is_sending),
                ("isEncrypted", "is_encrypted", peer.is_encrypted),
                ("isIncoming", "is_incoming", peer.is_incoming),
                ("isUTP", "is_utp", peer.is_utp),
                ("isUploadingTo", "is_uploading_to", is_receiving),
                ("peerIsChoked", "peer_is_choked", peer.am_choking),
                ("peerIsInterested", "peer_is_interested", peer.peer_interested),
            ],
        );
        to.name("peer_id");
        to.string("");
        to.name("port");
        to.int(peer.addr.port());
        to.name("progress");
        to.float(peer.progress);
        to.either_name("rateToClient", "rate_to_client");
        to.int(peer.down_rate);
        to.either_name("rateToPeer", "rate_to_peer");
        to.int(peer.up_rate);
    });
}

/// Transmission's letters for the state of a peer.
pub fn flags(peer: &PeerDetails) -> String {
    let (is_sending, is_receiving) = (peer.down_rate > 0, peer.up_rate > 0);
    let letters = [
        ('D', is_sending),
        ('d', !is_sending && peer.am_interested),
        ('U', is_receiving),
        ('u', !is_receiving && peer.peer_interested),
        ('K', !peer.peer_choking && !peer.am_interested),
        ('?', !peer.am_choking && !peer.peer_interested),
        ('E', peer.is_encrypted),
        ('H', peer.source == 'H'),
        ('X', peer.source == 'X'),
        ('I', peer.is_incoming),
        ('T', peer.is_utp),
        ('h', peer.is_hole_punched),
    ];
    letters.into_iter().filter(|(_, applies)| *applies).map(|(letter, _)| letter).collect()
}

fn write_bools(to: &mut JsonWriter, members: &[(&str, &str, bool)]) {
    for &(legacy, json_rpc, value) in members {
        to.either_name(legacy, json_rpc);
        to.bool(value);
    }
}

fn write_ints(to: &mut JsonWriter, members: &[(&str, &str, i64)]) {
    for &(legacy, json_rpc, value) in members {
        to.either_name(legacy, json_rpc);
        to.int(value);
    }
}

/// `tracker_list`: one URL a line, and an empty line between tiers.
pub fn tracker_list(trackers: &[TrackerDetails]) -> String {
    let mut tiers: Vec<(u32, Vec<String>)> = Vec::new();
    for tracker in trackers {
        match tiers.last_mut() {
            Some((tier, urls)) if *tier == tracker.tier => urls.push(tracker.announce.clone()),
            _ => tiers.push((tracker.tier, vec![tracker.announce.clone()])),
        }
    }
    text::join(&tiers.into_iter().map(|(_, urls)| urls).collect::<Vec<_>>())
}

/// An element of `trackers`.
pub fn write_tracker(to: &mut JsonWriter, tracker: &TrackerDetails) {
    to.object(|to| {
        to.name("announce");
        to.string(&tracker.announce);
        to.name("id");
        to.int(tracker.id);
        to.name("scrape");
        to.string(&tracker.scrape);
        to.name("sitename");
        to.string(site_name(host_and_port(&tracker.announce).0));
        to.name("tier");
        to.int(tracker.tier);
    });
}

/// An element of `tracker_stats`. btsync does not scrape: it takes the numbers of seeds and leechers from announces, and shows
/// them as scraped then.
pub fn write_tracker_stats(to: &mut JsonWriter, tracker: &TrackerDetails) {
    let last = tracker.last.clone().unwrap_or_default();
    let has_counts = last.is_success && (last.seeders.is_some() || last.leechers.is_some());
    let scraped_at = if has_counts { last.at.0 } else { 0 };
    let (host, port) = host_and_port(&tracker.announce);
    let count = |count: Option<u64>| count.map_or(-1, |count| i64::try_from(count).unwrap_or(i64::MAX));
    to.object(|to| {
        for (name, text) in [("announce", tracker.announce.as_str()), ("scrape", &tracker.scrape)] {
            to.name(name);
            to.string(text);
        }
        to.name("host");
        to.string(&format!("{host}:{port}"));
        to.name("sitename");
        to.string(site_name(host));
        to.either_name("lastAnnounceResult", "last_announce_result");
        to.string(&last.message);
        to.either_name("lastScrapeResult", "last_scrape_result");
        to.string("");
        write_bools(
            to,
            &[
                ("hasAnnounced", "has_announced", tracker.last.is_some()),
                ("hasScraped", "has_scraped", has_counts),
                ("isBackup", "is_backup", tracker.is_backup),
                ("lastAnnounceSucceeded", "last_announce_succeeded", last.is_success),
                ("lastAnnounceTimedOut", "last_announce_timed_out", last.is_timeout),
                ("lastScrapeSucceeded", "last_scrape_succeeded", has_counts),
                ("lastScrapeTimedOut", "last_scrape_timed_out", false),
            ],
        );
        write_ints(
            to,
            &[
                ("announceState", "announce_state", announce_state(tracker)),
                ("downloadCount", "download_count", count(last.downloads)),
                ("downloader_count", "downloader_count", -1),
                ("id", "id", i64::from(tracker.id)),
                ("lastAnnouncePeerCount", "last_announce_peer_count", i64::try_from(last.peers).unwrap_or(i64::MAX)),
                ("lastAnnounceStartTime", "last_announce_start_time", last.at.0),
                ("lastAnnounceTime", "last_announce_time", last.at.0),
                ("lastScrapeStartTime", "last_scrape_start_time", scraped_at),
                ("lastScrapeTime", "last_scrape_time", scraped_at),
                ("leecherCount", "leecher_count", count(last.leechers)),
                ("nextAnnounceTime", "next_announce_time", tracker.next.unwrap_or(UnixTime(0)).0),
                ("nextScrapeTime", "next_scrape_time", 0),
                ("scrapeState", "scrape_state", 0),
                ("seederCount", "seeder_count", count(last.seeders)),
                ("tier", "tier", i64::from(tracker.tier)),
            ],
        );
    });
}

/// 0 if nothing will happen, 1 if a time is set, 3 while an announce is under way. 2, for announces that wait for others, does not
/// occur.
fn announce_state(tracker: &TrackerDetails) -> i64 {
    match tracker.next {
        _ if tracker.is_announcing => 3,
        Some(_) => 1,
        None => 0,
    }
}

/// Host and port of a URL; the scheme's port if it names none.
pub fn host_and_port(url: &str) -> (&str, u16) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let usual = match scheme {
        "https" | "wss" => 443,
        _ => 80,
    };
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().unwrap_or(usual)),
        _ => (authority, usual),
    }
}

/// The label before the public suffix: `example` for `tracker.example.co.uk`. Instead of the list of public suffixes, this knows
/// the second labels that most countries use.
pub fn site_name(host: &str) -> &str {
    const SECOND_LEVEL: [&str; 8] = ["ac", "co", "com", "edu", "gov", "net", "ne", "org"];
    if host.starts_with('[') || host.parse::<std::net::IpAddr>().is_ok() {
        return host;
    }
    let mut labels = host.trim_end_matches('.').rsplit('.');
    let (top, second, third) = (labels.next(), labels.next(), labels.next());
    match (top, second, third) {
        (Some(top), Some(second), Some(third)) if top.len() == 2 && SECOND_LEVEL.contains(&second) => third,
        (_, Some(second), _) => second,
        (Some(only), ..) => only,
        _ => host,
    }
}
