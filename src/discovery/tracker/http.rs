//! The HTTP tracker client (BEP 3, 7, 23): one blocking GET, bounded in time, size and redirects. Redirects are followed by
//! hand, so that every hop is judged anew: its scheme, and (through `guard`, on resolved addresses) whether it is local.
//! The same client fetches the files that the user names by URL.

mod address_guard;
pub mod answer;
mod bound;
mod error;
mod families;
mod file;
mod lenient;
mod peer_names;
mod proxy;
mod tls;
mod url;

use std::collections::HashSet;
use std::io::Read;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flate2::read::MultiGzDecoder;
use parking_lot::Mutex;
use ureq::config::{Config, ConfigBuilder};
use ureq::http::StatusCode;
use ureq::http::header::{DATE, LOCATION, RETRY_AFTER};
use ureq::typestate::AgentScope;
use ureq::{Agent, Body};

pub use crate::discovery::tracker::announce::{
    Announce, AnnounceEvent, AnnounceResponse, Retry, Scraped, TrackerError,
};
use crate::discovery::tracker::announce_path::is_announce_path;
use crate::metainfo::Magnet;
use crate::net::bind::Bind;
use crate::types::InfoHash;
pub(crate) use address_guard::is_local;
use address_guard::{AddressGuard, StaticHosts, is_refusal};
use families::{IpFamily, KnownFamilies};
pub use file::FetchedUrl;

/// The largest answer that is read, after decompression, in bytes.
const MAX_BODY: u64 = 1024 * 1024;
/// The largest response header, in bytes.
const MAX_HEADER: usize = 16 * 1024;
/// Room for a request, in bytes.
const OUTPUT_BUFFER: usize = 4 * 1024;
/// Redirects that are followed at most.
const MAX_REDIRECTS: usize = 5;
/// How gzip begins.
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// What btsync calls itself.
const USER_AGENT: &str = concat!("btsync/", env!("CARGO_PKG_VERSION"));
/// Swarms in one scrape at most.
const MAX_SCRAPE: usize = 50;

/// Talks to HTTP and HTTPS trackers; cheap to clone, and its clones share their connections.
#[derive(Clone, Debug)]
pub struct HttpTracker {
    /// Over whatever family the system prefers.
    any: Agents,
    /// Over IPv4 alone, over IPv6 alone.
    four: Agents,
    six: Agents,
    /// What is known of trackers' families.
    known: Arc<Mutex<KnownFamilies>>,
    /// Whether trackers are told our addresses of both families: not where sockets are tied to an interface.
    tells_addresses: bool,
    /// Tells a local address from a public one.
    is_local: fn(IpAddr) -> bool,
    /// URLs of the user's own, asked wherever they lead.
    trusted: Arc<HashSet<String>>,
    /// A proxy of the environment is used, and looks up names in our place.
    is_proxied: bool,
    /// Set if the environment names a proxy of an unsupported kind; says which URLs need none.
    unusable_proxy: Option<Config>,
}

/// What connects.
#[derive(Clone, Debug)]
struct Agents {
    /// To public addresses only.
    public: Agent,
    /// Anywhere; asked only where a local tracker is allowed.
    local: Agent,
}

/// Which local addresses may be asked for any path, as the user named them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// None.
    Nowhere,
    /// None for any path: a stranger named the URL, and it is no tracker's.
    Public,
    /// That of the URL itself, and none that it leads to.
    FirstHop,
    /// Those that it leads to as well, as long as no public host has had a say.
    EveryHop,
}

/// What one request brought, and from where.
struct Hop {
    response: ureq::http::Response<Body>,
    public: bool,
}

/// What the last of the redirects led to.
struct Page {
    content: Content,
    /// Whether a public host had a say in it.
    is_public: bool,
}

/// What is there.
enum Content {
    /// An answer, and what its `Retry-After` says.
    Body(StatusCode, Option<Retry>, Vec<u8>),
    /// A magnet link, which is not a request.
    Link(String),
}

impl HttpTracker {
    /// A client with verified TLS and the proxies of the environment.
    pub fn new() -> HttpTracker {
        HttpTracker::called(USER_AGENT)
    }

    /// The same under another name.
    fn called(user_agent: &str) -> HttpTracker {
        let config = config(user_agent).build();
        let unusable_proxy = proxy::is_unusable(&config).then(|| config.clone());
        HttpTracker { unusable_proxy, ..HttpTracker::made(&config, is_local, AddressGuard::no_names) }
    }

    /// The same, trusting the user's own URLs: those may lead to any path of a local address.
    #[must_use]
    pub fn with_trusted_urls(self, urls: Arc<HashSet<String>>) -> HttpTracker {
        HttpTracker { trusted: urls, ..self }
    }

    /// The same with sockets tied to `bind`. A proxy of the environment is then not used: it would be another way out. Servers are
    /// told that this is `user_agent`, or btsync.
    pub fn tied(bind: &Bind, user_agent: Option<&str>) -> HttpTracker {
        let user_agent = user_agent.unwrap_or(USER_AGENT);
        if *bind == Bind::Any {
            return HttpTracker::called(user_agent);
        }
        let config = config(user_agent).proxy(None).build();
        let agent = |guard| Agent::with_parts(config.clone(), bound::connector(bind.clone()), guard);
        HttpTracker { tells_addresses: false, ..HttpTracker::of(agent, is_local, AddressGuard::no_names, false) }
    }

