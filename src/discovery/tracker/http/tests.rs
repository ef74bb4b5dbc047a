//! Tests that need a public host: 127.0.0.2 counts as public here. The whole-program tests cover the rest.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};

use super::*;
use crate::net::bind::Bind;
use crate::net::route::Route;
use crate::types::{InfoHash, PeerId};

const PATIENT: Duration = Duration::from_secs(60);

/// Starts a server on `ip` that sends one response, and returns the lines of the request.
fn once(ip: &str, response: String) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind((ip, 0)).unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let served = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let lines = BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
        (&stream).write_all(response.as_bytes()).unwrap();
        lines
    });
    (addr, served)
}

fn redirect(location: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

fn ask(host: &str, path: &str) -> Result<AnnounceResponse, TrackerError> {
    let tracker = HttpClient::with_local_addresses(|ip| ip.to_string() != "127.0.0.2");
    let a = Announce {
        info_hash: InfoHash([1; 20]),
        peer_id: PeerId([2; 20]),
        port: 1,
        uploaded: 0,
        downloaded: 0,
        left: 1,
        key: 0,
        numwant: 1,
        event: None,
        tracker_id: None,
    };
    tracker.announce(&format!("http://{host}{path}"), &a, PATIENT)
}

#[test]
fn an_anonymous_client_names_itself_to_nobody() {
    let bound = Route::direct(Bind::Address([127, 0, 0, 1].into()));
    for (route, expected) in [(bound.clone(), Some("user-agent: me/1")), (bound.anonymous(true), None)] {
        let (addr, served) =
            once("127.0.0.1", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".into());
        let fetcher = UrlFetcher::on_route(&route, Some("me/1"));
        fetcher.fetch(&format!("http://{addr}/x"), 10, PATIENT).unwrap();
        let lines = served.join().unwrap();
        let agent = lines.iter().map(|line| line.to_ascii_lowercase()).find(|line| line.starts_with("user-agent"));
        assert_eq!(agent.as_deref(), expected);
    }
}

#[test]
fn no_redirect_leads_from_public_to_local() {
    let local = TcpListener::bind("127.0.0.1:0").unwrap();
    local.set_nonblocking(true).unwrap();
    let port = local.local_addr().unwrap().port();
    for host in ["127.0.0.1", "localhost", "127.1"] {
        let (public, served) = once("127.0.0.2", redirect(&format!("http://{host}:{port}/announce")));
        assert!(matches!(ask(&public, "/x"), Err(TrackerError::Redirect(_))), "{host}");
        served.join().unwrap();
    }
    assert!(local.accept().is_err(), "nobody even connected");
}

#[test]
fn a_way_over_a_public_host_does_not_lead_back() {
    let local = TcpListener::bind("127.0.0.1:0").unwrap();
    local.set_nonblocking(true).unwrap();
    let back = redirect(&format!("http://{}/announce", local.local_addr().unwrap()));
    let (public, second) = once("127.0.0.2", back);
    let (start, first) = once("127.0.0.1", redirect(&format!("http://{public}/")));
    assert!(matches!(ask(&start, "/announce"), Err(TrackerError::Redirect(_))));
    first.join().unwrap();
    second.join().unwrap();
    assert!(local.accept().is_err());
}

#[test]
fn public_to_public_and_local_to_public_are_followed() {
    for ip in ["127.0.0.1", "127.0.0.2"] {
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nde";
        let (public, second) = once("127.0.0.2", answer.to_owned());
        let (start, first) = once(ip, redirect(&format!("http://{public}/anything")));
        assert_eq!(ask(&start, "/announce").map(|a| a.peers), Ok(Vec::new()), "{ip}");
        first.join().unwrap();
        second.join().unwrap();
    }
}

/// Only a local tracker may name peers in private networks.
#[test]
fn a_public_tracker_leads_to_no_private_address() {
    let peers = "d5:peersld2:ip8:10.0.0.14:porti6881eed2:ip9:localhost4:porti6881eed2:ip11:203.0.113.54:porti6881eeee";
    let private = ["10.0.0.1:6881", "127.0.0.1:6881"].map(|peer| peer.parse().unwrap());
    let public: SocketAddr = "203.0.113.5:6881".parse().unwrap();
    for ip in ["127.0.0.1", "127.0.0.2"] {
        let (tracker, served) = once(ip, found(peers));
        let answer = ask(&tracker, "/announce").unwrap();
        served.join().unwrap();
        assert!(answer.peers.contains(&public));
        let is_public = ip == "127.0.0.2";
        assert!(private.iter().all(|peer| answer.peers.contains(peer) != is_public), "{:?}", answer.peers);
        assert_eq!(answer.private_dropped > 0, is_public);
        // A redirect from a local tracker to a public one does not change this.
        let (tracker, served) = once("127.0.0.2", found(peers));
        let (start, first) = once(ip, redirect(&format!("http://{tracker}/announce")));
        assert_eq!(ask(&start, "/announce").unwrap().peers, [public], "by way of {ip}");
        first.join().unwrap();
        served.join().unwrap();
    }
}

#[test]
fn a_proxy_is_not_asked_for_local_addresses_either() {
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    proxy.set_nonblocking(true).unwrap();
    let uri = format!("http://{}", proxy.local_addr().unwrap());
    let tracker = HttpClient::on_route(&Route::default().through(uri.parse().ok()), None);
    let hop = |url, from_public| {
        tracker.hop(&tracker.any, url, Trust::AnnouncePathOnly, from_public, Instant::now() + PATIENT).err()
    };
    assert!(matches!(hop("http://10.0.0.1/announce", true), Some(TrackerError::Redirect(_))));
    assert!(matches!(hop("http://[fd00::1]/announce", true), Some(TrackerError::Redirect(_))));
    assert_eq!(hop("http://192.168.0.1/admin", false), Some(TrackerError::Local));
    assert!(proxy.accept().is_err(), "nobody even connected");
}

fn fetcher(is_local: fn(IpAddr) -> bool) -> UrlFetcher {
    UrlFetcher { http: HttpClient::with_local_addresses(is_local) }
}

fn file(url: &str, max: u64) -> Result<Vec<u8>, TrackerError> {
    fetcher(|ip| ip.to_string() != "127.0.0.2").fetch(url, max, PATIENT).map(|fetched| match fetched {
        FetchedUrl::File(bytes) => bytes,
        FetchedUrl::Link { link, .. } => panic!("{link}"),
    })
}

fn found(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

#[test]
fn a_file_is_fetched_from_wherever_the_user_says_and_no_larger_than_asked() {
    for ip in ["127.0.0.1", "127.0.0.2"] {
        let (host, served) = once(ip, found("hello"));
        assert_eq!(file(&format!(" http://{host}/any path#x"), 5), Ok(b"hello".to_vec()), "{ip}");
        served.join().unwrap();
        let (host, served) = once(ip, found("hello!"));
        assert_eq!(file(&format!("http://{host}/x"), 5), Err(TrackerError::TooLarge), "{ip}");
        served.join().unwrap();
    }
    let (host, served) = once("127.0.0.1", "HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".into());
    assert_eq!(file(&format!("http://{host}/x"), 5), Err(TrackerError::Http(404)));
    served.join().unwrap();
    assert!(matches!(file("file:///etc/passwd", 5), Err(TrackerError::Scheme(_))));
}

#[test]
fn a_file_is_not_fetched_from_a_local_address_that_a_public_one_names() {
    let (local, second) = once("127.0.0.1", found("hello"));
    let (start, first) = once("127.0.0.1", redirect(&format!("http://{local}/moved")));
    assert_eq!(file(&format!("http://{start}/"), 5), Ok(b"hello".to_vec()), "from local to local");
    first.join().unwrap();
    second.join().unwrap();
    let local = TcpListener::bind("127.0.0.1:0").unwrap();
    local.set_nonblocking(true).unwrap();
    let (public, served) = once("127.0.0.2", redirect(&format!("http://{}/x", local.local_addr().unwrap())));
    assert!(matches!(file(&format!("http://{public}/"), 5), Err(TrackerError::Redirect(_))));
    served.join().unwrap();
    let (public, served) = once("127.0.0.2", redirect("file:///etc/passwd"));
    assert!(matches!(file(&format!("http://{public}/"), 5), Err(TrackerError::Scheme(_))));
    served.join().unwrap();
    assert!(local.accept().is_err(), "nobody even connected");
}

/// Untrusted URLs, as in magnet links.
#[test]
fn a_strangers_file_comes_from_public_addresses_only() {
    let fetcher = fetcher(|ip| ip.to_string() != "127.0.0.2");
    let get = |url: &str| fetcher.fetch_untrusted(url, 5, Duration::from_secs(20));
    let (public, served) = once("127.0.0.2", found("hello"));
    assert_eq!(get(&format!("http://{public}/x.torrent")), Ok(b"hello".to_vec()));
    served.join().unwrap();
    let (public, served) = once("127.0.0.2", found("hello!"));
    assert_eq!(get(&format!("http://{public}/x")), Err(TrackerError::TooLarge));
    served.join().unwrap();
    let local = TcpListener::bind("127.0.0.1:0").unwrap();
    local.set_nonblocking(true).unwrap();
    let port = local.local_addr().unwrap().port();
    // Neither the path of an announce, which suffices for a torrent's tracker, nor a host name, nor an IPv4-mapped address makes
    // a local address acceptable.
    for url in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"].map(|host| format!("http://{host}:{port}/announce")) {
        assert!(matches!(get(&url), Err(TrackerError::Redirect(_) | TrackerError::NameLookup { .. })), "{url}");
        let (public, served) = once("127.0.0.2", redirect(&url));
        assert!(matches!(get(&format!("http://{public}/")), Err(TrackerError::Redirect(_))), "to {url}");
        served.join().unwrap();
    }
    for url in
        ["file:///etc/passwd", "magnet:?xt=urn:btih:0123456789012345678901234567890123456789", "udp://127.0.0.2:1/"]
    {
        assert!(matches!(get(url), Err(TrackerError::Scheme(_))), "{url}");
        let (public, served) = once("127.0.0.2", redirect(url));
        assert!(matches!(get(&format!("http://{public}/")), Err(TrackerError::Scheme(_))), "to {url}");
        served.join().unwrap();
    }
    assert!(local.accept().is_err(), "nobody even connected");
}

#[test]
fn cookies_do_not_follow_a_redirect_to_another_server() {
    let (other, second) = once("127.0.0.1", found("hello"));
    let (host, first) = once("127.0.0.1", redirect(&format!("http://{other}/x")));
    let url = format!("http://{host}/x");
    let fetched = fetcher(is_local).with_cookies(&url, "uid=7; pass=x").fetch(&url, 5, PATIENT);
    assert_eq!(fetched, Ok(FetchedUrl::File(b"hello".to_vec())));
    let cookies = |lines: Vec<String>| lines.into_iter().find(|line| line.to_ascii_lowercase().starts_with("cookie:"));
    assert_eq!(cookies(first.join().unwrap()).as_deref(), Some("cookie: uid=7; pass=x"));
    assert_eq!(cookies(second.join().unwrap()), None);
}
