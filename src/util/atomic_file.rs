//! Writes files atomically: to a temporary file with a random name beside the target, then renames it. A reader finds the old
//! file or the new one, and a symbolic link at either name is replaced, never written through.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, RenameFlags, XattrFlags, renameat_with};
use rustix::io::Errno;

use crate::util::exact_names;
use crate::util::random;

/// Permissions of the folders that btsync makes for itself, and of its files there: they reveal what the user downloads.
const PRIVATE_FOLDER: u32 = 0o700;
const PRIVATE_FILE: u32 = 0o600;
/// Files that the user asked for follow the umask.
const PLAIN_FILE: u32 = 0o666;
/// The longest list of extended attributes of a file, and the longest value of one, on Linux.
const MAX_ATTRIBUTE: usize = 64 << 10;
/// How long to wait for a pipe's reader to continue reading.
const READER_TIMEOUT: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// What may exist at the target path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteMode {
    /// Nothing; otherwise the error is [`io::ErrorKind::AlreadyExists`].
    CreateNew,
    /// Anything but a folder. The new file keeps an old file's permissions and owner.
    Replace,
    /// The same, and the new file keeps an old file's extended attributes: it is the same file with another content.
    Edit,
}

/// The step that failed, and its error.
#[derive(Debug)]
pub enum WriteFailure {
    /// Creating the temporary file beside the target.
    Create(io::Error),
    /// Writing the temporary file.
    Write(io::Error),
    /// Renaming it to the target.
    Move(io::Error),
}

impl From<WriteFailure> for io::Error {
    fn from(failed: WriteFailure) -> io::Error {
        match failed {
            WriteFailure::Create(error) | WriteFailure::Write(error) | WriteFailure::Move(error) => error,
        }
    }
}

/// Creates a folder of btsync's own, and missing folders above it; only the user can access those that it creates.
///
/// # Errors
/// If one cannot be created.
pub fn private_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(PRIVATE_FOLDER).create(folder)
}

/// Replaces a file of btsync's own, which only the user can read. Does not sync: the caller must be able to lose the file in a
/// power failure. A file whose content `is_ours` does not accept belongs to someone else, and stays:
/// [`io::ErrorKind::AlreadyExists`].
///
/// # Errors
/// If a step fails; the old file, if any, is then unchanged.
pub fn replace_private(path: &Path, bytes: &[u8], is_ours: impl Fn(&[u8]) -> bool) -> io::Result<()> {
    if !may_be_ours(path, is_ours)? {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a file of this name exists that btsync did not create",
        ));
    }
    Ok(replace(path, PRIVATE_FILE, WriteMode::Replace, |file| file.write_all(bytes))?)
}

/// Replaces a file of btsync's own that must survive a power failure, whatever its content. Syncs the new file before it replaces the old
/// one, so that either is there afterwards; [`sync_folder`] makes sure that it is the new one.
///
/// # Errors
/// If a step fails; the old file, if any, is then unchanged.
pub fn replace_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fill = |file: &mut File| {
        file.write_all(bytes)?;
        if_can_sync(file.sync_data())
    };
    replace(path, PRIVATE_FILE, WriteMode::Replace, fill)?;
    #[cfg(test)]
    synced::add(path);
    Ok(())
}

/// Creates a file that only the user can read, and that must survive a power failure.
///
/// # Errors
/// The step that failed; [`io::ErrorKind::AlreadyExists`] if the name is taken.
pub fn create_private(path: &Path, bytes: &[u8]) -> Result<(), WriteFailure> {
    replace(path, PRIVATE_FILE, WriteMode::CreateNew, |file| {
        file.write_all(bytes)?;
        if_can_sync(file.sync_data())
    })
}

/// Waits until the disk has the names of the files in a folder.
///
/// # Errors
/// If the folder cannot be opened, or the disk fails.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    if_can_sync(File::open(folder)?.sync_all())?;
    #[cfg(test)]
    synced::add(folder);
    Ok(())
}

/// The result of a sync. Some file systems cannot sync, which is no error.
///
/// # Errors
/// The error of the sync.
pub fn if_can_sync(synced: io::Result<()>) -> io::Result<()> {
    match synced {
        Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP)) => {
            Ok(())
        }
        synced => synced,
    }
}

/// Which files and folders were synced, for tests.
#[cfg(test)]
pub mod synced {
    use std::path::{Path, PathBuf};

    use parking_lot::Mutex;

    static PATHS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

    /// Records a file or folder that was synced.
    pub fn add(path: &Path) {
        PATHS.lock().push(path.to_owned());
    }

    /// How often this file or folder was synced.
    pub fn count(path: &Path) -> usize {
        PATHS.lock().iter().filter(|synced| *synced == path).count()
    }
}

/// Whether a file's content is empty, all zeros or accepted by `is_ours`; also `true` if it does not exist or is not a regular
/// file. Follows symbolic links.
///
/// # Errors
/// If the file cannot be read.
pub fn may_be_ours(path: &Path, is_ours: impl Fn(&[u8]) -> bool) -> io::Result<bool> {
    let mut bytes = Vec::new();
    match open_regular(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        opened => match opened? {
            Some(mut file) => file.read_to_end(&mut bytes)?,
            None => return Ok(true),
        },
    };
    Ok(bytes.iter().all(|byte| *byte == 0) || is_ours(&bytes))
}