    #[cfg(test)]
    fn with(config: &Config, is_local: fn(IpAddr) -> bool) -> HttpTracker {
        HttpTracker::made(config, is_local, AddressGuard::no_names)
    }

    /// With `names` in place of the system's resolver, for those that it knows.
    fn made(config: &Config, is_local: fn(IpAddr) -> bool, names: StaticHosts) -> HttpTracker {
        let agent = |guard| Agent::with_parts(config.clone(), proxy::connector(), guard);
        HttpTracker::of(agent, is_local, names, config.proxy().is_some())
    }

    fn of(
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
            four: agents(Some(IpFamily::Four)),
            six: agents(Some(IpFamily::Six)),
            known: Arc::default(),
            tells_addresses: !is_proxied,
            is_local,
            trusted: Arc::default(),
            is_proxied,
            unusable_proxy: None,
        }
    }

    /// Announces to the tracker at `url` and waits for its answer, `deadline` at most for all of it: name look-up,
    /// connection, redirects and body.
    ///
    /// # Errors
    /// Whatever kept the tracker from answering, or its own refusal; see [`TrackerError`]. No message holds a URL's query.
    pub fn announce(&self, url: &str, a: &Announce, deadline: Duration) -> Result<AnnounceResponse, TrackerError> {
        self.announce_by(&self.any, url, url::announce_url(url, a)?, Instant::now() + deadline)
    }

    /// Announces over one family; `full` is the URL with the announce's parameters.
    fn announce_over(
        &self,
        family: IpFamily,
        url: &str,
        full: &str,
        end: Instant,
    ) -> Result<AnnounceResponse, TrackerError> {
        let agents = if family == IpFamily::Four { &self.four } else { &self.six };
        self.announce_by(agents, url, full.to_owned(), end)
    }

    fn announce_by(
        &self,
        agents: &Agents,
        url: &str,
        full: String,
        end: Instant,
    ) -> Result<AnnounceResponse, TrackerError> {
        let (mut answer, is_public) = self.ask(agents, full, self.trust(url), end, answer::parse)?;
        let names = std::mem::take(&mut answer.names);
        if !names.is_empty() && !self.is_proxied {
            let found = peer_names::addresses(&names, end);
            answer.peers = crate::discovery::tracker::announce::usable(answer.peers.into_iter().chain(found));
        }
        Ok(if is_public { answer.without_private_peers() } else { answer })
    }

    /// Asks the tracker at `url`, its announce URL, for the figures of `swarms` (BEP 48), in their order; `None` for those that it
    /// does not know.
    ///
    /// # Errors
    /// As [`HttpTracker::announce`]; [`TrackerError::Url`] where the path does not end in an `announce` to be replaced.
    pub fn scrape(
        &self,
        url: &str,
        swarms: &[InfoHash],
        deadline: Duration,
    ) -> Result<Vec<Option<Scraped>>, TrackerError> {
        let end = Instant::now() + deadline;
        let mut all = Vec::with_capacity(swarms.len());
        // As many in a request as leave it at a length that every server takes.
        for part in swarms.chunks(MAX_SCRAPE) {
            let scrape = url::scrape_url(url, part)?;
            all.extend(self.ask(&self.any, scrape, self.trust(url), end, |body| answer::parse_scrape(body, part))?.0);
        }
        Ok(all)
    }

    fn trust(&self, url: &str) -> Trust {
        if self.trusted.contains(url) { Trust::FirstHop } else { Trust::Nowhere }
    }

    /// One question to a tracker, its answer read by `parse`, and whether it came from a public address.
    fn ask<T>(
        &self,
        agents: &Agents,
        url: String,
        trust: Trust,
        end: Instant,
        parse: impl Fn(&[u8]) -> Result<T, TrackerError>,
    ) -> Result<(T, bool), TrackerError> {
        let Page { content, is_public } = self.page(agents, url, trust, end, MAX_BODY)?;
        let Content::Body(status, retry, body) = content else {
            return Err(TrackerError::Scheme("magnet".to_owned()));
        };
        match parse(&body) {
            // Some trackers refuse with a status and a reason: the reason says more.
            Err(refused @ TrackerError::Refused(_)) => Err(later(refused, retry)),
            Err(refused @ TrackerError::Later { .. }) => Err(refused),
            _ if !status.is_success() => Err(later(TrackerError::Http(status.as_u16()), retry)),
            parsed => Ok((parsed?, is_public)),
        }
    }

    /// One request with its redirects.
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
                // Behind a proxy a name's address is not known, but some names are local ones.
                let is_public =
                    from_public || hop.public && !(self.is_proxied && peer_names::is_local(url::host(&url)));
                let content = Content::Body(status, retry, read_body(hop.response, &url, max)?);
                return Ok(Page { content, is_public });
            }
            from_public |= hop.public;
            let location = hop.response.headers().get(LOCATION).map(ureq::http::HeaderValue::as_bytes);
            let location = String::from_utf8_lossy(location.ok_or(TrackerError::Redirect("it does not say where to"))?);
            if Magnet::is_link(&location) {
                return Ok(Page { content: Content::Link(location.trim().to_owned()), is_public: from_public });
            }
            url = url::join(&url, &location)?;
            if trust == Trust::FirstHop {
                trust = Trust::Nowhere; // the user named the first hop, not where it leads
            }
        }
        Err(TrackerError::Redirect("there are too many"))
    }

    /// One request. Public addresses are tried first; a host that has only local ones is asked where that is allowed.
    fn hop(
        &self,
        agents: &Agents,
        url: &str,
        trust: Trust,
        from_public: bool,
        end: Instant,
    ) -> Result<Hop, TrackerError> {
        if self.unusable_proxy.as_ref().is_some_and(|config| !proxy::bypasses_proxy(config, url)) {
            return Err(TrackerError::Proxy);
        }
        // Behind a proxy no name is resolved here, but an address speaks for itself.
        let literal = url::host(url).trim_matches(['[', ']']).parse::<IpAddr>();
        if !literal.is_ok_and(self.is_local) {
            match get(&agents.public, url, end) {
                Ok(response) => return Ok(Hop { response, public: true }),
                Err(e) if !is_refusal(&e) => return Err(error::from_ureq(e, url)),
                Err(_) => {}
            }
        }
        if from_public {
            return Err(TrackerError::Redirect("it leads from a public host to a local address"));
        }
        match trust {
            Trust::Public => return Err(TrackerError::Redirect("it leads to a local address")),
            Trust::Nowhere if !is_announce_path(url::path(url)) => return Err(TrackerError::Local),
            _ => {}
        }
        let response = get(&agents.local, url, end).map_err(|e| error::from_ureq(e, url))?;
        Ok(Hop { response, public: false })
    }
}

