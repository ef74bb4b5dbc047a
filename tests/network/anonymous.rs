//! `--anonymous`: no packet names btsync, its version or an address of its machine. The payload of every packet is recorded.

use std::process::Command;

use crate::common::netns::{address, in_network_namespace};
use crate::common::payload::Payload;
use crate::common::process::Running;
use crate::common::web_seed::{TestWebSeed, WebSeedOptions};
use crate::common::{TestDir, btsync, until};
use crate::proxy::{Scene, temptations};

/// A public address of btsync's machine: that is the one which an announce over IPv4 would name (BEP 7).
const PUBLIC: &str = "2001:db8:1::2";

/// The port of local discovery (BEP 14).
const LSD_PORT: u16 = 6771;

/// What identifies btsync or its machine, in lower case as ASCII, with where it is found without the option.
const MARKS: [(&[u8], &str); 17] = [
    (b"btsync", "user agents and the extension handshake"),
    (b"-by", "peer ids"),
    (b"user-agent", "HTTP requests"),
    (b"1:v4:", "DHT packets"),
    (b"1:v12:", "the extension handshake"),
    (b"6:yourip", "the extension handshake"),
    (b"1:pi", "the extension handshake"),
    (PUBLIC.as_bytes(), "announces, before its colons are encoded"),
    (b"2001%3adb8", "announces"),
    (b"&ipv6=", "announces"),
    (b"&ipv4=", ""),
    (b"&ip=", ""),
    (b"4:ipv4", ""),
    (b"4:ipv6", ""),
    (b"10.89.0.2", ""),
    (&[10, 0x59 | 0x20, 0, 2], ""),
    (b"fd89::2", ""),
];

/// The marks that the recorded packets contain, each with a flow.
pub(crate) fn marks(scene: &Scene) -> Vec<String> {
    let mut found = Vec::new();
    for (flow, payload) in scene.far.payloads() {
        let payload = payload.to_ascii_lowercase();
        let in_flow = MARKS.iter().filter(|(mark, _)| has(&payload, mark));
        found.extend(in_flow.map(|(mark, _)| format!("{} in {flow:?}", mark.escape_ascii())));
    }
    found
}

fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Whether some packet contains this.
fn was_sent(scene: &Scene, part: &str) -> bool {
    scene.far.payloads().values().any(|payload| has(payload, part.as_bytes()))
}

/// What follows `mark` in the packets, up to `end` or 60 bytes.
fn sent_after(scene: &Scene, mark: &str, end: u8) -> Vec<u8> {
    let all: Vec<u8> = scene.far.payloads().into_values().flatten().collect();
    let at = all.windows(mark.len()).position(|window| window == mark.as_bytes()).expect("the mark was sent");
    all[at + mark.len()..].iter().copied().take(60).take_while(|byte| *byte != end).collect()
}

fn web_seed(scene: &Scene) -> TestWebSeed {
    let options = WebSeedOptions { ip: address(1).parse().expect("an address"), ..WebSeedOptions::default() };
    TestWebSeed::with_options(&scene.payload, options)
}

/// Runs btsync until every kind of packet has been sent. Earlier packets are forgotten.
fn run(scene: &Scene, seed: &TestWebSeed, name: &str, more: &[&str]) -> Running {
    scene.far.forget();
    let torrent = scene.temp.torrent(&scene.payload, &scene.tracker.url(&address(1)));
    let tempting = temptations();
    let (peer, url) = (scene.peer(), seed.url());
    let args = tempting.iter().map(String::as_str);
    let args = args.chain(["--encryption", "off", "--web-seed", &url, "--peer", &peer, "--seed"]);
    // Neither the peer nor the web seed sends all before the other one has got a request.
    let args = args.chain(["--max-download-limit", "200K"]);
    let args: Vec<&str> = args.chain(more.iter().copied()).collect();
    let running = scene.btsync(name, &torrent, &args);
    until("the download is complete", || scene.is_complete(name));
    until("the tracker, a peer and the web seed have got something", || {
        was_sent(scene, "GET /announce?") && was_sent(scene, "4:reqq") && was_sent(scene, "GET /behind%20a%20proxy.bin")
    });
    running
}

