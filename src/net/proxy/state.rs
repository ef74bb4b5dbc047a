//! A proxy as the torrents of a client share it: connects to targets through it, and remembers whether it works, so that everything
//! waits while it does not.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::Builder;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use socket2::Socket;

use crate::net::bind::Bind;
use crate::net::host_names::{ResolveError, resolve};
use crate::net::proxy::connect::{ProxyConnectError, UdpAssociation, shake_hands};
use crate::net::proxy::handshake::ProxyRequest;
use crate::net::proxy::url::ProxyUrl;
use crate::net::proxy::{ProxyError, ProxyTarget};
use crate::util::os_error::reason;

/// The first pause after the proxy failed, which doubles with each failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(15);
/// The time limit for looking up the proxy's name.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(10);
/// The thread's stack size; the look-up itself has another thread.
const STACK: usize = 128 * 1024;

/// See the module's documentation.
#[derive(Debug)]
pub struct Proxy {
    url: ProxyUrl,
    /// The interface or address for the connections to the proxy.
    bind: Bind,
    /// Whether all connections of a client go through it; otherwise it is that of one request.
    is_of_client: bool,
    state: Mutex<ProxyState>,
}

/// What is known of the proxy.
#[derive(Debug, Default)]
struct ProxyState {
    /// Its address; `None` before its name was resolved, and after a connection failed.
    address: Option<SocketAddr>,
    is_resolving: bool,
    /// How often it failed since it last worked.
    failures: u32,
    last_failure: Option<Instant>,
    /// When to try it again, if it failed.
    retry_at: Option<Instant>,
    /// The last failure.
    reason: Option<String>,
}

impl Proxy {
    /// The proxy of a client, at this URL. Connects to nothing yet.
    pub fn of_client(url: ProxyUrl, bind: Bind) -> Proxy {
        Proxy { bind, is_of_client: true, ..Proxy::of_request(url) }
    }

