//! Resolves which torrents to download and where to: from the names on the command line, of which the last may be the
//! folder, and from the list of `--input-file`.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::cli::exit::{Exit, Failure};
use crate::cli::options::names::{NameKind, has_suffix, magnet_of_hash, unknown_scheme};
use crate::cli::options::spelling::nearest_command;
use crate::cli::options::{DownloadArgs, STDIN};
use crate::cli::source::{parse_link, read_with_retry, torrent_failure};
use crate::util::descriptors::with_retry;
use crate::util::printable_text::printable;
use crate::util::redact::redacted;
use btsync::{InfoHash, Magnet};

/// The maximum size of the list in bytes.
const MAX_LIST_FILE: u64 = 16 << 20;

/// What to download.
#[derive(Debug, PartialEq)]
pub(crate) struct Targets {
    /// Files, magnet links and URLs, in order.
    pub torrents: Vec<NamedTorrent>,
    /// The download folder.
    pub folder: PathBuf,
    /// Whether this is a batch: there are several torrents, or there may be.
    pub is_batch: bool,
}

/// A torrent as the user named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedTorrent {
    /// A file, a magnet link or a URL.
    pub name: String,
    /// The info-hash of the torrent file at the start. `None` for links, URLs, pipes and the only torrent, which are not
    /// read at the start.
    pub info_hash: Option<InfoHash>,
}

/// Resolves the arguments and reads the list.
///
/// # Errors
/// The list cannot be read or is invalid, or an argument is invalid.
pub(crate) fn targets(args: &DownloadArgs) -> Result<Targets, Failure> {
    let is_batch = args.input_file.is_some() || args.watch.is_some();
    let (mut torrents, folder) = split_folder(args.names(), args.dir.as_deref(), is_batch, path_kind);
    if let Some(first) = torrents.first() {
        check_not_command(first)?;
    }
    if let Some(list) = &args.input_file {
        let is_stdin = list.as_os_str() == "-" || list == Path::new(STDIN);
        if is_stdin && torrents.iter().any(|name| name == STDIN) {
            return Err(bad_option("standard input cannot be both a torrent and the list of --input-file"));
        }
        torrents.extend(read(if is_stdin { Path::new(STDIN) } else { list })?);
        if torrents.is_empty() && args.watch.is_none() {
            return Err(bad_option(format!("{}: the list names no torrent", list.display())));
        }
    }
    if torrents.iter().filter(|name| *name == STDIN).count() > 1 {
        return Err(bad_option("standard input (-) can be named only once"));
    }
    let is_batch = is_batch || torrents.len() > 1;
    let named = |name: String| {
        let info_hash = if is_batch { check_name(&name)? } else { None };
        Ok(NamedTorrent { name, info_hash })
    };
    let torrents = torrents.into_iter().map(named).collect::<Result<_, Failure>>()?;
    Ok(Targets { torrents, folder, is_batch })
}

/// Rejects a name that is not a file and resembles a command: a misspelt command must not start a download.
fn check_not_command(name: &str) -> Result<(), Failure> {
    match nearest_command(name) {
        Some(meant) if !Path::new(name).metadata().is_ok_and(|there| !there.is_dir()) => {
            Err(bad_option(format!("'{name}' is neither a torrent nor a command: did you mean `{meant}`?")))
        }
        _ => Ok(()),
    }
}

/// Rejects an invalid torrent file or magnet link of a batch before any download starts. Returns the info-hash of a torrent
/// file. A pipe can be read only once, so it is checked later, as are URLs.
fn check_name(name: &str) -> Result<Option<InfoHash>, Failure> {
    let path = Path::new(name);
    let is_pipe = || path.metadata().is_ok_and(|there| !there.is_file() && !there.is_dir());
    let checked = match NameKind::of(path) {
        NameKind::Magnet => parse_link(name).map(|_| None),
        NameKind::Url | NameKind::Stdin => Ok(None),
        NameKind::Path if is_pipe() => Ok(None),
        NameKind::Path => {
            let torrent = read_with_retry(path, || true).map_err(|error| torrent_failure(path, error));
            torrent.map(|torrent| Some(torrent.info_hash))
        }
    };
    checked.map_err(|Failure { code, message }| Failure::new(code, format!("{message}; nothing was started")))
}

