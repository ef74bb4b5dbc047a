//! The proxy of the environment for an HTTP or HTTPS request, by the rules of curl: `http_proxy` or `https_proxy`, else `all_proxy`,
//! unless `no_proxy` has the host. Names in lower case come first. A value that cannot be used is an error, and no reason to try the
//! next variable or to go directly. Pure but for `of_process`.

use crate::net::proxy::no_proxy::NoProxy;
use crate::net::proxy::url::{ProxyKind, ProxyUrl, ProxyUrlError};

/// The port of a proxy that names none, as in curl.
const DEFAULT_PORT: u16 = 1080;
/// The same for `https://`.
const DEFAULT_TLS_PORT: u16 = 443;

/// The value of a variable.
type ProxyVariable = Option<Result<ProxyUrl, UnusableProxy>>;

/// The name of a variable that cannot be used, and the reason. The value may have a password, so it is not in here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: {reason}")]
pub struct UnusableProxy {
    /// The variable.
    pub variable: &'static str,
    /// What is wrong.
    pub reason: ProxyUrlError,
}

/// The proxies of the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyEnvironment {
    http: ProxyVariable,
    https: ProxyVariable,
    all: ProxyVariable,
    no_proxy: NoProxy,
}

impl ProxyEnvironment {
    /// The variables of this process.
    pub fn of_process() -> ProxyEnvironment {
        ProxyEnvironment::new(|name| Some(std::env::var_os(name)?.to_string_lossy().into_owned()))
    }

    /// Reads the variables with `get`.
    pub fn new(get: impl Fn(&str) -> Option<String>) -> ProxyEnvironment {
        // A web server passes the header `Proxy` of a stranger's request to CGI programs as HTTP_PROXY.
        let is_cgi = get("REQUEST_METHOD").is_some();
        let value = |names: &[&'static str]| -> ProxyVariable {
            let set = names.iter().find_map(|name| Some((*name, get(name)?)));
            let (variable, value) = set.filter(|(_, value)| !value.trim().is_empty())?;
            Some(parse(&value).map_err(|reason| UnusableProxy { variable, reason }))
        };
        let no_proxy = ["no_proxy", "NO_PROXY"].iter().find_map(|name| get(name));
        ProxyEnvironment {
            http: value(if is_cgi { &["http_proxy"] } else { &["http_proxy", "HTTP_PROXY"] }),
            https: value(&["https_proxy", "HTTPS_PROXY"]),
            all: value(&["all_proxy", "ALL_PROXY"]),
            no_proxy: NoProxy::new(&no_proxy.unwrap_or_default()),
        }
    }

    /// The variables that are set, by their names in lower case, and their values.
    pub fn variables(&self) -> impl Iterator<Item = (&'static str, Result<&ProxyUrl, &UnusableProxy>)> {
        let all = [("http_proxy", &self.http), ("https_proxy", &self.https), ("all_proxy", &self.all)];
        all.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?.as_ref())))
    }

    /// The proxy for a request to `host`; `None` if it goes directly.
    ///
    /// # Errors
    /// If the variable that counts cannot be used.
    pub fn proxy_for(&self, is_https: bool, host: &str) -> Result<Option<&ProxyUrl>, UnusableProxy> {
        let own = if is_https { &self.https } else { &self.http };
        let Some(proxy) = own.as_ref().or(self.all.as_ref()) else { return Ok(None) };
        if self.no_proxy.matches(host) {
            return Ok(None);
        }
        proxy.as_ref().map(Some).map_err(Clone::clone)
    }
}

/// Like the URL of `--proxy`, but without a scheme it is that of an HTTP proxy, the port may be missing, and `https` is allowed.
fn parse(value: &str) -> Result<ProxyUrl, ProxyUrlError> {
    let value = value.trim();
    let tls = value.get(..8).filter(|scheme| scheme.eq_ignore_ascii_case("https://")).and(value.get(8..));
    if let Some(rest) = tls {
        let url = parse_with_default(&format!("http://{rest}"), DEFAULT_TLS_PORT)?;
        return Ok(ProxyUrl { kind: ProxyKind::Https, ..url });
    }
    let url = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
    parse_with_default(&url, DEFAULT_PORT)
}

fn parse_with_default(url: &str, port: u16) -> Result<ProxyUrl, ProxyUrlError> {
    match url.parse() {
        Err(ProxyUrlError::Port) if !has_port(url) => {
            format!("{}:{port}", url.strip_suffix('/').unwrap_or(url)).parse()
        }
        parsed => parsed,
    }
}

/// Whether something that should be a port follows the host.
fn has_port(url: &str) -> bool {
    let host = url.rsplit(['@', '/']).find(|part| !part.is_empty()).unwrap_or_default();
    host.rsplit(']').next().unwrap_or_default().contains(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> ProxyEnvironment {
        ProxyEnvironment::new(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn of(variables: &[(&str, &str)], is_https: bool, host: &str) -> Option<String> {
        environment(variables).proxy_for(is_https, host).expect("usable").map(ToString::to_string)
    }

    #[test]
    fn the_scheme_decides_and_all_proxy_stands_in() {
        let all = [("http_proxy", "http://a:1"), ("HTTPS_PROXY", "socks5://b:2"), ("ALL_PROXY", "c:3")];
        assert_eq!(of(&all, false, "t"), Some("http://a:1".into()));
        assert_eq!(of(&all, true, "t"), Some("socks5://b:2".into()));
        assert_eq!(of(&all[1..], false, "t"), Some("http://c:3".into()));
        assert_eq!(of(&[("http_proxy", "http://a:1")], true, "t"), None);
        assert_eq!(of(&[("http_proxy", "x:1"), ("HTTP_PROXY", "y:1")], false, "t"), Some("http://x:1".into()));
        assert_eq!(of(&[("http_proxy", ""), ("HTTP_PROXY", "y:1")], false, "t"), None, "empty means none");
        assert_eq!(of(&[("REQUEST_METHOD", "GET"), ("HTTP_PROXY", "y:1")], false, "t"), None);
    }

    #[test]
    fn no_proxy_takes_hosts_out() {
        let all = [("all_proxy", "http://a:1"), ("no_proxy", "10.0.0.0/8,local")];
        for host in ["10.1.1.1", "x.local"] {
            assert_eq!(of(&all, false, host), None);
        }
        assert!(of(&all, true, "11.1.1.1").is_some());
    }

    #[test]
    fn ports_may_be_missing() {
        for (value, wanted) in [
            ("http://h", "http://h:1080"),
            ("h/", "http://h:1080"),
            ("me:pw@h", "http://h:1080"),
            ("socks5://[::1]", "socks5://[::1]:1080"),
            ("[::1]:80", "http://[::1]:80"),
            ("HTTPS://h", "https://h:443"),
            ("https://h:8/", "https://h:8"),
        ] {
            assert_eq!(of(&[("all_proxy", value)], false, "t"), Some(wanted.into()), "{value}");
        }
    }

    #[test]
    fn an_unusable_value_is_an_error_and_not_passed_over() {
        let all = [("http_proxy", "gopher://h:1"), ("all_proxy", "http://a:1"), ("no_proxy", "local")];
        let error = environment(&all).proxy_for(false, "t").expect_err("unusable");
        assert_eq!(error, UnusableProxy { variable: "http_proxy", reason: ProxyUrlError::Scheme });
        assert!(environment(&all).proxy_for(true, "t").is_ok_and(|proxy| proxy.is_some()));
        assert_eq!(environment(&all).proxy_for(false, "local"), Ok(None));
        assert!(environment(&[("all_proxy", "http://h:x")]).proxy_for(false, "t").is_err());
    }
}
