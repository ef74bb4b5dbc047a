//! The keyboard: single keys for the live view. The terminal is restored however the download ends. Ctrl-C, Ctrl-Z and
//! Ctrl-\ remain signals.
//!
//! Keys are read only while the process is in the foreground: the kernel stops a background process that uses its terminal.
//! One thread waits for keys and signals together. [`KeyInput::release`] restores the terminal at once, and so does
//! dropping the [`Keyboard`].

use std::fs;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, getpgid, getpgrp, getppid, getsid};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetpgrp, tcsetattr};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGQUIT, SIGTSTP};
use signal_hook::{flag, low_level};

use crate::cli::signals::is_ignored;
use crate::util::atomics::Flag;
use crate::util::descriptors::is_shortage;

/// The number of keys that are queued for the view; more are dropped.
const MAX_QUEUED_KEYS: usize = 16;

/// The up arrow.
pub const UP: char = '\u{2191}';
/// The down arrow.
pub const DOWN: char = '\u{2193}';
/// Enter.
pub const ENTER: char = '\n';

/// Whether this process is in the foreground of the terminal; also true without job control.
pub fn is_foreground(terminal: impl AsFd) -> bool {
    tcgetpgrp(terminal).map_or(true, |group| group == getpgrp())
}

/// Access to the pressed keys. Clones share the keyboard.
#[derive(Clone)]
pub struct KeyInput {
    inner: Arc<KeyboardInner>,
    pressed: Receiver<char>,
}

struct KeyboardInner {
    /// The original terminal modes while ours are set.
    saved_modes: Mutex<Option<Termios>>,
    /// Whether keys are no longer read.
    released: Flag,
    /// Wakes the thread.
    wake: UnixStream,
}

/// Owns the keyboard thread. Dropping it ends the thread and restores the terminal.
pub struct Keyboard {
    keys: KeyInput,
    thread: Option<JoinHandle<()>>,
}

/// The signals that the thread handles, set by their handlers; `signal_hook` takes these types.
#[derive(Default)]
struct PendingSignals {
    stop: Arc<AtomicBool>,
    quit: Arc<AtomicBool>,
    hang_up: Arc<AtomicBool>,
}

impl Keyboard {
    /// Reads keys from standard input; `Ok(None)` if that is not a terminal or descriptors are short. Calls `hang_up` when
    /// the terminal is gone.
    ///
    /// # Errors
    /// The system error if a handler or the thread cannot be set up.
    pub fn listen(hang_up: impl FnOnce() + Send + 'static) -> io::Result<Option<Keyboard>> {
        let stdin = io::stdin();
        if !stdin.is_terminal() || tcgetattr(&stdin).is_err() {
            return Ok(None);
        }
        let pairs = || {
            let (wake, wake_receiver) = UnixStream::pair()?;
            let clones = [wake.try_clone()?, wake.try_clone()?, wake.try_clone()?, wake.try_clone()?];
            Ok((wake, wake_receiver, clones))
        };
        let (wake, wake_receiver, clones) = match pairs() {
            Err(error) if is_shortage(&error) => {
                log::warn!("cannot read keys: {error}");
                return Ok(None);
            }
            made => made?,
        };
        wake_receiver.set_nonblocking(true)?;
        wake.set_nonblocking(true)?;
        let signals = PendingSignals::default();
        let pairs = [(SIGTSTP, &signals.stop), (SIGQUIT, &signals.quit), (SIGHUP, &signals.hang_up)];
        // A signal that the parent process set to be ignored stays ignored.
        let [continued, others @ ..] = clones;
        for ((signal, raised), wake) in pairs.into_iter().zip(others).filter(|((signal, _), _)| !is_ignored(*signal)) {
            flag::register(signal, raised.clone())?;
            low_level::pipe::register(signal, wake)?;
        }
        low_level::pipe::register(SIGCONT, continued)?;
        let (key_sender, pressed) = bounded(MAX_QUEUED_KEYS);
        let inner = Arc::new(KeyboardInner { saved_modes: Mutex::new(None), released: Flag::default(), wake });
        let keys = KeyInput { inner: inner.clone(), pressed };
        let listen = move || inner.run(&wake_receiver, &signals, &key_sender, hang_up);
        let thread = thread::Builder::new().name("keys".to_owned()).spawn(listen)?;
        Ok(Some(Keyboard { keys, thread: Some(thread) }))
    }

