//! The URLs of a web seed's files.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use crate::metainfo::Metainfo;
use crate::types::{InfoHash, PieceIndex};

/// Everything except RFC 3986's unreserved characters.
const STRICT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// How a web seed is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WebSeedKind {
    /// A mirror of the files: one URL for each (BEP 19).
    Mirror,
    /// A script that returns parts of pieces (BEP 17).
    Script,
}

/// A web seed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WebSeedUrl {
    /// The URL as the torrent or the user gives it, without its fragment.
    url: String,
    /// How it is asked.
    pub kind: WebSeedKind,
    /// Whether the user named it, so that it may have a local address.
    pub is_from_user: bool,
}

/// The names of a torrent's files as its creator gave them, which are those on web seeds.
#[derive(Clone, Debug)]
pub struct WebSeedFiles {
    name: PathBuf,
    /// Below the name; empty if the torrent is a single file.
    files: Vec<PathBuf>,
    is_multi_file: bool,
}

impl WebSeedFiles {
    /// The names in a torrent.
    pub fn new(metainfo: &Metainfo) -> WebSeedFiles {
        let hidden = metainfo.hidden_name.as_ref().map(PathBuf::from);
        let name = metainfo.original_name.clone().or(hidden).unwrap_or_else(|| PathBuf::from(&metainfo.name));
        let below = |path: &Path| path.iter().skip(1).collect::<PathBuf>();
        let original =
            |file: &crate::metainfo::FileEntry| file.original().map_or_else(|| below(&file.path), PathBuf::from);
        let files = if metainfo.is_multi_file { metainfo.files.iter().map(original).collect() } else { Vec::new() };
        WebSeedFiles { name, files, is_multi_file: metainfo.is_multi_file }
    }
}

impl WebSeedUrl {
    /// A web seed at this URL; `None` if it is not http or https.
    pub fn new(url: &str, kind: WebSeedKind, is_from_user: bool) -> Option<WebSeedUrl> {
        let url = url.trim().split('#').next().unwrap_or_default();
        let scheme = url.split_once("://").filter(|(_, rest)| !rest.starts_with('/') && !rest.is_empty())?.0;
        let is_http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
        is_http.then(|| WebSeedUrl { url: url.to_owned(), kind, is_from_user })
    }

    /// The URL as given.
    pub fn as_str(&self) -> &str {
        &self.url
    }

    /// The URL of a file, by its index. The URL of a single file may end with a slash, and its name then follows; that of a
    /// multi-file torrent is always a folder, and the torrent's name follows (BEP 19).
    pub fn of_file(&self, files: &WebSeedFiles, file: usize) -> String {
        let mut url = self.url.clone();
        let has_path = url.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
        if !has_path || files.is_multi_file && !url.ends_with('/') {
            url.push('/');
        }
        if files.is_multi_file || url.ends_with('/') {
            append(&mut url, &files.name);
        }
        if let Some(path) = files.files.get(file) {
            url.push('/');
            append(&mut url, path);
        }
        url
    }

    /// The URL of `length` bytes of a piece from `begin` on (BEP 17).
    pub fn of_range(&self, info_hash: InfoHash, piece: PieceIndex, begin: u32, length: u32) -> String {
        let join = match self.url.split_once('?') {
            None => "?",
            Some((_, query)) if query.is_empty() || query.ends_with('&') => "",
            Some(_) => "&",
        };
        let (hash, end) = (percent_encode(&info_hash.0, STRICT), u64::from(begin) + u64::from(length.max(1)) - 1);
        format!("{}{join}info_hash={hash}&piece={}&ranges={begin}-{end}", self.url, piece.0)
    }
}

