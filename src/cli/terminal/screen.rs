//! The only writer to stderr. Lines scroll; below them there may be live lines that are redrawn in place. Logs, the live
//! view and plain lines all go through the screen, so none overwrites another. A closed or blocked terminal does not block
//! the caller.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use console::{Term, measure_text_width, truncate_str};
use parking_lot::Mutex;

use crate::cli::stop::StopSignal;
use crate::cli::terminal::output_queue::OutputQueue;
use crate::util::os_error::without_numbers;
use crate::util::printable_text::printable;

/// The limits on bytes queued for stderr. A terminal has the lower one, as old frames are useless there.
const MAX_QUEUED_BYTES: usize = 256 * 1024;
const MAX_TERMINAL_BYTES: usize = 64 * 1024;

/// Rows and columns.
type Size = (usize, usize);

/// Access to stderr. Clones share the screen.
#[derive(Clone)]
pub struct Screen {
    inner: Arc<Mutex<ScreenInner>>,
    is_terminal: bool,
    /// The queue in front of stderr; `None` in tests.
    output_queue: Option<OutputQueue>,
}

struct ScreenInner {
    out: Box<dyn Write + Send>,
    size: Box<dyn Fn() -> Size + Send>,
    /// The live lines below the scrolling ones, and the width of each.
    live: Vec<(String, usize)>,
    /// The terminal's size when the live lines were drawn.
    drawn_size: Size,
    /// Set by SIGCONT: the process was stopped, and a shell may have written below the live lines.
    continued: Arc<AtomicBool>,
}

impl Screen {
    /// The screen on this process's stderr.
    pub fn stderr() -> Screen {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb" || term.is_empty());
        let term = Term::stderr();
        let size = move || {
            let (rows, columns) = term.size();
            (usize::from(rows), usize::from(columns))
        };
        let terminal = io::stderr().is_terminal() && !dumb;
        let output_queue = if terminal {
            // No notice: dropped live lines are drawn again.
            OutputQueue::new(Box::new(io::stderr()), MAX_TERMINAL_BYTES, |_| String::new())
        } else {
            let lost = |lines| {
                let noun = if lines == 1 { "line is" } else { "lines are" };
                format!("btsync: {lines} {noun} lost because no program read standard error\n")
            };
            OutputQueue::new(Box::new(io::stderr()), MAX_QUEUED_BYTES, lost)
        };
        Screen {
            output_queue: Some(output_queue.clone()),
            ..Screen::new(Box::new(output_queue), Box::new(size), terminal)
        }
    }

    fn new(out: Box<dyn Write + Send>, size: Box<dyn Fn() -> Size + Send>, is_terminal: bool) -> Screen {
        let inner = ScreenInner { out, size, live: Vec::new(), drawn_size: (0, 0), continued: Arc::default() };
        Screen { inner: Arc::new(Mutex::new(inner)), is_terminal, output_queue: None }
    }

    /// The same screen without live lines.
    #[must_use]
    pub fn without_live_lines(self) -> Screen {
        Screen { is_terminal: false, ..self }
    }

    /// From now on, draws the live lines anew after the process was stopped and continued (Ctrl-Z, `fg`).
    pub fn watch_sigcont(&self) {
        // Without a handler, live lines appear in the wrong place after SIGCONT; nothing else breaks.
        let _ = signal_hook::flag::register(signal_hook::consts::SIGCONT, self.inner.lock().continued.clone());
    }

    /// Whether live lines can be drawn: stderr is a terminal and live lines are not turned off.
    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Whether the process is in the foreground of the terminal.
    #[expect(clippy::unused_self, reason = "callers ask the screen, and need not know which stream it draws on")]
    pub fn is_foreground(&self) -> bool {
        crate::cli::terminal::keys::is_foreground(io::stderr())
    }

    /// Rows and columns, each at least 1.
    pub fn size(&self) -> (usize, usize) {
        let (rows, columns) = (self.inner.lock().size)();
        (rows.max(1), columns.max(1))
    }

