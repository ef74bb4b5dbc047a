//! Decodes the keys of a torrent file without validating their meaning. An optional key of the wrong type counts as missing.
//! Unknown keys are ignored, even if they are not UTF-8.
//! Decoding streams the file and runs twice: the first pass finds every error before anything is kept, so that an invalid torrent
//! of any size costs no memory.

use std::io::BufRead;
use std::ops::Range;

use crate::bencode::scan::{ScanError, Scanner, ValueStart};
use crate::metainfo::error::MetainfoError;
use crate::metainfo::paths::PathError;
use crate::util::printable_text::printable;

mod files;
mod tree;

pub(super) use files::{DecodedFile, DecodedPath, EntryKind, FileList, FileSink};
pub(super) use tree::FileTree;

/// The most tracker or web seed URLs kept.
const URLS_MAX: usize = 1000;

/// The longest URL kept, in bytes.
const URL_MAX: usize = 4096;

/// The longest name read, in bytes. It is later shortened to what a file system can store.
const NAME_READ_MAX: usize = 16 * 1024;

/// The most DHT nodes kept, and the longest host name, in bytes.
const NODES_MAX: usize = 32;
const HOST_MAX: usize = 255;

/// Comments and program names are truncated to this many bytes.
const TEXT_MAX: usize = 64 * 1024;

type Result<T> = std::result::Result<T, ScanError>;

/// The value of a key.
#[derive(Debug, Default)]
pub(super) enum Field<T> {
    #[default]
    Missing,
    /// The value has another type.
    Mistyped,
    /// The value is a string longer than the limit.
    TooLong,
    Is(T),
}

impl<T> Field<T> {
    pub fn ok(self) -> Option<T> {
        match self {
            Field::Is(it) => Some(it),
            _ => None,
        }
    }

    pub fn is_present(&self) -> bool {
        !matches!(self, Field::Missing)
    }

    /// The value of a required key; `kind` is the required type, for the error message.
    pub fn need(self, key: &'static str, kind: &'static str) -> std::result::Result<T, MetainfoError> {
        match self {
            Field::Is(it) => Ok(it),
            Field::Missing => Err(MetainfoError::Missing(key)),
            Field::Mistyped => Err(MetainfoError::Mistyped { key, kind }),
            Field::TooLong => Err(PathError::TooLong.into()),
        }
    }
}

fn int<R: BufRead>(scanner: &mut Scanner<R>) -> Result<Field<i64>> {
    match scanner.value()? {
        ValueStart::Int(value) => Ok(Field::Is(value)),
        other => scanner.skip(other).map(|()| Field::Mistyped),
    }
}

fn bytes<R: BufRead>(scanner: &mut Scanner<R>, max: usize) -> Result<Field<Vec<u8>>> {
    let mut out = Vec::new();
    match scanner.value()? {
        ValueStart::Bytes(length) if length <= max => scanner.take(length, max, &mut out).map(|()| Field::Is(out)),
        value @ ValueStart::Bytes(_) => scanner.skip(value).map(|()| Field::TooLong),
        other => scanner.skip(other).map(|()| Field::Mistyped),
    }
}

/// Reads a text meant for people, truncated to [`TEXT_MAX`] bytes.
fn text<R: BufRead>(scanner: &mut Scanner<R>) -> Result<Option<Vec<u8>>> {
    let mut out = Vec::new();
    match scanner.value()? {
        ValueStart::Bytes(length) => scanner.take(length, TEXT_MAX, &mut out).map(|()| Some(out)),
        other => scanner.skip(other).map(|()| None),
    }
}

/// Keeps the text if it could be a URL and there is room.
fn keep_url(bytes: &[u8], urls: &mut Vec<String>, room: usize) {
    let text = std::str::from_utf8(bytes).unwrap_or_default().trim();
    if !text.is_empty() && printable(text) == text && urls.len() < room {
        urls.push(text.to_owned());
    }
}

/// Reads a list of URLs or a single one, whose start token has been read. Skips unusable ones.
fn urls<R: BufRead>(scanner: &mut Scanner<R>, value: ValueStart, room: usize) -> Result<Vec<String>> {
    let (mut urls, mut url) = (Vec::new(), Vec::new());
    match value {
        ValueStart::Bytes(length) if length <= URL_MAX => {
            scanner.take(length, URL_MAX, &mut url)?;
            keep_url(&url, &mut urls, room);
        }
        ValueStart::List => {
            while scanner.has_next_item()? {
                if let Field::Is(url) = bytes(scanner, URL_MAX)? {
                    keep_url(&url, &mut urls, room);
                }
            }
        }
        other => scanner.skip(other)?,
    }
    Ok(urls)
}

