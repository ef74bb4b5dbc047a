//! The layout of the live view: turns the state of a torrent into lines for a terminal of any size. Pure.
//!
//! From top to bottom: the name, the status, the rates of the last minute, the piece map, the search for peers, a table of
//! peers or files, the stall reason or the help, and the keys. If rows are short, the least important parts are left out
//! first.

use crate::cli::report::piece_map::{Cell, Style, cells, progress_cells};
use crate::cli::report::status::{
    Rates, StatusItem, count, hashing, metadata_pieces, part_of_total, peers_and_web_seeds, percent, rate, ratio,
    seeding, size, stage_name,
};
use crate::cli::report::tui::files;
use crate::cli::report::tui::peers::{self, LEGEND, PeerRow};
use crate::cli::report::tui::spark::Sparkline;
use crate::cli::report::tui::text::{fit_items, shorten, wrap};
use crate::cli::report::{sanitize, tracker_error};
use btsync::{
    FileView, Limits, MappingFailure, MappingState, PeerSearchStats, PieceState, PortMappingStatus, SeedGoal,
};
use btsync::{Snapshot, Stage, TrackerState};

/// The maximum number of rows, unless two thirds of the terminal are more.
const MAX_ROWS: usize = 24;
/// The maximum number of seconds in the sparkline.
const MAX_SPEED_SECONDS: usize = 120;
/// Below this width the download rate has no label.
const NARROW_WIDTH: usize = 24;
/// The maximum number of rows for wrapped text.
const MAX_TEXT_ROWS: usize = 5;

/// The data to show.
pub struct PanelContent<'a> {
    /// The torrent's name without control characters.
    pub name: &'a str,
    /// The current state.
    pub now: &'a Snapshot,
    /// The rates and estimates.
    pub rates: &'a Rates,
    /// The state of each piece; empty until the check is over.
    pub pieces: &'a [PieceState],
    /// The rate in each of the last seconds.
    pub spark: &'a Sparkline,
    /// The peers, the most active first.
    pub peers: &'a [PeerRow],
    /// The files, if they are shown instead of the peers.
    pub files: Option<&'a [FileView]>,
    /// The results of the search for peers.
    pub search: &'a PeerSearchStats,
    /// The limits in force.
    pub limits: Limits,
    /// When seeding ends.
    pub goal: SeedGoal,
    /// Whether the torrent is paused.
    pub is_paused: bool,
    /// Why the download is slow or stalled.
    pub stall_reason: Option<&'a str>,
    /// Whether to show the help on keys and flags.
    pub shows_help: bool,
    /// Whether there is a keyboard.
    pub has_keyboard: bool,
    /// Unicode and colour.
    pub style: Style,
}

/// Lays out the view in at most `height` lines of at most `width` columns.
pub fn lines(content: &PanelContent<'_>, width: usize, height: usize) -> Vec<String> {
    let most = height.min(MAX_ROWS.max(height * 2 / 3));
    let mut room = most;
    // In order of importance: each part takes rows from what is left.
    let mut take = |lines: Vec<String>| -> Vec<String> {
        let lines: Vec<_> = if lines.len() <= room { lines } else { Vec::new() };
        room -= lines.len();
        lines
    };
    let status = take(vec![fit_items(&stage_items(content, width), width)]);
    let map = take(piece_map(content, width, 1));
    let text = take(text_lines(content, width, most));
    let name = take(vec![title(content, width)]);
    // Leave the line out if not even its first item fits.
    let search_items = Some(fit_items(&search_items(content), width)).filter(|line| !line.is_empty());
    let search_items = take(search_items.into_iter().collect());
    let sparkline = take(sparkline(content, width));
    let keys = take(keys(content, width));
    let more_map = room.min(most / 8);
    let map = if map.is_empty() { map } else { piece_map(content, width, 1 + more_map) };
    room -= map.len().saturating_sub(1);
    let table = table(content, width, room);
    [name, status, sparkline, map, search_items, table, text, keys].concat()
}

/// The three lines that remain on the terminal at the end.
pub fn final_lines(content: &PanelContent<'_>, is_complete: bool, width: usize) -> Vec<String> {
    let items = if is_complete { content.rates.summary(content.now) } else { stopped("stopped", content.now) };
    let map = match (is_complete, content.pieces) {
        (true, []) => vec![content.style.paint(&vec![Cell::Verified; width])],
        _ => piece_map(content, width, 1),
    };
    [vec![shorten(content.name, width), fit_items(&items, width)], map].concat()
}

