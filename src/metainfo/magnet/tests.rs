//! Links as they occur in practice, malicious and malformed links, and round trips of random ones.

use proptest::prelude::*;

use super::*;

const HEX: &str = "c12fe1c06bba254a9dc9f519b335aa7c1367a88a";
const HEX_V2: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn link(rest: &str) -> String {
    format!("magnet:?xt=urn:btih:{HEX}{rest}")
}

fn parse(rest: &str) -> Magnet {
    Magnet::parse(&link(rest)).unwrap()
}

#[test]
fn a_link_with_everything() {
    let m = parse(
        "&dn=A+name%20%26%2B&xl=5&tr=udp%3A%2F%2Ft.example%3A6969%2Fannounce&tr.1=https%3a//u/announce%3fk%3da+b&ws=http://w/x\
         &x.pe=1.2.3.4:5&x.pe=%5B2001:db8::1%5D:6&x.pe=Host.example:7&so=0,2,4,6-8&as=x#fragment&dn=no",
    );
    assert_eq!(m.info_hash.hex(), HEX);
    assert_eq!(m.name.as_deref(), Some("A name &+"));
    assert_eq!(m.trackers, ["udp://t.example:6969/announce", "https://u/announce?k=a+b"]);
    assert_eq!(m.web_seeds, ["http://w/x"]);
    let peers: Vec<String> = m.peers.iter().map(ToString::to_string).collect();
    assert_eq!(peers, ["1.2.3.4:5", "[2001:db8::1]:6", "host.example:7"]);
    assert_eq!(m.select, Some(vec![0..=0, 2..=2, 4..=4, 6..=8]));
}

#[test]
fn both_forms_of_the_hash() {
    let of = |hash: &str| Magnet::parse(&format!("magnet:?xt=urn:btih:{hash}")).map(|m| m.info_hash.hex());
    assert_eq!(of(HEX).as_deref(), Ok(HEX));
    assert_eq!(of(&HEX.to_uppercase()).as_deref(), Ok(HEX));
    // The output of Python's base64.b32encode.
    assert_eq!(of("YEX6DQDLXISUVHOJ6UM3GNNKPQJWPKEK").as_deref(), Ok(HEX));
    assert_eq!(of("yex6dqdlxisuvhoj6um3gnnkpqjwpkek").as_deref(), Ok(HEX));
    for bad in
        ["", "c12f", &HEX[1..], &format!("{HEX}0"), &HEX.replace('c', "g"), "YEX6DQDLXISUVHOJ6UM3GNNKPQJWPKE1", "é"]
    {
        assert!(matches!(of(bad), Err(MagnetError::Hash(_))), "{bad}");
    }
    let clean = of("\x1b[31m").unwrap_err().to_string();
    assert!(!clean.contains('\x1b'), "{clean:?}");
}

#[test]
fn case_and_encoding_of_the_rest_do_not_matter() {
    for same in [
        format!(" MAGNET:?XT=urn%3Abtih%3A{HEX}\n"),
        format!("magnet:?dn=x&xt.1=URN:BTIH:{HEX}"),
        format!("magnet:?xt=urn:btih:{HEX}&xt=urn:btih:{}", HEX.to_uppercase()),
        format!("magnet:?xt=urn:sha1:YNCKHTQCWBTRNJIV4WNAE52SJUQCZO5C&xt=urn:btih:{HEX}&xt=urn:btmh:1220aa"),
    ] {
        assert_eq!(Magnet::parse(&same).unwrap().info_hash.hex(), HEX, "{same}");
        assert!(Magnet::is_link(&same));
    }
    assert!(!Magnet::is_link("magnet.torrent") && !Magnet::is_link("mägnet:"));
}

