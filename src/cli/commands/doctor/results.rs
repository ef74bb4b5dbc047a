//! What the results of the network checks mean, in words (pure, but for the variable `no_proxy`).

use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;

use crate::cli::commands::doctor::check::Check;
use crate::util::units::count;
use btsync::{DhtStatus, MappingFailure, MappingState, NetworkStatus, PortMappingStatus, ProxyCheck};

fn is_private_ipv4(ip: IpAddr) -> bool {
    let carrier = |ip: Ipv4Addr| matches!(ip.octets(), [100, 64..=127, ..]);
    matches!(ip, IpAddr::V4(ip) if ip.is_private() || ip.is_link_local() || ip.is_loopback() || carrier(ip))
}

pub(super) fn ipv4_check(ipv4: Option<IpAddr>, ipv6: Option<IpAddr>) -> Check {
    let check = match (ipv4, ipv6) {
        (Some(ip), _) if is_private_ipv4(ip) => Check::ok("ipv4", format!("our address is {ip}, behind a router")),
        (Some(ip), _) => Check::ok("ipv4", format!("our address is {ip}, a public one")),
        (None, Some(_)) => Check::warning(
            "ipv4",
            "there is no route to other networks over IPv4",
            "get an IPv4 address from your provider, as many peers and trackers have only that",
        ),
        (None, None) => no_network("ipv4", "IPv4"),
    };
    check.with("address", ipv4.map(|ip| ip.to_string()))
}

pub(super) fn ipv6_check(ipv4: Option<IpAddr>, ipv6: Option<IpAddr>) -> Check {
    let check = match (ipv6, ipv4) {
        (Some(IpAddr::V6(ip)), _) if ip.is_unique_local() => {
            Check::ok("ipv6", format!("our address is {ip}, for the local network"))
        }
        (Some(ip), _) => Check::ok("ipv6", format!("our address is {ip}")),
        (None, Some(_)) => Check::warning(
            "ipv6",
            "there is no route to other networks over IPv6",
            "nothing if you have enough peers; otherwise turn IPv6 on in the router",
        ),
        (None, None) => no_network("ipv6", "IPv6"),
    };
    check.with("address", ipv6.map(|ip| ip.to_string()))
}

fn no_network(name: &'static str, family: &str) -> Check {
    let message = format!("there is no route to other networks over {family}");
    Check::problem(name, message, "connect this machine to the network, or correct --interface")
}

pub(super) fn port_check(port: Option<u16>, wanted: &RangeInclusive<u16>) -> Check {
    let Some(port) = port else {
        return Check::ok("port", "btsync does not listen, because nobody can connect to it through a proxy");
    };
    let check = if port == *wanted.start() {
        Check::ok("port", format!("port {port} is free"))
    } else {
        let message = format!("port {} is in use; btsync takes port {port} instead", wanted.start());
        let advice = "forward this port, too, or choose a free one with --listen-port";
        Check::warning("port", message, advice)
    };
    check.with("port", port)
}

pub(super) fn has_unsolicited_query(status: &NetworkStatus) -> bool {
    [status.dht_ipv4, status.dht_ipv6].iter().flatten().any(|dht| dht.has_unsolicited_query)
}

pub(super) fn is_reachable(status: &NetworkStatus) -> bool {
    status.has_public_connection || has_unsolicited_query(status)
}

pub(super) fn mapping_check(
    status: Option<&PortMappingStatus>,
    is_on: bool,
    has_proxy: bool,
    port: Option<u16>,
    own: Option<IpAddr>,
) -> Check {
    let Some(status) = status.filter(|_| is_on) else {
        return match (has_proxy, is_on) {
            (true, _) => Check::ok("port-mapping", "off, because of the proxy"),
            (false, true) => {
                Check::warning("port-mapping", "the router has not been asked yet", "wait longer with --wait")
            }
            (false, false) => Check::ok("port-mapping", "turned off (with --interface, --port-mapping turns it on)"),
        };
    };
    let by_hand = || {
        let own = own.map_or_else(|| "this machine".to_owned(), |ip| ip.to_string());
        format!(
            "turn on UPnP, NAT-PMP or PCP in the router, or forward TCP and UDP port {} to {own} there",
            port.unwrap_or_default()
        )
    };
    let text = status.to_string();
    let check = match &status.ipv4 {
        ipv4 if ipv4.private_external_address().is_some() => Check::warning(
            "port-mapping",
            text,
            "forward the port in the other router, or ask your provider for a public address",
        ),
        MappingState::Mapped { .. } | MappingState::Failed(MappingFailure::PublicAddress) => {
            Check::ok("port-mapping", text)
        }
        MappingState::Asking => {
            Check::warning("port-mapping", "the router has not answered yet", "wait longer with --wait")
        }
        MappingState::Failed(MappingFailure::NoRouter) => Check::warning(
            "port-mapping",
            text,
            "nothing if this machine has a public address; otherwise connect it to the network of a router",
        ),
        _ => Check::warning("port-mapping", text, by_hand()),
    };
    check.with("tcp_port", status.ipv4.tcp_port()).with("udp_port", status.ipv4.udp_port())
}

