//! Parses tracker responses (BEP 3, 7, 23, 24, 31): bencode from an untrusted server. A malformed peer entry is dropped without
//! affecting the rest.

use std::net::{IpAddr, SocketAddr};

use crate::discovery::tracker::announce::{DEFAULT_INTERVAL, MAX_TEXT, seconds, text, usable};
use crate::discovery::tracker::error::Retry;
use crate::discovery::tracker::http::lenient::{self, LenientValue, bytes, int, items, list};
use crate::discovery::tracker::http::{AnnounceResponse, ScrapeCounts, TrackerError};
use crate::types::InfoHash;
use crate::wire::compact;

/// The most host names of peers kept per response, to be resolved later.
const MAX_NAMES: usize = 8;
/// The longest host name, in bytes.
const MAX_NAME: usize = 253;

/// Parses the response to an announce.
///
/// # Errors
/// If it is not a bencoded dictionary, or contains a `failure reason`.
pub fn parse(body: &[u8]) -> Result<AnnounceResponse, TrackerError> {
    let dict = answer(body)?;
    let (peers, names) = peers(dict);
    Ok(AnnounceResponse {
        peers,
        private_dropped: 0,
        names,
        interval: int(dict, "interval").and_then(seconds).unwrap_or(DEFAULT_INTERVAL),
        min_interval: int(dict, "min interval").and_then(seconds),
        complete: count(dict, "complete"),
        incomplete: count(dict, "incomplete"),
        warning: bytes(dict, "warning message").filter(|words| !words.trim_ascii().is_empty()).map(text),
        tracker_id: bytes(dict, "tracker id").filter(|id| id.len() <= MAX_TEXT).map(<[u8]>::to_vec),
        external_ip: bytes(dict, "external ip").and_then(compact::parse_ip),
    })
}

/// Parses the response to a scrape (BEP 48): the counts of `swarms`, in the same order.
///
/// # Errors
/// If it is not a bencoded dictionary, has no `files`, or contains a `failure reason`.
pub fn parse_scrape(body: &[u8], swarms: &[InfoHash]) -> Result<Vec<Option<ScrapeCounts>>, TrackerError> {
    let dict = answer(body)?;
    let Some(files) = lenient::dict(dict, b"files") else {
        return Err(TrackerError::Malformed("it has no files".into()));
    };
    let figures = |swarm: &InfoHash| {
        let file = lenient::dict(files, &swarm.0)?;
        let of = |key| count(file, key).unwrap_or(0);
        Some(ScrapeCounts { complete: of("complete"), incomplete: of("incomplete"), downloaded: of("downloaded") })
    };
    Ok(swarms.iter().map(figures).collect())
}

/// The contents of the outermost dictionary, or its `failure reason` as an error. Server scripts may add a byte order mark or
/// whitespace before it, and anything after it.
fn answer(body: &[u8]) -> Result<&[u8], TrackerError> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start();
    if body.is_empty() {
        return Err(TrackerError::Malformed("it is empty".into()));
    }
    match lenient::value(body) {
        Some((LenientValue::Dict(dict), _)) => refusal(dict).map_or(Ok(dict), Err),
        _ => Err(TrackerError::Malformed("it is not a bencoded dictionary".into())),
    }
}

/// The tracker's refusal, if any. An empty reason in an otherwise normal response does not count, because some scripts always
/// send the key.
fn refusal(dict: &[u8]) -> Option<TrackerError> {
    if !lenient::has(dict, "failure reason") {
        return None;
    }
    let words = bytes(dict, "failure reason").unwrap_or_default().trim_ascii();
    let is_answer = || ["peers", "peers6", "interval", "files"].iter().any(|key| lenient::has(dict, key));
    if words.is_empty() && is_answer() {
        return None;
    }
    let why = if words.is_empty() { "the tracker gives no reason".to_owned() } else { text(words) };
    let refused = TrackerError::Refused(why);
    Some(refused.later(retry_in(dict)))
}

/// The value of `retry in` (BEP 31): minutes, or `never`.
fn retry_in(dict: &[u8]) -> Option<Retry> {
    let written = bytes(dict, "retry in").map(|text| String::from_utf8_lossy(text).trim().to_ascii_lowercase());
    let minutes = match written {
        Some(text) if text == "never" => return Some(Retry::Never),
        Some(text) => text.parse().ok(),
        None => int(dict, "retry in"),
    };
    minutes.and_then(|minutes: i64| seconds(minutes.saturating_mul(60))).map(Retry::After)
}

