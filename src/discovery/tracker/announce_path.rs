//! Prevents server-side request forgery through tracker URLs. Torrents are untrusted, and services on this machine and its
//! network often trust every client that reaches them. Therefore a tracker URL with a local address must have the path and
//! query of an announce. Pure.

use percent_encoding::percent_decode_str;

/// The most rounds of percent-decoding, as a proxy and an application may decode once each. A path that needs more counts as an
/// attack.
const MAX_DECODINGS: usize = 4;
/// The longest file extension accepted, as in `announce.php`.
const MAX_EXTENSION: usize = 8;

/// The length of a passkey in the path. Shorter segments may be the name of a script.
const PASSKEY_LENGTH: std::ops::RangeInclusive<usize> = 8..=64;
/// The names of query parameters: those of announces and scrapes (BEP 3, 7, 23, 48), and those that trackers use for passkeys.
const PARAMETERS: [&str; 28] = [
    "info_hash",
    "peer_id",
    "port",
    "uploaded",
    "downloaded",
    "left",
    "corrupt",
    "redundant",
    "compact",
    "no_peer_id",
    "numwant",
    "key",
    "event",
    "trackerid",
    "ip",
    "ipv4",
    "ipv6",
    "supportcrypto",
    "requirecrypto",
    "cryptoport",
    "passkey",
    "pass",
    "authkey",
    "torrent_pass",
    "auth",
    "pid",
    "uid",
    "user",
];

/// Whether a URL's path is `/announce` or `/scrape`, optionally with an extension and after one segment that looks like a passkey,
/// however a server reads the path. Other segments are refused, because servers run the script that a path begins with and pass
/// it the rest. Also false for every path that two servers could read differently: with dot segments, backslashes, parameters
/// (`;`) or separators in any encoding, however often encoded.
pub(crate) fn is_announce_path(path: &str) -> bool {
    let Some(decoded) = decoded(path) else { return false };
    let Some(relative) = decoded.strip_prefix('/') else { return false };
    let (passkey, last) = relative.split_once('/').map_or((None, relative), |(passkey, last)| (Some(passkey), last));
    let (name, extension) = last.split_once('.').map_or((last, None), |(name, extension)| (name, Some(extension)));
    let is_script = extension
        .is_none_or(|e| (1..=MAX_EXTENSION).contains(&e.len()) && e.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    passkey.is_none_or(is_passkey) && matches!(name, "announce" | "scrape") && is_script
}

/// Whether a path segment looks like a passkey rather than the name of a program: letters and digits, with at least one digit.
fn is_passkey(segment: &str) -> bool {
    PASSKEY_LENGTH.contains(&segment.len())
        && segment.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && segment.bytes().any(|byte| byte.is_ascii_digit())
}

/// Whether every parameter of a URL's query is one of an announce. Many servers pass all paths to one script, which acts on the
/// query.
pub(crate) fn is_announce_query(query: &str) -> bool {
    let is_known = |parameter: &str| PARAMETERS.contains(&parameter.split('=').next().unwrap_or_default());
    // Some servers also split at `;`.
    query.split(['&', ';']).filter(|parameter| !parameter.is_empty()).all(is_known)
}

/// The path without percent-encoding; `None` if the encoding is malformed or nested too often, or the result is not UTF-8 (e.g.
/// an overlong `/`).
fn decoded(path: &str) -> Option<String> {
    let mut path = path.to_owned();
    for _ in 0..MAX_DECODINGS {
        if !path.contains('%') {
            return Some(path);
        }
        let is_sound = path.split('%').skip(1).all(|after| {
            let hex = after.as_bytes().get(..2).unwrap_or_default();
            hex.len() == 2 && hex.iter().all(u8::is_ascii_hexdigit)
        });
        let next = percent_decode_str(&path).decode_utf8().ok().filter(|_| is_sound)?;
        path = next.into_owned();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announces_are_recognised() {
        for path in [
            "/announce",
            "/scrape",
            "/announce.php",
            "/scrape.PHP5",
            "/0123456789abcdef/announce",
            "/0123abcd/announce.php",
            "/%61nnounce",
            "/announce%2ephp",
            "/0123%61bcd/announce",
        ] {
            assert!(is_announce_path(path), "{path}");
        }
    }

    #[test]
    fn paths_that_could_be_another_request_are_refused() {
        let dots = ["..", ".", "%2e%2e", "%2E.", ".%2e", "%252e%252e", "%25252e.", "..;", "..;x=1", ".;", "%2e%2e%3b"];
        for dot in dots {
            for path in [format!("/announce/{dot}/admin"), format!("/x/{dot}/announce"), format!("/{dot}/announce")] {
                assert!(!is_announce_path(&path), "{path}");
            }
            for slash in ["%2f", "%5c", "\\", "%255C", "%252f"] {
                let path = format!("/announce{slash}{dot}{slash}admin/announce");
                assert!(!is_announce_path(&path), "{path}");
            }
        }
        for path in [
            "",
            "announce",
            "/",
            "/admin",
            "/announce/",
            "/announce/x",
            "/announcements",
            "/api/announcements/delete",
            "/announcements/announcer",
            "/x/scrape/../../apply.cgi",
            "/admin/reboot;announce",
            "/admin/reboot;/announce",
            "/announce;x",
            "/admin%3b/announce",
            "/admin%3F/announce",
            "/admin%23/announce",
            "/admin%00/announce",
            "/admin%0d%0a/announce",
            "/admin\\announce",
            "/announce.",
            "/announce.php.bak",
            "/announce.p%2fx",
            "/announce.verylongone",
            "/.announce",
            "/x.announce",
            "/%c0%ae%c0%ae/announce",
            "/%e0%80%af/announce",
            "/%u002e%u002e/announce",
            "/100%/announce",
            "/%2/announce",
            "/%2525252525252565/announce",
            "/Announce",
        ] {
            assert!(!is_announce_path(path), "{path}");
        }
    }

    /// A server that runs scripts takes the first segment that is one, and passes it the rest of the path.
    #[test]
    fn paths_that_could_be_the_argument_of_a_script_are_refused() {
        for path in [
            "/cgi-bin/reboot.py/announce",
            "/reboot.py/announce",
            "/reboot/announce",
            "/factoryreset/announce",
            "/index.php/announce",
            "/a/0123456789abcdef/announce",
            "/0123456789abcdef/x/announce",
            "/0123-4567-89ab/announce",
            "/a.b/c..d/announce",
            "//announce",
            "//0123456789abcdef/announce",
            "/x%20y/announce",
            "/reboot%2e0py/announce",
            "/x1/announce",
            "/%C3%BC12345678/announce",
        ] {
            assert!(!is_announce_path(path), "{path}");
        }
    }

    #[test]
    fn a_query_has_the_parameters_of_an_announce_only() {
        for query in
            ["", "passkey=0123abcd", "info_hash=%00%26&peer_id=-BY&port=1&left=0&event=started&", "uid=1&pid=2"]
        {
            assert!(is_announce_query(query), "{query}");
        }
        for query in ["action=factory_reset", "passkey=1&do=reboot", "reboot", "=x", "pass%6bey=1", "port=1;do=reboot"]
        {
            assert!(!is_announce_query(query), "{query}");
        }
    }
}
