//! Files that no download may write to, whoever made them: those that another program has open and is about to fill, those that
//! btsync's own output goes to, and those in the folders of btsync's configuration and records. Checked before btsync creates
//! anything.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use crate::storage::error::{Operation, StorageError};
use crate::storage::files::Storage;
use crate::storage::lock::is_write_action;
use crate::storage::open_elsewhere::{FileId, SearchedFiles, file_id};
use crate::storage::ownership::{FileAction, Refusal};
use crate::storage::private_folders::PrivateFolders;
use crate::storage::snapshot::FileSnapshot;
use crate::storage::survey::Survey;

impl Storage {
    /// Checks whether a file to be written is off limits. `may_overwrite`: the user allowed btsync to overwrite existing files.
    /// `private`: btsync's own folders.
    ///
    /// # Errors
    /// [`StorageError::InTheWay`] with the first such file; the system's error for a file to be replaced that is not writable.
    pub fn check_not_off_limits(
        &self,
        actions: &[FileAction],
        may_overwrite: bool,
        private: &[PathBuf],
    ) -> Result<(), StorageError> {
        let written = || actions.iter().enumerate().filter(|(_, action)| is_write_action(**action));
        self.check_not_private(written().map(|(number, _)| number), private)?;
        self.safeguards.may_replace_open.set(may_overwrite);
        let outputs = outputs();
        let mut empty = SearchedFiles::default();
        for (number, action) in written().filter(|(_, action)| **action != FileAction::Create) {
            let found = match self.root.metadata(self.name(number)) {
                Ok(found) => found,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(self.failed(Operation::Open, number, error)),
            };
            if outputs.contains(&file_id(&found)) {
                return Err(self.in_the_way(number, Refusal::IsOurOutput));
            }
            // A file without data may be one that another program has just emptied.
            let is_empty = || *action == FileAction::ReplaceEmpty || self.may_be_empty(number);
            if !may_overwrite && *action == FileAction::ReplaceEmpty {
                self.check_owner(number, &found)?;
            }
            if matches!(action, FileAction::ReplaceEmpty | FileAction::Copy) {
                self.check_permission(number)?;
            }
            if !may_overwrite && is_empty() {
                empty.add(number, self.name(number), &found);
            }
        }
        empty
            .open_elsewhere(&self.root)
            .first()
            .map_or(Ok(()), |number| Err(self.in_the_way(*number, Refusal::OpenElsewhere)))
    }

    /// Checks whether any file of the torrent is in one of these folders of btsync's own.
    ///
    /// # Errors
    /// [`StorageError::InTheWay`] with the first such file.
    #[cfg(feature = "service")]
    pub(super) fn check_all_not_private(&self, private: &[PathBuf]) -> Result<(), StorageError> {
        let files = self.layout.files().iter().enumerate().filter(|(_, spec)| !spec.is_pad);
        self.check_not_private(files.map(|(number, _)| number), private)
    }

    /// Checks whether a file is in one of these folders or in place of a folder above one, under any name, whether complete or not.
    /// Neither may a symbolic link of the torrent be there, nor an empty folder in one.
    fn check_not_private(&self, numbers: impl Iterator<Item = usize>, private: &[PathBuf]) -> Result<(), StorageError> {
        let mut private = PrivateFolders::new(self.root.path(), private);
        for number in numbers {
            let names = [Some(self.name(number)), self.layout.final_name(number)];
            if names.into_iter().flatten().any(|name| private.covers_file(name)) {
                return Err(self.in_the_way(number, Refusal::InPrivateFolder));
            }
        }
        let refused = |name: &Path| {
            let path = self.root.path().join(name);
            StorageError::InTheWay { path, why: Refusal::InPrivateFolder, more: 0 }
        };
        if let Some((link, _)) = self.wanted_links().find(|(link, _)| private.covers_link(link)) {
            return Err(refused(link));
        }
        let mut folders = self.layout.special_entries().folders.iter();
        folders.find(|folder| private.covers_folder(folder)).map_or(Ok(()), |folder| Err(refused(folder)))
    }

    /// Whether the download folder still has its path.
    pub(super) fn is_root_in_place(&self) -> bool {
        let Ok(held) = self.root.folder().and_then(rustix::fs::fstat) else { return true };
        fs::metadata(self.root.path()).is_ok_and(|found| (held.st_dev, held.st_ino) == file_id(&found))
    }
}

/// The files that standard input, output and error are connected to.
fn outputs() -> Vec<FileId> {
    let (input, output, error) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let all = [input.as_fd(), output.as_fd(), error.as_fd()];
    all.into_iter().filter_map(|fd| rustix::fs::fstat(fd).ok()).map(|found| (found.st_dev, found.st_ino)).collect()
}

