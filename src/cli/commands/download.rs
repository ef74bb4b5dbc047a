//! `btsync TORRENT FOLDER`: loads the torrent and downloads it on the process's first thread, which is main then. A reporter
//! runs on another thread. [`batch`] does this for several torrents.

use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, never};

use crate::cli::batch;
use crate::cli::commands::list;
use crate::cli::exit::{Exit, Failure};
use crate::cli::limits;
use crate::cli::logs;
use crate::cli::options::DownloadArgs;
use crate::cli::options::names::NameKind;
use crate::cli::outcome::{command_result, failure};
use crate::cli::report::hook::{Hook, HookConfig, HookFailure};
use crate::cli::report::json::{JsonOutput, JsonReporter};
use crate::cli::report::outputs::Outputs;
use crate::cli::report::plain::PlainReporter;
use crate::cli::report::tui::TuiReporter;
use crate::cli::report::{Reporter, Reporters, run_torrent};
use crate::cli::run_page::OptionalPage;
use crate::cli::settings::{Settings, descriptor_budget};
use crate::cli::signals;
use crate::cli::source::{LoadedSource, load_source};
use crate::cli::terminal::keys::{KeyInput, Keyboard};
use crate::cli::terminal::screen::Screen;
use btsync::{Source, TorrentHandle};

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

fn download(args: &DownloadArgs, outputs: &Outputs) -> Result<(), Failure> {
    let no_signals = |e: std::io::Error| Failure::new(Exit::Other, format!("cannot watch for signals: {e}"));
    let mut settings = Settings::new(args)?;
    if !args.list {
        settings = settings.limit_to_budget(descriptor_budget(1)?);
    }
    let (stop_sender, stop) = bounded(0);
    // A URL and standard input can take long to load, so only then do signals stop the loading.
    let is_slow = matches!(NameKind::of(&args.file()), NameKind::Url | NameKind::Stdin);
    let watch = is_slow.then(|| signals::watch(move || drop(stop_sender)).map_err(no_signals));
    let watch = watch.transpose()?;
    let stop = if watch.is_some() { stop } else { never() };
    let LoadedSource { source, save_event } = load_source(&args.file(), &mut settings, &stop)?;
    watch.into_iter().for_each(signals::SignalWatch::release);
    if let (true, Source::Metainfo(torrent)) = (args.list, &source) {
        return list::print(torrent, &settings.selection, args.json.then(|| outputs.start.elapsed()));
    }
    let Settings { limits, selection, client, options, unreported_folder, .. } = settings;
    let hook = args.hook(unreported_folder.as_ref()).map(|hook_config| (hook_config, HookFailure::default()));
    let page = OptionalPage::start(args, &outputs.screen)?;
    let client = client.single_torrent().build().map_err(|error| failure(&error.into()))?;
    let torrent = client.prepare(source, options);
    drop(client); // the torrent keeps it alive
    let handle = torrent.handle();
    page.add(&handle, &args.out_dir());

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
    if let Some(event) = save_event {
        reporters.event(Duration::ZERO, &event);
    }
    let result = run_torrent(torrent, &mut reporters, Instant::now());
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
