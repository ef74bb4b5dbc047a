//! Several torrents on a terminal: a line for each, those that move first, a line of sums below, and one that says what the keys do.
//! Pure; [`crate::cli::batch::screen`] feeds it with snapshots and draws.

use console::measure_text_width;

use crate::cli::batch::queue::{JobCounts, JobId};
use crate::cli::report::figures::{Figure, Rates, part, percent, pieces, rate, seeding};
use crate::cli::report::piece_map::{Cell, Style};
use crate::cli::report::tui::layout::limits;
use crate::cli::report::tui::text::{fit_figures, pad_left, pad_right, shorten_middle};
use btsync::{Limits, SeedGoal, Snapshot, Stage};

/// Names take no more columns than this.
const NAME_WIDTH: usize = crate::cli::batch::MAX_NAME_WIDTH;
/// Figures go, one after the other, until a name has so many columns.
const MIN_NAME_WIDTH: usize = 16;
/// Which of a row's figures goes first when there is no room: peers, up, down, eta.
const DROP_ORDER: [usize; 4] = [4, 2, 1, 3];
/// Columns of a torrent's bar, where so many are left; with fewer than the second number there is none.
pub(crate) const BAR_WIDTH: usize = 24;
const MIN_BAR_WIDTH: usize = 8;
/// With fewer rows there is no line about keys.
const ROWS_FOR_KEYS: usize = 6;

/// One torrent's line before it is laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TorrentRow {
    pub job: JobId,
    /// Those that move come first: the lower, the sooner.
    rank: u8,
    name: String,
    /// Where it stands; down, up, eta, peers. Empty where that says nothing.
    figures: [String; 5],
    /// [`BAR_WIDTH`] cells, or none where nothing is known of its pieces.
    pub bar: Vec<Cell>,
}

impl TorrentRow {
    /// One without a session: its turn has come, and it is being fetched, or it has not.
    pub fn placeholder(job: JobId, name: String, is_started: bool) -> TorrentRow {
        let [down, up, eta, peers] = <[String; 4]>::default();
        let (rank, what) = if is_started { (1, "fetching") } else { (5, WAITING) };
        TorrentRow { job, rank, name, figures: [what.to_owned(), down, up, eta, peers], bar: Vec::new() }
    }

    /// One that runs, or is paused; it seeds until its goal is reached.
    pub fn of(job: JobId, name: String, now: &Snapshot, rates: &Rates, (paused, goal): (bool, SeedGoal)) -> TorrentRow {
        let (down, up) = (format!("down {}", rate(rates.down())), format!("up {}", rate(rates.up())));
        let peers = format!("peers {}/{}", now.active, now.connected);
        let none = String::new;
        let is_moving = |rate: f64| rate >= 0.5;
        let (rank, figures) = match now.stage {
            Stage::Starting => (1, ["starting".to_owned(), none(), none(), none(), none()]),
            Stage::Metadata => (1, [format!("metadata {}", pieces(now.metadata)), none(), none(), none(), peers]),
            Stage::Checking => {
                let what = format!("checking {}", percent(now.checked.0, now.checked.1));
                (1, [what, none(), none(), format!("eta {}", rates.check_eta()), none()])
            }
            Stage::Downloading if paused => {
                (3, [format!("paused {}", percent(now.have, now.total)), none(), none(), none(), peers])
            }
            Stage::Downloading => {
                let eta = format!("eta {}", rates.eta());
                let rank = u8::from(!is_moving(rates.down()));
                (rank, [percent(now.have, now.total), down, up, eta, peers])
            }
            Stage::Seeding if paused => (3, ["paused".to_owned(), none(), none(), none(), peers]),
            Stage::Seeding => {
                let [ratio, seeded] = seeding(now, rates, goal);
                (3 - u8::from(is_moving(rates.up())), ["seeding".to_owned(), seeded, up, ratio, peers])
            }
            Stage::Stopping => (4, ["stopping".to_owned(), none(), none(), none(), none()]),
        };
        TorrentRow { job, rank, name, figures, bar: Vec::new() }
    }
}

/// What stands in the row of a torrent whose turn has not come.
const WAITING: &str = "waiting";

/// What else there is on the terminal.
#[derive(Clone, Debug, Default)]
pub(crate) struct BatchFrame {
    /// The line of sums.
    pub totals: String,
    /// Words about the keys, wrapped already; empty where none are heard.
    pub keys: Vec<String>,
    /// The torrent that keys are about.
    pub selected: Option<JobId>,
}

/// Puts the rows in the order in which they are shown.
pub(crate) fn sort(rows: &mut [TorrentRow]) {
    rows.sort_by_key(|row| row.rank);
}

