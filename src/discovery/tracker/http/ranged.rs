//! Requests ranges of files, for web seeds: connections stay open between requests, bodies are streamed, and another thread can
//! interrupt a request. Redirects and local addresses are judged as for all URLs of torrents and users.

use std::collections::HashMap;
use std::io::{self, Read as _};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::{percent_decode_str, utf8_percent_encode};
use ureq::http::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_RANGE, HeaderName, HeaderValue, LOCATION, RANGE, TRANSFER_ENCODING,
};
use ureq::http::{Response, StatusCode, Version};
use ureq::{Agent, Body, BodyReader};

use crate::discovery::tracker::http::host_limit::has_web_port;
use crate::discovery::tracker::http::response::retry_after;
use crate::discovery::tracker::http::setup::{config, sent_user_agent};
use crate::discovery::tracker::http::{HttpClient, MAX_REDIRECTS, Retry, TrackerError, Trust, error, url};
use crate::net::address_filter::AddressFilter;
use crate::net::route::Route;
use crate::strategy::web_seed::RangeAnswer;
use crate::util::base64;

/// The time limit for a name look-up, and for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The time limit for the head of a response.
const HEAD_TIMEOUT: Duration = Duration::from_secs(20);
/// The time limit for each read of a body.
const READ_TIMEOUT: Duration = Duration::from_secs(15);
/// The size of the receive buffer in bytes.
const INPUT_BUFFER: usize = 128 * 1024;
/// The most redirects that are remembered.
const MAX_REMEMBERED: usize = 256;
/// How long a connection stays open without a request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// Requests ranges of one server's files. One request at a time.
#[derive(Debug)]
pub struct RangedFetcher {
    http: HttpClient,
    trust: Trust,
    /// URLs that were redirected, and where they led.
    redirects: HashMap<String, RememberedRedirect>,
}

#[derive(Debug)]
struct RememberedRedirect {
    to: String,
    /// Whether a public host was involved.
    is_from_public: bool,
}

/// A response, of which the body has not been read.
pub struct RangedResponse {
    /// What its head says.
    pub answer: RangeAnswer,
    body: BodyReader<'static>,
}

/// Stops a [`RangedFetcher`] from another thread.
#[derive(Clone, Debug)]
pub struct FetchInterrupter {
    agents: [Agent; 2],
}

impl FetchInterrupter {
    /// Closes all connections; requests fail from now on.
    pub fn interrupt(self) {
        self.agents.into_iter().for_each(Agent::shutdown);
    }
}

