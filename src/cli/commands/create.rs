//! `btsync create`: creates a torrent file from a file or folder. Shows a progress bar while hashing.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::cli::commands::output_file;
use crate::cli::exit::{Exit, Failure};
use crate::cli::options::CreateArgs;
use crate::cli::report::progress_bar;
use crate::cli::signals;
use crate::cli::terminal::stdout;
use crate::util::printable_text::printable;
use btsync::create::{CreateError, CreateOptions, CreatePlan};
use btsync::{InfoHash, InfoHashV2, TorrentVersion};

/// At most this many notes, for example about skipped files, are printed.
const NOTES_MAX: usize = 20;

/// Creates the torrent file and prints its path and info-hash.
///
/// # Errors
/// An option is invalid, a file cannot be read or written, or a signal interrupted the command.
pub fn run(args: &CreateArgs) -> Result<(), Failure> {
    let options = options(args)?;
    let place = |name: &str| args.output.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.torrent")));
    let plan = CreatePlan::scan_without_output(&args.source, &args.exclude, place).map_err(|e| failure(&e))?;
    let output = place(plan.name());
    output_file::check_free(&output, args.force)?;
    print_notes(plan.notes());
    let stop = Arc::new(AtomicBool::new(false));
    let stopping = Arc::clone(&stop);
    let _watch = signals::watch(move || stopping.store(true, Ordering::Relaxed))
        .map_err(|e| Failure::new(Exit::Other, format!("cannot watch for signals: {e}")))?;
    let progress = AtomicU64::new(0);
    let done = || progress.load(Ordering::Relaxed);
    let made = progress_bar::show_while("hashing", plan.total(), done, || plan.create(&options, &progress, &stop))
        .map_err(|e| failure(&e))?;
    output_file::write(&output, &made.bytes, args.force)?;
    print_notes(&hints(&options));
    let hashes = shown_hashes(made.info_hash, made.info_hash_v2);
    stdout::print(&format!("{} {hashes}\n", printable(&output.to_string_lossy())))
}

/// The info-hashes of a torrent: one, or first that of the v1 half of a hybrid.
pub(crate) fn shown_hashes(info_hash: InfoHash, v2: Option<InfoHashV2>) -> String {
    match v2 {
        None => info_hash.to_string(),
        Some(v2) if v2.truncated() == info_hash => v2.to_string(),
        Some(v2) => format!("{info_hash} {v2}"),
    }
}

/// Prints notes for the user on stderr. A closed stderr is not an error.
fn print_notes<S: AsRef<str>>(lines: &[S]) {
    let mut err = io::stderr().lock();
    for line in lines.iter().take(NOTES_MAX) {
        let _ = writeln!(err, "{}", line.as_ref());
    }
    if let more @ 1.. = lines.len().saturating_sub(NOTES_MAX) {
        let _ = writeln!(err, "and {more} more like these");
    }
}

#[allow(clippy::field_reassign_with_default, reason = "a non-exhaustive struct has no other way")]
fn options(args: &CreateArgs) -> Result<CreateOptions, Failure> {
    check_seeds(&args.web_seed)?;
    let creation_date = if args.no_date { None } else { date(std::env::var_os("SOURCE_DATE_EPOCH").as_deref())? };
    let mut options = CreateOptions::default();
    options.version = version(args)?;
    options.piece_length = args.piece_length;
    options.tiers = tiers("--announce", &args.announce)?;
    options.is_private = args.private;
    options.comment.clone_from(&args.comment);
    options.web_seeds.clone_from(&args.web_seed);
    options.nodes.clone_from(&args.node);
    options.source.clone_from(&args.source_tag);
    options.adds_pad_files = args.pad_files;
    options.created_by = Some(concat!("btsync/", env!("CARGO_PKG_VERSION")).to_owned());
    options.creation_date = creation_date;
    Ok(options)
}

/// The version that the switches choose.
fn version(args: &CreateArgs) -> Result<TorrentVersion, Failure> {
    match (args.v1, args.v2, args.hybrid) {
        (_, false, false) => Ok(TorrentVersion::V1),
        (false, true, false) => Ok(TorrentVersion::V2),
        (false, false, true) => Ok(TorrentVersion::Hybrid),
        _ => Err(Failure::new(Exit::BadOption, "--v1, --v2 and --hybrid cannot be combined")),
    }
}

/// The creation date in seconds since 1970: `SOURCE_DATE_EPOCH` for reproducible torrents, otherwise now.
fn date(epoch: Option<&OsStr>) -> Result<Option<i64>, Failure> {
    let Some(epoch) = epoch else {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok();
        return Ok(now.and_then(|time| i64::try_from(time.as_secs()).ok()));
    };
    let seconds = epoch.to_str().and_then(|text| text.parse::<i64>().ok()).filter(|&seconds| seconds >= 0);
    let refused =
        || Failure::new(Exit::BadOption, "the environment variable SOURCE_DATE_EPOCH is not a number of seconds");
    seconds.map(Some).ok_or_else(refused)
}

/// Hints about options that are probably not what the user meant.
fn hints(options: &CreateOptions) -> Vec<&'static str> {
    let urls = || options.tiers.iter().flatten();
    let udp = |url: &String| url.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("udp://"));
    let mut hints = Vec::new();
    if options.is_private && urls().next().is_none() {
        hints.push("hint: nobody can find peers for a private torrent without a tracker; add one with --announce");
    }
    if options.is_private && !options.nodes.is_empty() {
        hints.push("hint: clients do not use the DHT nodes of a private torrent");
    }
    if urls().next().is_some() && urls().all(udp) {
        hints.push("hint: some networks block UDP; add an http:// or https:// tracker for their users");
    }
    hints
}

