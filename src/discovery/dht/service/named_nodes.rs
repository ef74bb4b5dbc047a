//! DHT nodes of which only the names are known, because a proxy resolves them: btsync pings each by its name, and learns its address
//! from the response. Pure.

use std::net::SocketAddr;
use std::time::Duration;

use crate::discovery::dht::message::{KrpcBody, KrpcMessage};
use crate::discovery::tracker::http::has_local_form;
use crate::net::networks::is_private;
use crate::net::proxy::ProxyTarget;

/// The most names kept.
const MAX_NAMES: usize = 64;
/// The first pause before a name without a response is tried again; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const MAX_PAUSE: Duration = Duration::from_secs(5 * 60);
/// A node of a torrent is given up after this many attempts. The user's nodes and routers are not.
const TRIES: u32 = 6;

/// A node of which the name is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedNode {
    target: ProxyTarget,
    /// Whether it is a bootstrap node, which does not enter the routing table.
    pub is_router: bool,
    /// Whether the user named it, so that it may be in the proxy's own network.
    is_trusted: bool,
}

impl NamedNode {
    /// The node `HOST:PORT`. `None` for what cannot be reached through a proxy, and for a local address or name that the user has not
    /// named: a torrent must not make the proxy send packets to services of its own network.
    pub fn new(node: &str, is_router: bool, is_trusted: bool) -> Option<NamedNode> {
        let (host, port) = node.rsplit_once(':')?;
        let port = port.parse().ok().filter(|port| *port != 0)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let target = ProxyTarget::new(host, port);
        let is_local = match &target {
            ProxyTarget::Addr(addr) => is_private(addr.ip()),
            ProxyTarget::Name(name, _) => has_local_form(name),
        };
        let is_possible = (1..=255).contains(&host.len()) && (is_trusted || !is_local);
        is_possible.then_some(NamedNode { target, is_router, is_trusted })
    }

    /// Its address, if that is what its name is.
    pub fn addr(&self) -> Option<SocketAddr> {
        if let ProxyTarget::Addr(addr) = self.target { Some(addr) } else { None }
    }
}

/// A name that is being tried.
#[derive(Debug)]
struct NameAttempts {
    node: NamedNode,
    /// The transaction id of the last ping.
    transaction: Option<[u8; 4]>,
    tries: u32,
    due: Duration,
}

/// The nodes whose addresses are not known yet.
#[derive(Debug, Default)]
pub(crate) struct NamedNodes {
    waiting: Vec<NameAttempts>,
}

impl NamedNodes {
    /// Tries a node from now on; further ones are ignored if there are too many.
    pub fn add(&mut self, now: Duration, node: NamedNode) {
        let is_known = self.waiting.iter().any(|waiting| waiting.node.target == node.target);
        if !is_known && self.waiting.len() < MAX_NAMES {
            self.waiting.push(NameAttempts { node, transaction: None, tries: 0, due: now });
        }
    }

    /// Tries all of them at once, through a new association.
    pub fn restart(&mut self, now: Duration) {
        for waiting in &mut self.waiting {
            (waiting.tries, waiting.due) = (0, now);
        }
    }

