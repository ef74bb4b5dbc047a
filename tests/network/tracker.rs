//! The HTTP tracker client against malicious trackers and against our own tracker.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use btsync::discovery::tracker::http::{Announce, AnnounceEvent, AnnounceResponse, HttpClient, TrackerError};
use btsync::tracker_server::{TrackerServer, TrackerServerConfig};
use btsync::types::{InfoHash, PeerId};

/// A generous deadline, for exchanges that end by themselves.
const PATIENT: Duration = crate::common::PATIENCE;
/// A short deadline, for exchanges that never end by themselves: without it the test would hang.
const SHORT: Duration = Duration::from_millis(1500);

/// Serves every connection with `serve`, which gets the request's target, for as long as the test process lives.
fn hostile(serve: impl Fn(&str, &mut TcpStream) -> io::Result<()> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let serve = Arc::clone(&serve);
            thread::spawn(move || {
                let target = read_target(&mut stream).unwrap_or_default();
                // Most of them end because the client disconnects.
                let _ = serve(&target, &mut stream);
            });
        }
    });
    addr
}

/// Reads a request and returns its target.
fn read_target(stream: &mut TcpStream) -> io::Result<String> {
    let mut request = Vec::new();
    let mut part = [0; 1024];
    while !request.windows(4).any(|w| w == b"\r\n\r\n") {
        match stream.read(&mut part)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => request.extend_from_slice(&part[..read]),
        }
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    Ok(request.split(' ').nth(1).unwrap_or_default().to_owned())
}

/// A tracker that answers every request with the same bytes.
fn fixed(response: impl Into<Vec<u8>>) -> SocketAddr {
    let response = response.into();
    hostile(move |_, stream| stream.write_all(&response))
}

fn with_body(body: &[u8]) -> SocketAddr {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    fixed([head.as_bytes(), body].concat())
}

fn redirecting(location: &str) -> SocketAddr {
    fixed(format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
}

fn announce_data(port: u16, left: u64, event: Option<AnnounceEvent>) -> Announce<'static> {
    let mut id = *b"-BY0001-000000000000";
    id[18..].copy_from_slice(&port.to_be_bytes());
    Announce {
        info_hash: InfoHash(*b"\x00\xff%&+ =?/#aaaaaaaaaa"),
        peer_id: PeerId(id),
        port,
        uploaded: 0,
        downloaded: 0,
        left,
        key: 7,
        numwant: 50,
        event,
        tracker_id: None,
    }
}

fn ask(tracker: SocketAddr, deadline: Duration) -> Result<AnnounceResponse, TrackerError> {
    let started = announce_data(6881, 1, Some(AnnounceEvent::Started));
    HttpClient::new().announce(&format!("http://{tracker}/announce"), &started, deadline)
}

#[test]
fn an_endless_body_is_cut_off() {
    let announced = hostile(|_, s| {
        s.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")?;
        loop {
            s.write_all(&[b'd'; 8192])?;
        }
    });
    assert_eq!(ask(announced, PATIENT), Err(TrackerError::TooLarge));
    let chunked = hostile(|_, s| {
        s.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        loop {
            s.write_all(b"400\r\n")?;
            s.write_all(&[b'd'; 1024])?;
            s.write_all(b"\r\n")?;
        }
    });
    assert_eq!(ask(chunked, PATIENT), Err(TrackerError::TooLarge));
}

#[test]
fn endless_headers_are_cut_off() {
    let tracker = hostile(|_, s| {
        s.write_all(b"HTTP/1.1 200 OK\r\n")?;
        loop {
            s.write_all(b"X-Filler: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n")?;
        }
    });
    assert!(ask(tracker, PATIENT).is_err_and(|e| e != TrackerError::Timeout));
    let one_line = hostile(|_, s| {
        s.write_all(b"HTTP/1.1 200 OK\r\nX-Filler: ")?;
        loop {
            s.write_all(&[b'a'; 4096])?;
        }
    });
    assert!(ask(one_line, PATIENT).is_err_and(|e| e != TrackerError::Timeout));
}

