//! Errors of storage, as messages for users and as kinds for exit codes.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use thiserror::Error;

use crate::storage::ownership::Refusal;
use crate::util::os_error::reason;
use crate::util::printable_text::is_deceptive;
use crate::util::units::size;

/// The operation that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// Creating a folder.
    CreateFolder,
    /// Opening or creating a file.
    Open,
    /// Setting a file's length.
    Resize,
    /// Preallocating a file's space.
    Allocate,
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Waiting for data to reach the disk.
    Sync,
    /// Replacing a file by a copy of it.
    Copy,
    /// Renaming or moving a file.
    Rename,
    /// Removing a file.
    Remove,
    /// Uploading verified data of a file.
    Serve,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::CreateFolder => "create the folder",
            Operation::Open => "open",
            Operation::Resize => "set the length of",
            Operation::Allocate => "reserve disk space for",
            Operation::Read => "read from",
            Operation::Write => "write to",
            Operation::Sync => "sync",
            Operation::Rename => "rename",
            Operation::Remove => "remove",
            Operation::Copy => "copy",
            Operation::Serve => "serve",
        })
    }
}

/// Why storage failed; the message is one line that names the file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The system returned an error.
    #[error("cannot {operation} {}: {}", shown(.path), reason(.source))]
    Io {
        /// The operation that failed.
        operation: Operation,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A symbolic link would lead out of the download folder.
    #[error("will not use {}: a symbolic link leads out of the download folder, or to no file", shown(.path))]
    Escapes {
        /// The file or folder that was asked for.
        path: PathBuf,
    },
    /// Something other than a folder exists where a folder must be.
    #[error("cannot use {} as a folder: it is not a folder", shown(.path))]
    NotAFolder {
        /// The path of the folder.
        path: PathBuf,
    },
    /// A file that btsync did not make exists where it would have to write.
    #[error("will not write to {}: {why}{}{}", shown(.path), and_more(*.more), why.advice())]
    InTheWay {
        /// The first such file.
        path: PathBuf,
        /// Why btsync does not write to it.
        why: Refusal,
        /// The number of other such files.
        more: usize,
    },
    /// Another process downloads the same torrent to this folder, or another torrent to the same file.
    #[error("another process downloads the same file: {} is locked; wait for that process, or choose another folder", shown(.path))]
    InUse {
        /// The locked marker or file.
        path: PathBuf,
    },
    /// The marker that keeps other processes away is gone.
    #[error("stopped writing: {} was deleted or replaced, so another process may write to the same files; run the same command again to resume", shown(.path))]
    LockLost {
        /// The marker.
        path: PathBuf,
    },
    /// The download folder was moved or replaced.
    #[error("the download folder {} was moved or replaced during the download; the data so far is in the original folder", shown(.path))]
    Moved {
        /// Its path before.
        path: PathBuf,
    },
    /// A folder, device or pipe exists where a file must be.
    #[error("cannot use {} as a file: it is not a regular file", shown(.path))]
    NotAFile {
        /// The path of the file.
        path: PathBuf,
    },
    /// None of the torrent's files exists although they did before.
    #[error("none of the torrent's files is in {} any more: mount their disk, or choose the folder that has them", shown(.path))]
    NoFiles {
        /// The download folder.
        path: PathBuf,
    },
    /// There is too little free disk space.
    #[error("not enough disk space in {}: {}; free some space, choose another folder, or select fewer files", shown(.path), space_shortage(*.needed, *.free))]
    NoSpace {
        /// The download folder.
        path: PathBuf,
        /// The bytes needed.
        needed: u64,
        /// The bytes free on the file system.
        free: u64,
    },
    /// The file system has no room for the entries of the missing files.
    #[error("not enough free inodes in {}: {needed} are needed for the files, {free} are free; delete some files, choose another folder, or select fewer files", shown(.path))]
    NoInodes {
        /// The download folder.
        path: PathBuf,
        /// The number of files and folders to create.
        needed: u64,
        /// How many the file system has room for.
        free: u64,
    },
    /// A file larger than the file system or the process's limit allows.
    #[error("cannot create {}: its size of {} is more than the file system or the file size limit (ulimit -f) allows", shown(.path), size(*.length))]
    FileTooLarge {
        /// The path of the file.
        path: PathBuf,
        /// Its length in bytes.
        length: u64,
    },
    /// Two files that are the same file on a case-insensitive file system.
    #[error("{} and {} would be the same file, because the folder's file system ignores case; select one of them", shown(.path), shown(.other))]
    SameName {
        /// One path.
        path: PathBuf,
        /// The other path.
        other: PathBuf,
    },
    /// A range outside of the torrent: an error of the caller.
    #[error("there are no bytes {offset} to {offset}+{len} in a torrent of {total} bytes")]
    OutOfRange {
        /// The start of the range.
        offset: u64,
        /// Its length.
        len: u64,
        /// The torrent's length in bytes.
        total: u64,
    },
}

/// The kind of error; each has its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StorageErrorKind {
    /// No space, no quota, or a file larger than the file system allows.
    DiskFull,
    /// Permission denied.
    Permission,
    /// The file system is read-only.
    ReadOnly,
    /// Something that is not a file exists where a file must be, or a file that btsync may not write to.
    Exists,
    /// Something that is not a folder exists where a folder must be.
    NotAFolder,
    /// A symbolic link leads out of the download folder.
    Escapes,
    /// Another process writes to the same files, or may do so.
    InUse,
    /// A file is missing or shorter than it should be.
    Missing,
    /// The process or the system has no free descriptors.
    TooManyFiles,
    /// Any other error.
    Io,
}

