//! Names without colons, which some systems and remote controls do not accept.

use std::path::{Path, PathBuf};

use crate::metainfo::decode::{DecodedFile, EntryKind};
use crate::metainfo::torrent::{FileEntry, Metainfo, SpecialEntry};
use crate::metainfo::unique_paths::make_paths_unique;

impl Metainfo {
    /// Replaces each colon in the names of the torrent and its files by `_`. All paths stay unique. A complete file with its original
    /// name is found nevertheless, like one that needed a safe name.
    pub fn replace_colons(&mut self) {
        if !self.name.contains(':') && !self.files.iter().any(|file| has_colon(&file.path)) {
            return;
        }
        let name = self.name.replace(':', "_");
        let mut renamed: Vec<DecodedFile> = self.files.iter().map(without_colons).collect();
        make_paths_unique(&mut renamed);
        for (file, renamed) in self.files.iter_mut().zip(renamed) {
            let path = PathBuf::from(renamed.path);
            let below = |path: &Path| path.iter().skip(1).collect::<PathBuf>();
            let (old, new) = (below(&file.path), below(&path));
            if old != new && !file.is_virtual {
                file.rare.get_or_insert_default().original.get_or_insert(old);
            }
            if let Some(rare) = file.rare.as_mut().filter(|rare| rare.special_entry.is_some()) {
                rare.special_entry = match renamed.kind {
                    EntryKind::Link(target) => Some(SpecialEntry::Link(PathBuf::from(&*target))),
                    EntryKind::Folder => Some(SpecialEntry::Folder),
                    _ => None,
                };
            }
            file.path = path;
        }
        if name != self.name {
            let old = std::mem::replace(&mut self.name, name);
            self.original_name.get_or_insert(PathBuf::from(old));
        }
    }
}

fn has_colon(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().contains(&b':')
}

/// The entry with its new path, which may be that of another one.
fn without_colons(file: &FileEntry) -> DecodedFile {
    let replaced = |path: &Path| path.to_string_lossy().replace(':', "_");
    let kind = match file.special_entry() {
        Some(SpecialEntry::Link(target)) => EntryKind::Link(replaced(target).into()),
        Some(SpecialEntry::Folder) => EntryKind::Folder,
        None if file.is_virtual => EntryKind::Pad,
        None => EntryKind::File,
    };
    DecodedFile { path: replaced(&file.path), original: None, length: file.length, kind }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn torrent(name: &str, paths: &[&[&str]]) -> Metainfo {
        let text = |text: &str| format!("{}:{text}", text.len());
        let mut files = String::new();
        for path in paths {
            let path: String = path.iter().map(|part| text(part)).collect();
            files += &["d6:lengthi1e4:pathl", &path, "ee"].concat();
        }
        let info = format!("d5:filesl{files}e4:name{}12:piece lengthi16384e6:pieces20:{}e", text(name), "a".repeat(20));
        Metainfo::parse(format!("d4:info{info}e").as_bytes()).expect("a torrent")
    }

    fn paths(metainfo: &Metainfo) -> Vec<&str> {
        metainfo.files.iter().filter_map(|file| file.path.to_str()).collect()
    }

    #[test]
    fn no_name_has_a_colon_and_no_two_files_share_a_path() {
        let mut plain = torrent("t", &[&["a"], &["b_c"]]);
        let before = plain.clone();
        plain.replace_colons();
        assert_eq!(plain, before);
        let mut odd = torrent("t:1", &[&["a:b"], &["a_b"], &["c:", "x"], &["c_"], &["c_", "y"]]);
        odd.replace_colons();
        assert_eq!(odd.name, "t_1");
        assert_eq!(paths(&odd), ["t_1/a_b", "t_1/a_b.1", "t_1/c_/x", "t_1/c_.1", "t_1/c_/y"]);
        let again = odd.clone();
        odd.replace_colons();
        assert_eq!(odd, again);
    }

    #[test]
    fn files_with_their_original_names_are_found() {
        let mut torrent = torrent("t:1", &[&["a:b"], &["c"]]);
        torrent.replace_colons();
        let places = |at: usize| torrent.alternative_paths(&torrent.files[at]);
        assert_eq!((places(0), places(1)), (vec![PathBuf::from("t:1/a:b")], vec![PathBuf::from("t:1/c")]));
        let single = b"d4:infod6:lengthi1e4:name3:a:b12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee";
        let mut single = Metainfo::parse(single).expect("a torrent");
        single.replace_colons();
        assert_eq!((single.name.as_str(), paths(&single).as_slice()), ("a_b", &["a_b"][..]));
        assert_eq!(single.alternative_paths(&single.files[0]), [PathBuf::from("a:b")]);
    }
}
