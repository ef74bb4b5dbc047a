//! `btsync FILE FOLDER`: reads the torrent, runs its session on this thread, and lends it a voice on another.

use std::io::IsTerminal;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use log::LevelFilter;

use super::args::DownloadArgs;
use super::exit::{Exit, Failure};
use super::figures::{part, percent, time};
use super::hook::Hook;
use super::json::{Json, Lines};
use super::keys::{Keyboard, Keys};
use super::plain::Plain;
use super::screen::Screen;
use super::view::View;
use super::voice::{Ending, Voice, Voices, listen};
use super::why::why;
use super::{info, limits, list, signals};
use crate::metainfo::{Magnet, Selection, Torrent, printable};
use crate::session::{
    Config, DhtSettings, Handle, Limits, Outcome, SeedGoal, Session, SessionError, Snapshot, Source, Stage,
};
use crate::storage::{Doing, StorageError, StorageErrorKind};

/// Downloads, and gives to others for as long as asked.
///
/// # Errors
/// The exit code and the line for whatever kept the download from being whole.
pub fn run(args: &DownloadArgs) -> Result<(), Failure> {
    let start = Instant::now();
    let lines = args.json.then(Lines::stdout);
    let result = download(args, lines.as_ref());
    if let (Some(lines), Err(failure)) = (lines, &result) {
        lines.error(start.elapsed(), failure);
    }
    result
}

fn download(args: &DownloadArgs, lines: Option<&Lines>) -> Result<(), Failure> {
    let screen = Screen::stderr();
    start_logs(args, &screen);
    let mut config = config(args)?;
    let source = source(args, &mut config)?;
    if let (true, Source::Torrent(torrent)) = (args.list, &source) {
        return list::print(torrent, &config.files);
    }
    let (limits, selection) = (config.limits, config.files.clone());
    let session = Session::new(source, config);
    let handle = session.handle();

    let no_signals = |e: std::io::Error| Failure::new(Exit::Other, format!("cannot watch for signals: {e}"));
    let (stopper, hung_up) = (handle.clone(), handle.clone());
    // Owned here, so that the terminal is left as it was however this ends.
    let looks = !args.quiet && !args.plain && screen.is_terminal();
    let keyboard = if looks { Keyboard::listen(move || hung_up.stop()).map_err(no_signals)? } else { None };
    let keys = keyboard.as_ref().map(Keyboard::keys);
    let released = keys.clone();
    let _watch = signals::watch(move || {
        // A second signal ends the process at once, and nobody could put the terminal right then.
        released.iter().for_each(Keys::release);
        stopper.stop();
    })
    .map_err(no_signals)?;
    let _switch = limits::Switch::new(handle.clone(), limits).map_err(no_signals)?;
    let mut voices = voices(args, &handle, screen, lines, keys);
    let (tell, told) = crossbeam_channel::bounded(1);
    let events = session.events();
    let spoken = thread::Builder::new().name("voice".to_owned()).spawn(move || listen(&mut voices, &events, &told));

    let result = session.run();
    let _ = tell.send(match &result {
        Ok(Outcome::Completed | Outcome::StoppedWhole) => Ending::Whole,
        Ok(Outcome::Stopped | Outcome::TimedOut) => Ending::Stopped,
        Err(_) => Ending::Failed,
    });
    // A system without a thread to spare for the voice still downloads.
    if let Ok(thread) = spoken {
        let _ = thread.join();
    }
    match result {
        Ok(Outcome::Completed) if args.list => {
            handle.torrent().map_or(Ok(()), |torrent| list::print(torrent, &selection))
        }
        Ok(Outcome::Completed | Outcome::StoppedWhole) => Ok(()),
        Ok(Outcome::Stopped) => Err(Failure::new(Exit::Unfinished, stopped(&handle.snapshot()))),
        Ok(Outcome::TimedOut) => {
            let waited = time(args.stop_timeout.unwrap_or_default());
            let why = why(&handle.search(), &handle.snapshot(), &[]);
            Err(Failure::new(Exit::TimedOut, format!("gave up, as nothing came for {waited}: {why}")))
        }
        Err(error) => Err(failure(&error)),
    }
}

