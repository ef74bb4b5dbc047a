//! Decodes the file list of a multi-file torrent. Each file is checked while reading, and kept only if the caller asks.

use std::io::BufRead;

use crate::bencode::scan::{Scanner, ValueStart};
use crate::metainfo::decode::{Field, NAME_READ_MAX, Result, bytes, int};
use crate::metainfo::error::MetainfoError;
use crate::metainfo::paths::{self, PathError};
use crate::types::Sha256Hash;

/// The prefix of the names of `BitComet`'s pad files.
const BITCOMET_PAD: &str = "_____padding_file_";

/// A file of a multi-file torrent. Its path does not include the torrent's name.
pub(in crate::metainfo) struct DecodedFile {
    pub path: String,
    /// The path as in the torrent, only if it differs from `path`; components that cannot exist on a disk are replaced by their
    /// safe form.
    #[expect(clippy::box_collection, reason = "one word in each of the many files that have none")]
    pub original: Option<Box<Vec<u8>>>,
    pub length: u64,
    pub kind: EntryKind,
}

/// The kind of an entry in the file list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::metainfo) enum EntryKind {
    File,
    /// An executable file (BEP 47).
    Executable,
    /// Padding, i.e. zeros that are not stored (BEP 47), or an entry to ignore.
    Pad,
    /// A symbolic link to this path below the torrent's folder (BEP 47).
    Link(Box<str>),
    /// An entry of length 0 that represents a folder.
    Folder,
}

/// What to do with the files that are read.
#[derive(Default)]
pub(in crate::metainfo) enum FileSink {
    /// Only count and check them.
    #[default]
    Count,
    /// Collect them.
    Collect(Vec<DecodedFile>),
}

/// The value of `files`.
pub(in crate::metainfo) struct FileList {
    /// The number of files that are stored.
    pub count: usize,
    /// The number of entries of any kind.
    pub entries: usize,
    /// The total length of all entries; `None` if it exceeds the largest file offset (a signed 64-bit number).
    pub sum: Option<u64>,
    /// The longest path, in bytes.
    pub longest: usize,
    /// Whether all names are UTF-8.
    pub is_utf8: bool,
    /// The error in the first invalid entry; later entries are skipped.
    pub error: Option<MetainfoError>,
    pub sink: FileSink,
}

impl FileList {
    pub fn new(sink: FileSink) -> FileList {
        FileList { count: 0, entries: 0, sum: Some(0), longest: 0, is_utf8: true, error: None, sink }
    }

    pub fn read<R: BufRead>(scanner: &mut Scanner<R>, sink: FileSink) -> Result<Field<FileList>> {
        let value = scanner.value()?;
        if value != ValueStart::List {
            return scanner.skip(value).map(|()| Field::Mistyped);
        }
        let mut files = FileList::new(sink);
        while scanner.has_next_item()? {
            files.entries += 1;
            match scanner.value()? {
                ValueStart::Dict if files.error.is_none() => {
                    let added = RawFile::read(scanner)?.into_file().map(|file| files.add(file));
                    files.error = added.err();
                }
                other => {
                    let kind = "a list of dictionaries";
                    files.error.get_or_insert(MetainfoError::Mistyped { key: "files", kind });
                    scanner.skip(other)?;
                }
            }
        }
        Ok(Field::Is(files))
    }

    pub fn add(&mut self, file: DecodedFile) {
        self.count += usize::from(matches!(file.kind, EntryKind::File | EntryKind::Executable));
        self.sum = self.sum.and_then(|sum| sum.checked_add(file.length)).filter(|&sum| i64::try_from(sum).is_ok());
        self.longest = self.longest.max(file.path.len());
        self.is_utf8 &= file.original.as_ref().is_none_or(|raw| std::str::from_utf8(raw).is_ok());
        if let FileSink::Collect(files) = &mut self.sink {
            files.push(file);
        }
    }
}

/// A decoded path.
#[derive(Default)]
pub(in crate::metainfo) struct DecodedPath {
    /// Made of safe components only.
    pub safe: String,
    /// The path as in the torrent, from the first component on that differs.
    pub original: Option<Vec<u8>>,
    /// Whether the last component is empty or `.`, which marks a folder.
    ends_in_folder: bool,
    /// Whether a component contains `/` or NUL.
    has_separator: bool,
}

