//! Magnet links (BEP 9, BEP 53, and BEP 52 for v2 hashes): the torrent's identity and hints before its metadata is available. Pure parsing and formatting.
//! Links are untrusted: sizes are bounded, and a malformed tracker or peer entry is dropped without affecting the rest. A
//! malformed hash or file selection is an error, because a guess would download something else than the user meant.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, percent_decode_str, utf8_percent_encode};

use crate::metainfo::{Metainfo, printable};
use crate::types::{InfoHash, InfoHashV2};
use crate::util::cold_sort;

/// The longest link accepted, in bytes.
pub const MAX_LINK: usize = 64 * 1024;
/// The most entries kept of each kind: trackers, web seeds, sources, peers.
pub const MAX_ENTRIES: usize = 200;
/// The most ranges in one `so` parameter.
pub const MAX_RANGES: usize = 10_000;
/// Longer names are truncated to this many characters.
const MAX_NAME: usize = 255;
/// What precedes the digits of a SHA-256 in a multihash: its kind and its length.
const SHA256_MULTIHASH: &str = "1220";
/// Percent-encode everything except characters that RFC 3986 allows unescaped in a query value.
const VALUE: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/').remove(b':');

/// A parsed magnet link.
///
/// ```
/// let magnet = btsync::Magnet::parse("magnet:?xt=urn:btih:0123456789abcdef0123456789abcdef01234567&dn=x.iso")?;
/// assert_eq!(magnet.name.as_deref(), Some("x.iso"));
/// # Ok::<(), btsync::MagnetError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Magnet {
    /// Identifies the swarm (`xt`): the v1 hash, or else the v2 hash shortened to 20 bytes.
    pub info_hash: InfoHash,
    /// The hash of the torrent's v2 half, if the link names it (`xt=urn:btmh:`, BEP 52).
    pub info_hash_v2: Option<InfoHashV2>,
    /// The name to display until the metadata arrives (`dn`), made safe for a terminal.
    pub name: Option<String>,
    /// Announce URLs (`tr`) of any scheme, without duplicates.
    pub trackers: Vec<String>,
    /// Web seeds (`ws`, BEP 19), without duplicates.
    pub web_seeds: Vec<String>,
    /// `http://` and `https://` URLs of the .torrent file (`xs`, `as`), without duplicates.
    pub sources: Vec<String>,
    /// Peers to connect to first (`x.pe`), without duplicates.
    pub peers: Vec<PeerAddress>,
    /// The indexes of the files to download (`so`), counted from 0, sorted and without overlap; `None` for all files.
    pub select: Option<Vec<RangeInclusive<u32>>>,
}

/// A peer's address as the link gives it. The caller resolves host names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerAddress {
    /// An IP address and a port.
    Addr(SocketAddr),
    /// A host name and a port.
    Host(String, u16),
}

/// Why a text is not a usable magnet link; exit code 27.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MagnetError {
    /// The text does not begin with `magnet:?`.
    #[error("not a magnet link: it does not begin with \"magnet:?\"")]
    NotMagnet,
    /// The link is longer than 64 KiB.
    #[error("the magnet link is longer than {MAX_LINK} bytes")]
    TooLong,
    /// The link has neither `xt=urn:btih:` nor `xt=urn:btmh:`.
    #[error("the magnet link names no torrent: xt=urn:btih: or xt=urn:btmh: is missing")]
    NoHash,
    /// The hash is neither 40 hexadecimal digits nor 32 base32 characters.
    #[error("the magnet link's hash \"{0}\" is neither 40 hexadecimal digits nor 32 characters of base32")]
    Hash(String),
    /// The v2 hash is not the multihash of a SHA-256 in hexadecimal digits.
    #[error("the magnet link's v2 hash \"{0}\" is not 1220 and 64 hexadecimal digits")]
    HashV2(String),
    /// The link has two different hashes of one kind.
    #[error("the magnet link names several torrents")]
    SeveralHashes,
    /// The file selection (`so`) is malformed.
    #[error("the magnet link's file selection \"{0}\" is malformed: expected a list such as so=0,2,4-6")]
    Select(String),
}

