//! Why an announce or another request failed.

use std::time::Duration;

use crate::util::redact::without_secrets_of;

/// When to contact a server again after the proxy failed.
const PROXY_RETRY: Duration = Duration::from_secs(15);

/// When to contact a server again that refused a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// After this time, at most 24 h.
    After(Duration),
    /// Not again while the torrent runs.
    Never,
}

fn retry_text(after: Option<Duration>) -> String {
    match after {
        Some(wait) => format!("it asks btsync to wait {} s", wait.as_secs()),
        None => "btsync does not announce to it again".to_owned(),
    }
}

/// Why an announce failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrackerError {
    /// The URL has an unsupported scheme, or a redirect leads to one.
    #[error("the URL scheme \"{0}\" is not supported")]
    Scheme(String),
    /// The URL is malformed.
    #[error("not a usable URL")]
    Url,
    /// The URL has a local address, but not the path and query of an announce; it may lead to another service (request forgery).
    #[error("at a local address, btsync requests only \"/announce\" or \"/scrape\", with no more than a passkey")]
    Local,
    /// The deadline passed without an answer.
    #[error("no answer in time")]
    Timeout,
    /// The host name does not resolve.
    #[error("the host {host} cannot be resolved")]
    NameLookup {
        /// The host name, without port.
        host: String,
    },
    /// The host has no address of the requested family.
    #[error("the host has no address of this family")]
    NoFamily,
    /// A variable of the environment names a proxy that cannot be used.
    #[error("the proxy in the environment cannot be used: {0}")]
    Proxy(String),
    /// The proxy does not work, so nothing is known of the server.
    #[error("the proxy does not work: {0}")]
    ProxyFailed(String),
    /// The process or the system has run out of file descriptors.
    #[error("no file descriptors are left")]
    Shortage,
    /// The connection could not be established or broke.
    #[error("connection failed: {0}")]
    Connect(String),
    /// The HTTP status is not success, and the body has no bencoded reason.
    #[error("HTTP status {0}")]
    Http(u16),
    /// The header or body exceeds its size limit.
    #[error("the answer is too large")]
    TooLarge,
    /// A redirect that btsync does not follow.
    #[error("redirect not followed: {0}")]
    Redirect(&'static str),
    /// The response is malformed.
    #[error("malformed answer: {0}")]
    Malformed(String),
    /// The tracker's `failure reason`, without control characters.
    #[error("refused: {0}")]
    Refused(String),
    /// Another error, with the time at which the server asks to be contacted again (BEP 31, `Retry-After`).
    #[error("{why}; {}", retry_text(*.retry_after))]
    Later {
        /// The error.
        why: Box<TrackerError>,
        /// When to try again, at most 24 h; `None`: not again while the torrent runs.
        retry_after: Option<Duration>,
    },
    /// The TLS connection failed or is not trustworthy.
    #[error("TLS: {0}")]
    Tls(String),
    /// Any other error.
    #[error("{0}")]
    Other(String),
}

impl TrackerError {
    /// The error with the time at which the server wants to be contacted again, if it gave one.
    pub(crate) fn later(self, retry: Option<Retry>) -> TrackerError {
        let why = Box::new(self);
        match retry {
            Some(Retry::After(wait)) => TrackerError::Later { why, retry_after: Some(wait) },
            Some(Retry::Never) => TrackerError::Later { why, retry_after: None },
            None => *why,
        }
    }

    /// When to contact the server again, if it said so, or if the proxy is to blame.
    pub(crate) fn retry(&self) -> Option<Retry> {
        match self {
            TrackerError::Later { retry_after, .. } => Some(retry_after.map_or(Retry::Never, Retry::After)),
            TrackerError::ProxyFailed(_) => Some(Retry::After(PROXY_RETRY)),
            _ => None,
        }
    }

    /// The same error without the secrets of `url`, which a server's text may repeat.
    #[must_use]
    pub fn without_secrets_of(self, url: &str) -> TrackerError {
        use TrackerError as E;
        let clean = |text: String| without_secrets_of(url, &text);
        match self {
            E::NameLookup { host } => E::NameLookup { host: clean(host) },
            E::Connect(text) => E::Connect(clean(text)),
            E::Malformed(text) => E::Malformed(clean(text)),
            E::Refused(text) => E::Refused(clean(text)),
            E::Later { why, retry_after } => E::Later { why: Box::new(why.without_secrets_of(url)), retry_after },
            E::Tls(text) => E::Tls(clean(text)),
            E::Other(text) => E::Other(clean(text)),
            plain @ (E::Scheme(_)
            | E::Proxy(_)
            | E::ProxyFailed(_)
            | E::NoFamily
            | E::Url
            | E::Local
            | E::Timeout
            | E::Shortage
            | E::Http(_)
            | E::TooLarge
            | E::Redirect(_)) => plain,
        }
    }
}