pub(super) fn dht_check(status: &NetworkStatus, has_proxy: bool) -> Check {
    let families = [("IPv4", status.dht_ipv4), ("IPv6", status.dht_ipv6)];
    let nodes = |dht: Option<DhtStatus>| dht.map_or(0, |dht| dht.good_nodes);
    let (ipv4, ipv6) = (nodes(status.dht_ipv4), nodes(status.dht_ipv6));
    let has_answers = families.iter().filter_map(|(_, dht)| *dht).any(|dht| dht.answers > 0);
    let addresses: Vec<String> =
        families.iter().filter_map(|(_, dht)| Some(dht.as_ref()?.external_address?.to_string())).collect();
    let parts: Vec<String> = families
        .iter()
        .filter(|(_, dht)| nodes(*dht) > 0)
        .map(|(name, dht)| format!("{} over {name}", count(nodes(*dht), "node")))
        .collect();
    let check = if parts.is_empty() && !has_answers && has_proxy {
        Check::warning(
            "dht",
            "no node answers through the proxy",
            "use a SOCKS 5 proxy that carries UDP; without it, only trackers and other peers name peers",
        )
    } else if parts.is_empty() && !has_answers {
        Check::problem(
            "dht",
            "no node answers",
            "allow UDP in the firewall, check that host names can be resolved, or name a node with --dht-entry-point",
        )
    } else if parts.is_empty() {
        let advice = "wait longer with --wait, or allow UDP to all ports in the firewall";
        Check::warning("dht", "only the bootstrap nodes answer", advice)
    } else {
        let seen = if addresses.is_empty() {
            "too few have said yet which address we have".to_owned()
        } else {
            format!("they see us at {}", addresses.join(" and "))
        };
        Check::ok("dht", format!("answers come from {}; {seen}", parts.join(" and ")))
    };
    check.with("ipv4_nodes", ipv4).with("ipv6_nodes", ipv6).with("external_addresses", addresses)
}

pub(super) fn proxy_check(check: &ProxyCheck) -> Check {
    let url = check.url.as_deref().unwrap_or("an unusable value");
    let covers = match check.variable {
        None => {
            "everything goes through it; incoming connections, port mapping and local discovery are off, and so are UDP trackers and the DHT unless it is a SOCKS 5 proxy that carries UDP"
        }
        Some("http_proxy") => "http:// trackers and URLs go through it; peers, the DHT and UDP trackers do not use it",
        Some("https_proxy") => {
            "https:// trackers and URLs go through it; peers, the DHT and UDP trackers do not use it"
        }
        Some(_) => {
            "HTTP(S) trackers and URLs without another proxy go through it; peers, the DHT and UDP trackers do not use it"
        }
    };
    let name = check.variable.unwrap_or("--proxy");
    let no_proxy =
        ["no_proxy", "NO_PROXY"].iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    let except = if no_proxy && check.variable.is_some() { ", and so do the hosts in no_proxy" } else { "" };
    let result = match &check.result {
        Ok(()) => Check::ok("proxy", format!("{name}, {url}, works: {covers}{except}")),
        Err(error) => Check::problem(
            "proxy",
            format!("{name}, {url}, does not work: {error}"),
            "correct the setting, or start the proxy; until then, what should go through it waits or fails",
        ),
    };
    result.with("variable", check.variable).with("url", check.url.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::commands::doctor::check::CheckStatus::{Ok, Problem, Warning};

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn only_no_route_at_all_is_a_problem() {
        let (four, six) = (Some(ip("192.168.1.7")), Some(ip("2001:db8::7")));
        assert_eq!((ipv4_check(four, None).status, ipv6_check(four, None).status), (Ok, Warning));
        assert_eq!((ipv4_check(None, six).status, ipv6_check(None, six).status), (Warning, Ok));
        assert_eq!((ipv4_check(None, None).status, ipv6_check(None, None).status), (Problem, Problem));
        assert!(ipv4_check(four, None).message.contains("behind a router"));
        assert!(ipv4_check(Some(ip("8.8.8.8")), None).message.contains("public"));
    }

    #[test]
    fn a_port_that_is_taken_is_named_with_the_one_instead() {
        let ports = 6881..=6889;
        assert_eq!((port_check(Some(6881), &ports).status, port_check(None, &ports).status), (Ok, Ok));
        let other = port_check(Some(6882), &ports);
        assert!(other.status == Warning && other.message.contains("6881 is in use; btsync takes port 6882"));
    }

    #[test]
    fn a_network_without_dht_nodes_is_a_problem() {
        assert_eq!(dht_check(&NetworkStatus::default(), false).status, Problem);
        assert_eq!(dht_check(&NetworkStatus::default(), true).status, Warning);
    }

    #[test]
    fn port_mapping_that_is_off_is_no_fault() {
        for (is_on, has_proxy, wanted) in [(false, false, Ok), (false, true, Ok), (true, false, Warning)] {
            assert_eq!(mapping_check(None, is_on, has_proxy, Some(6881), None).status, wanted);
        }
    }
}
