//! The outputs of a download, lines on stderr and JSON events on stdout, and how both end.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use crate::cli::exit::{Exit, Failure};
use crate::cli::report::json::JsonOutput;
use crate::cli::stop::StopSignal;
use crate::cli::terminal::screen::Screen;
use crate::cli::terminal::stdout::stdout_error;
use crate::util::atomics::Flag;

/// Both outputs and the state of the command's end.
#[derive(Clone)]
pub struct Outputs {
    /// Lines for the user on stderr.
    pub screen: Screen,
    /// JSON events on stdout, if asked for.
    pub json_output: Option<JsonOutput>,
    /// Set when the process must end.
    pub stop: StopSignal,
    /// When the command started.
    pub start: Instant,
    /// The final result has been printed.
    finished: Arc<Flag>,
}

impl Outputs {
    /// The outputs of a command that started at `start`.
    pub fn new(screen: Screen, json_output: Option<JsonOutput>, start: Instant) -> Outputs {
        Outputs { screen, json_output, stop: StopSignal::default(), start, finished: Arc::default() }
    }

    /// Prints the failure, if any, and waits until both outputs are written. Returns the failure without its message. A
    /// second call prints nothing.
    ///
    /// # Errors
    /// The failure.
    pub fn finish(&self, result: Result<(), Failure>) -> Result<(), Failure> {
        if self.finished.swap(true) {
            return result;
        }
        let known = self.output_failure(&result);
        let mut result = known.map_or(result, Err);
        self.print(&result);
        self.json_output.iter().for_each(|json_output| json_output.finish(&self.stop));
        // The last lines may have been the first that could not be written.
        if let (Ok(()), Some(failure)) = (&result, self.output_failure(&result)) {
            result = Err(failure);
            self.print(&result);
        }
        self.screen.finish(&self.stop);
        result.map_err(|failure| Failure::new(failure.code, ""))
    }

    fn print(&self, result: &Result<(), Failure>) {
        let Err(failure) = result else { return };
        if !failure.message.is_empty() {
            self.json_output.iter().for_each(|json_output| json_output.error(self.start.elapsed(), failure));
            self.screen.print_always(&format!("btsync: {}", failure.message.trim_end()));
        }
    }

    /// The failure of the JSON output, if that decides the result of the command.
    fn output_failure(&self, result: &Result<(), Failure>) -> Option<Failure> {
        let error = self.json_output.as_ref()?.failure()?;
        output_failure(error, result)
    }
}

/// If the reader of the events closed the pipe, the download was stopped, as by a signal. Any other write error is a
/// failure in any case, as events are lost. An earlier failure takes precedence.
fn output_failure(error: &io::Error, result: &Result<(), Failure>) -> Option<Failure> {
    let stopped = match result {
        Ok(()) => None,
        Err(failure) if failure.code == Exit::Unfinished => Some(failure.message.trim_end()),
        Err(_) => return None,
    };
    if error.kind() != io::ErrorKind::BrokenPipe {
        return Some(Failure::new(Exit::Other, stdout_error(error)));
    }
    let message = match stopped? {
        "" => "stopped because the program that read the events of --json has exited".to_owned(),
        words => format!("the program that read the events of --json has exited: {words}"),
    };
    Some(Failure::new(Exit::Unfinished, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_event_pipe_stops_the_download_and_a_full_disk_is_a_failure() {
        let (gone, full) = (io::Error::from(io::ErrorKind::BrokenPipe), io::Error::from(io::ErrorKind::StorageFull));
        let stopped = Err(Failure::new(Exit::Unfinished, "stopped at 3%"));
        let broken = Err(Failure::new(Exit::DiskFull, "no room"));
        assert_eq!(output_failure(&gone, &Ok(())), None);
        let told = output_failure(&gone, &stopped).expect("a failure");
        let words = "the program that read the events of --json has exited: stopped at 3%";
        assert_eq!((told.code, told.message.as_str()), (Exit::Unfinished, words));
        for result in [&Ok(()), &stopped] {
            assert_eq!(output_failure(&full, result).map(|failure| failure.code), Some(Exit::Other));
        }
        for error in [&gone, &full] {
            assert_eq!(output_failure(error, &broken), None, "btsync reports the first failure");
        }
    }
}
