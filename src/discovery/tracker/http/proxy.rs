//! How HTTP requests get to their servers: directly, through the proxy of the client, or through that of the environment. A request
//! that needs a proxy never goes directly. An `http://` request is sent to an `http://` proxy with its whole URL (RFC 9112, absolute
//! form), because many proxies allow CONNECT to port 443 only; all others go through a tunnel.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ureq::Error;
use ureq::http::Uri;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, NextTimeout, Transport, TransportAdapter,
};

use crate::discovery::tracker::http::bound::{Amendment, BoundTransport, connect_directly, wait};
use crate::discovery::tracker::http::tls::{Tls, over_tls};
use crate::discovery::tracker::http::url;
use crate::net::bind::Bind;
use crate::net::proxy::ProxyTarget;
use crate::net::proxy::connect::{ProxyConnectError, run_handshake};
use crate::net::proxy::environment::{ProxyEnvironment, UnusableProxy};
use crate::net::proxy::handshake::ProxyRequest;
use crate::net::proxy::state::Proxy;
use crate::net::proxy::url::{Credentials, ProxyKind};
use crate::net::route::Route;

/// The connect timeout if ureq sets none.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// How requests leave the machine.
#[derive(Clone, Debug)]
pub(crate) enum HttpRoute {
    /// As the client's connections do.
    Client(Route),
    /// As the variables of the environment say for each URL.
    Environment(Arc<ProxyEnvironment>),
}

impl HttpRoute {
    /// As the client's connections do. The environment counts only if these are direct and bound to nothing: otherwise a proxy
    /// would be another way out.
    pub(crate) fn new(route: &Route) -> HttpRoute {
        if route.direct_bind() == Some(&Bind::Any) {
            HttpRoute::Environment(Arc::new(ProxyEnvironment::of_process()))
        } else {
            HttpRoute::Client(route.clone())
        }
    }

    /// The proxy for a request to this host; `None` if it goes directly.
    pub(crate) fn proxy_for(&self, is_https: bool, host: &str) -> Result<Option<Arc<Proxy>>, UnusableProxy> {
        match self {
            HttpRoute::Client(route) => Ok(route.proxy().cloned()),
            HttpRoute::Environment(variables) => {
                Ok(variables.proxy_for(is_https, host)?.map(|url| Arc::new(Proxy::of_request(url.clone()))))
            }
        }
    }

    fn proxy_for_uri(&self, uri: &Uri) -> Result<Option<Arc<Proxy>>, Error> {
        let found = self.proxy_for(uri.scheme_str() == Some("https"), uri.host().unwrap_or_default());
        found.map_err(|error| Error::Other(Box::new(error)))
    }

    /// Whether a request goes through a proxy, which then resolves names; also if that proxy cannot be used.
    pub(crate) fn is_proxied(&self, is_https: bool, host: &str) -> bool {
        !matches!(self.proxy_for(is_https, host), Ok(None))
    }

    /// The same for a URL.
    pub(crate) fn proxies(&self, uri: &Uri) -> bool {
        self.is_proxied(uri.scheme_str() == Some("https"), uri.host().unwrap_or_default())
    }

    /// Whether the sockets of direct requests are bound to nothing.
    pub(crate) fn is_unbound(&self) -> bool {
        matches!(self, HttpRoute::Environment(_))
    }

    /// The binding of the sockets of direct requests.
    fn bind(&self) -> Option<&Bind> {
        match self {
            HttpRoute::Client(route) => route.direct_bind(),
            HttpRoute::Environment(_) => Some(&Bind::Any),
        }
    }
}

/// The connector for all requests, with or without TLS.
pub(crate) fn connector(route: HttpRoute) -> impl Connector {
    RouteConnector { route }.chain(Tls)
}

/// Makes plain connections to servers, or to them through proxies.
#[derive(Debug)]
struct RouteConnector {
    route: HttpRoute,
}

impl<In: Transport> Connector<In> for RouteConnector {
    type Out = Either<In, Box<dyn Transport>>;

    fn connect(&self, details: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        if let Some(chained) = chained {
            return Ok(Some(Either::A(chained)));
        }
        let timeout = wait(details.timeout).unwrap_or(CONNECT_TIMEOUT);
        let transport = match (self.route.proxy_for_uri(details.uri)?, self.route.bind()) {
            (Some(proxy), _) => connect_through(&proxy, details, timeout)?,
            (None, Some(bind)) => Box::new(connect_directly(bind, details, timeout)?),
            (None, None) => return Err(Error::ConnectionFailed), // never happens: without a binding, there is a proxy
        };
        Ok(Some(Either::B(transport)))
    }
}

