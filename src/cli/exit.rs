//! The exit codes, so that scripts can tell failures apart. They follow aria2's numbers where the meaning is the same.

use std::fmt;

use crate::util::os_error::without_numbers;

/// The exit code of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything succeeded.
    Done = 0,
    /// A failure without a code of its own.
    Other = 1,
    /// A time limit ran out.
    TimedOut = 2,
    /// A network failure: no port to listen on, a network interface that does not exist, or a URL of a torrent that cannot be
    /// fetched.
    Network = 6,
    /// Stopped before the download was complete; running the command again resumes it.
    Unfinished = 7,
    /// The disk is full.
    DiskFull = 9,
    /// Another process downloads to the same files.
    InUse = 11,
    /// A file exists and must not be overwritten.
    FileExists = 13,
    /// A file could not be renamed.
    FileRename = 14,
    /// An existing file could not be opened.
    OpenExisting = 15,
    /// A file could not be created.
    CreateFile = 16,
    /// Reading or writing a file failed.
    FileIo = 17,
    /// A folder could not be created.
    MakeFolder = 18,
    /// A host name could not be resolved.
    NameLookup = 19,
    /// A file is not valid bencode.
    Bencode = 25,
    /// A file is valid bencode, but not a valid torrent.
    BadTorrent = 26,
    /// A magnet link is malformed.
    BadMagnet = 27,
    /// The command line is wrong.
    BadOption = 28,
    /// The data does not match its hash.
    Checksum = 32,
    /// `doctor` found a problem.
    DoctorProblem = 33,
}

impl Exit {
    /// The number that the process exits with.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// Why a command failed: an exit code and one line for stderr. An empty message prints nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub code: Exit,
    /// One line that says what failed and for which file or host.
    pub message: String,
}

impl Failure {
    /// Creates a failure. Removes the numbers of system errors (`os error 2`) from the message.
    pub fn new(code: Exit, message: impl Into<String>) -> Failure {
        Failure { code, message: without_numbers(&message.into()).into_owned() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
