//! The bodies of the fuzz targets. `fuzz/fuzz_targets` has a one-line binary for each. `tests/parsers/fuzz_seeds.rs` runs them on the
//! seeds and on all inputs that fuzzing has found, so every `make test` covers them. Each target parses data that a stranger
//! could send, and panics if the parser breaks a promise.

#![allow(dead_code, reason = "a target uses one of them")]

mod dht;
mod hash;
mod http_server;
mod mse;
mod peer;
mod rpc;
mod utp;

use std::path::Component;
use std::time::Duration;

use btsync::bencode::validate;
use btsync::discovery::lsd::packet::LocalAnnounce;
use btsync::discovery::lsd::peer_filter::PeerFilter;
use btsync::discovery::tracker::announce::MAX_PEERS;
use btsync::discovery::tracker::http::answer;
use btsync::discovery::tracker::udp::packet;
use btsync::metainfo::magnet::MAX_LINK;
use btsync::metainfo::{Magnet, Metainfo};
use btsync::storage::resume::ResumeData;
use btsync::storage::{FileSpec, Layout};
use btsync::types::{BLOCK_SIZE, InfoHash, PieceIndex};
use btsync::wire::compact;
use sha1::{Digest, Sha1};

pub use dht::dht;
pub use hash::hash;
pub use http_server::http_server;
pub use mse::mse;
pub use peer::{extension, messages};
pub use rpc::rpc;
pub use utp::{utp_endpoint, utp_packet};

/// A target. Returns whether any of its parsers accepted the bytes; a seed that none accepts tests little.
pub type Target = fn(&[u8]) -> bool;

/// Every target with its name, which is also the name of its binary and of its folder in `testdata/fuzz`.
pub const TARGETS: [(&str, Target); 16] = [
    ("metainfo", metainfo),
    ("file_tree", file_tree),
    ("messages", messages),
    ("extension", extension),
    ("http_server", http_server),
    ("rpc", rpc),
    ("http_tracker", http_tracker),
    ("udp_tracker", udp_tracker),
    ("magnet", magnet),
    ("mse", mse),
    ("dht", dht),
    ("lsd", lsd),
    ("resume", resume),
    ("hash", hash),
    ("utp_packet", utp_packet),
    ("utp_endpoint", utp_endpoint),
];

/// Resume data, as given and behind a correct checksum. Accepted data must survive encoding, and must vouch for nothing when the
/// files are gone.
pub fn resume(bytes: &[u8]) -> bool {
    const FILES: usize = 3;
    const LENGTH: u32 = 64 << 10;
    let spec = |n: usize| FileSpec { path: format!("f{n}").into(), length: 800_000, is_pad: false };
    let layout = Layout::new(LENGTH, (0..FILES).map(spec).collect()).expect("three files");
    let summed = [Sha1::digest(bytes).as_slice(), bytes].concat();
    let mut accepted = false;
    for candidate in [bytes, &summed] {
        let Ok(record) = ResumeData::decode(candidate, &layout) else { continue };
        let again = ResumeData::decode(&record.encode(), &layout);
        assert_eq!(again.as_ref(), Ok(&record), "we read what we write");
        assert!(record.files.iter().all(|(number, _)| (*number as usize) < FILES));
        for partial in &record.partial {
            let blocks = layout.piece_size(partial.piece).div_ceil(BLOCK_SIZE);
            assert!(partial.block_count() == blocks && partial.iter().all(|block| block < blocks));
            assert!((1..blocks).contains(&partial.count()), "neither missing nor whole");
        }
        assert!(record.partial.is_sorted_by(|a, b| a.piece < b.piece), "no piece twice");
        let (whole, partial) =
            (record.trusted_pieces(&layout, &[None; FILES]), record.trusted_blocks(&layout, &[None; FILES]));
        assert!(whole.count() == 0 && partial.is_empty(), "nothing is there to vouch for");
        accepted = true;
    }
    accepted
}

/// Torrent files. An accepted file must be consistent, and must survive writing and parsing.
pub fn metainfo(bytes: &[u8]) -> bool {
    if let Ok(length) = validate::prefix(bytes) {
        assert!((1..=bytes.len()).contains(&length));
        assert_eq!(validate::prefix(&bytes[..length]), Ok(length), "a value is one without what follows");
    }
    let info = Metainfo::from_info(bytes, Vec::new(), Vec::new());
    let Ok(torrent) = Metainfo::parse(bytes) else { return info.is_ok() };
    let (total, count) = (torrent.total(), torrent.piece_count());
    let sizes: u64 = (0..count).map(|piece| u64::from(torrent.piece_size(PieceIndex(piece)))).sum();
    assert_eq!(sizes, total, "the pieces cover the files");
    for file in &torrent.files {
        assert!(file.path.components().all(|part| matches!(part, Component::Normal(_))), "{}", file.path.display());
    }
    let again = Metainfo::parse(&torrent.to_bytes()).expect("we read what we write");
    assert_eq!((again.info_hash, again.total()), (torrent.info_hash, total));
    assert_eq!((again.info_hash_v2, again.version()), (torrent.info_hash_v2, torrent.version()));
    let link = Magnet::of(&torrent).to_string();
    if link.len() <= MAX_LINK {
        assert_eq!(Magnet::parse(&link).map(|link| link.info_hash), Ok(torrent.info_hash));
    }
    true
}

