//! The UDP side, asked by our own tracker client.

use std::net::UdpSocket;

use super::*;
use crate::discovery::tracker::announce::{Announce, AnnounceEvent, AnnounceResponse, ScrapeCounts};
use crate::discovery::tracker::error::TrackerError;
use crate::discovery::tracker::udp::{UdpTracker, packet};
use crate::types::InfoHash;

/// Ample time for operations that end by themselves.
const PATIENT: Duration = Duration::from_secs(60);

fn ports(answer: &AnnounceResponse) -> Vec<u16> {
    let mut ports: Vec<u16> = answer.peers.iter().map(SocketAddr::port).collect();
    ports.sort_unstable();
    ports
}

#[test]
fn our_own_tracker_follows_a_peer_from_started_to_stopped() {
    let server = TrackerServer::start("127.0.0.1:0".parse().unwrap(), TrackerServerConfig::default()).unwrap();
    let (url, client) = (format!("udp://{}/announce", server.addr()), UdpTracker::new());
    let announce = |port, left, event| client.announce(&url, &Announce::of_port(port, left, event), PATIENT).unwrap();
    assert_eq!(ports(&announce(1001, 5, Some(AnnounceEvent::Started))), [0u16; 0]);
    let second = announce(1002, 0, Some(AnnounceEvent::Started));
    assert_eq!(second.peers, ["127.0.0.1:1001".parse().unwrap()]);
    assert_eq!((second.complete, second.incomplete, second.interval.as_secs()), (Some(1), Some(1), 120));
    announce(1001, 0, Some(AnnounceEvent::Completed));
    assert_eq!(ports(&announce(1003, 5, None)), [1001, 1002]);
    let figures = client.scrape(&url, &[InfoHash([8; 20]), InfoHash([7; 20])], PATIENT).unwrap();
    assert_eq!(figures[0], Some(ScrapeCounts::default()));
    assert_eq!(figures[1], Some(ScrapeCounts { complete: 2, incomplete: 1, downloaded: 1 }));
    announce(1002, 0, Some(AnnounceEvent::Stopped));
    assert_eq!(ports(&announce(1003, 5, None)), [1001]);
    // A tracker on the internet cannot know peers on this machine.
    let public = UdpTracker::with(|_| false).announce(&url, &Announce::of_port(1003, 5, None), PATIENT).unwrap();
    assert_eq!((ports(&public), public.private_dropped), (vec![], 1));
    let refused = client.announce(&url, &Announce::of_port(0, 1, None), PATIENT);
    assert_eq!(refused, Err(TrackerError::Refused("port 0 is invalid".into())));
    server.stop();
}

#[test]
fn answers_come_from_the_address_that_was_asked() {
    // As by default: one socket for both address families.
    let all = ["[::]:0", "0.0.0.0:0"].map(|addr| addr.parse().unwrap());
    for listen in all {
        let Ok(server) = TrackerServer::start(listen, TrackerServerConfig::default()) else { continue };
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(PATIENT)).unwrap();
        let asked = SocketAddr::from(([127, 0, 0, 9], server.addr().port()));
        client.send_to(&packet::connect_request(7), asked).unwrap();
        assert_eq!(client.recv_from(&mut [0; 100]).unwrap(), (16, asked));
        server.stop();
    }
}

#[test]
fn clients_on_ipv6_get_peers_on_ipv6() {
    let Ok(server) = TrackerServer::start("[::1]:0".parse().unwrap(), TrackerServerConfig::default()) else {
        eprintln!("not run: there is no IPv6 loopback here");
        return;
    };
    let (url, client) = (format!("udp://{}/announce", server.addr()), UdpTracker::new());
    let announce = |port| client.announce(&url, &Announce::of_port(port, 1, None), PATIENT).unwrap().peers;
    assert_eq!(announce(1001), []);
    assert_eq!(announce(1002), ["[::1]:1001".parse().unwrap()]);
    server.stop();
}

#[test]
fn our_own_tracker_answers_nobody_without_a_connection_id() {
    let server = TrackerServer::start("127.0.0.1:0".parse().unwrap(), TrackerServerConfig::default()).unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server.addr()).unwrap();
    for id in [0, 1, u64::MAX] {
        socket.send(&packet::announce_request(id, 1, &Announce::of_port(1, 1, None), "")).unwrap();
        socket.send(&packet::scrape_request(id, 1, &[InfoHash([7; 20])])).unwrap();
    }
    socket.send(b"garbage").unwrap();
    // Responses arrive in the order of the requests. As the first one belongs to the last request, the others got none.
    socket.send(&packet::connect_request(2)).unwrap();
    let mut buffer = [0; 100];
    assert_eq!(socket.recv(&mut buffer).unwrap(), 16);
    assert_eq!(packet::transaction(&buffer), Some(2));
    server.stop();
}
