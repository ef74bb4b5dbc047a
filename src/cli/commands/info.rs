//! `btsync info`: prints the contents of a torrent file as text or JSON.

use std::borrow::Cow;
use std::io::{self, Write};

use serde::{Serialize, Serializer};
use serde_json::ser::Formatter;

use crate::cli::exit::Failure;
use crate::cli::options::InfoArgs;
use crate::cli::source;
use crate::cli::terminal::stdout;
use crate::util::printable_text::is_deceptive;
use crate::util::printable_text::printable;
use btsync::{FileEntry, Magnet, Metainfo, TorrentVersion};

/// Reads the torrent file and prints its contents.
///
/// # Errors
/// The file cannot be read or is not a valid torrent, or standard output cannot be written.
pub fn run(args: InfoArgs) -> Result<(), Failure> {
    let InfoArgs { file, json } = args;
    let torrent = source::read_torrent(&file)?;
    stdout::print_with(|out| if json { write_json(&torrent, out) } else { write_text(&torrent, out) })
}

/// Escapes characters that would control the terminal or mislead the reader; the JSON value stays the same.
struct EscapingFormatter;

impl Formatter for EscapingFormatter {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        let mut done = 0;
        for (at, c) in fragment.char_indices().filter(|(_, c)| is_deceptive(*c)) {
            out.write_all(fragment.get(done..at).unwrap_or_default().as_bytes())?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}")?;
            }
            done = at + c.len_utf8();
        }
        out.write_all(fragment.get(done..).unwrap_or_default().as_bytes())
    }
}

/// The whole JSON object. Paths are relative to the download folder and use `/`. `info_hash_v2` occurs only if there is a v2 half.
#[derive(Serialize)]
struct TorrentJson<'a> {
    comment: Option<&'a str>,
    created_by: Option<&'a str>,
    creation_date: Option<i64>,
    #[serde(serialize_with = "serialize_files")]
    files: &'a [FileEntry],
    info_hash: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    info_hash_v2: Option<String>,
    magnet: String,
    name: &'a str,
    nodes: Vec<String>,
    piece_length: u32,
    pieces: u32,
    private: bool,
    total: u64,
    trackers: &'a [Vec<String>],
    web_seeds: &'a [String],
    http_seeds: &'a [String],
}

/// `pad` occurs only if true.
#[derive(Serialize)]
struct FileJson<'a> {
    length: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pad: bool,
    path: Cow<'a, str>,
}

fn serialize_files<'a, S: Serializer>(files: &&'a [FileEntry], serializer: S) -> Result<S::Ok, S::Error> {
    let json = |file: &'a FileEntry| FileJson { length: file.length, pad: file.is_virtual, path: path_text(file) };
    serializer.collect_seq(files.iter().map(json))
}

fn write_json(metainfo: &Metainfo, mut out: &mut dyn Write) -> io::Result<()> {
    let json = TorrentJson {
        comment: metainfo.comment.as_deref(),
        created_by: metainfo.created_by.as_deref(),
        creation_date: metainfo.creation_date,
        files: &metainfo.files,
        info_hash: metainfo.info_hash.hex(),
        info_hash_v2: metainfo.info_hash_v2.map(|hash| hash.hex()),
        magnet: Magnet::of(metainfo).to_string(),
        name: &metainfo.name,
        nodes: metainfo.nodes.iter().map(node).collect(),
        piece_length: metainfo.piece_length,
        pieces: metainfo.piece_count(),
        private: metainfo.is_private,
        total: metainfo.total(),
        trackers: &metainfo.tiers,
        web_seeds: &metainfo.web_seeds,
        http_seeds: &metainfo.http_seeds,
    };
    json.serialize(&mut serde_json::Serializer::with_formatter(&mut out, EscapingFormatter))?;
    out.write_all(b"\n")
}

fn write_text(metainfo: &Metainfo, out: &mut dyn Write) -> io::Result<()> {
    let mut line = |label: &str, value: &str| writeln!(out, "{label:<12}{}", printable(value));
    line("name", &metainfo.name)?;
    if metainfo.version() != TorrentVersion::V2 {
        line("info hash", &metainfo.info_hash.hex())?;
    }
    if let Some(hash) = metainfo.info_hash_v2 {
        line("v2 hash", &hash.hex())?;
    }
    line("size", &size(shown_size(metainfo)))?;
    let pieces = format!("{} x {}", metainfo.piece_count(), short_size(u64::from(metainfo.piece_length)));
    line("pieces", &pieces)?;
    line("private", if metainfo.is_private { "yes" } else { "no" })?;
    for (tier, urls) in metainfo.tiers.iter().enumerate() {
        line(&format!("tier {}", tier + 1), &urls.join(", "))?;
    }
    for seed in &metainfo.web_seeds {
        line("web seed", seed)?;
    }
    for seed in &metainfo.http_seeds {
        line("HTTP seed", seed)?;
    }
    for node in &metainfo.nodes {
        line("DHT node", &self::node(node))?;
    }
    line("magnet", &Magnet::of(metainfo).to_string())?;
    let date = metainfo.creation_date.map(date);
    let optional = [("comment", &metainfo.comment), ("created by", &metainfo.created_by), ("created", &date)];
    for (label, value) in optional {
        if let Some(value) = value {
            line(label, value)?;
        }
    }
    let stored = || metainfo.files.iter().filter(|file| !file.is_virtual);
    line("files", &stored().count().to_string())?;
    for file in stored() {
        writeln!(out, "{:>12}  {}", short_size(file.length), printable(&path_text(file)))?;
    }
    Ok(())
}

