//! Private torrents use only their trackers (BEP 27), and `--interface` restricts all traffic to one interface or address: no
//! DHT, no local discovery, no peer exchange, nothing by another route. The tests check this at the receivers.
//!
//! A public torrent beside the private one is the clock: once every receiver has received its announces, the private torrent has
//! had enough time too.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::common::extended_peer::{ExtendedEvent, ExtendedPeer, size_of};
use crate::common::netns::{address, allow_multicast_on_lo, in_network_namespace};
use crate::common::payload::Payload;
use crate::common::process::Running;
use crate::common::seeder::{FakePeer, full_bitfield};
use crate::common::tracker::Tracker;
use crate::common::wire::{Message, extended_handshake, id};
use crate::common::{TestDir, btsync, free_port, until};
use parking_lot::Mutex;
use socket2::{Domain, Socket, Type};

/// The sender and content of a datagram.
type Datagram = (SocketAddr, Vec<u8>);

/// Records every datagram that a UDP socket receives, until dropped.
struct DatagramLog {
    addr: SocketAddr,
    received: Arc<Mutex<Vec<Datagram>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl DatagramLog {
    fn of(socket: UdpSocket) -> DatagramLog {
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        let (received, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (log, stopped, addr) = (received.clone(), stop.clone(), socket.local_addr().expect("an address"));
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    log.lock().push((from, buffer[..length].to_vec()));
                }
            }
        });
        DatagramLog { addr, received, stop, thread: Some(thread) }
    }

    /// A DHT node or UDP tracker that never answers.
    fn at(host: u8) -> DatagramLog {
        DatagramLog::of(UdpSocket::bind((address(host), 0)).expect("a UDP port"))
    }

    /// Receives what is sent to the IPv4 group of local discovery.
    fn of_lsd_group() -> DatagramLog {
        let group = Ipv4Addr::new(239, 192, 152, 143);
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
        socket.set_reuse_address(true).expect("to share the port");
        socket.set_reuse_port(true).expect("to share the port");
        socket.bind(&SocketAddr::from((group, 6771)).into()).expect("the port of local discovery");
        // Only groups joined on this interface. By default Linux also delivers groups that other sockets of the machine have
        // joined.
        socket.set_multicast_all_v4(false).expect("to hear what it joined");
        socket.join_multicast_v4(&group, &address(1).parse().expect("an address")).expect("the group");
        DatagramLog::of(socket.into())
    }

    /// How many datagrams have been sent to it so far, those that its thread has not yet read included.
    fn count(&self) -> usize {
        const LAST: &[u8] = b"the last one so far";
        let own = UdpSocket::bind((address(1), 0)).expect("a UDP port");
        own.send_to(LAST, self.addr).expect("room for it");
        let own = own.local_addr().expect("an address");
        let is_read = || self.received.lock().iter().any(|(from, bytes)| *from == own && bytes == LAST);
        until("the log has read all", is_read);
        let mut received = self.received.lock();
        received.retain(|(_, bytes)| bytes != LAST);
        received.len()
    }

    fn senders(&self) -> HashSet<IpAddr> {
        self.received.lock().iter().map(|(from, _)| from.ip()).collect()
    }

    /// Whether any datagram contains this text, ignoring case.
    fn holds(&self, text: &str) -> bool {
        let of = |bytes: &[u8]| String::from_utf8_lossy(bytes).to_lowercase().contains(&text.to_lowercase());
        self.received.lock().iter().any(|(_, bytes)| of(bytes))
    }
}

