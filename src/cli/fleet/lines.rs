//! The voice for a terminal where there are several: a line for each torrent, those that move first, and a line of sums below;
//! what happens scrolls by above. [`layout`] is pure; the board's thread feeds it with snapshots and draws.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use console::measure_text_width;
use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use super::queue::{Counts, Job};
use super::{Fleet, LONGEST_NAME};
use crate::cli::figures::{Rates, percent, pieces, rate, size, words};
use crate::cli::screen::Screen;
use crate::cli::stop::Never;
use crate::cli::view::text::{fit, fit_left, pad, squeeze};
use crate::cli::voice::{Ending, Voice, Words, clean};
use crate::session::{Event, Handle, Snapshot, Stage};

/// How often the lines are redrawn.
const PERIOD: Duration = Duration::from_millis(250);
/// Figures go, one after the other, until a name has so many columns.
const ROOM_FOR_NAME: usize = 16;
/// Which of a row's figures goes first when there is no room: peers, up, eta, down.
const DISPENSABLE: [usize; 4] = [4, 2, 3, 1];

/// One torrent's line before it is laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// Those that move come first: the lower, the sooner.
    rank: u8,
    name: String,
    /// Where it stands; down, up, eta, peers. Empty where that says nothing.
    figures: [String; 5],
}

impl Row {
    /// One whose session has not begun.
    fn preparing(name: String) -> Row {
        let [down, up, eta, peers] = <[String; 4]>::default();
        Row { rank: 1, name, figures: ["fetching".to_owned(), down, up, eta, peers] }
    }

    fn of(name: String, now: &Snapshot, rates: &Rates) -> Row {
        let (down, up) = (format!("down {}", rate(rates.down())), format!("up {}", rate(rates.up())));
        let peers = format!("peers {}/{}", now.active, now.connected);
        let none = String::new;
        let moves = |rate: f64| rate >= 0.5;
        let (rank, figures) = match now.stage {
            Stage::Starting => (1, ["starting".to_owned(), none(), none(), none(), none()]),
            Stage::Metadata => (1, [format!("metadata {}", pieces(now.metadata)), none(), none(), none(), peers]),
            Stage::Checking => {
                let what = format!("checking {}", percent(now.checked.0, now.checked.1));
                (1, [what, none(), none(), none(), none()])
            }
            Stage::Downloading => {
                let eta = format!("eta {}", rates.eta());
                let rank = u8::from(!moves(rates.down()));
                (rank, [percent(now.have, now.total), down, up, eta, peers])
            }
            Stage::Seeding => (3 - u8::from(moves(rates.up())), ["seeding".to_owned(), none(), up, none(), peers]),
            Stage::Stopping => (4, ["stopping".to_owned(), none(), none(), none(), none()]),
        };
        Row { rank, name, figures }
    }
}

/// The lines of so many columns, at most `height` less one: a terminal that is full scrolls.
pub(super) fn layout(mut rows: Vec<Row>, sums: String, width: usize, height: usize) -> Vec<String> {
    rows.sort_by_key(|row| row.rank);
    let room = height.saturating_sub(2);
    let hidden = if rows.len() > room { rows.len() - room.saturating_sub(1).min(rows.len()) } else { 0 };
    rows.truncate(rows.len() - hidden);
    let mut widths = [0; 5];
    for row in &rows {
        for (width, figure) in widths.iter_mut().zip(&row.figures) {
            *width = (*width).max(measure_text_width(figure));
        }
    }
    let longest = rows.iter().map(|row| measure_text_width(&row.name)).max().unwrap_or_default().min(LONGEST_NAME);
    // Two columns between any two of them.
    let taken = |widths: &[usize; 5]| widths.iter().filter(|width| **width > 0).map(|width| width + 2).sum::<usize>();
    for column in DISPENSABLE {
        if width.saturating_sub(taken(&widths)) < longest.min(ROOM_FOR_NAME) {
            widths[column] = 0;
        }
    }
    let name_width = width.saturating_sub(taken(&widths)).min(longest).max(1);
    let mut lines: Vec<String> = rows.iter().map(|row| line(row, name_width, &widths)).collect();
    if hidden > 0 && room > 0 {
        lines.push(format!("+ {hidden} more"));
    }
    lines.push(sums);
    lines
}

