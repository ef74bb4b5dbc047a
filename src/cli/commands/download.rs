//! `btsync FILE FOLDER`: reads the torrent, runs its session on this thread, and lends it a voice on another. Where several are
//! named, all of that is `fleet`'s.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError, bounded, never};

use crate::cli::batch;
use crate::cli::batch::fetch;
use crate::cli::commands::info;
use crate::cli::commands::list;
use crate::cli::exit::{Exit, Failure};
use crate::cli::options::{DownloadArgs, STDIN};
use crate::cli::outcome::{command_result, final_status};
use crate::cli::report::hook::{Hook, HookConfig, HookFailure};
use crate::cli::report::json::{JsonOutput, JsonReporter};
use crate::cli::report::plain::PlainReporter;
use crate::cli::report::tui::TuiReporter;
use crate::cli::report::{Reporter, Reporters, listen};
use crate::cli::stop::NoMessages;
use crate::cli::terminal::keys::{KeyInput, Keyboard};
use crate::cli::terminal::outputs::Outputs;
use crate::cli::terminal::screen::Screen;
use crate::cli::{limits, logs, signals};
use crate::util::descriptors::{DescriptorBudget, MIN_DESCRIPTORS, available, is_shortage, retry_while};
use crate::util::os_error::reason;
use crate::util::printable_text::printable;
use btsync::metainfo::{Magnet, Metainfo, MetainfoError, Selection};
use btsync::net::networks::is_private;
use btsync::torrent::{Config, DhtSettings, Event, Limits, SeedGoal, Source, Torrent, TorrentHandle};

/// Peers that are taken of a magnet link at most.
const MAX_LINK_PEERS: usize = 32;

/// Downloads, and gives to others for as long as asked.
///
/// # Errors
/// The exit code and the line for whatever kept the download from being whole.
pub fn run(args: &DownloadArgs) -> Result<(), Failure> {
    let start = Instant::now();
    let json_output = args.json.then(|| JsonOutput::stdout(start));
    let screen = if args.plain { Screen::stderr().without_live_lines() } else { Screen::stderr() };
    logs::start(args.quiet, args.verbose, &screen);
    let outputs = Outputs::new(screen, json_output, start);
    let targets = if args.list { Ok(()) } else { descriptor_budget(1).map(drop) }.and_then(|()| batch::targets(args));
    let result = match targets {
        Ok(targets) if targets.is_batch && args.list => {
            Err(Failure::new(Exit::BadOption, "--list shows one torrent at a time"))
        }
        Ok(targets) if targets.is_batch => batch::run(args, targets, &outputs),
        Ok(_) => download(args, &outputs),
        Err(failure) => Err(failure),
    };
    outputs.conclude(result)
}

/// What the limit on descriptors allows where so many torrents are to run at once.
///
/// # Errors
/// Where a download would wait for descriptors for ever.
pub(crate) fn descriptor_budget(wanted: usize) -> Result<DescriptorBudget, Failure> {
    let have = available();
    let too_few = || {
        format!("only {have} files may be open at a time, and a download needs {MIN_DESCRIPTORS}: raise `ulimit -n`")
    };
    DescriptorBudget::of(have, wanted).ok_or_else(|| Failure::new(Exit::Other, too_few()))
}

/// The configuration without the DHT and local discovery, where there are no descriptors for these.
pub(crate) fn limit_to_budget(budget: DescriptorBudget, mut config: Config) -> Config {
    if !budget.discovery && (config.dht.is_some() || config.lsd) {
        log::warn!("few files may be open at a time: no DHT and no local discovery; `ulimit -n` has the limit");
        (config.dht, config.lsd) = (None, false);
    }
    config
}

