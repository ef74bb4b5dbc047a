//! The one way to stderr. Lines scroll; below them a few live lines may stand that are redrawn in place. Logs, the live view and
//! the plain voice all come through here, so none writes over another. A terminal that is gone, or takes no
//! more, stops nothing: nobody waits for it.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use console::{Term, measure_text_width, truncate_str};
use parking_lot::Mutex;

use crate::cli::stop::Stop;
use crate::cli::terminal::output_queue::Outlet;
use crate::metainfo::paths::printable;
use crate::util::os_error::without_numbers;

/// The most bytes that are queued for stderr. The limit is lower for a terminal, as old frames are of no use there.
const MAX_WAITING: usize = 256 * 1024;
const MAX_FRAMES: usize = 64 * 1024;

/// Rows and columns.
type Size = (usize, usize);

/// A share of stderr; clones are the same screen.
#[derive(Clone)]
pub struct Screen {
    inner: Arc<Mutex<Inner>>,
    terminal: bool,
    /// What its bytes wait in; `None` in tests.
    outlet: Option<Outlet>,
}

struct Inner {
    out: Box<dyn Write + Send>,
    size: Box<dyn Fn() -> Size + Send>,
    /// What stands below the scrolling lines, and the width of each.
    live: Vec<(String, usize)>,
    /// The terminal's size when they were drawn.
    drawn: Size,
    /// The process was stopped and goes on: a shell has written below the live lines meanwhile.
    continued: Arc<AtomicBool>,
}

impl Screen {
    /// The process's stderr.
    pub fn stderr() -> Screen {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb" || term.is_empty());
        let term = Term::stderr();
        let size = move || {
            let (rows, columns) = term.size();
            (usize::from(rows), usize::from(columns))
        };
        let terminal = io::stderr().is_terminal() && !dumb;
        let outlet = if terminal {
            // What is drawn is drawn again.
            Outlet::new(Box::new(io::stderr()), MAX_FRAMES, |_| String::new())
        } else {
            let lost = |lines| {
                let noun = if lines == 1 { "line is" } else { "lines are" };
                format!("btsync: {lines} {noun} lost, as nobody read them\n")
            };
            Outlet::new(Box::new(io::stderr()), MAX_WAITING, lost)
        };
        Screen { outlet: Some(outlet.clone()), ..Screen::new(Box::new(outlet), Box::new(size), terminal) }
    }

    fn new(out: Box<dyn Write + Send>, size: Box<dyn Fn() -> Size + Send>, terminal: bool) -> Screen {
        let inner = Inner { out, size, live: Vec::new(), drawn: (0, 0), continued: Arc::default() };
        Screen { inner: Arc::new(Mutex::new(inner)), terminal, outlet: None }
    }

    /// The same for lines only: whoever looks at it is to see none redrawn.
    #[must_use]
    pub fn for_lines(self) -> Screen {
        Screen { terminal: false, ..self }
    }

    /// From now on, live lines are drawn anew below after the process was stopped (Ctrl-Z, `fg`).
    pub fn watch_stops(&self) {
        // Where no handler can be set up, the lines stand in the wrong place after that, and nothing else is lost.
        let _ = signal_hook::flag::register(signal_hook::consts::SIGCONT, self.inner.lock().continued.clone());
    }

    /// Whether somebody looks at it who can see lines redrawn.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Whether what is drawn is for whoever sits at the terminal: not while another job has it.
    pub fn is_ours(&self) -> bool {
        crate::cli::terminal::keys::is_ours(io::stderr())
    }

    /// Rows and columns, each at least 1.
    pub fn size(&self) -> (usize, usize) {
        let (rows, columns) = (self.inner.lock().size)();
        (rows.max(1), columns.max(1))
    }

    /// A line, or several, that stay; above the live lines where there are any.
    pub fn say(&self, text: &str) {
        let mut inner = self.inner.lock();
        inner.look_up();
        let mut bytes = inner.rewind();
        for line in text.lines() {
            bytes.push_str(line);
            bytes.push('\n');
        }
        let live = std::mem::take(&mut inner.live);
        inner.put(bytes, live.into_iter().map(|(line, _)| line));
    }

