//! Files by URL: those that the user names, and those that strangers do.

use std::time::{Duration, Instant};

use percent_encoding::utf8_percent_encode;

use crate::discovery::tracker::http::{Content, HttpTracker, TrackerError, Trust, url};

/// What a URL of the user's led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchedUrl {
    /// A file.
    File(Vec<u8>),
    /// A magnet link, as it was written.
    Link {
        /// The link.
        link: String,
        /// Whether a public host had a say in it.
        is_public: bool,
    },
}

impl HttpTracker {
    /// The body of the file at `url`, or the magnet link that it redirects to. The URL is the user's own: it may be at a local address,
    /// and lead to others as long as it leads over no public host. At most `max` bytes are taken, decompressed, and `deadline` for all
    /// of it.
    ///
    /// # Errors
    /// Whatever kept it from being here; see [`TrackerError`]. No message holds the URL.
    pub fn file(&self, url: &str, max: u64, deadline: Duration) -> Result<FetchedUrl, TrackerError> {
        let url = sendable(url)?;
        let page = self.page(&self.any, url, Trust::EveryHop, Instant::now() + deadline, max)?;
        match page.content {
            Content::Body(status, _, body) if status.is_success() => Ok(FetchedUrl::File(body)),
            Content::Body(status, ..) => Err(TrackerError::Http(status.as_u16())),
            Content::Link(link) => Ok(FetchedUrl::Link { link, is_public: page.is_public }),
        }
    }

    /// The body of the file at a URL that a stranger gave, such as one of a magnet link. It is taken from public addresses only,
    /// whatever names and redirects say; behind a proxy, which looks up names in our place, that cannot be known, and nothing is asked.
    ///
    /// # Errors
    /// As [`HttpTracker::file`].
    pub fn fetch_untrusted_file(&self, url: &str, max: u64, deadline: Duration) -> Result<Vec<u8>, TrackerError> {
        if self.is_proxied {
            return Err(TrackerError::Other(
                "not asked for through a proxy, as that may lead to a local address".into(),
            ));
        }
        let url = sendable(url)?;
        match self.page(&self.any, url, Trust::Public, Instant::now() + deadline, max)?.content {
            Content::Body(status, _, body) if status.is_success() => Ok(body),
            Content::Body(status, ..) => Err(TrackerError::Http(status.as_u16())),
            Content::Link(_) => Err(TrackerError::Scheme("magnet".to_owned())),
        }
    }
}

/// A URL as it is sent: without its fragment, and with what may not stand in a request line encoded.
fn sendable(url: &str) -> Result<String, TrackerError> {
    let url = url.trim().split('#').next().unwrap_or_default();
    url::check_scheme(url)?;
    Ok(utf8_percent_encode(url, url::UNSENDABLE).to_string())
}
