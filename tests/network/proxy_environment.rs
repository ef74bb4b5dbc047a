//! Block lists by URL through `--proxy`, and the proxies of the environment with real requests.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use rustls::{ServerConnection, Stream};

use crate::common::netns::{address, in_network_namespace};
use crate::common::packets::SWARM;
use crate::common::payload::Payload;
use crate::common::proxy::TestProxy;
use crate::common::seeder::{FakePeer, Gate};
use crate::common::tls::{certificate, server_config};
use crate::common::tracker::Tracker;
use crate::common::web::{Page, WebServer};
use crate::common::{TestDir, btsync, free_port};
use crate::proxy::{PROXY, Scene};

#[test]
fn a_block_list_by_url_comes_through_the_proxy() {
    in_network_namespace("a_block_list_by_url_comes_through_the_proxy", &[], || {
        let scene = Scene::new();
        let torrent = scene.temp.torrent(&scene.payload, &scene.tracker.url("tracker.test"));
        let seeder = SWARM.map(|byte| byte.to_string()).join(".");
        let pages = [
            ("/all", Page::Bytes(format!("{seeder}/32\n").into_bytes())),
            ("/none", Page::Bytes(b"192.0.2.0/24\n".to_vec())),
        ];
        let server = WebServer::start(&pages);
        let url = |path: &str| server.url(path).replace("127.0.0.1", "mirror.test");
        for scheme in ["socks5", "socks4a", "http"] {
            for (list, exit) in [("/all", 2), ("/none", 0), ("/missing", 28)] {
                let proxy = Scene::proxy();
                let name = format!("{scheme}{}", list.replace('/', "-"));
                let through = format!("{scheme}://{}", proxy.addr);
                let (list, is_blocked) = (url(list), list == "/all");
                let args = ["--proxy", &through, "--block-list", &list, "--stop-timeout", "3", "-v"];
                let mut btsync = scene.btsync(&name, &torrent, if is_blocked { &args } else { &args[..4] });
                btsync.expect_exit(exit);
                assert_eq!(scene.is_complete(&name), exit == 0);
                assert!(proxy.has_request("mirror.test"), "{:?}", proxy.requests());
                assert_eq!(proxy.has_request(&scene.peer()), exit == 0, "{:?}", proxy.requests());
            }
        }
        let proxy = free_port();
        let through = format!("socks5://{}:{proxy}", PROXY.map(|byte| byte.to_string()).join("."));
        let mut btsync = scene.btsync("away", &torrent, &["--proxy", &through, "--block-list", &url("/none")]);
        btsync.expect_exit(28);
        assert_eq!(scene.far.flows_beside(&[PROXY.into()]), []);
    });
}

/// HTTP requests go through the SOCKS proxy of `ALL_PROXY`, except those to the networks of `NO_PROXY`. Peers are reached directly.
#[test]
fn a_socks_proxy_of_the_environment_carries_http_except_to_networks_of_no_proxy() {
    in_network_namespace("a_socks_proxy_of_the_environment_carries_http_except_to_networks_of_no_proxy", &[], || {
        let scene = Scene::new();
        for scheme in ["socks5", "socks5h", "socks4a"] {
            let near = Tracker::start(&[]);
            let proxy = Scene::proxy();
            let through = format!("{scheme}://{}", proxy.addr);
            let torrent = scene.temp.torrent(&scene.payload, &scene.tracker.url("tracker.test"));
            let trackers = format!("{},{}", near.url(&address(1)), near.url(&address(3)));
            let environment = [("ALL_PROXY", through.as_str()), ("NO_PROXY", "192.0.2.0/24, 10.88.0.2/31")];
            let args = ["--bt-tracker", &trackers, "--no-dht", "--no-lsd", "-v"];
            let mut btsync = scene.btsync_with(scheme, &torrent, &args, &environment);
            btsync.expect_exit(0);
            assert!(scene.is_complete(scheme));
            let requests = proxy.requests();
            assert!(proxy.has_request("tracker.test"), "{requests:?}");
            assert!(!proxy.has_request(&scene.peer()) && !proxy.has_request(&address(3)), "{requests:?}");
            let was_sent = |to: &str| scene.far.flows().keys().any(|flow| flow.1.to_string() == to);
            assert!(was_sent(&scene.peer()), "peers do not use the proxy: {:?}", scene.far.flows());
            let port = near.port();
            assert!(!was_sent(&format!("{}:{port}", address(1))), "around the proxy: {:?}", scene.far.flows());
            scene.far.forget();
        }
    });
}

/// A TLS server in front of a proxy, for as long as the test process lives.
fn tls_in_front_of(proxy: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let (addr, config) = (listener.local_addr().expect("an address"), server_config());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let session = ServerConnection::new(config.clone()).expect("a session");
            // What fails, the test notices by what btsync does not get.
            std::thread::spawn(move || drop(carry(session, stream, proxy)));
        }
    });
    addr
}

/// Passes on what comes from either side, until one of them ends.
fn carry(mut session: ServerConnection, mut client: TcpStream, proxy: SocketAddr) -> io::Result<()> {
    let mut target = TcpStream::connect(proxy)?;
    for stream in [&client, &target] {
        stream.set_read_timeout(Some(Duration::from_millis(10)))?;
    }
    let mut tls = Stream::new(&mut session, &mut client);
    let mut buffer = [0; 4096];
    loop {
        match tls.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => target.write_all(&buffer[..length])?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        match target.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => tls.write_all(&buffer[..length])?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    tls.conn.send_close_notify();
    tls.flush()
}

/// Only the environment may name a proxy over TLS; its certificate is checked.
#[test]
fn a_proxy_over_tls_of_the_environment_carries_requests() {
    let (temp, payload) = (TestDir::new(), Payload::single("x.bin", 40_000, 16 * 1024));
    let gate = Gate::new(0);
    gate.open();
    let peer = FakePeer::honest(&payload, &gate);
    let tracker = Tracker::start(&[peer.addr]);
    let torrent = temp.torrent(&payload, &tracker.url("127.0.0.1"));
    let proxy = TestProxy::start((Ipv4Addr::LOCALHOST, 0).into());
    let proxy = proxy.with_credentials("me:secret");
    let through = format!("https://me:secret@localhost:{}", tls_in_front_of(proxy.addr).port());
    let run = |name: &str, authority: &str, more: &[&str]| {
        let mut command = btsync();
        for name in ["all_proxy", "http_proxy", "https_proxy", "no_proxy"] {
            command.env_remove(name).env_remove(name.to_uppercase());
        }
        command.env("http_proxy", &through).env("SSL_CERT_FILE", certificate(authority));
        command.arg(&torrent).arg(temp.path(name)).args(["--no-dht", "--no-lsd", "--plain"]).args(more);
        command.args(["--listen-port", &free_port().to_string()]);
        temp.start(name, &mut command)
    };
    let mut btsync = run("trusted", "ca.pem", &["--stop-timeout", "60"]);
    btsync.expect_exit(0);
    assert!(payload.difference(&temp.path("trusted")).is_none());
    assert!(proxy.has_request("connect 127.0.0.1"), "{:?}", proxy.requests());
    assert!(!btsync.log().contains("secret"), "{}", btsync.log());
    let count = proxy.requests().len();
    let mut btsync = run("not-trusted", "server-key.pem", &["--stop-timeout", "3"]);
    btsync.expect_exit(2);
    assert_eq!(proxy.requests().len(), count, "a proxy with a wrong certificate gets nothing");
}
