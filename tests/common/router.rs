//! A router that logs what it is asked and answers as its test says, also with lies. It is at 10.89.0.2 of a [`RemoteMachine`], which
//! becomes the default gateway.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::netns::RemoteMachine;

/// The router's address.
pub const ROUTER: &str = "10.89.0.2";
/// Another address of the same machine.
pub const OTHER: &str = "10.89.0.3";

/// What a socket of the router received.
pub type Log = Arc<Mutex<Vec<Vec<u8>>>>;

/// The far machine as the default gateway.
pub fn gateway() -> RemoteMachine {
    let far = RemoteMachine::new();
    let route = Command::new("ip").args(["route", "add", "default", "via", ROUTER]).status();
    assert!(route.expect("ip").success(), "no default route");
    far
}

/// Answers each datagram to a port with those that `answer` returns. The threads of this module end with the test's process.
pub fn datagrams(
    far: &RemoteMachine,
    port: u16,
    mut answer: impl FnMut(&[u8]) -> Vec<Vec<u8>> + Send + 'static,
) -> (Log, UdpSocket) {
    let socket = far.run_inside(|| UdpSocket::bind((ROUTER, port)).expect("a UDP port"));
    let (log, other) = (Log::default(), socket.try_clone().expect("a second handle"));
    let seen = log.clone();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            seen.lock().expect("no panic").push(buffer[..length].to_vec());
            for datagram in answer(&buffer[..length]) {
                let _ = socket.send_to(&datagram, from);
            }
        }
    });
    (log, other)
}

/// Answers each HTTP request at an address of the far machine with the bytes that `answer` returns, and closes the connection.
pub fn http(
    far: &RemoteMachine,
    ip: &'static str,
    mut answer: impl FnMut(&str) -> Vec<u8> + Send + 'static,
) -> (SocketAddr, Log) {
    let listener = far.run_inside(|| TcpListener::bind((ip, 0)).expect("a TCP port"));
    let (at, log) = (listener.local_addr().expect("an address"), Log::default());
    let seen = log.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time limit");
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            while !is_whole(&request) {
                match stream.read(&mut buffer) {
                    Ok(count @ 1..) => request.extend(&buffer[..count]),
                    _ => break,
                }
            }
            seen.lock().expect("no panic").push(request.clone());
            let _ = stream.write_all(&answer(&String::from_utf8_lossy(&request)));
        }
    });
    (at, log)
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    body.len() >= length.map_or(0, |length| length.parse().expect("a number"))
}

/// An HTTP answer.
pub fn answer(status: u16, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// The error of a UPnP service.
pub fn upnp_error(code: u16) -> Vec<u8> {
    answer(
        500,
        &format!("<s:Envelope><errorCode>{code}</errorCode><errorDescription>no</errorDescription></s:Envelope>"),
    )
}

/// The answer to a search: the description is at this URL.
pub fn found_at(url: &str) -> Vec<Vec<u8>> {
    vec![format!("HTTP/1.1 200 OK\r\nST: upnp:rootdevice\r\nLOCATION: {url}\r\n\r\n").into_bytes()]
}

/// The description of a router that maps ports.
pub fn description(version: u8) -> Vec<u8> {
    let kind = format!("urn:schemas-upnp-org:service:WANIPConnection:{version}");
    answer(
        200,
        &format!("<root><service><serviceType>{kind}</serviceType><controlURL>/control</controlURL></service></root>"),
    )
}

/// NAT-PMP's answer to a request, with a port of the router's own.
pub fn natpmp_answer(request: &[u8], epoch: u32, external: u16) -> Vec<Vec<u8>> {
    let mut out = vec![0, 0x80 | request[1], 0, 0];
    out.extend(epoch.to_be_bytes());
    match request {
        [2, ..] => out = [&[0, 0x81, 0, 1], &epoch.to_be_bytes()[..]].concat(),
        [0, 0] => out.extend([9, 8, 7, 6]),
        [0, 1 | 2, ..] => {
            out.extend(&request[4..6]);
            out.extend(external.to_be_bytes());
            out.extend(&request[8..12]);
        }
        _ => return Vec::new(),
    }
    vec![out]
}

/// Sends a datagram to all hosts of the network, as a router does that has restarted.
pub fn announce(far: &RemoteMachine, datagram: &[u8]) {
    far.run_inside(|| {
        let socket = UdpSocket::bind((ROUTER, 0)).expect("a UDP port");
        let own: Ipv4Addr = ROUTER.parse().expect("an address");
        socket2::SockRef::from(&socket).set_multicast_if_v4(&own).expect("multicast");
        socket.send_to(datagram, "224.0.0.1:5350").expect("it is sent");
    });
}
