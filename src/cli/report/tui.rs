//! The reporter for a terminal: a live view that is redrawn in place below the scrolling event lines. It handles a few
//! keys.
//!
//! [`layout`] arranges the view; `spark`, `peers` and `files` format its parts, and `text` fits text into columns. All of
//! these are pure. `panel` queries the torrent, and `Screen` draws the lines.

mod files;
pub mod layout;
pub(crate) mod panel;
mod peers;
mod spark;
pub(crate) mod text;

use std::time::Duration;

use crossbeam_channel::Receiver;
use signal_hook::consts::SIGINT;

use crate::cli::report::{EventText, FinalStatus, Reporter};
use crate::cli::terminal::keys::KeyInput;
use crate::cli::terminal::screen::Screen;
use btsync::{Event, TorrentHandle};
use panel::Panel;

/// Shows one torrent on a terminal.
pub struct TuiReporter {
    handle: TorrentHandle,
    screen: Screen,
    keys: Option<KeyInput>,
    panel: Panel,
    words: EventText,
}

impl TuiReporter {
    /// A view of the torrent of `handle`, controlled by `keys` if there is a keyboard.
    pub fn new(handle: TorrentHandle, screen: Screen, keys: Option<KeyInput>) -> TuiReporter {
        screen.watch_sigcont();
        let panel = Panel::new(handle.clone(), handle.limits());
        TuiReporter { handle, screen, keys, panel, words: EventText::default() }
    }

    fn draw(&mut self, at: Duration, final_status: Option<FinalStatus>) {
        if final_status.is_none() && !self.screen.is_foreground() {
            return; // a shell or an editor has the terminal now
        }
        let (rows, width) = self.screen.size();
        let lines = self.panel.lines(at, final_status, self.keys.is_some(), (rows.saturating_sub(1), width));
        self.screen.draw(lines);
    }
}

impl Reporter for TuiReporter {
    fn period(&self) -> Duration {
        Duration::from_millis(250)
    }

    fn event(&mut self, at: Duration, event: &Event) {
        // The view itself shows the check.
        let words = if matches!(event, Event::CheckStarted { .. }) { None } else { self.words.line(event) };
        if let Some(words) = words {
            self.screen.print(&words);
        }
        match event {
            Event::Listening { .. } => self.panel.start_clock(at),
            Event::Metadata { .. } => self.panel.rename(),
            Event::Completed => self.draw(at, None),
            _ => {}
        }
    }

    fn refresh(&mut self, at: Duration) {
        if let Some(keys) = &self.keys {
            keys.check_foreground();
        }
        self.draw(at, None);
    }

    fn finish(&mut self, at: Duration, final_status: FinalStatus) {
        self.draw(at, Some(final_status));
        self.screen.leave_live_lines();
    }

    fn keys(&self) -> Option<Receiver<char>> {
        self.keys.as_ref().map(KeyInput::pressed)
    }

    fn key(&mut self, at: Duration, key: char) {
        match key {
            // The same as Ctrl-C. If raising the signal fails, stop the torrent directly.
            'q' if signal_hook::low_level::raise(SIGINT).is_err() => self.handle.stop(),
            _ => self.panel.key(key),
        }
        self.draw(at, None);
    }
}
