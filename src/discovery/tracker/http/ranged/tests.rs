use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;

use super::*;
use crate::net::block_list::{AddressRange, RangeSetBuilder};
use crate::util::atomics::Flag;

/// A server that sends these responses in turn, each on whatever connection its request comes, and reports the heads of the requests with
/// the number of their connection.
fn server(ip: &str, responses: Vec<String>) -> (String, mpsc::Receiver<(usize, Vec<String>)>) {
    let listener = TcpListener::bind((ip, 0)).unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let (request_sender, requests) = mpsc::channel();
    thread::spawn(move || {
        let mut responses = responses.into_iter().peekable();
        let mut number = 0;
        while responses.peek().is_some() {
            let (stream, _) = listener.accept().unwrap();
            number += 1;
            let mut lines = BufReader::new(&stream).lines();
            loop {
                let head: Vec<String> =
                    lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
                let Some(response) = responses.peek().filter(|_| !head.is_empty()) else { break };
                let _ = request_sender.send((number, head));
                (&stream).write_all(response.as_bytes()).unwrap();
                let closes = response.contains("Connection: close");
                responses.next();
                if closes {
                    break;
                }
            }
        }
    });
    (addr, requests)
}

fn part(range: &str, body: &str) -> String {
    format!("HTTP/1.1 206 Partial\r\nContent-Range: bytes {range}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn users() -> RangedFetcher {
    RangedFetcher::new(&Route::default(), None, true, &Arc::default())
}

fn body(response: &mut RangedResponse) -> String {
    String::from_utf8(response.start_of_body(1000)).unwrap()
}

#[test]
fn requests_share_a_connection_and_name_their_ranges() {
    let (addr, requests) = server("127.0.0.1", vec![part("0-2/9", "abc"), part("3-4/9", "de")]);
    let mut fetcher = users();
    let url = format!("http://me:p%40w@{addr}/f");
    for (range, expected) in [(0..3, "abc"), (3..5, "de")] {
        let mut response = fetcher.get(&url, Some(&range)).unwrap();
        assert_eq!((response.answer.status, body(&mut response).as_str()), (206, expected));
        let mut end = [0];
        assert_eq!(response.read(&mut end).unwrap(), 0);
    }
    for header in ["range: bytes=0-2", "range: bytes=3-4"] {
        let (connection, head) = requests.recv().unwrap();
        let has = |text: &str| head.iter().any(|line| line.eq_ignore_ascii_case(text));
        assert!(has(header) && has("accept-encoding: identity"), "{head:?}");
        assert!(has("authorization: Basic bWU6cEB3"), "{head:?}");
        assert_eq!(connection, 1);
    }
}

#[test]
fn credentials_do_not_follow_a_redirect_to_another_host() {
    let (target, requests) = server("127.0.0.1", vec![part("0-0/1", "x"), part("0-0/1", "x")]);
    let moved =
        format!("HTTP/1.1 302 Found\r\nLocation: http://{target}/g\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let (addr, first) = server("127.0.0.1", vec![moved]);
    let mut fetcher = users();
    for _ in 0..2 {
        let mut response = fetcher.get(&format!("http://u:p@{addr}/f"), Some(&(0..1))).unwrap();
        assert_eq!(body(&mut response), "x");
        let (_, head) = requests.recv().unwrap();
        assert!(head[0].starts_with("GET /g ") && !head.iter().any(|line| line.contains("Basic")), "{head:?}");
    }
    assert!(first.recv().unwrap().1.iter().any(|line| line.contains("Basic dTpw")));
    assert!(first.recv().is_err(), "the redirect is remembered");
}

#[test]
fn urls_of_torrents_do_not_lead_to_local_addresses() {
    let local = TcpListener::bind("127.0.0.1:0").unwrap();
    local.set_nonblocking(true).unwrap();
    let port = local.local_addr().unwrap().port();
    let mut fetcher = RangedFetcher::new(&Route::default(), None, false, &Arc::default());
    for host in ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]"] {
        let error = fetcher.get(&format!("http://{host}:{port}/f"), None).err();
        assert!(matches!(error, Some(TrackerError::Redirect(_))), "{host}: {error:?}");
    }
    assert!(local.accept().is_err(), "nobody even connected");
}

#[test]
fn nothing_is_requested_from_blocked_addresses() {
    let mut ranges = RangeSetBuilder::default();
    ranges.add(AddressRange::V4(0x7f00_0002, 0x7f00_0009)); // 127.0.0.2 to 9
    let list = Arc::new(AddressFilter::default());
    let is_outdated = Flag::default();
    assert!(list.set(ranges.build(), &is_outdated));
    let (blocked, requests) = server("127.0.0.2", vec![part("0-0/1", "x")]);
    let mut fetcher = RangedFetcher::new(&Route::default(), None, true, &list);
    let why = |fetcher: &mut RangedFetcher, url: &str| fetcher.get(url, None).err().map(|error| error.to_string());
    let is_refused = |why: Option<String>| why.is_some_and(|why| why.contains("on the block list"));
    assert!(is_refused(why(&mut fetcher, &format!("http://{blocked}/f"))));
    let moved = format!("HTTP/1.1 302 Found\r\nLocation: http://{blocked}/f\r\nContent-Length: 0\r\n\r\n");
    let (addr, _) = server("127.0.0.1", vec![moved]);
    assert!(is_refused(why(&mut fetcher, &format!("http://{addr}/f"))), "after a redirect");
    assert!(requests.try_recv().is_err(), "nobody asked it");
    assert_eq!(list.stats().map(|stats| stats.hits), Some(2));
    ranges = RangeSetBuilder::default();
    ranges.add(AddressRange::V4(0x7f00_0001, 0x7f00_0001));
    ranges.add(AddressRange::V6(1, 1));
    assert!(list.set(ranges.build(), &is_outdated));
    assert!(is_refused(why(&mut fetcher, "http://localhost:1/f")), "the address of a name");
}

#[test]
fn another_thread_interrupts_a_silent_server() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/f", listener.local_addr().unwrap());
    let mut fetcher = users();
    let interrupter = fetcher.interrupter();
    let silent = thread::spawn(move || {
        let (stream, _): (TcpStream, _) = listener.accept().unwrap();
        let lines = BufReader::new(&stream).lines().map_while(Result::ok);
        lines.take_while(|line| !line.is_empty()).for_each(drop);
        interrupter.interrupt();
        stream
    });
    assert!(fetcher.get(&url, None).is_err());
    drop(silent.join());
    assert!(fetcher.get(&url, None).is_err(), "it stays stopped");
}

#[test]
fn credentials_are_taken_out_of_urls() {
    let of = |url: &str| without_credentials(url);
    assert_eq!(of("http://h/a@b"), ("http://h/a@b".to_owned(), None));
    assert_eq!(of("http://u@h:1/x"), ("http://h:1/x".to_owned(), Some("Basic dTo=".to_owned())));
    assert_eq!(of("https://u:@h"), ("https://h".to_owned(), Some("Basic dTo=".to_owned())));
}
