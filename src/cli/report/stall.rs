//! Explains why no data arrives: a line with the results of trackers, DHT, local discovery and connections. It is
//! printed after 30 seconds without data, and then once a minute if it has changed.

use std::time::Duration;

use crate::cli::report::status::count;
use crate::cli::report::{sanitize, tracker_error};
use btsync::{
    MappingFailure, MappingState, PeerSearchStats, PeerView, PortMappingStatus, Snapshot, Stage, TorrentHandle,
    TrackerState,
};

/// Without data for this long, a download counts as stalled.
const STALL_AFTER: Duration = Duration::from_secs(30);
/// The minimum time between two lines.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// Detects that a download is stalled.
#[derive(Default)]
pub struct StallDetector {
    /// The bytes and metadata pieces at the last progress; `since` is when that was.
    last: (u64, usize),
    since: Option<Duration>,
    /// The time and text of the last line.
    last_report: Option<(Duration, String)>,
}

impl StallDetector {
    /// The line to print now, if any.
    pub fn line(&mut self, at: Duration, now: &Snapshot, handle: &TorrentHandle) -> Option<String> {
        if !self.is_due(at, now) {
            return None;
        }
        let line = stall_reason(&handle.peer_search(), now, &handle.peers());
        let new = self.last_report.as_ref().is_none_or(|(_, last)| *last != line);
        let since = self.since.unwrap_or(at);
        self.last_report = Some((at, line.clone()));
        new.then(|| format!("no data for {} s: {line}", at.saturating_sub(since).as_secs()))
    }

    /// Updates the state from a snapshot. Returns how long the download has been stalled, if it is.
    pub fn stalled(&mut self, at: Duration, now: &Snapshot) -> Option<Duration> {
        self.is_due(at, now);
        self.since.map(|since| at.saturating_sub(since)).filter(|&time| time >= STALL_AFTER && expects_data(now))
    }

    fn is_due(&mut self, at: Duration, now: &Snapshot) -> bool {
        let count = (now.downloaded, now.metadata.0);
        if !expects_data(now) || count != self.last || self.since.is_none() {
            (self.last, self.since) = (count, Some(at));
            return false;
        }
        let long = self.since.is_some_and(|since| at >= since + STALL_AFTER);
        long && self.last_report.as_ref().is_none_or(|(then, _)| at >= *then + REPORT_INTERVAL)
    }
}

/// Whether the torrent is in a stage that needs data from peers.
fn expects_data(now: &Snapshot) -> bool {
    matches!(now.stage, Stage::Downloading | Stage::Metadata)
}

/// Summarizes the search for peers and why connected peers send nothing.
pub fn stall_reason(search: &PeerSearchStats, now: &Snapshot, peers: &[PeerView]) -> String {
    let mut parts = Vec::new();
    parts.extend(trackers(search));
    match search.dht_nodes {
        Some(0) => parts.push("DHT: no node answers".to_owned()),
        Some(nodes) => parts.push(format!("DHT: {}, {}", count(nodes, "node"), count(search.dht_peers, "peer"))),
        None => {}
    }
    match search.lsd_interfaces {
        Some(0) => parts.push("local network: no interface is up".to_owned()),
        Some(1) => parts.push(format!("local network: {}", count(search.lsd_peers, "peer"))),
        Some(interfaces) => {
            parts.push(format!("local networks: {} on {interfaces} interfaces", count(search.lsd_peers, "peer")));
        }
        None => {}
    }
    if search.pex_peers > 0 {
        parts.push(format!("peer exchange: {}", count(search.pex_peers, "peer")));
    }
    if let Some(reason) = &search.proxy_failure {
        parts.push(format!("the proxy does not work: {reason}"));
    }
    if let Some(list) = search.block_list {
        parts.push(match list.hits {
            1 => "block list: an address refused once".to_owned(),
            hits => format!("block list: addresses refused {hits} times"),
        });
    }
    let counts = [
        (search.dials_succeeded, "reached"),
        (search.unreachable, "unreachable"),
        (search.unanswered, "silent"),
        (search.wrong_handshake, "wrong torrent or protocol"),
    ];
    let dial_results: Vec<_> = counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    // These counts come first: the peer list forgets addresses that stay unreachable, so it can be empty by now.
    if !dial_results.is_empty() {
        parts.push(format!("connection attempts: {}", dial_results.join(", ")));
    } else if now.connected_peers == 0 {
        parts.push(match now.known_peers {
            0 => "no peer is known".to_owned(),
            1 => "the one known peer has not answered".to_owned(),
            known => format!("none of {known} known peers has answered"),
        });
    }
    parts.extend(connected(now, peers));
    parts.extend(search.port_mapping.as_ref().and_then(port_mapping));
    parts.push(match search.incoming_connections {
        0 => "no incoming connections".to_owned(),
        n => count(n, "incoming connection"),
    });
    parts.join("; ")
}

