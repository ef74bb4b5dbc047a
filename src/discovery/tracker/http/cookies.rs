//! Cookies that the user gives for one URL. They go to the server of that URL and to no other, wherever redirects lead.

use std::time::Instant;

use ureq::http::Response;
use ureq::http::header::COOKIE;
use ureq::{Agent, Body, Error, Timeout};

use crate::discovery::tracker::http::{HttpClient, url};

/// The longest text that is sent. It must fit into the request buffer with the URL.
const MAX_LENGTH: usize = 2048;

/// Cookies for one server.
#[derive(Clone, Debug)]
pub(crate) struct Cookies {
    server: String,
    text: String,
}

impl Cookies {
    /// The cookies for a URL. None if it is the URL of another server.
    pub(crate) fn of(&self, url: &str) -> Option<&str> {
        (server(url) == self.server).then_some(self.text.as_str())
    }
}

impl HttpClient {
    /// Sends these cookies, as in the header `Cookie`, to the server of `url`. Leaves them out if they are too long or no text
    /// for a header.
    #[must_use]
    pub fn with_cookies(self, url: &str, cookies: &str) -> HttpClient {
        let text = cookies.trim().trim_end_matches(';');
        let is_sendable =
            (1..=MAX_LENGTH).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        let cookies = is_sendable.then(|| Cookies { server: server(url), text: text.to_owned() });
        HttpClient { cookies, ..self }
    }
}

/// Sends one request until `end`, with the cookies if they are for its server.
pub(crate) fn get(agent: &Agent, url: &str, cookies: Option<&Cookies>, end: Instant) -> Result<Response<Body>, Error> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(Error::Timeout(Timeout::Global));
    }
    let mut request = agent.get(url);
    if let Some(cookies) = cookies.and_then(|cookies| cookies.of(url)) {
        request = request.header(COOKIE, cookies);
    }
    request.config().timeout_global(Some(left)).build().call()
}

/// Scheme, host and port, so that cookies for HTTPS are not sent over HTTP.
fn server(url: &str) -> String {
    let url = url.trim();
    let scheme = url.split(':').next().unwrap_or_default();
    let (host, port) = url::split_port(url::authority(url));
    format!("{scheme}://{host}:{}", port.unwrap_or_default()).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_for_one_server() {
        let cookies = |text: &str| HttpClient::new().with_cookies("https://T.example/a?b", text).cookies;
        let given = cookies(" a=b; c=d; ").unwrap();
        for url in ["https://t.example/", "https://user@T.example/x", "HTTPS://t.example?q"] {
            assert_eq!(given.of(url), Some("a=b; c=d"), "{url}");
        }
        for url in ["http://t.example/", "https://t.example:8443/", "https://other.example/", "https://t.example.org/"]
        {
            assert_eq!(given.of(url), None, "{url}");
        }
        for text in ["", ";", "a=\r\nX: y", "a=\u{fc}", &"a".repeat(2049)] {
            assert!(cookies(text).is_none(), "{text}");
        }
    }
}
