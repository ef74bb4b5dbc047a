//! A whole server and well-behaved clients; `tests/hostile/http_server.rs` has the others.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::io::Errno;

use super::*;

mod shortage;

/// A test fails if nothing happens for this long.
const PATIENT: Duration = Duration::from_secs(60);

/// Answers by path.
#[derive(Default)]
struct TestHandler {
    events: EventBroadcast,
    /// Wakes the source of `/parts`.
    parts: Arc<Mutex<(Vec<&'static str>, Option<Waker>)>>,
}

/// Bytes that arrive from time to time; an empty part is the end.
struct Parts(Arc<Mutex<(Vec<&'static str>, Option<Waker>)>>);

impl BodySource for Parts {
    fn pull(&mut self, _: usize, out: &mut Vec<u8>, waker: &Waker) -> io::Result<Pulled> {
        let mut parts = self.0.lock();
        if parts.0.is_empty() {
            parts.1 = Some(waker.clone());
            return Ok(Pulled::Pending);
        }
        let part = parts.0.remove(0);
        out.extend_from_slice(part.as_bytes());
        Ok(if part.is_empty() { Pulled::End } else { Pulled::Data })
    }
}

/// Sends nothing and needs much memory.
struct Held;

impl BodySource for Held {
    fn pull(&mut self, _: usize, _: &mut Vec<u8>, _: &Waker) -> io::Result<Pulled> {
        Ok(Pulled::Pending)
    }

    fn may_block(&self) -> bool {
        false
    }

    fn held_bytes(&self) -> usize {
        600
    }
}

impl Handler for TestHandler {
    fn body_limit(&self, head: &RequestHead) -> Result<usize, Response> {
        if head.path() == "/secret" { Err(Response::text(401, "who are you?\n")) } else { Ok(1000) }
    }

    fn handle_inline(&self, request: &Request) -> Option<Response> {
        assert_ne!(request.head.path(), "/panic-inline");
        (request.head.path() == "/inline").then(|| Response::text(200, "at once"))
    }

    fn handle(&self, request: Request) -> Response {
        let head = &request.head;
        match head.path() {
            "/echo" => Response::with_body(200, "application/octet-stream", request.body),
            "/client" => Response::text(200, head.client().to_string()),
            "/large" => Response::text(200, vec![b'x'; 3_000_000]),
            "/shared" => Response::text(200, Arc::<[u8]>::from(b"shared".as_slice())),
            "/file" => Response::file(head, file(), "text/plain").unwrap(),
            "/parts" => {
                let body = ResponseBody::Source { source: Box::new(Parts(Arc::clone(&self.parts))), length: None };
                Response::with_body(200, "text/plain", body)
            }
            "/short" => {
                let source = Box::new(Parts(Arc::clone(&self.parts)));
                Response::with_body(200, "text/plain", ResponseBody::Source { source, length: Some(10) })
            }
            "/held" => {
                let body = ResponseBody::Source { source: Box::new(Held), length: None };
                Response::with_body(200, "text/plain", body)
            }
            "/events" => Response::events(self.events.subscribe()),
            "/nothing" => Response::new(204),
            "/panic" => panic!("a test of panics"),
            _ => Response::text(404, "not here\n"),
        }
    }
}

/// A file with 1,000,000 bytes: numbers of seven digits.
fn file() -> std::fs::File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content().as_bytes()).unwrap();
    file
}

fn content() -> String {
    let lines: Vec<String> = (0..125_000).map(|n| format!("{n:07}\n")).collect();
    lines.concat()
}

struct TestServer {
    server: Server,
    handler: Arc<TestHandler>,
    /// The errors of the next attempts to accept a connection.
    failures: Arc<Mutex<Vec<Errno>>>,
}

impl TestServer {
    fn with(limits: ServerLimits) -> TestServer {
        let handler = Arc::new(TestHandler::default());
        let listener = HttpListener::tcp((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let failures = Arc::clone(&listener.failures);
        let server = Server::start("http", vec![listener], limits, Arc::clone(&handler) as Arc<dyn Handler>).unwrap();
        TestServer { server, handler, failures }
    }

    fn new() -> TestServer {
        TestServer::with(ServerLimits::default())
    }

    fn client(&self) -> Client<TcpStream> {
        let ListenAddress::Tcp(addr) = self.server.addresses()[0] else { unreachable!() };
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(PATIENT)).unwrap();
        Client(BufReader::new(stream))
    }
}

/// The status, the head in lower case, and the body.
type Answer = (u16, String, String);

struct Client<S>(BufReader<S>);

impl<S: Read + Write> Client<S> {
    fn send(&mut self, request: &str) -> &mut Client<S> {
        self.0.get_mut().write_all(request.as_bytes()).unwrap();
        self
    }

