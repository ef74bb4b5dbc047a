//! A progress display for `create` and `verify`: items and a bar, as a download shows them while it checks files.

use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, bounded};

use crate::cli::report::piece_map::{Style, progress_cells};
use crate::cli::report::status::{EtaEstimate, Meter, hashing};
use crate::cli::report::tui::text::fit_items;
use crate::cli::terminal::screen::Screen;

/// The interval between redraws.
const PERIOD: Duration = Duration::from_millis(100);

/// Runs `work` while the terminal shows how many of `total` bytes are done. `what` names the work, such as "hashing".
/// Without a terminal, or if no thread can be started, only runs `work`.
pub(crate) fn show_while<T>(what: &str, total: u64, done: impl Fn() -> u64 + Send, work: impl FnOnce() -> T) -> T {
    let screen = Screen::stderr();
    if !screen.is_terminal() {
        return work();
    }
    // Carries no messages; disconnected when the work is done.
    let (working, ended) = bounded::<()>(0);
    screen.watch_sigcont();
    let draw = move || {
        let (start, style) = (Instant::now(), Style::from_env());
        let (mut meter, mut eta_estimate) = (Meter::new(Duration::from_secs(2)), EtaEstimate::default());
        while ended.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
            let (at, done) = (start.elapsed(), done());
            meter.update(at, done);
            eta_estimate.update(at, total.saturating_sub(done), meter.rate());
            if screen.is_foreground() {
                let (_, width) = screen.size();
                let items = hashing(what, (done, total), meter.rate(), &eta_estimate.eta(at));
                screen.draw(vec![fit_items(&items, width), style.paint(&progress_cells((done, total), width))]);
            }
        }
        screen.draw(Vec::new());
    };
    thread::scope(|scope| {
        let _working = working;
        let drawing = thread::Builder::new().name("progress".to_owned()).spawn_scoped(scope, draw);
        if let Err(error) = drawing {
            log::debug!("no thread for the bar: {error}");
        }
        work()
    })
}
