//! A tracker with an address in each family; `both.test` resolves to 127.0.0.1 and `::1` here.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};

use super::*;
use crate::types::{InfoHash, PeerId};

const PATIENT: Duration = Duration::from_secs(60);

/// A tracker on the same port of both loopback addresses. It records each request and its family.
struct DualStackTracker {
    port: u16,
    asked: crossbeam_channel::Receiver<(IpFamily, String)>,
}

/// A family's response to its nth request: a body, or `None` to leave the request unanswered.
type ReplyFn = fn(usize) -> Option<&'static [u8]>;

impl DualStackTracker {
    fn start(four: Option<ReplyFn>, six: Option<ReplyFn>) -> DualStackTracker {
        let (request_sender, asked) = crossbeam_channel::unbounded();
        // Another process may have taken the port in the second family.
        let (port, listeners) = std::iter::repeat_with(|| {
            let four = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = four.local_addr().unwrap().port();
            TcpListener::bind(("::1", port)).map(|six| (port, [(IpFamily::V4, four), (IpFamily::V6, six)]))
        })
        .take(20)
        .find_map(Result::ok)
        .expect("a loopback address of each family");
        for (family, listener) in listeners {
            let Some(says) = (if family == IpFamily::V4 { four } else { six }) else { continue };
            let request_sender = request_sender.clone();
            thread::spawn(move || {
                let mut unanswered = Vec::new();
                for (number, stream) in listener.incoming().flatten().enumerate() {
                    let mut lines = BufReader::new(&stream).lines();
                    let request = lines.next().and_then(Result::ok).unwrap_or_default();
                    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
                    let _ = request_sender.send((family, request));
                    match says(number) {
                        Some(body) => {
                            let head = format!(
                                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                                body.len()
                            );
                            let _ = (&stream).write_all(&[head.as_bytes(), body].concat());
                        }
                        None => unanswered.push(stream),
                    }
                }
            });
        }
        DualStackTracker { port, asked }
    }

    fn url(&self) -> String {
        format!("http://both.test:{}/announce", self.port)
    }

    /// The families that received a request since the last call.
    fn asked(&self) -> Vec<IpFamily> {
        let mut asked: Vec<IpFamily> = self.asked.try_iter().map(|(family, _)| family).collect();
        asked.sort_by_key(|family| *family == IpFamily::V6);
        asked
    }
}

fn client() -> HttpClient {
    let both = |host: &str| match host {
        "both.test" => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        "four.test" => vec![Ipv4Addr::LOCALHOST.into()],
        _ => Vec::new(),
    };
    HttpClient::with_resolver(|_| false, both)
}

/// The result of one announce, and the receiver of later responses.
fn ask(
    client: &HttpClient,
    url: &str,
    event: Option<AnnounceEvent>,
    is_private: bool,
) -> (Result<AnnounceResponse, TrackerError>, crossbeam_channel::Receiver<AnnounceResponse>) {
    let a = Announce {
        info_hash: InfoHash([1; 20]),
        peer_id: PeerId([2; 20]),
        port: 1,
        uploaded: 5,
        downloaded: 6,
        left: 7,
        key: 8,
        numwant: 9,
        event,
        tracker_id: None,
    };
    let (answer_sender, more) = crossbeam_channel::unbounded();
    let result = client.announce_in_both(url, &a, is_private, PATIENT, move |answer| drop(answer_sender.send(answer)));
    (result, more)
}

const ONE: &[u8] = b"d5:peers6:\x09\x09\x09\x09\x1a\xe1e";
const OTHER: &[u8] = b"d5:peers6:\x08\x08\x08\x08\x1a\xe1e";
const NOBODY: &[u8] = b"d5:peers0:e";
const REFUSED: &[u8] = b"d14:failure reason2:noe";

