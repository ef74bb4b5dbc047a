//! Decides which torrent may write to a file: if two torrents of a client would write to the same file, the one that was named
//! later is refused. A magnet link's files are known only after its metadata has arrived, so each torrent asks when it opens
//! its files. Complete torrents write nothing and may share files. Pure: a torrent that has to wait asks again.
//!
//! A file is known by its path and, once it exists, also by its [`FileIdentity`]: one folder may have several names (a symbolic link,
//! a mount), and one file several spellings of its name.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};

use crate::storage::FileIdentity;
use crate::types::InfoHash;
use crate::util::paths::{folded, is_watched_name};

/// The files that belong to torrents. They remain so as long as the client exists, unless their torrent fails: the next torrent
/// must not overwrite the files of one that has ended.
#[derive(Default)]
pub struct FileOwners {
    /// Each file's first claimant, by a hash of the file's path or [`FileIdentity`]; torrents have up to half a million files.
    files: HashMap<u64, InfoHash>,
    /// The other claimants of a file, if there are any.
    other_claimants: HashMap<u64, Vec<InfoHash>>,
    torrents: HashMap<InfoHash, Claimant>,
    /// Positions whose torrents are expected, but have not registered their files yet.
    reserved: BTreeSet<u64>,
    state: RandomState,
}

/// A torrent whose files are known.
struct Claimant {
    position: u64,
    name: String,
    /// The download folder.
    folder: PathBuf,
    /// The hashes by which its files are known, each with the file's index in the torrent.
    files: Vec<(u64, usize)>,
    access: FileUse,
}

/// How a torrent uses its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileUse {
    /// Not known yet: the torrent is checking its files.
    Unknown,
    Reads,
    Writes,
}

/// The answer to a torrent that wants to write to its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteAnswer {
    /// It may write.
    Granted,
    /// An earlier torrent may turn out to write to one of the files: ask again after a change.
    Wait,
    /// The file with this index belongs to another torrent.
    Refused(usize, FileOwner),
}

/// A torrent that has a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileOwner {
    /// Its info-hash.
    pub info_hash: InfoHash,
    /// The name under which the user added it.
    pub name: String,
}

impl FileOwners {
    /// A torrent with this position is expected: later ones wait for it.
    pub fn reserve(&mut self, position: u64) {
        self.reserved.insert(position);
    }

    /// The torrent with this position has registered its files, or will not.
    pub fn end_reservation(&mut self, position: u64) {
        self.reserved.remove(&position);
    }

    /// Adds a torrent's files, given as their indices in the torrent and their paths below `folder`.
    pub fn add_torrent<'a>(
        &mut self,
        position: u64,
        owner: FileOwner,
        folder: &Path,
        files: impl Iterator<Item = (usize, &'a Path)>,
    ) {
        let FileOwner { info_hash, name } = owner;
        self.release(info_hash);
        self.torrents.insert(
            info_hash,
            Claimant { position, name, folder: folder.to_owned(), files: Vec::new(), access: FileUse::Unknown },
        );
        for (number, file) in files {
            let path = folder.join(file);
            self.add(info_hash, number, self.state.hash_one(&path));
            if is_watched_name(&path) {
                self.add(info_hash, number, self.state.hash_one(folded(&path)));
            }
        }
        self.end_reservation(position);
    }

    /// Adds the identities on disk of a torrent's files, each with the file's index in the torrent. A file system that does not
    /// keep inode numbers may ignore case as well, so such a file is also known by its path.
    pub fn add_identities(&mut self, info_hash: InfoHash, files: impl Iterator<Item = (usize, FileIdentity, PathBuf)>) {
        let folder = self.torrents.get(&info_hash).map(|claimant| claimant.folder.clone()).unwrap_or_default();
        for (number, file, path) in files {
            self.add(info_hash, number, self.state.hash_one(file));
            if !file.is_permanent() {
                self.add(info_hash, number, self.state.hash_one(folded(&folder.join(path))));
            }
        }
    }

    fn add(&mut self, info_hash: InfoHash, number: usize, file: u64) {
        let Some(claimant) = self.torrents.get_mut(&info_hash) else { return };
        let is_new = match self.files.entry(file) {
            Entry::Vacant(place) => {
                place.insert(info_hash);
                true
            }
            Entry::Occupied(first) if *first.get() == info_hash => false,
            Entry::Occupied(_) => {
                let other_claimants = self.other_claimants.entry(file).or_default();
                let is_new = !other_claimants.contains(&info_hash);
                if is_new {
                    other_claimants.push(info_hash);
                }
                is_new
            }
        };
        if is_new {
            claimant.files.push((file, number));
        }
    }

    /// Checks that no other torrent writes to the torrent's files.
    ///
    /// # Errors
    /// The index of a file, and the torrent that writes to it.
    pub fn check_not_written(&self, info_hash: InfoHash) -> Result<(), (usize, FileOwner)> {
        self.conflict(info_hash, |other| other.access == FileUse::Writes).map_or(Ok(()), Err)
    }