/// The size for people. The gaps between the files of a v2-only torrent are not in the torrent, as padding is.
fn shown_size(metainfo: &Metainfo) -> u64 {
    match metainfo.version() {
        TorrentVersion::V2 => metainfo.files.iter().filter(|file| !file.is_virtual).map(|file| file.length).sum(),
        _ => metainfo.total(),
    }
}

/// Formats a DHT node as `--node` takes it.
fn node((host, port): &(String, u16)) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// A file's path as text.
pub(crate) fn path_text(file: &FileEntry) -> Cow<'_, str> {
    file.path.to_string_lossy()
}

fn size(bytes: u64) -> String {
    if bytes < 1024 { short_size(bytes) } else { format!("{} ({bytes} bytes)", short_size(bytes)) }
}

fn short_size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    if value.fract() == 0.0 { format!("{value:.0} {unit}") } else { format!("{value:.1} {unit}") }
}

/// Formats a time in UTC; outside the years 1970 to 9999, the number of seconds.
pub(super) fn date(seconds: i64) -> String {
    if !(0..253_402_300_800).contains(&seconds) {
        return format!("{seconds} s since 1970");
    }
    let (mut days, clock) = (seconds / 86_400, seconds % 86_400);
    let leap = |year: i64| i64::from(year % 4 == 0 && (year % 100 != 0 || year % 400 == 0));
    let mut year = 1970;
    while days >= 365 + leap(year) {
        days -= 365 + leap(year);
        year += 1;
    }
    let mut month = 1;
    for length in [31, 28 + leap(year), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (clock / 3600, clock / 60 % 60, clock % 60);
    format!("{year:04}-{month:02}-{:02} {hour:02}:{minute:02}:{second:02} UTC", days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Exit;

    fn torrent() -> Metainfo {
        let mut bytes =
            b"d8:announce8:http://a7:comment11:x\x1b[1m\ny!\xe2\x80\xae13:creation datei86400e4:infod5:filesl".to_vec();
        bytes.extend_from_slice(b"d6:lengthi5e4:pathl1:d1:aeed4:attr1:p6:lengthi3e4:pathl4:.pad1:3eee");
        bytes.extend_from_slice(b"4:name1:t12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee");
        Metainfo::parse(&bytes).unwrap()
    }

    #[test]
    fn json_has_every_key() {
        let torrent = torrent();
        let expected = serde_json::json!({
            "info_hash": torrent.info_hash.hex(), "name": "t", "piece_length": 16384, "pieces": 1, "total": 8,
            "files": [{"path": "t/d/a", "length": 5}, {"path": "t/.pad/3", "length": 3, "pad": true}],
            "trackers": [["http://a"]], "private": false, "comment": "x\u{1b}[1m\ny!\u{202e}", "created_by": null,
            "creation_date": 86400, "web_seeds": [], "http_seeds": [], "nodes": [],
            "magnet": format!("magnet:?xt=urn:btih:{}&dn=t&tr=http://a", torrent.info_hash.hex()),
        });
        let mut out = Vec::new();
        write_json(&torrent, &mut out).unwrap();
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&out).unwrap(), expected);
        assert!(out.ends_with(b"}\n") && out.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\n')));
    }

    #[test]
    fn text_is_clean_and_has_no_pads() {
        let mut out = Vec::new();
        write_text(&torrent(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("comment     x[1m y!\n"), "{text}");
        assert!(text.contains("created     1970-01-02 00:00:00 UTC\n"), "{text}");
        assert!(text.ends_with("files       1\n         5 B  t/d/a\n"), "{text}");
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn dates_and_sizes() {
        let table = [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (253_402_300_799, "9999-12-31 23:59:59 UTC"),
            (253_402_300_800, "253402300800 s since 1970"),
            (-1, "-1 s since 1970"),
        ];
        for (seconds, expected) in table {
            assert_eq!(date(seconds), expected);
        }
        assert_eq!([0, 1023, 1024, 1536, 1 << 40].map(short_size), ["0 B", "1023 B", "1 KiB", "1.5 KiB", "1 TiB"]);
        assert_eq!(size(2048), "2 KiB (2048 bytes)");
    }

    #[test]
    fn failures_have_their_codes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.torrent");
        let fail = || run(InfoArgs { file: path.clone(), json: false }).unwrap_err();
        assert!(matches!(fail().code, Exit::OpenExisting));
        std::fs::write(&path, "<html>").unwrap();
        assert!(matches!(fail().code, Exit::Bencode));
        std::fs::write(&path, "de").unwrap();
        let failure = fail();
        assert!(matches!(failure.code, Exit::BadTorrent));
        assert!(failure.message.contains("x.torrent: not a torrent"), "{}", failure.message);
    }
}
