//! Prevents server-side request forgery through tracker URLs. Torrents are untrusted, and services on this machine and its
//! network often trust every client that reaches them. Therefore a tracker URL with a local address must have the path of an
//! announce. Pure.

use percent_encoding::percent_decode_str;

/// The most rounds of percent-decoding, as a proxy and an application may decode once each. A path that needs more counts as an
/// attack.
const MAX_DECODINGS: usize = 4;
/// The longest file extension accepted, as in `announce.php`.
const MAX_EXTENSION: usize = 8;

/// Whether the last segment of a URL's path is `announce` or `scrape`, optionally with an extension, however a server reads the
/// path. False for every path that two servers could read differently: with dot segments, backslashes, parameters (`;`) or
/// separators in any encoding, however often encoded.
pub(crate) fn is_announce_path(path: &str) -> bool {
    let Some(decoded) = decoded(path) else { return false };
    // `;` begins the parameters of a segment. Some servers strip them and read `..;x` as `..`.
    let is_ambiguous = |c: char| c.is_control() || matches!(c, '\\' | ';' | '?' | '#');
    if decoded.contains(is_ambiguous) || decoded.split('/').any(|segment| matches!(segment, "." | "..")) {
        return false;
    }
    let last = decoded.rsplit('/').next().unwrap_or_default();
    let (name, extension) = last.split_once('.').map_or((last, None), |(name, extension)| (name, Some(extension)));
    let is_script = extension
        .is_none_or(|e| (1..=MAX_EXTENSION).contains(&e.len()) && e.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    decoded.starts_with('/') && matches!(name, "announce" | "scrape") && is_script
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
            "/a.b/c..d/announce",
            "//announce",
            "/x%20y/announce",
            "/%61nnounce",
            "/announce%2ephp",
            "/%C3%BC/announce",
        ] {
            assert!(is_announce_path(path), "{path}");
        }
    }

    #[test]
    fn whatever_could_be_another_request_is_refused() {
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
}
