//! Every exit code, in one table, so that scripts can tell what went wrong. The numbers are aria2's where the meaning is the same.

use std::fmt;

use crate::util::os_error::without_numbers;

/// How a command ended, as the shell sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All asked for was done.
    Done = 0,
    /// Something that has no code of its own.
    Other = 1,
    /// A time limit ran out.
    TimedOut = 2,
    /// The network failed us: no port to listen on, no way to a tracker.
    Network = 6,
    /// Stopped before the download was whole; the next start goes on from there.
    Unfinished = 7,
    /// The disk is full.
    DiskFull = 9,
    /// Another process downloads the same file.
    InUse = 11,
    /// A file that must not be overwritten is there already.
    FileExists = 13,
    /// A file could not be renamed.
    FileRename = 14,
    /// A file that must be there could not be opened.
    OpenExisting = 15,
    /// A new file could not be made.
    CreateFile = 16,
    /// Reading or writing a file failed.
    FileIo = 17,
    /// A folder could not be made.
    MakeFolder = 18,
    /// A host's name could not be resolved.
    NameLookup = 19,
    /// A file is not bencode.
    Bencode = 25,
    /// A file is bencode, but no torrent that we accept.
    BadTorrent = 26,
    /// A magnet link is malformed.
    BadMagnet = 27,
    /// The command line is wrong.
    BadOption = 28,
    /// Content does not match its checksum.
    Checksum = 32,
}

impl Exit {
    /// The number for the shell.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// Why a command did not do what was asked: an exit code, and one line for stderr. An empty message prints nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub code: Exit,
    /// One line that says what went wrong with which file or host.
    pub message: String,
}

impl Failure {
    /// A failure with its code and its line, from which numbers of system errors are taken.
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
