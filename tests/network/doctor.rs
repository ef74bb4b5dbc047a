//! `btsync doctor` without a network, with a router, a DHT node and strangers of our own, and with proxies.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::common::netns::{RemoteMachine, address, in_network_namespace};
use crate::common::process::Running;
use crate::common::proxy::{Habit, TestProxy};
use crate::common::router::{self, ROUTER, gateway, natpmp_answer};
use crate::common::{TestDir, btsync, free_port, schema};
use btsync::{Bind, DhtSettings};

/// A public address of the far machine, as far as btsync knows.
const STRANGER: &str = "203.0.113.5";
/// So long that a test that waits for it fails.
const FOR_EVER: &str = "100000";
const CHECKS: [&str; 14] = [
    "clock",
    "certificates",
    "files",
    "threads",
    "ipv4",
    "ipv6",
    "port",
    "folder",
    "disk-space",
    "disk-speed",
    "proxy",
    "port-mapping",
    "reachable",
    "dht",
];

fn doctor(temp: &TestDir, more: &[&str]) -> Command {
    let mut command = btsync();
    command.env_remove("BTSYNC_NO_PORT_MAPPING").env("XDG_CACHE_HOME", temp.path("cache")).env("RUST_LOG", "off");
    for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
        command.env_remove(name).env_remove(name.to_uppercase());
    }
    command.arg("doctor").arg(temp.folder("out")).arg("--json").args(more);
    command
}

/// The checks by name; the later one if there are several.
fn checks(log: &str) -> BTreeMap<String, Value> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let lines = lines.inspect(schema::assert_is_check);
    lines.map(|line| (line["check"].as_str().expect("a name").to_owned(), line)).collect()
}

fn status(checks: &BTreeMap<String, Value>, name: &str) -> String {
    checks.get(name).unwrap_or_else(|| panic!("no check {name}: {checks:?}"))["status"].as_str().expect("text").into()
}

/// The far machine as the gateway, also with a public address.
fn gateway_to_a_stranger() -> RemoteMachine {
    let far = gateway();
    let add = far.command("ip".as_ref()).args(["addr", "add", &format!("{STRANGER}/32"), "dev", "far"]).status();
    assert!(add.expect("ip").success(), "no further address");
    far
}

fn start(temp: &TestDir, port: u16, more: &[&str]) -> Running {
    let port = port.to_string();
    let mut running = temp.start("doctor", &mut doctor(temp, &[&["--listen-port", &port], more].concat()));
    // By now it listens, and has joined the DHT.
    running.wait_for_output("\"check\":\"port\"");
    running
}

#[test]
fn without_a_network_everything_that_is_missing_is_named_and_nothing_is_left() {
    let test = "without_a_network_everything_that_is_missing_is_named_and_nothing_is_left";
    in_network_namespace(test, &[], || {
        let temp = TestDir::new();
        let mut running = temp.start("doctor", &mut doctor(&temp, &["--wait", FOR_EVER]));
        running.expect_exit(33);
        let found = checks(&running.log());
        assert_eq!(found.len(), CHECKS.len(), "{found:?}");
        for name in ["ipv4", "ipv6", "dht"] {
            assert_eq!(status(&found, name), "problem");
        }
        for name in ["port-mapping", "reachable"] {
            assert_eq!(status(&found, name), "warning");
        }
        for name in ["clock", "certificates", "port", "proxy"] {
            assert_eq!(status(&found, name), "ok", "{found:?}");
        }
        assert!(CHECKS.iter().all(|name| found.contains_key(*name)), "{found:?}");
        assert_eq!(std::fs::read_dir(temp.path("out")).expect("the folder").count(), 0);
        assert!(!temp.path("cache").exists(), "no node of the DHT is saved");
        assert!(running.log().contains("3 problems and"), "{}", running.log());
    });
}

#[test]
fn a_connection_from_a_public_address_and_a_router_that_forwards_are_told() {
    let test = "a_connection_from_a_public_address_and_a_router_that_forwards_are_told";
    in_network_namespace(test, &[], || {
        let (far, temp, port) = (gateway_to_a_stranger(), TestDir::new(), free_port());
        let (log, _socket) = router::datagrams(&far, 5351, |request| natpmp_answer(request, 1000, 7000));
        let mut running = start(&temp, port, &["--no-dht", "--wait", FOR_EVER]);
        far.run_inside(|| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            socket.bind(&SocketAddr::new(STRANGER.parse().expect("an address"), 0).into()).expect("its address");
            let to = SocketAddr::new("10.89.0.1".parse().expect("an address"), port);
            socket.connect(&to.into()).expect("somebody listens");
        });
        running.expect_exit(0);
        let found = checks(&running.log());
        assert_eq!(found["reachable"]["figures"]["tcp"], Value::Bool(true), "{found:?}");
        assert_eq!(found["port-mapping"]["figures"]["tcp_port"], Value::from(7000), "{found:?}");
        for name in ["ipv4", "port", "port-mapping", "reachable", "dht"] {
            assert_eq!(status(&found, name), "ok", "{found:?}");
        }
        let removals = log.lock().expect("no panic").iter().filter(|request| request.ends_with(&[0; 6])).count();
        assert!(removals >= 2, "nothing is left in the router");
    });
}

