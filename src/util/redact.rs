//! Removes secrets from tracker URLs. A private tracker identifies users by a passkey, which may be anywhere in the URL and look
//! like anything; whoever has it can download in the owner's name. Therefore everything displayed, logged or passed to programs
//! contains only scheme, host and port. Pure.

use percent_encoding::percent_decode_str;

use crate::util::cold_sort;
use crate::util::printable_text::printable;

/// Replaces a removed part.
const LEFT_OUT: &str = "…";
/// Follows a host if the rest of the URL was removed.
const CUT: &str = "/…";
/// The longest scheme recognized.
const MAX_SCHEME: usize = 16;
/// Shorter parts of a URL are not treated as secrets, because they occur in any text by chance.
const SHORTEST_SECRET: usize = 4;
/// Common parts of URLs that are not secrets, without extensions.
const COMMON: [&str; 6] = ["announce", "scrape", "tracker", "passkey", "torrent", "download"];

/// The URL to display: scheme, host and port; `…` if it has no scheme.
pub fn public_name(url: &str) -> String {
    let Some((scheme, rest)) = url.trim().split_once("://").filter(|(scheme, _)| is_scheme(scheme)) else {
        return LEFT_OUT.to_owned(); // without a scheme, the start of the host is unknown
    };
    printable(&format!("{scheme}://{}", host_and_port(rest).unwrap_or(LEFT_OUT)))
}

/// The text with every URL in the form of [`public_name`], and `…` for the removed rest. A magnet link loses everything after
/// `magnet:?`, because it contains trackers.
pub fn redacted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split_inclusive(char::is_whitespace) {
        let (word, blank) = word.split_at(word.trim_end().len());
        match word.to_ascii_lowercase().find("magnet:?") {
            Some(at) => {
                out.push_str(&redacted_word(word.get(..at).unwrap_or_default()));
                out.push_str("magnet:?");
                out.push_str(LEFT_OUT);
            }
            None => out.push_str(&redacted_word(word)),
        }
        out.push_str(blank);
    }
    out
}

/// Redacts a word. Commas may join several URLs; no other character ends a URL, because a path may contain it.
fn redacted_word(word: &str) -> String {
    let mut out = String::new();
    let mut rest = word;
    while let Some(at) = rest.find("://") {
        let (before, after) = (rest.get(..at).unwrap_or_default(), rest.get(at + 3..).unwrap_or_default());
        let scheme = before.rfind(|c: char| !is_scheme_char(c)).map_or(0, |at| at + 1);
        let scheme = before.char_indices().map(|(at, _)| at).find(|&at| at >= scheme).unwrap_or(before.len());
        let end = next_url(after).unwrap_or(after.len());
        let url = rest.get(scheme..at + 3 + end).unwrap_or_default();
        out.push_str(before.get(..scheme).unwrap_or_default());
        rest = after.get(end..).unwrap_or_default();
        if after.get(..end).unwrap_or_default().chars().all(is_punctuation) {
            out.push_str(url); // only a scheme, hence no secret
            continue;
        }
        let name = public_name(url);
        out.push_str(&name);
        let beyond = url.strip_prefix(name.as_str()).unwrap_or(url);
        let is_told = beyond.strip_prefix(CUT).unwrap_or(beyond).chars().all(is_punctuation);
        match (name == LEFT_OUT, is_told) {
            (true, _) => {}
            (false, true) => out.push_str(beyond),
            (false, false) => out.push_str(CUT),
        }
    }
    out + rest
}

/// Whether the character may follow a URL in a sentence.
fn is_punctuation(c: char) -> bool {
    matches!(c, '\'' | '"' | ')' | ']' | '>' | ':' | ',' | '.' | ';')
}

/// The position of the comma before the next URL in a list.
fn next_url(rest: &str) -> Option<usize> {
    rest.match_indices(',').map(|(at, _)| at).find(|&at| {
        let next = rest.get(at + 1..).unwrap_or_default();
        next.trim_start().split_once("://").is_some_and(|(scheme, _)| is_scheme(scheme))
    })
}

/// A server's text without the secrets of `url`, because servers repeat the URL of the request.
pub fn without_secrets_of(url: &str, words: &str) -> String {
    let mut words = words.to_owned();
    for secret in secrets(url) {
        words = words.replace(&secret, LEFT_OUT);
    }
    redacted(&words)
}

