//! Shell completions in real bash, zsh and fish: commands, files, values, and every option in the help.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::common::netns::installed;
use crate::common::{TestDir, help};

/// A shell that completes command lines.
#[derive(Clone, Copy, Debug)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    fn program(self) -> &'static str {
        match self {
            Shell::Bash => "bash",
            Shell::Zsh => "zsh",
            Shell::Fish => "fish",
        }
    }

    /// The candidates for an unfinished command line in this folder; folders without their trailing slash.
    fn offers(self, folder: &Path, line: &str) -> BTreeSet<String> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let (scripts, completions) = (here.join("tests/documents/completion"), here.join("completions"));
        // A shell that asks a question would wait for ever.
        let mut command = Command::new("timeout");
        command.arg("60").arg(self.program());
        match self {
            Shell::Bash => command.arg("--norc").arg(scripts.join("bash.sh")).arg(completions.join("btsync.bash")),
            Shell::Zsh => command.arg("-f").arg(scripts.join("zsh.zsh")).arg(completions),
            Shell::Fish => {
                command.args(["--no-config", "-c", "source $argv[1]; complete -C $argv[2]"]);
                command.arg(completions.join("btsync.fish"))
            }
        };
        // Without the developer's shell settings.
        command.arg(line).current_dir(folder).env("HOME", folder).env("TERM", "xterm").env("LC_ALL", "C.UTF-8");
        let output = command.output().expect("the shell was there a moment ago");
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && complaint.is_empty(), "{self:?}: {line:?}: {complaint}");
        let lines = String::from_utf8(output.stdout).expect("candidates in UTF-8");
        // fish adds a description after a tab.
        let candidates = lines.lines().filter_map(|line| line.split('\t').next());
        candidates.map(|name| name.trim_end_matches('/').to_owned()).filter(|name| !name.is_empty()).collect()
    }
}

fn set(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Runs every completion check in one shell.
fn completes(shell: Shell, test: &str) {
    if !installed(test, &[shell.program()]) {
        return;
    }
    let temp = TestDir::new();
    let folder = temp.folder("here");
    for name in ["one.torrent", "two.torrent", "other.txt"] {
        std::fs::write(folder.join(name), "").expect("a file");
    }
    std::fs::create_dir(folder.join("sub")).expect("a folder");
    let offers = |line: &str| shell.offers(&folder, line);

    let place = format!("the completion of {shell:?}");
    for command in help::all() {
        let before = if command == help::DOWNLOAD { String::new() } else { format!("{command} ") };
        // Some shells offer short options only after a single dash.
        let there = offers(&format!("btsync {before}-")).into_iter().chain(offers(&format!("btsync {before}--")));
        help::assert_same_options(&place, &command, &there.filter(|word| word.starts_with('-')).collect());
    }
    let commands = help::commands();
    assert_eq!(offers("btsync help "), commands, "{place}: what there is help on");
    let first: BTreeSet<_> = commands.into_iter().chain(set(&["help", "one.torrent", "two.torrent", "sub"])).collect();
    assert_eq!(offers("btsync "), first, "{place}: the first word");
    assert_eq!(offers("btsync o"), set(&["one.torrent"]));
    assert_eq!(offers("btsync --seed-ratio 2 o"), set(&["one.torrent"]), "{place}: a value is no name");
    assert_eq!(offers("btsync --peer=a:1 --seed o"), set(&["one.torrent"]));
    assert_eq!(offers("btsync one.torrent s"), set(&["sub"]), "{place}: the folder");
    assert_eq!(offers("btsync info "), set(&["one.torrent", "two.torrent", "sub"]));
    assert_eq!(offers("btsync create o"), set(&["one.torrent", "other.txt"]));
    assert_eq!(offers("btsync one.torrent --save-torrent o"), set(&["one.torrent", "other.txt"]));

    assert_eq!(offers("btsync one.torrent --config o"), set(&["one.torrent", "other.txt"]));
    for option in ["--dir", "-d"] {
        assert_eq!(offers(&format!("btsync one.torrent {option} ")), set(&["sub"]), "{place}: {option}");
    }

    let modes = set(&["allow", "require", "off"]);
    assert_eq!(offers("btsync --encryption "), modes, "{place}: values");
    let joined = offers("btsync one.torrent --encryption=").into_iter();
    let joined = joined.map(|word| word.trim_start_matches("--encryption=").to_owned());
    assert_eq!(joined.collect::<BTreeSet<_>>(), modes, "{place}: values after an equals sign");
    for mode in modes {
        assert!(help::stdout_of(&["--encryption", &mode, "--show-config"]).contains(&mode), "the program knows {mode}");
    }
}

#[test]
fn bash_completes() {
    completes(Shell::Bash, "bash_completes");
}

#[test]
fn zsh_completes() {
    completes(Shell::Zsh, "zsh_completes");
}

#[test]
fn fish_completes() {
    completes(Shell::Fish, "fish_completes");
}
