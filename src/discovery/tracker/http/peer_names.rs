//! Host names: resolves those that a tracker gives for peers, and recognizes local ones.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::discovery::host_names::resolve;

/// The time limit for resolving all names of one response.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// The most addresses used per name.
const ADDRESSES_OF_A_NAME: usize = 4;

/// Resolves the names that a tracker gave for peers; `end` is the deadline.
pub(crate) fn addresses(names: &[(String, u16)], end: Instant) -> Vec<SocketAddr> {
    let end = end.min(Instant::now() + LOOKUP_TIMEOUT);
    let found = names.iter().filter_map(|(host, port)| {
        let left = end.saturating_duration_since(Instant::now());
        let found = resolve(host, *port, Some(left)).ok().filter(|_| !left.is_zero())?;
        let canonical = |addr: SocketAddr| SocketAddr::new(addr.ip().to_canonical(), *port);
        Some(found.into_iter().map(canonical).take(ADDRESSES_OF_A_NAME))
    });
    found.flatten().collect()
}

/// Whether a host name is always local (RFC 6761, 6762, 8375, and `internal`).
pub(crate) fn is_local(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let is_in = |zone: &str| host.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    ["localhost", "local", "home.arpa", "internal"].into_iter().any(is_in)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_names_are_local_ones() {
        for local in ["localhost", "LocalHost.", "x.localhost", "nas.local", "tracker.home.arpa", "a.b.internal"] {
            assert!(is_local(local), "{local}");
        }
        for public in ["tracker.example", "notlocalhost", "mylocal", "local.example", ""] {
            assert!(!is_local(public), "{public}");
        }
    }
}