/// Opens a regular file, or a link to one, for reading; `None` if it is something else. Never blocks, even on a pipe without a
/// writer or on a device.
///
/// # Errors
/// If the file cannot be opened.
pub fn open_regular(path: &Path) -> io::Result<Option<File>> {
    // Check before opening, because opening a device may have side effects; and after, because another file may be there by then.
    if !fs::metadata(path)?.is_file() {
        return Ok(None);
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        // A socket.
        Err(Errno::NXIO) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    Ok(file.metadata()?.is_file().then_some(file))
}

/// Opens a file of btsync's own, as [`open_regular`] does.
///
/// # Errors
/// If it cannot be opened, or is not a regular file.
pub fn open(path: &Path) -> io::Result<File> {
    open_regular(path)?.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a file"))
}

/// The bytes of a file or a pipe from its current position on; `None` if there are more than `most`.
///
/// # Errors
/// If it cannot be read.
pub fn read_at_most(file: impl io::Read, most: usize) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let length = file.take(most as u64 + 1).read_to_end(&mut bytes)?;
    Ok((length <= most).then_some(bytes))
}

/// Writes a file that the user named, with the permissions that the umask leaves.
///
/// # Errors
/// The step that failed; an existing file is then unchanged.
pub fn write(path: &Path, bytes: &[u8], mode: WriteMode) -> Result<(), WriteFailure> {
    let before = fs::symlink_metadata(path).ok().filter(Metadata::is_file);
    replace(path, PLAIN_FILE, mode, |file| {
        file.write_all(bytes)?;
        if let Some(before) = &before {
            // Only root may change owners; other users keep the new file.
            let _ = fchown(&*file, Some(before.uid()), Some(before.gid()));
            if mode == WriteMode::Edit {
                copy_attributes(path, file);
            }
            file.set_permissions(before.permissions())?;
        }
        // Before the rename destroys old content. And a network file system may report only now that it has no space for the data.
        if_can_sync(file.sync_all())
    })
}

/// Gives a new file the extended attributes of the file at `path`, among them its access control list, as far as the system allows.
fn copy_attributes(path: &Path, new: &File) {
    let mut names = vec![0; MAX_ATTRIBUTE];
    let length = rustix::fs::llistxattr(path, &mut names).unwrap_or_default();
    let mut value = vec![0; MAX_ATTRIBUTE];
    for name in names.get(..length).unwrap_or_default().split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let copied = rustix::fs::lgetxattr(path, name, &mut value).and_then(|length| {
            rustix::fs::fsetxattr(new, name, value.get(..length).unwrap_or_default(), XattrFlags::empty())
        });
        if let Err(error) = copied {
            log::debug!("{}: {} is not kept: {error}", path.display(), name.escape_ascii());
        }
    }
}

/// Writes to something other than a regular file: a pipe, a device. Never truncates, because a file may have replaced it a moment
/// ago, and does not wait for long if nobody reads.
///
/// # Errors
/// If it is a file or a folder, cannot be written to, or nobody reads from it.
pub fn write_into(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mut opened = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::NXIO => io::Error::new(io::ErrorKind::NotConnected, "no program reads from it"),
        errno => errno.into(),
    })?);
    if opened.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "another program has just created it"));
    }
    let mut rest = bytes;
    while !rest.is_empty() {
        match opened.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait_for_reader(&opened)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn wait_for_reader(pipe: &File) -> io::Result<()> {
    let mut ready = [PollFd::new(pipe, PollFlags::OUT)];
    match poll(&mut ready, Some(&READER_TIMEOUT)) {
        Ok(0) => Err(io::Error::new(io::ErrorKind::TimedOut, "no program reads from it")),
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn replace(
    path: &Path,
    permissions: u32,
    mode: WriteMode,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(), WriteFailure> {
    let temporary_path = temporary_path(path);
    // `create_new` (O_EXCL) does not follow links.
    let mut new = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(permissions)
        .open(&temporary_path)
        .map_err(WriteFailure::Create)?;
    let written = fill(&mut new)
        .map_err(WriteFailure::Write)
        .and_then(|()| move_to(&temporary_path, path, mode).map_err(WriteFailure::Move));
    if written.is_err() {
        let _ = fs::remove_file(&temporary_path); // report the first error
    }
    written
}

/// A random name in the same folder, so that nobody can have prepared a link there.
fn temporary_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{:08x}.new", random::u32()));
    PathBuf::from(name)
}

fn move_to(temporary_path: &Path, path: &Path, mode: WriteMode) -> io::Result<()> {
    if mode == WriteMode::CreateNew { rename_to_new(temporary_path, path) } else { fs::rename(temporary_path, path) }
}

/// Renames a file to a name that must be free.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] if the name is taken, even by a dangling symbolic link, or another error of the system.
pub fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system, or a sandbox, that does not support `NOREPLACE`.
        Err(Errno::INVAL | Errno::NOSYS) => rename_by_link(from, to),
        renamed => Ok(renamed?),
    }
}

fn rename_by_link(from: &Path, to: &Path) -> io::Result<()> {
    let name = |path: &Path| path.file_name().map(ToOwned::to_owned).ok_or(io::ErrorKind::InvalidInput);
    let (old, new) = (open_parent(from)?, open_parent(to)?);
    let (from, to) = (name(from)?, name(to)?);
    Ok(exact_names::rename_by_link((old.as_fd(), &from), (new.as_fd(), &to), exact_names::is_same_inode)?)
}

/// Opens the folder that contains a name.
fn open_parent(path: &Path) -> io::Result<OwnedFd> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(rustix::fs::open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

#[cfg(test)]
mod tests;
