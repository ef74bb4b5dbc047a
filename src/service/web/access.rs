//! Who may use the page and the remote control: requests for one of our names that no other website makes, with the password if
//! there is one.

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::http_server::{ClientAddress, RequestHead, Response};
use crate::service::web::attempts::PasswordAttempts;
use crate::service::web::password_queue::PasswordQueue;
use crate::service::web::passwords::{HashMemory, PasswordHash};
use crate::util::base64;
use crate::util::random;
use crate::util::secrets::{is_equal, keyed_digest};

/// The pause after a wrong password, during which none is checked: a limit for all networks together.
const WRONG_PAUSE: Duration = Duration::from_millis(50);

/// Why the service does not listen on an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// Others could reach the service without a password.
    #[error("without a password, the service listens on loopback addresses and Unix sockets only")]
    NoPassword,
}

/// See the module's documentation.
pub struct AccessPolicy {
    password: Option<PasswordHash>,
    /// Host names beside IP addresses and `localhost`, in lower case.
    names: Vec<String>,
    /// The key of the digest below.
    key: [u8; 32],
    /// The digest of the last credentials that were right, so that only their first request costs a hash.
    verified: Mutex<Option<[u8; 20]>>,
    checks: PasswordQueue,
    /// The thread whose turn it is hashes a password in it. If each thread allocated its own, the allocator would keep all of them.
    memory: Mutex<HashMemory>,
    attempts: Mutex<PasswordAttempts>,
}

impl AccessPolicy {
    /// A policy with this password, under these host names.
    pub fn new(password: Option<PasswordHash>, names: &[String]) -> AccessPolicy {
        AccessPolicy {
            password,
            names: names.iter().map(|name| name.to_ascii_lowercase()).collect(),
            key: random::bytes(),
            verified: Mutex::new(None),
            checks: PasswordQueue::default(),
            memory: Mutex::default(),
            attempts: Mutex::default(),
        }
    }

    /// Whether a service with or without a password may listen there.
    ///
    /// # Errors
    /// If others could reach it without a password.
    pub fn check_address(has_password: bool, ip: IpAddr) -> Result<(), AccessError> {
        if has_password || ip.to_canonical().is_loopback() { Ok(()) } else { Err(AccessError::NoPassword) }
    }

    /// Checks that the request names this service, and that a browser does not send it for another website.
    ///
    /// # Errors
    /// The response to a request that is refused.
    pub fn check_source(&self, head: &RequestHead) -> Result<(), Response> {
        if !self.is_our_name(head) {
            return Err(Response::text(
                421,
                "this host name is not one of this service's: its options have to name it\n",
            ));
        }
        if !head.is_get_or_head() && !self.is_from_own_page(head) {
            return Err(Response::text(
                403,
                "requests of other websites are refused, unless the options of this service name their host\n",
            ));
        }
        Ok(())
    }

    /// Checks what can be checked at once. Returns whether the request's password is known to be right, if one is needed.
    ///
    /// # Errors
    /// The response to a request that is refused.
    pub fn check_head(&self, head: &RequestHead) -> Result<bool, Response> {
        self.check_source(head)?;
        if self.password.is_none() {
            return Ok(true);
        }
        let Some(credentials) = head.header("Authorization") else { return Err(unauthorized()) };
        let digest = self.digest(credentials);
        Ok(self.verified.lock().is_some_and(|verified| is_equal(&verified, &digest)))
    }

    /// Checks a request, also its password, which may take 100 ms.
    ///
    /// # Errors
    /// The response to a request that is refused.
    pub fn check(&self, head: &RequestHead) -> Result<(), Response> {
        if self.check_head(head)? {
            return Ok(());
        }
        let (Some(hash), Some(credentials)) = (&self.password, head.header("Authorization")) else {
            return Err(unauthorized());
        };
        let ip = client_ip(head);
        self.check_attempts(ip)?;
        let Some((user, password)) = basic(credentials) else { return Err(unauthorized()) };
        let counts = self.attempts.lock().counts(ip, Instant::now());
        let Some(_turn) = self.checks.wait_for_turn(counts) else {
            // Otherwise the clients that guess most would be the first again.
            self.attempts.lock().count_failure(ip, Instant::now());
            return Err(Response::text(503, "other passwords are being checked\n").header("Retry-After", "1"));
        };
        // Requests that waited may have verified the password, or have used up the attempts.
        if self.check_head(head)? {
            return Ok(());
        }
        self.check_attempts(ip)?;
        if !hash.matches(&user, &password, &mut self.memory.lock()) {
            self.attempts.lock().count_failure(ip, Instant::now());
            thread::sleep(WRONG_PAUSE);
            return Err(unauthorized());
        }
        *self.verified.lock() = Some(self.digest(credentials));
        Ok(())
    }

