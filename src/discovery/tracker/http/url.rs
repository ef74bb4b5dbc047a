//! Builds the URLs of announces, scrapes and redirects.

use std::fmt::Write;
use std::net::IpAddr;

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_encode, utf8_percent_encode};
use ureq::http::Uri;

use crate::discovery::tracker::http::{Announce, AnnounceEvent, TrackerError};
use crate::types::InfoHash;
use crate::util::printable_text::printable;

/// Everything except RFC 3986's unreserved characters.
const STRICT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Characters that occur in URLs as written by people or servers, but are not allowed in a request.
pub(crate) const UNSENDABLE: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>');

/// The tracker's URL with the announce's parameters appended to any existing query.
pub(crate) fn announce_url(url: &str, a: &Announce) -> Result<String, TrackerError> {
    let base = &escaped(url)?;
    let join = match base.split_once('?') {
        None => "?",
        Some((_, query)) if query.is_empty() || query.ends_with('&') => "",
        Some(_) => "&",
    };
    let (hash, id) = (percent_encode(&a.info_hash.0, STRICT), percent_encode(&a.peer_id.0, STRICT));
    // A stopping torrent needs no peers.
    let numwant = if a.event == Some(AnnounceEvent::Stopped) { 0 } else { a.numwant };
    let mut full = format!(
        "{base}{join}info_hash={hash}&peer_id={id}&port={}&uploaded={}&downloaded={}&left={}&compact=1&numwant={numwant}&key={:08x}",
        a.port, a.uploaded, a.downloaded, a.left, a.key
    );
    if let Some(event) = a.event {
        full.push_str("&event=");
        full.push_str(event.as_str());
    }
    if let Some(tracker_id) = a.tracker_id {
        // Writing to a `String` cannot fail.
        let _ = write!(full, "&trackerid={}", percent_encode(tracker_id, STRICT));
    }
    Ok(full)
}

/// Appends a parameter to a URL that already has a query.
pub(crate) fn add_parameter(url: &mut String, name: &str, value: &str) {
    // Writing to a `String` cannot fail.
    let _ = write!(url, "&{name}={}", percent_encode(value.as_bytes(), STRICT));
}

/// The scrape URL for an announce URL (BEP 48), whose last path segment must begin with `announce`.
pub(crate) fn scrape_url(url: &str, swarms: &[InfoHash]) -> Result<String, TrackerError> {
    let base = &escaped(url)?;
    let (place, query) = base.split_once('?').unwrap_or((base, ""));
    // Without a path, the last slash is the one before the host.
    let (folder, script) = place.rsplit_once('/').filter(|_| !path(place).is_empty()).ok_or(TrackerError::Url)?;
    let script = script.strip_prefix("announce").ok_or(TrackerError::Url)?;
    let hashes = swarms.iter().map(|swarm| format!("info_hash={}", percent_encode(&swarm.0, STRICT)));
    let parameters: Vec<String> = Some(query.to_owned()).filter(|q| !q.is_empty()).into_iter().chain(hashes).collect();
    Ok(format!("{folder}/scrape{script}?{}", parameters.join("&")))
}

/// A tracker's URL without its fragment, and with invalid characters escaped, because people paste URLs as a browser displays
/// them.
fn escaped(url: &str) -> Result<String, TrackerError> {
    let url = url.trim();
    check_scheme(url)?;
    Ok(utf8_percent_encode(url.split('#').next().unwrap_or_default(), UNSENDABLE).to_string())
}

/// Converts an HTTP date such as `Sun, 06 Nov 1994 08:49:37 GMT` to seconds since 1970.
pub(crate) fn http_date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_once(", ")?.1.split([' ', ':']);
    let mut number = |digits: usize| words.next().filter(|word| word.len() == digits).map(str::to_owned);
    let (day, month, year) = (number(2)?, number(3)?, number(4)?);
    let (hour, minute, second) = (number(2)?, number(2)?, number(2)?);
    let read = |text: String| text.parse::<i64>().ok().filter(|&number| number >= 0);
    let (day, mut year) = (read(day)?, read(year)?);
    let month = i64::try_from(MONTHS.iter().position(|name| *name == month)?).ok()?;
    // Count years from March, so that a leap day is the last day of a year.
    let shifted = (month + 10) % 12;
    year -= i64::from(month < 2);
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * shifted + 2) / 5 + day - 1 - 719_468;
    Some(((days * 24 + read(hour)?) * 60 + read(minute)?) * 60 + read(second)?)
}