/// What kind of file a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PathKind {
    /// A file that is probably a torrent.
    TorrentFile,
    /// Nothing exists there.
    Missing,
    /// A folder, or a file that is probably no torrent.
    Other,
}

/// Splits the names into torrents and the folder. With `has_other_sources`, there are torrents elsewhere, so a single name
/// may be the folder.
fn split_folder(
    names: &[String],
    dir: Option<&Path>,
    has_other_sources: bool,
    path_kind: impl Fn(&str) -> PathKind,
) -> (Vec<String>, PathBuf) {
    let here = dir.unwrap_or(Path::new(".")).to_owned();
    let Some((last, before)) = names.split_last() else { return (Vec::new(), here) };
    if before.is_empty() && !has_other_sources {
        return (names.to_vec(), here);
    }
    let is_torrent = NameKind::of(Path::new(last)) != NameKind::Path
        || match path_kind(last) {
            PathKind::TorrentFile => true,
            // More likely a missing torrent file than a folder with such a name.
            PathKind::Missing => has_suffix(last),
            PathKind::Other => false,
        };
    if is_torrent { (names.to_vec(), here) } else { (before.to_vec(), PathBuf::from(last)) }
}

/// Detects a torrent by its suffix or its first bytes: a bencoded dictionary with a first key.
fn path_kind(name: &str) -> PathKind {
    let path = Path::new(name);
    match path.metadata() {
        Err(_) => PathKind::Missing,
        Ok(there) if !there.is_file() => PathKind::Other,
        Ok(_) if has_suffix(name) => PathKind::TorrentFile,
        Ok(_) => {
            let mut head = [0; 2];
            let read = with_retry(|| File::open(path), || true).and_then(|mut file| file.read_exact(&mut head));
            let is_torrent = head[0] == b'd' && head[1].is_ascii_digit();
            // Probably packed with gzip; in any case a file cannot be the download folder.
            let is_gzip = head == [0x1f, 0x8b];
            if read.is_ok() && (is_torrent || is_gzip) { PathKind::TorrentFile } else { PathKind::Other }
        }
    }
}

fn read(list: &Path) -> Result<Vec<String>, Failure> {
    let shown = printable(&list.to_string_lossy());
    let text = read_text(list, MAX_LIST_FILE, |why| bad_option(format!("{shown}: {why}")))?;
    parse(&text).map_err(|(line, why)| bad_option(format!("{shown}:{line}: {why}")))
}

/// Reads a text file of at most `max` bytes; `bad_contents` turns a complaint about the contents into a failure.
pub(crate) fn read_text(file: &Path, max: u64, bad_contents: impl Fn(&str) -> Failure) -> Result<String, Failure> {
    read_text_from(with_retry(|| File::open(file), || true), file, max, bad_contents)
}

/// The same for a file that was opened before; `path` is for messages.
pub(crate) fn read_text_from(
    file: io::Result<File>,
    path: &Path,
    max: u64,
    bad_contents: impl Fn(&str) -> Failure,
) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let read = file.and_then(|file| file.take(max + 1).read_to_end(&mut bytes));
    let shown = || printable(&path.to_string_lossy());
    read.map_err(|e: io::Error| Failure::new(Exit::OpenExisting, format!("{}: cannot be read: {e}", shown())))?;
    if bytes.len() as u64 > max {
        return Err(bad_contents(&format!("too large: more than {} MiB", max >> 20)));
    }
    String::from_utf8(bytes).map_err(|_| bad_contents("not UTF-8"))
}

/// Parses a list with one name per line. Skips blank lines and lines that start with `#`.
///
/// # Errors
/// The number of the invalid line, and what is wrong with it.
pub(crate) fn parse(text: &str) -> Result<Vec<String>, (usize, String)> {
    let mut names = Vec::new();
    for (number, line) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
        let name = line.trim();
        if name.is_empty() || name.starts_with('#') {
            continue;
        }
        let is_name = Magnet::is_link(name) || name.contains("://");
        if !is_name && line.starts_with([' ', '\t']) && name.contains('=') {
            return Err((number, "options for a single torrent, as in lists of aria2, are not supported".to_owned()));
        }
        if let Some(complaint) = unknown_scheme(name) {
            return Err((number, complaint));
        }
        let name = if name == "-" { STDIN } else { name };
        names.push(magnet_of_hash(name).unwrap_or_else(|| name.to_owned()));
    }
    Ok(names)
}

