//! Tracker URLs: the announce query, and where a redirect leads.

use std::fmt::Write;

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_encode, utf8_percent_encode};

use super::{Announce, AnnounceEvent, TrackerError};
use crate::metainfo::paths::printable;
use crate::types::InfoHash;

/// All but RFC 3986's unreserved characters.
const STRICT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// What a URL may hold that people or servers write, and a request may not.
pub(super) const UNSENDABLE: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>');

/// The tracker's URL with the announce's parameters added to whatever query it has.
pub(super) fn announce_url(url: &str, a: &Announce) -> Result<String, TrackerError> {
    let url = url.trim();
    check_scheme(url)?;
    let base = url.split('#').next().unwrap_or_default();
    let join = match base.split_once('?') {
        None => "?",
        Some((_, query)) if query.is_empty() || query.ends_with('&') => "",
        Some(_) => "&",
    };
    let (hash, id) = (percent_encode(&a.info_hash.0, STRICT), percent_encode(&a.peer_id.0, STRICT));
    // One who leaves wants no peers.
    let numwant = if a.event == Some(AnnounceEvent::Stopped) { 0 } else { a.numwant };
    let mut full = format!(
        "{base}{join}info_hash={hash}&peer_id={id}&port={}&uploaded={}&downloaded={}&left={}&compact=1&numwant={numwant}&key={:08x}",
        a.port, a.uploaded, a.downloaded, a.left, a.key
    );
    if let Some(event) = a.event {
        full.push_str("&event=");
        full.push_str(event.word());
    }
    if let Some(tracker_id) = a.tracker_id {
        // Writing to a String does not fail.
        let _ = write!(full, "&trackerid={}", percent_encode(tracker_id, STRICT));
    }
    Ok(full)
}

/// The scrape URL that belongs to an announce URL (BEP 48): its last path component begins with `announce`.
pub(super) fn scrape_url(url: &str, swarms: &[InfoHash]) -> Result<String, TrackerError> {
    let url = url.trim();
    check_scheme(url)?;
    let base = url.split('#').next().unwrap_or_default();
    let (place, query) = base.split_once('?').unwrap_or((base, ""));
    // Without a path there is only the host behind the last slash.
    let (folder, script) = place.rsplit_once('/').filter(|_| !path(place).is_empty()).ok_or(TrackerError::Url)?;
    let script = script.strip_prefix("announce").ok_or(TrackerError::Url)?;
    let hashes = swarms.iter().map(|swarm| format!("info_hash={}", percent_encode(&swarm.0, STRICT)));
    let parameters: Vec<String> = Some(query.to_owned()).filter(|q| !q.is_empty()).into_iter().chain(hashes).collect();
    Ok(format!("{folder}/scrape{script}?{}", parameters.join("&")))
}

/// Where `location`, absolute or relative (RFC 3986), leads from `base`.
pub(super) fn join(base: &str, location: &str) -> Result<String, TrackerError> {
    let location = location.trim().split('#').next().unwrap_or_default();
    // Servers write blanks and raw UTF-8 there, which no request may hold.
    let location = &*utf8_percent_encode(location, UNSENDABLE).to_string();
    if location.is_empty() {
        return Err(TrackerError::Redirect("it does not say where to"));
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

/// Only http and https are ever asked.
pub(super) fn check_scheme(url: &str) -> Result<(), TrackerError> {
    let scheme = url.split(':').next().unwrap_or_default();
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        let shown: String = scheme.chars().take(20).collect();
        return Err(TrackerError::Scheme(printable(&shown)));
    }
    if authority(url).is_empty() { Err(TrackerError::Url) } else { Ok(()) }
}

/// What stands after the scheme, up to the path.
fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

/// The path, without query.
pub(super) fn path(url: &str) -> &str {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    rest.find('/').and_then(|at| rest.get(at..)).unwrap_or_default()
}

/// The host, without credentials and port.
pub(super) fn host(url: &str) -> &str {
    let authority = authority(url);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    match host.rfind(':') {
        Some(colon) if !host.ends_with(']') => host.get(..colon).unwrap_or(host),
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::PeerId;

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
    fn the_query_is_encoded_strictly_and_joined_to_what_is_there() {
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
