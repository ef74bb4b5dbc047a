//! Sockets and name look-ups of the source: every file that opens a socket or looks up a name is listed here with the reason why it
//! may, so that nothing new goes around `--proxy` and `--interface`. What a socket of another file needs, `net::route::Route` has.

use std::collections::BTreeMap;

use super::layers::code;

/// What opens a socket, connects one, or looks up a name.
const OPENERS: [&str; 20] = [
    "Socket::new",
    "Socket::pair",
    "UdpSocket::bind",
    "TcpListener::bind",
    "TcpStream::connect",
    "UnixListener::bind",
    "UnixStream::connect",
    "UnixDatagram::",
    "rustix::net::socket",
    "socket_with(",
    "Agent::with_parts",
    "Agent::new",
    "ureq::get",
    "ureq::agent",
    ".outgoing_socket(",
    ".udp(",
    "bind.connect(",
    ".address_towards(",
    "to_socket_addrs",
    "host_names::",
];

/// The files that may, and why none of them goes around the proxy.
const PLACES: [(&str, &str); 28] = [
    ("cli/commands/doctor/network", "shows our address; sends nothing"),
    ("cli/settings", "a host name of --peer, which --proxy forbids"),
    ("client/listen_sockets", "for peers; bound with `Route::direct_bind` only"),
    ("discovery/dht/service", "the direct DHT, started with `Route::direct_bind` only"),
    ("discovery/dht/service/resolver", "names of DHT nodes; not started behind a proxy"),
    ("discovery/lsd/sockets", "local discovery; started with `Route::direct_bind` only"),
    ("discovery/port_mapping/announces", "started with `Route::direct_bind` only"),
    ("discovery/port_mapping/exchange", "started with `Route::direct_bind` only"),
    ("discovery/port_mapping/network", "shows our address; sends nothing"),
    ("discovery/port_mapping/router", "started with `Route::direct_bind` only"),
    ("discovery/tracker/http/address_guard", "looks up no name of a request that a proxy carries"),
    ("discovery/tracker/http/bound", "direct requests, with the binding of `HttpRoute`"),
    ("discovery/tracker/http/families", "our address, for clients without a proxy; sends nothing"),
    ("discovery/tracker/http/peer_names", "looks up nothing if a proxy carries the announce"),
    ("discovery/tracker/http/setup", "the agents, whose connector and resolver follow `HttpRoute`"),
    ("discovery/tracker/udp", "uses `Route::direct_bind`, or the proxy"),
    ("http_server/listener", "accepts connections to the page and to the tracker"),
    ("net/bind", "opens the sockets for all others"),
    ("net/host_names", "looks up names for all others"),
    ("net/interfaces", "asks the kernel (netlink)"),
    ("net/proxy/connect", "datagrams to the proxy"),
    ("net/proxy/state", "connects to the proxy, and looks up its name"),
    ("net/tcp_diag", "asks the kernel (netlink)"),
    ("peer/connection/dial", "uses `Route::direct_bind`, or the proxy"),
    ("torrent/options", "host names in links, with `Route::direct_bind` only"),
    ("tracker_server/udp", "the tracker, which answers only"),
    ("udp", "uTP and the DHT; started with `Route::direct_bind` only"),
    ("udp/dht_link", "connects two threads of the process"),
];

#[test]
fn only_known_files_open_sockets_and_look_up_names() {
    let mut found: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (path, code) in code() {
        let used: Vec<_> = OPENERS.into_iter().filter(|opener| code.contains(opener)).collect();
        if !used.is_empty() {
            found.insert(path.join("/"), used);
        }
    }
    for (file, used) in &found {
        let is_known = PLACES.iter().any(|(known, _)| known == file);
        assert!(is_known, "src/{file}.rs uses {used:?}: how does it get through the proxy? Take sockets from `Route`");
    }
    for (file, _) in PLACES {
        assert!(found.contains_key(file), "src/{file}.rs opens no socket any more: remove it from the list");
    }
}
