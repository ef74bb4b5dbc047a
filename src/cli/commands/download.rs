//! `btsync TORRENT FOLDER`: loads the torrent and downloads it on the process's first thread, which is main then. A reporter
//! runs on another thread. [`batch`] does this for several torrents.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError, bounded, never};

use crate::cli::batch;
use crate::cli::batch::fetch;
use crate::cli::commands::info;
use crate::cli::commands::list;
use crate::cli::commands::settings::Settings;
use crate::cli::exit::{Exit, Failure};
use crate::cli::options::{DownloadArgs, STDIN};
use crate::cli::outcome::{command_result, failure, final_status};
use crate::cli::report::hook::{Hook, HookConfig, HookFailure};
use crate::cli::report::json::{JsonOutput, JsonReporter};
use crate::cli::report::plain::PlainReporter;
use crate::cli::report::tui::TuiReporter;
use crate::cli::report::{Reporter, Reporters, run_reporter};
use crate::cli::stop::NoMessages;
use crate::cli::terminal::keys::{KeyInput, Keyboard};
use crate::cli::terminal::outputs::Outputs;
use crate::cli::terminal::screen::Screen;
use crate::cli::{limits, logs, signals};
use crate::util::descriptors::{DescriptorBudget, MIN_DESCRIPTORS, available, is_shortage, retry_while};
use crate::util::printable_text::printable;
use btsync::{Event, Source, TorrentHandle};
use btsync::{Magnet, Metainfo, MetainfoError};

/// Downloads the torrents and seeds them as long as the options ask.
///
/// # Errors
/// The exit code and the message for whatever kept the download from completing.
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
    outputs.finish(result)
}

/// The budget of file descriptors for `wanted` torrents at once.
///
/// # Errors
/// The limit is so low that a download would wait for descriptors forever.
pub(crate) fn descriptor_budget(wanted: usize) -> Result<DescriptorBudget, Failure> {
    let have = available();
    let too_few = || {
        format!("only {have} files may be open at a time, and a download needs {MIN_DESCRIPTORS}: raise `ulimit -n`")
    };
    DescriptorBudget::of(have, wanted).ok_or_else(|| Failure::new(Exit::Other, too_few()))
}

fn download(args: &DownloadArgs, outputs: &Outputs) -> Result<(), Failure> {
    let no_signals = |e: std::io::Error| Failure::new(Exit::Other, format!("cannot watch for signals: {e}"));
    let mut settings = Settings::new(args)?;
    if !args.list {
        settings = settings.limit_to_budget(descriptor_budget(1)?);
    }
    let (stop_sender, stop) = bounded(0);
    // Only a URL can take long to load, so only then do signals stop the loading.
    let watch = fetch::is_url(&args.file()).then(|| signals::watch(move || drop(stop_sender)).map_err(no_signals));
    let watch = watch.transpose()?;
    let stop = if watch.is_some() { stop } else { never() };
    let LoadedSource { source, save_note } = load_source(&args.file(), &mut settings, &stop)?;
    watch.into_iter().for_each(signals::SignalWatch::release);
    if let (true, Source::Metainfo(torrent)) = (args.list, &source) {
        return list::print(torrent, &settings.selection, args.json.then(|| outputs.start.elapsed()));
    }
    let Settings { limits, selection, client, options, pending, .. } = settings;
    let hook = args.hook(pending.as_ref()).map(|hook_config| (hook_config, HookFailure::default()));
    let client = client.single_torrent().build().map_err(|error| failure(&error.into()))?;
    let torrent = client.prepare(source, options);
    drop(client); // the torrent keeps it alive
    let handle = torrent.handle();

    let (stopper, hung_up) = (handle.clone(), handle.clone());
    // Owned here, so that the terminal is restored on every return path.
    let has_live_view = !args.quiet && outputs.screen.is_terminal();
    let keyboard = if has_live_view { Keyboard::listen(move || hung_up.stop()).map_err(no_signals)? } else { None };
    let keys = keyboard.as_ref().map(Keyboard::keys);
    let (released, asked) = (keys.clone(), outputs.stop.clone());
    let watch = signals::watch(move || {
        // Restore the terminal first: a second signal exits at once, without another chance to do it.
        released.iter().for_each(KeyInput::release);
        stopper.stop();
        asked.set();
    })
    .map_err(no_signals)?;
    stop_when_output_fails(outputs, &handle);
    let limited_handle = handle.clone();
    let _limit_signals =
        limits::LimitSignals::new(move |limits| limited_handle.set_limits(limits), limits).map_err(no_signals)?;
    let mut reporters = reporters(args, &handle, outputs, keys, hook.clone());
    if let Some(what) = save_note {
        reporters.event(Duration::ZERO, &Event::TorrentSaved { what });
    }
    let (end, ended) = crossbeam_channel::bounded(1);
    let events = torrent.events();
    let reporter_thread =
        thread::Builder::new().name("reporter".to_owned()).spawn(move || run_reporter(&mut reporters, &events, &ended));

    let result = torrent.run();
    let _ = end.send(final_status(&result));
    // If no thread can be started for the reporter, the download runs without it.
    if let Ok(thread) = reporter_thread {
        let _ = thread.join();
    }
    let result = command_result(result, &handle, args.stop_timeout);
    let result = hook.map_or(result.clone(), |(_, failed)| failed.apply_to(result));
    if let (Ok(()), true, Some(torrent)) = (&result, args.list, handle.metainfo()) {
        watch.release();
        return list::print(torrent, &selection, args.json.then(|| outputs.start.elapsed()));
    }
    outputs.finish(result) // before `watch` is dropped
}