#[test]
fn a_dht_node_and_a_packet_of_a_stranger_are_told() {
    in_network_namespace("a_dht_node_and_a_packet_of_a_stranger_are_told", &[], || {
        let (far, temp, port) = (gateway_to_a_stranger(), TestDir::new(), free_port());
        let node_port = free_port();
        let mut settings = DhtSettings::default();
        settings.routers.clear();
        let bind = Bind::Address(ROUTER.parse().expect("an address"));
        let _node = far.run_inside(|| settings.start(node_port, &bind).expect("a DHT node"));
        let node = format!("{ROUTER}:{node_port}");
        let more = ["--no-port-mapping", "--dht-entry-point", &node, "--wait", "8"];
        let mut running = start(&temp, port, &more);
        far.run_inside(|| {
            let socket = UdpSocket::bind((STRANGER, 0)).expect("a socket");
            socket.set_read_timeout(Some(crate::common::PATIENCE)).expect("a time limit");
            let ping = b"d1:ad2:id20:abcdefghijklmnopqrste1:q4:ping1:t2:aa1:y1:qe";
            socket.send_to(ping, ("10.89.0.1", port)).expect("it is sent");
            socket.recv(&mut [0; 1500]).expect("an answer");
        });
        running.expect_exit(0);
        let found = checks(&running.log());
        assert_eq!(found["dht"]["figures"]["ipv4_nodes"], Value::from(1), "{found:?}");
        assert_eq!(status(&found, "reachable"), "ok", "{found:?}");
        assert_eq!(
            (&found["reachable"]["figures"]["udp"], &found["reachable"]["figures"]["tcp"]),
            (&true.into(), &false.into())
        );
    });
}

#[test]
fn a_port_that_is_taken_is_a_problem() {
    in_network_namespace("a_port_that_is_taken_is_a_problem", &[], || {
        let (_far, temp) = (gateway(), TestDir::new());
        let taken = std::net::TcpListener::bind(("0.0.0.0", 0)).expect("a port");
        let port = taken.local_addr().expect("an address").port().to_string();
        let more = ["--listen-port", &port, "--no-dht", "--no-port-mapping", "--wait", FOR_EVER];
        let mut running = temp.start("doctor", &mut doctor(&temp, &more));
        running.expect_exit(33);
        let found = checks(&running.log());
        assert_eq!((status(&found, "port"), status(&found, "reachable")), ("problem".to_owned(), "warning".to_owned()));
    });
}

#[test]
fn proxies_are_asked_whether_they_work() {
    in_network_namespace("proxies_are_asked_whether_they_work", &[], || {
        let temp = TestDir::new();
        let at = SocketAddr::new(address(2).parse().expect("an address"), 0);
        let proxy = TestProxy::start(at).with_credentials("me:secret");
        let result = |more: &[&str], variables: &[(&str, &str)]| {
            let mut command = doctor(&temp, more);
            command.envs(variables.iter().copied());
            let mut running = temp.start("doctor", &mut command);
            running.expect_exit(33);
            assert!(!running.log().contains("secret"), "{}", running.log());
            checks(&running.log())
        };
        for (scheme, name, wanted) in [
            ("socks5", "me:secret", "ok"),
            ("socks5", "me:wrong", "problem"),
            ("http", "me:secret", "ok"),
            ("http", "me:wrong", "problem"),
        ] {
            let url = format!("{scheme}://{name}@{}", proxy.addr);
            let found = result(&["--proxy", &url], &[]);
            assert_eq!(status(&found, "proxy"), wanted, "{url}: {found:?}");
            for off in ["port", "port-mapping", "reachable"] {
                assert_eq!(status(&found, off), "ok", "{found:?}");
            }
            assert_eq!(status(&found, "dht"), if scheme == "socks5" { "warning" } else { "ok" }, "{found:?}");
        }
        let others: Vec<_> = proxy.requests().into_iter().filter(|it| !it.contains("udp")).collect();
        assert!(others.iter().all(|request| request.contains(".invalid")), "{others:?}");
        let url = format!("http://me:secret@{}", proxy.addr);
        let found = result(&[], &[("https_proxy", &url)]);
        assert_eq!(
            (status(&found, "proxy"), &found["proxy"]["figures"]["variable"]),
            ("ok".into(), &"https_proxy".into())
        );
        assert!(found["proxy"]["message"].as_str().expect("text").contains("do not use it"), "{found:?}");
        let found = result(&[], &[("ALL_PROXY", "gopher://me:secret@x:1")]);
        assert_eq!(status(&found, "proxy"), "problem");
        proxy.set_habit(Habit::TalksNonsense);
        assert_eq!(status(&result(&[], &[("http_proxy", &url)]), "proxy"), "problem");
    });
}

/// Ends early with the code of a stop, and says what it has found so far.
#[test]
fn a_signal_ends_the_wait() {
    in_network_namespace("a_signal_ends_the_wait", &[], || {
        let (_far, temp) = (gateway(), TestDir::new());
        let mut running = start(&temp, free_port(), &["--no-port-mapping", "--wait", FOR_EVER]);
        running.wait_for_output("\"check\":\"proxy\"");
        running.terminate(7);
        assert!(checks(&running.log()).contains_key("dht"));
    });
}