    /// The proxy of one HTTP request.
    pub fn of_request(url: ProxyUrl) -> Proxy {
        let address = url.host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, url.port));
        let state = Mutex::new(ProxyState { address, ..ProxyState::default() });
        Proxy { url, bind: Bind::Any, is_of_client: false, state }
    }

    /// Its URL.
    pub fn url(&self) -> &ProxyUrl {
        &self.url
    }

    /// A connection to `target` through the proxy.
    ///
    /// # Errors
    /// See [`ProxyConnectError`].
    pub fn connect(&self, target: &ProxyTarget, deadline: Instant) -> Result<TcpStream, ProxyConnectError> {
        let stream = self.connect_to_proxy(deadline)?;
        let result = self.shake_hands(&stream, target, deadline);
        self.note_result(result.as_ref().err());
        result.map(|()| stream)
    }

    /// A connection to the proxy itself. Looks its name up if that is necessary.
    ///
    /// # Errors
    /// See [`ProxyConnectError`].
    pub fn connect_to_proxy(&self, deadline: Instant) -> Result<TcpStream, ProxyConnectError> {
        let connected = self.addresses(deadline).and_then(|addresses| self.connect_to_any(&addresses, deadline));
        if let Err(error) = &connected {
            self.note_failure(&reason(error));
        }
        Ok(connected?)
    }

    fn connect_to_any(&self, addresses: &[SocketAddr], deadline: Instant) -> io::Result<TcpStream> {
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for addr in addresses {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match self.bind.connect(*addr, left) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    self.state.lock().address = Some(*addr);
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Asks the proxy at the other end of `stream` for a connection to `target`. See [`Proxy::note_result`].
    ///
    /// # Errors
    /// See [`ProxyConnectError`].
    pub fn shake_hands(
        &self,
        stream: &TcpStream,
        target: &ProxyTarget,
        deadline: Instant,
    ) -> Result<(), ProxyConnectError> {
        shake_hands(stream, &self.url, &ProxyRequest::Connect(target.clone()), deadline).map(drop)
    }

    /// A UDP association (SOCKS 5 only).
    ///
    /// # Errors
    /// See [`ProxyConnectError`].
    pub fn associate(&self, deadline: Instant) -> Result<UdpAssociation, ProxyConnectError> {
        let control = self.connect_to_proxy(deadline)?;
        let result = UdpAssociation::start(control, &self.url, &self.bind, deadline);
        self.note_result(result.as_ref().err());
        result
    }

    /// A socket that is not connected yet, and the address of the proxy to connect it to.
    ///
    /// # Errors
    /// If there is no descriptor; [`io::ErrorKind::NotConnected`] while the proxy's name is being looked up.
    pub fn outgoing_socket(self: &Arc<Self>) -> io::Result<(Socket, SocketAddr)> {
        let Some(address) = self.state.lock().address else {
            self.look_up_in_background()?;
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the proxy's name is being looked up"));
        };
        Ok((self.bind.outgoing_socket(address)?, address))
    }

    /// All addresses of the proxy, at least one.
    fn addresses(&self, deadline: Instant) -> io::Result<Vec<SocketAddr>> {
        if let Some(address) = self.state.lock().address {
            return Ok(vec![address]);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        resolve(&self.url.host, self.url.port, Some(left)).map_err(|error| match error {
            ResolveError::NotFound => io::Error::other(format!("the host {} cannot be resolved", self.url.host)),
            ResolveError::TimedOut => io::ErrorKind::TimedOut.into(),
            ResolveError::NoThread(error) => error,
        })
    }

    /// Looks the proxy's name up without waiting for it, unless that is under way.
    fn look_up_in_background(self: &Arc<Self>) -> io::Result<()> {
        if std::mem::replace(&mut self.state.lock().is_resolving, true) {
            return Ok(());
        }
        let proxy = self.clone();
        let work = move || {
            let found = proxy.addresses(Instant::now() + LOOK_UP_TIMEOUT);
            let mut state = proxy.state.lock();
            state.is_resolving = false;
            match found {
                Ok(found) => state.address = found.first().copied(),
                Err(error) => {
                    drop(state);
                    proxy.note_failure(&reason(&error));
                }
            }
        };
        let thread = Builder::new().name("look-up".into()).stack_size(STACK).spawn(work);
        if thread.is_err() {
            self.state.lock().is_resolving = false;
        }
        thread.map(drop)
    }

    /// Whether a connection may be started now; otherwise how long to wait. While the proxy does not work, only one of all callers
    /// may try it, with longer and longer pauses.
    ///
    /// # Errors
    /// The time to wait.
    pub fn permit_dial(&self, now: Instant) -> Result<(), Duration> {
        let mut state = self.state.lock();
        if let Some(at) = state.retry_at {
            if now < at {
                return Err(at - now);
            }
            state.retry_at = Some(now + pause(state.failures));
        }
        Ok(())
    }

    /// How long to wait before the next attempt, if the proxy does not work.
    pub fn retry_delay(&self, now: Instant) -> Option<Duration> {
        self.state.lock().retry_at.map(|at| at.saturating_duration_since(now))
    }

    /// Why the proxy does not work at present, if it does not.
    pub fn failure(&self) -> Option<String> {
        self.state.lock().reason.clone()
    }

    /// Records the result of a handshake. An error for which we are to blame, because we closed the connection, is not to be recorded.
    pub fn note_result(&self, error: Option<&ProxyConnectError>) {
        match error.filter(|error| !error.concerns_only_target()) {
            None if matches!(error, Some(ProxyConnectError::Proxy(ProxyError::Name))) => {} // it was not asked
            Some(error) => self.note_failure(&error.to_string()),
            None => self.note_success(),
        }
    }

    /// The proxy works.
    pub fn note_success(&self) {
        let mut state = self.state.lock();
        let did_fail = state.reason.take().is_some();
        (state.failures, state.last_failure, state.retry_at) = (0, None, None);
        drop(state);
        if did_fail && self.is_of_client {
            log::info!("the proxy {} works again", self.url);
        }
    }

    /// The proxy does not work.
    pub fn note_failure(&self, reason: &str) {
        let mut state = self.state.lock();
        let now = Instant::now();
        // Its name may have another address by now.
        if self.url.host.parse::<IpAddr>().is_err() {
            state.address = None;
        }
        let did_work = state.reason.replace(reason.to_owned()).is_none();
        // Attempts of the same time count as one.
        let least = pause(state.failures) / 2;
        if state.last_failure.is_none_or(|last| now.saturating_duration_since(last) >= least) {
            state.failures = state.failures.saturating_add(1);
            state.last_failure = Some(now);
            state.retry_at = Some(now + pause(state.failures));
        }
        drop(state);
        if did_work && self.is_of_client {
            log::warn!("the proxy {} does not work; connections through it wait until it works: {reason}", self.url);
        }
    }
}

/// The pause after this many failures.
fn pause(failures: u32) -> Duration {
    (FIRST_PAUSE * 2_u32.saturating_pow(failures.saturating_sub(1)).min(100)).min(MAX_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy() -> Proxy {
        Proxy::of_client("socks5://127.0.0.1:1".parse().expect("a proxy"), Bind::Any)
    }

    #[test]
    fn while_the_proxy_fails_one_caller_at_a_time_may_try_it() {
        let proxy = proxy();
        let now = Instant::now();
        assert_eq!(proxy.permit_dial(now), Ok(()));
        proxy.note_failure("refused");
        proxy.note_failure("refused too");
        assert_eq!(proxy.state.lock().failures, 1, "both are of the same time");
        assert!(proxy.permit_dial(now).is_err_and(|wait| wait <= 2 * FIRST_PAUSE) && proxy.retry_delay(now).is_some());
        let later = now + 2 * FIRST_PAUSE;
        assert_eq!(proxy.permit_dial(later), Ok(()));
        assert!(proxy.permit_dial(later).is_err(), "another caller tries already");
        assert_eq!(proxy.failure().as_deref(), Some("refused too"));
        proxy.note_success();
        assert_eq!((proxy.permit_dial(later), proxy.failure(), proxy.retry_delay(later)), (Ok(()), None, None));
    }

    #[test]
    fn pauses_grow_up_to_a_bound() {
        assert_eq!([1, 2, 3, 4].map(pause), [1, 2, 4, 8].map(Duration::from_secs));
        assert_eq!([5, 100, u32::MAX].map(pause), [MAX_PAUSE; 3]);
    }

    #[test]
    fn a_proxy_without_an_address_is_looked_up_before_a_socket_is_opened() {
        let named = Arc::new(Proxy::of_client("socks5://name.invalid:1".parse().expect("a proxy"), Bind::Any));
        assert_eq!(named.outgoing_socket().expect_err("no address").kind(), io::ErrorKind::NotConnected);
        assert!(Arc::new(proxy()).outgoing_socket().is_ok());
    }
}
