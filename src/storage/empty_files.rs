//! Existing files without data, whose names btsync gives to new files (`FileAction::ReplaceEmpty`). Bytes that another
//! program then writes to the old file, because it has it open, are lost.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Access, AtFlags};
use rustix::io::Errno;

use crate::storage::edits::is_on_remote;
use crate::storage::error::{Operation, StorageError};
use crate::storage::files::Storage;
use crate::storage::open::file_name;
use crate::storage::ownership::{FileAction, Refusal};

/// How the link `/proc/self/ns/pid` names the PID namespace from which all processes of the system are visible.
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

impl Storage {
    /// Lets btsync write to a file without data instead of replacing it if btsync may not see who has the file open: a process
    /// outside of its container, or of another user who may write to the file.
    pub fn keep_shared_files(&self, actions: &mut [FileAction]) {
        self.keep_files_if(actions, !sees_all_processes());
    }

    fn keep_files_if(&self, actions: &mut [FileAction], is_blind: bool) {
        for (file, action) in actions.iter_mut().enumerate().filter(|(_, action)| **action == FileAction::ReplaceEmpty)
        {
            let is_shared =
                |found: &Metadata| (is_blind || may_others_write(found)) && self.check_owner(file, found).is_ok();
            if self.root.metadata_inside(self.name(file)).is_ok_and(|found| is_shared(&found)) {
                *action = FileAction::Continue;
            }
        }
    }

    /// Checks that an existing file without data belongs to this user: btsync does not see which files the processes of other
    /// users have open. Root sees that. On network file systems the owner is not always the real one.
    ///
    /// # Errors
    /// [`StorageError::InTheWay`] if it does not.
    pub(super) fn check_owner(&self, file: usize, found: &Metadata) -> Result<(), StorageError> {
        let user = rustix::process::geteuid();
        let is_ours = user.is_root() || found.uid() == user.as_raw() || self.root.folder().is_ok_and(is_on_remote);
        if is_ours { Ok(()) } else { Err(self.in_the_way(file, Refusal::OtherOwner)) }
    }

    /// Checks that btsync may write to a file before it replaces it: the new file gets the same permissions.
    ///
    /// # Errors
    /// If it may not.
    pub(super) fn check_permission(&self, file: usize) -> Result<(), StorageError> {
        let name: &Path = self.name(file);
        let allowed = self
            .root
            .folder_of(name)
            .and_then(|folder| rustix::fs::accessat(folder, file_name(name), Access::WRITE_OK, AtFlags::empty()));
        match allowed {
            Err(Errno::ACCESS) => Err(self.failed(Operation::Open, file, Errno::ACCESS.into())),
            _ => Ok(()),
        }
    }
}

/// Whether `/proc` shows the processes of all containers.
fn sees_all_processes() -> bool {
    fs::read_link("/proc/self/ns/pid").is_ok_and(|name| name.as_os_str() == INITIAL_PID_NAMESPACE)
}

/// Whether the permissions of a file let other users than its owner write to it. Many systems give each user a group of its own.
fn may_others_write(found: &Metadata) -> bool {
    let is_own_group = found.gid() == rustix::process::getegid().as_raw();
    found.mode() & 0o002 != 0 || (found.mode() & 0o020 != 0 && !is_own_group)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::*;
    use crate::storage::{FileSpec, Layout};

    fn storage(dir: &Path) -> Storage {
        let spec = FileSpec { path: "x".into(), length: 100, is_pad: false };
        fs::write(dir.join("x"), "").unwrap();
        Storage::new(dir.to_owned(), Layout::new(10, vec![spec]).unwrap(), 4)
    }

    #[test]
    fn a_file_that_programs_out_of_sight_may_have_open_is_written_to_and_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let it = storage(dir.path());
        let decided = |mode: u32, is_blind: bool| {
            fs::set_permissions(dir.path().join("x"), Permissions::from_mode(mode)).unwrap();
            let mut actions = [FileAction::ReplaceEmpty];
            it.keep_files_if(&mut actions, is_blind);
            actions[0]
        };
        assert_eq!(decided(0o644, false), FileAction::ReplaceEmpty);
        assert_eq!(decided(0o664, false), FileAction::ReplaceEmpty, "the user's own group");
        assert_eq!(decided(0o644, true), FileAction::Continue);
        assert_eq!(decided(0o666, false), FileAction::Continue);
        if rustix::process::geteuid().is_root() {
            chown(dir.path().join("x"), None, Some(50_000)).unwrap();
            assert_eq!(decided(0o664, false), FileAction::Continue);
            assert_eq!(decided(0o644, false), FileAction::ReplaceEmpty);
        }
        let mut others = [FileAction::Copy];
        it.keep_files_if(&mut others, true);
        assert_eq!(others, [FileAction::Copy]);
    }
}