/// Parses tracker options: each occurrence is a tier, and commas separate the URLs of one tier.
pub(crate) fn tiers(option: &str, words: &[String]) -> Result<Vec<Vec<String>>, Failure> {
    let tier = |word: &String| -> Vec<String> {
        word.split(',').map(|url| url.trim().to_owned()).filter(|url| !url.is_empty()).collect()
    };
    let tiers: Vec<Vec<String>> = words.iter().map(tier).collect();
    if tiers.iter().any(Vec::is_empty) {
        return Err(Failure::new(Exit::BadOption, format!("{option}: expected a URL")));
    }
    check_urls(option, tiers.iter().flatten(), &["http://", "https://", "udp://"])?;
    Ok(tiers)
}

/// Checks that the URLs can be web seeds.
pub(crate) fn check_seeds(urls: &[String]) -> Result<(), Failure> {
    check_urls("--web-seed", urls.iter(), &["http://", "https://", "ftp://"])
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

fn failure(error: &CreateError) -> Failure {
    let code = match error {
        CreateError::Open { .. } => Exit::OpenExisting,
        CreateError::Read { .. } | CreateError::Changed { .. } => Exit::FileIo,
        CreateError::PieceLength(_) | CreateError::Output { .. } => Exit::BadOption,
        CreateError::Stopped => Exit::Unfinished,
        _ => Exit::Other,
    };
    Failure::new(code, printable(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use argh::FromArgs as _;

    use super::*;
    use btsync::Metainfo;

    fn args(words: &[&str]) -> CreateArgs {
        CreateArgs::from_args(&["create"], words).unwrap()
    }

    #[test]
    fn tiers_come_from_commas_and_repetition() {
        let made = options(&args(&["x", "-a", "http://a, UDP://b,", "--announce", "https://c", "--private"])).unwrap();
        assert_eq!(made.tiers, [vec!["http://a", "UDP://b"], vec!["https://c"]]);
        assert!(made.is_private);
        for bad in [["-a", ","], ["-a", "ws://a"], ["-a", "http://a\x1bb"], ["--web-seed", "file:///etc"], ["-a", "é"]]
        {
            let failure = options(&args(&[&["x"][..], &bad].concat())).unwrap_err();
            assert!(matches!(failure.code, Exit::BadOption), "{bad:?}");
        }
    }

    #[test]
    fn dates_come_from_the_environment_first() {
        assert_eq!(date(Some(OsStr::new("1700000000"))), Ok(Some(1_700_000_000)));
        assert!(date(None).is_ok_and(|now| now > Some(1_700_000_000)));
        for bad in ["", "-1", "soon", "1e9"] {
            assert!(date(Some(OsStr::new(bad))).is_err_and(|failure| failure.code == Exit::BadOption), "{bad}");
        }
        assert_eq!(options(&args(&["x", "--no-date"])).unwrap().creation_date, None);
    }

    #[test]
    fn hints_are_given_where_they_help() {
        let hints = |words: &[&str]| hints(&options(&args(&[&["x"][..], words].concat())).unwrap()).len();
        assert_eq!(hints(&[]) + hints(&["-a", "udp://a,http://b"]) + hints(&["--private", "-a", "http://a"]), 0);
        assert_eq!((hints(&["--private"]), hints(&["-a", "udp://a", "-a", "UDP://b"])), (1, 1));
        assert_eq!(hints(&["--private", "-a", "http://a", "--node", "a:1"]), 1);
    }

    #[test]
    fn writes_once_and_again_only_by_force() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        fs::write(at("data"), vec![5; 40_000]).unwrap();
        let words = [&at("data"), "-o", &at("out.torrent"), "--piece-length", "16K", "--comment", "one"];
        run(&args(&words)).unwrap();
        let made = Metainfo::read(Path::new(&at("out.torrent"))).unwrap();
        assert_eq!((made.name.as_str(), made.piece_count(), made.comment.as_deref()), ("data", 3, Some("one")));
        assert!(matches!(run(&args(&words)).unwrap_err().code, Exit::FileExists));
        let forced = [&words[..6], &["two", "--force"]].concat();
        run(&args(&forced)).unwrap();
        assert_eq!(Metainfo::read(Path::new(&at("out.torrent"))).unwrap().comment.as_deref(), Some("two"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing else is left behind");
    }

    #[test]
    fn failures_have_their_codes() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        fs::write(at("data"), "x").unwrap();
        let code = |words: &[&str]| run(&args(words)).unwrap_err().code;
        assert!(matches!(code(&[&at("none")]), Exit::OpenExisting));
        assert!(matches!(code(&[&at("data"), "-o", &at("no/x.torrent")]), Exit::CreateFile));
        let odd = code(&[&at("data"), "-o", &at("x.torrent"), "--piece-length", "17K"]);
        assert!(matches!(odd, Exit::BadOption));
        fs::create_dir(at("hollow")).unwrap();
        assert!(matches!(code(&[&at("hollow"), "-o", &at("x.torrent")]), Exit::Other));
    }
}