impl RangedFetcher {
    /// A fetcher for the user's own URLs, or for others, which may lead to public addresses only. Connects to no address on the
    /// block list.
    pub fn new(
        route: &Route,
        user_agent: Option<&str>,
        is_from_user: bool,
        block_list: &Arc<AddressFilter>,
    ) -> RangedFetcher {
        let config = config(sent_user_agent(route, user_agent))
            .accept_encoding("identity")
            .input_buffer_size(INPUT_BUFFER)
            .max_idle_connections(1)
            .max_idle_connections_per_host(1)
            .max_idle_age(IDLE_TIMEOUT)
            .timeout_resolve(Some(CONNECT_TIMEOUT))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(HEAD_TIMEOUT))
            .timeout_per_read(Some(READ_TIMEOUT))
            .timeout_per_write(Some(READ_TIMEOUT));
        let trust = if is_from_user { Trust::EveryHop } else { Trust::Public };
        let http = HttpClient::bound_with(route, config, Some(block_list));
        RangedFetcher { http, trust, redirects: HashMap::new() }
    }

    /// A handle for another thread.
    pub fn interrupter(&self) -> FetchInterrupter {
        FetchInterrupter { agents: [self.http.any.public.clone(), self.http.any.local.clone()] }
    }

    /// Requests a URL, and a range of it if there is one.
    ///
    /// # Errors
    /// If the server does not respond, or redirects to where btsync must not go. Error messages contain no secrets of the URL.
    pub fn get(&mut self, url: &str, range: Option<&Range<u64>>) -> Result<RangedResponse, TrackerError> {
        if let Some(RememberedRedirect { to, is_from_public }) = self.redirects.remove(url)
            && let Ok((response, redirect)) = self.follow(to, is_from_public, range)
            && response.answer.status < 400
        {
            self.redirects.insert(url.to_owned(), redirect);
            return Ok(response);
        }
        let sendable = utf8_percent_encode(url, url::UNSENDABLE).to_string();
        let (response, redirect) = self.follow(sendable.clone(), false, range)?;
        if redirect.to != sendable {
            if self.redirects.len() >= MAX_REMEMBERED {
                self.redirects.clear();
            }
            self.redirects.insert(url.to_owned(), redirect);
        }
        Ok(response)
    }

    /// Requests a URL, and follows redirects. Returns where they led.
    fn follow(
        &self,
        mut url: String,
        mut is_from_public: bool,
        range: Option<&Range<u64>>,
    ) -> Result<(RangedResponse, RememberedRedirect), TrackerError> {
        url::check_scheme(&url)?;
        for _ in 0..=MAX_REDIRECTS {
            if self.trust == Trust::Public && !has_web_port(&url) {
                return Err(TrackerError::Redirect("its target has a port of another service"));
            }
            let (bare, credentials) = without_credentials(&url);
            let send = |agent: &Agent| {
                let mut request = agent.get(&bare);
                if let Some(range) = range {
                    request = request.header(RANGE, format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
                }
                if let Some(credentials) = &credentials {
                    request = request.header(AUTHORIZATION, credentials);
                }
                request.call()
            };
            let hop = self.http.hop_by(&self.http.any, &bare, self.trust, is_from_public, send)?;
            let response = hop.response;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok((received(response), RememberedRedirect { to: url, is_from_public }));
            }
            is_from_public |= hop.is_public;
            let location = response.headers().get(LOCATION).map(HeaderValue::as_bytes);
            let location = String::from_utf8_lossy(location.ok_or(TrackerError::Redirect("it has no target"))?);
            // The credentials stay on their host: `join` keeps them for relative targets only.
            url = url::join(&url, &location)?;
        }
        Err(TrackerError::Redirect("too many redirects"))
    }
}

/// What the head of a response says, and the body to read.
fn received(response: Response<Body>) -> RangedResponse {
    let text = |name: HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let content_length = response.body().content_length();
    // ureq unpacks bodies, and removes the headers that say so. But HTTP/1.1 servers state the length of a part, or send chunks.
    let is_unpacked = response.status() == StatusCode::PARTIAL_CONTENT
        && response.version() == Version::HTTP_11
        && content_length.is_none()
        && text(TRANSFER_ENCODING).is_none();
    let answer = RangeAnswer {
        status: response.status().as_u16(),
        content_length,
        content_range: text(CONTENT_RANGE),
        is_encoded: response.headers().contains_key(CONTENT_ENCODING) || is_unpacked,
        retry_after: match retry_after(&response) {
            Some(Retry::After(wait)) => Some(wait),
            Some(Retry::Never) | None => None,
        },
    };
    RangedResponse { answer, body: response.into_body().into_reader() }
}

impl RangedResponse {
    /// Reads some bytes of the body; 0 at its end.
    ///
    /// # Errors
    /// If the connection fails or is silent for too long.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, TrackerError> {
        loop {
            match self.body.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result.map_err(|source| error::from_ureq(ureq::Error::from(source), "")),
            }
        }
    }

    /// Reads at most `max` bytes of a short body, such as a script's number; what arrives before an error counts.
    pub fn start_of_body(&mut self, max: u64) -> Vec<u8> {
        let mut start = Vec::new();
        let _ = (&mut self.body).take(max).read_to_end(&mut start);
        start
    }
}

/// A URL without user name and password, and the header that they become.
fn without_credentials(url: &str) -> (String, Option<String>) {
    let authority = url::authority(url);
    let Some((credentials, host)) = authority.rsplit_once('@') else { return (url.to_owned(), None) };
    let bare = url.replacen(authority, host, 1);
    let decoded: Vec<u8> = match credentials.split_once(':') {
        Some((user, password)) => [user, ":", password].iter().flat_map(|part| percent_decode_str(part)).collect(),
        None => percent_decode_str(credentials).chain(*b":").collect(),
    };
    (bare, Some(format!("Basic {}", base64::encode(&decoded))))
}

#[cfg(test)]
mod tests;