impl Drop for DatagramLog {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// A swarm of two peers with the complete payload, which wait until the test lets them serve; a tracker that returns them, and a
/// DHT node.
struct Swarm {
    payload: Payload,
    peers: [ExtendedPeer; 2],
    /// Whether the peers serve blocks, and whether they send metadata.
    serve: Arc<AtomicBool>,
    tell: Arc<AtomicBool>,
    tracker: Tracker,
    node: DatagramLog,
}

impl Swarm {
    fn new(name: &str, private: bool) -> Swarm {
        let mut payload = Payload::single(name, 200_000, 16 * 1024);
        payload.private = private;
        let (serve, tell) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(true)));
        let peer = || {
            let (serve, tell) = (serve.clone(), tell.clone());
            let pieces = payload.pieces();
            ExtendedPeer::new(&payload, size_of(&payload), move |connection, event| {
                match event {
                    ExtendedEvent::Begin => {
                        connection.wire.send(id::BITFIELD, &full_bitfield(pieces))?;
                        // From another thread, so that the peer keeps reading in the meantime.
                        let (mut wire, serve) = (connection.wire.try_clone()?, serve.clone());
                        std::thread::spawn(move || {
                            until("the peer may serve", || serve.load(Ordering::Relaxed));
                            wire.send(id::UNCHOKE, &[])
                        });
                        return Ok(true);
                    }
                    ExtendedEvent::Metadata(_) => until("the peer may tell", || tell.load(Ordering::Relaxed)),
                    ExtendedEvent::Block(..) => {}
                }
                Ok(false)
            })
        };
        let peers = [peer(), peer()];
        let tracker = Tracker::start(&[peers[0].addr(), peers[1].addr()]);
        Swarm { peers, serve, tell, tracker, node: DatagramLog::at(7), payload }
    }

    /// Starts btsync in this swarm, with every way of finding peers enabled.
    fn join(&self, temp: &TestDir, what: &OsStr) -> Running {
        let entry = self.node.addr.to_string();
        let out = temp.folder(&self.payload.name.replace('.', "-"));
        temp.btsync_with_discovery(&self.payload.name, what, &out, free_port(), &["--dht-entry-point", &entry])
    }

    fn url(&self) -> String {
        self.tracker.url(&address(1))
    }

    fn join_by_torrent(&self, temp: &TestDir) -> Running {
        self.join(temp, temp.torrent(&self.payload, &self.url()).as_os_str())
    }

    /// Waits until btsync has connected to both peers so many times.
    fn wait_for_connections(&self, times: usize) {
        let connected = || self.peers.iter().all(|peer| peer.received().dialed_from.len() >= times);
        until("both peers are connected", connected);
    }

    /// Waits until every way of finding peers has announced the download.
    fn wait_for_all_announces(&self, neighbours: &DatagramLog) {
        self.wait_for_connections(1);
        until("a node of the DHT is asked", || self.node.count() > 0);
        until("the neighbours are told", || neighbours.holds(&self.payload.hex()));
        for peer in &self.peers {
            until("a peer is told of the other, and of our node", || {
                peer.received().pex > 0 && peer.received().ports > 0
            });
            let received = peer.received();
            assert!(received.offers_pex[0] && received.dht_bits[0], "{received:?}");
        }
    }

    /// Lets the peers serve; the download must complete.
    fn completes(&self, mut btsync: Running, temp: &TestDir) {
        self.serve.store(true, Ordering::Relaxed);
        btsync.expect_exit(0);
        self.payload.assert_at(&temp.path(&self.payload.name.replace('.', "-")));
    }
}

#[test]
fn nothing_is_told_of_a_private_torrent() {
    in_network_namespace("nothing_is_told_of_a_private_torrent", &[], || {
        allow_multicast_on_lo();
        let (temp, neighbours) = (TestDir::new(), DatagramLog::of_lsd_group());
        let (private, open) = (Swarm::new("private.bin", true), Swarm::new("open.bin", false));
        let secret = private.join_by_torrent(&temp);
        private.wait_for_connections(1);
        let ordinary = open.join_by_torrent(&temp);
        open.wait_for_all_announces(&neighbours);

        assert_eq!(private.node.count(), 0, "the DHT heard of it");
        assert!(!neighbours.holds(&private.payload.hex()), "the neighbours heard of it");
        for received in private.peers.iter().map(ExtendedPeer::received) {
            assert_eq!((received.pex, received.ports), (0, 0), "{received:?}");
            assert!(!received.offers_pex[0] && !received.dht_bits[0], "{received:?}");
        }
        private.completes(secret, &temp);
        open.completes(ordinary, &temp);
    });
}

