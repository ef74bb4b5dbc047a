//! Encodes and decodes the datagrams of BEP 15, for both sides: the client sends requests, the tracker server sends responses.
//! All numbers are big-endian; packets may have trailing bytes. Pure.

use crate::discovery::tracker::announce::{Announce, AnnounceEvent, ScrapeCounts};
use crate::types::{InfoHash, PeerId};

/// The protocol's magic number, which a connect request has in place of a connection id.
const PROTOCOL: u64 = 0x0417_2710_1980;
/// The type of the option with path and query (BEP 41).
const URL_DATA: u8 = 2;
/// The most torrents in one scrape.
pub const MAX_SCRAPE: usize = 74;

const CONNECT: u32 = 0;
const ANNOUNCE: u32 = 1;
const SCRAPE: u32 = 2;
const ERROR: u32 = 3;

/// A request to a tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpRequest<'a> {
    /// Requests a connection id.
    Connect,
    /// An announce, with its connection id.
    Announce(u64, AnnounceRequest),
    /// A scrape: its connection id, and the info-hashes of 20 bytes each.
    Scrape(u64, &'a [u8]),
}

/// The fields of an announce that the tracker server uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnnounceRequest {
    /// The torrent's info-hash.
    pub info_hash: InfoHash,
    /// The client's peer id.
    pub peer_id: PeerId,
    /// Bytes left to download.
    pub left: u64,
    /// The event, if any.
    pub event: Option<AnnounceEvent>,
    /// The number of peers requested; negative for the tracker's default.
    pub numwant: i32,
    /// The TCP port on which the client accepts peers.
    pub port: u16,
}

/// A tracker's response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpResponse<'a> {
    /// A connection id.
    Connected(u64),
    /// The response to an announce.
    Announced {
        /// Seconds until the next announce.
        interval: u32,
        /// The number of leechers.
        leechers: u32,
        /// The number of seeds.
        seeders: u32,
        /// Compact addresses, of the family that carried the packet.
        peers: &'a [u8],
    },
    /// The counts of torrents, 12 bytes each.
    Scraped(&'a [u8]),
    /// An error and its text.
    Error(&'a [u8]),
}

/// Encodes a connect request.
pub fn connect_request(transaction: u32) -> Vec<u8> {
    request(PROTOCOL, CONNECT, transaction)
}

/// Encodes an announce; `url_data` is the URL's path and query (BEP 41), omitted if empty.
pub fn announce_request(connection: u64, transaction: u32, a: &Announce, url_data: &str) -> Vec<u8> {
    let (event, numwant) = match a.event {
        // BEP 15 has no number for `paused`.
        None | Some(AnnounceEvent::Paused) => (0u32, a.numwant),
        Some(AnnounceEvent::Completed) => (1, a.numwant),
        Some(AnnounceEvent::Started) => (2, a.numwant),
        // A stopping torrent needs no peers.
        Some(AnnounceEvent::Stopped) => (3, 0),
    };
    let mut out = request(connection, ANNOUNCE, transaction);
    out.extend_from_slice(&a.info_hash.0);
    out.extend_from_slice(&a.peer_id.0);
    for amount in [a.downloaded, a.left, a.uploaded] {
        out.extend_from_slice(&amount.to_be_bytes());
    }
    // The 0 is our IP address: the tracker uses the packet's source address.
    for number in [event, 0, a.key, numwant.min(i32::MAX as u32)] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    out.extend_from_slice(&a.port.to_be_bytes());
    for part in url_data.as_bytes().chunks(255) {
        out.extend_from_slice(&[URL_DATA, part.len() as u8]);
        out.extend_from_slice(part);
    }
    out
}

/// Encodes a scrape of at most [`MAX_SCRAPE`] torrents.
pub fn scrape_request(connection: u64, transaction: u32, swarms: &[InfoHash]) -> Vec<u8> {
    let mut out = request(connection, SCRAPE, transaction);
    swarms.iter().take(MAX_SCRAPE).for_each(|swarm| out.extend_from_slice(&swarm.0));
    out
}

fn request(connection: u64, action: u32, transaction: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    out.extend_from_slice(&connection.to_be_bytes());
    out.extend_from_slice(&action.to_be_bytes());
    out.extend_from_slice(&transaction.to_be_bytes());
    out
}

/// Decodes a request and its transaction id; `None` if it is malformed.
pub fn parse_request(bytes: &[u8]) -> Option<(u32, UdpRequest<'_>)> {
    let mut at = ByteReader(bytes);
    let (connection, action, transaction) = (at.u64()?, at.u32()?, at.u32()?);
    let request = match action {
        CONNECT if connection == PROTOCOL => UdpRequest::Connect,
        ANNOUNCE => UdpRequest::Announce(connection, announce(&mut at)?),
        SCRAPE if at.0.len() >= 20 => UdpRequest::Scrape(connection, at.0),
        _ => return None,
    };
    Some((transaction, request))
}

fn announce(at: &mut ByteReader<'_>) -> Option<AnnounceRequest> {
    let (info_hash, peer_id) = (InfoHash(at.take()?), PeerId(at.take()?));
    let (_downloaded, left, _uploaded) = (at.u64()?, at.u64()?, at.u64()?);
    let event = match at.u32()? {
        1 => Some(AnnounceEvent::Completed),
        2 => Some(AnnounceEvent::Started),
        3 => Some(AnnounceEvent::Stopped),
        _ => None,
    };
    let (_ip, _key, numwant) = (at.u32()?, at.u32()?, at.u32()?.cast_signed());
    let port = u16::from_be_bytes(at.take()?);
    Some(AnnounceRequest { info_hash, peer_id, left, event, numwant, port })
}

/// The transaction id of a response, whatever its content; `None` if it is too short.
pub fn transaction(bytes: &[u8]) -> Option<u32> {
    bytes.get(4..8).and_then(|id| id.try_into().ok()).map(u32::from_be_bytes)
}

/// Decodes a response; `None` if it is too short for its action, or the action is unknown.
pub fn parse_response(bytes: &[u8]) -> Option<UdpResponse<'_>> {
    let mut at = ByteReader(bytes);
    let (action, _transaction) = (at.u32()?, at.u32()?);
    Some(match action {
        CONNECT => UdpResponse::Connected(at.u64()?),
        ANNOUNCE => {
            let (interval, leechers, seeders) = (at.u32()?, at.u32()?, at.u32()?);
            UdpResponse::Announced { interval, leechers, seeders, peers: at.0 }
        }
        SCRAPE => UdpResponse::Scraped(at.0),
        ERROR => UdpResponse::Error(at.0),
        _ => return None,
    })
}

