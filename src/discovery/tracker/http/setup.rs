//! Sets up the HTTP clients: proxies, the interface, and which addresses each may connect to.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use ureq::Agent;
use ureq::config::ConfigBuilder;
use ureq::typestate::AgentScope;

use crate::discovery::tracker::http::address_guard::{AddressGuard, StaticHosts};
use crate::discovery::tracker::http::families::IpFamily;
use crate::discovery::tracker::http::proxy::HttpRoute;
use crate::discovery::tracker::http::{Agents, HttpClient, MAX_HEADER, OUTPUT_BUFFER, USER_AGENT, is_local, proxy};
use crate::net::address_filter::AddressFilter;
use crate::net::route::Route;

impl HttpClient {
    /// Creates a client with verified TLS and the proxies from the environment.
    pub fn new() -> HttpClient {
        HttpClient::on_route(&Route::default(), None)
    }

    /// Sets the user's own URLs, which may lead to any path at a local address.
    #[must_use]
    pub fn with_trusted_urls(self, urls: Arc<HashSet<String>>) -> HttpClient {
        HttpClient { trusted: urls, ..self }
    }

    /// Creates a client whose requests take this route. Ignores proxies from the environment if sockets are bound or the route has a
    /// proxy, because traffic would leave another way. The default for `user_agent` is btsync's own; an empty one is not sent, and
    /// none on an anonymous route.
    pub fn on_route(route: &Route, user_agent: Option<&str>) -> HttpClient {
        HttpClient::bound_with(route, config(sent_user_agent(route, user_agent)), None)
    }

    /// The same with another configuration of the agents, and with a block list.
    pub(super) fn bound_with(
        route: &Route,
        config: ConfigBuilder<AgentScope>,
        block_list: Option<&Arc<AddressFilter>>,
    ) -> HttpClient {
        let http = HttpClient::build(HttpRoute::new(route), config, is_local, AddressGuard::no_names, block_list);
        HttpClient { names_both_addresses: http.names_both_addresses && !route.is_anonymous(), ..http }
    }

    /// A client without proxies that takes the addresses named by `is_local` for local ones.
    #[cfg(test)]
    pub(super) fn with_local_addresses(is_local: fn(IpAddr) -> bool) -> HttpClient {
        HttpClient::with_resolver(is_local, AddressGuard::no_names)
    }

    /// Looks names up in `names` first, then with the system's resolver.
    #[cfg(test)]
    pub(super) fn with_resolver(is_local: fn(IpAddr) -> bool, names: StaticHosts) -> HttpClient {
        let nothing = crate::net::proxy::environment::ProxyEnvironment::default();
        HttpClient::build(HttpRoute::Environment(Arc::new(nothing)), config(USER_AGENT), is_local, names, None)
    }

    fn build(
        route: HttpRoute,
        config: ConfigBuilder<AgentScope>,
        is_local: fn(IpAddr) -> bool,
        names: StaticHosts,
        block_list: Option<&Arc<AddressFilter>>,
    ) -> HttpClient {
        let config = config.proxy(None).build();
        let agent = |refuses, family| {
            let guard = AddressGuard::refusing(refuses, names, route.clone()).only(family);
            let guard = guard.blocking(block_list.cloned());
            Agent::with_parts(config.clone(), proxy::connector(route.clone()), guard)
        };
        let agents = |family| Agents { public: agent(is_local, family), local: agent(|_| false, family) };
        HttpClient {
            any: agents(None),
            four: agents(Some(IpFamily::V4)),
            six: agents(Some(IpFamily::V6)),
            known: Arc::default(),
            names_both_addresses: route.is_unbound(),
            is_local,
            trusted: Arc::default(),
            route,
            cookies: None,
        }
    }
}

impl Default for HttpClient {
    fn default() -> HttpClient {
        HttpClient::new()
    }
}

/// The `User-Agent` of requests that take this route; empty for none.
pub(super) fn sent_user_agent<'a>(route: &Route, user_agent: Option<&'a str>) -> &'a str {
    if route.is_anonymous() { "" } else { user_agent.unwrap_or(USER_AGENT) }
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