    fn check_attempts(&self, ip: IpAddr) -> Result<(), Response> {
        if self.attempts.lock().may_try(ip, Instant::now()) {
            return Ok(());
        }
        Err(Response::text(429, "too many wrong passwords: try again later\n").header("Retry-After", "6"))
    }

    fn digest(&self, credentials: &str) -> [u8; 20] {
        keyed_digest(&self.key, credentials.as_bytes())
    }

    /// Whether the request names this service. An attacker's website can point its own name to our address (DNS rebinding).
    fn is_our_name(&self, head: &RequestHead) -> bool {
        if head.client() == ClientAddress::Unix {
            return true;
        }
        let Some(host) = head.header("Host") else { return false };
        let name = host_name(host);
        let literal = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(&name);
        literal.parse::<IpAddr>().is_ok() || name == "localhost" || self.names.contains(&name)
    }

    /// Whether the request is not one that a browser sends for another website. Programs that are no browsers send no `Origin`.
    /// Browser extensions send one that no website can have, and need the session id like all others.
    fn is_from_own_page(&self, head: &RequestHead) -> bool {
        let Some(origin) = head.header_values("Origin").next() else { return true };
        // A page without an origin, such as one in a sandboxed frame, sends `null`.
        let origin = std::str::from_utf8(origin).ok().and_then(|origin| origin.split_once("://"));
        let Some((scheme, host)) = origin else { return false };
        if !["http", "https"].iter().any(|web| scheme.eq_ignore_ascii_case(web)) {
            return true;
        }
        // A reverse proxy may have replaced the `Host`. The browser sets this header, and no page can.
        if head.header("Sec-Fetch-Site") == Some("same-origin") {
            return true;
        }
        let name = host_name(host);
        self.names.contains(&name) || head.header("Host").is_some_and(|own| host_name(own) == name)
    }
}

/// The name in a `Host` header or an origin, in lower case and without the port.
fn host_name(host: &str) -> String {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// The address of a client; all of a Unix socket are one. A reverse proxy on this machine says whose request it passes on: the last
/// address is its own word. Whoever can lie about it gains no more than the attempts of another network.
pub(super) fn client_ip(head: &RequestHead) -> IpAddr {
    let (ip, is_near) = match head.client() {
        ClientAddress::Tcp(addr) => (addr.ip(), addr.ip().to_canonical().is_loopback()),
        ClientAddress::Unix => (IpAddr::from([0, 0, 0, 0]), true),
    };
    let named = head.header("X-Forwarded-For").filter(|_| is_near).and_then(|names| names.rsplit(',').next());
    named.and_then(|name| name.trim().parse().ok()).unwrap_or(ip)
}

/// User and password of an `Authorization: Basic` header.
fn basic(header: &str) -> Option<(String, String)> {
    let (scheme, value) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(base64::decode(value.trim())?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

fn unauthorized() -> Response {
    Response::text(401, "401: a user name and a password are needed\n")
        .header("WWW-Authenticate", "Basic realm=\"btsync\", charset=\"UTF-8\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http_server::requests_in;

    fn request(headers: &str) -> RequestHead {
        let text = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        requests_in(text.as_bytes(), 4096, 4096, 0).0.pop().expect("a request").head
    }

    #[test]
    fn a_request_that_finds_no_turn_is_refused_and_counts_as_an_attempt() {
        let access = AccessPolicy::new(PasswordHash::new("me", "right"), &[]);
        let right = request("Authorization: Basic bWU6cmlnaHQ=\r\n");
        let counts = || access.attempts.lock().counts(client_ip(&right), Instant::now());
        access.checks.with_all_places_taken(|| {
            assert_eq!(access.check(&right).expect_err("refused").status(), 503);
            assert_eq!(counts(), [1; 3]);
        });
        assert!(access.check(&right).is_ok());
        access.checks.with_all_places_taken(|| assert!(access.check(&right).is_ok(), "it is known now"));
        assert_eq!(counts(), [1; 3]);
    }

    #[test]
    fn a_reverse_proxy_on_this_machine_says_whose_request_it_is() {
        let named = |headers: &str| client_ip(&request(headers));
        assert_eq!(named("X-Forwarded-For: 1.2.3.4, 10.0.0.7\r\n"), IpAddr::from([10, 0, 0, 7]));
        assert_eq!(named("X-Forwarded-For: unknown\r\n"), named(""));
    }
}
