//! Requests ranges of files, for web seeds: connections stay open between requests, bodies are streamed, and another thread can
//! interrupt a request. Redirects and local addresses are judged as for all URLs of torrents and users.

use std::io::{self, Read as _};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::{percent_decode_str, utf8_percent_encode};
use ureq::http::header::{AUTHORIZATION, CONTENT_RANGE, HeaderName, LOCATION, RANGE, TRANSFER_ENCODING};
use ureq::{Agent, BodyReader};

use crate::discovery::tracker::http::response::retry_after;
use crate::discovery::tracker::http::setup::config;
use crate::discovery::tracker::http::{HttpTracker, MAX_REDIRECTS, Retry, TrackerError, Trust, USER_AGENT, error, url};
use crate::net::address_filter::AddressFilter;
use crate::net::bind::Bind;
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
/// How long a connection stays open without a request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// Requests ranges of one server's files. One request at a time.
#[derive(Debug)]
pub struct RangedFetcher {
    http: HttpTracker,
    trust: Trust,
    /// The URL of the last request that was redirected, and where it led.
    redirect: Option<RememberedRedirect>,
    block_list: Arc<AddressFilter>,
}

#[derive(Debug)]
struct RememberedRedirect {
    from: String,
    to: String,
    /// Whether a public host was involved.
    from_public: bool,
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
        bind: &Bind,
        user_agent: Option<&str>,
        is_users: bool,
        block_list: &Arc<AddressFilter>,
    ) -> RangedFetcher {
        let config = config(user_agent.unwrap_or(USER_AGENT))
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
        let trust = if is_users { Trust::EveryHop } else { Trust::Public };
        let http = HttpTracker::bound_with(bind, config, Some(block_list));
        RangedFetcher { http, trust, redirect: None, block_list: block_list.clone() }
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
        if self.http.is_proxied && self.trust == Trust::Public {
            return Err(TrackerError::Other(
                "not requested through a proxy, because the proxy could connect to a local address".into(),
            ));
        }
        let remembered = self.redirect.take().filter(|redirect| redirect.from == url);
        if let Some(RememberedRedirect { from, to, from_public }) = remembered
            && let Ok((response, to, from_public)) = self.follow(to, from_public, range)
            && response.answer.status < 400
        {
            self.redirect = Some(RememberedRedirect { from, to, from_public });
            return Ok(response);
        }
        let sendable = utf8_percent_encode(url, url::UNSENDABLE).to_string();
        let (response, to, from_public) = self.follow(sendable.clone(), false, range)?;
        self.redirect = (to != sendable).then(|| RememberedRedirect { from: url.to_owned(), to, from_public });
        Ok(response)
    }

    /// Requests a URL, and follows redirects. Returns where they led, and whether a public host sent one of them.
    fn follow(
        &self,
        mut url: String,
        mut from_public: bool,
        range: Option<&Range<u64>>,
    ) -> Result<(RangedResponse, String, bool), TrackerError> {
        url::check_scheme(&url)?;
        for _ in 0..=MAX_REDIRECTS {
            let (bare, credentials) = without_credentials(&url);
            // The resolver checks names, unless a proxy resolves them; it never sees the address of a proxied request.
            if url::literal_ip(&bare).is_some_and(|ip| self.block_list.refuses(ip)) {
                return Err(TrackerError::Other("its address is on the block list".into()));
            }
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
            let hop = self.http.hop_by(&self.http.any, &bare, self.trust, from_public, send)?;
            let response = hop.response;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok((received(response), url, from_public));
            }
            from_public |= hop.public;
            let location = response.headers().get(LOCATION).map(ureq::http::HeaderValue::as_bytes);
            let location = String::from_utf8_lossy(location.ok_or(TrackerError::Redirect("it has no target"))?);
            // The credentials stay on their host: `join` keeps them for relative targets only.
            url = url::join(&url, &location)?;
        }
        Err(TrackerError::Redirect("too many redirects"))
    }
}