/// Connects to the server of the URL through a proxy.
fn connect_through(proxy: &Proxy, details: &ConnectionDetails, timeout: Duration) -> Result<Box<dyn Transport>, Error> {
    let deadline = Instant::now() + timeout;
    let is_plain = details.uri.scheme_str() == Some("http");
    let stream = proxy.connect_to_proxy(deadline).map_err(to_ureq)?;
    let kind = proxy.url().kind;
    let (host, port) = url::host_and_port(details.uri).ok_or(Error::HostNotFound)?;
    let target = ProxyTarget::new(host, port);
    if kind == ProxyKind::Http && is_plain {
        let amendment = Amendment { root: root(details.uri), header: authorization(proxy.url().credentials.as_ref()) };
        return Ok(Box::new(BoundTransport::new(details, stream, Some(amendment))?));
    }
    if kind != ProxyKind::Https {
        let result = proxy.shake_hands(&stream, &target, deadline);
        proxy.note_result(result.as_ref().err());
        result.map_err(to_ureq)?;
        return Ok(Box::new(BoundTransport::new(details, stream, None)?));
    }
    let plain = BoundTransport::new(details, stream, None)?;
    let mut adapter =
        TransportAdapter::new(over_tls(details, &proxy.url().host, Box::new(plain))?, details.current_time.clone());
    adapter.set_timeout(NextTimeout { after: timeout.into(), ..details.timeout });
    let adapter_cell = std::cell::RefCell::new(&mut adapter);
    let send = |bytes: &[u8]| adapter_cell.borrow_mut().write_all(bytes);
    let receive = |bytes: &mut [u8]| adapter_cell.borrow_mut().read_exact(bytes);
    run_handshake(proxy.url(), &ProxyRequest::Connect(target), send, receive).map_err(to_ureq)?;
    Ok(Box::new(Tunnel(adapter.into_inner())))
}

/// Through TLS to a proxy. For ureq it is a plain connection, so that it uses TLS to the server too.
struct Tunnel(Box<dyn Transport>);

impl std::fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tunnel")
    }
}

impl Transport for Tunnel {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.0.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.0.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.0.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.0.is_open()
    }
}

/// What stands for the addresses of a server that a proxy resolves.
pub(crate) fn place_holder() -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, 0).into()
}

fn to_ureq(error: ProxyConnectError) -> Error {
    Error::Other(Box::new(error))
}

/// The scheme, host and port of a URL, without credentials.
fn root(uri: &Uri) -> String {
    let host = uri.host().unwrap_or_default();
    uri.port_u16().map_or_else(|| format!("http://{host}"), |port| format!("http://{host}:{port}"))
}

/// The `Proxy-Authorization` header if the proxy has a user name or password, otherwise nothing.
fn authorization(credentials: Option<&Credentials>) -> String {
    credentials.map(|it| format!("Proxy-Authorization: {}\r\n", it.basic())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_of_a_url_has_no_credentials() {
        for (uri, from) in
            [("http://me:pw@t:8/x", "http://t:8"), ("http://[::1]/x", "http://[::1]"), ("http://t", "http://t")]
        {
            assert_eq!(root(&uri.parse().unwrap()), from);
        }
    }

    #[test]
    fn credentials_are_in_base64() {
        let credentials = Credentials { user: "foo".to_owned(), password: "bar".to_owned() };
        assert_eq!(authorization(Some(&credentials)), "Proxy-Authorization: Basic Zm9vOmJhcg==\r\n");
        assert_eq!(authorization(None), "");
    }

    #[test]
    fn the_clients_proxy_is_for_all_and_that_of_the_environment_for_some() {
        let client = HttpRoute::new(&Route::default().through("http://127.0.0.1:1".parse().ok()));
        assert!(client.is_proxied(true, "a") && client.is_proxied(false, "localhost") && !client.is_unbound());
        assert!(client.bind().is_none());
        let variables = |name: &str| match name {
            "http_proxy" => Some("socks5h://p".to_owned()),
            "https_proxy" => Some("what?".to_owned()),
            "no_proxy" => Some("192.168.0.0/16,here".to_owned()),
            _ => None,
        };
        let environment = HttpRoute::Environment(Arc::new(ProxyEnvironment::new(variables)));
        let uri = |text: &str| text.parse::<Uri>().unwrap();
        for (url, is_proxied) in [
            ("http://t.example/a", true),
            ("https://t.example/a", true), // which fails, as its proxy cannot be used
            ("http://192.168.3.4/a", false),
            ("https://x.here/a", false),
        ] {
            assert_eq!(environment.proxies(&uri(url)), is_proxied, "{url}");
        }
        assert!(environment.proxy_for(true, "t.example").is_err());
        let bound = HttpRoute::new(&Route::direct(Bind::Interface("wg0".to_owned())));
        assert!(!bound.is_proxied(false, "t.example") && bound.bind().is_some());
    }
}
