//! Loads a torrent file in two passes, from a file, a pipe or memory, compressed or not.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::MemfdFlags;
use sha1::{Digest, Sha1};

use crate::bencode::scan::{ScanError, Scanner};
use crate::bencode::validate::FILE_DEPTH;
use crate::hash::sha256;
use crate::metainfo::TORRENT_FILE_MAX;
use crate::metainfo::decode::{EntryKind, FileList, FileSink, FileTree, Info, TopLevel};
use crate::metainfo::error::MetainfoError;
use crate::metainfo::torrent::v2::{V2Hashes, compare_halves, single_file, with_gaps};
use crate::metainfo::torrent::validate::{CheckedInfo, Name, entries};
use crate::metainfo::torrent::{Metainfo, TorrentVersion};
use crate::types::{InfoHash, InfoHashV2, Sha256Hash};
use crate::util::gzip::{GZIP, decoder, gunzip};
use crate::util::printable_text::printable;

/// The size of the read buffer, in bytes.
const BUFFER: usize = 64 << 10;

/// How many leading bytes are examined to recognize an empty file or a web page.
const HEAD: u64 = 64;

/// The file decompressed and seekable. Compressed files and pipes are copied to a memory file (memfd) outside the process's heap.
pub(super) fn rewindable(mut file: File) -> io::Result<File> {
    if file.stream_position().is_err() {
        file = copy_to_memfd(file)?;
        file.rewind()?;
    }
    let mut head = [0; GZIP.len()];
    let is_gzip = file.read_exact(&mut head).is_ok() && head == GZIP;
    file.rewind()?;
    if is_gzip { copy_to_memfd(decoder(file)) } else { Ok(file) }
}

/// Copies at most [`TORRENT_FILE_MAX`] bytes and one more, so that the caller detects a larger file, to a memory file.
fn copy_to_memfd(from: impl Read) -> io::Result<File> {
    let mut copy = File::from(rustix::fs::memfd_create("torrent", MemfdFlags::CLOEXEC)?);
    io::copy(&mut from.take(TORRENT_FILE_MAX as u64 + 1), &mut copy)?;
    Ok(copy)
}

/// Decompresses the bytes of a torrent file if they are gzip. Returns at most [`TORRENT_FILE_MAX`] bytes and one more, so that
/// the caller detects a larger file.
///
/// # Errors
/// If they begin like gzip but are malformed.
pub(super) fn unpacked(bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    if !bytes.starts_with(&GZIP) {
        return Ok(bytes);
    }
    let mut plain = Vec::new();
    gunzip(&bytes, TORRENT_FILE_MAX as u64 + 1, &mut plain)?;
    Ok(plain)
}

/// The name for a torrent without one: its file's name without `.torrent`.
pub(super) fn named_after(path: &Path) -> Option<Vec<u8>> {
    let is_torrent = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("torrent"));
    let name = if is_torrent { path.file_stem() } else { path.file_name() };
    name.map(|name| name.as_bytes().to_vec())
}

/// Parses the source in two passes: the first validates everything, the second reads `info` to keep it. Thus an invalid torrent
/// costs no memory. `fallback` names a torrent without a name.
pub(super) fn load(source: &mut (impl Read + Seek), fallback: Option<Vec<u8>>) -> Result<Metainfo, MetainfoError> {
    let (top, info, range) = validate_file(source)?;
    let entries_count = CheckedInfo::check(info)?.files.map_or(0, |files| files.entries);
    let mut info = Vec::with_capacity(range.len());
    slice(source, &range)?.read_to_end(&mut info).map_err(ScanError::Io)?;
    // Parse the copy in memory from here on, because the file may change meanwhile.
    let sink = FileSink::Collect(Vec::with_capacity(entries_count));
    let kept = Info::read(&mut Scanner::new(info.as_slice(), FILE_DEPTH), sink)?;
    let checked = CheckedInfo::check(kept.ok_or(MetainfoError::NotADict)?)?;
    let (hashes, _) = info.get(checked.pieces.clone()).unwrap_or_default().as_chunks::<20>();
    let mut half = V2Half::read(&info, &checked)?;
    let mut web_seeds = top.url_list;
    retain_first(&mut web_seeds, &mut HashSet::new());
    let mut http_seeds = top.httpseeds;
    retain_first(&mut http_seeds, &mut HashSet::new());
    let info_hash_v2 = half.is_some().then(|| InfoHashV2(sha256(&info)));
    let info_hash = match info_hash_v2 {
        Some(hash) if checked.version == TorrentVersion::V2 => hash.truncated(),
        _ => InfoHash(Sha1::digest(&info).into()),
    };
    // The name of a v2-only torrent with one file is advice; that of the file counts.
    let own_name = half.as_mut().and_then(|half| half.name.take()).or(checked.name);
    let name = match own_name.or_else(|| Name::of(&fallback?).ok().flatten()) {
        Some(name) => name,
        None => Name { safe: info_hash.hex(), ..Name::default() },
    };
    let single = half.as_ref().and_then(|half| half.single);
    let (length, is_executable) = single.unwrap_or((checked.length, checked.is_executable));
    let (roots, list) = half.map_or((None, None), |half| (Some(half.roots), half.files));
    let list = checked.files.or(list);
    if !name.is_utf8 || list.as_ref().is_some_and(|files| !files.is_utf8) {
        warn_of_names(top.encoding);
    }
    let is_multi_file = list.is_some();
    let files = entries(&name.safe, length, is_executable, list);
    let mut v2 = roots.map(|roots| V2Hashes::new(checked.piece_length, &files, roots)).transpose()?;
    if let (Some(v2), Some(range)) = (&mut v2, top.piece_layers) {
        let mut layers = Vec::with_capacity(range.len());
        slice(source, &range)?.read_to_end(&mut layers).map_err(ScanError::Io)?;
        v2.read_layers(&layers)?;
    }
    Ok(Metainfo {
        info_hash,
        info_hash_v2,
        v2: v2.map(Box::new),
        tiers: tiers(top.announce, top.announce_list),
        piece_length: checked.piece_length,
        pieces: hashes.to_vec(),
        is_multi_file,
        is_private: checked.is_private,
        comment: text(top.comment_utf8).or_else(|| text(top.comment)),
        created_by: text(top.created_by),
        creation_date: top.creation_date,
        web_seeds,
        http_seeds,
        nodes: top.nodes,
        files,
        name: name.safe,
        hidden_name: name.hidden,
        original_name: name.original,
        info,
    })
}