/// Resolves `location`, absolute or relative, against `base` (RFC 3986).
pub(crate) fn join(base: &str, location: &str) -> Result<String, TrackerError> {
    let location = location.trim().split('#').next().unwrap_or_default();
    // Servers send spaces and raw UTF-8 here, which are not allowed in a request.
    let location = &*utf8_percent_encode(location, UNSENDABLE).to_string();
    if location.is_empty() {
        return Err(TrackerError::Redirect("it has no target"));
    }
    let scheme_end = location.find(':').unwrap_or(usize::MAX);
    let is_absolute = scheme_end < location.find(['/', '?']).unwrap_or(usize::MAX);
    let (scheme, _) = base.split_once("://").ok_or(TrackerError::Url)?;
    let joined = if is_absolute {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else {
        let root = format!("{scheme}://{}", authority(base));
        if location.starts_with('/') {
            format!("{root}{location}")
        } else if location.starts_with('?') {
            format!("{root}{}{location}", path(base))
        } else {
            let folder = path(base).rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{root}{folder}/{location}")
        }
    };
    check_scheme(&joined)?;
    Ok(joined)
}

/// Checks that the scheme is http or https and that host and port are valid.
pub(crate) fn check_scheme(url: &str) -> Result<(), TrackerError> {
    let scheme = url.split(':').next().unwrap_or_default();
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        let shown: String = scheme.chars().take(20).collect();
        return Err(TrackerError::Scheme(printable(&shown)));
    }
    let (_, port) = split_port(authority(url));
    let is_port = |port: &str| port.is_empty() || port.parse::<u16>().is_ok_and(|port| port != 0);
    if host(url).is_empty() || !port.is_none_or(is_port) { Err(TrackerError::Url) } else { Ok(()) }
}

/// The part of a URL between scheme and path.
pub(crate) fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

/// The path of a URL, without the query.
pub(crate) fn path(url: &str) -> &str {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    rest.find('/').and_then(|at| rest.get(at..)).unwrap_or_default()
}

/// The query of a URL, empty if there is none.
pub(crate) fn query(url: &str) -> &str {
    url.split('#').next().and_then(|url| url.split_once('?')).map_or("", |(_, query)| query)
}

/// The host of a URL, without credentials and port.
pub(crate) fn host(url: &str) -> &str {
    let authority = authority(url);
    split_port(authority).0
}

/// The address that a URL has in place of a host name.
pub(crate) fn literal_ip(url: &str) -> Option<IpAddr> {
    host(url).trim_matches(['[', ']']).parse().ok()
}

/// The host and port of a URL, without brackets.
pub(crate) fn host_and_port(uri: &Uri) -> Option<(&str, u16)> {
    let port = uri.port_u16().or(match uri.scheme_str()? {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    })?;
    Some((uri.host()?.trim_matches(['[', ']']), port))
}

