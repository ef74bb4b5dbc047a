//! A tracker's answer (BEP 3, 7, 23, 24): bencode from a stranger. What is wrong in one entry costs that entry only.

use std::net::{IpAddr, SocketAddr};

use serde_bencode::value::Value;

use super::{Answer, Scraped, TrackerError};
use crate::metainfo::paths::printable;
use crate::metainfo::values::{Dict, bytes, dictionary, int, list};
use crate::sources::announce::{DEFAULT_INTERVAL, MAX_TEXT, seconds, text, usable};
use crate::types::InfoHash;
use crate::wire::compact;

/// Reads an answer.
///
/// # Errors
/// Where it is no bencoded dictionary, or holds a `failure reason`.
pub fn parse(body: &[u8]) -> Result<Answer, TrackerError> {
    let dict = answer(body)?;
    Ok(Answer {
        peers: peers(&dict),
        interval: int(&dict, "interval").and_then(seconds).unwrap_or(DEFAULT_INTERVAL),
        min_interval: int(&dict, "min interval").and_then(seconds),
        complete: count(&dict, "complete"),
        incomplete: count(&dict, "incomplete"),
        warning: bytes(&dict, "warning message").map(text),
        tracker_id: bytes(&dict, "tracker id").filter(|id| id.len() <= MAX_TEXT).map(<[u8]>::to_vec),
        external_ip: bytes(&dict, "external ip").and_then(compact::ip),
    })
}

/// Reads the answer to a scrape (BEP 48): the figures of `swarms`, in their order.
///
/// # Errors
/// Where it is no bencoded dictionary, has no `files`, or holds a `failure reason`.
pub fn parse_scrape(body: &[u8], swarms: &[InfoHash]) -> Result<Vec<Option<Scraped>>, TrackerError> {
    let dict = answer(body)?;
    let Some(Value::Dict(files)) = dict.get(b"files".as_slice()) else {
        return Err(TrackerError::Malformed("it has no files".into()));
    };
    let figures = |swarm: &InfoHash| match files.get(swarm.0.as_slice()) {
        Some(Value::Dict(file)) => {
            let of = |key| count(file, key).unwrap_or(0);
            Some(Scraped { complete: of("complete"), incomplete: of("incomplete"), downloaded: of("downloaded") })
        }
        _ => None,
    };
    Ok(swarms.iter().map(figures).collect())
}

/// The dictionary that every answer is; a `failure reason` is an error.
fn answer(body: &[u8]) -> Result<Dict, TrackerError> {
    // Some scripts end their output with a line feed.
    let body = body.trim_ascii_end();
    let dict = dictionary(body).map_err(|e| TrackerError::Malformed(printable(&e.to_string())))?;
    let dict = dict.ok_or_else(|| TrackerError::Malformed("it is no bencoded dictionary".into()))?;
    match dict.get(b"failure reason".as_slice()) {
        None => Ok(dict),
        Some(Value::Bytes(reason)) => Err(TrackerError::Refused(text(reason))),
        Some(_) => Err(TrackerError::Malformed("its failure reason is no text".into())),
    }
}

fn count(dict: &Dict, key: &str) -> Option<u32> {
    int(dict, key).and_then(|n| u32::try_from(n).ok())
}

/// All usable peers of `peers` (either form) and `peers6`.
fn peers(dict: &Dict) -> Vec<SocketAddr> {
    let four = bytes(dict, "peers").map(compact::four).into_iter().flatten();
    let six = bytes(dict, "peers6").map(compact::six).into_iter().flatten();
    usable(four.chain(list(dict, "peers").iter().filter_map(from_dict)).chain(six))
}