/// What the head of a response says, and the body to read.
fn received(response: ureq::http::Response<ureq::Body>) -> RangedResponse {
    let text = |name: HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let content_length = response.body().content_length();
    let answer = RangeAnswer {
        status: response.status().as_u16(),
        content_length,
        content_range: text(CONTENT_RANGE),
        // ureq removes the header that says so, with the length.
        is_encoded: response.headers().contains_key(ureq::http::header::CONTENT_ENCODING)
            || content_length.is_none() && text(TRANSFER_ENCODING).is_none() && has_length_without_header(&response),
        retry_after: match retry_after(&response) {
            Some(Retry::After(wait)) => Some(wait),
            Some(Retry::Never) | None => None,
        },
    };
    RangedResponse { answer, body: response.into_body().into_reader() }
}

/// Whether a 206 has no length at all: HTTP/1.1 servers state it, or send chunks.
fn has_length_without_header(response: &ureq::http::Response<ureq::Body>) -> bool {
    response.status().as_u16() == 206 && response.version() == ureq::http::Version::HTTP_11
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
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::mpsc;
    use std::thread;

    use super::*;
    use crate::net::block_list::{AddressRange, RangeSetBuilder};

    /// A server that sends these responses in turn, each on whatever connection its request comes, and reports the heads of the requests with
    /// the number of their connection.
    fn server(ip: &str, responses: Vec<String>) -> (String, mpsc::Receiver<(usize, Vec<String>)>) {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let mut responses = responses.into_iter().peekable();
            let mut number = 0;
            while responses.peek().is_some() {
                let (stream, _) = listener.accept().unwrap();
                number += 1;
                let mut lines = BufReader::new(&stream).lines();
                loop {
                    let head: Vec<String> =
                        lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
                    let Some(response) = responses.peek().filter(|_| !head.is_empty()) else { break };
                    let _ = tell.send((number, head));
                    (&stream).write_all(response.as_bytes()).unwrap();
                    let closes = response.contains("Connection: close");
                    responses.next();
                    if closes {
                        break;
                    }
                }
            }
        });
        (addr, told)
    }

    fn part(range: &str, body: &str) -> String {
        format!("HTTP/1.1 206 Partial\r\nContent-Range: bytes {range}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    fn users() -> RangedFetcher {
        RangedFetcher::new(&Bind::Any, None, true, &Arc::default())
    }

    fn body(response: &mut RangedResponse) -> String {
        String::from_utf8(response.start_of_body(1000)).unwrap()
    }

    #[test]
    fn requests_share_a_connection_and_name_their_ranges() {
        let (addr, told) = server("127.0.0.1", vec![part("0-2/9", "abc"), part("3-4/9", "de")]);
        let mut fetcher = users();
        let url = format!("http://me:p%40w@{addr}/f");
        for (range, expected) in [(0..3, "abc"), (3..5, "de")] {
            let mut response = fetcher.get(&url, Some(&range)).unwrap();
            assert_eq!((response.answer.status, body(&mut response).as_str()), (206, expected));
            let mut end = [0];
            assert_eq!(response.read(&mut end).unwrap(), 0);
        }
        for header in ["range: bytes=0-2", "range: bytes=3-4"] {
            let (connection, head) = told.recv().unwrap();
            let has = |text: &str| head.iter().any(|line| line.eq_ignore_ascii_case(text));
            assert!(has(header) && has("accept-encoding: identity"), "{head:?}");
            assert!(has("authorization: Basic bWU6cEB3"), "{head:?}");
            assert_eq!(connection, 1);
        }
    }

    #[test]
    fn credentials_do_not_follow_a_redirect_to_another_host() {
        let (target, told) = server("127.0.0.1", vec![part("0-0/1", "x"), part("0-0/1", "x")]);
        let moved = format!(
            "HTTP/1.1 302 Found\r\nLocation: http://{target}/g\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        let (addr, first) = server("127.0.0.1", vec![moved]);
        let mut fetcher = users();
        for _ in 0..2 {
            let mut response = fetcher.get(&format!("http://u:p@{addr}/f"), Some(&(0..1))).unwrap();
            assert_eq!(body(&mut response), "x");
            let (_, head) = told.recv().unwrap();
            assert!(head[0].starts_with("GET /g ") && !head.iter().any(|line| line.contains("Basic")), "{head:?}");
        }
        assert!(first.recv().unwrap().1.iter().any(|line| line.contains("Basic dTpw")));
        assert!(first.recv().is_err(), "the redirect is remembered");
    }

    #[test]
    fn urls_of_torrents_do_not_lead_to_local_addresses() {
        let local = TcpListener::bind("127.0.0.1:0").unwrap();
        local.set_nonblocking(true).unwrap();
        let port = local.local_addr().unwrap().port();
        let mut fetcher = RangedFetcher::new(&Bind::Any, None, false, &Arc::default());
        for host in ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]"] {
            let error = fetcher.get(&format!("http://{host}:{port}/f"), None).err();
            assert!(matches!(error, Some(TrackerError::Redirect(_))), "{host}: {error:?}");
        }
        assert!(local.accept().is_err(), "nobody even connected");
    }

    #[test]
    fn nothing_is_requested_from_blocked_addresses() {
        let mut ranges = RangeSetBuilder::default();
        ranges.add(AddressRange::V4(0x7f00_0002, 0x7f00_0009)); // 127.0.0.2 to 9
        let list = Arc::new(AddressFilter::default());
        list.set(ranges.build());
        let (blocked, told) = server("127.0.0.2", vec![part("0-0/1", "x")]);
        let mut fetcher = RangedFetcher::new(&Bind::Any, None, true, &list);
        let why = |fetcher: &mut RangedFetcher, url: &str| fetcher.get(url, None).err().map(|error| error.to_string());
        let is_refused = |why: Option<String>| why.is_some_and(|why| why.contains("on the block list"));
        assert!(is_refused(why(&mut fetcher, &format!("http://{blocked}/f"))));
        let moved = format!("HTTP/1.1 302 Found\r\nLocation: http://{blocked}/f\r\nContent-Length: 0\r\n\r\n");
        let (addr, _) = server("127.0.0.1", vec![moved]);
        assert!(is_refused(why(&mut fetcher, &format!("http://{addr}/f"))), "after a redirect");
        assert!(told.try_recv().is_err(), "nobody asked it");
        assert_eq!(list.stats().map(|stats| stats.hits), Some(2));
        ranges = RangeSetBuilder::default();
        ranges.add(AddressRange::V4(0x7f00_0001, 0x7f00_0001));
        ranges.add(AddressRange::V6(1, 1));
        list.set(ranges.build());
        assert!(is_refused(why(&mut fetcher, "http://localhost:1/f")), "the address of a name");
    }

    #[test]
    fn another_thread_interrupts_a_silent_server() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/f", listener.local_addr().unwrap());
        let mut fetcher = users();
        let interrupter = fetcher.interrupter();
        let silent = thread::spawn(move || {
            let (stream, _): (TcpStream, _) = listener.accept().unwrap();
            let lines = BufReader::new(&stream).lines().map_while(Result::ok);
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            interrupter.interrupt();
            stream
        });
        assert!(fetcher.get(&url, None).is_err());
        drop(silent.join());
        assert!(fetcher.get(&url, None).is_err(), "it stays stopped");
    }

    #[test]
    fn credentials_are_taken_out_of_urls() {
        let of = |url: &str| without_credentials(url);
        assert_eq!(of("http://h/a@b"), ("http://h/a@b".to_owned(), None));
        assert_eq!(of("http://u@h:1/x"), ("http://h:1/x".to_owned(), Some("Basic dTo=".to_owned())));
        assert_eq!(of("https://u:@h"), ("https://h".to_owned(), Some("Basic dTo=".to_owned())));
    }
}
