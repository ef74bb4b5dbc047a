//! What can go wrong with a tracker, each in one line that is fit for a terminal and holds no passkey.

use std::io;

use crate::metainfo::paths::printable;

use super::url;

/// Why an announce failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrackerError {
    /// Neither http nor https.
    #[error("the scheme \"{0}\" is not supported, only http and https")]
    Scheme(String),
    /// Not a URL that can be asked.
    #[error("not a usable URL")]
    Url,
    /// A local address whose path does not name an announce: maybe someone else's service (SECURITY: request forgery).
    #[error("a local address is asked only for a path with \"announce\" in it")]
    Local,
    /// The deadline passed.
    #[error("no answer in time")]
    Timeout,
    /// The host's name has no address.
    #[error("the host {host} is not found")]
    NameLookup {
        /// The name, without port.
        host: String,
    },
    /// No connection, or it broke.
    #[error("connection failed: {0}")]
    Connect(String),
    /// A status other than success and no bencoded reason.
    #[error("HTTP status {0}")]
    Http(u16),
    /// Body or header over the limit.
    #[error("the answer is too large")]
    TooLarge,
    /// A redirect that is not followed.
    #[error("redirect not followed: {0}")]
    Redirect(&'static str),
    /// An answer that is no tracker's.
    #[error("the answer makes no sense: {0}")]
    Malformed(String),
    /// The tracker's own `failure reason`, cleaned of control characters.
    #[error("refused: {0}")]
    Refused(String),
    /// No trustworthy TLS connection.
    #[error("TLS: {0}")]
    Tls(String),
    /// Something else.
    #[error("{0}")]
    Other(String),
}

/// Says in our words what ureq met on the way to `url`. Texts that may hold the URL are left out.
pub(super) fn from_ureq(error: ureq::Error, url: &str) -> TrackerError {
    use ureq::Error as E;
    match error {
        E::StatusCode(code) => TrackerError::Http(code),
        E::Timeout(_) => TrackerError::Timeout,
        E::HostNotFound => TrackerError::NameLookup { host: printable(url::host(url)) },
        E::BadUri(_) | E::Http(_) => TrackerError::Url,
        E::LargeResponseHeader(..) => TrackerError::TooLarge,
        E::Protocol(e) => TrackerError::Malformed(line(&e)),
        E::Decompress(..) => TrackerError::Malformed("it does not decompress".into()),
        E::ConnectionFailed => TrackerError::Connect("no address answers".into()),
        E::ConnectProxyFailed(_) | E::InvalidProxyUrl => TrackerError::Connect("the proxy does not work".into()),
        E::Tls(why) => TrackerError::Tls(why.into()),
        E::Rustls(e) => TrackerError::Tls(line(&e)),
        E::Io(e) => from_io(&e),
        other => TrackerError::Other(line(&other)),
    }
}

fn from_io(error: &io::Error) -> TrackerError {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => TrackerError::Timeout,
        // This is how rustls tells of a bad certificate through a stream.
        io::ErrorKind::InvalidData => TrackerError::Tls(line(error)),
        _ => TrackerError::Connect(line(error)),
    }
}

/// One printable line.
fn line(text: &dyn std::fmt::Display) -> String {
    printable(&text.to_string())
}