fn line(row: &Row, name_width: usize, widths: &[usize; 5]) -> String {
    let mut line = fit_left(&squeeze(&row.name, name_width), name_width);
    for (column, (figure, &width)) in row.figures.iter().zip(widths).enumerate().filter(|(_, (_, width))| **width > 0) {
        line.push_str("  ");
        // A share of the whole reads best with its points one below the other.
        line.push_str(&if column == 0 { pad(figure, width) } else { fit_left(figure, width) });
    }
    line.truncate(line.trim_end().len());
    line
}

/// The line below all others, and the last one of all; what matters least goes where there is no room.
pub(super) fn sums(counts: Counts, down: f64, up: f64, width: usize) -> String {
    let Counts { waiting, downloading, seeding, whole, failed } = counts;
    let all = waiting + downloading + seeding + whole + failed;
    let mut figures = vec![
        (0, format!("{} of {all} whole", whole + seeding)),
        (2, format!("down {}", rate(down))),
        (4, format!("up {}", rate(up))),
    ];
    for (rank, count, what) in [(3, waiting, "waiting"), (1, failed, "failed")] {
        if count > 0 {
            figures.push((rank, format!("{count} {what}")));
        }
    }
    fit(&figures, width)
}

/// Draws the lines until it is dropped.
pub(super) struct Board {
    alive: Option<Sender<Never>>,
    thread: Option<JoinHandle<()>>,
}

impl Board {
    /// For the torrents of this fleet.
    ///
    /// # Errors
    /// What the system says where it has no thread to spare.
    pub fn start(fleet: Arc<Fleet>) -> io::Result<Board> {
        let (alive, ended) = bounded(0);
        fleet.outputs.screen.watch_stops();
        let draw = move || {
            let mut meters = BTreeMap::new();
            while ended.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
                draw(&fleet, &mut meters);
            }
            fleet.outputs.screen.draw(Vec::new());
        };
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

fn draw(fleet: &Fleet, meters: &mut BTreeMap<Job, Rates>) {
    let at = fleet.outputs.start.elapsed();
    let handles = fleet.ground.handles();
    meters.retain(|job, _| handles.iter().any(|(there, _)| there == job));
    let (mut down, mut up) = (0.0, 0.0);
    let mut rows = BTreeMap::new();
    for (job, handle) in &handles {
        let (now, rates) = (handle.snapshot(), meters.entry(*job).or_default());
        rates.update(at, &now);
        down += rates.down();
        up += rates.up();
        rows.insert(*job, Row::of(clean(handle.name()), &now, rates));
    }
    for (job, name) in fleet.begun.lock().iter() {
        rows.entry(*job).or_insert_with(|| Row::preparing(name.clone()));
    }
    if !fleet.outputs.screen.is_ours() {
        return; // a shell or an editor has the terminal now
    }
    let (height, width) = fleet.outputs.screen.size();
    let sums = sums(fleet.queue.lock().counts(), down, up, width);
    fleet.outputs.screen.draw(layout(rows.into_values().collect(), sums, width, height));
}

/// Tells what happens to one torrent, each line with its name; how it stands is seen on the board.
pub(super) struct Teller {
    handle: Handle,
    screen: Screen,
    rates: Rates,
    words: Words,
}

impl Teller {
    /// For the session behind `handle`.
    pub fn new(handle: Handle, screen: Screen) -> Teller {
        Teller { handle, screen, rates: Rates::default(), words: Words::default() }
    }

    fn say(&self, text: &str) {
        let name = clean(self.handle.name());
        self.screen.say(&format!("{}: {text}", squeeze(&name, LONGEST_NAME)));
    }
}

impl Voice for Teller {
    fn period(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn event(&mut self, at: Duration, event: &Event) {
        if let Some(words) = self.words.of(event) {
            self.say(&words);
        }
        match event {
            Event::Listening { .. } => self.rates.begin(at),
            Event::Completed => {
                let now = self.handle.snapshot();
                self.rates.update(at, &now);
                self.say(&format!("complete, {}", words(&self.rates.summary(&now))));
            }
            _ => {}
        }
    }

    fn beat(&mut self, at: Duration) {
        self.rates.update(at, &self.handle.snapshot());
    }

    fn finish(&mut self, _: Duration, _: Ending) {
        let now = self.handle.snapshot();
        if now.uploaded > 0 {
            self.say(&format!("sent {}", size(now.uploaded)));
        }
    }
}

#[cfg(test)]
#[path = "lines_tests.rs"]
mod tests;
