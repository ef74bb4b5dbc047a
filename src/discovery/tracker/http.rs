//! The HTTP tracker client (BEP 3, 7, 23): one blocking GET with limits on time, size and redirects.
//! It follows redirects itself, to check every hop anew: the scheme, and whether the resolved address is local (`address_guard`).
//! The same client fetches files that the user names by URL.

mod address_guard;
pub mod answer;
mod bound;
mod cookies;
mod error;
mod families;
mod file;
pub(crate) mod host_limit;
mod lenient;
mod peer_names;
mod proxy;
mod ranged;
mod response;
mod setup;
#[cfg_attr(not(feature = "tls"), path = "http/no_tls.rs")]
mod tls;
pub(crate) mod url;

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use ureq::http::StatusCode;
use ureq::http::header::LOCATION;
use ureq::{Agent, Body};

pub use crate::discovery::tracker::announce::{Announce, AnnounceEvent, AnnounceResponse, ScrapeCounts};
use crate::discovery::tracker::announce_path::{is_announce_path, is_announce_query};
pub use crate::discovery::tracker::error::{Retry, TrackerError};
use crate::metainfo::Magnet;
use crate::types::InfoHash;
use crate::util::printable_text::printable;
pub(crate) use address_guard::is_local;
use address_guard::is_refusal;
use cookies::{Cookies, get};
use families::{IpFamily, KnownFamilies};
pub use file::{FetchedUrl, UrlFetcher};
pub(crate) use peer_names::has_local_form;
use proxy::HttpRoute;
pub use ranged::{FetchInterrupter, RangedFetcher, RangedResponse};
use response::{BODIES, read_body, retry_after};

/// The largest response body, after decompression, in bytes. 3,000 peers take at most 53 KiB in the compact form, and
/// about 202 KiB in the other one (69 bytes each). btsync requests at most 200 in the compact form.
const MAX_BODY: u64 = 256 * 1024;
/// The largest response header, in bytes.
const MAX_HEADER: usize = 16 * 1024;
/// The size of the request buffer, in bytes.
const OUTPUT_BUFFER: usize = 4 * 1024;
/// The most redirects followed.
const MAX_REDIRECTS: usize = 5;
/// The default user agent.
const USER_AGENT: &str = concat!("btsync/", env!("CARGO_PKG_VERSION"));
/// The most torrents in one scrape request.
const MAX_SCRAPE: usize = 50;

/// A client for HTTP and HTTPS trackers; cheap to clone, and clones share their state.
#[derive(Clone, Debug)]
pub struct HttpClient {
    /// Uses either address family.
    any: Agents,
    /// Use only IPv4 or only IPv6.
    four: Agents,
    six: Agents,
    /// What earlier announces revealed about each tracker's address families.
    known: Arc<Mutex<KnownFamilies>>,
    /// Whether announces contain our addresses of both families. False if sockets are bound to an interface or address, or a
    /// proxy is in use for everything.
    names_both_addresses: bool,
    /// Whether an address is local rather than public.
    is_local: fn(IpAddr) -> bool,
    /// The user's own URLs, which may lead to any local address.
    trusted: Arc<HashSet<String>>,
    /// How requests leave the machine. A proxy resolves names for us.
    route: HttpRoute,
    /// Cookies of the user, for one server.
    cookies: Option<Cookies>,
}

/// A pair of HTTP agents.
#[derive(Clone, Debug)]
struct Agents {
    /// Connects to public addresses only.
    public: Agent,
    /// Connects to any address; used only if a local tracker is allowed.
    local: Agent,
}

/// Which local addresses a URL may lead to. Depends on who supplied the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// Local addresses only with the path and query of an announce: a torrent supplied the URL.
    AnnouncePathOnly,
    /// No local addresses at all: an untrusted URL that is not a tracker's.
    Public,
    /// Any path at the URL's own local address; redirects as for [`Trust::AnnouncePathOnly`]. The user gave the tracker's URL.
    FirstHop,
    /// Any path at local addresses, for redirects too unless a public host was involved. The user supplied the file's URL.
    EveryHop,
}

impl Trust {
    /// Whether the URL is a tracker's, and not that of a file.
    fn is_of_tracker(self) -> bool {
        matches!(self, Trust::AnnouncePathOnly | Trust::FirstHop)
    }
}