impl Magnet {
    /// Whether the text is meant as a magnet link rather than a file name.
    pub fn is_link(text: &str) -> bool {
        text.trim().get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("magnet:"))
    }

    /// The magnet link of a torrent: its info-hash, name, trackers and web seeds.
    pub fn of(torrent: &Metainfo) -> Magnet {
        let mut trackers = Vec::new();
        torrent.tiers.iter().flatten().for_each(|tracker| push_unique(&mut trackers, url(tracker)));
        let mut web_seeds = Vec::new();
        torrent.web_seeds.iter().for_each(|seed| push_unique(&mut web_seeds, url(seed)));
        let name = Some(torrent.name.clone());
        let (sources, peers) = (Vec::new(), Vec::new());
        let Metainfo { info_hash, info_hash_v2, .. } = *torrent;
        Magnet { info_hash, info_hash_v2, name, trackers, web_seeds, sources, peers, select: None }
    }

    /// Parses a link. Unknown parameters are ignored.
    ///
    /// # Errors
    /// See [`MagnetError`].
    pub fn parse(link: &str) -> Result<Magnet, MagnetError> {
        let link = link.trim();
        if link.len() > MAX_LINK {
            return Err(MagnetError::TooLong);
        }
        let query = if Magnet::is_link(link) { link.get(7..).and_then(|rest| rest.strip_prefix('?')) } else { None };
        let query = query.ok_or(MagnetError::NotMagnet)?.split('#').next().unwrap_or_default();
        let mut found = MagnetFields::default();
        // Links copied from the source of a web page have `&amp;` for `&`.
        let query = query.replace("&amp;", "&");
        for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            match key_of(key).as_str() {
                "xt" => found.parse_xt(&decoded(value))?,
                // HTML forms encode a space as `+`.
                "dn" if found.name.is_none() => found.name = name(&decoded(&value.replace('+', " "))),
                "tr" => push_unique(&mut found.trackers, escaped_url(value).or_else(|| tracker_without_scheme(value))),
                "ws" => push_unique(&mut found.web_seeds, escaped_url(value)),
                "xs" | "as" => push_unique(&mut found.sources, escaped_url(value).filter(|url| is_http(url))),
                "x.pe" => push_unique(&mut found.peers, PeerAddress::parse(&decoded(value))),
                "so" => found.select.get_or_insert_default().extend(ranges(&decoded(value))?),
                _ => {}
            }
        }
        let MagnetFields { info_hash, info_hash_v2, unknown_v2, name, trackers, web_seeds, sources, peers, select } =
            found;
        let swarm = info_hash.or(info_hash_v2.map(|hash| hash.truncated()));
        let missing = || unknown_v2.map_or(MagnetError::NoHash, MagnetError::HashV2);
        let (info_hash, select) = (swarm.ok_or_else(missing)?, select.map(joined));
        Ok(Magnet { info_hash, info_hash_v2, name, trackers, web_seeds, sources, peers, select })
    }

    /// Whether the link names the torrent's v1 half.
    pub fn has_v1(&self) -> bool {
        self.info_hash_v2.is_none_or(|hash| hash.truncated() != self.info_hash)
    }
}