    /// Access to the pressed keys.
    pub fn keys(&self) -> KeyInput {
        self.keys.clone()
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        self.keys.release();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl KeyInput {
    /// The channel of pressed keys.
    pub fn pressed(&self) -> Receiver<char> {
        self.pressed.clone()
    }

    /// Checks whether the process has come to the foreground, which no signal announces.
    pub fn check_foreground(&self) {
        if !self.inner.is_released() && self.inner.saved_modes.lock().is_none() && is_foreground(io::stdin()) {
            self.inner.wake_thread();
        }
    }

    /// Restores the terminal and stops reading keys.
    pub fn release(&self) {
        self.inner.released.set(true);
        self.inner.restore();
        self.inner.wake_thread();
    }
}

impl KeyboardInner {
    fn is_released(&self) -> bool {
        self.released.is_set()
    }

    fn wake_thread(&self) {
        // A full pipe wakes the thread as well.
        let _ = (&self.wake).write(&[1]);
    }

    /// Switches the terminal to single keys without echo if the process is in the foreground; true if that is in effect.
    fn enter_key_mode(&self) -> bool {
        let mut saved_modes = self.saved_modes.lock();
        let stdin = io::stdin();
        if self.is_released() || !is_foreground(&stdin) {
            return false;
        }
        let Ok(modes) = tcgetattr(&stdin) else { return false };
        let mut ours = modes.clone();
        ours.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        ours.special_codes[SpecialCodeIndex::VMIN] = 1;
        ours.special_codes[SpecialCodeIndex::VTIME] = 0;
        if ours.local_modes != modes.local_modes {
            // A shell may have changed the modes while the process was stopped: keep the first saved modes.
            saved_modes.get_or_insert(modes);
            return tcsetattr(&stdin, OptionalActions::Now, &ours).is_ok();
        }
        true
    }

    /// Restores the terminal modes. In the background the shell does that, and an attempt would stop this process.
    fn restore(&self) {
        if let Some(modes) = self.saved_modes.lock().take()
            && is_foreground(io::stdin())
        {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, &modes);
        }
    }

    /// Runs the keyboard thread until the keyboard is released.
    fn run(
        &self,
        wake_receiver: &UnixStream,
        signals: &PendingSignals,
        key_sender: &Sender<char>,
        hang_up: impl FnOnce(),
    ) {
        let (stdin, mut has_keyboard, mut hang_up) = (io::stdin(), true, Some(hang_up));
        loop {
            let listening = has_keyboard && self.enter_key_mode();
            let keyboard = listening.then(|| stdin.as_fd());
            let Ok(ReadyInputs { is_woken, is_pressed }) = wait(wake_receiver.as_fd(), keyboard) else { break };
            if is_woken {
                let _ = (&*wake_receiver).read(&mut [0; 64]);
            }
            if self.is_released() {
                break;
            }
            if signals.hang_up.swap(false, Ordering::AcqRel) {
                has_keyboard = false;
                self.restore();
                if let Some(hang_up) = hang_up.take() {
                    hang_up();
                }
            }
            if signals.quit.swap(false, Ordering::AcqRel) {
                self.restore();
                let _ = low_level::emulate_default_handler(SIGQUIT);
            }
            if signals.stop.swap(false, Ordering::AcqRel) && has_job_control() {
                self.restore();
                let _ = low_level::emulate_default_handler(SIGTSTP); // returns on SIGCONT
            }
            // A read in the background would stop the process.
            if is_pressed && is_foreground(&stdin) {
                has_keyboard = read_keys(stdin.as_fd(), key_sender);
            } else if is_pressed {
                *self.saved_modes.lock() = None;
            }
        }
        self.restore();
    }
}

/// What [`wait`] has waited for.
struct ReadyInputs {
    is_woken: bool,
    is_pressed: bool,
}

/// Waits for a wake-up or for input from the keyboard, if there is one.
fn wait(wake_receiver: BorrowedFd<'_>, keyboard: Option<BorrowedFd<'_>>) -> rustix::io::Result<ReadyInputs> {
    let mut fds = vec![PollFd::from_borrowed_fd(wake_receiver, PollFlags::IN)];
    fds.extend(keyboard.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
    match poll(&mut fds, None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error),
    }
    let ready = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
    Ok(ReadyInputs { is_woken: ready(0), is_pressed: ready(1) })
}

/// Sends the pressed keys; false if the keyboard is gone.
fn read_keys(stdin: BorrowedFd<'_>, key_sender: &Sender<char>) -> bool {
    let mut bytes = [0; 64];
    let Ok(count @ 1..) = rustix::io::read(stdin, &mut bytes) else { return false };
    let bytes = bytes.get(..count).unwrap_or_default();
    for key in parse_keys(bytes) {
        let _ = key_sender.try_send(key);
    }
    true
}

/// Parses input bytes into keys. Skips escape sequences, whose bytes would otherwise count as keys, except those of the up
/// and down arrows.
fn parse_keys(bytes: &[u8]) -> Vec<char> {
    let (mut keys, mut bytes) = (Vec::new(), bytes.iter());
    while let Some(&byte) = bytes.next() {
        match byte {
            // ESC [ … and a letter or a tilde; ESC O and a letter; Alt and a key.
            0x1b => match bytes.next() {
                Some(b'[') => {
                    let rest = bytes.as_slice();
                    let last = bytes.position(|byte| matches!(byte, 0x40..=0x7e));
                    keys.extend(arrow(last.and_then(|at| rest.get(..=at)).unwrap_or_default()));
                }
                Some(b'O') => keys.extend(bytes.next().and_then(|byte| arrow(&[*byte]))),
                _ => {}
            },
            b' ' | 0x21..=0x7e => keys.push(char::from(byte)),
            b'\r' | b'\n' => keys.push(ENTER),
            _ => {}
        }
    }
    keys
}

fn arrow(code: &[u8]) -> Option<char> {
    match code {
        b"A" => Some(UP),
        b"B" => Some(DOWN),
        _ => None,
    }
}

/// Whether a shell can continue this process after Ctrl-Z: our parent or the parent of our group's leader is in the same
/// session but in another group. Without one the process group is orphaned, and the kernel does not stop it either.
fn has_job_control() -> bool {
    let keeps = |parent: Option<Pid>| {
        let Some(parent) = parent else { return false };
        let same = matches!((getsid(Some(parent)), getsid(None)), (Ok(theirs), Ok(ours)) if theirs == ours);
        same && getpgid(Some(parent)).is_ok_and(|group| group != getpgrp())
    };
    keeps(getppid()) || keeps(parent_of(getpgrp()))
}

/// The parent of a process.
fn parent_of(process: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).ok()?;
    // The name, in parentheses, may contain anything.
    let (_, rest) = stat.rsplit_once(')')?;
    Pid::from_raw(rest.split_whitespace().nth(1)?.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_single_keys_are_keys() {
        assert_eq!(parse_keys(b"p q\n\x03"), ['p', ' ', 'q', ENTER]);
        assert_eq!(parse_keys(b"\x1b[Cp\x1bOQ?\x1b[15~l\x1bqs\x1b[1;5A"), ['p', '?', 'l', 's']);
        assert_eq!(parse_keys(b"\x1b[A\x1b[Bp\x1bOA\x1bOB\r"), [UP, DOWN, 'p', UP, DOWN, ENTER]);
        assert_eq!(parse_keys("é\x1b".as_bytes()), []);
        assert_eq!(parse_keys(b"\x1b[1;5"), []);
    }

    #[test]
    fn parents_are_found() {
        assert_eq!(parent_of(rustix::process::getpid()), getppid());
        assert_eq!(parent_of(Pid::INIT), None, "the first process has none");
    }

    #[test]
    fn a_stream_that_is_no_terminal_is_in_the_foreground() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        assert!(is_foreground(&ours));
    }
}
