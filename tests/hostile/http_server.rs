//! Clients that want to fill the HTTP server or to keep other clients waiting. Timeouts that must not pass are so long that a test
//! fails if the server waits for them.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use btsync::http_server::{
    EventBroadcast, Handler, HttpListener, ListenAddress, PRIVATE_MODE, Request, RequestHead, Response, Server,
    ServerLimits,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, recv};
use socket2::{Domain, Socket, Type};

use crate::common::{PATIENCE, TestDir, until};

const NEVER: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(200);
/// The most bytes of a body.
const MAX_BODY: usize = 100_000;
/// The size of the file and of the large response: more than sockets hold.
const LARGE: usize = 24 << 20;

/// Answers by path.
struct TestHandler {
    events: EventBroadcast,
    file: std::fs::File,
    /// `/wait` waits until the sender is dropped.
    may_answer: Mutex<mpsc::Receiver<()>>,
}

impl Handler for TestHandler {
    fn body_limit(&self, head: &RequestHead) -> Result<usize, Response> {
        Ok(if head.query() == Some("verified") { 1 << 30 } else { MAX_BODY })
    }

    fn handle_inline(&self, request: &Request) -> Option<Response> {
        (request.head.path() == "/").then(|| Response::text(200, "hello\n"))
    }

    fn handle(&self, request: Request) -> Response {
        match request.head.path() {
            "/length" => Response::text(200, request.body.len().to_string()),
            "/large" => Response::text(200, vec![b'x'; LARGE]),
            "/file" => Response::file(&request.head, self.file.try_clone().unwrap(), "text/plain").unwrap(),
            "/events" => Response::events(self.events.subscribe()),
            "/wait" => {
                let _ = self.may_answer.lock().unwrap().recv();
                Response::text(200, "waited")
            }
            _ => Response::text(404, "no\n"),
        }
    }
}

struct TestServer {
    server: Server,
    addr: SocketAddr,
    events: EventBroadcast,
    /// Dropping it lets `/wait` answer.
    go_on: Option<mpsc::Sender<()>>,
}

/// Limits without times.
fn patient() -> ServerLimits {
    ServerLimits {
        head_timeout: NEVER,
        body_timeout: NEVER,
        keep_alive: NEVER,
        write_timeout: NEVER,
        stream_write_timeout: NEVER,
        heartbeat: NEVER,
        ..ServerLimits::default()
    }
}

impl TestServer {
    fn named(name: &str, limits: ServerLimits, more: Vec<HttpListener>) -> TestServer {
        let (go_on, may_answer) = mpsc::channel();
        let file = tempfile::tempfile().unwrap();
        file.set_len(LARGE as u64).unwrap();
        let events = EventBroadcast::default();
        let handler = TestHandler { events: events.clone(), file, may_answer: Mutex::new(may_answer) };
        let mut listeners = vec![HttpListener::tcp((Ipv4Addr::LOCALHOST, 0).into()).unwrap()];
        listeners.extend(more);
        let server = Server::start(name, listeners, limits, Arc::new(handler)).unwrap();
        let ListenAddress::Tcp(addr) = server.addresses()[0] else { panic!("no TCP address") };
        TestServer { server, addr, events, go_on: Some(go_on) }
    }

    fn new(limits: ServerLimits) -> TestServer {
        TestServer::named("http-test", limits, Vec::new())
    }

    /// A connection from 127.0.0.`host`.
    fn from(&self, host: u8) -> TcpStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, host], 0)).into()).unwrap();
        socket.connect(&self.addr.into()).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// All that the server sends on a connection where a client sends this and then waits.
    fn ask(&self, request: &str) -> String {
        let mut stream = self.from(1);
        // Fails if the server closes the connection early.
        let _ = stream.write_all(request.as_bytes());
        rest(stream)
    }

    fn serves(&self, host: u8) {
        let mut stream = self.from(host);
        stream.write_all(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
        assert!(rest(stream).ends_with("hello\n"), "127.0.0.{host} is not served");
    }
}

/// Everything until the server closes the connection, cleanly or not.
fn rest(mut stream: impl Read) -> String {
    let mut all = Vec::new();
    let end = stream.read_to_end(&mut all).map_err(|error| error.kind());
    let waits = matches!(end, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut));
    assert!(!waits, "the connection stays open after {} bytes", all.len());
    String::from_utf8(all).unwrap()
}