fn warn_of_names(encoding: Option<Vec<u8>>) {
    let encoding = text(encoding).map_or_else(String::new, |name| format!(" but {}", printable(&name)));
    log::warn!("names in the torrent are not UTF-8{encoding}: `_` replaces the bytes that btsync cannot decode");
}

/// The v2 half of an info dictionary.
struct V2Half {
    /// The roots of the files with data.
    roots: Vec<Sha256Hash>,
    /// Of a v2-only torrent: the name, length and executability of its single file; or its files and the gaps between them.
    name: Option<Name>,
    single: Option<(u64, bool)>,
    files: Option<FileList>,
}

impl V2Half {
    /// Reads the `file tree`, which was found to be valid, and compares it with the v1 half if there is one.
    fn read(info: &[u8], checked: &CheckedInfo) -> Result<Option<V2Half>, MetainfoError> {
        let Some((_, range)) = &checked.tree else { return Ok(None) };
        let tree = info.get(range.clone()).unwrap_or_default();
        let tree = FileTree::read(&mut Scanner::new(tree, FILE_DEPTH), FileSink::Collect(Vec::new()))?;
        let FileTree { mut list, roots, is_single } = tree.need("file tree", "a dictionary")?;
        let FileSink::Collect(files) = std::mem::take(&mut list.sink) else { return Err(MetainfoError::NoFiles) };
        let mut half = V2Half { roots, name: None, single: None, files: None };
        if checked.version == TorrentVersion::Hybrid {
            match checked.files.as_ref().map(|files| &files.sink) {
                Some(FileSink::Collect(v1)) => compare_halves(v1, &files, checked.piece_length)?,
                Some(FileSink::Count) => {}
                None => {
                    let v1 = single_file(&checked.raw_name, checked.length)?;
                    compare_halves(&[v1], &files, checked.piece_length)?;
                }
            }
        } else if is_single && let [file] = files.as_slice() {
            let raw = file.original.as_ref().map_or(file.path.as_bytes(), |raw| raw.as_slice());
            half.name = Name::of(raw)?;
            half.single = Some((file.length, file.kind == EntryKind::Executable));
        } else {
            list.sink = FileSink::Collect(with_gaps(files, checked.piece_length));
            half.files = Some(list);
        }
        Ok(Some(half))
    }
}

/// Validates the whole file, and keeps almost nothing in memory.
fn validate_file(source: &mut (impl Read + Seek)) -> Result<(TopLevel, Info, Range<usize>), MetainfoError> {
    let size = source.seek(SeekFrom::End(0)).and_then(|size| source.rewind().map(|()| size)).map_err(ScanError::Io)?;
    let mut head = Vec::new();
    source.by_ref().take(HEAD).read_to_end(&mut head).map_err(ScanError::Io)?;
    if head.is_empty() {
        return Err(MetainfoError::Empty);
    }
    // Skip a byte order mark.
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&head);
    if text.trim_ascii_start().starts_with(b"<") {
        return Err(MetainfoError::WebPage);
    }
    source.rewind().map_err(ScanError::Io)?;
    // A device reports no size, so limit the reader, too.
    let reader = source.take(TORRENT_FILE_MAX as u64 + 1);
    let mut scanner = Scanner::new(BufReader::with_capacity(BUFFER, reader), FILE_DEPTH);
    let top = if size > TORRENT_FILE_MAX as u64 {
        Err(MetainfoError::TooLarge)
    } else {
        TopLevel::read(&mut scanner).map_err(MetainfoError::from)
    };
    if scanner.position() > TORRENT_FILE_MAX {
        return Err(MetainfoError::TooLarge);
    }
    let mut top = top?.ok_or(MetainfoError::NotADict)?;
    let (info, range) = top.info.take().ok_or(MetainfoError::NotADict)?;
    Ok((top, info, range))
}

fn slice<'a, S: Read + Seek>(source: &'a mut S, range: &Range<usize>) -> Result<io::Take<&'a mut S>, MetainfoError> {
    source.seek(SeekFrom::Start(range.start as u64)).map_err(ScanError::Io)?;
    Ok(source.take(range.len() as u64))
}

/// The tiers of `announce-list`, or of `announce` if there are none (BEP 12).
fn tiers(announce: Vec<String>, mut list: Vec<Vec<String>>) -> Vec<Vec<String>> {
    if list.is_empty() {
        list.extend((!announce.is_empty()).then_some(announce));
    }
    let mut seen = HashSet::new();
    for tier in &mut list {
        retain_first(tier, &mut seen);
    }
    list.retain(|tier| !tier.is_empty());
    list
}

/// Drops URLs that occurred before.
fn retain_first(urls: &mut Vec<String>, seen: &mut HashSet<String>) {
    urls.retain(|url| seen.insert(url.clone()));
}

fn text(bytes: Option<Vec<u8>>) -> Option<String> {
    bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).filter(|text| !text.is_empty())
}
