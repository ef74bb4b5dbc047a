//! Gives each file of a torrent a unique path. If two files share a path, the later one is renamed; so is a file whose path other
//! files need as a folder. Detecting that nearly all torrents have no such conflict takes 10 to 12 bytes of memory per file.

use std::collections::{HashMap, HashSet};

use crate::metainfo::decode::{DecodedFile, EntryKind};
use crate::metainfo::paths::NAME_MAX;
use crate::util::cold_sort;

/// 64-bit FNV-1a, because one pass over a path yields its hash and those of all folders above it. If two paths collide, one file
/// is renamed needlessly; nothing else happens.
#[derive(Clone, Copy)]
struct PathHash(u64);

impl PathHash {
    fn of(path: &str) -> u64 {
        let mut hash = PathHash::empty();
        path.bytes().for_each(|byte| hash.add(byte));
        hash.0
    }

    fn empty() -> PathHash {
        PathHash(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, byte: u8) {
        self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
}

/// Calls `each` for every folder above a path, with the folder's hash and that of its parent.
fn folders(path: &str, mut each: impl FnMut(u64, u64)) {
    let (mut hash, mut above) = (PathHash::empty(), PathHash::empty());
    for byte in path.bytes() {
        if byte == b'/' {
            each(hash.0, above.0);
            above = hash;
        }
        hash.add(byte);
    }
}

/// The parent folder of a path.
fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// Renames files until all paths are unique and none lies below another file. Links and folders in conflict are dropped. Returns
/// the number of entries renamed or dropped.
pub(crate) fn make_paths_unique(files: &mut [DecodedFile]) -> usize {
    let conflicts = PathConflicts::of(files);
    if conflicts.is_empty() { 0 } else { conflicts.resolve(files) }
}

/// The hashes of the paths in conflict.
struct PathConflicts {
    /// Paths that several entries share.
    twice: HashSet<u64>,
    /// Paths of entries that other entries need as a folder.
    folders: HashSet<u64>,
}

impl PathConflicts {
    fn of(files: &[DecodedFile]) -> PathConflicts {
        let mut sorted: Vec<u64> = stored(files).map(|file| PathHash::of(&file.path)).collect();
        cold_sort::sort(&mut sorted);
        let pairs = sorted.windows(2).filter(|pair| pair.first() == pair.last());
        let twice = pairs.filter_map(|pair| pair.first().copied()).collect();
        let index = PathIndex::new(&sorted);
        let mut above = HashSet::new();
        for file in stored(files) {
            folders(&file.path, |folder, _| _ = index.has(folder) && above.insert(folder));
        }
        PathConflicts { twice, folders: above }
    }

    fn is_empty(&self) -> bool {
        self.twice.is_empty() && self.folders.is_empty()
    }

    fn has(&self, hash: u64) -> bool {
        self.twice.contains(&hash) || self.folders.contains(&hash)
    }

    fn resolve(&self, files: &mut [DecodedFile]) -> usize {
        let mut taken: HashSet<u64> = stored(files).map(|file| PathHash::of(&file.path)).collect();
        // New names must not collide with folders either. Only folders beside a renamed file can.
        let moving = stored(files).filter(|file| self.has(PathHash::of(&file.path)));
        let around: HashSet<u64> = moving.map(|file| PathHash::of(parent(&file.path))).collect();
        for file in stored(files) {
            folders(&file.path, |folder, above| _ = around.contains(&above) && taken.insert(folder));
        }
        let (mut seen, mut numbers, mut moved) = (HashSet::new(), HashMap::new(), 0);
        for file in files.iter_mut().filter(|file| file.kind != EntryKind::Pad) {
            let hash = PathHash::of(&file.path);
            if !self.has(hash) || (file.kind == EntryKind::Folder && self.folders.contains(&hash)) {
                continue;
            }
            if !self.folders.contains(&hash) && seen.insert(hash) {
                continue;
            }
            moved += 1;
            if matches!(file.kind, EntryKind::Link(_) | EntryKind::Folder) {
                file.kind = EntryKind::Pad;
                continue;
            }
            let number = numbers.entry(hash).or_insert(0u32);
            file.path = loop {
                *number += 1;
                let path = numbered(&file.path, *number);
                if taken.insert(PathHash::of(&path)) {
                    break path;
                }
            };
        }
        moved
    }
}

/// All entries but padding.
fn stored(files: &[DecodedFile]) -> impl Iterator<Item = &DecodedFile> {
    files.iter().filter(|file| file.kind != EntryKind::Pad)
}

/// Inserts a number before the extension: `a/b.txt` with the number 1 becomes `a/b.1.txt`.
fn numbered(path: &str, number: u32) -> String {
    let (folder, name) = path.rsplit_once('/').map_or(("", path), |(folder, name)| (folder, name));
    let dot = name.rfind('.').filter(|&at| at > 0 && name.len() - at <= 16).unwrap_or(name.len());
    let (stem, ending) = name.split_at(dot);
    let number = format!(".{number}");
    let mut room = stem.len().min(NAME_MAX - number.len() - ending.len());
    while !stem.is_char_boundary(room) {
        room -= 1;
    }
    let slash = if folder.is_empty() { "" } else { "/" };
    format!("{folder}{slash}{}{number}{ending}", stem.get(..room).unwrap_or_default())
}

/// Sorted hashes with a bit set of 16 to 32 bits per hash as a filter: a lookup of an absent hash nearly always ends at the filter.
struct PathIndex<'a> {
    sorted: &'a [u64],
    /// The filter; its length is a power of two.
    bits: Vec<u64>,
}

impl<'a> PathIndex<'a> {
    fn new(sorted: &'a [u64]) -> PathIndex<'a> {
        let mut bits = vec![0; (sorted.len() / 4).next_power_of_two()];
        for hash in sorted {
            let (word, bit) = PathIndex::place(*hash, bits.len());
            bits.get_mut(word).into_iter().for_each(|word| *word |= bit);
        }
        PathIndex { sorted, bits }
    }

    /// The word and the bit of a hash in a filter of `words` words.
    fn place(hash: u64, words: usize) -> (usize, u64) {
        let mixed = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((mixed >> 32) as usize & (words - 1), 1 << (mixed >> 58))
    }

    fn has(&self, hash: u64) -> bool {
        let (word, bit) = PathIndex::place(hash, self.bits.len());
        self.bits.get(word).is_some_and(|word| word & bit != 0) && self.sorted.binary_search(&hash).is_ok()
    }
}

/// The indexes of the links in `files` whose target is not a file, link or folder of the torrent.
pub(crate) fn dangling_links(files: &[DecodedFile]) -> Vec<usize> {
    let target =
        |file: &DecodedFile| if let EntryKind::Link(target) = &file.kind { Some(PathHash::of(target)) } else { None };
    let mut missing: HashSet<u64> = files.iter().filter_map(target).collect();
    if missing.is_empty() {
        return Vec::new();
    }
    for file in stored(files) {
        folders(&file.path, |folder, _| _ = missing.remove(&folder));
        missing.remove(&PathHash::of(&file.path));
    }
    let links = files.iter().enumerate().filter_map(|(at, file)| Some((at, target(file)?)));
    links.filter_map(|(at, target)| missing.contains(&target).then_some(at)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(paths: &[&str]) -> Vec<String> {
        let kind = |path: &str| match path.chars().next_back() {
            Some('/') => EntryKind::Folder,
            Some('@') => EntryKind::Link("x".into()),
            _ => EntryKind::File,
        };
        let file = |path: &&str| {
            let name = path.trim_end_matches(['/', '@']).to_owned();
            DecodedFile { path: name, original: None, length: 1, kind: kind(path) }
        };
        let mut files: Vec<DecodedFile> = paths.iter().map(file).collect();
        make_paths_unique(&mut files);
        files.into_iter().filter(|file| file.kind != EntryKind::Pad).map(|file| file.path).collect()
    }

    #[test]
    fn the_later_of_two_files_moves() {
        assert_eq!(settled(&["a", "b/a", "b/c"]), ["a", "b/a", "b/c"]);
        assert_eq!(settled(&["a.txt", "a.txt", "a.txt"]), ["a.txt", "a.1.txt", "a.2.txt"]);
        assert_eq!(settled(&["a.txt", "a.1.txt", "a.txt"]), ["a.txt", "a.1.txt", "a.2.txt"]);
        assert_eq!(settled(&["d/e", "d/e", ".x", ".x"]), ["d/e", "d/e.1", ".x", ".x.1"]);
    }

    #[test]
    fn a_file_moves_where_others_need_a_folder() {
        assert_eq!(settled(&["a", "a/b"]), ["a.1", "a/b"]);
        assert_eq!(settled(&["a/b", "a"]), ["a/b", "a.1"]);
        assert_eq!(settled(&["a", "a/b", "a.1/c", "a"]), ["a.2", "a/b", "a.1/c", "a.3"], "no folder's name either");
        assert_eq!(settled(&["a/b/c/d", "a/b", "a/b.1/x"]), ["a/b/c/d", "a/b.2", "a/b.1/x"]);
        assert_eq!(settled(&["d/", "d/x", "d"]), ["d", "d/x", "d.1"]);
        assert_eq!(settled(&["d/", "d"]), ["d", "d.1"]);
        assert_eq!(settled(&["d", "d/"]), ["d"]);
        assert_eq!(settled(&["l@", "l/x", "k", "k@"]), ["l/x", "k"], "a link is never above a file");
    }

    #[test]
    fn numbers_fit_into_names() {
        let long = format!("x/{}.tar", "ü".repeat(125));
        let path = numbered(&long, 123_456);
        assert!(path.len() <= NAME_MAX + 2 && path.starts_with("x/ü"), "{path}");
        assert_eq!(&path[path.len() - 11..], ".123456.tar");
    }
}
