//! The DHT through a SOCKS 5 proxy: it finds peers, announces nothing, and no packet goes around the proxy.

use std::net::{IpAddr, SocketAddr};

use crossbeam_channel::bounded;

use crate::common::netns::{address, find, in_network_namespace};
use crate::common::packets::SWARM;
use crate::common::proxy::{Habit, TestProxy};
use crate::common::{free_port, until};
use crate::proxy::{PROXY, Scene};
use btsync::discovery::dht::{DhtConfig, DhtService};
use btsync::net::bind::Bind;
use btsync::types::InfoHash;

/// A node on the near machine, and another one that announces the seeder there.
struct Dht {
    node: DhtService,
    announcer: DhtService,
}

impl Dht {
    fn start() -> Dht {
        let config = |ip: IpAddr, nodes: &[String]| DhtConfig {
            interface: Bind::Address(ip),
            routers: Vec::new(),
            entry_points: nodes.to_vec(),
            ..DhtConfig::default()
        };
        let start = |config: &DhtConfig| DhtService::start(config, &bounded(0).0).expect("a DHT node");
        let node = start(&config(address(1).parse().expect("an address"), &[]));
        let announcer = start(&config(SWARM.into(), &[node.local_addrs()[0].to_string()]));
        Dht { node, announcer }
    }

    fn port(&self) -> u16 {
        self.node.local_addrs()[0].port()
    }

    fn announces_received(&self) -> usize {
        self.node.stats().iter().map(|(_, stats)| stats.stored).sum()
    }

    fn announce(&self, scene: &Scene) {
        let seeder: SocketAddr = scene.peer().parse().expect("an address");
        self.announcer.search(InfoHash(scene.payload.info_hash()), Some(seeder.port()));
        until("the seeder is announced", || self.announces_received() == 1);
    }
}

/// A proxy that knows the node's name.
fn proxy_at(at: SocketAddr) -> TestProxy {
    TestProxy::start(at).with_name("node.test", address(1).parse().expect("an address"))
}

fn proxy() -> TestProxy {
    proxy_at((PROXY, 0).into())
}

/// The packets of the DHT that btsync has sent, through whatever.
fn dht_packets(scene: &Scene) -> Vec<u8> {
    scene.far.payloads().into_iter().filter(|(flow, _)| flow.0 == "udp").flat_map(|(_, payload)| payload).collect()
}

fn count(packets: &[u8], text: &str) -> usize {
    packets.windows(text.len()).filter(|window| *window == text.as_bytes()).count()
}

#[test]
fn the_dht_finds_peers_through_socks_5() {
    in_network_namespace("the_dht_finds_peers_through_socks_5", &[], || {
        let (scene, dht) = (Scene::new(), Dht::start());
        dht.announce(&scene);
        let torrent = scene.temp.torrent(&scene.payload, "");
        let link = scene.payload.magnet("");
        for (name, what) in [("file", torrent.as_path()), ("link", link.as_ref())] {
            for node in [format!("node.test:{}", dht.port()), format!("{}:{}", address(1), dht.port())] {
                let proxy = proxy();
                let name = format!("{name}-{}", node.split(':').next().expect("a host"));
                let through = format!("socks5://{}", proxy.addr);
                let args = ["--proxy", &through, "--dht-entry-point", &node, "--stop-timeout", "100", "-v"];
                let mut btsync = scene.btsync(&name, what, &args);
                btsync.expect_exit(0);
                assert!(scene.is_complete(&name));
                assert!(proxy.has_request(&format!("socks5 {}", scene.peer())), "{:?}", proxy.requests());
                assert!(proxy.has_request(&format!("udp {node}")), "{:?}", proxy.requests());
                assert!(proxy.has_request("udp router.bittorrent.com:6881"), "{:?}", proxy.requests());
                assert_eq!(scene.far.flows_beside(&[proxy.addr.ip()]), []);
            }
        }
        let packets = dht_packets(&scene);
        let queries = count(&packets, "1:y1:q");
        assert!(queries > 0 && count(&packets, "2:roi1e") == queries, "each says that it answers nothing");
        assert_eq!(count(&packets, "1:y1:r") + count(&packets, "announce_peer"), 0);
        assert_eq!(dht.announces_received(), 1, "nobody but the seeder has announced itself");
    });
}