/// The response to one request.
struct Hop {
    response: ureq::http::Response<Body>,
    is_public: bool,
}

/// A tracker's response.
struct ParsedResponse<T> {
    content: T,
    /// Whether it came from a public address.
    is_public: bool,
}

/// The result after following redirects.
struct Page {
    content: Content,
    /// Whether a public host sent the result or one of the redirects.
    is_public: bool,
}

/// The content at the end of the redirects.
enum Content {
    /// The status, the value of `Retry-After`, and the body.
    Body(StatusCode, Option<Retry>, Vec<u8>),
    /// A magnet link from a redirect; it is not requested.
    Link(String),
}

impl HttpClient {
    /// Whether a request to this URL goes through a proxy, which then resolves names for us.
    fn is_proxied(&self, url: &str) -> bool {
        self.route.is_proxied(is_https(url), url::host(url))
    }

    /// Whether the host of a URL that goes through a proxy may be public, as far as its form tells.
    fn may_be_public(&self, url: &str) -> bool {
        let host = url::host(url);
        url::literal_ip(url).map_or_else(|| !peer_names::has_local_form(host), |ip| !(self.is_local)(ip))
    }

    /// Announces to the tracker at `url` and waits for its response. Name lookup, connection, redirects and body together take at
    /// most `deadline`.
    ///
    /// # Errors
    /// If the tracker does not respond or refuses; see [`TrackerError`]. Error messages do not contain a URL's query.
    pub fn announce(&self, url: &str, a: &Announce, deadline: Duration) -> Result<AnnounceResponse, TrackerError> {
        self.announce_by(&self.any, url, url::announce_url(url, a)?, Instant::now() + deadline)
    }

    /// Announces over one address family; `full` is the URL with the announce's parameters.
    fn announce_over(
        &self,
        family: IpFamily,
        url: &str,
        full: &str,
        end: Instant,
    ) -> Result<AnnounceResponse, TrackerError> {
        let agents = if family == IpFamily::V4 { &self.four } else { &self.six };
        self.announce_by(agents, url, full.to_owned(), end)
    }

    fn announce_by(
        &self,
        agents: &Agents,
        url: &str,
        full: String,
        end: Instant,
    ) -> Result<AnnounceResponse, TrackerError> {
        let ParsedResponse { content: mut answer, is_public } =
            self.ask(agents, full, self.trust(url), end, answer::parse)?;
        let names = std::mem::take(&mut answer.names);
        if !names.is_empty() && !self.is_proxied(url) {
            let found = peer_names::addresses(&names, end);
            answer.peers = crate::discovery::tracker::announce::usable(answer.peers.into_iter().chain(found));
        }
        Ok(if is_public { answer.without_private_peers() } else { answer })
    }

    /// Requests the counts of `swarms` from the tracker with the announce URL `url` (BEP 48), in the same order; `None` for
    /// torrents that the tracker does not know.
    ///
    /// # Errors
    /// Those of [`HttpClient::announce`]; [`TrackerError::Url`] if the last path segment does not begin with `announce`.
    pub fn scrape(
        &self,
        url: &str,
        swarms: &[InfoHash],
        deadline: Duration,
    ) -> Result<Vec<Option<ScrapeCounts>>, TrackerError> {
        let end = Instant::now() + deadline;
        let mut all = Vec::with_capacity(swarms.len());
        // Limit the length of a request to what every server accepts.
        for part in swarms.chunks(MAX_SCRAPE) {
            let scrape = url::scrape_url(url, part)?;
            let parse = |body: &[u8]| answer::parse_scrape(body, part);
            all.extend(self.ask(&self.any, scrape, self.trust(url), end, parse)?.content);
        }
        Ok(all)
    }

    fn trust(&self, url: &str) -> Trust {
        if self.trusted.contains(url) { Trust::FirstHop } else { Trust::AnnouncePathOnly }
    }

