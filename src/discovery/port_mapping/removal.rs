//! Removes all mappings at the end of the client. Everything is sent at once, because all of it together may take less than a
//! second.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use crate::discovery::port_mapping::exchange::{DATAGRAM, RouterExchange};
use crate::discovery::port_mapping::natpmp::{self, ROUTER_PORT};
use crate::discovery::port_mapping::network::RouterPath;
use crate::discovery::port_mapping::planner::MappingRequest;
use crate::discovery::port_mapping::router::RouterClient;
use crate::discovery::port_mapping::status::MappingProtocol;

/// How long the removal may take.
const REMOVAL: Duration = Duration::from_millis(800);
/// When a datagram without an answer is sent again.
const AGAIN: Duration = Duration::from_millis(250);

/// A datagram that removes a mapping.
struct RemovalDatagram {
    socket: UdpSocket,
    request: Vec<u8>,
    is_answered: bool,
}

/// Removes the mappings, each given as the request that made it. Returns how many removals the router has confirmed.
pub fn remove(client: &RouterClient, mappings: &[(RouterPath, MappingRequest)]) -> usize {
    let start = Instant::now();
    let (mut datagrams, mut exchanges) = (Vec::new(), Vec::new());
    for (path, mapping) in mappings {
        let request = match mapping.protocol {
            MappingProtocol::Pcp => client.pcp_request(path, *mapping, Duration::ZERO).encode(),
            MappingProtocol::NatPmp => natpmp::map_request(mapping.transport, client.port, 0, Duration::ZERO),
            MappingProtocol::Upnp => {
                let removal = client.upnp_removal(path, *mapping);
                let started =
                    removal.map(|(port, request)| RouterExchange::start(&client.io.bind, path, port, request));
                exchanges.extend(started.and_then(Result::ok));
                continue;
            }
        };
        if let Ok(socket) = client.io.router_socket(path, ROUTER_PORT) {
            let _ = socket.send(&request);
            datagrams.push(RemovalDatagram { socket, request, is_answered: false });
        }
    }
    let _ = client.io.run(&mut exchanges, start + AGAIN);
    receive_answers(client, &mut datagrams, start + AGAIN);
    for datagram in datagrams.iter().filter(|datagram| !datagram.is_answered) {
        let _ = datagram.socket.send(&datagram.request);
    }
    let _ = client.io.run(&mut exchanges, start + REMOVAL);
    receive_answers(client, &mut datagrams, start + REMOVAL);
    let of_upnp = exchanges.iter().filter(|exchange| exchange.answer.is_some()).count();
    of_upnp + datagrams.iter().filter(|datagram| datagram.is_answered).count()
}

/// Receives the answers, and waits for those that have yet to come. Any answer counts: only the router can send one here.
fn receive_answers(client: &RouterClient, datagrams: &mut [RemovalDatagram], until: Instant) {
    loop {
        for datagram in datagrams.iter_mut().filter(|datagram| !datagram.is_answered) {
            // An error other than `WouldBlock` says that the router's port is closed: nothing more will come.
            let received = datagram.socket.recv(&mut [0; DATAGRAM]);
            datagram.is_answered = !received.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        }
        let open = datagrams.iter().filter(|datagram| !datagram.is_answered);
        let mut fds: Vec<_> = open.map(|datagram| PollFd::new(&datagram.socket, PollFlags::IN)).collect();
        if fds.is_empty() || Instant::now() >= until || client.io.wait(&mut fds, until).is_err() {
            return;
        }
    }
}
