//! Reporters show a torrent's progress. This module has the [`Reporter`] trait, the loop that feeds reporters events and
//! ticks until the torrent ends, and the text of events.

pub(crate) mod hook;
pub(crate) mod json;
pub(crate) mod outputs;
pub mod piece_map;
pub mod plain;
pub(crate) mod progress_bar;
pub(crate) mod stall;
pub mod status;
pub mod tui;

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded, never, select, tick};

use crate::cli::report::status::{count, duration, percent, size};
use crate::util::os_error::without_numbers;
use crate::util::printable_text::printable;
use btsync::tracker::TrackerError;
use btsync::{Event, Events, Outcome, Torrent, TorrentError};

/// Untrusted text is truncated to this many characters.
const MAX_TEXT_LEN: usize = 300;

/// A tracker whose retry interval is at least this long counts as never retried.
const NEVER_RETRIED: Duration = Duration::from_secs(365 * 86_400);
/// A reporter refreshes up to this much before its period is over, so that reporters with different periods refresh in the
/// same tick.
const TICK_TOLERANCE: Duration = Duration::from_millis(50);

/// How a torrent ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinalStatus {
    /// Complete: every wanted piece is verified.
    Complete,
    /// Stopped before it was complete.
    Stopped,
    /// Failed; the error is reported separately.
    Failed,
}

impl FinalStatus {
    fn of(result: &Result<Outcome, Arc<TorrentError>>) -> FinalStatus {
        match result {
            Ok(Outcome::Completed | Outcome::StoppedComplete) => FinalStatus::Complete,
            // Stopped, timed out, or an outcome that a later version of the library adds.
            Ok(_) => FinalStatus::Stopped,
            Err(_) => FinalStatus::Failed,
        }
    }
}

/// Reports the progress of a torrent to the user or to a program.
pub trait Reporter: Send {
    /// The interval between calls of [`Reporter::refresh`].
    fn period(&self) -> Duration;
    /// Handles an event that occurred `at` after the start.
    fn event(&mut self, at: Duration, event: &Event);
    /// Called once per period.
    fn refresh(&mut self, at: Duration);
    /// Called once when the torrent has ended.
    fn finish(&mut self, at: Duration, final_status: FinalStatus);
    /// Whether [`Reporter::finish`] must be called after those of other reporters, because programs take this reporter's
    /// last event for the end.
    fn finishes_last(&self) -> bool {
        false
    }
    /// The channel of pressed keys; `None` if the reporter does not handle keys.
    fn keys(&self) -> Option<Receiver<char>> {
        None
    }
    /// Handles a pressed key.
    fn key(&mut self, _at: Duration, _key: char) {}
}

/// Several reporters as one, each with its own period. May be empty.
pub struct Reporters(Vec<(Box<dyn Reporter>, Duration)>);

impl Reporters {
    /// Combines the reporters.
    pub fn new(reporters: Vec<Box<dyn Reporter>>) -> Reporters {
        Reporters(reporters.into_iter().map(|reporter| (reporter, Duration::ZERO)).collect())
    }
}

impl Reporter for Reporters {
    fn period(&self) -> Duration {
        self.0.iter().map(|(reporter, _)| reporter.period()).min().unwrap_or(Duration::from_secs(3600))
    }

    fn event(&mut self, at: Duration, event: &Event) {
        self.0.iter_mut().for_each(|(reporter, _)| reporter.event(at, event));
    }

    fn refresh(&mut self, at: Duration) {
        for (reporter, last) in &mut self.0 {
            // A tick that comes slightly early counts.
            if at + TICK_TOLERANCE >= *last + reporter.period() {
                *last = at;
                reporter.refresh(at);
            }
        }
    }

    fn finish(&mut self, at: Duration, final_status: FinalStatus) {
        for is_last in [false, true] {
            let reporters = self.0.iter_mut().map(|(reporter, _)| reporter);
            reporters
                .filter(|reporter| reporter.finishes_last() == is_last)
                .for_each(|reporter| reporter.finish(at, final_status));
        }
    }

    fn keys(&self) -> Option<Receiver<char>> {
        // At most one reporter, the live view, handles keys.
        self.0.iter().find_map(|(reporter, _)| reporter.keys())
    }

    fn key(&mut self, at: Duration, key: char) {
        self.0.iter_mut().for_each(|(reporter, _)| reporter.key(at, key));
    }
}