/// Appends a path, with each of its names encoded.
fn append(url: &mut String, path: &Path) {
    for (at, name) in path.iter().enumerate() {
        if at > 0 {
            url.push('/');
        }
        url.extend(percent_encode(name.as_bytes(), STRICT));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn single(name: &str) -> WebSeedFiles {
        WebSeedFiles { name: name.into(), files: Vec::new(), is_multi_file: false }
    }

    fn multi(name: &str, files: &[&str]) -> WebSeedFiles {
        WebSeedFiles { name: name.into(), files: files.iter().map(PathBuf::from).collect(), is_multi_file: true }
    }

    fn mirror(url: &str) -> WebSeedUrl {
        WebSeedUrl::new(url, WebSeedKind::Mirror, false).unwrap()
    }

    #[test]
    fn the_url_of_a_single_file_is_complete_unless_it_ends_with_a_slash() {
        let file = single("a b.iso");
        for (url, expected) in [
            ("http://h/x.iso", "http://h/x.iso"),
            ("http://h/x.iso#part", "http://h/x.iso"),
            (" http://h/get?f=1 ", "http://h/get?f=1"),
            ("http://h/x/", "http://h/x/a%20b.iso"),
            ("http://h", "http://h/a%20b.iso"),
            ("HTTPS://u:p@h/", "HTTPS://u:p@h/a%20b.iso"),
        ] {
            assert_eq!(mirror(url).of_file(&file, 0), expected);
        }
    }

    #[test]
    fn the_url_of_a_folder_is_followed_by_the_torrents_name_and_the_path() {
        let files = multi("T & U", &["a#1/ü?.txt", "100%/+.bin"]);
        for url in ["http://h/m", "http://h/m/"] {
            assert_eq!(mirror(url).of_file(&files, 0), "http://h/m/T%20%26%20U/a%231/%C3%BC%3F.txt");
            assert_eq!(mirror(url).of_file(&files, 1), "http://h/m/T%20%26%20U/100%25/%2B.bin");
        }
        assert_eq!(mirror("http://h").of_file(&multi("n", &["f"]), 0), "http://h/n/f");
    }

    #[test]
    fn a_folder_with_a_single_file_is_still_a_folder() {
        assert_eq!(mirror("http://h/m").of_file(&multi("n", &["f"]), 0), "http://h/m/n/f");
    }

    #[test]
    fn a_torrent_cannot_name_other_kinds_of_urls() {
        for url in ["ftp://h/", "/27/items/", "h/x", "", "http://", "http:///x", "file:///etc/passwd", "magnet:?x"] {
            assert_eq!(WebSeedUrl::new(url, WebSeedKind::Mirror, false), None, "{url}");
        }
    }

    #[test]
    fn a_script_is_told_the_piece_and_the_range() {
        let mut hash = [b'a'; 20];
        hash[..3].copy_from_slice(b"\x00 ~");
        let of = |url: &str| {
            let script = WebSeedUrl::new(url, WebSeedKind::Script, false).unwrap();
            script.of_range(InfoHash(hash), PieceIndex(3), 16384, 32768)
        };
        let query = "info_hash=%00%20~aaaaaaaaaaaaaaaaa&piece=3&ranges=16384-49151";
        assert_eq!(of("http://h/s.php"), format!("http://h/s.php?{query}"));
        assert_eq!(of("http://h/s.php?k=1"), format!("http://h/s.php?k=1&{query}"));
        assert_eq!(of("http://h/s.php?"), format!("http://h/s.php?{query}"));
    }

    /// The files on the server have the names of the creator, not the safe ones on our disk.
    #[test]
    fn the_names_are_those_in_the_torrent() {
        let torrent = b"d4:infod5:filesld6:lengthi1e4:pathl3:a:b4:c\xff.deee4:name2:.n12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee";
        let mut metainfo = Metainfo::from_bytes(torrent).unwrap();
        let url = |metainfo: &Metainfo| mirror("http://h/").of_file(&WebSeedFiles::new(metainfo), 0);
        assert_eq!(url(&metainfo), "http://h/.n/a%3Ab/c%FF.d");
        metainfo.replace_colons();
        assert_eq!(url(&metainfo), "http://h/.n/a%3Ab/c%FF.d");
        metainfo.restore_hidden_name();
        assert_eq!(url(&metainfo), "http://h/.n/a%3Ab/c%FF.d");
    }
}