/// The parts of a URL that may be secret, the longest first, each both as written and decoded.
fn secrets(url: &str) -> Vec<String> {
    let rest = url.trim().split_once("://").map_or(url, |(_, rest)| rest);
    let (authority, beyond) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
    let (path, query) = beyond.split_once('?').unwrap_or((beyond, ""));
    let parts = [user, path, query]
        .into_iter()
        .chain(path.split('/'))
        .chain(user.split(':'))
        .chain(query.split(['&', ';', '=']));
    let mut secrets = Vec::new();
    for part in parts {
        let name = part.split('.').next().unwrap_or_default();
        if part.len() >= SHORTEST_SECRET && !COMMON.contains(&name.trim_matches('/')) {
            secrets.push(part.to_owned());
            secrets.push(percent_decode_str(part).decode_utf8_lossy().into_owned());
        }
    }
    cold_sort::sort_by(&mut secrets, |one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
    secrets.dedup();
    secrets
}

fn is_scheme_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')
}

fn is_scheme(scheme: &str) -> bool {
    (1..=MAX_SCHEME).contains(&scheme.len()) && scheme.chars().all(is_scheme_char)
}

/// The host and port at the start of `rest`, which follows the scheme; `None` without a host. Stops at the first character that
/// neither can contain, because it may belong to a password.
fn host_and_port(rest: &str) -> Option<&str> {
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let is_host = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    let host = if authority.starts_with('[') {
        authority.find(']').map_or(0, |end| end + 1)
    } else {
        authority.find(|c| !is_host(c)).unwrap_or(authority.len())
    };
    let after = authority.get(host..).unwrap_or_default();
    let digits = after.strip_prefix(':').map_or(0, |port| port.bytes().take_while(u8::is_ascii_digit).count());
    // A port has at most five digits; more digits are something else.
    let end = if (1..=5).contains(&digits) { host + 1 + digits } else { host };
    authority.get(..end).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_scheme_host_and_port_are_shown() {
        let pairs = [
            ("http://t.example/announce", "http://t.example"),
            ("https://me:pw@t.example:8/0123/announce.php?passkey=1#f", "https://t.example:8"),
            ("udp://t.example:6969", "udp://t.example:6969"),
            (" UDP://[2001:db8::1]:7/key ", "UDP://[2001:db8::1]:7"),
            ("http://t?key", "http://t"),
            ("http://t#key", "http://t"),
            ("http://t\\key", "http://t"),
            ("http://t;key/x", "http://t"),
            ("http://me:secret/x@t/", "http://me"),
            ("http://a@b:secret@t:1/", "http://t:1"),
            ("http://t:123456/", "http://t"),
            ("http://", "http://…"),
            ("http:///key", "http://…"),
            ("key", "…"),
            ("t.example/key/announce", "…"),
            ("magnet:?tr=http://t/key", "…"),
            ("http://bücher.example/key", "http://bücher.example"),
        ];
        for (url, shown) in pairs {
            assert_eq!(public_name(url), shown, "{url}");
        }
    }

    #[test]
    fn urls_within_a_text_lose_their_secrets() {
        let pairs = [
            ("http://a:secret@b/c:d@e", "http://b/…"),
            ("http://a@b/,udp://x:p@q@h:1", "http://b/…,udp://h:1/…"),
            ("http://h/a,b,c", "http://h/…"),
            ("curl http://u:p@h now", "curl http://h/… now"),
            ("'http://h/key': no", "'http://h/… no"),
            ("(http://h:80)", "(http://h:80)"),
            ("'http://h': no", "'http://h': no"),
            ("'http://': no", "'http://': no"),
            ("http:// or https:// URLs", "http:// or https:// URLs"),
            ("'http://h/…': no", "'http://h/…': no"),
            ("'http://h/…/key': no", "'http://h/… no"),
            ("http://h:80", "http://h:80"),
            ("a:b@c /x/y", "a:b@c /x/y"),
            ("'magnet:?xt=urn:btih:x&tr=http%3A%2F%2Fh%2Fkey' is odd", "'magnet:?… is odd"),
            ("×ftp://h/x", "×ftp://h/…"),
            ("://x", "…"),
        ];
        for (text, shown) in pairs {
            assert_eq!(redacted(text), shown, "{text}");
        }
    }

    #[test]
    fn secrets_that_a_server_repeats_are_left_out() {
        let url = "https://me:pass%20word@t/a1b2/announce.php?passkey=hunter2&x=tracker";
        let said =
            "unknown a1b2 of me with pass word, passkey=hunter2, hunter2 at https://t/a1b2/announce.php: tracker down";
        let shown = without_secrets_of(url, said);
        for secret in ["a1b2", "pass word", "hunter2"] {
            assert!(!shown.contains(secret), "{secret}: {shown}");
        }
        assert!(shown.contains("unknown …") && shown.ends_with("tracker down"), "{shown}");
        assert_eq!(without_secrets_of("http://t/announce", "announce refused"), "announce refused");
        let moved = without_secrets_of("http://t/announce", "moved to http://me@other/another-key/announce");
        assert_eq!(moved, "moved to http://other/…");
    }
}
