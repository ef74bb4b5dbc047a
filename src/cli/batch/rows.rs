//! The layout of a batch's live view: one row per torrent, active ones first, then a line of totals and one about the keys.
//! Pure; [`crate::cli::batch::live_view`] supplies snapshots and draws.

use console::measure_text_width;

use crate::cli::batch::queue::{JobCounts, JobId};
use crate::cli::report::piece_map::{Cell, Style};
use crate::cli::report::status::{
    Rates, StatusItem, metadata_pieces, part_of_total, percent, rate, seeding, stage_name,
};
use crate::cli::report::tui::layout::limits;
use crate::cli::report::tui::text::{fit_items, pad_left, pad_right, shorten_middle};
use crate::util::cold_sort;
use btsync::{Limits, SeedGoal, Snapshot, Stage};

/// The maximum width of the name column.
const NAME_WIDTH: usize = crate::cli::batch::MAX_NAME_WIDTH;
/// Values are left out, one by one, until the name column is this wide.
const MIN_NAME_WIDTH: usize = 16;
/// The order in which columns of values are left out if space is short: peers, up, down, eta.
const DROP_ORDER: [usize; 4] = [4, 2, 1, 3];
/// The width of a torrent's bar. If fewer columns than `MIN_BAR_WIDTH` are left, there is no bar.
pub(crate) const BAR_WIDTH: usize = 24;
const MIN_BAR_WIDTH: usize = 8;
/// With fewer rows, there is no line about the keys.
const ROWS_FOR_KEYS: usize = 6;

/// A torrent's row before layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TorrentRow {
    pub job: JobId,
    /// The sort key; active torrents have the lowest.
    rank: u8,
    name: String,
    /// The state, then down, up, eta and peers. Empty where there is nothing to show.
    values: [String; 5],
    /// [`BAR_WIDTH`] cells; empty while the pieces are unknown.
    pub bar: Vec<Cell>,
}

impl TorrentRow {
    /// The row of a job without a torrent yet: it waits or loads its torrent file.
    pub fn placeholder(job: JobId, name: String, is_started: bool) -> TorrentRow {
        let [down, up, eta, peers] = <[String; 4]>::default();
        let (rank, what) = if is_started { (1, "loading") } else { (5, WAITING) };
        TorrentRow { job, rank, name, values: [what.to_owned(), down, up, eta, peers], bar: Vec::new() }
    }

    /// The row of a torrent that runs or is paused, with its seed goal.
    pub fn of(job: JobId, name: String, now: &Snapshot, rates: &Rates, (paused, goal): (bool, SeedGoal)) -> TorrentRow {
        let (down, up) = (format!("down {}", rate(rates.down())), format!("up {}", rate(rates.up())));
        let peers = format!("peers {}/{}", now.active_peers, now.connected_peers);
        let none = String::new;
        let is_moving = |rate: f64| rate >= 0.5;
        let (rank, values) = match now.stage {
            Stage::Starting => (1, ["starting".to_owned(), none(), none(), none(), none()]),
            Stage::Metadata => {
                (1, [format!("metadata {}", metadata_pieces(now.metadata)), none(), none(), none(), peers])
            }
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
            other => (1, [stage_name(other), none(), none(), none(), peers]),
        };
        TorrentRow { job, rank, name, values, bar: Vec::new() }
    }
}

/// The state shown for a job that has not started.
const WAITING: &str = "waiting";

/// The parts of the view besides the rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct BatchFrame {
    /// The line of totals.
    pub totals: String,
    /// The lines about the keys; empty without a keyboard.
    pub keys: Vec<String>,
    /// The torrent to which keys apply.
    pub selected: Option<JobId>,
}

/// Sorts the rows as they are shown.
pub(crate) fn sort(rows: &mut [TorrentRow]) {
    cold_sort::sort_by_key(rows, |row| (row.rank, row.job));
}

/// Lays out sorted rows, at most `width` columns wide, in at most `height` - 1 lines: a full terminal would scroll.
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

/// The width of each column.
struct RowColumns {
    name: usize,
    bar: usize,
    values: [usize; 5],
}

