//! The proxy from the environment. An `http://` request is sent to an `http://` proxy with its whole URL (RFC 9112, absolute
//! form), because many proxies allow CONNECT to port 443 only. An unusable proxy is never bypassed.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::transport::{
    Buffers, ConnectProxyConnector, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, TcpConnector,
    Transport,
};
use ureq::{Error, Proxy, ProxyProtocol};

use crate::discovery::tracker::http::bound::{register, to_timeout_error, wait};
use crate::discovery::tracker::http::tls::Tls;
use crate::discovery::tracker::http::url::split_port;
use crate::net::bind::Bind;
use crate::util::base64;

/// The environment variables for proxies.
const VARIABLES: [&str; 6] = ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"];
/// The connect timeout if ureq sets none.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Whether the environment specifies an unusable proxy. Requests must then not be sent directly.
pub(crate) fn is_unusable(config: &Config) -> bool {
    let is_named = VARIABLES.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    let is_known = |proxy: &Proxy| matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https);
    config.proxy().map_or(is_named, |proxy| !is_known(proxy) || !has_sound_port(proxy))
}

/// Whether the port, if there is one, is a valid number; ureq silently replaces an invalid one by the default.
fn has_sound_port(proxy: &Proxy) -> bool {
    let authority = proxy.uri().authority().map_or("", |authority| authority.as_str());
    let port = split_port(authority).1.filter(|port| !port.is_empty());
    port.is_none_or(|port| port.parse().is_ok_and(|port: u16| port != 0))
}

/// Whether requests to a URL bypass the proxy (`NO_PROXY`).
pub(crate) fn bypasses_proxy(config: &Config, url: &str) -> bool {
    let uri = url.parse::<Uri>();
    config.proxy().is_some_and(|proxy| uri.is_ok_and(|uri| proxy.is_no_proxy(&uri)))
}

/// The connector for clients that may use a proxy.
pub(crate) fn connector() -> impl Connector {
    ProxyConnector.chain(ConnectProxyConnector::default()).chain(TcpConnector::default()).chain(Tls)
}

/// Connects to a proxy that accepts whole URLs.
#[derive(Debug)]
struct ProxyConnector;

/// A connection to a proxy, for one request.
struct ProxyTransport {
    stream: Arc<TcpStream>,
    buffers: LazyBuffers,
    /// The URL prefix and the header to insert into the request; `None` once sent.
    amendment: Option<(String, String)>,
}

impl<In: Transport> Connector<In> for ProxyConnector {
    type Out = Either<In, ProxyTransport>;

    fn connect(&self, details: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        if let Some(chained) = chained {
            return Ok(Some(Either::A(chained)));
        }
        let is_plain = details.uri.scheme_str() == Some("http");
        let usable = |proxy: &&Proxy| proxy.protocol() == ProxyProtocol::Http && !proxy.is_no_proxy(details.uri);
        let Some(proxy) = details.config.proxy().filter(usable).filter(|_| is_plain) else { return Ok(None) };
        let timeout = wait(details.timeout).unwrap_or(CONNECT_TIMEOUT);
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for addr in &details.resolver.resolve(proxy.uri(), details.config, details.timeout)? {
            match Bind::Any.connect(*addr, timeout) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    let stream = Arc::new(stream);
                    register(details, &stream)?;
                    let (input, output) = (details.config.input_buffer_size(), details.config.output_buffer_size());
                    let buffers = LazyBuffers::new(input, output);
                    let amendment = Some((root(details.uri), authorization(proxy)));
                    return Ok(Some(Either::B(ProxyTransport { stream, buffers, amendment })));
                }
                Err(error) => last = error,
            }
        }
        Err(Error::Io(last))
    }
}

/// The scheme, host and port of a URL, without credentials.
fn root(uri: &Uri) -> String {
    let host = uri.host().unwrap_or_default();
    uri.port_u16().map_or_else(|| format!("http://{host}"), |port| format!("http://{host}:{port}"))
}

/// The `Proxy-Authorization` header if the proxy has a user name or password, otherwise nothing.
fn authorization(proxy: &Proxy) -> String {
    if proxy.username().is_none() && proxy.password().is_none() {
        return String::new();
    }
    let (user, password) = (proxy.username().unwrap_or_default(), proxy.password().unwrap_or_default());
    format!("Proxy-Authorization: Basic {}\r\n", base64::encode(format!("{user}:{password}").as_bytes()))
}

/// The request with its whole URL in the first line, and `header` after that line. Unchanged if the request target is not a path.
fn amended(request: &[u8], (root, header): &(String, String)) -> Vec<u8> {
    let path = request.iter().position(|&byte| byte == b' ').map(|at| at + 1);
    let line = request.windows(2).position(|end| end == b"\r\n").map(|at| at + 2);
    let (Some(path), Some(line)) = (path, line) else { return request.to_vec() };
    match (request.get(..path), request.get(path..line), request.get(line..)) {
        (Some(method), Some(rest_of_line), Some(rest)) if rest_of_line.starts_with(b"/") => {
            [method, root.as_bytes(), rest_of_line, header.as_bytes(), rest].concat()
        }
        _ => request.to_vec(),
    }
}

impl Transport for ProxyTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.set_write_timeout(wait(timeout))?;
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        let sent = match self.amendment.take() {
            Some(amendment) => (&*self.stream).write_all(&amended(output, &amendment)),
            None => (&*self.stream).write_all(output),
        };
        sent.map_err(|error| to_timeout_error(error, timeout.reason))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.set_read_timeout(wait(timeout))?;
        let input = self.buffers.input_append_buf();
        let amount = (&*self.stream).read(input).map_err(|error| to_timeout_error(error, timeout.reason))?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        false // one request per connection
    }
}

impl fmt::Debug for ProxyTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyTransport").field("addr", &self.stream.peer_addr().ok()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_for_a_proxy_names_its_whole_url() {
        let amendment = ("http://t:80".to_owned(), "Proxy-Authorization: x\r\n".to_owned());
        let request = b"GET /a?b HTTP/1.1\r\nHost: t\r\n\r\n";
        let expected = b"GET http://t:80/a?b HTTP/1.1\r\nProxy-Authorization: x\r\nHost: t\r\n\r\n";
        assert_eq!(amended(request, &amendment), expected);
        for odd in [&b"GET *\r\n"[..], b"x", b"", b"CONNECT t:1 HTTP/1.1\r\n\r\n"] {
            assert_eq!(amended(odd, &amendment), odd);
        }
        for (uri, from) in
            [("http://me:pw@t:8/x", "http://t:8"), ("http://[::1]/x", "http://[::1]"), ("http://t", "http://t")]
        {
            assert_eq!(root(&uri.parse().unwrap()), from);
        }
    }

    #[test]
    fn credentials_are_in_base64() {
        let proxy = |url: &str| authorization(&Proxy::new(url).unwrap());
        assert_eq!(proxy("http://foo:bar@h:1"), "Proxy-Authorization: Basic Zm9vOmJhcg==\r\n");
        assert_eq!(proxy("http://h:1"), "");
    }
}