/// Stops the torrent when its JSON events can no longer be written.
fn stop_when_output_fails(outputs: &Outputs, handle: &TorrentHandle) {
    let handle = handle.clone();
    if let Some(json_output) = &outputs.json_output {
        json_output.on_failure(move || handle.stop());
    }
}

/// The reporters that the options ask for: JSON events on stdout, text on stderr, and the user's hook command.
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
    // With `--list` the only JSON event is the list.
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

/// A source, and a note for the user about the saved torrent file.
pub(crate) struct LoadedSource {
    pub source: Source,
    pub save_note: Option<String>,
}

impl From<Source> for LoadedSource {
    fn from(source: Source) -> LoadedSource {
        LoadedSource { source, save_note: None }
    }
}

/// Loads the source that an argument names: a torrent file, a URL, standard input or a magnet link. Adds the peers of a
/// magnet link to `settings`.
pub(crate) fn load_source(
    file: &Path,
    settings: &mut Settings,
    stop: &Receiver<NoMessages>,
) -> Result<LoadedSource, Failure> {
    if fetch::is_url(file) {
        return fetch::fetch(file, settings, stop);
    }
    if file == Path::new(STDIN) {
        return Ok(Source::from(fetch::from_stdin(stop)?).into());
    }
    let Some(link) = file.to_str().filter(|text| Magnet::is_link(text)) else {
        let torrent = read(file, || stop.try_recv() != Err(TryRecvError::Disconnected));
        return Ok(Source::from(torrent.map_err(|error| info::torrent_failure(file, error))?).into());
    };
    let magnet = Magnet::parse(link).map_err(|error| Failure::new(Exit::BadMagnet, printable(&error.to_string())))?;
    settings.add_link(&magnet, false);
    Ok(Source::from(magnet).into())
}

/// Reads a torrent file. If no descriptor is free, waits for one as long as `should_wait` returns true.
pub(crate) fn read(file: &Path, should_wait: impl FnMut() -> bool) -> Result<Metainfo, MetainfoError> {
    let short = |read: &Result<Metainfo, MetainfoError>| matches!(read, Err(MetainfoError::Io { source, .. }) if is_shortage(source));
    retry_while(|| Metainfo::read(file), short, should_wait)
}