    fn head(&mut self) -> (u16, String) {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(self.0.read_line(&mut head).unwrap() > 0, "the connection ends after {head:?}");
        }
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, head.to_ascii_lowercase())
    }

    fn bytes(&mut self, count: usize) -> String {
        let mut body = vec![0; count];
        self.0.read_exact(&mut body).unwrap();
        String::from_utf8(body).unwrap()
    }

    /// One chunk; empty at the end.
    fn chunk(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        let chunk = self.bytes(usize::from_str_radix(line.trim(), 16).unwrap());
        assert_eq!(self.bytes(2), "\r\n");
        chunk
    }

    fn answer(&mut self) -> Answer {
        let (status, head) = self.head();
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split('\r').next()?.parse().ok());
        let body = match length {
            Some(length) => self.bytes(length),
            None => std::iter::from_fn(|| Some(self.chunk()).filter(|chunk| !chunk.is_empty())).collect(),
        };
        (status, head, body)
    }

    fn get(&mut self, target: &str) -> Answer {
        self.send(&format!("GET {target} HTTP/1.1\r\n\r\n")).answer()
    }

    /// Whether the server has closed the connection.
    fn is_closed(&mut self) -> bool {
        self.0.read(&mut [0]).map_or_else(|error| error.kind() == io::ErrorKind::ConnectionReset, |read| read == 0)
    }
}

#[test]
fn a_connection_serves_many_requests() {
    let server = TestServer::new();
    let mut client = server.client();
    for _ in 0..3 {
        assert_eq!((client.get("/inline").2.as_str(), client.get("/nowhere").0), ("at once", 404));
        let echo = "POST /echo HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody\r\n";
        assert_eq!(client.send(echo).answer().2, "body");
        let chunked =
            "PUT /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\nT: x\r\n\r\n";
        assert_eq!(client.send(chunked).answer().2, "abcde");
        assert_eq!(client.get("/shared").2, "shared");
        assert_eq!(client.get("/large").2.len(), 3_000_000);
        assert_eq!(client.send("GET /nothing HTTP/1.1\r\n\r\n").head().0, 204);
        let (status, head) = client.send("HEAD /large HTTP/1.1\r\n\r\n").head();
        assert!(status == 200 && head.contains("content-length: 3000000\r\n") && !head.contains("connection"));
        let (status, head) = client.send("HEAD /events HTTP/1.1\r\n\r\n").head();
        assert!(status == 200 && head.contains("text/event-stream"));
    }
    assert_eq!(server.handler.events.listeners(), 0);
    let last = client.send("GET /inline HTTP/1.1\r\nConnection: close\r\n\r\n").answer();
    assert!(last.1.contains("connection: close") && client.is_closed());
    let old = server.client().send("GET /inline HTTP/1.0\r\n\r\n").answer();
    assert!(old.1.contains("connection: close"));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = TestServer::new();
    let mut client = server.client();
    let mut requests = String::new();
    for n in 0..200 {
        let first = format!("POST /echo HTTP/1.1\r\nContent-Length: 3\r\n\r\n{n:03}");
        requests.extend([first.as_str(), "GET /inline HTTP/1.1\r\n\r\n"]);
    }
    client.send(&requests);
    for n in 0..200 {
        assert_eq!((client.answer().2, client.answer().2.as_str()), (format!("{n:03}"), "at once"));
    }
    // The end of the client's side does not end the requests before it.
    client.send("GET /inline HTTP/1.1\r\n\r\nGET /large HTTP/1.1\r\n\r\n");
    client.0.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!((client.answer().2.len(), client.answer().2.len(), client.is_closed()), (7, 3_000_000, true));
}

