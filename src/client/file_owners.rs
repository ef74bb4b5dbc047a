//! Decides which torrent may write to a file: if two torrents of a client would write to the same file, the one that was named
//! later is refused. A magnet link's files are known only after its metadata has arrived, so each torrent asks when it opens
//! its files. Complete torrents write nothing and may share files. Pure: a torrent that has to wait asks again.
//!
//! A file is known by its path and, once it exists, also by its [`FileIdentity`]: one folder may have several names (a symbolic link,
//! a mount), and one file several spellings of its name.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};
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
    /// The same for the names that incomplete files may have meanwhile.
    incomplete_names: Vec<(u64, usize)>,
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
    /// This file belongs to another torrent.
    Refused(TakenFile),
}

/// A file of a torrent that another torrent has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenFile {
    /// The file's index in the torrent.
    pub number: usize,
    /// Whether only its name while it is incomplete is that of a file of the other torrent.
    pub is_incomplete_name: bool,
    /// The other torrent.
    pub owner: FileOwner,
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

    /// Adds a torrent's files, given as their indices in the torrent and their paths below `folder`, and the names that they may have
    /// while they are incomplete.
    pub fn add_torrent<'a>(
        &mut self,
        position: u64,
        owner: FileOwner,
        folder: &Path,
        files: impl Iterator<Item = (usize, &'a Path)>,
        incomplete_names: impl Iterator<Item = (usize, &'a Path)>,
    ) {
        let FileOwner { info_hash, name } = owner;
        self.release(info_hash);
        self.torrents.insert(
            info_hash,
            Claimant {
                position,
                name,
                folder: folder.to_owned(),
                files: Vec::new(),
                incomplete_names: Vec::new(),
                access: FileUse::Unknown,
            },
        );
        for (number, file) in files {
            let path = folder.join(file);
            self.add(info_hash, number, self.state.hash_one(&path));
            if is_watched_name(&path) {
                self.add(info_hash, number, self.state.hash_one(folded(&path)));
            }
        }
        for (number, name) in incomplete_names {
            let file = self.state.hash_one(folder.join(name));
            if self.add(info_hash, number, file)
                && let Some(claimant) = self.torrents.get_mut(&info_hash)
            {
                claimant.incomplete_names.push((file, number));
            }
        }
        self.end_reservation(position);
    }

    /// Only these files of the torrent, given as their indices, may have the names of incomplete files from now on.
    pub fn retain_incomplete_names(&mut self, info_hash: InfoHash, is_kept: impl Fn(usize) -> bool) {
        let Some(claimant) = self.torrents.get_mut(&info_hash) else { return };
        let (kept, dropped) = claimant.incomplete_names.drain(..).partition(|(_, number)| is_kept(*number));
        claimant.incomplete_names = kept;
        let dropped: HashSet<u64> = Vec::into_iter(dropped).map(|(file, _)| file).collect();
        claimant.files.retain(|(file, _)| !dropped.contains(file));
        for file in dropped {
            self.remove(info_hash, file);
        }
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

    /// Adds a file of a torrent. Returns whether it did not have it.
    fn add(&mut self, info_hash: InfoHash, number: usize, file: u64) -> bool {
        let Some(claimant) = self.torrents.get_mut(&info_hash) else { return false };
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
        is_new
    }

    /// Checks that no other torrent writes to the torrent's files.
    ///
    /// # Errors
    /// A file that another torrent writes to.
    pub fn check_not_written(&self, info_hash: InfoHash) -> Result<(), TakenFile> {
        self.conflict(info_hash, |other| other.access == FileUse::Writes).map_or(Ok(()), Err)
    }

    /// Declares that the torrent is complete and only reads its files.
    ///
    /// # Errors
    /// A file that another torrent writes to.
    pub fn claim_for_reading(&mut self, info_hash: InfoHash) -> Result<(), TakenFile> {
        self.check_not_written(info_hash)?;
        self.set_use(info_hash, FileUse::Reads);
        Ok(())
    }

    /// Asks whether the torrent may write to its files.
    pub fn claim_for_writing(&mut self, info_hash: InfoHash) -> WriteAnswer {
        let Some(position) = self.torrents.get(&info_hash).map(|claimant| claimant.position) else {
            return WriteAnswer::Granted;
        };
        if let Some(taken) = self.conflict(info_hash, |other| other.access != FileUse::Unknown) {
            return WriteAnswer::Refused(taken);
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
            self.remove(info_hash, file);
        }
    }

    /// Removes a file of a torrent.
    fn remove(&mut self, info_hash: InfoHash, file: u64) {
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

    fn set_use(&mut self, info_hash: InfoHash, access: FileUse) {
        if let Some(claimant) = self.torrents.get_mut(&info_hash) {
            claimant.access = access;
        }
    }

    /// The first file of a torrent that another torrent, for which `is_meant` is true, has as well.
    fn conflict(&self, info_hash: InfoHash, is_meant: impl Fn(&Claimant) -> bool) -> Option<TakenFile> {
        if self.torrents.len() < 2 {
            return None; // return early, however many files the only torrent has
        }
        let claimant = self.torrents.get(&info_hash)?;
        claimant.files.iter().find_map(|(file, number)| {
            let others = self.files.get(file).into_iter().chain(self.other_claimants.get(file).into_iter().flatten());
            let mut others = others.filter(|other| **other != info_hash);
            let other = others.find(|other| self.torrents.get(other).is_some_and(&is_meant))?;
            let name = self.torrents.get(other).map(|claimant| claimant.name.clone()).unwrap_or_default();
            let is_incomplete_name = claimant.incomplete_names.iter().any(|(name, _)| name == file);
            Some(TakenFile { number: *number, is_incomplete_name, owner: FileOwner { info_hash: *other, name } })
        })
    }
}

#[cfg(test)]
mod tests;
