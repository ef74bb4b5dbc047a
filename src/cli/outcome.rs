//! Maps the outcome of a torrent to an exit code and a message.

use std::sync::Arc;
use std::time::Duration;

use crate::cli::exit::{Exit, Failure};
use crate::cli::report::stall::stall_reason;
use crate::cli::report::status::{duration, part_of_total, percent};
use btsync::{ClientError, Outcome, SelectError, Snapshot, Stage, TorrentError, TorrentHandle};
use btsync::{Operation, StorageError, StorageErrorKind};

/// The exit code and the message for the outcome of a torrent; `Ok` if it is complete.
pub(crate) fn command_result(
    result: Result<Outcome, Arc<TorrentError>>,
    handle: &TorrentHandle,
    stop_timeout: Option<Duration>,
) -> Result<(), Failure> {
    match result {
        Ok(Outcome::Completed | Outcome::StoppedComplete) => Ok(()),
        Ok(Outcome::Stopped) => Err(Failure::new(Exit::Unfinished, stopped(&handle.snapshot()))),
        Ok(Outcome::TimedOut) => {
            let waited = duration(stop_timeout.unwrap_or_default());
            let stall_reason = stall_reason(&handle.peer_search(), &handle.snapshot(), &[]);
            let progress_text = progress_text(&handle.snapshot());
            Err(Failure::new(
                Exit::TimedOut,
                format!("gave up{progress_text} after {waited} without data: {stall_reason}"),
            ))
        }
        Ok(other) => Err(Failure::new(Exit::Other, format!("ended{}: {other:?}", progress_text(&handle.snapshot())))),
        Err(error) => Err(failure(&error)),
    }
}

/// The message for a download that was stopped.
fn stopped(now: &Snapshot) -> String {
    if now.total == 0 {
        return "stopped before the metadata arrived; the same command starts over".to_owned();
    }
    if matches!(now.stage, Stage::Starting | Stage::Checking) {
        return "stopped before the files were checked; the same command starts over".to_owned();
    }
    format!("stopped{}; the same command resumes", progress_text(now))
}

/// The progress as a suffix for a message, such as ` at 3% (1/30 MiB)`; empty while the size is unknown.
fn progress_text(now: &Snapshot) -> String {
    if now.total == 0 {
        return String::new();
    }
    format!(" at {} ({})", percent(now.have, now.total), part_of_total(now.have, now.total))
}

/// The exit code and the message for the error that ended a torrent.
pub(crate) fn failure(error: &TorrentError) -> Failure {
    let code = match error {
        TorrentError::Storage(error) => storage_exit(error),
        TorrentError::Layout(_) | TorrentError::Metadata(_) | TorrentError::V2Only => Exit::BadTorrent,
        TorrentError::Client(ClientError::Interface { .. } | ClientError::Listen { .. }) => Exit::Network,
        TorrentError::Select(_)
        | TorrentError::InvalidPath(_)
        | TorrentError::Client(ClientError::BlockList { .. }) => Exit::BadOption,
        TorrentError::Client(ClientError::FileTaken { .. }) => Exit::FileExists,
        _ => Exit::Other,
    };
    Failure::new(code, message(error))
}

/// The error in words, with the option that helps.
fn message(error: &TorrentError) -> String {
    let advice = match error {
        TorrentError::Client(ClientError::Listen { .. }) => "; choose another port with --listen-port",
        TorrentError::Storage(StorageError::SameName { .. }) => ", or rename one with --out",
        TorrentError::Storage(error) if error.is_overwritable() => {
            "; use --overwrite to overwrite it, or choose another folder"
        }
        TorrentError::Select(error) => return select_message(error),
        _ => "",
    };
    format!("{error}{advice}")
}

/// The same for a selection of files.
pub(crate) fn select_message(error: &SelectError) -> String {
    let advice = match error {
        SelectError::Range(_) => ", as --list shows",
        SelectError::NoMatch(_) => ": --list shows them",
        _ => "",
    };
    format!("{error}{advice}")
}

/// The exit code for a storage error.
fn storage_exit(error: &StorageError) -> Exit {
    match (error.kind(), error) {
        (StorageErrorKind::DiskFull, _) => Exit::DiskFull,
        (_, StorageError::Io { operation: Operation::Rename, .. }) => Exit::FileRename,
        (StorageErrorKind::NotAFolder, _) | (_, StorageError::Io { operation: Operation::CreateFolder, .. }) => {
            Exit::MakeFolder
        }
        (StorageErrorKind::Exists, _) => Exit::FileExists,
        (StorageErrorKind::InUse, _) => Exit::InUse,
        (StorageErrorKind::Missing | StorageErrorKind::TooManyFiles, _) => Exit::OpenExisting,
        (StorageErrorKind::Permission | StorageErrorKind::ReadOnly | StorageErrorKind::Escapes, _) => Exit::CreateFile,
        // `StorageErrorKind::Io` and kinds that a later version of the library adds.
        _ => Exit::FileIo,
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn trouble_with_files_has_its_codes() {
        let code = |operation, errno: i32| {
            let source = io::Error::from_raw_os_error(errno);
            storage_exit(&StorageError::Io { operation, path: PathBuf::from("x"), source })
        };
        // Error numbers: 28 ENOSPC, 122 EDQUOT, 27 EFBIG, 13 EACCES, 20 ENOTDIR, 21 EISDIR, 2 ENOENT, 5 EIO.
        assert_eq!(code(Operation::Write, 28), Exit::DiskFull);
        assert_eq!(code(Operation::CreateFolder, 28), Exit::DiskFull);
        assert_eq!(
            [Operation::Open, Operation::Resize, Operation::Write].map(|operation| code(operation, 122)),
            [Exit::DiskFull; 3]
        );
        assert_eq!(code(Operation::CreateFolder, 122), Exit::DiskFull);
        assert_eq!(code(Operation::Resize, 27), Exit::DiskFull);
        assert_eq!(code(Operation::CreateFolder, 13), Exit::MakeFolder);
        assert_eq!(code(Operation::Open, 13), Exit::CreateFile);
        assert_eq!(code(Operation::Open, 20), Exit::MakeFolder);
        assert_eq!(code(Operation::Open, 21), Exit::FileExists);
        assert_eq!(code(Operation::Open, 2), Exit::OpenExisting);
        assert_eq!(code(Operation::Read, 5), Exit::FileIo);
    }
}
