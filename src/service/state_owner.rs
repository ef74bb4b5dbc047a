//! Recognises a state folder as one of `btsync serve`, so that a service neither replaces nor deletes files in a folder of the
//! user's: Transmission's configuration, for one, has files of the same names.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::service::state_folder::{SESSION, SETTINGS, StateError, io_error, read_json};
use crate::util::atomic_file::private_folder;
use crate::util::state_mark::{LOCK, MARK, RESUME, TORRENTS, is_marked, length};

/// The folder that a file system itself has.
const LOST_AND_FOUND: &str = "lost+found";

/// Makes a folder a state folder if it is missing or empty, or was made by an earlier version. Returns the file to lock.
///
/// # Errors
/// If it is a folder of the user's, or cannot be used.
pub fn claim(folder: &Path) -> Result<File, StateError> {
    private_folder(folder).map_err(io_error(folder))?;
    check(folder)?;
    let path = folder.join(LOCK);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let lock = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR);
    let mut lock = File::from(lock.map_err(|error| io_error(&path)(error.into()))?);
    if lock.metadata().map_err(io_error(&path))?.len() == 0 {
        lock.write_all(MARK).map_err(io_error(&path))?;
    }
    Ok(lock)
}

/// Checks that a folder is a state folder, or may become one.
///
/// # Errors
/// If it is a folder of the user's, or cannot be read.
pub fn check(folder: &Path) -> Result<(), StateError> {
    if is_marked(folder).map_err(io_error(folder))? || is_of_earlier_version(folder) {
        return Ok(());
    }
    let may_be_there = |name: &str| name == LOST_AND_FOUND || (name == LOCK && length(&folder.join(LOCK)) == Some(0));
    let mut entries = fs::read_dir(folder).map_err(io_error(folder))?;
    let is_empty = entries.all(|entry| entry.is_ok_and(|entry| entry.file_name().to_str().is_some_and(may_be_there)));
    if is_empty { Ok(()) } else { Err(StateError::NotOurs(folder.to_owned())) }
}

/// Whether an earlier version has made the folder: its lock file is empty, and its other files are those of a service.
fn is_of_earlier_version(folder: &Path) -> bool {
    let has_folders = [TORRENTS, RESUME].iter().all(|name| folder.join(name).is_dir());
    let fits = |name: &str, key: &str| {
        let content = read_json::<serde_json::Value>(&folder.join(name));
        content.is_ok_and(|content| content.is_none_or(|content| content.get(key).is_some()))
    };
    has_folders
        && length(&folder.join(LOCK)) == Some(0)
        && fits(SETTINGS, "download_folder")
        && fits(SESSION, "next_id")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> usize {
        fs::read_dir(folder).expect("a folder").count()
    }

    #[test]
    fn a_folder_of_the_user_is_refused_and_stays_as_it_is() {
        for (name, content) in [
            ("settings.json", "{\"download-dir\": \"/data\"}"),
            ("session.json", "{}"),
            ("notes", ""),
            ("lock", "1234"),
            ("password.json", "{}"),
        ] {
            let temp = tempfile::tempdir().expect("a folder");
            fs::create_dir(temp.path().join(TORRENTS)).expect("a folder");
            fs::create_dir(temp.path().join(RESUME)).expect("a folder");
            fs::write(temp.path().join(name), content).expect("written");
            assert!(matches!(claim(temp.path()), Err(StateError::NotOurs(_))), "{name}");
            assert_eq!(names(temp.path()), 3);
            assert_eq!(fs::read_to_string(temp.path().join(name)).expect("the file"), content);
        }
        // Its lock may be anything.
        let temp = tempfile::tempdir().expect("a folder");
        std::os::unix::fs::symlink("/nowhere", temp.path().join(LOCK)).expect("a link");
        assert!(claim(temp.path()).is_err());
    }

    #[test]
    fn an_empty_folder_and_one_of_an_earlier_version_become_state_folders() {
        let temp = tempfile::tempdir().expect("a folder");
        let (new, mount, old) = (temp.path().join("new"), temp.path().join("mount"), temp.path().join("old"));
        fs::create_dir_all(mount.join(LOST_AND_FOUND)).expect("a folder");
        for folder in [TORRENTS, RESUME] {
            fs::create_dir_all(old.join(folder)).expect("a folder");
        }
        for (name, content) in [(LOCK, ""), (SETTINGS, "{\"download_folder\":\"/d\"}"), (SESSION, "{\"next_id\":3}")] {
            fs::write(old.join(name), content).expect("written");
        }
        for folder in [&new, &mount, &old] {
            claim(folder).expect("a state folder");
            fs::write(folder.join("more"), "more").expect("written");
            claim(folder).expect("it is marked");
        }
        fs::write(old.join(LOCK), &MARK[..5]).expect("written");
        claim(&old).expect("a mark that a crash has cut");
    }
}