fn count(dict: &[u8], key: &str) -> Option<u32> {
    int(dict, key).and_then(|n| u32::try_from(n).ok())
}

/// All usable addresses of `peers` (in either form) and `peers6`, and the host names to be resolved.
fn peers(dict: &[u8]) -> (Vec<SocketAddr>, Vec<(String, u16)>) {
    let four = bytes(dict, "peers").map(compact::parse_v4).into_iter().flatten();
    let six = bytes(dict, "peers6").map(compact::parse_v6).into_iter().flatten();
    let mut names = Vec::new();
    let mut listed = Vec::new();
    for key in ["peers", "peers6"] {
        for item in list(dict, key).map(items).into_iter().flatten() {
            match item {
                LenientValue::Dict(entry) => listed.extend(from_dict(entry, &mut names)),
                LenientValue::Bytes(entry) => listed.extend(from_bytes(entry)),
                _ => {}
            }
        }
    }
    (usable(four.chain(listed).chain(six)), names)
}

/// Parses a dictionary entry of a peer list; appends a host name to `names`.
fn from_dict(entry: &[u8], names: &mut Vec<(String, u16)>) -> Option<SocketAddr> {
    let port = int(entry, "port").or_else(|| std::str::from_utf8(bytes(entry, "port")?).ok()?.trim().parse().ok())?;
    let port = u16::try_from(port).ok().filter(|&port| port != 0)?;
    let host = std::str::from_utf8(bytes(entry, "ip")?).ok()?.trim();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Some(SocketAddr::new(ip.to_canonical(), port));
    }
    let name = (host.to_ascii_lowercase(), port);
    if is_name(host) && names.len() < MAX_NAMES && !names.contains(&name) {
        names.push(name);
    }
    None
}

/// Parses a compact address in a peer list, as in the DHT.
fn from_bytes(entry: &[u8]) -> Option<SocketAddr> {
    match entry.len() {
        compact::V4_LENGTH => compact::parse_v4(entry).next(),
        compact::V6_LENGTH => compact::parse_v6(entry).next(),
        _ => None,
    }
}