#[test]
fn an_anonymous_client_sends_nothing_that_identifies_it() {
    in_network_namespace("an_anonymous_client_sends_nothing_that_identifies_it", &[], || {
        let scene = Scene::new();
        let inside = format!("nsenter -t {} -n ip -6", scene.far.machine.pid());
        let script = format!(
            "{inside} addr add {PUBLIC}/128 dev far nodad && {inside} route replace default via fd89::1 src {PUBLIC}"
        );
        assert!(Command::new("sh").args(["-c", &script]).status().expect("sh").success());
        let seed = web_seed(&scene);
        let was_multicast = || scene.far.flows().keys().any(|flow| flow.1.port() == LSD_PORT);

        let named = run(&scene, &seed, "named", &[]);
        until("a DHT packet and a multicast packet were sent", || was_sent(&scene, "1:v4:BY") && was_multicast());
        let found = marks(&scene).concat();
        let expected = ["btsync", "-by", "user-agent", "1:v12:", "6:yourip", "1:pi", "&ipv6="];
        assert!(expected.iter().all(|mark| found.contains(mark)), "{found}");
        drop(named);

        let mut ids = Vec::new();
        for name in ["first", "second"] {
            let running = run(&scene, &seed, name, &["--anonymous"]);
            until("a DHT packet was sent", || was_sent(&scene, "2:id20:"));
            assert_eq!(marks(&scene), [""; 0], "{name}");
            assert!(!was_multicast(), "no local discovery");
            assert!(running.log().contains("does not hide the IP address"), "{}", running.log());
            ids.push([sent_after(&scene, "peer_id=", b'&'), sent_after(&scene, "&key=", b'&')]);
        }
        assert!(ids[0][0] != ids[1][0] && ids[0][1] != ids[1][1], "a new identity in each run: {ids:?}");
    });
}

#[test]
fn behind_a_proxy_an_anonymous_client_hides_its_address_too() {
    in_network_namespace("behind_a_proxy_an_anonymous_client_hides_its_address_too", &[], || {
        let (scene, proxy) = (Scene::new(), Scene::proxy());
        let seed = web_seed(&scene);
        let through = format!("socks5://{}", proxy.addr);
        let running = run(&scene, &seed, "proxied", &["--anonymous", "--proxy", &through]);
        assert_eq!(marks(&scene), [""; 0]);
        assert_eq!(scene.far.flows_beside(&[proxy.addr.ip()]), []);
        assert!(!running.log().contains("does not hide the IP address"), "{}", running.log());
    });
}

#[test]
fn options_that_identify_the_client_contradict_anonymity() {
    let temp = TestDir::new();
    let torrent = temp.torrent(&Payload::single("x.bin", 1000, 1 << 16), "http://127.0.0.1:1/announce");
    for (option, is_allowed) in [
        ("--user-agent=x/1", false),
        ("--peer-id-prefix=-qB4650-", false),
        ("--port-mapping", false),
        ("--no-port-mapping", true),
    ] {
        let args = ["--anonymous", option, "--stop-timeout=1"];
        let mut command = btsync();
        command
            .env_remove("BTSYNC_NO_PORT_MAPPING")
            .arg(&torrent)
            .arg(temp.path("out"))
            .args(["--no-dht", "--no-lsd"])
            .args(args);
        let mut btsync = temp.start("told", &mut command);
        btsync.expect_exit(if is_allowed { 2 } else { 28 });
        let name = option.split('=').next().unwrap_or_default();
        let message = format!("--anonymous and {name} contradict each other");
        assert_eq!(btsync.log().contains(&message), !is_allowed, "{}", btsync.log());
    }
    let mut serve = btsync();
    serve.args(["serve", "--anonymous", "--port-mapping", "--state-dir"]).arg(temp.path("state"));
    serve.arg("--dir").arg(temp.path("downloads"));
    let mut serve = temp.start("serve", &mut serve);
    serve.expect_exit(28);
}