    /// Declares that the torrent is complete and only reads its files.
    ///
    /// # Errors
    /// The index of a file, and the torrent that writes to it.
    pub fn claim_for_reading(&mut self, info_hash: InfoHash) -> Result<(), (usize, FileOwner)> {
        self.check_not_written(info_hash)?;
        self.set_use(info_hash, FileUse::Reads);
        Ok(())
    }

    /// Asks whether the torrent may write to its files.
    pub fn claim_for_writing(&mut self, info_hash: InfoHash) -> WriteAnswer {
        let Some(position) = self.torrents.get(&info_hash).map(|claimant| claimant.position) else {
            return WriteAnswer::Granted;
        };
        if let Some((file, owner)) = self.conflict(info_hash, |other| other.access != FileUse::Unknown) {
            return WriteAnswer::Refused(file, owner);
        }
        let is_earlier = |other: &Claimant| other.position < position;
        if self.reserved.first().is_some_and(|first| *first < position)
            || self.conflict(info_hash, is_earlier).is_some()
        {
            return WriteAnswer::Wait;
        }
        self.set_use(info_hash, FileUse::Writes);
        WriteAnswer::Granted
    }

    /// Whether a file belongs to a torrent. For a torrent file or a file with links, the name alone is enough to match, in any
    /// case, if the file has no permanent identity.
    pub fn owns(&self, file: &Path, identity: Option<FileIdentity>) -> bool {
        let is_known = |file: u64| self.files.contains_key(&file);
        is_known(self.state.hash_one(file))
            || identity.is_some_and(|identity| is_known(self.state.hash_one(identity)))
            || (identity.is_none_or(|identity| !identity.is_permanent()) && is_known(self.state.hash_one(folded(file))))
    }

    /// Removes a torrent that has failed: another may have its files, for example a corrected version of it.
    pub fn release(&mut self, info_hash: InfoHash) {
        let Some(gone) = self.torrents.remove(&info_hash) else { return };
        for (file, _) in gone.files {
            if let Some(other_claimants) = self.other_claimants.get_mut(&file) {
                other_claimants.retain(|other| *other != info_hash);
            }
            if self.files.get(&file) == Some(&info_hash) {
                match self.other_claimants.get_mut(&file).and_then(Vec::pop) {
                    Some(next) => self.files.insert(file, next),
                    None => self.files.remove(&file),
                };
            }
            if self.other_claimants.get(&file).is_some_and(Vec::is_empty) {
                self.other_claimants.remove(&file);
            }
        }
    }

    fn set_use(&mut self, info_hash: InfoHash, access: FileUse) {
        if let Some(claimant) = self.torrents.get_mut(&info_hash) {
            claimant.access = access;
        }
    }

