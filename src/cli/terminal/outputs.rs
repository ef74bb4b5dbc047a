//! The output of a download: lines for people on stderr, JSON events for programs on stdout, and how both end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::cli::commands::info::unwritable;
use crate::cli::exit::{Exit, Failure};
use crate::cli::report::json::Lines;
use crate::cli::stop::Stop;
use crate::cli::terminal::screen::Screen;

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
    /// The end has been told.
    concluded: Arc<AtomicBool>,
}

impl Outputs {
    /// The outputs of a command that began at `start`.
    pub fn new(screen: Screen, lines: Option<Lines>, start: Instant) -> Outputs {
        Outputs { screen, lines, stop: Stop::default(), start, concluded: Arc::default() }
    }

    /// Prints a failure that was not printed yet, and waits until all is written. Returns the failure without its message. A second
    /// call prints nothing.
    ///
    /// # Errors
    /// The failure.
    pub fn conclude(&self, result: Result<(), Failure>) -> Result<(), Failure> {
        if self.concluded.swap(true, Ordering::Relaxed) {
            return result;
        }
        let known = self.unread(&result);
        let mut result = known.map_or(result, Err);
        self.say(&result);
        self.lines.iter().for_each(|lines| lines.finish(&self.stop));
        // The last lines may have been the first that could not be written.
        if let (Ok(()), Some(failure)) = (&result, self.unread(&result)) {
            result = Err(failure);
            self.say(&result);
        }
        self.screen.finish(&self.stop);
        result.map_err(|failure| Failure::new(failure.code, ""))
    }

    fn say(&self, result: &Result<(), Failure>) {
        let Err(failure) = result else { return };
        if !failure.message.is_empty() {
            self.lines.iter().for_each(|lines| lines.error(self.start.elapsed(), failure));
            self.screen.say_always(&format!("btsync: {}", failure.message.trim_end()));
        }
    }

    /// What it means for the command that the events could not be written, unless something else went wrong before.
    fn unread(&self, result: &Result<(), Failure>) -> Option<Failure> {
        let error = self.lines.as_ref()?.failure()?;
        unread(error, result)
    }
}

/// A reader that has gone away stops the download, as a signal does; a standard output that cannot be written is a failure in any
/// case, as the events are lost.
fn unread(error: &io::Error, result: &Result<(), Failure>) -> Option<Failure> {
    let stopped = match result {
        Ok(()) => None,
        Err(failure) if failure.code == Exit::Unfinished => Some(failure.message.trim_end()),
        Err(_) => return None,
    };
    if error.kind() != io::ErrorKind::BrokenPipe {
        return Some(Failure::new(Exit::Other, unwritable(error)));
    }
    let message = match stopped? {
        "" => "stopped, as nobody reads the events of --json any more".to_owned(),
        words => format!("nobody reads the events of --json any more: {words}"),
    };
    Some(Failure::new(Exit::Unfinished, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stops_reading_events_stops_the_download_and_a_full_disk_is_a_failure() {
        let (gone, full) = (io::Error::from(io::ErrorKind::BrokenPipe), io::Error::from(io::ErrorKind::StorageFull));
        let stopped = Err(Failure::new(Exit::Unfinished, "stopped at 3%"));
        let broken = Err(Failure::new(Exit::DiskFull, "no room"));
        assert_eq!(unread(&gone, &Ok(())), None);
        let told = unread(&gone, &stopped).expect("a failure");
        let words = "nobody reads the events of --json any more: stopped at 3%";
        assert_eq!((told.code, told.message.as_str()), (Exit::Unfinished, words));
        for result in [&Ok(()), &stopped] {
            assert_eq!(unread(&full, result).map(|failure| failure.code), Some(Exit::Other));
        }
        for error in [&gone, &full] {
            assert_eq!(unread(error, &broken), None, "what went wrong first is told");
        }
    }
}