#[test]
fn a_link_without_a_torrent_is_an_error() {
    let error = |text: &str| Magnet::parse(text).unwrap_err();
    for text in ["", "magnet:", "magnet:xt=urn:btih:", "http://x/?xt=urn:btih:", &format!("xt=urn:btih:{HEX}")] {
        assert_eq!(error(text), MagnetError::NotMagnet, "{text}");
    }
    assert_eq!(error("magnet:?"), MagnetError::NoHash);
    assert_eq!(error("magnet:?dn=x&xt=urn:sha1:abc"), MagnetError::NoHash);
    for bad in ["", "1220aa", &HEX[..32].repeat(2), &format!("1120{HEX_V2}"), &format!("1220{}g", &HEX_V2[1..])] {
        assert_eq!(error(&format!("magnet:?xt=urn:btmh:{bad}")), MagnetError::HashV2(bad.to_owned()));
    }
    let other = HEX_V2.replace('c', "d");
    assert_eq!(error(&format!("magnet:?xt=urn:btmh:1220{HEX_V2}&xt=urn:btmh:1220{other}")), MagnetError::SeveralHashes);
    assert_eq!(error(&link(&format!("&xt=urn:btih:{}", HEX.replace('c', "d")))), MagnetError::SeveralHashes);
    assert_eq!(error(&link(&"&tr=x".repeat(MAX_LINK))), MagnetError::TooLong);
}

#[test]
fn links_name_one_half_of_a_torrent_or_both() {
    let v2 = format!("urn:btmh:1220{HEX_V2}");
    let both = Magnet::parse(&format!("magnet:?xt={}&xt=urn:btih:{HEX}", v2.replace("btmh", "BTMH"))).unwrap();
    assert!(both.has_v1() && both.info_hash.hex() == HEX);
    assert_eq!(both.info_hash_v2.map(|hash| hash.hex()).as_deref(), Some(HEX_V2));
    assert_eq!(both.to_string(), format!("magnet:?xt=urn:btih:{HEX}&xt={v2}"));
    let only = Magnet::parse(&format!("magnet:?xt={}", v2.to_uppercase().replace("URN:BTMH", "urn:btmh"))).unwrap();
    assert!(!only.has_v1() && only.info_hash.hex() == HEX_V2[..40]);
    assert_eq!(only.to_string(), format!("magnet:?xt={v2}"));
    assert!(parse("").has_v1() && parse("").info_hash_v2.is_none());
}

#[test]
fn wrong_entries_cost_themselves_only() {
    let m = parse(
        "&tr=&tr=announce&tr=http://t/%0d%0aHost:x&tr=http://t/%ff&tr=http://ok/&tr=http://ok/&ws=%00&dn=%1b%0a\
         &x.pe=1.2.3.4&x.pe=1.2.3.4:0&x.pe=:5&x.pe=1.2.3.4:99999&x.pe=a%20b:5&x.pe=::1:5&x.pe=[::ffff:9.9.9.9]:5&=&&x",
    );
    // The first has no scheme. It is kept so that btsync can report to the user that it cannot announce to it.
    assert_eq!(m.trackers, ["announce", "http://ok/"]);
    assert_eq!((m.web_seeds.len(), m.name), (0, None));
    assert_eq!(m.peers, [PeerAddress::Addr("9.9.9.9:5".parse().unwrap())]);
}

#[test]
fn choices_are_put_in_order_and_wrong_ones_are_errors() {
    assert_eq!(parse("&so=9,1-3,2-5,6&so=0").select, Some(vec![0..=6, 9..=9]));
    assert_eq!(parse("&so=0-4294967295,7").select, Some(vec![0..=u32::MAX]));
    for bad in ["", ",", "1,", "a", "-1", "1-", "3-2", "1-2-3", "4294967296", "+1", "1%20"] {
        let error = Magnet::parse(&link(&format!("&so={bad}"))).unwrap_err();
        assert!(matches!(error, MagnetError::Select(_)), "{bad}");
    }
}

#[test]
fn the_number_of_entries_is_bounded() {
    let many: Vec<String> = (1..1000).map(|n| format!("&tr=http://t/{n}&x.pe=1.2.3.4:{n}")).collect();
    let m = parse(&many.concat());
    assert_eq!((m.trackers.len(), m.peers.len()), (MAX_ENTRIES, MAX_ENTRIES));
    let long = parse(&format!("&dn={}", "é".repeat(3000)));
    assert_eq!(long.name.map(|name| name.chars().count()), Some(MAX_NAME));
}

