//! Opens files and creates folders without ever leaving the download folder.
//!
//! A torrent names plain paths only (see `metainfo`), but a symbolic link may already be in the download folder, or appear there
//! at any moment. So btsync never opens a path that it checked earlier: the kernel walks down from the folder's own descriptor
//! and refuses every link on the way (`openat2`, or one component at a time if that is not available). To follow a link that
//! stays inside, btsync resolves it and walks to its target in the same manner; it refuses links that lead out or nowhere.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;

use parking_lot::Mutex;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

use crate::util::descriptors::{is_shortage, retry_while};

use crate::storage::cache::OpenFile;
use crate::storage::error::{Operation, StorageError, StorageErrorKind};
use crate::storage::folder_mark::create_marked;
use crate::storage::ownership::Refusal;

/// Opens a folder as a base for other opens; this needs no permission to list it.
const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Reading only: programs that watch the file do not expect a change.
    Read,
    /// Reading and writing.
    Write,
    /// Like `Write`, and creates the file, which must not exist.
    New,
}

/// The download folder.
#[derive(Debug)]
pub(super) struct Root {
    path: PathBuf,
    /// `path`, open; it stays the same folder when it is moved.
    folder: OnceLock<OwnedFd>,
    /// See [`Root::set_descriptor_wait`].
    descriptor_wait: OnceLock<DescriptorWait>,
    /// Files outside that may be read, by the names of the links to them: device and inode.
    outside: Mutex<HashMap<PathBuf, (u64, u64)>>,
}

/// Called if no descriptor is free: whether to wait a moment and try again.
pub(super) struct DescriptorWait(Box<dyn Fn() -> bool + Send + Sync>);

impl std::fmt::Debug for DescriptorWait {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DescriptorWait")
    }
}

impl Root {
    pub fn new(path: PathBuf) -> Root {
        Root { path, folder: OnceLock::new(), descriptor_wait: OnceLock::new(), outside: Mutex::default() }
    }

    /// Sets the function that decides, if no descriptor is free, whether to wait for one; without it that is an error.
    pub fn set_descriptor_wait(&self, descriptor_wait: impl Fn() -> bool + Send + Sync + 'static) {
        let _ = self.descriptor_wait.set(DescriptorWait(Box::new(descriptor_wait)));
    }

