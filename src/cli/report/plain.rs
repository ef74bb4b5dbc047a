//! The reporter for logs, pipes and dumb terminals: a line every five seconds, and one for each notable event.

use std::time::Duration;

use crate::cli::report::stall::StallDetector;
use crate::cli::report::status::{
    Rates, join, metadata_pieces, part_of_total, peers_and_web_seeds, percent, rate, ratio, seeding, size, stage_name,
};
use crate::cli::report::tui::text::shorten_middle;
use crate::cli::report::{EventText, FinalStatus, Reporter, sanitize};
use crate::cli::terminal::screen::Screen;
use btsync::TorrentHandle;
use btsync::{Event, SeedGoal, Snapshot, Stage};

/// A line equal to the last one is printed again only after this long.
const REPEAT_INTERVAL: Duration = Duration::from_secs(60);

/// Reports one torrent in plain lines.
pub struct PlainReporter {
    handle: TorrentHandle,
    screen: Screen,
    name: String,
    longest: usize,
    rates: Rates,
    words: EventText,
    stall_detector: StallDetector,
    last: Option<(Duration, String)>,
    /// Bytes uploaded in this run, as last reported.
    reported_upload: u64,
}

impl PlainReporter {
    /// A reporter for the torrent of `handle`.
    pub fn new(handle: TorrentHandle, screen: Screen) -> PlainReporter {
        let name = sanitize(handle.name());
        PlainReporter {
            handle,
            screen,
            name,
            longest: usize::MAX,
            rates: Rates::default(),
            words: EventText::verbose(),
            stall_detector: StallDetector::default(),
            last: None,
            reported_upload: 0,
        }
    }

    /// For one torrent of several: truncates the name at the start of lines to `longest` columns.
    #[must_use]
    pub fn for_batch(mut self, longest: usize) -> PlainReporter {
        self.longest = longest;
        self.rename();
        self
    }

    fn rename(&mut self) {
        self.name = shorten_middle(&sanitize(self.handle.name()), self.longest);
    }

    fn update_rates(&mut self, at: Duration) -> Snapshot {
        let now = self.handle.snapshot();
        self.rates.update(at, &now);
        now
    }
}

impl Reporter for PlainReporter {
    fn period(&self) -> Duration {
        Duration::from_secs(5)
    }

    fn event(&mut self, at: Duration, event: &Event) {
        if let Some(words) = self.words.line(event) {
            self.screen.print(&format!("{}: {words}", self.name));
        }
        match event {
            // Peers can connect from now on. Starting the clock here gives a download shorter than one period a rate too.
            Event::Listening { .. } => self.rates.start_clock(at),
            Event::Metadata { .. } => self.rename(),
            Event::Completed => {
                let now = self.update_rates(at);
                self.screen.print(&format!("{}: complete, {}", self.name, join(&self.rates.summary(&now))));
                self.reported_upload = now.uploaded;
            }
            _ => {}
        }
    }

    fn refresh(&mut self, at: Duration) {
        let now = self.update_rates(at);
        if let Some(why) = self.stall_detector.line(at, &now, &self.handle) {
            self.screen.print(&format!("{}: {why}", self.name));
        }
        let line = line(&self.name, &now, &self.rates, self.handle.seed_goal());
        let stale =
            self.last.as_ref().is_some_and(|(then, last)| *last == line && at.saturating_sub(*then) < REPEAT_INTERVAL);
        if !stale {
            self.screen.print(&line);
            self.last = Some((at, line));
        }
    }

    fn finish(&mut self, at: Duration, _: FinalStatus) {
        let now = self.update_rates(at);
        // Uploads up to completion were reported with it.
        if now.uploaded > self.reported_upload {
            self.screen.print(&format!("{}: sent {}, {}", self.name, size(now.total_uploaded), ratio(&now)));
        }
        // How far an unfinished download has come is reported with the reason why it ended.
    }
}

/// One line about the torrent's progress.
fn line(name: &str, now: &Snapshot, rates: &Rates, goal: SeedGoal) -> String {
    let (down, up) = (rate(rates.down()), rate(rates.up()));
    let peers = peers_and_web_seeds(now);
    match now.stage {
        Stage::Starting => format!("{name} starting"),
        Stage::Metadata => format!("{name} metadata {} {peers}", metadata_pieces(now.metadata)),
        Stage::Checking => {
            let (done, all) = now.checked;
            let (percent, part, speed) = (percent(done, all), part_of_total(done, all), rate(rates.check()));
            format!("{name} checking {percent} {part} at {speed} eta {}", rates.check_eta())
        }
        Stage::Downloading => {
            let (percent, part) = (percent(now.have, now.total), part_of_total(now.have, now.total));
            let ratio = if now.total_uploaded > 0 { format!(" {}", ratio(now)) } else { String::new() };
            format!("{name} {percent} {part} down {down} up {up}{ratio} eta {} {peers}", rates.eta())
        }
        Stage::Seeding => {
            let [ratio, _] = seeding(now, rates, goal);
            format!("{name} seeding up {up} sent {} {ratio} {peers}", size(now.total_uploaded))
        }
        Stage::Stopping => format!("{name} stopping"),
        other => format!("{name} {}", stage_name(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_where_the_download_stands() {
        let mut now = Snapshot {
            stage: Stage::Downloading,
            total: 1 << 30,
            checked: (1 << 29, 1 << 30),
            connected_peers: 7,
            active_peers: 4,
            known_peers: 20,
            ..Snapshot::default()
        };
        let mut rates = Rates::default();
        rates.update(Duration::ZERO, &now);
        (now.have, now.downloaded) = (100 << 20, 100 << 20);
        rates.update(Duration::from_secs(1), &now);
        let line = |now: &Snapshot, rates: &Rates| line("x.iso", now, rates, SeedGoal::default());
        let text = line(&now, &rates);
        assert_eq!(text, "x.iso 9.7% 0.0/1.0 GiB down 100.0 MiB/s up 0 B/s eta 10s peers 4/7");
        now.stage = Stage::Checking;
        assert_eq!(line(&now, &rates), "x.iso checking 50.0% 0.5/1.0 GiB at 0 B/s eta -");
        now.stage = Stage::Seeding;
        assert_eq!(line(&now, &rates), "x.iso seeding up 0 B/s sent 0 B ratio 0.00 peers 4/7");
    }
}