fn any_peer() -> impl Strategy<Value = PeerAddress> {
    let addr = (any::<IpAddr>(), 1..=u16::MAX);
    let addr = addr.prop_map(|(ip, port)| PeerAddress::Addr(SocketAddr::new(ip.to_canonical(), port)));
    prop_oneof![addr, ("[a-z][a-z0-9-]{0,20}\\.example", 1..=u16::MAX).prop_map(|(h, p)| PeerAddress::Host(h, p))]
}

fn any_url() -> impl Strategy<Value = String> {
    "[a-z]{1,5}://[!-~é-ÿ]{1,40}"
}

fn any_magnet() -> impl Strategy<Value = Magnet> {
    let list = |max| proptest::collection::vec(any_url(), 0..max);
    let select = proptest::option::of(proptest::collection::vec((any::<u32>(), 0..5u32), 1..10));
    let hashes = (any::<[u8; 20]>(), proptest::option::of(any::<[u8; 32]>().prop_map(InfoHashV2)), any::<bool>());
    let parts = (hashes, ".{0,40}", list(5), list(3), proptest::collection::vec(any_peer(), 0..5), select);
    parts.prop_map(|((hash, v2, is_v2_only), dn, trackers, web_seeds, peers, select)| {
        let mut m = Magnet {
            sources: vec!["https://h/x.torrent?a=b&c".to_owned()],
            info_hash: v2.filter(|_| is_v2_only).map_or(InfoHash(hash), |v2| v2.truncated()),
            info_hash_v2: v2,
            name: name(&dn),
            trackers,
            web_seeds,
            peers,
            select: select.map(|s| joined(s.into_iter().map(|(at, n)| at..=at.saturating_add(n)).collect())),
        };
        // Without duplicates, as the parser returns them.
        let mut seen = std::collections::HashSet::new();
        m.trackers.retain(|t| seen.insert(t.clone()));
        seen.clear();
        m.web_seeds.retain(|t| seen.insert(t.clone()));
        seen.clear();
        m.peers.retain(|p| seen.insert(p.to_string()));
        m
    })
}

proptest! {
    #[test]
    fn a_formatted_link_parses_to_the_same_value(magnet in any_magnet()) {
        let link = magnet.to_string();
        prop_assert_eq!(Magnet::parse(&link), Ok(magnet), "{}", link);
    }

    #[test]
    fn no_text_makes_it_panic(text in ".{0,80}", key in "(xt|dn|tr|ws|x\\.pe|so)(\\.1)?") {
        let _ = Magnet::parse(&text);
        for head in ["", "urn:btih:", "urn:btmh:"] {
            let _ = Magnet::parse(&link(&format!("&{key}={head}{text}")));
        }
    }
}

#[test]
fn links_that_were_escaped_once_too_often_are_read_all_the_same() {
    let hash = "a".repeat(40);
    for link in [
        format!("magnet:?xt=urn:btih:{hash}&amp;tr=http%3A%2F%2Ft%2Fannounce&amp;dn=x"),
        format!("magnet:?xt=urn:btih:{hash}&tr=http%253A%252F%252Ft%252Fannounce&dn=x"),
        format!("magnet:?dn=x&amp;xt=urn:btih:{hash}&amp;tr=http%253a%252f%252ft%252fannounce"),
    ] {
        let magnet = Magnet::parse(&link).unwrap();
        assert_eq!((magnet.name.as_deref(), &magnet.trackers[..]), (Some("x"), &["http://t/announce".to_owned()][..]));
    }
    // A URL with a visible scheme is not decoded again.
    let link = format!("magnet:?xt=urn:btih:{hash}&tr=http://t/a%2520b");
    assert_eq!(Magnet::parse(&link).unwrap().trackers, ["http://t/a%20b"]);
}

#[test]
fn urls_of_the_torrent_are_told_from_sources_of_other_networks() {
    let link = parse(
        "&xs=http%3A%2F%2Fh%2Fx.torrent&as=HTTPS://i/y&xs=urn:tree:tiger:ABC&xs=ftp://h/x&as=dchub://h&xs=http://h/x.torrent",
    );
    assert_eq!(link.sources, ["http://h/x.torrent", "HTTPS://i/y"]);
}
