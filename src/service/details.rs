//! The files, peers, trackers and pieces of one torrent, for those who look at it.

use crate::discovery::tracker::error::TrackerError;
use crate::metainfo::Metainfo;
use crate::service::model::{
    FileDetails, PeerCounts, PeerDetails, PeerSources, PieceDetails, Priority, TrackerAnswer, TrackerDetails, UnixTime,
};
use crate::service::record::TorrentRecord;
use crate::service::trackers::tiers;
use crate::strategy::peer_list::PeerSource;
use crate::torrent::{PeerView, TorrentHandle, TrackerState, TrackerView};
use crate::types::{Bitfield, PieceIndex, PieceState, Transport};
use crate::util::printable_text::printable;

/// The states of a torrent's pieces: of its run, or as far as its record or its resume data (`recorded`) know.
fn states(record: &TorrentRecord, handle: Option<&TorrentHandle>, recorded: Option<&Bitfield>) -> Vec<PieceState> {
    let mut states = Vec::new();
    if let Some(handle) = handle {
        handle.pieces(&mut states);
    }
    if states.is_empty() && record.progress.is_complete {
        let pieces = record.metainfo.as_ref().map_or(0, |metainfo| metainfo.pieces);
        states = vec![PieceState::Verified; usize::try_from(pieces).unwrap_or(0)];
    }
    if let Some(recorded) = recorded.filter(|_| states.is_empty()) {
        let state = |piece| if recorded.has(PieceIndex(piece)) { PieceState::Verified } else { PieceState::Missing };
        states = (0..recorded.len()).map(state).collect();
    }
    states
}

/// The files without padding. `recorded` are the verified pieces of the resume data, for a torrent that does not run.
pub fn files(
    record: &TorrentRecord,
    metainfo: &Metainfo,
    handle: Option<&TorrentHandle>,
    recorded: Option<&Bitfield>,
) -> Vec<FileDetails> {
    let states = states(record, handle, recorded);
    let is_complete = record.progress.is_complete;
    let mut offset = 0;
    let mut details = Vec::with_capacity(metainfo.files.len());
    for (index, file) in (0_u32..).zip(&metainfo.files) {
        let start = offset;
        offset += file.length;
        if file.is_virtual {
            continue;
        }
        let is_wanted = record.files.unwanted.binary_search(&index).is_err();
        let (pieces, have) = file_pieces(start, file.length, metainfo.piece_length, &states);
        details.push(FileDetails {
            index: u32::try_from(details.len()).unwrap_or(u32::MAX),
            path: record.renamed(index).unwrap_or(&file.path).to_string_lossy().into_owned(),
            length: file.length,
            have: if is_complete && !is_wanted && handle.is_none() { 0 } else { have },
            is_wanted,
            priority: priority(record, index),
            pieces,
        });
    }
    details
}

fn priority(record: &TorrentRecord, index: u32) -> Priority {
    if record.files.high.binary_search(&index).is_ok() {
        Priority::High
    } else if record.files.low.binary_search(&index).is_ok() {
        Priority::Low
    } else {
        Priority::Normal
    }
}

/// The pieces of a file, and how many of its bytes are verified.
fn file_pieces(start: u64, length: u64, piece_length: u32, states: &[PieceState]) -> (std::ops::Range<u32>, u64) {
    let piece_length = u64::from(piece_length.max(1));
    if length == 0 {
        return (0..0, 0);
    }
    let end = start + length;
    let (first, last) = (start / piece_length, (end - 1) / piece_length);
    let mut have = 0;
    for piece in first..=last {
        let is_verified = usize::try_from(piece).ok().and_then(|at| states.get(at)) == Some(&PieceState::Verified);
        if is_verified {
            have += ((piece + 1) * piece_length).min(end) - (piece * piece_length).max(start);
        }
    }
    let number = |piece: u64| u32::try_from(piece).unwrap_or(u32::MAX);
    (number(first)..number(last).saturating_add(1), have)
}

/// The connected peers.
pub fn peers(handle: &TorrentHandle) -> Vec<PeerDetails> {
    let details = |peer: PeerView| PeerDetails {
        addr: peer.addr,
        client: peer.client,
        progress: peer.progress,
        down_rate: peer.down_rate,
        up_rate: peer.up_rate,
        downloaded: peer.downloaded,
        uploaded: peer.uploaded,
        is_incoming: peer.is_incoming,
        is_encrypted: peer.is_encrypted,
        is_utp: peer.transport == Transport::Utp,
        is_hole_punched: peer.is_hole_punched,
        peer_choking: peer.peer_choking,
        peer_interested: peer.peer_interested,
        am_choking: peer.am_choking,
        am_interested: peer.am_interested,
        is_snubbing: peer.is_snubbing,
        source: match peer.source {
            Some(PeerSource::Dht) => 'H',
            Some(PeerSource::Pex) => 'X',
            Some(PeerSource::LocalDiscovery) => 'L',
            Some(PeerSource::MagnetLink | PeerSource::User) => 'U',
            _ => 'T',
        },
    };
    handle.peers().into_iter().map(details).collect()
}