type Checked = std::result::Result<DecodedPath, PathError>;

/// Decodes a path and checks each component as it is read.
fn path<R: BufRead>(scanner: &mut Scanner<R>) -> Result<Field<Checked>> {
    let value = scanner.value()?;
    if value != ValueStart::List {
        return scanner.skip(value).map(|()| Field::Mistyped);
    }
    let (mut path, mut part, mut depth) = (Ok(DecodedPath::default()), Vec::new(), 0);
    loop {
        let quick = scanner.try_item(NAME_READ_MAX, &mut part)?;
        if !quick && !scanner.has_next_item()? {
            break;
        }
        depth += 1;
        let longer = match if quick { ValueStart::Bytes(part.len()) } else { scanner.value()? } {
            ValueStart::Bytes(length) if length <= NAME_READ_MAX => {
                if !quick {
                    scanner.take(length, NAME_READ_MAX, &mut part)?;
                }
                path.as_mut().map(|path: &mut DecodedPath| path.push_component(&part, depth))
            }
            other => {
                scanner.skip(other)?;
                let text = matches!(other, ValueStart::Bytes(_));
                path.as_mut().map(|_| Err(if text { PathError::TooLong } else { PathError::NotText }))
            }
        };
        // Report the first error.
        if let Ok(Err(error)) = longer {
            path = Err(error);
        }
    }
    Ok(Field::Is(path))
}

impl DecodedPath {
    /// Appends a component. An empty one or `.` adds nothing.
    pub fn push_component(&mut self, part: &[u8], depth: usize) -> std::result::Result<(), PathError> {
        if depth > paths::DEPTH_MAX {
            return Err(PathError::TooDeep);
        }
        self.ends_in_folder = matches!(part, b"" | b".");
        if self.ends_in_folder {
            return Ok(());
        }
        let before = self.safe.len();
        if before > 0 {
            self.safe.push('/');
        }
        let start = self.safe.len();
        let is_safe = paths::push_safe(&mut self.safe, part)?;
        let can_exist = is_safe || paths::can_exist(part);
        self.has_separator |= !is_safe && part.iter().any(|b| matches!(b, b'/' | 0));
        if self.original.is_some() || (!is_safe && can_exist) {
            let safe = self.safe.as_bytes();
            let original = self.original.get_or_insert_with(|| safe.get(..before).unwrap_or_default().to_vec());
            if before > 0 {
                original.push(b'/');
            }
            original.extend_from_slice(if can_exist { part } else { safe.get(start..).unwrap_or_default() });
        }
        if self.safe.len() > paths::PATH_MAX { Err(PathError::TooLong) } else { Ok(()) }
    }

    /// The lengths of both forms, for [`DecodedPath::truncate`].
    pub fn lengths(&self) -> (usize, Option<usize>) {
        (self.safe.len(), self.original.as_ref().map(Vec::len))
    }

    /// Removes the components that were added since the path had these lengths.
    pub fn truncate(&mut self, (safe, original): (usize, Option<usize>)) {
        self.safe.truncate(safe);
        match (&mut self.original, original) {
            (Some(path), Some(length)) => path.truncate(length),
            (path, _) => *path = None,
        }
    }
}

#[derive(Default)]
pub(super) struct RawFile {
    length: Field<i64>,
    path: Field<Checked>,
    path_utf8: Field<Checked>,
    attr: Field<Vec<u8>>,
    target: Field<Checked>,
    /// `pieces root`, only in the tree of a v2 torrent (BEP 52).
    root: Field<Vec<u8>>,
}

impl RawFile {
    pub fn read<R: BufRead>(scanner: &mut Scanner<R>) -> Result<RawFile> {
        type KeyReader<R> = fn(&mut RawFile, &mut Scanner<R>) -> Result<()>;
        let mut file = RawFile::default();
        while let Some(key) = scanner.key()? {
            let entry: KeyReader<R> = match key {
                b"length" => |file, s| int(s).map(|it| file.length = it),
                b"path" => |file, s| path(s).map(|it| file.path = it),
                b"path.utf-8" => |file, s| path(s).map(|it| file.path_utf8 = it),
                b"attr" => |file, s| bytes(s, NAME_READ_MAX).map(|it| file.attr = it),
                b"pieces root" => |file, s| bytes(s, size_of::<Sha256Hash>()).map(|it| file.root = it),
                b"symlink path" => |file, s| path(s).map(|it| file.target = it),
                _ => |_, s| s.value().and_then(|value| s.skip(value)),
            };
            entry(&mut file, scanner)?;
        }
        Ok(file)
    }

