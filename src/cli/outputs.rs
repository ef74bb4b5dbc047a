//! The output of a download: lines for people on stderr, JSON events for programs on stdout, and how both end.

use std::time::Instant;

use super::exit::Failure;
use super::json::Lines;
use super::screen::Screen;
use super::stop::Stop;

/// Both outputs, and how long the end waits for their readers.
#[derive(Clone)]
pub struct Outputs {
    /// For people.
    pub screen: Screen,
    /// For programs, where that was asked for.
    pub lines: Option<Lines>,
    /// Whether the process is to end.
    pub stop: Stop,
    /// When the command began.
    pub start: Instant,
}

impl Outputs {
    /// Prints a failure that was not printed yet, and waits until all is written. Returns the failure without its message.
    ///
    /// # Errors
    /// The failure.
    pub fn conclude(&self, result: Result<(), Failure>) -> Result<(), Failure> {
        if let Err(failure) = &result
            && !failure.message.is_empty()
        {
            if let Some(lines) = &self.lines {
                lines.error(self.start.elapsed(), failure);
            }
            self.screen.say_always(&format!("btsync: {}", failure.message.trim_end()));
        }
        self.lines.iter().for_each(|lines| lines.finish(&self.stop));
        self.screen.finish(&self.stop);
        result.map_err(|failure| Failure::new(failure.code, ""))
    }
}
