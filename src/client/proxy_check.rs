//! Checks whether the proxies that a client would use work.

use std::time::{Duration, Instant};

use crate::client::ClientBuilder;
use crate::net::proxy::connect::{CLOSED, NO_ANSWER, ProxyConnectError};
use crate::net::proxy::environment::ProxyEnvironment;
use crate::net::proxy::state::Proxy;
use crate::net::proxy::url::ProxyKind;
use crate::net::proxy::{ProxyError, ProxyTarget};

/// The target of the check. No such name exists (RFC 6761), so the proxy has to connect to nobody. Many HTTP proxies allow only this
/// port.
const TARGET: (&str, u16) = ("btsync-check.invalid", 443);

/// Whether a proxy works; see [`ClientBuilder::check_proxies`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxyCheck {
    /// The variable of the environment that names the proxy, in lower case; `None` for the client's own proxy, which carries everything.
    pub variable: Option<&'static str>,
    /// The proxy without user name and password; `None` if the variable is not the URL of a proxy.
    pub url: Option<String>,
    /// Whether it works, or why not.
    pub result: Result<(), String>,
}

impl ClientBuilder {
    /// Checks the proxy of the client, or without one, those of the environment. Each of them is asked to connect to a host
    /// that does not exist: that it says so proves that it works and accepts the user name and password. Takes at most `timeout`
    /// for each proxy.
    pub fn check_proxies(&self, timeout: Duration) -> Vec<ProxyCheck> {
        let route = self.route();
        if let Some(proxy) = route.proxy() {
            return vec![ProxyCheck {
                variable: None,
                url: Some(proxy.url().to_string()),
                result: check(proxy, timeout),
            }];
        }
        if route.is_bound() {
            return Vec::new(); // the environment does not count
        }
        let mut checks: Vec<ProxyCheck> = Vec::new();
        for (variable, value) in ProxyEnvironment::of_process().variables() {
            let (url, result) = match value {
                Err(error) => (None, Err(error.to_string())),
                Ok(url) => (Some(url.to_string()), check(&Proxy::of_request(url.clone()), timeout)),
            };
            checks.push(ProxyCheck { variable: Some(variable), url, result });
        }
        checks
    }
}

fn check(proxy: &Proxy, timeout: Duration) -> Result<(), String> {
    let deadline = Instant::now() + timeout;
    let (host, port) = TARGET;
    // Nothing here speaks TLS, so nothing more is known of such a proxy than that its port is open.
    let result = if proxy.url().kind == ProxyKind::Https {
        proxy.connect_to_proxy(deadline).map(drop)
    } else {
        proxy.connect(&ProxyTarget::Name(host.to_owned(), port), deadline).map(drop)
    };
    match result {
        Err(error) if !error.concerns_only_target() => Err(error.to_string()),
        // For a download, such silence may be due to the target.
        Err(ProxyConnectError::Proxy(ProxyError::Target(reason @ (NO_ANSWER | CLOSED)))) => Err(reason.to_owned()),
        _ => Ok(()),
    }
}
