//! Standard output, for commands that print their result there.

use std::io::{self, Write};

use crate::cli::exit::{Exit, Failure};
use crate::util::os_error::reason;

/// Writes to standard output. A closed pipe (`| head`) is not a failure.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    print_with(|out| out.write_all(text.as_bytes()))
}

/// Writes to standard output piece by piece, as a torrent may have a million files.
pub(crate) fn print_with(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
    let mut out = io::BufWriter::with_capacity(64 << 10, io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(Exit::FileIo, stdout_error(&e))),
        _ => Ok(()),
    }
}

/// The message for a standard output that cannot be written.
pub(crate) fn stdout_error(error: &io::Error) -> String {
    format!("standard output cannot be written: {}", reason(error))
}
