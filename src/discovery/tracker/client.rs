//! The client for all trackers: chooses the protocol by the URL's scheme (BEP 3, 15).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crate::discovery::tracker::announce::{Announce, AnnounceResponse, ScrapeCounts};
use crate::discovery::tracker::error::TrackerError;
use crate::discovery::tracker::http::HttpClient;
use crate::discovery::tracker::udp::UdpTracker;
use crate::net::bind::Bind;
use crate::net::route::Route;
use crate::types::InfoHash;
use crate::util::redact::without_secrets_of;

/// A client for HTTP, HTTPS and UDP trackers; cheap to clone, and clones share their state.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use btsync::InfoHash;
/// use btsync::tracker::{Announce, AnnounceEvent, TrackerClient, TrackerServer, TrackerServerConfig};
///
/// let server = TrackerServer::start(([127, 0, 0, 1], 0).into(), TrackerServerConfig::default())?;
/// let url = format!("http://{}/announce", server.addr());
/// let announce = Announce::new(InfoHash([7; 20]), 6881).event(AnnounceEvent::Started);
/// let response = TrackerClient::default().announce(&url, &announce, false, Duration::from_secs(10), drop)?;
/// assert!(response.peers.is_empty(), "nobody else is there");
/// server.stop();
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct TrackerClient {
    http: HttpClient,
    udp: UdpTracker,
}

impl TrackerClient {
    /// Creates a client whose sockets are bound to `bind`, with the HTTP user agent `user_agent` or else its own. The URLs in
    /// `trusted` come from the user and may lead to any local address. Other URLs come from torrents, and may lead to a local
    /// address only with the path of an announce.
    pub fn new(bind: Bind, user_agent: Option<&str>, trusted: impl IntoIterator<Item = String>) -> TrackerClient {
        TrackerClient::on_route(&Route::direct(bind), user_agent, trusted)
    }

    /// The same with requests that take this route.
    pub(crate) fn on_route(
        route: &Route,
        user_agent: Option<&str>,
        trusted: impl IntoIterator<Item = String>,
    ) -> TrackerClient {
        let trusted: Arc<HashSet<String>> = Arc::new(trusted.into_iter().collect());
        let http = HttpClient::on_route(route, user_agent).with_trusted_urls(trusted.clone());
        TrackerClient { http, udp: UdpTracker::on_route(route).with_trusted_urls(trusted) }
    }

    /// Announces to the tracker at `url` and waits for its response, in total at most `deadline`. Passes a later response over
    /// the second address family to `more`. Announces of a private torrent use one family after the other.
    ///
    /// # Errors
    /// If the tracker does not respond or refuses. Neither errors nor warnings reveal more of the URL than its host.
    pub fn announce(
        &self,
        url: &str,
        a: &Announce,
        is_private: bool,
        deadline: Duration,
        more: impl Fn(AnnounceResponse) + Send + Sync + 'static,
    ) -> Result<AnnounceResponse, TrackerError> {
        let answer = if is_udp(url) {
            self.udp.announce(url, a, deadline)
        } else {
            self.http.announce_in_both(url, a, is_private, deadline, more)
        };
        let answer = answer.map_err(|error| error.without_secrets_of(url))?;
        let warning = answer.warning.map(|words| without_secrets_of(url, &words));
        Ok(AnnounceResponse { warning, ..answer })
    }

    /// Requests the counts of `swarms` from the tracker with the announce URL `url`, in the same order; `None` for torrents that
    /// the tracker does not know.
    ///
    /// # Errors
    /// Those of [`TrackerClient::announce`].
    pub fn scrape(
        &self,
        url: &str,
        swarms: &[InfoHash],
        deadline: Duration,
    ) -> Result<Vec<Option<ScrapeCounts>>, TrackerError> {
        let figures =
            if is_udp(url) { self.udp.scrape(url, swarms, deadline) } else { self.http.scrape(url, swarms, deadline) };
        figures.map_err(|error| error.without_secrets_of(url))
    }
}

/// Whether the client supports the URL's scheme.
pub fn is_supported(url: &str) -> bool {
    ["http", "https", "udp"].iter().any(|known| scheme(url).eq_ignore_ascii_case(known))
}

fn is_udp(url: &str) -> bool {
    scheme(url).eq_ignore_ascii_case("udp")
}

fn scheme(url: &str) -> &str {
    url.trim().split_once("://").map_or("", |(scheme, _)| scheme)
}
