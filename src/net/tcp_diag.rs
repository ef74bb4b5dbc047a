//! How many bytes the other end of a TCP connection has acknowledged, how many it has not, and the round-trip time, as the kernel
//! reports them (`sock_diag(7)`).
//!
//! The socket option `TCP_INFO` provides the same values (`tcpi_bytes_acked` and others), but needs unsafe code. A write returns
//! when the kernel has queued the bytes, and its buffers grow; only the acknowledged bytes show how fast a connection is.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::netdevice::name_to_index;
use rustix::net::netlink::SOCK_DIAG;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};
use socket2::SockRef;

use crate::net::link_figures::LinkFigures;

/// `SOCK_DIAG_BY_FAMILY`, the type of the request and of the response.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST`
const REQUEST: u16 = 1;
/// `IPPROTO_TCP`, `AF_INET`, `AF_INET6`
const TCP: u8 = 6;
const INET: u8 = 2;
const INET6: u8 = 10;
/// `INET_DIAG_NOCOOKIE`
const NO_COOKIE: [u8; 8] = [0xff; 8];
/// `INET_DIAG_INFO`, the attribute that contains a struct `tcp_info`, and the bit that requests it.
const INFO: u16 = 2;
const WANTS_INFO: u8 = 1 << (INFO - 1);
/// The offset of the attributes: after the 16-byte header and a struct `inet_diag_msg`.
const ATTRIBUTES: usize = 16 + 72;
/// The offset of `idiag_wqueue`, the bytes written and not acknowledged.
const QUEUED: usize = 16 + 60;
/// The offsets of `tcpi_rtt`, `tcpi_bytes_acked`, `tcpi_min_rtt`, `tcpi_busy_time` and `tcpi_rwnd_limited` in a struct `tcp_info`;
/// times in microseconds.
const RTT: usize = 68;
const BYTES_ACKED: usize = 120;
const MIN_RTT: usize = 148;
const BUSY: usize = 168;
const WINDOW_FULL: usize = 176;
/// Larger than any response.
const BUFFER_SIZE: usize = 1024;

/// A netlink socket that queries the kernel about this process's TCP connections.
#[derive(Debug)]
pub struct TcpDiag(OwnedFd);

impl TcpDiag {
    /// Opens the socket.
    ///
    /// # Errors
    /// If the system does not support it.
    pub fn open() -> io::Result<TcpDiag> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        Ok(TcpDiag(socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(SOCK_DIAG))?))
    }

    /// What the kernel knows about `stream`; `None` if it does not report that.
    pub fn figures(&self, stream: &TcpStream) -> Option<LinkFigures> {
        let message = request(stream.local_addr().ok()?, stream.peer_addr().ok()?, bound_to(stream));
        let mut buffer = [0; BUFFER_SIZE];
        // Discard the response to an earlier request that failed.
        while recv(&self.0, buffer.as_mut_slice(), RecvFlags::empty()).is_ok() {}
        send(&self.0, &message, SendFlags::empty()).ok()?;
        // The kernel has responded by the time `send` returns.
        let (_, count) = recv(&self.0, buffer.as_mut_slice(), RecvFlags::empty()).ok()?;
        parse_response(buffer.get(..count)?)
    }
}

/// The index of the interface that a socket is bound to; 0 if it is bound to none.
fn bound_to(stream: &TcpStream) -> u32 {
    let name = SockRef::from(stream).device().ok().flatten();
    let name = name.and_then(|name| String::from_utf8(name).ok());
    name.and_then(|name| name_to_index(stream, name.trim_end_matches('\0')).ok()).unwrap_or_default()
}

