//! Misbehaving clients; the whole-program tests cover the rest. Timeouts are so long that a server that waits for such a client
//! makes the test fail.

mod udp;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::AsRawFd;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use super::*;

const NO_TIMEOUT: Duration = Duration::from_secs(3600);

fn server(timeout: Duration) -> TrackerServer {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    TrackerServer::start_with_timeout(listen, TrackerServerConfig::default(), timeout).unwrap()
}

/// A test fails if the server neither answers nor closes the connection within this time.
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);

/// Everything the server sends until it closes the connection, cleanly or not.
fn rest(mut stream: &TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(ANSWERED_WITHIN)).unwrap();
    let mut all = Vec::new();
    let end = stream.read_to_end(&mut all).map_err(|error| error.kind());
    let waits = matches!(end, Err(io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut));
    assert!(!waits, "the connection stays open after {} bytes", all.len());
    all
}

/// A connection from the loopback address 127.0.0.`host`.
fn from(host: u8, server: &TrackerServer) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, host], 0)).into()).unwrap();
    socket.connect(&server.addr().into()).unwrap();
    socket.into()
}

fn ask(mut stream: &TcpStream) -> Vec<u8> {
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    rest(stream)
}

#[test]
fn stopping_does_not_wait_for_clients() {
    let server = server(NO_TIMEOUT);
    let idle: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(server.addr()).unwrap()).collect();
    server.stop();
    assert!(idle.iter().all(|stream| rest(stream).is_empty()));
}

#[test]
fn silent_clients_keep_nobody_waiting() {
    let server = server(NO_TIMEOUT);
    let slow = from(2, &server);
    // The server accepts in order, so once a later client has an answer, this one is in the table.
    assert!(ask(&from(3, &server)).starts_with(b"HTTP/1.1 200"));
    let silent: Vec<TcpStream> = (0..MAX_CONNECTIONS + 100).map(|_| from(1, &server)).collect();
    assert!(ask(&from(1, &server)).starts_with(b"HTTP/1.1 200"), "not even their own network");
    assert!(ask(&slow).starts_with(b"HTTP/1.1 200"), "a slow client from another network stays");
    assert!(silent.first().is_some_and(|oldest| rest(oldest).is_empty()), "the oldest of them was disconnected");
}

#[test]
fn a_silent_client_is_disconnected() {
    let server = server(Duration::from_millis(100));
    let mut stream = TcpStream::connect(server.addr()).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    assert!(rest(&stream).starts_with(b"HTTP/1.1 408"), "half a request");
    assert!(rest(&TcpStream::connect(server.addr()).unwrap()).is_empty(), "and no request");
}

#[test]
fn a_client_with_a_long_request_is_disconnected() {
    let server = server(NO_TIMEOUT);
    let ask = |filler: usize| {
        let mut stream = TcpStream::connect(server.addr()).unwrap();
        let request = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(filler));
        // Fails if the server closes the connection early.
        let _ = stream.write_all(request.as_bytes());
        rest(&stream)
    };
    assert!(ask(MAX_REQUEST / 2).starts_with(b"HTTP/1.1 200"));
    assert!(ask(MAX_REQUEST * 3).starts_with(b"HTTP/1.1 431"));
}

/// Asks for more peers than the server ever returns.
#[test]
fn an_answer_is_bounded_however_many_peers_are_asked_for() {
    let config = TrackerServerConfig { max_peers_per_network_and_torrent: 1000, ..TrackerServerConfig::default() };
    let server = TrackerServer::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), config).unwrap();
    let ask = |port: u16| {
        let mut stream = TcpStream::connect(server.addr()).unwrap();
        let who = format!("info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=bbbbbbbbbbbbbbb{port:05}");
        write!(stream, "GET /announce?{who}&left=1&numwant=100000&port={port} HTTP/1.1\r\n\r\n").unwrap();
        rest(&stream)
    };
    (1..300).for_each(|port| drop(ask(port)));
    let last = ask(300);
    let expected = b"5:peers1200:";
    assert!(last.windows(expected.len()).any(|part| part == expected), "{}", String::from_utf8_lossy(&last));
}

/// Without a file descriptor for a new client, the server closes the oldest idle connection. Runs in its own process because it
/// lowers the descriptor limit.
#[test]
fn silent_clients_give_up_their_descriptors() {
    const NAME: &str = "tracker_server::tests::silent_clients_give_up_their_descriptors";
    const ALONE: &str = "BTSYNC_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        let output = command.args(["--exact", NAME]).env(ALONE, "1").output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let server = server(NO_TIMEOUT);
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    let silent: Vec<TcpStream> = (0..20).map(|_| from(1, &server)).collect();
    assert!(ask(&from(2, &server)).starts_with(b"HTTP/1.1 200"), "all of them are connected");
    // The server closes its end of an answered connection a moment after the client has seen the end.
    let deadline = Instant::now() + ANSWERED_WITHIN;
    while descriptors() != before + 2 * silent.len() {
        assert!(Instant::now() < deadline, "{} descriptors, {before} before", descriptors());
        thread::yield_now();
    }
    let fair = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    // All lower descriptors are in use, so none is left for the server's end of the connection.
    let next = std::fs::File::open("/dev/null").unwrap();
    let limit = getrlimit(Resource::Nofile);
    let few = u64::try_from(next.as_raw_fd()).unwrap();
    drop(next);
    setrlimit(Resource::Nofile, Rlimit { current: Some(few), ..limit }).unwrap();
    assert!(std::fs::File::open("/dev/null").is_err(), "a descriptor is left");
    fair.connect(&server.addr().into()).unwrap();
    assert!(ask(&fair.into()).starts_with(b"HTTP/1.1 200"));
    assert!(silent.first().is_some_and(|oldest| rest(oldest).is_empty()), "the oldest was disconnected");
}
