//! This machine's network interfaces and their addresses, from the kernel (rtnetlink), and notifications of changes.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with};

/// The receive buffer for one message from the kernel, in bytes: it never sends more at once.
const BUFFER_SIZE: usize = 32 << 10;
/// Message types of netlink(7) and rtnetlink(7).
const ERROR: u16 = 2;
const DONE: u16 = 3;
const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
/// A request for all objects: `NLM_F_REQUEST | NLM_F_DUMP`.
const ALL: u16 = 0x301;
/// `RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR`.
const GROUPS: u32 = 0x111;
/// Attributes of an address: the peer's address, if there is one, and our own.
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// `IFF_UP | IFF_RUNNING | IFF_MULTICAST`.
const MULTICAST: u32 = 0x1 | 0x40 | 0x1000;
/// `IFF_LOOPBACK`.
const LOOPBACK: u32 = 0x8;
/// `IFA_F_TENTATIVE`: an address still being checked for duplicates cannot be used yet.
const TENTATIVE: u8 = 0x40;

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its index.
    pub index: u32,
    /// Whether it is up, has a carrier and supports multicast.
    pub supports_multicast: bool,
    /// Whether it is a loopback interface.
    pub is_loopback: bool,
    /// Its addresses, without tentative ones.
    pub addresses: Vec<IpAddr>,
}

/// All interfaces.
///
/// # Errors
/// If the system refuses.
pub fn interfaces() -> io::Result<Vec<Interface>> {
    let mut all = Vec::new();
    // struct ifinfomsg, struct ifaddrmsg
    dump(GET_LINK, &[0; 16], |kind, body| all.extend((kind == NEW_LINK).then(|| link(body)).flatten()))?;
    dump(GET_ADDRESS, &[0; 8], |kind, body| {
        if let Some((index, ip)) = (kind == NEW_ADDRESS).then(|| address(body)).flatten()
            && let Some(interface) = all.iter_mut().find(|interface| interface.index == index)
        {
            interface.addresses.push(ip);
        }
    })?;
    Ok(all)
}

/// Notifications of changes to interfaces or their addresses.
#[derive(Debug)]
pub struct InterfaceChanges(OwnedFd);

impl InterfaceChanges {
    /// Subscribes to notifications from now on.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn watch() -> io::Result<InterfaceChanges> {
        let socket = open(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
        Ok(InterfaceChanges(socket))
    }

    /// Reads all pending notifications. Returns whether there were any.
    pub fn take(&self) -> bool {
        let (mut any, mut buffer) = (false, vec![0; BUFFER_SIZE]);
        loop {
            match recv(&self.0, buffer.as_mut_slice(), RecvFlags::empty()) {
                // NOBUFS: the socket's buffer overflowed, so something changed.
                Ok(_) | Err(Errno::NOBUFS) => any = true,
                Err(Errno::INTR) => {}
                Err(_) => return any,
            }
        }
    }
}

impl AsFd for InterfaceChanges {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn open(flags: SocketFlags) -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?)
}

/// Requests all objects of a kind from the kernel, and passes each message to `on_message`.
fn dump(request: u16, body: &[u8], mut on_message: impl FnMut(u16, &[u8])) -> io::Result<()> {
    let socket = open(SocketFlags::CLOEXEC)?;
    let length = (HEAD + body.len()) as u32;
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(request.to_ne_bytes());
    message.extend(ALL.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    send(&socket, &message, SendFlags::empty())?;
    let mut buffer = vec![0; BUFFER_SIZE];
    loop {
        let count = match recv(&socket, buffer.as_mut_slice(), RecvFlags::empty()) {
            Err(Errno::INTR) => continue,
            received => received?.0,
        };
        for (kind, body) in messages(buffer.get(..count).unwrap_or_default()) {
            match kind {
                DONE => return Ok(()),
                ERROR => return Err(io::Error::other("the kernel does not list its interfaces")),
                kind => on_message(kind, body),
            }
        }
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The length of a netlink message header in bytes.
const HEAD: usize = 16;

/// The messages in a received buffer: types and bodies.
fn messages(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    parts(bytes, |head| Some((u32::from_ne_bytes(*head.first_chunk()?) as usize, *head.get(4..)?.first_chunk()?)), HEAD)
}

/// The attributes after a message's own fields.
fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    parts(bytes, |head| Some((u16::from_ne_bytes(*head.first_chunk()?).into(), *head.get(2..)?.first_chunk()?)), 4)
}

/// Splits `bytes` into parts that begin with their length and type, each aligned to four bytes; ends at the first that does not
/// fit.
fn parts(
    bytes: &[u8],
    read: impl Fn(&[u8]) -> Option<(usize, [u8; 2])>,
    head: usize,
) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (length, kind) = read(rest)?;
        let body = rest.get(head..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes(kind), body))
    })
}

/// Parses a struct ifinfomsg.
fn link(body: &[u8]) -> Option<Interface> {
    let index = u32::from_ne_bytes(*body.get(4..)?.first_chunk()?);
    let flags = u32::from_ne_bytes(*body.get(8..)?.first_chunk()?);
    let (supports_multicast, is_loopback) = (flags & MULTICAST == MULTICAST, flags & LOOPBACK != 0);
    Some(Interface { index, supports_multicast, is_loopback, addresses: Vec::new() })
}

/// Parses a struct ifaddrmsg and its attributes: the address, and the index of the interface that has it.
fn address(body: &[u8]) -> Option<(u32, IpAddr)> {
    let flags = *body.get(2)?;
    let index = u32::from_ne_bytes(*body.get(4..)?.first_chunk()?);
    let find = |wanted: u16| attributes(body.get(8..)?).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let value = find(IFA_LOCAL).or_else(|| find(IFA_ADDRESS))?;
    let ip = match value.len() {
        4 => IpAddr::from(Ipv4Addr::from(*value.first_chunk::<4>()?)),
        16 => IpAddr::from(Ipv6Addr::from(*value.first_chunk::<16>()?)),
        _ => return None,
    };
    (flags & TENTATIVE == 0).then_some((index, ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_loopback_interface() {
        let all = interfaces().unwrap();
        let own = all.iter().find(|interface| interface.is_loopback).unwrap();
        assert!(own.index > 0 && (own.addresses.is_empty() || own.addresses.contains(&Ipv4Addr::LOCALHOST.into())));
        assert!(!InterfaceChanges::watch().unwrap().take(), "nothing has changed in this moment");
    }

    #[test]
    fn a_truncated_message_ends_the_list() {
        let mut message = 20_u32.to_ne_bytes().to_vec();
        message.extend(NEW_LINK.to_ne_bytes());
        message.resize(20, 0);
        let two = [message.clone(), message.clone()].concat();
        assert_eq!(messages(&two).map(|(kind, body)| (kind, body.len())).collect::<Vec<_>>(), [(NEW_LINK, 4); 2]);
        for length in 0..message.len() {
            assert_eq!(messages(&message[..length]).count(), 0);
        }
        for odd in [0_u32, 3, 15, u32::MAX] {
            message[..4].copy_from_slice(&odd.to_ne_bytes());
            assert_eq!(messages(&message).count(), 0, "{odd}");
        }
        assert_eq!((link(&[0; 11]), address(&[0; 7]), address(&[0; 8])), (None, None, None));
    }
}
