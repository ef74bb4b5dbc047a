//! The voice for a terminal: three lines redrawn in place (name; figures; the map of pieces over the whole width), events above.

use std::time::Duration;

use super::figures::{Figure, Rates, part, percent, pieces, rate, ratio, size};
use super::map::{Cell, Look, cells};
use super::screen::Screen;
use super::voice::{Ending, Voice, Words, clean};
use crate::session::Handle;
use crate::session::{Event, PieceState, Snapshot, Stage};

/// Shows one session on a terminal.
pub struct View {
    handle: Handle,
    screen: Screen,
    look: Look,
    name: String,
    rates: Rates,
    words: Words,
    pieces: Vec<PieceState>,
}

impl View {
    /// A view of the session behind `handle`.
    pub fn new(handle: Handle, screen: Screen) -> View {
        let name = clean(handle.name());
        let (rates, words) = (Rates::default(), Words::default());
        View { handle, screen, look: Look::from_env(), name, rates, words, pieces: Vec::new() }
    }

    fn draw(&mut self, at: Duration, ending: Option<Ending>) {
        let now = self.handle.snapshot();
        self.rates.update(at, &now);
        self.handle.pieces(&mut self.pieces);
        let width = self.screen.width();
        let figures = match ending {
            Some(Ending::Whole) => fit(&self.rates.summary(&now), width),
            _ => fit(&figures(&now, &self.rates), width),
        };
        let map = match (ending, now.checked) {
            // Before the check is over nobody knows the pieces; how far it is can be shown.
            (None | Some(Ending::Stopped | Ending::Failed), (done, all)) if self.pieces.is_empty() => {
                let looked_at = (u128::from(done) * width as u128 / u128::from(all.max(1))) as usize;
                (0..width).map(|cell| if cell < looked_at { Cell::UnderWay } else { Cell::Missing }).collect()
            }
            (Some(Ending::Whole), _) if self.pieces.is_empty() => vec![Cell::Verified; width],
            _ => cells(&self.pieces, width),
        };
        let map = self.look.paint(&map);
        self.screen.draw(vec![shorten(&self.name, width), figures, map]);
    }
}

impl Voice for View {
    fn period(&self) -> Duration {
        Duration::from_millis(250)
    }

    fn event(&mut self, at: Duration, event: &Event) {
        // The view itself shows the check.
        let words = if matches!(event, Event::CheckStarted { .. }) { None } else { self.words.of(event) };
        if let Some(words) = words {
            self.screen.say(&words);
        }
        match event {
            // Peers can call from now on: what takes less than a period has a speed too.
            Event::Listening { .. } => self.rates.begin(at),
            Event::Metadata { .. } => self.name = clean(self.handle.name()),
            Event::Completed => self.draw(at, None),
            _ => {}
        }
    }

    fn beat(&mut self, at: Duration) {
        self.draw(at, None);
    }

    fn finish(&mut self, at: Duration, ending: Ending) {
        self.draw(at, Some(ending));
        self.screen.keep();
    }
}

fn figures(now: &Snapshot, rates: &Rates) -> Vec<Figure> {
    let down = (1, format!("down {}", rate(rates.down())));
    let up = (3, format!("up {}", rate(rates.up())));
    let peers = (4, format!("peers {}/{}", now.active, now.connected));
    match now.stage {
        Stage::Starting => vec![(0, "starting".to_owned()), (1, size(now.total))],
        Stage::Metadata => {
            vec![(0, format!("metadata {}", pieces(now.metadata))), (1, format!("known {}", now.known)), peers]
        }
        Stage::Checking => {
            let (done, all) = now.checked;
            let what = (0, format!("checking {}", percent(done, all)));
            vec![what, (1, part(done, all)), (2, rate(rates.check()))]
        }
        Stage::Downloading => {
            let (got, eta) = ((5, part(now.have, now.total)), (2, format!("eta {}", rates.eta(now))));
            vec![(0, percent(now.have, now.total)), got, down, up, eta, peers]
        }
        Stage::Seeding => {
            let sent = (2, format!("sent {}", size(now.uploaded)));
            vec![(0, "seeding".to_owned()), (6, size(now.total)), up, sent, (5, ratio(now)), peers]
        }
        Stage::Stopping => vec![(0, "stopping".to_owned()), (1, percent(now.have, now.total))],
    }
}

/// As many of the figures as there is room for, in their order.
fn fit(figures: &[Figure], width: usize) -> String {
    let line = |limit: u8| {
        let kept: Vec<&str> =
            figures.iter().filter(|(rank, _)| *rank <= limit).map(|(_, text)| text.as_str()).collect();
        kept.join("  ")
    };
    let most = figures.iter().map(|(rank, _)| *rank).max().unwrap_or_default();
    (0..=most).rev().map(line).find(|line| line.len() <= width).unwrap_or_else(|| line(0))
}

/// A name cut to the width, with a mark where it was.
fn shorten(name: &str, width: usize) -> String {
    console::truncate_str(name, width, if width > 3 { "..." } else { "" }).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrow_terminal_loses_the_least_figures_first() {
        let all: Vec<Figure> =
            [(0, "45.2%"), (5, "1/2 MiB"), (1, "down 9 B/s")].map(|(rank, text)| (rank, text.to_owned())).to_vec();
        assert_eq!(fit(&all, 80), "45.2%  1/2 MiB  down 9 B/s");
        assert_eq!(fit(&all, 26), "45.2%  1/2 MiB  down 9 B/s");
        assert_eq!(fit(&all, 25), "45.2%  down 9 B/s");
        assert_eq!(fit(&all, 16), "45.2%");
        assert_eq!(fit(&all, 1), "45.2%");
        assert_eq!(fit(&[], 1), "");
    }

    #[test]
    fn long_names_are_marked_where_they_were_cut() {
        assert_eq!(shorten("debian.iso", 10), "debian.iso");
        assert_eq!(shorten("debian.iso", 9), "debian...");
        assert_eq!(shorten("漢字漢字", 7), "漢字...");
        assert_eq!(shorten("debian.iso", 2), "de");
    }

    #[test]
    fn every_stage_has_its_figures() {
        let mut now = Snapshot {
            stage: Stage::Checking,
            total: 2000,
            metadata: (0, 0),
            have: 500,
            checked: (50, 200),
            downloaded: 0,
            uploaded: 1000,
            wasted: 0,
            connected: 2,
            active: 1,
            known: 2,
        };
        let mut text = |stage| {
            now.stage = stage;
            fit(&figures(&now, &Rates::default()), 200)
        };
        assert_eq!(text(Stage::Checking), "checking 25.0%  50/200 B  0 B/s");
        assert_eq!(text(Stage::Downloading), "25.0%  500/2000 B  down 0 B/s  up 0 B/s  eta -  peers 1/2");
        assert_eq!(text(Stage::Seeding), "seeding  2.0 KiB  up 0 B/s  sent 1000 B  ratio 0.50  peers 1/2");
        assert_eq!(text(Stage::Stopping), "stopping  25.0%");
    }
}
