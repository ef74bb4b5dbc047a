//! `btsync verify`: whether a torrent's files are as they should be, and what of them is not. Changes nothing on the disk.

use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use argh::{ArgsInfo, FromArgs};
use serde_json::{Value, json};

use crate::cli::commands::info;
use crate::cli::exit::{Exit, Failure};
use crate::cli::report::figures::count;
use crate::cli::report::progress_bar;
use crate::cli::signals;
use crate::util::printable_text::printable;
use btsync::metainfo::{Metainfo, Pattern, Selection};
use btsync::storage::{self, CheckProgress, Flaw, Layout, Storage, StorageError, StorageErrorKind};
use btsync::torrent::{layout, layout_as_found};
use btsync::types::{Bitfield, PieceIndex};

/// Files held open while hashing.
const OPEN_MAX: usize = 64;

/// report which files of a torrent are damaged or missing; changes nothing
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "verify")]
pub struct VerifyArgs {
    /// the torrent file; - is standard input
    #[argh(positional, arg_name = "FILE")]
    pub file: PathBuf,
    /// the folder of the torrent's files; by default the current one
    #[argh(positional, arg_name = "FOLDER")]
    pub folder: Option<PathBuf>,
    /// print one JSON object instead of lines
    #[argh(switch)]
    pub json: bool,
    /// check only these files; numbers such as 1-5,8, a name pattern, or a folder
    #[argh(option, arg_name = "FILES")]
    pub select: Vec<Pattern>,
    /// do not check these files
    #[argh(option, arg_name = "FILES")]
    pub exclude: Vec<Pattern>,
    /// also look for files with this suffix; as `--incomplete-suffix` of a download leaves them
    #[argh(option, arg_name = "SUFFIX", from_str_fn(crate::cli::options::suffix))]
    pub incomplete_suffix: Option<String>,
    /// show no progress bar; print nothing if all files are intact
    #[argh(switch, short = 'q')]
    pub quiet: bool,
}

/// What came of it.
struct VerifyResult {
    /// The pieces that were looked at, and how many of them are right.
    pieces: u32,
    verified: u32,
    flaws: Vec<Flaw>,
}

/// Hashes the files and prints what is wrong with them.
///
/// # Errors
/// [`Exit::Checksum`] where something is; others where the torrent or a file cannot be read, or a signal ended it.
pub fn run(args: VerifyArgs) -> Result<(), Failure> {
    let torrent = info::read(&args.file)?;
    let folder = args.folder.unwrap_or_else(|| PathBuf::from("."));
    check_folder(&folder)?;
    let layout = layout(&torrent).map_err(|e| Failure::new(Exit::BadTorrent, e.to_string()))?;
    let mut layout = layout_as_found(&torrent, &layout, &folder);
    if let Some(suffix) = &args.incomplete_suffix {
        let is_there = |path: &Path| fs::symlink_metadata(folder.join(path)).is_ok();
        layout = layout.with_incomplete_suffix(suffix, |_, own, other| !is_there(own) && is_there(other));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let stopping = Arc::clone(&stop);
    let watch = signals::watch(move || stopping.store(true, Ordering::Relaxed))
        .map_err(|e| Failure::new(Exit::Other, format!("signals cannot be caught: {e}")))?;
    let selection = Selection { select: args.select, exclude: args.exclude, link: None };
    let wanted = selection.choose(&torrent.files, torrent.multi_file);
    let wanted = wanted.map_err(|error| Failure::new(Exit::BadOption, printable(&error.to_string())))?;
    let result = verify(&torrent, &layout, &folder, &wanted, args.quiet, &stop)?;
    watch.release();
    let whole = result.flaws.is_empty() && result.verified == result.pieces;
    if args.json {
        info::print(&format!("{}\n", as_json(&torrent, &layout, &result, whole)))?;
    } else {
        info::print(&as_text(&layout, &result.flaws))?;
    }
    let name = printable(&torrent.name);
    if !whole {
        let (bad, all) = (result.pieces - result.verified, result.pieces);
        let files = result.flaws.len();
        let message = {
            let verb = if bad == 1 { "is" } else { "are" };
            format!(
                "{name}: {bad} of {} {verb} wrong or missing; files with flaws: {files}",
                count(all as usize, "piece")
            )
        };
        return Err(Failure::new(Exit::Checksum, message));
    }
    if !args.quiet {
        print_to_stderr(&format!("{name}: whole, {}", count(result.pieces as usize, "piece")));
    }
    Ok(())
}

/// A word for people; nobody there to hear it is no failure.
fn print_to_stderr(line: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{line}\n").as_bytes());
}

/// A folder that is not there is a slip of the pen, rather than a torrent without a single file.
fn check_folder(folder: &Path) -> Result<(), Failure> {
    let shown = printable(&folder.to_string_lossy());
    match fs::metadata(folder) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(Failure::new(Exit::OpenExisting, format!("{shown}: not a folder"))),
        Err(error) => Err(Failure::new(Exit::OpenExisting, format!("{shown}: cannot be opened: {error}"))),
    }
}