fn download(args: &DownloadArgs, outputs: &Outputs) -> Result<(), Failure> {
    let no_signals = |e: std::io::Error| Failure::new(Exit::Other, format!("cannot watch for signals: {e}"));
    let mut config = config(args)?;
    if !args.list {
        config = limit_to_budget(descriptor_budget(1)?, config);
    }
    let (alive, stop) = bounded(0);
    // What is on disk is read in no time; who waits for a server may have enough of it.
    let watch = fetch::is_url(&args.file()).then(|| signals::watch(move || drop(alive)).map_err(no_signals));
    let watch = watch.transpose()?;
    let stop = if watch.is_some() { stop } else { never() };
    let LoadedSource { source, save_note } = source(&args.file(), &mut config, &stop)?;
    watch.into_iter().for_each(signals::SignalWatch::release);
    if let (true, Source::Metainfo(torrent)) = (args.list, &source) {
        return list::print(torrent, &config.files, args.json.then(|| outputs.start.elapsed()));
    }
    let (limits, selection) = (config.limits, config.files.clone());
    let hook = args.hook(config.pending.as_ref()).map(|hook_config| (hook_config, HookFailure::default()));
    let torrent = Torrent::new(source, config);
    let handle = torrent.handle();

    let (stopper, hung_up) = (handle.clone(), handle.clone());
    // Owned here, so that the terminal is left as it was however this ends.
    let has_live_view = !args.quiet && outputs.screen.is_terminal();
    let keyboard = if has_live_view { Keyboard::listen(move || hung_up.stop()).map_err(no_signals)? } else { None };
    let keys = keyboard.as_ref().map(Keyboard::keys);
    let (released, asked) = (keys.clone(), outputs.stop.clone());
    let watch = signals::watch(move || {
        // A second signal ends the process at once, and nobody could put the terminal right then.
        released.iter().for_each(KeyInput::release);
        stopper.stop();
        asked.set();
    })
    .map_err(no_signals)?;
    stop_when_output_fails(outputs, &handle);
    let switched = handle.clone();
    let _switch = limits::LimitSignals::new(move |limits| switched.set_limits(limits), limits).map_err(no_signals)?;
    let mut reporters = reporters(args, &handle, outputs, keys, hook.clone());
    if let Some(what) = save_note {
        reporters.event(Duration::ZERO, &Event::TorrentSaved { what });
    }
    let (tell, told) = crossbeam_channel::bounded(1);
    let events = torrent.events();
    let reporter_thread =
        thread::Builder::new().name("voice".to_owned()).spawn(move || listen(&mut reporters, &events, &told));

    let result = torrent.run();
    let _ = tell.send(final_status(&result));
    // A system without a thread to spare for the voice still downloads.
    if let Ok(thread) = reporter_thread {
        let _ = thread.join();
    }
    let result = command_result(result, &handle, args.stop_timeout);
    let result = hook.map_or(result.clone(), |(_, failed)| failed.join(result));
    if let (Ok(()), true, Some(torrent)) = (&result, args.list, handle.torrent()) {
        watch.release();
        return list::print(torrent, &selection, args.json.then(|| outputs.start.elapsed()));
    }
    outputs.conclude(result) // while signals are watched for
}

/// Stops the session when nobody can read its events any more.
fn stop_when_output_fails(outputs: &Outputs, handle: &TorrentHandle) {
    let handle = handle.clone();
    if let Some(json_output) = &outputs.json_output {
        json_output.on_failure(move || handle.stop());
    }
}

/// Those who tell how it goes: people on stderr, programs on stdout, and the user's own command.
fn reporters(
    args: &DownloadArgs,
    handle: &TorrentHandle,
    outputs: &Outputs,
    keys: Option<KeyInput>,
    hook: Option<(HookConfig, HookFailure)>,
) -> Reporters {
    let screen = outputs.screen.clone();
    let folder = args.out_dir().to_string_lossy().into_owned();
    let mut reporters: Vec<Box<dyn Reporter>> = Vec::new();
    // A list is one event, and the only one.
    if let Some(json_output) = outputs.json_output.as_ref().filter(|_| !args.list) {
        reporters.push(Box::new(JsonReporter::new(handle.clone(), json_output.clone(), folder.clone())));
    }
    match (args.quiet, screen.is_terminal()) {
        (true, _) => {}
        (false, true) => reporters.push(Box::new(TuiReporter::new(handle.clone(), screen, keys))),
        (false, false) => reporters.push(Box::new(PlainReporter::new(handle.clone(), screen))),
    }
    if let Some((hook_config, failed)) = hook {
        reporters.push(Box::new(Hook::new(hook_config, &folder, handle.clone(), outputs.clone(), failed)));
    }
    Reporters::new(reporters)
}

/// What a name stands for, and what came of keeping its .torrent where that was asked for.
pub(crate) struct LoadedSource {
    pub source: Source,
    pub save_note: Option<String>,
}

impl From<Source> for LoadedSource {
    fn from(source: Source) -> LoadedSource {
        LoadedSource { source, save_note: None }
    }
}

