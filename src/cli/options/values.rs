//! Parses the values of options: one function for each kind of value. An error is the message for the user.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use crate::cli::outcome;
use crate::util::paths::is_watched_name;
use btsync::Allocation;
use btsync::create::Glob;
use btsync::{Bind, Client, ClientError, FilePattern, PeerAddress, PortMapping};
use btsync::{Dscp, Encryption, Transports};

pub(crate) fn minutes(text: &str) -> Result<Duration, String> {
    let minutes: f64 = text.parse().map_err(|_| "expected a number of minutes, such as 30 or 0.5".to_owned())?;
    Duration::try_from_secs_f64(minutes * 60.0).map_err(|_| "not a time: use 0 or more".to_owned())
}

pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number of seconds".to_owned())?;
    let time = Duration::try_from_secs_f64(seconds).ok().filter(|time| !time.is_zero());
    time.ok_or_else(|| "not a time: use more than 0".to_owned())
}

pub(crate) fn ratio(text: &str) -> Result<f64, String> {
    let ratio: f64 = text.parse().map_err(|_| "expected a number, such as 1.5".to_owned())?;
    if ratio.is_finite() && ratio >= 0.0 { Ok(ratio) } else { Err("not a ratio: use 0 or more".to_owned()) }
}

pub(crate) fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let port = |word: &str| word.parse::<u16>().ok().filter(|&port| port != 0);
    match (port(from), port(to)) {
        (Some(from), Some(to)) if from <= to => Ok(from..=to),
        (Some(from), Some(to)) => Err(format!("{from} is more than {to}")),
        _ => Err("expected a port from 1 to 65535, or a range such as 6881-6889".to_owned()),
    }
}

pub(crate) fn count(text: &str) -> Result<usize, String> {
    let many = text.parse::<usize>().ok().filter(|many| (1..=5000).contains(many));
    many.ok_or_else(|| "expected a number from 1 to 5000".to_owned())
}

pub(crate) fn encryption(text: &str) -> Result<Encryption, String> {
    match text {
        // `prefer` is the older name.
        "allow" | "prefer" => Ok(Encryption::Allow),
        "require" => Ok(Encryption::Require),
        "off" => Ok(Encryption::Off),
        _ => Err("expected allow, require or off".to_owned()),
    }
}

pub(crate) fn transports(text: &str) -> Result<Transports, String> {
    match text {
        "both" => Ok(Transports::Both),
        "tcp" => Ok(Transports::Tcp),
        "utp" => Ok(Transports::Utp),
        _ => Err("expected tcp, utp or both".to_owned()),
    }
}

pub(crate) fn dscp(text: &str) -> Result<Dscp, String> {
    text.parse().map_err(|()| "expected le, none, cs1 or another class, or a number from 0 to 63".to_owned())
}

/// Checks the form only: names are resolved when the download starts.
pub(crate) fn host_and_port(text: &str) -> Result<String, String> {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, port)| port.parse().ok());
    match port {
        Some(1..=u16::MAX) => Ok(text.to_owned()),
        _ => Err("expected ADDRESS:PORT, such as 192.0.2.7:6881 or [2001:db8::7]:6881".to_owned()),
    }
}

/// A list of file numbers, or a pattern.
pub(crate) fn pattern(text: &str) -> Result<FilePattern, String> {
    text.parse().map_err(|error| outcome::select_message(&error))
}

/// The interface or address to bind to.
pub(crate) fn interface(text: &str) -> Result<Bind, String> {
    text.parse::<Bind>().map_err(|error| error.to_string())
}

/// What `--no-port-mapping` and `--port-mapping` choose; with neither, btsync sends the request after this time.
pub(crate) fn port_mapping(is_off: bool, is_on: bool, after: Duration) -> PortMapping {
    match (is_off, is_on) {
        (true, _) => PortMapping::Off,
        (false, true) => PortMapping::On,
        (false, false) => PortMapping::Auto { after },
    }
}

/// The URL of a proxy. The message omits it, as it may contain a password.
pub(crate) fn proxy(text: &str) -> Result<String, String> {
    Client::builder().proxy(Some(text)).map(|_| text.to_owned()).map_err(|error| match error {
        ClientError::Proxy { reason } => reason,
        error => error.to_string(),
    })
}

/// Splits a list at commas.
fn split_list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

pub(crate) fn excluded_trackers(text: &str) -> Result<Vec<String>, String> {
    let words = split_list(text);
    if words.is_empty() { Err("expected the URL of a tracker, or * for all".to_owned()) } else { Ok(words) }
}

pub(crate) fn trackers(text: &str) -> Result<Vec<String>, String> {
    let urls = split_list(text);
    let lower = |url: &String| url.to_ascii_lowercase();
    match urls.iter().find(|url| !["http://", "https://", "udp://"].iter().any(|s| lower(url).starts_with(s))) {
        // The message omits the URL: its form is unknown, so any part of it may be secret.
        Some(_) => Err("a tracker's URL begins with http://, https:// or udp://".to_owned()),
        None if urls.is_empty() => Err("expected a URL".to_owned()),
        None => Ok(urls),
    }
}

