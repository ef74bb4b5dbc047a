//! `--proxy`: everything goes through the proxy and nothing around it. A record of all packets of btsync's machine proves that.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;

use crate::common::netns::{address, find, in_network_namespace};
use crate::common::packets::{RecordedMachine, SWARM};
use crate::common::payload::Payload;
use crate::common::process::{Running, without_settings};
use crate::common::proxy::{Habit, TestProxy};
use crate::common::tracker::Tracker;
use crate::common::web_seed::TestWebSeed;
use crate::common::{TestDir, free_port, until};

pub(crate) const PROXY: [u8; 4] = [10, 89, 0, 1];
const PIECE: usize = 64 * 1024;

/// A swarm on the near machine, and the far machine for btsync.
pub(crate) struct Scene {
    pub temp: TestDir,
    pub far: RecordedMachine,
    pub payload: Payload,
    pub tracker: Tracker,
    seeder_port: u16,
    _seeder: Running,
}

impl Scene {
    /// A seeder at [`SWARM`] that a tracker names.
    pub fn new() -> Scene {
        let far = RecordedMachine::new();
        let (temp, payload) = (TestDir::new(), Payload::single("behind a proxy.bin", 12 * PIECE - 77, PIECE));
        let seeder_port = free_port();
        let tracker = Tracker::start(&[SocketAddr::new(IpAddr::from(SWARM), seeder_port)]);
        // The seeder does not announce itself, so that nobody but btsync uses the tracker.
        let alone = temp.torrent(&payload, "http://10.88.0.3:1/announce");
        let folder = temp.folder_with("seed", &payload);
        let seeder = temp.btsync("seeder", &alone, &folder, seeder_port, &["--interface", "198.51.100.3", "--seed"]);
        Scene { temp, far, payload, tracker, seeder_port, _seeder: seeder }
    }

    /// A proxy that knows the names of the tracker and of the mirror.
    pub fn proxy() -> TestProxy {
        Scene::proxy_at((PROXY, 0).into())
    }

    /// The same at this address.
    pub fn proxy_at(at: SocketAddr) -> TestProxy {
        TestProxy::start(at)
            .with_name("tracker.test", address(1).parse().expect("an address"))
            .with_name("mirror.test", [127, 0, 0, 1].into())
    }

    /// Starts btsync on the far machine.
    pub fn btsync(&self, name: &str, what: &Path, args: &[&str]) -> Running {
        self.btsync_with(name, what, args, &[])
    }

    /// The same with variables in its environment.
    pub fn btsync_with(&self, name: &str, what: &Path, args: &[&str], environment: &[(&str, &str)]) -> Running {
        let mut command = self.far.machine.command(Path::new(env!("CARGO_BIN_EXE_btsync")));
        without_settings(&mut command);
        command.arg(what).arg(self.temp.path(&format!("{name}-out"))).args(args);
        command.env("RUST_LOG", "debug").env("XDG_CACHE_HOME", self.temp.path(&format!("{name}-cache")));
        command.envs(environment.iter().copied());
        self.temp.start(name, &mut command)
    }

    fn torrent(&self) -> std::path::PathBuf {
        self.temp.torrent(&self.payload, &self.tracker.url("tracker.test"))
    }

    /// The seeder.
    pub fn peer(&self) -> String {
        SocketAddr::new(SWARM.into(), self.seeder_port).to_string()
    }

    pub fn is_complete(&self, name: &str) -> bool {
        self.payload.difference(&self.temp.path(&format!("{name}-out"))).is_none()
    }
}

fn proxy_ip() -> IpAddr {
    PROXY.into()
}

/// Everything that could lead elsewhere: the DHT, local discovery, trackers over UDP and at a name, IPv6 and host names of peers.
pub(crate) fn temptations() -> Vec<String> {
    let entry = format!("{}:6881", address(4));
    let words =
        ["--dht-entry-point", &entry, "--bt-tracker", "udp://10.88.0.5:6969/announce,udp://udp.test:6969/announce"];
    let more = ["--bt-tracker", "http://[fd88::5]:8080/announce", "--peer", "[fd88::3]:6881"];
    words.into_iter().chain(more).map(str::to_owned).collect()
}