/// After the end of the association, nothing is sent until there is another one. Then the search goes on.
#[test]
fn the_dht_gets_another_association_when_one_has_ended() {
    in_network_namespace("the_dht_gets_another_association_when_one_has_ended", &[], || {
        let (scene, dht) = (Scene::new(), Dht::start());
        let torrent = scene.temp.torrent(&scene.payload, "");
        let first = proxy();
        let at = first.addr;
        let (through, node) = (format!("socks5://{at}"), format!("node.test:{}", dht.port()));
        let args = ["--proxy", &through, "--dht-entry-point", &node, "--stop-timeout", "170"];
        let mut btsync = scene.btsync("again", &torrent, &args);
        until("the node is asked", || first.requests().iter().any(|it| it.starts_with("udp 10.88.0.1")));
        let relays: Vec<_> = scene.far.flows().into_keys().filter(|flow| flow.0 == "udp").collect();
        assert_eq!(relays.len(), 1);
        drop(first);
        btsync.wait_for_output("the proxy has ended the DHT's association");
        btsync.wait_for_output("connections through it wait");
        scene.far.forget();
        let second = proxy_at(at);
        until("there is another association", || second.has_request("associate"));
        dht.announce(&scene);
        btsync.expect_exit(0);
        assert!(scene.is_complete("again"));
        assert!(second.has_request("udp 10.88.0.1"), "{:?}", second.requests());
        assert!(!scene.far.flows().contains_key(&relays[0]), "without an association, nothing is sent");
        assert_eq!(scene.far.flows_beside(&[at.ip()]), []);
    });
}

/// The download goes on without the DHT, and says why there is none.
#[test]
fn a_proxy_without_udp_carries_no_dht() {
    in_network_namespace("a_proxy_without_udp_carries_no_dht", &[], || {
        let (scene, dht) = (Scene::new(), Dht::start());
        let node = format!("node.test:{}", dht.port());
        let torrent = scene.temp.torrent(&scene.payload, &scene.tracker.url("tracker.test"));
        for scheme in ["socks5", "socks4a", "http"] {
            let proxy = Scene::proxy();
            proxy.set_habit(Habit::ServesTcpOnly);
            let through = format!("{scheme}://{}", proxy.addr);
            let args = ["--proxy", &through, "--dht-entry-point", &node, "-v", "--max-download-limit", "400K"];
            let mut btsync = scene.btsync(scheme, &torrent, &args);
            btsync.expect_exit(0);
            assert!(scene.is_complete(scheme));
            let says_why = btsync.log().contains("no DHT through the proxy: the proxy refused: it does not support");
            assert_eq!(says_why, scheme == "socks5", "{}", btsync.log());
            assert!(!proxy.has_request("udp"), "{:?}", proxy.requests());
        }
        assert_eq!(dht_packets(&scene), b"");
        assert_eq!(scene.far.flows_beside(&[PROXY.into()]), []);
    });
}

/// Dante relays datagrams from another port than that of its connections, and only once it knows ours.
#[test]
fn dante_carries_the_dht() {
    in_network_namespace("dante_carries_the_dht", &["danted"], || {
        let (scene, dht) = (Scene::new(), Dht::start());
        dht.announce(&scene);
        let (ip, port) = (IpAddr::from(PROXY), free_port());
        let file = scene.temp.path("danted.conf");
        let config = format!(
            "logoutput: stderr\ninternal: {ip} port = {port}\nexternal: lo\nsocksmethod: none\nclientmethod: none\n\
             user.privileged: root\nuser.unprivileged: nobody\nclient pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}\n\
             socks pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 command: connect udpassociate udpreply }}\n"
        );
        std::fs::write(&file, config).expect("a configuration");
        let mut command = std::process::Command::new(find("danted").expect("the program"));
        let _running = scene.temp.start("danted", command.arg("-f").arg(&file));
        until("the proxy listens", || std::net::TcpStream::connect((ip, port)).is_ok());
        let (through, node) = (format!("socks5://{ip}:{port}"), format!("{}:{}", address(1), dht.port()));
        let args = ["--proxy", &through, "--dht-entry-point", &node, "--stop-timeout", "100", "-v"];
        let torrent = scene.temp.torrent(&scene.payload, "");
        let mut btsync = scene.btsync("by-dante", &torrent, &args);
        btsync.expect_exit(0);
        assert!(scene.is_complete("by-dante"));
        assert_eq!(scene.far.flows_beside(&[ip]), []);
    });
}