    /// The first file of a torrent that another torrent, for which `is_meant` is true, has as well.
    fn conflict(&self, info_hash: InfoHash, is_meant: impl Fn(&Claimant) -> bool) -> Option<(usize, FileOwner)> {
        if self.torrents.len() < 2 {
            return None; // return early, however many files the only torrent has
        }
        let claimant = self.torrents.get(&info_hash)?;
        claimant.files.iter().find_map(|(file, number)| {
            let others = self.files.get(file).into_iter().chain(self.other_claimants.get(file).into_iter().flatten());
            let mut others = others.filter(|other| **other != info_hash);
            let other = others.find(|other| self.torrents.get(other).is_some_and(&is_meant))?;
            let name = self.torrents.get(other).map(|claimant| claimant.name.clone()).unwrap_or_default();
            Some((*number, FileOwner { info_hash: *other, name }))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: InfoHash = InfoHash([1; 20]);
    const B: InfoHash = InfoHash([2; 20]);
    const C: InfoHash = InfoHash([3; 20]);

    fn owner(info_hash: InfoHash) -> FileOwner {
        FileOwner { info_hash, name: format!("{}.torrent", info_hash.0[0]) }
    }

    fn add_torrent(owners: &mut FileOwners, position: u64, info_hash: InfoHash, files: &[&str]) {
        owners.add_torrent(position, owner(info_hash), Path::new("out"), files.iter().map(Path::new).enumerate());
    }

    #[test]
    fn the_later_of_two_writing_torrents_is_refused_in_any_order() {
        for later_first in [false, true] {
            let mut owners = FileOwners::default();
            owners.reserve(0);
            owners.reserve(1);
            add_torrent(&mut owners, 1, B, &["y", "x"]);
            assert_eq!(owners.claim_for_writing(B), WriteAnswer::Wait, "the earlier one is not there");
            add_torrent(&mut owners, 0, A, &["x"]);
            if later_first {
                assert_eq!(owners.claim_for_writing(B), WriteAnswer::Wait, "the earlier one may write");
            }
            assert_eq!(owners.claim_for_writing(A), WriteAnswer::Granted);
            assert_eq!(owners.claim_for_writing(A), WriteAnswer::Granted, "a torrent that asks again has its own");
            assert_eq!(owners.claim_for_writing(B), WriteAnswer::Refused(1, owner(A)));
            assert_eq!(owners.claim_for_reading(B), Err((1, owner(A))));
        }
    }

    #[test]
    fn those_that_share_no_file_wait_only_until_all_are_there() {
        let mut owners = FileOwners::default();
        owners.reserve(0);
        add_torrent(&mut owners, 1, B, &["y"]);
        assert_eq!(owners.claim_for_writing(B), WriteAnswer::Wait);
        owners.end_reservation(0);
        assert_eq!(owners.claim_for_writing(B), WriteAnswer::Granted, "the earlier one was no torrent");
        add_torrent(&mut owners, 0, A, &["x"]);
        assert_eq!(owners.claim_for_writing(A), WriteAnswer::Granted);
        assert!(owners.owns(Path::new("out/x"), None) && !owners.owns(Path::new("out/z"), None));
    }

    #[test]
    fn complete_torrents_share_files_and_nobody_writes_to_them() {
        let mut owners = FileOwners::default();
        for (position, hash) in [(0, A), (1, B), (2, C)] {
            add_torrent(&mut owners, position, hash, &["x"]);
        }
        assert_eq!((owners.claim_for_reading(A), owners.claim_for_reading(B)), (Ok(()), Ok(())));
        assert!(matches!(owners.claim_for_writing(C), WriteAnswer::Refused(0, _)));
        owners.release(A);
        assert_eq!(owners.claim_for_writing(C), WriteAnswer::Refused(0, owner(B)));
        owners.release(B);
        assert_eq!(owners.claim_for_writing(C), WriteAnswer::Granted, "a torrent that failed owns no file");
        owners.release(C);
        assert!(owners.files.is_empty() && owners.other_claimants.is_empty() && owners.torrents.is_empty());
    }

    #[test]
    fn an_earlier_one_that_turns_out_to_read_is_not_written_over() {
        let mut owners = FileOwners::default();
        add_torrent(&mut owners, 0, A, &["x"]);
        add_torrent(&mut owners, 1, B, &["x"]);
        assert_eq!(owners.claim_for_writing(B), WriteAnswer::Wait);
        assert_eq!(owners.claim_for_reading(A), Ok(()));
        assert_eq!(owners.claim_for_writing(B), WriteAnswer::Refused(0, owner(A)));
        // In another folder it is a different file.
        owners.add_torrent(2, owner(C), Path::new("elsewhere"), [(0, Path::new("x"))].into_iter());
        assert_eq!(owners.claim_for_writing(C), WriteAnswer::Granted);
    }

    #[test]
    fn one_file_under_two_names_has_one_owner() {
        let there = |inode| FileIdentity { identity: 7 << 32 | inode, inode };
        let mut owners = FileOwners::default();
        add_torrent(&mut owners, 0, A, &["A/x"]);
        add_torrent(&mut owners, 1, B, &["B/y", "B/x"]);
        let named = |number, there| (number, there, PathBuf::from("z"));
        owners.add_identities(A, [named(0, there(1))].into_iter());
        assert_eq!(owners.claim_for_writing(A), WriteAnswer::Granted);
        owners.add_identities(B, [named(0, there(2)), named(1, there(1))].into_iter());
        owners.add_identities(B, [named(1, there(1))].into_iter());
        assert_eq!(owners.claim_for_writing(B), WriteAnswer::Refused(1, owner(A)));
        assert!(owners.owns(Path::new("elsewhere"), Some(there(2))) && !owners.owns(Path::new("x"), Some(there(3))));
        owners.release(A);
        assert_eq!(owners.claim_for_writing(B), WriteAnswer::Granted);
        owners.release(B);
        assert!(owners.files.is_empty() && owners.other_claimants.is_empty());
    }

    #[test]
    fn one_file_in_two_cases_has_one_owner_where_the_file_system_numbers_files_anew() {
        for is_permanent in [false, true] {
            let there = |inode| FileIdentity { identity: u64::from(!is_permanent) << 63 | inode, inode };
            let mut owners = FileOwners::default();
            add_torrent(&mut owners, 0, A, &["A/x"]);
            add_torrent(&mut owners, 1, B, &["a/x"]);
            owners.add_identities(A, [(0, there(1), PathBuf::from("A/x"))].into_iter());
            assert_eq!(owners.claim_for_writing(A), WriteAnswer::Granted);
            owners.add_identities(B, [(0, there(2), PathBuf::from("a/x"))].into_iter());
            let refused = WriteAnswer::Refused(0, owner(A));
            assert_eq!(owners.claim_for_writing(B), if is_permanent { WriteAnswer::Granted } else { refused });
        }
    }

    #[test]
    fn without_permanent_identity_a_torrent_file_is_known_by_name() {
        let passing = FileIdentity { identity: 1 << 63, inode: 9 };
        let lasting = FileIdentity { identity: 1, inode: 9 };
        let mut owners = FileOwners::default();
        add_torrent(&mut owners, 0, A, &["W/z.torrent", "W/b"]);
        let has = |path: &str, there| owners.owns(Path::new(path), there);
        assert!(has("out/w/Z.torrent", Some(passing)) && has("out/w/Z.torrent", None));
        assert!(!has("out/w/Z.torrent", Some(lasting)) && has("out/W/z.torrent", Some(lasting)));
        assert!(!has("out/w/b", None), "no torrent");
    }
}