#[test]
fn without_a_proxy_the_record_has_everything() {
    in_network_namespace("without_a_proxy_the_record_has_everything", &[], || {
        let scene = Scene::new();
        let torrent = scene.temp.torrent(&scene.payload, &scene.tracker.url(&address(1)));
        let tempting = temptations();
        let args: Vec<&str> = tempting.iter().map(String::as_str).chain(["--seed"]).collect();
        let _btsync = scene.btsync("direct", &torrent, &args);
        until("the download is complete", || scene.is_complete("direct"));
        let has =
            |kind: &str, to: &str| scene.far.flows().keys().any(|flow| flow.0 == kind && flow.1.to_string() == to);
        until("there are packets of all kinds", || {
            has("tcp", &scene.peer())
                && has("udp", "10.88.0.4:6881")
                && has("udp", "10.88.0.5:6969")
                && has("tcp", "[fd88::3]:6881")
                && has("udp", "239.192.152.143:6771")
                && has("udp", "10.88.0.9:53")
        });
    });
}

/// A download through each kind of proxy, from a torrent file and from a link.
#[test]
fn nothing_goes_around_the_proxy() {
    in_network_namespace("nothing_goes_around_the_proxy", &[], || {
        let scene = Scene::new();
        let torrent = scene.torrent();
        let peers = "&x.pe=peer.test:6881&xs=http%3A%2F%2Fsource.test%2Fa.torrent&ws=http%3A%2F%2Fws.test%2Fa";
        let tracker = scene.tracker.url("tracker.test").replace(':', "%3A").replace('/', "%2F");
        let link = scene.payload.magnet(&format!("{peers}&tr={tracker}"));
        for (name, scheme, credentials, log) in [
            ("five", "socks5", "me:p%40ss-word@", "socks5"),
            ("five-h", "socks5h", "", "socks5"),
            ("four", "socks4a", "me@", "socks4"),
            ("http", "http", "me:p%40ss-word@", "connect"),
        ] {
            let has_password = credentials.contains(':');
            let proxy = Scene::proxy();
            let proxy = if has_password { proxy.with_credentials("me:p@ss-word") } else { proxy };
            let url = format!("{scheme}://{credentials}{}", proxy.addr);
            let tempting = temptations();
            let args: Vec<&str> = tempting.iter().map(String::as_str).chain(["--proxy", &url, "-v"]).collect();
            for (name, what) in [(name.to_owned(), torrent.as_path()), (format!("{name}-link"), Path::new(&link))] {
                let mut btsync = scene.btsync(&name, what, &args);
                btsync.expect_exit(0);
                assert!(scene.is_complete(&name));
                assert!(!btsync.log().contains("ss-word"), "{}", btsync.log());
            }
            let seeder = format!("{log} {}", scene.peer());
            assert!(proxy.has_request(&seeder) && proxy.has_request("tracker.test"), "{:?}", proxy.requests());
            assert!(proxy.has_request("source.test"), "{:?}", proxy.requests());
            assert!(log == "socks5" || !proxy.has_request("udp"), "{:?}", proxy.requests());
            let strays = scene.far.flows_beside(&[proxy_ip()]);
            assert_eq!(strays, [], "{scheme}");
        }
        let others = scene.tracker.announces().into_iter().filter(|announce| announce.addr.port() != 1);
        assert_eq!(
            others.map(|announce| announce.addr).collect::<Vec<_>>(),
            [],
            "they name a port on which nobody listens"
        );
    });
}

#[test]
fn web_seeds_and_urls_of_torrents_go_through_the_proxy() {
    in_network_namespace("web_seeds_and_urls_of_torrents_go_through_the_proxy", &[], || {
        let scene = Scene::new();
        let seed = TestWebSeed::start(&scene.payload);
        let url = seed.url().replace("127.0.0.1", "mirror.test");
        let torrent = scene.temp.torrent(&scene.payload, "");
        let files = TestWebSeed::start(&Payload::of("x.torrent", &std::fs::read(&torrent).expect("a file"), PIECE));
        let file = format!("{}x.torrent", files.url().replace("127.0.0.1", "mirror.test"));
        for scheme in ["socks5", "socks4a", "http"] {
            let proxy = Scene::proxy();
            let through = format!("{scheme}://{}", proxy.addr);
            let mut btsync = scene.btsync(
                scheme,
                Path::new(&file),
                &["--proxy", &through, "--web-seed", &url, "--stop-timeout", "8", "-v"],
            );
            btsync.expect_exit(0);
            assert!(scene.is_complete(scheme));
            assert!(proxy.has_request("mirror.test"), "{:?}", proxy.requests());
            let connections = proxy.requests().into_iter().filter(|request| !request.contains("udp")).count();
            assert!(connections <= 4, "connections stay open: {:?}", proxy.requests());
            assert_eq!(scene.far.flows_beside(&[proxy_ip()]), []);
        }
    });
}