/// The status of the only response.
fn status(text: &str) -> &str {
    assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{text}");
    text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).unwrap_or(text)
}

/// Waits for the first line of a response, and returns the rest of the connection.
fn begun(stream: TcpStream) -> BufReader<TcpStream> {
    let mut reader = BufReader::with_capacity(256, stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 200"), "{line}");
    reader
}

#[test]
fn slow_requests_time_out_however_steadily_they_arrive() {
    let limits = ServerLimits { head_timeout: SHORT, body_timeout: SHORT, ..patient() };
    let server = TestServer::new(limits);
    for begin in ["x", "POST /length HTTP/1.1\r\nContent-Length: 99999\r\n\r\n"] {
        // Without an answer, this thread did not run in time to send the beginning.
        let answer = (0..50).map(|_| drip(&server, begin)).find(|answer| !answer.is_empty());
        assert_eq!(status(&answer.expect("an answer")), "408");
    }
    assert_eq!(rest(server.from(1)), "", "who sends nothing gets nothing");
    let fast = TestServer::new(patient());
    assert_eq!(rest(half_closed(&fast, "GET / HTTP/1.1\r\n")), "", "half a request has no answer");
    assert!(rest(half_closed(&fast, "GET / HTTP/1.1\r\n\r\n")).ends_with("hello\n"));
}

/// Sends this and then a byte every ten milliseconds. Returns the answer.
fn drip(server: &TestServer, begin: &str) -> String {
    let mut stream = server.from(1);
    // Fails if the server has closed the connection already.
    let _ = stream.write_all(begin.as_bytes());
    let mut reader = stream.try_clone().unwrap();
    let answer = std::thread::spawn(move || {
        let mut answer = String::new();
        // The server may still get a byte after it has closed.
        let _ = reader.read_to_string(&mut answer);
        answer
    });
    while stream.write_all(b"x").is_ok() && !answer.is_finished() {
        std::thread::sleep(Duration::from_millis(10));
    }
    answer.join().unwrap()
}

/// A client that sends this and closes its side.
fn half_closed(server: &TestServer, text: &str) -> TcpStream {
    let mut stream = server.from(1);
    stream.write_all(text.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    stream
}

#[test]
fn an_idle_connection_ends() {
    let server = TestServer::new(ServerLimits { keep_alive: SHORT, ..patient() });
    let answer = server.ask("GET / HTTP/1.1\r\n\r\n");
    assert!(answer.contains("200 OK") && !answer.contains("Connection: close"), "it was kept for a while: {answer}");
}

#[test]
fn large_heads_are_refused() {
    let server = TestServer::new(patient());
    let (long, headers) = ("x".repeat(9_000), "A: b\r\n".repeat(3_000));
    for (request, expected) in [
        (format!("GET /{long}"), "414"),
        (format!("GET /{long} HTTP/1.1\r\n\r\n"), "414"),
        ("x".repeat(1_000_000), "414"),
        (format!("GET / HTTP/1.1\r\nX: {long}"), "431"),
        (format!("GET / HTTP/1.1\r\n{headers}"), "431"),
        (format!("GET / HTTP/1.1\r\n{}\r\n", "A:\r\n".repeat(65)), "431"),
        (format!("GET / HTTP/1.1\r\n{}\r\n", "A:\r\n".repeat(1_000)), "431"),
        (format!("GET / HTTP/1.1\r\n{long}: x\r\n\r\n"), "431"),
    ] {
        assert_eq!(status(&server.ask(&request)), expected, "{}", &request[..30]);
    }
    server.serves(1);
}

#[test]
fn large_bodies_are_refused() {
    let server = TestServer::new(patient());
    let length = |length: &str| server.ask(&format!("POST /length HTTP/1.1\r\nContent-Length: {length}\r\n\r\nxxx"));
    for large in ["100001", "99999999999999999999999999"] {
        assert_eq!(status(&length(large)), "413", "{large}");
    }
    let chunks =
        |chunks: &str| server.ask(&format!("POST /length HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"));
    assert_eq!(status(&chunks("fffffffff\r\n")), "413");
    assert_eq!(status(&chunks(&"1\r\nx\r\n".repeat(MAX_BODY + 1))), "413");
    assert_eq!(status(&chunks(&format!("1;{}\r\n", "x".repeat(5_000)))), "400");
    assert_eq!(status(&chunks(&format!("0\r\n{}", "T: x\r\n".repeat(5_000)))), "400");
    server.serves(1);
}

/// The server holds 400,000 bytes of bodies. One client fills them, another one is served nevertheless.
#[test]
fn unfinished_bodies_of_one_client_leave_room_for_others() {
    let server = TestServer::new(ServerLimits { max_body_bytes: 400_000, ..patient() });
    let part = [b"POST /length HTTP/1.1\r\nContent-Length: 100000\r\n\r\n".as_slice(), &vec![b'x'; 90_000]].concat();
    let mut greedy: Vec<TcpStream> = (0..20).map(|_| server.from(1)).collect();
    for stream in &mut greedy {
        let _ = stream.write_all(&part);
    }
    let mut fair = server.from(2);
    fair.write_all(&part).unwrap();
    // At most four of them fit.
    until("the others have an answer", || answered(&greedy) >= 16);
    fair.write_all(&[&[b'x'; 10_000], b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n".as_slice()].concat()).unwrap();
    let answer = rest(fair);
    assert!(answer.contains("\r\n\r\n100000") && answer.ends_with("hello\n"), "{answer}");
    let mut answer = [0; 12];
    for mut stream in greedy.into_iter().filter(|stream| answered(std::slice::from_ref(stream)) == 1) {
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 503");
    }
}

/// The server holds 400,000 bytes of bodies. Clients of 60 networks that have not proved who they are fill what there is for them, and
/// one that has proved it sends a larger body than any of them.
#[test]
fn bodies_of_unverified_clients_leave_room_for_a_verified_one() {
    let server = TestServer::new(ServerLimits { max_body_bytes: 400_000, ..patient() });
    let part = [b"POST /length HTTP/1.1\r\nContent-Length: 100000\r\n\r\n".as_slice(), &vec![b'x'; 40_000]].concat();
    let mut strangers: Vec<TcpStream> = (2..62).map(|host| server.from(host)).collect();
    for stream in &mut strangers {
        let _ = stream.write_all(&part);
    }
    // At most five of them fit into half of the memory.
    until("the others have an answer", || answered(&strangers) >= 55);
    let mut verified = server.from(1);
    let head = b"POST /length?verified HTTP/1.1\r\nContent-Length: 400000\r\nConnection: close\r\n\r\n".as_slice();
    verified.write_all(&[head, &vec![b'x'; 400_000]].concat()).unwrap();
    let answer = rest(verified);
    assert!(answer.contains("\r\n\r\n400000"), "{answer}");
}

/// How many of these connections have something to read.
fn answered(streams: &[TcpStream]) -> usize {
    let has_answer = |stream: &&TcpStream| {
        let found = recv(stream, &mut [0; 12], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        found.is_ok_and(|(read, _)| read > 0)
    };
    streams.iter().filter(has_answer).count()
}

/// What one program takes for a body and another one for a request is answered once and not read on.
#[test]
fn no_request_is_smuggled() {
    let server = TestServer::new(patient());
    let hidden = "GET /hidden HTTP/1.1\r\n\r\n";
    for (head, expected) in [
        ("Content-Length: 0\r\nTransfer-Encoding: chunked", "400"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 99", "400"),
        ("Content-Length: 0\r\nContent-Length: 24", "400"),
        ("Content-Length: 0, 24", "400"),
        ("Content-Length : 24", "400"),
        ("Content-Length: +0", "400"),
        ("Transfer-Encoding: xchunked", "501"),
        ("Transfer-Encoding: chunked, identity", "501"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: x", "501"),
        ("X: y\r\n Content-Length: 24", "400"),
        ("Host: a\r\nHost: b", "400"),
    ] {
        let answer = server.ask(&format!("POST /length HTTP/1.1\r\n{head}\r\n\r\n0\r\n\r\n{hidden}"));
        assert_eq!(status(&answer), expected, "{head}");
    }
    let chunked = "POST /length HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    for body in ["1\r\nxx\r\n0\r\n\r\n", "0\n\n", "1\r\nx\n0\r\n\r\n", "-1\r\n", " 1\r\nx\r\n0\r\n\r\n", "0x1\r\n"] {
        assert_eq!(status(&server.ask(&format!("{chunked}{body}{hidden}"))), "400", "{body:?}");
    }
    assert_eq!(status(&server.ask("GET http://other/ HTTP/1.1\r\nHost: own\r\n\r\n")), "400");
    assert_eq!(status(&server.ask("CONNECT own:80 HTTP/1.1\r\nHost: own\r\n\r\n")), "400");
    assert_eq!(status(&server.ask("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")), "505");
}

#[test]
fn idle_connections_make_room() {
    let server = TestServer::new(patient());
    let mut other = server.from(2);
    let mut silent: Vec<TcpStream> = (0..600).map(|_| server.from(1)).collect();
    server.serves(1);
    server.serves(3);
    assert_eq!(rest(silent.remove(0)), "", "the oldest was closed");
    other.write_all(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
    assert!(rest(other).ends_with("hello\n"), "a client of another network stays");
    let events: Vec<_> = (0..50).map(|_| begin(&server, 1, "/events")).collect();
    let more: Vec<TcpStream> = (0..600).map(|_| server.from(1)).collect();
    server.serves(1);
    assert_eq!(server.events.listeners(), 50, "who does nothing goes first");
    drop((events, more));
}

/// A connection on which the response to a request has begun.
fn begin(server: &TestServer, host: u8, path: &str) -> BufReader<TcpStream> {
    let mut stream = server.from(host);
    write!(stream, "GET {path} HTTP/1.1\r\n\r\n").unwrap();
    begun(stream)
}

#[test]
fn readers_that_read_nothing_are_disconnected() {
    let server = TestServer::new(ServerLimits { write_timeout: SHORT, stream_write_timeout: SHORT, ..patient() });
    for path in ["/large", "/file"] {
        let slow = begin(&server, 1, path);
        server.serves(1);
        // The server ends the connection although this client reads nothing.
        let mut fds = [PollFd::new(slow.get_ref(), PollFlags::empty())];
        poll(&mut fds, Some(&Timespec::try_from(PATIENCE).unwrap())).unwrap();
        assert!(fds[0].revents().contains(PollFlags::HUP), "{path}: the connection stays open");
        assert!(rest(slow).len() < LARGE, "{path}: not all of it");
    }
}

#[test]
fn responses_for_slow_readers_are_bounded() {
    let server = TestServer::new(ServerLimits { max_unsent_bytes: 3 * LARGE, ..patient() });
    let slow: Vec<_> = (0..10).map(|_| begun(begin_closing(&server, "/large"))).collect();
    server.serves(2);
    let complete = slow.into_iter().map(rest).filter(|text| text.len() > LARGE).count();
    assert!((1..=3).contains(&complete), "{complete} of 10 were kept");
}

#[test]
fn slow_readers_of_files_hold_no_worker() {
    let server = TestServer::new(ServerLimits { workers: 1, ..patient() });
    let slow: Vec<_> = (0..100).map(|_| begin(&server, 1, "/file")).collect();
    assert!(server.ask("GET /length HTTP/1.1\r\nConnection: close\r\n\r\n").ends_with("\r\n\r\n0"));
    assert!(rest(begin_closing(&server, "/file")).len() > LARGE, "a fast reader gets all");
    drop(slow);
}

fn begin_closing(server: &TestServer, path: &str) -> TcpStream {
    let mut stream = server.from(1);
    write!(stream, "GET {path} HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
    stream
}

#[test]
fn too_many_requests_for_workers_are_refused_and_the_rest_is_served() {
    let mut server = TestServer::new(ServerLimits { workers: 2, max_queued_requests: 3, ..patient() });
    let waiting: Vec<TcpStream> = (0..20).map(|_| begin_closing(&server, "/wait")).collect();
    server.serves(1);
    // Two run and three wait at most. Their handlers end when the sender is dropped.
    until("the others are refused", || answered(&waiting) >= 15);
    server.go_on = None;
    let answers: Vec<String> = waiting.into_iter().map(rest).collect();
    assert!(answers.iter().filter(|answer| answer.ends_with("waited")).count() >= 3);
    assert!(answers.iter().all(|answer| answer.ends_with("waited") || answer.starts_with("HTTP/1.1 503")));
}

/// As many as poll a service at the same moment.
#[test]
fn a_hundred_clients_whose_requests_come_at_once_all_get_answers() {
    let mut server = TestServer::new(patient());
    let waiting: Vec<TcpStream> = (0..200).map(|_| begin_closing(&server, "/wait")).collect();
    // Accepted after the others, so that their requests wait by now.
    server.from(2).write_all(b"GET /wait HTTP/1.1\r\n\r\n").unwrap();
    server.go_on = None;
    assert!(waiting.into_iter().map(rest).all(|answer| answer.ends_with("waited")));
}

/// The threads of this process whose name begins so.
fn threads(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    tasks
        .filter(|task| std::fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.starts_with(name)))
        .count()
}

#[test]
fn a_hundred_listeners_get_every_event_and_need_no_threads() {
    let server = TestServer::named("sse-test", patient(), Vec::new());
    let mut listeners: Vec<_> = (0..100).map(|_| begin(&server, 1, "/events")).collect();
    assert_eq!(server.events.listeners(), 100);
    let used = threads("sse-test");
    assert!((2..=5).contains(&used), "{used} threads");
    let names: Vec<String> = (0..50).map(|n| format!("number {n}")).collect();
    for name in &names {
        server.events.publish("tick", name);
    }
    for listener in &mut listeners {
        let lines = listener.lines().map(Result::unwrap).filter(|line| line.starts_with("data: "));
        assert!(lines.take(50).eq(names.iter().map(|name| format!("data: {name}"))));
    }
    server.server.stop();
    until("its threads are gone", || threads("sse-test") == 0);
    assert!(listeners.into_iter().all(|listener| !rest(listener).contains("data")));
}

#[test]
fn a_slow_listener_loses_events_and_learns_how_many() {
    const EVENTS: u64 = 2_000;
    let server = TestServer::new(patient());
    let (mut slow, mut fast) = (begin(&server, 1, "/events"), begin(&server, 1, "/events"));
    let filler = "x".repeat(20_000);
    let next = |listener: &mut BufReader<TcpStream>| -> u64 {
        let line = listener.lines().map(Result::unwrap).find(|line| line.starts_with("data: ")).unwrap();
        line.trim_start_matches("data: ").trim_end_matches('x').parse().unwrap()
    };
    for n in 1..=EVENTS {
        server.events.publish("", &format!("{n}{filler}"));
        assert_eq!(next(&mut fast), n);
    }
    let (mut expected, mut lost) = (1, 0);
    while expected <= EVENTS {
        let n = next(&mut slow);
        if n == expected {
            expected += 1;
        } else {
            // Not the number of an event, but that of the lost ones.
            lost += n;
            expected += n;
        }
    }
    assert!(lost > EVENTS / 4 && expected == EVENTS + 1, "{lost} lost, up to {expected}");
}

#[test]
fn a_stop_takes_less_than_its_grace_whatever_clients_do() {
    let folder = TestDir::new();
    let path = folder.path("socket");
    let listener = HttpListener::unix(&path, PRIVATE_MODE).unwrap();
    let mut server = TestServer::named("stop-test", patient(), vec![listener]);
    let mut clients: Vec<_> = ["/events", "/file"].map(|path| begin(&server, 1, path)).into();
    clients.push(begin(&server, 1, "/large"));
    let idle: Vec<TcpStream> = (0..100).map(|_| server.from(1)).collect();
    let mut local = UnixStream::connect(&path).unwrap();
    local.write_all(b"GET / HTTP/1.1\r\nX:").unwrap();
    server.go_on = None;
    server.server.stop();
    until("its threads are gone", || threads("stop-test") == 0);
    assert!(!path.exists() && rest(local).is_empty());
    assert!(idle.into_iter().all(|stream| rest(stream).is_empty()));
}

/// Clients over the Unix socket and over TCP do not take each other's places.
#[test]
fn local_clients_and_networks_are_counted_apart() {
    let folder = TestDir::new();
    let path = folder.path("socket");
    let listener = HttpListener::unix(&path, PRIVATE_MODE).unwrap();
    let limits = ServerLimits { max_connections: 20, max_connections_per_client: 10, ..patient() };
    let server = TestServer::named("http-test", limits, vec![listener]);
    let mut local = UnixStream::connect(&path).unwrap();
    local.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    local.read_exact(&mut [0; 12]).unwrap();
    let silent: Vec<TcpStream> = (0..100).map(|n| server.from(1 + n % 2)).collect();
    server.serves(1);
    local.write_all(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
    assert!(rest(local).ends_with("hello\n"), "it was not evicted");
    drop(silent);
}
