//! Reports the events of one torrent of a batch on a terminal.

use std::time::Duration;

use crate::cli::batch::MAX_NAME_WIDTH;
use crate::cli::report::status::{Rates, join, ratio, size};
use crate::cli::report::tui::text::shorten_middle;
use crate::cli::report::{EventText, FinalStatus, Reporter, sanitize};
use crate::cli::terminal::screen::Screen;
use btsync::{Event, TorrentHandle};

/// Reports the events of one torrent, one line each, starting with its name. The live view shows its progress.
pub(crate) struct EventLineReporter {
    handle: TorrentHandle,
    screen: Screen,
    rates: Rates,
    words: EventText,
    /// Bytes uploaded in this run, as last reported.
    reported_upload: u64,
}

impl EventLineReporter {
    /// A reporter for the torrent of `handle`.
    pub fn new(handle: TorrentHandle, screen: Screen) -> EventLineReporter {
        EventLineReporter { handle, screen, rates: Rates::default(), words: EventText::default(), reported_upload: 0 }
    }

    fn print(&self, text: &str) {
        let name = sanitize(self.handle.name());
        self.screen.print(&format!("{}: {text}", shorten_middle(&name, MAX_NAME_WIDTH)));
    }
}

impl Reporter for EventLineReporter {
    fn period(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn event(&mut self, at: Duration, event: &Event) {
        if let Some(words) = self.words.line(event) {
            self.print(&words);
        }
        match event {
            Event::Listening { .. } => self.rates.start_clock(at),
            Event::Completed => {
                let now = self.handle.snapshot();
                self.rates.update(at, &now);
                self.print(&format!("complete, {}", join(&self.rates.summary(&now))));
                self.reported_upload = now.uploaded;
            }
            _ => {}
        }
    }

    fn refresh(&mut self, at: Duration) {
        self.rates.update(at, &self.handle.snapshot());
    }

    fn finish(&mut self, _: Duration, _: FinalStatus) {
        let now = self.handle.snapshot();
        // Uploads up to completion were reported with it.
        if now.uploaded > self.reported_upload {
            self.print(&format!("sent {}, {}", size(now.total_uploaded), ratio(&now)));
        }
    }
}
