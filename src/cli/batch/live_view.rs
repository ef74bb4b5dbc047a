//! The live view of a batch: a thread draws one row per torrent, or the panel of a single torrent, and handles keys. Event
//! lines scroll above it.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, never, select, tick};
use signal_hook::consts::SIGINT;

use crate::cli::batch::queue::JobId;
use crate::cli::batch::rows::{BAR_WIDTH, BatchFrame, TorrentRow, Totals, layout, sort};
use crate::cli::batch::{Batch, BatchEvent, JobName};
use crate::cli::report::piece_map::{Cell, Style, cells};
use crate::cli::report::sanitize;
use crate::cli::report::status::{EtaEstimate, Rates};
use crate::cli::report::tui::panel::{Panel, next_limits, toggle_pause};
use crate::cli::report::tui::text::wrap;
use crate::cli::stop::NoMessages;
use crate::cli::terminal::keys::{DOWN, ENTER, KeyInput, UP};
use btsync::{Limits, PieceState, Snapshot, Stage, TorrentHandle};

/// The interval between redraws.
const PERIOD: Duration = Duration::from_millis(250);
/// The maximum number of lines about the keys.
const KEY_ROWS: usize = 2;
/// The help on keys.
const KEY_HELP: &str = "up/down: select; enter: details; p: pause; P: pause all; l: limits; q: quit";

/// Draws the live view until dropped.
pub(crate) struct BatchView {
    stop_sender: Option<Sender<NoMessages>>,
    thread: Option<JoinHandle<()>>,
}

impl BatchView {
    /// Starts the live view of `batch`, controlled by `keys` if there is a keyboard.
    ///
    /// # Errors
    /// The system error if the thread cannot be started.
    pub fn start(batch: Arc<Batch>, keys: Option<KeyInput>) -> io::Result<BatchView> {
        let (stop_sender, ended) = bounded(0);
        batch.outputs.screen.watch_sigcont();
        let draw = move || BatchViewState::new(batch, keys).run(&ended);
        let thread = thread::Builder::new().name("live-view".to_owned()).spawn(draw)?;
        Ok(BatchView { stop_sender: Some(stop_sender), thread: Some(thread) })
    }
}

