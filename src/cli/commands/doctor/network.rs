//! Checks of the network: addresses, the port, the router, the DHT and proxies. No web service is asked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;

use crate::cli::commands::doctor::check::Check;
use crate::cli::commands::doctor::results;
use crate::util::os_error::reason;
use btsync::{Bind, Client, ClientBuilder, ClientError, MappingState, NetworkStatus};

/// How long the results of the router and the DHT are looked at apart.
const POLL: Duration = Duration::from_millis(100);
/// How long to wait for the router if this machine has no way out.
const WITHOUT_ROUTE: Duration = Duration::from_secs(1);
/// How long a proxy may take.
const PROXY_TIMEOUT: Duration = Duration::from_secs(10);
/// As many nodes as a bucket of the routing table has show that the DHT works.
const ENOUGH_NODES: usize = 8;
/// Addresses for documentation (RFC 5737, RFC 3849), to which the default routes lead. Nothing is sent there.
const FAR_IPV4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9);
const FAR_IPV6: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)), 9);
/// The variables that name a proxy.
const PROXY_VARIABLES: [&str; 6] = ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];

/// What the user chose, as far as these checks depend on it.
pub(super) struct NetworkOptions {
    pub builder: ClientBuilder,
    pub bind: Bind,
    pub ports: RangeInclusive<u16>,
    pub has_proxy: bool,
    pub uses_dht: bool,
    pub has_entry_points: bool,
    /// How long to wait for others.
    pub wait: Duration,
}

/// A client that listens, while the checks run.
pub(super) struct NetworkCheck {
    options: NetworkOptions,
    client: Option<Arc<Client>>,
    /// Why the DHT cannot run.
    dht_error: Option<String>,
    /// Whether the client listens on a port that a download would use.
    has_its_port: bool,
    /// Our addresses on the way to other networks.
    ipv4: Option<IpAddr>,
    ipv6: Option<IpAddr>,
}

impl NetworkCheck {
    /// Starts to listen, and the search for DHT nodes. Returns the checks that this decides: block list, port, addresses.
    pub fn start(options: NetworkOptions) -> (NetworkCheck, Vec<Check>) {
        let (ipv4, ipv6) = (options.bind.address_towards(FAR_IPV4).ok(), options.bind.address_towards(FAR_IPV6).ok());
        let mut check = NetworkCheck { options, client: None, dht_error: None, has_its_port: false, ipv4, ipv6 };
        let mut results = vec![results::ipv4_check(ipv4, ipv6), results::ipv6_check(ipv4, ipv6)];
        results.extend(check.listen());
        if let Some(Err(error)) = check.client.as_ref().map(|client| client.join_dht()) {
            check.dht_error = Some(reason(&error));
        }
        (check, results)
    }

    /// Starts the client; if that fails, one with less.
    fn listen(&mut self) -> Vec<Check> {
        let mut results = Vec::new();
        let mut built = self.options.builder.build();
        if let Err(error @ ClientError::BlockList { .. }) = &built {
            let advice = "correct --block-list; with this list, downloads do not start";
            results.push(Check::problem("block-list", error.to_string(), advice));
            built = self.options.builder.clone().block_list(None).build();
        }
        match built {
            Ok(client) => {
                self.has_its_port = client.port().is_some();
                results.push(results::port_check(client.port(), &self.options.ports));
                self.client = Some(client);
            }
            Err(error @ ClientError::Interface { .. }) => {
                results.push(Check::problem("port", error.to_string(), "correct --interface, or start the VPN"));
            }
            Err(error) => {
                let advice = "end the program that has the port, or choose another one with --listen-port; while another btsync \
                              runs, this is as it should be";
                results.push(Check::problem("port", error.to_string(), advice));
                self.client = self.options.builder.clone().listen_ports(0..=0).build().ok();
            }
        }
        results
    }

    /// Whether there is a way to other networks.
    fn has_route(&self) -> bool {
        self.ipv4.is_some() || self.ipv6.is_some()
    }