/// How many peers are connected, and where their addresses are from.
pub fn peer_counts(handle: &TorrentHandle) -> PeerCounts {
    let peers = handle.peers();
    let count = |of: &dyn Fn(&PeerView) -> bool| peers.iter().filter(|peer| of(peer)).count();
    let from = |source: PeerSource| count(&|peer| peer.source == Some(source) && !peer.is_incoming);
    PeerCounts {
        connected: peers.len(),
        sending: count(&|peer| peer.down_rate > 0),
        receiving: count(&|peer| peer.up_rate > 0),
        web_seeds: handle.snapshot().web_seeds,
        incoming: count(&|peer| peer.is_incoming),
        from: PeerSources {
            dht: from(PeerSource::Dht),
            lsd: from(PeerSource::LocalDiscovery),
            pex: from(PeerSource::Pex),
            tracker: from(PeerSource::Tracker),
            user: from(PeerSource::User) + from(PeerSource::MagnetLink),
        },
    }
}

/// The trackers, with what is known of those of a torrent that runs or sleeps.
pub fn trackers(record: &TorrentRecord, metainfo: Option<&Metainfo>, views: &[TrackerView]) -> Vec<TrackerDetails> {
    let mut details = Vec::new();
    for (tier, urls) in (0_u32..).zip(tiers(record, metainfo)) {
        for announce in urls {
            let view = views.iter().find(|view| view.url == announce);
            details.push(TrackerDetails {
                id: u32::try_from(details.len()).unwrap_or(u32::MAX),
                tier,
                scrape: scrape_url(&announce),
                announce,
                last: view.and_then(last_answer),
                next: view.and_then(|view| view.next_announce).map(UnixTime::from),
                is_announcing: view.is_some_and(|view| view.is_announcing),
                is_backup: view.is_some_and(|view| view.next_announce.is_none() && !view.is_announcing),
            });
        }
    }
    details
}

fn last_answer(view: &TrackerView) -> Option<TrackerAnswer> {
    let at = UnixTime::from(view.last_announce?);
    let (seeders, leechers) = (view.seeds.map(u64::from), view.leechers.map(u64::from));
    let answer = TrackerAnswer { at, seeders, leechers, ..TrackerAnswer::default() };
    Some(match view.last_result.as_ref()? {
        TrackerState::Answered { peers } => TrackerAnswer {
            is_success: true,
            message: view.warning.as_deref().map_or_else(|| "Success".to_owned(), printable),
            peers: *peers,
            ..answer
        },
        TrackerState::Failed { error } => {
            let is_timeout = matches!(error, TrackerError::Timeout);
            TrackerAnswer { message: printable(&error.to_string()), is_timeout, ..answer }
        }
    })
}

/// The scrape URL of an announce URL, or an empty string.
fn scrape_url(announce: &str) -> String {
    match announce.rsplit_once('/') {
        Some((start, last)) if last.starts_with("announce") => {
            format!("{start}/{}", last.replacen("announce", "scrape", 1))
        }
        _ if announce.starts_with("udp://") => announce.to_owned(),
        _ => String::new(),
    }
}

/// The pieces; `recorded` as for [`files`].
pub fn pieces(record: &TorrentRecord, handle: Option<&TorrentHandle>, recorded: Option<&Bitfield>) -> PieceDetails {
    let states = states(record, handle, recorded);
    let count = record.metainfo.as_ref().map_or(0, |metainfo| usize::try_from(metainfo.pieces).unwrap_or(0));
    let mut have = vec![0_u8; count.div_ceil(8)];
    let mut begun = Vec::new();
    for (number, state) in states.iter().enumerate() {
        match state {
            PieceState::Verified => {
                if let Some(byte) = have.get_mut(number / 8) {
                    *byte |= 0x80 >> (number % 8);
                }
            }
            PieceState::InProgress => begun.push(u32::try_from(number).unwrap_or(u32::MAX)),
            PieceState::Missing | PieceState::Unavailable | PieceState::Unwanted => {}
        }
    }
    let mut counts = Vec::new();
    if let Some(handle) = handle {
        handle.availability(&mut counts);
    }
    let availability = counts.iter().zip(&states).map(|(count, state)| match state {
        PieceState::Verified => -1,
        _ => i32::from(*count),
    });
    PieceDetails { have, begun, availability: availability.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_bytes_of_its_verified_pieces() {
        assert_eq!(file_pieces(0, 20_000, 16_384, &[PieceState::Verified, PieceState::Missing]), (0..2, 16_384));
        assert_eq!(file_pieces(20_000, 5, 16_384, &[PieceState::Missing, PieceState::Verified]), (1..2, 5));
        assert_eq!(file_pieces(7, 0, 16_384, &[]), (0..0, 0));
    }
}
