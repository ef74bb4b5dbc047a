//! `--json`: writes events for programs to standard output, one per line. docs/json.md describes them, and a test checks
//! every line against docs/events.schema.json. If the reader closes the pipe, the download stops, as with `| head -1`; a
//! reader that does not read does not block it.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use crate::cli::exit::Failure;
use crate::cli::report::status::stage_name;
use crate::cli::report::{FinalStatus, Reporter, saved_text, tracker_error};
use crate::cli::stop::StopSignal;
use crate::cli::terminal::output_queue::OutputQueue;
use crate::util::os_error::without_numbers;
use btsync::InfoHash;
use btsync::{Event, FileView, PieceState, Snapshot, Stage, TorrentHandle};

/// The maximum number of bytes queued for a slow reader; further lines are dropped and counted.
const MAX_QUEUED_BYTES: usize = 1 << 20;

/// The queue of JSON lines for standard output.
#[derive(Clone)]
pub struct JsonOutput {
    output_queue: OutputQueue,
    /// The latest time written. Several torrents write lines, and the times must not decrease.
    latest_time: Arc<Mutex<Duration>>,
}

impl JsonOutput {
    /// Writes to standard output; times are relative to `start`.
    pub fn stdout(start: Instant) -> JsonOutput {
        let lost = move |count| line(start.elapsed(), "lost", json!({ "count": count }));
        JsonOutput {
            output_queue: OutputQueue::new(Box::new(io::stdout()), MAX_QUEUED_BYTES, lost),
            latest_time: Arc::default(),
        }
    }

    /// Writes an event that occurred `at` after the start.
    fn write(&self, at: Duration, event: &str, fields: Value) {
        let mut latest_time = self.latest_time.lock();
        *latest_time = at.max(*latest_time);
        self.output_queue.push(&line(*latest_time, event, fields));
    }

    /// The same for an event that readers may wait for: never dropped.
    fn write_always(&self, at: Duration, event: &str, fields: Value) {
        let mut latest_time = self.latest_time.lock();
        *latest_time = at.max(*latest_time);
        self.output_queue.push_always(&line(*latest_time, event, fields));
    }

    /// Counts events that were dropped before they were queued.
    fn count_dropped(&self, count: u64) {
        self.output_queue.count_dropped(count);
    }

    /// Runs `action` once when a write fails.
    pub fn on_failure(&self, action: impl FnOnce() + Send + 'static) {
        self.output_queue.on_failure(action);
    }

    /// The error of the write that failed, if any.
    pub fn failure(&self) -> Option<&io::Error> {
        self.output_queue.failure()
    }

    /// Waits until all is written; once `stop` is set, only until its deadline.
    pub fn finish(&self, stop: &StopSignal) {
        self.output_queue.finish(stop);
    }

    /// Writes the last line of a command that failed.
    pub fn error(&self, at: Duration, failure: &Failure) {
        self.write_always(at, "error", json!({ "code": failure.code.code(), "message": failure.message }));
    }

    /// Writes the failure of one torrent, with its info-hash if known.
    pub fn torrent_error(&self, at: Duration, failure: &Failure, name: &str, info_hash: Option<InfoHash>) {
        let mut fields = json!({ "code": failure.code.code(), "message": failure.message, "name": name });
        if let Some(info_hash) = info_hash {
            fields["info_hash"] = info_hash.hex().into();
        }
        self.write_always(at, "error", fields);
    }
}

/// A time in seconds, rounded to milliseconds, as in all events.
pub(crate) fn seconds(at: Duration) -> f64 {
    (at.as_secs_f64() * 1000.0).round() / 1000.0
}

/// Formats an event as a line.
fn line(at: Duration, event: &str, fields: Value) -> String {
    let mut line = Map::new();
    line.insert("event".to_owned(), event.into());
    line.insert("time".to_owned(), seconds(at).into());
    if let Value::Object(fields) = fields {
        line.extend(fields);
    }
    format!("{}\n", Value::Object(line))
}

/// Reports the events of one torrent as JSON.
pub struct JsonReporter {
    handle: TorrentHandle,
    json_output: JsonOutput,
    out_dir: String,
    /// When the torrent started.
    since: Duration,
    is_in_batch: bool,
    has_started: bool,
    /// Whether each piece has been reported.
    verified: Vec<bool>,
    /// The files that have not been reported as complete; `None` while unknown.
    files: Option<Vec<FileView>>,
    last: Option<Snapshot>,
}

impl JsonReporter {
    /// A reporter for the torrent of `handle`, with files in `out_dir`.
    pub fn new(handle: TorrentHandle, json_output: JsonOutput, out_dir: String) -> JsonReporter {
        let (since, is_in_batch, has_started) = (Duration::ZERO, false, false);
        JsonReporter {
            handle,
            json_output,
            out_dir,
            since,
            is_in_batch,
            has_started,
            verified: Vec::new(),
            files: None,
            last: None,
        }
    }

    /// For one torrent of several, started at `since`: each line contains the torrent's name.
    #[must_use]
    pub fn for_batch(self, since: Duration) -> JsonReporter {
        JsonReporter { since, is_in_batch: true, ..self }
    }

