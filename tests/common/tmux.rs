//! A terminal as a user sees it: a shell in tmux, with key presses and the screen's content.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::process::without_settings;
use super::{TestDir, until};

/// A tmux server that ends with the test, even if the test is killed.
pub struct Tmux {
    socket: PathBuf,
    /// Kills the server once its stdin closes: a killed test runs no destructor.
    guard: Child,
}

impl Tmux {
    /// Starts an interactive shell with this terminal size, in the test folder.
    pub fn start(temp: &TestDir, columns: usize, rows: usize) -> Tmux {
        let (socket, config) = (temp.path("tmux"), temp.path("tmux.conf"));
        let settings = "set -g status off\nset -g default-terminal xterm-256color\nset -g history-limit 5000\n";
        std::fs::write(&config, settings).expect("a file");
        let mut guard = Command::new("sh");
        // By process id, because the test folder and its socket may already be gone.
        guard.args(["-c", "trap '' INT HUP; read -r server; read -r _; kill \"$server\" 2>/dev/null"]);
        let guard = guard.stdin(Stdio::piped()).spawn().expect("sh");
        let mut tmux = Tmux { socket, guard };
        let mut start = tmux.command();
        start.arg("-f").arg(&config).args(["new-session", "-d", "-x", &columns.to_string(), "-y", &rows.to_string()]);
        start.arg("-c").arg(temp.path("")).args(["bash", "--norc", "--noprofile", "-i"]);
        start.env("PS1", "$ ").env("LC_ALL", "C.UTF-8").env_remove("TMUX").env_remove("NO_COLOR");
        let started = without_settings(&mut start).stdin(Stdio::null()).status();
        assert!(started.expect("tmux, which scripts/test-setup.sh installs").success(), "tmux does not start");
        let server = tmux.run(&["display-message", "-p", "#{pid}"]);
        let guard = tmux.guard.stdin.as_mut().expect("it is open");
        guard.write_all(server.as_bytes()).expect("the guard reads");
        tmux.wait_for_text("$");
        tmux
    }

    fn command(&self) -> Command {
        let mut command = Command::new("tmux");
        command.arg("-u").arg("-S").arg(&self.socket);
        command
    }

    fn run(&self, args: &[&str]) -> String {
        let output = self.command().args(args).output().expect("tmux runs");
        assert!(output.status.success(), "tmux {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Presses keys, named as in tmux: `p`, `C-c`, `Enter`.
    pub fn press(&self, keys: &[&str]) {
        self.run(&[&["send-keys"], keys].concat());
    }

    /// Types a line and presses Enter.
    pub fn types(&self, line: &str) {
        self.run(&["send-keys", "-l", line]);
        self.press(&["Enter"]);
    }

    /// The screen's text.
    pub fn screen(&self) -> String {
        self.run(&["capture-pane", "-p"])
    }

    /// The screen's text with colour escape sequences.
    pub fn colours(&self) -> String {
        self.run(&["capture-pane", "-p", "-e"])
    }

    /// Waits until `wanted` accepts the screen, and returns the screen.
    pub fn wait(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let mut screen = String::new();
        let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until(what, || {
                screen = self.screen();
                wanted(&screen)
            });
        }));
        assert!(seen.is_ok(), "not seen: {what}, but\n{screen}");
        screen
    }

    /// Waits until the screen contains `words`.
    pub fn wait_for_text(&self, words: &str) -> String {
        self.wait(words, |screen| screen.contains(words))
    }

    /// Resizes the terminal.
    pub fn resize(&self, columns: usize, rows: usize) {
        self.run(&["resize-window", "-x", &columns.to_string(), "-y", &rows.to_string()]);
    }

    /// Closes the terminal.
    pub fn close_terminal(&self) {
        self.run(&["kill-server"]);
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}