    /// The entry of a tree at this path, and its root if it has data; or what is wrong with it.
    pub fn into_tree_file(
        self,
        path: &DecodedPath,
    ) -> std::result::Result<(DecodedFile, Option<Sha256Hash>), std::result::Result<MetainfoError, &'static str>> {
        let attr = self.attr.ok().unwrap_or_default();
        let original = path.original.clone().map(Box::new);
        let file = |length, kind| DecodedFile { path: path.safe.clone(), original, length, kind };
        if attr.contains(&b'l') {
            let kind = link_to(self.target, &path.safe).map_err(Ok)?;
            return Ok((file(0, kind), None));
        }
        if attr.contains(&b'p') {
            return Err(Err("is padding, which has no place there"));
        }
        let length = self.length.need("length", "an integer").map_err(Ok)?;
        let length = u64::try_from(length).map_err(|_| Ok(MetainfoError::NegativeLength))?;
        let root = match self.root {
            Field::Missing if length == 0 => None,
            _ if length == 0 => return Err(Err("is empty, but has a `pieces root`")),
            Field::Is(root) => root.try_into().ok().filter(|root| *root != Sha256Hash::default()),
            _ => None,
        };
        if length > 0 && root.is_none() {
            return Err(Err("has no valid `pieces root`"));
        }
        Ok((file(length, if attr.contains(&b'x') { EntryKind::Executable } else { EntryKind::File }), root))
    }

    fn into_file(self) -> std::result::Result<DecodedFile, MetainfoError> {
        let attr = self.attr.ok().unwrap_or_default();
        let is_link = attr.contains(&b'l');
        let path = match self.path_utf8 {
            Field::Is(path) => path?,
            // Padding is not stored, so it needs no name.
            _ if attr.contains(&b'p') && !self.path.is_present() => {
                DecodedPath { safe: ".pad".to_owned(), ..DecodedPath::default() }
            }
            _ => self.path.need("path", "a list of strings")??,
        };
        let length = match self.length {
            // A link has no bytes of its own, whatever length it claims.
            _ if is_link => 0,
            length => {
                let length = length.need("length", "an integer")?;
                u64::try_from(length).map_err(|_| MetainfoError::NegativeLength)?
            }
        };
        let last = path.safe.rsplit('/').next().unwrap_or_default();
        let kind = match attr {
            _ if is_link => link_to(self.target, &path.safe)?,
            attr if attr.contains(&b'p') || last.starts_with(BITCOMET_PAD) => EntryKind::Pad,
            _ if length == 0 && (path.ends_in_folder || path.safe.is_empty()) => {
                if path.safe.is_empty() {
                    EntryKind::Pad
                } else {
                    EntryKind::Folder
                }
            }
            attr if attr.contains(&b'x') => EntryKind::Executable,
            _ => EntryKind::File,
        };
        let DecodedPath { mut safe, original, .. } = path;
        if safe.is_empty() {
            safe.push('_');
        }
        Ok(DecodedFile { path: safe, original: original.map(Box::new), length, kind })
    }
}

/// The kind of a link entry. A link without a target is ignored. One that leads out of the torrent is an error, because it is
/// likely an attack.
fn link_to(target: Field<Checked>, path: &str) -> std::result::Result<EntryKind, MetainfoError> {
    match target {
        Field::Is(Ok(target)) if target.has_separator => Err(MetainfoError::LinkLeaves(paths::shortened(path))),
        Field::Is(Ok(target)) if !target.safe.is_empty() => Ok(EntryKind::Link(target.safe.into())),
        Field::Is(Err(_)) => Err(MetainfoError::LinkLeaves(paths::shortened(path))),
        _ => Ok(EntryKind::Pad),
    }
}