impl fmt::Display for Magnet {
    /// Formats the link, with the info-hashes in hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("magnet:?")?;
        if self.has_v1() {
            write!(f, "xt=urn:btih:{}", self.info_hash)?;
        }
        if let Some(hash) = self.info_hash_v2 {
            let separator = if self.has_v1() { "&" } else { "" };
            write!(f, "{separator}xt=urn:btmh:{SHA256_MULTIHASH}{hash}")?;
        }
        if let Some(name) = &self.name {
            write!(f, "&dn={}", encoded(name))?;
        }
        for tracker in &self.trackers {
            write!(f, "&tr={}", encoded(tracker))?;
        }
        for seed in &self.web_seeds {
            write!(f, "&ws={}", encoded(seed))?;
        }
        for source in &self.sources {
            write!(f, "&xs={}", encoded(source))?;
        }
        for peer in &self.peers {
            write!(f, "&x.pe={}", encoded(&peer.to_string()))?;
        }
        for (n, range) in self.select.iter().flatten().enumerate() {
            let (first, last) = (range.start(), range.end());
            f.write_str(if n == 0 { "&so=" } else { "," })?;
            if first == last { write!(f, "{first}")? } else { write!(f, "{first}-{last}")? }
        }
        Ok(())
    }
}

impl std::str::FromStr for Magnet {
    type Err = MagnetError;

    fn from_str(link: &str) -> Result<Magnet, MagnetError> {
        Magnet::parse(link)
    }
}

impl PeerAddress {
    /// Parses `HOST:PORT`, with an IPv6 address in brackets; `None` if the host is neither an address nor a name, or the port is
    /// missing or 0.
    pub fn parse(text: &str) -> Option<PeerAddress> {
        if let Ok(addr) = text.parse::<SocketAddr>() {
            let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
            return (addr.port() != 0).then_some(PeerAddress::Addr(addr));
        }
        let (host, port) = text.rsplit_once(':')?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        let port = port.parse().ok().filter(|&port: &u16| port != 0)?;
        let fits =
            !host.is_empty() && host.len() <= 253 && host.chars().all(is_name) && host.parse::<IpAddr>().is_err();
        fits.then(|| PeerAddress::Host(host.to_ascii_lowercase(), port))
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerAddress::Addr(addr) => addr.fmt(f),
            PeerAddress::Host(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

/// The parameters parsed so far.
#[derive(Default)]
struct MagnetFields {
    info_hash: Option<InfoHash>,
    info_hash_v2: Option<InfoHashV2>,
    /// A v2 hash of an unknown kind: ignored if there is another hash.
    unknown_v2: Option<String>,
    name: Option<String>,
    trackers: Vec<String>,
    web_seeds: Vec<String>,
    sources: Vec<String>,
    peers: Vec<PeerAddress>,
    select: Option<Vec<RangeInclusive<u32>>>,
}

impl MagnetFields {
    /// Parses one `xt`. Topics of other networks are ignored.
    fn parse_xt(&mut self, topic: &str) -> Result<(), MagnetError> {
        let after = |urn: &str| {
            topic.get(..urn.len()).filter(|head| head.eq_ignore_ascii_case(urn)).and_then(|_| topic.get(urn.len()..))
        };
        let shown = |hash: &str| printable(&hash.chars().take(80).collect::<String>());
        if let Some(hash) = after("urn:btih:") {
            let parsed = InfoHash::from_hex(hash).or_else(|| base32(hash).map(InfoHash));
            let parsed = parsed.ok_or_else(|| MagnetError::Hash(shown(hash)))?;
            if self.info_hash.is_some_and(|before| before != parsed) {
                return Err(MagnetError::SeveralHashes);
            }
            self.info_hash = Some(parsed);
        }
        if let Some(hash) = after("urn:btmh:") {
            let digits = hash.strip_prefix(SHA256_MULTIHASH);
            let Some(parsed) = digits.and_then(InfoHashV2::from_hex) else {
                self.unknown_v2 = Some(shown(hash));
                return Ok(());
            };
            if self.info_hash_v2.is_some_and(|before| before != parsed) {
                return Err(MagnetError::SeveralHashes);
            }
            self.info_hash_v2 = Some(parsed);
        }
        Ok(())
    }
}

/// A parameter's name without the number that some programs append to repeated ones (`tr.1`).
fn key_of(key: &str) -> String {
    let lower = key.to_ascii_lowercase();
    match lower.rsplit_once('.') {
        Some((name, number)) if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => name.to_owned(),
        _ => lower,
    }
}

fn encoded(value: &str) -> PercentEncode<'_> {
    utf8_percent_encode(value, VALUE)
}

fn decoded(value: &str) -> String {
    percent_decode_str(value).decode_utf8_lossy().into_owned()
}

fn push_unique<T: PartialEq>(list: &mut Vec<T>, entry: Option<T>) {
    if let Some(entry) = entry
        && list.len() < MAX_ENTRIES
        && !list.contains(&entry)
    {
        list.push(entry);
    }
}

/// The name made safe to display; `None` if nothing is left of it.
fn name(text: &str) -> Option<String> {
    let name: String = printable(text).chars().take(MAX_NAME).collect();
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// Accepts a URL unless it contains characters that could break out of a request line.
fn url(text: &str) -> Option<String> {
    let text = text.trim();
    let broken = |c: char| c.is_control() || c.is_whitespace() || c == char::REPLACEMENT_CHARACTER;
    (text.contains("://") && !text.contains(broken)).then(|| text.to_owned())
}

/// Whether btsync can fetch the URL; other `xs` and `as` values belong to other networks.
fn is_http(url: &str) -> bool {
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)))
}