/// Those who tell how it goes: people on stderr, programs on stdout, and the user's own command.
fn voices(args: &DownloadArgs, handle: &Handle, screen: Screen, lines: Option<&Lines>, keys: Option<Keys>) -> Voices {
    let folder = args.out_dir().to_string_lossy().into_owned();
    let mut voices: Vec<Box<dyn Voice>> = Vec::new();
    if let Some(lines) = lines {
        voices.push(Box::new(Json::new(handle.clone(), lines.clone(), folder.clone())));
    }
    match (args.quiet, screen.is_terminal() && !args.plain) {
        (true, _) => {}
        (false, true) => voices.push(Box::new(View::new(handle.clone(), screen.clone(), keys))),
        (false, false) => voices.push(Box::new(Plain::new(handle.clone(), screen.clone()))),
    }
    if let Some(command) = &args.on_download_complete {
        voices.push(Box::new(Hook::new(command.clone(), folder, handle.clone(), screen)));
    }
    Voices::new(voices)
}

/// What to fetch: a file's torrent, or what a link names; its peers are called as if they had been named by hand.
fn source(args: &DownloadArgs, config: &mut Config) -> Result<Source, Failure> {
    let file = args.file();
    let Some(link) = file.to_str().filter(|text| Magnet::is_link(text)) else {
        return Ok(Torrent::read(&file).map_err(|error| info::torrent_failure(&file, error))?.into());
    };
    let magnet = Magnet::parse(link).map_err(|error| Failure::new(Exit::BadMagnet, printable(&error.to_string())))?;
    config.files.link.clone_from(&magnet.select);
    for peer in &magnet.peers {
        match resolve(&peer.to_string()) {
            Ok(addresses) => config.peers.extend(addresses),
            Err(failure) => log::warn!("{failure}"),
        }
    }
    Ok(magnet.into())
}

/// The last line of a download that was stopped.
fn stopped(now: &Snapshot) -> String {
    if now.total == 0 {
        return "stopped before the metadata was there; run it again to start over".to_owned();
    }
    if matches!(now.stage, Stage::Starting | Stage::Checking) {
        return "stopped before the files were checked; run it again to start over".to_owned();
    }
    let (percent, part) = (percent(now.have, now.total), part(now.have, now.total));
    format!("stopped at {percent} ({part}); run it again to go on")
}

/// Logs go where the live view is, and above it. `RUST_LOG` has the last word.
fn start_logs(args: &DownloadArgs, screen: &Screen) {
    let mut logs = env_logger::Builder::new();
    logs.filter_level(if args.quiet { LevelFilter::Error } else { LevelFilter::Warn });
    if args.verbose {
        logs.filter_module("btsync", LevelFilter::Debug);
    }
    if !std::io::stderr().is_terminal() {
        logs.format_timestamp_millis();
    }
    logs.parse_default_env().target(env_logger::Target::Pipe(Box::new(screen.clone())));
    // Whoever calls this twice keeps the first logger.
    let _ = logs.try_init();
}

fn config(args: &DownloadArgs) -> Result<Config, Failure> {
    let mut config = Config::new(args.out_dir());
    let none = args.seed_time.is_some_and(|time| time.is_zero()); // as aria2 has it, whatever the ratio
    config.seed = SeedGoal {
        forever: args.seed,
        time: args.seed_time.filter(|time| !time.is_zero()),
        ratio: args.seed_ratio.filter(|&ratio| ratio > 0.0 && !none),
    };
    if let Some(ports) = &args.listen_port {
        config.listen_ports = ports.clone();
    }
    config.max_peers = args.max_peers.unwrap_or(config.max_peers);
    config.limits =
        Limits { down: args.max_download_limit.unwrap_or_default(), up: args.max_upload_limit.unwrap_or_default() };
    config.encryption = args.encryption.unwrap_or_default();
    config.super_seed = args.super_seed;
    config.stop_timeout = args.stop_timeout;
    config.dht = (!args.no_dht).then(|| DhtSettings {
        entry_points: args.dht_entry_point.clone(),
        state_path: cache_folder().map(|folder| folder.join("btsync/dht")),
        ..DhtSettings::default()
    });
    (config.lsd, config.pex) = (!args.no_lsd, !args.no_pex);
    config.bind = args.interface.clone().unwrap_or_default();
    config.exclude_trackers.extend(args.excluded().map(str::to_owned));
    config.resume = cache_folder().map(|folder| folder.join("btsync/resume"));
    config.verify = args.verify;
    config.save_torrent.clone_from(&args.save_torrent);
    config.files = Selection { select: args.select.clone(), exclude: args.exclude.clone(), link: None };
    config.places.clone_from(&args.out);
    (config.sequential, config.first_and_last) = (args.sequential, args.first_and_last);
    config.allocation = args.file_allocation.unwrap_or_default();
    config.metadata_only = args.list;
    for peer in &args.peer {
        config.peers.extend(resolve(peer)?);
    }
    config.trackers.extend(args.trackers().map(str::to_owned));
    Ok(config)
}

