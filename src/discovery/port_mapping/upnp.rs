//! UPnP Internet Gateway Device, version 1 and 2, with as little of it as mapping a port takes. All of this is pure: [`ssdp`] finds
//! the router's description, [`description`] reads which services it offers, [`soap`] writes requests to these services and reads
//! their answers, [`xml`] splits documents into elements, and [`message`] is the HTTP around them.
//!
//! The documents come from the local network, so everything is bounded, and btsync connects only to the gateway itself, whatever
//! address a document names.

pub mod description;
pub mod message;
pub mod soap;
pub mod ssdp;
pub mod xml;

/// A document at the router: its port and path. The host is always the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterUrl {
    /// The TCP port.
    pub port: u16,
    /// The path and query: begins with a slash, printable ASCII.
    pub path: String,
}

/// The longest path.
const MAX_PATH: usize = 512;

/// Splits a URL with an IP address as its host into the address and the rest; `None` if it is another kind of URL.
fn split_url(url: &str) -> Option<(std::net::IpAddr, RouterUrl)> {
    let rest = url.get(7..).filter(|_| url.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://")))?;
    let (authority, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => authority.find(':').map_or((authority, ""), |colon| authority.split_at(colon)),
    };
    let port = match port {
        "" => 80,
        port => port.strip_prefix(':')?.parse().ok().filter(|port| *port != 0)?,
    };
    // A link-local address may name its interface.
    let host = host.split('%').next().unwrap_or_default();
    Some((host.parse().ok()?, RouterUrl { port, path: checked_path(path)? }))
}

/// A path that cannot change the request around it.
fn checked_path(path: &str) -> Option<String> {
    let is_valid = path.starts_with('/') && path.len() <= MAX_PATH && path.bytes().all(|byte| byte.is_ascii_graphic());
    is_valid.then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn urls_are_split() {
        let split = |url: &str| split_url(url).map(|(ip, at)| (ip.to_string(), at.port, at.path));
        let of = |ip: &str, port, path: &str| Some((ip.to_owned(), port, path.to_owned()));
        assert_eq!(split("http://192.168.1.1:5000/rootDesc.xml"), of("192.168.1.1", 5000, "/rootDesc.xml"));
        assert_eq!(split("HTTP://192.168.1.1"), of("192.168.1.1", 80, "/"));
        assert_eq!(split("http://[fe80::1%eth0]:49000/a?b=c"), of("fe80::1", 49000, "/a?b=c"));
        for bad in [
            "https://192.168.1.1/",
            "http://router.local/",
            "http://user@192.168.1.1/",
            "http://192.168.1.1:0/",
            "http://192.168.1.1:99999/",
            "http://192.168.1.1/a b",
            "http://192.168.1.1/a\r\nX: y",
            "http://[fe80::1/",
            "ftp",
            "",
            "http://",
            "http:// /",
            &format!("http://192.168.1.1/{}", "a".repeat(MAX_PATH)),
        ] {
            assert_eq!(split(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_url_is_a_problem(url in ".{0,80}", rest in "[0-9.:/\\[\\]%]{0,40}") {
            let _ = (split_url(&url), split_url(&format!("http://{rest}")));
        }
    }
}
