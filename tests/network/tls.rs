//! Which certificates btsync trusts: those bundled with it, and also the system's or those in `SSL_CERT_FILE`.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::{ServerConnection, Stream};

use crate::common::payload::Payload;
use crate::common::process::Running;
use crate::common::seeder::{FakePeer, Gate};
use crate::common::tls::{certificate, server_config};
use crate::common::{TestDir, btsync, free_port};

/// An HTTPS tracker whose certificate is signed by the tests' own CA.
struct HttpsTracker {
    addr: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl HttpsTracker {
    /// Returns these peers to every client, for as long as the test process lives.
    fn start(peers: &[SocketAddr]) -> HttpsTracker {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port");
        let addr = listener.local_addr().expect("an address");
        let config = server_config();
        let asked = Arc::new(AtomicUsize::new(0));
        let (count, answer) = (asked.clone(), answer(peers));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut session = ServerConnection::new(config.clone()).expect("a session");
                // A client that does not trust the certificate disconnects, as it should.
                if serve(&mut session, stream, &answer).is_ok() {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        HttpsTracker { addr, asked }
    }

    /// The announce URL, with a host name from its certificate.
    fn url(&self, host: &str) -> String {
        format!("https://{host}:{}/announce", self.addr.port())
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

fn answer(peers: &[SocketAddr]) -> Vec<u8> {
    let mut body = format!("d8:intervali600e5:peers{}:", peers.len() * 6).into_bytes();
    for peer in peers {
        let SocketAddr::V4(peer) = peer else { panic!("{peer} does not fit into six bytes") };
        body.extend(peer.ip().octets());
        body.extend(peer.port().to_be_bytes());
    }
    body.push(b'e');
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    [head.into_bytes(), body].concat()
}

fn serve(session: &mut ServerConnection, mut socket: TcpStream, answer: &[u8]) -> std::io::Result<()> {
    let mut stream = Stream::new(session, &mut socket);
    let (mut request, mut part) = (Vec::new(), [0; 1024]);
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut part)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => request.extend_from_slice(&part[..read]),
        }
    }
    stream.write_all(answer)?;
    stream.conn.send_close_notify();
    stream.flush()
}

/// A download whose only peer is known from the tracker.
struct HttpsTest {
    temp: TestDir,
    payload: Payload,
    tracker: HttpsTracker,
    _peer: FakePeer,
}

impl HttpsTest {
    fn new() -> HttpsTest {
        let (temp, payload) = (TestDir::new(), Payload::single("payload.bin", 300_001, 32 * 1024));
        let peer = FakePeer::honest(&payload, &Gate::new(usize::MAX));
        let tracker = HttpsTracker::start(&[peer.addr]);
        HttpsTest { temp, payload, tracker, _peer: peer }
    }

    fn download(&self, name: &str, announce: &str, env: &[(&str, &Path)], more: &[&str]) -> Running {
        let mut command = btsync();
        command.env_remove("SSL_CERT_FILE").env_remove("SSL_CERT_DIR").envs(env.iter().copied());
        command.arg(self.temp.torrent(&self.payload, announce)).arg(self.temp.folder(name));
        command.args(["--no-dht", "--no-lsd", "--listen-port", &free_port().to_string()]).args(more);
        self.temp.start(name, command.env("XDG_CACHE_HOME", self.temp.path("cache")))
    }
}

#[test]
fn a_tracker_of_the_users_own_authority_is_trusted() {
    let test = HttpsTest::new();
    for (n, host) in ["127.0.0.1", "localhost"].into_iter().enumerate() {
        let env = [("SSL_CERT_FILE", &*certificate("ca.pem"))];
        let name = format!("out{n}");
        test.download(&name, &test.tracker.url(host), &env, &[]).expect_exit(0);
        test.payload.assert_at(&test.temp.path(&name));
    }
    let folder = test.temp.folder("certificates");
    std::fs::copy(certificate("ca.pem"), folder.join("0a1b2c3d.0")).expect("a copy");
    test.download("by-folder", &test.tracker.url("127.0.0.1"), &[("SSL_CERT_DIR", &folder)], &[]).expect_exit(0);
}

#[test]
fn a_tracker_of_an_unknown_authority_is_not() {
    let test = HttpsTest::new();
    // The second case names a file without certificates. The third trusts our CA, but the certificate does not name its host.
    for (name, host, env) in [
        ("without", "127.0.0.1", &[][..]),
        ("other", "127.0.0.1", &[("SSL_CERT_FILE", &*certificate("server-key.pem"))][..]),
        ("elsewhere", "127.0.0.2", &[("SSL_CERT_FILE", &*certificate("ca.pem"))][..]),
    ] {
        let mut running = test.download(name, &test.tracker.url(host), env, &[]);
        running.wait_for_output("certificate");
        running.terminate(7);
    }
    assert_eq!(test.tracker.asked(), 0, "somebody was told who downloads what");
}

#[test]
fn certificates_are_read_for_https_alone() {
    let test = HttpsTest::new();
    let missing = test.temp.path("missing.pem");
    let run = |name: &str, announce: &str| test.download(name, announce, &[("SSL_CERT_FILE", &missing)], &[]);
    // A file that the user named is missing.
    let mut running = run("https", &test.tracker.url("127.0.0.1"));
    running.wait_for_output("missing.pem");
    running.terminate(7);
    // On the same port, so that a connection is made.
    let mut running = run("http", &test.tracker.url("127.0.0.1").replace("https:", "http:"));
    running.wait_for_output("next try");
    running.terminate(7);
    assert!(!running.log().contains("missing.pem"), "it was looked for without need: {}", running.log());
}
