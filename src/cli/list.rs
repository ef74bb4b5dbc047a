//! `btsync --list`, or `btsync list`: a torrent's files with the numbers that `--select` takes, and what is selected of them, on
//! stdout; with `--json` as one event.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::exit::{Exit, Failure};
use super::figures::size;
use super::info::{self, slashed};
use crate::metainfo::{FileEntry, Selection, Torrent, printable};

/// Prints a line a file, padding left out, and one of sums; for programs one event, `json` after the start.
///
/// # Errors
/// Where the selection matches nothing, or stdout takes nothing.
pub fn print(torrent: &Torrent, selection: &Selection, json: Option<Duration>) -> Result<(), Failure> {
    let wanted = selection.choose(&torrent.files, torrent.multi_file);
    let wanted = wanted.map_err(|error| Failure::new(Exit::BadOption, printable(&error.to_string())))?;
    match json {
        None => info::print(&text(torrent, wanted)),
        // As with the events of a download.
        Some(at) => info::print(&super::json::line(at, "list", listed(torrent, &wanted)))
            .map_err(|failure| Failure { code: Exit::Other, ..failure }),
    }
}

/// The files as `--json` has them.
fn listed(torrent: &Torrent, wanted: &[bool]) -> Value {
    let files = (1..).zip(torrent.files.iter().zip(wanted)).filter(|(_, (file, _))| !file.pad);
    let said = |(number, (file, wanted)): (u32, (&FileEntry, &bool))| {
        let (path, length) = (slashed(file), file.length);
        json!({ "number": number, "path": path, "length": length, "selected": wanted })
    };
    let chosen = torrent.files.iter().zip(wanted).filter(|(file, wanted)| !file.pad && **wanted);
    json!({
        "info_hash": torrent.info_hash.hex(),
        "name": torrent.name,
        "files": files.map(said).collect::<Vec<_>>(),
        "selected": chosen.clone().count(),
        "bytes": chosen.map(|(file, _)| file.length).sum::<u64>(),
    })
}

fn text(torrent: &Torrent, wanted: Vec<bool>) -> String {
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
    out
}