/// With SOCKS 5, the proxy also carries datagrams, and resolves the tracker's name.
#[test]
fn udp_trackers_are_reached_through_socks_5() {
    in_network_namespace("udp_trackers_are_reached_through_socks_5", &[], || {
        let scene = Scene::new();
        let port = free_port();
        let mut tracker = Command::new(env!("CARGO_BIN_EXE_btsync"));
        let _tracker =
            scene.temp.start("tracker", tracker.args(["tracker", "--listen", &format!("{}:{port}", address(1))]));
        let folder = scene.temp.folder_with("second", &scene.payload);
        let torrent = scene.temp.torrent(&scene.payload, &format!("udp://{}:{port}/announce", address(1)));
        let seeding = ["--interface", "198.51.100.3", "--seed", "-v"];
        let mut seeder = scene.temp.btsync("announces", &torrent, &folder, free_port(), &seeding);
        seeder.wait_for_output("returned");
        let named = scene.temp.torrent(&scene.payload, &format!("udp://tracker.test:{port}/announce"));
        let proxy = Scene::proxy();
        let mut btsync = scene.btsync("udp", &named, &["--proxy", &format!("socks5://{}", proxy.addr), "-v"]);
        btsync.expect_exit(0);
        assert!(scene.is_complete("udp"));
        assert!(proxy.has_request(&format!("udp tracker.test:{port}")), "{:?}", proxy.requests());
        assert_eq!(scene.far.flows_beside(&[proxy_ip()]), []);

        let other = Scene::proxy();
        let through = format!("socks4a://{}", other.addr);
        let mut refused = scene.btsync("no-udp", &named, &["--proxy", &through, "--stop-timeout", "2", "-v"]);
        refused.expect_exit(2);
        assert!(refused.log().contains("UDP does not go through this kind of proxy"), "{}", refused.log());
        assert_eq!(scene.far.flows_beside(&[proxy_ip()]), []);
    });
}

#[test]
fn while_the_proxy_is_away_everything_waits_and_then_goes_on() {
    in_network_namespace("while_the_proxy_is_away_everything_waits_and_then_goes_on", &[], || {
        let scene = Scene::new();
        let port = free_port();
        let at = SocketAddr::from((PROXY, port));
        let through = format!("socks5://{at}");
        let limited = ["--proxy", &through, "--max-download-limit", "100K", "--stop-timeout", "170"];
        let mut btsync = scene.btsync("waits", &scene.torrent(), &limited);
        btsync.wait_for_output("does not work; connections through it wait until it works: connection refused");
        let name = |proxy: TestProxy| proxy.with_name("tracker.test", address(1).parse().expect("an address"));
        let proxy = name(TestProxy::start(at));
        until("a peer is reached", || proxy.has_request(&scene.seeder_port.to_string()));
        until("the first data is there", || scene.payload.right_pieces(&scene.temp.path("waits-out")) > 0);
        drop(proxy);
        let failures = |btsync: &Running| btsync.log().matches("connections through it wait").count();
        until("the end of the proxy is noticed", || failures(&btsync) == 2);
        let proxy = name(TestProxy::start(at));
        btsync.expect_exit(0);
        assert!(scene.is_complete("waits"));
        assert!(proxy.has_request(&scene.seeder_port.to_string()));
        assert_eq!(scene.far.flows_beside(&[proxy_ip()]), []);
    });
}

#[test]
fn a_proxy_that_misbehaves_is_not_gone_around() {
    in_network_namespace("a_proxy_that_misbehaves_is_not_gone_around", &[], || {
        let scene = Scene::new();
        let peer = scene.peer();
        let habits = [Habit::Closes, Habit::IsSilent, Habit::TalksNonsense, Habit::Refuses, Habit::ClosesAfterRequest];
        let kinds = ["socks5", "socks4a", "http"].into_iter().flat_map(|scheme| habits.map(|habit| (scheme, habit)));
        let all: Vec<_> = kinds
            .map(|(scheme, habit)| {
                let proxy = Scene::proxy();
                proxy.set_habit(habit);
                let through = format!("{scheme}://{}", proxy.addr);
                let args = ["--proxy", &through, "--peer", &peer, "--stop-timeout", "3"];
                (scene.btsync(&format!("{scheme}-{habit:?}"), &scene.torrent(), &args), proxy)
            })
            .collect();
        for (mut btsync, _proxy) in all {
            btsync.expect_exit(2);
        }
        assert_eq!(scene.far.flows_beside(&[proxy_ip()]), []);
    });
}