#[test]
fn one_byte_at_a_time_does_not_outlast_the_deadline() {
    let drip = |head: &'static [u8]| {
        hostile(move |_, s| {
            s.write_all(head)?;
            loop {
                s.write_all(b"1")?;
                // Slow on purpose, because the test checks the client's deadline.
                thread::sleep(Duration::from_millis(50));
            }
        })
    };
    assert_eq!(ask(drip(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"), SHORT), Err(TrackerError::Timeout));
    assert_eq!(ask(drip(b"HTTP/1.1 200 OK\r\nX: "), SHORT), Err(TrackerError::Timeout));
}

#[test]
fn silence_ends_at_the_deadline() {
    let silent = hostile(|_, s| s.read_to_end(&mut Vec::new()).map(drop));
    assert_eq!(ask(silent, SHORT), Err(TrackerError::Timeout));
    // The process does not accept; the kernel completes the connection.
    let deaf = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    assert_eq!(ask(deaf.local_addr().unwrap(), SHORT), Err(TrackerError::Timeout));
}

#[test]
fn redirects_that_go_on_for_ever_share_one_deadline_and_one_count() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let tracker = hostile(move |_, s| {
        counted.fetch_add(1, Ordering::SeqCst);
        s.write_all(
            b"HTTP/1.1 301 Moved\r\nLocation: /announce?uid=1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        )
    });
    assert!(matches!(ask(tracker, PATIENT), Err(TrackerError::Redirect(_))));
    assert_eq!(count.load(Ordering::SeqCst), 6, "the first and five redirects");
}

#[test]
fn a_redirect_is_followed() {
    let target = with_body(b"d8:intervali900e5:peers6:\x09\x09\x09\x09\x1a\xe1e");
    let answer = ask(redirecting(&format!("http://{target}/0123abcd/announce")), PATIENT).unwrap();
    assert_eq!(answer.peers, [SocketAddr::from(([9, 9, 9, 9], 6881))]);
    assert_eq!(answer.interval.as_secs(), 900);
}

#[test]
fn redirects_to_other_schemes_are_not_followed() {
    for location in
        ["file:///etc/passwd", "ftp://127.0.0.1/announce", "udp://127.0.0.1:1/announce", "javascript:announce"]
    {
        let scheme = location.split(':').next().unwrap().to_owned();
        assert_eq!(ask(redirecting(location), PATIENT), Err(TrackerError::Scheme(scheme)), "{location}");
    }
    let nowhere = fixed("HTTP/1.1 302 Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    assert!(matches!(ask(nowhere, PATIENT), Err(TrackerError::Redirect(_))));
}

#[test]
fn a_url_that_the_user_names_is_trusted_and_its_redirects_are_not() {
    let with_trusted_urls = |url: &str| {
        let tracker = HttpClient::new().with_trusted_urls(Arc::new([url.to_owned()].into()));
        tracker.announce(url, &announce_data(1, 1, None), PATIENT)
    };
    let answers = with_body(b"d8:intervali5e5:peers0:e");
    assert!(with_trusted_urls(&format!("http://{answers}/my/own/tracker")).is_ok());
    let service = hostile(|_, _| panic!("this must not be asked"));
    let leads_on = redirecting(&format!("http://{service}/admin"));
    assert_eq!(with_trusted_urls(&format!("http://{leads_on}/my/own/tracker")), Err(TrackerError::Local));
}

#[test]
fn a_local_address_is_asked_for_announces_only() {
    let tracker = hostile(|_, _| panic!("this must not be asked"));
    for host in [tracker.to_string(), format!("localhost:{}", tracker.port()), format!("127.1:{}", tracker.port())] {
        let url = format!("http://{host}/admin?do=announce");
        let asked = HttpClient::new().announce(&url, &announce_data(1, 1, None), PATIENT);
        assert_eq!(asked, Err(TrackerError::Local), "{url}");
    }
    for path in [
        "/announce/../admin/reboot",
        "/announce/%2e%2e/admin/announce",
        "/announce/%252E./announce",
        "/announce/..;/announce",
        "/announce/..%5cadmin",
        "/api/announcements/delete",
        "/x/scrape/../../apply.cgi",
        "/admin/reboot;announce",
        "/cgi-bin/reboot.py/announce",
        "/reboot/announce",
        "/announce?action=factory_reset",
    ] {
        let url = format!("http://{tracker}{path}");
        let asked = HttpClient::new().announce(&url, &announce_data(1, 1, None), PATIENT);
        assert_eq!(asked, Err(TrackerError::Local), "{url}");
        assert_eq!(ask(redirecting(path), PATIENT), Err(TrackerError::Local), "redirected to {path}");
        assert_eq!(ask(redirecting(&url), PATIENT), Err(TrackerError::Local), "redirected to {url}");
    }
    let service = hostile(|_, _| panic!("this must not be asked either"));
    assert_eq!(ask(redirecting(&format!("http://{service}/admin")), PATIENT), Err(TrackerError::Local));
}

#[test]
fn a_gzip_bomb_is_cut_off_and_honest_gzip_is_read() {
    let bomb = gzip_bomb();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", bomb.len());
    assert_eq!(ask(fixed([head.as_bytes(), &bomb].concat()), PATIENT), Err(TrackerError::TooLarge));
    let honest = gzip_stored(b"d8:intervali77ee");
    let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", honest.len());
    assert_eq!(ask(fixed([head.as_bytes(), &honest].concat()), PATIENT).unwrap().interval.as_secs(), 77);
    // Under another name of the encoding, and without one.
    for name in ["Content-Encoding: x-gzip\r\n", "Content-Encoding: X-GZip\r\n", "Content-Encoding: identity\r\n", ""] {
        let answer = |body: &[u8]| {
            let head = format!("HTTP/1.1 200 OK\r\n{name}Content-Length: {}\r\n\r\n", body.len());
            ask(fixed([head.as_bytes(), body].concat()), PATIENT)
        };
        assert_eq!(answer(&honest).map(|a| a.interval.as_secs()), Ok(77), "{name}");
        assert_eq!(answer(&[&honest[..], b"\0\0"].concat()).map(|a| a.interval.as_secs()), Ok(77), "{name}");
        assert_eq!(answer(&bomb), Err(TrackerError::TooLarge), "{name}");
        assert!(matches!(answer(b"\x1f\x8bxy"), Err(TrackerError::Malformed(_))), "{name}");
    }
    let torn = fixed("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd");
    assert!(matches!(ask(torn, PATIENT), Err(TrackerError::Malformed(_))));
}

const GZIP_HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// A gzip file with a single stored block (RFC 1951, 1952).
fn gzip_stored(data: &[u8]) -> Vec<u8> {
    let len = u16::try_from(data.len()).unwrap();
    let crc = !data.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    });
    let block = [&[1u8][..], &len.to_le_bytes(), &(!len).to_le_bytes(), data].concat();
    [&GZIP_HEAD[..], &block, &crc.to_le_bytes(), &u32::from(len).to_le_bytes()].concat()
}

/// Five million zeros in 32 KB of gzip: one literal, then copies of 258 bytes in 13 bits each (fixed codes: the longest length is
/// 11000101, distance 1 is 00000).
fn gzip_bomb() -> Vec<u8> {
    let mut bits: Vec<u8> = vec![1, 1, 0]; // final block, fixed codes
    bits.extend([0, 0, 1, 1, 0, 0, 0, 0]); // literal 0
    for _ in 0..20_000 {
        bits.extend([1, 1, 0, 0, 0, 1, 0, 1]); // length 258
        bits.extend([0, 0, 0, 0, 0]); // distance 1
    }
    let bytes = bits.chunks(8).map(|eight| eight.iter().rev().fold(0, |byte, bit| byte << 1 | bit));
    GZIP_HEAD.into_iter().chain(bytes).collect()
}

#[test]
fn absurd_values_and_malformed_lists_cost_only_themselves() {
    let answer = ask(
        with_body(b"d8:intervali9223372036854775807e12:min intervali-9e5:peers8:\x09\x09\x09\x09\x1a\xe1xye"),
        PATIENT,
    );
    let answer = answer.unwrap();
    assert_eq!((answer.interval.as_secs(), answer.min_interval), (86400, None));
    assert_eq!(answer.peers.len(), 1);
    let list = b"d5:peersl1:xi5eled2:ip9:localhost4:porti1eed2:ip7:9.9.9.94:porti0eed2:ip7:9.9.9.94:porti80eeee";
    let peers = ask(with_body(list), PATIENT).unwrap().peers;
    assert_eq!(peers[0], SocketAddr::from(([9, 9, 9, 9], 80)));
    let looked_up = &peers[1..];
    assert!(!looked_up.is_empty() && looked_up.iter().all(|a| a.ip().is_loopback() && a.port() == 1), "localhost");
    for body in [&b"d5:peers99999999999:ab"[..], b"d5:peers6:ab", b"<html>", b"", b"i5e"] {
        assert!(matches!(ask(with_body(body), PATIENT), Err(TrackerError::Malformed(_))), "{body:?}");
    }
}

#[test]
fn statuses_and_refusals_are_told() {
    let gone = fixed("HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\nConnection: close\r\n\r\noops\n");
    assert_eq!(ask(gone, PATIENT), Err(TrackerError::Http(404)));
    let refusing =
        fixed("HTTP/1.1 403 Forbidden\r\nContent-Length: 23\r\nConnection: close\r\n\r\nd14:failure reason2:noe");
    assert_eq!(ask(refusing, PATIENT), Err(TrackerError::Refused("no".into())));
    let busy = |more: &str| {
        let response = format!("HTTP/1.1 503 Busy\r\n{more}Content-Length: 0\r\nConnection: close\r\n\r\n");
        ask(fixed(response), PATIENT).unwrap_err()
    };
    assert_eq!(busy(""), TrackerError::Http(503));
    let retry_after = |more: &str| match busy(more) {
        TrackerError::Later { retry_after, .. } => retry_after.map(|wait| wait.as_secs()),
        other => panic!("{other:?}"),
    };
    assert_eq!(retry_after("Retry-After: 120\r\n"), Some(120));
    assert_eq!(retry_after("Retry-After: 99999999999\r\n"), Some(24 * 60 * 60));
    let dates = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nRetry-After: Sun, 06 Nov 1994 08:59:37 GMT\r\n";
    assert_eq!(retry_after(dates), Some(600));
    for none in ["Retry-After: soon\r\n", "Retry-After: -5\r\n", "Retry-After: Sun, 06 Nov 1994 08:59:37 GMT\r\n"] {
        assert_eq!(busy(none), TrackerError::Http(503), "{none}");
    }
    // Bound, so that nobody else gets the port, but not listening.
    let closed = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    closed.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let closed_port = closed.local_addr().unwrap().as_socket().unwrap();
    assert!(matches!(ask(closed_port, PATIENT), Err(TrackerError::Connect(_))));
    let no_http = fixed("SSH-2.0-OpenSSH\r\n\r\n");
    assert!(ask(no_http, PATIENT).is_err());
}

#[test]
fn https_to_a_plain_server_fails_without_a_secret_in_the_message() {
    let plain = fixed("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nde");
    let url = format!("https://{plain}/announce?passkey=secret");
    let failed = HttpClient::new().announce(&url, &announce_data(1, 1, None), SHORT).unwrap_err();
    assert!(!failed.to_string().contains("secret") && !failed.to_string().contains('\n'), "{failed}");
}

/// Announces over HTTP, which must succeed, and returns the answer.
fn announce_ok(url: &str, port: u16, left: u64, event: Option<AnnounceEvent>) -> AnnounceResponse {
    HttpClient::new().announce(url, &announce_data(port, left, event), PATIENT).unwrap()
}

fn ports(answer: &AnnounceResponse) -> Vec<u16> {
    let mut ports: Vec<u16> = answer.peers.iter().map(SocketAddr::port).collect();
    ports.sort_unstable();
    ports
}

fn our_tracker(listen: impl Into<std::net::IpAddr>) -> TrackerServer {
    TrackerServer::start(SocketAddr::new(listen.into(), 0), TrackerServerConfig::default()).unwrap()
}

#[test]
fn our_own_tracker_follows_a_peer_from_started_to_stopped() {
    let server = our_tracker(Ipv4Addr::LOCALHOST);
    let url = format!("http://{}/announce", server.addr());
    assert_eq!(ports(&announce_ok(&url, 1001, 5, Some(AnnounceEvent::Started))), [0u16; 0]);
    let second = announce_ok(&url, 1002, 0, Some(AnnounceEvent::Started));
    assert_eq!(second.peers, [SocketAddr::from(([127, 0, 0, 1], 1001))]);
    assert_eq!((second.complete, second.incomplete), (Some(1), Some(1)));
    assert_eq!((second.interval.as_secs(), second.min_interval), (120, Some(Duration::from_secs(60))));
    assert_eq!(ports(&announce_ok(&url, 1001, 0, Some(AnnounceEvent::Completed))), [0u16; 0], "no seeds for a seed");
    let third = announce_ok(&url, 1003, 5, Some(AnnounceEvent::Started));
    assert_eq!((ports(&third), third.complete), (vec![1001, 1002], Some(2)));
    announce_ok(&url, 1002, 0, Some(AnnounceEvent::Stopped));
    assert_eq!(ports(&announce_ok(&url, 1003, 5, None)), [1001]);
    // The list form, because the `compact=0` in the URL comes before our own parameter.
    assert_eq!(ports(&announce_ok(&format!("{url}?compact=0"), 1003, 5, None)), [1001]);
    server.stop();
}

/// Sends one plain request; returns the response's body.
fn get(server: SocketAddr, target: &str) -> String {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(PATIENT)).unwrap();
    write!(stream, "GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).unwrap();
    let response = String::from_utf8_lossy(&response).into_owned();
    response.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
}

const WHO: &str = "info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=bbbbbbbbbbbbbbbbbbbb";

#[test]
fn both_families_share_one_listener_and_get_each_others_peers() {
    let Ok(server) = TrackerServer::start(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)), TrackerServerConfig::default())
    else {
        eprintln!("not run: there is no IPv6 here");
        return;
    };
    let url = |host: &str| format!("http://{host}:{}/announce", server.addr().port());
    announce_ok(&url("127.0.0.1"), 1001, 5, None);
    if TcpStream::connect((Ipv6Addr::LOCALHOST, server.addr().port())).is_err() {
        eprintln!("not run: there is no IPv6 loopback here");
        return;
    }
    let over_six = announce_ok(&url("[::1]"), 1002, 5, None);
    assert_eq!(over_six.peers, [SocketAddr::from(([127, 0, 0, 1], 1001))], "mapped addresses become IPv4 again");
    let over_four = announce_ok(&url("127.0.0.1"), 1001, 5, None);
    assert_eq!(over_four.peers, [SocketAddr::from((Ipv6Addr::LOCALHOST, 1002))]);
    let list = announce_ok(&format!("{}?compact=0", url("127.0.0.1")), 1001, 5, None);
    assert_eq!(list.peers, over_four.peers);
}

