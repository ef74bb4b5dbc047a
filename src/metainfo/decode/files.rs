//! The files of a torrent of many: each looked at as it comes, kept only where that is asked for.

use std::io::BufRead;

use super::{Found, NAME_MAX, Result, bytes, int};
use crate::metainfo::paths::{self, PathError};
use crate::metainfo::scan::{Scanner, Value};
use crate::metainfo::torrent::TorrentError;

/// A file of a multi-file torrent, its path without the torrent's name.
pub(in crate::metainfo) struct File {
    pub path: String,
    pub length: u64,
    pub pad: bool,
}

/// What becomes of the files that are read.
pub(in crate::metainfo) enum Sink {
    /// A number for each path that will be on disk.
    Hashes(Vec<u64>),
    /// None may be in another's way.
    Watch(Watch),
    /// They are kept.
    Keep(Vec<File>),
}

impl Default for Sink {
    fn default() -> Sink {
        Sink::Hashes(Vec::new())
    }
}

/// Finds two files on one path, and a file where another needs a folder, from eight bytes a file: paths that are the same have
/// the same hash. Others have it once in a long while (for a million files the chance is one in ten million).
pub(in crate::metainfo) struct Watch {
    sorted: Vec<u64>,
    twice: Option<u64>,
    /// Sixteen bits for each hash, one of them set, a power of two words: what is not among the hashes is nearly always told from
    /// it by one look.
    bits: Vec<u64>,
}

impl Watch {
    pub fn new(mut hashes: Vec<u64>) -> Watch {
        hashes.sort_unstable();
        let twice = hashes.windows(2).find(|pair| pair.first() == pair.last()).and_then(<[_]>::first).copied();
        let mut bits = vec![0; (hashes.len() / 4).next_power_of_two()];
        for hash in &hashes {
            let (word, bit) = Watch::place(*hash, bits.len());
            bits.get_mut(word).into_iter().for_each(|word| *word |= bit);
        }
        Watch { sorted: hashes, twice, bits }
    }

    /// Which bit of so many words is a hash's.
    fn place(hash: u64, words: usize) -> (usize, u64) {
        let mixed = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((mixed >> 32) as usize & (words - 1), 1 << (mixed >> 58))
    }

    fn has(&self, hash: u64) -> bool {
        let (word, bit) = Watch::place(hash, self.bits.len());
        self.bits.get(word).is_some_and(|word| word & bit != 0) && self.sorted.binary_search(&hash).is_ok()
    }

    fn look(&self, path: &str) -> std::result::Result<(), PathError> {
        let mut hash = Hash::new();
        for (at, &byte) in path.as_bytes().iter().enumerate() {
            if byte == b'/' && self.has(hash.0) {
                return Err(PathError::Collision(paths::brief(path.get(..at).unwrap_or_default())));
            }
            hash.add(byte);
        }
        if self.twice == Some(hash.0) { Err(PathError::Collision(paths::brief(path))) } else { Ok(()) }
    }
}

/// FNV-1a of 64 bits: what a byte more makes of it is known without looking at those before. Who searches for two paths of one
/// hash has his own torrent refused.
struct Hash(u64);

impl Hash {
    fn new() -> Hash {
        Hash(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, byte: u8) {
        self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }

    fn of(path: &str) -> u64 {
        let mut hash = Hash::new();
        path.bytes().for_each(|byte| hash.add(byte));
        hash.0
    }
}

/// The value of `files`.
pub(in crate::metainfo) struct Files {
    /// How many there are, links not counted.
    pub count: usize,
    /// Their lengths together; `None` where that is beyond what a file offset (a signed 64-bit number) can hold.
    pub sum: Option<u64>,
    /// The longest path, in bytes.
    pub longest: usize,
    /// Symbolic links, which are left out.
    pub links: usize,
    /// What is wrong with the first bad one; those after it are not looked at.
    pub error: Option<TorrentError>,
    pub sink: Sink,
}

impl Files {
    pub fn read<R: BufRead>(scanner: &mut Scanner<R>, sink: Sink) -> Result<Found<Files>> {
        let value = scanner.value()?;
        if value != Value::List {
            return scanner.pass(value).map(|()| Found::Mistyped);
        }
        let mut files = Files { count: 0, sum: Some(0), longest: 0, links: 0, error: None, sink };
        while scanner.more()? {
            match scanner.value()? {
                Value::Dict if files.error.is_none() => {
                    let added = RawFile::read(scanner)?.finish().and_then(|file| files.add(file));
                    files.error = added.err();
                }
                other => {
                    let kind = "a list of dictionaries";
                    files.error.get_or_insert(TorrentError::Mistyped { key: "files", kind });
                    scanner.pass(other)?;
                }
            }
        }
        Ok(Found::Is(files))
    }

