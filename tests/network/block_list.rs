//! `--block-list`: btsync neither connects to the listed addresses, whoever names them, nor accepts connections from them. The tests
//! check this at the receivers.

use std::io::{ErrorKind, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use crate::common::netns::{address, in_network_namespace};
use crate::common::payload::Payload;
use crate::common::tracker::Tracker;
use crate::common::wire::{Wire, handshake};
use crate::common::{PATIENCE, TestDir, free_port, until};
use btsync::net::bind::Bind;

fn ip(host: u8) -> IpAddr {
    address(host).parse().expect("an address")
}

/// A peer and a DHT node that only wait for what comes.
fn listeners(host: u8) -> (TcpListener, UdpSocket) {
    let (tcp, udp) = (TcpListener::bind((ip(host), 0)), UdpSocket::bind((ip(host), 0)));
    let (tcp, udp) = (tcp.expect("a TCP port"), udp.expect("a UDP port"));
    tcp.set_nonblocking(true).expect("not to wait");
    udp.set_nonblocking(true).expect("not to wait");
    (tcp, udp)
}

#[test]
fn nothing_is_sent_to_a_blocked_address() {
    in_network_namespace("nothing_is_sent_to_a_blocked_address", &[], || {
        let (temp, payload) = (TestDir::new(), Payload::single("blocked.bin", 200_000, 16 * 1024));
        let (blocked, blocked_node) = listeners(2);
        let (open, open_node) = listeners(4);
        let port = free_port();
        let addr = |tcp: &TcpListener| tcp.local_addr().expect("an address");
        let tracker = Tracker::start(&[addr(&blocked), addr(&open), SocketAddr::new(ip(3), port)]);
        let torrent = temp.torrent(&payload, &tracker.url(&address(1)));
        // The seeder has no list, so it must not learn of the blocked peer.
        let alone = temp.torrent(&payload, "http://10.88.0.3:1/announce");
        let _seeder = temp.btsync(
            "seeder",
            &alone,
            &temp.folder_with("seed", &payload),
            port,
            &["--interface", &address(3), "--seed"],
        );
        let list = temp.path("list");
        std::fs::write(&list, "Somebody:10.88.0.2-10.88.0.2\n").expect("a list");
        let nodes = [&blocked_node, &open_node].map(|node| node.local_addr().expect("an address").to_string());
        let (own, named) = (address(1), addr(&blocked).to_string());
        let more = [
            &["--interface", &own, "--no-lsd", "--seed", "--peer", &named, "--block-list"][..],
            &[list.to_str().expect("UTF-8"), "--dht-entry-point", &nodes[0], "--dht-entry-point", &nodes[1]],
        ]
        .concat();
        let out = temp.folder("out");
        let mut leecher = temp.btsync_with_discovery("leecher", torrent.as_os_str(), &out, free_port(), &more);
        until("the download is complete", || payload.difference(&out).is_none());
        until("a peer that is not blocked is dialed", || open.accept().is_ok());
        until("a node that is not blocked is asked", || open_node.recv_from(&mut [0; 2000]).is_ok());
        assert_eq!(blocked.accept().expect_err("a connection to a blocked peer").kind(), ErrorKind::WouldBlock);
        let packet = blocked_node.recv_from(&mut [0; 2000]);
        assert_eq!(packet.expect_err("a packet to a blocked node").kind(), ErrorKind::WouldBlock);
        leecher.terminate(0);
        let log = leecher.log();
        assert!(log.contains(&format!("btsync does not connect to {named}: it is on the block list")), "{log}");
    });
}

#[test]
fn connections_from_blocked_addresses_are_closed_unread() {
    in_network_namespace("connections_from_blocked_addresses_are_closed_unread", &[], || {
        let (temp, payload) = (TestDir::new(), Payload::single("blocked.bin", 50_000, 16 * 1024));
        let tracker = Tracker::start(&[]);
        let torrent = temp.torrent(&payload, &tracker.url(&address(1)));
        let list = temp.path("list");
        std::fs::write(&list, "010.088.000.002 - 010.088.000.002 , 000 , Somebody\n2001:db8::/32\n").expect("a list");
        let port = free_port();
        let list = list.to_str().expect("UTF-8");
        let folder = temp.folder_with("seed", &payload);
        let _seeder = temp.btsync("seeder", &torrent, &folder, port, &["--seed", "--block-list", list]);
        let to = SocketAddr::new(ip(1), port);
        let connect = |host: u8| -> Option<TcpStream> { Bind::Address(ip(host)).connect(to, PATIENCE).ok() };
        let shakes_hands = |host: u8| {
            let Some(mut stream) = connect(host) else { return false };
            stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
            stream.write_all(&handshake(payload.info_hash())).is_ok() && Wire::raw(stream).read_handshake().is_ok()
        };
        until("the seeder answers others", || shakes_hands(4));
        assert!(!shakes_hands(2), "the seeder answers a blocked address");
        assert!(shakes_hands(5));
    });
}

#[test]
fn without_its_list_btsync_does_not_start() {
    let (temp, payload) = (TestDir::new(), Payload::single("blocked.bin", 50_000, 16 * 1024));
    let torrent = temp.torrent(&payload, "http://127.0.0.1:1/announce");
    std::fs::write(temp.path("page"), "<!DOCTYPE html>\n<html></html>\n").expect("a file");
    for (name, why) in [("missing", "no such file"), ("page", "not in P2P, DAT or CIDR form")] {
        let list = temp.path(name);
        let list = list.to_str().expect("UTF-8");
        let mut btsync = temp.btsync(name, &torrent, &temp.folder("out"), free_port(), &["--block-list", list]);
        btsync.expect_exit(28);
        let log = btsync.log();
        assert!(log.contains(&format!("cannot use the block list {list}")) && log.contains(why), "{log}");
    }
}
