//! The terminal of several torrents: a thread that draws a line for each, or all of one that a person asked to see, and hears the keys.
//! What happens scrolls by above.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, never, select, tick};
use signal_hook::consts::SIGINT;

use crate::cli::batch::queue::Job;
use crate::cli::batch::rows::{BAR, BoardFrame, Sums, TorrentRow, layout, sort};
use crate::cli::batch::{Fleet, Word};
use crate::cli::report::clean;
use crate::cli::report::figures::{Forecast, Rates};
use crate::cli::report::piece_map::{Cell, Look, cells};
use crate::cli::report::tui::panel::{Panel, next_limits, toggle_pause};
use crate::cli::report::tui::text::wrap;
use crate::cli::stop::Never;
use crate::cli::terminal::keys::{DOWN, ENTER, Keys, UP};
use crate::torrent::{Handle, Limits, PieceState, Snapshot, Stage};

/// How often the lines are redrawn.
const PERIOD: Duration = Duration::from_millis(250);
/// Rows for the words about the keys.
const KEY_ROWS: usize = 2;
/// What the keys do.
const KEYS: &str = "up/down: select; enter: details; p: pause; P: pause all; l: limits; q: quit";

/// Draws the lines until it is dropped.
pub(crate) struct Board {
    alive: Option<Sender<Never>>,
    thread: Option<JoinHandle<()>>,
}

