use super::*;

/// Emulates a terminal: rows of characters, a cursor, and the escape codes that the screen uses.
#[derive(Default)]
struct FakeTerminal {
    rows: Vec<String>,
    at: usize,
}

impl FakeTerminal {
    fn show(&mut self, text: &str) {
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if self.rows.len() <= self.at {
                self.rows.resize(self.at + 1, String::new());
            }
            if let Some(code) = rest.strip_prefix("\x1b[") {
                let end = code.find(|c: char| c.is_ascii_alphabetic()).unwrap();
                match &code[end..=end] {
                    "A" => self.at -= code[..end].parse::<usize>().unwrap(),
                    "J" => self.rows.truncate(self.at),
                    "K" => self.rows[self.at].clear(),
                    "m" => {}
                    other => panic!("unknown code {other}"),
                }
                rest = &code[end + 1..];
                continue;
            }
            match c {
                '\n' => self.at += 1,
                '\r' => {}
                c => self.rows[self.at].push(c),
            }
            rest = &rest[c.len_utf8()..];
        }
    }
}

#[derive(Clone, Default)]
struct SharedTerminal(Arc<Mutex<FakeTerminal>>);

impl Write for SharedTerminal {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().show(std::str::from_utf8(bytes).unwrap());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SharedTerminal {
    fn rows(&self) -> Vec<String> {
        self.0.lock().rows.iter().filter(|row| !row.is_empty()).cloned().collect()
    }
}

fn screen(rows: usize, columns: usize) -> (Screen, SharedTerminal, Arc<Mutex<Size>>) {
    let (glass, size) = (SharedTerminal::default(), Arc::new(Mutex::new((rows, columns))));
    let now = size.clone();
    (Screen::new(Box::new(glass.clone()), Box::new(move || *now.lock()), true), glass, size)
}

fn lines(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

#[test]
fn live_lines_are_replaced_and_others_stand_above() {
    let (screen, glass, _) = screen(24, 20);
    screen.draw(lines(&["one", "two"]));
    screen.print("a log");
    screen.draw(lines(&["three", "four"]));
    screen.print("another\nof two lines");
    assert_eq!(glass.rows(), ["a log", "another", "of two lines", "three", "four"]);
}

#[test]
fn only_changed_lines_are_written() {
    struct Tape(Arc<Mutex<String>>);
    impl Write for Tape {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().push_str(std::str::from_utf8(bytes).unwrap());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let tape = Arc::new(Mutex::new(String::new()));
    let screen = Screen::new(Box::new(Tape(tape.clone())), Box::new(|| (24, 80)), true);
    let written = || std::mem::take(&mut *tape.lock());
    screen.draw(lines(&["one", "two", "three"]));
    assert_eq!(written(), "one\ntwo\nthree\n");
    screen.draw(lines(&["one", "two", "three"]));
    assert_eq!(written(), "");
    screen.draw(lines(&["one", "2", "three"]));
    assert_eq!(written(), "\x1b[3A\r\n\x1b[K2\n\n");
    screen.draw(lines(&["one"]));
    assert_eq!(written(), "\x1b[3A\r\n\x1b[J");
    // A shell wrote to the terminal while the process was stopped.
    screen.inner.lock().continued.store(true, Ordering::Release);
    screen.draw(lines(&["one"]));
    assert_eq!(written(), "one\n");
}

#[test]
fn lines_come_and_go() {
    let (screen, glass, _) = screen(24, 20);
    for rows in [&["a", "b"][..], &["a", "b", "c"], &["x"], &["x", "漢字", ""], &["x", "y"]] {
        screen.draw(lines(rows));
        assert_eq!(glass.rows(), rows.iter().filter(|row| !row.is_empty()).copied().collect::<Vec<_>>());
    }
}

#[test]
fn kept_lines_stay() {
    let (screen, glass, _) = screen(24, 20);
    screen.draw(lines(&["done"]));
    screen.leave_live_lines();
    screen.print("after");
    assert_eq!(glass.rows(), ["done", "after"]);
}

#[test]
fn lines_are_cut_to_the_terminal_also_wide_and_coloured_ones() {
    let (screen, glass, _) = screen(3, 5);
    screen.draw(lines(&["abcdefgh", "\x1b[32m漢字漢字\x1b[0m", "no room for a third"]));
    assert_eq!(glass.rows(), ["abcde", "漢字"]);
    screen.draw(lines(&["x"]));
    assert_eq!(glass.rows(), ["x"]);
}

#[test]
fn wrapped_lines_are_erased_when_the_terminal_gets_narrower() {
    let (screen, glass, size) = screen(24, 20);
    screen.print("before");
    screen.draw(lines(&["0123456789abcdefghij", "short"]));
    {
        // A terminal that reflows: the long line now takes three rows.
        let mut glass = glass.0.lock();
        glass.rows.splice(1..2, lines(&["01234567", "89abcdef", "ghij"]));
        glass.at += 2;
    }
    *size.lock() = (24, 8);
    screen.draw(lines(&["new", "lines"]));
    assert_eq!(glass.rows(), ["before", "new", "lines"]);
}

#[test]
fn logs_of_strangers_cannot_steer_the_terminal() {
    let (mut screen, glass, _) = screen(24, 40);
    screen.write_all(b"evil \x1b[2J name\n").unwrap();
    assert!(glass.rows().concat().contains("name"));
    assert!(!glass.rows().concat().contains('\x1b'));
}

struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

#[test]
fn a_closed_stderr_stops_nothing() {
    let screen = Screen::new(Box::new(Closed), Box::new(|| (0, 0)), false);
    screen.print("x");
    screen.draw(lines(&["y"]));
    screen.print("z");
    assert_eq!(screen.size(), (1, 1));
}
