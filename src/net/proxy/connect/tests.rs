use std::net::TcpListener;
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use super::*;

fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// A proxy that accepts one connection.
fn proxy(serve: impl FnOnce(TcpStream) + Send + 'static) -> (ProxyUrl, TcpStream, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    let thread = spawn(move || serve(listener.accept().expect("a connection").0));
    let url = format!("socks5://{addr}").parse().expect("a proxy");
    (url, TcpStream::connect(addr).expect("a connection"), thread)
}

fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut read = vec![0; bytes.len()];
    stream.read_exact(&mut read).expect("bytes");
    assert_eq!(read, bytes);
}

#[test]
fn after_the_handshake_the_stream_leads_to_the_target() {
    let (url, mut stream, thread) = proxy(|mut stream| {
        expect(&mut stream, &[5, 1, 0]);
        // In parts, and the target's first bytes in the same packet as the end.
        stream.write_all(&[5]).expect("sent");
        stream.write_all(&[0]).expect("sent");
        expect(&mut stream, &[5, 1, 0, 3, 1, b't', 0, 80]);
        stream.write_all(b"\x05\0\0\x01\x7f\0\0\x01\x12\x34hello").expect("sent");
        expect(&mut stream, b"bye");
    });
    let request = ProxyRequest::Connect(ProxyTarget::Name("t".into(), 80));
    shake_hands(&stream, &url, &request, deadline()).expect("a connection");
    expect(&mut stream, b"hello");
    stream.write_all(b"bye").expect("sent");
    thread.join().expect("no panic");
}

#[test]
fn a_proxy_that_hangs_up_or_is_silent_is_an_error_of_the_proxy() {
    let request = ProxyRequest::Connect(ProxyTarget::Name("t".into(), 80));
    let (url, stream, thread) = proxy(|mut stream| expect(&mut stream, &[5, 1, 0]));
    let error = shake_hands(&stream, &url, &request, deadline()).expect_err("no answer");
    assert!(matches!(error, ProxyConnectError::Io(_)) && !error.concerns_only_target(), "{error}");
    thread.join().expect("no panic");

    let (over, is_over) = std::sync::mpsc::channel::<()>();
    let (url, stream, thread) = proxy(move |stream| {
        let _ = is_over.recv();
        drop(stream);
    });
    let soon = Instant::now() + Duration::from_millis(50);
    let error = shake_hands(&stream, &url, &request, soon).expect_err("no answer");
    assert!(matches!(&error, ProxyConnectError::Io(error) if error.kind() == io::ErrorKind::TimedOut), "{error}");
    drop(over);
    thread.join().expect("no panic");
}

#[test]
fn datagrams_go_through_the_relay_until_the_proxy_ends_the_association() {
    let relay = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let [high, low] = relay.local_addr().expect("an address").port().to_be_bytes();
    let (end, ends) = std::sync::mpsc::channel::<()>();
    let (url, stream, thread) = proxy(move |mut stream| {
        expect(&mut stream, &[5, 1, 0]);
        stream.write_all(&[5, 0]).expect("sent");
        expect(&mut stream, &[5, 3, 0, 1, 0, 0, 0, 0, 0, 0]);
        stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, high, low]).expect("sent");
        let _ = ends.recv();
    });
    let association = UdpAssociation::start(stream, &url, &Bind::Any, deadline()).expect("an association");
    assert!(association.is_open());
    let node = "192.0.2.1:6881".parse().expect("an address");
    association.send_to(&ProxyTarget::Addr(node), b"ping").expect("sent");
    let mut buffer = [0; 100];
    let (length, from) = relay.recv_from(&mut buffer).expect("a datagram");
    assert_eq!(buffer[..length], [&[0, 0, 0, 1, 192, 0, 2, 1, 0x1a, 0xe1][..], b"ping"].concat());
    // A stranger's datagram does not arrive.
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("a port");
    stranger.send_to(&buffer[..length], from).expect("sent");
    buffer[length - 4..length].copy_from_slice(b"pong");
    relay.send_to(&buffer[..length], from).expect("sent");
    let mut received = [0; 100];
    assert_eq!(association.receive(&mut received).expect("a datagram"), Some((node, &b"pong"[..])));
    drop(end);
    thread.join().expect("no panic");
    assert!(!association.is_open());
}

#[test]
fn a_relay_is_always_at_the_proxys_host() {
    let of = |relay: &str, proxy: &str| {
        relay_address(relay.parse().expect("an address"), proxy.parse().expect("an address"))
            .ok()
            .map(|it| it.to_string())
    };
    assert_eq!(of("0.0.0.0:5", "192.0.2.1"), Some("192.0.2.1:5".into()));
    assert_eq!(of("[::]:5", "2001:db8::1"), Some("[2001:db8::1]:5".into()));
    assert_eq!(of("[::ffff:192.0.2.1]:5", "192.0.2.1"), Some("192.0.2.1:5".into()));
    // A proxy that does not know that its address is translated.
    assert_eq!(of("127.0.0.1:5", "203.0.114.1"), Some("203.0.114.1:5".into()));
    assert_eq!(of("10.0.0.1:5", "203.0.114.1"), Some("203.0.114.1:5".into()));
    assert_eq!(of("127.0.0.1:5", "::1"), Some("[::1]:5".into()));
    // Another host, among them one beyond a tunnel that ends at a local port.
    assert_eq!(of("198.51.100.1:5", "203.0.114.1"), None);
    assert_eq!(of("198.51.100.1:5", "127.0.0.1"), None);
    assert_eq!(of("10.0.0.1:5", "10.0.0.2"), None);
    assert_eq!(of("10.0.0.1:5", "127.0.0.1"), None);
    assert_eq!(of("0.0.0.0:0", "192.0.2.1"), None);
}
