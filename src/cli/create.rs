//! `btsync create`: a torrent file from a file or folder, with a bar while it hashes.

use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use argh::FromArgs;
use crossbeam_channel::{RecvTimeoutError, bounded};
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::exit::{Exit, Failure};
use crate::cli::{info, signals};
use crate::metainfo::{CreateError, CreateOptions, Created, Plan, printable};

/// make a torrent file of a file or folder
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand, name = "create")]
pub struct CreateArgs {
    /// the file or folder to share
    #[argh(positional, arg_name = "SOURCE")]
    pub source: PathBuf,
    /// the torrent file to write (default: the source's name and .torrent, here)
    #[argh(option, short = 'o', arg_name = "FILE")]
    pub output: Option<PathBuf>,
    /// a tracker's URL; once more for another tier, with commas for several in one tier
    #[argh(option, short = 'a', arg_name = "URL")]
    pub announce: Vec<String>,
    /// bytes in a piece, a power of two such as 256K or 1M (default: by size)
    #[argh(option, arg_name = "SIZE", from_str_fn(piece_length))]
    pub piece_length: Option<u32>,
    /// let peers come from these trackers only
    #[argh(switch)]
    pub private: bool,
    /// words for whoever gets it
    #[argh(option, arg_name = "TEXT")]
    pub comment: Option<String>,
    /// the URL of a web seed; may be given more than once
    #[argh(option, arg_name = "URL")]
    pub web_seed: Vec<String>,
    /// replace the torrent file if it is there already
    #[argh(switch)]
    pub force: bool,
}

/// Makes the torrent file and prints its path and info hash.
///
/// # Errors
/// Where an option makes no sense, something cannot be read or written, or a signal ended it.
pub fn run(args: CreateArgs) -> Result<(), Failure> {
    let options = options(&args)?;
    let plan = Plan::scan(&args.source).map_err(|e| failure(&e))?;
    let output = args.output.unwrap_or_else(|| PathBuf::from(format!("{}.torrent", plan.name())));
    if !args.force && fs::symlink_metadata(&output).is_ok() {
        return Err(exists(&output));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let stopping = Arc::clone(&stop);
    let _watch = signals::watch(move || stopping.store(true, Ordering::Relaxed))
        .map_err(|e| Failure::new(Exit::Other, format!("signals cannot be caught: {e}")))?;
    let made = if io::stderr().is_terminal() {
        with_bar(&plan, &options, &stop)
    } else {
        plan.create(&options, &AtomicU64::new(0), &stop)
    };
    let made = made.map_err(|e| failure(&e))?;
    write(&output, &made.bytes, args.force)?;
    info::print(&format!("{} {}\n", printable(&output.to_string_lossy()), made.info_hash))
}

fn options(args: &CreateArgs) -> Result<CreateOptions, Failure> {
    let tiers: Vec<Vec<String>> = args
        .announce
        .iter()
        .map(|tier| tier.split(',').map(|url| url.trim().to_owned()).filter(|url| !url.is_empty()).collect())
        .collect();
    check_urls("--announce", tiers.iter().flatten(), &["http://", "https://", "udp://"])?;
    check_urls("--web-seed", args.web_seed.iter(), &["http://", "https://", "ftp://"])?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok();
    Ok(CreateOptions {
        piece_length: args.piece_length,
        tiers,
        private: args.private,
        comment: args.comment.clone(),
        web_seeds: args.web_seed.clone(),
        created_by: Some(concat!("btsync/", env!("CARGO_PKG_VERSION")).to_owned()),
        creation_date: now.and_then(|time| i64::try_from(time.as_secs()).ok()),
        threads: 0,
    })
}

fn check_urls<'a>(option: &str, urls: impl Iterator<Item = &'a String>, schemes: &[&str]) -> Result<(), Failure> {
    for url in urls {
        let fits = |scheme: &&str| url.get(..scheme.len()).is_some_and(|s| s.eq_ignore_ascii_case(scheme));
        if !schemes.iter().any(fits) || printable(url) != *url {
            let message = format!("{option} {}: not a URL that starts with {}", printable(url), schemes.join(" or "));
            return Err(Failure::new(Exit::BadOption, message));
        }
    }
    Ok(())
}

/// A number of bytes; K and M are 1024s.
fn piece_length(text: &str) -> Result<u32, String> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1 << 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1 << 20),
        _ => (text, 1),
    };
    let number = digits.parse::<u32>().ok().and_then(|n| n.checked_mul(unit));
    number.ok_or_else(|| format!("`{text}` is not a size such as 262144, 256K or 1M"))
}

/// Hashes on other threads while this one moves the bar.
fn with_bar(plan: &Plan, options: &CreateOptions, stop: &AtomicBool) -> Result<Created, CreateError> {
    let progress = AtomicU64::new(0);
    let bar = ProgressBar::new(plan.total());
    if let Ok(style) =
        ProgressStyle::with_template("{bar:30} {percent:>3}% of {total_bytes}  {bytes_per_sec}  ETA {eta}")
    {
        bar.set_style(style);
    }
    let (tell, done) = bounded(1);
    let made = std::thread::scope(|scope| {
        scope.spawn(|| {
            // The receiver waits until this has been sent.
            let _ = tell.send(plan.create(options, &progress, stop));
            drop(tell);
        });
        loop {
            match done.recv_timeout(Duration::from_millis(100)) {
                Ok(made) => return made,
                Err(RecvTimeoutError::Timeout) => bar.set_position(progress.load(Ordering::Relaxed)),
                Err(RecvTimeoutError::Disconnected) => return Err(CreateError::Stopped),
            }
        }
    });
    bar.finish_and_clear();
    made
}

