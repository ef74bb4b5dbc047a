//! Whose the files are: of two torrents of a host that would write to the same file, always the one that was named later is refused.
//! A link's files are known only once its metadata is there, so that this is asked when a torrent's files are opened, by the session
//! itself. Torrents that are complete write nothing, and may share files. Pure: whoever has to wait asks again.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::path::Path;

use crate::types::InfoHash;

/// The files that are taken. They stay so for as long as the host lives, unless their torrent fails: what is there of one that is
/// over must not be written over by the next.
#[derive(Default)]
pub struct FileOwners {
    /// Each file's first claimant, by a hash of the path: torrents have up to half a million files.
    files: HashMap<u64, InfoHash>,
    /// The others, where there are any.
    more: HashMap<u64, Vec<InfoHash>>,
    torrents: HashMap<InfoHash, Claimant>,
    /// Turns whose torrents are about to come, and have not.
    expected: BTreeSet<u64>,
    state: RandomState,
}

/// A torrent whose files are known.
struct Claimant {
    turn: u64,
    name: String,
    files: Vec<u64>,
    access: FileUse,
}

/// What a torrent does with its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileUse {
    /// Nobody knows: it looks at them.
    Unknown,
    Reads,
    Writes,
}

/// Whether a torrent may write to its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteAnswer {
    /// It may.
    Granted,
    /// An earlier torrent may turn out to write to one of them: ask again when something has changed.
    Wait,
    /// Another torrent has the file of this number.
    Refused(usize, Owner),
}

/// Another torrent that has a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its info-hash.
    pub info_hash: InfoHash,
    /// What it was named by.
    pub name: String,
}

impl FileOwners {
    /// The torrent of this turn is about to come: later ones wait for it.
    pub fn expect(&mut self, turn: u64) {
        self.expected.insert(turn);
    }

    /// It has come, or will not.
    pub fn arrived(&mut self, turn: u64) {
        self.expected.remove(&turn);
    }

