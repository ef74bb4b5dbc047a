//! The hosts that need no proxy, as in the environment variable `no_proxy`: names with all names below them, addresses, networks in
//! CIDR form, and `*` for all. Pure. The rules are those of curl 7.86 and later.

use std::net::IpAddr;

use crate::net::block_list::line::{self, BlockListLine};
use crate::net::block_list::{RangeSet, RangeSetBuilder};

/// See the module's documentation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoProxy {
    is_all: bool,
    /// In lower case, without dots at their ends.
    names: Vec<String>,
    addresses: RangeSet,
}

impl NoProxy {
    /// Parses a list separated by commas or blanks.
    pub fn new(list: &str) -> NoProxy {
        let mut no_proxy = NoProxy { is_all: list.trim() == "*", ..NoProxy::default() };
        let mut addresses = RangeSetBuilder::default();
        for word in list.split([',', ' ', '\t']).map(str::trim).filter(|word| !word.is_empty()) {
            let bare = word.strip_prefix('[').and_then(|word| word.strip_suffix(']')).unwrap_or(word);
            match line::parse(bare.as_bytes()) {
                // A name may have a hyphen, but ranges such as `1.2.3.4-1.2.3.5` are not names either.
                BlockListLine::Range(range) => addresses.add(range),
                _ => no_proxy.names.push(normal(word)),
            }
        }
        no_proxy.names.retain(|name| !name.is_empty());
        no_proxy.addresses = addresses.build();
        no_proxy
    }

    /// Whether a host of a URL needs no proxy. IPv6 addresses may be in brackets.
    pub fn matches(&self, host: &str) -> bool {
        if self.is_all {
            return true;
        }
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return self.addresses.contains(ip);
        }
        let host = normal(host);
        let is_below = |name: &String| host.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.'));
        self.names.iter().any(|name| host == *name || is_below(name))
    }
}

/// In lower case, without dots at the ends.
fn normal(name: &str) -> String {
    name.trim_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_for_themselves_and_those_below() {
        let no_proxy = NoProxy::new("localhost, .Example.org,my-host internal.");
        for host in ["localhost", "example.org", "a.b.EXAMPLE.org", "example.org.", "my-host", "x.internal"] {
            assert!(no_proxy.matches(host), "{host}");
        }
        for host in ["notexample.org", "example.org.net", "host", "", "127.0.0.1"] {
            assert!(!no_proxy.matches(host), "{host}");
        }
    }

    #[test]
    fn addresses_and_networks() {
        let no_proxy = NoProxy::new("10.0.0.0/8,192.0.2.7,[::1],2001:db8::/32");
        for host in ["10.1.2.3", "192.0.2.7", "[::1]", "::1", "[2001:db8:1::2]", "::ffff:10.1.2.3"] {
            assert!(no_proxy.matches(host), "{host}");
        }
        for host in ["11.1.2.3", "192.0.2.8", "[::2]", "10.example"] {
            assert!(!no_proxy.matches(host), "{host}");
        }
    }

    #[test]
    fn a_star_alone_stands_for_all() {
        assert!(NoProxy::new(" * ").matches("any.host") && NoProxy::new("*").matches("1.2.3.4"));
        assert!(!NoProxy::new("").matches("any.host") && !NoProxy::new(",. ,").matches("any.host"));
    }
}