/// Writes the file whole or not at all: beside its place first, then moved there.
fn write(output: &Path, bytes: &[u8], force: bool) -> Result<(), Failure> {
    let mut beside = output.as_os_str().to_owned();
    beside.push(format!(".{}.part", std::process::id()));
    let beside = PathBuf::from(beside);
    let written = File::create_new(&beside)
        .map_err(|e| unwritten(output, &e, Exit::CreateFile))
        .and_then(|mut file| file.write_all(bytes).map_err(|e| unwritten(output, &e, Exit::FileIo)))
        .and_then(|()| place(&beside, output, force));
    if written.is_err() {
        // May never have been made, or be in its place by now.
        let _ = fs::remove_file(&beside);
    }
    written
}

/// Moves the finished file to its place, over another file only by `force`.
fn place(beside: &Path, output: &Path, force: bool) -> Result<(), Failure> {
    if !force && fs::symlink_metadata(output).is_ok() {
        return Err(exists(output));
    }
    fs::rename(beside, output).map_err(|e| unwritten(output, &e, Exit::FileRename))
}

fn exists(output: &Path) -> Failure {
    let path = printable(&output.to_string_lossy());
    Failure::new(Exit::FileExists, format!("{path}: is there already; --force replaces it"))
}

fn unwritten(output: &Path, error: &io::Error, code: Exit) -> Failure {
    let code = if error.kind() == io::ErrorKind::StorageFull { Exit::DiskFull } else { code };
    Failure::new(code, format!("{}: cannot be written: {error}", printable(&output.to_string_lossy())))
}

fn failure(error: &CreateError) -> Failure {
    let code = match error {
        CreateError::Open { .. } => Exit::OpenExisting,
        CreateError::Read { .. } | CreateError::Changed { .. } => Exit::FileIo,
        CreateError::PieceLength(_) => Exit::BadOption,
        CreateError::Stopped => Exit::Unfinished,
        CreateError::Kind { .. } | CreateError::Name { .. } | CreateError::Empty { .. } | CreateError::TooBig => {
            Exit::Other
        }
    };
    Failure::new(code, printable(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metainfo::Torrent;

    fn args(words: &[&str]) -> CreateArgs {
        CreateArgs::from_args(&["create"], words).unwrap()
    }

    #[test]
    fn sizes() {
        let good = [("16384", 16384), ("256K", 256 << 10), ("1m", 1 << 20), ("4095M", 4095 << 20), ("0", 0)];
        for (text, expected) in good {
            assert_eq!(piece_length(text), Ok(expected), "{text}");
        }
        for bad in ["", "K", "1G", "-1", "4096M", "1.5M", "é", "1é"] {
            assert!(piece_length(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tiers_come_from_commas_and_repetition() {
        let made = options(&args(&["x", "-a", "http://a, UDP://b,", "--announce", "https://c", "--private"])).unwrap();
        assert_eq!(made.tiers, [vec!["http://a", "UDP://b"], vec!["https://c"]]);
        assert!(made.private);
        for bad in [["-a", "ws://a"], ["-a", "http://a\x1bb"], ["--web-seed", "file:///etc"], ["-a", "é"]] {
            let failure = options(&args(&[&["x"][..], &bad].concat())).unwrap_err();
            assert!(matches!(failure.code, Exit::BadOption), "{bad:?}");
        }
    }

    #[test]
    fn writes_once_and_again_only_by_force() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        fs::write(at("data"), vec![5; 40_000]).unwrap();
        let words = [&at("data"), "-o", &at("out.torrent"), "--piece-length", "16K", "--comment", "one"];
        run(args(&words)).unwrap();
        let made = Torrent::read(Path::new(&at("out.torrent"))).unwrap();
        assert_eq!((made.name.as_str(), made.piece_count(), made.comment.as_deref()), ("data", 3, Some("one")));
        assert!(matches!(run(args(&words)).unwrap_err().code, Exit::FileExists));
        let forced = [&words[..6], &["two", "--force"]].concat();
        run(args(&forced)).unwrap();
        assert_eq!(Torrent::read(Path::new(&at("out.torrent"))).unwrap().comment.as_deref(), Some("two"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing else is left behind");
    }

    #[test]
    fn failures_have_their_codes() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        fs::write(at("data"), "x").unwrap();
        let code = |words: &[&str]| run(args(words)).unwrap_err().code;
        assert!(matches!(code(&[&at("none")]), Exit::OpenExisting));
        assert!(matches!(code(&[&at("data"), "-o", &at("no/x.torrent")]), Exit::CreateFile));
        let odd = code(&[&at("data"), "-o", &at("x.torrent"), "--piece-length", "17K"]);
        assert!(matches!(odd, Exit::BadOption));
        fs::create_dir(at("hollow")).unwrap();
        assert!(matches!(code(&[&at("hollow"), "-o", &at("x.torrent")]), Exit::Other));
    }
}
