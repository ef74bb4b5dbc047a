//! Whose the files are: no two torrents of a host write to the same one. A link's files are known only once its metadata is there,
//! so that this is asked when a torrent's files are opened, by the session itself.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};

use crate::types::InfoHash;

/// The files that are taken. They stay so for as long as the host lives, unless their torrent fails: what is there of one that is
/// over must not be written over by the next.
#[derive(Default)]
pub struct Claims {
    /// By a hash of the path: torrents have up to half a million files.
    files: HashMap<u64, InfoHash>,
    state: RandomState,
}

impl Claims {
    /// Takes these files below `folder` for a torrent, all or none. Two names of one folder are two folders here.
    ///
    /// # Errors
    /// The first that another torrent has.
    pub fn take<'a>(
        &mut self,
        info_hash: InfoHash,
        folder: &Path,
        files: impl Iterator<Item = &'a Path> + Clone,
    ) -> Result<(), PathBuf> {
        let place = |state: &RandomState, file: &Path| state.hash_one(folder.join(file));
        let taken = |file: &&Path| self.files.get(&place(&self.state, file)).is_some_and(|owner| *owner != info_hash);
        if let Some(file) = files.clone().find(taken) {
            return Err(file.to_owned());
        }
        self.files.extend(files.map(|file| (place(&self.state, file), info_hash)));
        Ok(())
    }

    /// Whether a file belongs to a torrent.
    pub fn has(&self, file: &Path) -> bool {
        self.files.contains_key(&self.state.hash_one(file))
    }

    /// A torrent has failed: its files are free for another, such as its own corrected form.
    pub fn release(&mut self, info_hash: InfoHash) {
        self.files.retain(|_, owner| *owner != info_hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_belongs_to_two() {
        let mut claims = Claims::default();
        let take = |claims: &mut Claims, hash, folder: &str, files: &[&str]| {
            claims.take(InfoHash([hash; 20]), Path::new(folder), files.iter().map(Path::new))
        };
        assert_eq!(take(&mut claims, 1, "out", &["x/a", "x/b"]), Ok(()));
        assert_eq!(take(&mut claims, 1, "out", &["x/a", "x/b"]), Ok(()), "a torrent that is run again finds its own");
        assert_eq!(take(&mut claims, 2, "out", &["x/c", "x/b"]), Err("x/b".into()));
        assert_eq!(take(&mut claims, 3, "out", &["x/c"]), Ok(()), "of what was refused nothing is taken");
        assert_eq!(take(&mut claims, 2, "elsewhere", &["x/c", "x/b"]), Ok(()));
        assert!(claims.has(Path::new("out/x/a")) && !claims.has(Path::new("out/x/d")));
        claims.release(InfoHash([1; 20]));
        let other = [Path::new("x/b"), Path::new("x/c")];
        assert_eq!(claims.take(InfoHash([3; 20]), Path::new("out"), other.into_iter()), Ok(()), "who failed has none");
    }
}