fn title(content: &PanelContent<'_>, width: usize) -> String {
    if content.is_paused && width > 20 {
        return format!("{} {}", content.style.yellow("[paused]"), shorten(content.name, width - 9));
    }
    content.style.bold(&shorten(content.name, width))
}

/// The items for the current stage, with their ranks.
fn stage_items(content: &PanelContent<'_>, width: usize) -> Vec<StatusItem> {
    let (now, rates) = (content.now, content.rates);
    // If there is space for only one more item, the rate needs no label.
    let label = if width < NARROW_WIDTH { "" } else { "down " };
    let down = (2, format!("{label}{}", rate(rates.down())));
    let up = (3, format!("up {}", rate(rates.up())));
    let peers = (4, peers_and_web_seeds(now));
    match now.stage {
        Stage::Starting => vec![(0, "starting".to_owned()), (1, size(now.total))],
        Stage::Metadata => {
            vec![
                (0, format!("metadata {}", metadata_pieces(now.metadata))),
                (1, format!("known {}", now.known_peers)),
                peers,
            ]
        }
        Stage::Checking => hashing("checking", now.checked, rates.check(), &rates.check_eta()),
        Stage::Downloading => {
            let got = (5, part_of_total(now.have, now.total));
            let eta = if content.is_paused { "paused".to_owned() } else { format!("eta {}", rates.eta()) };
            vec![(0, percent(now.have, now.total)), got, down, up, (1, eta), peers]
        }
        Stage::Seeding => {
            let sent = (5, format!("sent {}", size(now.total_uploaded)));
            let what = if content.is_paused { "paused" } else { "seeding" };
            let [ratio, seeded] = seeding(now, rates, content.goal);
            vec![(0, what.to_owned()), (7, size(now.total)), up, sent, (1, ratio), (2, seeded), peers]
        }
        Stage::Stopping => stopped("stopping", now),
        other => stopped(&stage_name(other), now),
    }
}

/// How far a stopped download has come. The size of a magnet link's torrent is unknown until the metadata arrives.
fn stopped(what: &str, now: &Snapshot) -> Vec<StatusItem> {
    let mut items = vec![(0, what.to_owned())];
    if now.total > 0 {
        items.extend([(1, percent(now.have, now.total)), (2, part_of_total(now.have, now.total))]);
    }
    items
}

/// The piece map in as many rows as it can use, up to `most`.
fn piece_map(content: &PanelContent<'_>, width: usize, most: usize) -> Vec<String> {
    if content.pieces.is_empty() {
        return vec![content.style.paint(&progress_cells(content.now.checked, width))];
    }
    let rows = content.pieces.len().div_ceil(width.max(1)).clamp(1, most.max(1));
    cells(content.pieces, width * rows).chunks(width.max(1)).map(|row| content.style.paint(row)).collect()
}

/// The sparkline of the download rate, or of the upload rate while seeding.
fn sparkline(content: &PanelContent<'_>, width: usize) -> Vec<String> {
    let room = width.saturating_sub(28).min(MAX_SPEED_SECONDS);
    if room < 10 || content.spark.is_empty() {
        return Vec::new();
    }
    let bars = content.spark.paint(room, content.style.unicode());
    let label = if content.now.stage == Stage::Seeding { "up" } else { "down" };
    vec![format!("{label:<4} {bars} {}", content.style.dim(&format!("peak {}", rate(content.spark.peak(room)))))]
}

/// Items about the search for peers, wasted bytes and limits.
fn search_items(content: &PanelContent<'_>) -> Vec<StatusItem> {
    let (search, now) = (content.search, content.now);
    let mut items = Vec::new();
    let unseen = content.pieces.iter().filter(|piece| **piece == PieceState::Unavailable).count();
    if unseen > 0 {
        let words = if unseen == 1 {
            "1 piece that no peer has".to_owned()
        } else {
            format!("{unseen} pieces that no peer has")
        };
        items.push((0, content.style.yellow(&words)));
    }
    if let Some(limits) = limits(content.limits) {
        items.push((1, content.style.yellow(&limits)));
    }
    if now.stage == Stage::Downloading && now.total_uploaded > 0 {
        items.push((1, format!("sent {}, {}", size(now.total_uploaded), ratio(now))));
    }
    items.extend(trackers(search).map(|words| (2, words)));
    items.extend(search.dht_nodes.map(|nodes| (3, format!("DHT {}", count(nodes, "node")))));
    items.push((4, format!("known {}", now.known_peers)));
    items.extend(search.proxy_failure.as_ref().map(|reason| (1, format!("proxy: {reason}"))));
    if let Some(list) = search.block_list.filter(|list| list.hits > 0) {
        items.push((3, format!("blocked {}", list.hits)));
    }
    items.extend(search.port_mapping.as_ref().and_then(port_mapping).map(|words| (3, words)));
    if now.wasted > 0 {
        items.push((3, format!("wasted {}", size(now.wasted))));
    }
    items
}