/// What the router said, once it was asked.
fn port_mapping(status: &PortMappingStatus) -> Option<String> {
    match &status.ipv4 {
        MappingState::Asking | MappingState::Failed(MappingFailure::NoRouter | MappingFailure::PublicAddress) => None,
        MappingState::Failed(failure) => Some(format!("port mapping: {}", sanitize(&failure.to_string()))),
        _ => Some(sanitize(&status.to_string())),
    }
}

/// The results of up to two trackers each, or a count for more.
fn trackers(search: &PeerSearchStats) -> Vec<String> {
    if search.trackers.len() <= 2 {
        let word = |(name, state): &(String, TrackerState)| match state {
            TrackerState::Answered { peers } => format!("tracker {}: {}", sanitize(name), count(*peers, "peer")),
            TrackerState::Failed { error } => {
                format!("tracker {}: {}", sanitize(name), sanitize(&tracker_error(error)))
            }
            other => format!("tracker {}: {}", sanitize(name), sanitize(&format!("{other:?}"))),
        };
        return search.trackers.iter().map(word).collect();
    }
    let answers: Vec<usize> = search
        .trackers
        .iter()
        .filter_map(|(_, state)| match state {
            TrackerState::Answered { peers } => Some(*peers),
            _ => None,
        })
        .collect();
    let most = answers.iter().max().copied().unwrap_or_default();
    let (answering, all) = (answers.len(), search.trackers.len());
    let verb = if answering == 1 { "answers" } else { "answer" };
    vec![format!("trackers: {answering} of {all} {verb}, with {} at most", count(most, "peer"))]
}

