//! Fetches files by URL: the user's own, and untrusted ones. Uses the HTTP client of the trackers.

use std::time::{Duration, Instant};

use percent_encoding::utf8_percent_encode;

use crate::discovery::tracker::http::{Content, HttpClient, TrackerError, Trust, tls, url};
use crate::net::bind::Bind;
use crate::net::route::Route;

/// The result of fetching one of the user's URLs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FetchedUrl {
    /// The content of the file.
    File(Vec<u8>),
    /// A magnet link that the URL redirects to, unmodified.
    Link {
        /// The link.
        link: String,
        /// Whether a public host sent one of the redirects.
        is_public: bool,
    },
}

/// Fetches files by HTTP or HTTPS.
#[derive(Clone, Debug, Default)]
pub struct UrlFetcher {
    pub(super) http: HttpClient,
}

impl UrlFetcher {
    /// A fetcher whose sockets are bound to `bind`, with the user agent `user_agent` or else btsync's own.
    /// `ClientBuilder::url_fetcher` makes one that uses the client's proxy.
    pub fn new(bind: &Bind, user_agent: Option<&str>) -> UrlFetcher {
        UrlFetcher::on_route(&Route::direct(bind.clone()), user_agent)
    }

    /// The same with requests that take this route.
    pub(crate) fn on_route(route: &Route, user_agent: Option<&str>) -> UrlFetcher {
        UrlFetcher { http: HttpClient::on_route(route, user_agent) }
    }

    /// How many root certificates HTTPS requests trust: those bundled with btsync, and those that only the system has. `None` without
    /// the feature `tls`.
    pub fn trusted_certificates() -> Option<(usize, usize)> {
        Some(tls::trusted_certificates()).filter(|(bundled, _)| *bundled > 0)
    }

    /// Sends cookies, as in the header `Cookie`, to the server of `url` and to no other. Leaves them out if they are too long or no
    /// text for a header.
    #[must_use]
    pub fn with_cookies(self, url: &str, cookies: &str) -> UrlFetcher {
        UrlFetcher { http: self.http.with_cookies(url, cookies) }
    }

    /// Fetches the file at `url`, or returns the magnet link that it redirects to. The URL is the user's own: it may have a local
    /// address, and may redirect to others unless a public host is involved. The decompressed file may have at most `max` bytes;
    /// the whole operation takes at most `deadline`.
    ///
    /// # Errors
    /// If the file cannot be fetched; see [`TrackerError`]. Errors do not reveal more of the URL than its host.
    pub fn fetch(&self, url: &str, max: u64, deadline: Duration) -> Result<FetchedUrl, TrackerError> {
        self.fetch_any(url, max, deadline).map_err(|error| error.without_secrets_of(url))
    }

    fn fetch_any(&self, url: &str, max: u64, deadline: Duration) -> Result<FetchedUrl, TrackerError> {
        let http = &self.http;
        let page = http.page(&http.any, sendable(url)?, Trust::EveryHop, Instant::now() + deadline, max)?;
        match page.content {
            Content::Body(status, _, body) if status.is_success() => Ok(FetchedUrl::File(body)),
            Content::Body(status, ..) => Err(TrackerError::Http(status.as_u16())),
            Content::Link(link) => Ok(FetchedUrl::Link { link, is_public: page.is_public }),
        }
    }

    /// Fetches the file at an untrusted URL, such as one from a magnet link. Connects to public addresses only, whatever names
    /// and redirects say. A proxy resolves names for us, so behind one only names that are local by their form can be refused.
    ///
    /// # Errors
    /// Those of [`UrlFetcher::fetch`].
    pub(crate) fn fetch_untrusted(&self, url: &str, max: u64, deadline: Duration) -> Result<Vec<u8>, TrackerError> {
        self.fetch_public(url, max, deadline).map_err(|error| error.without_secrets_of(url))
    }

    fn fetch_public(&self, url: &str, max: u64, deadline: Duration) -> Result<Vec<u8>, TrackerError> {
        let http = &self.http;
        match http.page(&http.any, sendable(url)?, Trust::Public, Instant::now() + deadline, max)?.content {
            Content::Body(status, _, body) if status.is_success() => Ok(body),
            Content::Body(status, ..) => Err(TrackerError::Http(status.as_u16())),
            Content::Link(_) => Err(TrackerError::Scheme("magnet".to_owned())),
        }
    }
}

/// The URL to send: without its fragment, and with characters encoded that are not allowed in a request line.
fn sendable(url: &str) -> Result<String, TrackerError> {
    let url = url.trim().split('#').next().unwrap_or_default();
    url::check_scheme(url)?;
    Ok(utf8_percent_encode(url, url::UNSENDABLE).to_string())
}