/// Decodes a URL from a link. Some programs escape it twice, and then no scheme is visible after decoding once.
fn escaped_url(value: &str) -> Option<String> {
    let once = decoded(value);
    url(&once).or_else(|| url(&decoded(&once)))
}

/// Accepts a tracker without a scheme. btsync cannot announce to it, but can report that to the user.
fn tracker_without_scheme(value: &str) -> Option<String> {
    let text = decoded(value);
    let is_word = !text.is_empty() && text.len() <= MAX_NAME && text.bytes().all(|byte| byte.is_ascii_graphic());
    (is_word && !text.contains("://")).then_some(text)
}

/// Parses `0,2,4-6` (BEP 53).
fn ranges(text: &str) -> Result<Vec<RangeInclusive<u32>>, MagnetError> {
    let malformed = || MagnetError::Select(printable(&text.chars().take(80).collect::<String>()));
    let number = |digits: &str| {
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| digits.parse::<u32>().ok()).flatten().ok_or_else(malformed)
    };
    let mut ranges = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let range = number(first)?..=number(last)?;
        if range.is_empty() || ranges.len() >= MAX_RANGES {
            return Err(malformed());
        }
        ranges.push(range);
    }
    Ok(ranges)
}

/// The same file indexes, sorted, with adjacent and overlapping ranges merged.
fn joined(mut ranges: Vec<RangeInclusive<u32>>) -> Vec<RangeInclusive<u32>> {
    cold_sort::sort_by_key(&mut ranges, |range| *range.start());
    let mut all: Vec<RangeInclusive<u32>> = Vec::new();
    for range in ranges {
        match all.last_mut() {
            Some(last) if *range.start() <= last.end().saturating_add(1) => {
                *last = *last.start()..=*last.end().max(range.end());
            }
            _ => all.push(range),
        }
    }
    all
}

/// Decodes base32 (RFC 4648) without padding: 32 characters of five bits.
fn base32(text: &str) -> Option<[u8; 20]> {
    let five = |b: u8| match b {
        b'A'..=b'Z' => Some(b - b'A'),
        b'a'..=b'z' => Some(b - b'a'),
        b'2'..=b'7' => Some(b - b'2' + 26),
        _ => None,
    };
    let mut hash = [0; 20];
    let (eights, []) = text.as_bytes().as_chunks::<8>() else { return None };
    if eights.len() * 5 != hash.len() {
        return None;
    }
    for (five_bytes, eight) in hash.chunks_exact_mut(5).zip(eights) {
        let mut bits = 0u64;
        for &character in eight {
            bits = bits << 5 | u64::from(five(character)?);
        }
        five_bytes.copy_from_slice(&bits.to_be_bytes()[3..]);
    }
    Some(hash)
}

#[cfg(test)]
mod tests;
