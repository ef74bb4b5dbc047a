//! What every kind of tracker is told, what it answers and how it fails: the same for HTTP and UDP, so that whoever
//! announces need not know which it was.

use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::discovery::tracker::redact::without_secrets_of;
use crate::net::networks::is_private;
use crate::types::{InfoHash, PeerId};
use crate::util::printable_text::printable;
use crate::util::random;
use crate::wire::compact;

/// Peers kept of one answer at most.
pub const MAX_PEERS: usize = 3000;
/// No tracker makes us come more often. Low, for trackers of a test or a closed network.
const MIN_INTERVAL: Duration = Duration::from_secs(2);
/// No tracker keeps us away longer.
const MAX_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);
/// What a tracker that names no interval means.
pub(crate) const DEFAULT_INTERVAL: Duration = Duration::from_secs(30 * 60);
/// A tracker's words are cut to this many characters.
pub(crate) const MAX_TEXT: usize = 400;

/// What an announce tells the tracker (BEP 3).
#[derive(Clone, Copy, Debug)]
pub struct Announce<'a> {
    /// The swarm.
    pub info_hash: InfoHash,
    /// Ourselves.
    pub peer_id: PeerId,
    /// The TCP port on which we listen.
    pub port: u16,
    /// Payload bytes sent since `started`.
    pub uploaded: u64,
    /// Payload bytes received since `started`.
    pub downloaded: u64,
    /// Bytes still missing.
    pub left: u64,
    /// Random and the same for the whole session: lets the tracker know us again under another address.
    pub key: u32,
    /// How many peers we would like.
    pub numwant: u32,
    /// What happened, where this is more than the regular announce.
    pub event: Option<AnnounceEvent>,
    /// What this tracker once sent as `tracker id`.
    pub tracker_id: Option<&'a [u8]>,
}

/// The events of BEP 3, and that of BEP 21.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AnnounceEvent {
    /// The first announce.
    Started,
    /// The download has just become whole.
    Completed,
    /// We are leaving.
    Stopped,
    /// We have all that we want of the torrent, and not all of it (BEP 21).
    Paused,
}

impl AnnounceEvent {
    /// The word as it travels.
    pub fn word(self) -> &'static str {
        match self {
            AnnounceEvent::Started => "started",
            AnnounceEvent::Completed => "completed",
            AnnounceEvent::Stopped => "stopped",
            AnnounceEvent::Paused => "paused",
        }
    }
}

/// What a tracker answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnounceResponse {
    /// Addresses of peers, each once, [`MAX_PEERS`] at most.
    pub peers: Vec<SocketAddr>,
    /// How many peers were left out, as a tracker on the internet named addresses of private networks.
    pub private_dropped: usize,
    /// Host names and ports of peers, to be looked up (BEP 3).
    pub names: Vec<(String, u16)>,
    /// Until the next regular announce, 2 s to 24 h; 30 min where the tracker names none.
    pub interval: Duration,
    /// Until the next announce without an event at the earliest, 2 s to 24 h.
    pub min_interval: Option<Duration>,
    /// How many seeds it knows.
    pub complete: Option<u32>,
    /// How many leechers it knows.
    pub incomplete: Option<u32>,
    /// Its `warning message`, cleaned of control characters.
    pub warning: Option<String>,
    /// To be sent back with the next announce.
    pub tracker_id: Option<Vec<u8>>,
    /// Our address as it sees us (BEP 24).
    pub external_ip: Option<IpAddr>,
}

impl AnnounceResponse {
    /// What counts of the answer of a tracker with a public address. Nobody on the internet knows what is in a private network: such
    /// an address is a mistake, or meant to make us connect to a device of the user.
    #[must_use]
    pub(crate) fn without_private_peers(mut self) -> AnnounceResponse {
        let named = self.peers.len();
        self.peers.retain(|peer| !is_private(peer.ip()));
        self.private_dropped += named - self.peers.len();
        self
    }

    /// The answers over two families of addresses as one.
    #[must_use]
    pub fn merged(self, other: AnnounceResponse) -> AnnounceResponse {
        AnnounceResponse {
            peers: usable(self.peers.into_iter().chain(other.peers)),
            private_dropped: self.private_dropped + other.private_dropped,
            interval: self.interval.max(other.interval),
            complete: self.complete.max(other.complete),
            incomplete: self.incomplete.max(other.incomplete),
            ..self
        }
    }
}

/// The figures of one swarm (BEP 15, 48), as a tracker tells them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scraped {
    /// Seeds.
    pub complete: u32,
    /// Leechers.
    pub incomplete: u32,
    /// How often the download was completed.
    pub downloaded: u32,
}

/// When a server that refused wants to be asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Not before so long has passed, 24 h at most.
    After(Duration),
    /// Not in this session.
    Never,
}

