//! The panel of one torrent: queries the torrent, keeps rates and the user's choices, and lays out lines with
//! [`layout`](crate::cli::report::tui::layout). Its owner draws the lines and passes keys.

use std::time::Duration;

use crate::cli::report::piece_map::Style;
use crate::cli::report::stall::{StallDetector, stall_reason};
use crate::cli::report::status::{Rates, count};
use crate::cli::report::tui::layout::{self, PanelContent, final_lines, lines};
use crate::cli::report::tui::peers::{PeerRow, PeerTable};
use crate::cli::report::tui::spark::Sparkline;
use crate::cli::report::{FinalStatus, sanitize};
use btsync::{FileView, Limits, PieceState, Snapshot, Stage, TorrentHandle};

/// The maximum number of peers in the table.
const MAX_PEERS_SHOWN: usize = 40;
/// The limits, in bytes per second, that the key `l` steps through besides those of the command line.
const LIMIT_STEPS: [u64; 3] = [5 << 20, 1 << 20, 200 << 10];

/// The live view of one torrent.
pub struct Panel {
    handle: TorrentHandle,
    /// The limits of the command line.
    cli_limits: Limits,
    style: Style,
    name: String,
    rates: Rates,
    stall_detector: StallDetector,
    /// The sparklines of the download and the upload rate.
    sparks: [Sparkline; 2],
    table: PeerTable,
    /// The files; empty until the user asks for them.
    files: Vec<FileView>,
    show: PanelToggles,
    pieces: Vec<PieceState>,
}

/// The parts that the user has turned on.
#[derive(Default)]
struct PanelToggles {
    shows_files: bool,
    shows_stall_reason: bool,
    shows_help: bool,
}

impl Panel {
    /// A panel for the torrent of `handle`. `cli_limits` are the limits of the command line.
    pub fn new(handle: TorrentHandle, cli_limits: Limits) -> Panel {
        Panel::with_rates(handle, cli_limits, Rates::default())
    }

    /// The same for a torrent whose rates have been measured before.
    pub fn with_rates(handle: TorrentHandle, cli_limits: Limits, rates: Rates) -> Panel {
        Panel {
            name: sanitize(handle.name()),
            cli_limits,
            handle,
            style: Style::from_env(),
            rates,
            stall_detector: StallDetector::default(),
            sparks: Default::default(),
            table: PeerTable::default(),
            files: Vec::new(),
            show: PanelToggles::default(),
            pieces: Vec::new(),
        }
    }

    /// Peers can connect from now on. Starting the clock here gives a download shorter than one period a rate too.
    pub fn start_clock(&mut self, at: Duration) {
        self.rates.start_clock(at);
    }

    /// The torrent's name has become known.
    pub fn rename(&mut self) {
        self.name = sanitize(self.handle.name());
    }

    /// Queries the torrent: its state, its peers and, if shown, the reason why it is slow.
    fn observe(&mut self, at: Duration) -> (Snapshot, Vec<PeerRow>, Option<String>) {
        let now = self.handle.snapshot();
        self.rates.update(at, &now);
        if matches!(now.stage, Stage::Downloading | Stage::Seeding) {
            self.sparks[0].update(at, now.downloaded);
            self.sparks[1].update(at, now.uploaded);
        }
        self.handle.pieces(&mut self.pieces);
        if self.show.shows_files && self.files.is_empty() {
            self.files = self.handle.files();
        }
        let stalled = self.stall_detector.stalled(at, &now).is_some();
        let peers = self.handle.peers();
        let stall_reason = (self.show.shows_stall_reason || stalled).then(|| {
            let held = local_reason(&now, self.handle.is_paused(), self.handle.limits(), &self.rates);
            match held {
                Some(words) => words,
                None => stall_reason(&self.handle.peer_search(), &now, &peers),
            }
        });
        (now, self.table.update(at, peers, MAX_PEERS_SHOWN), stall_reason)
    }

    /// The lines at the time `at`, at most `rows` of them; with `final_status`, those that remain at the end. `has_keyboard` says
    /// whether there is a keyboard.
    pub fn lines(
        &mut self,
        at: Duration,
        final_status: Option<FinalStatus>,
        has_keyboard: bool,
        (rows, width): (usize, usize),
    ) -> Vec<String> {
        let (now, peers, stall_reason) = self.observe(at);
        let search = self.handle.peer_search();
        let content = PanelContent {
            name: &self.name,
            now: &now,
            rates: &self.rates,
            pieces: &self.pieces,
            spark: &self.sparks[usize::from(now.stage == Stage::Seeding)],
            peers: &peers,
            files: self.show.shows_files.then_some(self.files.as_slice()),
            search: &search,
            limits: self.handle.limits(),
            goal: self.handle.seed_goal(),
            is_paused: self.handle.is_paused(),
            stall_reason: stall_reason.as_deref(),
            shows_help: self.show.shows_help,
            has_keyboard,
            style: self.style,
        };
        match final_status {
            None => lines(&content, width, rows),
            Some(final_status) => final_lines(&content, final_status == FinalStatus::Complete, width),
        }
    }