/// Encodes a response.
pub fn response(transaction: u32, response: &UdpResponse<'_>) -> Vec<u8> {
    let head = |action: u32| [action.to_be_bytes(), transaction.to_be_bytes()].concat();
    match response {
        UdpResponse::Connected(id) => [head(CONNECT), id.to_be_bytes().to_vec()].concat(),
        UdpResponse::Announced { interval, leechers, seeders, peers } => {
            let numbers = [interval, leechers, seeders].map(|n| n.to_be_bytes()).concat();
            [head(ANNOUNCE), numbers, peers.to_vec()].concat()
        }
        UdpResponse::Scraped(figures) => [head(SCRAPE), figures.to_vec()].concat(),
        UdpResponse::Error(words) => [head(ERROR), words.to_vec()].concat(),
    }
}

/// Decodes the counts of a scrape, in the order of the request; ignores a truncated last entry.
pub fn figures(bytes: &[u8]) -> impl Iterator<Item = ScrapeCounts> + '_ {
    bytes.chunks_exact(12).filter_map(|entry| {
        let mut at = ByteReader(entry);
        Some(ScrapeCounts { complete: at.u32()?, downloaded: at.u32()?, incomplete: at.u32()? })
    })
}

/// The bytes not read yet.
struct ByteReader<'a>(&'a [u8]);

