//! Opening files and making folders without ever leaving the download folder.
//!
//! A torrent names plain paths only (see `metainfo`), but a link may already lie in the download folder. A link that stays
//! inside is followed; one that leads out, or nowhere, is refused. Files are opened with `O_NOFOLLOW`, so that the last
//! name is never a link that was not looked at.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::cache::Handle;
use super::error::{Doing, StorageError, StorageErrorKind};

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Reading, and writing too where that is allowed.
    Read,
    /// Reading and writing.
    Write,
    /// As `Write`, and made if it is not there. Reading alone will do where it is there and may not be written.
    Create,
}

/// The download folder.
#[derive(Debug)]
pub(super) struct Root {
    path: PathBuf,
    /// Where `path` really is, links followed; known once it exists.
    real: OnceLock<PathBuf>,
}

impl Root {
    pub fn new(path: PathBuf) -> Root {
        Root { path, real: OnceLock::new() }
    }

    /// The path as the user gave it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the download folder itself, where it is not there.
    pub fn create(&self) -> Result<(), StorageError> {
        match fs::create_dir_all(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(StorageError::NotAFolder { path: self.path.clone() })
            }
            made => made.map_err(StorageError::io(Doing::CreateFolder, &self.path)),
        }
    }

    /// Makes one folder whose parent is known to be inside; what is there already must be a folder inside.
    pub fn create_folder(&self, folder: &Path) -> Result<(), StorageError> {
        let failed = |error| StorageError::io(Doing::CreateFolder, folder)(error);
        match fs::symlink_metadata(folder) {
            Ok(there) if there.is_dir() => Ok(()),
            Ok(there) if there.is_symlink() => {
                let real = self.inside(folder)?;
                let is_folder = fs::symlink_metadata(real).map_err(failed)?.is_dir();
                if is_folder { Ok(()) } else { Err(StorageError::NotAFolder { path: folder.to_owned() }) }
            }
            Ok(_) => Err(StorageError::NotAFolder { path: folder.to_owned() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir(folder).map_err(failed),
            Err(error) => Err(failed(error)),
        }
    }

    /// Opens a file, its folder looked at first.
    pub fn open(&self, path: &Path, access: Access) -> Result<Handle, StorageError> {
        let folder = path.parent().unwrap_or(path);
        if folder != self.path {
            self.real(folder).map_err(StorageError::io(Doing::Open, path))?.ok_or_else(|| escapes(path))?;
        }
        self.open_in_known_folder(path, access)
    }

    /// Opens a file whose folder is known to be inside.
    pub fn open_in_known_folder(&self, path: &Path, access: Access) -> Result<Handle, StorageError> {
        let handle = match open_no_follow(path, access) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::LOOP) => {
                open_no_follow(&self.inside(path)?, access)
            }
            opened => opened,
        };
        let handle = handle.map_err(|error| match StorageError::io(Doing::Open, path)(error) {
            error if error.kind() == StorageErrorKind::Exists => StorageError::NotAFile { path: path.to_owned() },
            error => error,
        })?;
        // Opened for reading alone, a folder or a pipe gives no error.
        if !handle.file.metadata().map_err(StorageError::io(Doing::Open, path))?.is_file() {
            return Err(StorageError::NotAFile { path: path.to_owned() });
        }
        Ok(handle)
    }

    /// Where a link really leads, if that is inside.
    fn inside(&self, path: &Path) -> Result<PathBuf, StorageError> {
        match self.real(path) {
            Ok(Some(real)) => Ok(real),
            Ok(None) => Err(escapes(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(escapes(path)),
            Err(error) => Err(StorageError::io(Doing::Open, path)(error)),
        }
    }

    /// The path with all links followed; `None` where that is outside.
    fn real(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        if self.real.get().is_none() {
            let root = fs::canonicalize(&self.path)?;
            self.real.get_or_init(|| root);
        }
        let real = fs::canonicalize(path)?;
        let inside = self.real.get().is_some_and(|root| real.starts_with(root));
        Ok(inside.then_some(real))
    }
}

fn escapes(path: &Path) -> StorageError {
    StorageError::Escapes { path: path.to_owned() }
}

fn open_no_follow(path: &Path, access: Access) -> io::Result<Handle> {
    // Not to wait for ever on a pipe that lies where a file should; for files it means nothing.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(flags);
    let read_only = options.clone();
    match options.write(true).create(access == Access::Create).open(path) {
        Ok(file) => Ok(Handle { file, writable: true }),
        Err(error) if access != Access::Write && may_not_write(&error) => {
            // Seeding from a folder that we may only read. Where that fails too, the first error says more.
            let file: File = read_only.open(path).map_err(|_| error)?;
            Ok(Handle { file, writable: false })
        }
        Err(error) => Err(error),
    }
}

/// Whether reading may succeed where writing failed so.
fn may_not_write(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::TXTBSY))
}
