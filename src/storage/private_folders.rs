//! The folders of btsync's own configuration and records, and the state folders of services, wherever they are. No torrent may write
//! to them, by whatever name: through a link or a mount, or in the spelling of a file system that takes several names for one.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::util::descriptors::with_retry;
use crate::util::paths::resolved;
use crate::util::printable_text::is_deceptive;
use crate::util::state_mark::{OWN_FOLDERS, SERVE, is_state_folder};

/// How often to try again to read a folder while no descriptor is free.
const MAX_ATTEMPTS: usize = 100;

/// A file's device and inode.
type FolderId = (u64, u64);

/// The private folders, as seen from a download folder.
#[derive(Debug)]
pub struct PrivateFolders {
    private: Vec<PrivatePath>,
    /// The folders from the download folder to that of the last path, each with its name in the one before: many paths have the same.
    folders: Vec<(OsString, PrivatePlace)>,
}

/// A private folder or file.
#[derive(Debug)]
struct PrivatePath {
    /// Its path, folded.
    path: String,
    /// The nearest folder above it that exists, or itself, and its path from there.
    nearest: Option<(FolderId, String)>,
}

/// Where a path leads to.
#[derive(Debug)]
struct PrivatePlace {
    path: PathBuf,
    is_there: bool,
    /// Whether it is a service's state folder or below one.
    is_state: bool,
    /// The path, folded.
    text: String,
    /// For each private path whose nearest folder is above this place: the number of that, and the path from that folder to here.
    below: Vec<(usize, String)>,
}

impl PrivateFolders {
    /// The `private` folders, and what links in them lead to (files, missing files and btsync's own folders), for paths below `root`.
    pub fn new(root: &Path, private: &[PathBuf]) -> PrivateFolders {
        let mut paths = Vec::new();
        for folder in private {
            add_private(&mut paths, folder, true);
        }
        let mut folders = PrivateFolders { private: paths, folders: Vec::new() };
        let root = folders.place(resolved(root));
        folders.folders.push((OsString::new(), root));
        folders
    }

    /// Whether a file of this name below the root would be private: in a private folder, or in place of a folder above one. If the
    /// name is a link, its target must not be private either.
    pub fn covers_file(&mut self, name: &Path) -> bool {
        self.is_any(name, true, is_in_place)
    }

    /// The same for a link.
    pub fn covers_link(&mut self, name: &Path) -> bool {
        self.is_any(name, false, is_in_place)
    }

    /// Whether a folder of this name below the root would be private.
    pub fn covers_folder(&mut self, name: &Path) -> bool {
        self.is_any(name, false, is_below)
    }

    fn is_any(&mut self, name: &Path, follows: bool, is_so: impl Fn(&str, &str) -> bool) -> bool {
        let names: Vec<&OsStr> = name.iter().collect();
        let Some((last, above)) = names.split_last() else { return false };
        let same = self.folders.iter().skip(1).zip(above).take_while(|((known, _), name)| known == *name).count();
        self.folders.truncate(1 + same);
        for name in &above[same..] {
            let Some((_, folder)) = self.folders.last() else { return false };
            let (place, target) = self.child(folder, name);
            self.folders.push(((*name).to_owned(), target.unwrap_or(place)));
        }
        let Some((_, folder)) = self.folders.last() else { return false };
        let (place, target) = self.child(folder, last);
        let places = [Some(place), target.filter(|_| follows)];
        let mut places = places.iter().flatten();
        let is_private = |place: &PrivatePlace| {
            place.is_state || self.private.iter().enumerate().any(|(number, it)| it.is_related(number, place, &is_so))
        };
        places.any(is_private)
    }

    /// The place of a path without links.
    fn place(&self, path: PathBuf) -> PrivatePlace {
        let mut below = Vec::new();
        for above in path.ancestors() {
            let rest = folded(path.strip_prefix(above).unwrap_or(&path));
            below.extend(self.nearest_to(id(above)).map(|number| (number, rest.clone())));
        }
        let is_state = path.ancestors().any(is_state_folder);
        PrivatePlace { is_there: path.exists(), is_state, text: folded(&path), path, below }
    }