/// Runs the torrent on this thread and its reporters on another. Their times count from `start`.
pub(crate) fn run_torrent(
    torrent: Torrent,
    reporters: &mut Reporters,
    start: Instant,
) -> Result<Outcome, Arc<TorrentError>> {
    let (end, ended) = bounded(1);
    let events = torrent.events();
    thread::scope(move |scope| {
        let run_reporters = move || run_reporter(start, reporters, &events, &ended);
        // If no thread can be started for the reporters, the torrent runs without them.
        let reporter_thread = thread::Builder::new().name("reporter".to_owned()).spawn_scoped(scope, run_reporters);
        let result = torrent.run();
        let _ = end.send(FinalStatus::of(&result));
        if let Ok(thread) = reporter_thread {
            let _ = thread.join();
        }
        result
    })
}

/// Feeds `reporter` events and ticks until `ended` delivers the final status or its sender is dropped.
fn run_reporter(start: Instant, reporter: &mut dyn Reporter, events: &Events, ended: &Receiver<FinalStatus>) {
    let (notify, notified) = bounded(1);
    // If the channel is full, a wake-up is pending already, after which the loop reads all events.
    events.set_notify(move || _ = notify.try_send(()));
    run_event_loop(start, reporter, &notified, || events.try_iter(), ended);
}

fn run_event_loop<I: Iterator<Item = Event>>(
    start: Instant,
    reporter: &mut dyn Reporter,
    notified: &Receiver<()>,
    events: impl Fn() -> I,
    ended: &Receiver<FinalStatus>,
) {
    let refresh = tick(reporter.period());
    let no_keys = never();
    let keys = reporter.keys().unwrap_or_else(never);
    let mut keyboard = &keys;
    loop {
        select! {
            recv(notified) -> _ => events().for_each(|event| reporter.event(start.elapsed(), &event)),
            recv(ended) -> final_status => {
                events().for_each(|event| reporter.event(start.elapsed(), &event));
                return reporter.finish(start.elapsed(), final_status.unwrap_or(FinalStatus::Failed));
            }
            recv(keyboard) -> key => match key {
                Ok(key) => reporter.key(start.elapsed(), key),
                // A closed channel is always ready: the loop would spin.
                Err(_) => keyboard = &no_keys,
            },
            recv(refresh) -> _ => reporter.refresh(start.elapsed()),
        }
    }
}

/// Formats events as text. Remembers the last complaint of each tracker, so that a repeated one is not printed again.
#[derive(Default)]
pub struct EventText {
    complaints: Vec<(String, String)>,
    is_verbose: bool,
}

impl EventText {
    /// Also formats the listening port and, for each tracker, the first successful announce and the first one after each failure or
    /// warning.
    pub fn verbose() -> EventText {
        EventText { is_verbose: true, ..EventText::default() }
    }

    /// One line for the event; `None` if it is not worth one.
    pub fn line(&mut self, event: &Event) -> Option<String> {
        match event {
            // The port is 0 behind a proxy.
            Event::CheckStarted { bytes: 0 } | Event::Checked { have: 0, .. } | Event::Listening { port: 0 } => None,
            // The line about the complete download follows.
            Event::Checked { have, total } if have >= total => None,
            Event::CheckStarted { bytes } => Some(format!("checking {} on disk", size(*bytes))),
            Event::Checked { have, total } => {
                Some(format!("{} of {} are verified ({})", size(*have), size(*total), percent(*have, *total)))
            }
            Event::Repaired { what } => Some(format!("repaired: {}", sanitize(what))),
            Event::Note { what } => Some(format!("note: {}", sanitize(what))),
            Event::Listening { port } => self.is_verbose.then(|| format!("listening on port {port}")),
            Event::PortMapping { status } => self.is_verbose.then(|| status.to_string()),
            Event::NoPeerSource { unsupported } => Some(match unsupported.first() {
                None => "no tracker, DHT or local discovery to find peers: waiting for incoming connections".to_owned(),
                Some(url) => {
                    format!("no tracker that btsync can use ({}): waiting for incoming connections", sanitize(url))
                }
            }),
            Event::Metadata { name, total } => Some(format!("metadata: {} ({})", sanitize(name), size(*total))),
            Event::MetadataRefused { addr } => Some(format!("{addr} sent wrong metadata: banned")),
            Event::TorrentSaved { .. } | Event::TorrentNotSaved { .. } => {
                saved_text(event).map(|text| format!("torrent file {}", sanitize(&text)))
            }
            Event::Selected { files, total_files, bytes } => {
                Some(format!("selected {files} of {}, {}", count(*total_files, "file"), size(*bytes)))
            }
            Event::Announced { tracker, peers, warning, .. } => self.announced(tracker, *peers, warning.as_deref()),
            Event::AnnounceFailed { tracker, error, retry } => self.announce_failed(tracker, error, *retry),
            Event::PieceFailed { piece, senders } => {
                let senders: Vec<_> = senders.iter().map(ToString::to_string).collect();
                if senders.is_empty() {
                    return Some(format!("piece {} does not verify; its blocks came from a web seed", piece.0));
                }
                Some(format!("piece {} does not verify; its blocks came from {}", piece.0, senders.join(", ")))
            }
            Event::WebSeedEnded { url, reason } => {
                Some(format!("web seed {} is not used any more: {}", sanitize(url), sanitize(reason)))
            }
            Event::PeerBanned { addr, piece } => Some(format!("{addr} sent wrong data (piece {}): banned", piece.0)),
            _ => None,
        }
    }

