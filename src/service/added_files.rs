//! What becomes of a file in the watch folder once its torrents are added.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::util::atomic_file::{open_regular, rename_to_new};
use crate::util::printable_text::printable;

/// The suffix of files that were added.
const ADDED: &str = "added";
/// How many files of the same name may have been added.
const MAX_SAME_NAMES: u32 = 1000;

/// Renames or deletes the file that was `read`. Another one, which has taken its name since, gets the name back; this is an event in
/// the folder, after which the service looks at that file.
pub(super) fn put_away(path: &Path, read: &[u8], deletes: bool) -> io::Result<()> {
    let added = rename(path)?;
    match has_content(&added, read) {
        true if deletes => fs::remove_file(&added),
        true => Ok(()),
        false => rename_to_new(&added, path).inspect_err(|_| {
            log::error!("{}: not added, although it has this name now", printable(&added.to_string_lossy()));
        }),
    }
}

/// Appends `.added` to a file's name, and a number if there is such a file. Returns the new path.
fn rename(path: &Path) -> io::Result<PathBuf> {
    for number in 0..MAX_SAME_NAMES {
        let mut name = path.as_os_str().to_owned();
        name.push(if number == 0 { format!(".{ADDED}") } else { format!(".{ADDED}.{number}") });
        match rename_to_new(path, Path::new(&name)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            renamed => return renamed.map(|()| name.into()),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Whether a file has exactly this content.
fn has_content(path: &Path, expected: &[u8]) -> bool {
    let Ok(Some(file)) = open_regular(path) else { return false };
    let mut bytes = Vec::new();
    file.take(expected.len() as u64 + 1).read_to_end(&mut bytes).is_ok() && bytes == expected
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_exists_is_not_replaced() {
        let temp = tempfile::tempdir().expect("a folder");
        let path = temp.path().join("x.torrent");
        for content in ["a", "b", "c"] {
            fs::write(&path, content).expect("written");
            rename(&path).expect("renamed");
        }
        let read = |name: &str| fs::read_to_string(temp.path().join(name)).expect("the file");
        assert_eq!(["x.torrent.added", "x.torrent.added.1", "x.torrent.added.2"].map(read), ["a", "b", "c"]);
    }

    #[test]
    fn a_file_that_was_not_read_keeps_its_name() {
        let temp = tempfile::tempdir().expect("a folder");
        let path = temp.path().join("x.torrent");
        for deletes in [false, true] {
            for other in ["b", "", "a longer one"] {
                fs::write(&path, other).expect("written");
                put_away(&path, b"a", deletes).expect("renamed back");
                assert_eq!(fs::read_to_string(&path).expect("the file"), other);
                assert_eq!(fs::read_dir(temp.path()).expect("a folder").count(), 1);
            }
        }
        put_away(&path, b"a longer one", true).expect("deleted");
        assert_eq!(fs::read_dir(temp.path()).expect("a folder").count(), 0);
    }
}