/// The `file tree` of a v2-only torrent, and the same with `piece layers` after it, as BEP 52 has them.
pub fn file_tree(bytes: &[u8]) -> bool {
    const PIECE: u64 = 16 << 10;
    let length = validate::prefix(bytes).unwrap_or(bytes.len());
    let (tree, layers) = bytes.split_at(length);
    let info = [b"d9:file tree", tree, b"12:meta versioni2e4:name1:n12:piece lengthi16384ee"].concat();
    let with_layers = [b"d4:info", &*info, b"12:piece layers", layers, b"e"].concat();
    let mut accepted = false;
    for read in [Metainfo::from_info(&info, Vec::new(), Vec::new()), Metainfo::parse(&with_layers)] {
        let Ok(torrent) = read else { continue };
        accepted = true;
        let (mut start, mut pieces) = (0, 0);
        for file in &torrent.files {
            let is_plain = file.path.components().all(|part| matches!(part, Component::Normal(_)));
            assert!(is_plain, "{}", file.path.display());
            if !file.is_virtual && file.length > 0 {
                assert_eq!(start % PIECE, 0, "files start at pieces");
                pieces += file.length.div_ceil(PIECE);
            }
            start += file.length;
        }
        assert_eq!(u64::from(torrent.piece_count()), pieces, "no piece has no data");
        let again = Metainfo::parse(&torrent.to_bytes()).expect("we read what we write");
        assert_eq!((again.info_hash_v2, &again.files), (torrent.info_hash_v2, &torrent.files));
        assert_eq!(again.to_bytes(), torrent.to_bytes());
    }
    accepted
}

/// Magnet links. An accepted link must survive writing and parsing.
pub fn magnet(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Ok(link) = Magnet::parse(&text) else { return false };
    let written = link.to_string();
    assert!(written.is_ascii() && !written.contains(char::is_control), "fit for a terminal");
    if written.len() <= MAX_LINK {
        assert_eq!(Magnet::parse(&written).as_ref(), Ok(&link), "{written}");
    }
    true
}

/// HTTP trackers' responses to announce and scrape.
pub fn http_tracker(bytes: &[u8]) -> bool {
    let announced = answer::parse(bytes);
    if let Ok(answer) = &announced {
        assert!(answer.peers.len() <= MAX_PEERS);
        assert!(answer.peers.iter().all(|&addr| compact::is_usable(addr)));
        let sane = Duration::from_secs(2)..=Duration::from_secs(24 * 60 * 60);
        assert!(sane.contains(&answer.interval) && answer.min_interval.is_none_or(|wait| sane.contains(&wait)));
        assert!(answer.warning.as_ref().is_none_or(|text| !text.contains(char::is_control)));
    }
    let swarms = [InfoHash([b'a'; 20]), InfoHash([0; 20])];
    let scraped = answer::parse_scrape(bytes, &swarms);
    if let Ok(figures) = &scraped {
        assert_eq!(figures.len(), swarms.len());
    }
    announced.is_ok() || scraped.is_ok()
}

/// Packets of UDP trackers and their clients.
pub fn udp_tracker(bytes: &[u8]) -> bool {
    let Some(response) = packet::parse_response(bytes) else { return packet::parse_request(bytes).is_some() };
    let transaction = packet::transaction(bytes).expect("a response has a transaction id");
    let written = packet::response(transaction, &response);
    assert!(bytes.starts_with(&written), "a response comes back but for what follows it");
    if let packet::UdpResponse::Scraped(body) | packet::UdpResponse::Announced { peers: body, .. } = response {
        assert_eq!(packet::figures(body).count(), body.len() / 12);
        let addresses = compact::parse_v4(body).count() + compact::parse_v6(body).count();
        assert!(addresses <= body.len() / compact::V4_LENGTH + body.len() / compact::V6_LENGTH);
    }
    let _ = packet::parse_request(bytes);
    true
}

/// Datagrams of local discovery.
pub fn lsd(bytes: &[u8]) -> bool {
    let Some(said) = LocalAnnounce::parse(bytes) else { return false };
    assert!(said.port != 0 && !said.swarms.is_empty());
    let mut peer_filter = PeerFilter::new(said.swarms.clone(), "ours".to_owned(), 1);
    let from = ([192, 168, 7, 7], 6771).into();
    let first = peer_filter.receive(Duration::ZERO, from, bytes).len();
    assert!(first <= said.swarms.len());
    assert!(peer_filter.receive(Duration::ZERO, from, bytes).is_empty(), "the same announce again");
    true
}