    /// The place of a name in a folder, and the place to which it leads if it is a link.
    fn child(&self, folder: &PrivatePlace, name: &OsStr) -> (PrivatePlace, Option<PrivatePlace>) {
        let (path, text) = (folder.path.join(name), folded(Path::new(name)));
        let there = if folder.is_there { id(&path) } else { None };
        let target = (folder.is_there && path.is_symlink()).then(|| self.place(resolved(&path)));
        let longer = |(number, rest): &(usize, String)| (*number, joined(rest, &text));
        let below = folder.below.iter().map(longer).chain(self.nearest_to(there).map(|number| (number, String::new())));
        let place = PrivatePlace {
            is_there: there.is_some(),
            is_state: folder.is_state || (there.is_some() && is_state_folder(&path)),
            below: below.collect(),
            text: joined(&folder.text, &text),
            path,
        };
        (place, target)
    }

    /// The numbers of the private paths whose nearest folder this is.
    fn nearest_to(&self, there: Option<FolderId>) -> impl Iterator<Item = usize> {
        let is_nearest = move |private: &PrivatePath| private.nearest.as_ref().map(|(id, _)| *id) == there;
        let numbers =
            self.private.iter().enumerate().filter(move |(_, private)| there.is_some() && is_nearest(private));
        numbers.map(|(number, _)| number)
    }
}

impl PrivatePath {
    fn new(path: &Path) -> PrivatePath {
        let real = resolved(path);
        let nearest = real.ancestors().find_map(|above| Some((id(above)?, folded(real.strip_prefix(above).ok()?))));
        PrivatePath { path: folded(&real), nearest }
    }

    /// Whether the place and this path (the one with this number) are related so, from the root or from the nearest folder.
    fn is_related(&self, number: usize, place: &PrivatePlace, is_so: impl Fn(&str, &str) -> bool) -> bool {
        let from_nearest = |rest: &String| self.nearest.as_ref().is_some_and(|(_, private)| is_so(rest, private));
        is_so(&place.text, &self.path) || place.below.iter().any(|(other, rest)| *other == number && from_nearest(rest))
    }
}

/// Adds a private folder, and what links in it lead to: files, missing files, and folders with the names of btsync's own ones. Other
/// links to folders do not count: the user may keep one to the downloads there.
fn add_private(paths: &mut Vec<PrivatePath>, folder: &Path, looks_deeper: bool) {
    paths.push(PrivatePath::new(folder));
    let mut attempts = 0..MAX_ATTEMPTS;
    let entries = with_retry(|| fs::read_dir(folder), || attempts.next().is_some());
    for entry in entries.into_iter().flatten().flatten() {
        let path = entry.path();
        let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        let is_own = OWN_FOLDERS.iter().any(|own| entry.file_name() == *own);
        if looks_deeper && entry.file_name() == SERVE && path.is_dir() {
            add_private(paths, &path, false);
        } else if is_link && (is_own || !path.is_dir()) {
            paths.push(PrivatePath::new(&path));
        }
    }
}

/// Whether a path is this folder or below it; both are relative to the same folder.
fn is_below(path: &str, folder: &str) -> bool {
    matches!(folder, "" | "/") || path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a file at this path would be in this folder, or in place of a folder above it.
fn is_in_place(path: &str, folder: &str) -> bool {
    is_below(path, folder) || is_below(folder, path)
}

fn joined(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{}/{name}", folder.trim_end_matches('/')) }
}

/// A path as compared by file systems that ignore case, the form of letters and invisible characters.
fn folded(path: &Path) -> String {
    let text = path.to_string_lossy();
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    // Some letters have no lower case but that of their upper case, such as the long s.
    text.chars().filter(|c| !is_ignored(*c)).collect::<String>().to_uppercase().to_lowercase()
}

/// Whether a file system may ignore this character in a name.
fn is_ignored(c: char) -> bool {
    let is_selector = matches!(c, '\u{200c}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}' | '\u{fff0}'..='\u{fff8}');
    is_selector || matches!(c, '\u{1bca0}'..='\u{1bca3}') || is_deceptive(c)
}

fn id(path: &Path) -> Option<FolderId> {
    fs::metadata(path).ok().map(|found: Metadata| (found.dev(), found.ino()))
}

#[cfg(test)]
mod tests;