    /// The path as the user gave it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Creates the download folder itself, if needed.
    pub fn create(&self) -> Result<(), StorageError> {
        match fs::create_dir_all(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(StorageError::NotAFolder { path: self.path.clone() })
            }
            made => made.map_err(StorageError::io(Operation::CreateFolder, &self.path)),
        }
    }

    /// Creates one folder, relative to the download folder, whose parent exists. Returns whether it did not exist before.
    pub fn create_folder(&self, name: &Path) -> Result<bool, StorageError> {
        let failed = |errno: Errno| match errno {
            Errno::NOTDIR => StorageError::NotAFolder { path: self.path.join(name) },
            Errno::LOOP => self.escapes(name),
            errno => StorageError::io(Operation::CreateFolder, &self.path.join(name))(errno.into()),
        };
        let open = |name| self.followed(name, |name| self.open_beneath(name, FOLDER)).map_err(failed);
        match open(name) {
            Err(error) if error.kind() == StorageErrorKind::Missing => {}
            opened => return opened.map(|_| false),
        }
        let parent = open(name.parent().unwrap_or(Path::new("")))?;
        match create_marked(parent, name) {
            // Another process was faster.
            Err(Errno::EXIST) => open(name).map(|_| false),
            made => made.map(|()| true).map_err(failed),
        }
    }

    /// Opens a file, relative to the download folder.
    pub fn open(&self, name: &Path, access: Access) -> Result<OpenFile, StorageError> {
        let path = || self.path.join(name);
        let not_a_file = || StorageError::NotAFile { path: path() };
        let opened = match self.followed(name, |name| self.open_as_allowed(name, access)) {
            Err(Errno::LOOP) if access == Access::Read => self.open_outside(name),
            opened => opened,
        };
        let handle = opened.map_err(|errno| match errno {
            Errno::LOOP => self.escapes(name),
            Errno::EXIST if access == Access::New => {
                StorageError::InTheWay { path: path(), why: Refusal::Appeared, more: 0 }
            }
            // The system's errors for a folder; for a socket, or a missing device.
            Errno::ISDIR | Errno::EXIST | Errno::NXIO | Errno::NODEV => not_a_file(),
            errno => StorageError::io(Operation::Open, &path())(errno.into()),
        })?;
        // Opening a folder or a pipe for reading only does not fail.
        let found = handle.file.metadata().map_err(|error| StorageError::io(Operation::Open, &path())(error))?;
        if found.is_file() { Ok(handle) } else { Err(not_a_file()) }
    }

    /// Removes a file, relative to the download folder; a symbolic link itself, not its target.
    pub fn remove(&self, name: &Path) -> io::Result<()> {
        let folder = name.parent().unwrap_or(Path::new(""));
        let last = name.file_name().unwrap_or_default();
        if folder.as_os_str().is_empty() {
            // Needs no descriptor, so that markers and part files can be removed even if none is free.
            return Ok(rustix::fs::unlinkat(self.folder()?, last, AtFlags::empty())?);
        }
        let folder = self.followed(folder, |name| self.open_beneath(name, FOLDER))?;
        Ok(rustix::fs::unlinkat(folder, last, AtFlags::empty())?)
    }

    /// Renames a file inside the download folder, replacing a file of the new name.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (source, target) = (self.folder_of(from)?, self.folder_of(to)?);
        // Without flags, because sandboxes may forbid `renameat2`.
        Ok(rustix::fs::renameat(source, file_name(from), target, file_name(to))?)
    }

    /// Like [`Root::rename`], with flags.
    pub fn rename_with(&self, from: &Path, to: &Path, flags: RenameFlags) -> io::Result<()> {
        let (source, target) = (self.folder_of(from)?, self.folder_of(to)?);
        Ok(rustix::fs::renameat_with(source, file_name(from), target, file_name(to), flags)?)
    }

    /// Opens the folder that contains a name.
    pub fn folder_of(&self, name: &Path) -> Result<OwnedFd, Errno> {
        let folder = name.parent().unwrap_or(Path::new(""));
        self.followed(folder, |name| self.open_beneath(name, FOLDER))
    }

    /// Opens a folder without following any link.
    #[cfg(feature = "service")]
    pub fn own_folder(&self, name: &Path) -> Result<OwnedFd, Errno> {
        self.open_beneath(name, FOLDER)
    }

    /// Whether the name is a symbolic link, or may be one, because it cannot be examined.
    pub fn may_be_link(&self, name: &Path) -> bool {
        self.is_link(name).unwrap_or(true)
    }

    /// Whether the name is a symbolic link. Waits for a descriptor.
    ///
    /// # Errors
    /// If it cannot be examined.
    pub fn is_link(&self, name: &Path) -> io::Result<bool> {
        let folder = self.folder_of(name);
        match folder.and_then(|folder| rustix::fs::statat(folder, file_name(name), AtFlags::SYMLINK_NOFOLLOW)) {
            Ok(found) => Ok(FileType::from_raw_mode(found.st_mode) == FileType::Symlink),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Opens a file in the download folder without following any link.
    pub fn open_own(&self, name: &Path, flags: OFlags) -> Result<File, Errno> {
        self.open_beneath(name, flags | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW).map(File::from)
    }

    /// Creates a symbolic link at a free name, in a folder reached without following any link.
    pub fn create_symlink(&self, name: &Path, target: &Path) -> io::Result<()> {
        let folder = self.open_beneath(name.parent().unwrap_or(Path::new("")), FOLDER)?;
        Ok(rustix::fs::symlinkat(target, folder, name.file_name().unwrap_or_default())?)
    }

    /// A file's metadata, relative to the download folder.
    pub fn metadata(&self, name: &Path) -> io::Result<fs::Metadata> {
        match self.metadata_inside(name) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::LOOP) => self.open_outside(name)?.file.metadata(),
            found => found,
        }
    }

    /// Like [`Root::metadata`], but fails with `LOOP` if a link leads out of the download folder.
    pub fn metadata_inside(&self, name: &Path) -> io::Result<fs::Metadata> {
        File::from(self.followed(name, |name| self.open_beneath(name, OFlags::PATH))?).metadata()
    }

    /// Allows reading a file outside the download folder that the user's symbolic link points to: this file and no other,
    /// whatever happens to the link. btsync only uses what verifies, and a torrent cannot create a link that leads out. Call it
    /// before checking the file's pieces.
    pub fn allow_outside(&self, name: &Path) -> io::Result<fs::Metadata> {
        let found = self.open_real(name)?.metadata()?;
        self.outside.lock().insert(name.to_owned(), (found.dev(), found.ino()));
        Ok(found)
    }

    /// Opens a file outside the download folder that [`Root::allow_outside`] has allowed.
    fn open_outside(&self, name: &Path) -> Result<OpenFile, Errno> {
        let errno = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
        let admitted = self.outside.lock().get(name).copied().ok_or(Errno::LOOP)?;
        let file = self.open_real(name).map_err(errno)?;
        let found = file.metadata().map_err(errno)?;
        if (found.dev(), found.ino()) == admitted { Ok(OpenFile::new(file, false)) } else { Err(Errno::LOOP) }
    }

    /// Opens a name's target for reading, wherever it is.
    fn open_real(&self, name: &Path) -> io::Result<File> {
        let real = fs::canonicalize(self.path.join(name)).map_err(|_| Errno::LOOP)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = self.with_retry(|| Ok(rustix::fs::openat(CWD, &real, flags, Mode::empty())?))?;
        let file = File::from(file);
        // Only regular files: other code reports a folder at a file's path.
        if file.metadata()?.is_file() { Ok(file) } else { Err(Errno::LOOP.into()) }
    }

    /// Opens a name without links, or else its resolved name. `LOOP` means that the target is outside, or that links change
    /// meanwhile.
    fn followed<T>(&self, name: &Path, open: impl Fn(&Path) -> Result<T, Errno>) -> Result<T, Errno> {
        match open(name) {
            Err(Errno::LOOP) => open(&self.inside(name)?),
            opened => opened,
        }
    }

    /// Resolves a name with links, relative to the download folder.
    fn inside(&self, name: &Path) -> Result<PathBuf, Errno> {
        let errno = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
        let path = self.path.join(name);
        let real = match fs::canonicalize(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // A dangling link, or a new file in a folder that is a link.
                let (Err(_), Some(parent), Some(last)) = (fs::symlink_metadata(&path), path.parent(), path.file_name())
                else {
                    return Err(Errno::LOOP);
                };
                fs::canonicalize(parent).map_err(errno)?.join(last)
            }
            real => real.map_err(errno)?,
        };
        let root = fs::canonicalize(&self.path).map_err(errno)?;
        real.strip_prefix(root).map(Path::to_owned).map_err(|_| Errno::LOOP)
    }

    fn open_as_allowed(&self, name: &Path, access: Access) -> Result<OpenFile, Errno> {
        // `NONBLOCK` so as not to wait for ever on a pipe at a file's path; it has no effect on regular files.
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        let flags = match access {
            Access::Read => flags | OFlags::RDONLY,
            Access::Write => flags | OFlags::RDWR,
            Access::New => flags | OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
        };
        let file = self.open_beneath(name, flags)?;
        Ok(OpenFile::new(File::from(file), access != Access::Read))
    }

    /// Opens without following any link; `LOOP` if there is one. Waits if no descriptor is free.
    fn open_beneath(&self, name: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let short = |opened: &Result<OwnedFd, Errno>| matches!(opened, Err(Errno::MFILE | Errno::NFILE));
        retry_while(|| self.try_open(name, flags), short, || self.may_wait())
    }

    /// Runs another operation that needs a descriptor. Waits if none is free, too.
    pub fn with_retry<T>(&self, attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        retry_while(attempt, |made| made.as_ref().is_err_and(is_shortage), || self.may_wait())
    }

    fn may_wait(&self) -> bool {
        self.descriptor_wait.get().is_some_and(|descriptor_wait| (descriptor_wait.0)())
    }

    fn try_open(&self, name: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let root = self.folder()?;
        let flags = flags | OFlags::CLOEXEC;
        if name.as_os_str().is_empty() {
            return rustix::fs::openat(root, ".", flags, Mode::empty());
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match rustix::fs::openat2(root, name, flags, mode(flags), resolve) {
            // Old kernels lack `openat2`, and some sandboxes forbid unknown system calls.
            Err(Errno::NOSYS | Errno::PERM) => walk(root, name, flags),
            opened => opened,
        }
    }

    /// The download folder, open.
    pub fn folder(&self) -> Result<BorrowedFd<'_>, Errno> {
        if self.folder.get().is_none() {
            let folder = rustix::fs::openat(CWD, &self.path, FOLDER | OFlags::CLOEXEC, Mode::empty())?;
            self.folder.get_or_init(|| folder);
        }
        self.folder.get().map(AsFd::as_fd).ok_or(Errno::NOENT)
    }

    fn escapes(&self, name: &Path) -> StorageError {
        StorageError::Escapes { path: self.path.join(name) }
    }
}