/// The lines of so many columns, at most `height` less one: a terminal that is full scrolls. The rows are sorted.
pub(crate) fn layout(rows: &[TorrentRow], frame: BatchFrame, style: Style, width: usize, height: usize) -> Vec<String> {
    let keys = if height < ROWS_FOR_KEYS { Vec::new() } else { frame.keys };
    let room = height.saturating_sub(2 + keys.len());
    let shown = if rows.len() > room { room.saturating_sub(1) } else { rows.len() };
    let at = rows.iter().position(|row| Some(row.job) == frame.selected).unwrap_or_default();
    let first = (at + 1).saturating_sub(shown);
    let hidden = rows.len() - shown;
    let rows = rows.get(first..first + shown).unwrap_or_default();
    let mark = if frame.selected.is_some() { 2 } else { 0 };
    let columns = RowColumns::of(rows, width.saturating_sub(mark));
    let marked = |row: &TorrentRow| match frame.selected {
        None => columns.line(row, false, style),
        Some(job) if job == row.job => format!("> {}", columns.line(row, true, style)),
        Some(_) => format!("  {}", columns.line(row, false, style)),
    };
    let mut lines: Vec<String> = rows.iter().map(marked).collect();
    if hidden > 0 && room > 0 {
        lines.push(style.dim(&format!("+ {hidden} more")));
    }
    lines.push(frame.totals);
    lines.extend(keys.iter().map(|line| style.dim(line)));
    lines
}

/// How wide each column is.
struct RowColumns {
    name: usize,
    bar: usize,
    figures: [usize; 5],
}

impl RowColumns {
    fn of(rows: &[TorrentRow], width: usize) -> RowColumns {
        let mut figures = [0; 5];
        for row in rows {
            for (width, figure) in figures.iter_mut().zip(&row.figures) {
                *width = (*width).max(measure_text_width(figure));
            }
        }
        let longest = rows.iter().map(|row| measure_text_width(&row.name)).max().unwrap_or_default().min(NAME_WIDTH);
        // Two columns between any two of them.
        let taken =
            |widths: &[usize; 5]| widths.iter().filter(|width| **width > 0).map(|width| width + 2).sum::<usize>();
        let has_bars = rows.iter().any(|row| !row.bar.is_empty());
        let shortest_bar = if has_bars { MIN_BAR_WIDTH + 2 } else { 0 };
        // A bar says more than the first two of these.
        for (nth, column) in DROP_ORDER.into_iter().enumerate() {
            let wanted = longest.min(MIN_NAME_WIDTH) + if nth < 2 { shortest_bar } else { 0 };
            if width.saturating_sub(taken(&figures)) < wanted {
                figures[column] = 0;
            }
        }
        let left = width.saturating_sub(taken(&figures));
        let has_room = left >= longest.min(MIN_NAME_WIDTH) + shortest_bar;
        let name = (if has_room { left - shortest_bar } else { left }).min(longest).max(1);
        let bar = left.saturating_sub(name + 2).min(BAR_WIDTH);
        RowColumns { name, bar: if bar < MIN_BAR_WIDTH || !has_bars { 0 } else { bar }, figures }
    }

    fn line(&self, row: &TorrentRow, selected: bool, style: Style) -> String {
        let name = pad_right(&shorten_middle(&row.name, self.name), self.name);
        let mut line = if selected { style.bold(&name) } else { name };
        if self.bar > 0 {
            line.push_str("  ");
            // Of a longer bar, cells at equal distances; where nothing is known of the pieces, blanks.
            let cell = |at: usize| row.bar.get(at * row.bar.len() / self.bar).copied().unwrap_or(Cell::Unwanted);
            line.push_str(&style.paint(&(0..self.bar).map(cell).collect::<Vec<_>>()));
        }
        let figures = row.figures.iter().zip(self.figures).enumerate();
        for (column, (figure, width)) in figures.filter(|(_, (_, width))| *width > 0) {
            line.push_str("  ");
            // A share of the whole reads best with its points one below the other.
            line.push_str(&if column == 0 { pad_left(figure, width) } else { pad_right(figure, width) });
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// The figures of all torrents together.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Totals {
    pub counts: JobCounts,
    /// Bytes a second.
    pub down: f64,
    pub up: f64,
    /// Bytes that are there, and bytes wanted, of those that download.
    pub have: u64,
    pub total: u64,
    /// When those are complete.
    pub eta: String,
    /// Those of all torrents together.
    pub limits: Limits,
}

/// The line below all others, and the last one of all; what matters least goes where there is no room.
pub(crate) fn totals(totals: &Totals, width: usize) -> String {
    let JobCounts { waiting, downloading, seeding, whole, failed } = totals.counts;
    let all = waiting + downloading + seeding + whole + failed;
    let mut figures: Vec<Figure> = vec![(0, format!("{} of {all} whole", whole + seeding))];
    if totals.total > 0 {
        figures.push((5, percent(totals.have, totals.total)));
        figures.push((7, part(totals.have, totals.total)));
    }
    figures.push((3, format!("down {}", rate(totals.down))));
    figures.push((6, format!("up {}", rate(totals.up))));
    if totals.total > 0 {
        // Those that wait come on top of it.
        let more = if waiting > 0 { "eta over" } else { "eta" };
        figures.push((2, format!("{more} {}", totals.eta)));
    }
    figures.extend(limits(totals.limits).map(|limits| (4, limits)));
    for (rank, count, what) in [(4, waiting, WAITING), (1, failed, "failed")] {
        if count > 0 {
            figures.push((rank, format!("{count} {what}")));
        }
    }
    fit_figures(&figures, width)
}

#[cfg(test)]
mod tests;