    /// When [`NamedNodes::next_ping`] has something.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.waiting.iter().map(|waiting| waiting.due).min()
    }

    /// A node to ping now, with this transaction id.
    pub fn next_ping(&mut self, now: Duration, transaction: [u8; 4]) -> Option<ProxyTarget> {
        self.waiting.retain(|waiting| {
            waiting.due > now || waiting.tries < TRIES || waiting.node.is_router || waiting.node.is_trusted
        });
        let waiting = self.waiting.iter_mut().find(|waiting| waiting.due <= now)?;
        waiting.due = now + FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(waiting.tries)).min(MAX_PAUSE);
        waiting.tries += 1;
        waiting.transaction = Some(transaction);
        Some(waiting.node.target.clone())
    }

    /// The node that has sent this message in response to a ping: its sender has the node's address. Only the proxy knows the
    /// addresses of a name, so the transaction id has to prove that the message is the node's.
    pub fn responded(&mut self, from: SocketAddr, message: &KrpcMessage) -> Option<NamedNode> {
        if !from.is_ipv4() || !matches!(message.body, KrpcBody::Response(_)) {
            return None;
        }
        let is_its = |waiting: &NameAttempts| {
            waiting.transaction.is_some_and(|sent| message.transaction == sent)
                && (waiting.node.is_trusted || !is_private(from.ip()))
        };
        let at = self.waiting.iter().position(is_its)?;
        Some(self.waiting.swap_remove(at).node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::dht::id::NodeId;
    use crate::discovery::dht::message::KrpcResponse;

    const START: Duration = Duration::ZERO;

    fn node(name: &str, is_trusted: bool) -> NamedNode {
        NamedNode::new(name, false, is_trusted).expect("a node")
    }

    fn response(transaction: &[u8]) -> KrpcMessage {
        let response = KrpcResponse::new(NodeId([7; 20]));
        KrpcMessage { transaction: transaction.to_vec(), ip: None, body: KrpcBody::Response(response) }
    }

    fn addr(addr: &str) -> SocketAddr {
        addr.parse().expect("an address")
    }

    #[test]
    fn only_the_user_names_nodes_of_the_proxys_network() {
        for local in ["localhost:1", "router:1", "nas.local:1", "10.0.0.1:1", "[fd00::1]:1", "127.1:1"] {
            assert!(NamedNode::new(local, false, false).is_none(), "{local}");
            assert!(NamedNode::new(local, false, true).is_some(), "{local}");
        }
        for wrong in ["dht.example", "dht.example:0", "dht.example:65536", ":1", ""] {
            assert_eq!(NamedNode::new(wrong, true, true), None, "{wrong}");
        }
        assert!(NamedNode::new(&format!("{}:1", "a.".repeat(128)), true, true).is_none());
        assert_eq!(node("[2001:db8::1]:8", false).addr(), Some(addr("[2001:db8::1]:8")));
        assert_eq!(node("dht.example:8", false).addr(), None);
    }

    #[test]
    fn a_name_is_known_by_the_response_to_its_ping() {
        let mut names = NamedNodes::default();
        let (one, two) = (node("one.example:1", false), node("two.example:2", true));
        for node in [&one, &two, &one] {
            names.add(START, node.clone());
        }
        assert_eq!(names.next_ping(START, [1; 4]), Some(one.target.clone()));
        assert_eq!(names.next_ping(START, [2; 4]), Some(two.target.clone()));
        assert_eq!((names.next_ping(START, [3; 4]), names.next_deadline()), (None, Some(FIRST_PAUSE)));
        let public = addr("192.0.2.1:1");
        assert_eq!(names.responded(public, &response(&[3; 4])), None, "of no ping");
        assert_eq!(names.responded(public, &response(&[1])), None);
        let body = KrpcBody::Error(201, "no".into());
        let error = KrpcMessage { transaction: vec![1; 4], ip: None, body };
        assert_eq!(names.responded(public, &error), None, "no response");
        assert_eq!(names.responded(addr("10.0.0.1:1"), &response(&[1; 4])), None, "a service of the proxy's network");
        assert_eq!(names.responded(public, &response(&[1; 4])), Some(one));
        assert_eq!(names.responded(public, &response(&[1; 4])), None, "again");
        assert_eq!(names.responded(addr("10.0.0.1:1"), &response(&[2; 4])), Some(two), "the user's");
        assert_eq!(names.next_deadline(), None);
    }

    #[test]
    fn names_are_tried_again_with_longer_pauses_and_those_of_torrents_are_given_up() {
        let mut names = NamedNodes::default();
        let routers = NamedNode::new("router.example:1", true, true).expect("a node");
        names.add(START, node("of-a-torrent.example:1", false));
        names.add(START, routers.clone());
        let mut sent = Vec::new();
        let mut now = START;
        while sent.len() < 20 {
            while let Some(to) = names.next_ping(now, [0; 4]) {
                sent.push((now.as_secs(), to == routers.target));
            }
            now = names.next_deadline().expect("a name");
        }
        let times = |router: bool| sent.iter().filter(move |ping| ping.1 == router).map(|ping| ping.0);
        assert_eq!(times(false).collect::<Vec<_>>(), [0, 10, 30, 70, 150, 310]);
        assert_eq!(times(true).take(8).collect::<Vec<_>>(), [0, 10, 30, 70, 150, 310, 610, 910]);
        names.restart(now);
        assert_eq!(names.next_deadline(), Some(now));
    }

    #[test]
    fn names_are_bounded() {
        let mut names = NamedNodes::default();
        for at in 0..2 * MAX_NAMES {
            names.add(START, node(&format!("n{at}.example:1"), false));
        }
        assert_eq!(names.waiting.len(), MAX_NAMES);
    }
}