fn bad_option(message: impl AsRef<str>) -> Failure {
    Failure::new(Exit::BadOption, printable(&redacted(message.as_ref())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(names: &str, has_other_sources: bool) -> (String, String) {
        let names: Vec<String> = names.split(' ').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        let path_kind = |name: &str| match name {
            "a.torrent" | "b" => PathKind::TorrentFile,
            "folder" | "text" => PathKind::Other,
            _ => PathKind::Missing,
        };
        let (torrents, folder) = split_folder(&names, None, has_other_sources, path_kind);
        (torrents.join(" "), folder.display().to_string())
    }

    #[test]
    fn urls_of_other_schemes_are_named_without_their_secrets() {
        let said = unknown_scheme("wss://me:pw@tracker.example/key/x").expect("it cannot be asked");
        assert!(said.starts_with("'wss://tracker.example/…': "), "{said}");
        assert_eq!(bad_option("not http://t.example/key").message, "not http://t.example/…");
    }

    #[test]
    fn the_last_name_is_the_folder_unless_it_is_a_torrent() {
        let table = [
            ("x", false, "x", "."),
            ("folder", false, "folder", "."),
            ("a.torrent out", false, "a.torrent", "out"),
            ("a.torrent new.torrent", false, "a.torrent new.torrent", "."),
            ("a.torrent text", false, "a.torrent", "text"),
            ("a.torrent b", false, "a.torrent b", "."),
            ("a.torrent magnet:?x", false, "a.torrent magnet:?x", "."),
            ("magnet:?x http://h/x folder", false, "magnet:?x http://h/x", "folder"),
            ("x https://h/x", false, "x https://h/x", "."),
            ("x /dev/stdin", false, "x /dev/stdin", "."),
            ("x y new.torrent", false, "x y new.torrent", "."),
            ("", true, "", "."),
            ("out", true, "", "out"),
            ("a.torrent", true, "a.torrent", "."),
            ("magnet:?x", true, "magnet:?x", "."),
        ];
        for (names, has_other_sources, torrents, folder) in table {
            assert_eq!(sorted(names, has_other_sources), (torrents.to_owned(), folder.to_owned()), "{names:?}");
        }
    }

    #[test]
    fn a_file_is_a_torrent_by_its_name_or_its_first_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str, text: &str| {
            std::fs::write(dir.path().join(name), text).unwrap();
            path_kind(&dir.path().join(name).to_string_lossy())
        };
        assert_eq!(at("x.torrent", ""), PathKind::TorrentFile);
        assert_eq!(at("x", "d8:announce"), PathKind::TorrentFile);
        assert_eq!(at("document", "dear"), PathKind::Other);
        assert_eq!(at("empty", ""), PathKind::Other);
        assert_eq!(path_kind(&dir.path().to_string_lossy()), PathKind::Other);
        assert_eq!(path_kind(&dir.path().join("nothing").to_string_lossy()), PathKind::Missing);
    }

    #[test]
    fn a_list_is_a_name_a_line() {
        let text = "\u{feff}# all of them\n\n  a b.torrent \r\nmagnet:?xt=urn:btih:x\n\thttp://h/x?a=b\n-\n#end";
        let names = ["a b.torrent", "magnet:?xt=urn:btih:x", "http://h/x?a=b", STDIN];
        assert_eq!(parse(text), Ok(names.map(str::to_owned).to_vec()));
        assert_eq!(parse("a\n  dir=/x\n").map_err(|(line, _)| line), Err(2));
        assert_eq!(parse("a\n\nftp://h/x").map_err(|(line, _)| line), Err(3));
        assert_eq!(parse("https://").map_err(|(line, _)| line), Err(1));
        assert!(parse("file:///x").is_err(), "a list is no command line");
        let hash = "0123456789abcdef0123456789ABCDEF01234567";
        assert_eq!(parse(hash), Ok(vec![format!("magnet:?xt=urn:btih:{hash}")]));
    }
}
