//! Hears that the router has restarted: it says so by multicast, in NAT-PMP's or PCP's form.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

use crate::discovery::port_mapping::epoch::RouterTime;
use crate::discovery::port_mapping::exchange::{DATAGRAM, MAX_DATAGRAMS};
use crate::discovery::port_mapping::natpmp::{self, ANNOUNCE_PORT};
use crate::discovery::port_mapping::network::RouterPath;
use crate::discovery::port_mapping::pcp;
use crate::net::bind::Bind;

/// The groups of all hosts in the local network.
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// A socket that hears the announcements for one address family. Other programs may share the port.
pub fn listen(bind: &Bind, path: &RouterPath) -> std::io::Result<UdpSocket> {
    let group = if path.client.is_ipv4() { IpAddr::V4(GROUP_V4) } else { IpAddr::V6(GROUP_V6) };
    let addr = SocketAddr::new(group, ANNOUNCE_PORT);
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    bind.bind_to_interface(&socket)?;
    // Bound to the group, the socket gets nothing else.
    socket.bind(&addr.into())?;
    match path.client {
        IpAddr::V4(client) => socket.join_multicast_v4(&GROUP_V4, &client)?,
        IpAddr::V6(_) => socket.join_multicast_v6(&GROUP_V6, path.scope())?,
    }
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// The times on the router's clock in its announcements that have arrived.
pub fn receive(socket: &UdpSocket, path: &RouterPath) -> Vec<RouterTime> {
    let mut times = Vec::new();
    let mut buffer = [0; DATAGRAM];
    for _ in 0..MAX_DATAGRAMS {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { break };
        if from.ip().to_canonical() == path.gateway() {
            times.extend(router_time(buffer.get(..length).unwrap_or_default()));
        }
    }
    times
}

fn router_time(datagram: &[u8]) -> Option<RouterTime> {
    let of_pcp = pcp::decode(datagram).map(|answer| RouterTime { epoch: answer.epoch, is_pcp: true });
    of_pcp.or_else(|| natpmp::decode(datagram).map(|answer| RouterTime { epoch: answer.epoch, is_pcp: false }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let natpmp = RouterTime { epoch: 5, is_pcp: false };
        assert_eq!(router_time(b"\0\x80\0\0\0\0\0\x05\x09\x08\x07\x06"), Some(natpmp));
        let mut of_pcp = [0; 24];
        (of_pcp[0], of_pcp[1], of_pcp[11]) = (2, 0x80, 7);
        assert_eq!(router_time(&of_pcp), Some(RouterTime { epoch: 7, is_pcp: true }));
        assert_eq!((router_time(b""), router_time(b"NOTIFY")), (None, None));
    }
}