/// The last component of a name.
pub(super) fn file_name(name: &Path) -> &OsStr {
    name.file_name().unwrap_or_default()
}

/// Does the work of `openat2` one component at a time.
fn walk(root: BorrowedFd<'_>, name: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut parts = name.components().peekable();
    let mut folder: Option<OwnedFd> = None;
    while let Some(part) = parts.next() {
        let Component::Normal(part) = part else { return Err(Errno::INVAL) };
        let from = folder.as_ref().map_or(root, AsFd::as_fd);
        let flags = if parts.peek().is_some() { FOLDER | OFlags::CLOEXEC } else { flags } | OFlags::NOFOLLOW;
        let opened = rustix::fs::openat(from, part, flags, mode(flags)).map_err(|errno| {
            // A link fails the folder check too.
            let found = || rustix::fs::statat(from, part, AtFlags::SYMLINK_NOFOLLOW);
            let link = errno == Errno::NOTDIR
                && found().is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Symlink);
            if link { Errno::LOOP } else { errno }
        })?;
        if parts.peek().is_none() {
            return Ok(opened);
        }
        folder = Some(opened);
    }
    Err(Errno::INVAL)
}

fn mode(flags: OFlags) -> Mode {
    if flags.contains(OFlags::CREATE) { Mode::from_raw_mode(0o666) } else { Mode::empty() }
}

#[cfg(test)]
mod tests;