/// The first file to be written that is also another file of the torrent, by a folder that has two names (a link, a mount):
/// each would overwrite the other. Hard links are copied instead.
pub(super) fn find_aliased_file(actions: &[FileAction], survey: &Survey) -> Option<usize> {
    let files = || survey.files.iter().enumerate().filter_map(|(number, seen)| Some((number, (*seen)?)));
    let mut found: HashMap<(u64, u64), Vec<(usize, FileSnapshot)>> = HashMap::new();
    for (number, seen) in files().filter(|(_, seen)| seen.links == 1 && seen.inode != 0) {
        found.entry((seen.identity, seen.inode)).or_default().push((number, seen));
    }
    // Some file systems give several files one inode number, but these differ in other respects.
    let is_twice = |number: usize, seen: &FileSnapshot| {
        let same = found.get(&(seen.identity, seen.inode));
        same.is_some_and(|same| same.iter().any(|(other, it)| *other != number && it == seen))
    };
    let is_written = |number: usize| actions.get(number).is_some_and(|action| is_write_action(*action));
    files().find(|(number, seen)| is_written(*number) && is_twice(*number, seen)).map(|(number, _)| number)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::storage::{FileSpec, Layout, SpecialEntries};

    fn storage(dir: &Path, paths: &[&str]) -> Storage {
        let spec = |path: &&str| FileSpec { path: path.into(), length: 100, is_pad: false };
        Storage::new(dir.to_owned(), Layout::new(10, paths.iter().map(spec).collect()).unwrap(), 4)
    }

    fn why(result: Result<(), StorageError>) -> Option<Refusal> {
        match result {
            Err(StorageError::InTheWay { why, .. }) => Some(why),
            other => other.map(|()| None).unwrap(),
        }
    }

    #[test]
    fn two_files_that_are_one_on_disk_are_not_written_to() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("t/x")).unwrap();
        std::os::unix::fs::symlink("x", dir.path().join("t/y")).unwrap();
        fs::write(dir.path().join("t/x/f"), [7; 100]).unwrap();
        let it = storage(dir.path(), &["t/x/f", "t/y/f"]);
        let survey = it.survey(&std::sync::atomic::AtomicBool::new(false)).unwrap();
        let find = |actions: [FileAction; 2]| find_aliased_file(&actions, &survey);
        assert_eq!(find([FileAction::Continue; 2]), Some(0));
        assert_eq!(find([FileAction::Leave, FileAction::Continue]), Some(1), "the first one is complete");
        assert_eq!(find([FileAction::Leave; 2]), None);
        fs::remove_file(dir.path().join("t/y")).unwrap();
        fs::create_dir(dir.path().join("t/y")).unwrap();
        fs::copy(dir.path().join("t/x/f"), dir.path().join("t/y/f")).unwrap();
        let survey = it.survey(&std::sync::atomic::AtomicBool::new(false)).unwrap();
        assert_eq!(find_aliased_file(&[FileAction::Continue; 2], &survey), None);
    }

    #[test]
    fn an_empty_file_that_another_program_is_about_to_fill_is_left_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let log = File::create(dir.path().join("log")).unwrap();
        let it = storage(dir.path(), &["log"]);
        // These processes end when their input does, even if this test fails.
        let waits = || {
            let mut command = Command::new("cat");
            command.stdin(Stdio::piped());
            command
        };
        let read = File::open(dir.path().join("log")).unwrap();
        let mut reader = waits().stdout(Stdio::null()).stderr(read).spawn().unwrap();
        assert_eq!(why(it.check_not_off_limits(&[FileAction::ReplaceEmpty], false, &[])), None, "it is only read");
        let mut writer = waits().stdout(log).spawn().unwrap();
        assert_eq!(why(it.check_not_off_limits(&[FileAction::ReplaceEmpty], false, &[])), Some(Refusal::OpenElsewhere));
        assert_eq!(why(it.check_not_off_limits(&[FileAction::ReplaceEmpty], true, &[])), None, "the user gave it");
        assert_eq!(why(it.check_not_off_limits(&[FileAction::Continue], false, &[])), Some(Refusal::OpenElsewhere));
        fs::write(dir.path().join("log"), "data").unwrap();
        assert_eq!(
            why(it.check_not_off_limits(&[FileAction::Continue], false, &[])),
            None,
            "it has data, which was judged"
        );
        fs::write(dir.path().join("log"), "").unwrap();
        for process in [&mut reader, &mut writer] {
            process.kill().unwrap();
            process.wait().unwrap();
        }
        assert_eq!(why(it.check_not_off_limits(&[FileAction::ReplaceEmpty], false, &[])), None);
    }

    #[test]
    fn no_torrent_brings_files_of_btsyncs_own() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path();
        fs::create_dir_all(home.join(".config/btsync")).unwrap();
        std::os::unix::fs::symlink(".config", home.join("link")).unwrap();
        let private = [home.join(".config/btsync"), home.join(".cache/btsync")];
        let refuses = |folder: &Path, path: &str| {
            let it = storage(folder, &["other", path]);
            let refused = [true, false].map(|overwrite| {
                why(it.check_not_off_limits(&[FileAction::Create, FileAction::Create], overwrite, &private))
            });
            assert_eq!(refused[0], refused[1]);
            assert_eq!(
                why(it.check_not_off_limits(&[FileAction::Leave, FileAction::Leave], false, &private)),
                None,
                "they are only read"
            );
            refused[0] == Some(Refusal::InPrivateFolder)
        };
        assert!(refuses(home, ".config/btsync/config") && refuses(home, "link/btsync/config"));
        assert!(refuses(home, ".cache/btsync/resume/x") && refuses(&home.join(".config"), "btsync/config"));
        assert!(refuses(&home.join(".config"), "BTSync/config"), "a file system may tell no cases apart");
        assert!(refuses(&home.join(".config/btsync"), "config") && refuses(home, ".cache/btsync"));
        assert!(refuses(home, ".cache"), "btsync could not create its folder");
        assert!(!refuses(home, ".config/btsync2/x") && !refuses(home, "btsync/config"));
        assert!(!refuses(&home.join("elsewhere"), "btsync/config"));
    }

    #[test]
    fn neither_the_name_of_an_incomplete_file_nor_its_final_name_is_btsyncs_own() {
        let dir = tempfile::tempdir().unwrap();
        let private = [dir.path().join("private")];
        let refuses = |name: &str, suffix: &str| {
            let spec = FileSpec { path: name.into(), length: 100, is_pad: false };
            let layout = Layout::new(10, vec![spec]).unwrap().with_incomplete_suffix(suffix, |_, _, _| true);
            let it = Storage::new(dir.path().to_owned(), layout, 4);
            why(it.check_not_off_limits(&[FileAction::Create], false, &private)) == Some(Refusal::InPrivateFolder)
        };
        assert!(refuses("private/x", ".part") && refuses("private", ".part") && refuses("priv", "ate"));
        assert!(!refuses("privat", "e2") && !refuses("x/private", ".part"));
    }

    #[test]
    fn no_torrent_brings_a_link_or_a_folder_into_btsyncs_own() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path();
        fs::create_dir_all(home.join(".config")).unwrap();
        let private = [home.join(".config/btsync"), home.join(".cache/btsync")];
        let refuses = |root: &Path, special_entries: SpecialEntries| {
            let spec = FileSpec { path: "x".into(), length: 100, is_pad: false };
            let layout = Layout::new(10, vec![spec]).unwrap().with_special_entries(special_entries);
            let result =
                Storage::new(root.to_owned(), layout, 4).check_not_off_limits(&[FileAction::Create], true, &private);
            why(result) == Some(Refusal::InPrivateFolder)
        };
        let link = |path: &str, target: &str| SpecialEntries {
            links: vec![(path.into(), target.into())],
            ..SpecialEntries::default()
        };
        let folder = |path: &str| SpecialEntries { folders: vec![path.into()], ..SpecialEntries::default() };
        let config = home.join(".config");
        for root in [home, &config] {
            let below =
                |path: &str| root.strip_prefix(home).unwrap().as_os_str().is_empty().then(|| format!(".config/{path}"));
            let name = |path: &str| below(path).unwrap_or_else(|| path.to_owned());
            for path in ["btsync", "btsync/config", "BTSync/config"] {
                assert!(refuses(root, link(&name(path), "x")), "{path}");
                assert!(refuses(root, folder(&name(path))), "{path}");
            }
            assert!(!refuses(root, link(&name("btsync2"), "x")) && !refuses(root, folder(&name("btsync2/config"))));
            assert!(!refuses(root, link(&name("btsync/config"), "nothing")), "it is not created");
        }
        assert!(refuses(home, link(".cache", "x")), "the folder above it would be another one");
        assert!(!refuses(home, folder(".cache")));
        assert!(refuses(home, link(".cache/btsync/pending", "x")));
    }

    #[test]
    fn a_download_folder_that_was_moved_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, moved) = (dir.path().join("d"), dir.path().join("e"));
        fs::create_dir(&folder).unwrap();
        let it = storage(&folder, &["a"]);
        it.prepare().unwrap();
        it.check_files_in_place().unwrap();
        fs::rename(&folder, &moved).unwrap();
        assert!(matches!(it.check_files_in_place(), Err(StorageError::Moved { .. })));
        fs::create_dir(&folder).unwrap();
        assert!(matches!(it.check_files_in_place(), Err(StorageError::Moved { .. })), "another one has its place");
        fs::remove_dir(&folder).unwrap();
        std::os::unix::fs::symlink(&moved, &folder).unwrap();
        it.check_files_in_place().unwrap();
    }
}
