//! One client for every tracker: the URL's scheme says which protocol is spoken (BEP 3, 15).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crate::discovery::tracker::announce::{Announce, AnnounceResponse, Scraped, TrackerError};
use crate::discovery::tracker::http::HttpTracker;
use crate::discovery::tracker::redact::without_secrets_of;
use crate::discovery::tracker::udp::UdpTracker;
use crate::net::bind::Bind;
use crate::types::InfoHash;

/// Talks to HTTP, HTTPS and UDP trackers; cheap to clone, and its clones share their connections.
#[derive(Clone, Debug, Default)]
pub struct TrackerClient {
    http: HttpTracker,
    udp: UdpTracker,
}

impl TrackerClient {
    /// A client that knows no tracker yet, whose sockets are tied to `bind`, and that goes by the name of `user_agent`, or its own. The URLs in `trusted` are the user's own: a torrent's
    /// may lead to a local address only where that is meant for trackers.
    pub fn new(bind: Bind, user_agent: Option<&str>, trusted: impl IntoIterator<Item = String>) -> TrackerClient {
        let trusted: Arc<HashSet<String>> = Arc::new(trusted.into_iter().collect());
        let http = HttpTracker::tied(&bind, user_agent).with_trusted_urls(trusted.clone());
        TrackerClient { http, udp: UdpTracker::tied(bind).with_trusted_urls(trusted) }
    }

    /// Announces to the tracker at `url` and waits for its answer, `deadline` at most for all of it. What it answers later over its
    /// second family of addresses goes to `more`; a private torrent's tracker is asked over one after the other.
    ///
    /// # Errors
    /// Whatever kept the tracker from answering, or its own refusal. Neither that nor a warning holds more of the URL than its host.
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

    /// Asks the tracker at `url` (the announce URL) for the figures of `swarms`, in their order; `None` for those it does not
    /// know.
    ///
    /// # Errors
    /// As [`TrackerClient::announce`].
    pub fn scrape(
        &self,
        url: &str,
        swarms: &[InfoHash],
        deadline: Duration,
    ) -> Result<Vec<Option<Scraped>>, TrackerError> {
        let figures =
            if is_udp(url) { self.udp.scrape(url, swarms, deadline) } else { self.http.scrape(url, swarms, deadline) };
        figures.map_err(|error| error.without_secrets_of(url))
    }
}

/// Whether some client of ours speaks the URL's scheme.
pub fn is_supported(url: &str) -> bool {
    ["http", "https", "udp"].iter().any(|known| scheme(url).eq_ignore_ascii_case(known))
}

fn is_udp(url: &str) -> bool {
    scheme(url).eq_ignore_ascii_case("udp")
}

fn scheme(url: &str) -> &str {
    url.trim().split_once("://").map_or("", |(scheme, _)| scheme)
}