    /// Sends one request to a tracker. Returns its response, parsed by `parse`.
    fn ask<T>(
        &self,
        agents: &Agents,
        url: String,
        trust: Trust,
        end: Instant,
        parse: impl Fn(&[u8]) -> Result<T, TrackerError>,
    ) -> Result<ParsedResponse<T>, TrackerError> {
        let Page { content, is_public } = self.page(agents, url, trust, end, MAX_BODY)?;
        let Content::Body(status, retry, body) = content else {
            return Err(TrackerError::Scheme("magnet".to_owned()));
        };
        match parse(&body) {
            // Some trackers refuse with an error status and a `failure reason`; the reason is more informative.
            Err(refused @ TrackerError::Refused(_)) => Err(refused.later(retry)),
            Err(refused @ TrackerError::Later { .. }) => Err(refused),
            _ if !status.is_success() => Err(TrackerError::Http(status.as_u16()).later(retry)),
            parsed => Ok(ParsedResponse { content: parsed?, is_public }),
        }
    }

    /// Sends a request and follows its redirects.
    fn page(
        &self,
        agents: &Agents,
        mut url: String,
        mut trust: Trust,
        end: Instant,
        max: u64,
    ) -> Result<Page, TrackerError> {
        let mut from_public = false;
        for _ in 0..=MAX_REDIRECTS {
            let hop = self.hop(agents, &url, trust, from_public, end)?;
            let status = hop.response.status();
            if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
                let retry = retry_after(&hop.response);
                // Behind a proxy, a name's address is unknown, but some names are always local.
                let is_public =
                    from_public || hop.is_public && !(self.is_proxied(&url) && peer_names::is_local(url::host(&url)));
                let content = Content::Body(
                    status,
                    retry,
                    read_body(hop.response, &url, max, trust.is_of_tracker().then_some(&BODIES))?,
                );
                return Ok(Page { content, is_public });
            }
            from_public |= hop.is_public;
            let location = hop.response.headers().get(LOCATION).map(ureq::http::HeaderValue::as_bytes);
            let location = String::from_utf8_lossy(location.ok_or(TrackerError::Redirect("it has no target"))?);
            if Magnet::is_link(&location) {
                return Ok(Page { content: Content::Link(location.trim().to_owned()), is_public: from_public });
            }
            url = url::join(&url, &location)?;
            if trust == Trust::FirstHop {
                trust = Trust::AnnouncePathOnly; // the user trusts the first hop, not where it leads
            }
        }
        Err(TrackerError::Redirect("too many redirects"))
    }

    /// Sends one request without following redirects. Tries public addresses first; a host with only local addresses must be
    /// allowed by `trust`.
    fn hop(
        &self,
        agents: &Agents,
        url: &str,
        trust: Trust,
        is_from_public: bool,
        end: Instant,
    ) -> Result<Hop, TrackerError> {
        let cookies = self.cookies.as_ref();
        self.hop_by(agents, url, trust, is_from_public, |agent| get(agent, url, cookies, end))
    }

    /// The same with another way to send the request.
    fn hop_by(
        &self,
        agents: &Agents,
        url: &str,
        trust: Trust,
        is_from_public: bool,
        send: impl Fn(&Agent) -> Result<ureq::http::Response<Body>, ureq::Error>,
    ) -> Result<Hop, TrackerError> {
        if let Err(error) = self.route.proxy_for(is_https(url), url::host(url)) {
            return Err(TrackerError::Proxy(printable(&error.to_string())));
        }
        if trust == Trust::Public && self.is_proxied(url) && !self.may_be_public(url) {
            return Err(TrackerError::Redirect("it leads to a local address"));
        }
        // Behind a proxy, names are not resolved here, but literal addresses can be checked.
        if !url::literal_ip(url).is_some_and(self.is_local) {
            match send(&agents.public) {
                Ok(response) => return Ok(Hop { response, is_public: true }),
                Err(e) if !is_refusal(&e) => return Err(error::from_ureq(e, url)),
                Err(_) => {}
            }
        }
        if is_from_public {
            return Err(TrackerError::Redirect("it leads from a public host to a local address"));
        }
        match trust {
            Trust::Public => return Err(TrackerError::Redirect("it leads to a local address")),
            Trust::AnnouncePathOnly if !is_announce_path(url::path(url)) || !is_announce_query(url::query(url)) => {
                return Err(TrackerError::Local);
            }
            _ => {}
        }
        let response = send(&agents.local).map_err(|e| error::from_ureq(e, url))?;
        Ok(Hop { response, is_public: false })
    }
}

fn is_https(url: &str) -> bool {
    url.trim().get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"))
}

#[cfg(test)]
mod tests;
