//! The voice for a terminal: one screen that is redrawn in place at the end of what scrolls, events above it. It hears a few keys.
//!
//! [`layout`] decides what stands where; `spark`, `peers` and `files` are its parts, `text` fits words into columns. All of
//! them are pure: this file asks the session how it stands, and has [`Screen`] draw what they make of it.

mod files;
pub mod layout;
mod peers;
mod spark;
pub(super) mod text;

use std::time::Duration;

use crossbeam_channel::Receiver;
use signal_hook::consts::SIGINT;

use super::figures::Rates;
use super::keys::Keys;
use super::map::Look;
use super::screen::Screen;
use super::voice::{Ending, Voice, Words, clean};
use super::why::{Waiting, why};
use crate::session::{Event, FileView, Handle, Limits, PieceState, Snapshot, Stage};
use layout::{Scene, last, lines};
use peers::{Row, Table};
use spark::Spark;

/// Peers that are shown at most.
const MOST_PEERS: usize = 40;
/// The limits that a key leads through beside those of the command line, in bytes a second.
const STEPS: [u64; 3] = [5 << 20, 1 << 20, 200 << 10];

/// Shows one session on a terminal.
pub struct View {
    handle: Handle,
    screen: Screen,
    keys: Option<Keys>,
    /// The limits that the session began with.
    given: Limits,
    look: Look,
    name: String,
    rates: Rates,
    words: Words,
    waiting: Waiting,
    /// The speed of receiving, and of sending.
    sparks: [Spark; 2],
    table: Table,
    /// The files, once they are asked for.
    files: Vec<FileView>,
    show: Show,
    pieces: Vec<PieceState>,
}

/// What a person asked to see.
#[derive(Default)]
struct Show {
    files: bool,
    why: bool,
    help: bool,
}

impl View {
    /// A view of the session behind `handle`, which `keys` steer where there is a keyboard.
    pub fn new(handle: Handle, screen: Screen, keys: Option<Keys>) -> View {
        screen.watch_stops();
        View {
            name: clean(handle.name()),
            given: handle.limits(),
            handle,
            screen,
            keys,
            look: Look::from_env(),
            rates: Rates::default(),
            words: Words::default(),
            waiting: Waiting::default(),
            sparks: Default::default(),
            table: Table::default(),
            files: Vec::new(),
            show: Show::default(),
            pieces: Vec::new(),
        }
    }

    /// Looks at the session; what came of it, and who is there.
    fn observe(&mut self, at: Duration) -> (Snapshot, Vec<Row>, Option<String>) {
        let now = self.handle.snapshot();
        self.rates.update(at, &now);
        if matches!(now.stage, Stage::Downloading | Stage::Seeding) {
            self.sparks[0].update(at, now.downloaded);
            self.sparks[1].update(at, now.uploaded);
        }
        self.handle.pieces(&mut self.pieces);
        if self.show.files && self.files.is_empty() {
            self.files = self.handle.files();
        }
        let stuck = self.waiting.stuck(at, &now).is_some();
        let peers = self.handle.peers();
        let why = (self.show.why || stuck).then(|| {
            let held = held_back(&now, self.handle.is_paused(), self.handle.limits(), &self.rates);
            match held {
                Some(words) => words,
                None => why(&self.handle.search(), &now, &peers),
            }
        });
        (now, self.table.update(at, peers, MOST_PEERS), why)
    }

    fn draw(&mut self, at: Duration, ending: Option<Ending>) {
        if ending.is_none() && !self.screen.is_ours() {
            return; // a shell or an editor has the terminal now
        }
        let (now, peers, why) = self.observe(at);
        let (rows, width) = self.screen.size();
        let search = self.handle.search();
        let scene = Scene {
            name: &self.name,
            now: &now,
            rates: &self.rates,
            pieces: &self.pieces,
            spark: &self.sparks[usize::from(now.stage == Stage::Seeding)],
            peers: &peers,
            files: self.show.files.then_some(self.files.as_slice()),
            search: &search,
            limits: self.handle.limits(),
            goal: self.handle.seed_goal(),
            paused: self.handle.is_paused(),
            why: why.as_deref(),
            help: self.show.help,
            keys: self.keys.is_some(),
            look: self.look,
        };
        self.screen.draw(match ending {
            None => lines(&scene, width, rows.saturating_sub(1)),
            Some(ending) => last(&scene, ending == Ending::Whole, width),
        });
    }