    fn add(&mut self, file: Option<File>) -> std::result::Result<(), TorrentError> {
        let Some(file) = file else {
            self.links += 1;
            return Ok(());
        };
        self.count += 1;
        self.sum = self.sum.and_then(|sum| sum.checked_add(file.length)).filter(|&sum| i64::try_from(sum).is_ok());
        self.longest = self.longest.max(file.path.len());
        match &mut self.sink {
            Sink::Keep(files) => files.push(file),
            // Padding is never stored, and much of it shares a name.
            _ if file.pad => {}
            Sink::Hashes(hashes) => hashes.push(Hash::of(&file.path)),
            Sink::Watch(watch) => watch.look(&file.path)?,
        }
        Ok(())
    }
}

type Path = std::result::Result<String, PathError>;

/// The components of a path, each checked as it comes.
fn path<R: BufRead>(scanner: &mut Scanner<R>) -> Result<Found<Path>> {
    let value = scanner.value()?;
    if value != Value::List {
        return scanner.pass(value).map(|()| Found::Mistyped);
    }
    let (mut path, mut part, mut depth) = (Ok(String::new()), Vec::new(), 0);
    loop {
        let quick = scanner.quick_item(NAME_MAX, &mut part)?;
        if !quick && !scanner.more()? {
            break;
        }
        depth += 1;
        let longer = match if quick { Value::Bytes(part.len()) } else { scanner.value()? } {
            Value::Bytes(length) if length <= NAME_MAX => {
                if !quick {
                    scanner.take(length, NAME_MAX, &mut part)?;
                }
                path.as_mut().map(|path| lengthen(path, &part, depth))
            }
            other => {
                scanner.pass(other)?;
                let text = matches!(other, Value::Bytes(_));
                path.as_mut().map(|_| Err(if text { PathError::TooLong } else { PathError::NotText }))
            }
        };
        // What came first is what is told.
        if let Ok(Err(error)) = longer {
            path = Err(error);
        }
    }
    Ok(Found::Is(if depth == 0 { Err(PathError::Empty) } else { path }))
}

fn lengthen(path: &mut String, part: &[u8], depth: usize) -> std::result::Result<(), PathError> {
    if depth > paths::DEPTH_MAX {
        return Err(PathError::TooDeep);
    }
    if depth > 1 {
        path.push('/');
    }
    paths::push_safe(path, part)?;
    if path.len() > paths::PATH_MAX { Err(PathError::TooLong) } else { Ok(()) }
}

#[derive(Default)]
struct RawFile {
    length: Found<i64>,
    path: Found<Path>,
    path_utf8: Found<Path>,
    attr: Found<Vec<u8>>,
    target: Found<Path>,
}

impl RawFile {
    fn read<R: BufRead>(scanner: &mut Scanner<R>) -> Result<RawFile> {
        type Entry<R> = fn(&mut RawFile, &mut Scanner<R>) -> Result<()>;
        let mut file = RawFile::default();
        while let Some(key) = scanner.key()? {
            let entry: Entry<R> = match key {
                b"length" => |file, s| int(s).map(|it| file.length = it),
                b"path" => |file, s| path(s).map(|it| file.path = it),
                b"path.utf-8" => |file, s| path(s).map(|it| file.path_utf8 = it),
                b"attr" => |file, s| bytes(s, NAME_MAX).map(|it| file.attr = it),
                b"symlink path" => |file, s| path(s).map(|it| file.target = it),
                _ => |_, s| s.value().and_then(|value| s.pass(value)),
            };
            entry(&mut file, scanner)?;
        }
        Ok(file)
    }

    /// `None` for a symbolic link (BEP 47), which we do not make; one that leads out is a sign of malice.
    fn finish(self) -> std::result::Result<Option<File>, TorrentError> {
        let attr = self.attr.ok().unwrap_or_default();
        let path = match self.path_utf8 {
            Found::Is(path) => path?,
            _ => self.path.need("path", "a list of strings")??,
        };
        if attr.contains(&b'l') {
            return match (self.length, self.target) {
                (Found::Is(length), _) if length != 0 => Err(TorrentError::Symlink(paths::brief(&path))),
                (_, Found::Is(Err(_))) => Err(TorrentError::LinkLeaves(paths::brief(&path))),
                _ => Ok(None),
            };
        }
        let length = self.length.need("length", "an integer")?;
        let length = u64::try_from(length).map_err(|_| TorrentError::NegativeLength)?;
        Ok(Some(File { path, length, pad: attr.contains(&b'p') }))
    }
}
