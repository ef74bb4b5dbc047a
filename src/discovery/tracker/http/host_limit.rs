//! Limits how many URLs and ports of one host a torrent may name, so that it cannot aim many clients at a third party.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::discovery::tracker::http::url;

/// The most trackers of a torrent at one host, and the most of its ports.
const MAX_TRACKERS: usize = 8;
const MAX_PORTS: usize = 4;

/// What a torrent has named so far, by host.
#[derive(Debug)]
pub(crate) struct HostLimit {
    max_urls: usize,
    max_ports: usize,
    hosts: HashMap<String, NamedHost>,
}

#[derive(Debug, Default)]
struct NamedHost {
    urls: usize,
    ports: Vec<u16>,
}

impl HostLimit {
    /// At most so many URLs, on at most so many ports, for each host.
    pub fn new(max_urls: usize, max_ports: usize) -> HostLimit {
        HostLimit { max_urls, max_ports, hosts: HashMap::new() }
    }

    /// Whether this URL may be used too. Counts it if so.
    pub fn admit(&mut self, url: &str) -> bool {
        let (max_urls, max_ports) = (self.max_urls, self.max_ports);
        let (host, port) = (host_of(url), port_of(url));
        let named = self.hosts.entry(host).or_default();
        let is_new_port = !named.ports.contains(&port);
        if named.urls >= max_urls || is_new_port && named.ports.len() >= max_ports {
            return false;
        }
        named.urls += 1;
        if is_new_port {
            named.ports.push(port);
        }
        true
    }
}

/// The trackers that btsync uses of a torrent, in their tiers.
pub(crate) fn limit_hosts(tiers: Vec<Vec<String>>) -> Vec<Vec<String>> {
    let mut limit = HostLimit::new(MAX_TRACKERS, MAX_PORTS);
    tiers.into_iter().map(|tier| tier.into_iter().filter(|url| limit.admit(url)).collect()).collect()
}

/// The DHT nodes (`HOST:PORT`) that btsync uses of a torrent.
pub(crate) fn limit_nodes(nodes: impl Iterator<Item = String>) -> impl Iterator<Item = String> {
    let mut limit = HostLimit::new(MAX_PORTS, MAX_PORTS);
    nodes.filter(move |node| limit.admit(&format!("dht://{node}")))
}

/// The host in one spelling. All the old forms of IPv4 addresses (`0x7f.1`), which only the resolver understands, count as one host.
fn host_of(url: &str) -> String {
    if let Some(ip) = url::literal_ip(url) {
        return ip.to_canonical().to_string();
    }
    let host = url::host(url).trim_end_matches('.').to_ascii_lowercase();
    let last = host.rsplit('.').next().unwrap_or_default();
    let is_number = last.starts_with(|digit: char| digit.is_ascii_digit());
    if is_number && host.parse::<IpAddr>().is_err() { "a number".to_owned() } else { host }
}

/// The port of a URL; 0 if its scheme has no default.
fn port_of(url: &str) -> u16 {
    let scheme = url.trim_start().split(':').next().unwrap_or_default();
    let default_port = match scheme.to_ascii_lowercase().as_str() {
        "http" => 80,
        "https" => 443,
        _ => 0,
    };
    let (_, port) = url::split_port(url::authority(url));
    port.and_then(|port| port.parse().ok()).unwrap_or(default_port)
}

/// Whether web servers may have this URL's port: 80, 443, or one that is not reserved for other services.
pub(crate) fn has_web_port(url: &str) -> bool {
    matches!(port_of(url), 80 | 443 | 1024..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_few_urls_and_ports_however_it_is_spelled() {
        let mut limit = HostLimit::new(3, 2);
        let admitted = [
            ("http://Tracker.example/a", true),
            ("udp://tracker.example.:6969/a", true),
            ("http://tracker.example:7000/a", false),
            ("http://user@tracker.example:80/b", true),
            ("http://tracker.example/c", false),
            ("http://[::ffff:192.0.2.1]/", true),
            ("http://192.0.2.1:8080/", true),
            ("http://192.0.2.1:8081/", false),
            ("http://0xc0000201:1/", true),
            ("http://3221225985:2/", true),
            ("http://192.0.513:3/", false),
        ];
        for (url, expected) in admitted {
            assert_eq!(limit.admit(url), expected, "{url}");
        }
    }

    #[test]
    fn a_torrent_leads_to_few_trackers_and_dht_nodes_of_a_host() {
        let tracker = |port: u32| format!("udp://victim.example:{port}/announce");
        let tiers = vec![(1..100).map(tracker).collect(), vec!["http://other.example/".to_owned(), tracker(500)]];
        let first: Vec<String> = (1..5).map(tracker).collect();
        assert_eq!(limit_hosts(tiers), [first, vec!["http://other.example/".to_owned()]]);
        let paths = vec![(0..100).map(|path| format!("http://h/{path}")).collect()];
        assert_eq!(limit_hosts(paths)[0].len(), 8);
        let nodes = (1..100).map(|port| format!("[2001:db8::1]:{port}")).chain(["192.0.2.1:6881".to_owned()]);
        assert_eq!(limit_nodes(nodes).count(), 5);
    }

    #[test]
    fn ports_of_other_services_are_no_web_ports() {
        for (url, expected) in [
            ("http://h/", true),
            ("https://h", true),
            ("https://h:80/", true),
            ("http://h:8080/", true),
            ("http://h:25/", false),
            ("https://[2001:db8::1]:22/", false),
            ("http://h:1023/", false),
            ("http://h:0/", false),
        ] {
            assert_eq!(has_web_port(url), expected, "{url}");
        }
    }
}