    /// Handles a key for this torrent or its view.
    pub fn key(&mut self, key: char) {
        match key {
            'p' | ' ' => toggle_pause(&self.handle),
            'l' => self.handle.set_limits(next_limits(self.cli_limits, self.handle.limits())),
            'f' => self.show.shows_files = !self.show.shows_files,
            's' => self.show.shows_stall_reason = !self.show.shows_stall_reason,
            '?' | 'h' => self.show.shows_help = !self.show.shows_help,
            _ => {}
        }
    }
}

/// Pauses or resumes the torrent.
pub fn toggle_pause(handle: &TorrentHandle) {
    if handle.is_paused() { handle.resume() } else { handle.pause() }
}

/// The reason for a low rate if it is on our side, or that the rate is fine; `None` if it is up to peers.
fn local_reason(now: &Snapshot, is_paused: bool, limits: Limits, rates: &Rates) -> Option<String> {
    if is_paused {
        return Some("paused: btsync requests and uploads nothing until you press p".to_owned());
    }
    match now.stage {
        Stage::Starting | Stage::Checking => Some("btsync checks the data on disk first".to_owned()),
        Stage::Seeding => {
            let verb = if now.active_peers == 1 { "downloads" } else { "download" };
            Some(format!("complete; {} of {} {verb} from btsync", now.active_peers, count(now.connected_peers, "peer")))
        }
        Stage::Stopping => Some("stopping: btsync announces this to the trackers and closes connections".to_owned()),
        // A limit is the reason if the rate is close to it.
        _ if limits.down > 0 && rates.down() > limits.down as f64 * 0.8 => layout::limits(limits),
        _ => None,
    }
}

/// The limits that follow `current` when the user presses `l`: those of `cli_limits`, then lower ones, then none, then
/// higher ones.
pub fn next_limits(cli_limits: Limits, current: Limits) -> Limits {
    let below = |step: u64, limit: u64| limit == 0 || step < limit;
    let steps = LIMIT_STEPS.map(|step| Limits { down: step, up: step }).into_iter().filter(|step| *step != cli_limits);
    let (mut lower, higher): (Vec<_>, Vec<_>) =
        steps.partition(|step| below(step.down, cli_limits.down) && below(step.up, cli_limits.up));
    if lower.is_empty() {
        let half = |limit: u64| if limit == 0 { 0 } else { (limit / 2).max(1) };
        lower.push(Limits { down: half(cli_limits.down), up: half(cli_limits.up) });
    }
    let mut all = [vec![cli_limits], lower, vec![Limits::default()], higher].concat();
    all.dedup();
    if cli_limits == Limits::default() {
        all.pop(); // without limits on the command line, `cli_limits` is this entry already
    }
    let at = all.iter().position(|limits| *limits == current).map_or(0, |at| at + 1);
    all.get(at).copied().unwrap_or(cli_limits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_leads_through_all_limits_and_back() {
        for cli_limits in [Limits::default(), Limits { down: 300, up: 0 }, Limits { down: 1 << 20, up: 1 << 20 }] {
            let mut seen = vec![cli_limits];
            let mut current = next_limits(cli_limits, cli_limits);
            while current != cli_limits {
                assert!(!seen.contains(&current), "{current:?} twice");
                seen.push(current);
                current = next_limits(cli_limits, current);
            }
            assert!(seen.contains(&Limits::default()) && seen.len() >= LIMIT_STEPS.len());
        }
    }

    #[test]
    fn the_first_press_lowers_the_limit() {
        let each_way = |limit| Limits { down: limit, up: limit };
        let pairs = [
            (Limits::default(), each_way(5 << 20)),
            (each_way(3 << 20), each_way(1 << 20)),
            (each_way(200 << 10), each_way(100 << 10)),
            (Limits { down: 1 << 20, up: 0 }, each_way(200 << 10)),
            (Limits { down: 300, up: 0 }, Limits { down: 150, up: 0 }),
            (Limits { down: 0, up: 2 << 20 }, each_way(1 << 20)),
            (each_way(1), Limits::default()),
        ];
        for (cli_limits, first) in pairs {
            assert_eq!(next_limits(cli_limits, cli_limits), first, "{cli_limits:?}");
        }
    }

    #[test]
    fn other_limits_lead_back_to_those_of_the_command_line() {
        // Limits that another process set by a signal lead back too.
        let cli_limits = Limits { down: 5, up: 6 };
        assert_eq!(next_limits(cli_limits, Limits { down: 7, up: 8 }), cli_limits);
    }
}