    /// Writes an event of this torrent.
    fn write(&self, at: Duration, event: &str, fields: Value) {
        self.json_output.write(at, event, self.with_torrent_fields(fields));
    }

    /// Adds the info-hash and, for one torrent of several, its name.
    fn with_torrent_fields(&self, mut fields: Value) -> Value {
        fields["info_hash"] = self.handle.info_hash().hex().into();
        if self.is_in_batch {
            fields["name"] = self.handle.name().into();
        }
        fields
    }

    fn begin(&mut self) {
        if !std::mem::replace(&mut self.has_started, true) {
            let total = Some(self.handle.snapshot().total).filter(|&total| total > 0);
            let fields = json!({
                "name": self.handle.name(),
                "total": total,
                "folder": self.out_dir,
            });
            self.write(self.since, "started", fields);
        }
    }

    /// Writes events for new pieces and files, and the progress if it changed.
    fn write_changes(&mut self, at: Duration) {
        self.write_pieces(at);
        let now = self.handle.snapshot();
        if self.last.as_ref() != Some(&now) {
            self.write(at, "progress", progress(&now));
            self.last = Some(now);
        }
    }

    fn write_pieces(&mut self, at: Duration) {
        let mut states = Vec::new();
        self.handle.pieces(&mut states);
        if self.verified.is_empty() {
            self.verified = self.handle.pieces_found(); // the `checked` event has covered them
        }
        for (index, state) in states.iter().enumerate() {
            let new = *state == PieceState::Verified && !self.verified.get(index).is_none_or(|told| *told);
            if new {
                self.verified[index] = true;
                self.write(at, "piece", json!({ "index": index }));
            }
        }
        self.write_files(at);
    }

    fn write_files(&mut self, at: Duration) {
        if self.verified.is_empty() {
            return;
        }
        let files = self.files.get_or_insert_with(|| self.handle.files());
        let verified = &self.verified;
        let whole = |file: &FileView| {
            verified.get(file.pieces.start as usize..file.pieces.end as usize).is_some_and(|p| p.iter().all(|v| *v))
        };
        let done: Vec<FileView> = files.extract_if(.., |file| whole(file)).collect();
        for file in done {
            let mut done = json!({ "path": file.path, "length": file.length });
            if let Some(stored_as) = file.stored_as.filter(|_| !self.handle.has_final_names()) {
                done["stored_as"] = stored_as.into();
            }
            self.write(at, "file_done", done);
        }
    }
}

/// A stage's name in a `progress` event.
fn stage(stage: Stage) -> Cow<'static, str> {
    Cow::Borrowed(match stage {
        Stage::Starting => "starting",
        Stage::Metadata => "metadata",
        Stage::Checking => "checking",
        Stage::Downloading => "downloading",
        Stage::Seeding => "seeding",
        Stage::Stopping => "stopping",
        other => return Cow::Owned(stage_name(other)),
    })
}

/// The fields of a `progress` event.
fn progress(now: &Snapshot) -> Value {
    json!({
        "stage": stage(now.stage),
        "total": now.total,
        "have": now.have,
        "checked": now.checked.0,
        "downloaded": now.downloaded,
        "uploaded": now.uploaded,
        "total_uploaded": now.total_uploaded,
        "wasted": now.wasted,
        "peers": now.connected_peers,
        "active": now.active_peers,
        "known": now.known_peers,
        "web_seeds": now.web_seeds,
    })
}

impl Reporter for JsonReporter {
    fn period(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn event(&mut self, at: Duration, event: &Event) {
        self.begin();
        match event {
            Event::EventsDropped { count } => return self.json_output.count_dropped(*count),
            Event::Completed => self.write_changes(at),
            _ => {}
        }
        let Some((name, fields)) = event.to_json() else { return };
        let mut fields: Value = serde_json::from_str(&fields).unwrap_or_default();
        // The command names its options where they help.
        match event {
            Event::AnnounceFailed { error, .. } => fields["error"] = tracker_error(error).into(),
            Event::TorrentNotSaved { .. } => fields["text"] = saved_text(event).as_deref().map(without_numbers).into(),
            _ => {}
        }
        self.write(at, name, fields);
    }

    fn refresh(&mut self, at: Duration) {
        self.begin();
        self.write_changes(at);
    }

    fn finishes_last(&self) -> bool {
        true
    }

    fn finish(&mut self, at: Duration, final_status: FinalStatus) {
        self.begin();
        if final_status == FinalStatus::Failed {
            self.write_changes(at);
        } else {
            // The `done` event contains the last values.
            self.write_pieces(at);
            let now = self.handle.snapshot();
            let whole = final_status == FinalStatus::Complete;
            let fields = json!({
                "complete": whole,
                "have": now.have,
                "downloaded": now.downloaded,
                "uploaded": now.uploaded,
                "total_uploaded": now.total_uploaded,
                "seconds": at.saturating_sub(self.since).as_secs_f64(),
            });
            self.json_output.write_always(at, "done", self.with_torrent_fields(fields));
        }
    }
}
