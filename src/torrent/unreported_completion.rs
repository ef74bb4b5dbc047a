//! Remembers downloads whose completion has not been reported to the user: one small file for each, which exists from the start
//! of the download until the user's completion command has run. If a process dies in between, the file stays, and the next process
//! runs the command. Downloads that are never completed leave their files behind, so the number of files is bounded.

use std::fs;
use std::io;
use std::path::{Path, PathBuf, absolute};

use crate::torrent::record_files::{record_path, replace};
use crate::types::InfoHash;
use crate::util::atomic_file::may_be_ours;

/// The file for one torrent in one download folder.
#[derive(Clone, Debug)]
pub struct UnreportedCompletion(PathBuf);

impl UnreportedCompletion {
    /// The file in `folder` for a torrent that is downloaded to `out_dir`; it need not exist.
    pub fn new(folder: &Path, info_hash: InfoHash, out_dir: &Path) -> UnreportedCompletion {
        let out_dir = absolute(out_dir).unwrap_or_else(|_| out_dir.to_owned());
        UnreportedCompletion(record_path(folder, info_hash, &out_dir))
    }

    /// Records that the download has started.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn set(&self) -> io::Result<()> {
        replace(&self.0, b"", |_| false)
    }

    /// Whether a download has started whose completion has not been reported.
    pub fn is_set(&self) -> bool {
        self.0.exists() && may_be_ours(&self.0, |_| false).unwrap_or(false)
    }

    /// Records that the completion has been reported.
    pub fn clear(&self) {
        if !may_be_ours(&self.0, |_| false).unwrap_or(false) {
            return;
        }
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                log::warn!("{}: cannot be removed: {error}", self.0.display());
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_completion_is_unreported_in_its_own_folder_until_it_is_cleared() {
        let folder = tempfile::tempdir().expect("a folder");
        let marks = folder.path().join("new/pending");
        let of = |hash, out: &str| UnreportedCompletion::new(&marks, InfoHash([hash; 20]), Path::new(out));
        of(1, "out").clear();
        of(1, "out").set().expect("a file");
        of(1, "out").set().expect("twice is the same");
        let here = std::env::current_dir().expect("a folder").join("out");
        assert!(of(1, "./out").is_set() && of(1, here.to_str().expect("UTF-8")).is_set());
        assert!(!of(1, "other").is_set() && !of(2, "out").is_set());
        of(1, "out").clear();
        assert!(!of(1, "out").is_set());
        // A file that only has the name of such a file.
        of(1, "out").set().expect("a file");
        let file = fs::read_dir(&marks).expect("a folder").next().expect("a file").expect("a file").path();
        fs::write(&file, "mine").expect("a file");
        assert!(of(1, "out").set().is_err() && !of(1, "out").is_set());
        of(1, "out").clear();
        assert_eq!(fs::read_to_string(&file).expect("it"), "mine");
    }
}
