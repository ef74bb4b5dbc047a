//! Decodes the `file tree` of a v2 torrent (BEP 52): dictionaries whose keys are the parts of paths. Without recursion, because the
//! tree is as deep as its author likes.

use std::io::BufRead;

use crate::bencode::scan::{Scanner, ValueStart};
use crate::metainfo::decode::files::{DecodedPath, FileList, FileSink, RawFile};
use crate::metainfo::decode::{Field, Result};
use crate::metainfo::error::MetainfoError;
use crate::metainfo::paths::{self, PathError};
use crate::types::Sha256Hash;

/// The value of `file tree`.
pub(in crate::metainfo) struct FileTree {
    pub list: FileList,
    /// The root of each file with data, in order; only of a tree that is collected.
    pub roots: Vec<Sha256Hash>,
    /// Whether the tree has one entry, which is a file.
    pub is_single: bool,
}

/// A folder that is being read.
#[derive(Default)]
struct Level {
    /// The lengths of the path above.
    above: (usize, Option<usize>),
    /// The entry before, to see that they are sorted: the order of the files follows from it.
    previous: Vec<u8>,
    entries: usize,
    /// Whether this is not a folder but a file.
    is_file: bool,
}

struct TreeReader {
    tree: FileTree,
    path: DecodedPath,
    levels: Vec<Level>,
}

impl FileTree {
    pub fn read<R: BufRead>(scanner: &mut Scanner<R>, sink: FileSink) -> Result<Field<FileTree>> {
        let value = scanner.value()?;
        if value != ValueStart::Dict {
            return scanner.skip(value).map(|()| Field::Mistyped);
        }
        let tree = FileTree { list: FileList::new(sink), roots: Vec::new(), is_single: false };
        let mut reader = TreeReader { tree, path: DecodedPath::default(), levels: vec![Level::default()] };
        let mut key = Vec::new();
        while !reader.levels.is_empty() {
            let Some(found) = scanner.key()? else {
                reader.leave();
                continue;
            };
            key.clear();
            key.extend_from_slice(found);
            let value = scanner.value()?;
            let entered = match reader.tree.list.error {
                None => reader.enter(&key, value),
                // Only the syntax of the rest matters.
                Some(_) => Ok(false),
            };
            match entered {
                Ok(true) if key.is_empty() => reader.add_file(RawFile::read(scanner)?),
                Ok(true) => {}
                Ok(false) => scanner.skip(value)?,
                Err(error) => {
                    reader.tree.list.error = Some(error);
                    scanner.skip(value)?;
                }
            }
        }
        Ok(Field::Is(reader.tree))
    }
}

impl TreeReader {
    /// Checks a key and its value, and goes down to the folder or file that it names. False if the value must be skipped.
    fn enter(&mut self, key: &[u8], value: ValueStart) -> std::result::Result<bool, MetainfoError> {
        let is_root = self.levels.len() == 1;
        let Some(level) = self.levels.last_mut() else { return Ok(false) };
        let why = if level.is_file || (key.is_empty() && level.entries > 0) {
            "is both a file and a folder"
        } else if key.is_empty() && is_root {
            "has an empty name"
        } else if level.entries > 0 && level.previous.as_slice() > key {
            "has entries that are not sorted"
        } else if value != ValueStart::Dict {
            "has an entry that is not a dictionary"
        } else {
            ""
        };
        if !why.is_empty() {
            return Err(self.refused(why));
        }
        level.entries += 1;
        level.is_file = key.is_empty();
        level.previous.clear();
        level.previous.extend_from_slice(key);
        if key.is_empty() {
            return Ok(true);
        }
        if key == b"." {
            return Err(PathError::DotComponent(".").into());
        }
        let above = self.path.lengths();
        self.path.push_component(key, self.levels.len())?;
        self.levels.push(Level { above, ..Level::default() });
        Ok(true)
    }

    /// Goes up at the end of a dictionary.
    fn leave(&mut self) {
        let Some(left) = self.levels.pop() else { return };
        match self.levels.len() {
            0 => self.tree.is_single &= left.entries == 1,
            1 => self.tree.is_single = left.is_file,
            _ => {}
        }
        self.path.truncate(left.above);
    }

    fn add_file(&mut self, file: RawFile) {
        self.tree.list.entries += 1;
        match file.into_tree_file(&self.path) {
            Ok((file, root)) => {
                if matches!(self.tree.list.sink, FileSink::Collect(_)) {
                    self.tree.roots.extend(root);
                }
                self.tree.list.add(file);
            }
            Err(why) => self.tree.list.error = Some(why.unwrap_or_else(|why| self.refused(why))),
        }
    }

    fn refused(&self, why: &'static str) -> MetainfoError {
        let path = if self.path.safe.is_empty() { "/" } else { &self.path.safe };
        MetainfoError::FileTree { path: paths::shortened(path), why }
    }
}
