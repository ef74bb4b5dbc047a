//! A terminal that a person could sit at: a shell in tmux, its keys and its screen.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::{Stage, until};

/// A tmux of its own, which ends with the test, however that ends.
pub struct Tmux {
    socket: PathBuf,
    /// Ends the server once its stdin closes: a test that is killed drops nothing.
    guard: Child,
}

impl Tmux {
    /// An interactive shell on a terminal of so many columns and rows, in the stage's folder.
    pub fn start(stage: &Stage, columns: usize, rows: usize) -> Tmux {
        let (socket, config) = (stage.path("tmux"), stage.path("tmux.conf"));
        let settings = "set -g status off\nset -g default-terminal xterm-256color\nset -g history-limit 5000\n";
        std::fs::write(&config, settings).expect("a file");
        let mut guard = Command::new("sh");
        // By its number: the stage, and the socket with it, may be gone before.
        guard.args(["-c", "trap '' INT HUP; read -r server; read -r _; kill \"$server\" 2>/dev/null"]);
        let guard = guard.stdin(Stdio::piped()).spawn().expect("sh");
        let mut tmux = Tmux { socket, guard };
        let mut start = tmux.command();
        start.arg("-f").arg(&config).args(["new-session", "-d", "-x", &columns.to_string(), "-y", &rows.to_string()]);
        start.arg("-c").arg(stage.path("")).args(["bash", "--norc", "--noprofile", "-i"]);
        start.env("PS1", "$ ").env("LC_ALL", "C.UTF-8").env_remove("TMUX").env_remove("NO_COLOR");
        let started = start.stdin(Stdio::null()).status();
        assert!(started.expect("tmux, which scripts/test-setup.sh installs").success(), "tmux does not start");
        let server = tmux.run(&["display-message", "-p", "#{pid}"]);
        let guard = tmux.guard.stdin.as_mut().expect("it is open");
        guard.write_all(server.as_bytes()).expect("the guard reads");
        tmux.shows("$");
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

    /// Presses keys by the names that tmux gives them, such as `p`, `C-c`, `Enter`.
    pub fn press(&self, keys: &[&str]) {
        self.run(&[&["send-keys"], keys].concat());
    }

    /// Types a line, and Enter.
    pub fn types(&self, line: &str) {
        self.run(&["send-keys", "-l", line]);
        self.press(&["Enter"]);
    }

    /// What is on the screen now.
    pub fn screen(&self) -> String {
        self.run(&["capture-pane", "-p"])
    }

    /// The same with its colours.
    pub fn colours(&self) -> String {
        self.run(&["capture-pane", "-p", "-e"])
    }

    /// Waits until the screen is as wanted, and gives it back.
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

    /// Waits until the screen has these words.
    pub fn shows(&self, words: &str) -> String {
        self.wait(words, |screen| screen.contains(words))
    }

    /// Makes the terminal another size.
    pub fn resize(&self, columns: usize, rows: usize) {
        self.run(&["resize-window", "-x", &columns.to_string(), "-y", &rows.to_string()]);
    }

    /// The terminal goes away.
    pub fn vanish(&self) {
        self.run(&["kill-server"]);
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}