    /// The same for the last line, which is never dropped.
    pub fn say_always(&self, text: &str) {
        let Some(outlet) = &self.outlet else { return self.say(text) };
        let mut inner = self.inner.lock();
        inner.look_up();
        let rewound = inner.rewind();
        inner.live.clear();
        outlet.push_always(&format!("{rewound}{text}\n"));
    }

    /// Waits until all is written, or `stop` says that there is no time for that.
    pub fn finish(&self, stop: &Stop) {
        self.outlet.iter().for_each(|outlet| outlet.finish(stop));
    }

    /// Replaces the live lines; each is cut to the terminal's width. Only lines that changed are written, and nothing where none did.
    pub fn draw(&self, lines: Vec<String>) {
        let mut inner = self.inner.lock();
        inner.look_up();
        if inner.live.is_empty() || inner.drawn != (inner.size)() {
            let bytes = inner.rewind();
            inner.put(bytes, lines.into_iter());
        } else {
            inner.change(lines);
        }
    }

    /// The live lines stay where they are for good, and the next ones stand below.
    pub fn keep(&self) {
        self.inner.lock().live.clear();
    }
}

impl Inner {
    /// The codes that go back over the live lines and wipe them.
    fn rewind(&self) -> String {
        if self.live.is_empty() {
            return String::new();
        }
        // A terminal made narrower has wrapped the lines that it shows.
        let columns = (self.size)().1.max(1);
        let rows: usize = self.live.iter().map(|(_, width)| width.div_ceil(columns).max(1)).sum();
        format!("\x1b[{rows}A\r\x1b[J")
    }

    /// After a stop, what stands on the terminal is no longer ours to change.
    fn look_up(&mut self) {
        if self.continued.swap(false, Ordering::AcqRel) {
            self.live.clear();
        }
    }

    /// Writes those of the lines that differ from what stands there, on a terminal of the same size.
    fn change(&mut self, lines: Vec<String>) {
        let (rows, columns) = (self.size)();
        let new: Vec<_> =
            lines.into_iter().take(rows.saturating_sub(1)).map(|line| fitted(&line, columns.max(1))).collect();
        if new == self.live {
            return;
        }
        let mut bytes = format!("\x1b[{}A\r", self.live.len());
        for (at, (line, _)) in new.iter().enumerate() {
            if self.live.get(at).is_none_or(|(old, _)| old != line) {
                // Wiped before it is written: behind a line that fills the width, the last column would go.
                bytes.push_str("\x1b[K");
                bytes.push_str(line);
            }
            bytes.push('\n');
        }
        if new.len() < self.live.len() {
            bytes.push_str("\x1b[J");
        }
        self.live = new;
        self.write(&bytes);
    }

    fn write(&mut self, bytes: &str) {
        let written = self.out.write_all(bytes.as_bytes()).and_then(|()| self.out.flush());
        if written.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            self.live.clear(); // lost on the way: nobody knows what stands there now
        }
    }

    /// Writes `bytes`, then the live lines, in one go: no flicker.
    fn put(&mut self, mut bytes: String, lines: impl Iterator<Item = String>) {
        let (rows, columns) = (self.size)();
        self.drawn = (rows, columns);
        // More rows than the terminal has could not be gone back over.
        self.live = lines.take(rows.saturating_sub(1)).map(|line| fitted(&line, columns.max(1))).collect();
        for (line, _) in &self.live {
            bytes.push_str(line);
            bytes.push('\n');
        }
        self.write(&bytes);
    }
}

/// The line cut to the width, and the columns that it takes; wide characters take two.
fn fitted(line: &str, columns: usize) -> (String, usize) {
    let line =
        if measure_text_width(line) > columns { truncate_str(line, columns, "").into_owned() } else { line.to_owned() };
    let width = measure_text_width(&line);
    (line, width)
}

/// For `env_logger`: whole records become lines of the screen, without control characters of strangers.
impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        for line in text.lines() {
            self.say(&printable(&without_numbers(line)));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
