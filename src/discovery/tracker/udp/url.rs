//! Parses UDP tracker URLs: the address, and the path and query that BEP 41 sends as `URLData`.

use crate::discovery::tracker::announce_path::is_announce_path;
use crate::discovery::tracker::error::TrackerError;
use crate::util::printable_text::printable;

/// The default port, as in other clients.
const DEFAULT_PORT: u16 = 80;
/// The longest path and query together, in bytes, so that a request fits into one packet on any network.
const MAX_DATA: usize = 1024;

/// A parsed URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UdpUrl<'a> {
    /// A host name, or an address without brackets.
    pub host: &'a str,
    pub port: u16,
    /// Path and query, unmodified.
    pub data: &'a str,
}

impl<'a> UdpUrl<'a> {
    pub(crate) fn parse(url: &'a str) -> Result<UdpUrl<'a>, TrackerError> {
        let url = url.trim();
        let (scheme, rest) = url.split_once("://").unwrap_or((url.split(':').next().unwrap_or_default(), ""));
        if !scheme.eq_ignore_ascii_case("udp") {
            let shown: String = scheme.chars().take(20).collect();
            return Err(TrackerError::Scheme(printable(&shown)));
        }
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, data) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| TrackerError::Url)?),
            _ => (authority, DEFAULT_PORT),
        };
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let strange = |c: char| c.is_control() || c.is_whitespace();
        if host.is_empty() || host.contains(strange) || port == 0 || data.len() > MAX_DATA {
            return Err(TrackerError::Url);
        }
        Ok(UdpUrl { host, port, data })
    }

    /// Whether a local address is allowed: the path is that of an announce, or there is none, because BEP 15 has no paths. No
    /// part of the URL is sent before the server has answered a connect request as only a tracker does.
    pub(crate) fn is_announce(&self) -> bool {
        let path = self.data.split('?').next().unwrap_or_default();
        matches!(path, "" | "/") || is_announce_path(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> Option<(&str, u16, &str)> {
        UdpUrl::parse(url).ok().map(|p| (p.host, p.port, p.data))
    }

    #[test]
    fn urls_are_taken_apart() {
        assert_eq!(parsed("udp://t.example:6969/announce"), Some(("t.example", 6969, "/announce")));
        assert_eq!(parsed(" UDP://me:pw@t:1?a=b/c#f "), Some(("t", 1, "?a=b/c")));
        assert_eq!(parsed("udp://[2001:db8::1]:7/dir?a=b&c=d"), Some(("2001:db8::1", 7, "/dir?a=b&c=d")));
        assert_eq!(parsed("udp://[::1]"), Some(("::1", 80, "")));
        assert_eq!(parsed("udp://t/"), Some(("t", 80, "/")));
    }

    #[test]
    fn unusable_urls_are_refused() {
        let long = format!("udp://t:1/{}", "a".repeat(MAX_DATA));
        let bad =
            ["udp://", "udp://:1/", "udp://t:0/", "udp://t:x", "udp://t:65536", "udp:t", "udp://a b:1", "udp://[]:1"];
        for url in bad.into_iter().chain([long.as_str()]) {
            assert_eq!(UdpUrl::parse(url), Err(TrackerError::Url), "{url}");
        }
        for url in ["http://t/announce", "file:///etc/passwd", "", "announce"] {
            assert!(matches!(UdpUrl::parse(url), Err(TrackerError::Scheme(_))), "{url}");
        }
    }

    #[test]
    fn only_the_path_can_name_an_announce() {
        for url in ["udp://t:1/0123abcd/announce?k", "udp://t:1", "udp://t:1/", "udp://t:1?k"] {
            assert!(UdpUrl::parse(url).unwrap().is_announce(), "{url}");
        }
        for url in [
            "udp://announce:1/x?announce",
            "udp://t:1/announce/../x",
            "udp://t:1/%2e%2e/announce",
            "udp://t:1/x;announce",
        ] {
            assert!(!UdpUrl::parse(url).unwrap().is_announce(), "{url}");
        }
    }
}