fn verify(
    torrent: &Metainfo,
    layout: &Layout,
    folder: &Path,
    wanted: &[bool],
    quiet: bool,
    stop: &AtomicBool,
) -> Result<VerifyResult, Failure> {
    let found = storage::lengths(folder, layout).map_err(|e| failure(&e))?;
    // What is missing may never have been wanted: what its neighbours need of it is in the part file then.
    let there: Vec<bool> = found.iter().map(Option::is_some).collect();
    let files = Storage::new(folder.to_owned(), layout.clone(), OPEN_MAX);
    let files = files.select(&there, &storage::part_name(&torrent.info_hash));
    files.allow_links_outside(stop);
    let progress = CheckProgress::default();
    let check = || storage::check(&files, &torrent.pieces, 0, &progress, stop);
    let have = if quiet {
        check()
    } else {
        progress_bar::show_while("checking", layout.total(), || progress.done.load(Ordering::Relaxed), check)
    };
    let have = have.map_err(|e| failure(&e))?;
    if stop.load(Ordering::Relaxed) {
        return Err(Failure::new(Exit::Unfinished, "interrupted"));
    }
    let mut pieces = Bitfield::new(layout.piece_count());
    if wanted.contains(&false) {
        let files = wanted.iter().enumerate().filter(|(_, wanted)| **wanted);
        files.flat_map(|(file, _)| layout.pieces_of(file)).for_each(|piece| _ = pieces.set(PieceIndex(piece)));
    } else {
        pieces = Bitfield::full(layout.piece_count());
    }
    let verified = pieces.iter().filter(|piece| have.has(*piece)).count() as u32;
    let mut flaws = storage::flaws(layout, &found, &have);
    flaws.retain(|flaw| wanted.get(flaw.file).is_none_or(|wanted| *wanted));
    Ok(VerifyResult { pieces: pieces.count(), verified, flaws })
}

/// Of what a download may stumble over, only reading is left here.
fn failure(error: &StorageError) -> Failure {
    let code = match error.kind() {
        StorageErrorKind::Io => Exit::FileIo,
        StorageErrorKind::Exists | StorageErrorKind::NotAFolder => Exit::FileExists,
        _ => Exit::OpenExisting,
    };
    Failure::new(code, error.to_string())
}

/// The files that have the name of an unfinished one.
fn unfinished(layout: &Layout) -> impl Iterator<Item = String> {
    let specs = layout.final_names().iter().filter_map(|(file, _)| layout.files().get(*file));
    specs.map(|spec| spec.path.to_string_lossy().into_owned())
}

/// A line for each file that has the name of an unfinished one, that is missing, short or long, and one for each run of bytes that is bad or cannot be judged.
fn as_text(layout: &Layout, flaws: &[Flaw]) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    for path in unfinished(layout) {
        let _ = writeln!(out, "unfinished {}", printable(&path));
    }
    for flaw in flaws {
        let Some(file) = layout.files().get(flaw.file) else { continue };
        let path = printable(&file.path.to_string_lossy());
        let _ = match flaw.found {
            None => writeln!(out, "missing {path}"),
            Some(found) if found < file.length => writeln!(out, "short   {path}: {found} of {} bytes", file.length),
            Some(found) if found > file.length => {
                writeln!(out, "long    {path}: {found} bytes instead of {}", file.length)
            }
            Some(_) => Ok(()),
        };
        for (word, runs) in [("bad    ", &flaw.bad), ("unknown", &flaw.unknown)] {
            for Range { start, end } in runs {
                let _ = writeln!(out, "{word} {path}: bytes {start}-{}", end.saturating_sub(1));
            }
        }
    }
    out
}

fn as_json(torrent: &Metainfo, layout: &Layout, result: &VerifyResult, whole: bool) -> Value {
    let runs = |runs: &[Range<u64>]| -> Value {
        runs.iter().map(|run| json!({ "offset": run.start, "length": run.end - run.start })).collect()
    };
    let flaw = |flaw: &Flaw| {
        let file = layout.files().get(flaw.file)?;
        Some(json!({
            "path": file.path.to_string_lossy(),
            "length": file.length,
            "found": flaw.found,
            "bad": runs(&flaw.bad),
            "unknown": runs(&flaw.unknown),
        }))
    };
    json!({
        "info_hash": torrent.info_hash.hex(),
        "name": torrent.name,
        "whole": whole,
        "pieces": result.pieces,
        "verified": result.verified,
        "unfinished": unfinished(layout).collect::<Value>(),
        "files": result.flaws.iter().filter_map(flaw).collect::<Value>(),
    })
}
