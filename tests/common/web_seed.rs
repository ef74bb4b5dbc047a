//! A web seed for tests: an HTTP/1.1 server with the files of a payload, whose responses a test may change.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::payload::Payload;

/// A request to a [`TestWebSeed`].
pub struct SeedRequest {
    /// The target, still encoded.
    pub target: String,
    /// The lines of the head after the first.
    pub headers: Vec<String>,
    /// The requested bytes of the file; the whole file without a range.
    pub bytes: Range<usize>,
    /// Whether the request has a range.
    pub is_ranged: bool,
    /// How many requests came before.
    pub number: usize,
}

/// A header of a response after which the server closes the connection.
pub const CLOSE: &str = "X-Test: close\r\n";
/// A header of a response after which the server neither sends nor closes anything.
pub const HANG: &str = "X-Test: hang\r\n";
/// A header of a response after which the server sends one further byte a second.
pub const TRICKLE: &str = "X-Test: trickle\r\n";

/// The bytes of a response, head and body; `None` closes the connection instead.
type Respond = dyn Fn(&SeedRequest, &[u8]) -> Option<Vec<u8>> + Send + Sync;

/// A server on loopback that runs until dropped.
pub struct TestWebSeed {
    addr: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    files: HashMap<String, Vec<u8>>,
    options: WebSeedOptions,
    respond: Box<Respond>,
    requests: AtomicUsize,
    connections: AtomicUsize,
    open_connections: AtomicUsize,
    sent: AtomicU64,
    stop: AtomicBool,
}

/// How a [`TestWebSeed`] is reached, and how fast it sends.
pub struct WebSeedOptions {
    /// The address that it listens at.
    pub ip: IpAddr,
    /// Its certificate, for https.
    pub tls: Option<Arc<ServerConfig>>,
    /// It sends so many bytes at a time,
    pub part: usize,
    /// and waits before each part.
    pub pause: Duration,
}

impl Default for WebSeedOptions {
    fn default() -> WebSeedOptions {
        WebSeedOptions { ip: Ipv4Addr::LOCALHOST.into(), tls: None, part: 1 << 16, pause: Duration::ZERO }
    }
}

impl TestWebSeed {
    /// A server that does what the request says.
    pub fn start(payload: &Payload) -> TestWebSeed {
        TestWebSeed::with_options(payload, WebSeedOptions::default())
    }

    /// A server that sends some 30 MB a second.
    pub fn slow(payload: &Payload) -> TestWebSeed {
        let pause = Duration::from_millis(2);
        TestWebSeed::with_options(payload, WebSeedOptions { pause, ..WebSeedOptions::default() })
    }

    /// A server that does what the request says, with these options.
    pub fn with_options(payload: &Payload, options: WebSeedOptions) -> TestWebSeed {
        TestWebSeed::with_all(payload, options, |request, file| Some(part(file, &request.bytes)))
    }