    /// A torrent's files are these below `folder`. Two names of one folder are two folders here.
    pub fn enter<'a>(&mut self, turn: u64, owner: Owner, folder: &Path, files: impl Iterator<Item = &'a Path>) {
        let Owner { info_hash, name } = owner;
        self.release(info_hash);
        let files: Vec<u64> = files.map(|file| self.state.hash_one(folder.join(file))).collect();
        for file in &files {
            let first = *self.files.entry(*file).or_insert(info_hash);
            if first != info_hash {
                self.more.entry(*file).or_default().push(info_hash);
            }
        }
        self.torrents.insert(info_hash, Claimant { turn, name, files, access: FileUse::Unknown });
        self.arrived(turn);
    }

    /// Whether no other torrent writes to the torrent's files.
    ///
    /// # Errors
    /// The number of a file, and who writes to it.
    pub fn is_free(&self, info_hash: InfoHash) -> Result<(), (usize, Owner)> {
        self.other(info_hash, |other| other.access == FileUse::Writes).map_or(Ok(()), Err)
    }

    /// The torrent is complete and reads its files only.
    ///
    /// # Errors
    /// The number of a file, and who writes to it.
    pub fn read(&mut self, info_hash: InfoHash) -> Result<(), (usize, Owner)> {
        self.is_free(info_hash)?;
        self.set(info_hash, FileUse::Reads);
        Ok(())
    }

    /// The torrent is about to write to its files.
    pub fn write(&mut self, info_hash: InfoHash) -> WriteAnswer {
        let Some(turn) = self.torrents.get(&info_hash).map(|claimant| claimant.turn) else {
            return WriteAnswer::Granted;
        };
        if let Some((file, owner)) = self.other(info_hash, |other| other.access != FileUse::Unknown) {
            return WriteAnswer::Refused(file, owner);
        }
        let is_earlier = |other: &Claimant| other.turn < turn;
        if self.expected.first().is_some_and(|first| *first < turn) || self.other(info_hash, is_earlier).is_some() {
            return WriteAnswer::Wait;
        }
        self.set(info_hash, FileUse::Writes);
        WriteAnswer::Granted
    }

    /// Whether a file belongs to a torrent.
    pub fn has(&self, file: &Path) -> bool {
        self.files.contains_key(&self.state.hash_one(file))
    }

    /// A torrent has failed: its files are free for another, such as its own corrected form.
    pub fn release(&mut self, info_hash: InfoHash) {
        let Some(gone) = self.torrents.remove(&info_hash) else { return };
        for file in gone.files {
            if let Some(more) = self.more.get_mut(&file) {
                more.retain(|other| *other != info_hash);
            }
            if self.files.get(&file) == Some(&info_hash) {
                match self.more.get_mut(&file).and_then(Vec::pop) {
                    Some(next) => self.files.insert(file, next),
                    None => self.files.remove(&file),
                };
            }
            if self.more.get(&file).is_some_and(Vec::is_empty) {
                self.more.remove(&file);
            }
        }
    }

    fn set(&mut self, info_hash: InfoHash, access: FileUse) {
        if let Some(claimant) = self.torrents.get_mut(&info_hash) {
            claimant.access = access;
        }
    }

    /// The first file of a torrent that another one has as well, of which `is_meant` is true.
    fn other(&self, info_hash: InfoHash, is_meant: impl Fn(&Claimant) -> bool) -> Option<(usize, Owner)> {
        if self.torrents.len() < 2 {
            return None; // at once, however many files the only torrent has
        }
        let claimant = self.torrents.get(&info_hash)?;
        claimant.files.iter().enumerate().find_map(|(number, file)| {
            let others = self.files.get(file).into_iter().chain(self.more.get(file).into_iter().flatten());
            let mut others = others.filter(|other| **other != info_hash);
            let other = others.find(|other| self.torrents.get(other).is_some_and(&is_meant))?;
            let name = self.torrents.get(other).map(|claimant| claimant.name.clone()).unwrap_or_default();
            Some((number, Owner { info_hash: *other, name }))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: InfoHash = InfoHash([1; 20]);
    const B: InfoHash = InfoHash([2; 20]);
    const C: InfoHash = InfoHash([3; 20]);

    fn owner(info_hash: InfoHash) -> Owner {
        Owner { info_hash, name: format!("{}.torrent", info_hash.0[0]) }
    }

    fn enter(owners: &mut FileOwners, turn: u64, info_hash: InfoHash, files: &[&str]) {
        owners.enter(turn, owner(info_hash), Path::new("out"), files.iter().map(Path::new));
    }

    #[test]
    fn of_two_that_write_the_later_one_is_refused_whoever_asks_first() {
        for later_first in [false, true] {
            let mut owners = FileOwners::default();
            owners.expect(0);
            owners.expect(1);
            enter(&mut owners, 1, B, &["y", "x"]);
            assert_eq!(owners.write(B), WriteAnswer::Wait, "the earlier one is not there");
            enter(&mut owners, 0, A, &["x"]);
            if later_first {
                assert_eq!(owners.write(B), WriteAnswer::Wait, "the earlier one may write");
            }
            assert_eq!(owners.write(A), WriteAnswer::Granted);
            assert_eq!(owners.write(A), WriteAnswer::Granted, "a torrent that asks again has its own");
            assert_eq!(owners.write(B), WriteAnswer::Refused(1, owner(A)));
            assert_eq!(owners.read(B), Err((1, owner(A))));
        }
    }

    #[test]
    fn those_that_share_no_file_wait_only_until_all_are_there() {
        let mut owners = FileOwners::default();
        owners.expect(0);
        enter(&mut owners, 1, B, &["y"]);
        assert_eq!(owners.write(B), WriteAnswer::Wait);
        owners.arrived(0);
        assert_eq!(owners.write(B), WriteAnswer::Granted, "the earlier one was no torrent");
        enter(&mut owners, 0, A, &["x"]);
        assert_eq!(owners.write(A), WriteAnswer::Granted);
        assert!(owners.has(Path::new("out/x")) && !owners.has(Path::new("out/z")));
    }

    #[test]
    fn complete_torrents_share_files_and_nobody_writes_to_them() {
        let mut owners = FileOwners::default();
        for (turn, hash) in [(0, A), (1, B), (2, C)] {
            enter(&mut owners, turn, hash, &["x"]);
        }
        assert_eq!((owners.read(A), owners.read(B)), (Ok(()), Ok(())));
        assert!(matches!(owners.write(C), WriteAnswer::Refused(0, _)));
        owners.release(A);
        assert_eq!(owners.write(C), WriteAnswer::Refused(0, owner(B)));
        owners.release(B);
        assert_eq!(owners.write(C), WriteAnswer::Granted, "who failed has none");
        owners.release(C);
        assert!(owners.files.is_empty() && owners.more.is_empty() && owners.torrents.is_empty());
    }

    #[test]
    fn an_earlier_one_that_turns_out_to_read_is_not_written_over() {
        let mut owners = FileOwners::default();
        enter(&mut owners, 0, A, &["x"]);
        enter(&mut owners, 1, B, &["x"]);
        assert_eq!(owners.write(B), WriteAnswer::Wait);
        assert_eq!(owners.read(A), Ok(()));
        assert_eq!(owners.write(B), WriteAnswer::Refused(0, owner(A)));
        // In another folder it is another file.
        owners.enter(2, owner(C), Path::new("elsewhere"), [Path::new("x")].into_iter());
        assert_eq!(owners.write(C), WriteAnswer::Granted);
    }
}