/// Whether the text can be a host name (BEP 3 allows these) rather than a malformed address: no top-level domain is a number.
fn is_name(host: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let top = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    host.len() <= MAX_NAME && host.chars().all(plain) && top.starts_with(|c: char| c.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::discovery::tracker::announce::MAX_PEERS;

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
            d2:ip11:example.com4:porti5eed2:ip7:1.2.3.44:porti70000eed2:ip7:1.2.3.44:porti-1eed2:ip7:1.2.3.44:port1:xe\
            d2:ipi1e4:porti5eed2:ip3:::14:porti6eed2:ip14:::ffff:5.6.7.84:porti7eeee";
        let answer = parse(body).unwrap();
        assert_eq!(answer.peers, addrs("1.2.3.4:5 [::1]:6 5.6.7.8:7"));
        assert_eq!(answer.names, [("example.com".to_owned(), 5)], "to be looked up (BEP 3)");
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
        assert!(matches!(parse(b"d14:failure reasoni1ee"), Err(TrackerError::Refused(_))));
        assert!(matches!(parse(b"le"), Err(TrackerError::Malformed(_))));
        assert!(matches!(parse(b"<html>"), Err(TrackerError::Malformed(_))));
        assert!(matches!(parse(b""), Err(TrackerError::Malformed(_))));
    }

    #[test]
    fn mistakes_of_tracker_scripts_cost_only_the_affected_values() {
        let one = addrs("1.2.3.4:6881");
        let peers = b"5:peers6:\x01\x02\x03\x04\x1a\xe1";
        let around = |before: &[u8], after: &[u8]| parse(&[before, peers, after].concat()).map(|a| a.peers);
        for after in [
            &b"e\n"[..],
            b"e\0\0",
            b"e<!-- 0.02 s -->",
            b"ed1:xi1ee",
            b"e6:peers60:e",
            b"eeee",
            b"8:intervali99999999999999999999ee",
        ] {
            assert_eq!(around(b"d", after).as_ref(), Ok(&one), "{after:?}");
        }
        for before in
            [&b" d"[..], b"\r\n\td", b"\xef\xbb\xbfd", b"d8:intervali1e8:intervali900e", b"d5:peersi0e", b"d3:zzz0:"]
        {
            assert_eq!(around(before, b"e").as_ref(), Ok(&one), "{before:?}");
        }
        // A repeated key is ignored.
        assert_eq!(around(b"d", b"5:peers0:e").as_ref(), Ok(&one));
        assert_eq!(parse(b"d8:intervali99999999999999999999e8:intervali77ee").unwrap().interval.as_secs(), 77);
        assert_eq!(parse(b"d8:intervali0900ee").unwrap().interval.as_secs(), 900);
        for entry in [
            "d2:ip8:[1::2:3]4:porti6881ee",
            "d2:ip7: 1::2:34:port4:6881e",
            "18:\0\x01\0\0\0\0\0\0\0\0\0\0\0\x02\0\x03\x1a\u{61}",
        ] {
            let peers = parse(format!("d5:peersl{entry}ee").as_bytes()).unwrap().peers;
            assert_eq!(peers.len(), 1, "{entry:?}");
        }
    }

    #[test]
    fn names_are_taken_for_names_only_where_they_can_be_some() {
        let names = |ip: &str| {
            let body = format!("d5:peersld2:ip{}:{ip}4:porti5eeee", ip.len());
            parse(body.as_bytes()).unwrap().names
        };
        for name in ["localhost", "a.b-c.example", "1.example.com.", "x_y.example"] {
            assert_eq!(names(name), [(name.to_owned(), 5)]);
        }
        for none in
            ["", "1.2.3", "1.2.3.4.5", "0x7f.1", "256.1.1.1", "a b", "a/b", "user@host", "::g", "a.b:80", "h\0st"]
        {
            assert_eq!(names(none), [], "{none:?}");
        }
        let many = (0..100).map(|n| format!("d2:ip4:h{n:03}4:porti5ee")).collect::<Vec<_>>().concat();
        assert_eq!(parse(format!("d5:peersl{many}ee").as_bytes()).unwrap().names.len(), MAX_NAMES);
    }

    #[test]
    fn a_refusal_may_say_when_to_come_back() {
        let retry = |more: &str| match parse(format!("d14:failure reason4:busy{more}e").as_bytes()) {
            Err(error) => {
                assert!(error.to_string().starts_with("refused: busy"), "{error}");
                error.retry()
            }
            Ok(answer) => panic!("{answer:?}"),
        };
        let after = |minutes: u64| Some(Retry::After(Duration::from_secs(minutes * 60)));
        assert_eq!((retry("8:retry ini5e"), retry("8:retry in2:15")), (after(5), after(15)));
        assert_eq!((retry("8:retry in5:never"), retry("8:retry in6: Never")), (Some(Retry::Never), Some(Retry::Never)));
        assert_eq!(retry("8:retry ini999999999999999999e"), after(24 * 60), "a day at most");
        for none in [
            "",
            "8:retry ini0e",
            "8:retry ini-1e",
            "8:retry in4:soon",
            "8:retry inle",
            "8:retry ini99999999999999999999e",
        ] {
            assert_eq!(retry(none), None, "{none}");
        }
    }

    #[test]
    fn an_empty_reason_beside_an_answer_is_none() {
        for body in ["d14:failure reason0:8:intervali60e5:peers0:e", "d14:failure reason2: \n8:intervali60ee"] {
            assert!(parse(body.as_bytes()).is_ok(), "{body:?}");
        }
        for body in ["d14:failure reason0:e", "d14:failure reason1: e", "d14:failure reasonlee"] {
            assert!(
                matches!(parse(body.as_bytes()), Err(TrackerError::Refused(words)) if !words.is_empty()),
                "{body:?}"
            );
        }
        assert_eq!(parse(b"d8:intervali60e15:warning message0:e").unwrap().warning, None);
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
        let of_x = ScrapeCounts { complete: 11, incomplete: 19, downloaded: 13772 };
        assert_eq!(scraped, [None, Some(ScrapeCounts::default()), Some(of_x)]);
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