    /// Waits until nothing remains to be found out, the time is over, or the sender of `stop` is gone.
    pub fn wait(&self, elapsed: impl Fn() -> Duration, stop: &Receiver<()>) {
        let Some(client) = &self.client else { return };
        let may_hear = self.has_route() || self.options.has_entry_points || self.options.has_proxy;
        let limit = if may_hear { self.options.wait } else { self.options.wait.min(WITHOUT_ROUTE) };
        while !self.is_decided(client) && elapsed() < limit {
            let pause = POLL.min(limit.saturating_sub(elapsed()));
            if stop.recv_timeout(pause).is_err_and(|error| error.is_disconnected()) {
                return;
            }
        }
    }

    fn is_decided(&self, client: &Client) -> bool {
        let is_asking = |state: &MappingState| matches!(state, MappingState::Asking);
        let mapping = client.port_mapping().map_or(!client.is_port_mapping_on(), |status| {
            !is_asking(&status.ipv4) && !status.ipv6.as_ref().is_some_and(is_asking)
        });
        let status = client.network_status();
        let dht = [status.dht_ipv4, status.dht_ipv6].into_iter().flatten();
        let knows_dht = dht.clone().count() == 0
            || dht.into_iter().any(|dht| dht.external_address.is_some() && dht.good_nodes >= ENOUGH_NODES);
        let reachable = !self.has_its_port || results::is_reachable(&status);
        mapping && knows_dht && reachable
    }

    /// The checks that had to wait for others.
    pub fn finish(self, waited: Duration) -> Vec<Check> {
        let Some(client) = &self.client else {
            let why = "not checked, because btsync cannot use the network as you told it to";
            return ["reachable", "port-mapping", "dht"].map(|name| Check::warning(name, why, "see above")).into();
        };
        let status = client.network_status();
        vec![
            results::mapping_check(
                client.port_mapping().as_ref(),
                client.is_port_mapping_on(),
                self.options.has_proxy,
                client.port(),
                self.ipv4,
            ),
            self.reachable_check(&status, waited),
            self.dht_check(&status),
        ]
    }

    fn reachable_check(&self, status: &NetworkStatus, waited: Duration) -> Check {
        let (tcp, udp) = (status.has_public_connection, results::has_unsolicited_query(status));
        let check = if self.options.has_proxy {
            Check::ok(
                "reachable",
                "no, because nobody can connect to btsync through a proxy; btsync connects to others",
            )
        } else if !self.has_its_port {
            Check::warning("reachable", "not checked, because another program has the port", "see above")
        } else if tcp {
            Check::ok("reachable", "yes: a host with a public address has connected to the port")
        } else if udp {
            Check::ok("reachable", "yes, over UDP: a DHT node to which btsync had sent nothing has sent a packet")
        } else {
            let message = format!(
                "not known: in {} s, nobody with a public address has connected or sent an unexpected DHT packet",
                waited.as_secs()
            );
            Check::warning(
                "reachable",
                message,
                "nothing if port mapping works; otherwise forward the port in the router, or wait longer with --wait 120",
            )
        };
        check.with("tcp", tcp).with("udp", udp)
    }

    fn dht_check(&self, status: &NetworkStatus) -> Check {
        if !self.options.uses_dht {
            return Check::ok("dht", "turned off");
        }
        if self.options.has_proxy && status.dht_ipv4.is_none() && self.dht_error.is_none() {
            return Check::ok("dht", "off, because this kind of proxy does not carry it");
        }
        if let Some(error) = &self.dht_error {
            let advice = "end the program that has the UDP port, or choose another one with --listen-port";
            return Check::problem("dht", format!("no UDP socket can be opened: {error}"), advice);
        }
        results::dht_check(status, self.options.has_proxy)
    }

    /// The checks of the proxies.
    pub fn proxy_checks(&self) -> Vec<Check> {
        let is_bound = self.options.bind != Bind::Any;
        let is_set = |name: &&&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let checks = self.options.builder.check_proxies(PROXY_TIMEOUT);
        if checks.is_empty() {
            return vec![match PROXY_VARIABLES.iter().find(is_set) {
                Some(name) if is_bound => {
                    Check::ok("proxy", format!("none; with --interface, the variable {name} does not count"))
                }
                _ => Check::ok("proxy", "none"),
            }];
        }
        checks.iter().map(results::proxy_check).collect()
    }
}
