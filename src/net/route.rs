//! How connections leave the machine: from sockets that are bound to an interface or address, through a proxy if there is one, and
//! anonymously if the user wants that.
//!
//! Fails closed: only `direct_bind` gives out the binding for sockets, and none if there is a proxy, so code that knows no proxy
//! cannot go around it.

use std::net::IpAddr;
use std::sync::Arc;

use crate::net::bind::Bind;
use crate::net::proxy::state::Proxy;
use crate::net::proxy::url::ProxyUrl;

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub struct Route {
    bind: Bind,
    proxy: Option<Arc<Proxy>>,
    is_anonymous: bool,
}

impl Route {
    /// Directly, from sockets bound to `bind`.
    pub fn direct(bind: Bind) -> Route {
        Route { bind, proxy: None, is_anonymous: false }
    }

    /// The same with connections through this proxy only, or directly without one.
    #[must_use]
    pub fn through(self, proxy: Option<ProxyUrl>) -> Route {
        let proxy = proxy.map(|url| Arc::new(Proxy::of_client(url, self.bind.clone())));
        Route { proxy, ..self }
    }

    /// The same bound to another interface or address.
    #[must_use]
    pub fn bound_to(self, bind: Bind) -> Route {
        let proxy = self.proxy.map(|proxy| proxy.url().clone());
        Route { bind, proxy: None, ..self }.through(proxy)
    }

    /// The same with or without hiding what identifies btsync: its name, its version, and addresses of this machine.
    #[must_use]
    pub fn anonymous(self, is_anonymous: bool) -> Route {
        Route { is_anonymous, ..self }
    }

    /// Whether whatever is sent must neither name btsync nor contain addresses of this machine.
    pub fn is_anonymous(&self) -> bool {
        self.is_anonymous
    }

    /// The proxy, if there is one.
    pub fn proxy(&self) -> Option<&Arc<Proxy>> {
        self.proxy.as_ref()
    }

    /// The binding for sockets that exchange packets with others directly; `None` if there is a proxy.
    pub fn direct_bind(&self) -> Option<&Bind> {
        self.proxy.is_none().then_some(&self.bind)
    }

    /// Whether sockets are bound to an interface or address, those for connections to the proxy too.
    pub fn is_bound(&self) -> bool {
        self.bind != Bind::Any
    }

    /// See [`Bind::own_addresses`].
    pub fn own_addresses(&self) -> Vec<IpAddr> {
        self.bind.own_addresses()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_a_proxy_there_is_no_binding_for_other_sockets() {
        let route = Route::direct(Bind::Interface("wg0".to_owned()));
        assert!(route.direct_bind().is_some() && route.proxy().is_none());
        let proxied = route.through("socks5://127.0.0.1:1".parse().ok());
        assert!(proxied.direct_bind().is_none() && proxied.proxy().is_some() && proxied.is_bound());
        let moved = proxied.bound_to(Bind::Any);
        assert!(moved.direct_bind().is_none() && !moved.is_bound());
        let anonymous = moved.anonymous(true).through(None).bound_to(Bind::Any);
        assert!(anonymous.is_anonymous() && anonymous.proxy().is_none());
    }
}