/// One entry of the list form; names in place of addresses are not looked up.
fn from_dict(entry: &Value) -> Option<SocketAddr> {
    let Value::Dict(entry) = entry else { return None };
    let ip: IpAddr = std::str::from_utf8(bytes(entry, "ip")?).ok()?.parse().ok()?;
    let port = u16::try_from(int(entry, "port")?).ok()?;
    Some(SocketAddr::new(ip.to_canonical(), port))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::sources::announce::MAX_PEERS;

    fn addrs(list: &str) -> Vec<SocketAddr> {
        list.split_whitespace().map(|a| a.parse().unwrap()).collect()
    }

    #[test]
    fn compact_peers_of_both_families_without_the_impossible_ones() {
        let mut body = b"d8:completei3e10:incompletei4e8:intervali1800e12:min intervali60e5:peers33:".to_vec();
        body.extend(*b"\x01\x02\x03\x04\x1a\xe1\x01\x02\x03\x04\x1a\xe1\x01\x02\x03\x05\0\0\0\0\0\0\x1a\xe1");
        body.extend(*b"\xe0\0\0\x01\x1a\xe1odd6:peers618:");
        body.extend(*b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe110:tracker id2:xye");
        let answer = parse(&body).unwrap();
        assert_eq!(answer.peers, addrs("1.2.3.4:6881 [2001:db8::1]:6881"));
        assert_eq!((answer.complete, answer.incomplete), (Some(3), Some(4)));
        assert_eq!((answer.interval.as_secs(), answer.min_interval), (1800, Some(Duration::from_secs(60))));
        assert_eq!(answer.tracker_id.as_deref(), Some(b"xy".as_slice()));
    }

    #[test]
    fn wrong_entries_of_a_list_cost_themselves_only() {
        let body = b"d5:peersld2:ip7:1.2.3.44:porti5eei7e3:abclede\
            d2:ip11:example.com4:porti5eed2:ip7:1.2.3.44:porti70000eed2:ip7:1.2.3.44:porti-1eed2:ip7:1.2.3.44:port1:5e\
            d2:ipi1e4:porti5eed2:ip3:::14:porti6eed2:ip14:::ffff:5.6.7.84:porti7eeee";
        assert_eq!(parse(body).unwrap().peers, addrs("1.2.3.4:5 [::1]:6 5.6.7.8:7"));
    }

    #[test]
    fn intervals_are_clamped_at_both_ends() {
        let times =
            |body: &str| parse(body.as_bytes()).map(|a| (a.interval.as_secs(), a.min_interval.map(|m| m.as_secs())));
        assert_eq!(times("de"), Ok((1800, None)));
        assert_eq!(times("d8:intervali2e12:min intervali2ee"), Ok((2, Some(2))));
        assert_eq!(times("d8:intervali1e12:min intervali1ee"), Ok((2, Some(2))));
        assert_eq!(
            times("d8:intervali9223372036854775807e12:min intervali9223372036854775807ee"),
            Ok((86400, Some(86400)))
        );
        assert_eq!(times("d8:intervali-5e12:min intervali0ee"), Ok((1800, None)));
        assert_eq!(times("d8:interval3:xyz12:min intervallee"), Ok((1800, None)));
    }

    #[test]
    fn refusals_and_warnings_are_cleaned() {
        let refused = parse(b"d14:failure reason8:no\x1b[31m!e").unwrap_err();
        let TrackerError::Refused(reason) = refused else { panic!("{refused}") };
        assert!(reason.starts_with("no") && !reason.contains('\x1b'), "{reason:?}");
        let warned = parse(b"d15:warning message3:a\nbe\n").unwrap().warning.unwrap();
        assert!(!warned.contains('\n'), "{warned:?}");
        assert!(matches!(parse(b"d14:failure reasoni1ee"), Err(TrackerError::Malformed(_))));
        assert!(matches!(parse(b"le"), Err(TrackerError::Malformed(_))));
        assert!(matches!(parse(b"<html>"), Err(TrackerError::Malformed(_))));
        assert!(matches!(parse(b""), Err(TrackerError::Malformed(_))));
    }

    #[test]
    fn a_deep_answer_is_refused_before_the_parser_recurses() {
        let deep = [b"d1:x".as_slice(), &vec![b'l'; 200_000], &vec![b'e'; 200_000], b"e"].concat();
        assert!(matches!(parse(&deep), Err(TrackerError::Malformed(_))));
    }

    #[test]
    fn a_scrape_is_read_in_the_order_of_the_question() {
        let [x, y, z] = [b'x', b'y', b'z'].map(|c| InfoHash([c; 20]));
        let body = b"d5:filesd20:xxxxxxxxxxxxxxxxxxxxd8:completei11e10:downloadedi13772e10:incompletei19ee\
            20:yyyyyyyyyyyyyyyyyyyyd8:completei-1eeee";
        let scraped = parse_scrape(body, &[z, y, x]).unwrap();
        let of_x = Scraped { complete: 11, incomplete: 19, downloaded: 13772 };
        assert_eq!(scraped, [None, Some(Scraped::default()), Some(of_x)]);
        assert!(matches!(parse_scrape(b"de", &[x]), Err(TrackerError::Malformed(_))));
        assert_eq!(parse_scrape(b"d14:failure reason2:noe", &[x]), Err(TrackerError::Refused("no".into())));
    }

    #[test]
    fn the_number_of_peers_is_capped() {
        let mut body = b"d5:peers24000:".to_vec();
        for n in 0..4000u16 {
            body.extend([9, 9, (n >> 8) as u8, n as u8, 1, 1]);
        }
        body.push(b'e');
        assert_eq!(parse(&body).unwrap().peers.len(), MAX_PEERS);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(tail in proptest::collection::vec(any::<u8>(), 0..64)) {
            for head in ["", "d5:peers", "d6:peers6", "d5:peersl"] {
                let _ = parse(&[head.as_bytes(), &tail].concat());
            }
            let with_length = [format!("d5:peers{}:", tail.len()).as_bytes(), &tail, b"e"].concat();
            let peers = parse(&with_length).unwrap().peers;
            prop_assert!(peers.len() <= tail.len() / 6 && peers.iter().all(|p| p.port() != 0));
        }
    }
}