#[test]
fn wrong_proxies_are_refused_before_anything_is_sent() {
    let temp = TestDir::new();
    let torrent = temp.torrent(&Payload::single("x.bin", 1000, PIECE), "http://127.0.0.1:1/announce");
    for (url, why) in [
        ("ftp://127.0.0.1:1", "expected socks5://, socks5h://, socks4a:// or http://"),
        ("https://127.0.0.1:1", "expected socks5://, socks5h://, socks4a:// or http://"),
        ("me:secret@127.0.0.1:1", "expected socks5://, socks5h://, socks4a:// or http://"),
        ("socks5://me:secret@127.0.0.1", "expected a port from 1 to 65535"),
        ("socks4a://me:secret@127.0.0.1:1", "SOCKS 4a has no passwords"),
        ("socks5://me:12/34secret@127.0.0.1:1", "percent-encoded"),
    ] {
        let mut btsync = temp.btsync("wrong", &torrent, &temp.path("out"), free_port(), &["--proxy", url]);
        btsync.expect_exit(28);
        let log = btsync.log();
        assert!(log.contains(why) && !log.contains("secret") && !log.contains(":12"), "{url}: {log}");
    }
    let args = ["--proxy", "socks5://127.0.0.1:1", "--peer", "peer.example:6881"];
    let mut btsync = temp.btsync("named", &torrent, &temp.path("out"), free_port(), &args);
    btsync.expect_exit(28);
    assert!(btsync.log().contains("looks up no host names"), "{}", btsync.log());
    let mut shown = temp.btsync(
        "shown",
        &torrent,
        &temp.path("out"),
        free_port(),
        &["--proxy", "http://a:secret@h:1", "--show-config"],
    );
    shown.expect_exit(0);
    assert!(
        shown.log().contains("proxy = http://h:1 (command line)") && !shown.log().contains("secret"),
        "{}",
        shown.log()
    );
}

/// The proxies of other people, each as its users start it, with the record of all packets.
#[test]
fn the_proxies_of_debian_carry_a_download() {
    let programs = ["microsocks", "danted", "tinyproxy", "squid"];
    in_network_namespace("the_proxies_of_debian_carry_a_download", &programs, || {
        let scene = Scene::new();
        let tracker = scene.temp.torrent(&scene.payload, &scene.tracker.url(&address(1)));
        let ip = proxy_ip();
        for program in programs {
            let port = free_port();
            let (scheme, config) = match program {
                "danted" => (
                    "socks5",
                    format!(
                        "logoutput: stderr\ninternal: {ip} port = {port}\nexternal: lo\nsocksmethod: none\n\
                         clientmethod: none\nuser.privileged: root\nuser.unprivileged: nobody\n\
                         client pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}\nsocks pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}\n"
                    ),
                ),
                "tinyproxy" => ("http", format!("Port {port}\nListen {ip}\nTimeout 600\nMaxClients 50\n")),
                "squid" => (
                    "http",
                    format!(
                        "http_port {ip}:{port}\nhttp_access allow all\ncache deny all\npid_filename none\n\
                         access_log none\ncache_log stdio:/dev/stderr\nshutdown_lifetime 1 seconds\npinger_enable off\n"
                    ),
                ),
                _ => ("socks5", String::new()),
            };
            let file = scene.temp.path(&format!("{program}.conf"));
            std::fs::write(&file, config).expect("a configuration");
            let file = file.to_str().expect("UTF-8");
            let (listen, listen_port) = (ip.to_string(), port.to_string());
            let args: Vec<&str> = match program {
                "microsocks" => vec!["-i", &listen, "-p", &listen_port],
                "danted" => vec!["-f", file],
                "tinyproxy" => vec!["-d", "-c", file],
                _ => vec!["-N", "-f", file],
            };
            let mut command = std::process::Command::new(find(program).expect("the program"));
            let _running = scene.temp.start(program, command.args(args));
            until("the proxy listens", || std::net::TcpStream::connect((ip, port)).is_ok());
            let through = format!("{scheme}://{ip}:{port}");
            let mut btsync = scene.btsync(&format!("by-{program}"), &tracker, &["--proxy", &through]);
            btsync.expect_exit(0);
            assert!(scene.is_complete(&format!("by-{program}")), "{program}");
            assert_eq!(scene.far.flows_beside(&[ip]), [], "{program}");
        }
    });
}
