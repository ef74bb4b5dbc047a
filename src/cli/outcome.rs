//! What becomes of how a session ended: the exit code, and the one line for people.

use std::time::Duration;

use crate::cli::exit::{Exit, Failure};
use crate::cli::report::Ending;
use crate::cli::report::figures::{part, percent, time};
use crate::cli::report::no_peers::why;
use crate::storage::{Doing, StorageError, StorageErrorKind};
use crate::torrent::{ClientError, Handle, Outcome, SessionError, Snapshot, Stage};

/// How a session ended, for those who tell of it.
pub(crate) fn ending(result: &Result<Outcome, SessionError>) -> Ending {
    match result {
        Ok(Outcome::Completed | Outcome::StoppedWhole) => Ending::Whole,
        Ok(Outcome::Stopped | Outcome::TimedOut) => Ending::Stopped,
        Err(_) => Ending::Failed,
    }
}

/// The exit code and the line for how a session ended; none where all is there.
pub(crate) fn verdict(
    result: Result<Outcome, SessionError>,
    handle: &Handle,
    patience: Option<Duration>,
) -> Result<(), Failure> {
    match result {
        Ok(Outcome::Completed | Outcome::StoppedWhole) => Ok(()),
        Ok(Outcome::Stopped) => Err(Failure::new(Exit::Unfinished, stopped(&handle.snapshot()))),
        Ok(Outcome::TimedOut) => {
            let waited = time(patience.unwrap_or_default());
            let why = why(&handle.search(), &handle.snapshot(), &[]);
            let there = there(&handle.snapshot());
            Err(Failure::new(Exit::TimedOut, format!("gave up{there}, as nothing came for {waited}: {why}")))
        }
        Err(error) => Err(failure(&error)),
    }
}

/// The last line of a download that was stopped.
fn stopped(now: &Snapshot) -> String {
    if now.total == 0 {
        return "stopped before the metadata was there; run it again to start over".to_owned();
    }
    if matches!(now.stage, Stage::Starting | Stage::Checking) {
        return "stopped before the files were checked; run it again to start over".to_owned();
    }
    format!("stopped{}; run it again to go on", there(now))
}

/// How much of the download is there, behind the word for its end; empty where nobody knows.
fn there(now: &Snapshot) -> String {
    if now.total == 0 {
        return String::new();
    }
    format!(" at {} ({})", percent(now.have, now.total), part(now.have, now.total))
}

/// The exit code and the line for what kept a session from going on.
pub(crate) fn failure(error: &SessionError) -> Failure {
    let code = match error {
        SessionError::Storage(error) => storage_exit(error),
        SessionError::Layout(_) | SessionError::Metadata(_) => Exit::BadTorrent,
        SessionError::Client(ClientError::Interface { .. } | ClientError::Listen { .. }) => Exit::Network,
        SessionError::Select(_) | SessionError::Place(_) => Exit::BadOption,
        SessionError::Client(ClientError::FileTaken { .. }) => Exit::FileExists,
        SessionError::Client(ClientError::Twice { .. }) => Exit::Other,
    };
    Failure::new(code, error.to_string())
}

/// The exit code for trouble with files.
fn storage_exit(error: &StorageError) -> Exit {
    match (error.kind(), error) {
        (StorageErrorKind::DiskFull, _) => Exit::DiskFull,
        (_, StorageError::Io { doing: Doing::Rename, .. }) => Exit::FileRename,
        (StorageErrorKind::NotAFolder, _) | (_, StorageError::Io { doing: Doing::CreateFolder, .. }) => {
            Exit::MakeFolder
        }
        (StorageErrorKind::Exists, _) => Exit::FileExists,
        (StorageErrorKind::InUse, _) => Exit::InUse,
        (StorageErrorKind::Missing | StorageErrorKind::TooManyFiles, _) => Exit::OpenExisting,
        (StorageErrorKind::Permission | StorageErrorKind::ReadOnly | StorageErrorKind::Escapes, _) => Exit::CreateFile,
        (StorageErrorKind::Io, _) => Exit::FileIo,
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn trouble_with_files_has_its_codes() {
        let code = |doing, errno: i32| {
            let source = io::Error::from_raw_os_error(errno);
            storage_exit(&StorageError::Io { doing, path: PathBuf::from("x"), source })
        };
        // The system's numbers: 28 no space, 122 no quota, 27 file too large, 13 permission, 20 not a folder, 21 is a folder,
        // 2 not there, 5 input/output.
        assert_eq!(code(Doing::Write, 28), Exit::DiskFull);
        assert_eq!(code(Doing::CreateFolder, 28), Exit::DiskFull);
        assert_eq!([Doing::Open, Doing::Resize, Doing::Write].map(|doing| code(doing, 122)), [Exit::DiskFull; 3]);
        assert_eq!(code(Doing::CreateFolder, 122), Exit::DiskFull);
        assert_eq!(code(Doing::Resize, 27), Exit::DiskFull);
        assert_eq!(code(Doing::CreateFolder, 13), Exit::MakeFolder);
        assert_eq!(code(Doing::Open, 13), Exit::CreateFile);
        assert_eq!(code(Doing::Open, 20), Exit::MakeFolder);
        assert_eq!(code(Doing::Open, 21), Exit::FileExists);
        assert_eq!(code(Doing::Open, 2), Exit::OpenExisting);
        assert_eq!(code(Doing::Read, 5), Exit::FileIo);
    }
}