/// A magnet link is known to be private once its metadata has arrived. From then on btsync announces nothing else, and does not
/// reconnect to peers that the tracker did not return.
#[test]
fn a_link_to_a_private_torrent_falls_silent() {
    in_network_namespace("a_link_to_a_private_torrent_falls_silent", &[], || {
        allow_multicast_on_lo();
        let (temp, neighbours) = (TestDir::new(), DatagramLog::of_lsd_group());
        let (private, open) = (Swarm::new("private.bin", true), Swarm::new("open.bin", false));
        // A peer announces a third peer by peer exchange, and withholds the metadata until btsync has connected to that one.
        let third = ExtendedPeer::new(&private.payload, 0, |_, _| Ok(true));
        let (named, tell) = (third.addr(), private.tell.clone());
        tell.store(false, Ordering::Relaxed);
        let gossip = ExtendedPeer::new(&private.payload, size_of(&private.payload), move |connection, event| {
            match event {
                ExtendedEvent::Begin => return connection.pex(&[named]).map(|()| true),
                ExtendedEvent::Metadata(_) => until("it may tell", || tell.load(Ordering::Relaxed)),
                ExtendedEvent::Block(..) => {}
            }
            Ok(false)
        });
        let link = private.payload.magnet(&format!("&tr={}&x.pe={}", private.url(), gossip.addr()));
        let secret = private.join(&temp, OsStr::new(&link));
        until("the third is dialed", || !third.received().dialed_from.is_empty());
        until("the DHT is asked while nobody knows that it is private", || private.node.count() > 0);
        // Only a peer that btsync connected to before can show that btsync does not reconnect.
        private.wait_for_connections(1);
        private.tell.store(true, Ordering::Relaxed);
        private.wait_for_connections(2);

        let (node, dials) = (private.node.count(), third.received().dialed_from.len());
        let ordinary = open.join_by_torrent(&temp);
        open.wait_for_all_announces(&neighbours);
        assert_eq!(private.node.count(), node, "the DHT heard of it afterwards");
        assert_eq!(third.received().dialed_from.len(), dials, "btsync connects to peers that a peer named");
        for received in private.peers.iter().map(ExtendedPeer::received) {
            assert_eq!(received.pex, 0, "{received:?}");
            assert!(!received.offers_pex[1] && !received.dht_bits[1], "{received:?}");
        }
        private.completes(secret, &temp);
        open.completes(ordinary, &temp);
    });
}

/// A download bound to `interface`, with receivers for every kind of traffic.
fn bound_download(temp: &TestDir, swarm: &Swarm, udp: &DatagramLog, interface: &str) -> Running {
    let torrent = temp.torrent(&swarm.payload, &swarm.url());
    let (entry, udp) = (swarm.node.addr.to_string(), format!("udp://{}/announce", udp.addr));
    let named = swarm.peers[0].addr().to_string();
    let more = ["--interface", interface, "--dht-entry-point", &entry, "--bt-tracker", &udp, "--peer", &named];
    temp.btsync_with_discovery(interface, torrent.as_os_str(), &temp.folder("out"), free_port(), &more)
}

#[test]
fn an_interface_that_is_not_there_lets_nothing_out() {
    in_network_namespace("an_interface_that_is_not_there_lets_nothing_out", &[], || {
        allow_multicast_on_lo();
        let (temp, neighbours, udp) = (TestDir::new(), DatagramLog::of_lsd_group(), DatagramLog::at(8));
        let swarm = Swarm::new("tied.bin", false);
        for interface in ["nosuch0", "192.0.2.77", "2001:db8::77"] {
            let mut btsync = bound_download(&temp, &swarm, &udp, interface);
            btsync.expect_exit(6);
            let said = btsync.log();
            let complaints: Vec<&str> = said.lines().filter(|line| line.starts_with("btsync: ")).collect();
            assert!(matches!(complaints[..], [one] if one.contains(interface)), "it must say what is missing: {said}");
        }
        assert!(swarm.tracker.announces().is_empty() && swarm.peers[0].received().dialed_from.is_empty());
        assert_eq!((swarm.node.count(), udp.count(), neighbours.count()), (0, 0, 0));
    });
}

#[test]
fn all_connections_come_from_the_address_given() {
    in_network_namespace("all_connections_come_from_the_address_given", &[], || {
        allow_multicast_on_lo();
        let (temp, neighbours, udp) = (TestDir::new(), DatagramLog::of_lsd_group(), DatagramLog::at(8));
        let swarm = Swarm::new("tied.bin", false);
        let mut btsync = bound_download(&temp, &swarm, &udp, &address(5));
        swarm.wait_for_all_announces(&neighbours);
        // btsync asks the UDP tracker when there is no other.
        let torrent = temp.torrent(&swarm.payload, &format!("udp://{}/announce", udp.addr));
        let (out, more) = (temp.folder("out2"), ["--interface", &address(5), "--no-dht", "--no-lsd"]);
        let _other = temp.btsync_with_discovery("udp", torrent.as_os_str(), &out, free_port(), &more);
        until("the UDP tracker is asked", || udp.count() > 0);
        let five = HashSet::from([IpAddr::from([10, 88, 0, 5])]);
        assert_eq!(
            (swarm.node.senders(), udp.senders(), neighbours.senders()),
            (five.clone(), five.clone(), five.clone())
        );
        assert_eq!(swarm.tracker.announces().iter().map(|a| a.addr.ip()).collect::<HashSet<_>>(), five);
        for peer in &swarm.peers {
            assert_eq!(peer.received().dialed_from.iter().map(SocketAddr::ip).collect::<HashSet<_>>(), five);
        }
        swarm.serve.store(true, Ordering::Relaxed);
        btsync.expect_exit(0);
    });
}