/// The user's cache folder, by the XDG rules; `None` where the user has no home.
fn cache_folder() -> Option<PathBuf> {
    let named = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    named("XDG_CACHE_HOME").or_else(|| named("HOME").map(|home| home.join(".cache")))
}

fn resolve(peer: &str) -> Result<Vec<SocketAddr>, Failure> {
    let addresses = peer.to_socket_addrs().map(Iterator::collect::<Vec<_>>);
    addresses.map_err(|error| Failure::new(Exit::NameLookup, format!("cannot find the peer {peer}: {error}")))
}

fn failure(error: &SessionError) -> Failure {
    let code = match error {
        SessionError::Storage(error) => storage_exit(error),
        SessionError::Layout(_) | SessionError::Metadata(_) => Exit::BadTorrent,
        SessionError::Interface { .. } | SessionError::Listen { .. } => Exit::Network,
        SessionError::Select(_) | SessionError::Place(_) => Exit::BadOption,
        SessionError::Twice { .. } => Exit::Other,
    };
    Failure::new(code, error.to_string())
}

/// The exit code for trouble with files.
fn storage_exit(error: &StorageError) -> Exit {
    match (error.kind(), error) {
        (StorageErrorKind::DiskFull, _) => Exit::DiskFull,
        (StorageErrorKind::NotAFolder, _) | (_, StorageError::Io { doing: Doing::CreateFolder, .. }) => {
            Exit::MakeFolder
        }
        (StorageErrorKind::Exists, _) => Exit::FileExists,
        (StorageErrorKind::Missing | StorageErrorKind::TooManyFiles, _) => Exit::OpenExisting,
        (StorageErrorKind::Permission | StorageErrorKind::ReadOnly | StorageErrorKind::Escapes, _) => Exit::CreateFile,
        (StorageErrorKind::Io, _) => Exit::FileIo,
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn trouble_with_files_has_its_codes() {
        let code = |doing, errno: i32| {
            let source = io::Error::from_raw_os_error(errno);
            storage_exit(&StorageError::Io { doing, path: PathBuf::from("x"), source })
        };
        // The system's numbers: 28 no space, 13 permission, 20 not a folder, 21 is a folder, 2 not there, 5 input/output.
        assert_eq!(code(Doing::Write, 28), Exit::DiskFull);
        assert_eq!(code(Doing::CreateFolder, 28), Exit::DiskFull);
        assert_eq!(code(Doing::CreateFolder, 13), Exit::MakeFolder);
        assert_eq!(code(Doing::Open, 13), Exit::CreateFile);
        assert_eq!(code(Doing::Open, 20), Exit::MakeFolder);
        assert_eq!(code(Doing::Open, 21), Exit::FileExists);
        assert_eq!(code(Doing::Open, 2), Exit::OpenExisting);
        assert_eq!(code(Doing::Read, 5), Exit::FileIo);
    }

    #[test]
    fn zero_means_no_seeding() {
        let mut args = DownloadArgs::default();
        (args.seed_time, args.seed_ratio) = (Some(std::time::Duration::ZERO), Some(0.0));
        assert!(config(&args).is_ok_and(|config| !config.seed.any()));
        args.seed_ratio = Some(2.0);
        assert!(config(&args).is_ok_and(|config| !config.seed.any()), "a time of 0 has the last word");
    }
}