pub(crate) fn web_seed(text: &str) -> Result<String, String> {
    let lower = text.trim().to_ascii_lowercase();
    // The message omits the URL, which may contain a password.
    let is_after = |scheme| lower.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty());
    if is_after("http://") || is_after("https://") {
        Ok(text.trim().to_owned())
    } else {
        Err("a web seed's URL begins with http:// or https://".to_owned())
    }
}

pub(crate) fn allocation(text: &str) -> Result<Allocation, String> {
    match text {
        "none" => Ok(Allocation::None),
        "sparse" => Ok(Allocation::Sparse),
        "falloc" => Ok(Allocation::Falloc),
        _ => Err("expected none, sparse or falloc".to_owned()),
    }
}

/// Parses the suffix of incomplete files. Rejects those with which a watched folder would start an incomplete file as a
/// torrent or link.
pub(crate) fn suffix(text: &str) -> Result<String, String> {
    if is_watched_name(Path::new(&format!("x{text}"))) {
        return Err(format!("files that end in {text} are torrents or links: --watch would start unfinished files"));
    }
    let fits = (1..=32).contains(&text.len()) && !text.contains(['/', '\0']) && !text.contains(char::is_control);
    if fits { Ok(text.to_owned()) } else { Err("expected the end of a file name, such as .part".to_owned()) }
}

/// Parses the first eight bytes of the peer ID.
pub(crate) fn peer_id_prefix(text: &str) -> Result<[u8; 8], String> {
    let bytes = text.bytes().all(|byte| byte.is_ascii_graphic()).then(|| text.as_bytes().try_into().ok()).flatten();
    bytes.ok_or_else(|| "expected eight printable ASCII characters, such as -qB4650-".to_owned())
}

/// Parses a client name that is valid in an HTTP header.
pub(crate) fn user_agent(text: &str) -> Result<String, String> {
    let fits = (1..=100).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let fits = fits && text.trim() == text;
    if fits {
        Ok(text.to_owned())
    } else {
        Err("expected printable ASCII characters, such as qBittorrent/4.6.5".to_owned())
    }
}

/// Parses `NUMBER=PATH` into the file's index, counted from 0, and its path.
pub(crate) fn number_and_path(text: &str) -> Result<(u32, PathBuf), String> {
    let parts = text.split_once('=').and_then(|(number, path)| Some((number.trim().parse::<u32>().ok()?, path)));
    let Some((number @ 1.., path)) = parts.filter(|(_, path)| !path.is_empty()) else {
        return Err("expected NUMBER=PATH, such as 3=films/one.mkv, with a number that --list shows".to_owned());
    };
    let path: PathBuf = PathBuf::from(path).components().filter(|part| *part != Component::CurDir).collect();
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    if plain && path.components().next().is_some() {
        Ok((number - 1, path))
    } else {
        Err(format!("{}: expected a path below the download folder", path.display()))
    }
}

pub(crate) fn glob(text: &str) -> Result<Glob, String> {
    text.parse::<Glob>().map_err(|error| format!("`{text}`: {error}"))
}

/// Parses `HOST:PORT`. Removes the brackets around an IPv6 address.
pub(crate) fn node(text: &str) -> Result<(String, u16), String> {
    let text = host_and_port(text)?;
    let (host, port) = text.rsplit_once(':').unwrap_or_default();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Ok((host.to_owned(), port.parse().unwrap_or_default()))
}

/// Parses a number of bytes; K and M are multiples of 1024.
pub(crate) fn piece_length(text: &str) -> Result<u32, String> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1 << 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1 << 20),
        _ => (text, 1),
    };
    let number = digits.parse::<u32>().ok().and_then(|n| n.checked_mul(unit));
    number.ok_or_else(|| format!("`{text}` is not a size such as 262144, 256K or 1M"))
}

pub(crate) fn peer_address(text: &str) -> Result<PeerAddress, String> {
    let text = host_and_port(text)?;
    PeerAddress::parse(&text).ok_or_else(|| format!("`{text}` is not HOST:PORT"))
}

/// Where a page is offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebAddress {
    /// An address and a port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// An address and a port, or `unix:` and a path.
pub(crate) fn web_address(text: &str) -> Result<WebAddress, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return if path.is_empty() {
            Err("expected a path after unix:".to_owned())
        } else {
            Ok(WebAddress::Unix(path.into()))
        };
    }
    let name = text.replacen("localhost:", "127.0.0.1:", 1);
    name.parse()
        .map(WebAddress::Tcp)
        .map_err(|_| "expected ADDRESS:PORT such as 127.0.0.1:9091, or unix:PATH".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let good = [("16384", 16384), ("256K", 256 << 10), ("1m", 1 << 20), ("4095M", 4095 << 20), ("0", 0)];
        for (text, expected) in good {
            assert_eq!(piece_length(text), Ok(expected), "{text}");
        }
        for bad in ["", "K", "1G", "-1", "4096M", "1.5M", "é", "1é"] {
            assert!(piece_length(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nodes_are_hosts_and_ports() {
        assert_eq!(node("[2001:db8::7]:6881"), Ok(("2001:db8::7".into(), 6881)));
        assert_eq!(node("dht.example:1"), Ok(("dht.example".into(), 1)));
        assert!(node("dht.example").is_err() && node(":1").is_err() && node("a:0").is_err());
    }
}