    /// The line for an announce that succeeded.
    fn announced(&mut self, tracker: &str, peers: usize, warning: Option<&str>) -> Option<String> {
        let warning = warning.map(sanitize).unwrap_or_default();
        let has_worked = self.complaints.iter().any(|(name, last)| name == tracker && last.is_empty());
        if self.record_complaint(tracker, &warning) {
            return Some(format!("tracker {} warns: {warning}", sanitize(tracker)));
        }
        let is_worth_a_line = self.is_verbose && !has_worked && warning.is_empty();
        is_worth_a_line.then(|| format!("tracker {} returned {}", sanitize(tracker), count(peers, "peer")))
    }

    /// The line for an announce that failed.
    fn announce_failed(&mut self, tracker: &str, error: &TrackerError, retry: Option<Duration>) -> Option<String> {
        let reason = tracker_error(error);
        self.record_complaint(tracker, &reason).then(|| {
            // A tracker may forbid further announces, which arrives as a retry interval of many years.
            let next = retry.filter(|retry| *retry < NEVER_RETRIED);
            let next = next.map(|retry| format!("; next try in {}", duration(retry))).unwrap_or_default();
            format!("tracker {}: {}{next}", sanitize(tracker), sanitize(&reason))
        })
    }

    /// Records the tracker's complaint; true if it is new. An empty complaint means that the tracker works again.
    fn record_complaint(&mut self, tracker: &str, words: &str) -> bool {
        let known = self.complaints.iter().position(|(name, _)| name == tracker);
        let Some((_, last)) = known.and_then(|at| self.complaints.get_mut(at)) else {
            self.complaints.push((tracker.to_owned(), words.to_owned()));
            return !words.is_empty();
        };
        let new = last != words;
        words.clone_into(last);
        new && !words.is_empty()
    }
}

/// The error of a tracker or URL in words, with the option that helps.
pub(crate) fn tracker_error(error: &TrackerError) -> String {
    let advice = if *error == TrackerError::Local { "; --bt-tracker URL allows it" } else { "" };
    format!("{error}{advice}")
}

/// What became of the torrent file to be saved, with the option that helps; `None` for other events.
pub(crate) fn saved_text(event: &Event) -> Option<String> {
    let shown = |path: &Path| printable(&path.to_string_lossy());
    match event {
        Event::TorrentSaved { path, is_new: true } => Some(format!("saved as {}", shown(path))),
        Event::TorrentSaved { path, is_new: false } => Some(format!("already saved as {}", shown(path))),
        Event::TorrentNotSaved { path, reason, is_overwritable } => {
            let advice = if *is_overwritable { "; --overwrite replaces it" } else { "" };
            Some(format!("cannot be saved as {}: {reason}{advice}", shown(path)))
        }
        _ => None,
    }
}

/// Makes untrusted text safe for the terminal and truncates it.
pub fn sanitize(text: &str) -> String {
    printable(&without_numbers(text)).chars().take(MAX_TEXT_LEN).collect()
}

#[cfg(test)]
mod tests;