impl ByteReader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: Announce<'static> = Announce {
        info_hash: InfoHash([1; 20]),
        peer_id: PeerId([2; 20]),
        port: 0x1ae1,
        uploaded: 3,
        downloaded: 4,
        left: 5,
        key: 6,
        numwant: 200,
        event: Some(AnnounceEvent::Started),
        tracker_id: None,
    };

    #[test]
    fn requests_lie_as_the_bep_says() {
        assert_eq!(connect_request(7), [0, 0, 4, 0x17, 0x27, 0x10, 0x19, 0x80, 0, 0, 0, 0, 0, 0, 0, 7]);
        let sent = announce_request(0x0102_0304_0506_0708, 9, &A, "");
        assert_eq!(sent.len(), 98);
        assert_eq!(sent[..16], [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 1, 0, 0, 0, 9]);
        assert_eq!((&sent[16..36], &sent[36..56]), (&[1; 20][..], &[2; 20][..]));
        assert_eq!((sent[63], sent[71], sent[79]), (4, 5, 3), "downloaded, left, uploaded");
        assert_eq!(sent[80..98], [0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 200, 0x1a, 0xe1]);
        let stopped = announce_request(1, 9, &Announce { event: Some(AnnounceEvent::Stopped), ..A }, "");
        assert_eq!((stopped[83], stopped[95]), (3, 0), "one who leaves wants no peers");
        let paused = announce_request(1, 9, &Announce { event: Some(AnnounceEvent::Paused), ..A }, "");
        assert_eq!((paused[83], paused[95]), (0, 200), "no event, as there is no number for it");
        assert_eq!(scrape_request(1, 2, &[InfoHash([3; 20]); 100]).len(), 16 + 74 * 20);
    }

    #[test]
    fn path_and_query_travel_in_parts() {
        let sent = announce_request(1, 2, &A, "/dir?a=b&c=d");
        assert_eq!(&sent[98..], b"\x02\x0c/dir?a=b&c=d", "the example of BEP 41");
        let long = format!("/{}", "x".repeat(299));
        let sent = announce_request(1, 2, &A, &long);
        assert_eq!((sent[98], sent[99], sent[98 + 257], sent[98 + 258]), (2, 255, 2, 45));
        assert_eq!(sent.len(), 98 + 300 + 4);
    }

    #[test]
    fn our_tracker_reads_the_requests_of_our_client() {
        assert_eq!(parse_request(&connect_request(7)), Some((7, UdpRequest::Connect)));
        let sent = announce_request(1, 2, &A, "/announce");
        let (transaction, read) = parse_request(&sent).unwrap();
        let UdpRequest::Announce(1, read) = read else { panic!("{read:?}") };
        assert_eq!((transaction, read.info_hash, read.peer_id), (2, A.info_hash, A.peer_id));
        assert_eq!((read.left, read.event, read.numwant, read.port), (5, A.event, 200, 0x1ae1));
        let mut strange = connect_request(7);
        strange[0] = 1;
        assert_eq!(parse_request(&strange), None, "not the protocol's number");
        assert_eq!(parse_request(&announce_request(1, 2, &A, "")[..97]), None);
    }

    #[test]
    fn responses_are_read_and_short_ones_are_not() {
        let peers = [1, 2, 3, 4, 0, 5];
        let all = [
            UdpResponse::Connected(9),
            UdpResponse::Announced { interval: 1, leechers: 2, seeders: 3, peers: &peers },
            UdpResponse::Scraped(&[0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 9]),
            UdpResponse::Error(b"no"),
        ];
        for sent in all {
            let bytes = response(77, &sent);
            assert_eq!((transaction(&bytes), parse_response(&bytes)), (Some(77), Some(sent)));
        }
        assert_eq!(parse_response(&response(77, &all[0])[..15]), None);
        assert_eq!(parse_response(&response(77, &all[1])[..19]), None);
        assert_eq!(parse_response(&[0, 0, 0, 4, 0, 0, 0, 77]), None, "an unknown action");
        let UdpResponse::Scraped(bytes) = all[2] else { unreachable!() };
        let read: Vec<_> = figures(bytes).collect();
        assert_eq!(read, [ScrapeCounts { complete: 1, downloaded: 2, incomplete: 3 }]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..128), action in 0u8..5) {
            let _ = (transaction(&bytes), parse_request(&bytes), parse_response(&bytes), figures(&bytes).count());
            let _ = parse_response(&[&[0, 0, 0, action], bytes.as_slice()].concat());
            let _ = parse_request(&[&[0; 11], &[action][..], &bytes].concat());
        }
    }
}