    /// A server with other responses.
    pub fn with(
        payload: &Payload,
        respond: impl Fn(&SeedRequest, &[u8]) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> TestWebSeed {
        TestWebSeed::with_all(payload, WebSeedOptions::default(), respond)
    }

    /// A server with options and other responses.
    pub fn with_all(
        payload: &Payload,
        options: WebSeedOptions,
        respond: impl Fn(&SeedRequest, &[u8]) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> TestWebSeed {
        let root = Path::new("/");
        let target = |path: &Path| path.to_str().expect("UTF-8").to_owned();
        let files = payload.paths_with_content(root).into_iter().map(|(path, bytes)| (target(&path), bytes.to_vec()));
        let listener = TcpListener::bind((options.ip, 0)).expect("a port");
        let addr = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            files: files.collect(),
            options,
            respond: Box::new(respond),
            requests: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            open_connections: AtomicUsize::new(0),
            sent: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let all = shared.clone();
        let acceptor = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if all.stop.load(Ordering::Relaxed) {
                    return;
                }
                all.connections.fetch_add(1, Ordering::Relaxed);
                all.open_connections.fetch_add(1, Ordering::Relaxed);
                let shared = all.clone();
                // Ends when the client disconnects.
                std::thread::spawn(move || {
                    match &shared.options.tls {
                        Some(config) => {
                            let session = ServerConnection::new(config.clone()).expect("a session");
                            shared.serve(StreamOwned::new(session, stream));
                        }
                        None => shared.serve(stream),
                    }
                    shared.open_connections.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        TestWebSeed { addr, shared, acceptor: Some(acceptor) }
    }

    /// The address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The URL of the folder with the payload.
    pub fn url(&self) -> String {
        let scheme = if self.shared.options.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/", self.addr)
    }

    /// How many requests came.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// How many connections are open.
    pub fn open_connections(&self) -> usize {
        self.shared.open_connections.load(Ordering::Relaxed)
    }

    /// How many bytes the client took, heads included.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn serve(&self, stream: impl Read + Write) {
        let mut stream = BufReader::new(stream);
        loop {
            let lines = stream.by_ref().lines().map_while(Result::ok);
            let mut head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            if head.is_empty() {
                return;
            }
            let first = head.remove(0);
            let target = first.split(' ').nth(1).unwrap_or_default().to_owned();
            let path = target.split('?').next().unwrap_or_default();
            let path = percent_decode_str(path).decode_utf8().expect("UTF-8").into_owned();
            let empty = Vec::new();
            let file = self.files.get(&path).unwrap_or(&empty);
            let range =
                head.iter().find_map(|line| line.to_ascii_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
            let bounds = range.as_ref().and_then(|range| range.split_once('-'));
            let bytes = bounds.map_or(0..file.len(), |(first, last)| {
                first.parse().expect("a number")..last.parse::<usize>().expect("a number") + 1
            });
            let number = self.requests.fetch_add(1, Ordering::Relaxed);
            let request = SeedRequest { target, headers: head, bytes, is_ranged: range.is_some(), number };
            let response = if self.files.contains_key(&path) || request.target.contains('?') {
                (self.respond)(&request, file)
            } else {
                Some(status("404 Not Found", ""))
            };
            let Some(response) = response else { return };
            for chunk in response.chunks(self.options.part) {
                if !self.options.pause.is_zero() {
                    std::thread::sleep(self.options.pause);
                }
                let writer = stream.get_mut();
                if writer.write_all(chunk).and_then(|()| writer.flush()).is_err() {
                    return;
                }
                self.sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            }
            let says = |text: &[u8]| response.windows(text.len()).take(2000).any(|part| part == text);
            while says(TRICKLE.as_bytes()) && !self.stop.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_secs(1));
                if stream.get_mut().write_all(&[0]).is_err() {
                    return;
                }
            }
            while says(HANG.as_bytes()) && !self.stop.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(20));
            }
            if says(b"Connection: close") || says(CLOSE.as_bytes()) || response.starts_with(b"HTTP/1.0") {
                return;
            }
        }
    }
}

impl Drop for TestWebSeed {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.addr)); // wakes the acceptor
        if let Some(acceptor) = self.acceptor.take() {
            drop(acceptor.join());
        }
    }
}

/// A correct 206.
pub fn part(file: &[u8], bytes: &Range<usize>) -> Vec<u8> {
    let (body, of) = (&file[bytes.clone()], file.len());
    let range = format!("bytes {}-{}/{of}", bytes.start, bytes.end - 1);
    response("206 Partial Content", &format!("Content-Range: {range}\r\n"), body)
}

/// A correct 200 with the whole file.
pub fn whole(file: &[u8]) -> Vec<u8> {
    response("200 OK", "", file)
}

/// A response without a body; `headers` end with a line break.
pub fn status(status: &str, headers: &str) -> Vec<u8> {
    response(status, headers, b"")
}

/// A response with these headers, which end with a line break, and the length of the body.
pub fn response(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}