/// Reads the tiers of `announce-list` (BEP 12).
fn tiers<R: BufRead>(scanner: &mut Scanner<R>) -> Result<Vec<Vec<String>>> {
    let (mut tiers, mut room) = (Vec::new(), URLS_MAX);
    match scanner.value()? {
        ValueStart::List => {
            while scanner.has_next_item()? {
                let value = scanner.value()?;
                let tier = urls(scanner, value, room)?;
                room -= tier.len();
                if !tier.is_empty() {
                    tiers.push(tier);
                }
            }
        }
        other => scanner.skip(other)?,
    }
    Ok(tiers)
}

/// Reads the DHT bootstrap nodes (BEP 5). Skips invalid ones.
fn nodes<R: BufRead>(scanner: &mut Scanner<R>) -> Result<Vec<(String, u16)>> {
    let mut nodes = Vec::new();
    match scanner.value()? {
        ValueStart::List => {
            while scanner.has_next_item()? {
                nodes.extend(node(scanner)?.filter(|node| nodes.len() < NODES_MAX && !nodes.contains(node)));
            }
        }
        other => scanner.skip(other)?,
    }
    Ok(nodes)
}

/// Reads a list of host and port; `None` if either is invalid.
fn node<R: BufRead>(scanner: &mut Scanner<R>) -> Result<Option<(String, u16)>> {
    let value = scanner.value()?;
    if value != ValueStart::List {
        return scanner.skip(value).map(|()| None);
    }
    let (mut host, mut port) = (None, None);
    let mut at = 0;
    while scanner.has_next_item()? {
        match at {
            0 => host = bytes(scanner, HOST_MAX)?.ok(),
            1 => port = int(scanner)?.ok().and_then(|port| u16::try_from(port).ok()).filter(|&port| port > 0),
            _ => scanner.value().and_then(|value| scanner.skip(value))?,
        }
        at += 1;
    }
    let fits = |host: &String| !host.is_empty() && !host.contains(char::is_whitespace) && printable(host) == *host;
    let host = host.and_then(|host| String::from_utf8(host).ok()).filter(fits);
    Ok(host.zip(port))
}

/// The outermost dictionary.
#[derive(Default)]
pub(super) struct TopLevel {
    pub announce: Vec<String>,
    pub announce_list: Vec<Vec<String>>,
    pub comment: Option<Vec<u8>>,
    pub comment_utf8: Option<Vec<u8>>,
    pub created_by: Option<Vec<u8>>,
    pub creation_date: Option<i64>,
    /// The creator's declared encoding of the names.
    pub encoding: Option<Vec<u8>>,
    pub url_list: Vec<String>,
    pub httpseeds: Vec<String>,
    pub nodes: Vec<(String, u16)>,
    /// The position of `piece layers` (BEP 52).
    pub piece_layers: Option<Range<usize>>,
    /// The content and position of `info`, if it is a dictionary. Its files were counted and checked, but not kept.
    pub info: Option<(Info, Range<usize>)>,
}

impl TopLevel {
    /// Reads a whole torrent file; `None` if it is not a dictionary. Ignores bytes after the dictionary, because some programs
    /// append a newline, padding or a signature.
    pub fn read<R: BufRead>(scanner: &mut Scanner<R>) -> Result<Option<TopLevel>> {
        match scanner.value()? {
            ValueStart::Dict => {
                let top = TopLevel::body(scanner)?;
                let end = scanner.position();
                if scanner.end().is_err() {
                    log::debug!("btsync ignores the data after the torrent's dictionary, from byte {end} on");
                }
                Ok(Some(top))
            }
            other => {
                scanner.skip(other)?;
                scanner.end()?;
                Ok(None)
            }
        }
    }