/// A request for the socket of one connection, bound to that interface (struct `inet_diag_req_v2`).
fn request(local: SocketAddr, remote: SocketAddr, interface: u32) -> Vec<u8> {
    // The kernel finds an IPv4 connection of a dual-stack socket as IPv4.
    let (ours, theirs) = (local.ip().to_canonical(), remote.ip().to_canonical());
    let family = if ours.is_ipv4() { INET } else { INET6 };
    let mut body = vec![family, TCP, WANTS_INFO, 0];
    body.extend(u32::MAX.to_ne_bytes()); // in any state
    body.extend(local.port().to_be_bytes());
    body.extend(remote.port().to_be_bytes());
    for ip in [ours, theirs] {
        match ip {
            IpAddr::V4(ip) => body.extend([&ip.octets()[..], &[0; 12]].concat()),
            IpAddr::V6(ip) => body.extend(ip.octets()),
        }
    }
    let scope = if let SocketAddr::V6(addr) = local { addr.scope_id() } else { 0 };
    body.extend(interface.max(scope).to_ne_bytes());
    body.extend(NO_COOKIE);
    let mut message = (16 + body.len() as u32).to_ne_bytes().to_vec();
    message.extend(BY_FAMILY.to_ne_bytes());
    message.extend(REQUEST.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// Parses a response.
fn parse_response(message: &[u8]) -> Option<LinkFigures> {
    if u16::from_ne_bytes(*message.get(4..)?.first_chunk()?) != BY_FAMILY {
        return None;
    }
    let number = |bytes: &[u8], at: usize| Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
    let mut rest = message.get(ATTRIBUTES..)?;
    loop {
        let length = usize::from(u16::from_ne_bytes(*rest.first_chunk()?));
        let kind = u16::from_ne_bytes(*rest.get(2..)?.first_chunk()?);
        let body = rest.get(4..length)?;
        if kind == INFO {
            let long = |at: usize| Some(u64::from_ne_bytes(*body.get(at..)?.first_chunk()?));
            return Some(LinkFigures {
                acknowledged: long(BYTES_ACKED)?,
                queued: u64::from(number(message, QUEUED)?),
                rtt: Duration::from_micros(u64::from(number(body, RTT)?)),
                min_rtt: Duration::from_micros(u64::from(number(body, MIN_RTT)?)),
                busy: Duration::from_micros(long(BUSY).unwrap_or_default()),
                window_full: Duration::from_micros(long(WINDOW_FULL).unwrap_or_default()),
            });
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{Ipv6Addr, TcpListener};

    /// Writes until the kernel accepts no more, reads everything at the other end, and queries before, in between and afterwards.
    fn fills_and_empties(listen: SocketAddr, dial: IpAddr) {
        let kernel = TcpDiag::open().unwrap();
        let acknowledged = |stream: &TcpStream| kernel.figures(stream).map(|figures| figures.acknowledged);
        let listener = TcpListener::bind(listen).unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut theirs = TcpStream::connect(SocketAddr::new(dial, port)).unwrap();
        let mut ours = listener.accept().unwrap().0;
        assert_eq!(acknowledged(&ours), Some(0));
        ours.set_nonblocking(true).unwrap();
        let mut written = 0;
        while let Ok(count) = ours.write(&[7; 8192]) {
            written += count as u64;
        }
        let figures = kernel.figures(&ours).unwrap();
        let arrived = figures.acknowledged;
        assert!((1..written).contains(&arrived), "{arrived} of {written}");
        assert!((1..=written).contains(&figures.queued), "{figures:?}");
        assert!(figures.min_rtt <= figures.rtt && figures.rtt > Duration::ZERO, "{figures:?}");
        assert!(figures.window_full <= figures.busy, "{figures:?}");
        while kernel.figures(&ours).unwrap().window_full == figures.window_full {
            std::thread::yield_now(); // the peer reads nothing, so its window stays full
        }
        let mut buffer = vec![0; 65536];
        let mut left = written;
        while left > 0 {
            left -= theirs.read(&mut buffer).unwrap() as u64;
        }
        while acknowledged(&ours) != Some(written) {
            std::thread::yield_now(); // the last acknowledgement may be in transit
        }
    }

    #[test]
    fn the_kernel_reports_the_acknowledged_bytes() {
        let any = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 0);
        fills_and_empties(any("127.0.0.1"), [127, 0, 0, 1].into());
        fills_and_empties(any("::1"), Ipv6Addr::LOCALHOST.into());
        fills_and_empties(any("::"), [127, 0, 0, 1].into());
    }

    #[test]
    fn a_bound_socket_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        SockRef::from(&listener).bind_device(Some(b"lo")).unwrap();
        let _theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let ours = listener.accept().unwrap().0;
        assert_eq!(TcpDiag::open().unwrap().figures(&ours).map(|figures| figures.acknowledged), Some(0));
    }

    #[test]
    fn malformed_answers_yield_nothing() {
        let mut message = vec![0; ATTRIBUTES];
        message[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
        let info = [&[1; BYTES_ACKED][..], &77_u64.to_ne_bytes(), &[2; MIN_RTT + 4 - BYTES_ACKED - 8]].concat();
        for (kind, body) in [(7_u16, vec![1; 5]), (INFO, info)] {
            message.extend((4 + body.len() as u16).to_ne_bytes());
            message.extend(kind.to_ne_bytes());
            message.extend(&body);
            message.resize(message.len().next_multiple_of(4), 0);
        }
        let figures = parse_response(&message).unwrap();
        assert_eq!((figures.acknowledged, figures.queued), (77, 0));
        assert_eq!((figures.rtt.as_micros(), figures.min_rtt.as_micros()), (0x0101_0101, 0x0202_0202));
        assert!((0..message.len()).all(|length| parse_response(&message[..length]).is_none()));
        message[4] = 2;
        assert_eq!(parse_response(&message), None, "an error");
        message[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
        message[ATTRIBUTES..ATTRIBUTES + 2].fill(0);
        assert_eq!(parse_response(&message), None, "an attribute without a length");
    }
}
