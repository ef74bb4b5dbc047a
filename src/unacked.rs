//! How many bytes that were written to a TCP connection the other end has not acknowledged yet, as the kernel tells (`sock_diag(7)`).
//!
//! The same as the ioctl `SIOCOUTQ`, which would take unsafe code. A write returns when the kernel has queued the bytes, and its buffers
//! grow; only what was acknowledged tells how fast a line is.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;

use rustix::net::netlink::SOCK_DIAG;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

/// `SOCK_DIAG_BY_FAMILY`, the type of the question and of the answer.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST`
const REQUEST: u16 = 1;
/// `IPPROTO_TCP`, `AF_INET`, `AF_INET6`
const TCP: u8 = 6;
const INET: u8 = 2;
const INET6: u8 = 10;
/// `INET_DIAG_NOCOOKIE`
const NO_COOKIE: [u8; 8] = [0xff; 8];
/// Where `idiag_wqueue` is: behind the head of 16 bytes, four bytes, a socket's id, and two other numbers.
const QUEUE: usize = 16 + 4 + 48 + 8;
/// More than an answer has.
const ROOM: usize = 1024;

/// A line to the kernel.
#[derive(Debug)]
pub struct Unacked(OwnedFd);

impl Unacked {
    /// Opens it.
    ///
    /// # Errors
    /// Where the system has nothing of the kind.
    pub fn open() -> io::Result<Unacked> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        Ok(Unacked(socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(SOCK_DIAG))?))
    }

    /// The bytes that were written to `stream` and are not acknowledged; `None` where the kernel does not tell.
    pub fn of(&self, stream: &TcpStream) -> Option<u64> {
        let message = question(stream.local_addr().ok()?, stream.peer_addr().ok()?);
        let mut room = [0; ROOM];
        // What is left of an earlier question that went wrong.
        while recv(&self.0, room.as_mut_slice(), RecvFlags::empty()).is_ok() {}
        send(&self.0, &message, SendFlags::empty()).ok()?;
        // The kernel has answered by the time `send` returns.
        let (_, count) = recv(&self.0, room.as_mut_slice(), RecvFlags::empty()).ok()?;
        answer(room.get(..count)?)
    }
}

/// Asks for the socket of one connection (struct `inet_diag_req_v2`).
fn question(local: SocketAddr, remote: SocketAddr) -> Vec<u8> {
    // A connection over IPv4 of a socket for both families is found as what it is.
    let (ours, theirs) = (local.ip().to_canonical(), remote.ip().to_canonical());
    let family = if ours.is_ipv4() { INET } else { INET6 };
    let mut body = vec![family, TCP, 0, 0];
    body.extend(u32::MAX.to_ne_bytes()); // in any state
    body.extend(local.port().to_be_bytes());
    body.extend(remote.port().to_be_bytes());
    for ip in [ours, theirs] {
        match ip {
            IpAddr::V4(ip) => body.extend([&ip.octets()[..], &[0; 12]].concat()),
            IpAddr::V6(ip) => body.extend(ip.octets()),
        }
    }
    let scope = |addr: SocketAddr| if let SocketAddr::V6(addr) = addr { addr.scope_id() } else { 0 };
    body.extend(scope(local).to_ne_bytes());
    body.extend(NO_COOKIE);
    let mut message = (16 + body.len() as u32).to_ne_bytes().to_vec();
    message.extend(BY_FAMILY.to_ne_bytes());
    message.extend(REQUEST.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// The number in an answer (struct `inet_diag_msg`).
fn answer(message: &[u8]) -> Option<u64> {
    let kind = u16::from_ne_bytes(*message.get(4..)?.first_chunk()?);
    let queue = u32::from_ne_bytes(*message.get(QUEUE..)?.first_chunk()?);
    (kind == BY_FAMILY).then_some(queue.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{Ipv6Addr, TcpListener};

    /// Writes until no more is taken, reads all at the other end, and looks before, in between and afterwards.
    fn fills_and_empties(listen: SocketAddr, dial: IpAddr) {
        let kernel = Unacked::open().unwrap();
        let listener = TcpListener::bind(listen).unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut theirs = TcpStream::connect(SocketAddr::new(dial, port)).unwrap();
        let mut ours = listener.accept().unwrap().0;
        assert_eq!(kernel.of(&ours), Some(0));
        ours.set_nonblocking(true).unwrap();
        let mut written = 0;
        while let Ok(count) = ours.write(&[7; 8192]) {
            written += count as u64;
        }
        let queued = kernel.of(&ours).unwrap();
        assert!((1..written).contains(&queued), "{queued} of {written}");
        let mut room = vec![0; 65536];
        let mut left = written;
        while left > 0 {
            left -= theirs.read(&mut room).unwrap() as u64;
        }
        while kernel.of(&ours) != Some(0) {
            std::thread::yield_now(); // the last acknowledgement may be on its way
        }
        drop(ours);
    }

    #[test]
    fn the_kernel_tells_what_has_not_been_acknowledged() {
        let any = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 0);
        fills_and_empties(any("127.0.0.1"), [127, 0, 0, 1].into());
        fills_and_empties(any("::1"), Ipv6Addr::LOCALHOST.into());
        fills_and_empties(any("::"), [127, 0, 0, 1].into());
    }

    #[test]
    fn what_is_no_answer_is_none() {
        assert_eq!(answer(&[]), None);
        assert_eq!(answer(&[2; QUEUE + 4]), None, "an error");
        let mut message = vec![0; QUEUE + 4];
        message[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
        message[QUEUE..].copy_from_slice(&77_u32.to_ne_bytes());
        assert_eq!(answer(&message), Some(77));
        assert!((0..QUEUE + 4).all(|length| answer(&message[..length]).is_none()));
    }
}