#[test]
fn a_body_is_refused_before_it_is_sent() {
    let server = TestServer::new();
    let mut client = server.client();
    client.send("POST /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    assert_eq!(client.head().0, 100);
    assert_eq!(client.send("ok").answer().2, "ok");
    assert_eq!(client.get("/secret").0, 401);
    client.send("POST /secret HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    assert_eq!((client.answer().0, client.is_closed()), (401, true));
    let mut client = server.client();
    client.send("POST /echo HTTP/1.1\r\nContent-Length: 1001\r\n\r\n");
    assert_eq!((client.answer().0, client.is_closed()), (413, true));
}

#[test]
fn files_are_sent_in_ranges() {
    let server = TestServer::new();
    let (mut client, content) = (server.client(), content());
    let (status, head, body) = client.get("/file");
    assert!(status == 200 && body == content && head.contains("accept-ranges: bytes"));
    let mut range = |range: &str| client.send(&format!("GET /file HTTP/1.1\r\nRange: bytes={range}\r\n\r\n")).answer();
    let (status, head, body) = range("800-100799");
    assert_eq!((status, &body), (206, &content[800..100_800].to_owned()));
    assert!(head.contains("content-range: bytes 800-100799/1000000\r\n"), "{head}");
    assert_eq!(range("-8").2, "0124999\n");
    let (status, head, _) = range("1000000-");
    assert!(status == 416 && head.contains("content-range: bytes */1000000\r\n"), "{head}");
    let (status, head) = client.send("HEAD /file HTTP/1.1\r\n\r\n").head();
    assert!(status == 200 && head.contains("content-length: 1000000\r\n"));
    assert_eq!(client.get("/inline").0, 200);
}

/// Adds parts, and wakes the source.
fn add(server: &TestServer, new: &[&'static str]) {
    let mut parts = server.handler.parts.lock();
    parts.0.extend_from_slice(new);
    if let Some(waker) = parts.1.take() {
        waker.wake();
    }
}

#[test]
fn a_source_sends_when_it_is_woken() {
    let server = TestServer::new();
    let mut client = server.client();
    assert!(client.send("GET /parts HTTP/1.1\r\n\r\n").head().1.contains("transfer-encoding: chunked"));
    for part in ["one", "two"] {
        add(&server, &[part]);
        assert_eq!(client.chunk(), part);
    }
    add(&server, &["three", ""]);
    assert_eq!((client.chunk().as_str(), client.chunk().as_str()), ("three", ""));
    assert_eq!(client.get("/inline").0, 200, "the connection goes on");
    add(&server, &["0123456789", "more"]);
    assert_eq!(client.get("/short").2, "0123456789");
    add(&server, &[""]);
    client.send("GET /short HTTP/1.1\r\n\r\n").head();
    assert_eq!((client.bytes(4).as_str(), client.is_closed()), ("more", true), "the body is not complete");
    let mut old = server.client();
    assert!(!old.send("GET /parts HTTP/1.0\r\n\r\n").head().1.contains("transfer-encoding"));
    add(&server, &["the", " end", ""]);
    assert_eq!((old.bytes(7).as_str(), old.is_closed()), ("the end", true));
}

#[test]
fn events_reach_their_listener_and_silence_has_a_heartbeat() {
    let heartbeat = Duration::from_millis(10);
    let server = TestServer::with(ServerLimits { heartbeat, max_streams: 1, ..ServerLimits::default() });
    let mut client = server.client();
    assert_eq!(client.send("GET /events HTTP/1.1\r\n\r\n").head().0, 200);
    assert_eq!(client.chunk(), ":\n\n");
    server.handler.events.publish("x", "1");
    while client.chunk() != "event: x\ndata: 1\n\n" {}
    let mut newer = server.client();
    assert_eq!(newer.send("GET /events HTTP/1.1\r\n\r\n").head().0, 200);
    while server.handler.events.listeners() > 1 {
        // There is room for one stream, and the older one goes.
        thread::yield_now();
    }
    let mut client = newer;
    server.handler.events.end();
    while !client.chunk().is_empty() {}
    assert_eq!(client.get("/inline").0, 200);
}

#[test]
fn what_sources_keep_in_memory_counts_as_unsent() {
    let server = TestServer::with(ServerLimits { max_unsent_bytes: 1000, ..ServerLimits::default() });
    let (mut older, mut newer) = (server.client(), server.client());
    assert_eq!(older.send("GET /held HTTP/1.1\r\n\r\n").head().0, 200);
    assert_eq!(newer.send("GET /held HTTP/1.1\r\n\r\n").head().0, 200);
    assert!(older.is_closed());
}

#[test]
fn a_panic_costs_one_connection() {
    let server = TestServer::new();
    for target in ["/panic", "/panic-inline"] {
        let mut client = server.client();
        assert_eq!((client.get(target).0, client.is_closed()), (500, true));
    }
    assert_eq!(server.client().get("/echo").0, 200);
}

#[test]
fn several_listeners_of_all_kinds_serve_together() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let adopted = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = adopted.local_addr().unwrap();
    let listeners = vec![HttpListener::from_tcp(adopted).unwrap(), HttpListener::unix(&path, PRIVATE_MODE).unwrap()];
    let handler = Arc::new(TestHandler::default());
    let server = Server::start("http", listeners, ServerLimits::default(), handler).unwrap();
    assert_eq!(server.addresses(), [ListenAddress::Tcp(addr), ListenAddress::Unix(path.clone())]);
    let mut client = Client(BufReader::new(UnixStream::connect(&path).unwrap()));
    client.0.get_ref().set_read_timeout(Some(PATIENT)).unwrap();
    assert_eq!((client.get("/client").2.as_str(), client.get("/large").2.len()), ("a Unix socket", 3_000_000));
    let stream = TcpStream::connect(addr).unwrap();
    let own = stream.local_addr().unwrap().to_string();
    assert_eq!(Client(BufReader::new(stream)).get("/client").2, own);
    server.stop();
    assert!(!path.exists() && client.is_closed());
}

#[test]
fn a_stop_sends_the_responses_that_are_being_made() {
    /// Tells that it has a request, and answers when it may.
    struct Slow(Mutex<(mpsc::Sender<()>, mpsc::Receiver<()>)>);
    impl Handler for Slow {
        fn handle(&self, _: Request) -> Response {
            let (begun, may_answer) = &*self.0.lock();
            begun.send(()).unwrap();
            may_answer.recv().unwrap();
            Response::text(200, "late")
        }
    }
    let ((begun_sender, begun), (answer, may_answer)) = (mpsc::channel(), mpsc::channel());
    let handler = Arc::new(Slow(Mutex::new((begun_sender, may_answer))));
    let listener = HttpListener::tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let limits = ServerLimits { stop_grace: PATIENT, ..ServerLimits::default() };
    let server = Server::start("http", vec![listener], limits, handler).unwrap();
    let ListenAddress::Tcp(addr) = server.addresses()[0] else { unreachable!() };
    let connect = || Client(BufReader::new(TcpStream::connect(addr).unwrap()));
    let (mut idle, mut client) = (connect(), connect());
    client.send("GET / HTTP/1.1\r\n\r\n");
    begun.recv().unwrap();
    let stopping = thread::spawn(move || server.stop());
    assert!(idle.is_closed());
    answer.send(()).unwrap();
    assert_eq!(client.answer().2, "late");
    stopping.join().unwrap();
}