impl Board {
    /// For the torrents of this fleet, which `keys` steer where there is a keyboard.
    ///
    /// # Errors
    /// What the system says where it has no thread to spare.
    pub fn start(fleet: Arc<Fleet>, keys: Option<Keys>) -> io::Result<Board> {
        let (alive, ended) = bounded(0);
        fleet.outputs.screen.watch_stops();
        let draw = move || Drawing::new(fleet, keys).run(&ended);
        let thread = thread::Builder::new().name("board".to_owned()).spawn(draw)?;
        Ok(Board { alive: Some(alive), thread: Some(thread) })
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.alive = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The thread's state.
struct Drawing {
    fleet: Arc<Fleet>,
    keys: Option<Keys>,
    /// The limits of the command line.
    given: Limits,
    look: Look,
    rates: BTreeMap<Job, Rates>,
    forecast: Forecast,
    /// The order in which the torrents were shown last.
    order: Vec<Job>,
    selected: Option<Job>,
    /// The one of which all is shown.
    panel: Option<(Job, Panel)>,
    pieces: Vec<PieceState>,
}

impl Drawing {
    fn new(fleet: Arc<Fleet>, keys: Option<Keys>) -> Drawing {
        Drawing {
            given: fleet.ground.config().limits,
            fleet,
            keys,
            look: Look::from_env(),
            rates: BTreeMap::new(),
            forecast: Forecast::default(),
            order: Vec::new(),
            selected: None,
            panel: None,
            pieces: Vec::new(),
        }
    }

    fn run(mut self, ended: &Receiver<Never>) {
        let beat = tick(PERIOD);
        let mut pressed = self.keys.as_ref().map_or_else(never, Keys::pressed);
        loop {
            select! {
                recv(ended) -> _ => break,
                recv(pressed) -> key => match key {
                    Ok(key) => self.key(key),
                    // A closed channel is always ready: the loop would spin.
                    Err(_) => pressed = never(),
                },
                recv(beat) -> _ => self.keys.iter().for_each(Keys::look),
            }
            self.draw();
        }
        self.fleet.outputs.screen.draw(Vec::new());
    }

    fn key(&mut self, key: char) {
        let handles = self.fleet.ground.handles();
        let of = |job: Option<Job>| handles.iter().find(|(there, _)| Some(*there) == job).map(|(_, handle)| handle);
        match key {
            // Whatever Ctrl-C does; should that fail, all are asked to stop all the same.
            'q' if signal_hook::low_level::raise(SIGINT).is_err() => drop(self.fleet.words.send(Word::Stop)),
            'q' => {}
            ENTER if self.panel.take().is_some() => {}
            ENTER => {
                let rates = self.selected.and_then(|job| self.rates.get(&job)).cloned().unwrap_or_default();
                let panel = of(self.selected).map(|handle| Panel::going_on(handle.clone(), self.given, rates));
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
                // Limits are those of all torrents together.
                (None, Some(handle)) if key == 'l' => {
                    self.fleet.ground.set_limits(next_limits(self.given, handle.limits()));
                }
                _ => {}
            },
        }
    }

    /// Selects the torrent in the next row, or in the one before.
    fn select(&mut self, down: bool) {
        let at = self.order.iter().position(|job| Some(*job) == self.selected);
        let next = match at {
            None => 0,
            Some(at) if down => (at + 1).min(self.order.len().saturating_sub(1)),
            Some(at) => at.saturating_sub(1),
        };
        self.selected = self.order.get(next).copied();
    }

    fn draw(&mut self) {
        let at = self.fleet.outputs.start.elapsed();
        let handles = self.fleet.ground.handles();
        if self.panel.as_ref().is_some_and(|(job, _)| !handles.iter().any(|(there, _)| there == job)) {
            self.panel = None; // it has ended
        }
        // A shell or an editor may have the terminal now.
        let is_ours = self.fleet.outputs.screen.is_ours();
        let (rows, sums) = self.observe(at, &handles, is_ours && self.panel.is_none());
        self.order = rows.iter().map(|row| row.job).collect();
        if self.keys.is_some() && !self.selected.is_some_and(|job| self.order.contains(&job)) {
            self.selected = self.order.first().copied();
        }
        if !is_ours {
            return;
        }
        let screen = &self.fleet.outputs.screen;
        let (height, width) = screen.size();
        let sums = crate::cli::batch::rows::sums(&sums, width);
        let lines = if let Some((_, panel)) = &mut self.panel {
            panel.rename();
            let room = height.saturating_sub(3);
            let mut lines = panel.lines(at, None, true, (room, width));
            lines.extend([self.look.dim("enter: all torrents"), sums]);
            lines
        } else {
            let keys = if self.keys.is_some() { wrap(KEYS, width, KEY_ROWS) } else { Vec::new() };
            let frame = BoardFrame { sums, keys, selected: self.selected };
            layout(&rows, frame, self.look, width, height)
        };
        screen.draw(lines);
    }

    /// Looks at all torrents: a row for each, in the order in which they are shown, and the sums. The state of all pieces is asked for
    /// only `with_bars`.
    fn observe(&mut self, at: Duration, handles: &[(Job, Handle)], with_bars: bool) -> (Vec<TorrentRow>, Sums) {
        self.rates.retain(|job, _| handles.iter().any(|(there, _)| there == job));
        let mut sums = Sums { counts: self.fleet.queue.lock().counts(), ..Sums::default() };
        let mut rows = BTreeMap::new();
        for (job, handle) in handles {
            let now = handle.snapshot();
            let rates = self.rates.entry(*job).or_default();
            rates.update(at, &now);
            sums.down += rates.down();
            sums.up += rates.up();
            sums.limits = handle.limits();
            if now.stage == Stage::Downloading {
                sums.have += now.have;
                sums.total += now.total;
            }
            let mut row =
                TorrentRow::of(*job, clean(handle.name()), &now, rates, (handle.is_paused(), handle.seed_goal()));
            if with_bars {
                row.bar = bar(&now, handle, &mut self.pieces);
            }
            rows.insert(*job, row);
        }
        self.forecast.update(at, sums.total - sums.have, sums.down);
        sums.eta = self.forecast.eta(at);
        for (job, (name, begun)) in self.fleet.names.lock().iter() {
            rows.entry(*job).or_insert_with(|| TorrentRow::without_session(*job, name.clone(), *begun));
        }
        let mut rows: Vec<TorrentRow> = rows.into_values().collect();
        sort(&mut rows);
        (rows, sums)
    }
}

/// The map of a torrent in a few cells.
fn bar(now: &Snapshot, handle: &Handle, pieces: &mut Vec<PieceState>) -> Vec<Cell> {
    match now.stage {
        Stage::Downloading => {
            handle.pieces(pieces);
            cells(pieces, BAR)
        }
        Stage::Checking => crate::cli::report::piece_map::looked_at(now.checked, BAR),
        Stage::Seeding => vec![Cell::Verified; BAR],
        Stage::Starting | Stage::Metadata | Stage::Stopping => Vec::new(),
    }
}