/// What to fetch: a file's torrent, that of a URL, or what a link names; its peers are called, too.
pub(crate) fn source(file: &Path, config: &mut Config, stop: &Receiver<NoMessages>) -> Result<LoadedSource, Failure> {
    if fetch::is_url(file) {
        return fetch::fetch(file, config, stop);
    }
    if file == Path::new(STDIN) {
        return Ok(Source::from(fetch::from_stdin(stop)?).into());
    }
    let Some(link) = file.to_str().filter(|text| Magnet::is_link(text)) else {
        let torrent = read(file, || stop.try_recv() != Err(TryRecvError::Disconnected));
        return Ok(Source::from(torrent.map_err(|error| info::torrent_failure(file, error))?).into());
    };
    let magnet = Magnet::parse(link).map_err(|error| Failure::new(Exit::BadMagnet, printable(&error.to_string())))?;
    add_link_peers(&magnet, false, config);
    Ok(Source::from(magnet).into())
}

/// Reads a torrent file; where there is no descriptor for it, waits for one as long as `should_wait` says.
pub(crate) fn read(file: &Path, should_wait: impl FnMut() -> bool) -> Result<Metainfo, MetainfoError> {
    let short = |read: &Result<Metainfo, MetainfoError>| matches!(read, Err(MetainfoError::Io { source, .. }) if is_shortage(source));
    retry_while(|| Metainfo::read(file), short, should_wait)
}

/// The peers that a link names are called, and its choice of files is that of the user who has none. A link that came from a public
/// host names nobody in private networks.
pub(crate) fn add_link_peers(magnet: &Magnet, is_public: bool, config: &mut Config) {
    config.files.link.clone_from(&magnet.select);
    for peer in magnet.peers.iter().take(MAX_LINK_PEERS) {
        match resolve(&peer.to_string()) {
            Ok(found) => config.link_peers.extend(found.iter().filter(|addr| !is_public || !is_private(addr.ip()))),
            Err(failure) => log::warn!("{failure}"),
        }
    }
    config.link_peers.truncate(MAX_LINK_PEERS);
}

/// What the options say of a session.
pub(crate) fn config(args: &DownloadArgs) -> Result<Config, Failure> {
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
    config.dscp = args.dscp.unwrap_or_default();
    (config.peer_id_prefix, config.user_agent) = (args.peer_id_prefix, args.user_agent.clone());
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
    config.pending = cache_folder().filter(|_| args.on_download_complete.is_some()).map(|f| f.join("btsync/pending"));
    config.brought = cache_folder().map(|folder| folder.join("btsync/brought"));
    config.verify = args.verify;
    config.save_torrent.clone_from(&args.save_torrent);
    config.files = Selection { select: args.select.clone(), exclude: args.exclude.clone(), link: None };
    config.places.clone_from(&args.out);
    (config.sequential, config.first_and_last) = (args.sequential, args.first_and_last);
    config.allocation = args.file_allocation.unwrap_or_default();
    (config.overwrite, config.fsync) = (args.overwrite, args.fsync);
    config.metadata_only = args.list;
    config.allow_hidden = args.allow_hidden;
    config.incomplete_suffix.clone_from(&args.incomplete_suffix);
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
    addresses
        .map_err(|error| Failure::new(Exit::NameLookup, format!("cannot find the peer {peer}: {}", reason(&error))))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Anybody may have written a link.
    #[test]
    fn a_link_names_a_bounded_number_of_peers_and_a_public_one_no_private_addresses() {
        let peers: Vec<String> = (1..100).map(|host| format!("&x.pe=203.0.113.{host}:6881")).collect();
        let peers = peers.concat();
        let local = "&x.pe=127.0.0.1:22&x.pe=10.0.0.1:25&x.pe=localhost:80&x.pe=203.0.113.200:6881";
        let link = format!("magnet:?xt=urn:btih:{}{local}{peers}", "a".repeat(40));
        let magnet = Magnet::parse(&link).expect("a link");
        let named = |is_public| {
            let mut config = config(&DownloadArgs::default()).expect("a configuration");
            add_link_peers(&magnet, is_public, &mut config);
            assert!(config.peers.is_empty(), "they are not the user's own");
            config.link_peers
        };
        assert!(named(false).len() == MAX_LINK_PEERS && named(false).iter().any(|addr| addr.ip().is_loopback()));
        assert!(named(true).len() > 20 && named(true).iter().all(|addr| !is_private(addr.ip())));
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
