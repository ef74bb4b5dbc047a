//! `btsync --list`: a torrent's files with the numbers that `--select` takes, and what is selected of them, on stdout.

use std::fmt::Write as _;

use super::exit::{Exit, Failure};
use super::figures::size;
use super::info::{self, slashed};
use crate::metainfo::{Selection, Torrent, printable};

/// Prints a line a file, padding left out, and one of sums.
///
/// # Errors
/// Where the selection matches nothing, or stdout takes nothing.
pub fn print(torrent: &Torrent, selection: &Selection) -> Result<(), Failure> {
    info::print(&text(torrent, selection)?)
}

fn text(torrent: &Torrent, selection: &Selection) -> Result<String, Failure> {
    let wanted = selection.choose(&torrent.files, torrent.multi_file);
    let wanted = wanted.map_err(|error| Failure::new(Exit::BadOption, printable(&error.to_string())))?;
    let width = torrent.files.len().to_string().len();
    let (mut files, mut chosen, mut bytes) = (0, 0, 0u64);
    let mut out = String::new();
    for (number, (file, wanted)) in (1..).zip(torrent.files.iter().zip(wanted)).filter(|(_, (file, _))| !file.pad) {
        files += 1;
        if wanted {
            chosen += 1;
            bytes += file.length;
        }
        let mark = if wanted { '*' } else { ' ' };
        // Writing to a String does not fail.
        let _ = writeln!(out, "{mark} {number:>width$}  {:>10}  {}", size(file.length), printable(&slashed(file)));
    }
    let _ = writeln!(out, "* {chosen} of {files} files, {}", size(bytes));
    Ok(out)
}