    /// Prints one or more lines above the live lines.
    pub fn print(&self, text: &str) {
        let mut inner = self.inner.lock();
        inner.check_continued();
        let mut bytes = inner.erase_live_lines();
        for line in text.lines() {
            bytes.push_str(line);
            bytes.push('\n');
        }
        let live = std::mem::take(&mut inner.live);
        inner.write_above_live_lines(bytes, live.into_iter().map(|(line, _)| line));
    }

    /// Prints the last line, which is never dropped.
    pub fn print_always(&self, text: &str) {
        let Some(output_queue) = &self.output_queue else { return self.print(text) };
        let mut inner = self.inner.lock();
        inner.check_continued();
        let rewound = inner.erase_live_lines();
        inner.live.clear();
        output_queue.push_always(&format!("{rewound}{text}\n"));
    }

    /// Waits until all is written; once `stop` is set, only until its deadline.
    pub fn finish(&self, stop: &StopSignal) {
        self.output_queue.iter().for_each(|output_queue| output_queue.finish(stop));
    }

    /// Replaces the live lines. Each is truncated to the terminal's width. Only lines that changed are written.
    pub fn draw(&self, lines: Vec<String>) {
        let mut inner = self.inner.lock();
        inner.check_continued();
        if inner.live.is_empty() || inner.drawn_size != (inner.size)() {
            let bytes = inner.erase_live_lines();
            inner.write_above_live_lines(bytes, lines.into_iter());
        } else {
            inner.redraw_changed(lines);
        }
    }

    /// Leaves the live lines as they are; new live lines start below.
    pub fn leave_live_lines(&self) {
        self.inner.lock().live.clear();
    }
}

impl ScreenInner {
    /// The escape codes that erase the live lines.
    fn erase_live_lines(&self) -> String {
        if self.live.is_empty() {
            return String::new();
        }
        // A terminal that was made narrower has wrapped the lines.
        let columns = (self.size)().1.max(1);
        let rows: usize = self.live.iter().map(|(_, width)| width.div_ceil(columns).max(1)).sum();
        format!("\x1b[{rows}A\r\x1b[J")
    }

    /// After SIGCONT, the old live lines can no longer be overwritten.
    fn check_continued(&mut self) {
        if self.continued.swap(false, Ordering::AcqRel) {
            self.live.clear();
        }
    }

    /// Writes only the lines that differ from the live lines, on a terminal of unchanged size.
    fn redraw_changed(&mut self, lines: Vec<String>) {
        let (rows, columns) = (self.size)();
        let new: Vec<_> = lines
            .into_iter()
            .take(rows.saturating_sub(1))
            .map(|line| truncate_to_width(&line, columns.max(1)))
            .collect();
        if new == self.live {
            return;
        }
        let mut bytes = format!("\x1b[{}A\r", self.live.len());
        for (at, (line, _)) in new.iter().enumerate() {
            if self.live.get(at).is_none_or(|(old, _)| old != line) {
                // Erase before writing: after a line that fills the width, erasing would remove the last column.
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
            self.live.clear(); // dropped, so what the terminal shows is unknown
        }
    }

    /// Writes `bytes` and then the live lines in one write, to avoid flicker.
    fn write_above_live_lines(&mut self, mut bytes: String, lines: impl Iterator<Item = String>) {
        let (rows, columns) = (self.size)();
        self.drawn_size = (rows, columns);
        // The cursor cannot move up over more rows than the terminal has.
        self.live = lines.take(rows.saturating_sub(1)).map(|line| truncate_to_width(&line, columns.max(1))).collect();
        for (line, _) in &self.live {
            bytes.push_str(line);
            bytes.push('\n');
        }
        self.write(&bytes);
    }
}

/// Truncates the line to `columns`. Returns it with its width; wide characters take two columns.
fn truncate_to_width(line: &str, columns: usize) -> (String, usize) {
    let line =
        if measure_text_width(line) > columns { truncate_str(line, columns, "").into_owned() } else { line.to_owned() };
    let width = measure_text_width(&line);
    (line, width)
}

/// For `env_logger`: prints each line of a record, without control characters from untrusted text.
impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        for line in text.lines() {
            self.print(&printable(&without_numbers(line)));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