/// Whether the router forwards our port, once it was asked.
fn port_mapping(status: &PortMappingStatus) -> Option<String> {
    match &status.ipv4 {
        MappingState::Mapped { protocol, tcp_port: Some(port), .. } => {
            Some(format!("port {port} forwarded ({protocol})"))
        }
        MappingState::Failed(MappingFailure::Silent | MappingFailure::Refused { .. }) => {
            Some("port not forwarded".to_owned())
        }
        _ => None,
    }
}

/// A short summary of the trackers' answers.
fn trackers(search: &PeerSearchStats) -> Option<String> {
    let peers = |state: &TrackerState| match state {
        TrackerState::Answered { peers } => Some(*peers),
        _ => None,
    };
    match search.trackers.as_slice() {
        [] => None,
        [(_, TrackerState::Answered { peers })] => Some(format!("tracker {}", count(*peers, "peer"))),
        [(_, TrackerState::Failed { error })] => {
            Some(format!("tracker: {}", shorten(&sanitize(&tracker_error(error)), 40)))
        }
        all => {
            let answers: Vec<_> = all.iter().filter_map(|(_, state)| peers(state)).collect();
            let most = answers.iter().max().copied().unwrap_or_default();
            Some(format!("trackers {}/{}, {}", answers.len(), all.len(), count(most, "peer")))
        }
    }
}

/// The limits as text; `None` if there are none.
pub fn limits(limits: Limits) -> Option<String> {
    match (limits.down, limits.up) {
        (0, 0) => None,
        (down, 0) => Some(format!("limit down {}", rate(down as f64))),
        (0, up) => Some(format!("limit up {}", rate(up as f64))),
        (down, up) if down == up => Some(format!("limit {} each way", rate(up as f64))),
        (down, up) => Some(format!("limit down {}, up {}", rate(down as f64), rate(up as f64))),
    }
}

/// The table of peers or files in the remaining `room`; a heading alone is left out.
fn table(content: &PanelContent<'_>, width: usize, room: usize) -> Vec<String> {
    if room < 2 {
        return Vec::new();
    }
    match content.files {
        Some(files) => files::lines(files, content.pieces, width, room - 1, content.style),
        None => peers::lines(content.peers.get(..room - 1).unwrap_or(content.peers), width, content.style),
    }
}

/// The help and the stall reason.
fn text_lines(content: &PanelContent<'_>, width: usize, height: usize) -> Vec<String> {
    // The status and the map take the first two lines.
    let most = MAX_TEXT_ROWS.min(height.saturating_sub(2)).min((height / 3).max(1));
    let mut lines = Vec::new();
    if let Some(stall_reason) = content.stall_reason {
        lines.extend(wrap(stall_reason, width, most).iter().map(|line| content.style.yellow(line)));
    }
    if content.shows_help {
        let words = format!(
            "p: pause or continue; l: next limit; f: files or peers; s: why so slow; q: quit (Ctrl-C). {LEGEND}"
        );
        lines.extend(wrap(&words, width, most.saturating_sub(lines.len())));
    }
    lines
}

fn keys(content: &PanelContent<'_>, width: usize) -> Vec<String> {
    if !content.has_keyboard || width < 20 || content.now.stage == Stage::Stopping {
        return Vec::new();
    }
    let word = |rank, text: &str| (rank, text.to_owned());
    let pause = if content.is_paused { "p continue" } else { "p pause" };
    let files = if content.files.is_some() { "f peers" } else { "f files" };
    let all =
        [word(1, pause), word(3, "l limits"), word(2, files), word(4, "s why"), word(0, "? help"), word(1, "q quit")];
    vec![content.style.dim(&fit_items(&all, width))]
}

#[cfg(test)]
mod tests;