impl RowColumns {
    fn of(rows: &[TorrentRow], width: usize) -> RowColumns {
        let mut values = [0; 5];
        for row in rows {
            for (width, value) in values.iter_mut().zip(&row.values) {
                *width = (*width).max(measure_text_width(value));
            }
        }
        let longest = rows.iter().map(|row| measure_text_width(&row.name)).max().unwrap_or_default().min(NAME_WIDTH);
        // Two spaces before each value.
        let taken =
            |widths: &[usize; 5]| widths.iter().filter(|width| **width > 0).map(|width| width + 2).sum::<usize>();
        let has_bars = rows.iter().any(|row| !row.bar.is_empty());
        let shortest_bar = if has_bars { MIN_BAR_WIDTH + 2 } else { 0 };
        // The bar is more useful than the first two columns in `DROP_ORDER`.
        for (nth, column) in DROP_ORDER.into_iter().enumerate() {
            let wanted = longest.min(MIN_NAME_WIDTH) + if nth < 2 { shortest_bar } else { 0 };
            if width.saturating_sub(taken(&values)) < wanted {
                values[column] = 0;
            }
        }
        let left = width.saturating_sub(taken(&values));
        let has_room = left >= longest.min(MIN_NAME_WIDTH) + shortest_bar;
        let name = (if has_room { left - shortest_bar } else { left }).min(longest).max(1);
        let bar = left.saturating_sub(name + 2).min(BAR_WIDTH);
        RowColumns { name, bar: if bar < MIN_BAR_WIDTH || !has_bars { 0 } else { bar }, values }
    }

    fn line(&self, row: &TorrentRow, is_selected: bool, style: Style) -> String {
        let name = pad_right(&shorten_middle(&row.name, self.name), self.name);
        let mut line = if is_selected { style.bold(&name) } else { name };
        if self.bar > 0 {
            line.push_str("  ");
            // A narrower bar samples the cells at equal distances; without known pieces it is blank.
            let cell = |at: usize| row.bar.get(at * row.bar.len() / self.bar).copied().unwrap_or(Cell::Unwanted);
            line.push_str(&style.paint(&(0..self.bar).map(cell).collect::<Vec<_>>()));
        }
        let values = row.values.iter().zip(self.values).enumerate();
        for (column, (value, width)) in values.filter(|(_, (_, width))| *width > 0) {
            line.push_str("  ");
            // Right-align percentages, so that their decimal points line up.
            line.push_str(&if column == 0 { pad_left(value, width) } else { pad_right(value, width) });
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// The totals of all torrents.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Totals {
    pub counts: JobCounts,
    /// Bytes per second.
    pub down: f64,
    pub up: f64,
    /// Verified and wanted bytes of the torrents that are downloading.
    pub have: u64,
    pub total: u64,
    /// The time left for those.
    pub eta: String,
    /// The limits of all torrents together.
    pub limits: Limits,
}

/// The line of totals. If space is short, the least important items are left out.
pub(crate) fn totals(totals: &Totals, width: usize) -> String {
    let JobCounts { waiting, downloading, seeding, complete, failed } = totals.counts;
    let all = waiting + downloading + seeding + complete + failed;
    let mut items: Vec<StatusItem> = vec![(0, format!("{} of {all} complete", complete + seeding))];
    if totals.total > 0 {
        items.push((5, percent(totals.have, totals.total)));
        items.push((7, part_of_total(totals.have, totals.total)));
    }
    items.push((3, format!("down {}", rate(totals.down))));
    items.push((6, format!("up {}", rate(totals.up))));
    if totals.total > 0 {
        // The estimate does not include waiting torrents.
        let more = if waiting > 0 { "eta over" } else { "eta" };
        items.push((2, format!("{more} {}", totals.eta)));
    }
    items.extend(limits(totals.limits).map(|limits| (4, limits)));
    for (rank, count, what) in [(4, waiting, WAITING), (1, failed, "failed")] {
        if count > 0 {
            items.push((rank, format!("{count} {what}")));
        }
    }
    fit_items(&items, width)
}

#[cfg(test)]
mod tests;