impl Drop for BatchView {
    fn drop(&mut self) {
        self.stop_sender = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The state of the thread.
struct BatchViewState {
    batch: Arc<Batch>,
    keys: Option<KeyInput>,
    /// The limits of the command line.
    cli_limits: Limits,
    style: Style,
    rates: BTreeMap<JobId, Rates>,
    eta_estimate: EtaEstimate,
    /// The order of the torrents in the last frame.
    order: Vec<JobId>,
    selected: Option<JobId>,
    /// The torrent whose panel is shown.
    panel: Option<(JobId, Panel)>,
    pieces: Vec<PieceState>,
}

impl BatchViewState {
    fn new(batch: Arc<Batch>, keys: Option<KeyInput>) -> BatchViewState {
        BatchViewState {
            cli_limits: batch.client.settings().limits,
            batch,
            keys,
            style: Style::from_env(),
            rates: BTreeMap::new(),
            eta_estimate: EtaEstimate::default(),
            order: Vec::new(),
            selected: None,
            panel: None,
            pieces: Vec::new(),
        }
    }

    fn run(mut self, ended: &Receiver<NoMessages>) {
        let ticker = tick(PERIOD);
        let mut pressed = self.keys.as_ref().map_or_else(never, KeyInput::pressed);
        loop {
            select! {
                recv(ended) -> _ => break,
                recv(pressed) -> key => match key {
                    Ok(key) => self.key(key),
                    // A closed channel is always ready: the loop would spin.
                    Err(_) => pressed = never(),
                },
                recv(ticker) -> _ => self.keys.iter().for_each(KeyInput::check_foreground),
            }
            self.draw();
        }
        self.batch.outputs.screen.draw(Vec::new());
    }

    fn key(&mut self, key: char) {
        let handles = self.batch.client.handles();
        let of = |job: Option<JobId>| handles.iter().find(|(there, _)| Some(*there) == job).map(|(_, handle)| handle);
        match key {
            // The same as Ctrl-C. If raising the signal fails, stop the batch directly.
            'q' if signal_hook::low_level::raise(SIGINT).is_err() => {
                drop(self.batch.event_sender.send(BatchEvent::Stop));
            }
            'q' => {}
            ENTER if self.panel.take().is_some() => {}
            ENTER => {
                let rates = self.selected.and_then(|job| self.rates.get(&job)).cloned().unwrap_or_default();
                let panel = of(self.selected).map(|handle| Panel::with_rates(handle.clone(), self.cli_limits, rates));
                self.panel = self.selected.zip(panel);
            }
            'P' => {
                let paused = handles.iter().all(|(_, handle)| handle.is_paused());
                for (_, handle) in &handles {
                    if paused { handle.resume() } else { handle.pause() }
                }
            }
            UP | 'k' | DOWN | 'j' if self.panel.is_none() => self.select(matches!(key, DOWN | 'j')),
            _ => match (&mut self.panel, of(self.selected)) {
                (Some((_, panel)), _) => panel.key(key),
                (None, Some(handle)) if matches!(key, 'p' | ' ') => toggle_pause(handle),
                // The limits apply to all torrents together.
                (None, Some(handle)) if key == 'l' => {
                    self.batch.client.set_limits(next_limits(self.cli_limits, handle.limits()));
                }
                _ => {}
            },
        }
    }

    /// Selects the torrent in the next or the previous row.
    fn select(&mut self, is_down: bool) {
        let at = self.order.iter().position(|job| Some(*job) == self.selected);
        let next = match at {
            None => 0,
            Some(at) if is_down => (at + 1).min(self.order.len().saturating_sub(1)),
            Some(at) => at.saturating_sub(1),
        };
        self.selected = self.order.get(next).copied();
    }

    fn draw(&mut self) {
        let at = self.batch.outputs.start.elapsed();
        let handles = self.batch.client.handles();
        if self.panel.as_ref().is_some_and(|(job, _)| !handles.iter().any(|(there, _)| there == job)) {
            self.panel = None; // it has ended
        }
        // In the background, a shell or an editor has the terminal.
        let is_foreground = self.batch.outputs.screen.is_foreground();
        let (rows, totals) = self.observe(at, &handles, is_foreground && self.panel.is_none());
        self.order = rows.iter().map(|row| row.job).collect();
        if self.keys.is_some() && !self.selected.is_some_and(|job| self.order.contains(&job)) {
            self.selected = self.order.first().copied();
        }
        if !is_foreground {
            return;
        }
        let screen = &self.batch.outputs.screen;
        let (height, width) = screen.size();
        let totals = crate::cli::batch::rows::totals(&totals, width);
        let lines = if let Some((_, panel)) = &mut self.panel {
            panel.rename();
            let room = height.saturating_sub(3);
            let mut lines = panel.lines(at, None, true, (room, width));
            lines.extend([self.style.dim("enter: all torrents"), totals]);
            lines
        } else {
            let keys = if self.keys.is_some() { wrap(KEY_HELP, width, KEY_ROWS) } else { Vec::new() };
            let frame = BatchFrame { totals, keys, selected: self.selected };
            layout(&rows, frame, self.style, width, height)
        };
        screen.draw(lines);
    }

    /// Queries all torrents. Returns their rows in display order, and the totals. Queries the pieces, which is expensive,
    /// only if `wants_bars` is set.
    fn observe(
        &mut self,
        at: Duration,
        handles: &[(JobId, TorrentHandle)],
        wants_bars: bool,
    ) -> (Vec<TorrentRow>, Totals) {
        self.rates.retain(|job, _| handles.iter().any(|(there, _)| there == job));
        let mut totals = Totals { counts: self.batch.queue.lock().counts(), ..Totals::default() };
        let mut rows = BTreeMap::new();
        for (job, handle) in handles {
            let now = handle.snapshot();
            let rates = self.rates.entry(*job).or_default();
            rates.update(at, &now);
            totals.down += rates.down();
            totals.up += rates.up();
            totals.limits = handle.limits();
            if now.stage == Stage::Downloading {
                totals.have += now.have;
                totals.total += now.total;
            }
            let mut row =
                TorrentRow::of(*job, sanitize(handle.name()), &now, rates, (handle.is_paused(), handle.seed_goal()));
            if wants_bars {
                row.bar = bar(&now, handle, &mut self.pieces);
            }
            rows.insert(*job, row);
        }
        self.eta_estimate.update(at, totals.total - totals.have, totals.down);
        totals.eta = self.eta_estimate.eta(at);
        for (job, JobName { name, has_started }) in self.batch.names.lock().iter() {
            rows.entry(*job).or_insert_with(|| TorrentRow::placeholder(*job, name.clone(), *has_started));
        }
        let mut rows: Vec<TorrentRow> = rows.into_values().collect();
        sort(&mut rows);
        (rows, totals)
    }
}

/// A torrent's piece map in a few cells.
fn bar(now: &Snapshot, handle: &TorrentHandle, pieces: &mut Vec<PieceState>) -> Vec<Cell> {
    match now.stage {
        Stage::Downloading => {
            handle.pieces(pieces);
            cells(pieces, BAR_WIDTH)
        }
        Stage::Checking => crate::cli::report::piece_map::progress_cells(now.checked, BAR_WIDTH),
        Stage::Seeding => vec![Cell::Verified; BAR_WIDTH],
        _ => Vec::new(),
    }
}