impl fmt::Display for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Retry::After(wait) => write!(f, "it wants to be left alone for {} s", wait.as_secs()),
            Retry::Never => f.write_str("it is not asked again"),
        }
    }
}

/// Why an announce failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrackerError {
    /// A scheme that nobody here speaks, or that must not be switched to.
    #[error("the scheme \"{0}\" cannot be asked")]
    Scheme(String),
    /// Not a URL that can be asked.
    #[error("not a usable URL")]
    Url,
    /// A local address whose path is not that of an announce: it may be another service (request forgery).
    #[error(
        "a local address is asked only for a path that ends in \"announce\" or \"scrape\"; --bt-tracker URL allows it"
    )]
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
    /// The host has no address of the family over which it was to be asked.
    #[error("the host has no address of this family")]
    NoFamily,
    /// The environment names a proxy of a kind that btsync does not support.
    #[error(
        "the proxy in the environment (ALL_PROXY, HTTP_PROXY) cannot be used: http://HOST:PORT or https://HOST:PORT is needed"
    )]
    Proxy,
    /// The process or the system has no descriptor for a connection.
    #[error("no descriptors are left")]
    Shortage,
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
    /// Another failure, with the time at which the server wants to be asked again (BEP 31, `Retry-After`).
    #[error("{why}; {retry}")]
    Later {
        /// What failed.
        why: Box<TrackerError>,
        /// When to ask again.
        retry: Retry,
    },
    /// No trustworthy TLS connection.
    #[error("TLS: {0}")]
    Tls(String),
    /// Something else.
    #[error("{0}")]
    Other(String),
}

impl TrackerError {
    /// When the server wants to be asked again, where it said so.
    pub fn retry(&self) -> Option<Retry> {
        if let TrackerError::Later { retry, .. } = self { Some(*retry) } else { None }
    }

    /// The same without what may be secret in `url`, which the server's words may repeat.
    #[must_use]
    pub fn without_secrets_of(self, url: &str) -> TrackerError {
        use TrackerError as E;
        let clean = |words: String| without_secrets_of(url, &words);
        match self {
            E::NameLookup { host } => E::NameLookup { host: clean(host) },
            E::Connect(words) => E::Connect(clean(words)),
            E::Malformed(words) => E::Malformed(clean(words)),
            E::Refused(words) => E::Refused(clean(words)),
            E::Later { why, retry } => E::Later { why: Box::new(why.without_secrets_of(url)), retry },
            E::Tls(words) => E::Tls(clean(words)),
            E::Other(words) => E::Other(clean(words)),
            plain @ (E::Scheme(_)
            | E::Proxy
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

/// A time that a tracker names, within our bounds. Zero and less is no time at all.
pub(crate) fn seconds(seconds: i64) -> Option<Duration> {
    let seconds = u64::try_from(seconds).ok().filter(|&s| s > 0)?;
    Some(Duration::from_secs(seconds).clamp(MIN_INTERVAL, MAX_INTERVAL))
}

/// A tracker's words, cut and cleaned.
pub(crate) fn text(bytes: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(bytes).chars().take(MAX_TEXT).collect();
    printable(&text)
}

/// The peers that can be there at all, each once; of more than [`MAX_PEERS`] so many by chance, as a long list may have the good ones
/// anywhere.
pub(crate) fn usable(addrs: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut seen = HashSet::new();
    let mut all: Vec<_> = addrs.filter(|&addr| compact::is_usable(addr) && seen.insert(addr)).collect();
    if all.len() > MAX_PEERS {
        random::cheap().shuffle(&mut all);
        all.truncate(MAX_PEERS);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_tracker_names_no_private_addresses() {
        let private = [
            "10.1.2.3:6881",
            "127.0.0.1:6881",
            "169.254.1.1:6881",
            "172.16.0.1:6881",
            "192.168.1.1:6881",
            "[::1]:6881",
            "[fd00::1]:6881",
            "[fe80::1]:6881",
            "[::ffff:10.0.0.1]:6881",
            "[64:ff9b::c0a8:101]:6881",
            "[2002:a00:1::1]:6881",
        ];
        let public = ["203.0.113.5:6881", "[2a00::1]:6881", "[64:ff9b::808:808]:6881"];
        let peers: Vec<SocketAddr> = private.iter().chain(&public).filter_map(|peer| peer.parse().ok()).collect();
        let answer = AnnounceResponse {
            peers,
            private_dropped: 0,
            names: Vec::new(),
            interval: DEFAULT_INTERVAL,
            min_interval: None,
            complete: None,
            incomplete: None,
            warning: None,
            tracker_id: None,
            external_ip: None,
        };
        let answer = answer.without_private_peers();
        assert_eq!(answer.peers.iter().map(ToString::to_string).collect::<Vec<_>>(), public);
        assert_eq!(answer.private_dropped, private.len());
        assert_eq!(answer.clone().merged(answer).private_dropped, 2 * private.len());
    }
}