/// Why connected peers send nothing.
fn connected(now: &Snapshot, peers: &[PeerView]) -> Option<String> {
    if now.connected_peers == 0 {
        return None;
    }
    let (choke, empty) =
        (peers.iter().filter(|p| p.peer_choking).count(), peers.iter().filter(|p| p.progress == 0.0).count());
    Some(match now.stage {
        Stage::Metadata => format!("connected: {}, none has sent the metadata yet", now.connected_peers),
        _ if empty == now.connected_peers => format!("connected: {}, none of which has any piece", now.connected_peers),
        _ => {
            format!(
                "connected: {}, {choke} of which {} us",
                now.connected_peers,
                if choke == 1 { "chokes" } else { "choke" }
            )
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use btsync::tracker::TrackerError;

    fn snapshot() -> Snapshot {
        Snapshot { stage: Stage::Downloading, total: 1 << 30, ..Snapshot::default() }
    }

    #[test]
    fn the_line_names_a_proxy_that_does_not_work() {
        let search = PeerSearchStats { proxy_failure: Some("timed out".to_owned()), ..PeerSearchStats::default() };
        assert!(stall_reason(&search, &snapshot(), &[]).contains("the proxy does not work: timed out; "));
    }

    #[test]
    fn the_line_says_how_often_the_block_list_applied() {
        let list = btsync::BlockListStats { ranges: 1, hits: 3 };
        let mut search = PeerSearchStats { block_list: Some(list), ..PeerSearchStats::default() };
        assert!(stall_reason(&search, &snapshot(), &[]).starts_with("block list: addresses refused 3 times; "));
        search.block_list = Some(btsync::BlockListStats { hits: 1, ..list });
        assert!(stall_reason(&search, &snapshot(), &[]).starts_with("block list: an address refused once; "));
    }

    #[test]
    fn the_line_says_what_the_router_said() {
        let line = |ipv4| {
            let port_mapping = Some(PortMappingStatus { ipv4, ipv6: None });
            stall_reason(&PeerSearchStats { port_mapping, ..PeerSearchStats::default() }, &snapshot(), &[])
        };
        let (protocol, port) = (btsync::MappingProtocol::Upnp, Some(7000));
        let mapped = MappingState::Mapped { protocol, tcp_port: port, udp_port: port, external_address: None };
        assert!(line(mapped).contains("; the router forwards port 7000 (UPnP); no incoming"));
        let silent = line(MappingState::Failed(MappingFailure::Silent));
        assert!(silent.contains("; port mapping: the router does not answer; no incoming"), "{silent}");
        assert!(!line(MappingState::Failed(MappingFailure::NoRouter)).contains("router"));
    }

    #[test]
    fn the_line_names_every_source_and_its_result() {
        let mut search = PeerSearchStats { dht_nodes: Some(0), ..PeerSearchStats::default() };
        search.tracker("http://t/", TrackerState::Failed { error: TrackerError::Timeout });
        let mut now = snapshot();
        let line =
            "tracker http://t/: no answer in time; DHT: no node answers; no peer is known; no incoming connections";
        assert_eq!(stall_reason(&search, &now, &[]), line);
        for (interfaces, peers, word) in [
            (0, 0, "local network: no interface is up; "),
            (1, 0, "local network: 0 peers; "),
            (2, 3, "local networks: 3 peers on 2 interfaces; "),
        ] {
            (search.lsd_interfaces, search.lsd_peers) = (Some(interfaces), peers);
            assert!(stall_reason(&search, &now, &[]).contains(word), "{word}");
        }
        now.known_peers = 1;
        assert!(stall_reason(&search, &now, &[]).contains("; the one known peer has not answered; "));
        (now.known_peers, search.dht_nodes, search.dht_peers, search.lsd_peers) = (2, Some(1), 1, 1);
        search.lsd_interfaces = Some(1);
        search.tracker("http://t/", TrackerState::Answered { peers: 1 });
        let line = "tracker http://t/: 1 peer; DHT: 1 node, 1 peer; local network: 1 peer; none of 2 known peers has answered; no incoming connections";
        assert_eq!(stall_reason(&search, &now, &[]), line);
        search.tracker("http://t/", TrackerState::Failed { error: TrackerError::Timeout });
        (now.known_peers, now.connected_peers) = (9, 1);
        (search.dials_succeeded, search.unreachable, search.unanswered, search.incoming_connections) = (1, 5, 3, 2);
        search.dht_nodes = Some(40);
        search.dht_peers = 9;
        let peer = PeerView {
            source: None,
            down_rate: 0,
            up_rate: 0,
            addr: ([192, 0, 2, 7], 6881).into(),
            client: "x".to_owned(),
            is_incoming: false,
            is_encrypted: false,
            transport: btsync::Transport::Tcp,
            is_hole_punched: false,
            supports_fast: false,
            downloaded: 0,
            uploaded: 0,
            progress: 1.0,
            peer_choking: true,
            peer_interested: false,
            am_choking: true,
            am_interested: true,
            is_snubbing: false,
        };
        let line = stall_reason(&search, &now, &[peer]);
        assert!(line.contains("DHT: 40 nodes, 9 peers"), "{line}");
        assert!(line.contains("connection attempts: 1 reached, 5 unreachable, 3 silent"), "{line}");
        assert!(line.contains("connected: 1, 1 of which chokes us; 2 incoming connections"), "{line}");
        for n in 0..5 {
            search.tracker(&format!("udp://{n}/"), TrackerState::Answered { peers: n });
        }
        assert!(stall_reason(&search, &now, &[]).contains("trackers: 5 of 6 answer, with 4 peers at most"));
    }

    #[test]
    fn a_stall_is_reported_after_half_a_minute_and_then_once_a_minute() {
        let (mut stall_detector, mut now) = (StallDetector::default(), snapshot());
        let s = Duration::from_secs;
        assert!(
            !stall_detector.is_due(s(1), &now)
                && !stall_detector.is_due(s(30), &now)
                && stall_detector.is_due(s(31), &now)
        );
        stall_detector.last_report = Some((s(31), String::new()));
        assert!(!stall_detector.is_due(s(90), &now) && stall_detector.is_due(s(91), &now));
        now.downloaded = 1;
        assert!(
            !stall_detector.is_due(s(92), &now)
                && !stall_detector.is_due(s(121), &now)
                && stall_detector.is_due(s(122), &now)
        );
        assert_eq!((stall_detector.stalled(s(121), &now), stall_detector.stalled(s(130), &now)), (None, Some(s(38))));
        now.stage = Stage::Seeding;
        assert!(!stall_detector.is_due(s(500), &now) && stall_detector.stalled(s(900), &now).is_none());
    }
}
