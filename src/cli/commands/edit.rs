//! `btsync edit`: changes trackers, comment or web seeds of a torrent file. The info-hash stays the same.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use crate::cli::commands::create::{check_seeds, shown_hashes, tiers};
use crate::cli::commands::output_file;
use crate::cli::exit::{Exit, Failure};
use crate::cli::options::{EditArgs, STDIN};
use crate::cli::source::torrent_failure;
use crate::cli::terminal::stdout::{self, stdout_error};
use crate::util::os_error::reason;
use crate::util::printable_text::printable;
use btsync::{Metainfo, MetainfoError, TorrentEdit};

/// Changes the torrent file and prints its path and info-hash.
///
/// # Errors
/// An option is invalid, or the file cannot be read, is not a valid torrent, or cannot be written.
pub fn run(args: &EditArgs) -> Result<(), Failure> {
    let piped = args.file == Path::new(STDIN);
    let output = match &args.output {
        None if piped => {
            return Err(Failure::new(
                Exit::BadOption,
                "a torrent from standard input needs an output: use -o FILE, or -o - for standard output",
            ));
        }
        None => None,
        Some(output) => Some(output.as_path()).filter(|&output| output != args.file),
    };
    let refused = |error| torrent_failure(&args.file, error);
    if output.is_none() {
        output_file::check_not_special(&args.file)?;
    }
    // Resolve symbolic links, so that the edit replaces the link's target and not the link.
    let real = fs::canonicalize(&args.file).unwrap_or_else(|_| args.file.clone());
    // If the file cannot be opened, reading it below reports the error.
    let _lock = if output.is_none() { output_file::lock(&real).ok().flatten() } else { None };
    let bytes = read(&args.file).map_err(|source| match source.kind() {
        io::ErrorKind::IsADirectory => refused(MetainfoError::Folder),
        _ => refused(MetainfoError::Io { path: args.file.clone(), source }),
    })?;
    let broken = |error: io::Error| {
        let message = format!("{}: cannot be unpacked: {}", args.file.display(), reason(&error));
        Failure::new(Exit::BadTorrent, printable(&message))
    };
    // Reads a torrent file packed with gzip, but always writes it unpacked.
    let bytes = Metainfo::unpack(bytes).map_err(broken)?;
    let torrent = Metainfo::parse(&bytes).map_err(refused)?;
    let trailing = TorrentEdit::count_trailing_bytes(&bytes);
    if output.is_none() && trailing > 0 {
        let path = args.file.display();
        let bytes = if trailing == 1 { "byte follows" } else { "bytes follow" };
        let message = format!(
            "{path}: {trailing} {bytes} the torrent, and an edit in place would remove them; use -o FILE to keep this file"
        );
        return Err(Failure::new(Exit::BadTorrent, printable(&message)));
    }
    let bytes = changes(args, torrent.tiers)?.apply(&bytes).map_err(refused)?;
    let written = match output {
        Some(output) if output == Path::new("-") => return to_stdout(&bytes),
        Some(output) => {
            output_file::write(output, &bytes, args.force)?;
            output
        }
        None => {
            output_file::edit(&real, &bytes)?;
            &args.file
        }
    };
    let hashes = shown_hashes(torrent.info_hash, torrent.info_hash_v2);
    stdout::print(&format!("{} {hashes}\n", printable(&written.to_string_lossy())))
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte beyond the limit is enough to reject the file, and a device may be endless.
    File::open(file)?.take(Metainfo::MAX_FILE_SIZE as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn to_stdout(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    // A truncated torrent file is useless, so a closed pipe is a failure here.
    let written = out.write_all(bytes).and_then(|()| out.flush());
    written.map_err(|e| Failure::new(Exit::FileIo, stdout_error(&e)))
}

/// The changes that the options ask for, given the current trackers.
fn changes(args: &EditArgs, before: Vec<Vec<String>>) -> Result<TorrentEdit, Failure> {
    let reject_both = |one: bool, other: bool, what: &str| {
        let message = format!("--{what} and --no-{what} cannot be combined");
        if one && other { Err(Failure::new(Exit::BadOption, message)) } else { Ok(()) }
    };
    reject_both(!args.announce.is_empty(), args.no_announce, "announce")?;
    reject_both(args.comment.is_some(), args.no_comment, "comment")?;
    reject_both(!args.web_seed.is_empty(), args.no_web_seed, "web-seed")?;
    check_seeds(&args.web_seed)?;
    let comment = args.comment.clone().map(Some).or(args.no_comment.then_some(None));
    let web_seeds = (args.no_web_seed || !args.web_seed.is_empty()).then(|| args.web_seed.clone());
    let edit = TorrentEdit { tiers: trackers(args, before)?, comment, web_seeds };
    if edit == TorrentEdit::default() {
        return Err(Failure::new(Exit::BadOption, "nothing to change: `btsync help edit` shows the options"));
    }
    Ok(edit)
}

/// The trackers after all tracker options; `None` if there are none.
fn trackers(args: &EditArgs, before: Vec<Vec<String>>) -> Result<Option<Vec<Vec<String>>>, Failure> {
    let (new, added) = (tiers("--announce", &args.announce)?, tiers("--add-announce", &args.add_announce)?);
    if new.is_empty() && added.is_empty() && args.remove_announce.is_empty() && !args.no_announce {
        return Ok(None);
    }
    let mut all = if new.is_empty() && !args.no_announce { before } else { new };
    for url in &args.remove_announce {
        if !all.iter().flatten().any(|there| there == url) {
            let message = format!("--remove-announce {}: the torrent has no such tracker", printable(url));
            return Err(Failure::new(Exit::BadOption, message));
        }
        for tier in &mut all {
            tier.retain(|there| there != url);
        }
    }
    for mut tier in added {
        tier.retain(|url| !all.iter().flatten().any(|there| there == url));
        all.push(tier);
    }
    all.retain(|tier| !tier.is_empty());
    Ok(Some(all))
}

#[cfg(test)]
mod tests {
    use argh::FromArgs as _;

    use super::*;

    fn args(words: &str) -> EditArgs {
        let words: Vec<&str> = ["x"].into_iter().chain(words.split_whitespace()).collect();
        EditArgs::from_args(&["edit"], &words).unwrap()
    }

    fn before() -> Vec<Vec<String>> {
        vec![vec!["http://a".into(), "http://b".into()], vec!["udp://c".into()]]
    }

    #[test]
    fn trackers_are_replaced_taken_away_and_added_in_this_order() {
        let after = |words| {
            trackers(&args(words), before())
                .unwrap()
                .map(|tiers| tiers.iter().map(|tier| tier.join(" ")).collect::<Vec<_>>().join(" | "))
        };
        assert_eq!(after("--comment x"), None);
        assert_eq!(after("-a http://x,http://y -a udp://z").as_deref(), Some("http://x http://y | udp://z"));
        assert_eq!(
            after("--add-announce http://d,http://a").as_deref(),
            Some("http://a http://b | udp://c | http://d")
        );
        assert_eq!(after("--remove-announce udp://c").as_deref(), Some("http://a http://b"));
        assert_eq!(
            after("--remove-announce http://a --add-announce http://a").as_deref(),
            Some("http://b | udp://c | http://a")
        );
        assert_eq!(after("--no-announce").as_deref(), Some(""));
        assert_eq!(after("--no-announce --add-announce udp://z").as_deref(), Some("udp://z"));
    }

    #[test]
    fn options_that_contradict_or_do_nothing_are_refused() {
        let lines = "|-a http://a --no-announce|--comment x --no-comment|--web-seed http://w --no-web-seed|-a ws://a|-a ,\
                     |--add-announce x|--remove-announce http://nowhere|--web-seed udp://a";
        for words in lines.split('|') {
            assert_eq!(changes(&args(words), before()).unwrap_err().code, Exit::BadOption, "{words}");
        }
    }

    #[test]
    fn comment_and_web_seeds_are_set_or_taken_away() {
        let edit = changes(&args("--comment x --no-web-seed"), before()).unwrap();
        assert_eq!(edit, TorrentEdit { tiers: None, comment: Some(Some("x".into())), web_seeds: Some(vec![]) });
        let edit = changes(&args("--no-comment --web-seed http://w"), before()).unwrap();
        assert_eq!(edit, TorrentEdit { tiers: None, comment: Some(None), web_seeds: Some(vec!["http://w".into()]) });
    }
}