/// Splits an authority into host and port, without credentials.
pub(crate) fn split_port(authority: &str) -> (&str, Option<&str>) {
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    match host.rsplit_once(':') {
        Some((name, port)) if !host.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::PeerId;

    #[test]
    fn host_and_port_are_found_in_any_url() {
        let parts = |url: &str| host_and_port(&url.parse().unwrap()).map(|(host, port)| format!("{host} {port}"));
        assert_eq!(parts("http://192.0.2.1/announce").as_deref(), Some("192.0.2.1 80"));
        assert_eq!(parts("https://[2001:db8::1]:6969/announce").as_deref(), Some("2001:db8::1 6969"));
        assert_eq!(parts("https://tracker.example/announce").as_deref(), Some("tracker.example 443"));
        assert_eq!(parts("ftp://tracker.example/"), None);
    }

    fn announce() -> Announce<'static> {
        let mut hash = [b'a'; 20];
        hash[..6].copy_from_slice(b"\x00~ +/\xff");
        Announce {
            info_hash: InfoHash(hash),
            peer_id: PeerId(*b"-BY0001-0123456789ab"),
            port: 6881,
            uploaded: 1,
            downloaded: 2,
            left: 3,
            key: 0xab,
            numwant: 50,
            event: None,
            tracker_id: None,
        }
    }

    #[test]
    fn the_query_is_encoded_strictly_and_joined_to_an_existing_one() {
        let plain = announce_url("http://t/announce", &announce()).unwrap();
        assert_eq!(
            plain,
            "http://t/announce?info_hash=%00~%20%2B%2F%FFaaaaaaaaaaaaaa&peer_id=-BY0001-0123456789ab&port=6881&uploaded=1\
             &downloaded=2&left=3&compact=1&numwant=50&key=000000ab"
        );
        assert!(announce_url("http://t/a?k=1#x", &announce()).unwrap().starts_with("http://t/a?k=1&info_hash="));
        assert!(announce_url("http://t/a?", &announce()).unwrap().starts_with("http://t/a?info_hash="));
        let id = Announce { tracker_id: Some(b"a&b"), event: Some(AnnounceEvent::Stopped), ..announce() };
        let stopped = announce_url("http://t/a", &id).unwrap();
        assert!(stopped.ends_with("&event=stopped&trackerid=a%26b") && stopped.contains("numwant=0&"), "{stopped}");
        let paused = Announce { event: Some(AnnounceEvent::Paused), ..announce() };
        let paused = announce_url("http://t/a", &paused).unwrap();
        assert!(paused.ends_with("&event=paused") && paused.contains("numwant=50&"), "{paused}");
    }

    #[test]
    fn a_scrape_is_asked_beside_the_announce() {
        let swarms = [InfoHash([b'a'; 20]), InfoHash([b'b'; 20])];
        let (a, b) = ("a".repeat(20), "b".repeat(20));
        let scrape = |url| scrape_url(url, &swarms).ok();
        assert_eq!(scrape("http://t/x/announce"), Some(format!("http://t/x/scrape?info_hash={a}&info_hash={b}")));
        assert_eq!(
            scrape("http://t/announce.php?k=1#f"),
            Some(format!("http://t/scrape.php?k=1&info_hash={a}&info_hash={b}"))
        );
        for none in ["http://t/a", "http://announce", "http://t/announce/x", "udp://t/announce", "http://t/?announce"] {
            assert_eq!(scrape(none), None, "{none}");
        }
    }

    #[test]
    fn characters_that_no_request_may_contain_are_escaped() {
        let asked = |url| announce_url(url, &announce()).map(|url| url.split("info_hash").next().unwrap().to_owned());
        assert_eq!(asked("http://t/ü b/announce?k=é\"").unwrap(), "http://t/%C3%BC%20b/announce?k=%C3%A9%22&");
        assert_eq!(asked("http://t/%C3%BC/a?x=%20+").unwrap(), "http://t/%C3%BC/a?x=%20+&", "once");
        assert_eq!(asked("http://t/日本/announce#ü").unwrap(), "http://t/%E6%97%A5%E6%9C%AC/announce?");
        for port in ["http://t:99999/announce", "http://t:0/announce", "http://t:x/announce", "http://:80/announce"] {
            assert_eq!(asked(port), Err(TrackerError::Url), "{port}");
        }
        assert!(
            asked("http://t:/announce").is_ok()
                && asked("http://[::1]:80/a").is_ok()
                && asked("http://[::1]/a").is_ok()
        );
    }

    #[test]
    fn dates_are_those_of_http() {
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(http_date("Thu, 29 Feb 2024 23:59:59 GMT"), Some(1_709_251_199));
        for bad in
            ["", "5", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun, 6 Nov 1994 08:49:37 GMT", "Sun, 06 Foo 1994 08:49:37 GMT"]
        {
            assert_eq!(http_date(bad), None, "{bad}");
        }
    }

    #[test]
    fn other_schemes_are_refused() {
        for url in ["udp://t:1/announce", "file:///etc/passwd", "announce", "", "ftp://t/announce"] {
            assert!(matches!(announce_url(url, &announce()), Err(TrackerError::Scheme(_))), "{url}");
        }
        assert_eq!(announce_url("http:///announce", &announce()), Err(TrackerError::Url));
    }

    #[test]
    fn redirects_are_joined() {
        let to = |location| join("http://h:1/a/b?q", location);
        assert_eq!(to("https://x/y").unwrap(), "https://x/y");
        assert_eq!(to("//x/y").unwrap(), "http://x/y");
        assert_eq!(to("/y?z=a:b").unwrap(), "http://h:1/y?z=a:b");
        assert_eq!(to("y").unwrap(), "http://h:1/a/y");
        assert_eq!(to("?y").unwrap(), "http://h:1/a/b?y");
        for bad in ["file:///etc/passwd", "ftp://x/", "gopher:x", "data:,x"] {
            assert!(matches!(to(bad), Err(TrackerError::Scheme(_))), "{bad}");
        }
        assert!(to("").is_err() && to("http:x").is_err());
    }

    #[test]
    fn the_host_stands_between_credentials_and_port() {
        assert_eq!(host("http://u:p@[::1]:80/"), "[::1]");
        assert_eq!(host("http://[::1]/"), "[::1]");
        assert_eq!(host("http://h:80/"), "h");
    }
}