/// Two interfaces, each with its own cable. A download bound to one of them, by name or by address, sends nothing to hosts behind
/// the other, even after its interface has gone.
#[test]
fn a_download_bound_to_an_interface_uses_no_other() {
    in_network_namespace("a_download_bound_to_an_interface_uses_no_other", &[], || {
        allow_multicast_on_lo();
        let cuts = [("near", "ip link del near"), ("10.89.0.1", "ip addr del 10.89.0.1/24 dev near")];
        for (interface, cut) in cuts {
            uses_no_other(interface, cut);
        }
    });
}

fn uses_no_other(interface: &str, cut: &str) {
    let sh =
        |script: &str| assert!(Command::new("sh").args(["-c", script]).status().expect("sh").success(), "{script}");
    sh("set -e; ip link add near type veth peer name far; ip link set near up; ip link set far up
        ip addr add 10.89.0.1/24 dev near");
    let (temp, neighbours, udp) = (TestDir::new(), DatagramLog::of_lsd_group(), DatagramLog::at(8));
    let (swarm, open) = (Swarm::new("tied.bin", false), Swarm::new("open.bin", false));
    let mut btsync = bound_download(&temp, &swarm, &udp, interface);
    btsync.wait_for_output("listening on port");
    let ordinary = open.join_by_torrent(&temp);
    open.wait_for_all_announces(&neighbours);
    open.completes(ordinary, &temp);
    sh(cut);

    let ordinary = Swarm::new("again.bin", false);
    let again = ordinary.join_by_torrent(&temp);
    ordinary.wait_for_all_announces(&neighbours);
    ordinary.completes(again, &temp);
    assert!(swarm.tracker.announces().is_empty() && swarm.peers[0].received().dialed_from.is_empty());
    assert_eq!((swarm.node.count(), udp.count()), (0, 0));
    assert!(!neighbours.holds(&swarm.payload.hex()));
    btsync.terminate(7);
}

/// For trackers that allow only certain clients: the client name in announces, handshakes and HTTP requests, by default and as
/// configured.
#[test]
fn a_client_has_the_name_that_the_user_gives() {
    let version = env!("CARGO_PKG_VERSION");
    let ours = format!("-BY{}0-", version.replace('.', ""));
    let said = heard_of_the_client(&[]);
    assert_eq!(said, [ours.clone(), ours, format!("btsync/{version}"), format!("btsync {version}")]);
    let said = heard_of_the_client(&["--peer-id-prefix=-qB4650-", "--user-agent", "qBittorrent/4.6.5"]);
    assert_eq!(said, ["-qB4650-", "-qB4650-", "qBittorrent/4.6.5", "qBittorrent/4.6.5"]);
    for bad in [
        "--peer-id-prefix=-qB465-",
        "--peer-id-prefix=-qB46500-",
        "--peer-id-prefix=-qB46 0-",
        "--user-agent=a\nb",
        "--user-agent=",
    ] {
        let output = btsync().args(["x.torrent", bad]).output().expect("btsync runs");
        assert_eq!(output.status.code(), Some(28), "{bad}: {output:?}");
    }
}

/// The first eight bytes of the peer id in an announce and in a handshake, the user agent, and the name in the extension
/// handshake.
fn heard_of_the_client(options: &[&str]) -> [String; 4] {
    let (temp, payload) = (TestDir::new(), Payload::single("x.bin", 40_000, 16 * 1024));
    let (told, received) = std::sync::mpsc::channel();
    let info_hash = payload.info_hash();
    let peer = FakePeer::raw(move |mut wire| {
        let theirs = wire.read_handshake()?;
        wire.send_raw(&extended_handshake(info_hash))?;
        loop {
            match wire.receive()? {
                Message::Other(20, body) if body.first() == Some(&0) => {
                    let _ = told.send((theirs[48..56].to_vec(), body));
                    return Ok(());
                }
                _ => {}
            }
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/announce", listener.local_addr().expect("an address"));
    let torrent = temp.torrent(&payload, &url);
    let port = free_port().to_string();
    let mut command = btsync();
    command.arg(torrent).arg(temp.path("out")).args(["--no-dht", "--no-lsd", "--plain", "--listen-port", &port]);
    command.args(["--peer", &peer.addr.to_string(), "--encryption=off"]).args(options);
    let mut running = temp.start("btsync", &mut command);
    let (stream, _) = listener.accept().expect("an announce");
    let request: Vec<String> =
        BufReader::new(stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let (id, extension) = received.recv_timeout(crate::common::PATIENCE).expect("an extension handshake");
    running.terminate(7);
    let announced = request[0].split_once("peer_id=").expect("a peer id").1[..8].to_owned();
    let agent =
        request.iter().find_map(|line| line.to_ascii_lowercase().starts_with("user-agent: ").then(|| &line[12..]));
    let extension = String::from_utf8_lossy(&extension).into_owned();
    let (length, rest) = extension.split_once("1:v").expect("a version").1.split_once(':').expect("a string");
    let client = rest[..length.parse::<usize>().expect("a length")].to_owned();
    [announced, String::from_utf8_lossy(&id).into_owned(), agent.expect("a user agent").to_owned(), client]
}

/// A listener that must receive no connection, and its address.
fn unused_listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a listener that does not wait");
    let addr = listener.local_addr().expect("an address");
    (listener, addr)
}

/// A download with this proxy variable and no other in its environment.
fn download_with_proxy(temp: &TestDir, what: &str, variable: (&str, &str)) -> Running {
    let mut command = btsync();
    for name in ["all_proxy", "http_proxy", "https_proxy", "no_proxy"] {
        command.env_remove(name).env_remove(name.to_uppercase());
    }
    command.args([what, "out", "--no-dht", "--no-lsd", "--plain"]).env(variable.0, variable.1);
    command.args(["--listen-port", &free_port().to_string()]).current_dir(temp.path(""));
    temp.start("download", &mut command)
}

/// Many proxies allow CONNECT for TLS only.
#[test]
fn a_proxy_gets_whole_urls_for_http_and_connect_for_https() {
    let (temp, payload) = (TestDir::new(), Payload::single("x.bin", 40_000, 16 * 1024));
    for (scheme, method) in [("http", "GET"), ("https", "CONNECT")] {
        let (tracker, at) = unused_listener();
        let torrent = temp.torrent(&payload, &format!("{scheme}://{at}/announce"));
        let proxy = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://me:pw@{}", proxy.local_addr().expect("an address"));
        let first = std::thread::spawn(move || {
            let (stream, _) = proxy.accept().expect("a request");
            let head: Vec<String> =
                BufReader::new(stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            head.join("\n")
        });
        let mut download = download_with_proxy(&temp, torrent.to_str().expect("UTF-8"), ("ALL_PROXY", &url));
        until("the proxy has a request", || first.is_finished());
        let head = first.join().expect("a request");
        download.terminate(7);
        let target =
            if scheme == "http" { format!("http://{at}/announce?info_hash=") } else { format!("{at} HTTP/1.1") };
        assert!(head.starts_with(&format!("{method} {target}")), "{head}");
        assert!(head.to_ascii_lowercase().contains("proxy-authorization: basic "), "{head}");
        assert!(tracker.accept().is_err(), "the tracker was asked directly");
    }
}

#[test]
fn a_proxy_that_cannot_be_used_is_reported_and_nothing_goes_past_it() {
    let (temp, payload) = (TestDir::new(), Payload::single("x.bin", 40_000, 16 * 1024));
    let (tracker, at) = unused_listener();
    let torrent = temp.torrent(&payload, &format!("http://{at}/announce")).display().to_string();
    let values =
        ["socks4://127.0.0.1:1", "gopher://127.0.0.1:1", "ftp://127.0.0.1:1", "http://", "what?", "127.0.0.1:x"];
    for (variable, value) in ["ALL_PROXY", "http_proxy", "HTTP_PROXY"].into_iter().cycle().zip(values) {
        let mut download = download_with_proxy(&temp, &torrent, (variable, value));
        download.wait_for_output(&format!("the proxy in the environment cannot be used: {variable}: expected"));
        download.terminate(7);
        let mut download = download_with_proxy(&temp, &format!("http://{at}/x.torrent"), (variable, value));
        download.expect_exit(6);
        assert!(download.log().contains("cannot be used"), "{value}: {}", download.log());
    }
    assert!(tracker.accept().is_err(), "something was asked directly");
}