impl StorageError {
    /// Whether a file is in the way that the option `overwrite` of a torrent replaces.
    pub fn is_overwritable(&self) -> bool {
        matches!(self, StorageError::InTheWay { why, .. } if why.advice().is_empty())
    }

    /// The kind of this error.
    pub fn kind(&self) -> StorageErrorKind {
        match self {
            StorageError::Io { source, .. } => kind(source),
            StorageError::NoSpace { .. } | StorageError::NoInodes { .. } | StorageError::FileTooLarge { .. } => {
                StorageErrorKind::DiskFull
            }
            StorageError::Escapes { .. } => StorageErrorKind::Escapes,
            StorageError::NotAFolder { .. } => StorageErrorKind::NotAFolder,
            StorageError::NotAFile { .. } | StorageError::InTheWay { .. } | StorageError::SameName { .. } => {
                StorageErrorKind::Exists
            }
            StorageError::InUse { .. } | StorageError::LockLost { .. } => StorageErrorKind::InUse,
            StorageError::Moved { .. } | StorageError::NoFiles { .. } => StorageErrorKind::Missing,
            StorageError::OutOfRange { .. } => StorageErrorKind::Io,
        }
    }

    /// Whether this is no real error: a stop interrupted a read or write of very many files.
    pub fn is_interrupted(&self) -> bool {
        matches!(self, StorageError::Io { source, .. } if source.kind() == io::ErrorKind::Interrupted)
    }

    /// For `map_err`: the error of doing `operation` to the file at `path`.
    pub(super) fn io(operation: Operation, path: &Path) -> impl FnOnce(io::Error) -> StorageError {
        move |source| StorageError::Io { operation, path: path.to_owned(), source }
    }
}

/// The kind of a system error.
fn kind(error: &io::Error) -> StorageErrorKind {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return StorageErrorKind::Missing;
    }
    match Errno::from_io_error(error) {
        Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => StorageErrorKind::DiskFull,
        Some(Errno::ACCESS | Errno::PERM | Errno::TXTBSY) => StorageErrorKind::Permission,
        Some(Errno::ROFS) => StorageErrorKind::ReadOnly,
        Some(Errno::EXIST | Errno::ISDIR) => StorageErrorKind::Exists,
        Some(Errno::NOTDIR) => StorageErrorKind::NotAFolder,
        Some(Errno::LOOP) => StorageErrorKind::Escapes,
        Some(Errno::NOENT) => StorageErrorKind::Missing,
        Some(Errno::MFILE | Errno::NFILE) => StorageErrorKind::TooManyFiles,
        _ => StorageErrorKind::Io,
    }
}

/// A path on one line. Replaces control characters, which could rewrite a terminal, and invisible ones, which mislead.
pub(super) fn shown(path: &Path) -> String {
    path.display().to_string().chars().map(|c| if is_deceptive(c) { '?' } else { c }).collect()
}

/// The number of further files that btsync may not write to, for the message.
fn and_more(more: usize) -> String {
    if more == 0 { String::new() } else { format!(" (and {more} more like this)") }
}

/// The bytes needed and free; exact figures if they would look the same.
fn space_shortage(needed: u64, free: u64) -> String {
    let (mut needs, mut has) = (size(needed), size(free));
    if needs == has {
        (needs, has) = (format!("{needed} bytes"), format!("{free} bytes"));
    }
    format!("{needs} are needed, {has} are free")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_with_operation_path_and_reason() {
        let full = StorageError::io(Operation::Write, Path::new("out/x\n.iso"))(Errno::NOSPC.into());
        assert_eq!(full.to_string(), "cannot write to out/x?.iso: no space left on device");
        assert_eq!(full.kind(), StorageErrorKind::DiskFull);
    }

    #[test]
    fn a_disk_that_is_too_small_is_told_with_figures() {
        let space_shortage = |needed, free| StorageError::NoSpace { path: "/x".into(), needed, free };
        let end = "; free some space, choose another folder, or select fewer files";
        for (needed, free, figures) in [
            (4 << 30, (12 << 30) / 10, "4.0 GiB are needed, 1.2 GiB are free"),
            (5 << 50, 1023, "5120.0 TiB are needed, 1023 B are free"),
            ((4 << 30) + 1, 4 << 30, "4294967297 bytes are needed, 4294967296 bytes are free"),
        ] {
            assert_eq!(
                space_shortage(needed, free).to_string(),
                format!("not enough disk space in /x: {figures}{end}")
            );
        }
        assert_eq!(space_shortage(1, 0).kind(), StorageErrorKind::DiskFull);
    }

    #[test]
    fn kinds_tell_troubles_apart() {
        let kind = |errno: Errno| StorageError::io(Operation::Open, Path::new("x"))(errno.into()).kind();
        let expected = [
            (Errno::DQUOT, StorageErrorKind::DiskFull),
            (Errno::FBIG, StorageErrorKind::DiskFull),
            (Errno::ACCESS, StorageErrorKind::Permission),
            (Errno::ROFS, StorageErrorKind::ReadOnly),
            (Errno::ISDIR, StorageErrorKind::Exists),
            (Errno::NOTDIR, StorageErrorKind::NotAFolder),
            (Errno::LOOP, StorageErrorKind::Escapes),
            (Errno::NOENT, StorageErrorKind::Missing),
            (Errno::MFILE, StorageErrorKind::TooManyFiles),
            (Errno::IO, StorageErrorKind::Io),
        ];
        for (errno, right) in expected {
            assert_eq!(kind(errno), right, "{errno}");
        }
    }
}
