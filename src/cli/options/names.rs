//! What an argument of a download names: a file, a URL, a magnet link, an info-hash, or the folder.

use std::borrow::Cow;
use std::path::Path;

use percent_encoding::percent_decode_str;

use crate::cli::options::STDIN;
use crate::util::redact::redacted;
use btsync::Magnet;

/// Whether the name is an http(s) URL.
fn is_url(name: &Path) -> bool {
    let scheme = name.to_str().and_then(|name| name.trim().split_once("://")).map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)))
}

/// What a torrent's name is, by its form alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NameKind {
    /// A magnet link.
    Magnet,
    /// An http(s) URL.
    Url,
    /// Standard input.
    Stdin,
    /// The path of a file.
    Path,
}

impl NameKind {
    /// The kind of a name.
    pub fn of(name: &Path) -> NameKind {
        match name.to_str() {
            Some(text) if Magnet::is_link(text) => NameKind::Magnet,
            _ if is_url(name) => NameKind::Url,
            Some(STDIN) => NameKind::Stdin,
            _ => NameKind::Path,
        }
    }
}

/// Normalizes a name: a file:// URL becomes its path, and an info-hash becomes a magnet link unless a file has that name.
/// file:// URLs are accepted on the command line only: a list that someone else wrote must not choose among the user's
/// files.
pub(crate) fn normalize_name(name: &str) -> String {
    if let Some(path) = name.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("file://")).and(name.get(7..)) {
        let path = path.strip_prefix("localhost").unwrap_or(path);
        // A file URL with another host stays as it is and is rejected later.
        let decoded = percent_decode_str(path).decode_utf8().ok().filter(|_| path.starts_with('/'));
        return decoded.map_or_else(|| name.to_owned(), Cow::into_owned);
    }
    magnet_of_hash(name).unwrap_or_else(|| name.to_owned())
}

/// The magnet link of a bare info-hash, unless a file has that name.
pub(crate) fn magnet_of_hash(name: &str) -> Option<String> {
    let is_hash = name.len() == 40 && name.bytes().all(|b| b.is_ascii_hexdigit());
    (is_hash && !Path::new(name).exists()).then(|| format!("magnet:?xt=urn:btih:{name}"))
}

/// Whether a name means a torrent, whatever file it leads to.
pub(crate) fn is_torrent_by_name(name: &str) -> bool {
    NameKind::of(Path::new(name)) != NameKind::Path || has_suffix(name)
}

/// Whether the name ends in `.torrent`.
pub(crate) fn has_suffix(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|suffix| suffix.eq_ignore_ascii_case("torrent"))
}

/// What is wrong with a name that looks like a URL but has an unsupported scheme or no host.
pub(crate) fn unknown_scheme(name: &str) -> Option<String> {
    let is_foreign = !Magnet::is_link(name) && name.contains("://") && !is_url(Path::new(name));
    let name = name.trim();
    match name.split_once("://") {
        Some(_) if is_foreign => {
            let shown = redacted(name);
            Some(format!("'{shown}': only .torrent files, magnet links and http:// or https:// URLs are supported"))
        }
        Some((_, "")) if is_url(Path::new(name)) => Some(format!("'{name}': a URL without a host")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_kind() {
        let kinds = [
            ("magnet:?xt=urn:btih:0&tr=http://h/x", NameKind::Magnet),
            ("https://h/magnet:?x", NameKind::Url),
            (STDIN, NameKind::Stdin),
            ("-", NameKind::Path),
            ("x.torrent", NameKind::Path),
        ];
        for (name, kind) in kinds {
            assert_eq!(NameKind::of(Path::new(name)), kind, "{name}");
        }
    }

    #[test]
    fn urls_are_told_from_names() {
        for url in ["http://h/x.torrent", " HTTPS://h", "http://"] {
            assert!(is_url(Path::new(url)), "{url}");
        }
        for name in ["http:/h/x", "ftp://h/x", "x.torrent", "magnet:?xs=http://h/x", "httpx://h", ""] {
            assert!(!is_url(Path::new(name)), "{name}");
        }
    }

    #[test]
    fn file_urls_and_hashes_have_plain_names() {
        let hash = "0123456789abcdef0123456789ABCDEF01234567";
        let link = format!("magnet:?xt=urn:btih:{hash}");
        for (name, plain) in [
            ("file:///a%20b/x.torrent", "/a b/x.torrent"),
            ("FILE://localhost/x", "/x"),
            ("file://host/x", "file://host/x"),
            ("file:///%ff", "file:///%ff"),
            ("x.torrent", "x.torrent"),
            (hash, &*link),
            (&hash[1..], &hash[1..]),
            ("g123456789abcdef0123456789ABCDEF01234567", "g123456789abcdef0123456789ABCDEF01234567"),
        ] {
            assert_eq!(normalize_name(name), plain);
        }
    }
}
