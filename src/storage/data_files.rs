//! Moves and deletes the files of a torrent that does not run, and leaves those of the user's alone. Follows no symbolic link, overwrites nothing, and can be killed at
//! any moment: the same job, started again, completes.

mod copying;
mod deletion;
mod failed_move;
mod folders;
mod left_folders;
mod moved_marker;
mod moving;
mod names;
mod provenance;
mod published_copy;

use std::path::PathBuf;

use thiserror::Error;

use crate::storage::error::{StorageError, shown};

pub use deletion::KeptFile;
pub use moving::MovedFile;
pub use provenance::FileEvidence;

/// Why files cannot be moved or deleted; the message is one line that names the file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FileJobError {
    /// Something has the name that a file would get.
    #[error("{} exists already, and btsync does not overwrite it", shown(.0))]
    Exists(PathBuf),
    /// A symbolic link, a folder or a device is in the place of a file.
    #[error("{} is not a regular file; symbolic links are not followed", shown(.0))]
    NotAFile(PathBuf),
    /// A symbolic link is in the place of a folder.
    #[error("a symbolic link is in the path of {}, and btsync does not follow it", shown(.0))]
    Link(PathBuf),
    /// Another program has written to the file meanwhile.
    #[error("another program changed {} while it was moved", shown(.0))]
    Changed(PathBuf),
    /// Another program has the file open for writing: what it writes would be lost with the original.
    #[error("another program has {} open for writing", shown(.0))]
    OpenElsewhere(PathBuf),
    /// A file has a name that btsync gives to no file, such as one that begins with a dot.
    #[error(
        "{} stays, because it has the name that the torrent's creator gave it and btsync did not create it; \
         move it yourself",
        shown(.0)
    )]
    OriginalName(PathBuf),
    /// The move has failed, and so has moving back.
    #[error("{source}; {count} of the torrent's files are now in {}", shown(.folder))]
    Split {
        /// What failed first.
        source: Box<FileJobError>,
        /// How many files are not in their old place.
        count: usize,
        /// The folder in which they are.
        folder: PathBuf,
    },
    /// The job has to end, and can be started again.
    #[error("interrupted")]
    Stopped,
    /// The disk or the system.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

#[cfg(test)]
mod tests;
