//! The HTTP tracker client (BEP 3, 7, 23): one blocking GET, bounded in time, size and redirects. Redirects are followed by
//! hand, so that every hop is judged anew: its scheme, and (through [`guard`], on resolved addresses) whether it is local.

mod answer;
mod error;
mod guard;
mod url;

use std::io::Read;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ureq::config::{Config, ConfigBuilder};
use ureq::http::header::LOCATION;
use ureq::typestate::AgentScope;
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Body};

use crate::types::{InfoHash, PeerId};
pub use answer::{Answer, MAX_PEERS};
pub use error::TrackerError;
use guard::{Guard, is_refusal};
pub use url::public_name;

/// The largest answer that is read, after decompression, in bytes.
const MAX_BODY: u64 = 1024 * 1024;
/// The largest response header, in bytes.
const MAX_HEADER: usize = 16 * 1024;
/// Room for a request, in bytes.
const OUTPUT_BUFFER: usize = 4 * 1024;
/// Redirects that are followed at most.
const MAX_REDIRECTS: usize = 5;

/// What an announce tells the tracker (BEP 3).
#[derive(Clone, Copy, Debug)]
pub struct Announce<'a> {
    /// The swarm.
    pub info_hash: InfoHash,
    /// Ourselves.
    pub peer_id: PeerId,
    /// The TCP port on which we listen.
    pub port: u16,
    /// Payload bytes sent since `started`.
    pub uploaded: u64,
    /// Payload bytes received since `started`.
    pub downloaded: u64,
    /// Bytes still missing.
    pub left: u64,
    /// Random and the same for the whole session: lets the tracker know us again under another address.
    pub key: u32,
    /// How many peers we would like.
    pub numwant: u32,
    /// What happened, where this is more than the regular announce.
    pub event: Option<AnnounceEvent>,
    /// What this tracker once sent as `tracker id`.
    pub tracker_id: Option<&'a [u8]>,
}

/// The events of BEP 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AnnounceEvent {
    /// The first announce.
    Started,
    /// The download has just become whole.
    Completed,
    /// We are leaving.
    Stopped,
}

impl AnnounceEvent {
    /// The word as it travels.
    pub fn word(self) -> &'static str {
        match self {
            AnnounceEvent::Started => "started",
            AnnounceEvent::Completed => "completed",
            AnnounceEvent::Stopped => "stopped",
        }
    }
}

/// Talks to HTTP and HTTPS trackers; cheap to clone, and its clones share their connections.
#[derive(Clone, Debug)]
pub struct HttpTracker {
    /// Connects to public addresses only.
    public: Agent,
    /// Connects anywhere; asked only where a local tracker is allowed.
    local: Agent,
    /// Tells a local address from a public one.
    is_local: fn(IpAddr) -> bool,
}

/// What one request brought, and from where.
struct Hop {
    response: ureq::http::Response<Body>,
    public: bool,
}

impl HttpTracker {
    /// A client with verified TLS and the proxies of the environment.
    pub fn new() -> HttpTracker {
        HttpTracker::with(&config().build(), guard::is_local)
    }

    fn with(config: &Config, is_local: fn(IpAddr) -> bool) -> HttpTracker {
        let agent = |guard| Agent::with_parts(config.clone(), DefaultConnector::default(), guard);
        HttpTracker { public: agent(Guard::refusing(is_local)), local: agent(Guard::refusing(|_| false)), is_local }
    }

    /// Announces to the tracker at `url` and waits for its answer, `deadline` at most for all of it: name look-up,
    /// connection, redirects and body.
    ///
    /// # Errors
    /// Whatever kept the tracker from answering, or its own refusal; see [`TrackerError`]. No message holds a URL's query.
    pub fn announce(&self, url: &str, a: &Announce, deadline: Duration) -> Result<Answer, TrackerError> {
        let end = Instant::now() + deadline;
        let mut url = url::announce_url(url, a)?;
        let mut from_public = false;
        for _ in 0..=MAX_REDIRECTS {
            let hop = self.hop(&url, from_public, end)?;
            let status = hop.response.status().as_u16();
            if !matches!(status, 301 | 302 | 303 | 307 | 308) {
                return read_answer(hop.response, &url);
            }
            from_public |= hop.public;
            let location = hop.response.headers().get(LOCATION).and_then(|l| l.to_str().ok());
            let location = location.ok_or(TrackerError::Redirect("it does not say where to"))?;
            url = url::join(&url, location)?;
        }
        Err(TrackerError::Redirect("there are too many"))
    }

    /// One request. Public addresses are tried first; a host that has only local ones is asked where that is allowed.
    fn hop(&self, url: &str, from_public: bool, end: Instant) -> Result<Hop, TrackerError> {
        // Behind a proxy no name is resolved here, but an address speaks for itself.
        let literal = url::host(url).trim_matches(['[', ']']).parse::<IpAddr>();
        if !literal.is_ok_and(self.is_local) {
            match get(&self.public, url, end) {
                Ok(response) => return Ok(Hop { response, public: true }),
                Err(e) if !is_refusal(&e) => return Err(error::from_ureq(e, url)),
                Err(_) => {}
            }
        }
        if from_public {
            return Err(TrackerError::Redirect("it leads from a public host to a local address"));
        }
        if !url::path(url).contains("announce") {
            return Err(TrackerError::Local);
        }
        let response = get(&self.local, url, end).map_err(|e| error::from_ureq(e, url))?;
        Ok(Hop { response, public: false })
    }
}

impl Default for HttpTracker {
    fn default() -> HttpTracker {
        HttpTracker::new()
    }
}

fn config() -> ConfigBuilder<AgentScope> {
    Agent::config_builder()
        .user_agent(concat!("btsync/", env!("CARGO_PKG_VERSION")))
        .max_redirects(0)
        .http_status_as_error(false)
        .max_response_header_size(MAX_HEADER)
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

/// Reads the body, a byte more than allowed at most, and makes an answer of it.
fn read_answer(response: ureq::http::Response<Body>, url: &str) -> Result<Answer, TrackerError> {
    let status = response.status();
    let mut body = Vec::new();
    let mut reader = response.into_body().into_reader().take(MAX_BODY + 1);
    reader.read_to_end(&mut body).map_err(|e| error::from_ureq(ureq::Error::from(e), url))?;
    if body.len() as u64 > MAX_BODY {
        return Err(TrackerError::TooLarge);
    }
    match answer::parse(&body) {
        // Some trackers refuse with a status and a reason: the reason says more.
        Err(refused @ TrackerError::Refused(_)) => Err(refused),
        _ if !status.is_success() => Err(TrackerError::Http(status.as_u16())),
        parsed => parsed,
    }
}

#[cfg(test)]
mod tests;