    fn body<R: BufRead>(scanner: &mut Scanner<R>) -> Result<TopLevel> {
        type KeyReader<R> = fn(&mut TopLevel, &mut Scanner<R>) -> Result<()>;
        let mut top = TopLevel::default();
        while let Some(key) = scanner.key()? {
            let entry: KeyReader<R> = match key {
                b"announce" => |top, s| s.value().and_then(|v| urls(s, v, URLS_MAX)).map(|it| top.announce = it),
                b"announce-list" => |top, s| tiers(s).map(|it| top.announce_list = it),
                b"comment" => |top, s| text(s).map(|it| top.comment = it),
                b"comment.utf-8" => |top, s| text(s).map(|it| top.comment_utf8 = it),
                b"created by" => |top, s| text(s).map(|it| top.created_by = it),
                b"creation date" => |top, s| int(s).map(|it| top.creation_date = it.ok()),
                b"encoding" => |top, s| text(s).map(|it| top.encoding = it),
                b"httpseeds" => |top, s| s.value().and_then(|v| urls(s, v, URLS_MAX)).map(|it| top.httpseeds = it),
                b"info" => |top, s| {
                    let start = s.position();
                    top.info = Info::read(s, FileSink::Count)?.map(|info| (info, start..s.position()));
                    Ok(())
                },
                b"nodes" => |top, s| nodes(s).map(|it| top.nodes = it),
                b"piece layers" => |top, s| {
                    let start = s.position();
                    s.value().and_then(|value| s.skip(value))?;
                    top.piece_layers = Some(start..s.position());
                    Ok(())
                },
                b"url-list" => |top, s| s.value().and_then(|v| urls(s, v, URLS_MAX)).map(|it| top.url_list = it),
                _ => |_, s| s.value().and_then(|value| s.skip(value)),
            };
            entry(&mut top, scanner)?;
        }
        Ok(top)
    }
}

/// The `info` dictionary.
#[derive(Default)]
pub(super) struct Info {
    pub name: Field<Vec<u8>>,
    pub name_utf8: Field<Vec<u8>>,
    pub piece_length: Field<i64>,
    /// The position of the piece hashes in the input.
    pub pieces: Field<Range<usize>>,
    pub length: Field<i64>,
    pub files: Field<FileList>,
    /// The attributes of a single file (BEP 47).
    pub attr: Field<Vec<u8>>,
    pub private: Field<i64>,
    pub meta_version: Field<i64>,
    /// The files of the v2 half (BEP 52), counted and checked, and their position in the input.
    pub file_tree: Field<FileTree>,
    pub file_tree_range: Range<usize>,
}

impl Info {
    /// Reads `info`; `None` if it is not a dictionary.
    pub fn read<R: BufRead>(scanner: &mut Scanner<R>, sink: FileSink) -> Result<Option<Info>> {
        type KeyReader<R> = fn(&mut Info, &mut Scanner<R>, &mut FileSink) -> Result<()>;
        let value = scanner.value()?;
        if value != ValueStart::Dict {
            return scanner.skip(value).map(|()| None);
        }
        let (mut info, mut sink) = (Info::default(), sink);
        while let Some(key) = scanner.key()? {
            let entry: KeyReader<R> = match key {
                b"name" => |info, s, _| bytes(s, NAME_READ_MAX).map(|it| info.name = it),
                b"name.utf-8" => |info, s, _| bytes(s, NAME_READ_MAX).map(|it| info.name_utf8 = it),
                b"piece length" => |info, s, _| int(s).map(|it| info.piece_length = it),
                b"pieces" => |info, s, _| pieces(s).map(|it| info.pieces = it),
                b"length" => |info, s, _| int(s).map(|it| info.length = it),
                b"files" => |info, s, sink| FileList::read(s, std::mem::take(sink)).map(|it| info.files = it),
                b"attr" => |info, s, _| bytes(s, NAME_READ_MAX).map(|it| info.attr = it),
                b"private" => |info, s, _| int(s).map(|it| info.private = it),
                b"meta version" => |info, s, _| int(s).map(|it| info.meta_version = it),
                b"file tree" => |info, s, _| {
                    let start = s.position();
                    info.file_tree = FileTree::read(s, FileSink::Count)?;
                    info.file_tree_range = start..s.position();
                    Ok(())
                },
                _ => |_, s, _| s.value().and_then(|value| s.skip(value)),
            };
            entry(&mut info, scanner, &mut sink)?;
        }
        Ok(Some(info))
    }
}

fn pieces<R: BufRead>(scanner: &mut Scanner<R>) -> Result<Field<Range<usize>>> {
    let value = scanner.value()?;
    let start = scanner.position();
    scanner.skip(value)?;
    Ok(if matches!(value, ValueStart::Bytes(_)) { Field::Is(start..scanner.position()) } else { Field::Mistyped })
}