    /// Lets the next limits hold.
    fn next_limits(&mut self) {
        let next = next_limits(self.given, self.handle.limits());
        self.handle.set_limits(next);
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
        if let Some(keys) = &self.keys {
            keys.look();
        }
        self.draw(at, None);
    }

    fn finish(&mut self, at: Duration, ending: Ending) {
        self.draw(at, Some(ending));
        self.screen.keep();
    }

    fn keys(&self) -> Option<Receiver<char>> {
        self.keys.as_ref().map(Keys::pressed)
    }

    fn key(&mut self, at: Duration, key: char) {
        match key {
            'p' | ' ' if self.handle.is_paused() => self.handle.resume(),
            'p' | ' ' => self.handle.pause(),
            'l' => self.next_limits(),
            'f' => self.show.files = !self.show.files,
            's' => self.show.why = !self.show.why,
            '?' | 'h' => self.show.help = !self.show.help,
            // Whatever Ctrl-C does; should that fail, the session is asked to stop all the same.
            'q' if signal_hook::low_level::raise(SIGINT).is_err() => self.handle.stop(),
            _ => {}
        }
        self.draw(at, None);
    }
}

/// What we ourselves do to be slow, or that it is not slow at all; `None` where it is up to others.
fn held_back(now: &Snapshot, paused: bool, limits: Limits, rates: &Rates) -> Option<String> {
    if paused {
        return Some("paused: nothing is asked for or served until p is pressed".to_owned());
    }
    match now.stage {
        Stage::Starting | Stage::Checking => Some("what is on disk is being checked first".to_owned()),
        Stage::Seeding => Some(format!("all is there; {} of {} peers take something", now.active, now.connected)),
        Stage::Stopping => Some("saying goodbye to trackers and peers".to_owned()),
        // A limit is the reason where it is nearly reached.
        _ if limits.down > 0 && rates.down() > limits.down as f64 * 0.8 => layout::limits(limits),
        _ => None,
    }
}

/// The limits that come after `current`, where `given` are those of the command line: lower ones first, then none, then the others.
fn next_limits(given: Limits, current: Limits) -> Limits {
    let within = |step: u64, limit: u64| limit == 0 || step <= limit;
    let steps = STEPS.map(|step| Limits { down: step, up: step }).into_iter().filter(|step| *step != given);
    let (mut lower, higher): (Vec<_>, Vec<_>) =
        steps.partition(|step| within(step.down, given.down) && within(step.up, given.up));
    if lower.is_empty() {
        let half = |limit: u64| if limit == 0 { 0 } else { (limit / 2).max(1) };
        lower.push(Limits { down: half(given.down), up: half(given.up) });
    }
    let mut all = [vec![given], lower, vec![Limits::default()], higher].concat();
    all.dedup();
    if given == Limits::default() {
        all.pop(); // none is where it begins
    }
    let at = all.iter().position(|limits| *limits == current).map_or(0, |at| at + 1);
    all.get(at).copied().unwrap_or(given)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_leads_through_all_limits_and_back() {
        for given in [Limits::default(), Limits { down: 300, up: 0 }, Limits { down: 1 << 20, up: 1 << 20 }] {
            let mut seen = vec![given];
            let mut current = next_limits(given, given);
            while current != given {
                assert!(!seen.contains(&current), "{current:?} twice");
                seen.push(current);
                current = next_limits(given, current);
            }
            assert!(seen.contains(&Limits::default()) && seen.len() >= STEPS.len());
        }
    }

    #[test]
    fn the_first_press_lowers_the_limit() {
        let each_way = |limit| Limits { down: limit, up: limit };
        let pairs = [
            (Limits::default(), each_way(5 << 20)),
            (each_way(3 << 20), each_way(1 << 20)),
            (each_way(200 << 10), each_way(100 << 10)),
            (Limits { down: 300, up: 0 }, Limits { down: 150, up: 0 }),
            (Limits { down: 0, up: 2 << 20 }, each_way(1 << 20)),
            (each_way(1), Limits::default()),
        ];
        for (given, first) in pairs {
            assert_eq!(next_limits(given, given), first, "{given:?}");
        }
    }

    #[test]
    fn other_limits_lead_back_to_those_of_the_command_line() {
        // Whoever set others by a signal finds the way back.
        let given = Limits { down: 5, up: 6 };
        assert_eq!(next_limits(given, Limits { down: 7, up: 8 }), given);
    }
}
