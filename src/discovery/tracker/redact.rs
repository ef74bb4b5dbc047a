//! Tracker URLs without their secrets. A private tracker knows its users by a passkey, which may stand anywhere in the URL and look
//! like anything; whoever has it downloads in its owner's name. Whatever is shown, logged or told to programs names scheme, host
//! and port only. Pure.

use percent_encoding::percent_decode_str;

use crate::util::printable_text::printable;

/// What stands for a part that is left out.
const LEFT_OUT: &str = "…";
/// What follows a host where more stood.
const CUT: &str = "/…";
/// The longest scheme that is shown.
const MAX_SCHEME: usize = 16;
/// Shorter parts of a URL are no secrets: they would be found by chance in any text.
const SHORTEST_SECRET: usize = 4;
/// Parts of URLs that are no secrets, without their extensions.
const COMMON: [&str; 6] = ["announce", "scrape", "tracker", "passkey", "torrent", "download"];

/// A URL as it may be shown: scheme, host and port; `…` for one without a scheme.
pub fn public_name(url: &str) -> String {
    let Some((scheme, rest)) = url.trim().split_once("://").filter(|(scheme, _)| is_scheme(scheme)) else {
        return LEFT_OUT.to_owned(); // it is not known where its host begins
    };
    printable(&format!("{scheme}://{}", host_and_port(rest).unwrap_or(LEFT_OUT)))
}

/// A text with all URLs in it in the form of [`public_name`], and `…` where more stood. A magnet link loses all but its name:
/// its trackers stand in it.
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

/// A word, in which URLs may be joined by commas. Nothing else ends a URL: a path may hold any other character.
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
            out.push_str(url); // a scheme alone: there is no secret in it
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

/// What may follow a URL in a sentence.
fn is_punctuation(c: char) -> bool {
    matches!(c, '\'' | '"' | ')' | ']' | '>' | ':' | ',' | '.' | ';')
}

/// Where in a list of URLs the comma before the next one stands.
fn next_url(rest: &str) -> Option<usize> {
    rest.match_indices(',').map(|(at, _)| at).find(|&at| {
        let next = rest.get(at + 1..).unwrap_or_default();
        next.trim_start().split_once("://").is_some_and(|(scheme, _)| is_scheme(scheme))
    })
}

/// A server's text without the parts of `url` that may be secret: servers repeat the URL of the request.
pub fn without_secrets_of(url: &str, words: &str) -> String {
    let mut words = words.to_owned();
    for secret in secrets(url) {
        words = words.replace(&secret, LEFT_OUT);
    }
    redacted(&words)
}

/// Parts of a URL that may be secret, the longest first, each as it stands and decoded.
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
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets.dedup();
    secrets
}

fn is_scheme_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')
}

fn is_scheme(scheme: &str) -> bool {
    (1..=MAX_SCHEME).contains(&scheme.len()) && scheme.chars().all(is_scheme_char)
}

/// Host and port of what follows the scheme; `None` where there is no host. What cannot be part of either is left out, as it may
/// be the rest of a password.
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
    // A port has five digits at most; more are something else.
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
    fn what_a_server_repeats_is_left_out() {
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
