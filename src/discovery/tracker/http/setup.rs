//! Sets up the HTTP clients: proxies, the interface, and which addresses each may connect to.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use ureq::Agent;
use ureq::config::{Config, ConfigBuilder};
use ureq::typestate::AgentScope;

use crate::discovery::tracker::http::address_guard::{AddressGuard, StaticHosts};
use crate::discovery::tracker::http::families::IpFamily;
use crate::discovery::tracker::http::{
    Agents, HttpTracker, MAX_HEADER, OUTPUT_BUFFER, USER_AGENT, bound, is_local, proxy,
};
use crate::net::address_filter::AddressFilter;
use crate::net::bind::Bind;

impl HttpTracker {
    /// Creates a client with verified TLS and the proxies from the environment.
    pub fn new() -> HttpTracker {
        HttpTracker::with_user_agent(USER_AGENT)
    }

    /// Like [`HttpTracker::new`], with another user agent.
    pub(super) fn with_user_agent(user_agent: &str) -> HttpTracker {
        HttpTracker::bound_to(&Bind::Any, Some(user_agent))
    }

    /// Sets the user's own URLs, which may lead to any path at a local address.
    #[must_use]
    pub fn with_trusted_urls(self, urls: Arc<HashSet<String>>) -> HttpTracker {
        HttpTracker { trusted: urls, ..self }
    }

    /// Creates a client with sockets bound to `bind`. Ignores proxies from the environment then, because traffic would leave
    /// another way. The default for `user_agent` is btsync's own.
    pub fn bound_to(bind: &Bind, user_agent: Option<&str>) -> HttpTracker {
        HttpTracker::bound_with(bind, config(user_agent.unwrap_or(USER_AGENT)), None)
    }

    /// The same with another configuration of the agents, and with a block list.
    pub(super) fn bound_with(
        bind: &Bind,
        config: ConfigBuilder<AgentScope>,
        block_list: Option<&Arc<AddressFilter>>,
    ) -> HttpTracker {
        if *bind == Bind::Any {
            let config = config.build();
            let unusable_proxy = proxy::is_unusable(&config).then(|| config.clone());
            let tracker = HttpTracker::with_resolver(&config, is_local, AddressGuard::no_names, block_list);
            return HttpTracker { unusable_proxy, ..tracker };
        }
        let config = config.proxy(None).build();
        let agent = |guard: AddressGuard| {
            Agent::with_parts(config.clone(), bound::connector(bind.clone()), guard.blocking(block_list.cloned()))
        };
        HttpTracker { announces_both: false, ..HttpTracker::build(agent, is_local, AddressGuard::no_names, false) }
    }

    #[cfg(test)]
    pub(super) fn with_config(config: &Config, is_local: fn(IpAddr) -> bool) -> HttpTracker {
        HttpTracker::with_resolver(config, is_local, AddressGuard::no_names, None)
    }

    /// Looks names up in `names` first, then with the system's resolver.
    pub(super) fn with_resolver(
        config: &Config,
        is_local: fn(IpAddr) -> bool,
        names: StaticHosts,
        block_list: Option<&Arc<AddressFilter>>,
    ) -> HttpTracker {
        let blocking = |guard: AddressGuard| guard.blocking(block_list.cloned());
        let agent = |guard| Agent::with_parts(config.clone(), proxy::connector(), blocking(guard));
        HttpTracker::build(agent, is_local, names, config.proxy().is_some())
    }

    pub(super) fn build(
        agent: impl Fn(AddressGuard) -> Agent,
        is_local: fn(IpAddr) -> bool,
        names: StaticHosts,
        is_proxied: bool,
    ) -> HttpTracker {
        let agents = |family| Agents {
            public: agent(AddressGuard::refusing(is_local, names).only(family)),
            local: agent(AddressGuard::refusing(|_| false, names).only(family)),
        };
        HttpTracker {
            any: agents(None),
            four: agents(Some(IpFamily::V4)),
            six: agents(Some(IpFamily::V6)),
            known: Arc::default(),
            announces_both: !is_proxied,
            is_local,
            trusted: Arc::default(),
            is_proxied,
            unusable_proxy: None,
            cookies: None,
        }
    }
}

impl Default for HttpTracker {
    fn default() -> HttpTracker {
        HttpTracker::new()
    }
}

pub(super) fn config(user_agent: &str) -> ConfigBuilder<AgentScope> {
    Agent::config_builder()
        .user_agent(user_agent.to_owned())
        .max_redirects(0)
        .http_status_as_error(false)
        .max_response_header_size(MAX_HEADER)
        // Keep no idle connections: announces are far apart, and a server may have closed one that the next hop of a redirect
        // would use.
        .max_idle_connections(0)
        .max_idle_connections_per_host(0)
        // ureq zeroes the buffers for every request, so keep them small.
        .input_buffer_size(2 * MAX_HEADER)
        .output_buffer_size(OUTPUT_BUFFER)
}