#[test]
fn the_wire_form_of_answers_and_scrapes() {
    let server = our_tracker(Ipv4Addr::LOCALHOST);
    get(server.addr(), &format!("/announce?{WHO}&port=258&left=0&event=completed"));
    let other = "info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=cccccccccccccccccccc&left=9&ip=1.2.3.4";
    let compact = get(server.addr(), &format!("/announce?{other}&port=2"));
    assert_eq!(
        compact,
        "d8:completei1e10:downloadedi1e10:incompletei1e8:intervali120e12:min intervali60e5:peers6:\u{7f}\0\0\u{1}\u{1}\u{2}e"
    );
    let listed = get(server.addr(), &format!("/announce?{other}&port=2&compact=0"));
    assert!(listed.ends_with("5:peersld2:ip9:127.0.0.17:peer id20:bbbbbbbbbbbbbbbbbbbb4:porti258eeee"), "{listed}");
    let bare = get(server.addr(), &format!("/announce?{other}&port=2&compact=0&no_peer_id=1"));
    assert!(bare.ends_with("5:peersld2:ip9:127.0.0.14:porti258eeee"), "{bare}");
    let scraped = get(server.addr(), "/scrape?info_hash=aaaaaaaaaaaaaaaaaaaa&info_hash=zzzzzzzzzzzzzzzzzzzz");
    assert_eq!(scraped, "d5:filesd20:aaaaaaaaaaaaaaaaaaaad8:completei1e10:downloadedi1e10:incompletei1eeee");
    assert!(get(server.addr(), "/").contains("1 torrent, 2 peers"));
}