impl Default for HttpTracker {
    fn default() -> HttpTracker {
        HttpTracker::new()
    }
}

fn config(user_agent: &str) -> ConfigBuilder<AgentScope> {
    Agent::config_builder()
        .user_agent(user_agent.to_owned())
        .max_redirects(0)
        .http_status_as_error(false)
        .max_response_header_size(MAX_HEADER)
        // No connection is kept: announces are far apart, and a server may have closed one that the next hop of a redirect would use.
        .max_idle_connections(0)
        .max_idle_connections_per_host(0)
        // Zeroed anew for every request: small ones do for an announce.
        .input_buffer_size(2 * MAX_HEADER)
        .output_buffer_size(OUTPUT_BUFFER)
}

/// One GET within what is left of the time.
fn get(agent: &Agent, url: &str, end: Instant) -> Result<ureq::http::Response<Body>, ureq::Error> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(ureq::Error::Timeout(ureq::Timeout::Global));
    }
    agent.get(url).config().timeout_global(Some(left)).build().call()
}

/// An error, with the time at which the server wants to be asked again, if it gave one.
fn later(why: TrackerError, retry: Option<Retry>) -> TrackerError {
    match retry {
        Some(retry) => TrackerError::Later { why: Box::new(why), retry },
        None => why,
    }
}

/// What `Retry-After` says (RFC 9110): seconds, or a date, which is compared with the server's own.
fn retry_after(response: &ureq::http::Response<Body>) -> Option<Retry> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = text
        .parse()
        .ok()
        .and_then(crate::discovery::tracker::announce::seconds)
        .or_else(|| retry_at(response, text))?;
    Some(Retry::After(wait))
}

/// How long after the date of the response another date is.
fn retry_at(response: &ureq::http::Response<Body>, date: &str) -> Option<Duration> {
    let now = url::http_date(response.headers().get(DATE)?.to_str().ok()?)?;
    crate::discovery::tracker::announce::seconds(url::http_date(date)? - now)
}

/// Reads the body, a byte more than allowed at most.
fn read_body(response: ureq::http::Response<Body>, url: &str, max: u64) -> Result<Vec<u8>, TrackerError> {
    let mut body = Vec::new();
    let mut reader = response.into_body().into_reader().take(max + 1);
    reader.read_to_end(&mut body).map_err(|e| error::from_ureq(ureq::Error::from(e), url))?;
    if body.len() as u64 > max {
        Err(TrackerError::TooLarge)
    } else if body.starts_with(&GZIP) {
        unpacked(&body, max)
    } else {
        Ok(body)
    }
}

/// What gzip holds, of which servers do not always tell, or by another name (`x-gzip`).
fn unpacked(packed: &[u8], max: u64) -> Result<Vec<u8>, TrackerError> {
    let mut body = Vec::new();
    let read = MultiGzDecoder::new(packed).take(max + 1).read_to_end(&mut body);
    // Bytes behind the end are as harmless as anywhere else.
    if read.is_err() && body.is_empty() {
        return Err(TrackerError::Malformed("it does not decompress".into()));
    }
    if body.len() as u64 > max { Err(TrackerError::TooLarge) } else { Ok(body) }
}

#[cfg(test)]
mod tests;
