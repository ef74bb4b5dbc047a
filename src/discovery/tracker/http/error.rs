//! Converts errors of the HTTP client to [`TrackerError`]s: each one line, safe for a terminal and without a passkey.

use std::io;

use crate::util::descriptors::is_shortage;
use crate::util::os_error::{reason, without_numbers};
use crate::util::printable_text::printable;

use crate::discovery::tracker::http::address_guard::NoFamily;
use crate::discovery::tracker::http::{TrackerError, url};
use crate::net::proxy::connect::ProxyConnectError;
use crate::net::proxy::environment::UnusableProxy;

/// Converts an error that ureq returned for `url`. Omits texts that may contain the URL.
pub(crate) fn from_ureq(error: ureq::Error, url: &str) -> TrackerError {
    use ureq::Error as E;
    match error {
        E::StatusCode(code) => TrackerError::Http(code),
        E::Timeout(_) => TrackerError::Timeout,
        E::HostNotFound => TrackerError::NameLookup { host: printable(url::host(url)) },
        E::BadUri(_) | E::Http(_) => TrackerError::Url,
        E::LargeResponseHeader(..) => TrackerError::TooLarge,
        E::Protocol(e) => TrackerError::Malformed(line(&e)),
        #[cfg(feature = "gzip")]
        E::Decompress(..) => TrackerError::Malformed("it cannot be decompressed".into()),
        E::ConnectionFailed => TrackerError::Connect("no address of the host answers".into()),
        E::Tls(why) => TrackerError::Tls(why.into()),
        #[cfg(feature = "tls")]
        E::Rustls(e) => TrackerError::Tls(line(&e)),
        E::Io(e) => from_io(&e),
        E::Other(e) if e.is::<NoFamily>() => TrackerError::NoFamily,
        E::Other(e) if e.is::<ProxyConnectError>() => match e.downcast_ref() {
            Some(error @ ProxyConnectError::Proxy(_)) if error.concerns_only_target() => {
                TrackerError::Connect(line(error))
            }
            Some(ProxyConnectError::Io(error)) if is_shortage(error) => TrackerError::Shortage,
            Some(ProxyConnectError::Io(error)) => TrackerError::ProxyFailed(printable(&reason(error))),
            _ => TrackerError::ProxyFailed(line(&e)),
        },
        E::Other(e) if e.is::<UnusableProxy>() => TrackerError::Proxy(line(&e)),
        E::Other(e) => TrackerError::Other(line(&e)),
        other => TrackerError::Other(line(&other)),
    }
}

fn from_io(error: &io::Error) -> TrackerError {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => TrackerError::Timeout,
        // rustls reports a bad certificate like this on a stream.
        io::ErrorKind::InvalidData => TrackerError::Tls(line(error)),
        _ if is_shortage(error) => TrackerError::Shortage,
        _ => TrackerError::Connect(printable(&reason(error))),
    }
}

/// The text as one printable line.
fn line(text: &dyn std::fmt::Display) -> String {
    printable(&without_numbers(&text.to_string()))
}
