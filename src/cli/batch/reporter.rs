//! Tells on a terminal what happens to one torrent of several.

use std::time::Duration;

use crate::cli::batch::LONGEST_NAME;
use crate::cli::report::figures::{Rates, ratio, size, words};
use crate::cli::report::tui::text::squeeze;
use crate::cli::report::{Ending, Voice, Words, clean};
use crate::cli::terminal::screen::Screen;
use crate::torrent::{Event, Handle};

/// Tells what happens to one torrent, each line with its name; how it stands is seen on the board.
pub(crate) struct Teller {
    handle: Handle,
    screen: Screen,
    rates: Rates,
    words: Words,
    /// Bytes sent in this session, as they were last told of.
    told_sent: u64,
}

impl Teller {
    /// For the session behind `handle`.
    pub fn new(handle: Handle, screen: Screen) -> Teller {
        Teller { handle, screen, rates: Rates::default(), words: Words::default(), told_sent: 0 }
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
                self.told_sent = now.uploaded;
            }
            _ => {}
        }
    }

    fn beat(&mut self, at: Duration) {
        self.rates.update(at, &self.handle.snapshot());
    }

    fn finish(&mut self, _: Duration, _: Ending) {
        let now = self.handle.snapshot();
        // What was sent until the completion has been told with it.
        if now.uploaded > self.told_sent {
            self.say(&format!("sent {}, {}", size(now.total_uploaded), ratio(&now)));
        }
    }
}
