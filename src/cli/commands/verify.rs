//! `btsync verify`: hashes a torrent's files and reports damaged and missing data. Changes nothing on disk.

use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::cli::exit::{Exit, Failure};
use crate::cli::options::VerifyArgs;
use crate::cli::outcome;
use crate::cli::report::progress_bar;
use crate::cli::report::status::count;
use crate::cli::signals;
use crate::cli::source;
use crate::cli::terminal::stdout;
use crate::util::printable_text::printable;
use btsync::{FlawedFile, Metainfo, Selection, StorageErrorKind, TorrentError, Verification, Verifier};

/// Hashes the files and prints what is damaged or missing.
///
/// # Errors
/// [`Exit::Checksum`] if any data is damaged or missing; other codes if the torrent or a file cannot be read, or a signal
/// interrupts the command.
pub fn run(args: VerifyArgs) -> Result<(), Failure> {
    let torrent = source::read_torrent(&args.file)?;
    let folder = args.folder.unwrap_or_else(|| PathBuf::from("."));
    check_folder(&folder)?;
    let mut verifier = Verifier::new(&torrent, &folder).map_err(|error| failure(&error))?;
    if let Some(suffix) = &args.incomplete_suffix {
        verifier = verifier.incomplete_suffix(suffix);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let stopping = Arc::clone(&stop);
    let watch = signals::watch(move || stopping.store(true, Ordering::Relaxed))
        .map_err(|e| Failure::new(Exit::Other, format!("cannot watch for signals: {e}")))?;
    verifier = verifier.selection(Selection { select: args.select, exclude: args.exclude, magnet_indexes: None });
    verifier.selected().map_err(|error| failure(&error))?;
    let check = || verifier.run(&stop);
    let result = if args.quiet {
        check()
    } else {
        progress_bar::show_while("checking", verifier.total(), || verifier.progress(), check)
    };
    let result = result.map_err(|error| failure(&error))?;
    if result.is_interrupted {
        return Err(Failure::new(Exit::Unfinished, "interrupted"));
    }
    watch.release();
    let whole = result.is_complete();
    if args.json {
        stdout::print(&format!("{}\n", as_json(&torrent, &verifier, &result)))?;
    } else {
        stdout::print(&as_text(&verifier, &result.files))?;
    }
    let name = printable(&torrent.name);
    if !whole {
        let (bad, all) = (result.pieces - result.verified, result.pieces);
        let files = result.files.len();
        let message = {
            let verb = if bad == 1 { "is" } else { "are" };
            format!(
                "{name}: {bad} of {} {verb} wrong or missing; bad or missing files: {files}",
                count(all as usize, "piece")
            )
        };
        return Err(Failure::new(Exit::Checksum, message));
    }
    if !args.quiet {
        print_to_stderr(&format!("{name}: complete, {}", count(result.pieces as usize, "piece")));
    }
    Ok(())
}

/// Prints a line for the user. A closed stderr is not an error.
fn print_to_stderr(line: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{line}\n").as_bytes());
}

/// Checks that the folder exists. A missing folder is probably a typing error, and not a torrent of which every file is
/// missing.
fn check_folder(folder: &Path) -> Result<(), Failure> {
    let shown = printable(&folder.to_string_lossy());
    match fs::metadata(folder) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(Failure::new(Exit::OpenExisting, format!("{shown}: not a folder"))),
        Err(error) => Err(Failure::new(Exit::OpenExisting, format!("{shown}: cannot be opened: {error}"))),
    }
}

/// The failure for an error. Of the errors of a download, only those about the torrent, the selection and reading files
/// can occur here.
fn failure(error: &TorrentError) -> Failure {
    let code = match error {
        TorrentError::Select(_) => Exit::BadOption,
        TorrentError::Storage(error) => match error.kind() {
            StorageErrorKind::Io => Exit::FileIo,
            StorageErrorKind::Exists | StorageErrorKind::NotAFolder => Exit::FileExists,
            _ => Exit::OpenExisting,
        },
        _ => Exit::BadTorrent,
    };
    let message = if let TorrentError::Select(error) = error {
        printable(&outcome::select_message(error))
    } else {
        error.to_string()
    };
    Failure::new(code, message)
}

/// The paths of files with the suffix of incomplete files.
fn unfinished(verifier: &Verifier) -> impl Iterator<Item = String> {
    verifier.unfinished().map(|path| path.to_string_lossy().into_owned())
}

/// One line for each file with the suffix of incomplete files; for each file that is missing, short or long; and for each
/// byte range that is bad or cannot be checked.
fn as_text(verifier: &Verifier, flaws: &[FlawedFile]) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    for path in unfinished(verifier) {
        let _ = writeln!(out, "unfinished {}", printable(&path));
    }
    for file in flaws {
        let path = printable(&file.path.to_string_lossy());
        let _ = match file.found {
            None => writeln!(out, "missing {path}"),
            Some(found) if found < file.length => writeln!(out, "short   {path}: {found} of {} bytes", file.length),
            Some(found) if found > file.length => {
                writeln!(out, "long    {path}: {found} bytes instead of {}", file.length)
            }
            Some(_) => Ok(()),
        };
        for (word, runs) in [("bad    ", &file.bad), ("unknown", &file.unknown)] {
            for Range { start, end } in runs {
                let _ = writeln!(out, "{word} {path}: bytes {start}-{}", end.saturating_sub(1));
            }
        }
    }
    out
}

fn as_json(metainfo: &Metainfo, verifier: &Verifier, result: &Verification) -> Value {
    let runs = |runs: &[Range<u64>]| -> Value {
        runs.iter().map(|run| json!({ "offset": run.start, "length": run.end - run.start })).collect()
    };
    let flaw = |file: &FlawedFile| {
        json!({
            "path": file.path.to_string_lossy(),
            "length": file.length,
            "found": file.found,
            "bad": runs(&file.bad),
            "unknown": runs(&file.unknown),
        })
    };
    let mut object = json!({
        "info_hash": metainfo.info_hash.hex(),
        "name": metainfo.name,
        "whole": result.is_complete(),
        "pieces": result.pieces,
        "verified": result.verified,
        "unfinished": unfinished(verifier).collect::<Value>(),
        "files": result.files.iter().map(flaw).collect::<Value>(),
    });
    if let Some(hash) = metainfo.info_hash_v2 {
        object["info_hash_v2"] = Value::String(hash.hex());
    }
    object
}