#[test]
fn bad_requests_get_a_reason() {
    let server = our_tracker(Ipv4Addr::LOCALHOST);
    for (target, reason) in [
        ("/announce".to_owned(), "info_hash is missing"),
        ("/announce?info_hash=short".to_owned(), "info_hash is not 20 bytes long"),
        (format!("/announce?{WHO}"), "port is missing"),
        (format!("/announce?{WHO}&port=0"), "port 0 is invalid"),
        (format!("/announce?{WHO}&port=70000"), "port is not a number in range"),
        (format!("/announce?{WHO}&port=1&left=-1"), "left is not a number in range"),
        ("/scrape".to_owned(), "info_hash is missing"),
    ] {
        assert_eq!(get(server.addr(), &target), format!("d14:failure reason{}:{reason}e", reason.len()), "{target}");
    }
    let failed = ask(server.addr(), PATIENT);
    assert!(failed.is_ok(), "and it still works: {failed:?}");
    let zero =
        HttpClient::new().announce(&format!("http://{}/announce", server.addr()), &announce_data(0, 1, None), PATIENT);
    assert_eq!(zero, Err(TrackerError::Refused("port 0 is invalid".into())));
}

#[test]
fn idle_clients_do_not_keep_the_tracker_from_others() {
    let server = our_tracker(Ipv4Addr::LOCALHOST);
    let idle: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(server.addr()).unwrap()).collect();
    assert!(ask(server.addr(), PATIENT).is_ok());
    let addr = server.addr();
    server.stop();
    assert!(TcpStream::connect(addr).is_err(), "nobody listens any more");
    for mut stream in idle {
        stream.set_read_timeout(Some(PATIENT)).unwrap();
        let end = stream.read(&mut [0; 1]).map_err(|error| error.kind());
        let is_over = !matches!(end, Ok(1..) | Err(io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut));
        assert!(is_over, "and nobody holds a connection");
    }
}
