//! The part file itself: its name, whether the file of that name is ours, and its end. `parts` says what lies in it.

use std::fs::Metadata;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::error::StorageError;
use super::files::Storage;
use super::ownership::Refusal;
use super::seen::identity;

impl Storage {
    /// Where the part file lies. The usual name is also that of libtorrent's part file, which has another form; what is that, a link
    /// or a file with other names is somebody else's, and stays as it is.
    pub(super) fn part_place(&self, usual: &Path) -> PathBuf {
        if self.part_file(usual).is_err() { usual.with_extension("btsync.parts") } else { usual.to_owned() }
    }

    /// The part file of this name, where one is there and can be looked at; an error where it is somebody else's.
    fn part_file(&self, name: &Path) -> Result<Option<Metadata>, Refusal> {
        let file = match self.root.open_own(name, OFlags::RDONLY) {
            Ok(file) => file,
            Err(Errno::LOOP) => return Err(Refusal::Appeared),
            Err(_) => return Ok(None),
        };
        let mut head = [0; 8];
        let theirs = [self.layout.piece_count().to_be_bytes(), self.layout.piece_length().to_be_bytes()];
        let found = file.metadata().ok().filter(|found| found.is_file() && found.nlink() == 1);
        let found = found.ok_or(Refusal::Appeared)?;
        let is_theirs = file.read_exact_at(&mut head, 0).is_ok() && head == theirs.concat()[..];
        if is_theirs { Err(Refusal::Appeared) } else { Ok(Some(found)) }
    }

    /// Looks for the part file; how long it is, where it is there.
    ///
    /// # Errors
    /// [`StorageError::InTheWay`] where another program's file has its name by now.
    pub(super) fn find_parts(&self) -> Result<Option<u64>, StorageError> {
        let name = self.selection.name();
        if name.as_os_str().is_empty() {
            return Ok(None);
        }
        let found = self.part_file(name).map_err(|why| self.in_the_way(self.layout.files().len(), why))?;
        self.selection.set_identity(found.as_ref().map(identity));
        Ok(found.map(|found| found.len()))
    }

    /// Removes the part file, unless another file has its name by now.
    pub(super) fn remove_parts(&self) {
        let name = self.selection.name();
        match self.root.metadata_inside(name) {
            Ok(found) if self.selection.is_parts(&found) => {
                let removed = self.root.remove(name);
                removed.unwrap_or_else(|error| log::debug!("{}: cannot be removed: {error}", name.display()));
            }
            _ => log::debug!("{}: is not the part file any more, and stays", name.display()),
        }
    }
}