#[test]
fn both_families_are_asked_as_one_peer_and_both_answers_count() {
    let tracker = DualStackTracker::start(Some(|_| Some(ONE)), Some(|_| Some(OTHER)));
    let (first, more) = ask(&client(), &tracker.url(), Some(AnnounceEvent::Started), false);
    let later = more.recv_timeout(PATIENT).expect("the other family's answer");
    let mut peers = [first.unwrap().peers, later.peers].concat();
    peers.sort();
    assert_eq!(peers, ["8.8.8.8:6881".parse().unwrap(), "9.9.9.9:6881".parse().unwrap()]);
    let requests: Vec<String> = tracker.asked.try_iter().map(|(_, request)| request).collect();
    assert_eq!(requests.len(), 2);
    for request in requests {
        for same in ["key=00000008", "uploaded=5", "downloaded=6", "left=7", "event=started"] {
            assert!(request.contains(same), "{request}");
        }
    }
}

#[test]
fn a_family_that_is_dead_costs_no_time() {
    // One family hangs, the other responds: the result arrives long before the deadline.
    let tracker = DualStackTracker::start(Some(|_| None), Some(|_| Some(ONE)));
    let (result, _more) = ask(&client(), &tracker.url(), None, false);
    assert_eq!(result.map(|a| a.peers.len()), Ok(1));
    // One family refuses connections and the other has no address: the connection error is returned.
    // The port stays ours, but nobody listens.
    let bound = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    bound.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let port = bound.local_addr().unwrap().as_socket().unwrap().port();
    let client = client();
    let (result, _) = ask(&client, &format!("http://four.test:{port}/announce"), None, false);
    assert!(matches!(result, Err(TrackerError::Connect(_))), "{result:?}");
    let (result, _) = ask(&client, "http://none.test/announce", None, false);
    assert!(matches!(result, Err(TrackerError::NameLookup { .. })), "{result:?}");
}

#[test]
fn a_private_tracker_is_asked_over_the_second_family_only_where_the_first_knows_nobody() {
    let tracker = DualStackTracker::start(Some(|_| Some(ONE)), Some(|_| Some(OTHER)));
    let client_ = client();
    assert_eq!(ask(&client_, &tracker.url(), None, true).0.unwrap().peers.len(), 1);
    assert_eq!(tracker.asked(), [IpFamily::V4]);
    let tracker = DualStackTracker::start(Some(|_| Some(NOBODY)), Some(|_| Some(OTHER)));
    assert_eq!(ask(&client_, &tracker.url(), None, true).0.unwrap().peers.len(), 1);
    assert_eq!(tracker.asked(), [IpFamily::V4, IpFamily::V6]);
    let (result, _) = ask(&client_, &tracker.url(), Some(AnnounceEvent::Stopped), true);
    assert!(result.is_ok() && tracker.asked() == [IpFamily::V4, IpFamily::V6], "both are told of the end");
}

#[test]
fn a_refusal_over_the_second_family_switches_it_off() {
    let tracker = DualStackTracker::start(Some(|_| Some(NOBODY)), Some(|_| Some(REFUSED)));
    let client = client();
    for asked in [&[IpFamily::V4, IpFamily::V6][..], &[IpFamily::V4], &[IpFamily::V4]] {
        assert!(ask(&client, &tracker.url(), None, true).0.is_ok());
        assert_eq!(tracker.asked(), asked);
    }
    let (result, _) = ask(&client, &tracker.url(), Some(AnnounceEvent::Stopped), true);
    assert!(result.is_ok() && tracker.asked() == [IpFamily::V4]);
    // A refusal over the first family applies to both.
    let tracker = DualStackTracker::start(Some(|_| Some(REFUSED)), Some(|_| Some(ONE)));
    assert!(matches!(ask(&client, &tracker.url(), None, true).0, Err(TrackerError::Refused(_))));
    assert_eq!(tracker.asked(), [IpFamily::V4]);
}

#[test]
fn an_end_is_told_over_both() {
    let tracker = DualStackTracker::start(Some(|_| Some(ONE)), Some(|_| Some(OTHER)));
    let client = client();
    let (_, more) = ask(&client, &tracker.url(), Some(AnnounceEvent::Started), false);
    more.recv_timeout(PATIENT).expect("the other family's answer");
    assert_eq!(tracker.asked(), [IpFamily::V4, IpFamily::V6]);
    assert!(ask(&client, &tracker.url(), Some(AnnounceEvent::Stopped), false).0.is_ok());
    assert_eq!(tracker.asked(), [IpFamily::V4, IpFamily::V6]);
}
